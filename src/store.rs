//! What the state directory holds, for whoever wants to know, and what of it nobody needs any more.

pub mod prune;

use std::collections::HashSet;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::report::amount::bytes;

/// The folders of the state directory, and what each is for.
const KINDS: [(&str, &str); 5] = [
    ("runs", "journals, logs and reports"),
    ("mirrors", "recipes' repositories; fetched again when needed"),
    ("images", "unpacked for the embedded engine; made again when needed"),
    ("warm", "which app is up for the next run"),
    ("nextest", "what the processes of one nextest run share"),
];

/// How much one folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    pub kind: String,
    /// Files and folders right below it.
    pub entries: usize,
    /// As the disk has them, a file of several names once.
    pub bytes: u64,
    pub meaning: &'static str,
}

/// What every folder of a state directory holds; one that is not there holds nothing.
pub fn amounts(state: &Path) -> Result<Vec<Amount>> {
    let mut seen = HashSet::new();
    let amount = |(kind, meaning): (&str, &'static str)| -> Result<Amount> {
        let folder = state.join(kind);
        Ok(Amount { kind: kind.into(), entries: entries(&folder)?.len(), bytes: size(&folder, &mut seen)?, meaning })
    };
    KINDS.into_iter().map(amount).collect()
}

/// A table of it, with the sum and where it lies.
pub fn table(state: &Path, amounts: &[Amount]) -> String {
    let mut text = String::new();
    for Amount { kind, entries, bytes: size, meaning } in amounts {
        text.push_str(&format!("{kind:<9}{:>10}  {entries:>5}  {meaning}\n", bytes(*size)));
    }
    let sum = amounts.iter().map(|it| it.bytes).sum();
    text + &format!("{:<9}{:>10}  in `{}`\n", "together", bytes(sum), state.display())
}

/// What lies right in a folder, links not followed; nothing when it is not there.
fn entries(folder: &Path) -> Result<Vec<std::fs::DirEntry>> {
    let failed = || format!("failed to list `{}`", folder.display());
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect::<std::io::Result<_>>().with_context(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(failed),
    }
}

/// The bytes of a file or a tree. What goes away meanwhile counts for nothing, and what cannot be looked into is an
/// error: a sum without it would be wrong.
fn size(path: &Path, seen: &mut HashSet<(u64, u64)>) -> Result<u64> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("failed to look at `{}`", path.display())),
    };
    let below = match metadata.is_dir() {
        true => entries(path)?,
        false => Vec::new(),
    };
    let own = if is_new(&metadata, seen) { metadata.blocks() * 512 } else { 0 };
    below.iter().try_fold(own, |sum, entry| Ok(sum + size(&entry.path(), seen)?))
}

fn is_new(metadata: &Metadata, seen: &mut HashSet<(u64, u64)>) -> bool {
    metadata.nlink() == 1 || metadata.is_dir() || seen.insert((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_what_the_disk_has_and_a_link_by_itself() {
        let state = tempfile::tempdir().unwrap();
        let path = |name: &str| state.path().join(name);
        std::fs::create_dir_all(path("runs/one")).unwrap();
        std::fs::create_dir_all(path("images")).unwrap();
        std::fs::write(path("runs/one/log"), vec![7; 1 << 20]).unwrap();
        std::fs::hard_link(path("runs/one/log"), path("runs/one/again")).unwrap();
        // What lies elsewhere is not in here.
        std::os::unix::fs::symlink("/usr", path("runs/elsewhere")).unwrap();
        let amounts = amounts(state.path()).unwrap();
        let of = |kind: &str| amounts.iter().find(|it| it.kind == kind).unwrap();
        assert_eq!(of("runs").entries, 2);
        assert!((1 << 20..1 << 21).contains(&of("runs").bytes), "{amounts:?}");
        assert_eq!((of("mirrors").entries, of("mirrors").bytes), (0, 0));
        let table = table(state.path(), &amounts);
        assert!(table.starts_with("runs        1.0 MiB      2  journals, logs and reports\n"), "{table}");
        assert!(table.ends_with(&format!("in `{}`\n", state.path().display())), "{table}");
    }

    #[test]
    fn what_cannot_be_listed_is_an_error_and_no_zero() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("runs"), "").unwrap();
        let error = amounts(state.path()).unwrap_err().to_string();
        assert_eq!(error, format!("failed to list `{}`", state.path().join("runs").display()));
    }
}
