//! Every report format, made again from recorded journals: what is written must be what stands beside them, byte for
//! byte. `BLESS=1` writes it again; one of the runs is full of what breaks careless formats.

use std::path::{Path, PathBuf};

use harness::engine::Measured;
use harness::fault::Fault;
use harness::keeper::journal::{self, Event, Outcome, Record};
use harness::keeper::photo::Picture;
use harness::keeper::protocol::Invocation;
use harness::keeper::spec::Client;
use harness::report::files;
use harness::report::fold::fold;
use harness::report::results::{Results, Verdict};
use harness::tier::Tier;

use crate::kept;
use crate::runner::checkout;

/// Copies a recorded run, makes its reports, and compares them with those that are kept.
fn check(run: &str) -> (Results, PathBuf, tempfile::TempDir) {
    let recorded = checkout().join("tests/data/runs").join(run);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(recorded.join(journal::FILE), copy.path().join(journal::FILE)).unwrap();
    copy_files(&recorded, copy.path());
    let results = files::of_dir(copy.path()).unwrap();
    for name in files::NAMES.iter().copied().filter(|name| *name != files::CARD_PNG) {
        let made = std::fs::read_to_string(copy.path().join(name)).unwrap();
        let made = if name == "report.html" { kept::without_repetitions(&made, &recorded) } else { made };
        crate::docs::check(&format!("tests/data/runs/{run}/{name}"), &made);
    }
    (results, recorded, copy)
}

fn copy_files(from: &Path, to: &Path) {
    for name in ["logs", "pictures"] {
        std::fs::create_dir(to.join(name)).unwrap();
        for entry in std::fs::read_dir(from.join(name)).into_iter().flatten().flatten() {
            std::fs::copy(entry.path(), to.join(name).join(entry.file_name())).unwrap();
        }
    }
}

fn read(run: &Path, name: &str) -> String {
    std::fs::read_to_string(run.join(name)).unwrap()
}

#[test]
fn a_green_run() {
    let (results, ..) = check("green");
    assert_eq!((results.verdict, results.level.reached), (Verdict::Passed, 4));
    assert_eq!(results.reason, "");
    let operation = results.tiers[1].operation.as_ref().unwrap();
    assert_eq!(results.tiers[1].trials[0].millis, operation.millis, "the operation's trial has the operation's time");
    assert_eq!(results.tiers[1].hooks[0].name, "overlays::custom_html::upgrade::seed_page");
}

#[test]
fn a_run_whose_upgrade_fails() {
    let (results, run, _) = check("upgrade-fails");
    assert_eq!((results.verdict, results.level.reached), (Verdict::Failed, 1));
    assert!(results.reason.starts_with("upgrade: the update of service `app` failed"), "{}", results.reason);
    let junit = read(&run, "junit.xml");
    assert!(junit.contains(r#"<testcase name="tier::upgrade" classname="rolls-back.upgrade""#), "{junit}");
    assert!(junit.contains(r#"<skipped message="because tier::upgrade failed"/>"#), "{junit}");
    assert_eq!((junit.matches("<failure ").count(), junit.matches("<error ").count()), (1, 0), "{junit}");
}

#[test]
fn a_run_that_could_not_prove_everything() {
    let (results, ..) = check("unverified");
    assert_eq!((results.verdict, results.level.reached), (Verdict::Passed, 2));
    let raise = results.level.raise.unwrap();
    assert!(
        raise.starts_with("level 3, backs up and restores: `backup` is skipped, unverified: the head has no"),
        "{raise}"
    );
}

#[test]
fn a_run_that_was_broken_off() {
    let (results, run, _) = check("broken-off");
    assert_eq!(results.verdict, Verdict::BrokenOff);
    assert!(results.reason.ends_with("trials were asked for and did not run: interrupted"), "{}", results.reason);
    assert!(read(&run, "junit.xml").contains(r#"<testcase name="tier::whole_run""#), "a broken-off run must be red");
}

#[test]
fn a_run_full_of_hostile_strings() {
    let (results, run, _) = check("hostile");
    assert_eq!(results.verdict, Verdict::Failed);
    let markdown = read(&run, "summary.md");
    // Outside of fences nothing is markup but what was meant so.
    let outside: String =
        markdown.split("\n`````text\n").map(|part| part.rsplit("\n`````\n").next().unwrap()).collect();
    for markup in ["<script", "<img", "@mention", "@here", "https://", "<b>", "<i>"] {
        assert!(!outside.contains(markup), "`{markup}` stands in:\n{outside}");
    }
    for name in ["summary.md", "junit.xml", "badge.svg"] {
        let text = read(&run, name);
        let control = |c: &char| c.is_control() && *c != '\n' && *c != '\t' || ['\u{fffe}', '\u{ffff}'].contains(c);
        assert_eq!(text.chars().find(control), None, "in {name}");
    }
    let junit = read(&run, "junit.xml");
    assert!(junit.contains("<error message=") && junit.contains(r#"type="infrastructure""#), "{junit}");
    assert!(!junit.contains("<script"), "{junit}");
}

#[test]
fn of_a_reused_app_the_operations_are_the_whole_runs_and_the_trials_the_last_ones() {
    let green = checkout().join("tests/data/runs/green").join(journal::FILE);
    let mut records = journal::read(&green).unwrap();
    let down = records.iter().position(|it| matches!(it.event, Event::TeardownStarted { .. })).unwrap();
    records.truncate(down);
    let Some(Event::TrialFinished(mut again)) = records.iter().rev().map(|it| it.event.clone()).find(
        |event| matches!(event, Event::TrialFinished(trial) if trial.name.starts_with("overlays::custom_html::custom")),
    ) else {
        panic!("the recorded run has no such trial")
    };
    let Event::Planned(facts) = &records[1].event else { panic!("{:?}", records[1]) };
    let resumed = Invocation {
        client: Client { pid: 1, started: 1 },
        arguments: "--recipe custom-html".into(),
        trials: facts.trials.clone(),
        selected: [again.name.clone()].into(),
        judged_by: Some("another executable".into()),
        wants: Default::default(),
    };
    let deployed = records.iter().find(|it| matches!(it.event, Event::Deploying { in_place: false, .. }));
    let note = format!("the app was reused: an earlier run deployed it at {}", deployed.unwrap().at);
    (again.outcome, again.fault, again.message) = (Outcome::Failed, Some(Fault::Recipe), "expected 1, seen 2".into());
    let name = again.name.clone();
    let events = [Event::Left { millis: 600_000 }, Event::Resumed(Box::new(resumed)), Event::TrialFinished(again)];
    records.extend(events.map(Record::now));

    let results = fold(&records).unwrap();
    assert_eq!((results.counts.passed, results.counts.failed, results.deploys), (0, 1, 1), "{:?}", results.counts);
    assert_eq!(results.verdict, Verdict::Failed);
    assert_eq!(results.failures().map(|(_, trial)| (&trial.name, trial.attempts)).collect::<Vec<_>>(), [(&name, 1)]);
    assert!(results.tiers[..4].iter().all(|tier| tier.operation.as_ref().is_some_and(|it| it.ended)));
    assert!(results.notes.contains(&note), "{:?}", results.notes);
    assert!(files::summary(&results).contains("- the app was reused: "), "{}", files::summary(&results));
    let first = fold(&records[..down]).unwrap();
    assert!(!first.notes.contains(&note) && !files::summary(&first).contains("reused"));
}

#[test]
fn a_journal_that_ends_at_once_gives_no_report() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(journal::FILE), "").unwrap();
    let error = files::of_dir(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("ends before the run was described"), "{error}");
}

#[test]
fn a_journal_torn_at_any_place_still_gives_a_report() {
    let whole = std::fs::read(checkout().join("tests/data/runs/upgrade-fails").join(journal::FILE)).unwrap();
    let described = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let dir = tempfile::tempdir().unwrap();
    for cut in (described..whole.len()).step_by(97) {
        std::fs::write(dir.path().join(journal::FILE), &whole[..cut]).unwrap();
        let results = files::of_dir(dir.path()).unwrap();
        assert_ne!(results.verdict, Verdict::Passed, "cut at byte {cut}");
    }
}

#[test]
fn the_summary_is_appended_where_a_ci_server_wants_it() {
    let world = crate::runner::World::of_test_data();
    let summary = world.dir.path().join("summary.md");
    std::fs::write(&summary, "before\n").unwrap();
    let run = world.command(&["--recipe", "first-release", "--tiers", "install"]);
    let ended = crate::runner::finish(&run.env("GITHUB_STEP_SUMMARY", &summary));
    assert_eq!(ended.code, 0, "{ended}");
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("before\n### first-release "), "{text}");
    let run = world.command(&["--recipe", "first-release", "--tiers", "install"]);
    let ended = crate::runner::finish(&run.env("GITHUB_STEP_SUMMARY", world.dir.path()));
    assert_eq!(ended.code, 3, "a report that cannot be written is a failure: {ended}");
    assert!(ended.stderr.contains("error: failed to write to `"), "{ended}");
}

#[test]
fn without_a_chromium_the_report_says_so() {
    for (variable, value, reason) in [
        ("PATH", programs_without_a_browser(), "chromium is not installed"),
        ("HARNESS_CHROMIUM", "/nowhere/chromium".into(), "there is no Chromium at `/nowhere/chromium`"),
    ] {
        let world = crate::runner::World::of_test_data();
        let run = world.command(&["--recipe", "first-release", "--tiers", "install"]);
        let ended = crate::runner::finish(&run.env("HARNESS_SCREENSHOTS", "1").env(variable, value));
        assert_eq!(ended.code, 0, "a picture is no proof of anything: {ended}");
        let picture = results_of(&world).tiers[0].picture.clone();
        assert_eq!(picture, Some(Picture::NotTaken { not_taken: reason.into() }));
    }
}

/// A search path with what a run needs, and no more.
fn programs_without_a_browser() -> String {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        for program in ["git", "newuidmap", "newgidmap"] {
            let _ = std::os::unix::fs::symlink(Path::new("/usr/bin").join(program), dir.path().join(program));
        }
        dir
    });
    dir.path().display().to_string()
}

#[test]
fn what_an_app_uses_is_measured_after_every_operation() {
    let world = crate::runner::World::of_checkout();
    let ended = world.run(&["--recipe", "custom-html"]);
    assert_eq!(ended.code, 0, "{ended}");
    for tier in results_of(&world).tiers {
        // The last has no operation, and is looked at while its assertions run.
        let usage = tier.usage.unwrap_or_else(|| panic!("nobody looked at {}", tier.tier));
        let app = &usage.services["app"];
        let (memory, peak) = (app.memory.amount().unwrap(), app.memory_peak.amount().unwrap());
        // What containers have in common is shared out among them, and others run beside this one.
        assert!(memory > 100 << 10 && peak >= memory && app.cpu_millis.amount().is_some(), "{usage:?}");
        assert!(usage.looks > 0 && usage.volumes["content"].amount().unwrap() > 0, "{usage:?}");
        let image = usage.images.values().next().unwrap();
        let stand_in = "`builtin:static-web` runs in its place, which is made of this machine's own programs";
        assert_eq!(*image, Measured::not(stand_in));
    }
    assert!(world.file_of_run("report.html").contains("<td data-column=\"custom\">"), "its memory has a column");
    let world = crate::runner::World::of_checkout();
    world.run(&["--recipe", "custom-html", "--exact", "generic::install::answers_over_http"]);
    let measured = results_of(&world).tiers.into_iter().filter_map(|tier| tier.usage.map(|usage| usage.tier));
    assert_eq!(measured.collect::<Vec<_>>(), [Tier::Install], "where nobody got to, nothing was measured");
    // What the upgrade's canaries add is there, and nothing is told of a run that never got to an operation.
    let world = crate::runner::World::of_test_data();
    world.run(&["--recipe", "never-starts", "--tiers", "install"]);
    let usage =
        results_of(&world).tiers[0].usage.clone().expect("the operation failed, and was looked at all the same");
    assert_eq!(usage.services["app"].memory, Measured::not("no container of it was seen running"));
}

/// The results of the only run of a world.
fn results_of(world: &crate::runner::World) -> Results {
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
    serde_json::from_str(&read(&run.path(), "results.json")).unwrap()
}

#[test]
fn what_a_visitor_sees_of_an_upgrade_is_measured() {
    let world = crate::runner::World::of_test_data();
    world.run(&["--recipe", "serves-500", "--tiers", "install,upgrade"]);
    let downtime = results_of(&world).downtime.expect("the app has an address, and was upgraded");
    assert!(downtime.errors > 0 && downtime.millis > 0, "an app that answers 500 is down: {downtime:?}");
    assert_eq!(downtime.errors + downtime.unanswered, downtime.probes, "{downtime:?}");
    let world = crate::runner::World::of_checkout();
    world.run(&["--recipe", "custom-html", "--tiers", "install,upgrade"]);
    let downtime = results_of(&world).downtime.unwrap();
    assert!(
        downtime.probes > 0 && downtime.errors == 0,
        "it starts the new task before it stops the old: {downtime:?}"
    );
    let world = crate::runner::World::of_test_data();
    world.run(&["--recipe", "first-release"]);
    assert_eq!(results_of(&world).downtime, None, "nothing was upgraded");
}
