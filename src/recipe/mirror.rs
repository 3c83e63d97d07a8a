//! A bare mirror of a recipe's repository, shared by all runs on this machine.
//!
//! It changes only under a lock, and only ever grows: objects are never collected and readers work by commit, so a
//! run never sees another run's fetch. What a run needs to know of the refs is read once, under that lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::bundle::Bundle;
use super::checkout::Checkout;
use super::git::Git;
use super::lock::Lock;
use super::name::RecipeName;
use super::refs::{Refs, Target};
use super::source::address::{mask, redact};
use super::source::{Origin, Source, find};
use super::tree::{CAPS, Tree};
use super::version::{Revision, SkippedTag, Version};
use super::working_copy;
use crate::fault::Blame as _;
use crate::private;

/// Where a mirror keeps the tip of the default branch.
pub(crate) const HEAD: &str = "refs/harness/head";

/// How long one fetch may take: recipes are small, so longer means a remote that does not answer.
pub(crate) const FETCH_DEADLINE: Duration = Duration::from_secs(120);

/// A fetch that changes only the refs it names.
pub(crate) const FETCH: &[&str] =
    &["fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-write-fetch-head", "--update-shallow"];

/// For repositories on this machine: they may belong to somebody else, and are only read.
pub(crate) const READ_ONLY_UPLOAD: &str =
    "--upload-pack=git -c safe.directory='*' -c core.hooksPath=/dev/null upload-pack";

/// How long to wait for other runs' fetches of the same recipe.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// Which revision of a recipe is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The default branch; of a working copy, what lies there now.
    Default,
    /// A tag, a branch, or a commit (at least 7 hex digits).
    Named(String),
    /// The head of a pull request (`refs/pull/N/head`, as Gitea and GitHub have it).
    Pull(u64),
}

/// A mirror, as it was when it was opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mirror {
    /// The bare repository.
    pub dir: PathBuf,
    /// Where it comes from, for people, without credentials.
    pub origin: String,
    /// What happened on opening that a reader of the run should know.
    pub notes: Vec<String>,
    pub(crate) refs: Refs,
    /// The tree of a working copy, when it differs from its commit.
    dirty: Option<String>,
    working_copy: bool,
    /// It was made of a clone that lacks a part of the history.
    #[serde(default)]
    shallow: bool,
}

impl Mirror {
    /// Brings the mirror of the first source that has the recipe up to date, and reads its refs.
    pub fn open(name: &RecipeName, sources: &[Source], state: &Path, reference: &Reference) -> Result<Mirror> {
        let origin = find(name, sources)?;
        let started = SystemTime::now();
        let folder = state.join("mirrors").join(name.as_str());
        // Who could write there could change what is tested.
        for dir in [state, &state.join("mirrors"), &folder] {
            private::create(dir)?;
        }
        let folder = folder.canonicalize().with_context(|| format!("failed to open `{}`", folder.display()))?;
        let key = key(&origin);
        let dir = folder.join(format!("{key}.git"));
        let _lock = Lock::take(&folder.join(format!("{key}.lock")), LOCK_DEADLINE)?;
        let existed = dir.is_dir();
        if !existed {
            create(&dir)?;
        }
        let (mut notes, mut dirty, mut shallow) = (Vec::new(), None, false);
        match &origin {
            Origin::Bundled { dir: source } => build(&dir, source)?,
            Origin::WorkingCopy { path } => {
                dirty = working_copy::import(&dir, path)?;
                shallow = working_copy::is_shallow(path);
            }
            Origin::Remote { url } => {
                let upstream = Upstream { dir: &dir, url, local: false, existed };
                notes.extend(upstream.update(reference, started)?);
            }
            Origin::Local { path } => {
                let url = path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))?;
                Git::inside(path).refuse_partial()?;
                let upstream = Upstream { dir: &dir, url, local: true, existed };
                notes.extend(upstream.update(reference, started)?);
            }
        }
        let refs = Refs::read(&Git::on(&dir))?;
        let working_copy = matches!(origin, Origin::WorkingCopy { .. });
        Ok(Mirror { dir, origin: origin.to_string(), notes, refs, dirty, working_copy, shallow })
    }

    /// The commit and tree that a reference means. An unknown one is an error that names what is possible.
    pub fn resolve(&self, reference: &Reference) -> Result<Revision> {
        let (target, label) = match reference {
            Reference::Default => {
                let head = self.refs.head.clone();
                let label = if self.working_copy { "working copy" } else { "default branch" };
                (head.with_context(|| format!("`{}` has no default branch", self.origin))?, label.to_owned())
            }
            Reference::Pull(number) => {
                let target = self.refs.pulls.get(number).cloned();
                let label = format!("pull request {number}");
                (target.with_context(|| format!("no pull request {number} in `{}`", self.origin))?, label)
            }
            Reference::Named(name) => match self.refs.named(name) {
                Some((target, kind)) => (target, format!("{kind} {name}")),
                None => (self.commit(name)?, "commit".to_owned()),
            },
        };
        let dirty = self.dirty.clone().filter(|_| *reference == Reference::Default);
        let version = self.refs.versions.iter().rfind(|version| version.commit == target.commit && dirty.is_none());
        Ok(Revision {
            version: version.cloned(),
            commit: target.commit,
            dirty: dirty.is_some(),
            tree: dirty.unwrap_or(target.tree),
            label,
        })
    }

    /// Published versions, oldest first: annotated tags of the form `<semver>+<app version>`.
    pub fn versions(&self) -> &[Version] {
        &self.refs.versions
    }

    /// Tags that are not published versions, and why.
    pub fn skipped_tags(&self) -> &[SkippedTag] {
        &self.refs.skipped
    }

    /// The tags of all versions in the history of a commit, its own included.
    pub fn ancestors(&self, commit: &str) -> Result<BTreeSet<String>> {
        if self.refs.versions.is_empty() {
            return Ok(BTreeSet::new());
        }
        let merged = format!("--merged={commit}");
        let tags = self.git().read(&["for-each-ref", &merged, "--format=%(refname:strip=2)", "refs/tags"])?;
        Ok(tags.lines().map(str::to_owned).collect())
    }

    /// Why no older version than the head is known, where the working copy may be all there is to it: most CI servers
    /// clone without tags, and without the history that says which of them are older.
    pub fn lacks_versions(&self, head: &Revision) -> Option<String> {
        const IN_CI: &str = "(in CI: full depth, with tags)";
        let has_tags = !self.refs.versions.is_empty() || !self.refs.skipped.is_empty();
        match (self.working_copy, self.shallow, has_tags) {
            (true, true, false) => Some(format!("this clone has no tags; `git fetch --unshallow --tags` {IN_CI}")),
            (true, true, true) if head.version.is_none() => Some(format!(
                "this clone is shallow, so that nobody sees which version the head goes on from; `git fetch --unshallow \
                 --tags` {IN_CI}"
            )),
            (true, false, false) => Some(format!(
                "this clone has no tags; if versions are published, `git fetch --tags` {IN_CI}; else `git tag -a` makes the \
                 first one"
            )),
            _ => None,
        }
    }

    /// All files of a revision.
    pub fn tree(&self, revision: &Revision) -> Result<Tree> {
        Tree::read(&self.git(), &revision.tree, CAPS)
    }

    /// Git's hash of the content of every file of a revision, by path.
    pub fn blobs(&self, revision: &Revision) -> Result<BTreeMap<String, String>> {
        let listed = self.git().feed(&["ls-tree", "-r", "-z", "--full-tree", &revision.tree], b"")?;
        let entry = |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            let (about, path) = line.split_once('\t')?;
            let mut about = about.split(' ').skip(1);
            let hash = (about.next()? == "blob").then(|| about.next())??;
            Some((path.to_owned(), hash.to_owned()))
        };
        Ok(listed.split(|byte| *byte == 0).filter_map(entry).collect())
    }

    /// A private checkout for one run in `dir`, which must not exist or be empty.
    pub fn checkout(&self, revision: &Revision, dir: &Path) -> Result<Checkout> {
        Checkout::create(self, revision, dir)
    }

    pub(crate) fn git(&self) -> Git {
        Git::on(&self.dir)
    }

    /// A commit by its (shortened) hash.
    fn commit(&self, name: &str) -> Result<Target> {
        let hex = name.len() >= 7 && name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex {
            bail!("no branch or tag `{}` in `{}`: {}", name.escape_debug(), self.origin, self.refs.possible(name));
        }
        let object = format!("{name}^{{commit}}");
        let answer =
            self.git().ask(&["log", "-1", "--no-walk", "--format=%H %T", "--end-of-options", &object, "--"], b"")?;
        let output = String::from_utf8_lossy(&answer.stdout).into_owned();
        match output.trim().split_once(' ') {
            Some((commit, tree)) => Ok(Target { commit: commit.into(), tree: tree.into() }),
            None if answer.said.contains("ambiguous") => {
                bail!("commit `{name}` is ambiguous in `{}`: give more digits", self.origin)
            }
            None => bail!("no commit, branch or tag `{name}` in `{}`: {}", self.origin, self.refs.possible(name)),
        }
    }
}

/// The folder name of an origin's mirror: short, and free of credentials.
fn key(origin: &Origin) -> String {
    let (kind, place) = match origin {
        Origin::Bundled { dir } => ("bundled", dir.canonicalize().unwrap_or_else(|_| dir.clone())),
        Origin::Local { path } => ("git", path.clone()),
        Origin::WorkingCopy { path } => ("copy", path.clone()),
        Origin::Remote { url } => ("git", PathBuf::from(url)),
    };
    let digest = Sha256::digest(format!("{kind} {}", place.display()));
    format!("{kind}-{}", HEXLOWER.encode(&digest[..8]))
}

/// Makes an empty bare repository; another process never sees a half-made one.
fn create(dir: &Path) -> Result<()> {
    let new = dir.with_extension("new");
    let failed = || format!("failed to create `{}`", dir.display());
    if new.exists() {
        std::fs::remove_dir_all(&new).with_context(failed)?;
    }
    private::create(&new)?;
    Git::on(&new).read(&["init", "--quiet", "--bare", "--template=", "--initial-branch=main"])?;
    // These attributes win over the repository's own: a tree is read as it is, without what `.gitattributes` asks for.
    std::fs::create_dir_all(new.join("info")).with_context(failed)?;
    let attributes = "* -export-ignore -export-subst -filter -ident -working-tree-encoding\n";
    std::fs::write(new.join("info/attributes"), attributes).with_context(failed)?;
    std::fs::rename(&new, dir).with_context(failed)
}

/// Makes a bundled recipe's repository, unless it was made from the same content before.
fn build(dir: &Path, source: &Path) -> Result<()> {
    let bundle = Bundle::read(source)?;
    let marker = dir.join("bundle");
    if std::fs::read_to_string(&marker).is_ok_and(|hash| hash == bundle.hash) {
        return Ok(());
    }
    bundle.write(&Git::on(dir)).with_context(|| format!("failed to make a repository of `{}`", source.display()))?;
    std::fs::write(&marker, &bundle.hash).with_context(|| format!("failed to write `{}`", marker.display()))
}

/// Another repository that a mirror follows.
struct Upstream<'a> {
    dir: &'a Path,
    url: &'a str,
    /// It lies on this machine, and may belong to somebody else.
    local: bool,
    /// The mirror was there before this run.
    existed: bool,
}

impl Upstream<'_> {
    /// Fetches branches and tags, and what the reference needs besides. A failure is an error, unless the wanted
    /// commit is here already: then it is a note.
    fn update(&self, reference: &Reference, started: SystemTime) -> Result<Option<String>> {
        let marker = self.dir.join("fetched");
        let wanted = full_commit(reference).filter(|commit| self.existed && self.has(commit));
        if self.existed && fetched_since(&marker, started) && (wanted.is_some() || !needs_more(reference)) {
            return Ok(None);
        }
        let fetch_started = SystemTime::now();
        let mut specs =
            vec![format!("+HEAD:{HEAD}"), "+refs/heads/*:refs/heads/*".into(), "+refs/tags/*:refs/tags/*".into()];
        if let Reference::Pull(number) = reference {
            specs.push(format!("+refs/pull/{number}/head:refs/pull/{number}/head"));
        }
        match (self.fetch(&specs), reference, wanted) {
            (Ok(()), ..) => {}
            (Err(error), Reference::Pull(number), _)
                if error.to_string().contains(&format!("refs/pull/{number}/head")) =>
            {
                return Err(anyhow!("no pull request {number} in `{}`", redact(self.url))).usage();
            }
            (Err(error), _, Some(commit)) => {
                return Ok(Some(format!("{error:#}; going on with commit `{commit}`, which was fetched before")));
            }
            (Err(error), _, None) => return Err(error),
        }
        std::fs::write(&marker, nanos(fetch_started).to_string())
            .with_context(|| format!("failed to write `{}`", marker.display()))?;
        if let Some(commit) = full_commit(reference).filter(|commit| !self.has(commit)) {
            // A commit that no branch holds any more, such as a pull request's before a force-push: some servers give
            // it out by its hash. That they refuse is told by `resolve`.
            let _ = self.fetch(&[format!("+{commit}:refs/harness/pin/{commit}")]);
        }
        Ok(None)
    }

    fn fetch(&self, specs: &[String]) -> Result<()> {
        let mut args = FETCH.to_vec();
        if self.local {
            args.push(READ_ONLY_UPLOAD);
        }
        args.extend(["--", self.url]);
        args.extend(specs.iter().map(String::as_str));
        let shown = redact(self.url);
        let answer = Git::on(self.dir)
            .remote(&args, FETCH_DEADLINE)
            .with_context(|| format!("failed to fetch from `{shown}`"))?;
        if !answer.ok {
            bail!("failed to fetch from `{shown}`: {}", mask(self.url, &answer.said));
        }
        Ok(())
    }

    fn has(&self, commit: &str) -> bool {
        let object = format!("{commit}^{{commit}}");
        Git::on(self.dir).ask(&["cat-file", "-e", &object], b"").is_ok_and(|answer| answer.ok)
    }
}

/// A reference that branches and tags may not cover.
fn needs_more(reference: &Reference) -> bool {
    matches!(reference, Reference::Pull(_)) || full_commit(reference).is_some()
}

fn full_commit(reference: &Reference) -> Option<&str> {
    match reference {
        Reference::Named(name) if name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(name),
        _ => None,
    }
}

/// Whether another run's fetch began after this run did, so that its result is as fresh as one's own would be.
fn fetched_since(marker: &Path, started: SystemTime) -> bool {
    let text = std::fs::read_to_string(marker).unwrap_or_default();
    text.parse::<u128>().is_ok_and(|fetched| fetched >= nanos(started))
}

fn nanos(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
