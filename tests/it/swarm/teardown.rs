//! Runs on a Swarm that are broken off: nothing stays on it.

use rustix::process::{Signal, kill_process};

use crate::docker::{named, stack};
use crate::runner::World;
use crate::running::wait;

pub const CASES: &[crate::Case] = &[
    ("ctrl_c_in_the_middle_of_an_upgrade_leaves_nothing", ctrl_c_in_the_middle_of_an_upgrade),
    ("after_sigkill_of_the_runner_the_keeper_leaves_nothing", after_sigkill_of_the_runner),
    ("after_sigkill_of_both_the_next_run_sweeps_the_swarm", after_sigkill_of_both),
];

fn ctrl_c_in_the_middle_of_an_upgrade() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("upgrade  redeploy");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(named(&stack(&running.said.lock().unwrap())), Vec::<String>::new());
}

fn after_sigkill_of_the_runner() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  deploy");
    let stack = stack(&running.said.lock().unwrap());
    wait("the service to exist", || !named(&format!("{stack}_app")).is_empty());
    running.signal(Signal::KILL);
    running.end();
    world.expect_nothing_left();
    assert_eq!(named(&stack), Vec::<String>::new());
}

fn after_sigkill_of_both() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    let keeper = running.keeper(&world);
    kill_process(keeper, Signal::STOP).unwrap();
    running.signal(Signal::KILL);
    running.end();
    kill_process(keeper, Signal::KILL).unwrap();
    wait("the processes to end", || world.processes().is_empty());
    let stack = stack(&running.said.lock().unwrap());
    assert!(!named(&stack).is_empty(), "nobody has cleaned up yet");
    let ended = world.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    // The sweep goes on beside the run, and after it when it has to.
    wait("the dead run's stack to be swept", || named(&stack).is_empty());
    world.expect_nothing_left();
}
