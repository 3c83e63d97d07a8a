//! JUnit XML, as GitLab, Jenkins and pytest's readers take it: a suite per tier, the operation as its first case.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use chrono::{DateTime, FixedOffset};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::markdown::printable;
use super::results::{Outcome, Results, TierResult, TrialResult, Verdict};
use crate::fault::Fault;
use crate::keeper::facts::TrialKind;

/// A service's log as it goes into the report: name and text, masked.
pub type Logs = [(String, String)];

/// Of a log only the end is kept: GitLab refuses files of more than 30 MB.
const LOG_END: usize = 64 << 10;

/// The whole file, of one run or of several.
pub fn render(runs: &[(&Results, &Logs)]) -> Result<String> {
    let title = |results: &Results| format!("{} {}", results.recipe, results.versions());
    let titles: Vec<String> = runs.iter().map(|(results, _)| title(results)).collect();
    let mut report = Report::new(clean(&titles.join(", ")));
    report.set_time(Duration::from_millis(runs.iter().map(|(results, _)| results.millis).sum()));
    for (results, logs) in runs {
        for tier in &results.tiers {
            report.add_test_suite(suite(results, tier, logs));
        }
        report.add_test_suite(teardown(results));
    }
    let xml = report.to_string().context("failed to write JUnit")?;
    // No schema knows how many were skipped in all; in the suites it stays.
    Ok(xml.replacen(&format!(" skipped=\"{}\"", report_skipped(&report)), "", 1))
}

fn report_skipped(report: &Report) -> usize {
    report.test_suites.iter().map(|suite| suite.skipped).sum()
}

/// What XML cannot hold, and what a reader would obey, is shown as a replacement character.
fn clean(text: &str) -> String {
    printable(text)
}

fn suite(results: &Results, tier: &TierResult, logs: &Logs) -> TestSuite {
    let mut suite = new_suite(results, tier.tier.name());
    let started = tier.operation.as_ref().map(|operation| operation.started.as_str());
    let started = started.or_else(|| tier.trials.iter().filter_map(|trial| trial.started.as_deref()).min());
    suite.timestamp = time(started.unwrap_or(&results.started));
    let mut total = Duration::ZERO;
    // The operation comes first, also when its own trial was filtered out: its time and failure are no other case's.
    let operation = tier.trials.iter().filter(|trial| trial.kind == TrialKind::Operation);
    let assertions = tier.trials.iter().filter(|trial| trial.kind != TrialKind::Operation);
    for trial in operation.chain(assertions) {
        let Some((status, took)) = status(tier, trial) else { continue };
        let failed = matches!(status, TestCaseStatus::NonSuccess { .. });
        let mut case = TestCase::new(clean(&trial.name), status);
        case.set_classname(format!("{}.{}", results.recipe, tier.tier)).set_time(took);
        if failed && !logs.is_empty() {
            case.set_system_out(clean(&log_ends(logs)));
        }
        total += took;
        suite.add_test_case(case);
    }
    suite.set_time(total);
    suite
}

/// How a case ended, and how long it took; `None` of a trial that nobody asked for.
fn status(tier: &TierResult, trial: &TrialResult) -> Option<(TestCaseStatus, Duration)> {
    if let (TrialKind::Operation, Some(operation)) = (trial.kind, &tier.operation) {
        let time = Duration::from_millis(operation.millis);
        return Some(match &operation.failure {
            Some(failure) => (failed(Some(failure.fault), &failure.to_string()), time),
            None if !operation.ended => (failed(Some(Fault::Harness), "it was broken off in the middle"), time),
            None => (TestCaseStatus::success(), time),
        });
    }
    let status = match trial.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed => failed(trial.fault, &trial.message),
        Outcome::Ignored => skipped(&trial.message),
        Outcome::NotRun => match &tier.skip {
            Some(skip) => skipped(&skip.to_string()),
            None if trial.selected == Some(true) => skipped("the run ended before it"),
            None => return None,
        },
    };
    Some((status, Duration::from_millis(trial.millis)))
}

/// A failure is about the recipe; an error says that nothing can be said about it.
fn failed(fault: Option<Fault>, message: &str) -> TestCaseStatus {
    let kind = match fault {
        Some(Fault::Infrastructure | Fault::Harness) => NonSuccessKind::Error,
        Some(Fault::Recipe | Fault::Assertion) | None => NonSuccessKind::Failure,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(clean(first_line(message)));
    status.set_type(fault.map_or_else(|| "unknown".into(), |fault| fault.to_string()));
    status.set_description(clean(message));
    status
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(clean(first_line(reason)));
    status
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The proof that nothing is left; and where a run that ended early says so.
fn teardown(results: &Results) -> TestSuite {
    let mut suite = new_suite(results, "teardown");
    let classname = format!("{}.teardown", results.recipe);
    let (status, took) = match &results.teardown {
        Some(teardown) if teardown.leftovers.is_empty() => (TestCaseStatus::success(), teardown.millis),
        Some(teardown) => {
            let left = format!("teardown left something behind:\n{}", teardown.leftovers.join("\n"));
            (failed(Some(Fault::Harness), &left), teardown.millis)
        }
        None if results.deploys == 0 => (skipped("there was nothing to tear down"), 0),
        None => (skipped("the app was not torn down"), 0),
    };
    let mut case = TestCase::new("tier::teardown", status);
    case.set_classname(classname.as_str()).set_time(Duration::from_millis(took));
    let started = results.teardown.as_ref().map_or(&results.started, |teardown| &teardown.started);
    suite.timestamp = time(started);
    suite.set_time(Duration::from_millis(took));
    suite.add_test_case(case);
    if matches!(results.verdict, Verdict::BrokenOff) || results.deploys > 1 {
        let mut case = TestCase::new("tier::whole_run", failed(Some(Fault::Harness), &results.reason));
        case.set_classname(classname).set_time(Duration::ZERO);
        suite.add_test_case(case);
    }
    if results.verdict == Verdict::TooLittle {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(clean(&results.reason)).set_type("too little proven");
        let mut case = TestCase::new("tier::whole_run", status);
        case.set_classname(format!("{}.teardown", results.recipe)).set_time(Duration::ZERO);
        suite.add_test_case(case);
    }
    suite
}

fn new_suite(results: &Results, name: &str) -> TestSuite {
    let mut suite = TestSuite::new(format!("{}.{name}", results.recipe));
    let base = results.base.as_deref().unwrap_or("none");
    let level = results.level.reached.to_string();
    let known = [
        ("recipe", results.recipe.as_str()),
        ("base", base),
        ("head", &results.head),
        ("commit", &results.commit),
        ("engine", &results.engine),
        ("level", &level),
        ("run_id", &results.run_id),
        ("harness", &results.harness),
    ];
    for (name, value) in known {
        suite.add_property(Property::new(name, clean(value)));
    }
    for (image, digest) in &results.images {
        suite.add_property(Property::new(clean(&format!("digest {image}")), clean(digest)));
    }
    suite
}

fn log_ends(logs: &Logs) -> String {
    let ends = logs.iter().map(|(service, text)| {
        let from = text.len().saturating_sub(LOG_END);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        format!("log of service {service}:\n{}\n", &text[from..])
    });
    ends.collect()
}

fn time(at: &str) -> Option<DateTime<FixedOffset>> {
    let since = humantime::parse_rfc3339(at).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(DateTime::from_timestamp_millis(since.as_millis() as i64)?.fixed_offset())
}
