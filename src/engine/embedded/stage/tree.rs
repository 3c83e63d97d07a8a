//! Paths of a container, walked one step at a time, and what is mounted at their ends.
//!
//! An image says where its links lead, and a container that shares a volume may exchange a directory for a link while
//! another one is made. So a path is never handed to the kernel as a whole: each step is a descriptor of what was found
//! there, links are read and walked here, `..` is a step back on the way that was come, and mounts are laid onto
//! descriptors. By then the host's root has been left, so that there is nothing else that a path could lead to.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatfs, fstatvfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};

use super::mounts::{NOTHING, Point};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// A directory with at most this many entries is rebuilt from mounts, a larger one from symbolic links.
const FEW: usize = 32;
/// Where the originals of rebuilt directories are.
const ORIGINALS: &str = "/.host";
/// A path may lead through as many rebuilt directories.
const MAX_REBUILT: usize = 8;
/// Of `/proc` and `/sys`.
const KERNELS: [rustix::fs::FsWord; 2] = [rustix::fs::PROC_SUPER_MAGIC, 0x6265_6572];

/// The root directory of this process.
pub struct Tree(OwnedFd);

/// Why a walk ended early.
enum Stop {
    /// In this directory nothing can be made.
    ReadOnly(OwnedFd),
    Failed(Errno),
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Stop {
        Stop::Failed(error)
    }
}

impl Tree {
    pub fn open() -> Result<Tree> {
        let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Tree(root.context("failed to open the new root")?))
    }

    /// What is at a path, made when it is not there; links that lead to nothing are followed, too: images have such
    /// links, as the one from `/etc/resolv.conf` into an empty `/run`, and Docker makes what they lead to. Where a
    /// read-only directory is in the way, it is rebuilt in memory first, showing the same entries.
    pub fn point(&self, path: &Path, point: Point) -> Result<OwnedFd> {
        let failed = || format!("failed to make the mount point `{}`", path.display());
        ensure!(path.is_absolute(), "{}: it is no absolute path", failed());
        for _ in 0..MAX_REBUILT {
            match self.walk(path, point) {
                Ok(found) => {
                    let kernels = is_kernels(&found).with_context(failed)?;
                    ensure!(!kernels, "{}: it lies in `/proc` or `/sys`, where nothing is mounted", failed());
                    return Ok(found);
                }
                Err(Stop::ReadOnly(dir)) => self.rebuild(&dir).with_context(failed)?,
                Err(Stop::Failed(error)) => return Err(error).with_context(failed),
            }
        }
        Err(Errno::ROFS).with_context(failed)
    }

    fn walk(&self, path: &Path, point: Point) -> Result<OwnedFd, Stop> {
        let (mut way, mut ahead, mut links): (Vec<OwnedFd>, _, _) = (Vec::new(), steps(path), 0);
        while let Some(step) = ahead.pop() {
            let at = way.last().unwrap_or(&self.0);
            if step == OsStr::new("..") {
                way.pop();
                continue;
            }
            let found = enter(at, &step, if ahead.is_empty() { point } else { Point::Directory })?;
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Symlink {
                way.push(found);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let link = rustix::fs::readlinkat(&found, "", Vec::new())?;
            let link = Path::new(OsStr::from_bytes(link.as_bytes()));
            if link.is_absolute() {
                way.clear();
            }
            ahead.extend(steps(link));
        }
        match way.pop() {
            Some(end) => Ok(end),
            None => Ok(rustix::io::fcntl_dupfd_cloexec(&self.0, 3)?),
        }
    }

    /// Lays a directory in memory over a read-only one, with the same entries in it.
    fn rebuild(&self, dir: &OwnedFd) -> Result<()> {
        let originals = self.point(Path::new(ORIGINALS), Point::Directory)?;
        let number = names(&originals)?.len();
        let place = Path::new(ORIGINALS).join(number.to_string());
        let original = clone_of(dir)?;
        attach(&original, &self.point(&place, Point::Directory)?)?;
        let fresh = memory(&[("mode", "755")], MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        attach(&fresh, dir)?;
        let names = names(&original)?;
        let few = names.len() <= FEW;
        for name in names {
            let entry = openat(&original, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            match FileType::from_raw_mode(fstat(&entry)?.st_mode) {
                FileType::Symlink => {
                    let link = rustix::fs::readlinkat(&entry, "", Vec::new())?;
                    rustix::fs::symlinkat(link, &fresh, &name)?;
                }
                FileType::Directory if few => {
                    let made = enter(&fresh, &name, Point::Directory).map_err(|_| Errno::IO)?;
                    attach(&clone_of(&entry)?, &made)?;
                }
                _ => rustix::fs::symlinkat(place.join(&name), &fresh, &name)?,
            }
        }
        Ok(())
    }
}

/// The steps of a path, last first.
fn steps(path: &Path) -> Vec<OsString> {
    let step = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(step).collect()
}

/// One step: what has this name in a directory, a link itself and not what it leads to; made when it is not there.
fn enter(dir: &OwnedFd, name: &OsStr, point: Point) -> Result<OwnedFd, Stop> {
    let open = || openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let made = match point {
        Point::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Point::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else was faster.
        Ok(()) | Err(Errno::EXIST) => Ok(open()?),
        Err(Errno::ROFS) => Err(Stop::ReadOnly(rustix::io::fcntl_dupfd_cloexec(dir, 3)?)),
        Err(error) => Err(error.into()),
    }
}

/// Whether something is part of `/proc` or `/sys`.
fn is_kernels(found: &OwnedFd) -> Result<bool> {
    Ok(KERNELS.contains(&fstatfs(found)?.f_type))
}

/// What is in a directory, by name.
pub fn names(dir: &OwnedFd) -> Result<Vec<OsString>> {
    let list = || {
        let opened = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(opened)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            names.extend((name != *"." && name != *"..").then_some(name));
        }
        Ok::<_, Errno>(names)
    };
    list().context("failed to list a directory")
}

/// A directory or file with all that is mounted below it, as a mount that has no place yet.
pub fn take(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).with_context(|| format!("failed to take `{}`", path.display()))
}

/// The same of what a descriptor stands for.
pub fn clone_of(found: &OwnedFd) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(found, "", flags | OpenTreeFlags::AT_EMPTY_PATH).context("failed to take a directory or file")
}

/// A file system in memory that has no place yet.
pub fn memory(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let make = || {
        let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(&system, *key, *value)?;
        }
        fsconfig_create(&system)?;
        fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().context("failed to make a file system in memory")
}

/// Gives a mount its place.
pub fn attach(mounted: &OwnedFd, place: &OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", place, "", flags).context("failed to mount")
}

/// Gives a mount that has its place more flags than it has. `/proc` must be there.
pub fn restrict(mounted: &OwnedFd, more: MsFlags) -> Result<()> {
    let has = fstatvfs(mounted).context("failed to look at a mount")?.f_flag;
    let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    let flags = flags(has) | more | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(NOTHING, path.as_str(), NOTHING, flags, NOTHING).context("failed to restrict a mount")
}

/// A user namespace may not lift flags that it inherited, so that they have to be named again.
fn flags(has: StatVfsMountFlags) -> MsFlags {
    let known = [
        (StatVfsMountFlags::RDONLY, MsFlags::MS_RDONLY),
        (StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
        (StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
        (StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
        (StatVfsMountFlags::NOATIME, MsFlags::MS_NOATIME),
        (StatVfsMountFlags::NODIRATIME, MsFlags::MS_NODIRATIME),
        (StatVfsMountFlags::RELATIME, MsFlags::MS_RELATIME),
    ];
    known.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag).collect()
}

/// Opens a directory of a container for reading, as a directory and nothing that a link leads to.
pub fn open_dir(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Who owns something, and its mode, given to something else. An owner that this pod's id map does not have is left.
pub fn give_attributes(from: &rustix::fs::Stat, to: &OwnedFd) -> rustix::io::Result<()> {
    let owner = (rustix::fs::Uid::from_raw(from.st_uid), rustix::fs::Gid::from_raw(from.st_gid));
    let _ = rustix::fs::chownat(to, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH);
    rustix::fs::fchmod(to, Mode::from_raw_mode(from.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(dir: &Path) -> Tree {
        Tree(openat(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap())
    }

    #[test]
    fn links_and_steps_up_end_at_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        symlink("/../../../../outside", root.join("absolute")).unwrap();
        symlink("../../absent/./deep", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = tree(&root);
        for path in ["/absolute/a", "/up/b", "/../../c", "/d/../../../e"] {
            tree.point(Path::new(path), Point::Directory).unwrap();
        }
        tree.point(Path::new("/up/file"), Point::File).unwrap();
        for made in ["outside/a", "absent/deep/b", "c", "e"] {
            assert!(root.join(made).is_dir(), "{made}");
        }
        assert!(root.join("absent/deep/file").is_file());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["root"]);
        let error = format!("{:#}", tree.point(Path::new("/loop/x"), Point::File).unwrap_err());
        assert!(error.contains("symbolic links"), "{error}");
    }

    /// A directory and a link to the outside change places all the time, and no step ever leads there.
    #[test]
    fn nobody_is_fast_enough_to_lead_a_walk_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(outside.join("there")).unwrap();
        symlink("/../outside", root.join("a/l")).unwrap();
        symlink(&outside, root.join("a/m")).unwrap();
        let racing = root.clone();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let racer = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                for link in ["a/l", "a/m"] {
                    let (one, other) = (racing.join("a/b"), racing.join(link));
                    let _ = rustix::fs::renameat_with(CWD, &one, CWD, &other, rustix::fs::RenameFlags::EXCHANGE);
                }
            }
        });
        let tree = tree(&root);
        for number in 0..3000 {
            let found = tree.point(Path::new(&format!("/a/b/there/{number}")), Point::Directory).unwrap();
            let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap();
            assert!(path.starts_with(&root), "{}", path.display());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        racer.join().unwrap();
        assert_eq!(std::fs::read_dir(outside.join("there")).unwrap().count(), 0);
    }
}
