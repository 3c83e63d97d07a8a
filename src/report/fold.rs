//! From a run's journal to its results: one pass over the records, and nothing but the records.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counted;
use super::results::{
    Counts, Hook, Lint, Operation, Outcome, Results, SCHEMA, Teardown, TierResult, TrialResult, Verdict,
};
use super::{level, wanted};
use crate::fault::{Failure, Fault};
use crate::keeper::facts::{Facts, TrialFact, TrialKind};
use crate::keeper::journal::{self, Event, Record, Trial};
use crate::keeper::photo::Picture;
use crate::keeper::usage::TierUsage;
use crate::plan::{Action, SkipKind, Step};
use crate::tier::Tier;

/// How the note begins that tells of operations which another process has asked for.
pub const REUSED: &str = "the app was reused";

/// How the reason of a run begins that was never begun.
pub const COULD_NOT_BEGIN: &str = "the run could not begin";

/// The results of a run; `None` of a journal that ends before the run was even described.
pub fn fold(records: &[Record]) -> Option<Results> {
    let facts = records.iter().find_map(|record| match &record.event {
        Event::Planned(facts) => Some(&**facts),
        _ => None,
    })?;
    let (at, facts) = invocation(records, facts);
    let facts = &facts;
    let started = records[at].at.clone();
    let tiers: Vec<TierResult> = facts.steps.iter().map(|step| tier(step, facts, records, &records[at..])).collect();
    let lint = lint(records);
    let mut results = Results {
        schema: SCHEMA,
        harness: facts.harness.clone(),
        run_id: facts.run_id.clone(),
        recipe: facts.recipe.clone(),
        source: facts.source.clone(),
        base: facts.base.clone(),
        head: facts.head.clone(),
        commit: facts.commit.clone(),
        dirty: facts.dirty,
        judged_by: facts.judged_by.clone(),
        domain: facts.domain.clone(),
        engine: facts.engine.clone(),
        engine_why: facts.engine_why.clone(),
        stand_ins: facts.stand_ins.clone(),
        millis: between(&started, &records.last()?.at),
        started,
        verdict: Verdict::Passed,
        reason: String::new(),
        level: level::of(&tiers, lint.as_ref()),
        counts: counts(&tiers),
        downtime: records.iter().find_map(|record| match &record.event {
            Event::Probed(downtime) => Some(downtime.clone()),
            _ => None,
        }),
        lint,
        teardown: teardown(records),
        deploys: journal::deploy_count(records),
        images: images(records),
        changes: facts.changes.clone(),
        notes: notes(facts, records),
        arguments: facts.arguments.clone(),
        tiers,
    };
    (results.verdict, results.reason) = verdict(&results);
    if results.verdict == Verdict::Passed {
        let missing = wanted::missing(&results, facts.wants);
        if !missing.is_empty() {
            (results.verdict, results.reason) = (Verdict::TooLittle, missing.join("; "));
        }
    }
    if let Some(failure) = could_not_begin(records) {
        let blames = matches!(failure.fault, Fault::Recipe | Fault::Assertion);
        results.verdict = if blames { Verdict::Failed } else { Verdict::Error };
        results.reason = format!("{COULD_NOT_BEGIN}: {}", failure.message.lines().next().unwrap_or_default());
    }
    if results.verdict == Verdict::Passed && results.teardown.is_none() && journal::torn_down_because(records).is_some()
    {
        // As when both processes die in the middle of it, and nobody has swept yet.
        let unproven = "teardown began, and nobody recorded its end: `harness sweep` looks for what is left";
        (results.verdict, results.reason) = (Verdict::Error, unproven.into());
    }
    Some(results)
}

/// Why nothing was ever begun, if so.
fn could_not_begin(records: &[Record]) -> Option<&Failure> {
    records.iter().find_map(|record| match &record.event {
        Event::CouldNotBegin { failure } => Some(failure),
        _ => None,
    })
}

/// Where the last process begins that used the app, and the facts as it has them. Operations are those of the whole run,
/// because each happens once; what ended and what was asked for are that process's own.
fn invocation(records: &[Record], facts: &Facts) -> (usize, Facts) {
    let mut facts = facts.clone();
    let resumed = |(at, record): (usize, &Record)| match &record.event {
        Event::Resumed(invocation) => Some((at, invocation.clone())),
        _ => None,
    };
    let Some((at, invocation)) = records.iter().enumerate().rev().find_map(resumed) else { return (0, facts) };
    let deployed = records.iter().find(|record| matches!(record.event, Event::Deploying { in_place: false, .. }));
    if let Some(deployed) = deployed {
        facts.notes.push(format!("{REUSED}: an earlier run deployed it at {}", deployed.at));
    }
    facts.arguments = invocation.arguments;
    facts.trials = invocation.trials;
    facts.selected = Some(invocation.selected);
    facts.judged_by = invocation.judged_by;
    facts.wants = invocation.wants;
    (at, facts)
}

/// `own` are the records of the last process that used the app.
fn tier(step: &Step, facts: &Facts, records: &[Record], own: &[Record]) -> TierResult {
    let skip = match &step.action {
        Action::Skip(skip) => Some(skip.clone()),
        _ => None,
    };
    let of_tier = facts.trials.iter().filter(|fact| fact.tier == Some(step.tier));
    let operation = operation(step.tier, records);
    let mut trials: Vec<TrialResult> = of_tier.map(|fact| trial(fact, facts, own)).collect();
    if let Some(operation) = &operation {
        // Its trial has waited for its turn and for hooks, which is no time of the operation.
        let its_own = |trial: &&mut TrialResult| trial.kind == TrialKind::Operation && trial.started.is_some();
        trials.iter_mut().filter(its_own).for_each(|trial| {
            (trial.started, trial.millis) = (Some(operation.started.clone()), operation.millis);
        });
    }
    TierResult {
        tier: step.tier,
        skip,
        generic_opted_out: facts.skip_generic.contains(&step.tier),
        operation,
        hooks: hooks(step.tier, records),
        usage: usage(step.tier, records),
        picture: picture(step.tier, records),
        trials,
    }
}

fn operation(tier: Tier, records: &[Record]) -> Option<Operation> {
    let (started, what) = records.iter().find_map(|record| match &record.event {
        Event::OperationStarted { tier: of, what } if *of == tier => Some((record.at.clone(), what.clone())),
        _ => None,
    })?;
    let ended = records.iter().find_map(|record| match &record.event {
        Event::OperationFinished { tier: of, millis, failure } if *of == tier => Some((*millis, failure.clone())),
        _ => None,
    });
    let so_far = || records.last().map_or(0, |last| between(&started, &last.at));
    Some(match ended {
        Some((millis, failure)) => Operation { what, started, millis, ended: true, failure },
        None => Operation { what, millis: so_far(), started, ended: false, failure: None },
    })
}

fn hooks(tier: Tier, records: &[Record]) -> Vec<Hook> {
    let hook = |record: &Record| match &record.event {
        Event::HookFinished { tier: of, name, millis, failure } if *of == tier => Some(Hook {
            name: name.clone(),
            started: before(&record.at, *millis),
            millis: *millis,
            failure: failure.clone(),
        }),
        _ => None,
    };
    records.iter().filter_map(hook).collect()
}

fn usage(tier: Tier, records: &[Record]) -> Option<TierUsage> {
    records.iter().find_map(|record| match &record.event {
        Event::Measured(usage) if usage.tier == tier => Some((**usage).clone()),
        _ => None,
    })
}

fn picture(tier: Tier, records: &[Record]) -> Option<Picture> {
    records.iter().find_map(|record| match &record.event {
        Event::Photographed { tier: of, picture } if *of == tier => Some(picture.clone()),
        _ => None,
    })
}

/// A trial that was repeated counts as it ended last. What ends after teardown has begun is broken off by it, and says
/// nothing about the recipe.
fn trial(fact: &TrialFact, facts: &Facts, records: &[Record]) -> TrialResult {
    let live = records.iter().take_while(|record| !matches!(record.event, Event::TeardownStarted { .. }));
    let ends: Vec<(&str, &Trial)> = live.filter_map(|record| ended(record, &fact.name)).collect();
    let selected = facts.selected.as_ref().map(|selected| selected.contains(&fact.name));
    let (name, kind, attempts) = (fact.name.clone(), fact.kind, ends.len() as u32);
    match ends.last() {
        None => TrialResult {
            name,
            kind,
            outcome: Outcome::NotRun,
            selected,
            started: None,
            millis: 0,
            attempts,
            fault: None,
            message: String::new(),
        },
        Some((at, end)) => TrialResult {
            name,
            kind,
            outcome: outcome(end.outcome),
            selected,
            started: Some(before(at, end.millis)),
            millis: end.millis,
            attempts,
            fault: end.fault,
            message: end.message.clone(),
        },
    }
}

fn ended<'a>(record: &'a Record, name: &str) -> Option<(&'a str, &'a Trial)> {
    match &record.event {
        Event::TrialFinished(trial) if trial.name == name => Some((&record.at, trial)),
        _ => None,
    }
}

fn outcome(outcome: journal::Outcome) -> Outcome {
    match outcome {
        journal::Outcome::Passed => Outcome::Passed,
        journal::Outcome::Failed => Outcome::Failed,
        journal::Outcome::Ignored => Outcome::Ignored,
    }
}

fn counts(tiers: &[TierResult]) -> Counts {
    let count = |outcome| tiers.iter().map(|tier| tier.count(outcome)).sum();
    let skips = |kind| tiers.iter().filter(|tier| tier.skip.as_ref().is_some_and(|skip| skip.kind == kind)).count();
    Counts {
        passed: count(Outcome::Passed),
        failed: count(Outcome::Failed),
        ignored: count(Outcome::Ignored),
        not_run: count(Outcome::NotRun),
        intended_skips: skips(SkipKind::Intended),
        unverified_skips: skips(SkipKind::Unverified),
    }
}

fn lint(records: &[Record]) -> Option<Lint> {
    records.iter().rev().find_map(|record| match &record.event {
        Event::Linted { rules, failure } => Some(Lint { rules: rules.clone(), failure: failure.clone() }),
        _ => None,
    })
}

/// The last teardown is the one that counts: a sweep comes after a keeper that died in the middle of its own.
fn teardown(records: &[Record]) -> Option<Teardown> {
    let (at, millis, leftovers) = records.iter().rev().find_map(|record| match &record.event {
        Event::TeardownFinished { millis, leftovers } => Some((&record.at, *millis, leftovers.clone())),
        _ => None,
    })?;
    let reason = journal::torn_down_because(records).unwrap_or("its keeper died, and it was swept afterwards").into();
    Some(Teardown { reason, started: before(at, millis), millis, leftovers })
}

fn images(records: &[Record]) -> BTreeMap<String, String> {
    let digests = records.iter().filter_map(|record| match &record.event {
        Event::Images { digests } => Some(digests.clone()),
        _ => None,
    });
    digests.flatten().collect()
}

fn notes(facts: &Facts, records: &[Record]) -> Vec<String> {
    let said = records.iter().filter_map(|record| match &record.event {
        Event::Note { text } => Some(text.clone()),
        _ => None,
    });
    facts.notes.iter().cloned().chain(said).collect()
}

/// The worst that can be said, and why. A failure of the recipe is one, whatever else went wrong.
fn verdict(results: &Results) -> (Verdict, String) {
    let blames = |fault: Option<Fault>| matches!(fault, None | Some(Fault::Recipe | Fault::Assertion));
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let operations = results.tiers.iter().filter_map(|tier| {
        let failure = tier.operation.as_ref()?.failure.as_ref()?;
        Some((Some(failure.fault), format!("{}: {}", tier.tier, first_line(&failure.message))))
    });
    let trials =
        results.failures().map(|(_, trial)| (trial.fault, format!("{}: {}", trial.name, first_line(&trial.message))));
    let failures: Vec<(Option<Fault>, String)> = operations.chain(trials).collect();
    if let Some((_, reason)) = failures.iter().find(|(fault, _)| blames(*fault)) {
        return (Verdict::Failed, reason.clone());
    }
    if let Some((_, reason)) = failures.into_iter().next() {
        return (Verdict::Error, reason);
    }
    if let Some(teardown) = results.teardown.as_ref().filter(|teardown| !teardown.leftovers.is_empty()) {
        return (
            Verdict::Error,
            format!("teardown left something behind: {}", first_line(&teardown.leftovers.join(", "))),
        );
    }
    if results.deploys > 1 {
        return (Verdict::Error, format!("deploy-count = {} (expect 1)", results.deploys));
    }
    let missed = results.trials().filter(|(_, it)| it.outcome == Outcome::NotRun && it.selected == Some(true)).count();
    if missed > 0 {
        let why = results.teardown.as_ref().map_or("nobody said why", |teardown| &teardown.reason);
        let (trials, were) = (counted(missed, "trial"), if missed == 1 { "was" } else { "were" });
        return (Verdict::BrokenOff, format!("{trials} {were} asked for and did not run: {why}"));
    }
    if results.counts.passed == 0 {
        return (Verdict::NothingProven, "no trial has passed".into());
    }
    (Verdict::Passed, String::new())
}

/// Milliseconds between two times of the journal.
pub fn between(from: &str, to: &str) -> u64 {
    match (humantime::parse_rfc3339(from), humantime::parse_rfc3339(to)) {
        (Ok(from), Ok(to)) => to.duration_since(from).unwrap_or_default().as_millis() as u64,
        _ => 0,
    }
}

/// The time so many milliseconds before another.
fn before(at: &str, millis: u64) -> String {
    // A journal from elsewhere may hold any number, and no text is made of a time before 1970.
    let earlier = |at: SystemTime| at.checked_sub(Duration::from_millis(millis)).filter(|at| *at >= UNIX_EPOCH);
    match humantime::parse_rfc3339(at).ok().and_then(earlier) {
        Some(at) => humantime::format_rfc3339_millis(at).to_string(),
        None => at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn green() -> Vec<Record> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/runs/green/events.jsonl");
        journal::read(dir.as_ref()).unwrap()
    }

    #[test]
    fn a_length_of_time_beyond_all_measure_leaves_the_time_as_it_is() {
        let at = "2026-11-24T02:21:08.673Z";
        assert_eq!(before(at, 673), "2026-11-24T02:21:08.000Z");
        assert_eq!(before(at, u64::MAX), at);
        assert_eq!(before(at, 9_000_000_000_000), at);
    }

    #[test]
    fn a_teardown_without_an_end_is_no_pass() {
        let mut records = green();
        assert_eq!(fold(&records).unwrap().verdict, Verdict::Passed);
        records.retain(|record| !matches!(record.event, Event::TeardownFinished { .. }));
        let results = fold(&records).unwrap();
        assert_eq!(results.verdict, Verdict::Error);
        assert_eq!(
            results.reason,
            "teardown began, and nobody recorded its end: `harness sweep` looks for what is left"
        );
    }

    /// The journal of a run during which the clock jumped by this much at every record, one at a time.
    fn with_jump(days: i64, at: usize) -> Vec<Record> {
        let day = Duration::from_secs(24 * 3600) * days.unsigned_abs() as u32;
        let jump = |time: SystemTime| if days < 0 { time - day } else { time + day };
        let mut records = green();
        for record in records.iter_mut().skip(at) {
            let time = humantime::parse_rfc3339(&record.at).unwrap();
            record.at = humantime::format_rfc3339_millis(jump(time)).to_string();
        }
        records
    }

    #[test]
    fn a_clock_that_jumps_changes_no_verdict_and_no_time_that_an_operation_took() {
        let right = fold(&green()).unwrap();
        let essence = |results: &Results| {
            let operations = results.tiers.iter().filter_map(|tier| Some(tier.operation.as_ref()?.millis));
            let trials = results.trials().map(|(_, trial)| (trial.name.clone(), trial.outcome, trial.millis));
            (
                (results.verdict, results.level.reached, results.deploys),
                (operations.collect::<Vec<_>>(), trials.collect::<Vec<_>>()),
                results.teardown.as_ref().map(|teardown| (teardown.millis, teardown.leftovers.clone())),
            )
        };
        for at in 0..green().len() {
            for days in [-1, 1] {
                let jumped = fold(&with_jump(days, at)).unwrap();
                assert_eq!(essence(&jumped), essence(&right), "a jump of {days} days at record {at}");
            }
        }
    }

    #[test]
    fn a_run_that_ends_before_it_began_took_no_time() {
        assert_eq!(fold(&with_jump(-1, 5)).unwrap().millis, 0);
        assert_eq!(between("2026-11-25T10:00:01Z", "2026-11-25T10:00:00Z"), 0);
        assert_eq!(between("2026-11-25T10:00:00Z", "2026-11-25T10:00:01Z"), 1000);
    }
}
