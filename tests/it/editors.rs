//! The command lines by which editors run the trials under a cursor, as each of them hands them to the executable: no
//! recipe is named, and exactly that trial runs.

use serde_json::Value;

use crate::runner::{Ended, World};

const OVERLAY: &str = "overlays::custom_html::upgrade::seeded_page_survives";
const GENERIC: &str = "generic::install::answers_over_http";

/// What each editor gives to run one trial.
fn one(editor: &str, trial: &str) -> Vec<String> {
    let words = match editor {
        "rust-analyzer" | "Debug in VS Code" => "NAME --exact --nocapture --include-ignored",
        "rust-analyzer's test explorer" => "NAME -Z unstable-options --format=json --nocapture",
        "RustRover" => "NAME --exact --format=json -Z unstable-options --show-output",
        "Zed" => "--nocapture --include-ignored NAME",
        "Debug in Zed" => "NAME --nocapture --include-ignored",
        other => panic!("{other} is unknown"),
    };
    words.split(' ').map(|word| word.replace("NAME", trial)).collect()
}

fn run(world: &World, arguments: &[String]) -> Ended {
    world.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The events of libtest's JSON; any other line on standard output would be no line of it.
fn events(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {ended}"))).collect()
}

/// Name and event of every trial that ended.
fn outcomes(ended: &Ended) -> Vec<(String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let of_trials = events(ended).into_iter().filter(|event| event["type"] == "test" && event["event"] != "started");
    of_trials.map(|event| (text(&event, "name"), text(&event, "event"))).collect()
}

#[test]
fn each_editors_command_runs_exactly_the_trial_under_the_cursor() {
    for editor in ["rust-analyzer", "Debug in VS Code", "Zed", "Debug in Zed"] {
        for trial in [OVERLAY, GENERIC] {
            let world = World::of_checkout();
            let ended = run(&world, &one(editor, trial));
            assert_eq!(ended.code, 0, "{editor}: {ended}");
            assert_eq!(ended.with_outcome(""), [trial], "{editor}: {ended}");
            assert!(ended.stderr.contains("recipe   custom-html"), "{editor}: {ended}");
            assert!(ended.stderr.contains("; deployed once"), "{editor}: {ended}");
            assert_eq!(world.leftovers(), Vec::<String>::new());
        }
    }
}

#[test]
fn test_explorers_read_nothing_but_json_and_every_trial_by_its_name() {
    for editor in ["rust-analyzer's test explorer", "RustRover"] {
        for trial in [OVERLAY, GENERIC] {
            let ended = run(&World::of_checkout(), &one(editor, trial));
            assert_eq!(ended.code, 0, "{editor}: {ended}");
            assert_eq!(outcomes(&ended), [(trial.to_owned(), "ok".to_owned())], "{editor}: {ended}");
            let first = &events(&ended)[0];
            assert_eq!(
                (&first["type"], &first["event"], &first["test_count"]),
                (&"suite".into(), &"started".into(), &1.into())
            );
        }
        // A module of the tree.
        let ended = run(&World::of_checkout(), &one(editor, "overlays::custom_html::restore"));
        if editor.starts_with("rust-analyzer") {
            let names: Vec<String> = outcomes(&ended).into_iter().map(|(name, _)| name).collect();
            assert!(
                !names.is_empty() && names.iter().all(|name| name.starts_with("overlays::custom_html::restore::")),
                "{ended}"
            );
        } else {
            assert_eq!(outcomes(&ended), [], "no trial has exactly this name: {ended}");
        }
    }
}

#[test]
fn a_failed_trial_tells_the_explorer_why() {
    for editor in ["rust-analyzer's test explorer", "RustRover"] {
        let world = World::of_test_data();
        let arguments = one(editor, GENERIC);
        let command = world.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let ended = crate::runner::finish(&command.env("RECIPE", "serves-500"));
        assert_eq!(ended.code, 101, "{editor}: {ended}");
        let failed = events(&ended).into_iter().find(|event| event["event"] == "failed" && event["type"] == "test");
        let failed = failed.unwrap_or_else(|| panic!("{editor}: {ended}"));
        assert_eq!(failed["name"], GENERIC);
        let said = failed["stdout"].as_str().unwrap();
        assert!(said.contains("last seen: 500") && said.contains("run only this again: "), "{editor}: {said}");
    }
}

#[test]
fn to_choose_an_executable_its_trials_are_listed_and_nothing_is_touched() {
    let world = World::of_checkout();
    let ended = world.run(&["--list"]);
    assert_eq!(ended.code, 0, "{ended}");
    for trial in [OVERLAY, GENERIC] {
        assert!(ended.stdout.lines().any(|line| line == format!("{trial}: test")), "{ended}");
    }
    assert!(!world.state().exists(), "{ended}");
}

#[test]
fn a_generic_trial_takes_the_default_recipe_only_when_it_is_named() {
    let world = World::of_checkout();
    for arguments in [&["generic"][..], &["answers_over_http"], &["generic::install::nothing_of_that_name"], &[]] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(ended.with_outcome("ok"), Vec::<&str>::new(), "{ended}");
        assert!(!world.state().exists(), "{ended}");
    }
    // Without a default there is none to take.
    let ended = run(&World::of_test_data(), &one("rust-analyzer", GENERIC));
    assert_eq!(ended.code, 101, "{ended}");
    assert!(ended.message(GENERIC).starts_with("choose a recipe: "), "{ended}");
}
