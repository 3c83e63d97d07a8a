//! Removes from the state directory what no run needs. What is in use is told by locks, never by age: a run's own, and
//! the one that whoever prepares a run holds on the whole directory.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::{entries, size};
use crate::config::state;
use crate::engine::EngineSpec;
use crate::engine::embedded::image::cache::remove_tree;
use crate::keeper::journal;
use crate::keeper::lock;
use crate::keeper::spec::RunSpec;
use crate::keeper::sweep::run_dirs;
use crate::report::amount::bytes;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Finished runs that began longer ago than this lose their records.
    pub older_than: Duration,
    /// Say what would be removed, and remove nothing.
    pub dry: bool,
}

/// What was removed, or would be, and what stays because somebody uses it.
#[derive(Debug, Default)]
pub struct Pruned {
    pub dry: bool,
    /// By their paths below the state directory, with their sizes.
    pub removed: Vec<(PathBuf, u64)>,
    pub kept: Vec<String>,
}

/// What living runs hold on to.
#[derive(Default)]
struct Used {
    /// All of the caches: somebody is about to begin a run.
    all: Option<String>,
    mirrors: HashSet<PathBuf>,
    /// A run whose containers stand on unpacked images.
    images: Option<String>,
}

/// Removes what no run needs: records of runs that are long over, mirrors, and unpacked images.
pub fn prune(state: &Path, asked: Asked) -> Result<Pruned> {
    // Held to the end: whoever wants to prepare a run waits for it.
    let alone = state::alone(state)?;
    let mut pruned = Pruned { dry: asked.dry, ..Pruned::default() };
    let mut used = Used::default();
    if alone.is_none() {
        used.all = Some("a run is being prepared, or its process still lives".into());
    }
    for dir in run_dirs(state)? {
        look_at(&dir, state, asked, &mut used, &mut pruned)?;
    }
    mirrors(state, &used, &mut pruned)?;
    images(state, &used, &mut pruned)?;
    Ok(pruned)
}

/// One run: it is in use, was left dead, is over for long, or for a short time.
fn look_at(dir: &Path, state: &Path, asked: Asked, used: &mut Used, pruned: &mut Pruned) -> Result<()> {
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if lock::exists(dir) {
        // A dead one counts, too: its sweep may need what it was made from.
        pruned.kept.push(format!("runs/{id}: it is up, or nobody has cleaned up after it (`harness runs`)"));
        match RunSpec::read(dir) {
            Ok(spec) => {
                used.mirrors.insert(spec.mirror.dir);
                if matches!(spec.engine, EngineSpec::Embedded) {
                    used.images = Some(format!("run `{id}` may stand on them"));
                }
            }
            Err(error) => used.all = Some(format!("what run `{id}` uses is not known: {error:#}")),
        }
        return Ok(());
    }
    let began = dir.join("run.json").metadata().and_then(|it| it.modified()).ok();
    let age = began.and_then(|began| SystemTime::now().duration_since(began).ok());
    let is_over = journal::read(&dir.join(journal::FILE)).is_ok_and(|records| journal::is_torn_down(&records));
    if is_over && age.is_some_and(|age| age >= asked.older_than) {
        pruned.remove(state, dir)?;
    }
    Ok(())
}

/// A mirror, and the lock beside it, in the recipe's folder.
fn mirrors(state: &Path, used: &Used, pruned: &mut Pruned) -> Result<()> {
    for recipe in entries(&state.join("mirrors"))? {
        for entry in entries(&recipe.path())? {
            let mirror = entry.path().with_extension("git");
            let mirror = mirror.canonicalize().unwrap_or(mirror);
            let shown = || mirror.strip_prefix(state).unwrap_or(&mirror).display().to_string();
            match &used.all {
                Some(why) => pruned.keep(format!("{}: {why}", shown())),
                None if used.mirrors.contains(&mirror) => pruned.keep(format!("{}: a run uses it", shown())),
                None => pruned.remove(state, &entry.path())?,
            }
        }
        // Only an empty folder goes.
        let _ = std::fs::remove_dir(recipe.path());
    }
    Ok(())
}

fn images(state: &Path, used: &Used, pruned: &mut Pruned) -> Result<()> {
    let images = entries(&state.join("images"))?;
    match used.all.as_ref().or(used.images.as_ref()) {
        Some(why) if !images.is_empty() => pruned.keep(format!("images: {why}")),
        _ => images.iter().try_for_each(|entry| pruned.remove(state, &entry.path()))?,
    }
    Ok(())
}

impl Pruned {
    fn keep(&mut self, line: String) {
        if !self.kept.contains(&line) {
            self.kept.push(line);
        }
    }

    fn remove(&mut self, state: &Path, path: &Path) -> Result<()> {
        let bytes = size(path, &mut HashSet::new())?;
        if !self.dry {
            let metadata =
                path.symlink_metadata().with_context(|| format!("failed to look at `{}`", path.display()))?;
            if metadata.is_dir() {
                remove_tree(path)?;
            } else {
                // Of a run that lies elsewhere only the link is the harness's to remove.
                std::fs::remove_file(path).with_context(|| format!("failed to remove `{}`", path.display()))?;
            }
        }
        self.removed.push((path.strip_prefix(state).unwrap_or(path).to_owned(), bytes));
        Ok(())
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, sum) = if self.dry { ("would remove", "would free") } else { ("removed", "freed") };
        for (path, size) in &self.removed {
            writeln!(f, "{verb}  {}  {}", path.display(), bytes(*size))?;
        }
        for line in &self.kept {
            writeln!(f, "kept  {line}")?;
        }
        writeln!(f, "{sum} {}", bytes(self.removed.iter().map(|(_, size)| size).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::lock::RunLock;

    /// A state directory with one of each.
    fn state() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = state.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("mirrors/notes/0123.git/HEAD", "ref: refs/heads/main\n");
        write("mirrors/notes/0123.lock", "");
        write("images/sha256-1/rootfs/file", "x");
        let over = r#"{"at":"2026-01-01T00:00:00Z","event":"teardown_finished","millis":1,"leftovers":[]}"#;
        for run in ["over", "unfinished"] {
            write(&format!("runs/{run}/run.json"), "{}");
        }
        write("runs/over/events.jsonl", &format!("{over}\n"));
        state
    }

    fn pruned(state: &Path, older_than: Duration, dry: bool) -> String {
        prune(state, Asked { older_than, dry }).unwrap().to_string()
    }

    #[test]
    fn what_nobody_needs_goes_and_a_dry_run_only_says_so() {
        let state = state();
        let said = pruned(state.path(), Duration::ZERO, true);
        for path in ["runs/over", "mirrors/notes/0123.git", "images/sha256-1"] {
            assert!(said.contains(&format!("would remove  {path}  ")), "{said}");
            assert!(state.path().join(path).exists(), "a dry run has removed `{path}`");
        }
        let said = pruned(state.path(), Duration::ZERO, false);
        for path in ["runs/over", "mirrors/notes", "images/sha256-1"] {
            assert!(!state.path().join(path).exists(), "`{path}` stays\n{said}");
        }
        assert!(state.path().join("runs/unfinished").exists(), "nothing says that it is over\n{said}");
        assert!(said.lines().last().unwrap().starts_with("freed "), "{said}");
    }

    #[test]
    fn a_young_run_keeps_its_records() {
        let state = state();
        let said = pruned(state.path(), Duration::from_secs(3600), false);
        assert!(state.path().join("runs/over").exists(), "{said}");
        assert!(!state.path().join("images/sha256-1").exists(), "{said}");
    }

    #[test]
    fn while_a_run_is_up_or_being_prepared_what_it_may_use_stays() {
        let state = state();
        let kept = || ["mirrors/notes/0123.git", "images/sha256-1"].map(|path| state.path().join(path).exists());
        let lock = RunLock::take(&state.path().join("runs/unfinished")).unwrap();
        let said = pruned(state.path(), Duration::ZERO, false);
        // Its specification is not readable here, so it may use anything.
        assert!(said.contains("kept  images: what run `unfinished` uses is not known: failed to understand"), "{said}");
        assert_eq!(kept(), [true, true], "{said}");
        assert!(!state.path().join("runs/over").exists(), "what is over goes all the same\n{said}");
        lock.release(true);
        // Another process that prepares a run, as far as locks are concerned.
        let other = state::alone(state.path()).unwrap().unwrap();
        let said = pruned(state.path(), Duration::ZERO, false);
        assert!(said.contains("kept  images: a run is being prepared, or its process still lives"), "{said}");
        assert_eq!(kept(), [true, true], "{said}");
        drop(other);
        pruned(state.path(), Duration::ZERO, false);
        assert_eq!(kept(), [false, false]);
    }
}
