//! Bad input: one clear line, exit code 2, and nothing created. And what lists or plans without touching anything.

use crate::runner::World;

/// Runs with bad input and returns the one line that answers it.
fn refusal(world: &World, arguments: &[&str]) -> String {
    let ended = world.run(arguments);
    assert_eq!(ended.code, 2, "{ended}");
    assert_eq!(ended.stdout, "", "standard output belongs to libtest\n{ended}");
    assert!(!world.state().join("runs").exists(), "a run was created\n{ended}");
    let line = ended.stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "{ended}");
    line.strip_prefix("error: ").unwrap_or_else(|| panic!("{ended}")).to_owned()
}

#[test]
fn an_unknown_recipe_names_what_is_possible() {
    let world = World::of_test_data();
    let line = refusal(&world, &["--recipe", "serves-50"]);
    assert!(line.starts_with("no recipe `serves-50`: looked in `"), "{line}");
    assert!(line.ends_with("possible are `serves-500`"), "{line}");
}

#[test]
fn an_app_is_not_kept_warm_for_ever() {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "no-backup"]).env("HARNESS_WARM", "1000y");
    let ended = crate::runner::finish(&run);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    let most = "(HARNESS_WARM, or `warm` in harness.toml): 7days is the most";
    assert_eq!(ended.stderr, format!("error: an app would stay warm for 1000years {most}\n"));
    assert!(!world.state().exists(), "something was created");
}

#[test]
fn a_malformed_recipe_name_is_refused_before_it_is_looked_for() {
    let line = refusal(&World::of_test_data(), &["--recipe", "../etc"]);
    assert!(line.contains("`../etc`"), "{line}");
}

#[test]
fn a_junit_file_that_could_not_be_written_is_refused_before_the_run() {
    let world = World::of_test_data();
    let line = refusal(&world, &["--recipe", "no-backup", "--junit", "/nowhere/junit.xml"]);
    assert_eq!(line, "`--junit /nowhere/junit.xml` names a file in a directory that does not exist");
    let line = refusal(&world, &["--recipe", "no-backup", "--junit", "/tmp"]);
    assert_eq!(line, "`--junit /tmp` is a directory: name a file");
}

/// What nextest would be answered: it asks for a list first.
fn refusal_to_nextest(world: &World, recipe: &str, root: &std::path::Path) -> String {
    let run = world.command(&["--list", "--format", "terse"]);
    let run = run.env("NEXTEST", "1").env("NEXTEST_RUN_ID", "0-1").env("RECIPE", recipe);
    let ended = crate::runner::finish(&run.env("NEXTEST_WORKSPACE_ROOT", root));
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended}");
    ended.stderr.trim_end().to_owned()
}

#[test]
fn nextest_without_the_order_of_trials_is_refused_in_one_line() {
    let world = World::of_test_data();
    let line = refusal_to_nextest(&world, "no-backup", world.dir.path());
    let file = world.dir.path().join(".config/nextest.toml");
    assert!(line.starts_with(&format!("error: `{}` has no group `recipe` with priorities", file.display())), "{line}");
    let line = refusal_to_nextest(&world, "no-backup,serves-500", &crate::runner::checkout());
    assert_eq!(line, "error: nextest runs one recipe at a time, but 2 were given: no-backup, serves-500");
    let line = refusal_to_nextest(&world, "no-backup", &crate::runner::checkout());
    assert_eq!(line, "error: nextest has started this process, but no `cargo-nextest` is among its ancestors");
}

#[test]
fn an_unknown_ref_and_an_unknown_base_name_what_is_possible() {
    let world = World::of_test_data();
    let line = refusal(&world, &["--recipe", "no-backup", "--ref", "mian"]);
    assert!(line.starts_with("no branch or tag `mian` in `"), "{line}");
    assert!(line.contains("main"), "{line}");
    let line = refusal(&world, &["--recipe", "no-backup", "--base", "1.0.1+1.27.4"]);
    assert_eq!(line, "base `1.0.1+1.27.4` is not a published version: nearest are `1.0.0+1.27.4`");
}

#[test]
fn malformed_flags_get_one_line_each() {
    let world = World::of_test_data();
    for (arguments, start) in [
        (
            &["--tiers", "install,update"][..],
            "failed to read `--tiers` (or STAGES): unknown tier `update`: the tiers are",
        ),
        (&["--engine", "docker"], "unknown engine `docker`: the engines are"),
        (&["--pr", "x"], "`--pr x` is no number"),
        (&["--ref", "a", "--pr", "1"], "`--ref a` and `--pr 1` name two things"),
        (&["--tiers", "install,restore"], "the tier `restore` puts back what the tier `backup` made"),
        (&["--test-threads=0"], "`--test-threads=0` would run nothing for ever"),
        (&["no-such-trial"], "no trial matches `no-such-trial`"),
    ] {
        let line = refusal(&world, &[&["--recipe", "no-backup"], arguments].concat());
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_run_directory_in_use_is_refused() {
    let world = World::of_test_data();
    let dir = world.dir.path().join("mine");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("precious"), "data").unwrap();
    let line = refusal(&world, &["--recipe", "no-backup", "--run-dir", dir.to_str().unwrap()]);
    assert!(line.ends_with("is not empty: name a new directory, or an empty one"), "{line}");
    assert_eq!(std::fs::read_to_string(dir.join("precious")).unwrap(), "data");
}

#[test]
fn without_a_recipe_everything_is_listed_as_ignored_and_nothing_runs() {
    let world = World::of_checkout();
    let ended = world.run(&[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("test result: ok. 0 passed; 0 failed;"), "{ended}");
    assert!(ended.with_outcome("ignored").contains(&"tier::install"), "{ended}");
    assert!(!world.state().exists());
    // A lens of an editor runs ignored trials too: then the trial says what is missing, where there is no default.
    let ended = World::of_test_data().run(&["--include-ignored", "--exact", "generic::upgrade::deployed_head"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(
        ended.message("generic::upgrade::deployed_head"),
        "choose a recipe: `--recipe NAME`, RECIPE=NAME in the environment, or, for a generic assertion, `recipes.default` \
         in harness.toml"
    );
}

#[test]
fn what_is_about_a_recipe_is_refused_without_one() {
    let world = World::of_checkout();
    for (arguments, flag) in [(&["--pr", "12"][..], "--pr"), (&["--plan"], "--plan"), (&["--engine=swarm"], "--engine")]
    {
        let expected = format!("`{flag}` is about a recipe, and none is named: `--recipe NAME`");
        assert_eq!(refusal(&world, arguments), expected);
    }
    let empty = crate::runner::finish(&world.command(&[]).env("RECIPE", ""));
    assert_eq!(empty.code, 2, "{empty}");
    assert_eq!(empty.stderr, "error: `--recipe` (or RECIPE) is empty: name a recipe, or leave it out\n");
}

#[test]
fn tiers_without_an_install_are_refused() {
    let line = refusal(&World::of_test_data(), &["--recipe", "no-backup", "--tiers", "backup,restore"]);
    assert_eq!(line, "the tier `install` deploys the app that every other tier needs: select it, too");
}

#[test]
fn listing_touches_nothing() {
    let world = World::of_checkout();
    let ended = world.run(&["--recipe", "custom-html", "--list"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
    let trials: Vec<&str> = ended.stdout.lines().collect();
    assert!(trials.len() >= 15, "{ended}");
    assert_eq!((trials[0], trials[trials.len() - 1]), ("tier::install: test", "tier::teardown: test"));
    assert!(!world.state().exists());
}

#[test]
fn a_plan_says_what_would_be_done_and_creates_no_run() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "no-backup", "--plan"]);
    assert_eq!(ended.code, 0, "{ended}");
    for line in [
        "install  deploy 1.0.0+1.27.4",
        "backup   NOT TESTED, unverified: the head has no `backupbot.backup` label in any service's `deploy.labels`",
        "custom   no operation, assertions only",
    ] {
        assert!(ended.stdout.lines().any(|it| it == line), "no line `{line}` in\n{ended}");
    }
    let reason = ended.stdout.matches("the head has no `backupbot.backup` label").count();
    assert_eq!(reason, 2, "once for each of the two tiers that it concerns: {ended}");
    assert!(!world.state().join("runs").exists());
}
