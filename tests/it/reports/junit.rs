//! JUnit files hold to the schemas of those who read them.

use std::path::{Path, PathBuf};

use harness::process::Run;

use crate::Case;
use crate::runner::{Ended, World, checkout, finish};

pub const CASES: &[Case] = &[
    ("junit::recorded_runs_are_valid_for_jenkins_and_as_pytests", recorded_runs_are_valid),
    ("junit::a_new_run_of_two_recipes_is_valid_and_is_written_where_it_was_asked_for", a_new_run_is_valid),
    ("junit::a_run_that_cannot_begin_has_a_valid_file_with_an_error", a_run_that_cannot_begin),
    ("junit::a_file_that_breaks_a_rule_is_refused", a_broken_file_is_refused),
];

fn validate(schema: &str, file: &Path) -> Ended {
    let schema = checkout().join("tests/data/junit").join(schema);
    finish(&Run::new(
        "xmllint",
        ["--noout".as_ref(), "--nonet".as_ref(), "--schema".as_ref(), schema.as_os_str(), file.as_os_str()],
    ))
}

pub fn is_valid(file: &Path) {
    for schema in ["jenkins.xsd", "pytest.xsd"] {
        let ended = validate(schema, file);
        assert_eq!(ended.code, 0, "{} by {schema}: {ended}", file.display());
    }
}

fn recorded_runs_are_valid() {
    let runs: Vec<PathBuf> =
        std::fs::read_dir(checkout().join("tests/data/runs")).unwrap().map(|run| run.unwrap().path()).collect();
    assert!(runs.len() >= 5, "{runs:?}");
    runs.iter().for_each(|run| is_valid(&run.join("junit.xml")));
}

fn a_new_run_is_valid() {
    let world = World::of_test_data();
    let file = world.dir.path().join("junit.xml");
    let arguments = ["--recipe", "no-backup", "--recipe", "serves-500", "--tiers", "install", "--junit"];
    let ended = world.run(&[&arguments[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(ended.code, 101, "{ended}");
    is_valid(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    for suite in ["no-backup.install", "no-backup.teardown", "serves-500.install", "serves-500.teardown"] {
        assert!(text.contains(&format!(r#"<testsuite name="{suite}""#)), "{text}");
    }
    assert_eq!(text.matches("<failure ").count(), 1, "{text}");
    assert!(text.contains("log of service app:"), "{text}");
    for run in std::fs::read_dir(world.state().join("runs")).unwrap().flatten() {
        is_valid(&run.path().join("junit.xml"));
    }
}

fn a_run_that_cannot_begin() {
    let world = World::of_test_data();
    std::fs::create_dir_all(world.state()).unwrap();
    std::fs::write(world.state().join("runs"), "a file where the directory should be").unwrap();
    let file = world.dir.path().join("junit.xml");
    let ended = world.run(&["--recipe", "no-backup", "--junit", file.to_str().unwrap()]);
    assert_eq!(ended.code, 3, "{ended}");
    is_valid(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    let error = r#"<error message="infrastructure trouble, not the recipe's fault: failed to look at "#;
    assert_eq!(
        (text.matches(&error.replace('\'', "&apos;")).count(), text.matches("<failure ").count()),
        (1, 0),
        "{text}"
    );
}

fn a_broken_file_is_refused() {
    let green = std::fs::read_to_string(checkout().join("tests/data/runs/green/junit.xml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (schema, from, to, says) in [
        ("jenkins.xsd", " failures=\"0\" timestamp", " timestamp", "The attribute 'failures' is required but missing"),
        ("jenkins.xsd", "<testcase ", "<testcase flaky=\"1\" ", "The attribute 'flaky' is not allowed"),
        ("jenkins.xsd", "name=\"tier::install\"", "name=\"generic::install::within_budget\"", "Duplicate key-sequence"),
        ("pytest.xsd", "skipped=\"0\" ", "", "The attribute 'skipped' is required but missing"),
        ("pytest.xsd", "time=\"0.", "time=\"soon 0.", "is not a valid value of the atomic type 'xs:decimal'"),
    ] {
        assert!(green.contains(from), "`{from}` does not stand in the file");
        let file = dir.path().join("junit.xml");
        std::fs::write(&file, green.replacen(from, to, 1)).unwrap();
        let ended = validate(schema, &file);
        assert_ne!(ended.code, 0, "{schema} accepts `{to}`");
        assert!(ended.stderr.contains(says), "{ended}");
    }
}
