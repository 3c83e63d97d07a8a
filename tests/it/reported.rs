//! `harness report`, of runs and of directories that came from elsewhere.

use std::path::Path;
use std::time::Duration;

use harness::process::Run;
use harness::report::files;
use harness::report::results::Results;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::runner::{Ended, World, checkout, copy, finish};

fn report(arguments: &[&str], state: &Path) -> Ended {
    let arguments = [&["report"], arguments].concat();
    let run = Run::new(env!("CARGO_BIN_EXE_harness-command"), &arguments).env("HARNESS_STATE", state);
    // What waits for a pipe waits for ever.
    finish(&run.deadline(Duration::from_secs(60)))
}

fn pipe(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn only_plain_files_of_a_runs_directory_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy(&checkout().join("tests/data/runs/upgrade-fails"), &run);
    std::fs::write(run.join("run.json"), "{}").unwrap();
    std::fs::write(dir.path().join("elsewhere"), "somebody else's secret").unwrap();
    std::fs::create_dir_all(run.join("logs")).unwrap();
    pipe(&run.join("logs/pipe.log"));
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), run.join("logs/link.log")).unwrap();
    std::fs::write(run.join("logs/plain.log"), "a plain line\n").unwrap();
    let ended = report(&[run.to_str().unwrap()], dir.path());
    assert_eq!(ended.code, 0, "{ended}");
    let left_out = "note: a log is left out of the reports: ";
    for why in
        ["`logs/link.log` is a symbolic link, or lies behind one: links are not followed", "`logs/pipe.log` is no file"]
    {
        assert!(ended.stderr.contains(&format!("{left_out}{why}\n")), "{ended}");
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains(&format!("(left out: {why})")), "{why} is not in the page");
        assert!(page.contains("a plain line") && !page.contains("somebody else"), "{page}");
    }
    assert_eq!(ended.stderr.matches(left_out).count(), 2, "{ended}");

    std::fs::remove_file(run.join("events.jsonl")).unwrap();
    pipe(&run.join("events.jsonl"));
    let ended = report(&[run.to_str().unwrap()], dir.path());
    let journal = run.join("events.jsonl");
    assert_eq!((ended.code, ended.stderr), (2, format!("error: the journal `{}` is no file\n", journal.display())));

    std::fs::create_dir_all(dir.path().join("runs/piped")).unwrap();
    pipe(&dir.path().join("runs/piped/results.json"));
    let ended = report(&["--history"], dir.path());
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "no run has left results\n"), "{ended}");
}

#[test]
fn of_a_run_that_deployed_nothing_no_more_is_said_than_that() {
    let run = tempfile::tempdir().unwrap();
    let recorded = std::fs::read(checkout().join("tests/data/runs/green/results.json")).unwrap();
    let mut results: Results = serde_json::from_slice(&recorded).unwrap();
    let said = |results: &Results| {
        files::write(run.path(), results).unwrap();
        ["report.html", "junit.xml", "summary.md"].map(|name| std::fs::read_to_string(run.path().join(name)).unwrap())
    };
    (results.deploys, results.teardown) = (0, None);
    let [page, junit, summary] = said(&results);
    assert!(summary.contains("| teardown | there was nothing to tear down |"), "{summary}");
    assert!(page.contains("<dt>deploy-count</dt><dd>0, nothing was deployed</dd>"), "{page}");
    assert!(page.contains("<dt>teardown</dt><dd>there was nothing to tear down</dd>"), "{page}");
    assert!(junit.contains("message=\"there was nothing to tear down\""), "{junit}");
    results.deploys = 1;
    let [page, junit, summary] = said(&results);
    assert!(summary.contains("| teardown | the app is still up |"), "{summary}");
    assert!(page.contains("<dt>teardown</dt><dd>the app was not torn down</dd>"), "{page}");
    assert!(junit.contains("message=\"the app was not torn down\""), "{junit}");

    let ended = World::of_test_data().run(&["--recipe", "no-backup", "--exact", "tier::backup"]);
    assert_eq!((ended.code, ended.with_outcome("ignored")), (4, vec!["tier::backup"]), "{ended}");
    assert!(!ended.stderr.contains("\n  logs     "), "it has no directory: {ended}");
    let ended = World::of_test_data().run(&["--recipe", "no-backup", "--exact", "tier::install"]);
    assert!(ended.stderr.contains("\n  logs     "), "{ended}");
}

/// Every text of a value, with an order to a terminal and a character that no format may hold behind it.
fn poison(value: &mut serde_json::Value, spared: &[&str]) {
    match value {
        serde_json::Value::String(text) if !spared.contains(&text.as_str()) => text.push_str("\u{1b}[31m\u{0}"),
        serde_json::Value::Array(list) => list.iter_mut().for_each(|it| poison(it, spared)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|it| poison(it, spared)),
        _ => {}
    }
}

#[test]
fn no_text_of_a_run_reaches_a_reader_as_anything_but_text() {
    let run = tempfile::tempdir().unwrap();
    for name in ["green", "upgrade-fails", "unverified"] {
        let recorded = std::fs::read(checkout().join(format!("tests/data/runs/{name}/results.json"))).unwrap();
        let mut results: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
        // Words that are the format's own.
        let own = "passed failed error broken_off nothing_proven ignored not_run proven declared unverified install upgrade \
                   backup restore custom operation generic overlay teardown image env compose intended recipe assertion \
                   infrastructure harness yes no skipped";
        poison(&mut results, &own.split_whitespace().collect::<Vec<_>>());
        let results: Results = serde_json::from_value(results).unwrap();
        files::write(run.path(), &results).unwrap();
        for file in files::NAMES.iter().copied().filter(|file| *file != files::CARD_PNG) {
            let text = std::fs::read_to_string(run.path().join(file)).unwrap();
            let acting = text.char_indices().find(|(_, c)| c.is_control() && !"\n\t".contains(*c));
            let around = acting.map(|(at, _)| {
                text[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<String>()
            });
            assert_eq!(around, None, "{file} of {name}");
        }
        let history = harness::report::history::render(&[results]);
        assert!(!history.chars().any(|c| c.is_control() && c != '\n'), "{history:?}");
    }
}

#[test]
fn an_overlay_that_was_edited_between_two_runs_makes_nothing_flaky() {
    let root = tempfile::tempdir().unwrap();
    for name in ["harness.toml", "recipes"] {
        copy(&checkout().join("tests/data").join(name), &root.path().join(name));
    }
    let test = root.path().join("overlays/no-backup/test_install.sh");
    std::fs::create_dir_all(test.parent().unwrap()).unwrap();
    let world = World::new(root.path().to_owned());
    let judges = |text: &str, code: i32| {
        std::fs::write(&test, text).unwrap();
        let ended = world.run(&["--recipe", "no-backup", "--tiers", "install"]);
        assert_eq!(ended.code, code, "{ended}");
    };
    judges("true\n", 0);
    judges("true\n", 0);
    judges("false\n", 101);
    let runs = harness::report::history::read(&world.state().join("runs"));
    let [first, again, edited] = &runs[..] else { panic!("{} runs", runs.len()) };
    assert!(first.judged_by.is_some() && first.judged_by == again.judged_by, "{:?}", again.judged_by);
    assert_ne!(first.judged_by, edited.judged_by);
    assert_eq!((first.commit.as_str(), first.dirty), (edited.commit.as_str(), false));
    let history = report(&["--history"], &world.state());
    assert!(history.stdout.contains("passed") && history.stdout.contains("failed"), "{history}");
    assert!(!history.stdout.contains("flaky"), "{history}");
}
