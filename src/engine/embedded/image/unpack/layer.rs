//! Layers onto a directory: the rules of the OCI image specification for whiteouts, opaque directories and replaced
//! entries.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tar::{Archive, Entry, EntryType};

use super::super::super::idmap::IDS;
use super::Stats;

/// As many symbolic links as the kernel follows in one path.
const LINK_LIMIT: usize = 40;

/// The directory that layers are applied to, lowest first.
pub(super) struct Root {
    dir: PathBuf,
    /// What the current layer holds, with symbolic links in the way resolved, and everything above it: whiteouts
    /// hide what lower layers hold, never these.
    fresh: HashSet<PathBuf>,
    /// Id 0 of the image on this machine; `None` when ids are the same on both.
    first_id: Option<u32>,
    pub(super) stats: Stats,
}

impl Root {
    pub(super) fn new(dir: &Path, first_id: Option<u32>) -> Self {
        Root { dir: dir.to_owned(), fresh: HashSet::new(), first_id, stats: Stats::default() }
    }

    /// Applies one layer, an uncompressed tar archive.
    pub(super) fn apply(&mut self, archive: impl Read) -> Result<()> {
        self.fresh.clear();
        let mut archive = Archive::new(archive);
        archive.set_preserve_permissions(true);
        archive.set_unpack_xattrs(false);
        for entry in archive.entries().context("failed to read the archive")? {
            let mut entry = entry.context("failed to read the archive")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            self.entry(&mut entry).with_context(|| format!("failed to unpack `{name}`"))?;
        }
        // The checksum of a compressed stream stands at its end, behind the end of the archive.
        io::copy(&mut archive.into_inner(), &mut io::sink()).context("failed to read behind the archive")?;
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<impl Read>) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = normal(&entry.path()?)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The root directory itself: only its owner and mode matter.
            let root = self.dir.clone();
            return if kind.is_dir() { self.write(entry, &root) } else { bail!("the root is not a directory") };
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.whiteout(parent, hidden);
        }
        let parent = self.directory(parent, Missing::Create)?.context("its directory is missing")?;
        let target = parent.join(name);
        let is_dir = fs::symlink_metadata(&target).map(|found| found.is_dir());
        if is_dir.is_ok_and(|is_dir| !(is_dir && kind.is_dir())) {
            remove(&target)?;
        }
        self.remember(&target);
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.write(entry, &target),
            EntryType::Directory | EntryType::Symlink => self.write(entry, &target),
            EntryType::Link => self.link(entry, &target),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.stats.devices_skipped += 1;
                Ok(())
            }
            other => bail!("its type `{}` is unknown", other.as_byte().escape_ascii()),
        }
    }

    /// Writes a file, directory or symbolic link, and gives it its owner and mode.
    fn write(&mut self, entry: &mut Entry<impl Read>, target: &Path) -> Result<()> {
        entry.unpack(target)?;
        self.stats.entries += 1;
        let header = entry.header();
        let (uid, gid, mode) = (header.uid()?, header.gid()?, header.mode()?);
        let id = |id: u64| u32::try_from(id).with_context(|| format!("owner {id} is out of range"));
        // Always, even to root: in a directory with the setgid bit a new file starts out with that group.
        match self.own(target, id(uid)?, id(gid)?) {
            // Changing the owner clears these bits.
            Ok(()) if mode & 0o6000 != 0 && !header.entry_type().is_symlink() => {
                fs::set_permissions(target, fs::Permissions::from_mode(mode & 0o7777))?;
            }
            Ok(()) => {}
            Err(_) => self.stats.chowns_failed += 1,
        }
        Ok(())
    }

    /// Gives a file to an owner of the image. One that containers do not have becomes their root.
    fn own(&self, target: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let Some(first) = self.first_id else { return lchown(target, Some(uid), Some(gid)) };
        if uid < IDS && gid < IDS {
            return lchown(target, Some(first + uid), Some(first + gid));
        }
        lchown(target, Some(first), Some(first))?;
        Err(io::ErrorKind::InvalidInput.into())
    }

    /// Makes a hard link; the name it links to is a path in the image.
    fn link(&mut self, entry: &Entry<impl Read>, target: &Path) -> Result<()> {
        let name = entry.link_name()?.context("it is a hard link to nothing")?;
        let missing = || format!("it is a hard link to `{}`, which is not there", name.display());
        let (Some(parent), Some(file)) = (name.parent(), name.file_name()) else { bail!(missing()) };
        let source = self.directory(parent, Missing::Leave)?.with_context(missing)?.join(file);
        fs::hard_link(&source, target).with_context(missing)?;
        self.stats.entries += 1;
        Ok(())
    }

    /// Hides what lower layers hold: one name, or with `.wh..wh..opq` all that is in the directory.
    fn whiteout(&mut self, parent: &Path, hidden: &[u8]) -> Result<()> {
        ensure!(!matches!(hidden, b"" | b"." | b".."), "it hides no file");
        let Some(parent) = self.directory(parent, Missing::Leave)? else { return Ok(()) };
        match hidden {
            b".wh..opq" => self.hide_contents(&parent)?,
            // Housekeeping of AUFS, which old layers still contain.
            other if other.starts_with(b".wh.") => return Ok(()),
            name => self.hide(&parent.join(OsStr::from_bytes(name)))?,
        }
        self.stats.whiteouts += 1;
        Ok(())
    }

    fn hide(&self, path: &Path) -> Result<()> {
        let is_fresh = self.fresh.contains(path);
        match fs::symlink_metadata(path) {
            Ok(found) if is_fresh && found.is_dir() => self.hide_contents(path),
            Ok(_) if is_fresh => Ok(()),
            Ok(_) => remove(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("failed to look at `{}`", path.display())),
        }
    }

    fn hide_contents(&self, dir: &Path) -> Result<()> {
        for child in fs::read_dir(dir).with_context(|| format!("failed to list `{}`", dir.display()))? {
            self.hide(&child?.path())?;
        }
        Ok(())
    }

    fn remember(&mut self, target: &Path) {
        let mut path = target;
        while self.fresh.insert(path.to_owned()) {
            let Some(parent) = path.parent() else { break };
            path = parent;
        }
    }

    /// The real path of a directory of the image. Symbolic links are followed within the image, as a process in a
    /// container would: `/run` is the image's, and `..` ends at its root. `None` when it is missing and to be left so.
    fn directory(&self, path: &Path, missing: Missing) -> Result<Option<PathBuf>> {
        let mut real = self.dir.clone();
        let mut depth = 0;
        let mut links = 0;
        let mut ahead: Vec<Step> = steps(path);
        while let Some(step) = ahead.pop() {
            let Step::Into(name) = step else {
                if depth > 0 {
                    depth -= 1;
                    real.pop();
                }
                continue;
            };
            real.push(name);
            depth += 1;
            match fs::symlink_metadata(&real) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_symlink() => {
                    links += 1;
                    ensure!(links <= LINK_LIMIT, "more than {LINK_LIMIT} symbolic links lead to its directory");
                    let target = fs::read_link(&real)?;
                    real.pop();
                    depth -= 1;
                    if target.is_absolute() {
                        real.clone_from(&self.dir);
                        depth = 0;
                    }
                    ahead.extend(steps(&target));
                }
                Ok(_) if missing == Missing::Leave => return Ok(None),
                Ok(_) => bail!("`{}` is in its way and not a directory", real.display()),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Err(_) if missing == Missing::Leave => return Ok(None),
                Err(_) => {
                    fs::create_dir(&real)?;
                    if self.first_id.is_some() {
                        self.own(&real, 0, 0)?;
                    }
                }
            }
        }
        Ok(Some(real))
    }
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Leave,
}

/// A step on the way to a directory.
enum Step {
    Into(OsString),
    Up,
}

/// The steps of a path, last first.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component| match component {
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(step).collect()
}

/// The path of an entry, relative to the root. A leading `/` is dropped, as by every unpacker; a `..` is refused, since
/// no honest tool writes one.
fn normal(path: &Path) -> Result<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => bail!("`..` in the path of an entry is not allowed"),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    ensure!(!normal.as_os_str().as_bytes().contains(&0), "its path contains a null byte");
    Ok(normal)
}

fn remove(path: &Path) -> Result<()> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("failed to remove `{}` of a lower layer", path.display()))
}
