//! Copies of directories, from descriptor to descriptor: whatever changes on the way, no link is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, fstat, openat, statat};
use rustix::io::Errno;

use super::tree::{give_attributes, open_dir};

/// Copies what is in a directory, with modes, owners and symbolic links; sockets and devices are left out.
pub fn contents(from: &Path, to: &Path) -> Result<()> {
    let open = |path: &Path| {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("failed to open `{}`", path.display()))
    };
    between(&open(from)?, &open(to)?)
}

/// Gives a directory the owner and mode of another one.
pub fn attributes(from: &Path, to: &Path) -> Result<()> {
    let give = || {
        let open = |path| openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        give_attributes(&fstat(open(from)?)?, &open(to)?)
    };
    give().with_context(|| format!("failed to make `{}` like `{}`", to.display(), from.display()))
}

/// Copies what is in a directory, both being open for reading.
pub fn between(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from).context("failed to list a directory")? {
        let entry = entry.context("failed to list a directory")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != OsStr::new(".") && name != OsStr::new("..") {
            one(from, to, name).with_context(|| format!("failed to copy `{}`", name.display()))?;
        }
    }
    Ok(())
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            match rustix::fs::mkdirat(to, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let (from, to) = (open_dir(from, name)?, open_dir(to, name)?);
            between(&from, &to)?;
            Ok(give_attributes(&found, &to)?)
        }
        FileType::Symlink => {
            rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?, to, name)?;
            let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
            let _ = rustix::fs::chownat(to, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW);
            Ok(())
        }
        FileType::RegularFile => file(from, to, name),
        _ => Ok(()),
    }
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> Result<()> {
    // What was a file a moment ago may be a pipe by now, which nobody may ever write to.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, OFlags::RDONLY | flags, Mode::empty())?;
    let found = fstat(&source)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let target = openat(to, name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | flags, Mode::RUSR | Mode::WUSR)?;
    let target = File::from(target);
    io::copy(&mut File::from(source), &mut &target)?;
    Ok(give_attributes(&found, &target.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn a_copy_keeps_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o710)).unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("sub/file", from.join("link")).unwrap();
        contents(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "text");
        assert_eq!(to.join("sub").metadata().unwrap().mode() & 0o7777, 0o710);
        assert_eq!(to.join("sub/file").metadata().unwrap().mode() & 0o7777, 0o4750);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
        for dir in [&from.join("sub"), &to, &outside] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(from.join("sub/file"), "text").unwrap();
        symlink(&outside, to.join("sub")).unwrap();
        let error = format!("{:#}", contents(&from, &to).unwrap_err());
        assert!(error.starts_with("failed to copy `sub`: "), "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
