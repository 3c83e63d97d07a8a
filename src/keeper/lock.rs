//! Whether a run lives: a lock held by its keeper, released by the kernel however the keeper ends. Never age, never a
//! process number.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

const FILE: &str = "lock";

/// The lock of a run that this process holds.
pub struct RunLock {
    path: PathBuf,
    _file: File,
}

/// Whether a run has a lock, held or free: one that was torn down to a proven zero has none.
pub fn exists(run_dir: &Path) -> bool {
    run_dir.join(FILE).exists()
}

impl RunLock {
    /// Takes the lock of a run that is about to begin. The file appears already locked, because another run's sweep may
    /// look at any moment, and a free lock tells it that this run is dead.
    pub fn take(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(FILE);
        let file = NamedTempFile::new_in(run_dir)
            .with_context(|| format!("failed to create a lock in `{}`", run_dir.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("failed to lock `{}`", file.path().display()))?;
        let file = file
            .persist_noclobber(&path)
            .with_context(|| format!("failed to create `{}`: does another keeper run there?", path.display()))?;
        Ok(RunLock { path, _file: file })
    }

    /// Takes the lock of a run that may be dead; `None` when it lives, or was torn down and has none.
    pub fn probe(run_dir: &Path) -> Result<Option<Self>> {
        let path = run_dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to open `{}`", path.display())),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Its run was torn down between the two looks, and took the file away.
            Ok(()) if file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) => Ok(None),
            Ok(()) => Ok(Some(RunLock { path, _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to lock `{}`", path.display())),
        }
    }

    /// Removes the lock file of a run whose keeper reported a proven zero, and was killed before it could do so itself.
    pub fn clear(run_dir: &Path) -> Result<()> {
        if let Some(lock) = RunLock::probe(run_dir)? {
            lock.release(true);
        }
        Ok(())
    }

    /// Lets go. A run that ended in a proven zero needs no second look, so its lock file goes too.
    pub fn release(self, clean: bool) {
        if clean {
            // A lock file that stays only costs a later sweep one look.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_held_lock_means_alive_and_a_free_one_dead() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RunLock::probe(dir.path()).unwrap().is_none(), "a run without a lock file needs no sweep");
        let lock = RunLock::take(dir.path()).unwrap();
        assert!(RunLock::probe(dir.path()).unwrap().is_none(), "the run lives");
        let error = RunLock::take(dir.path()).err().unwrap().to_string();
        assert!(error.ends_with("does another keeper run there?"), "{error}");
        drop(lock);
        let probed = RunLock::probe(dir.path()).unwrap().expect("the run is dead");
        probed.release(true);
        assert!(RunLock::probe(dir.path()).unwrap().is_none());
    }

    #[test]
    fn the_lock_of_a_killed_keeper_is_cleared_and_a_living_ones_stays() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::take(dir.path()).unwrap();
        RunLock::clear(dir.path()).unwrap();
        assert!(dir.path().join(FILE).exists(), "somebody holds it");
        drop(lock);
        RunLock::clear(dir.path()).unwrap();
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_lock_being_taken_or_released_is_never_found_free() {
        let dir = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            let sweep = scope.spawn(|| {
                let mut found = 0;
                while !done.load(Ordering::Relaxed) {
                    found += usize::from(RunLock::probe(dir.path()).unwrap().is_some());
                }
                found
            });
            let taken = (0..2000).try_for_each(|_| RunLock::take(dir.path()).map(|lock| lock.release(true)));
            done.store(true, Ordering::Relaxed);
            taken.unwrap();
            sweep.join().unwrap()
        });
        assert_eq!(found, 0, "a sweep took a living run for a dead one");
    }
}
