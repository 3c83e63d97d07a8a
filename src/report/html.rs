//! One self-contained page: complete without scripts, without a request to anywhere, on a phone and in the dark.

mod pictures;
mod usage;

use std::time::Duration;

use anyhow::{Context as _, Result};
use askama::Template;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use super::fold::between;
use super::junit::Logs;
use super::level::{Rung, State};
use super::markdown::{downtime_line, printable};
use super::results::{Outcome, Results, TierResult, TrialResult, Verdict};
use super::seconds;
use crate::keeper::facts::{Change, ChangeKind, TrialKind};

const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");
/// How the failure messages lead to the command that runs a trial again.
const AGAIN: &str = "\nrun only this again: ";
/// Of a log only the end is shown: a browser has to hold it.
const LOG_END: usize = 512 << 10;

/// The whole page; `read` gives a file of the run's directory.
pub fn render(results: &Results, logs: &Logs, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<String> {
    let page = Page {
        style: STYLE,
        script: SCRIPT,
        // No script runs but this very one, whatever gets into the page.
        script_hash: BASE64.encode(&Sha256::digest(SCRIPT)),
        recipe: printable(&results.recipe),
        versions: printable(&results.versions()),
        verdict: class_of(results.verdict),
        verdict_words: results.verdict.words(),
        reason: printable(&results.reason),
        level: results.level.reached,
        level_meaning: printable(&results.level.meaning),
        raise: results.level.raise.as_deref().map(printable),
        rungs: results.level.rungs.iter().map(rung).collect(),
        started: printable(&results.started),
        took: millis(results.millis),
        engine: format!("{} engine", printable(&results.engine)),
        failures: failures(results),
        tiers: results.tiers.iter().map(tier).collect(),
        bars: bars(results),
        changes: results.changes.iter().map(change).collect(),
        downtime: results.downtime.as_ref().map(|downtime| printable(&downtime_line(downtime))),
        usage: usage::view(results),
        pictures: pictures::view(results, read),
        no_changes: match results.base {
            Some(_) => "The head defines the app as the base does.",
            None => "There was no base to compare with.",
        },
        logs: logs.iter().map(|(service, text)| log(service, text)).collect(),
        facts: facts(results),
    };
    page.render().context("failed to write the page")
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    style: &'a str,
    script: &'a str,
    script_hash: String,
    recipe: String,
    versions: String,
    verdict: &'static str,
    verdict_words: &'static str,
    reason: String,
    level: u8,
    level_meaning: String,
    raise: Option<String>,
    rungs: Vec<RungView>,
    started: String,
    took: String,
    engine: String,
    failures: Vec<FailureView>,
    tiers: Vec<TierView>,
    bars: Vec<Bar>,
    changes: Vec<ChangeView>,
    downtime: Option<String>,
    usage: usage::UsageView,
    pictures: Vec<pictures::PictureView>,
    no_changes: &'static str,
    logs: Vec<LogView>,
    facts: Vec<(String, String)>,
}

struct RungView {
    level: u8,
    meaning: String,
    state: &'static str,
    because: String,
}

struct FailureView {
    name: String,
    blame: String,
    message: String,
    again: Option<String>,
}

struct TierView {
    name: &'static str,
    state: &'static str,
    result: String,
    operation: String,
    time: String,
    open: bool,
    trials: Vec<TrialView>,
}

struct TrialView {
    name: String,
    state: &'static str,
    words: &'static str,
    message: String,
    time: String,
}

/// One line of the timeline, in hundredths of the run's time.
struct Bar {
    name: String,
    operation: bool,
    state: &'static str,
    left: String,
    width: String,
    time: String,
}

struct ChangeView {
    kind: &'static str,
    place: String,
    before: Option<String>,
    after: Option<String>,
}

struct LogView {
    service: String,
    lines: String,
    text: String,
}

fn rung(rung: &Rung) -> RungView {
    let state = match rung.state {
        State::Proven => "proven",
        State::Declared => "declared",
        State::Unverified => "unverified",
        State::Failed => "failed",
    };
    RungView { level: rung.level, meaning: printable(&rung.meaning), state, because: printable(&rung.because) }
}

/// What failed, operations before assertions; an operation whose own trial did not run is there all the same.
fn failures(results: &Results) -> Vec<FailureView> {
    let mut views: Vec<FailureView> = results.failures().map(|(_, trial)| failure(trial)).collect();
    for tier in &results.tiers {
        let told = tier.trials.iter().any(|it| it.kind == TrialKind::Operation && it.outcome == Outcome::Failed);
        let failure = tier.operation.as_ref().and_then(|operation| operation.failure.as_ref());
        if let Some(failure) = failure.filter(|_| !told) {
            views.push(FailureView {
                name: format!("the operation {}", tier.tier),
                blame: format!("{}, fault: {}", tier.tier, failure.fault),
                message: printable(&failure.message),
                again: None,
            });
        }
    }
    let left = results.teardown.iter().flat_map(|teardown| &teardown.leftovers);
    views.extend(left.map(|left| FailureView {
        name: "tier::teardown".into(),
        blame: "something was left behind".into(),
        message: printable(left),
        again: None,
    }));
    views
}

fn failure(trial: &TrialResult) -> FailureView {
    let (message, again) = match trial.message.rsplit_once(AGAIN) {
        Some((message, again)) => (message, Some(printable(again))),
        None => (trial.message.as_str(), None),
    };
    let fault = trial.fault.map_or_else(|| "not known".into(), |fault| fault.to_string());
    let attempts = if trial.attempts > 1 { format!(", {} attempts", trial.attempts) } else { String::new() };
    FailureView {
        name: printable(&trial.name),
        blame: format!("fault: {fault}, after {}{attempts}", millis(trial.millis)),
        message: printable(message),
        again,
    }
}

fn tier(tier: &TierResult) -> TierView {
    let failed = tier.count(Outcome::Failed) > 0 || tier.operation.as_ref().is_some_and(|it| it.failure.is_some());
    let counts = [(Outcome::Passed, "passed"), (Outcome::Failed, "failed"), (Outcome::Ignored, "ignored")];
    let counts = counts.map(|(outcome, word)| (tier.count(outcome), word));
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let (state, result) = match &tier.skip {
        Some(skip) => ("ignored", format!("skipped, {}", printable(&skip.to_string()))),
        None if failed => ("failed", counts.join(", ")),
        None if counts.is_empty() => ("not_run", "not run".into()),
        None if tier.count(Outcome::Ignored) > 0 => ("ignored", counts.join(", ")),
        None => ("passed", counts.join(", ")),
    };
    TierView {
        name: tier.tier.name(),
        state,
        result,
        operation: tier.operation.as_ref().map(|it| printable(&it.what)).unwrap_or_default(),
        time: tier.operation.as_ref().map(|it| millis(it.millis)).unwrap_or_default(),
        open: failed,
        trials: tier.trials.iter().map(trial).collect(),
    }
}

fn trial(trial: &TrialResult) -> TrialView {
    let (state, words) = class(trial.outcome);
    TrialView {
        name: printable(&trial.name),
        state,
        words,
        message: printable(trial.message.lines().next().unwrap_or_default()),
        time: if trial.started.is_some() { millis(trial.millis) } else { String::new() },
    }
}

/// Operations, hooks, assertions and teardown in the order in which they began.
fn bars(results: &Results) -> Vec<Bar> {
    let mut bars: Vec<(&str, Bar)> = Vec::new();
    let whole = results.millis.max(1) as f64;
    let mut add = |started, millis_, name: &str, operation, state| {
        let share = |part: u64| format!("{:.2}", (part as f64 * 100.0 / whole).min(100.0));
        let left = between(&results.started, started);
        let bar = Bar {
            name: printable(name),
            operation,
            state,
            left: share(left),
            width: share(millis_),
            time: millis(millis_),
        };
        bars.push((started, bar));
    };
    for tier in &results.tiers {
        for hook in &tier.hooks {
            add(
                &hook.started,
                hook.millis,
                &hook.name,
                false,
                if hook.failure.is_some() { "failed" } else { "passed" },
            );
        }
        if let Some(operation) = &tier.operation {
            let state = if operation.failure.is_some() { "failed" } else { "passed" };
            add(&operation.started, operation.millis, tier.tier.name(), true, state);
        }
        let assertions = tier.trials.iter().filter(|trial| trial.kind != TrialKind::Operation);
        for trial in assertions.filter(|trial| trial.outcome != Outcome::Ignored) {
            if let Some(started) = &trial.started {
                add(started, trial.millis, &trial.name, false, class(trial.outcome).0);
            }
        }
    }
    if let Some(teardown) = &results.teardown {
        let state = if teardown.leftovers.is_empty() { "passed" } else { "failed" };
        add(&teardown.started, teardown.millis, "teardown", true, state);
    }
    bars.sort_by_key(|(started, bar)| (*started, !bar.operation));
    bars.into_iter().map(|(_, bar)| bar).collect()
}

fn change(change: &Change) -> ChangeView {
    let kind = match change.kind {
        ChangeKind::Image => "image",
        ChangeKind::Env => "env",
        ChangeKind::Compose => "compose",
    };
    ChangeView {
        kind,
        place: printable(&change.place),
        before: change.before.as_deref().map(printable),
        after: change.after.as_deref().map(printable),
    }
}

fn log(service: &str, text: &str) -> LogView {
    let from = text.len().saturating_sub(LOG_END);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let cut = if from > 0 { ", only the end is shown" } else { "" };
    LogView {
        service: printable(service),
        lines: format!("{} lines{cut}", text.lines().count()),
        text: printable(&text[from..]),
    }
}

fn facts(results: &Results) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &str| facts.push((printable(name), printable(value)));
    add("source", &results.source);
    add("commit", &format!("{}{}", results.commit, if results.dirty { ", with uncommitted changes" } else { "" }));
    add("engine", &results.engine_why);
    results.stand_ins.iter().for_each(|line| add("stand-in", line));
    results.images.iter().for_each(|(image, digest)| add(&format!("image {image}"), digest));
    add("domain", &results.domain);
    match results.deploys {
        0 => add("deploy-count", "0, nothing was deployed"),
        count => add("deploy-count", &format!("{count} (expect 1)")),
    }
    match &results.teardown {
        Some(teardown) if teardown.leftovers.is_empty() => {
            add("teardown", &format!("nothing is left, {}; {}", millis(teardown.millis), teardown.reason));
        }
        Some(teardown) => add("teardown", &format!("something is left; {}", teardown.reason)),
        None if results.deploys == 0 => add("teardown", "there was nothing to tear down"),
        None => add("teardown", "the app was not torn down"),
    }
    for rule in results.lint.iter().flat_map(|lint| &lint.rules) {
        add(&format!("lint {}", rule.reference), &format!("{:?}: {}", rule.kept, rule.rule));
    }
    results.notes.iter().for_each(|note| add("note", note));
    add("run", &results.run_id);
    add("harness", &results.harness);
    add("repeat", &format!("{} {}", crate::program::test(), results.arguments));
    facts
}

fn class(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Passed => ("passed", "passed"),
        Outcome::Failed => ("failed", "failed"),
        Outcome::Ignored => ("ignored", "ignored"),
        Outcome::NotRun => ("not_run", "not run"),
    }
}

fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Error => "error",
        Verdict::BrokenOff => "broken_off",
        Verdict::NothingProven => "nothing_proven",
        Verdict::TooLittle => "nothing_proven",
    }
}

fn millis(millis: u64) -> String {
    seconds(Duration::from_millis(millis))
}
