//! What containers may use, where no control group bounds it: looked at from outside, as they run.
//!
//! An ordinary user has no control groups but where systemd gives some, and a container of a CI has none. Between two
//! looks more can be taken than is allowed, and processor time is not bounded at all.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::MissedTickBehavior;

use super::cage::used;
use super::core::Core;
use super::groups::Controller;
use super::usage::{self, Running};
use crate::recipe::stack::Limits;

const LOOK: Duration = Duration::from_millis(250);

/// Looks until the engine closes, and kills what is beyond its limits.
pub async fn watch(core: Arc<Core>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.wait_for(|state| state.closed.then_some(())) => return,
            _ = looks.tick() => {}
        }
        let (memory, processes) = [Controller::Memory, Controller::Processes].map(|it| !core.groups.bounds(it)).into();
        if !(memory || processes) {
            continue;
        }
        let running = core.read(usage::running);
        let look = tokio::task::spawn_blocking(move || look(running, memory, processes));
        for ((service, task, container), why) in look.await.unwrap_or_default() {
            core.change(|state| state.task_mut(&service, &task).map(|task| task.beyond = Some(why)));
            container.signal(Signal::KILL);
        }
    }
}

/// Those that use too much, and of what. What cannot be seen now is looked at once more.
fn look(running: Vec<Running>, memory: bool, processes: bool) -> Vec<(Running, String)> {
    let Ok(all) = usage::processes() else { return Vec::new() };
    let beyond = running.into_iter().filter_map(|it| {
        let pids = usage::pids(&it.2, &all).ok().flatten()?;
        let Limits { memory: bytes, pids: most, .. } = it.2.limits;
        let too_many = most.filter(|most| processes && usage::threads(pids) > *most);
        let too_much = || bytes.filter(|bytes| memory && used(pids) > *bytes);
        let why = match too_many {
            Some(most) => format!("it was killed, because it had more processes than the {most} that it may have"),
            None => too_much().map(|bytes| {
                format!("it was killed, because it used more memory than the {} MiB that it may have", bytes >> 20)
            })?,
        };
        Some((it, why))
    });
    beyond.collect()
}
