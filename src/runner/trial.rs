//! One trial: wait for its turn, enter its tier, run it under a deadline, and say how it went.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};

use super::call::{CallFailure, call};
use super::data;
use super::recipe_run::RecipeRun;
use super::selection::{Selected, What, operation_name};
use super::teardown;
use super::{scripted, signals};
use crate::app::App;
use crate::assertion::Assertion;
use crate::client::{Entry, runtime};
use crate::config::data::Data;
use crate::fault::{Failure, Fault};
use crate::keeper::blame::{unless_full, unless_torn_down};
use crate::keeper::journal::{self, Outcome, Trial as Ended, millis};
use crate::keeper::protocol::{Blocked, Call};
use crate::plain::printed;
use crate::report::explain;
use crate::script::{Part, Role, Script};
use crate::tier::Tier;

/// What a trial comes to.
pub enum Verdict {
    Passed,
    Ignored(String),
    Failed(Failure),
}

/// The trials of one run, bound to it.
pub fn of_run(run: &Arc<RecipeRun>) -> Vec<Trial> {
    let recipe = run.prepared.spec.plan.recipe.to_string();
    let selected = run.trials(&recipe);
    let wanted = |it: &&Selected<'_>| it.is_planned(&run.prepared) && run.wants(&it.name);
    selected.iter().filter(wanted).map(|selected| bind(run, selected)).collect()
}

fn bind(run: &Arc<RecipeRun>, selected: &Selected<'_>) -> Trial {
    let (name, tier, generic) = (selected.name.clone(), selected.tier, selected.is_generic());
    let place = selected.place();
    let (mut assertion, mut scripted, mut data) = (None, None, None);
    match &selected.what {
        What::Assertion(registered) => assertion = Some(registered.item),
        What::Script(script, part) => scripted = Some(((*script).clone(), part.clone())),
        What::Data(entry, of) => data = Some((entry.clone(), (*of).clone())),
        What::Operation | What::Teardown => {}
    }
    let teardown = matches!(selected.what, What::Teardown);
    let trial = Trial::ignorable_test(name.clone(), {
        let run = run.clone();
        move || {
            let turn = run.wait(&name, place);
            let mut start = Instant::now();
            let stopped = run.stopped_by();
            let verdict = match (tier, assertion) {
                _ if teardown => teardown::trial(&run),
                _ if stopped.is_some() => Verdict::Ignored(stopped.unwrap_or_default()),
                (Some(tier), Some(assertion)) => assert(&run, &name, tier, generic, assertion, &mut start),
                (Some(tier), None) => match (&scripted, &data) {
                    (Some((script, part)), _) => script_trial(&run, tier, script, part, &mut start),
                    (None, Some((entry, of))) => data_trial(&run, tier, &name, entry, of, &mut start),
                    (None, None) => operate(&run, tier),
                },
                (None, _) => Verdict::Failed(Failure::new(Fault::Harness, "a trial without a tier")),
            };
            let concluded = conclude(&run, name, tier, start.elapsed(), verdict);
            drop(turn);
            run.leave();
            concluded
        }
    });
    // nextest shows what is ignored only if it is told so before the trial runs.
    let known = run.session.is_shared() && selected.skip(&run.prepared).is_some();
    match &run.kind {
        Some(kind) => trial.with_kind(kind),
        None => trial.with_ignored_flag(known),
    }
}

/// Records a verdict everywhere it has to be, and turns it into libtest's.
fn conclude(
    run: &RecipeRun,
    name: String,
    tier: Option<Tier>,
    took: Duration,
    verdict: Verdict,
) -> Result<Completion, Failed> {
    let (outcome, message, fault) = match verdict {
        // It says nothing about the recipe, and a page full of red would hide that.
        Verdict::Failed(_) if signals::is_interrupted() => (Outcome::Ignored, "interrupted".into(), None),
        Verdict::Passed => (Outcome::Passed, String::new(), None),
        Verdict::Ignored(reason) => (Outcome::Ignored, reason, None),
        Verdict::Failed(failure) => {
            let failure = run.gone.said_of(&name, tier, failure);
            let records = journal::read(&run.session.run_dir.join(journal::FILE)).unwrap_or_default();
            let failure = unless_torn_down(failure, &records);
            (Outcome::Failed, failure.message, Some(failure.fault))
        }
    };
    let told = tier.and_then(|tier| told_by_operation(run, &name, tier, &message));
    // Whatever said it: an assertion of this process, a program of the recipe, or the app.
    let message = run.session.masked(&message);
    let ended = Ended { name, tier, outcome, millis: millis(took), message: message.clone(), fault };
    if run.session.has_begun() && tier.is_some() {
        // The journal is the keeper's; a keeper that is gone has already failed the trials that needed it.
        let _ = runtime().block_on(run.session.ask(&Call::TrialFinished(ended.clone())));
    }
    run.results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(ended);
    // Reports make it harmless each in their own way; from here it goes to a terminal.
    let message = printed(&message);
    match outcome {
        Outcome::Passed => Ok(Completion::Completed),
        // nextest would show it as passed.
        Outcome::Ignored if run.session.is_shared() => Err(Failed::from(format!("not proven: {message}"))),
        Outcome::Ignored => Ok(Completion::ignored_with(told.unwrap_or_else(|| one_line(&message)))),
        Outcome::Failed => Err(Failed::from(message)),
    }
}

/// Why a tier is skipped is said by its operation's own trial, the header and the summary, and not by every trial again.
fn told_by_operation(run: &RecipeRun, name: &str, tier: Tier, reason: &str) -> Option<String> {
    let skip = run.prepared.spec.plan.skip(tier).filter(|skip| skip.to_string() == reason)?;
    let operation = operation_name(tier);
    (name != operation && run.operations.contains(&tier)).then(|| format!("{}, as {operation}", skip.kind))
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn operate(run: &Arc<RecipeRun>, tier: Tier) -> Verdict {
    match enter(run, tier) {
        Ok(Entry::Entered(..)) => Verdict::Passed,
        Ok(Entry::Blocked(Blocked::Failed { tier: failed, failure })) if failed == tier => {
            let again = run.again(&operation_name(tier));
            Verdict::Failed(Failure::new(failure.fault, format!("{failure}\nrun only this again: {again}")))
        }
        Ok(Entry::Blocked(blocked)) => blocked_verdict(run, blocked),
        Err(verdict) => verdict,
    }
}

/// Runs an assertion; `start` is set to when it was let into its tier.
fn assert(
    run: &Arc<RecipeRun>,
    name: &str,
    tier: Tier,
    generic: bool,
    assertion: &'static Assertion,
    start: &mut Instant,
) -> Verdict {
    if generic && run.prepared.spec.plan.skip_generic.contains(&tier) {
        return Verdict::Ignored("opted out of by --skip-generic".into());
    }
    let (app, _lease) = match enter(run, tier) {
        Ok(Entry::Entered(app, lease)) => (*app, lease),
        Ok(Entry::Blocked(blocked)) => return blocked_verdict(run, blocked),
        Err(verdict) => return verdict,
    };
    *start = Instant::now();
    match runtime().block_on(call(app, assertion.run)) {
        Ok(()) => Verdict::Passed,
        Err(CallFailure::CouldNotLook(reason)) => Verdict::Ignored(reason),
        Err(CallFailure::Failed(failure)) => {
            let failure = unless_full(failure, &run.session.run_dir, &run.prepared.spec);
            // Where the infrastructure is in trouble, so are the logs, and they have nothing to do with it.
            let logs = match failure.fault {
                Fault::Infrastructure => String::new(),
                _ => runtime().block_on(explain::logs(&run.session, &failure.to_string())),
            };
            let text = format!("{failure}{logs}\nrun only this again: {}", run.again(name));
            Verdict::Failed(Failure::new(failure.fault, text))
        }
    }
}

fn script_trial(run: &Arc<RecipeRun>, tier: Tier, script: &Script, part: &Part, start: &mut Instant) -> Verdict {
    if let Role::Odd(why) = &script.role {
        return Verdict::Ignored(format!("`{}`: {why}", script.shown()));
    }
    match enter(run, tier) {
        Ok(Entry::Entered(app, _lease)) => {
            *start = Instant::now();
            runtime().block_on(scripted::trial(run, &app, script, part))
        }
        Ok(Entry::Blocked(blocked)) => blocked_verdict(run, blocked),
        Err(verdict) => verdict,
    }
}

fn data_trial(run: &Arc<RecipeRun>, tier: Tier, name: &str, entry: &str, of: &Data, start: &mut Instant) -> Verdict {
    match enter(run, tier) {
        Ok(Entry::Entered(app, _lease)) => {
            *start = Instant::now();
            runtime().block_on(data::trial(run, &app, entry, of, name))
        }
        Ok(Entry::Blocked(blocked)) => blocked_verdict(run, blocked),
        Err(verdict) => verdict,
    }
}

/// Enters a tier, after a look at the plan: a tier that is skipped deploys nothing. A run that cannot even begin is one
/// failure, and not one of every trial.
fn enter(run: &Arc<RecipeRun>, tier: Tier) -> Result<Entry, Verdict> {
    if let Some(skip) = run.prepared.spec.plan.skip(tier) {
        return Ok(Entry::Blocked(Blocked::Skipped(skip.clone())));
    }
    if let Err(failure) = run.begin() {
        let first = !run.blamed.swap(true, Ordering::SeqCst);
        let because = || Verdict::Ignored("because the run could not begin".into());
        let failed = || Verdict::Failed(Failure::new(failure.fault, &failure));
        return Err(if first { failed() } else { because() });
    }
    let entered = runtime().block_on(run.session.enter(tier, async |app, tier| hooks(run, app, tier).await));
    entered.map_err(|error| {
        let failure = error.downcast::<Failure>().unwrap_or_else(Failure::harness);
        Verdict::Failed(Failure::new(failure.fault, &failure))
    })
}

/// Runs the hooks before an operation, one after another, and stops at the first that fails.
async fn hooks(run: &Arc<RecipeRun>, app: App, tier: Tier) -> Result<(), Failure> {
    let recipe = run.prepared.spec.plan.recipe.to_string();
    for hook in run.registry.hooks_of(&recipe, tier) {
        let start = Instant::now();
        let result = match call(app.clone(), hook.item.run).await {
            Ok(()) => Ok(()),
            Err(CallFailure::CouldNotLook(reason)) => {
                Err(Failure::new(Fault::Assertion, format!("the hook `{}` gave up: {reason}", hook.name)))
            }
            Err(CallFailure::Failed(failure)) => {
                Err(Failure::new(failure.fault, format!("the hook `{}` failed: {}", hook.name, failure.message)))
            }
        };
        let failure = result.as_ref().err().map(Failure::to_string);
        let ended = Call::HookFinished { tier, name: hook.name.clone(), millis: millis(start.elapsed()), failure };
        // As for trials: the journal is the keeper's, and without one the operation fails by itself.
        let _ = run.session.ask(&ended).await;
        result?;
    }
    data::hooks(run, &app, tier).await?;
    scripted::hooks(run, &app, tier).await
}

fn blocked_verdict(run: &RecipeRun, blocked: Blocked) -> Verdict {
    match blocked {
        // Whether the operation's own trial runs, nobody knows here: the reason has to stand with every trial.
        Blocked::Failed { tier, failure } if run.session.is_shared() => {
            Verdict::Ignored(format!("because {} failed\n{failure}", operation_name(tier)))
        }
        Blocked::Failed { tier, failure }
            if !run.operations.contains(&tier) && !run.blamed.swap(true, Ordering::SeqCst) =>
        {
            let text = format!("the operation `{tier}`, which this needs, failed: {failure}");
            Verdict::Failed(Failure::new(failure.fault, text))
        }
        Blocked::Failed { tier, .. } => Verdict::Ignored(format!("because {} failed", operation_name(tier))),
        Blocked::Skipped(skip) => Verdict::Ignored(skip.to_string()),
        Blocked::Stale { reached } => Verdict::Failed(Failure::new(Fault::Assertion, too_late(run, reached))),
        Blocked::TornDown => Verdict::Failed(Failure::new(Fault::Assertion, "came too late: the app is torn down")),
    }
}

fn too_late(run: &RecipeRun, reached: Tier) -> String {
    let late = format!("came too late: the app is already past `{reached}`");
    match run.session.is_shared() {
        true => format!("{late}. nextest must run the trials by the priorities in `.config/nextest.toml`"),
        false => late,
    }
}
