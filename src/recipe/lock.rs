//! A lock between processes: held while a mirror changes, freed by the kernel when its holder dies.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::git::block_on;
use crate::poll::{Look, Poll};

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `path`, waiting for other processes and threads up to `deadline`.
    pub(crate) fn take(path: &Path, deadline: Duration) -> Result<Lock> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = open.with_context(|| format!("failed to open the lock `{}`", path.display()))?;
        if !try_lock(&file)? {
            let poll = Poll { interval: Duration::from_millis(5), deadline };
            let what = format!("the lock `{}`", path.display());
            block_on(poll.until(what, || async {
                let free = try_lock(&file)?;
                Ok(if free { Look::Ready(()) } else { Look::NotYet("another run holds it".into()) })
            }))?;
        }
        Ok(Lock { _file: file })
    }
}

fn try_lock(file: &File) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("failed to lock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_and_then_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::take(&path, Duration::from_secs(5)).unwrap();
        let error = Lock::take(&path, Duration::from_millis(30)).unwrap_err().to_string();
        assert!(error.contains("gave up waiting for the lock `"), "{error}");
        assert!(error.ends_with("last seen: another run holds it"), "{error}");
        drop(held);
        Lock::take(&path, Duration::from_millis(30)).unwrap();
    }
}
