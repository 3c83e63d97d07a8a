//! What a run came to: the content of `results.json`, from which every other report is made.
//!
//! `schemas/results.schema.json` is made from these types, and a test holds it to them. A change that breaks readers
//! raises [`SCHEMA`].

use std::collections::BTreeMap;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::level::Level;
use crate::engine::abra::lint::Rule;
use crate::fault::{Failure, Fault};
use crate::keeper::facts::{Change, TrialKind};
use crate::keeper::journal::Downtime;
use crate::keeper::photo::Picture;
use crate::keeper::usage::TierUsage;
use crate::plan::Skip;
use crate::tier::Tier;

/// The version of this format.
pub const SCHEMA: u32 = 1;

/// The results of one run of one recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// The version of this format; readers refuse one that they do not know.
    pub schema: u32,
    /// The version of the harness.
    pub harness: String,
    pub run_id: String,
    pub recipe: String,
    /// Where the recipe came from, for people.
    pub source: String,
    /// The published version that was installed first; null when the head itself was.
    pub base: Option<String>,
    /// The revision under test, for people.
    pub head: String,
    /// The head's commit, 40 hex digits; of a dirty head, the commit it departs from. Empty when it was not found out.
    pub commit: String,
    /// The head is a working copy that differs from its commit.
    pub dirty: bool,
    /// A fingerprint of what an outcome depends on beside the commit and the engine: the harness, the assertions, hooks and
    /// settings, and the base. Only runs with the same one are told apart as flaky; not there when nobody recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<String>,
    pub domain: String,
    /// What deployed: `embedded`, `swarm` or `abra`; `none` when the run could not begin before one was chosen.
    pub engine: String,
    /// Which engine, and why, for people.
    pub engine_why: String,
    /// One line for every image that something else stood in for. With any, the images themselves are not proven.
    pub stand_ins: Vec<String>,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// From its beginning to its last event.
    pub millis: u64,
    pub verdict: Verdict,
    /// Why the verdict is not `passed`, in one line; empty when it is.
    pub reason: String,
    pub level: Level,
    pub counts: Counts,
    /// The planned tiers, in order.
    pub tiers: Vec<TierResult>,
    /// How long the app did not answer during the upgrade; null when there was none, or no address to ask.
    pub downtime: Option<Downtime>,
    /// What `abra recipe lint` says of the head; null where abra was not there to ask.
    pub lint: Option<Lint>,
    /// Null when the app was left up, or nobody was left to tear it down.
    pub teardown: Option<Teardown>,
    /// How often the app was created and deployed; right is 1.
    pub deploys: usize,
    /// What the image references resolved to.
    pub images: BTreeMap<String, String>,
    /// What the head defines otherwise than the base.
    pub changes: Vec<Change>,
    pub notes: Vec<String>,
    /// The harness's own arguments, to repeat the run.
    pub arguments: String,
}

/// What a run says about its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Something was proven, and nothing failed.
    Passed,
    /// The recipe, or an assertion about it, failed.
    Failed,
    /// The machine, the network or the harness failed: no word about the recipe.
    Error,
    /// The run ended before every trial that was asked for had ended.
    BrokenOff,
    /// Nothing failed, but nothing was proven either.
    NothingProven,
    /// Nothing failed, but less was proven than `--strict` or `--min-level` asks for.
    TooLittle,
}

/// How many trials ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// Filtered out, or never reached.
    pub not_run: usize,
    /// Tiers that `recipe.toml` declares as not provable, with a reason.
    pub intended_skips: usize,
    /// Tiers that could not be proven, and nobody said so.
    pub unverified_skips: usize,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TierResult {
    pub tier: Tier,
    /// Why the whole tier was left out.
    pub skip: Option<Skip>,
    /// Its generic assertions were opted out of.
    pub generic_opted_out: bool,
    /// Null for `custom`, and when it was never reached.
    pub operation: Option<Operation>,
    pub hooks: Vec<Hook>,
    /// What the app used during the operation and after it; null when nobody looked.
    #[serde(default)]
    pub usage: Option<TierUsage>,
    /// The app as a visitor saw it after the operation; null where nobody was to take a picture.
    #[serde(default)]
    pub picture: Option<Picture>,
    /// The operation's own trial first.
    pub trials: Vec<TrialResult>,
}

/// The one mutating act of a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    pub what: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub millis: u64,
    /// It ended; false when the run was broken off in the middle of it.
    pub ended: bool,
    pub failure: Option<Failure>,
}

/// Code of an overlay that ran before an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hook {
    pub name: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub millis: u64,
    pub failure: Option<String>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrialResult {
    pub name: String,
    pub kind: TrialKind,
    pub outcome: Outcome,
    /// It was asked for; null when nobody knows, as under nextest.
    pub selected: Option<bool>,
    /// When it was let into its tier, RFC 3339, UTC; null when it did not run.
    pub started: Option<String>,
    pub millis: u64,
    /// How often it ran: more than once only when nextest repeats it.
    pub attempts: u32,
    /// Whose fault a failure is.
    pub fault: Option<Fault>,
    /// Why it failed or was ignored; empty otherwise.
    pub message: String,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed,
    /// Could not be proven, with the reason.
    Ignored,
    /// Filtered out, or never reached.
    NotRun,
}

/// What `abra recipe lint` said. It has no weight for the verdict, only for the level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lint {
    pub rules: Vec<Rule>,
    /// Why abra could not be asked.
    pub failure: Option<String>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Teardown {
    /// Why the run ended.
    pub reason: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub millis: u64,
    /// What is still there; empty is the proven zero.
    pub leftovers: Vec<String>,
}

/// The JSON schema of the format, as it stands in `schemas/`.
pub fn schema() -> serde_json::Value {
    schema_for!(Results).to_value()
}

impl Results {
    /// Every trial, with its tier.
    pub fn trials(&self) -> impl Iterator<Item = (Tier, &TrialResult)> {
        self.tiers.iter().flat_map(|tier| tier.trials.iter().map(|trial| (tier.tier, trial)))
    }

    /// The trials that failed.
    pub fn failures(&self) -> impl Iterator<Item = (Tier, &TrialResult)> {
        self.trials().filter(|(_, trial)| trial.outcome == Outcome::Failed)
    }

    /// `1.10.0+1.27.4 → 9a1b2c3d`, or the head alone.
    pub fn versions(&self) -> String {
        match &self.base {
            Some(base) => format!("{base} → {}", self.head),
            None => self.head.clone(),
        }
    }
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Error => "error, not the recipe's fault",
            Verdict::BrokenOff => "broken off",
            Verdict::NothingProven => "nothing proven",
            Verdict::TooLittle => "too little proven",
        }
    }
}

impl TierResult {
    /// How many of its trials ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.trials.iter().filter(|trial| trial.outcome == outcome).count()
    }
}
