//! The end of a run in a few lines: tier by tier, what was skipped and why, the deploy count, where the logs are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{counted, seconds};
use crate::engine::abra::lint::Kept;
use crate::keeper::journal::{self, Event, Outcome, Record, Trial};
use crate::plan::SkipKind;
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
        text.push_str(&format!("  teardown {}\n", teardown_line(&records)));
        let deploys = journal::deploy_count(&records);
        text.push_str(&format!("  deploy-count = {deploys} (expect 1)\n"));
    }
    text.push_str(&format!("  skips    {}\n", skips(run, &finished)));
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
        return format!("skipped, {skip}");
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

/// Skips by reason. A tier that is skipped counts once, not once per assertion.
fn skips(run: &RecipeRun, finished: &[Trial]) -> String {
    let plan = &run.prepared.spec.plan;
    let of_kind =
        |kind| plan.steps.iter().filter(move |step| plan.skip(step.tier).is_some_and(|it| it.kind == kind)).count();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for trial in finished.iter().filter(|it| it.outcome == Outcome::Ignored) {
        if trial.tier.is_some_and(|tier| plan.skip(tier).is_none()) {
            *reasons.entry(trial.message.lines().next().unwrap_or_default()).or_default() += 1;
        }
    }
    let tiers = format!("{} intended, {} unverified", of_kind(SkipKind::Intended), of_kind(SkipKind::Unverified));
    let trials: String =
        reasons.iter().map(|(reason, count)| format!("; {}: {reason}", counted(*count, "trial"))).collect();
    format!("{tiers}{trials}")
}
