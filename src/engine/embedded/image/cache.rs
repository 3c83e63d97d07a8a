//! The cache of unpacked images: `<cache>/sha256-<hex>/rootfs`, one directory an image, complete or not there. Root's have
//! the first id of its containers in their names, because their files belong to these ids.
//!
//! An image is built in a sibling directory and renamed into place, under a lock per digest. A process that dies half
//! way leaves a sibling, which the next one to claim that digest removes.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::idmap;
use super::manifest::Digest;
use crate::poll::{Look, Poll};

/// How long to wait for another process that is unpacking the same image.
const LOCK_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// A complete image in the cache.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    pub(super) digest: Digest,
    pub(super) rootfs: PathBuf,
    /// The configuration blob, as it was fetched.
    pub(super) config: Vec<u8>,
}

/// The place of one image in the cache, whether it is there or not.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    cache: PathBuf,
    digest: Digest,
}

/// What claiming an entry found.
pub(super) enum Claim {
    Complete(Unpacked),
    /// It is not there: fill this and commit it.
    Missing(Partial),
}

/// An image that is being built: removed again unless it is committed, and locked until then.
pub(super) struct Partial {
    entry: Entry,
    dir: PathBuf,
    _lock: File,
}

impl Entry {
    pub(super) fn new(cache: &Path, digest: Digest) -> Self {
        Entry { cache: cache.to_owned(), digest }
    }

    /// The image, if it is there completely.
    pub(super) fn complete(&self) -> Result<Option<Unpacked>> {
        let dir = self.path("");
        let (rootfs, config) = (dir.join("rootfs"), dir.join("config.json"));
        if !rootfs.is_dir() || !config.is_file() {
            return Ok(None);
        }
        let (owner, me) = (dir.metadata()?.uid(), nix::unistd::geteuid().as_raw());
        // Another user's image may have other owners on its files, or be made to harm us.
        ensure!(
            owner == me || Some(owner) == idmap::first_id(),
            "`{}` was unpacked by uid {owner}, and this is uid {me}: remove it, or use a state directory of your own",
            dir.display()
        );
        let config = fs::read(&config).with_context(|| format!("failed to read `{}`", config.display()))?;
        Ok(Some(Unpacked { digest: self.digest.clone(), rootfs, config }))
    }

    /// Waits for whoever is unpacking this image, then returns it, or a place to build it.
    pub(super) async fn claim(self) -> Result<Claim> {
        if let Some(unpacked) = self.complete()? {
            return Ok(Claim::Complete(unpacked));
        }
        fs::create_dir_all(&self.cache)
            .with_context(|| format!("failed to create the image cache `{}`", self.cache.display()))?;
        let lock = self.lock().await?;
        if let Some(unpacked) = self.complete()? {
            return Ok(Claim::Complete(unpacked));
        }
        self.sweep()?;
        let dir = self.path(&format!(".partial-{:016x}", rand::random::<u64>()));
        let create = |dir: &Path, mode| {
            let made = DirBuilder::new().mode(mode).create(dir);
            made.and_then(|()| fs::set_permissions(dir, Permissions::from_mode(mode)))
                .with_context(|| format!("failed to create `{}`", dir.display()))
        };
        // Closed to others: an image may hold setuid programs of old versions.
        create(&dir, 0o700)?;
        idmap::give(&dir)?;
        let partial = Partial { entry: self, dir, _lock: lock };
        create(&partial.rootfs(), 0o755)?;
        idmap::give(&partial.rootfs())?;
        create(&partial.blobs(), 0o700)?;
        Ok(Claim::Missing(partial))
    }

    /// `<cache>/sha256-<hex><suffix>`; no colon, which would end a path in the options of an overlay mount.
    fn path(&self, suffix: &str) -> PathBuf {
        let ids = idmap::first_id().map_or_else(String::new, |first| format!("-{first}"));
        self.cache.join(format!("sha256-{}{ids}{suffix}", self.digest.hex()))
    }

    async fn lock(&self) -> Result<File> {
        let path = self.path(".lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("failed to open the lock `{}`", path.display()))?;
        Poll::within(LOCK_DEADLINE)
            .until(format!("the lock on image `{}`", self.digest), async || match file.try_lock() {
                Ok(()) => Ok(Look::Ready(())),
                Err(TryLockError::WouldBlock) => {
                    Ok(Look::NotYet("another process holds it, to unpack the image".into()))
                }
                Err(TryLockError::Error(error)) => Err(error).context("failed to lock"),
            })
            .await?;
        Ok(file)
    }

    /// Removes what dead processes left of this image. Only the holder of the lock may.
    fn sweep(&self) -> Result<()> {
        let prefix = format!("sha256-{}", self.digest.hex());
        for entry in fs::read_dir(&self.cache).with_context(|| format!("failed to list `{}`", self.cache.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(|name| name.starts_with(&prefix) && !name.ends_with(".lock"));
            if is_ours {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Partial {
    pub(super) fn cache(&self) -> &Path {
        &self.entry.cache
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Where downloads go; they are not kept.
    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Makes the image visible, in one step.
    pub(super) fn commit(self) -> Result<Unpacked> {
        remove_tree(&self.blobs())?;
        let place = self.entry.path("");
        fs::rename(&self.dir, &place)
            .with_context(|| format!("failed to rename `{}` to `{}`", self.dir.display(), place.display()))?;
        self.entry.complete()?.with_context(|| format!("the image vanished from `{}`", place.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a commit there is nothing here. A failure is repaired by the next claim's sweep.
        let _ = remove_tree(&self.dir);
    }
}

/// Removes a directory, directories that its owner may not write to included; nothing being there is fine.
pub fn remove_tree(dir: &Path) -> Result<()> {
    let removed = match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir).and_then(|()| fs::remove_dir_all(dir))
        }
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", dir.display()))
        }
        _ => Ok(()),
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
