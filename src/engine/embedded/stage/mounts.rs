//! Mounting in a container's own mount namespace: what nix and rustix offer, made safe to repeat.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

pub const NOTHING: Option<&str> = None;
/// A directory with at most this many entries is rebuilt from mounts, a larger one from symbolic links.
const FEW: usize = 32;
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Mounts `source` and everything below it at `target`, which must exist.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .with_context(|| format!("failed to bind `{}` to `{}`", source.display(), target.display()))
}

pub fn tmpfs(target: &Path, options: &str, flags: MsFlags) -> Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("failed to mount a tmpfs at `{}`", target.display()))
}

/// Makes the given mounts and every mount below them read-only, keeping their other flags: a user namespace may not
/// lift flags that it inherited.
pub fn read_only(mounts: &[PathBuf]) -> Result<()> {
    for (path, flags) in mounted()? {
        if mounts.iter().any(|mount| path.starts_with(mount)) {
            remount_read_only(&path, flags)?;
        }
    }
    Ok(())
}

/// Makes one mount read-only, and none below it.
pub fn read_only_alone(path: &Path) -> Result<()> {
    let found = mounted()?.into_iter().rfind(|(mounted, _)| mounted == path);
    let (path, flags) = found.with_context(|| format!("nothing is mounted at `{}`", path.display()))?;
    remount_read_only(&path, flags)
}

fn remount_read_only(path: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NOTHING, path, NOTHING, flags, NOTHING)
        .with_context(|| format!("failed to make `{}` read-only", path.display()))
}

/// Every mount of this namespace with its flags.
fn mounted() -> Result<Vec<(PathBuf, MsFlags)>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("failed to read the mount table")?;
    let line = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        Some((PathBuf::from(unescape(fields.next()?)), flags(fields.next()?)))
    };
    Ok(table.lines().filter_map(line).collect())
}

fn flags(options: &str) -> MsFlags {
    let flag = |option: &str| match option {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "relatime" => MsFlags::MS_RELATIME,
        _ => MsFlags::empty(),
    };
    options.split(',').map(flag).collect()
}

/// The kernel writes blanks and backslashes in the mount table as octal escapes.
pub fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                text.push(byte as char);
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Directory,
    File,
}

/// Makes sure that a mount point exists, and returns its real path. Where a read-only part of the host's userland is
/// in the way, that directory is rebuilt in memory first, showing the same entries.
pub fn mount_point(target: &Path, point: Point) -> Result<PathBuf> {
    let make = || {
        let real = resolve(target)?;
        match try_mount_point(&real, point) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let existing = real.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(Path::new("/"));
                rebuild(existing)?;
                let real = resolve(target)?;
                try_mount_point(&real, point)?;
                Ok(real)
            }
            Err(error) => Err(anyhow::Error::from(error)),
            Ok(()) => Ok(real),
        }
    };
    make().with_context(|| format!("failed to make the mount point `{}`", target.display()))
}

/// A path with every link followed, those that lead to nothing included: images have such links, as the one from
/// `/etc/resolv.conf` into an empty `/run`, and Docker makes what they lead to.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> { path.iter().rev().map(OsString::from).collect() };
    let (mut pending, mut real) = (parts(path), PathBuf::from("/"));
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == ".." {
            real.pop();
        } else if let Ok(link) = fs::read_link(real.join(&part)) {
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(nix::errno::Errno::ELOOP as i32));
            }
            pending.extend(parts(&link));
        } else {
            // An absolute link starts anew: joining `/` replaces the path.
            real.push(part);
        }
    }
    Ok(real)
}

fn try_mount_point(target: &Path, point: Point) -> io::Result<()> {
    match point {
        Point::Directory => fs::create_dir_all(target),
        Point::File => {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            if target.exists() { Ok(()) } else { File::create(target).map(drop) }
        }
    }
}

/// Lays a directory in memory over a read-only one, with the same entries in it.
fn rebuild(dir: &Path) -> Result<()> {
    let name: Vec<_> = dir.iter().skip(1).map(|part| part.to_string_lossy()).collect();
    let original = Path::new("/.host").join(name.join("-"));
    fs::create_dir_all(&original).with_context(|| format!("failed to create `{}`", original.display()))?;
    bind(dir, &original)?;
    tmpfs(dir, "mode=755", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    let entries: Vec<_> = fs::read_dir(&original)
        .and_then(Iterator::collect)
        .with_context(|| format!("failed to list `{}`", dir.display()))?;
    let few = entries.len() <= FEW;
    for entry in entries {
        let (from, to) = (entry.path(), dir.join(entry.file_name()));
        let kind = entry.file_type().context("failed to look at a directory entry")?;
        if kind.is_symlink() {
            fs::read_link(&from).and_then(|link| symlink(link, &to))
        } else if kind.is_dir() && few {
            fs::create_dir(&to).context("failed to create a directory")?;
            bind(&from, &to)?;
            Ok(())
        } else {
            symlink(&from, &to)
        }
        .with_context(|| format!("failed to rebuild `{}`", to.display()))?;
    }
    Ok(())
}

/// Copies what is in a directory, with modes, owners and symbolic links; sockets and devices are left out.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("failed to list `{}`", from.display()))? {
        let entry = entry.with_context(|| format!("failed to list `{}`", from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().with_context(|| format!("failed to look at `{}`", from.display()))?;
        if kind.is_dir() {
            fs::create_dir_all(&to).with_context(|| format!("failed to create `{}`", to.display()))?;
            copy_tree(&from, &to)?;
        } else if kind.is_symlink() {
            fs::read_link(&from)
                .and_then(|link| symlink(link, &to))
                .with_context(|| format!("failed to copy the link `{}`", from.display()))?;
        } else if kind.is_file() {
            fs::copy(&from, &to).with_context(|| format!("failed to copy `{}`", from.display()))?;
        } else {
            continue;
        }
        copy_attributes(&from, &to)?;
    }
    Ok(())
}

/// Owner and mode of `from`, given to `to`. An owner that this pod's id map does not have stays as it is.
pub fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let metadata = from.symlink_metadata().with_context(|| format!("failed to look at `{}`", from.display()))?;
    let _ = lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    if !metadata.is_symlink() {
        let mode = fs::Permissions::from_mode(metadata.mode());
        fs::set_permissions(to, mode).with_context(|| format!("failed to set the mode of `{}`", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_of_the_mount_table_are_read() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\x"), r"/plain\x");
    }

    #[test]
    fn links_are_followed_to_what_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
        symlink("../absent/./deep", at("up")).unwrap();
        symlink(at("other/end"), at("absolute")).unwrap();
        symlink("loop", at("loop")).unwrap();
        assert_eq!(resolve(&at("up/file")).unwrap(), at("").parent().unwrap().join("absent/deep/file"));
        assert_eq!(resolve(&at("absolute/file")).unwrap(), at("other/end/file"));
        assert_eq!(mount_point(&at("absolute/here"), Point::Directory).unwrap(), at("other/end/here"));
        assert!(resolve(&at("loop/file")).unwrap_err().to_string().contains("symbolic links"));
    }

    #[test]
    fn a_copy_keeps_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o710)).unwrap();
        symlink("sub/file", from.join("link")).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "text");
        assert_eq!(to.join("sub").metadata().unwrap().mode() & 0o777, 0o710);
    }
}
