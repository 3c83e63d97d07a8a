//! What the app uses while an operation goes on and after it, and how large what it keeps is then; where there is no
//! operation, while the assertions run.
//!
//! The looks are taken beside the operation and beside the assertions that follow: nobody waits for them, but the next
//! operation for a moment, because what comes after it would be another measurement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::journal::{Event, millis};
use super::{Keeper, operate};
use crate::engine::{Measured, TaskUsage};
use crate::recipe::stack::Stack;
use crate::tier::Tier;

/// From the end of one look to the next.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the next operation waits for what is still being measured.
const MOMENT: Duration = Duration::from_secs(3);

const NOT_IN_TIME: &str = "it was not done before the run went on";
const NOT_SEEN: &str = "no container of it was seen running";

/// What was measured of one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TierUsage {
    pub tier: Tier,
    /// How often the app was looked at during the operation, about 4 times a second; in the custom tier, which has none,
    /// while its assertions ran.
    pub looks: u32,
    pub services: BTreeMap<String, ServiceUsage>,
    /// Bytes of all files after the operation, or at the end of the custom tier, by the volume's key in the compose file.
    pub volumes: BTreeMap<String, Measured>,
    /// Bytes as it lies on the machine, by the reference in the compose file.
    pub images: BTreeMap<String, Measured>,
}

/// What all containers of a service use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceUsage {
    /// Bytes, after the operation, or at the end of the custom tier.
    pub memory: Measured,
    /// The most that was seen at one time, in bytes: during the operation or after it.
    pub memory_peak: Measured,
    /// Milliseconds of processor time, as far as it was seen during the operation, or during the custom tier.
    pub cpu_millis: Measured,
}

/// What is measured after an operation, and the task that does it.
pub struct Measuring {
    so_far: Arc<StdMutex<TierUsage>>,
    task: JoinHandle<()>,
    /// Dropped when there is nothing more to look at but the end.
    over: Option<oneshot::Sender<()>>,
}

/// Performs an operation, and looks at what the app uses meanwhile.
pub async fn during<T>(keeper: &Arc<Keeper>, operation: impl Future<Output = T>) -> (T, Looks) {
    // Dropped at the end, also when the operation is broken off: the looking ends with it.
    let (over, told) = oneshot::channel::<()>();
    let looking = tokio::spawn(look_on(keeper.clone(), told));
    let result = operation.await;
    drop(over);
    (result, looking.await.unwrap_or_default())
}

/// Measures what is there after the operation, beside whatever comes next.
pub async fn after(keeper: &Arc<Keeper>, tier: Tier, looks: Looks) {
    let Some(stack) = keeper.app.lock().await.deployed.state.as_ref().map(|state| state.stack.clone()) else { return };
    let mut so_far = nothing_yet(tier, &stack);
    looks.fill_seen(&mut so_far);
    let so_far = Arc::new(StdMutex::new(so_far));
    let task = tokio::spawn(measure(keeper.clone(), looks, so_far.clone()));
    *lock(&keeper.measuring) = Some(Measuring { so_far, task, over: None });
}

/// Looks at what the app uses while the assertions of a tier without an operation run, and measures at their end.
pub async fn meanwhile(keeper: &Arc<Keeper>, tier: Tier) {
    let Some(stack) = keeper.app.lock().await.deployed.state.as_ref().map(|state| state.stack.clone()) else { return };
    let so_far = Arc::new(StdMutex::new(nothing_yet(tier, &stack)));
    let (over, told) = oneshot::channel();
    let mut measuring = lock(&keeper.measuring);
    // Under the lock: teardown ends what was begun before it, and nothing is begun after that.
    if keeper.is_down() {
        return;
    }
    let task = tokio::spawn({
        let (keeper, so_far) = (keeper.clone(), so_far.clone());
        async move {
            let looks = look_on(keeper.clone(), told).await;
            looks.fill_seen(&mut lock(&so_far));
            measure(keeper, looks, so_far).await;
        }
    });
    *measuring = Some(Measuring { so_far, task, over: Some(over) });
}

/// Waits for what is being measured, but not for long, and journals what there is.
pub async fn settle(keeper: &Keeper) {
    let Some(Measuring { so_far, mut task, over }) = lock(&keeper.measuring).take() else { return };
    drop(over);
    if tokio::time::timeout(MOMENT, &mut task).await.is_err() {
        task.abort();
        // It holds the engine until it is gone.
        let _ = task.await;
    }
    let measured = lock(&so_far).clone();
    // Without it nothing is wrong with the run: the report says that nothing was measured.
    let _ = keeper.journal.write(Event::Measured(Box::new(measured)));
}

/// What is known when nothing was measured: what there is to measure.
fn nothing_yet(tier: Tier, stack: &Stack) -> TierUsage {
    let not = || Measured::not(NOT_IN_TIME);
    let service = || ServiceUsage { memory: not(), memory_peak: not(), cpu_millis: not() };
    TierUsage {
        tier,
        looks: 0,
        services: stack.services.keys().map(|name| (name.clone(), service())).collect(),
        volumes: stack.volumes.keys().map(|key| (key.clone(), not())).collect(),
        images: operate::images(stack).into_values().map(|image| (image, not())).collect(),
    }
}

async fn measure(keeper: Arc<Keeper>, mut looks: Looks, so_far: Arc<StdMutex<TierUsage>>) {
    looks.look(&keeper).await;
    let TierUsage { volumes, images, .. } = {
        let mut usage = lock(&so_far);
        looks.fill(&mut usage);
        usage.clone()
    };
    for image in images.into_keys() {
        let Ok(engine) = keeper.engine().await else { return };
        let size = engine.image_size(&image).await.into();
        lock(&so_far).images.insert(image, size);
    }
    for volume in volumes.into_keys() {
        let Ok(engine) = keeper.engine().await else { return };
        let size = engine.volume_size(&volume).await.into();
        lock(&so_far).volumes.insert(volume, size);
    }
}

async fn look_on(keeper: Arc<Keeper>, mut over: oneshot::Receiver<()>) -> Looks {
    let mut looks = Looks::default();
    loop {
        tokio::select! {
            () = looks.look(&keeper) => {}
            _ = &mut over => return looks,
        }
        if tokio::time::timeout(PAUSE, &mut over).await.is_ok() {
            return looks;
        }
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen so far.
#[derive(Default)]
pub struct Looks {
    count: u32,
    /// Where there was an app already at the first look, its processor time was not spent on the operation.
    began: bool,
    tasks: BTreeMap<String, TaskTime>,
    services: BTreeMap<String, Seen>,
    /// Why the last look saw nothing at all.
    trouble: Option<String>,
}

struct TaskTime {
    service: String,
    before: Duration,
    last: Duration,
}

#[derive(Default)]
struct Seen {
    now: u64,
    peak: u64,
    /// Why a container of it could not be measured at the last look.
    trouble: Option<String>,
    /// It had a container at the last look.
    there: bool,
}

impl Looks {
    async fn look(&mut self, keeper: &Keeper) {
        let usage = match keeper.engine.read().await.as_ref() {
            Some(engine) => engine.usage().await,
            None => {
                self.began = true;
                return;
            }
        };
        self.note(usage.map_err(|error| format!("{error:#}")));
    }

    fn note(&mut self, usage: Result<Vec<TaskUsage>, String>) {
        let first = !std::mem::replace(&mut self.began, true);
        let tasks = match usage {
            Ok(tasks) => tasks,
            Err(error) => return self.trouble = Some(error),
        };
        (self.count, self.trouble) = (self.count + 1, None);
        for seen in self.services.values_mut() {
            *seen = Seen { peak: seen.peak, ..Seen::default() };
        }
        for TaskUsage { service, task, used } in tasks {
            let seen = self.services.entry(service.clone()).or_default();
            seen.there = true;
            match used {
                Ok(used) => {
                    seen.now += used.memory;
                    let before = if first { used.cpu } else { Duration::ZERO };
                    self.tasks.entry(task).or_insert(TaskTime { service, before, last: used.cpu }).last = used.cpu;
                }
                Err(error) => seen.trouble = Some(error),
            }
        }
        self.services.values_mut().for_each(|seen| seen.peak = seen.peak.max(seen.now));
    }

    /// What was seen during the operation; what is there after it only a later look can tell.
    fn fill_seen(&self, usage: &mut TierUsage) {
        self.fill(usage);
        usage.services.values_mut().for_each(|service| service.memory = Measured::not(NOT_IN_TIME));
    }

    fn fill(&self, usage: &mut TierUsage) {
        usage.looks = self.count;
        let dropped: Vec<String> = self.services.keys().cloned().collect();
        for name in usage.services.keys().cloned().chain(dropped).collect::<Vec<_>>() {
            usage.services.insert(name.clone(), self.of_service(&name));
        }
    }

    fn of_service(&self, name: &str) -> ServiceUsage {
        let seen = self.services.get(name);
        let trouble = self.trouble.clone().or_else(|| match seen {
            Some(seen) => seen.trouble.clone().or_else(|| (!seen.there).then(|| NOT_SEEN.to_owned())),
            None => Some(NOT_SEEN.to_owned()),
        });
        let of_service = self.tasks.values().filter(|task| task.service == name);
        let times: Vec<Duration> = of_service.map(|task| task.last.saturating_sub(task.before)).collect();
        let or_trouble = |amount: Option<u64>| match (amount, &trouble) {
            (Some(amount), _) => Measured::Amount(amount),
            (None, trouble) => Measured::not(trouble.as_deref().unwrap_or(NOT_SEEN)),
        };
        ServiceUsage {
            memory: or_trouble(seen.filter(|_| trouble.is_none()).map(|seen| seen.now)),
            memory_peak: or_trouble(seen.filter(|seen| seen.peak > 0).map(|seen| seen.peak)),
            cpu_millis: or_trouble((!times.is_empty()).then(|| millis(times.iter().sum()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Used;

    fn task(name: &str, memory: u64, cpu: u64) -> TaskUsage {
        let used = Used { memory, cpu: Duration::from_millis(cpu) };
        TaskUsage { service: "app".into(), task: name.into(), used: Ok(used) }
    }

    fn check(looks: &Looks, memory: Measured, peak: Measured, cpu: Measured) {
        let expected = ServiceUsage { memory, memory_peak: peak, cpu_millis: cpu };
        assert_eq!(looks.of_service("app"), expected);
    }

    #[test]
    fn an_update_counts_both_containers_at_once_and_no_time_from_before_it() {
        let mut looks = Looks::default();
        looks.note(Ok(vec![task("old", 100, 5000)]));
        looks.note(Ok(vec![task("old", 110, 5010), task("new", 90, 30)]));
        looks.note(Ok(vec![task("new", 95, 70)]));
        check(&looks, Measured::Amount(95), Measured::Amount(200), Measured::Amount(80));
    }

    #[test]
    fn an_app_that_was_not_there_before_has_spent_all_its_time_on_the_install() {
        let mut looks = Looks { began: true, ..Looks::default() };
        looks.note(Ok(vec![task("first", 10, 40)]));
        check(&looks, Measured::Amount(10), Measured::Amount(10), Measured::Amount(40));
    }

    #[test]
    fn what_was_seen_during_the_operation_is_kept_whatever_comes_after_it() {
        let mut looks = Looks::default();
        looks.note(Ok(vec![task("one", 10, 40)]));
        looks.note(Ok(vec![task("one", 30, 50)]));
        let mut usage = TierUsage {
            tier: Tier::Upgrade,
            looks: 0,
            services: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
        };
        looks.fill_seen(&mut usage);
        let (memory, memory_peak) = (Measured::not(NOT_IN_TIME), Measured::Amount(30));
        let expected = ServiceUsage { memory, memory_peak, cpu_millis: Measured::Amount(10) };
        assert_eq!((usage.looks, &usage.services["app"]), (2, &expected));
    }

    #[test]
    fn what_could_not_be_looked_at_is_said_and_the_peak_stays() {
        let mut looks = Looks::default();
        check(&looks, Measured::not(NOT_SEEN), Measured::not(NOT_SEEN), Measured::not(NOT_SEEN));
        looks.note(Ok(vec![task("one", 10, 40)]));
        looks.note(Ok(vec![TaskUsage { used: Err("refused".into()), ..task("two", 0, 0) }]));
        check(&looks, Measured::not("refused"), Measured::Amount(10), Measured::Amount(0));
        looks.note(Ok(Vec::new()));
        check(&looks, Measured::not(NOT_SEEN), Measured::Amount(10), Measured::Amount(0));
        looks.note(Err("the daemon is away".into()));
        check(&looks, Measured::not("the daemon is away"), Measured::Amount(10), Measured::Amount(0));
        assert_eq!(looks.count, 3);
    }
}
