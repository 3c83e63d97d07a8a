//! Bundled recipes: folders of reviewable text, made into a real git repository.
//!
//! The same folder gives the same commits on every machine: author and dates are fixed, versions become commits in
//! their order with an annotated tag each, and `head/` is the untagged tip of branch `main`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::git::Git;
use super::mirror::HEAD;
use super::version::Version;

/// A bundled recipe, read whole.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The versions' file lists, oldest first; the last one may be `head`.
    states: Vec<State>,
    /// Changes with any file, mode or name.
    pub(crate) hash: String,
}

#[derive(Debug)]
struct State {
    /// `None` for `head`.
    tag: Option<String>,
    files: BTreeMap<Vec<u8>, File>,
}

#[derive(Debug)]
struct File {
    mode: &'static str,
    bytes: Vec<u8>,
}

impl Bundle {
    /// Reads a bundled recipe: one directory per version, named like its tag, and optionally `head`.
    pub(crate) fn read(dir: &Path) -> Result<Bundle> {
        let (mut versions, mut head) = (Vec::new(), None);
        for entry in fs::read_dir(dir).with_context(|| format!("failed to read `{}`", dir.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match Version::parse(&name, "") {
                Some(version) => versions.push((version, files(&path)?)),
                None if name == "head" => head = Some(files(&path)?),
                None => bail!(
                    "bundled recipe `{}` has a directory `{name}`: expected `head` or `<semver>+<app version>`",
                    dir.display()
                ),
            }
        }
        versions.sort_by(|a, b| a.0.cmp(&b.0));
        let tagged = versions.into_iter().map(|(version, files)| State { tag: Some(version.tag), files });
        let states: Vec<State> = tagged.chain(head.map(|files| State { tag: None, files })).collect();
        if states.is_empty() {
            bail!("bundled recipe `{}` has neither versions nor `head`", dir.display());
        }
        let hash = hash(&states);
        Ok(Bundle { states, hash })
    }

    /// Writes the repository into a mirror, replacing its refs; objects of earlier contents stay.
    pub(crate) fn write(&self, git: &Git) -> Result<()> {
        let stale = git.read(&["for-each-ref", "--format=%(refname)"])?;
        git.feed(&["fast-import", "--quiet", "--force", "--date-format=raw"], &self.stream(stale.lines()))?;
        Ok(())
    }

    /// The whole history in fast-import's language.
    fn stream<'a>(&self, stale: impl Iterator<Item = &'a str>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        let kept = |name: &str| {
            name == HEAD
                || name == "refs/heads/main"
                || self
                    .states
                    .iter()
                    .any(|state| Some(name) == state.tag.as_ref().map(|tag| format!("refs/tags/{tag}")).as_deref())
        };
        for name in stale.filter(|name| !kept(name)) {
            put(format!("reset {name}\nfrom {}\n\n", "0".repeat(40)).as_bytes());
        }
        for (index, state) in self.states.iter().enumerate() {
            let (mark, who) = (index + 1, who(index));
            let subject = state.tag.as_deref().unwrap_or("head");
            put(format!(
                "commit refs/heads/main\nmark :{mark}\ncommitter {who}\ndata {}\n{subject}\n",
                subject.len() + 1
            )
            .as_bytes());
            put(if index > 0 { format!("from :{index}\n") } else { String::new() }.as_bytes());
            put(b"deleteall\n");
            for (path, file) in &state.files {
                put(format!("M {} inline ", file.mode).as_bytes());
                put(&quoted(path));
                put(format!("\ndata {}\n", file.bytes.len()).as_bytes());
                put(&file.bytes);
                put(b"\n");
            }
            if let Some(tag) = &state.tag {
                put(format!("tag {tag}\nfrom :{mark}\ntagger {who}\ndata {}\n{tag}\n", tag.len() + 1).as_bytes());
            }
        }
        put(format!("reset {HEAD}\nfrom :{}\n\n", self.states.len()).as_bytes());
        out
    }
}

/// The fixed author, a day further with each version.
fn who(index: usize) -> String {
    const FIRST: usize = 1_704_067_200; // 2024-01-01
    format!("Bundled Recipes <recipes@example.org> {} +0000", FIRST + index * 86_400)
}

/// All files below a directory, by their path in it.
fn files(dir: &Path) -> Result<BTreeMap<Vec<u8>, File>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![dir.to_path_buf()];
    while let Some(current) = directories.pop() {
        for entry in fs::read_dir(&current).with_context(|| format!("failed to read `{}`", current.display()))? {
            let path = entry?.path();
            let failed = || format!("failed to read `{}`", path.display());
            let meta = fs::symlink_metadata(&path).with_context(failed)?;
            let file = if meta.is_dir() {
                directories.push(path.clone());
                continue;
            } else if meta.is_symlink() {
                File {
                    mode: "120000",
                    bytes: fs::read_link(&path).with_context(failed)?.as_os_str().as_bytes().to_vec(),
                }
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o100 != 0;
                let mode = if executable { "100755" } else { "100644" };
                File { mode, bytes: crate::regular::read(&path).with_context(failed)? }
            } else {
                bail!("`{}` is neither a file nor a symbolic link", path.display());
            };
            let name = path.strip_prefix(dir)?.as_os_str().as_bytes().to_vec();
            files.insert(name, file);
        }
    }
    Ok(files)
}

fn hash(states: &[State]) -> String {
    let mut hasher = Sha256::new();
    // Raised when the way repositories are made changes, so that older mirrors are made anew.
    hasher.update(b"bundle 1\0");
    let mut put = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for state in states {
        put(state.tag.as_deref().unwrap_or("head").as_bytes());
        put(&(state.files.len() as u64).to_le_bytes());
        for (path, file) in &state.files {
            put(path);
            put(file.mode.as_bytes());
            put(&file.bytes);
        }
    }
    HEXLOWER.encode(&hasher.finalize())
}

/// A path in fast-import's quoting, which is C's.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            0x20..=0x7e => quoted.push(byte),
            _ => quoted.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}
