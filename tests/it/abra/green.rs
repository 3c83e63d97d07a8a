//! Runs that must pass, some of them in spite of what abra says.

use super::fake::Abra;
use crate::runner::{Ended, checkout, working_copy};

pub const CASES: &[crate::Case] = &[
    ("custom_html_passes_every_tier", custom_html_passes_every_tier),
    ("guestbook_passes_every_tier", guestbook_passes_every_tier),
    ("an_abra_that_gives_up_early_is_not_believed", an_abra_that_gives_up_early),
    ("secrets_that_abra_does_not_tell_are_said_to_be_unwatched", secrets_that_abra_does_not_tell),
    ("two_runs_at_once_do_not_meet", two_runs_at_once_do_not_meet),
    ("auto_says_that_abra_is_there_and_uses_it_only_if_harness_toml_names_its_server", auto_and_abra),
    ("an_abra_that_is_named_and_cannot_be_used_is_said", an_abra_that_auto_passes_over),
    ("a_base_with_a_lightweight_tag_is_deployed_as_chaos", a_base_with_a_lightweight_tag),
    ("a_recipe_that_cannot_be_linted_is_no_failure", a_recipe_that_cannot_be_linted),
];

fn check(abra: &Abra, ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.with_outcome("ok").len() >= 30, "{ended}");
    assert!(ended.with_outcome("ignored").is_empty(), "{ended}");
    for operation in ["install", "upgrade", "backup", "restore", "teardown"] {
        assert_eq!(ended.outcome(&format!("tier::{operation}")), Some("ok"), "{ended}");
    }
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    let program = abra.beside.join("abra");
    let engine =
        format!("abra, as asked for: `{}` says it is version 0.13.0-stand-in; server `default`", program.display());
    assert!(ended.stderr.contains(&engine), "a stand-in is not called abra: {ended}");
    abra.expect_nothing_left(ended);
}

/// The words of a call, with flags and the app's domain left out.
fn brief(call: &str) -> String {
    let words = call.split(' ').filter(|word| !word.starts_with('-') && !word.contains(".harness.test"));
    words.collect::<Vec<_>>().join(" ")
}

fn custom_html_passes_every_tier() {
    let abra = Abra::with(&[]);
    let ended = abra.run(&["--recipe", "custom-html"]);
    check(&abra, &ended);
    // Each operation is abra's, and each was asked for once.
    let calls: Vec<String> = abra.calls().iter().map(|call| brief(call)).collect();
    let count = |wanted: &str| calls.iter().filter(|call| call.starts_with(wanted)).count();
    for (call, times) in [("app new", 1), ("app deploy", 2), ("app backup create", 1), ("app restore", 1)] {
        assert_eq!(count(call), times, "{call} in {calls:?}");
    }
    assert!(abra.calls().iter().all(|call| call == "--version" || call.contains(" -n ")), "{:?}", abra.calls());
    assert!(ended.stderr.contains("  lint     5 of 6 rules kept, 1 skipped\n"), "{ended}");
}

fn guestbook_passes_every_tier() {
    let abra = Abra::with(&[]);
    let ended = abra.run(&["--recipe", "guestbook"]);
    check(&abra, &ended);
    assert!(!abra.records().contains("nobody looks for it"), "abra told its secrets: {ended}");
}

/// abra reports a failure while a health check is in its start period; Swarm goes on, and so does the harness.
fn an_abra_that_gives_up_early() {
    let abra = Abra::with(&["gives-up-early"]);
    let ended = abra.run(&["--recipe", "guestbook"]);
    check(&abra, &ended);
    let records = abra.records();
    let note = "abra gave up on the deployment, and the harness goes on waiting: FATA deploy failed";
    assert!(records.contains(note), "{records}");
}

fn secrets_that_abra_does_not_tell() {
    let abra = Abra::with(&["keeps-secrets-to-itself"]);
    let ended = abra.run(&["--recipe", "guestbook", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let records = abra.records();
    assert!(records.contains("abra did not say the value of secret `"), "{records}");
    let reason =
        "ignored (unverified: the value of `db_password` is not known here, so nobody can look for it in the logs)";
    assert_eq!(ended.outcome("generic::install::no_secret_in_the_logs"), Some(reason), "{ended}");
    abra.expect_nothing_left(&ended);
}

fn two_runs_at_once_do_not_meet() {
    let abra = Abra::with(&[]);
    let ended = std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| abra.run(&["--recipe", "custom-html"])));
        runs.map(|run| run.join().unwrap())
    });
    ended.iter().for_each(|ended| check(&abra, ended));
}

fn an_abra_that_auto_passes_over() {
    let abra = Abra::with(&[]);
    std::fs::remove_file(abra.beside.join("abra")).unwrap();
    std::fs::write(abra.beside.join("abra"), "#!/bin/sh\necho something else\n").unwrap();
    std::fs::set_permissions(abra.beside.join("abra"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = abra.command(&["--recipe", "custom-html", "--engine", "auto", "--plan"]);
    let ended = crate::runner::finish(&run.env("HARNESS_ROOT", root_that_names_a_server(&abra)));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("engine   swarm, because a Swarm manager answers here: "), "{ended}");
    assert!(ended.stdout.contains("note     abra was passed over: `"), "{ended}");
}

/// Such a tag breaks a rule of abra's, which exits with 0 all the same, refuses to deploy it pinned, and has its commit
/// deployed instead. What lint says has no weight for the verdict.
fn a_base_with_a_lightweight_tag() {
    let abra = Abra::with(&[]);
    let copy = abra.world.dir.path().join("copy");
    working_copy(&copy, "git tag");
    let ended = abra.run(&["--recipe", "no-backup", "--recipe-dir", copy.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended}");
    for trial in ["generic::install::deployed_what_was_asked_for", "generic::upgrade::deployed_head"] {
        assert_eq!(ended.outcome(trial), Some("ok"), "{ended}");
    }
    let deployed: Vec<String> =
        abra.calls().iter().map(|call| brief(call)).filter(|call| call.starts_with("app deploy")).collect();
    assert_eq!(deployed, ["app deploy", "app deploy"], "no version is named");
    let broken = "  lint     R014 error: only annotated tags used for recipe version (replace lightweight tag with \
                  annotated tag)\n";
    assert!(ended.stderr.contains(broken), "{ended}");
    abra.expect_nothing_left(&ended);
}

fn a_recipe_that_cannot_be_linted() {
    let abra = Abra::with(&["cannot-lint"]);
    let ended = abra.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let said = "  lint     not known: `abra recipe lint` exited with code 1: FATA unable to read the recipe: \
                authentication required\n";
    assert!(ended.stderr.contains(said), "{ended}");
    abra.expect_nothing_left(&ended);
}

fn auto_and_abra() {
    let abra = Abra::with(&[]);
    let run = abra.command(&["--recipe", "custom-html", "--engine", "auto", "--plan"]);
    let ended = crate::runner::finish(&run);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains("engine   swarm, because a Swarm manager answers here: "), "{ended}");
    let note = "note     abra has the server `default`: `--engine abra` would use it\n";
    assert!(ended.stdout.contains(note), "{ended}");
    assert_eq!(abra.calls(), Vec::<String>::new(), "abra was asked for something");
    let ended = crate::runner::finish(&run.env("HARNESS_ROOT", root_that_names_a_server(&abra)));
    assert_eq!(ended.code, 0, "{ended}");
    let engine = "engine   abra, because `[abra] server` in harness.toml names it: `";
    assert!(ended.stdout.contains(engine), "{ended}");
}

/// The recipes of the checkout, and the server `default` in `harness.toml`.
fn root_that_names_a_server(abra: &Abra) -> std::path::PathBuf {
    let (root, checkout) = (abra.world.dir.path().join("root"), checkout());
    std::fs::create_dir(&root).unwrap();
    for name in ["recipes", "overlays"] {
        std::os::unix::fs::symlink(checkout.join(name), root.join(name)).unwrap();
    }
    let harness = std::fs::read_to_string(checkout.join("harness.toml")).unwrap();
    std::fs::write(root.join("harness.toml"), format!("abra.server = \"default\"\n{harness}")).unwrap();
    root
}
