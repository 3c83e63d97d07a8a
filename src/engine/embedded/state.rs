//! What the engine knows: services, their slots and tasks. Pure bookkeeping, no effects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use super::super::{Health, ServiceState, TaskPhase, TaskState, UpdateStatus};
use super::container::Container;
use super::image::Root;
use super::spec::Spec;

/// Tasks remembered for each service; of the ended ones the oldest are forgotten first.
const HISTORY: usize = 100;
/// The bridge's own place in every network.
const GATEWAY: u8 = 1;
pub const PREFIX: u8 = 24;

#[derive(Default)]
pub struct State {
    /// The stack's name, for `<stack>_<service>`.
    pub stack: String,
    pub services: BTreeMap<String, Record>,
    /// Networks by name, with the number that makes their subnet and bridge.
    pub networks: BTreeMap<String, u32>,
    /// Names of the volumes by their key in the stack.
    pub volumes: BTreeMap<String, String>,
    /// Directories of the volumes that exist, by name.
    pub volume_dirs: BTreeMap<String, PathBuf>,
    /// What the image references of tasks resolved to.
    pub images: BTreeMap<String, Root>,
    /// Digests of secrets and configs, by name.
    pub files: BTreeMap<String, [u8; 32]>,
    /// Nothing is started any more.
    pub closed: bool,
}

/// One service.
pub struct Record {
    pub spec: Arc<Spec>,
    pub spec_version: u64,
    /// What a rollback goes back to.
    pub previous: Option<Arc<Spec>>,
    pub update: Option<UpdateStatus>,
    /// Grows with every deploy and rollback: an update that is not the newest one stops.
    pub generation: u64,
    pub slots: BTreeMap<u32, Slot>,
    /// Newest first.
    pub tasks: Vec<Task>,
}

/// A replica's place: it keeps its addresses while tasks come and go.
#[derive(Default)]
pub struct Slot {
    /// By network.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// When its tasks were restarted, for `max_attempts` and `window`.
    pub restarts: Vec<Instant>,
}

pub struct Task {
    pub id: String,
    pub slot: u32,
    pub spec: Arc<Spec>,
    pub spec_version: u64,
    pub phase: TaskPhase,
    pub health: Health,
    pub digest: Option<String>,
    pub exit_code: Option<i32>,
    pub error: String,
    pub started_at: Option<SystemTime>,
    pub health_output: String,
    /// The update that made it, by its generation.
    pub made_by: Option<u64>,
    /// Since when it has been running, for an update's monitor.
    pub running_since: Option<Instant>,
    pub ended_at: Option<Instant>,
    /// True tells the task to stop.
    pub stop: watch::Sender<bool>,
    /// Its own addresses, by network.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// It answers for its slot's addresses.
    pub holds_slot: bool,
    /// While it runs.
    pub container: Option<Arc<Container>>,
    /// What its host table says.
    pub hosts: String,
    /// What it was killed for, where that was seen from here.
    pub beyond: Option<String>,
}

impl Task {
    pub fn desired_running(&self) -> bool {
        !*self.stop.borrow()
    }

    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn ended(&self) -> bool {
        matches!(self.phase, TaskPhase::Complete | TaskPhase::Failed | TaskPhase::Rejected | TaskPhase::Shutdown)
    }

    fn observe(&self) -> TaskState {
        TaskState {
            id: self.id.clone(),
            slot: self.slot,
            phase: self.phase,
            health: self.health,
            image: self.spec.service.image.clone(),
            digest: self.digest.clone(),
            spec_version: self.spec_version,
            // As in Swarm: a task that has ended is not wanted any more, even if none comes after it.
            desired_running: self.desired_running() && !self.ended(),
            exit_code: self.exit_code,
            error: self.error.clone(),
            started_at: self.started_at,
            health_output: self.health_output.clone(),
            ever_ready: self.running_since.is_some(),
        }
    }
}

impl Record {
    pub fn new(spec: Arc<Spec>) -> Record {
        Record {
            spec,
            spec_version: 1,
            previous: None,
            update: None,
            generation: 0,
            slots: BTreeMap::new(),
            tasks: Vec::new(),
        }
    }

    pub fn observe(&self, name: &str) -> ServiceState {
        ServiceState {
            name: name.to_owned(),
            image: self.spec.service.image.clone(),
            replicas: self.spec.service.deploy.mode.replicas(),
            restarts: self.spec.service.deploy.restart.condition,
            cycle: Default::default(),
            labels: self.spec.service.deploy.labels.clone(),
            spec_version: self.spec_version,
            update: self.update.clone(),
            tasks: self.tasks.iter().map(Task::observe).collect(),
            mounts: self.spec.volume_mounts(),
        }
    }

    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    pub fn task_mut(&mut self, id: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.id == id)
    }

    /// Tasks of a slot that the engine wants to run.
    pub fn wanted(&self, slot: u32) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.slot == slot && task.desired_running())
    }

    /// The task an outsider talks to: the newest running one.
    pub fn running(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.phase == TaskPhase::Running && task.container.is_some())
    }

    /// The slots whose wanted tasks are not exactly one of the current spec.
    pub fn dirty_slots(&self) -> Vec<u32> {
        let clean = |slot: u32| {
            let mut wanted = self.wanted(slot);
            wanted.next().is_some_and(|task| task.spec.same_tasks(&self.spec)) && wanted.next().is_none()
        };
        let wanted_slots = 1..=self.spec.service.deploy.mode.replicas();
        wanted_slots.filter(|slot| self.slots.contains_key(slot) && !clean(*slot)).collect()
    }

    /// Counts the tasks that serve the current spec as its own: a change of labels replaces none, and a rollback keeps
    /// those that it finds.
    pub fn adopt_tasks(&mut self) {
        for task in &mut self.tasks {
            if task.desired_running() && task.spec.same_tasks(&self.spec) {
                task.spec = Arc::clone(&self.spec);
                task.spec_version = self.spec_version;
            }
        }
    }

    /// Forgets the oldest ended tasks beyond the limit.
    fn prune(&mut self) {
        let mut excess = self.tasks.len().saturating_sub(HISTORY);
        while excess > 0 {
            let Some(oldest) = self.tasks.iter().rposition(Task::ended) else { return };
            self.tasks.remove(oldest);
            excess -= 1;
        }
    }
}

impl State {
    /// A service by its name; the error names those that there are.
    pub fn known(&self, service: &str) -> Result<&Record> {
        self.services.get(service).with_context(|| {
            let known: Vec<&str> = self.services.keys().map(String::as_str).collect();
            format!("there is no service `{service}`, only `{}`", known.join("`, `"))
        })
    }

    pub fn task(&self, service: &str, id: &str) -> Option<&Task> {
        self.services.get(service)?.task(id)
    }

    pub fn task_mut(&mut self, service: &str, id: &str) -> Option<&mut Task> {
        self.services.get_mut(service)?.task_mut(id)
    }

    /// Makes sure that a slot exists and has an address in every network of the current spec.
    pub fn ensure_slot(&mut self, service: &str, slot: u32) {
        let Some(record) = self.services.get(service) else { return };
        let known = record.slots.get(&slot).map(|slot| slot.addresses.clone()).unwrap_or_default();
        let networks: Vec<String> = record.spec.networks.keys().cloned().collect();
        let addresses = networks
            .into_iter()
            .filter_map(|network| {
                let address = known.get(&network).copied().or_else(|| self.free_address(&network))?;
                Some((network, address))
            })
            .collect();
        if let Some(record) = self.services.get_mut(service) {
            record.slots.entry(slot).or_default().addresses = addresses;
        }
    }

    /// Adds a task of the current spec to a slot, and returns its id. It takes the slot's addresses unless another
    /// task still answers for them. A network that is full leaves it without an address, and its start refuses it.
    pub fn add_task(&mut self, service: &str, slot: u32) -> Option<String> {
        self.ensure_slot(service, slot);
        let record = self.services.get(service)?;
        let holds_slot = !record.tasks.iter().any(|task| task.slot == slot && task.holds_slot && !task.ended());
        let mut addresses = record.slots.get(&slot)?.addresses.clone();
        if !holds_slot {
            let networks: Vec<String> = addresses.keys().cloned().collect();
            addresses.clear();
            for network in networks {
                if let Some(address) = self.free_address(&network) {
                    addresses.insert(network, address);
                }
            }
        }
        let record = self.services.get_mut(service)?;
        let id = task_id();
        let task = Task {
            id: id.clone(),
            slot,
            spec: Arc::clone(&record.spec),
            spec_version: record.spec_version,
            phase: TaskPhase::Pending,
            health: Health::None,
            digest: None,
            exit_code: None,
            error: String::new(),
            started_at: None,
            health_output: String::new(),
            made_by: None,
            running_since: None,
            ended_at: None,
            stop: watch::Sender::new(false),
            addresses,
            holds_slot,
            container: None,
            hosts: String::new(),
            beyond: None,
        };
        record.tasks.insert(0, task);
        record.prune();
        Some(id)
    }

    /// An address of the network that no slot and no living task has.
    fn free_address(&self, network: &str) -> Option<Ipv4Addr> {
        let number = *self.networks.get(network)?;
        let records = || self.services.values();
        let slots = records().flat_map(|record| record.slots.values()).map(|slot| &slot.addresses);
        let tasks = records().flat_map(|record| &record.tasks).filter(|task| !task.ended()).map(|task| &task.addresses);
        let used: BTreeSet<Ipv4Addr> =
            slots.chain(tasks).filter_map(|addresses| addresses.get(network)).copied().collect();
        (GATEWAY + 1..u8::MAX).map(|host| address(number, host)).find(|address| !used.contains(address))
    }

    /// Whether the slot's restart policy grants another task, and after what delay.
    pub fn restart(&mut self, service: &str, slot: u32, failed: bool) -> Option<Duration> {
        use crate::recipe::stack::RestartCondition;
        let record = self.services.get_mut(service)?;
        let policy = &record.spec.service.deploy.restart;
        let wanted = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => failed,
            RestartCondition::Any => true,
        };
        let slot = record.slots.get_mut(&slot)?;
        if !policy.window.is_zero() {
            slot.restarts.retain(|at| at.elapsed() < policy.window);
        }
        let exhausted = policy.max_attempts.is_some_and(|most| slot.restarts.len() as u64 >= most);
        if !wanted || exhausted || self.closed {
            return None;
        }
        // Nobody asks how often, otherwise.
        if policy.max_attempts.is_some() {
            slot.restarts.push(Instant::now());
        }
        Some(policy.delay)
    }
}

/// The bridge's address in a network.
pub fn gateway(network: u32) -> Ipv4Addr {
    address(network, GATEWAY)
}

/// Subnets are 10.89.0.0/24 upwards: nothing outside the pod ever sees them.
fn address(network: u32, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 89 + (network >> 8) as u8, network as u8, host)
}

/// 25 letters and digits, as Swarm's ids.
fn task_id() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    std::iter::repeat_with(|| LETTERS[usize::from(rand::random::<u8>()) % LETTERS.len()] as char).take(25).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{RestartCondition, RestartPolicy, Service};

    /// A state with the service `app` on the network `n`, under this restart policy.
    fn state(restart: RestartPolicy) -> State {
        let mut service = Service::default();
        service.deploy.restart = restart;
        let networks = [("n".to_owned(), Vec::new())].into();
        let spec = Spec { stack: String::new(), service, files: Vec::new(), mounts: Vec::new(), networks };
        let mut state = State::default();
        state.networks.insert("n".into(), 3);
        state.services.insert("app".into(), Record::new(Arc::new(spec)));
        state
    }

    fn add(state: &mut State) -> (String, Ipv4Addr, bool) {
        let id = state.add_task("app", 1).unwrap();
        let task = state.task("app", &id).unwrap();
        (id.clone(), task.addresses["n"], task.holds_slot)
    }

    #[test]
    fn a_slot_keeps_its_address_and_a_second_task_gets_one_of_its_own() {
        let mut state = state(RestartPolicy::default());
        let (first, address, holds) = add(&mut state);
        assert_eq!((address, holds), (Ipv4Addr::new(10, 89, 3, 2), true));
        let (second, other, holds) = add(&mut state);
        assert_eq!((other, holds), (Ipv4Addr::new(10, 89, 3, 3), false));
        for id in [first, second] {
            state.task_mut("app", &id).unwrap().phase = TaskPhase::Shutdown;
        }
        assert_eq!(add(&mut state).1, address);
    }

    #[test]
    fn restarts_are_granted_by_condition_and_number() {
        let policy = |condition, max_attempts| RestartPolicy { condition, max_attempts, ..RestartPolicy::default() };
        let granted = |policy, failed| {
            let mut state = state(policy);
            add(&mut state);
            (0..5).filter(|_| state.restart("app", 1, failed).is_some()).count()
        };
        assert_eq!(granted(policy(RestartCondition::Any, None), false), 5);
        assert_eq!(granted(policy(RestartCondition::OnFailure, None), false), 0);
        assert_eq!(granted(policy(RestartCondition::OnFailure, Some(2)), true), 2);
        assert_eq!(granted(policy(RestartCondition::None, None), true), 0);
    }

    #[test]
    fn the_oldest_ended_tasks_are_forgotten_and_living_ones_never() {
        let mut state = state(RestartPolicy::default());
        let (living, ..) = add(&mut state);
        for _ in 0..2 * HISTORY {
            let (id, ..) = add(&mut state);
            state.task_mut("app", &id).unwrap().phase = TaskPhase::Failed;
        }
        assert!(state.services["app"].tasks.len() <= HISTORY + 1);
        assert!(state.task("app", &living).is_some());
    }

    #[test]
    fn only_what_tasks_are_made_of_makes_a_slot_dirty() {
        let mut state = state(RestartPolicy::default());
        add(&mut state);
        let record = state.services.get_mut("app").unwrap();
        let mut labelled = (*record.spec).clone();
        labelled.service.deploy.labels.insert("a".into(), "b".into());
        record.spec = Arc::new(labelled.clone());
        assert_eq!(record.dirty_slots(), [0; 0]);
        labelled.service.environment.insert("a".into(), "b".into());
        record.spec = Arc::new(labelled);
        assert_eq!(record.dirty_slots(), [1]);
    }
}
