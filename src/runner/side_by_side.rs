//! Several recipes at the same time: how many, and whose turn it is.

use std::sync::{Condvar, Mutex, MutexGuard};

use anyhow::{Result, bail};

use crate::config::cli::Cli;
use crate::memory;

/// What one run is reckoned to take beside its processor: the apps of most recipes, with a database, fit into it.
const MEMORY: u64 = 1 << 30;
/// Docker's default address pools have room for some 30 networks, and everything else on the machine takes of them, too.
const MOST_ON_A_SWARM: usize = 4;

/// The places of a command line's recipes. Recipes begin in the order in which they were named.
pub struct Places {
    jobs: usize,
    state: Mutex<Vec<Phase>>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waits,
    Runs,
    Ended,
}

impl Places {
    /// For so many recipes, of which `jobs` run at the same time.
    pub fn new(recipes: usize, jobs: usize) -> Self {
        Places { jobs: jobs.max(1), state: Mutex::new(vec![Phase::Waits; recipes]), changed: Condvar::new() }
    }

    /// Waits until this recipe may run; whichever of its trials comes first has waited for all of them.
    pub fn enter(&self, recipe: usize) {
        let has_to_wait = |phases: &mut Vec<Phase>| {
            phases[recipe] == Phase::Waits
                && (phases[..recipe].contains(&Phase::Waits)
                    || phases.iter().filter(|phase| **phase == Phase::Runs).count() >= self.jobs)
        };
        let waited = self.changed.wait_while(self.phases(), has_to_wait);
        let mut phases = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if phases[recipe] == Phase::Waits {
            phases[recipe] = Phase::Runs;
        }
        drop(phases);
        self.changed.notify_all();
    }

    /// Makes room for the next one.
    pub fn leave(&self, recipe: usize) {
        self.phases()[recipe] = Phase::Ended;
        self.changed.notify_all();
    }

    fn phases(&self) -> MutexGuard<'_, Vec<Phase>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How many recipes run at the same time: as many as `--jobs` says, else as the machine allows.
pub fn jobs(cli: &Cli, recipes: usize, all_embedded: bool) -> Result<usize> {
    match cli.jobs {
        Some(0) => bail!("`--jobs=0` would run nothing for ever: give 1 or more, or leave it out"),
        Some(jobs) => Ok(jobs.min(recipes.max(1))),
        // Whoever asks for one trial at a time gets it.
        None if cli.mimic.test_threads == Some(1) => Ok(1),
        None => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(allowed(recipes, cores, available_memory(), all_embedded))
        }
    }
}

/// One recipe for each processor and for each GiB of memory that is free, and at most four where Docker deploys.
fn allowed(recipes: usize, cores: usize, memory: Option<u64>, all_embedded: bool) -> usize {
    let by_memory = memory.map_or(1, |memory| (memory / MEMORY) as usize);
    let by_engine = if all_embedded { usize::MAX } else { MOST_ON_A_SWARM };
    recipes.min(cores).min(by_memory).min(by_engine).max(1)
}

/// Bytes that are free, on the machine and in the control group that this process is in; `None` when nobody can tell.
fn available_memory() -> Option<u64> {
    Some(memory::available()?.min(group_memory().unwrap_or(u64::MAX)))
}

/// What is left of a container's limit, as it sees its own group at the top.
fn group_memory() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

/// How many threads libtest needs, so that no recipe waits for another's trials: those of a recipe that wait for their
/// turn hold a thread each.
pub fn threads(jobs: usize, most_trials: usize) -> usize {
    jobs.max(1) * most_trials.max(1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn as_many_as_processors_memory_and_engine_allow_and_at_least_one() {
        let gib = |count: u64| Some(count << 30);
        assert_eq!(allowed(9, 8, gib(16), true), 8);
        assert_eq!(allowed(9, 8, gib(16), false), 4);
        assert_eq!(allowed(3, 8, gib(16), true), 3);
        assert_eq!(allowed(9, 8, gib(2), true), 2);
        assert_eq!(allowed(9, 8, Some(5), true), 1);
        assert_eq!(allowed(9, 8, None, true), 1);
        assert!(available_memory().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn recipes_begin_in_order_and_no_more_than_so_many_run_at_once() {
        let places = Places::new(12, 3);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for recipe in (0..12).rev() {
                let (places, running, most) = (&places, &running, &most);
                scope.spawn(move || {
                    places.enter(recipe);
                    // A second trial of the same recipe is in at once.
                    places.enter(recipe);
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    running.fetch_sub(1, Ordering::SeqCst);
                    places.leave(recipe);
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
    }

    #[test]
    fn a_recipe_that_has_to_wait_goes_on_when_there_is_room() {
        let places = Places::new(2, 1);
        places.enter(0);
        let ended = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                places.enter(1);
                assert_eq!(ended.load(Ordering::SeqCst), 1, "there was no room yet");
            });
            ended.store(1, Ordering::SeqCst);
            places.leave(0);
        });
    }
}
