//! The life of one task: from its delay through its container to its end, and to the task that follows it.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tokio::sync::watch;

use super::super::{Health, TaskPhase};
use super::container::{self, Plan, Running};
use super::core::Core;
use super::fault::{Fault, Step};
use super::image::{self, Image};
use super::stage::Stage;
use super::stage::container::FIRST_INTERFACE;
use super::stage::files::FilesRequest;
use super::state::{self, PREFIX, State};
use super::templates::{self, Whose};
use super::{health, names};

/// Docker's default `stop_grace_period`.
const GRACE: Duration = Duration::from_secs(10);
/// A recipe may ask for a day; a test does not wait for it.
const MAX_GRACE: Duration = Duration::from_secs(60);
/// The kernel needs milliseconds to end a killed container.
const KILL: Duration = Duration::from_secs(20);

/// Runs a task that stands in the state, after a delay.
pub fn launch(core: &Arc<Core>, service: &str, id: String, delay: Duration) {
    tokio::spawn(run(Arc::clone(core), service.to_owned(), id, delay));
}

/// How a task ended.
struct End {
    phase: TaskPhase,
    exit_code: Option<i32>,
    error: String,
}

impl End {
    fn shutdown(exit_code: Option<i32>) -> End {
        End { phase: TaskPhase::Shutdown, exit_code, error: String::new() }
    }

    fn exited(code: i32) -> End {
        match code {
            0 => End { phase: TaskPhase::Complete, exit_code: Some(0), error: String::new() },
            _ => {
                End { phase: TaskPhase::Failed, exit_code: Some(code), error: format!("task: non-zero exit ({code})") }
            }
        }
    }

    /// Adds what lies behind it, where that is known.
    fn because(mut self, why: Option<String>) -> End {
        if let (Some(why), TaskPhase::Failed) = (why, self.phase) {
            self.error = format!("{}: {why}", self.error);
        }
        self
    }

    /// As in Swarm, a container that stops with code 0 when its health is the reason has simply come to its end.
    fn unhealthy(code: i32) -> End {
        if code == 0 {
            return End::exited(0);
        }
        let error = format!("task: non-zero exit ({code}): dockerexec: unhealthy container");
        End { phase: TaskPhase::Failed, exit_code: Some(code), error }
    }

    /// The container never ran: what it asks for cannot be had, or its program cannot be started.
    fn refused(error: &anyhow::Error) -> End {
        let started = error.downcast_ref::<Fault>().is_some_and(|fault| fault.step == Some(Step::Program));
        let phase = if started { TaskPhase::Failed } else { TaskPhase::Rejected };
        let prefix = if started { "starting container failed: " } else { "" };
        End { phase, exit_code: None, error: format!("{prefix}{error:#}") }
    }
}

async fn run(core: Arc<Core>, service: String, id: String, delay: Duration) {
    let Some(mut stop) = core.read(|state| state.task(&service, &id).map(|task| task.stop.subscribe())) else { return };
    let end = live(&core, &service, &id, delay, &mut stop).await;
    let slot = core.read(|state| state.task(&service, &id).map(|task| task.slot));
    let next = core.change(|state| conclude(state, &service, &id, end));
    if let Some((next, delay)) = next {
        launch(&core, &service, next, delay);
    }
    if let Some(slot) = slot {
        hand_over(&core, &service, slot).await;
    }
    // What a dead pod leaves behind, teardown removes.
    let _ = core.pod.remove_dir(&core.dir("containers").join(&id)).await;
    core.groups.remove_container(&id).await;
}

async fn live(core: &Arc<Core>, service: &str, id: &str, delay: Duration, stop: &mut watch::Receiver<bool>) -> End {
    if stopped_within(stop, delay).await {
        return End::shutdown(None);
    }
    let Some(reference) = core.change(|state| prepare(state, service, id)) else { return End::shutdown(None) };
    let resolved = tokio::select! {
        image = image::resolve(&reference, &core.context.image_map, &core.context.image_cache) => image,
        () = stopped(stop) => return End::shutdown(None),
    };
    let image = match resolved {
        Ok(image) => image,
        // Docker's words, whatever the reason, and then the reason.
        Err(error) => {
            let error = format!("No such image: {reference} ({error:#})");
            return End { phase: TaskPhase::Rejected, exit_code: None, error };
        }
    };
    core.change(|state| state.images.insert(reference, image.root.clone()));
    let Some(plan) = core.change(|state| plan(state, service, id, &image)) else { return End::shutdown(None) };
    match container::start(core, &plan, &image).await {
        Ok(running) => supervise(core, &plan, &image, running, stop).await,
        Err(error) => End::refused(&error),
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives in the task's record; when that is forgotten, the task has to end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn stopped_within(stop: &mut watch::Receiver<bool>, time: Duration) -> bool {
    if time.is_zero() {
        return *stop.borrow();
    }
    tokio::time::timeout(time, stopped(stop)).await.is_ok()
}

/// Marks the task as being prepared, and returns its image reference.
fn prepare(state: &mut State, service: &str, id: &str) -> Option<String> {
    let task = state.task_mut(service, id)?;
    task.phase = TaskPhase::Preparing;
    Some(task.spec.service.image.clone())
}

fn plan(state: &mut State, service: &str, id: &str, image: &Image) -> Option<Plan> {
    let task = state.task_mut(service, id)?;
    task.digest.clone_from(&image.digest);
    let spec = templates::expand(&task.spec, &Whose { service, task: id, slot: task.slot });
    let hostname = spec.service.hostname.clone().unwrap_or_else(|| id[..12].to_owned());
    let task = state.task(service, id)?;
    let gateway = task.addresses.keys().next().and_then(|name| state.networks.get(name));
    let hosts = names::hosts(state, task, &hostname, gateway.copied().map(state::gateway));
    Some(Plan {
        service: service.to_owned(),
        task: id.to_owned(),
        slot: task.slot,
        spec,
        addresses: task.addresses.iter().map(|(network, address)| (network.clone(), *address)).collect(),
        hosts,
        hostname,
    })
}

/// Watches a container until it ends, by itself, on request, or for its health.
async fn supervise(
    core: &Arc<Core>,
    plan: &Plan,
    image: &Image,
    running: Running,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let check = health::check(plan.spec.service.healthcheck.as_ref(), image);
    core.change(|state| started(state, plan, &running, check.is_some()));
    hand_over(core, &plan.service, plan.slot).await;
    let unhealthy = async {
        match &check {
            Some(check) => health::watch(core, plan, &running.container, check).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        exit = running.exit() => exit.map(|code| End::exited(code).because(beyond(core, plan, &running))),
        () = stopped(stop) => halt(core, &running, plan, image).await.map(|code| End::shutdown(Some(code))),
        () = unhealthy => halt(core, &running, plan, image).await.map(End::unhealthy),
    };
    running.finish().await;
    end.unwrap_or_else(|error| End { phase: TaskPhase::Failed, exit_code: None, error: format!("{error:#}") })
}

/// What a container did, or wanted, beyond its limits.
fn beyond(core: &Core, plan: &Plan, running: &Running) -> Option<String> {
    let seen = core.read(|state| state.task(&plan.service, &plan.task).and_then(|task| task.beyond.clone()));
    seen.or_else(|| core.groups.told(&plan.task, &running.container.limits))
}

fn started(state: &mut State, plan: &Plan, running: &Running, has_check: bool) {
    let Some(task) = state.task_mut(&plan.service, &plan.task) else { return };
    task.container = Some(Arc::clone(&running.container));
    task.hosts.clone_from(&plan.hosts);
    task.started_at = Some(SystemTime::now());
    if has_check {
        (task.phase, task.health) = (TaskPhase::Starting, Health::Starting);
    } else {
        task.phase = TaskPhase::Running;
        task.running_since = Some(Instant::now());
    }
}

/// Asks the container to stop, and kills it when it does not, or when the whole app goes and its data with it.
async fn halt(core: &Core, running: &Running, plan: &Plan, image: &Image) -> anyhow::Result<i32> {
    let service = &plan.spec.service;
    let wanted = service.stop_signal.as_deref().or(image.config.stop_signal.as_deref());
    running.container.signal(wanted.and_then(signal).unwrap_or(Signal::TERM));
    tokio::select! {
        biased;
        exit = running.exit() => return exit,
        () = core.wait_for(|state| state.closed.then_some(())) => {}
        () = tokio::time::sleep(service.stop_grace_period.unwrap_or(GRACE).min(MAX_GRACE)) => {}
    }
    running.container.signal(Signal::KILL);
    match tokio::time::timeout(KILL, running.exit()).await {
        Ok(exit) => exit,
        Err(_) => anyhow::bail!("the container of task `{}` outlived SIGKILL", plan.task),
    }
}

/// A signal by name, with or without `SIG`, or by number.
fn signal(name: &str) -> Option<Signal> {
    let name = name.to_uppercase();
    let number = match name.parse::<i32>() {
        Ok(number) => number,
        Err(_) => {
            let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
            full.parse::<nix::sys::signal::Signal>().ok()? as i32
        }
    };
    Signal::from_named_raw(number)
}

/// Writes down how a task ended; when its slot is to have another one, its id and delay.
fn conclude(state: &mut State, service: &str, id: &str, end: End) -> Option<(String, Duration)> {
    let task = state.task_mut(service, id)?;
    let failed = end.phase != TaskPhase::Complete;
    let asked_for = !task.desired_running();
    task.phase = if asked_for { TaskPhase::Shutdown } else { end.phase };
    (task.exit_code, task.error) = (end.exit_code, end.error);
    task.container = None;
    task.ended_at = Some(Instant::now());
    let slot = task.slot;
    let record = state.services.get(service)?;
    if asked_for || slot > record.spec.service.deploy.mode.replicas() {
        return None;
    }
    let delay = state.restart(service, slot, failed)?;
    state.task(service, id)?.ask_to_stop();
    Some((state.add_task(service, slot)?, delay))
}

/// Gives a slot's addresses to the task that runs there, when the one before it no longer answers for them.
async fn hand_over(core: &Core, service: &str, slot: u32) {
    let heir = core.read(|state| {
        let record = state.services.get(service)?;
        let mut living = record.tasks.iter().filter(|task| task.slot == slot && !task.ended());
        if living.clone().any(|task| task.holds_slot) {
            return None;
        }
        let heir = living.find(|task| task.container.is_some())?;
        let addresses = record.slots.get(&slot)?.addresses.clone();
        let interfaces: Vec<String> = heir.addresses.keys().cloned().collect();
        Some((heir.id.clone(), heir.container.clone()?, interfaces, addresses))
    });
    let Some((id, container, interfaces, addresses)) = heir else { return };
    let mut taken = true;
    for (interface, network) in (FIRST_INTERFACE..).zip(&interfaces) {
        let Some(address) = addresses.get(network) else { continue };
        let request = FilesRequest::TakeAddress { interface, address: *address, prefix: PREFIX };
        taken &= core.pod.call::<()>(Stage::Files, &request, &[container.process.as_fd()]).await.is_ok();
    }
    core.change(|state| {
        let Some(record) = state.services.get_mut(service) else { return };
        let Some(task) = record.task_mut(&id) else { return };
        task.holds_slot = true;
        let own = task.addresses.clone();
        // Better a changed address than one that nobody answers for.
        if let Some(slot) = record.slots.get_mut(&slot).filter(|_| !taken) {
            slot.addresses = own;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_docker_reads_them() {
        for name in ["SIGQUIT", "quit", "3"] {
            assert_eq!(signal(name), Some(Signal::QUIT), "{name}");
        }
        assert_eq!(signal("SIGNONSENSE"), None);
    }
}
