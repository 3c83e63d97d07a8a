//! Mounting in a mount namespace of our own, by paths that only the harness writes to: what nix and rustix offer, made
//! safe to repeat. Paths of a container are for `tree`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

pub const NOTHING: Option<&str> = None;

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
            remount(&path, flags | MsFlags::MS_RDONLY)?;
        }
    }
    Ok(())
}

/// Makes one mount read-only, and none below it.
pub fn read_only_alone(path: &Path) -> Result<()> {
    restrict(path, MsFlags::MS_RDONLY)
}

/// Gives one mount more flags than it has.
pub fn restrict(path: &Path, more: MsFlags) -> Result<()> {
    let found = mounted()?.into_iter().rfind(|(mounted, _)| mounted == path);
    let (path, flags) = found.with_context(|| format!("nothing is mounted at `{}`", path.display()))?;
    remount(&path, flags | more)
}

fn remount(path: &Path, flags: MsFlags) -> Result<()> {
    mount(NOTHING, path, NOTHING, flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND, NOTHING)
        .with_context(|| format!("failed to restrict what is mounted at `{}`", path.display()))
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

/// Makes sure that a mount point exists, at a path that only the harness writes to.
pub fn mount_point(target: &Path, point: Point) -> Result<()> {
    try_mount_point(target, point).with_context(|| format!("failed to make the mount point `{}`", target.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_of_the_mount_table_are_read() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\x"), r"/plain\x");
    }
}
