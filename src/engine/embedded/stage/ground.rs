//! What a pod stands on: mounts of its own, and the harness's executable where nobody in the pod can change it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::super::fault::Step;
use super::mounts::{self, NOTHING, Point};

/// What a pod is told before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// This very executable, by a path.
    pub program: PathBuf,
    /// Directories that the pod works on.
    pub places: Vec<PathBuf>,
    /// Whether the pod's root is somebody else than this process, and may not enter all that lies above these.
    pub foreign: bool,
}

/// Prepares this process's mount namespace.
pub fn lay(ground: &Ground) -> Result<()> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context(Step::Namespaces)?;
    if ground.foreign {
        open_ways(ground).context(Step::Mounts)?;
    }
    shield(&ground.program).context(Step::Executable)
}

/// Where a directory above a place is closed to others, as a home directory is, lays an empty one over it that has
/// nothing but the places in it: the same paths lead there, and the pod sees less of the machine.
fn open_ways(ground: &Ground) -> Result<()> {
    let mut places: Vec<PathBuf> = Vec::new();
    for place in ground.places.iter().chain([&ground.program]) {
        places.push(fs::canonicalize(place).with_context(|| format!("failed to find `{}`", place.display()))?);
    }
    let mut closed: BTreeMap<PathBuf, Vec<(PathBuf, OwnedFd)>> = BTreeMap::new();
    for place in places.iter().filter(|place| !places.iter().any(|other| other != *place && place.starts_with(other))) {
        if let Some(above) = closed_above(place)? {
            let opened = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let opened = opened.with_context(|| format!("failed to open `{}`", place.display()))?;
            closed.entry(above).or_default().push((place.clone(), opened));
        }
    }
    for (above, places) in closed {
        mounts::tmpfs(&above, "mode=755,size=1m", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
        for (place, opened) in places {
            let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            let point = if source.is_dir() { Point::Directory } else { Point::File };
            mounts::mount_point(&place, point)?;
            mounts::bind(&source, &place)?;
        }
    }
    Ok(())
}

/// The topmost directory above a place that others may not search.
fn closed_above(place: &Path) -> Result<Option<PathBuf>> {
    let above: Vec<&Path> = place.ancestors().skip(1).collect();
    for dir in above.into_iter().rev() {
        let found = fs::metadata(dir).with_context(|| format!("failed to look at `{}`", dir.display()))?;
        if found.mode() & 0o001 == 0 {
            return Ok(Some(dir.to_owned()));
        }
    }
    Ok(None)
}

/// Makes the executable read-only, and its set-user-id bits mean nothing, for everything that is started from its path.
///
/// A container's program can reach the executable of a process beside it as `/proc/<pid>/exe`, and lets the harness run
/// it as `#!/proc/self/exe`. Who owns it could then give it another mode or content, on the machine (CVE-2019-5736).
fn shield(program: &Path) -> Result<()> {
    let file = |path: &Path| {
        let file = fs::metadata(path).with_context(|| format!("failed to look at `{}`", path.display()))?;
        Ok::<_, anyhow::Error>((file.dev(), file.ino()))
    };
    ensure!(
        file(program)? == file(Path::new("/proc/self/exe"))?,
        "`{}` was replaced while it was started",
        program.display()
    );
    // The table of mounts knows no links.
    let program = &fs::canonicalize(program).with_context(|| format!("failed to find `{}`", program.display()))?;
    mounts::bind(program, program)?;
    mounts::restrict(program, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_topmost_closed_directory_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap().join("open/closed/place");
        fs::create_dir_all(&place).unwrap();
        let set = |dir: &Path, mode| fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        set(dir.path(), 0o711);
        set(place.parent().unwrap(), 0o770);
        set(&place, 0o700);
        assert_eq!(closed_above(&place).unwrap().as_deref(), place.parent());
        set(dir.path(), 0o700);
        assert_eq!(closed_above(&place).unwrap(), Some(dir.path().canonicalize().unwrap()));
        set(dir.path(), 0o755);
        set(place.parent().unwrap(), 0o755);
        assert_eq!(closed_above(&place).unwrap(), None);
    }
}
