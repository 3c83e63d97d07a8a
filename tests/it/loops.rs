//! Apps that crash under an operation that is no deployment: in the end everything runs, and it is no pass all the same.

use crate::hung::with_overlay;
use crate::runner::Ended;

const RECIPE: &str = "failing-restore-hook";
const OWN_HOOK: &str = "backupbot.restore.post-hook=echo the dump cannot be read >&2; exit 4";

/// A run of the recipe with a hook under this label that ends the app so many times before it is content: a hook whose
/// container goes away is run again.
fn crashes(label: &str, times: usize) -> Ended {
    let count = "/usr/share/nginx/html/crashes";
    let hook = format!(
        "n=$$(cat {count} 2>/dev/null || echo 0); [ $$n -ge {times} ] || {{ echo $$((n + 1)) >{count}; kill -TERM 1; sleep \
         60; }}"
    );
    let (world, root) = with_overlay(RECIPE, &[]);
    for version in std::fs::read_dir(root.path().join("recipes").join(RECIPE)).unwrap().flatten() {
        let compose = version.path().join("compose.yml");
        let text = std::fs::read_to_string(&compose).unwrap();
        std::fs::write(&compose, text.replace(OWN_HOOK, &format!("{label}={hook}"))).unwrap();
    }
    let ended = world.run(&["--recipe", RECIPE]);
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    ended
}

/// The message, without the id of the task in it and the log behind it.
fn said(ended: &Ended, trial: &str) -> String {
    let message = ended.message(trial);
    let line = message.lines().next().unwrap();
    let (before, rest) = line.split_once("task `").unwrap_or_else(|| panic!("{line}"));
    format!("{before}task{}", rest.split_once('`').unwrap().1)
}

/// Neither is the restore after it to blame, which finds the app up.
#[test]
fn an_app_that_crashes_under_its_backup_fails_that_tier_alone() {
    let trial = "generic::backup::services_are_stable";
    for times in [1, 3] {
        let ended = crashes("backupbot.backup.pre-hook", times);
        assert_eq!((ended.code, ended.with_outcome("FAILED")), (101, vec![trial]), "{ended}");
        let expected = format!(
            "service `app` must run without a restart, but {times} of its tasks ended: task is complete (exit code 0)"
        );
        assert_eq!(said(&ended, trial), expected, "{ended}");
    }
}

#[test]
fn an_app_that_crashes_again_and_again_under_its_restore_fails_it() {
    let ended = crashes("backupbot.restore.post-hook", 3);
    assert_eq!((ended.code, ended.with_outcome("FAILED")), (101, vec!["tier::restore"]), "{ended}");
    let expected = "service `app` does not stay up: 3 tasks ended by themselves, the last one: task is complete (exit code \
                    0)";
    assert_eq!(said(&ended, "tier::restore"), expected, "{ended}");
}

/// As after a deployment: a start that is not smooth is said, and an end after it would not be forgiven.
#[test]
fn an_app_that_comes_back_from_its_restore_at_the_second_attempt_passes_with_a_note() {
    let ended = crashes("backupbot.restore.post-hook", 2);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(
        ended.stderr.contains("note     service `app`: 2 of its tasks ended on the way, the last: task `"),
        "{ended}"
    );
}
