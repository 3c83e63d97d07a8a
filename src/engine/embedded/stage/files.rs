//! `__files`: reads and writes files as a container sees them, and gives its interfaces further addresses.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::super::super::contents;
use super::super::wire::{self, Reply};
use super::container::mac_of;
use super::netlink::Netlink;
use super::{next_fd, request};

/// What to do in the container, whose pid 1 comes as a pidfd with it.
#[derive(Debug, Serialize, Deserialize)]
pub enum FilesRequest {
    /// The answer carries the opened file.
    Read { path: PathBuf },
    /// The answer is what lies there, without what is mounted below.
    List { path: PathBuf },
    /// The content comes as a second descriptor.
    Write { path: PathBuf },
    /// The container takes an address over, and says so to its neighbours.
    TakeAddress { interface: u32, address: Ipv4Addr, prefix: u8 },
}

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (ask, fds) = request::<FilesRequest>(socket)?;
    let mut fds = fds.into_iter();
    let container = next_fd(&mut fds, "container")?;
    match ask {
        FilesRequest::Read { path } => {
            enter(&container, CloneFlags::CLONE_NEWNS)?;
            let file = open_regular(&path)?;
            wire::send(socket, &Reply::Ok(()), &[file.as_fd()])
        }
        FilesRequest::List { path } => {
            enter(&container, CloneFlags::CLONE_NEWNS)?;
            let listed = contents::of_one_file_system(&path);
            let listed = listed.with_context(|| format!("failed to list `{}`", path.display()))?;
            wire::send(socket, &Reply::Ok(listed), &[])
        }
        FilesRequest::Write { path } => {
            let content = File::from(next_fd(&mut fds, "content")?);
            enter(&container, CloneFlags::CLONE_NEWNS)?;
            write(&path, content)?;
            wire::send(socket, &Reply::Ok(()), &[])
        }
        FilesRequest::TakeAddress { interface, address, prefix } => {
            enter(&container, CloneFlags::CLONE_NEWNET)?;
            let mut network = Netlink::open()?;
            network.add_address(interface, address, prefix)?;
            network.set_mac(interface, mac_of(address))?;
            wire::send(socket, &Reply::Ok(()), &[])
        }
    }
}

fn enter(container: &OwnedFd, namespace: CloneFlags) -> Result<()> {
    setns(container, namespace).context("failed to enter the container")
}

/// Opens a file for reading; anything but a regular file could block for ever, or never end.
pub fn open_regular(path: &Path) -> Result<File> {
    let open = || {
        let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking()).open(path)?;
        let regular = file.metadata()?.is_file();
        Ok::<_, io::Error>((file, regular))
    };
    let (file, regular) = open().with_context(|| format!("failed to open `{}`", path.display()))?;
    ensure!(regular, "`{}` is not a regular file", path.display());
    Ok(file)
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

/// Writes a file, with its parent directories; an existing one keeps its owner and mode.
pub fn write(path: &Path, mut content: File) -> Result<()> {
    let mut write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).custom_flags(nonblocking()).open(path)?;
        io::copy(&mut content, &mut file).map(drop)
    };
    write().with_context(|| format!("failed to write `{}`", path.display()))
}
