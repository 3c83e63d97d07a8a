//! The stage `__unpack`: shuts itself into the target directory, then applies the layers.

use std::fs::{self, File};
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chdir, getegid, geteuid, pivot_root};

use super::super::super::super::usage::content_size;
use super::layer::Root;
use super::{Layer, Order, Stats, decode};
use crate::process::harden::close_inherited;

/// Runs the stage. The result goes to standard output as JSON.
pub(crate) fn stage() -> ExitCode {
    let result = run().map_err(|error| explain(&error));
    let written = serde_json::to_vec(&result).map(|json| io::stdout().write_all(&json));
    if result.is_ok() && matches!(written, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run() -> Result<Stats> {
    close_inherited()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("failed to read the order")?;
    let order: Order = serde_json::from_str(&line).context("failed to read the order")?;
    // Opened first: afterwards the only paths that lead anywhere are the image's own.
    let layers: Vec<(File, &Layer)> =
        order.layers.iter().map(|layer| Ok((open(layer)?, layer))).collect::<Result<_>>()?;
    enter(&order.rootfs)?;
    end_with_our_parent();
    let mut root = Root::new(Path::new("/"), order.first_id);
    for (position, (blob, layer)) in layers.into_iter().enumerate() {
        decode::apply(blob, layer, &mut root).with_context(|| {
            format!("failed to apply layer {} of {}, `{}`", position + 1, order.layers.len(), layer.digest)
        })?;
    }
    // The rename that follows must not reach the disk before the files do.
    let directory = File::open("/").context("failed to open the root directory")?;
    rustix::fs::syncfs(&directory).context("failed to write the files to disk")?;
    let bytes = content_size(Path::new("/")).context("failed to look through the files")?;
    Ok(Stats { bytes: Some(bytes), ..root.stats })
}

fn open(layer: &Layer) -> Result<File> {
    File::open(&layer.blob).with_context(|| format!("failed to open layer `{}`", layer.blob.display()))
}

/// Makes `rootfs` the root directory of this process, and everything else unreachable.
fn enter(rootfs: &Path) -> Result<()> {
    enter_namespaces()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("failed to make mounts private")?;
    mount(Some(rootfs), rootfs, none, MsFlags::MS_BIND, none).context("failed to bind the target directory")?;
    chdir(rootfs).context("failed to enter the target directory")?;
    pivot_root(".", ".").context("failed to pivot into the target directory")?;
    umount2(".", MntFlags::MNT_DETACH).context("failed to detach the host's root")?;
    chdir("/").context("failed to enter the new root")
}

/// Root keeps its user namespace, so that it can give files to any owner; others become root of a namespace that holds
/// only themselves.
fn enter_namespaces() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context(
        "failed to create a user and a mount namespace, without which image layers are not unpacked; allow \
         unprivileged user namespaces on this machine, or run outside the container that forbids them",
    )?;
    let write = |file: &str, text: String| fs::write(file, text).with_context(|| format!("failed to write `{file}`"));
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Standard input stays open as long as whoever ordered this is alive and interested.
fn end_with_our_parent() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = kill(Pid::this(), Signal::SIGKILL);
    });
}

/// The error as text; a full disk, which hides deep in the chain, comes first.
fn explain(error: &anyhow::Error) -> String {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| full.contains(&error.kind()))
    };
    match error.chain().any(is_full) {
        true => format!("no space left for the image; free some, or use a state directory elsewhere: {error:#}"),
        false => format!("{error:#}"),
    }
}
