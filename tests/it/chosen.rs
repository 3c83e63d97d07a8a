//! What runs at all: `--fail-fast` and `--last-failed`.

use crate::repo_local::with_overlay_of;

#[test]
fn fail_fast_begins_nothing_after_a_failure() {
    let (_root, world) = with_overlay_of(
        "no-backup",
        &[("test_install_red.sh", "exit 1\n"), ("test_upgrade_later.sh", "true\n"), ("test_custom_last.sh", "true\n")],
    );
    let ended = world.run(&["--recipe", "no-backup", "-x", "--test-threads", "1"]);
    assert_eq!(ended.code, 101, "{ended}");
    let red = "overlays::no_backup::install::test_install_red";
    assert_eq!(ended.with_outcome("FAILED"), [red], "{ended}");
    let why = format!("ignored (because {red} failed, and --fail-fast stops there)");
    for later in [
        "tier::upgrade",
        "overlays::no_backup::upgrade::test_upgrade_later",
        "overlays::no_backup::custom::test_custom_last",
    ] {
        assert_eq!(ended.outcome(later), Some(why.as_str()), "{ended}");
    }
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert!(!ended.stderr.contains("upgrade  redeploy"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    // Without it, everything runs.
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.outcome("overlays::no_backup::custom::test_custom_last"), Some("ok"), "{ended}");
}

#[test]
fn last_failed_runs_what_failed_until_nothing_does() {
    let (root, world) =
        with_overlay_of("no-backup", &[("test_install_red.sh", "exit 1\n"), ("test_install_green.sh", "true\n")]);
    let run = || world.run(&["--recipe", "no-backup", "--tiers", "install", "--last-failed"]);
    let ended = run();
    assert!(ended.stderr.contains("last     the recipe has no run yet: everything runs\n"), "{ended}");
    let red = "overlays::no_backup::install::test_install_red";
    assert_eq!(ended.with_outcome("FAILED"), [red], "{ended}");
    let ended = run();
    assert!(ended.stderr.contains("last     1 failed trial of no-backup-"), "{ended}");
    assert_eq!(
        (ended.with_outcome("FAILED"), ended.with_outcome("ok")),
        (vec![red], vec!["tier::teardown"]),
        "{ended}"
    );
    std::fs::write(root.path().join("overlays/no-backup/test_install_red.sh"), "true\n").unwrap();
    let ended = run();
    assert_eq!((ended.code, ended.with_outcome("ok")), (0, vec![red, "tier::teardown"]), "{ended}");
    let ended = run();
    assert!(ended.stderr.contains("last     nothing failed in no-backup-"), "{ended}");
    assert_eq!(ended.outcome("overlays::no_backup::install::test_install_green"), Some("ok"), "{ended}");
    // What is gone cannot fail again, and nothing would be proven without it.
    std::fs::write(root.path().join("overlays/no-backup/test_install_red.sh"), "exit 1\n").unwrap();
    run();
    std::fs::remove_file(root.path().join("overlays/no-backup/test_install_red.sh")).unwrap();
    let ended = run();
    let said = "is there any more: everything runs\n";
    assert!(ended.stderr.contains("last     none of the trials that failed in no-backup-"), "{ended}");
    assert!(ended.stderr.contains(said), "{ended}");
    assert_eq!(ended.outcome("tier::install"), Some("ok"), "{ended}");
}
