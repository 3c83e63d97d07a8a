//! Waiting for a deployment by evidence: update state, task identity, health, failures. Never by "something answers".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Keeper;
use super::awaited::Awaited;
use super::blame::{blame, had_no_room};
use super::outage::Outage;
use crate::engine::{Ages, Health, ServiceState, TaskPhase, TaskState, UpdateState, UpdateStatus};
use crate::fault::{Failure, Fault};
use crate::mask::Masks;
use crate::poll::{Look, Poll};
use crate::recipe::stack::{RestartCondition, RestartPolicy, Stack};

/// A service that failed this often since the deployment will not come up; waiting longer only costs time.
const CRASH_LOOP: usize = 3;

/// Without a health check, all there is to see is that the process does not end at once.
const STEADY: Duration = Duration::from_millis(500);

/// Log lines shown of a service that does not come up.
const LOG_TAIL: usize = 10;

/// What has to become true.
pub struct Expect<'a> {
    pub stack: &'a Stack,
    /// Spec versions before the change.
    pub before: &'a BTreeMap<String, u64>,
    /// Tasks that had ended before the change: they are not what it did.
    pub ended: BTreeSet<String>,
    pub ages: Ages,
    pub bumps: Bumps,
}

impl<'a> Expect<'a> {
    /// Of a change before which no task had ended.
    pub fn new(stack: &'a Stack, before: &'a BTreeMap<String, u64>) -> Self {
        Expect { stack, before, ended: BTreeSet::new(), ages: Ages::default(), bumps: Bumps::default() }
    }

    /// Whether the service was changed.
    fn is_changed(&self, service: &ServiceState) -> bool {
        self.before.get(&service.name) != Some(&service.spec_version)
    }
}

/// Tasks that ended while another service was still on its way up. Swarm ignores `depends_on`, so that this is how jobs and
/// workers wait for their database; how long they may, the deadline says.
#[derive(Default)]
pub struct Bumps(Mutex<BTreeSet<String>>);

impl Bumps {
    fn forgive<'a>(&self, tasks: impl Iterator<Item = &'a TaskState>) {
        let mut forgiven = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forgiven.extend(tasks.map(|task| task.id.clone()));
    }

    fn are(&self, task: &TaskState) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&task.id)
    }
}

/// Waits until every service of the stack runs what was deployed, or can no longer get there.
pub async fn wait(keeper: &Arc<Keeper>, expect: Expect<'_>, deadline: Duration) -> Result<(), Failure> {
    let poll = Poll { interval: Duration::from_millis(10), deadline };
    let outage = Outage::default();
    let awaited = Awaited::default();
    let waited = poll.until(format!("the stack `{}` to converge", expect.stack.name), async || {
        let services = match outage.look(observe(keeper)).await? {
            Ok(services) => services,
            Err(reason) => return Ok(Look::NotYet(reason)),
        };
        match judge(&services, &expect) {
            Verdict::Converged => Ok(Look::Ready(Ok(()))),
            Verdict::NotYet(reason) => {
                awaited.tell(keeper, &services, &expect);
                keeper.engine().await?.changed().await;
                Ok(Look::NotYet(reason))
            }
            Verdict::Never { service, reason } => Ok(Look::Ready(Err((service, reason)))),
        }
    });
    match waited.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err((service, reason))) => {
            let log = last_words(keeper, &service).await;
            Err(unless_no_room(keeper, Failure::new(Fault::Recipe, format!("{reason}{log}"))).await)
        }
        Err(error) if outage.goes_on() => Err(Failure::infrastructure(error)),
        Err(error) => {
            let mut logs = String::new();
            for service in unsettled(keeper, &expect).await {
                logs.push_str(&last_words(keeper, &service).await);
            }
            let failure = blame(error);
            let failure = Failure { message: format!("{}{logs}", failure.message), ..failure };
            Err(unless_no_room(keeper, failure).await)
        }
    }
}

/// Waits until the ports that `recipe.toml` names accept connections.
pub async fn ready(keeper: &Arc<Keeper>, deadline: Duration) -> Result<(), Failure> {
    for port in &keeper.spec.settings.recipe_toml.ready {
        let what = format!("port {} of service `{}` to accept connections", port.tcp, port.service);
        let ready = Poll::within(deadline).until(what, async || {
            match keeper.engine().await?.connects(&port.service, port.tcp).await? {
                true => Ok(Look::Ready(())),
                false => Ok(Look::NotYet("it refuses them".into())),
            }
        });
        ready.await.map_err(blame)?;
    }
    Ok(())
}

enum Verdict {
    Converged,
    NotYet(String),
    Never { service: String, reason: String },
}

fn judge(services: &[ServiceState], expect: &Expect<'_>) -> Verdict {
    let mut waiting = Vec::new();
    let under_way = under_way(services, expect);
    for (name, declared) in &expect.stack.services {
        let Some(service) = services.iter().find(|service| service.name == *name) else {
            waiting.push(format!("service `{name}` does not exist yet"));
            continue;
        };
        let changed = expect.is_changed(service);
        // Another one may be what it is waiting for.
        if under_way.iter().any(|other| *other != name) {
            expect.bumps.forgive(service.failures());
        }
        let ended = || if in_flight(service, changed) { None } else { for_ever(service, &declared.deploy.restart) };
        if let Some(reason) = hopeless(service, changed, expect).or_else(ended) {
            return Verdict::Never { service: name.clone(), reason };
        }
        waiting.extend(unsettled_because(service, changed, &expect.ages));
    }
    if waiting.is_empty() { Verdict::Converged } else { Verdict::NotYet(waiting.join("; ")) }
}

/// The services that are not up yet, and do not fail as well.
fn under_way<'a>(services: &[ServiceState], expect: &Expect<'a>) -> Vec<&'a String> {
    let is_under_way = |name: &String| {
        let Some(service) = services.iter().find(|service| service.name == *name) else { return true };
        let is_failing = service.failures().filter(|task| !expect.ended.contains(&task.id)).count() >= CRASH_LOOP;
        !is_failing && unsettled_because(service, expect.is_changed(service), &expect.ages).is_some()
    };
    expect.stack.services.keys().filter(|name| is_under_way(name)).collect()
}

/// Why a service will not converge any more. Of the update states only `updating` and `rollback_started` are in
/// flight; `paused` is for ever, and a rollback leaves healthy replicas of the old version behind.
fn hopeless(service: &ServiceState, changed: bool, expect: &Expect<'_>) -> Option<String> {
    let name = &service.name;
    if let Some(update) = service.update.as_ref().filter(|_| changed) {
        let failed =
            matches!(update.state, UpdateState::Paused | UpdateState::RollbackCompleted | UpdateState::RollbackPaused);
        let is_done = update.state == UpdateState::Paused && service.is_done();
        if failed && !is_done {
            let task = cause(service, update).map(|task| format!("; {}", describe(task))).unwrap_or_default();
            return Some(format!("the update of service `{name}` failed: {} ({}){task}", update.state, update.message));
        }
    }
    if in_flight(service, changed) {
        return None;
    }
    let mut failures: Vec<&TaskState> = service.failures().filter(|task| !expect.ended.contains(&task.id)).collect();
    if let Some(rejected) = failures.iter().find(|task| task.phase == TaskPhase::Rejected && !may_pass(task)) {
        return Some(format!("service `{name}` cannot start: {}", describe(rejected)));
    }
    failures.retain(|task| !expect.bumps.are(task));
    if failures.len() >= CRASH_LOOP {
        let last = describe(failures[0]);
        return Some(format!(
            "service `{name}` does not stay up: {} tasks ended by themselves, the last one: {last}",
            failures.len()
        ));
    }
    None
}

fn in_flight(service: &ServiceState, changed: bool) -> bool {
    let update = service.update.as_ref().filter(|_| changed);
    update.is_some_and(|update| matches!(update.state, UpdateState::Updating | UpdateState::RollbackStarted))
}

/// Why nothing of a slot will run any more: its task ended badly, and the restart policy grants it no other.
fn for_ever(service: &ServiceState, policy: &RestartPolicy) -> Option<String> {
    let attempts = match policy.condition {
        RestartCondition::None => 0,
        _ if policy.window.is_zero() => policy.max_attempts?,
        _ => return None,
    };
    let runs = |slot: u32| service.wanted().any(|task| task.slot == slot);
    let in_slot = |slot: u32| service.failures().filter(move |task| task.slot == slot).count() as u64;
    // A failure that the Swarm itself tries again is none of the policy's.
    let last = service
        .failures()
        .find(|task| task.phase != TaskPhase::Rejected && !runs(task.slot) && in_slot(task.slot) > attempts)?;
    let name = &service.name;
    Some(format!("service `{name}` does not stay up, and its restart policy allows no more: {}", describe(last)))
}

/// Swarm also rejects a task when a network is not ready on its node yet, and tries again by itself.
fn may_pass(rejected: &TaskState) -> bool {
    rejected.error.contains("network")
}

fn unsettled_because(service: &ServiceState, changed: bool, ages: &Ages) -> Option<String> {
    let name = &service.name;
    if let Some(update) = service.update.as_ref().filter(|_| in_flight(service, changed)) {
        return Some(format!("service `{name}` is {}: {}", update.state, tasks(service)));
    }
    if service.has_cycled() {
        return None;
    }
    let settled = |task: &&TaskState| {
        task.phase == TaskPhase::Running
            && (task.health == Health::Healthy || task.health == Health::None && ages.has_run(task, STEADY))
            && task.spec_version == service.spec_version
    };
    let running = service.wanted().filter(settled).count();
    if running + service.done() == service.replicas as usize && service.wanted().count() == running {
        return None;
    }
    Some(format!("service `{name}`: {running}/{} tasks run; {}", service.replicas, tasks(service)))
}

fn tasks(service: &ServiceState) -> String {
    let described: Vec<String> = service.tasks.iter().take(3).map(describe).collect();
    if described.is_empty() { "it has no task yet".into() } else { described.join(", ") }
}

/// The task for which an update failed: the one that Swarm names. Otherwise, after a rollback, one that was made for
/// another specification than the current one: tasks of the old one may fail on the way back, and are not the cause.
fn cause<'a>(service: &'a ServiceState, update: &UpdateStatus) -> Option<&'a TaskState> {
    let rolled_back = matches!(update.state, UpdateState::RollbackCompleted | UpdateState::RollbackPaused);
    let is_named = |task: &&TaskState| {
        let id = task.id.rsplit('.').next().unwrap_or_default();
        !id.is_empty() && update.message.split_whitespace().any(|word| word == id)
    };
    let is_new = |task: &&TaskState| (task.spec_version == service.spec_version) != rolled_back;
    let mut failed = service.tasks.iter().filter(|task| task.failed());
    failed.clone().find(is_named).or_else(|| failed.clone().find(is_new)).or_else(|| failed.next())
}

/// `task app.1.x is failed (exit code 1: …)`, with what its health check said.
pub fn describe(task: &TaskState) -> String {
    let mut text = format!("task `{}` is {}", task.id, task.phase);
    match (task.exit_code, task.error.is_empty()) {
        (Some(code), true) => text.push_str(&format!(" (exit code {code})")),
        (Some(code), false) => text.push_str(&format!(" (exit code {code}: {})", task.error)),
        (None, false) => text.push_str(&format!(" ({})", task.error)),
        (None, true) => {}
    }
    // Of an app that ended by itself meanwhile, a check says only that there is nobody to ask.
    let ended_by_itself = task.failed() && task.health == Health::Starting && !task.killed_while_starting();
    let is_ill = matches!(task.health, Health::Starting | Health::Unhealthy) && !ended_by_itself;
    if is_ill && !task.health_output.is_empty() {
        text.push_str(&format!(", its health check says {:?}", task.health_output.trim()));
    }
    if task.killed_while_starting() && cannot_run(&task.health_output) {
        text.push_str(
            ": it was killed while it was still starting, because its health check cannot be run in the container: the \
             program, or a file that it needs, is not there",
        );
    } else if task.killed_while_starting() {
        text.push_str(
            ": it was killed while it was still starting, because its health check failed beyond `start_period` and \
             `retries`; an app that needs longer for its first start or a migration needs a longer `start_period`",
        );
    }
    text
}

/// Whether a health check failed for itself, whatever the app does.
fn cannot_run(said: &str) -> bool {
    let said = said.to_lowercase();
    let signs = ["executable file not found", ": not found", "cannot find module", "exit code 126", "exit code 127"];
    signs.iter().any(|sign| said.contains(sign))
}

async fn observe(keeper: &Keeper) -> anyhow::Result<Vec<ServiceState>> {
    keeper.engine().await?.services_now().await
}

/// That a service does not come up is not the recipe's fault where the engine had no room for one of its tasks.
async fn unless_no_room(keeper: &Keeper, failure: Failure) -> Failure {
    if failure.fault != Fault::Recipe {
        return failure;
    }
    match observe(keeper).await {
        Ok(services) if services.iter().flat_map(|it| &it.tasks).any(TaskState::speaks_of_no_space) => {
            let state = keeper.app.lock().await.deployed.state.clone();
            let document = state.map(|state| state.document).unwrap_or_default();
            match had_no_room(&keeper.spec.engine, &keeper.dir, &document) {
                true => Failure { fault: Fault::Infrastructure, ..failure },
                false => failure,
            }
        }
        _ => failure,
    }
}

async fn unsettled(keeper: &Keeper, expect: &Expect<'_>) -> Vec<String> {
    let Ok(services) = observe(keeper).await else { return Vec::new() };
    let unsettled = services.iter().filter(|service| {
        let is_awaited = expect.stack.services.contains_key(&service.name);
        is_awaited && unsettled_because(service, expect.is_changed(service), &expect.ages).is_some()
    });
    unsettled.map(|service| service.name.clone()).collect()
}

/// The last log lines of a service, masked, as an appendix to a message.
pub async fn last_words(keeper: &Keeper, service: &str) -> String {
    let Ok(engine) = keeper.engine().await else { return String::new() };
    let lines = match engine.logs(service, Some(LOG_TAIL)).await {
        Ok(lines) => lines,
        Err(error) => return format!("\nthe log of service `{service}` could not be read: {error:#}"),
    };
    if lines.is_empty() {
        return format!("\nservice `{service}` has logged nothing");
    }
    let secrets = keeper.app.lock().await.secrets.clone();
    let masks = Masks::new(secrets.values().map(|value| value.expose()));
    let Ok(masks) = masks else { return String::new() };
    let text: String = lines.iter().map(|line| format!("\n  {}", masks.mask(&line.text))).collect();
    format!("\nlast log lines of service `{service}`:{text}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::recipe::stack::Service;

    fn task(phase: TaskPhase) -> TaskState {
        TaskState {
            id: "app.1.x".into(),
            slot: 1,
            phase,
            health: Health::None,
            image: "nginx:2".into(),
            digest: None,
            spec_version: 2,
            desired_running: phase == TaskPhase::Running,
            exit_code: (phase == TaskPhase::Failed).then_some(1),
            error: String::new(),
            started_at: Some(SystemTime::UNIX_EPOCH),
            health_output: String::new(),
            ever_ready: true,
        }
    }

    fn verdict(update: Option<UpdateState>, tasks: Vec<TaskState>) -> Verdict {
        let stack = Stack { services: [("app".to_owned(), Service::default())].into(), ..Stack::default() };
        let update = update.map(|state| UpdateStatus { state, message: "said Swarm".into() });
        let service =
            ServiceState { name: "app".into(), replicas: 1, spec_version: 2, update, tasks, ..Default::default() };
        let before = [("app".to_owned(), 1)].into();
        judge(&[service], &Expect::new(&stack, &before))
    }

    #[test]
    fn full_replicas_of_the_new_spec_are_convergence() {
        assert!(matches!(verdict(Some(UpdateState::Completed), vec![task(TaskPhase::Running)]), Verdict::Converged));
        assert!(matches!(verdict(None, vec![task(TaskPhase::Running)]), Verdict::Converged));
    }

    #[test]
    fn a_rolled_back_update_is_a_failure_although_everything_runs() {
        let Verdict::Never { reason, .. } =
            verdict(Some(UpdateState::RollbackCompleted), vec![task(TaskPhase::Running), task(TaskPhase::Failed)])
        else {
            panic!("a rollback was taken for a success")
        };
        assert_eq!(
            reason,
            "the update of service `app` failed: rollback_completed (said Swarm); task `app.1.x` is failed (exit code 1)"
        );
    }

    /// A job that needs its database ends again and again until it is there, and then no more.
    #[test]
    fn what_ends_while_another_service_comes_up_is_no_crash_loop_until_that_is_there() {
        let stack = Stack {
            services: [("app".to_owned(), Service::default()), ("db".to_owned(), Service::default())].into(),
            ..Stack::default()
        };
        let before = BTreeMap::new();
        let expect = Expect::new(&stack, &before);
        let failed = |id: u32| TaskState { id: format!("app.1.{id}"), ..task(TaskPhase::Failed) };
        let service = |name: &str, tasks| ServiceState {
            name: name.into(),
            replicas: 1,
            spec_version: 2,
            tasks,
            ..Default::default()
        };
        let look = |app: std::ops::Range<u32>, db: TaskState| {
            judge(&[service("app", app.map(failed).collect()), service("db", vec![db])], &expect)
        };
        let starting = || TaskState { health: Health::Starting, ..task(TaskPhase::Running) };
        assert!(matches!(look(0..5, starting()), Verdict::NotYet(_)));
        // What came before the database was there is forgiven, and three more are not.
        assert!(matches!(look(0..5, task(TaskPhase::Running)), Verdict::NotYet(_)));
        let Verdict::Never { service: name, reason } = look(3..8, task(TaskPhase::Running)) else { panic!() };
        let expected = "service `app` does not stay up: 3 tasks ended by themselves, the last one: task `app.1.5`";
        assert!(name == "app" && reason.starts_with(expected), "{reason}");
        // Two that fail wait for nobody.
        let both = [service("app", (10..13).map(failed).collect()), service("db", (20..23).map(failed).collect())];
        assert!(matches!(judge(&both, &expect), Verdict::Never { .. }));
    }

    #[test]
    fn a_paused_update_never_ends() {
        let Verdict::Never { reason, .. } = verdict(Some(UpdateState::Paused), vec![]) else { panic!() };
        assert_eq!(reason, "the update of service `app` failed: paused (said Swarm)");
    }

    #[test]
    fn tasks_of_the_old_spec_and_unhealthy_ones_do_not_count() {
        let old = TaskState { spec_version: 1, ..task(TaskPhase::Running) };
        let Verdict::NotYet(reason) = verdict(None, vec![old]) else { panic!() };
        assert_eq!(reason, "service `app`: 0/1 tasks run; task `app.1.x` is running");
        let sick =
            TaskState { health: Health::Starting, health_output: "refused\n".into(), ..task(TaskPhase::Running) };
        let Verdict::NotYet(reason) = verdict(None, vec![sick]) else { panic!() };
        assert_eq!(
            reason,
            "service `app`: 0/1 tasks run; task `app.1.x` is running, its health check says \"refused\""
        );
    }

    /// What becomes of a service that runs once, under this policy.
    fn once(condition: RestartCondition, tasks: Vec<TaskState>) -> Verdict {
        once_updated(condition, None, tasks)
    }

    fn once_updated(condition: RestartCondition, update: Option<UpdateState>, tasks: Vec<TaskState>) -> Verdict {
        let update = update.map(|state| UpdateStatus { state, message: "said Swarm".into() });
        let restart = RestartPolicy { condition, ..RestartPolicy::default() };
        let mut service = Service::default();
        service.deploy.restart = restart;
        let stack = Stack { services: [("app".to_owned(), service)].into(), ..Stack::default() };
        let state = ServiceState {
            name: "app".into(),
            replicas: 1,
            restarts: condition,
            spec_version: 2,
            update,
            tasks,
            ..Default::default()
        };
        judge(&[state], &Expect::new(&stack, &BTreeMap::new()))
    }

    #[test]
    fn a_service_that_runs_once_has_converged_when_it_ended_well() {
        use RestartCondition::{Any, None, OnFailure};
        let complete = || vec![TaskState { exit_code: Some(0), ..task(TaskPhase::Complete) }];
        assert!(matches!(once(OnFailure, complete()), Verdict::Converged));
        assert!(matches!(once(None, complete()), Verdict::Converged));
        // Swarm sees an early end in it.
        assert!(matches!(once_updated(OnFailure, Some(UpdateState::Paused), complete()), Verdict::Converged));
        let back = once_updated(OnFailure, Some(UpdateState::RollbackCompleted), complete());
        assert!(matches!(back, Verdict::Never { .. }), "that was the work of the old specification");
        let Verdict::NotYet(reason) = once(Any, complete()) else { panic!("it comes back") };
        assert_eq!(reason, "service `app`: 0/1 tasks run; task `app.1.x` is complete (exit code 0)");
    }

    #[test]
    fn a_service_that_may_not_be_restarted_and_ended_badly_ends_the_wait() {
        let Verdict::Never { reason, .. } = once(RestartCondition::None, vec![task(TaskPhase::Failed)]) else {
            panic!()
        };
        let expected = "service `app` does not stay up, and its restart policy allows no more: task `app.1.x` is failed \
                        (exit code 1)";
        assert_eq!(reason, expected);
        let again = once(RestartCondition::OnFailure, vec![task(TaskPhase::Failed)]);
        assert!(matches!(again, Verdict::NotYet(_)), "it is tried again");
    }

    #[test]
    fn without_a_health_check_a_task_has_to_run_for_a_moment() {
        let young = TaskState { started_at: Some(SystemTime::now()), ..task(TaskPhase::Running) };
        assert!(matches!(verdict(None, vec![young.clone()]), Verdict::NotYet(_)));
        let healthy = TaskState { health: Health::Healthy, ..young };
        assert!(matches!(verdict(None, vec![healthy]), Verdict::Converged));
    }

    #[test]
    fn a_rollback_under_way_is_waited_for() {
        let Verdict::NotYet(reason) = verdict(Some(UpdateState::RollbackStarted), vec![]) else { panic!() };
        assert_eq!(reason, "service `app` is rollback_started: it has no task yet");
    }

    #[test]
    fn an_image_that_does_not_exist_and_a_crash_loop_end_the_wait() {
        let rejected = TaskState { error: "No such image: nginx:99".into(), ..task(TaskPhase::Rejected) };
        let Verdict::Never { reason, .. } = verdict(None, vec![rejected]) else { panic!() };
        assert_eq!(reason, "service `app` cannot start: task `app.1.x` is rejected (No such image: nginx:99)");
        let Verdict::Never { reason, .. } = verdict(None, vec![task(TaskPhase::Failed); 3]) else { panic!() };
        assert!(reason.starts_with("service `app` does not stay up: 3 tasks ended by themselves"), "{reason}");
    }

    #[test]
    fn what_a_check_said_of_an_app_that_ended_by_itself_is_left_out() {
        let ended = TaskState {
            health: Health::Starting,
            health_output: "nobody there".into(),
            exit_code: Some(127),
            ..task(TaskPhase::Failed)
        };
        assert_eq!(describe(&ended), "task `app.1.x` is failed (exit code 127)");
        let killed = TaskState { health: Health::Unhealthy, ..ended };
        assert!(describe(&killed).contains("its health check says \"nobody there\""), "{}", describe(&killed));
    }

    #[test]
    fn a_task_killed_while_starting_is_called_so_and_one_killed_later_is_not() {
        let error = "task: non-zero exit (137): dockerexec: unhealthy container".to_owned();
        let killed = TaskState { error, ever_ready: false, ..task(TaskPhase::Failed) };
        assert!(describe(&killed).contains("killed while it was still starting"), "{}", describe(&killed));
        let later = TaskState { ever_ready: true, ..killed };
        assert!(!describe(&later).contains("still starting"), "{}", describe(&later));
    }

    #[test]
    fn a_rollback_is_blamed_on_the_task_of_the_new_version() {
        let back = TaskState { error: "unknown network".into(), ..task(TaskPhase::Rejected) };
        let new = TaskState { id: "app.1.new".into(), spec_version: 1, ..task(TaskPhase::Failed) };
        let tasks = vec![task(TaskPhase::Running), back, new];
        let Verdict::Never { reason, .. } = verdict(Some(UpdateState::RollbackCompleted), tasks) else { panic!() };
        assert!(reason.ends_with("; task `app.1.new` is failed (exit code 1)"), "{reason}");
    }

    /// Between a failure and the rollback Swarm starts another task, which may be rejected for a reason of its own.
    #[test]
    fn an_update_is_blamed_on_the_task_that_swarm_names() {
        let of = |id: &str, phase| TaskState { id: format!("app.1.{id}"), spec_version: 1, ..task(phase) };
        let tasks = vec![of("later", TaskPhase::Rejected), of("first", TaskPhase::Failed)];
        let message = "update rolled back due to failure or early termination of task first".to_owned();
        let update = UpdateStatus { state: UpdateState::RollbackCompleted, message };
        let service = ServiceState { name: "app".into(), spec_version: 2, tasks, ..Default::default() };
        assert_eq!(cause(&service, &update).unwrap().id, "app.1.first");
    }

    #[test]
    fn a_service_that_is_not_there_is_waited_for() {
        let stack = Stack { services: [("app".to_owned(), Service::default())].into(), ..Stack::default() };
        let Verdict::NotYet(reason) = judge(&[], &Expect::new(&stack, &BTreeMap::new())) else { panic!() };
        assert_eq!(reason, "service `app` does not exist yet");
    }
}
