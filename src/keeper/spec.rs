//! What the keeper of a run is told, through a file in the run directory: everything that was decided beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::facts::TrialFact;
use crate::config::Settings;
use crate::config::secrets::Place;
use crate::config::wants::Wants;
use crate::engine::EngineSpec;
use crate::plan::Plan;
use crate::recipe::AppState;
use crate::recipe::abra::Form;
use crate::recipe::env::stack_name;
use crate::recipe::fresh::Fresh;
use crate::recipe::mirror::Mirror;
use crate::recipe::version::Revision;
use crate::sabotage::Sabotage;
use crate::script::Code;

const FILE: &str = "run.json";

/// One run, decided and not yet begun. It holds no secret: those are made by the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    pub run_id: String,
    pub plan: Plan,
    pub domain: String,
    pub settings: Settings,
    pub engine: EngineSpec,
    /// Image name to stand-in, for the embedded engine.
    pub images: BTreeMap<String, String>,
    pub state: PathBuf,
    pub keep_runs: usize,
    /// The recipe's overlay folder.
    pub overlay: PathBuf,
    pub mirror: Mirror,
    /// The app as the base version defines it; `None` when install deploys the head.
    pub base: Option<AppState>,
    pub base_revision: Option<Revision>,
    pub head: AppState,
    /// Keys that only the head's `.env.sample` has.
    #[serde(default)]
    pub fresh: Vec<Fresh>,
    /// The recipe's own install steps, if they are approved.
    pub install_steps: Option<Code>,
    /// The process that the keeper must not outlive, unless it was told to keep the app.
    pub client: Client,
    pub about: About,
    /// Secrets whose values come from outside, by their key, and where those stand.
    #[serde(default)]
    pub secrets: BTreeMap<String, Place>,
    /// A fault to plant; none in any run that is to prove a recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<Sabotage>,
}

/// What reports say of a run beside what it does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// Which engine, and why, for people.
    pub engine: String,
    /// One line for every image that something else stands in for.
    pub stand_ins: Vec<String>,
    /// The harness's own arguments of this run, to repeat it.
    pub arguments: String,
    /// Every trial that the planned tiers have.
    pub trials: Vec<TrialFact>,
    /// The trials that were asked for; `None` when nobody knows.
    pub selected: Option<BTreeSet<String>>,
    /// What an outcome depends on beside commit and engine; `None` when it could not be read.
    #[serde(default)]
    pub judged_by: Option<String>,
    /// How much has to be proven.
    #[serde(default)]
    pub wants: Wants,
    /// The bytes that were free before the run, by the place that is looked at when a disk turns out to be full.
    #[serde(default)]
    pub room: BTreeMap<PathBuf, u64>,
    /// Where `--junit` wants its file, beside the run directory.
    pub junit: Option<PathBuf>,
    /// Where `--report-dir` wants this recipe's reports, beside the run directory.
    #[serde(default)]
    pub report_dir: Option<PathBuf>,
}

/// A process, told apart from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub pid: i32,
    /// Clock ticks after boot, from `/proc/<pid>/stat`.
    pub started: u64,
}

impl Client {
    /// The process `pid` as it is now; `None` when there is none.
    pub fn look_up(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold spaces and parentheses; the fields are counted after the last one.
        let fields = stat.rsplit_once(')')?.1;
        let started = fields.split_whitespace().nth(19)?.parse().ok()?;
        Some(Client { pid, started })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        Client::look_up(self.pid) == Some(*self)
    }
}

impl RunSpec {
    /// The run's own stack, which is told by its domain and by nothing that a recipe or its environment says.
    pub fn stack(&self) -> String {
        stack_name(&self.domain)
    }

    /// The host that visitors ask for: the domain, or what `http.host` makes of it.
    pub fn host(&self) -> String {
        self.settings.recipe_toml.http.host(&self.domain)
    }

    /// What install deploys.
    pub fn base_or_head(&self) -> Revision {
        self.base_revision.clone().unwrap_or_else(|| self.plan.head.clone())
    }

    /// How abra would deploy it: a published version pinned where it can be, the head as chaos.
    pub fn form(&self) -> Form {
        match &self.plan.base {
            Some(base) => Form::of_version(base, &self.base_or_head()),
            None => Form::Chaos { revision: self.plan.head.clone() },
        }
    }

    pub fn write(&self, run_dir: &Path) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = run_dir.join(FILE);
        let json = serde_json::to_vec_pretty(self).context("failed to encode the run")?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&json)).with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Whether a run was begun in a directory: it is written right before the keeper is started.
    pub fn is_in(run_dir: &Path) -> bool {
        run_dir.join(FILE).is_file()
    }

    pub fn read(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(FILE);
        let json = std::fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("failed to understand `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = Client::look_up(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(!Client { started: me.started + 1, ..me }.is_alive());
        assert_eq!(Client::look_up(-1), None);
    }
}
