//! Published versions: which tags are versions, in which order, and from which one an upgrade starts.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::suggest::{listed, nearest};

/// A published version: a tag `<semver>+<app version>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The tag as it is written, such as `1.13.0+1.31.1` or `3.5.3+1.24.2-rootless`.
    pub tag: String,
    /// The commit that the tag names, 40 hex digits.
    pub commit: String,
    /// The recipe's own part, before the `+`.
    pub number: semver::Version,
    /// The app's part, after the `+`: free-form.
    pub app: String,
    /// abra deploys a version by its tag only when that is annotated (its lint rule R014).
    pub annotated: bool,
}

/// A tag that is not a published version, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedTag {
    pub tag: String,
    pub reason: String,
}

/// One revision of a recipe: what is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// 40 hex digits; of a dirty revision, the commit it departs from.
    pub commit: String,
    /// The tree that is deployed; of a dirty revision, the working copy's.
    pub tree: String,
    /// The working copy differs from the commit.
    pub dirty: bool,
    /// The published version exactly at this commit.
    pub version: Option<Version>,
    /// What was asked for, for people: `branch main`, `pull request 4`.
    pub label: String,
}

impl Revision {
    /// abra's `chaos-version`: the first 8 hex digits of the commit, and `+U` when the tree is dirty.
    pub fn chaos_version(&self) -> String {
        let short = self.commit.get(..8).unwrap_or(&self.commit);
        format!("{short}{}", if self.dirty { "+U" } else { "" })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{version} ({})", self.chaos_version()),
            None => f.write_str(&self.chaos_version()),
        }
    }
}

/// The version an upgrade starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    Version(Version),
    /// There is none, because of this.
    None {
        reason: String,
    },
}

impl Base {
    /// The version, if there is one.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Base::Version(version) => Some(version),
            Base::None { .. } => None,
        }
    }
}

/// The version to upgrade from: the pinned one, or the newest that is strictly older than the head.
///
/// A tagged head is newer than every lower version. An untagged head is newer than the versions in its own history,
/// `ancestors` (tags of `versions` reachable from the head). A dirty head is newer than its own commit.
pub fn base(versions: &[Version], ancestors: &BTreeSet<String>, head: &Revision, pinned: Option<&str>) -> Result<Base> {
    let is_head = |version: &Version| version.commit == head.commit && !head.dirty;
    if let Some(tag) = pinned {
        let Some(version) = versions.iter().find(|version| version.tag == tag) else {
            bail!("base `{}` is not a published version: {}", tag.escape_debug(), possible(versions, tag));
        };
        if is_head(version) {
            bail!("base `{tag}` is the head itself ({head}): an upgrade needs an older version");
        }
        if let Some(own) = head.version.as_ref().filter(|own| *own < version) {
            bail!("base `{tag}` is newer than the head `{}`: an upgrade needs an older version", own.tag);
        }
        return Ok(Base::Version(version.clone()));
    }
    let older = |version: &&Version| match &head.version {
        Some(own) => *version < own && !is_head(version),
        None => ancestors.contains(&version.tag) && !is_head(version),
    };
    match versions.iter().filter(older).max() {
        Some(version) => Ok(Base::Version(version.clone())),
        None => Ok(Base::None { reason: why_none(versions, head) }),
    }
}

fn why_none(versions: &[Version], head: &Revision) -> String {
    let newest = versions.iter().max();
    match (newest, &head.version) {
        (None, _) => "the recipe has no published version".into(),
        (Some(_), Some(own)) => format!("no published version is older than the head `{}`", own.tag),
        (Some(newest), None) => format!(
            "no published version is an ancestor of the head `{}` (the newest one is `{newest}`; a shallow clone hides ancestors)",
            head.chaos_version()
        ),
    }
}

/// What could have been given instead of `tag`: the nearest versions, else the newest.
fn possible(versions: &[Version], tag: &str) -> String {
    if versions.is_empty() {
        return "the recipe has none".into();
    }
    let near = nearest(tag, versions.iter().map(|version| version.tag.as_str()), 3);
    let newest = versions.iter().rev().map(|version| version.tag.as_str());
    if near.is_empty() {
        format!("possible are {}", listed(newest, 5))
    } else {
        format!("nearest are {}", listed(near, 3))
    }
}

impl Version {
    /// Reads a tag; `None` when it is not `<semver>+<app version>`.
    pub fn parse(tag: &str, commit: &str) -> Option<Version> {
        let (number, app) = tag.split_once('+')?;
        let number = semver::Version::parse(number).ok()?;
        let known = |c: char| c.is_ascii_alphanumeric() || ".-_+~".contains(c);
        (!app.is_empty() && app.chars().all(known)).then(|| Version {
            tag: tag.to_owned(),
            commit: commit.to_owned(),
            number,
            app: app.to_owned(),
            annotated: true,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tag)
    }
}

impl Ord for Version {
    /// By the recipe's number, then by the app's version; semver itself leaves what follows `+` unordered.
    fn cmp(&self, other: &Self) -> Ordering {
        let number = self.number.cmp_precedence(&other.number);
        let app = || compare_app(&self.app, &other.app);
        // The last two only make the order agree with equality.
        number.then_with(app).then_with(|| self.tag.cmp(&other.tag)).then_with(|| self.commit.cmp(&other.commit))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares free-form versions piece by piece, where a pre-release word is older than the end, the end older than any
/// other word, and a word older than a number: `1.2-rc1`, `1.2`, `1.2-rootless`, `1.2.1`.
fn compare_app(left: &str, right: &str) -> Ordering {
    let (left, right) = (pieces(left), pieces(right));
    let longest = left.len().max(right.len());
    let at = |pieces: &[Piece], index: usize| pieces.get(index).cloned().unwrap_or(Piece::End);
    (0..longest)
        .map(|index| at(&left, index).cmp(&at(&right, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// A run of letters (lower-cased) or of digits. The order of the variants is the order of versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Prerelease(String),
    End,
    Word(String),
    /// The number of digits first, so that numbers of any length compare by value.
    Number(usize, String),
}

impl Piece {
    fn new(text: &str) -> Piece {
        let prerelease = ["alpha", "beta", "dev", "next", "nightly", "pre", "preview", "rc"];
        let word = text.to_lowercase();
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = text.trim_start_matches('0');
            Piece::Number(digits.len(), digits.to_owned())
        } else if prerelease.contains(&word.as_str()) {
            Piece::Prerelease(word)
        } else {
            Piece::Word(word)
        }
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let same = |c: char| if digits { c.is_ascii_digit() } else { c.is_alphabetic() && first.is_alphabetic() };
        let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
        if end == 0 {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (piece, tail) = rest.split_at(end);
        pieces.push(Piece::new(piece));
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(tag: &str) -> Version {
        Version::parse(tag, &format!("{:0>40}", tag.len())).unwrap_or_else(|| panic!("`{tag}` is no version"))
    }

    fn at(tag: &str, commit: &str) -> Version {
        Version { commit: commit.into(), ..version(tag) }
    }

    fn head(commit: &str, dirty: bool, version: Option<Version>) -> Revision {
        Revision { commit: commit.into(), tree: "t".into(), dirty, version, label: "head".into() }
    }

    fn tags(tags: &[&str]) -> BTreeSet<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn versions_are_ordered_by_recipe_number_then_by_app_version() {
        let ordered = [
            "0.9.0+9.9.9",
            "1.0.0-rc.1+1.0.0",
            "1.0.0+1.9.0",
            "1.0.0+1.10.0-rc1",
            "1.0.0+1.10.0",
            "1.0.0+1.10.0.1",
            "1.0.0+v1.11.0",
            "1.9.0+1.0.0",
            "1.10.0+1.0.0",
            "2.0.1+1.0.6-social-amd64",
            "3.5.3+1.24.2",
            "3.5.3+1.24.2-rootless",
            "3.5.3+1.24.10-rootless",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{} should be older than {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn tags_of_another_form_are_no_versions() {
        for tag in ["1.0.0", "v1.0.3", "v1.0.0+1.0.0", "1.0+1.0", "1.0.0+", "1.0.0+a b", "1.0.0+a/b", "main", ""] {
            assert_eq!(Version::parse(tag, "c"), None, "{tag}");
        }
    }

    #[test]
    fn the_base_of_an_untagged_head_is_its_newest_ancestor() {
        let versions = [at("1.0.0+1", "a"), at("1.1.0+1", "b"), at("2.0.0+1", "c")];
        let base = base(&versions, &tags(&["1.0.0+1", "1.1.0+1"]), &head("h", false, None), None).unwrap();
        assert_eq!(base, Base::Version(at("1.1.0+1", "b")));
    }

    #[test]
    fn the_base_of_a_tagged_head_is_the_next_lower_version() {
        let versions = [at("1.0.0+1", "a"), at("1.1.0+1", "b"), at("2.0.0+1", "c")];
        let base = base(&versions, &tags(&[]), &head("b", false, Some(at("1.1.0+1", "b"))), None).unwrap();
        assert_eq!(base, Base::Version(at("1.0.0+1", "a")));
    }

    #[test]
    fn a_dirty_working_copy_on_a_tag_upgrades_from_that_tag() {
        let versions = [at("1.0.0+1", "a"), at("1.1.0+1", "b")];
        let base = base(&versions, &tags(&["1.0.0+1", "1.1.0+1"]), &head("b", true, None), None).unwrap();
        assert_eq!(base, Base::Version(at("1.1.0+1", "b")));
    }

    #[test]
    fn no_base_is_told_with_its_reason() {
        let reason = |versions: &[Version], head: &Revision| match base(versions, &tags(&[]), head, None).unwrap() {
            Base::None { reason } => reason,
            Base::Version(version) => panic!("{version}"),
        };
        assert_eq!(reason(&[], &head("abcdef0123", false, None)), "the recipe has no published version");
        let first = at("1.0.0+1", "a");
        let tagged = head("a", false, Some(first.clone()));
        assert_eq!(
            reason(std::slice::from_ref(&first), &tagged),
            "no published version is older than the head `1.0.0+1`"
        );
        assert_eq!(
            reason(&[first], &head("abcdef0123", false, None)),
            "no published version is an ancestor of the head `abcdef01` (the newest one is `1.0.0+1`; a shallow clone hides ancestors)"
        );
    }

    #[test]
    fn a_pinned_base_is_taken_and_a_wrong_one_refused() {
        let versions = [at("1.0.0+1", "a"), at("1.1.0+1", "b"), at("2.0.0+1", "c")];
        let check = |pin: &str, head: &Revision| base(&versions, &tags(&[]), head, Some(pin));
        let untagged = head("h", false, None);
        assert_eq!(check("1.0.0+1", &untagged).unwrap().version().unwrap().tag, "1.0.0+1");
        let error = |pin: &str, head: &Revision| check(pin, head).unwrap_err().to_string();
        assert_eq!(
            error("1.0.9+1", &untagged),
            "base `1.0.9+1` is not a published version: nearest are `1.0.0+1`, `1.1.0+1`, `2.0.0+1`"
        );
        assert_eq!(
            error("zzz", &untagged),
            "base `zzz` is not a published version: possible are `2.0.0+1`, `1.1.0+1`, `1.0.0+1`"
        );
        let tagged = head("b", false, Some(versions[1].clone()));
        assert_eq!(
            error("1.1.0+1", &tagged),
            "base `1.1.0+1` is the head itself (1.1.0+1 (b)): an upgrade needs an older version"
        );
        assert_eq!(
            error("2.0.0+1", &tagged),
            "base `2.0.0+1` is newer than the head `1.1.0+1`: an upgrade needs an older version"
        );
    }

    #[test]
    fn chaos_versions_are_abras() {
        assert_eq!(head("09bf4d54aaaabbbb", false, None).chaos_version(), "09bf4d54");
        assert_eq!(head("7ae7b0f7aaaabbbb", true, None).chaos_version(), "7ae7b0f7+U");
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_agrees_with_equality(
            a in "[0-2]\\.[0-2]\\.[0-2]\\+[0-9a-c.v-]{1,5}",
            b in "[0-2]\\.[0-2]\\.[0-2]\\+[0-9a-c.v-]{1,5}",
            c in "[0-2]\\.[0-2]\\.[0-2]\\+[0-9a-c.v-]{1,5}",
        ) {
            let parsed = [&a, &b, &c].map(|tag| Version::parse(tag, "c"));
            if let [Some(a), Some(b), Some(c)] = parsed {
                prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
                prop_assert_eq!(a == b, a.cmp(&b).is_eq());
                if a <= b && b <= c {
                    prop_assert!(a <= c, "{} {} {}", a, b, c);
                }
            }
        }
    }
}
