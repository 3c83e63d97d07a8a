//! How far a run has proven its recipe, in one number from 0 to 5.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::results::{Lint, Outcome, TierResult};
use crate::engine::abra::lint::Kept;
use crate::keeper::facts::TrialKind;
use crate::plan::SkipKind;
use crate::tier::Tier;

/// A level, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// 0 to 5: the highest rung up to which nothing failed and nothing is unverified.
    pub reached: u8,
    /// What the level says, such as `upgrades`.
    pub meaning: String,
    /// What would raise it; null at the top.
    pub raise: Option<String>,
    pub rungs: Vec<Rung>,
}

/// One step of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// 1 to 5.
    pub level: u8,
    pub meaning: String,
    pub state: State,
    /// Why it is not proven; empty when it is.
    pub because: String,
}

/// Whether a rung holds. Only `proven` and `declared` let the level climb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Proven,
    /// `recipe.toml` says, with a reason, that it cannot be proven for this recipe.
    Declared,
    Unverified,
    Failed,
}

/// Why the fourth rung is not proven where nobody has written anything about the recipe.
pub const NO_OVERLAY: &str = "the recipe has no assertions of its own in `overlays/`";

const INSTALL_FAILED: &str = "not shown to install";

/// The level of a run by its tiers.
pub fn of(tiers: &[TierResult], lint: Option<&Lint>) -> Level {
    let rungs = vec![
        rung(1, "installs", generic(tiers, &[Tier::Install])),
        rung(2, "upgrades", generic(tiers, &[Tier::Upgrade])),
        rung(3, "backs up and restores", generic(tiers, &[Tier::Backup, Tier::Restore])),
        rung(4, "passes its own assertions", own(tiers)),
        rung(5, "is lint clean", linted(lint)),
    ];
    let holds = |rung: &&Rung| matches!(rung.state, State::Proven | State::Declared);
    let reached = rungs.iter().take_while(holds).count();
    let meaning = reached.checked_sub(1).map_or(INSTALL_FAILED.to_owned(), |at| rungs[at].meaning.clone());
    let raise = rungs.get(reached).map(|next| format!("level {}, {}: {}", next.level, next.meaning, next.because));
    Level { reached: reached as u8, meaning, raise, rungs }
}

fn rung(level: u8, meaning: &str, (state, because): (State, String)) -> Rung {
    Rung { level, meaning: meaning.into(), state, because }
}

/// A rung that rests on operations and the generic assertions after them.
fn generic(tiers: &[TierResult], wanted: &[Tier]) -> (State, String) {
    let states = wanted.iter().map(|wanted| match tiers.iter().find(|tier| tier.tier == *wanted) {
        Some(tier) => generic_of(tier),
        None => (State::Unverified, format!("the tier `{wanted}` was not part of the run")),
    });
    worst(states)
}

fn generic_of(tier: &TierResult) -> (State, String) {
    if let Some(skipped) = skipped(tier) {
        return skipped;
    }
    match &tier.operation {
        Some(operation) if operation.failure.is_some() => return (State::Failed, format!("`{}` failed", tier.tier)),
        Some(operation) if operation.ended => {}
        _ => return (State::Unverified, format!("`{}` was not done", tier.tier)),
    }
    assertions([tier], |kind| kind == TrialKind::Generic)
}

/// The recipe's own assertions of every tier, and what the tier `custom` asks of the whole run.
fn own(tiers: &[TierResult]) -> (State, String) {
    let Some(custom) = tiers.iter().find(|tier| tier.tier == Tier::Custom) else {
        return (State::Unverified, "the tier `custom` was not part of the run".into());
    };
    let whole = match skipped(custom) {
        Some(skipped) => skipped,
        None => assertions([custom], |kind| kind == TrialKind::Generic),
    };
    let has_overlays = tiers.iter().flat_map(|tier| &tier.trials).any(|trial| trial.kind == TrialKind::Overlay);
    let overlays = match has_overlays {
        true => assertions(tiers, |kind| kind == TrialKind::Overlay),
        false => (State::Unverified, NO_OVERLAY.into()),
    };
    worst([whole, overlays])
}

/// A rule that abra skips does not apply; one that it only warns of is broken all the same.
fn linted(lint: Option<&Lint>) -> (State, String) {
    let Some(lint) = lint else { return (State::Unverified, "`abra recipe lint` has not run".into()) };
    if let Some(failure) = &lint.failure {
        return (State::Unverified, format!("`abra recipe lint` could not be asked: {failure}"));
    }
    match lint.rules.iter().find(|rule| rule.kept == Kept::No) {
        Some(broken) => (State::Failed, format!("rule {} is broken: {}", broken.reference, broken.rule)),
        None if lint.rules.is_empty() => (State::Unverified, "`abra recipe lint` named no rule".into()),
        None => (State::Proven, String::new()),
    }
}

/// Why a tier's generic assertions are left out, if they are.
fn skipped(tier: &TierResult) -> Option<(State, String)> {
    if let Some(skip) = &tier.skip {
        let state = if skip.kind == SkipKind::Intended { State::Declared } else { State::Unverified };
        return Some((state, format!("`{}` is skipped, {skip}", tier.tier)));
    }
    let opted_out = || format!("the generic assertions of `{}` are opted out of", tier.tier);
    tier.generic_opted_out.then(|| (State::Unverified, opted_out()))
}

/// Whether all assertions of a kind have passed; those of a skipped tier are not asked for.
fn assertions<'a>(tiers: impl IntoIterator<Item = &'a TierResult>, of: impl Fn(TrialKind) -> bool) -> (State, String) {
    let tiers = tiers.into_iter().filter(|tier| tier.skip.is_none());
    let trials: Vec<_> = tiers.flat_map(|tier| &tier.trials).filter(|trial| of(trial.kind)).collect();
    if let Some(failed) = trials.iter().find(|trial| trial.outcome == Outcome::Failed) {
        return (State::Failed, format!("`{}` failed", failed.name));
    }
    if let Some(ignored) = trials.iter().find(|trial| trial.outcome == Outcome::Ignored) {
        let reason = ignored.message.lines().next().unwrap_or_default();
        return (State::Unverified, format!("`{}` could not be proven: {reason}", ignored.name));
    }
    if trials.is_empty() {
        return (State::Unverified, "there is no assertion about it".into());
    }
    let missing = trials.iter().filter(|trial| trial.outcome == Outcome::NotRun).count();
    match missing {
        0 => (State::Proven, String::new()),
        1 => (State::Unverified, "1 assertion did not run".into()),
        _ => (State::Unverified, format!("{missing} assertions did not run")),
    }
}

/// The worst of several states, with its reason; declared counts below proven, so that it is told.
fn worst(states: impl IntoIterator<Item = (State, String)>) -> (State, String) {
    let rank = |state: State| match state {
        State::Proven => 0,
        State::Declared => 1,
        State::Unverified => 2,
        State::Failed => 3,
    };
    let mut states: Vec<_> = states.into_iter().collect();
    // Stable, so that of equal ones the first is told.
    states.sort_by_key(|(state, _)| std::cmp::Reverse(rank(*state)));
    states.into_iter().next().unwrap_or((State::Proven, String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::abra::lint::Rule;
    use crate::plan::Skip;
    use crate::report::results::{Operation, TrialResult};

    fn trial(name: &str, kind: TrialKind, outcome: Outcome) -> TrialResult {
        TrialResult {
            name: name.into(),
            kind,
            outcome,
            selected: None,
            started: None,
            millis: 0,
            attempts: 1,
            fault: None,
            message: "no way to look\nmore".into(),
        }
    }

    fn tier(tier: Tier) -> TierResult {
        let done = Operation { what: String::new(), started: String::new(), millis: 1, ended: true, failure: None };
        let trials = vec![
            trial("generic::x", TrialKind::Generic, Outcome::Passed),
            trial("overlays::x", TrialKind::Overlay, Outcome::Passed),
        ];
        TierResult {
            tier,
            skip: None,
            generic_opted_out: false,
            operation: tier.has_operation().then_some(done),
            hooks: vec![],
            usage: None,
            picture: None,
            trials,
        }
    }

    fn level(change: impl Fn(&mut Vec<TierResult>)) -> (u8, String) {
        let mut tiers = Tier::ALL.map(tier).to_vec();
        change(&mut tiers);
        let level = of(&tiers, None);
        (level.reached, level.raise.unwrap_or_default())
    }

    fn skip(kind: SkipKind) -> Option<Skip> {
        Some(Skip { kind, reason: "holds no data".into() })
    }

    #[test]
    fn a_run_with_everything_but_lint_reaches_level_4() {
        assert_eq!(level(|_| {}), (4, "level 5, is lint clean: `abra recipe lint` has not run".into()));
    }

    #[test]
    fn only_a_clean_lint_reaches_level_5() {
        let tiers = Tier::ALL.map(tier).to_vec();
        let linted = |kept: &[Kept], failure: Option<&str>| {
            let rule = |kept: &Kept| Rule {
                reference: "R003".into(),
                rule: "has a healthcheck".into(),
                severity: "warn".into(),
                kept: *kept,
                remedy: "add one".into(),
            };
            let lint = Lint { rules: kept.iter().map(rule).collect(), failure: failure.map(Into::into) };
            let level = of(&tiers, Some(&lint));
            (level.reached, level.raise.unwrap_or_default())
        };
        assert_eq!(linted(&[Kept::Yes, Kept::Skipped], None), (5, String::new()));
        let broken = "level 5, is lint clean: rule R003 is broken: has a healthcheck";
        assert_eq!(linted(&[Kept::Yes, Kept::No], None), (4, broken.into()));
        let unknown = "level 5, is lint clean: `abra recipe lint` could not be asked: no network";
        assert_eq!(linted(&[], Some("no network")), (4, unknown.into()));
        assert_eq!(linted(&[], None).0, 4);
    }

    #[test]
    fn a_declared_skip_lets_the_level_climb_and_an_unverified_one_stops_it() {
        let both = |kind| {
            level(|tiers| {
                tiers[2].skip = skip(kind);
                tiers[3].skip = skip(kind);
            })
        };
        assert_eq!(both(SkipKind::Intended).0, 4);
        let stopped = "level 3, backs up and restores: `backup` is skipped, unverified: holds no data";
        assert_eq!(both(SkipKind::Unverified), (2, stopped.into()));
    }

    #[test]
    fn what_failed_or_could_not_look_or_did_not_run_stops_the_level() {
        let upgrade = |outcome| level(|tiers| tiers[1].trials[0].outcome = outcome);
        assert_eq!(upgrade(Outcome::Failed), (1, "level 2, upgrades: `generic::x` failed".into()));
        let could_not = "level 2, upgrades: `generic::x` could not be proven: no way to look";
        assert_eq!(upgrade(Outcome::Ignored), (1, could_not.into()));
        assert_eq!(upgrade(Outcome::NotRun), (1, "level 2, upgrades: 1 assertion did not run".into()));
        let failed = level(|tiers| {
            let failure = crate::fault::Failure::new(crate::fault::Fault::Recipe, "crashes");
            tiers[0].operation.as_mut().unwrap().failure = Some(failure);
        });
        assert_eq!(failed, (0, "level 1, installs: `install` failed".into()));
        let opted_out = level(|tiers| tiers[3].generic_opted_out = true);
        assert_eq!(opted_out.0, 2);
    }

    #[test]
    fn a_recipe_without_overlays_stays_at_level_3() {
        let bare = level(|tiers| tiers.iter_mut().for_each(|tier| drop(tier.trials.pop())));
        let raise = "level 4, passes its own assertions: the recipe has no assertions of its own in `overlays/`";
        assert_eq!(bare, (3, raise.into()));
        assert_eq!(level(|tiers| drop(tiers.pop())).0, 3, "without the tier `custom`");
    }

    #[test]
    fn a_failed_overlay_of_any_tier_stops_level_4_only() {
        let failed = level(|tiers| tiers[1].trials[1].outcome = Outcome::Failed);
        assert_eq!(failed, (3, "level 4, passes its own assertions: `overlays::x` failed".into()));
    }
}
