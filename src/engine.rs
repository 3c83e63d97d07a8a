//! The contract that every engine meets, and the closed set of engines.
//!
//! An engine changes the world and observes it; it judges nothing. Whether a service converged, whether an upgrade
//! reached its commit and whether a backup holds the data is decided above it, from the observations below, so that
//! all engines are judged by the same code.

pub mod abra;
mod ages;
mod budget;
pub mod contents;
pub mod disk;
pub mod embedded;
mod exec;
mod ledger;
mod not_here;
mod observation;
pub mod outside;
pub mod printed;
mod proof;
pub mod swarm;
pub mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::recipe::abra::Form;
use crate::recipe::checkout::Checkout;
use crate::recipe::env::AppEnv;
use crate::recipe::name::RecipeName;
use crate::recipe::secret::SecretValue;
use crate::recipe::stack::Stack;
use crate::recipe::version::Revision;
use contents::Contents;
use outside::Outside;
use printed::{Hit, Secrets};

pub use ages::Ages;
pub use budget::ArchiveBudget;
pub use exec::{CallError, Exec, ExecOutput, again};
pub use ledger::{Kind, Ledger};
pub use observation::{
    Cycle, FileEntry, Health, LONGEST_LINE, LogLine, NO_ROOM, ServiceState, TaskPhase, TaskState, UpdateState,
    UpdateStatus, VolumeMount, said_by_check,
};
pub use proof::sweep;
pub use swarm::Surroundings;
pub use usage::{Measured, TaskUsage, Used};

/// What `deploy` is given: a complete stack, and the values of its secrets.
#[derive(Clone)]
pub struct Deployment {
    pub stack: Stack,
    /// The merged compose document behind the stack, for an engine that hands it on to Docker.
    pub document: serde_json::Value,
    /// Values by secret key; every secret of the stack that is not external has one.
    pub secrets: BTreeMap<String, SecretValue>,
    /// For an engine that reads the recipe itself.
    pub origin: Option<Origin>,
}

/// Where a deployment comes from.
#[derive(Clone)]
pub struct Origin {
    pub recipe: RecipeName,
    /// The checkout that the engine reads; it may be moved, and is checked out again before each use.
    pub checkout: Checkout,
    pub revision: Revision,
    pub form: Form,
    /// The app's `.env`.
    pub env: AppEnv,
    /// How long the deployment may take to converge.
    pub deadline: Duration,
}

/// The engines. A closed set, so an enum: a new engine is one module, one variant and one arm of `each`.
pub enum Engine {
    Embedded(embedded::Embedded),
    Swarm(Box<swarm::Swarm>),
    Abra(Box<abra::Abra>),
}

/// Calls the same method of whichever engine it is. abra observes through the Swarm that it deploys to.
macro_rules! each {
    ($engine:expr, $it:ident => $call:expr) => {
        match $engine {
            Engine::Embedded($it) => $call.await,
            Engine::Swarm($it) => $call.await,
            Engine::Abra(abra) => {
                let $it = &abra.swarm;
                $call.await
            }
        }
    };
}

/// Which engine a run uses, with what only that one needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineSpec {
    Embedded,
    Swarm(swarm::SwarmSpec),
    Abra(abra::AbraSpec),
}

impl EngineSpec {
    /// The engine's name, as `--engine` takes it.
    pub fn name(&self) -> &'static str {
        match self {
            EngineSpec::Embedded => "embedded",
            EngineSpec::Swarm(_) => "swarm",
            EngineSpec::Abra(_) => "abra",
        }
    }

    /// Where the engine keeps what it creates, as far as that lies on this machine and outside of the run's directory.
    pub fn data_root(&self) -> Option<&Path> {
        match self {
            EngineSpec::Embedded => None,
            EngineSpec::Swarm(spec) => spec.data_root.as_deref(),
            EngineSpec::Abra(spec) => spec.swarm.data_root.as_deref(),
        }
    }
}

/// Why images could not be had ahead of a deployment. Callers branch on it, because the last is not the recipe's fault.
#[derive(Debug)]
pub enum FetchError {
    /// The registry answered, and has no such image; or Docker says that this is no name of one.
    Missing(anyhow::Error),
    /// The registry answered, and has no such image for us: many do not say whether a login would help.
    Denied(anyhow::Error),
    /// The registry could not be asked, or refuses to serve anybody: out of reach, out of order, rate limited.
    Unavailable(anyhow::Error),
}

impl FetchError {
    /// The error, for whoever does not mind whose fault it is.
    pub fn into_error(self) -> anyhow::Error {
        let (FetchError::Missing(error) | FetchError::Denied(error) | FetchError::Unavailable(error)) = self;
        error
    }
}

/// How long a Swarm watches a new task of an update whose policy does not say.
pub const SWARMS_MONITOR: Duration = Duration::from_secs(5);

/// What an engine needs to start.
#[derive(Clone)]
pub struct EngineContext {
    /// Unique id of the run; everything created carries it.
    pub run_id: String,
    /// A private directory of the run for the engine's own state: volumes, logs, container roots.
    pub dir: PathBuf,
    /// Where unpacked images are kept between runs.
    pub image_cache: PathBuf,
    /// For the embedded engine: image reference without tag (`nginx`, `registry.example.org/app`) to what stands in
    /// for it.
    pub image_map: BTreeMap<String, String>,
    /// The stack's name, which stands in the name of everything a Swarm creates for it.
    pub stack: String,
    /// The domain that the app answers under.
    pub domain: String,
    /// For the embedded engine: how long an update that names a failure action watches a new task when its policy does
    /// not say. Swarm's default is [`SWARMS_MONITOR`].
    pub monitor: Duration,
    pub ledger: Arc<dyn Ledger>,
}

impl Engine {
    /// Starts the engine that was decided on. Nothing of the app exists yet.
    pub async fn start(spec: &EngineSpec, context: EngineContext) -> Result<Engine> {
        match spec {
            EngineSpec::Embedded => embedded::Embedded::start(context).await.map(Engine::Embedded),
            EngineSpec::Swarm(spec) => swarm::Swarm::start(context, spec).await.map(|it| Engine::Swarm(Box::new(it))),
            EngineSpec::Abra(spec) => abra::Abra::start(context, spec).await.map(|it| Engine::Abra(Box::new(it))),
        }
    }

    /// Brings the images here ahead of a deployment, so that a registry's trouble is not taken for the recipe's. What
    /// each reference resolved to, where the engine can say it.
    pub async fn fetch(&self, images: &[String]) -> Result<BTreeMap<String, String>, FetchError> {
        each!(self, engine => engine.fetch(images))
    }

    /// What the server has beside the runs of the harness; `None` where nobody else is.
    pub async fn surroundings(&self) -> Result<Option<Surroundings>> {
        match self {
            Engine::Embedded(_) => Ok(None),
            Engine::Swarm(swarm) => swarm.surroundings().await.map(Some),
            Engine::Abra(abra) => abra.swarm.surroundings().await.map(Some),
        }
    }

    /// Waits until something may have changed, and no longer than a moment: what to do between two looks.
    pub async fn changed(&self) {
        each!(self, engine => engine.changed())
    }

    /// Creates what is missing and updates in place what changed; returns when the request is accepted, not when the
    /// services have converged. Services that the stack no longer names are left alone (abra deploys with
    /// `Prune=false`).
    pub async fn deploy(&self, deployment: &Deployment) -> Result<()> {
        match self {
            Engine::Embedded(engine) => engine.deploy(deployment).await,
            Engine::Swarm(engine) => engine.deploy(deployment).await,
            Engine::Abra(engine) => engine.deploy(deployment).await,
        }
    }

    /// Whether the engine makes the secrets that nobody supplied.
    pub fn makes_secrets(&self) -> bool {
        matches!(self, Engine::Abra(_))
    }

    /// What comes before a deployment: abra makes the app and its secrets, whose values are returned by their keys.
    pub async fn prepare(&self, deployment: &Deployment) -> Result<BTreeMap<String, SecretValue>> {
        match self {
            Engine::Abra(engine) => engine.prepare(deployment).await,
            Engine::Embedded(_) | Engine::Swarm(_) => Ok(BTreeMap::new()),
        }
    }

    /// What a reader of the run should know, and was not told yet.
    pub fn take_notes(&self) -> Vec<String> {
        match self {
            Engine::Abra(engine) => engine.take_notes(),
            Engine::Embedded(engine) => engine.take_notes(),
            Engine::Swarm(_) => Vec::new(),
        }
    }

    /// Has the server's own backup bot make a snapshot, where there is one: its id, and what it holds, with one archive
    /// a volume in `dir`. `None`: the harness archives the volumes itself.
    pub async fn back_up(
        &self,
        volumes: &[String],
        dir: &Path,
    ) -> Result<Option<(String, BTreeMap<String, Vec<FileEntry>>)>> {
        match self {
            Engine::Abra(engine) => engine.back_up(volumes, dir).await.map(Some),
            Engine::Embedded(_) | Engine::Swarm(_) => Ok(None),
        }
    }

    /// Has the backup bot put its snapshot back, hooks included. False: there is no bot, and nothing was done.
    pub async fn restore(&self, snapshot: &str) -> Result<bool> {
        match self {
            Engine::Abra(engine) => engine.restore(snapshot).await.map(|()| true),
            Engine::Embedded(_) | Engine::Swarm(_) => Ok(false),
        }
    }

    /// Every service that exists now, sorted by name, those the last stack did not name included.
    pub async fn services(&self) -> Result<Vec<ServiceState>> {
        each!(self, engine => engine.services())
    }

    /// Runs a command in the newest running container of a service.
    pub async fn exec(&self, exec: &Exec) -> Result<ExecOutput, CallError> {
        each!(self, engine => engine.exec(exec))
    }

    /// The log of a service, oldest line first, over all its tasks; only the last `tail` lines when given.
    pub async fn logs(&self, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
        each!(self, engine => engine.logs(service, tail))
    }

    /// Where a service has printed a secret, in whatever of its log was ever there, or still is.
    pub async fn printed(&self, service: &str, secrets: &Secrets) -> Result<Vec<Hit>> {
        each!(self, engine => engine.printed(service, secrets))
    }

    /// Reads a file as the service's container sees it, mounts included.
    pub async fn read_file(&self, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
        each!(self, engine => engine.read_file(service, path))
    }

    /// Writes a file as the service's container sees it, creating parent directories.
    pub async fn write_file(&self, service: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
        each!(self, engine => engine.write_file(service, path, bytes))
    }

    /// Writes a file straight into a volume (by its key in the stack), whoever mounts it and how.
    pub async fn write_volume(&self, volume: &str, path: &str, bytes: &[u8]) -> Result<()> {
        each!(self, engine => engine.write_volume(volume, path, bytes))
    }

    /// Reads a file straight from a volume; `None` when it is not there.
    pub async fn read_volume(&self, volume: &str, path: &str) -> Result<Option<Vec<u8>>> {
        each!(self, engine => engine.read_volume(volume, path))
    }

    /// Lists what a volume holds, without its content.
    pub async fn list_volume(&self, volume: &str) -> Result<Contents> {
        each!(self, engine => engine.list_volume(volume))
    }

    /// What every running container wrote outside of its named volumes.
    pub async fn outside(&self) -> Result<Vec<Outside>> {
        each!(self, engine => engine.outside())
    }

    /// Writes a tar archive of the given paths of a volume (empty: all of it) to `archive`, and says what it holds.
    /// A path that does not exist is an error.
    pub async fn archive_volume(&self, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
        each!(self, engine => engine.archive_volume(volume, paths, archive))
    }

    /// Unpacks an archive over a volume; files that the archive does not name stay, as with backup-bot-two.
    pub async fn restore_volume(&self, volume: &str, archive: &Path) -> Result<()> {
        each!(self, engine => engine.restore_volume(volume, archive))
    }

    /// What every running container of the app uses now.
    pub async fn usage(&self) -> Result<Vec<TaskUsage>> {
        each!(self, engine => engine.usage())
    }

    /// The bytes of all files in a volume (by its key in the stack): a file with several names counts once.
    pub async fn volume_size(&self, volume: &str) -> Result<u64> {
        each!(self, engine => engine.volume_size(volume))
    }

    /// The bytes of an image as it lies here, by its reference.
    pub async fn image_size(&self, image: &str) -> Result<u64> {
        each!(self, engine => engine.image_size(image))
    }

    /// Whether a port of the service's newest running container accepts a connection now.
    pub async fn connects(&self, service: &str, port: u16) -> Result<bool> {
        each!(self, engine => engine.connects(service, port))
    }

    /// The base address (`http://127.0.0.1:40123`) under which the port of a service answers from this machine.
    /// It stays valid across updates.
    pub async fn publish(&self, service: &str, port: u16) -> Result<String> {
        each!(self, engine => engine.publish(service, port))
    }

    /// Removes everything the engine created, services first, and returns what is still there afterwards: empty is
    /// the proven zero. Errors of single removals do not stop the others.
    pub async fn remove(&self) -> Result<Vec<(Kind, String)>> {
        match self {
            Engine::Embedded(engine) => engine.remove().await,
            Engine::Swarm(engine) => engine.remove().await,
            Engine::Abra(engine) => engine.remove().await,
        }
    }

    /// Ends what would go on by itself in this process, before a [`sweep`] removes what is there. A Swarm keeps what is
    /// there going by itself, and a sweep removes it there.
    pub async fn let_go(&self) {
        if let Engine::Embedded(engine) = self {
            engine.let_go().await;
        }
    }
}

/// Whether an error says that the engine's daemon could not be asked at all.
pub fn is_out_of_reach(error: &anyhow::Error) -> bool {
    swarm::is_out_of_reach(error)
}

/// Whether an error says that a name which only this run should have is somebody else's.
pub fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<swarm::NameTaken>().is_some()
}

/// A directory that nobody else may look into.
fn private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.with_context(|| format!("failed to create `{}`", dir.display()))
}
