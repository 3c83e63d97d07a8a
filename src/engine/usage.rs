//! What an app uses and how large what it keeps is: as measured, or why it was not.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A figure, or why there is none: never a nought in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Measured {
    Amount(u64),
    NotMeasured {
        /// Why.
        not_measured: String,
    },
}

impl Measured {
    pub fn not(reason: impl fmt::Display) -> Self {
        Measured::NotMeasured { not_measured: reason.to_string() }
    }

    pub fn amount(&self) -> Option<u64> {
        match self {
            Measured::Amount(amount) => Some(*amount),
            Measured::NotMeasured { .. } => None,
        }
    }
}

impl From<anyhow::Result<u64>> for Measured {
    fn from(result: anyhow::Result<u64>) -> Self {
        match result {
            Ok(amount) => Measured::Amount(amount),
            Err(error) => Measured::not(format!("{error:#}")),
        }
    }
}

/// What one running container uses at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskUsage {
    /// The key in the compose file.
    pub service: String,
    /// The task, as observations name it.
    pub task: String,
    /// Or why nobody can say.
    pub used: Result<Used, String>,
}

/// Memory and processor time of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Bytes. What processes share counts once; of cached files, only those that are in use.
    pub memory: u64,
    /// Of all its processes, since it was started.
    pub cpu: Duration,
}

/// The bytes of all files below a directory, as Docker counts a volume: a file with several names once, and directories
/// not at all. Whoever owns them has to be allowed to look; files that vanish meanwhile do not count.
pub fn content_size(dir: &Path) -> io::Result<u64> {
    let (mut directories, mut linked, mut size) = (vec![dir.to_owned()], BTreeSet::new(), 0);
    while let Some(current) = directories.pop() {
        let entries = match std::fs::read_dir(&current) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && current != dir => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.nlink() < 2 || linked.insert((metadata.dev(), metadata.ino())) {
                size += metadata.len();
            }
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_no_number() {
        let json = |measured: &Measured| serde_json::to_string(measured).unwrap();
        let not = Measured::from(Err(anyhow::anyhow!("refused").context("failed to look")));
        assert_eq!(json(&Measured::Amount(7)), "7");
        assert_eq!(json(&not), r#"{"not_measured":"failed to look: refused"}"#);
        for measured in [Measured::Amount(7), not.clone()] {
            assert_eq!(serde_json::from_str::<Measured>(&json(&measured)).unwrap(), measured);
        }
        assert_eq!((Measured::Amount(7).amount(), not.amount()), (Some(7), None));
    }

    #[test]
    fn a_file_with_two_names_counts_once_and_a_link_as_long_as_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("deep")).unwrap();
        std::fs::write(path("deep/file"), "12345").unwrap();
        std::fs::hard_link(path("deep/file"), path("again")).unwrap();
        std::os::unix::fs::symlink("abc", path("link")).unwrap();
        assert_eq!(content_size(dir.path()).unwrap(), 8);
        assert_eq!(content_size(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
