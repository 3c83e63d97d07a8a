//! Calls on volumes: straight into their directories, whoever mounts them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::super::FileEntry;
use super::super::contents::Contents;
use super::call::read_all;
use super::core::Core;
use super::stage::Stage;
use super::stage::volume::{VolumeAction, VolumeRequest};
use super::wire;

pub async fn write(core: &Core, volume: &str, path: &str, bytes: &[u8]) -> Result<()> {
    let content = wire::memory_file(bytes)?;
    let action = VolumeAction::Write { path: PathBuf::from(path) };
    let written = call::<()>(core, volume, action, &[content.as_fd()]).await;
    written.map(drop).with_context(|| format!("failed to write `{path}` in volume `{volume}`"))
}

pub async fn read(core: &Core, volume: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let read = async {
        let action = VolumeAction::Read { path: PathBuf::from(path) };
        let (found, mut fds) = call::<bool>(core, volume, action, &[]).await?;
        if !found {
            return Ok(None);
        }
        read_all(fds.pop().context("the answer came without the file")?).map(Some)
    };
    read.await.with_context(|| format!("failed to read `{path}` in volume `{volume}`"))
}

pub async fn list(core: &Core, volume: &str) -> Result<Contents> {
    let listed = call(core, volume, VolumeAction::List, &[]).await;
    listed.map(|(contents, _)| contents).with_context(|| format!("failed to list volume `{volume}`"))
}

pub async fn archive(core: &Core, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
    let file = File::create(archive).with_context(|| format!("failed to create `{}`", archive.display()))?;
    let action = VolumeAction::Archive { paths: paths.iter().map(PathBuf::from).collect() };
    let archived = call(core, volume, action, &[file.as_fd()]).await;
    archived.map(|(held, _)| held).with_context(|| format!("failed to archive volume `{volume}`"))
}

pub async fn restore(core: &Core, volume: &str, archive: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("failed to open `{}`", archive.display()))?;
    let restored = call::<()>(core, volume, VolumeAction::Restore, &[file.as_fd()]).await;
    restored.map(drop).with_context(|| format!("failed to restore volume `{volume}`"))
}

pub async fn call<T: DeserializeOwned>(
    core: &Core,
    volume: &str,
    action: VolumeAction,
    fds: &[BorrowedFd<'_>],
) -> Result<(T, Vec<OwnedFd>)> {
    let dir = core.read(|state| state.volume_dirs.get(state.volumes.get(volume)?).cloned());
    let dir = dir.with_context(|| format!("there is no volume `{volume}`"))?;
    core.pod.call(Stage::Volume, &VolumeRequest { dir, action }, fds).await
}
