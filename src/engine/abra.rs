//! The abra engine: every change goes through the real `abra` binary, every observation through Docker's API.
//!
//! abra keeps what it knows about apps and recipes below `$ABRA_DIR`. Each run has one of its own, below the engine's
//! directory, so that runs do not meet there and nothing of an operator's is touched: only the catalogue is shared.

mod app;
mod commands;
mod find;
pub mod lint;
mod snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::swarm::{Swarm, SwarmSpec};
use super::{Deployment, EngineContext, FileEntry, Kind};
use crate::recipe::secret::SecretValue;
pub use find::{Found, endpoint, find, program, server, would_be_used};

/// The directory below the engine's that is this run's `$ABRA_DIR`.
const DIR: &str = "abra";

/// What was found out about abra and the server it deploys to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbraSpec {
    pub swarm: SwarmSpec,
    /// The executable.
    pub program: PathBuf,
    /// What it says its version is.
    pub version: String,
    /// The server, which is the name of a Docker context; `default` is this machine.
    pub server: String,
    /// The operator's catalogue of recipes, when there is one.
    pub catalogue: Option<PathBuf>,
}

/// One app of one abra.
pub struct Abra {
    /// What observes, and what removes in the end.
    pub swarm: Swarm,
    spec: AbraSpec,
    domain: String,
    /// This run's `$ABRA_DIR`.
    dir: PathBuf,
    /// Whether `abra app new` was done.
    made: tokio::sync::Mutex<bool>,
    /// What abra called the stack, when that is not what was expected.
    misnamed: Mutex<Option<String>>,
    /// Values that must not stand in what abra is quoted with.
    secrets: Mutex<Vec<SecretValue>>,
    notes: Mutex<Vec<String>>,
}

/// Where the checkout of a recipe has to lie for abra to find it.
pub fn checkout_dir(engine_dir: &Path, recipe: &str) -> PathBuf {
    engine_dir.join(DIR).join("recipes").join(recipe)
}

impl Abra {
    /// Makes the run's `$ABRA_DIR`, and connects to the Swarm. Nothing of the app is created.
    pub async fn start(context: EngineContext, spec: &AbraSpec) -> Result<Abra> {
        let dir = make_home(&context.dir, spec)?;
        let domain = context.domain.clone();
        let swarm = Swarm::start(context, &spec.swarm).await?;
        Ok(Abra {
            swarm,
            spec: spec.clone(),
            domain,
            dir,
            made: Default::default(),
            misnamed: Mutex::default(),
            secrets: Mutex::default(),
            notes: Mutex::default(),
        })
    }

    /// Makes the app known to abra, writes its `.env`, and has its secrets made: those that were made, by their keys.
    pub async fn prepare(&self, deployment: &Deployment) -> Result<BTreeMap<String, SecretValue>> {
        self.swarm.while_alive(Box::pin(app::prepare(self, deployment))).await
    }

    /// `abra app deploy`. What abra says about convergence is a note: the harness waits by its own evidence.
    pub async fn deploy(&self, deployment: &Deployment) -> Result<()> {
        app::deploy(self, deployment).await
    }

    /// `abra app backup create`, and a look into the snapshot that it made: one archive a volume in `dir`.
    pub async fn back_up(&self, volumes: &[String], dir: &Path) -> Result<(String, BTreeMap<String, Vec<FileEntry>>)> {
        self.swarm.while_alive(Box::pin(snapshot::create(self, volumes, dir))).await
    }

    /// `abra app restore` of that very snapshot.
    pub async fn restore(&self, snapshot: &str) -> Result<()> {
        self.swarm.while_alive(Box::pin(snapshot::restore(self, snapshot))).await
    }

    /// `abra app undeploy`, which returns before the tasks are gone, and then everything that it leaves.
    pub async fn remove(&self) -> Result<Vec<(Kind, String)>> {
        let made = *self.made.lock().await;
        let undeploy = async {
            // Whatever abra says, what is left is looked for and removed all the same.
            if made && let Err(error) = self.undeploy().await {
                eprintln!("{error:#}");
            }
        };
        let mut left = self.swarm.remove_after(undeploy).await?;
        let misnamed = locked(&self.misnamed).clone();
        if let Some(stack) = misnamed {
            left.extend(self.swarm.remove_stack(&stack).await?);
        }
        Ok(left)
    }

    /// What a reader of the run should know, and was not told yet.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.notes))
    }

    fn note(&self, text: String) {
        locked(&self.notes).push(text);
    }

    fn env_file(&self) -> PathBuf {
        self.dir.join("servers").join(&self.spec.server).join(format!("{}.env", self.domain))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an `$ABRA_DIR` below the engine's directory: recipes and servers are its own, the catalogue is the operator's.
fn make_home(engine_dir: &Path, spec: &AbraSpec) -> Result<PathBuf> {
    let dir = engine_dir.join(DIR);
    for below in ["recipes", "servers", "logs"] {
        super::private_dir(&dir.join(below))?;
    }
    super::private_dir(&dir.join("servers").join(&spec.server))?;
    let catalogue = dir.join("catalogue");
    match &spec.catalogue {
        Some(theirs) => std::os::unix::fs::symlink(theirs, &catalogue)
            .with_context(|| format!("failed to link `{}`", catalogue.display()))?,
        None => super::private_dir(&catalogue)?,
    }
    Ok(dir)
}

/// The origin that only this engine needs.
fn origin(deployment: &Deployment) -> Result<&super::Origin> {
    match &deployment.origin {
        Some(origin) => Ok(origin),
        None => bail!("abra deploys from a checkout of the recipe, and was given none"),
    }
}
