//! All files of one revision, in memory: what the compose model is read from, so that nothing is ever followed out of
//! the recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tar::EntryType;

use super::git::Git;

/// The files of a revision by their path in the repository, with `/` between parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub files: BTreeMap<String, Entry>,
    /// Paths of submodules, which are never fetched.
    pub submodules: Vec<String>,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File {
        bytes: Vec<u8>,
        executable: bool,
    },
    /// A symbolic link, which is never followed.
    Symlink {
        target: String,
    },
}

/// How large a tree may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) file: u64,
    pub(crate) total: u64,
    pub(crate) entries: usize,
}

pub(crate) const CAPS: Caps = Caps { file: 8 << 20, total: 64 << 20, entries: 10_000 };

/// More than git pads an archive with.
const PADDING: u64 = 1 << 20;

impl Tree {
    /// Reads a whole tree with one git process.
    pub(crate) fn read(git: &Git, tree: &str, caps: Caps) -> Result<Tree> {
        let mut command = git.command();
        command.args(["archive", "--format=tar", tree]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("failed to start `git archive`")?;
        let mut stdout = child.stdout.take().context("no standard output")?;
        let read = unpack(&mut stdout, caps);
        if read.is_ok() {
            // The archive is padded behind its end: git would die of a pipe that is closed before that.
            std::io::copy(&mut stdout.by_ref().take(PADDING), &mut std::io::sink()).context("failed to read")?;
        }
        drop(stdout);
        // After an early end git is stopped by the closed pipe, so waiting is short and only the first error counts.
        let output = child.wait_with_output().context("failed to wait for `git archive`")?;
        let found = read.with_context(|| format!("failed to read tree `{tree}`"))?;
        if !output.status.success() {
            bail!("failed to read tree `{tree}`: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(found)
    }

    /// The bytes of a regular file; an error says what else stands there.
    pub fn file(&self, path: &str) -> Result<&[u8]> {
        match self.files.get(path) {
            Some(Entry::File { bytes, .. }) => Ok(bytes),
            Some(Entry::Symlink { target }) => {
                bail!(
                    "`{path}` is a symbolic link to `{}`: links are not followed, which nothing allows: put the file \
                     itself into the recipe",
                    target.escape_debug()
                )
            }
            None if self.files.keys().any(|name| name.starts_with(&format!("{path}/"))) => {
                bail!("`{path}` is a directory, expected a file")
            }
            None => bail!("the recipe has no file `{path}`"),
        }
    }

    /// The text of a regular file.
    pub fn text(&self, path: &str) -> Result<&str> {
        std::str::from_utf8(self.file(path)?).with_context(|| format!("`{path}` is not UTF-8 text"))
    }

    /// The text of a file that may be missing.
    pub fn text_if_any(&self, path: &str) -> Result<Option<&str>> {
        if self.files.contains_key(path) { self.text(path).map(Some) } else { Ok(None) }
    }
}

/// A path of a recipe's file as written there (`./a/../b`, `a//b`), made plain; an error when it is absolute or leaves
/// the recipe.
pub fn inside(path: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().context("not UTF-8")?),
            Component::ParentDir if parts.pop().is_some() => {}
            _ => bail!(
                "path `{}` leaves the recipe, which nothing allows: put the file into the recipe",
                path.escape_debug()
            ),
        }
    }
    if parts.is_empty() {
        bail!("path `{}` names no file", path.escape_debug());
    }
    Ok(parts.join("/"))
}

fn unpack(archive: impl Read, caps: Caps) -> Result<Tree> {
    let mut archive = tar::Archive::new(archive);
    let (mut tree, mut directories, mut total) = (Tree::default(), Vec::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8(entry.path_bytes().into_owned()).context("a file name is not UTF-8")?;
        // The paths are joined to others: one that leads elsewhere is no path of a recipe.
        if inside(&path).ok().as_deref() != Some(path.trim_end_matches('/')) {
            bail!("`{}` is no path inside of it", path.escape_debug());
        }
        if tree.files.len() + directories.len() >= caps.entries {
            bail!("it has more than {} entries", caps.entries);
        }
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(path.trim_end_matches('/').to_owned()),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().context("a symbolic link without target")?;
                let target = String::from_utf8_lossy(&target).into_owned();
                tree.files.insert(path, Entry::Symlink { target });
            }
            EntryType::Regular => {
                let size = entry.size();
                total += size;
                if size > caps.file {
                    bail!("`{path}` has {size} bytes: at most {} are read", caps.file);
                }
                if total > caps.total {
                    bail!("its files have more than {} bytes together", caps.total);
                }
                let executable = entry.header().mode()? & 0o100 != 0;
                let mut bytes = Vec::with_capacity(size as usize);
                entry.read_to_end(&mut bytes)?;
                tree.files.insert(path, Entry::File { bytes, executable });
            }
            _ => {}
        }
    }
    // Git keeps no empty directories: one in the archive is where a submodule would be.
    let names: BTreeSet<&str> = tree.files.keys().chain(&directories).map(String::as_str).collect();
    let empty = |dir: &&String| {
        let inner = format!("{dir}/");
        !names.range(inner.as_str()..).next().is_some_and(|name| name.starts_with(&inner))
    };
    tree.submodules = directories.iter().filter(empty).cloned().collect();
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_made_plain() {
        assert_eq!(inside("./compose.yml").unwrap(), "compose.yml");
        assert_eq!(inside("a/../b//c").unwrap(), "b/c");
    }

    #[test]
    fn paths_that_leave_the_recipe_are_refused() {
        for path in ["../x", "a/../../x", "/etc/hostname", "a/../../a/x"] {
            let error = inside(path).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("path `{path}` leaves the recipe, which nothing allows: put the file into the recipe")
            );
        }
        assert_eq!(inside("").unwrap_err().to_string(), "path `` names no file");
    }

    #[test]
    fn an_archive_that_leads_out_is_refused() {
        for path in ["../evil", "a/../../evil", "/etc/evil", "./a"] {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            let mut archive = tar::Builder::new(Vec::new());
            archive.append(&header, std::io::empty()).unwrap();
            let error = unpack(archive.into_inner().unwrap().as_slice(), super::super::tree::CAPS).unwrap_err();
            assert_eq!(error.to_string(), format!("`{path}` is no path inside of it"));
        }
    }

    #[test]
    fn what_is_not_a_regular_file_is_named() {
        let mut tree = Tree::default();
        tree.files.insert("link".into(), Entry::Symlink { target: "/etc/passwd".into() });
        tree.files.insert("dir/file".into(), Entry::File { bytes: vec![0xff], executable: false });
        let error = |path: &str| tree.text(path).unwrap_err().to_string();
        assert_eq!(
            error("link"),
            "`link` is a symbolic link to `/etc/passwd`: links are not followed, which nothing allows: put the file itself into the recipe"
        );
        assert_eq!(error("dir"), "`dir` is a directory, expected a file");
        assert_eq!(error("none"), "the recipe has no file `none`");
        assert_eq!(error("dir/file"), "`dir/file` is not UTF-8 text");
        assert_eq!(tree.text_if_any("none").unwrap(), None);
    }

    proptest! {
        #[test]
        fn a_plain_path_has_no_way_out(path in "[./a-c]{0,12}") {
            if let Ok(plain) = inside(&path) {
                prop_assert!(plain.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
