//! What a run has not proven although somebody insists on it.

use std::collections::BTreeMap;

use super::results::{Outcome, Results, TierResult};
use crate::config::wants::Wants;
use crate::keeper::facts::TrialKind;
use crate::plan::SkipKind;

/// A sentence for everything that is missing. Only what was asked for counts: a tier of which a filter has left no trial
/// is nobody's.
pub fn missing(results: &Results, wants: Wants) -> Vec<String> {
    let asked_for = || results.tiers.iter().filter(|tier| tier.trials.iter().any(|it| it.selected != Some(false)));
    let mut missing = Vec::new();
    if wants.strict {
        missing.extend(unverified(asked_for()));
        missing.extend(asked_for().filter(|tier| tier.skip.is_none()).flat_map(without_effect));
    }
    if results.level.reached < wants.min_level {
        let raise = results.level.raise.as_deref().unwrap_or("nothing is known to raise it");
        missing.push(format!(
            "`--min-level {}` asks for more than level {}: {raise}",
            wants.min_level, results.level.reached
        ));
    }
    missing
}

/// Tiers with the same reason are told together.
fn unverified<'a>(tiers: impl Iterator<Item = &'a TierResult>) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tier in tiers {
        if let Some(skip) = tier.skip.as_ref().filter(|skip| skip.kind == SkipKind::Unverified) {
            by_reason.entry(&skip.reason).or_default().push(format!("`{}`", tier.tier));
        }
    }
    let sentence = |(reason, tiers): (&str, Vec<String>)| {
        format!("{} {} not proven: {reason}", tiers.join(" and "), if tiers.len() > 1 { "are" } else { "is" })
    };
    by_reason.into_iter().map(sentence).collect()
}

/// The recipe's own trials that came to nothing. A generic one that finds nothing to look at is the recipe's nature, and
/// stops the level alone.
fn without_effect(tier: &TierResult) -> Vec<String> {
    let ignored = tier.trials.iter().filter(|it| it.kind == TrialKind::Overlay && it.outcome == Outcome::Ignored);
    ignored
        .map(|it| format!("`{}` has no effect: {}", it.name, it.message.lines().next().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::journal::{self, Event};
    use crate::report::fold::fold;
    use crate::report::results::Verdict;

    fn judged(run: &str, wants: Wants) -> Results {
        let path = crate::program::root().join(format!("tests/data/runs/{run}/events.jsonl"));
        let mut records = journal::read(&path).unwrap();
        for record in &mut records {
            if let Event::Planned(facts) = &mut record.event {
                facts.wants = wants;
            }
        }
        fold(&records).unwrap()
    }

    #[test]
    fn an_unverified_tier_is_too_little_for_whoever_is_strict() {
        let strict = Wants { strict: true, ..Wants::default() };
        assert_eq!(judged("green", strict).verdict, Verdict::Passed);
        assert_eq!(judged("unverified", Wants::default()).verdict, Verdict::Passed);
        let results = judged("unverified", strict);
        assert_eq!(results.verdict, Verdict::TooLittle);
        assert!(results.reason.contains(" not proven: "), "{}", results.reason);
    }

    #[test]
    fn a_level_that_is_asked_for_has_to_be_reached() {
        let at_least = |min_level| judged("green", Wants { min_level, ..Wants::default() });
        let reached = at_least(0).level.reached;
        assert_eq!(at_least(reached).verdict, Verdict::Passed);
        let results = at_least(reached + 1);
        assert_eq!(results.verdict, Verdict::TooLittle);
        let start =
            format!("`--min-level {}` asks for more than level {reached}: level {}, ", reached + 1, reached + 1);
        assert!(results.reason.starts_with(&start), "{}", results.reason);
    }
}
