//! `/proc`, `/sys` and `/dev` of a container, with Docker's masks: made beside the container's root, by paths that only
//! the harness writes to, and put in their places as a whole.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::super::fault::Step;
use super::mounts::{self, NOTHING, Point};
use super::tree::{self, Tree};

const TOPS: [&str; 3] = ["proc", "sys", "dev"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Docker's lists: what a container must not read, and what it must not write.
const MASKED: [&str; 8] = [
    "proc/acpi",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "sys/firmware",
];
const WRITE_PROTECTED: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// The three, ready to be put into a root.
pub struct System {
    tops: Vec<(&'static str, OwnedFd)>,
    /// What of them must be read-only, by its path in the container.
    protected: Vec<PathBuf>,
}

impl System {
    /// Makes them below a directory of ours.
    pub fn make(stage: &Path) -> Result<System> {
        // The table of mounts, by which they are made read-only, knows no links.
        let stage = &fs::canonicalize(stage).with_context(|| format!("failed to find `{}`", stage.display()))?;
        for name in TOPS {
            fs::create_dir(stage.join(name)).with_context(|| format!("failed to create a place for `/{name}`"))?;
        }
        let (no_suid, no_dev, no_exec) = (MsFlags::MS_NOSUID, MsFlags::MS_NODEV, MsFlags::MS_NOEXEC);
        mount(Some("proc"), &stage.join("proc"), Some("proc"), no_suid | no_dev | no_exec, NOTHING)
            .context(Step::MountProc)?;
        // Refused in some nested containers. What looks into `/sys` then finds it empty.
        let flags = no_suid | no_dev | no_exec | MsFlags::MS_RDONLY;
        let _ = mount(Some("sysfs"), &stage.join("sys"), Some("sysfs"), flags, NOTHING);
        devices(&stage.join("dev"))?;
        let mut protected: Vec<PathBuf> = WRITE_PROTECTED.map(|name| stage.join(name)).into();
        protected.retain(|path| path.exists());
        for path in &protected {
            mounts::bind(path, path)?;
        }
        // A device takes and gives data all the same; only its mode and owner, which are the host's, stay what they are.
        protected.extend(DEVICES.map(|name| stage.join("dev").join(name)));
        protected.extend(mask(stage)?);
        mounts::read_only(&protected)?;
        let tops = TOPS.into_iter().map(|name| Ok((name, tree::take(&stage.join(name))?))).collect::<Result<_>>()?;
        let inside = |path: PathBuf| Ok(Path::new("/").join(path.strip_prefix(stage)?));
        Ok(System { tops, protected: protected.into_iter().map(inside).collect::<Result<_>>()? })
    }

    /// Puts them into this process's root, where an image may have directories for them and nothing else.
    pub fn attach(&self, root: &Tree) -> Result<()> {
        for (name, mounted) in &self.tops {
            let path = Path::new("/").join(name);
            // By way of a link they would be elsewhere, and what has to be at these paths would not.
            let other = fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir());
            ensure!(
                !other,
                "the image's `/{name}` is no directory, so that the kernel's own cannot be put in its place"
            );
            tree::attach(mounted, &root.point(&path, Point::Directory)?)
                .with_context(|| format!("failed to put `/{name}` in its place"))?;
        }
        Ok(())
    }

    /// Fails unless all that must be read-only is, where a program would look for it.
    pub fn prove(&self) -> Result<()> {
        for path in &self.protected {
            let flags = statvfs(path).with_context(|| format!("failed to look at `{}`", path.display()))?.f_flag;
            ensure!(flags.contains(StatVfsMountFlags::RDONLY), "`{}` would be writable", path.display());
        }
        Ok(())
    }
}

fn devices(dev: &Path) -> Result<()> {
    let (no_suid, no_dev, no_exec) = (MsFlags::MS_NOSUID, MsFlags::MS_NODEV, MsFlags::MS_NOEXEC);
    mounts::tmpfs(dev, "mode=755,size=64k", no_suid)?;
    for name in DEVICES {
        mounts::mount_point(&dev.join(name), Point::File)?;
        mounts::bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).with_context(|| format!("failed to link `/dev/{name}`"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).with_context(|| format!("failed to create `/dev/{name}`"))?;
    }
    let terminals = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), no_suid | no_exec, terminals)
        .context("failed to mount `/dev/pts`")?;
    mounts::tmpfs(&dev.join("shm"), "mode=1777,size=64m", no_suid | no_dev | no_exec)
}

/// Hides what must not be read, and says where.
fn mask(stage: &Path) -> Result<Vec<PathBuf>> {
    let masked: Vec<PathBuf> = MASKED.map(|name| stage.join(name)).into_iter().filter(|path| path.exists()).collect();
    for path in &masked {
        if path.is_dir() {
            mounts::tmpfs(path, "size=0,mode=555", MsFlags::MS_RDONLY)?;
        } else {
            mounts::bind(Path::new("/dev/null"), path)?;
        }
    }
    Ok(masked)
}
