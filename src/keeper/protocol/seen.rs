//! What was seen of an app's data: in its volumes, beside them, and in its databases.

use serde::{Deserialize, Serialize};

/// What containers wrote where nothing outlives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scattered {
    /// A sentence for all data that is about to be lost.
    pub lost: Vec<String>,
    pub notes: Vec<String>,
    /// A sentence for everything that could not be looked at.
    pub unjudged: Vec<String>,
}

/// How a service ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Tasks wanted.
    pub replicas: u32,
    /// It had done its work, and was not to run for ever.
    pub done: bool,
    /// Of which image, without its tag.
    pub image: String,
}

/// What became of what the volumes held before the upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Whether it was looked at: not before the upgrade.
    pub looked: bool,
    /// A sentence for everything that was lost.
    pub lost: Vec<String>,
    /// A sentence for everything that could not be judged.
    pub unjudged: Vec<String>,
}

/// A named volume where a service has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub service: String,
    /// The volume's key in the compose files.
    pub volume: String,
    /// Its name in Docker: whatever the key, this is whose data it is.
    pub name: String,
    /// Absolute path inside the container.
    pub target: String,
    pub read_only: bool,
}

/// What became of the rows that the harness wrote into the app's databases, through their own clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    pub rows: Vec<Row>,
    /// A sentence for every database that nobody could look into.
    pub closed: Vec<String>,
    /// After a restore: databases that the labels put into no snapshot.
    pub outside: Vec<String>,
}

/// A row in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The database, for people.
    pub what: String,
    /// What the row must say.
    pub expected: String,
    /// What it says, or why there is none.
    pub found: Result<String, String>,
}
