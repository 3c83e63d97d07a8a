//! Deploying one service: its first tasks, and updates in place with Swarm's states and words.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::{TaskPhase, UpdateState, UpdateStatus};
use super::core::Core;
use super::spec::Spec;
use super::state::{Record, State, Task};
use super::task;
use crate::recipe::stack::{FailureAction, UpdateConfig, UpdateOrder};

/// How long a new task is watched when the spec does not say. Swarm's default is 5 s; half a second keeps an upgrade
/// of the embedded engine quick, and a recipe that needs more says so.
const MONITOR: Duration = Duration::from_millis(500);

/// Creates the service, or changes it when its spec differs from the running one. On return the new tasks stand in
/// the state, and so does the update: nobody who looks then takes the old tasks for the new ones.
pub fn apply(core: &Arc<Core>, name: &str, spec: Spec) {
    if let Some(generation) = core.change(|state| accept(state, name, spec)) {
        Update { core: Arc::clone(core), service: name.to_owned(), generation }.go(false);
    }
}

/// Takes a spec as the service's current one; the generation of the update that has to follow.
fn accept(state: &mut State, name: &str, spec: Spec) -> Option<u64> {
    let spec = Arc::new(spec);
    let record = state.services.entry(name.to_owned()).or_insert_with(|| Record::new(Arc::clone(&spec)));
    if record.spec == spec && !record.slots.is_empty() {
        // Swarm forgets how the last update went when it is given the same spec again, but never stops one.
        let in_flight =
            |update: &UpdateStatus| matches!(update.state, UpdateState::Updating | UpdateState::RollbackStarted);
        record.update.take_if(|update| !in_flight(update));
        return None;
    }
    if record.spec != spec {
        record.previous = Some(std::mem::replace(&mut record.spec, spec));
        record.spec_version += 1;
        record.adopt_tasks();
    }
    record.update = None;
    record.generation += 1;
    Some(record.generation)
}

/// One update: which service, and by which generation of it.
#[derive(Clone)]
struct Update {
    core: Arc<Core>,
    service: String,
    generation: u64,
}

impl Update {
    /// Starts the update, or the update back.
    fn go(self, rolls_back: bool) {
        self.scale();
        let Some((dirty, config)) = self.begin(rolls_back) else { return };
        tokio::spawn(async move {
            if self.replace_all(dirty, &config, rolls_back).await {
                self.finish(rolls_back);
            }
        });
    }

    /// Looks at the service, unless a newer update has taken over.
    fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.core.read(|state| self.current(state).map(look))
    }

    fn current<'a>(&self, state: &'a State) -> Option<&'a Record> {
        let record = state.services.get(&self.service)?;
        (record.generation == self.generation && !state.closed).then_some(record)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        self.core.change(|state| {
            self.current(state)?;
            state.services.get_mut(&self.service).map(change)
        })
    }

    /// Starts missing slots and stops those beyond the number of replicas. This is no update in Swarm's sense.
    fn scale(&self) {
        let added = self.core.change(|state| {
            let Some(record) = self.current(state) else { return Vec::new() };
            let replicas = record.spec.service.deploy.mode.replicas();
            record.tasks.iter().filter(|task| task.slot > replicas).for_each(Task::ask_to_stop);
            let missing: Vec<u32> = (1..=replicas).filter(|slot| !record.slots.contains_key(slot)).collect();
            if let Some(record) = state.services.get_mut(&self.service) {
                record.slots.retain(|slot, _| *slot <= replicas);
            }
            missing.into_iter().filter_map(|slot| state.add_task(&self.service, slot)).collect()
        });
        for id in added {
            task::launch(&self.core, &self.service, id, Duration::ZERO);
        }
    }

    /// The slots to replace and how; `None` when there are none, and then nothing is said about an update either.
    fn begin(&self, rolls_back: bool) -> Option<(Vec<u32>, UpdateConfig)> {
        self.change(|record| {
            let dirty = record.dirty_slots();
            let deploy = &record.spec.service.deploy;
            let config = if rolls_back { deploy.rollback.clone() } else { deploy.update.clone() };
            if !rolls_back && !dirty.is_empty() {
                record.update = status(UpdateState::Updating, "update in progress");
            }
            (rolls_back || !dirty.is_empty()).then_some((dirty, config))
        })?
    }

    /// Replaces the slots, some at a time, and watches the new tasks. True when all of it went well enough.
    async fn replace_all(&self, dirty: Vec<u32>, config: &UpdateConfig, rolls_back: bool) -> bool {
        let total = dirty.len();
        let at_a_time = if config.parallelism == 0 { total } else { config.parallelism as usize };
        let mut queue = VecDeque::from(dirty);
        let mut workers = JoinSet::new();
        let mut failed = BTreeSet::new();
        let named = config.is_named || config.failure_action != FailureAction::Pause;
        let unsaid = if named { self.core.context.monitor.max(MONITOR) } else { MONITOR };
        let monitor = config.monitor.unwrap_or(unsaid);
        loop {
            while workers.len() < at_a_time
                && let Some(slot) = queue.pop_front()
            {
                let delay = if queue.is_empty() { Duration::ZERO } else { config.delay };
                workers.spawn(self.clone().replace(slot, config.order, delay));
            }
            let replacing = !workers.is_empty();
            tokio::select! {
                task = self.failure(&failed, monitor) => {
                    let Some(task) = task else { return false };
                    failed.insert(task.clone());
                    let ratio = failed.len() as f64 / total.max(1) as f64;
                    if ratio > config.max_failure_ratio && self.act(config.failure_action, rolls_back, &task) {
                        // What is being replaced right now is finished, unless a newer update takes over.
                        workers.detach_all();
                        return false;
                    }
                }
                _ = workers.join_next(), if replacing => {}
                () = tokio::time::sleep(monitor), if !replacing => return true,
            }
        }
    }

    /// Waits for a new task to end by itself while it is watched; `None` when a newer update has taken over.
    async fn failure(&self, known: &BTreeSet<String>, monitor: Duration) -> Option<String> {
        let look = |state: &State| {
            let Some(record) = self.current(state) else { return Some(None) };
            let failed = record.tasks.iter().find(|task| {
                task.made_by == Some(self.generation) && ended_early(task, monitor) && !known.contains(&task.id)
            })?;
            Some(Some(failed.id.clone()))
        };
        self.core.wait_for(look).await
    }

    /// Does what the spec says about a failure; false when the update goes on.
    fn act(&self, action: FailureAction, rolls_back: bool, task: &str) -> bool {
        let because = format!("due to failure or early termination of task {task}");
        match action {
            FailureAction::Continue => false,
            // Swarm never rolls a rollback back.
            _ if rolls_back => self.pause(UpdateState::RollbackPaused, &format!("rollback paused {because}")),
            FailureAction::Pause => self.pause(UpdateState::Paused, &format!("update paused {because}")),
            FailureAction::Rollback => self.roll_back(&format!("update rolled back {because}")),
        }
    }

    fn pause(&self, state: UpdateState, message: &str) -> bool {
        self.change(|record| record.update = status(state, message));
        true
    }

    /// Restores the previous spec, labels included, and starts the update back to it.
    fn roll_back(&self, message: &str) -> bool {
        let started = self.change(|record| {
            record.spec = record.previous.take()?;
            record.spec_version += 1;
            record.generation += 1;
            record.update = status(UpdateState::RollbackStarted, message);
            record.adopt_tasks();
            Some(record.generation)
        });
        match started {
            Some(Some(generation)) => {
                Update { generation, ..self.clone() }.go(true);
                true
            }
            Some(None) => self.pause(UpdateState::Paused, &format!("{message}; there is no previous spec")),
            None => true,
        }
    }

    fn finish(&self, rolls_back: bool) {
        let (state, message) = match rolls_back {
            true => (UpdateState::RollbackCompleted, "rollback completed"),
            false => (UpdateState::Completed, "update completed"),
        };
        self.change(|record| record.update = status(state, message));
    }

    /// Replaces the task of one slot.
    async fn replace(self, slot: u32, order: UpdateOrder, delay: Duration) {
        let kept = self.read(|record| {
            let clean = record.wanted(slot).find(|task| task.spec.same_tasks(&record.spec));
            clean.map(|task| task.id.clone())
        });
        match (kept, order) {
            (None, _) => return,
            (Some(Some(kept)), _) => self.stop_others(slot, &kept).await,
            (Some(None), UpdateOrder::StopFirst) => {
                self.stop_others(slot, "").await;
                if let Some(id) = self.start(slot) {
                    self.settled(&id).await;
                }
            }
            (Some(None), UpdateOrder::StartFirst) => {
                let Some(id) = self.start(slot) else { return };
                if self.settled(&id).await {
                    self.stop_others(slot, &id).await;
                }
            }
        }
        tokio::time::sleep(delay).await;
    }

    /// Starts a task of the current spec.
    fn start(&self, slot: u32) -> Option<String> {
        let id = self.core.change(|state| {
            self.current(state)?;
            let id = state.add_task(&self.service, slot)?;
            state.task_mut(&self.service, &id)?.made_by = Some(self.generation);
            Some(id)
        })?;
        task::launch(&self.core, &self.service, id.clone(), Duration::ZERO);
        Some(id)
    }

    /// Waits until the task runs (true), or has ended, or a newer update has taken over. Like Swarm's updater this
    /// has no deadline: the one who waits for convergence has.
    async fn settled(&self, id: &str) -> bool {
        let look = |state: &State| {
            let Some(task) = self.current(state).and_then(|record| record.task(id)) else { return Some(false) };
            (task.phase == TaskPhase::Running || task.ended()).then_some(task.phase == TaskPhase::Running)
        };
        self.core.wait_for(look).await
    }

    /// Stops every wanted task of the slot but one, and waits for their end.
    async fn stop_others(&self, slot: u32, kept: &str) {
        let others = self.change(|record| {
            let others: Vec<&Task> = record.wanted(slot).filter(|task| task.id != kept).collect();
            others.iter().for_each(|task| task.ask_to_stop());
            others.iter().map(|task| task.id.clone()).collect::<Vec<_>>()
        });
        let others = others.unwrap_or_default();
        let look = |state: &State| {
            let Some(record) = self.current(state) else { return Some(()) };
            others.iter().all(|id| record.task(id).is_none_or(Task::ended)).then_some(())
        };
        self.core.wait_for(look).await;
    }
}

fn status(state: UpdateState, message: &str) -> Option<UpdateStatus> {
    Some(UpdateStatus { state, message: message.to_owned() })
}

/// Whether a task ended by itself before it had run for as long as it is watched.
fn ended_early(task: &Task, monitor: Duration) -> bool {
    let by_itself = task.ended() && task.phase != TaskPhase::Shutdown;
    let lived = task.running_since.zip(task.ended_at).map(|(since, end)| end.saturating_duration_since(since));
    by_itself && lived.is_none_or(|lived| lived <= monitor)
}
