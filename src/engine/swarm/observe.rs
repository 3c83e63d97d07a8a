//! Services and tasks, as the daemon tells them, in the words that all engines share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use bollard::models::{
    HealthStatusEnum, HealthcheckResult, MountType, Service, ServiceUpdateStatus, ServiceUpdateStatusStateEnum, Task,
    TaskSpec, TaskSpecRestartPolicyConditionEnum, TaskState,
};
use bollard::query_parameters::{InspectContainerOptions, ListServicesOptionsBuilder, ListTasksOptionsBuilder};

use super::super::{
    Cycle, Health, ServiceState, TaskPhase, TaskState as Seen, UpdateState, UpdateStatus, VolumeMount, said_by_check,
};
use super::versions::Versions;
use super::{Core, is_missing};
use crate::recipe::stack::RestartCondition;

/// Of a health check's output, this much is kept.
const MAX_OUTPUT: usize = 400;

/// So often a check has to fail in a row, unless it says otherwise: Docker's default.
const RETRIES: i64 = 3;

/// What was seen so far: Swarm forgets old tasks, and containers take their health with them.
#[derive(Default)]
pub struct Observed {
    pub versions: BTreeMap<String, Versions>,
    /// What the last look at a task's container gave.
    health: BTreeMap<String, Seeing>,
    /// What Swarm said when it began to roll a service back; at the end it only says that it did.
    causes: BTreeMap<String, String>,
}

/// The health of one container.
#[derive(Clone, Debug, Default)]
struct Seeing {
    /// `None` while it was not looked at.
    health: Option<Health>,
    output: String,
    /// Its check has passed at some time.
    passed: bool,
    /// It will not change any more: there is no health check, or the container has ended.
    settled: bool,
}

/// Every service of the stack, with its tasks.
pub async fn services(core: &Core) -> Result<Vec<ServiceState>> {
    let filters = core.of_stack();
    // Services first: a task that is listed and made for a newer specification only looks unsettled.
    let options = ListServicesOptionsBuilder::default().filters(&filters).status(true).build();
    let services = core.docker.list_services(Some(options)).await.context("failed to list the services")?;
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let tasks = core.docker.list_tasks(Some(options)).await.context("failed to list the tasks")?;
    look_at_health(core, &tasks).await?;
    let mut observed = core.observed();
    let mut states: Vec<ServiceState> =
        services.iter().filter_map(|service| state(core, service, &tasks, &mut observed)).collect();
    states.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(states)
}

fn state(core: &Core, service: &Service, tasks: &[Task], observed: &mut Observed) -> Option<ServiceState> {
    let spec = service.spec.as_ref()?;
    let name = spec.name.as_deref()?.strip_prefix(core.stack())?.strip_prefix('_')?.to_owned();
    let template = spec.task_template.as_ref()?;
    let versions = observed.versions.entry(name.clone()).or_default();
    versions.note(spec, template);
    let image = template.container_spec.as_ref().and_then(|spec| spec.image.clone()).unwrap_or_default();
    let replicated = spec.mode.as_ref().and_then(|mode| mode.replicated.as_ref());
    let replicas = match replicated {
        Some(replicated) => replicated.replicas.unwrap_or(1).max(0) as u32,
        None => service.service_status.as_ref().and_then(|status| status.desired_tasks).unwrap_or(1) as u32,
    };
    let mut own: Vec<&Task> = tasks.iter().filter(|task| task.service_id == service.id).collect();
    own.sort_by_key(|task| std::cmp::Reverse(created(task)));
    let tasks = own.into_iter().map(|task| seen(&name, task, &observed.versions[&name], &observed.health)).collect();
    Some(ServiceState {
        image: without_digest(&image).0,
        replicas,
        restarts: restarts(template),
        cycle: Cycle::No,
        labels: labels(spec.labels.as_ref()),
        spec_version: observed.versions[&name].current,
        update: service.update_status.as_ref().and_then(|status| update(&name, status, &mut observed.causes)),
        tasks,
        mounts: mounts(template),
        name,
    })
}

/// The named volumes of a specification: an anonymous one has no name in it.
fn mounts(template: &TaskSpec) -> Vec<VolumeMount> {
    let mounts = template.container_spec.as_ref().and_then(|spec| spec.mounts.as_ref());
    let volumes = mounts.into_iter().flatten().filter(|mount| mount.typ == Some(MountType::VOLUME));
    let named = volumes.filter_map(|mount| {
        let volume = mount.source.clone().filter(|name| !name.is_empty())?;
        let read_only = mount.read_only.unwrap_or_default();
        Some(VolumeMount { volume, target: mount.target.clone().unwrap_or_default(), read_only })
    });
    named.collect()
}

/// A policy that says nothing is Swarm's own, which restarts whatever ends.
fn restarts(template: &TaskSpec) -> RestartCondition {
    match template.restart_policy.as_ref().and_then(|policy| policy.condition) {
        Some(TaskSpecRestartPolicyConditionEnum::NONE) => RestartCondition::None,
        Some(TaskSpecRestartPolicyConditionEnum::ON_FAILURE) => RestartCondition::OnFailure,
        _ => RestartCondition::Any,
    }
}

/// `deploy.labels`, without those that `docker stack` adds for itself.
fn labels(labels: Option<&std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    let own = |key: &str| key.starts_with("com.docker.stack.");
    let labels = labels.into_iter().flatten().filter(|(key, _)| !own(key));
    labels.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn update(name: &str, status: &ServiceUpdateStatus, causes: &mut BTreeMap<String, String>) -> Option<UpdateStatus> {
    let message = status.message.clone().unwrap_or_default();
    let state = match status.state? {
        ServiceUpdateStatusStateEnum::UPDATING => UpdateState::Updating,
        ServiceUpdateStatusStateEnum::PAUSED => UpdateState::Paused,
        ServiceUpdateStatusStateEnum::COMPLETED => UpdateState::Completed,
        ServiceUpdateStatusStateEnum::ROLLBACK_STARTED => UpdateState::RollbackStarted,
        ServiceUpdateStatusStateEnum::ROLLBACK_PAUSED => UpdateState::RollbackPaused,
        ServiceUpdateStatusStateEnum::ROLLBACK_COMPLETED => UpdateState::RollbackCompleted,
        ServiceUpdateStatusStateEnum::EMPTY => return None,
    };
    let cause = match state {
        UpdateState::RollbackStarted => {
            causes.insert(name.to_owned(), message.clone());
            None
        }
        UpdateState::RollbackCompleted | UpdateState::RollbackPaused => causes.get(name),
        _ => {
            causes.remove(name);
            None
        }
    };
    let message = cause.filter(|cause| **cause != message).map_or(message.clone(), |it| format!("{message}: {it}"));
    Some(UpdateStatus { state, message })
}

/// Tasks that are stopped at the same moment remove their network both, and Swarm calls the slower one failed. It had
/// been stopped as it was told by then, which is all that matters of it.
const TIDYING_UP: &str = "error while removing network: ";

fn seen(service: &str, task: &Task, versions: &Versions, health: &BTreeMap<String, Seeing>) -> Seen {
    let status = task.status.clone().unwrap_or_default();
    let container = status.container_status.unwrap_or_default();
    let mut phase = status.state.map_or(TaskPhase::Pending, phase);
    let mut error = status.err.unwrap_or_default();
    if task.desired_state != Some(TaskState::RUNNING) && error.starts_with(TIDYING_UP) {
        (phase, error) = (TaskPhase::Shutdown, String::new());
    }
    let ended = matches!(phase, TaskPhase::Complete | TaskPhase::Failed | TaskPhase::Rejected | TaskPhase::Shutdown);
    let slot = task.slot.unwrap_or_default().max(0) as u32;
    let id = task.id.clone().unwrap_or_default();
    let spec = task.spec.clone().unwrap_or_default();
    let (image, digest) = without_digest(&spec.container_spec.clone().and_then(|it| it.image).unwrap_or_default());
    let has_container = container.container_id.as_ref().is_some_and(|id| !id.is_empty());
    let unseen = Seeing::default();
    let seeing = health.get(&id).unwrap_or(&unseen);
    Seen {
        id: super::call::task_name(service, task),
        slot: slot.max(1),
        phase,
        health: seeing.health.unwrap_or(Health::None),
        image,
        digest,
        spec_version: versions.of_task(&spec),
        // Swarm takes the wish back a moment after the task's end, and wants another task in its place.
        desired_running: task.desired_state == Some(TaskState::RUNNING) && !ended,
        exit_code: container.exit_code.filter(|_| ended && has_container).map(|code| code as i32),
        error,
        started_at: status.timestamp.filter(|_| phase == TaskPhase::Running).and_then(|at| time(&at)),
        health_output: seeing.output.clone(),
        ever_ready: phase == TaskPhase::Running || ended && was_ready(phase, status.message.as_deref(), seeing),
    }
}

/// Swarm's message stays at the last step that was reached: "starting" until the health check has passed once. But a
/// container that was stopped for its health and exits with 0 has "finished", whether it was ever ready or not.
fn was_ready(phase: TaskPhase, message: Option<&str>, seeing: &Seeing) -> bool {
    if phase == TaskPhase::Complete && seeing.health == Some(Health::Unhealthy) {
        return seeing.passed;
    }
    matches!(message, Some("started" | "finished" | "shutdown"))
}

fn phase(state: TaskState) -> TaskPhase {
    match state {
        TaskState::NEW | TaskState::ALLOCATED | TaskState::PENDING | TaskState::ASSIGNED | TaskState::ACCEPTED => {
            TaskPhase::Pending
        }
        TaskState::PREPARING | TaskState::READY => TaskPhase::Preparing,
        TaskState::STARTING => TaskPhase::Starting,
        TaskState::RUNNING => TaskPhase::Running,
        TaskState::COMPLETE => TaskPhase::Complete,
        TaskState::FAILED => TaskPhase::Failed,
        TaskState::REJECTED => TaskPhase::Rejected,
        TaskState::SHUTDOWN | TaskState::REMOVE | TaskState::ORPHANED => TaskPhase::Shutdown,
    }
}

/// `nginx:1@sha256:…` as image and digest: `--resolve-image always` adds the digest, and no compose file has it.
fn without_digest(image: &str) -> (String, Option<String>) {
    match image.split_once('@') {
        Some((name, digest)) => (name.to_owned(), Some(digest.to_owned())),
        None => (image.to_owned(), None),
    }
}

/// When a task was created; the text of the API leaves out trailing zeros, so it does not sort by itself.
pub fn created(task: &Task) -> Option<SystemTime> {
    task.created_at.as_deref().and_then(time)
}

pub fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// Looks into the containers whose health may have changed. Only those of the node that is talked to can be seen; a
/// task elsewhere is as healthy as Swarm says, which holds it at `starting` until its check has passed.
async fn look_at_health(core: &Core, tasks: &[Task]) -> Result<()> {
    let mut known = BTreeSet::new();
    for task in tasks {
        let (Some(id), Some(status)) = (&task.id, &task.status) else { continue };
        known.insert(id.clone());
        let container = status.container_status.as_ref().and_then(|it| it.container_id.as_deref());
        // A task that was refused has a status all the same, and no container in it.
        let container = container.filter(|id| !id.is_empty());
        let (Some(container), true) = (container, task.node_id.as_deref() == Some(&core.spec.node)) else { continue };
        if core.observed().health.get(id).is_some_and(|seeing| seeing.settled) {
            continue;
        }
        if let Some(mut seeing) = look(core, container).await? {
            let mut observed = core.observed();
            seeing.passed |= observed.health.get(id).is_some_and(|before| before.passed);
            observed.health.insert(id.clone(), seeing);
        }
    }
    core.observed().health.retain(|id, _| known.contains(id));
    Ok(())
}

/// `None` when the container is gone: what was last seen of it stays.
async fn look(core: &Core, container: &str) -> Result<Option<Seeing>> {
    let inspected = match core.docker.inspect_container(container, None::<InspectContainerOptions>).await {
        Ok(inspected) => inspected,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("failed to inspect the container `{container}`")),
    };
    let state = inspected.state.unwrap_or_default();
    // A container that was only created has no verdict yet, whatever its image checks.
    let ended = state.finished_at.as_deref().is_some_and(|at| !at.starts_with("0001-")) && state.running != Some(true);
    let began = state.started_at.as_deref().is_some_and(|at| !at.starts_with("0001-"));
    let Some(health) = state.health else {
        return Ok(Some(Seeing { health: Some(Health::None), settled: began, ..Seeing::default() }));
    };
    let retries = inspected.config.and_then(|config| config.healthcheck?.retries).filter(|retries| *retries > 0);
    let failing = health.failing_streak.unwrap_or_default() >= retries.unwrap_or(RETRIES);
    let verdict = match health.status {
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        _ => Health::None,
    };
    let log = health.log.unwrap_or_default();
    let passed = verdict == Health::Healthy || log.iter().any(|result| result.exit_code == Some(0));
    let verdict = if ended && !failing { before_its_end(verdict, passed) } else { verdict };
    let (output, code) = output(&log, ended);
    let output = said_by_check(output, code, MAX_OUTPUT);
    Ok(Some(Seeing { health: Some(verdict), output, passed, settled: ended }))
}

/// Docker calls every container unhealthy that ends, whatever ended it.
fn before_its_end(verdict: Health, passed: bool) -> Health {
    match verdict {
        Health::Unhealthy if passed => Health::Healthy,
        Health::Unhealthy => Health::Starting,
        other => other,
    }
}

/// The output of the latest check, and its exit code. One that ran into the end of its container says nothing about the app.
fn output(log: &[HealthcheckResult], ended: bool) -> (&str, i64) {
    let cut_off = |text: &str| ended && (text.is_empty() || text.starts_with("OCI runtime exec failed"));
    let of = |it: &'_ HealthcheckResult| it.exit_code.unwrap_or_default();
    let outputs: Vec<(&str, i64)> =
        log.iter().rev().map(|it| (it.output.as_deref().unwrap_or_default(), of(it))).collect();
    let telling = outputs.iter().find(|(text, _)| !cut_off(text)).or(outputs.first());
    telling.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerStatus, TaskStatus};

    fn task(state: TaskState, message: &str, error: Option<&str>) -> Task {
        let container = ContainerStatus { container_id: Some("c".into()), exit_code: Some(137), pid: None };
        let status = TaskStatus {
            state: Some(state),
            message: Some(message.into()),
            err: error.map(str::to_owned),
            timestamp: Some("2026-11-24T02:21:08.673159682Z".into()),
            container_status: Some(container),
            ..TaskStatus::default()
        };
        Task { id: Some("x1".into()), slot: Some(2), status: Some(status), ..Task::default() }
    }

    fn seen_as(state: TaskState, message: &str, error: Option<&str>) -> Seen {
        seen("app", &task(state, message, error), &Versions::default(), &BTreeMap::new())
    }

    #[test]
    fn a_task_killed_while_starting_is_told_from_one_killed_later() {
        let unhealthy = Some("task: non-zero exit (137): dockerexec: unhealthy container");
        assert!(seen_as(TaskState::FAILED, "starting", unhealthy).killed_while_starting());
        assert!(!seen_as(TaskState::FAILED, "started", unhealthy).killed_while_starting());
        assert!(!seen_as(TaskState::FAILED, "starting", Some("task: non-zero exit (1)")).killed_while_starting());
    }

    #[test]
    fn a_task_that_was_stopped_is_not_to_blame_for_a_network_that_was_gone() {
        let gone = Some("error while removing network: unknown network x_default id kv55ekb1ncfo");
        let stopped = Task { desired_state: Some(TaskState::SHUTDOWN), ..task(TaskState::FAILED, "started", gone) };
        let seen_of = |task: &Task| seen("app", task, &Versions::default(), &BTreeMap::new());
        let stopped = seen_of(&stopped);
        assert_eq!((stopped.phase, stopped.exit_code, stopped.error.as_str()), (TaskPhase::Shutdown, Some(137), ""));
        let crashed = Task {
            desired_state: Some(TaskState::SHUTDOWN),
            ..task(TaskState::FAILED, "started", Some("task: non-zero exit (1)"))
        };
        assert_eq!(seen_of(&crashed).phase, TaskPhase::Failed);
    }

    #[test]
    fn a_task_that_stopped_politely_when_it_was_killed_for_its_health_was_never_ready() {
        let seeing = |passed| Seeing { health: Some(Health::Unhealthy), passed, ..Seeing::default() };
        let seen = |passed| {
            let health = [("x1".to_owned(), seeing(passed))].into();
            seen("app", &task(TaskState::COMPLETE, "finished", None), &Versions::default(), &health)
        };
        assert!(seen(false).killed_while_starting());
        assert!(!seen(true).killed_while_starting());
        assert!(seen_as(TaskState::COMPLETE, "finished", None).ever_ready, "a job without a check");
    }

    #[test]
    fn a_container_that_ended_by_itself_was_not_unhealthy() {
        assert_eq!(before_its_end(Health::Unhealthy, false), Health::Starting);
        assert_eq!(before_its_end(Health::Unhealthy, true), Health::Healthy);
        assert_eq!(before_its_end(Health::None, false), Health::None);
    }

    #[test]
    fn a_check_that_ran_into_the_end_of_its_container_is_not_quoted() {
        let result = |output: &str| HealthcheckResult { output: Some(output.into()), ..Default::default() };
        let (told, cut) = (result("connection refused"), result("OCI runtime exec failed: exec failed: setns"));
        assert_eq!(output(&[told.clone(), cut.clone(), result("")], true).0, "connection refused");
        assert_eq!(output(&[told, cut.clone()], false).0, cut.output.as_deref().unwrap());
        assert_eq!(
            output(std::slice::from_ref(&cut), true).0,
            cut.output.as_deref().unwrap(),
            "no other: its program is missing"
        );
        assert_eq!(output(&[], true), ("", 0));
    }

    #[test]
    fn an_exit_code_is_only_that_of_an_ended_task() {
        let running = seen_as(TaskState::RUNNING, "started", None);
        assert_eq!((running.exit_code, running.id.as_str(), running.slot), (None, "app.2.x1", 2));
        assert!(running.started_at.is_some() && running.ever_ready);
        assert_eq!(seen_as(TaskState::FAILED, "started", None).exit_code, Some(137));
        assert_eq!(seen_as(TaskState::STARTING, "starting", None).started_at, None);
        let mut rejected = task(TaskState::REJECTED, "preparing", Some("No such image"));
        rejected.status.as_mut().unwrap().container_status.as_mut().unwrap().container_id = Some(String::new());
        let rejected = seen("app", &rejected, &Versions::default(), &BTreeMap::new());
        assert_eq!((rejected.exit_code, rejected.ever_ready), (None, false));
    }

    #[test]
    fn a_finished_rollback_still_says_why_it_began() {
        let mut causes = BTreeMap::new();
        let mut say = |state, message: &str| {
            let status =
                ServiceUpdateStatus { state: Some(state), message: Some(message.into()), ..Default::default() };
            update("app", &status, &mut causes).unwrap().message
        };
        use ServiceUpdateStatusStateEnum as State;
        assert_eq!(say(State::ROLLBACK_STARTED, "task x failed"), "task x failed");
        assert_eq!(say(State::ROLLBACK_COMPLETED, "rollback completed"), "rollback completed: task x failed");
        assert_eq!(say(State::UPDATING, "update in progress"), "update in progress");
        assert_eq!(say(State::ROLLBACK_COMPLETED, "rollback completed"), "rollback completed");
    }

    #[test]
    fn a_digest_is_no_part_of_the_image_that_a_compose_file_names() {
        let resolved = without_digest("localhost:5000/app:1@sha256:abc");
        assert_eq!(resolved, ("localhost:5000/app:1".to_owned(), Some("sha256:abc".to_owned())));
        assert_eq!(without_digest("nginx:1"), ("nginx:1".to_owned(), None));
    }
}
