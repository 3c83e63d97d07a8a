//! What containers wrote outside of their named volumes: it goes with the container.

use serde::{Deserialize, Serialize};

/// One container that was looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The key in the compose file.
    pub service: String,
    pub places: Vec<Place>,
    /// Why not all of it could be looked at.
    pub unseen: Vec<String>,
}

/// Where something was written, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub kind: PlaceKind,
    /// Absolute path in the container: of the mount, or `/`.
    pub at: String,
    /// Absolute path and bytes of every file that the container wrote there, as far as its size is known.
    pub files: Vec<(String, u64)>,
}

/// What lies at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// The container's own layer over its image.
    Layer,
    /// A volume without a name, by the compose file or by the image's `VOLUME`.
    Anonymous,
    /// A tmpfs.
    Memory,
}

/// An absolute path below a directory.
pub fn below(directory: &str, path: &str) -> String {
    format!("{}/{path}", directory.trim_end_matches('/'))
}
