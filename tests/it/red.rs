//! Recipes that are broken, each in one way: the run must fail at the right trial, with this message.

use crate::runner::{Ended, World};

/// Runs a broken recipe and checks which trials failed, and what the first of them said: the text up to the logs,
/// with `ID` for what differs from run to run.
fn check(recipe: &str, failed: &[&str], message: &str) -> Ended {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", recipe]);
    assert_eq!(ended.code, 101, "{ended}");
    let mut found = ended.with_outcome("FAILED");
    found.sort();
    let mut expected = failed.to_vec();
    expected.sort();
    assert_eq!(found, expected, "{ended}");
    assert_eq!(without_ids(&ended.message(failed[0])), message, "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    ended
}

/// The message itself: ids replaced, logs and the command after it cut off.
fn without_ids(message: &str) -> String {
    let end = message.find("\nlast log lines").or_else(|| message.find("\nrun only this")).unwrap_or(message.len());
    let word = |word: &str| {
        let word = &without_canary(word);
        let inner = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_task = inner.len() == 25 && inner.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_run = inner.contains("-2026") || inner.contains("-202");
        let is_domain = inner.ends_with(".harness.test") || inner.contains("_harness_test_");
        let is_content = inner.len() == 40 && inner.bytes().all(|b| b.is_ascii_hexdigit());
        if is_task || is_run || is_domain || is_content { word.replace(inner, "ID") } else { word.to_owned() }
    };
    message[..end].split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A path without the name of a canary, which is another one in every run.
fn without_canary(word: &str) -> String {
    let Some((directory, name)) = word.rsplit_once('/') else { return word.to_owned() };
    let name = name.trim_end_matches('`');
    let is_canary = name.len() > 8
        && name.as_bytes()[..8].iter().all(u8::is_ascii_lowercase)
        && ["~", ".bak", ".old", ".orig", ".save"].contains(&&name[8..]);
    if is_canary { format!("{directory}/CANARY`") } else { word.to_owned() }
}

#[test]
fn an_app_that_does_not_start() {
    let ended = check(
        "never-starts",
        &["tier::install"],
        "service `app` does not stay up: 3 tasks ended by themselves, the last one: task `ID` is failed (exit code 2: \
         task: non-zero exit (2))",
    );
    assert!(ended.message("tier::install").contains("static-web: `--no-such-option` needs a value"), "{ended}");
    assert!(
        ended.message("tier::install").ends_with("--recipe never-starts --engine embedded --exact tier::install"),
        "{ended}"
    );
    let because = Some("ignored (because tier::install failed)");
    assert_eq!(ended.outcome("generic::install::answers_over_http"), because, "{ended}");
    assert_eq!(ended.outcome("tier::upgrade"), because, "{ended}");
}

#[test]
fn an_app_that_serves_errors() {
    check(
        "serves-500",
        &["generic::install::answers_over_http", "generic::upgrade::answers_over_http"],
        "gave up waiting for `/` of `ID` to answer with [200, 301, 302, 303, 307, 308, 401, 403] after TIME; last \
         seen: 500 from ADDRESS \"500 this server was told to answer so\\n\"",
    );
}

#[test]
fn an_app_that_crashes_after_some_seconds_of_health() {
    check(
        "crash-loops",
        &[
            "generic::install::services_are_stable",
            "generic::upgrade::services_are_stable",
            "generic::custom::services_are_stable",
        ],
        "service `app` must run without a restart, but 1 of its tasks ended: task `ID` is failed (exit code 1: task: \
         non-zero exit (1))",
    );
}

#[test]
fn an_upgrade_that_loses_the_volume() {
    check(
        "loses-volume",
        &["generic::upgrade::volumes_are_kept", "generic::upgrade::mounts_are_kept"],
        "the volume `content` must hold the file that was put there, saying \"ID\", but the upgrade lost it: it is not \
         there (looked for nothing, for no service mounts the volume any more)",
    );
}

#[test]
fn an_upgrade_whose_image_never_starts() {
    check(
        "image-never-starts",
        &["tier::upgrade"],
        "the update of service `app` failed: paused (update paused due to failure or early termination of task ID); \
         task `ID` is failed (starting container failed: failed to run the program: failed to run `no-such-program`: \
         No such file or directory (os error 2))",
    );
}

#[test]
fn an_upgrade_that_is_rolled_back_while_everything_looks_healthy() {
    check(
        "rolls-back",
        &["tier::upgrade"],
        "the update of service `app` failed: rollback_completed (rollback completed); task `ID` is failed (exit code \
         2: task: non-zero exit (2))",
    );
}

#[test]
fn a_head_that_drops_a_service() {
    check(
        "drops-service",
        &["generic::upgrade::no_dropped_service_runs"],
        "the head's compose files no longer name `worker`, but it still runs: abra deploys without pruning, so say in \
         the release notes how to remove it",
    );
}

#[test]
fn a_backup_that_holds_nothing() {
    check(
        "empty-backup",
        &["generic::backup::snapshot_holds_every_volume", "generic::upgrade::backup_covers_what_it_did"],
        "the labels switch the backup on, but promise no volume at all",
    );
}

#[test]
fn a_backup_whose_hook_fails() {
    check(
        "failing-hook",
        &["tier::backup"],
        "the hook `backupbot.backup.pre-hook` of service `app` exited with code 3: the database is away",
    );
}

#[test]
fn a_failing_restore_hook() {
    check(
        "failing-restore-hook",
        &["tier::restore"],
        "the hook `backupbot.restore.post-hook` of service `app` exited with code 4: the dump cannot be read",
    );
}

#[test]
fn a_restore_that_restores_nothing() {
    check(
        "restores-nothing",
        &["generic::restore::changes_since_the_backup_are_undone"],
        "the volume `content` must hold the file that was put there, saying \"ID\", but the restore did not bring it \
         back: it says \"changed after the backup of ID\" (looked for `/usr/share/nginx/html/CANARY` in \
         service `app`)",
    );
}

#[test]
fn a_secret_in_the_log() {
    let ended = check(
        "prints-secret",
        &["generic::install::no_secret_in_the_logs", "generic::custom::no_secret_in_the_logs"],
        "no secret may stand in a log, but the value of `ID` stands in line 1 of the log of service `app`",
    );
    // The message shows the log, and the log without the secret.
    assert!(ended.message("generic::install::no_secret_in_the_logs").contains("\n  ***\n"), "{ended}");
}

#[test]
fn one_failed_operation_without_its_own_trial_still_fails_the_run() {
    let world = World::of_test_data();
    let trial = "generic::upgrade::deployed_head";
    let ended = world.run(&["--recipe", "image-never-starts", "--exact", trial]);
    assert_eq!(ended.code, 101, "{ended}");
    let start = "the operation `upgrade`, which this needs, failed: the update of service `app` failed: paused";
    assert!(ended.message(trial).starts_with(start), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_upgrade_that_removes_what_users_have_stored() {
    let (world, root) = crate::hung::with_overlay("whole", &[]);
    let compose = root.path().join("recipes/whole/head/compose.yml");
    let text = std::fs::read_to_string(&compose).unwrap();
    std::fs::write(&compose, text.replace("date > /srv/uploads/first;", "rm -rf /srv/uploads/*;")).unwrap();
    let ended = world.run(&["--recipe", "whole", "--tiers", "install,upgrade"]);
    let mut red = ended.with_outcome("FAILED");
    red.sort();
    assert_eq!(red, ["generic::upgrade::stored_data_is_kept", "generic::upgrade::volumes_are_kept"], "{ended}");
    let message = ended.message("generic::upgrade::volumes_are_kept");
    assert!(message.contains("the volume `uploads`") && message.contains("looked for `/srv/uploads/"), "{message}");
}

#[test]
fn a_test_that_cannot_be_started_is_a_failure_and_no_trouble_of_the_machine() {
    let (world, root) = crate::hung::with_overlay("no-backup", &[("test_install_page.sh", "#!/bin/sh\r\nexit 0\r\n")]);
    let script = root.path().join("overlays/no-backup/test_install_page.sh");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = world.run(&["--recipe", "no-backup", "--tiers", "install"]);
    let trial = "overlays::no_backup::install::test_install_page";
    assert_eq!(ended.with_outcome("FAILED"), [trial], "{ended}");
    let message = ended.message(trial);
    assert!(message.contains("it cannot be started: what its first line names after `#!` is not there"), "{message}");
}
