//! What an assertion's process and the keeper say to each other. Nothing here depends on the keeper itself.

mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::config::wants::Wants;
use crate::engine::{Exec, ExecOutput, FileEntry, LogLine, ServiceState};
use crate::fault::Failure;
use crate::keeper::facts::TrialFact;
use crate::keeper::journal::{Record, Trial};
use crate::keeper::spec::Client;
use crate::plan::Skip;
use crate::recipe::abra::Identity;
use crate::recipe::backup::Lost;
use crate::recipe::fresh::Fresh;
use crate::recipe::route::ports::Port;
use crate::recipe::route::{Rewrite, Way};
use crate::recipe::version::Revision;
use crate::recipe::version::Version;
use crate::tier::Tier;

pub use seen::{Databases, Losses, Place, Ran, Row, Scattered};

/// Why a run is torn down that has come to its end.
pub const ENDED: &str = "the run ended";

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Take part in a tier: every operation up to it is performed first, each once. The lease ends with the
    /// connection.
    Enter {
        tier: Tier,
    },
    /// The answer to [`Answer::RunHooks`]: how the hooks went.
    HooksDone {
        failure: Option<Failure>,
    },
    Exec(Exec),
    Logs {
        service: String,
        tail: Option<usize>,
    },
    Services,
    Identity,
    Read {
        service: String,
        path: String,
    },
    Write {
        service: String,
        path: String,
        #[serde(with = "bytes")]
        content: Vec<u8>,
    },
    Remember {
        key: String,
        value: String,
    },
    Recall {
        key: String,
    },
    Evidence,
    Canaries,
    Leaks,
    /// The way from the app's address to its container, by the labels of what is deployed.
    Way,
    /// What must not stand in anything that is shown of the app.
    Secrets,
    /// What the base puts into a snapshot and the labels of what is deployed do not.
    Uncovered,
    /// What became of the rows that the harness wrote into the app's databases.
    Databases,
    /// What containers wrote outside of their named volumes.
    Scattered,
    /// Where the app answers.
    Address,
    /// Whether a port of a service's container accepts a connection.
    Connects {
        service: String,
        port: u16,
    },
    /// A trial ended: for the journal.
    TrialFinished(Trial),
    /// A hook ended, likewise.
    HookFinished {
        tier: Tier,
        name: String,
        millis: u64,
        failure: Option<String>,
    },
    /// Something that a reader of the run should know: journalled once.
    Note {
        text: String,
    },
    /// Whether anybody is there.
    Ping,
    /// Stream every journal record, past ones first.
    Watch,
    /// With the reason [`ENDED`], whatever is still looked at is looked at to its end.
    Teardown {
        reason: String,
    },
    /// Leave the app up and let the client go.
    Keep,
    /// Likewise, but tear down if nobody goes on with the app in time.
    Leave {
        limit: Duration,
    },
    /// Where the run stands.
    Standing,
    /// Go on with an app that was left.
    Resume(Box<Invocation>),
}

/// A process that goes on with an app which another one has deployed, and what it was asked to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    pub client: Client,
    pub arguments: String,
    pub trials: Vec<TrialFact>,
    pub selected: BTreeSet<String>,
    /// As [`crate::keeper::facts::Facts`] have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<String>,
    /// The same.
    #[serde(default, skip_serializing_if = "Wants::is_plain")]
    pub wants: Wants,
}

/// What the keeper answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Entered(Box<Context>),
    /// This client was chosen to run the hooks that stand before a tier's operation; the answer is
    /// [`Call::HooksDone`], and the wait for the tier goes on after it.
    RunHooks(Box<Context>),
    Blocked(Blocked),
    Exec(ExecOutput),
    Logs(Vec<LogLine>),
    Services(Vec<ServiceState>),
    Identity(Identity),
    Content(#[serde(with = "bytes")] Vec<u8>),
    Recalled(Option<String>),
    Evidence(Box<Evidence>),
    Canaries(Vec<Canary>),
    Leaks(Vec<Leak>),
    Way(Box<Way>),
    Secrets(Hidden),
    Uncovered(Vec<Lost>),
    Databases(Databases),
    Scattered(Scattered),
    Address(Result<String, String>),
    Connects(bool),
    Record(Box<Record>),
    TornDown(TeardownReport),
    Standing(Standing),
    Done,
    Failed(Failure),
}

/// Why a tier cannot be entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// The operation of this or an earlier tier failed.
    Failed {
        tier: Tier,
        failure: Failure,
    },
    Skipped(Skip),
    /// The app is past that tier, and what it would show now is not what the tier's operation left.
    Stale {
        reached: Tier,
    },
    TornDown,
}

/// What an assertion needs to know about the app; everything else is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Context {
    pub recipe: String,
    pub run_id: String,
    pub tier: Tier,
    pub domain: String,
    /// The host that is asked for pages.
    pub host: String,
    pub stack: String,
    /// `http://127.0.0.1:40123`, or why there is no address.
    pub url: Result<String, String>,
    /// What Traefik would do to a path on its way, where none is asked.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
    pub settings: Settings,
    /// Values that must not stand in a message. The socket is this user's own, and so is the process that asks.
    pub masks: Vec<String>,
}

/// What the harness knows and did, for assertions to hold the deployment against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// The published version that was installed; `None` when the head itself was.
    pub base: Option<Version>,
    pub head: Revision,
    /// The revision whose compose files were deployed last.
    pub deployed: Deployed,
    /// Images by service, as the compose files that were deployed last name them.
    pub images: BTreeMap<String, String>,
    /// Tasks by service, as those compose files want them; global services are not among them.
    pub replicas: BTreeMap<String, u32>,
    /// Ports beside that of its page that others reach the app at, by those compose files.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The longest that a container of base or head may take to stop.
    pub stop_grace: Duration,
    /// What went right, by tier.
    pub operations: BTreeMap<Tier, OperationReport>,
    /// Secrets whose values the harness was not told, so that nobody can look for them.
    pub unwatched: Vec<String>,
    /// Tasks that had ended by themselves when the last operation converged, by service.
    pub failures_before: BTreeMap<String, BTreeSet<String>>,
    pub snapshot: Option<Snapshot>,
    /// Where the base had its volumes, by its compose files and as it was deployed; empty before the upgrade.
    pub mounts_before: Vec<Place>,
    /// Where the compose files that were deployed last want volumes.
    pub mounts: Vec<Place>,
    pub losses: Losses,
    /// Of the volumes that the base mounts, those in which there was nothing yet.
    pub held_nothing: BTreeSet<String>,
    /// What ran right before the upgrade, by service; empty before it.
    pub ran_before: BTreeMap<String, Ran>,
    /// Keys that only the head's `.env.sample` has.
    pub fresh: Vec<Fresh>,
    /// How long ago the last operation ended.
    pub settled: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deployed {
    Nothing,
    Base,
    Head,
}

/// An operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationReport {
    pub what: String,
    pub took: Duration,
    /// The longest it may take: its budget, else its deadline.
    pub limit: Duration,
}

/// A snapshot, and what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    /// By volume: what the archive holds. The harness's own canaries are not listed.
    pub volumes: BTreeMap<String, Vec<FileEntry>>,
    /// The volumes that the recipe's labels promise.
    pub promised: Vec<String>,
    /// Those of them in which the app had nothing yet, and whose snapshot holds what the harness put there.
    pub empty: BTreeSet<String>,
    /// A sentence for every dump that is of an earlier time.
    pub stale: Vec<String>,
    /// Dumps of a format that nobody here knows, as `volume/path`.
    pub unjudged: Vec<String>,
}

/// A file that the harness put into a volume, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    pub volume: String,
    /// How it was looked for: through the container of a service, or not at all.
    pub seen_through: String,
    /// What the file must say.
    pub expected: String,
    /// What it says; `None` when it is not there.
    pub found: Option<String>,
}

/// A generated secret that stands in a log. The value itself is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    pub secret: String,
    pub service: String,
    /// 1-based line of the service's log.
    pub line: usize,
}

/// Where a run stands, for whoever may go on with it, and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The tier whose operation was the last; `None` before the install.
    pub reached: Option<Tier>,
    /// An operation failed: nothing goes on from there.
    pub failed: Option<Tier>,
    pub owner: OwnedBy,
}

/// Who wants a run to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnedBy {
    Process {
        pid: i32,
    },
    Kept,
    Idle {
        left: Duration,
    },
    /// It is being torn down, or has been.
    Nobody,
}

/// How teardown ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownReport {
    /// What is still there, as `kind name`; empty is the proven zero.
    pub leftovers: Vec<String>,
    /// Create-and-deploys, counted from the journal.
    pub deploys: usize,
    /// How many there should be: 1 once the install was done.
    pub expected_deploys: usize,
    pub took: Duration,
    /// The app was left up on purpose.
    pub kept: bool,
    /// What was lost on the way and is no part of the app, such as logs that could not be kept.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What must stand in no report that is written after the keeper has searched.
    #[serde(default)]
    pub secrets: Hidden,
}

/// Values that show in no message.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(pub Vec<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hidden({} values)", self.0.len())
    }
}

/// Bytes as base64 in JSON, so that a binary file survives the line format.
mod bytes {
    use data_encoding::BASE64;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
