//! Tiers, strictly in order: who may look at the app, and who performs the next operation.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anyhow::Result;
use futures_util::FutureExt as _;

use super::protocol::{Answer, Blocked, Call, Context};
use super::socket::Wire;
use super::{Keeper, operate, usage};
use crate::fault::{Failure, Fault, panic_text, payload_text};
use crate::keeper::journal::Event;
use crate::plan::Action;
use crate::tier::Tier;

/// Where a run stands. The keeper holds it behind a lock; whoever changes it notifies `Keeper::changed`.
#[derive(Default)]
pub struct Progress {
    /// The last tier whose operation is done, skipped, or needless.
    pub reached: Option<Tier>,
    /// An operation, or its hooks, are under way.
    pub busy: bool,
    pub failed: Option<(Tier, Failure)>,
    /// Leases out, by tier: no operation starts while somebody still looks.
    pub leases: BTreeMap<Tier, usize>,
    pub down: bool,
}

/// What an entrant has to do next.
enum Turn {
    Entered,
    Blocked(Blocked),
    /// This entrant runs the hooks of that tier, then its operation.
    Drive(Tier),
}

/// A place in a tier; dropping it lets the run go on.
pub struct Lease {
    keeper: Arc<Keeper>,
    tier: Tier,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.progress(|progress| {
            if let Some(count) = progress.leases.get_mut(&self.tier) {
                *count -= 1;
            }
        });
    }
}

/// Brings a client into a tier: missing operations are performed first, in order, each once. The client that drives
/// an operation is asked to run its hooks, which are compiled into the client and not into the keeper.
pub async fn enter(keeper: &Arc<Keeper>, tier: Tier, wire: &mut Wire) -> Result<Option<Lease>> {
    loop {
        match turn(keeper, tier).await {
            Turn::Entered => {
                let lease = Lease { keeper: keeper.clone(), tier };
                wire.send(&Answer::Entered(Box::new(keeper.context(tier).await))).await?;
                return Ok(Some(lease));
            }
            Turn::Blocked(blocked) => {
                wire.send(&Answer::Blocked(blocked)).await?;
                return Ok(None);
            }
            Turn::Drive(next) => drive(keeper, next, wire).await,
        }
    }
}

/// Waits until there is something to do for an entrant of `tier`.
async fn turn(keeper: &Arc<Keeper>, tier: Tier) -> Turn {
    loop {
        // Registered before looking, so that a change between the look and the wait is not lost.
        let changed = keeper.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // Looking wakes nobody: it must not go through `Keeper::progress`.
        let turn = look(&mut keeper.lock_progress(), &keeper.spec.plan, tier);
        if let Some(turn) = turn {
            return turn;
        }
        changed.await;
    }
}

fn look(progress: &mut Progress, plan: &crate::plan::Plan, tier: Tier) -> Option<Turn> {
    if progress.down {
        return Some(Turn::Blocked(Blocked::TornDown));
    }
    match &progress.failed {
        Some((failed, failure)) if *failed <= tier => {
            return Some(Turn::Blocked(Blocked::Failed { tier: *failed, failure: failure.clone() }));
        }
        // The failed operation has changed what the earlier tier would have shown.
        Some((failed, _)) => return Some(Turn::Blocked(Blocked::Stale { reached: *failed })),
        None => {}
    }
    if let Some(skip) = plan.skip(tier) {
        return Some(Turn::Blocked(Blocked::Skipped(skip.clone())));
    }
    match progress.reached {
        Some(reached) if reached == tier => {
            *progress.leases.entry(tier).or_default() += 1;
            return Some(Turn::Entered);
        }
        Some(reached) if reached > tier => return Some(Turn::Blocked(Blocked::Stale { reached })),
        _ => {}
    }
    let somebody_looks = progress.leases.values().any(|count| *count > 0);
    if progress.busy || somebody_looks {
        return None;
    }
    let next =
        plan.steps.iter().map(|step| step.tier).find(|it| progress.reached.is_none_or(|reached| *it > reached))?;
    progress.busy = true;
    Some(Turn::Drive(next))
}

/// Performs one step: hooks in the client, the operation here. The outcome is in the keeper's progress; the operation
/// goes on to its end even if the client that drove it is gone. Whatever happens on the way, the others do not wait for
/// it for ever.
async fn drive(keeper: &Arc<Keeper>, tier: Tier, wire: &mut Wire) {
    let step = AssertUnwindSafe(step(keeper, tier, wire)).catch_unwind().await;
    let result = step.unwrap_or_else(|panic| {
        let said = payload_text(&*panic);
        Err(Failure::new(Fault::Harness, format!("the keeper panicked on its way to `{tier}`: {said}")))
    });
    keeper.progress(|progress| {
        progress.busy = false;
        match result {
            Ok(()) => progress.reached = Some(tier),
            Err(failure) => progress.failed = Some((tier, failure)),
        }
    });
}

async fn step(keeper: &Arc<Keeper>, tier: Tier, wire: &mut Wire) -> Result<(), Failure> {
    // What is still looked at is the tier before: hooks change it already.
    keeper.settle().await;
    if keeper.is_down() {
        return Err(cancelled());
    }
    let action = keeper.spec.plan.step(tier).map(|step| step.action.clone());
    match action {
        Some(Action::Operate(what)) => {
            let hooks = run_hooks(keeper, tier, wire).await;
            match hooks {
                Ok(()) => perform(keeper, tier, what).await,
                Err(failure) => record(keeper, tier, what, failure),
            }
        }
        Some(Action::Observe) => {
            run_hooks(keeper, tier, wire).await?;
            usage::meanwhile(keeper, tier).await;
            Ok(())
        }
        Some(Action::Skip(_)) | None => Ok(()),
    }
}

async fn run_hooks(keeper: &Arc<Keeper>, tier: Tier, wire: &mut Wire) -> Result<(), Failure> {
    let gone = |error: anyhow::Error| {
        Failure::new(Fault::Assertion, format!("the process that ran the hooks of `{tier}` went away: {error:#}"))
    };
    wire.send(&Answer::RunHooks(Box::new(keeper.context(tier).await))).await.map_err(gone)?;
    match wire.receive::<Call>().await.map_err(gone)? {
        Some(Call::HooksDone { failure: None }) => Ok(()),
        Some(Call::HooksDone { failure: Some(failure) }) => Err(failure),
        Some(other) => Err(gone(anyhow::anyhow!("instead of the hooks it answered with {other:?}"))),
        None => Err(gone(anyhow::anyhow!("the connection was closed"))),
    }
}

/// A failed hook is a failed operation that never started; the journal says so in the same words.
fn record(keeper: &Arc<Keeper>, tier: Tier, what: String, failure: Failure) -> Result<(), Failure> {
    keeper.journal.write(Event::OperationStarted { tier, what }).map_err(Failure::harness)?;
    let finished = Event::OperationFinished { tier, millis: 0, failure: Some(failure.clone()) };
    keeper.journal.write(finished).map_err(Failure::harness)?;
    Err(failure)
}

async fn perform(keeper: &Arc<Keeper>, tier: Tier, what: String) -> Result<(), Failure> {
    let task = {
        let keeper = keeper.clone();
        tokio::spawn(async move { operate::perform(&keeper, tier, what).await })
    };
    *keeper.operation.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(task.abort_handle());
    // Teardown says so first and then looks for the handle: one of the two sees the other.
    if keeper.is_down() {
        task.abort();
    }
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(cancelled()),
        Err(error) => Err(Failure::new(Fault::Harness, format!("the operation panicked: {}", panic_text(error)))),
    }
}

fn cancelled() -> Failure {
    Failure::new(Fault::Infrastructure, "cancelled by teardown")
}

impl Keeper {
    /// Journals a sentence that was not there yet.
    pub async fn note_once(&self, text: String) -> Result<(), Failure> {
        let is_new = self.app.lock().await.noted.insert(text.clone());
        if is_new {
            self.journal.write(Event::Note { text }).map_err(Failure::infrastructure)?;
        }
        Ok(())
    }

    /// Changes the progress, and tells everyone who waits.
    pub fn progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        let result = change(&mut self.lock_progress());
        self.changed.notify_waiters();
        result
    }

    /// Whether teardown has begun, or is about to.
    pub fn is_down(&self) -> bool {
        self.lock_progress().down
    }

    /// Returns once teardown has begun, or is about to.
    pub async fn down(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_down() {
                return;
            }
            changed.await;
        }
    }

    fn lock_progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What an assertion of a tier is told.
    pub async fn context(&self, tier: Tier) -> Context {
        let app = self.app.lock().await;
        Context {
            recipe: self.spec.plan.recipe.to_string(),
            run_id: self.spec.run_id.clone(),
            tier,
            domain: self.spec.domain.clone(),
            host: self.spec.host(),
            stack: self.spec.stack(),
            url: app.url.clone(),
            rewrites: app.rewrites.clone(),
            settings: self.spec.settings.clone(),
            masks: app.secrets.values().map(|value| value.expose().to_owned()).collect(),
        }
    }
}
