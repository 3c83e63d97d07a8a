//! A maintainer's working copy, read without writing anything into it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::git::Git;
use super::mirror::{FETCH, FETCH_DEADLINE, HEAD, READ_ONLY_UPLOAD};
use super::tree::CAPS;
use crate::fault::{Blame as _, Fault};

/// Copies the refs and objects of a working copy into a mirror, and returns the tree of what lies there now when it
/// differs from the commit: changed, deleted and new files, but not ignored ones.
pub(crate) fn import(mirror: &Path, path: &Path) -> Result<Option<String>> {
    let copy = Copy::find(path).usage()?;
    let place = path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))?;
    let head = format!("+HEAD:{HEAD}");
    let mut args = FETCH.to_vec();
    args.extend([READ_ONLY_UPLOAD, "--", place, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", &head]);
    let answer = Git::on(mirror).remote(&args, FETCH_DEADLINE)?;
    if !answer.ok {
        bail!("failed to read working copy `{}`: {}", path.display(), answer.said);
    }
    let failed = || format!("failed to read the changes of working copy `{}`", path.display());
    copy.dirty_tree(mirror).with_context(failed)
}

/// Whether a part of the history is missing, as `git clone --depth 1` leaves it.
pub(crate) fn is_shallow(path: &Path) -> bool {
    let answer = Git::inside(path).ask(&["rev-parse", "--is-shallow-repository"], b"");
    answer.is_ok_and(|answer| answer.ok && answer.stdout.starts_with(b"true"))
}

struct Copy {
    top: PathBuf,
    /// The repository's own list of ignored files.
    exclude: PathBuf,
}

impl Copy {
    fn find(path: &Path) -> Result<Copy> {
        let git = Git::inside(path);
        let args = ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-common-dir"];
        let answer = git.ask(&args, b"")?;
        let shown = path.display();
        if !path.is_dir() || !answer.ok {
            bail!("`{shown}` is not a git working copy: {}", answer.said);
        }
        let output = String::from_utf8_lossy(&answer.stdout).into_owned();
        git.refuse_partial()?;
        let (top, common) = output.trim_end().split_once('\n').context("unexpected output of `git rev-parse`")?;
        let top = PathBuf::from(top);
        if top.canonicalize().ok() != path.canonicalize().ok() {
            bail!("`{shown}` is a part of the repository `{}`, not a recipe's repository of its own", top.display());
        }
        if !git.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], b"")?.ok {
            bail!("working copy `{shown}` has no commit yet: commit something first");
        }
        Ok(Copy { top, exclude: Path::new(common).join("info/exclude") })
    }

    /// Works on an index and an object store of the mirror's side. The copy's own configuration is not read, so none
    /// of its filters run.
    fn dirty_tree(&self, mirror: &Path) -> Result<Option<String>> {
        let scratch = tempfile::tempdir_in(mirror).context("failed to create a directory in the mirror")?;
        let git = Git::on(mirror)
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_INDEX_FILE", scratch.path().join("index"))
            .config("core.bare", "false")
            .config("core.excludesFile", &self.exclude)
            .config("core.autocrlf", "false")
            .config("advice.addEmbeddedRepo", "false");
        git.read(&["read-tree", HEAD])?;
        leave_submodules_alone(&git)?;
        self.check_size(&git).blame(Fault::Recipe)?;
        git.read(&["add", "--all"])?;
        let tree = git.read(&["write-tree"])?;
        let clean = git.read(&["rev-parse", "--verify", &format!("{HEAD}^{{tree}}")])?;
        Ok((tree != clean).then_some(tree))
    }

    /// New files count against the caps of a tree before they are copied: a forgotten dump should not fill the mirror.
    fn check_size(&self, git: &Git) -> Result<()> {
        let listed = git.feed(&["ls-files", "-z", "--others", "--exclude-standard", "--full-name", ":/"], b"")?;
        let (mut count, mut total) = (0, 0);
        for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let path = self.top.join(OsStr::from_bytes(name));
            count += 1;
            total += path.symlink_metadata().map_or(0, |meta| meta.len());
            if total > CAPS.total || count > CAPS.entries {
                bail!(
                    "its new files are more than a recipe may hold (seen up to `{}`): list in `.gitignore` what does not belong to it",
                    String::from_utf8_lossy(name)
                );
            }
        }
        Ok(())
    }
}

/// Git would run itself in every submodule to see whether it changed, with the filters of that repository's own
/// configuration. Submodules are not tested, so they count as they stand in the commit.
fn leave_submodules_alone(git: &Git) -> Result<()> {
    let listed = git.feed(&["ls-files", "-z", "--stage", "--full-name", ":/"], b"")?;
    let entries = listed.split(|byte| *byte == 0).filter(|entry| entry.starts_with(b"160000 "));
    let paths = entries.filter_map(|entry| entry.splitn(2, |byte| *byte == b'\t').nth(1));
    let paths: Vec<u8> = paths.flat_map(|path| path.iter().copied().chain([0])).collect();
    if !paths.is_empty() {
        git.feed(&["update-index", "--skip-worktree", "-z", "--stdin"], &paths)?;
    }
    Ok(())
}
