//! The end of a run in a few lines: tier by tier, with what was ignored and why, how often the app was deployed, where the logs are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::seconds;
use crate::engine::abra::lint::Kept;
use crate::keeper::journal::{self, Event, Outcome, Record, Trial};
use crate::runner::RecipeRun;
use crate::tier::Tier;

/// The summary, for standard error.
pub fn text(run: &RecipeRun) -> String {
    let plan = &run.prepared.spec.plan;
    let finished = run.finished();
    let records = journal::read(&run.prepared.run_dir.join(journal::FILE)).unwrap_or_default();
    let mut text = format!("{}  {}\n", plan.recipe, plan.versions());
    for tier in plan.steps.iter().map(|step| step.tier) {
        text.push_str(&format!("  {:<9}{}\n", tier.name(), tier_line(run, tier, &finished, &records)));
    }
    if run.session.has_begun() {
        text.push_str(&format!(
            "  teardown {}; {}\n",
            teardown_line(&records),
            deployed(journal::deploy_count(&records))
        ));
    }
    for line in lint_lines(&records) {
        text.push_str(&format!("  lint     {line}\n"));
    }
    // A run that never began has left nothing to read.
    if run.prepared.run_dir.is_dir() {
        text.push_str(&format!("  logs     {}\n", run.prepared.run_dir.display()));
    }
    text
}

fn tier_line(run: &RecipeRun, tier: Tier, finished: &[Trial], records: &[Record]) -> String {
    if let Some(skip) = run.prepared.spec.plan.skip(tier) {
        return skip.said();
    }
    let of_tier = || finished.iter().filter(move |it| it.tier == Some(tier));
    let count = |outcome| of_tier().filter(|it| it.outcome == outcome).count();
    let (passed, failed, ignored) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Ignored));
    let mut parts = Vec::new();
    for (count, word) in [(passed, "passed"), (failed, "FAILED"), (ignored, "ignored")] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    if let (Some(last), false) = (parts.last_mut(), ignored == 0) {
        last.push_str(&because(of_tier().filter(|it| it.outcome == Outcome::Ignored)));
    }
    if parts.is_empty() {
        parts.push("no trial selected".into());
    }
    if let Some((took, earlier)) = operation_time(tier, records) {
        let earlier = if earlier { ", by the run that was reused" } else { "" };
        parts.push(format!("operation {}{earlier}", seconds(took)));
    }
    parts.join(", ")
}

/// How long an operation took, and whether it was before this process went on with the app.
fn operation_time(tier: Tier, records: &[Record]) -> Option<(Duration, bool)> {
    let resumed = records.iter().rposition(|record| matches!(record.event, Event::Resumed(_)));
    records.iter().enumerate().find_map(|(at, record)| match &record.event {
        Event::OperationFinished { tier: of, millis, .. } if *of == tier => {
            Some((Duration::from_millis(*millis), resumed.is_some_and(|resumed| at < resumed)))
        }
        _ => None,
    })
}

/// One app, deployed once: more is a bug of the harness, and none is what an image may come to that cannot be had.
fn deployed(count: usize) -> String {
    match count {
        0 => "nothing was deployed".into(),
        1 => "deployed once".into(),
        _ => format!("deploy-count = {count} (expect 1)"),
    }
}

/// Why trials were ignored, each reason once and the most frequent first.
fn because<'a>(ignored: impl Iterator<Item = &'a Trial>) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for trial in ignored {
        *reasons.entry(trial.message.lines().next().unwrap_or_default()).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let number = |count: usize| if reasons.len() > 1 { format!("{count} ") } else { String::new() };
    let told: Vec<String> = reasons.iter().map(|(reason, count)| format!("{}{reason}", number(*count))).collect();
    format!(" ({})", told.join("; "))
}

fn teardown_line(records: &[Record]) -> String {
    let finished = records.iter().rev().find_map(|record| match &record.event {
        Event::TeardownFinished { millis, leftovers } => Some((Duration::from_millis(*millis), leftovers)),
        _ => None,
    });
    match finished {
        Some((took, leftovers)) if leftovers.is_empty() => format!("nothing is left, {}", seconds(took)),
        Some((_, leftovers)) => format!("LEFT: {}", leftovers.join(", ")),
        None => "not torn down: the app is still up".into(),
    }
}

/// What abra's lint says: a count, and a line for each rule that the recipe breaks. It has no weight for the verdict.
fn lint_lines(records: &[Record]) -> Vec<String> {
    let linted = records.iter().rev().find_map(|record| match &record.event {
        Event::Linted { rules, failure } => Some((rules, failure)),
        _ => None,
    });
    let Some((rules, failure)) = linted else { return Vec::new() };
    if let Some(failure) = failure {
        return vec![format!("not known: {failure}")];
    }
    let count = |kept| rules.iter().filter(|rule| rule.kept == kept).count();
    let counts = format!("{} of {} rules kept, {} skipped", count(Kept::Yes), rules.len(), count(Kept::Skipped));
    let broken = rules.iter().filter(|rule| rule.kept == Kept::No);
    let broken = broken.map(|it| format!("{} {}: {} ({})", it.reference, it.severity, it.rule, it.remedy));
    [counts].into_iter().chain(broken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_however_many_trials_have_it() {
        let trial = |message: &str| Trial {
            name: "x".into(),
            tier: Some(Tier::Restore),
            outcome: Outcome::Ignored,
            millis: 0,
            message: message.into(),
            fault: None,
        };
        let failed = || (0..5).map(|_| trial("because tier::restore failed\nmore")).collect::<Vec<_>>();
        assert_eq!(because(failed().iter()), " (because tier::restore failed)");
        let two = [vec![trial("no volume")], failed()].concat();
        assert_eq!(because(two.iter()), " (5 because tier::restore failed; 1 no volume)");
        assert_eq!((deployed(1), deployed(2)), ("deployed once".into(), "deploy-count = 2 (expect 1)".into()));
        assert_eq!(deployed(0), "nothing was deployed");
    }
}
