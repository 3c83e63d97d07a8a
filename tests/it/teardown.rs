//! However a run ends, nothing is left: failures, panics, signals, SIGKILL of either process.

use harness::process;
use rustix::process::{Pid, Signal, kill_process};

use crate::runner::World;
use crate::running::Running;

#[test]
fn ctrl_c_tears_down_before_the_runner_ends() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    // No waiting here: teardown was over before the runner ended.
    assert_eq!(world.leftovers(), Vec::<String>::new());
    running.wait_for("custom-html is torn down, nothing is left");
}

#[test]
fn ctrl_c_in_the_middle_of_an_operation_tears_down() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  deploy");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_second_ctrl_c_leaves_teardown_to_the_keeper() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    world.expect_nothing_left();
}

#[test]
fn sigterm_tears_down() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    running.signal(Signal::TERM);
    assert_eq!(running.end(), 143, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn sigterm_to_cargo_alone_tears_down() {
    let world = World::of_checkout();
    let (mut cargo, _) = under_cargo(&world);
    cargo.signal(Signal::TERM);
    cargo.end();
    cargo.wait_for("cargo is gone: tearing down");
    world.expect_nothing_left();
}

/// Ctrl-C reaches cargo and the runner alike, and cargo ends at once: that is no second signal. Whoever pressed it once is
/// told that everything is gone, and that nothing failed.
#[test]
fn ctrl_c_under_cargo_tears_down_and_says_so() {
    let world = World::of_checkout();
    let (mut cargo, runner) = under_cargo(&world);
    kill_process(runner, Signal::INT).unwrap();
    cargo.signal(Signal::KILL);
    cargo.end();
    cargo.wait_for("custom-html is torn down, nothing is left (");
    assert!(!cargo.said.lock().unwrap().contains("cargo is gone"));
    world.expect_nothing_left();
    let results: serde_json::Value = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    assert_eq!((&results["verdict"], &results["counts"]["failed"]), (&"broken_off".into(), &0.into()), "{results}");
}

/// The end of cargo may be seen before the signal that ended it, however long before.
#[test]
fn a_signal_after_the_end_of_cargo_is_no_second_one() {
    let world = World::of_checkout();
    let (mut cargo, runner) = under_cargo(&world);
    cargo.signal(Signal::KILL);
    cargo.end();
    cargo.wait_for("cargo is gone: tearing down");
    kill_process(runner, Signal::INT).unwrap();
    cargo.wait_for("custom-html is torn down, nothing is left (");
    world.expect_nothing_left();
}

/// A run below a process that is called as cargo is, once it has deployed, and the number of its own process. A shell of that
/// name starts it as cargo does.
fn under_cargo(world: &World) -> (Running, Pid) {
    let cargo = world.dir.path().join("cargo");
    std::fs::copy("/bin/sh", &cargo).unwrap();
    let run = world.command(&["--recipe", "custom-html"]);
    let mut command = process::command(&cargo);
    command.args(["-c", "\"$0\" \"$@\"; true"]).arg(&run.program).args(&run.args);
    let running = Running::start(command, &run);
    running.wait_for("install  done in");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id())).unwrap();
    (running, Pid::from_raw(children.trim().parse().unwrap()).unwrap())
}

#[test]
fn after_sigkill_of_the_runner_the_keeper_tears_down() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    running.signal(Signal::KILL);
    running.end();
    world.expect_nothing_left();
}

#[test]
fn after_sigkill_of_the_keeper_the_run_fails_and_cleans_up_itself() {
    let world = World::of_checkout();
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    kill_process(running.keeper(&world), Signal::KILL).unwrap();
    assert_eq!(running.end(), 3, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn after_sigkill_of_both_the_next_run_sweeps() {
    sigkill_of_both(&World::of_checkout(), &["--recipe", "custom-html"]);
}

#[test]
fn after_sigkill_of_both_a_run_that_lies_elsewhere_is_swept_as_well() {
    let world = World::of_checkout();
    let elsewhere = world.dir.path().join("elsewhere");
    sigkill_of_both(&world, &["--recipe", "custom-html", "--run-dir", elsewhere.to_str().unwrap()]);
    assert!(elsewhere.join("events.jsonl").exists(), "the record of the run stays where it was asked for");
}

fn sigkill_of_both(world: &World, arguments: &[&str]) {
    crate::crash::dead_run(world, arguments);
    assert!(!world.leftovers().is_empty(), "nobody has cleaned up yet");
    let ended = world.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("note     removed what the dead run `custom-html-"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_kept_app_outlives_its_run_and_is_removed_by_one_command() {
    let world = World::of_checkout();
    let ended = world.run(&["--recipe", "custom-html", "--keep", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ignored (the app was left up, because of --keep)"), "{ended}");
    let line = |label: &str| {
        ended.stderr.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("{ended}"))
    };
    let curl = line("reach    ").to_owned();
    let page = crate::runner::finish(&process::Run::new(
        "sh",
        ["-c", &format!("curl -sf {}", curl.strip_prefix("curl ").unwrap())],
    ));
    assert!(page.code == 127 || page.stdout.contains("<html"), "{page}");
    let run = line("remove   cargo harness down ").to_owned();
    let swept = tokio::runtime::Runtime::new().unwrap().block_on(harness::keeper::sweep::all(&world.state())).unwrap();
    assert_eq!(swept, [], "a kept run lives, and a sweep must not touch it");
    harness_down(&world, &run);
    world.expect_nothing_left();
}

/// What `cargo harness down RUN` does.
fn harness_down(world: &World, run: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = world.state().join("runs").join(run);
    runtime.block_on(async {
        let mut wire = harness::keeper::socket::connect(&dir).await.unwrap();
        wire.send(&harness::keeper::protocol::Call::Teardown { reason: "test".into() }).await.unwrap();
        let answer = wire.receive::<harness::keeper::protocol::Answer>().await.unwrap();
        let Some(harness::keeper::protocol::Answer::TornDown(report)) = answer else { panic!("{answer:?}") };
        assert_eq!(report.leftovers, Vec::<String>::new());
    });
}

#[test]
fn only_a_failed_run_is_kept_when_asked_so() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup", "--keep=on-failure", "--tiers", "install"]);
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let ended = world.run(&["--recipe", "serves-500", "--keep=on-failure", "--tiers", "install"]);
    assert_eq!(ended.code, 101, "{ended}");
    let run = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   cargo harness down ")).unwrap();
    harness_down(&world, run);
    world.expect_nothing_left();
}

#[test]
fn a_run_that_cannot_begin_is_one_failure_and_leaves_nothing() {
    let world = World::of_test_data();
    std::fs::create_dir_all(world.state()).unwrap();
    std::fs::write(world.state().join("runs"), "a file where the directory should be").unwrap();
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.code, 3, "{ended}");
    assert_eq!(ended.with_outcome("FAILED").len(), 1, "{ended}");
    let message = ended.message(ended.with_outcome("FAILED")[0]);
    assert!(message.starts_with("infrastructure trouble, not the recipe's fault: failed to look at `"), "{message}");
    assert_eq!(ended.outcome("tier::upgrade"), Some("ignored (because the run could not begin)"), "{ended}");
    assert_eq!(world.processes(), Vec::<String>::new());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_refused_before_anything() {
    let world = World::of_test_data();
    std::fs::write(world.state(), "a file where the directory should be").unwrap();
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.code, 2, "{ended}");
    let state = world.state().display().to_string();
    let expected = format!("error: HARNESS_STATE is `{state}`: `{state}` is a file, and a directory is needed\n");
    assert_eq!(ended.stderr, expected, "{ended}");
}

/// A value that stands in the keeper's environment alone: whoever wrote it into a file of the run has leaked that
/// environment. Here the test does.
#[test]
fn a_leaked_canary_fails_the_run_and_names_the_file() {
    let world = World::of_test_data();
    let mut running = world.start(&["--recipe", "crash-loops"]);
    running.wait_for("install  deploy");
    let keeper = running.keeper(&world).as_raw_nonzero();
    let environment = std::fs::read_to_string(format!("/proc/{keeper}/environ")).unwrap();
    let canary = environment.split('\0').find_map(|line| line.strip_prefix("RECIPE_HARNESS_CANARY=")).unwrap();
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().path();
    std::fs::create_dir_all(run.join("logs")).unwrap();
    std::fs::write(run.join("logs/leak.log"), format!("x{canary}x")).unwrap();
    assert_eq!(running.end(), 101, "{}", running.said.lock().unwrap());
    running.wait_for("`logs/leak.log` holds the canary of the keeper's environment");
}
