//! `--watch`: a changed file runs again, on the same app, until somebody interrupts it.

use rustix::process::Signal;

use crate::repo_local::with_overlay_of;
use crate::running::wait;

#[test]
fn a_changed_file_runs_again_on_the_same_app_and_an_interruption_tears_it_down() {
    let (root, world) = with_overlay_of("no-backup", &[("test_install_look.sh", "exit 1\n")]);
    let mut running =
        world.start(&["--recipe", "no-backup", "--watch", "--tiers", "install", "--skip", "tier::install"]);
    let waits = |times: usize| {
        let said = running.said.clone();
        let line = "watch    waiting for a file to change; Ctrl-C tears the app down\n";
        wait("the run to wait for a change", move || said.lock().unwrap().matches(line).count() == times);
    };
    waits(1);
    std::fs::write(root.path().join("overlays/no-backup/test_install_look.sh"), "true\n").unwrap();
    waits(2);
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130);
    let said = running.said.lock().unwrap().clone();
    assert!(said.contains("overlays/no-backup/test_install_look.sh` has changed\n"), "{said}");
    assert!(said.contains("reused run no-backup-"), "{said}");
    assert_eq!(said.matches("install  deploy").count(), 1, "{said}");
    assert!(said.contains("is torn down, nothing is left\n"), "{said}");
    world.expect_nothing_left();
}

#[test]
fn a_run_that_is_interrupted_tears_down_what_it_has() {
    let (_root, world) = with_overlay_of("no-backup", &[("test_install_look.sh", "sleep 50\n")]);
    let mut running = world.start(&["--recipe", "no-backup", "--watch", "--tiers", "install"]);
    running.wait_for("install  done in");
    running.signal(Signal::TERM);
    assert_eq!(running.end(), 130);
    world.expect_nothing_left();
}

#[test]
fn without_a_warm_app_there_is_nothing_to_watch() {
    let (_root, world) = with_overlay_of("no-backup", &[]);
    let run = world.command(&["--recipe", "no-backup", "--watch"]).env("HARNESS_WARM", "0");
    let ended = crate::runner::finish(&run);
    let expected =
        "error: `--watch` keeps the app up between two runs, and HARNESS_WARM=0 forbids it: leave one of them out\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (2, expected), "{ended}");
}
