//! `__volume`: works on a directory of the pod, whoever owns the files in it.
//!
//! The stage makes the directory its root first: whatever links a container has put there, nothing outside it can be
//! read or written.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{self as unix, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::super::super::contents;
use super::super::super::usage::content_size;
use super::super::super::{ArchiveBudget, FileEntry};
use super::super::wire::{self, Reply};
use super::files::{open_regular, write};
use super::{next_fd, request};

/// Something to do with the directory `dir`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VolumeRequest {
    pub dir: PathBuf,
    pub action: VolumeAction,
}

/// Paths are relative to the directory.
#[derive(Debug, Serialize, Deserialize)]
pub enum VolumeAction {
    /// The answer carries the opened file; `false` without one when it is not there.
    Read { path: PathBuf },
    /// The content comes as a descriptor.
    Write { path: PathBuf },
    /// The archive to write comes as a descriptor; the answer is what it holds.
    Archive { paths: Vec<PathBuf> },
    /// The archive to read comes as a descriptor.
    Restore,
    /// The answer is what it holds, without the content.
    List,
    /// The answer is the size of its content, in bytes.
    Size,
    /// Removes the directory and everything in it.
    Remove,
}

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (VolumeRequest { dir, action }, fds) = request::<VolumeRequest>(socket)?;
    let mut fds = fds.into_iter();
    if let VolumeAction::Remove = action {
        remove(&dir)?;
        return wire::send(socket, &Reply::Ok(()), &[]);
    }
    nix::unistd::chroot(&dir).with_context(|| format!("failed to enter `{}`", dir.display()))?;
    nix::unistd::chdir("/").context("failed to enter the volume")?;
    match action {
        VolumeAction::Read { path } => match Path::new("/").join(inside(&path)?) {
            path if !path.exists() => wire::send(socket, &Reply::Ok(false), &[]),
            path => wire::send(socket, &Reply::Ok(true), &[open_regular(&path)?.as_fd()]),
        },
        VolumeAction::Write { path } => {
            write(&Path::new("/").join(inside(&path)?), File::from(next_fd(&mut fds, "content")?))?;
            wire::send(socket, &Reply::Ok(()), &[])
        }
        VolumeAction::Archive { paths } => {
            let held = archive(&paths, File::from(next_fd(&mut fds, "archive")?))?;
            wire::send(socket, &Reply::Ok(held), &[])
        }
        VolumeAction::Restore => {
            restore(File::from(next_fd(&mut fds, "archive")?))?;
            wire::send(socket, &Reply::Ok(()), &[])
        }
        VolumeAction::List => {
            let contents = contents::of_directory(Path::new("/")).context("failed to look through the files")?;
            wire::send(socket, &Reply::Ok(contents), &[])
        }
        VolumeAction::Size => {
            let size = content_size(Path::new("/")).context("failed to look through the files")?;
            wire::send(socket, &Reply::Ok(size), &[])
        }
        VolumeAction::Remove => Ok(()),
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", dir.display()))
        }
        _ => Ok(()),
    }
}

/// A path without leading slash, `.` and `..`.
fn inside(path: &Path) -> Result<PathBuf> {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let inside: PathBuf = parts.collect();
    ensure!(
        inside.components().all(|part| matches!(part, Component::Normal(_))),
        "`{}` leads out of the volume",
        path.display()
    );
    Ok(inside)
}

fn archive(paths: &[PathBuf], target: File) -> Result<Vec<FileEntry>> {
    let room = rustix::fs::fstatvfs(&target).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let tar = tar::Builder::new(io::BufWriter::new(target));
    let mut archive = Archive { tar, budget: ArchiveBudget::new(room) };
    let mut held = Vec::new();
    let everything = [PathBuf::new()];
    for path in if paths.is_empty() { &everything } else { paths } {
        let path = inside(path)?;
        ensure!(Path::new("/").join(&path).symlink_metadata().is_ok(), "`{}` is not in the volume", path.display());
        add(&mut archive, &path, &mut held)?;
    }
    let mut target = archive.tar.into_inner().context("failed to finish the archive")?;
    target.flush().context("failed to write the archive")?;
    target.get_ref().sync_all().context("failed to sync the archive")?;
    held.sort_by(|one, other| one.path.cmp(&other.path));
    // Of paths that lie in each other, a file is in the archive twice.
    held.dedup_by(|one, other| one.path == other.path);
    Ok(held)
}

struct Archive {
    tar: tar::Builder<io::BufWriter<File>>,
    budget: ArchiveBudget,
}

/// Adds a path and what is below it, in the order of names. Sockets, pipes and devices are not data.
fn add(archive: &mut Archive, path: &Path, held: &mut Vec<FileEntry>) -> Result<()> {
    let full = Path::new("/").join(path);
    let metadata = match full.symlink_metadata() {
        Ok(metadata) => metadata,
        // A live app may remove its files while we read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("failed to look at `{}`", path.display())),
    };
    // What a file takes on the disk is counted in blocks of 512 bytes, whatever the file system's own are.
    let size = if metadata.is_file() { metadata.size() } else { 0 };
    let hollow = size.saturating_sub(metadata.blocks().saturating_mul(512));
    archive.budget.take(&path.to_string_lossy(), size, hollow)?;
    let mut header = Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_size(0);
    let sha256 = if metadata.is_dir() {
        if path != Path::new("") {
            archive.tar.append_data(&mut header, path, io::empty()).context("failed to archive a directory")?;
        }
        String::new()
    } else if metadata.is_symlink() {
        let link = fs::read_link(&full).with_context(|| format!("failed to read `{}`", path.display()))?;
        archive.tar.append_link(&mut header, path, link).context("failed to archive a link")?;
        String::new()
    } else if metadata.is_file() {
        add_file(archive, header, path, size)?
    } else {
        return Ok(());
    };
    if path != Path::new("") {
        held.push(FileEntry { path: path.to_string_lossy().into_owned(), size, sha256 });
    }
    if metadata.is_dir() {
        let entries = fs::read_dir(&full).with_context(|| format!("failed to list `{}`", path.display()))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .with_context(|| format!("failed to list `{}`", path.display()))?;
        names.sort();
        for name in names {
            add(archive, &path.join(name), held)?;
        }
    }
    Ok(())
}

/// Archives a file and returns the SHA-256 of what went into the archive.
fn add_file(archive: &mut Archive, mut header: Header, path: &Path, counted: u64) -> Result<String> {
    let file = open_regular(&Path::new("/").join(path))?;
    let size = file.metadata().with_context(|| format!("failed to look at `{}`", path.display()))?.size();
    // One that has grown since it was looked at is taken as long as it was.
    let size = size.min(counted);
    header.set_size(size);
    // A file that shrinks while it is read is filled up with zeros, as GNU tar does: the header is out already.
    let mut content = Hashed { inner: file.chain(io::repeat(0)).take(size), digest: Sha256::new() };
    let appended = archive.tar.append_data(&mut header, path, &mut content);
    appended.with_context(|| format!("failed to archive `{}`", path.display()))?;
    Ok(HEXLOWER.encode(&content.digest.finalize()))
}

struct Hashed<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

fn restore(source: File) -> Result<()> {
    let mut archive = tar::Archive::new(io::BufReader::new(source));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    for entry in archive.entries().context("failed to read the archive")? {
        let mut entry = entry.context("failed to read the archive")?;
        let path = inside(&entry.path().context("failed to read the archive")?)?;
        let full = Path::new("/").join(&path);
        let restored =
            make_way(&full, entry.header().entry_type()).and_then(|()| match write_over(&mut entry, &full)? {
                true => Ok(true),
                false => entry.unpack_in("/"),
            });
        restored.with_context(|| format!("failed to restore `{}`", path.display()))?;
    }
    Ok(())
}

/// Writes into a file that is there, as the restic of backup-bot-two does: an app that holds it open goes on with it, and
/// nobody who makes one of that name meanwhile is in the way. `false` where there is no such file, or none that can be
/// written to, such as a program that runs.
fn write_over(entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> io::Result<bool> {
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    if !entry.header().entry_type().is_file() || !is_file(path) {
        return Ok(false);
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let opened = fs::OpenOptions::new().write(true).truncate(true).custom_flags(flags).open(path);
    let Ok(mut file) = opened else { return Ok(false) };
    io::copy(entry, &mut file)?;
    let header = entry.header();
    // The mode comes last: whoever changes the owner takes the bits away that lend its rights.
    unix::fchown(&file, Some(header.uid()? as u32), Some(header.gid()? as u32))?;
    file.set_permissions(fs::Permissions::from_mode(header.mode()?))?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(header.mtime()?))?;
    Ok(true)
}

/// Removes what stands at the place of an entry of another kind.
fn make_way(path: &Path, kind: EntryType) -> io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if metadata.is_dir() && kind != EntryType::Directory {
        fs::remove_dir_all(path)
    } else if !metadata.is_dir() && kind == EntryType::Directory {
        fs::remove_file(path)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_refused() {
        assert_eq!(inside(Path::new("/a/./b")).unwrap(), Path::new("a/b"));
        assert_eq!(inside(Path::new("a/../b")).unwrap_err().to_string(), "`a/../b` leads out of the volume");
    }
}
