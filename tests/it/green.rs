//! Whole runs that must pass, and what they must show.

use crate::runner::{Ended, World, checkout, copy, working_copy};

/// A passed run of the bundled recipe: every tier, nothing ignored, one deploy, nothing left.
fn check(world: &World, ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.with_outcome("ok").len() >= 15, "{ended}");
    assert!(ended.with_outcome("ignored").is_empty(), "{ended}");
    for operation in ["install", "upgrade", "backup", "restore", "teardown"] {
        assert_eq!(ended.outcome(&format!("tier::{operation}")), Some("ok"), "{ended}");
    }
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn custom_html_passes_every_tier() {
    let world = World::of_checkout();
    check(&world, &world.run(&["--recipe", "custom-html"]));
}

#[test]
fn custom_html_passes_as_an_ordinary_user() {
    let Some(world) = World::of_checkout().for_ordinary_user() else { return };
    check(&world, &world.run(&["--recipe", "custom-html"]));
}

#[test]
fn one_thread_and_many_give_the_same_run() {
    for threads in ["1", "8"] {
        let world = World::of_checkout();
        let ended = world.run(&["--recipe", "custom-html", "--test-threads", threads]);
        check(&world, &ended);
        // Only one thread prints in the order in which trials end.
        assert!(threads == "8" || tiers_in_order_of_printing(&ended).is_sorted(), "{ended}");
    }
}

fn tiers_in_order_of_printing(ended: &Ended) -> Vec<usize> {
    let tiers = ["install", "upgrade", "backup", "restore", "custom"];
    let is_of = |name: &str, tier: &str| name.contains(&format!("::{tier}::")) || name == format!("tier::{tier}");
    let tier_of = |name: &str| tiers.iter().position(|tier| is_of(name, tier));
    let order: Vec<usize> = ended.with_outcome("ok").into_iter().filter_map(tier_of).collect();
    assert!(order.len() >= 15, "{ended}");
    order
}

#[test]
fn a_single_trial_deploys_what_it_needs_and_names_its_recipe_itself() {
    let world = World::of_checkout();
    let trial = "overlays::custom_html::upgrade::seeded_page_survives";
    let ended = world.run(&["--exact", trial]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.with_outcome("ok"), [trial]);
    assert!(ended.stderr.contains("upgrade  done in"), "{ended}");
    assert!(!ended.stderr.contains("backup   create"), "{ended}");
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_recipe_without_backup_labels_skips_them_as_unverified() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.code, 0, "{ended}");
    let reason = "ignored (unverified: the head has no `backupbot.backup` label in any service's `deploy.labels`)";
    assert_eq!(ended.outcome("tier::backup"), Some(reason), "{ended}");
    // Once for a tier; whoever asks for one trial alone is told there.
    let short = "ignored (unverified, as tier::restore)";
    assert_eq!(ended.outcome("generic::restore::changes_since_the_backup_are_undone"), Some(short), "{ended}");
    assert_eq!(ended.stdout.matches("has no `backupbot.backup` label").count(), 2, "{ended}");
    let alone = world.run(&["--recipe", "no-backup", "changes_since_the_backup_are_undone"]);
    assert_eq!(alone.outcome("generic::restore::changes_since_the_backup_are_undone"), Some(reason), "{alone}");
    assert_eq!(ended.outcome("tier::upgrade"), Some("ok"), "{ended}");
    assert!(
        ended.stderr.contains("\n  backup   NOT TESTED, unverified: the head has no `backupbot.backup` label"),
        "{ended}"
    );
}

#[test]
fn without_an_older_version_the_head_is_installed_and_the_upgrade_unverified() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "first-release"]);
    assert_eq!(ended.code, 0, "{ended}");
    let reason = "ignored (unverified: the recipe has no published version)";
    assert_eq!(ended.outcome("tier::upgrade"), Some(reason), "{ended}");
    assert_eq!(ended.outcome("generic::install::deployed_what_was_asked_for"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("generic::restore::changes_since_the_backup_are_undone"), Some("ok"), "{ended}");
}

#[test]
fn opting_out_of_generic_assertions_is_said_loudly() {
    let world = World::of_checkout();
    let ended = world.run(&["--recipe", "custom-html", "--skip-generic=backup", "--tiers", "install,backup"]);
    assert_eq!(ended.code, 0, "{ended}");
    let warning = "WARNING  the generic assertions of `backup` are opted out of: they prove nothing now";
    assert!(ended.stderr.contains(warning), "{ended}");
    let ignored = Some("ignored (opted out of by --skip-generic)");
    assert_eq!(ended.outcome("generic::backup::snapshot_holds_every_volume"), ignored, "{ended}");
    assert_eq!(ended.outcome("overlays::custom_html::backup::snapshot_holds_the_keepsake"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("tier::upgrade"), None, "a tier that was not asked for has no trials\n{ended}");
}

#[test]
fn two_recipes_in_one_process_are_told_apart() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup", "--recipe", "first-release"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("[no-backup]     tier::install"), "{ended}");
    assert!(ended.stdout.contains("[first-release] tier::teardown"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_working_copy_is_tested_with_its_uncommitted_changes() {
    let world = World::of_test_data();
    let copy = world.dir.path().join("copy");
    working_copy(&copy, "git tag -a -m First");
    let ended = world.run(&["--recipe", "no-backup", "--recipe-dir", copy.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("+U"), "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::deployed_head"), Some("ok"), "{ended}");
}

/// abra refuses to deploy such a tag pinned, and so does everything that follows abra.
#[test]
fn a_base_with_a_lightweight_tag_is_deployed_as_chaos_from_its_commit() {
    let world = World::of_test_data();
    let copy = world.dir.path().join("copy");
    working_copy(&copy, "git tag");
    let ended = world.run(&["--recipe", "no-backup", "--recipe-dir", copy.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended}");
    let note = "the tag `1.0.0+1.27.4` is lightweight, which abra does not deploy: its commit is deployed as chaos";
    assert!(ended.stderr.contains(note), "{ended}");
    assert!(ended.stderr.contains("install  deploy 1.0.0+1.27.4"), "{ended}");
    assert_eq!(ended.outcome("generic::install::deployed_what_was_asked_for"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::deployed_head"), Some("ok"), "{ended}");
}

#[test]
fn a_service_that_runs_once_is_waited_for_until_it_is_done() {
    let world = World::of_test_data();
    let start = std::time::Instant::now();
    let ended = world.run(&["--recipe", "runs-once"]);
    assert_eq!(ended.code, 0, "{ended}");
    let note = "service `migrate` has ended with code 0, and its restart policy leaves it so";
    assert_eq!(ended.stderr.matches(note).count(), 1, "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::services_are_stable"), Some("ok"), "{ended}");
    assert!(start.elapsed().as_secs() < 60, "nothing waits for it to run: {ended}");
}

/// The same with an end that is none: the restart policy forbids another task, and nobody waits for the deadline.
#[test]
fn a_service_that_runs_once_and_fails_ends_the_wait() {
    let root = tempfile::tempdir().unwrap();
    let data = checkout().join("tests/data");
    std::fs::copy(data.join("harness.toml"), root.path().join("harness.toml")).unwrap();
    copy(&data.join("recipes/runs-once"), &root.path().join("recipes/runs-once"));
    let compose = root.path().join("recipes/runs-once/head/compose.yml");
    let text = std::fs::read_to_string(&compose).unwrap();
    let fails = text.replace("echo migrated > /srv/data/version", "echo the database is away; exit 7");
    std::fs::write(&compose, fails.replace("condition: on-failure", "condition: none")).unwrap();
    let world = World::new(root.path().to_owned());
    let ended = world.run(&["--recipe", "runs-once"]);
    assert_eq!(ended.with_outcome("FAILED"), ["tier::upgrade"], "{ended}");
    let message = ended.message("tier::upgrade");
    let said = [
        "the update of service `migrate` failed: ",
        "service `migrate` does not stay up, and its restart policy allows no more: ",
    ];
    assert!(said.iter().any(|said| message.starts_with(said)), "{message}");
    assert!(message.contains("(exit code 7: task: non-zero exit (7))"), "{message}");
    assert!(message.contains("the database is away"), "{message}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
