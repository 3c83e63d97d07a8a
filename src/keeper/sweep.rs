//! Cleaning up after runs whose keeper died: a lock that is free tells a dead run, its journal what to look for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result};

use super::journal::{self, Event, Journal, millis};
use super::lock::RunLock;
use super::teardown::remove_directories;
use crate::config::state::create_private;
use crate::engine::{self, Kind, Ledger as _};
use crate::process::orphans;

/// What became of one dead run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    pub run: String,
    /// What is still there; empty is the proven zero.
    pub leftovers: Vec<String>,
}

/// The directory that holds one directory per run.
pub fn runs_dir(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Leaves a link to a run that lies elsewhere among the others, so that every sweep finds it.
pub fn link(state: &Path, run_id: &str, run_dir: &Path) -> Result<()> {
    let link = runs_dir(state).join(run_id);
    if link == run_dir {
        return Ok(());
    }
    create_private(&runs_dir(state))?;
    std::os::unix::fs::symlink(run_dir, &link)
        .with_context(|| format!("failed to create the link `{}`", link.display()))
}

/// Sweeps every dead run below the state directory. A run that lives is not touched.
pub async fn all(state: &Path) -> Result<Vec<Swept>> {
    let mut swept = Vec::new();
    for dir in run_dirs(state)? {
        swept.extend(one(&dir).await?);
    }
    Ok(swept)
}

/// Sweeps one run, if it is dead and has not been torn down; `None` otherwise.
pub async fn one(run_dir: &Path) -> Result<Option<Swept>> {
    let Some(lock) = RunLock::probe(run_dir)? else { return Ok(None) };
    let start = Instant::now();
    let run = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The run's commands are marked with the directory itself, not with a link to it.
    let run_dir = &std::fs::read_link(run_dir).unwrap_or_else(|_| run_dir.to_owned());
    let journal = Journal::open_for_sweep(run_dir)?;
    // A command that goes on would create anew what is removed now.
    let mut leftovers = orphans::end(run_dir).await;
    leftovers.extend(engine::sweep(&run_dir.join("engine")).await);
    let engine_is_clean = leftovers.is_empty();
    leftovers.extend(remove_directories(run_dir, engine_is_clean, |dir| journal.removed(Kind::Directory, dir)));
    journal.write_synced(Event::TeardownFinished { millis: millis(start.elapsed()), leftovers: leftovers.clone() })?;
    lock.release(leftovers.is_empty());
    Ok(Some(Swept { run, leftovers }))
}

/// What a keeper does at its start: dead runs are cleaned, and old records go. Troubles are notes: this run is not to
/// blame for them.
pub async fn before_run(state: &Path, own: &str, keep_runs: usize, journal: &Journal) {
    let said = |text: String| {
        let _ = journal.write(Event::Note { text });
    };
    match all(state).await {
        Ok(swept) => swept.into_iter().for_each(|it| said(it.to_string())),
        Err(error) => said(format!("failed to sweep dead runs: {error:#}")),
    }
    if let Err(error) = forget_old(state, own, keep_runs) {
        said(format!("failed to remove old runs: {error:#}"));
    }
}

/// Removes the records of finished runs beyond the newest `keep_runs` of each recipe: one that is tested often does not
/// cost another its history.
fn forget_old(state: &Path, own: &str, keep_runs: usize) -> Result<()> {
    let mut dirs = run_dirs(state)?;
    dirs.sort_by_key(|dir| std::cmp::Reverse(started(dir)));
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    for dir in dirs {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = kept.entry(recipe_of(&name).to_owned()).or_default();
        *kept += 1;
        if *kept <= keep_runs {
            continue;
        }
        let is_own = name == own;
        let finished = journal::read(&dir.join(journal::FILE)).is_ok_and(|records| journal::is_over(&records));
        if finished && !is_own {
            // Of a run that was told to lie elsewhere only the link is the harness's to remove.
            let removed = if dir.is_symlink() { std::fs::remove_file(&dir) } else { std::fs::remove_dir_all(&dir) };
            removed.with_context(|| format!("failed to remove `{}`", dir.display()))?;
        }
    }
    Ok(())
}

/// The recipe that the id of a run begins with; what follows is when, and six digits.
fn recipe_of(run_id: &str) -> &str {
    run_id.rsplitn(3, '-').nth(2).unwrap_or(run_id)
}

/// When a run was asked for; its specification is written once, at the start. One that could not begin has only a journal.
pub fn started(dir: &Path) -> Option<SystemTime> {
    let modified = |name: &str| dir.join(name).metadata().and_then(|metadata| metadata.modified()).ok();
    modified("run.json").or_else(|| modified(journal::FILE))
}

/// The directories of all runs, those that lie elsewhere by their links.
pub fn run_dirs(state: &Path) -> Result<Vec<PathBuf>> {
    let dir = runs_dir(state);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("failed to list `{}`", dir.display())),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list `{}`", dir.display()))?;
        let path = entry.path();
        if path.is_dir() {
            dirs.push(path);
        } else if path.is_symlink() && !path.exists() {
            // Whoever asked for that place has removed it, and nothing there says any more what to look for.
            std::fs::remove_file(&path).with_context(|| format!("failed to remove the link `{}`", path.display()))?;
        }
    }
    dirs.sort();
    Ok(dirs)
}

impl std::fmt::Display for Swept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.leftovers.is_empty() {
            write!(f, "removed what the dead run `{}` had left", self.run)
        } else {
            write!(f, "the dead run `{}` still has: {}", self.run, self.leftovers.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn run_dir(state: &Path, name: &str) -> PathBuf {
        let dir = runs_dir(state).join(name);
        std::fs::create_dir_all(dir.join("recipe")).unwrap();
        std::fs::write(dir.join("run.json"), "{}").unwrap();
        dir
    }

    #[tokio::test]
    async fn a_dead_run_is_cleaned_once_and_a_live_one_never() {
        let state = tempfile::tempdir().unwrap();
        let dead = run_dir(state.path(), "dead");
        drop(RunLock::take(&dead).unwrap());
        let live = run_dir(state.path(), "live");
        let lock = RunLock::take(&live).unwrap();
        let swept = all(state.path()).await.unwrap();
        assert_eq!(swept, [Swept { run: "dead".into(), leftovers: vec![] }]);
        assert_eq!(swept[0].to_string(), "removed what the dead run `dead` had left");
        assert!(!dead.join("recipe").exists() && live.join("recipe").exists());
        assert!(journal::is_torn_down(&journal::read(&dead.join(journal::FILE)).unwrap()));
        assert_eq!(all(state.path()).await.unwrap(), []);
        drop(lock);
        assert_eq!(all(state.path()).await.unwrap().len(), 1, "now it is dead");
    }

    #[tokio::test]
    async fn a_run_that_lies_elsewhere_is_swept_and_only_its_link_is_forgotten() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = elsewhere.path().join("run");
        std::fs::create_dir_all(dir.join("recipe")).unwrap();
        std::fs::write(dir.join("run.json"), "{}").unwrap();
        drop(RunLock::take(&dir).unwrap());
        link(state.path(), "linked", &dir).unwrap();
        let swept = all(state.path()).await.unwrap();
        assert_eq!(swept, [Swept { run: "linked".into(), leftovers: vec![] }]);
        assert!(!dir.join("recipe").exists());
        forget_old(state.path(), "other", 0).unwrap();
        assert!(dir.join("run.json").exists() && run_dirs(state.path()).unwrap().is_empty());

        link(state.path(), "linked", &dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(all(state.path()).await.unwrap(), [], "a link that leads nowhere is no run");
        assert!(!runs_dir(state.path()).join("linked").is_symlink());
        link(state.path(), "linked", &dir).unwrap();
    }

    #[test]
    fn only_finished_runs_are_forgotten_and_the_newest_stay() {
        let state = tempfile::tempdir().unwrap();
        for name in ["a", "b", "unfinished"] {
            let dir = run_dir(state.path(), name);
            let journal = Journal::open(&dir).unwrap();
            if name != "unfinished" {
                journal.write(Event::TeardownFinished { millis: 1, leftovers: vec![] }).unwrap();
            }
        }
        forget_old(state.path(), "b", 0).unwrap();
        let left: Vec<_> = run_dirs(state.path()).unwrap();
        let names: Vec<_> = left.iter().map(|dir| dir.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["b", "unfinished"], "the run's own record and an unfinished one stay");
    }

    #[test]
    fn a_recipe_that_is_tested_often_costs_no_other_its_history() {
        let state = tempfile::tempdir().unwrap();
        for (name, days) in [("wiki-20260101t000000-aa", 1), ("wiki-b-20260101t000000-aa", 2)] {
            let dir = run_dir(state.path(), name);
            asked_for(&dir, days);
            Journal::open(&dir).unwrap().write(Event::TeardownFinished { millis: 1, leftovers: vec![] }).unwrap();
        }
        for number in 0..3 {
            let dir = runs_dir(state.path()).join(format!("wiki-b-20260102t00000{number}-bb"));
            std::fs::create_dir_all(&dir).unwrap();
            let failure = crate::fault::Failure::new(crate::fault::Fault::Recipe, "no service");
            Journal::open(&dir).unwrap().write(Event::CouldNotBegin { failure }).unwrap();
        }
        forget_old(state.path(), "other", 2).unwrap();
        let mut left: Vec<String> = run_dirs(state.path())
            .unwrap()
            .iter()
            .map(|dir| recipe_of(dir.file_name().unwrap().to_str().unwrap()).to_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["wiki", "wiki-b", "wiki-b"]);
    }

    /// As old as the clock said when each was asked for, days later.
    fn asked_for(dir: &Path, days: u64) {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(days * 24 * 3600);
        File::options().write(true).open(dir.join("run.json")).unwrap().set_modified(time).unwrap();
    }

    /// The clock was set back by a year: the own run and one that goes on look older than all that are over.
    #[test]
    fn a_clock_that_was_set_back_costs_no_run_that_goes_on_its_record() {
        let state = tempfile::tempdir().unwrap();
        for (name, days, finished) in [
            ("wiki-1-past", 800, true),
            ("wiki-2-past", 900, true),
            ("wiki-1-live", 400, false),
            ("wiki-1-own", 401, false),
        ] {
            let dir = run_dir(state.path(), name);
            asked_for(&dir, days);
            if finished {
                Journal::open(&dir).unwrap().write(Event::TeardownFinished { millis: 1, leftovers: vec![] }).unwrap();
            }
        }
        let live = RunLock::take(&runs_dir(state.path()).join("wiki-1-live")).unwrap();
        forget_old(state.path(), "wiki-1-own", 1).unwrap();
        let names: Vec<String> = run_dirs(state.path())
            .unwrap()
            .iter()
            .map(|dir| dir.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["wiki-1-live", "wiki-1-own", "wiki-2-past"]);
        drop(live);
    }

    /// A dead run's journal names its keeper by number, and the number is somebody else's by now.
    #[tokio::test]
    async fn whoever_has_the_number_of_a_dead_keeper_is_not_touched() {
        let state = tempfile::tempdir().unwrap();
        let dead = run_dir(state.path(), "dead");
        drop(RunLock::take(&dead).unwrap());
        let mut other = crate::process::command("sleep").arg("600").spawn().unwrap();
        let started = Event::RunStarted {
            run_id: "dead".into(),
            recipe: "wiki".into(),
            engine: "embedded".into(),
            pid: other.id(),
            started: Some(1),
        };
        let journal = Journal::open(&dead).unwrap();
        journal.write(started).unwrap();
        journal.creating(Kind::Process, "dead").unwrap();
        journal.created(Kind::Process, "dead", &other.id().to_string()).unwrap();
        assert_eq!(all(state.path()).await.unwrap().len(), 1);
        assert!(other.try_wait().unwrap().is_none(), "the other process must go on");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
