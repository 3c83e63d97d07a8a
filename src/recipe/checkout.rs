//! A run's own checkout of a recipe: private files, objects shared with the mirror.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::git::Git;
use super::mirror::Mirror;
use super::version::Revision;

/// A working tree at one revision, with a detached head and the mirror as `origin`.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// The working tree.
    pub dir: PathBuf,
}

impl Checkout {
    pub(crate) fn create(mirror: &Mirror, revision: &Revision, dir: &Path) -> Result<Checkout> {
        let failed = || format!("failed to check out `{}` into `{}`", revision.commit, dir.display());
        fs::create_dir_all(dir).with_context(failed)?;
        if fs::read_dir(dir).with_context(failed)?.next().is_some() {
            bail!("`{}` is not empty: a checkout needs a directory of its own", dir.display());
        }
        let dir = dir.canonicalize().with_context(failed)?;
        Git::inside(&dir).read(&["init", "--quiet", "--template=", "--initial-branch=main"])?;
        connect(mirror, &dir.join(".git")).with_context(failed)?;
        let checkout = Checkout { dir };
        checkout.switch(revision)?;
        Ok(checkout)
    }

    /// Checks another revision out into the same directory; whatever else lies there is removed.
    pub fn switch(&self, revision: &Revision) -> Result<()> {
        let git = Git::inside(&self.dir);
        let failed = || format!("failed to check out `{}` in `{}`", revision.commit, self.dir.display());
        git.read(&["checkout", "--quiet", "--force", "--detach", &revision.commit]).with_context(failed)?;
        // Twice `-f`: directories that are repositories themselves are removed too.
        git.read(&["clean", "--quiet", "-ffdx"]).with_context(failed)?;
        if revision.dirty {
            git.read(&["read-tree", "-u", "--reset", &revision.tree]).with_context(failed)?;
            // The index goes back to the commit, so that the changes are seen as changes.
            git.read(&["read-tree", &revision.commit]).with_context(failed)?;
        }
        Ok(())
    }
}

impl Checkout {
    /// Gives the checkout every object of the mirror as its own, for a reader that does not know of sharing. What no ref
    /// leads to is among them: a pull request's head, and the tree of a working copy.
    pub fn make_whole(&self) -> Result<()> {
        let objects = self.dir.join(".git/objects");
        let alternates = objects.join("info/alternates");
        let whole = || {
            let shared = match fs::read_to_string(&alternates) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                shared => shared?,
            };
            take_objects(Path::new(shared.trim_end()), &objects)?;
            fs::remove_file(&alternates)
        };
        whole().with_context(|| format!("failed to copy the objects of `{}`", self.dir.display()))
    }
}

/// Links objects, or copies them on to another disk; they never change. Indexes come last, because a pack is one only
/// with its index.
fn take_objects(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut files = Vec::new();
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let name = directory.file_name();
        // `info` says what is where in the mirror, and does not hold here.
        if name == "info" || !directory.file_type()?.is_dir() {
            continue;
        }
        fs::create_dir_all(to.join(&name))?;
        for file in fs::read_dir(directory.path())? {
            files.push(Path::new(&name).join(file?.file_name()));
        }
    }
    let is_unfinished = |file: &PathBuf| file.file_name().is_some_and(|it| it.to_string_lossy().starts_with("tmp_"));
    files.retain(|file| !is_unfinished(file) && !to.join(file).exists());
    files.sort_by_key(|file| file.extension().is_some_and(|it| it == "idx"));
    for file in files {
        let (theirs, own) = (from.join(&file), to.join(&file));
        fs::hard_link(&theirs, &own).or_else(|_| fs::copy(&theirs, &own).map(|_| ()))?;
    }
    Ok(())
}

/// Ties a fresh repository to the mirror: shared objects, the same tags, its branches as `origin`'s.
fn connect(mirror: &Mirror, git_dir: &Path) -> Result<()> {
    let objects = mirror.dir.join("objects");
    let url = mirror.dir.to_str().context("the mirror's path is not UTF-8")?;
    fs::create_dir_all(git_dir.join("objects/info"))?;
    fs::write(git_dir.join("objects/info/alternates"), format!("{}\n", objects.display()))?;
    if let Ok(shallow) = fs::read(mirror.dir.join("shallow")) {
        fs::write(git_dir.join("shallow"), shallow)?;
    }
    fs::write(git_dir.join("packed-refs"), packed_refs(mirror))?;
    let config = git_dir.join("config");
    let mut text = fs::read_to_string(&config)?;
    let escaped = url.replace('\\', "\\\\").replace('"', "\\\"");
    // A symbolic link of a recipe could lead anywhere: it is checked out as a small file that names its target.
    write!(
        text,
        "\tsymlinks = false\n\thooksPath = /dev/null\n[gc]\n\tauto = 0\n\
         [remote \"origin\"]\n\turl = \"{escaped}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )?;
    fs::write(&config, text)?;
    Ok(())
}

fn packed_refs(mirror: &Mirror) -> String {
    let branches = mirror.refs.branches.iter();
    let branches = branches.map(|(name, target)| (format!("refs/remotes/origin/{name}"), target.commit.clone(), None));
    let tags = mirror.refs.tags.iter().map(|(name, tag)| {
        let commit = tag.target.commit.clone();
        match &tag.object {
            Some(object) => (format!("refs/tags/{name}"), object.clone(), Some(commit)),
            None => (format!("refs/tags/{name}"), commit, None),
        }
    });
    let mut refs: Vec<(String, String, Option<String>)> = branches.chain(tags).collect();
    refs.sort();
    let mut text = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for (name, object, peeled) in refs {
        text += &format!("{object} {name}\n");
        text += &peeled.map(|commit| format!("^{commit}\n")).unwrap_or_default();
    }
    text
}
