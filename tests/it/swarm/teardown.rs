//! Runs on a Swarm that are broken off: nothing stays on it.

use rustix::process::{Signal, kill_process};

use crate::docker::{docker, named, stack};
use crate::runner::{World, tell};
use crate::running::wait;

pub const CASES: &[crate::Case] = &[
    ("ctrl_c_in_the_middle_of_an_upgrade_leaves_nothing", ctrl_c_in_the_middle_of_an_upgrade),
    ("what_changed_on_the_server_beside_a_run_is_said_and_fails_nothing", changed_beside),
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

/// Somebody makes a volume and removes a network while the run goes on, and another run comes and goes.
fn changed_beside() {
    let world = World::of_test_data().on("swarm");
    let mark = format!("beside-{}", std::process::id());
    let (volume, network) = (format!("{mark}-new"), format!("{mark}-gone"));
    docker(vec!["network", "create", &network]);
    let mut running = world.start(&["--recipe", "no-backup"]);
    running.wait_for("install  done in");
    docker(vec!["volume", "create", &volume]);
    docker(vec!["network", "rm", &network]);
    let neighbour = World::of_test_data().on("swarm");
    let mut other = neighbour.start(&["--recipe", "no-backup", "--tiers", "install"]);
    other.wait_for("install  deploy");
    let code = running.end();
    let said = running.said.lock().unwrap().clone();
    docker(vec!["volume", "rm", &volume]);
    assert_eq!(other.end(), 0);
    assert_eq!(code, 0, "a warning fails nothing: {said}");
    let warning = said.lines().find(|line| line.contains("WARNING: during this run the server changed beside it: "));
    let warning = warning.unwrap_or_else(|| panic!("nothing is said: {said}"));
    tell(warning);
    assert!(warning.contains(&format!("volume `{volume}` is new")), "{warning}");
    assert!(warning.contains(&format!("network `{network}` is gone")), "{warning}");
    assert!(!warning.contains("_harness_test_"), "another run is nobody's concern: {warning}");
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
