//! Control groups: what the kernel bounds for all processes of a container together, where this process may make any.
//!
//! Memory, processes and processor time are each looked for by itself, because a machine may have some of them in
//! version 1 and some in version 2. What cannot be had is no failure: it is said, and looked after otherwise.

mod machine;
mod values;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::machine::{Machine, Place};
use crate::memory;
use crate::poll::{Look, Poll};
use crate::recipe::stack::Limits;

/// How long the last process of a group may take to leave it, once it has ended.
const VANISH: Duration = Duration::from_secs(5);
/// What names of groups begin with.
const PREFIX: &str = "harness-";
/// The id of a run that only tries whether this machine has what an app needs.
pub const TRIAL: &str = "preflight";
/// Of all containers of an app together, threads included.
const ALL_PROCESSES: u64 = 8192;
/// What an app may have of this machine's memory, so that the machine goes on.
const SHARE: (u64, u64) = (3, 4);

/// What a group bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Memory,
    Processes,
    Processors,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Processes, Controller::Processors];

    /// The kernel's name.
    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "pids",
            Controller::Processors => "cpu",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "processes",
            Controller::Processors => "processor time",
        }
    }
}

/// The groups of one app: one below each place, with one of each container in it.
#[derive(Debug)]
pub struct Groups {
    /// The same in every place.
    pub name: String,
    places: Vec<Place>,
    /// What cannot be bounded by a group, and why.
    missing: BTreeMap<Controller, String>,
    /// Why a container is in none although it should be.
    lost: OnceLock<String>,
}

impl Groups {
    /// Finds where groups can be made, and makes none.
    pub fn find(run_id: &str) -> Groups {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (places, missing) = Machine::look().places();
        // A process may have several of one run, as tests have.
        Groups {
            name: format!("{PREFIX}{run_id}-{}-{number}", std::process::id()),
            places,
            missing,
            lost: OnceLock::new(),
        }
    }

    /// The directories of the app's groups, for a record of what is about to be made.
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.parent.join(&self.name)).collect()
    }

    /// Makes the app's groups. A place that refuses is done without.
    pub fn make(&mut self) {
        let all = Limits {
            memory: memory::total().map(|all| all / SHARE.1 * SHARE.0),
            pids: Some(ALL_PROCESSES),
            cpus: None,
        };
        self.places.iter().for_each(|place| forget_trials(&place.parent));
        let (name, missing) = (&self.name, &mut self.missing);
        self.places.retain(|place| {
            let dir = place.parent.join(name);
            let made = fs::create_dir(&dir)
                .with_context(|| format!("failed to make `{}`", dir.display()))
                .and_then(|()| place.delegate(&dir))
                .and_then(|()| values::set(place, &dir, &all));
            if let Err(error) = &made {
                let _ = fs::remove_dir(&dir);
                missing.extend(place.controllers.iter().map(|it| (*it, format!("{error:#}"))));
            }
            made.is_ok()
        });
    }

    /// Makes a container's groups, and opens the files by which a process enters them.
    pub fn container(&self, task: &str, limits: &Limits) -> Result<Vec<File>> {
        let enter = |place: &Place| {
            let dir = place.parent.join(&self.name).join(task);
            fs::create_dir(&dir).with_context(|| format!("failed to make `{}`", dir.display()))?;
            values::set(place, &dir, limits)?;
            self.open(place, task)
        };
        self.places.iter().map(enter).collect()
    }

    /// Opens those files once more, for a command.
    pub fn entrances(&self, task: &str) -> Result<Vec<File>> {
        self.places.iter().map(|place| self.open(place, task)).collect()
    }

    fn open(&self, place: &Place, task: &str) -> Result<File> {
        let file = place.parent.join(&self.name).join(task).join("cgroup.procs");
        File::options().write(true).open(&file).with_context(|| format!("failed to open `{}`", file.display()))
    }

    /// What the kernel did to a container for its limits, as the rest of a sentence; `None` when nothing.
    pub fn told(&self, task: &str, limits: &Limits) -> Option<String> {
        let of = |place: &Place| {
            let app = place.parent.join(&self.name);
            values::told(place, &app.join(task), &app, limits)
        };
        self.places.iter().find_map(of)
    }

    /// Removes a container's groups; what resists is found by teardown.
    pub async fn remove_container(&self, task: &str) {
        for dir in self.dirs() {
            let _ = remove(&dir.join(task)).await;
        }
    }

    /// Whether all processes of every container are bounded in this.
    pub fn bounds(&self, controller: Controller) -> bool {
        !self.missing.contains_key(&controller) && self.lost.get().is_none()
    }

    /// A container could not be put into its group: from now on what all use is looked at.
    pub fn lose(&self, why: String) {
        let _ = self.lost.set(why);
    }

    /// What the header could not know.
    pub fn lost(&self) -> Option<String> {
        let why = self.lost.get()?;
        Some(format!(
            "memory and processes of containers are looked at as they run, because no control group took one: {why}"
        ))
    }

    /// What the header says of the limits.
    pub fn sentence(&self) -> String {
        let list = |it: Vec<&str>| it.join(", ");
        let bounded = Controller::ALL.iter().filter(|it| self.bounds(**it));
        let bounded = list(bounded.map(|it| it.words()).collect());
        if self.missing.is_empty() {
            return format!("{bounded} of every container: by control groups");
        }
        let watched = [Controller::Memory, Controller::Processes].into_iter().filter(|it| !self.bounds(*it));
        let watched = list(watched.map(Controller::words).collect());
        let mut parts = Vec::new();
        parts.extend((!bounded.is_empty()).then(|| format!("{bounded} of every container: by control groups")));
        parts.extend((!watched.is_empty()).then(|| format!("{watched} of every container: looked at as it runs")));
        parts.extend((!self.bounds(Controller::Processors)).then(|| "processor time: none".to_owned()));
        let why = self.missing.values().next().map_or("", String::as_str);
        format!("{}, because {why}", parts.join("; "))
    }

    /// Removes what is there of these groups; the directories that resist.
    pub async fn remove_all(dirs: &[PathBuf]) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for dir in dirs {
            if remove_tree(dir).await.is_err() {
                left.push(dir.clone());
            }
        }
        left
    }
}

/// Removes what a trial of this machine has left that was killed: no record tells of it, but its process's number.
fn forget_trials(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_prefix(TRIAL)?.strip_prefix('-'));
        let pid = number.and_then(|number| number.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let children = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            children.for_each(|child| drop(fs::remove_dir(child.path())));
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Groups that are there of those.
pub fn present(dirs: &[PathBuf]) -> Vec<PathBuf> {
    dirs.iter().filter(|dir| dir.is_dir()).cloned().collect()
}

/// Removes a group with those in it. Whoever still makes new ones has none to make them in after that.
async fn remove_tree(dir: &Path) -> Result<()> {
    let look = || {
        let children = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        // One that is busy keeps the whole, which says so below.
        children.filter(|path| path.is_dir()).for_each(|child| drop(fs::remove_dir(child)));
        std::future::ready(Ok(removed(dir)))
    };
    until_empty(dir, look).await
}

/// A group is busy until its last process is gone altogether.
async fn remove(dir: &Path) -> Result<()> {
    until_empty(dir, || std::future::ready(Ok(removed(dir)))).await
}

fn removed(dir: &Path) -> Look<()> {
    match fs::remove_dir(dir) {
        Ok(()) => Look::Ready(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Ready(()),
        Err(error) => Look::NotYet(error.to_string()),
    }
}

async fn until_empty<F: Future<Output = Result<Look<()>>>>(dir: &Path, look: impl FnMut() -> F) -> Result<()> {
    let poll = Poll { interval: Duration::from_millis(2), deadline: VANISH };
    poll.until(format!("`{}` to be empty", dir.display()), look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_goes_although_somebody_makes_new_ones_in_it_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        fs::create_dir_all(app.join("0")).unwrap();
        let made = app.clone();
        // As the tasks of a keeper that lives on: when one has gone the next is made, until there is no place for it.
        let maker = std::thread::spawn(move || {
            let next = |number: u32| {
                while made.join(number.to_string()).exists() {
                    std::thread::yield_now();
                }
                fs::create_dir(made.join((number + 1).to_string()))
            };
            (0..).take_while(|number| next(*number).is_ok()).count()
        });
        assert_eq!(Groups::remove_all(&[app.clone(), dir.path().join("never")]).await, Vec::<PathBuf>::new());
        maker.join().unwrap();
        assert!(!app.exists());
    }
}
