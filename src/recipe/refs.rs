//! What a repository offers: its branches, tags, versions and pull requests, read by one git process.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::git::Git;
use super::mirror::HEAD;
use super::suggest::{listed, nearest};
use super::version::{SkippedTag, Version};

/// A commit and its tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) commit: String,
    pub(crate) tree: String,
}

/// The refs of a mirror at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Refs {
    pub(crate) head: Option<Target>,
    pub(crate) branches: BTreeMap<String, Target>,
    pub(crate) tags: BTreeMap<String, Tag>,
    pub(crate) pulls: BTreeMap<u64, Target>,
    /// Oldest first.
    pub(crate) versions: Vec<Version>,
    pub(crate) skipped: Vec<SkippedTag>,
}

/// A tag on a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) target: Target,
    /// The tag object of an annotated tag.
    pub(crate) object: Option<String>,
}

impl Refs {
    pub(crate) fn read(git: &Git) -> Result<Refs> {
        // Fields of the object itself, then of what an annotated tag names (`*`).
        let format = "--format=%(refname) %(objecttype) %(objectname) %(tree) %(*objecttype) %(*objectname) %(*tree)";
        let output = git.read(&["for-each-ref", format, "refs/heads", "refs/tags", "refs/pull", HEAD])?;
        let mut refs = Refs::default();
        for line in output.lines() {
            refs.add(line).with_context(|| format!("failed to read the ref `{line}`"))?;
        }
        for (name, tag) in &refs.tags {
            match (Version::parse(name, &tag.target.commit), &tag.object) {
                (Some(version), object) => refs.versions.push(Version { annotated: object.is_some(), ..version }),
                (None, _) => refs.skipped.push(skipped(name, "it is not of the form `<semver>+<app version>`")),
            }
        }
        refs.versions.sort();
        Ok(refs)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let mut fields = line.split(' ');
        let mut next = || fields.next().context("a field is missing");
        let (name, kind, object) = (next()?, next()?, next()?.to_owned());
        let (tree, peeled_kind, peeled, peeled_tree) = (next()?, next()?, next()?, next()?);
        let (target, tag_object) = match (kind, peeled_kind) {
            ("commit", _) => (Target { commit: object, tree: tree.into() }, None),
            ("tag", "commit") => (Target { commit: peeled.into(), tree: peeled_tree.into() }, Some(object)),
            _ => {
                if let Some(name) = name.strip_prefix("refs/tags/") {
                    self.skipped.push(skipped(name, "it names no commit"));
                }
                return Ok(());
            }
        };
        if name == HEAD {
            self.head = Some(target);
        } else if let Some(branch) = name.strip_prefix("refs/heads/") {
            self.branches.insert(branch.to_owned(), target);
        } else if let Some(tag) = name.strip_prefix("refs/tags/") {
            self.tags.insert(tag.to_owned(), Tag { target, object: tag_object });
        } else if let Some(number) = pull_number(name) {
            self.pulls.insert(number, target);
        }
        Ok(())
    }

    /// A tag or branch, and which of the two it is.
    pub(crate) fn named(&self, name: &str) -> Option<(Target, &'static str)> {
        let tag = self.tags.get(name).map(|tag| (tag.target.clone(), "tag"));
        tag.or_else(|| self.branches.get(name).map(|target| (target.clone(), "branch")))
    }

    /// What could have been given instead of `name`.
    pub(crate) fn possible(&self, name: &str) -> String {
        let names = || self.branches.keys().chain(self.tags.keys()).map(String::as_str);
        let near = nearest(name, names(), 5);
        if near.is_empty() {
            let newest = self.versions.iter().rev().map(|version| version.tag.as_str());
            let branches = listed(self.branches.keys().map(String::as_str), 5);
            return format!("possible are the branches {branches}, the versions {}, or a commit", listed(newest, 5));
        }
        format!("nearest are {}", listed(near, 5))
    }
}

fn pull_number(name: &str) -> Option<u64> {
    name.strip_prefix("refs/pull/")?.strip_suffix("/head")?.parse().ok()
}

fn skipped(tag: &str, reason: &str) -> SkippedTag {
    SkippedTag { tag: tag.to_owned(), reason: reason.to_owned() }
}
