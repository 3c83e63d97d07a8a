//! The process that owns one app: it deploys, performs the operations, and tears down, whatever happens to those who
//! asked for it.

mod awaited;
pub mod blame;
pub mod canary;
pub mod contents;
pub mod converge;
pub mod databases;
pub mod facts;
mod fetching;
pub mod journal;
pub mod leaks;
mod lint;
pub mod lock;
mod logs;
pub mod mounts;
pub mod operate;
pub mod outage;
pub mod outside;
pub mod owner;
pub mod photo;
mod probe;
pub mod protocol;
pub mod read_back;
pub mod rig;
pub mod serve;
pub mod silence;
pub mod socket;
pub mod spec;
pub mod stage;
mod surroundings;
pub mod sweep;
pub mod teardown;
pub mod usage;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex as StdMutex};

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, Notify, RwLock, RwLockMappedWriteGuard, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::{AbortHandle, JoinHandle};

use crate::engine::{self, EngineSpec};
use crate::fault::{Failure, Fault};
use crate::recipe::checkout::Checkout;
use crate::recipe::route::Rewrite;
use crate::recipe::secret::SecretValue;
use canary::Planted;
use fetching::Fetching;
use journal::{Event, Journal};
use owner::Owner;
use protocol::{Deployed, Losses, OperationReport, Place, Ran, Snapshot, TeardownReport};
use rig::Rig;
use spec::RunSpec;
use stage::Progress;

/// The hidden subcommand that makes an executable a keeper: `__keeper <run directory>`.
pub const SUBCOMMAND: &str = "__keeper";

/// An operation is deep, and an unoptimised build moves each of its futures through the stack: the usual 2 MiB did not do
/// for an upgrade through abra.
pub const STACK: usize = 16 << 20;

/// How long a keeper stays for the sweeping of dead runs once its own is over.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a keeper whose run is over waits for the work on its threads.
const WORK: std::time::Duration = std::time::Duration::from_secs(2);

/// What a hook that runs before the install hears when it asks for the app.
const NOT_DEPLOYED: &str = "nothing is deployed: before the install and after teardown there is no app to talk to";

/// One run, as long as its keeper lives.
pub struct Keeper {
    pub spec: RunSpec,
    pub dir: PathBuf,
    pub journal: Arc<Journal>,
    /// `None` before the install, and after teardown.
    pub engine: RwLock<Option<Rig>>,
    pub app: Mutex<AppRecord>,
    pub memory: StdMutex<BTreeMap<String, String>>,
    pub progress: StdMutex<Progress>,
    /// The trials that the process was asked for which uses the app now; `None` when nobody knows.
    pub selected: StdMutex<Option<BTreeSet<String>>>,
    /// Told whenever `progress` changes.
    pub changed: Notify,
    /// The operation under way, so that teardown can end it.
    pub operation: StdMutex<Option<AbortHandle>>,
    /// The pulling of the head's images beside the tiers before the upgrade.
    pub fetching: Fetching,
    /// The linting of the head beside the tiers.
    pub linting: StdMutex<Option<JoinHandle<()>>>,
    /// What is measured beside the assertions of a tier.
    pub measuring: StdMutex<Option<usage::Measuring>>,
    /// The picture that is being taken.
    pub photographing: Mutex<Option<photo::Photographing>>,
    /// Held by work on the disk that runs on a thread of its own, which ending the operation does not end.
    pub disk: StdMutex<()>,
    /// Teardown happens once; who comes later gets the same report.
    pub teardown: Mutex<Option<TeardownReport>>,
    /// Who wants the run to go on.
    pub owner: tokio::sync::watch::Sender<Owner>,
    /// Told when the keeper may end.
    pub finished: Notify,
}

/// What the operations left behind, for the next one and for assertions.
pub struct AppRecord {
    pub deployed: DeployedState,
    pub checkout: Option<Checkout>,
    /// Values by the secret's name in Swarm, so that a new version of a secret is a new value.
    pub secrets: BTreeMap<String, SecretValue>,
    /// The app's address, or why there is none.
    pub url: Result<String, String>,
    /// What Traefik would do to a path on its way; nothing where one is asked.
    pub rewrites: Vec<Rewrite>,
    pub planted: Vec<Planted>,
    /// The rows in the app's databases.
    pub databases: databases::Record,
    /// Where the base had its volumes, by its compose files and as it was deployed; empty before the upgrade.
    pub mounts_before: Vec<Place>,
    /// Of the base's volumes, those in which there was nothing yet.
    pub held_nothing: BTreeSet<String>,
    /// What ran right before the upgrade, by service.
    pub ran_before: BTreeMap<String, Ran>,
    /// What was noted, each sentence once.
    pub noted: BTreeSet<String>,
    /// When the last operation ended.
    pub operated: Option<std::time::Instant>,
    /// Tasks that had ended when the backup did, by their ids: its assertions speak of them.
    pub ended: BTreeSet<String>,
    /// What became of what the volumes held, by the listings before and after the upgrade.
    pub losses: Losses,
    pub operations: BTreeMap<crate::tier::Tier, OperationReport>,
    pub failures_before: BTreeMap<String, BTreeSet<String>>,
    /// What the server had beside the run before anything was deployed, where others use it too.
    pub surroundings: Option<engine::Surroundings>,
    /// Services of which it was said that they have done their work.
    pub done: BTreeSet<String>,
    pub snapshot: Option<Snapshot>,
    /// What became of the dumps that were ruined before the restore; `None` before it.
    pub restored: Option<Vec<protocol::Canary>>,
}

impl Default for AppRecord {
    fn default() -> Self {
        AppRecord {
            url: Err("nothing is deployed yet".into()),
            deployed: DeployedState::default(),
            checkout: None,
            secrets: BTreeMap::new(),
            rewrites: Vec::new(),
            planted: Vec::new(),
            databases: databases::Record::default(),
            mounts_before: Vec::new(),
            held_nothing: BTreeSet::new(),
            ran_before: BTreeMap::new(),
            noted: BTreeSet::new(),
            operated: None,
            ended: BTreeSet::new(),
            losses: Losses::default(),
            operations: BTreeMap::new(),
            failures_before: BTreeMap::new(),
            surroundings: None,
            done: BTreeSet::new(),
            snapshot: None,
            restored: None,
        }
    }
}

/// The stack that was deployed last.
#[derive(Default)]
pub struct DeployedState {
    pub form: Option<Deployed>,
    pub state: Option<crate::recipe::AppState>,
}

/// Runs a keeper to its end.
pub fn main(run_dir: &Path) -> ExitCode {
    if let Err(error) = harden() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    // A session of its own: neither Ctrl-C nor the end of a terminal reaches it.
    if let Err(error) = rustix::process::setsid() {
        eprintln!("failed to leave the session: {error}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_stack_size(STACK).enable_all().build();
    let ended = runtime.context("failed to start the runtime").and_then(|runtime| {
        let ended = runtime.block_on(run(run_dir));
        // Work on a thread may still go on, and nobody waits for what it would come to.
        runtime.shutdown_timeout(WORK);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The keeper makes the secrets, and starts the containers: first of all it leaves behind what is not theirs.
fn harden() -> Result<()> {
    use crate::process::harden::{close_inherited, leave_keys, no_core_file, undumpable};
    close_inherited()?;
    leave_keys();
    no_core_file()?;
    undumpable()
}

async fn run(run_dir: &Path) -> Result<()> {
    let spec = RunSpec::read(run_dir)?;
    let lock = lock::RunLock::take(run_dir)?;
    crate::process::orphans::mark(run_dir);
    let (journal, listener) = match begin(run_dir, &spec) {
        Ok(begun) => begun,
        Err(error) => {
            // Nothing was created, so no sweep has to look for anything.
            lock.release(true);
            return Err(error);
        }
    };
    let keeper = Arc::new(Keeper::new(spec, run_dir, journal));
    // Dead runs are cleaned beside the live one: a run must not wait for another's leftovers.
    let sweeping = tokio::spawn({
        let keeper = keeper.clone();
        async move {
            let spec = &keeper.spec;
            sweep::before_run(&spec.state, &spec.run_id, spec.keep_runs, &keeper.journal).await;
        }
    });
    tokio::spawn(owner::watch(keeper.clone()));
    tokio::spawn(watch::signals(keeper.clone()));
    tokio::select! {
        result = serve::listen(&keeper, listener) => result?,
        () = keeper.finished.notified() => {}
    }
    let clean = keeper.teardown.lock().await.as_ref().is_some_and(|report| report.leftovers.is_empty());
    lock.release(clean);
    // What a dead run left on a Swarm takes its time; half swept it would wait for the next run.
    let _ = tokio::time::timeout(SWEEP, sweeping).await;
    Ok(())
}

/// What has to be there before anything is created: a journal that can be written, and a socket.
fn begin(run_dir: &Path, spec: &RunSpec) -> Result<(Arc<Journal>, tokio::net::UnixListener)> {
    sweep::link(&spec.state, &spec.run_id, run_dir)?;
    let journal = Arc::new(Journal::open_for_keeper(run_dir)?);
    journal.write_synced(Event::RunStarted {
        run_id: spec.run_id.clone(),
        recipe: spec.plan.recipe.to_string(),
        engine: spec.engine.name().into(),
        pid: std::process::id(),
        started: spec::Client::look_up(std::process::id() as i32).map(|keeper| keeper.started),
    })?;
    journal.write(Event::Planned(Box::new(facts::Facts::of(spec))))?;
    if let Some(sabotage) = spec.sabotage {
        let text = format!("a fault is planted, `{sabotage}`: {}", sabotage.facts().what);
        journal.write(Event::Note { text })?;
    }
    Ok((journal, socket::bind(run_dir)?))
}

impl Keeper {
    fn new(spec: RunSpec, dir: &Path, journal: Arc<Journal>) -> Self {
        let owner = Owner::Client(spec.client);
        let selected = StdMutex::new(spec.about.selected.clone());
        Keeper {
            spec,
            dir: dir.to_owned(),
            journal,
            engine: RwLock::default(),
            app: Mutex::default(),
            memory: StdMutex::default(),
            progress: StdMutex::default(),
            selected,
            changed: Notify::new(),
            operation: StdMutex::default(),
            fetching: Fetching::default(),
            linting: StdMutex::default(),
            measuring: StdMutex::default(),
            photographing: Mutex::default(),
            disk: StdMutex::default(),
            teardown: Mutex::default(),
            owner: tokio::sync::watch::Sender::new(owner),
            finished: Notify::new(),
        }
    }

    /// The running engine, for observing and calling.
    pub async fn engine(&self) -> Result<RwLockReadGuard<'_, Rig>, Failure> {
        let engine = RwLockReadGuard::try_map(self.engine.read().await, Option::as_ref);
        engine.map_err(|_| Failure::new(Fault::Assertion, NOT_DEPLOYED))
    }

    /// The running engine, for changing what it runs.
    pub async fn engine_mut(&self) -> Result<RwLockMappedWriteGuard<'_, Rig>, Failure> {
        let engine = RwLockWriteGuard::try_map(self.engine.write().await, Option::as_mut);
        engine.map_err(|_| Failure::new(Fault::Harness, NOT_DEPLOYED))
    }

    /// Does work on the disk, on a thread where it may block. Teardown waits for it, and none begins after that.
    pub async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Keeper) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let keeper = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let _busy = keeper.disk.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            anyhow::ensure!(!keeper.is_down(), "the run is being torn down");
            work(&keeper)
        });
        joined.await.unwrap_or_else(|error| Err(anyhow::anyhow!("the work panicked: {error}")))
    }

    /// Waits for what is still looked at beside the assertions, and journals it: the app is about to change, or a report
    /// to be made.
    pub async fn settle(&self) {
        usage::settle(self).await;
        photo::settle(self).await;
    }

    /// Where the run's private checkout of the recipe lies.
    pub fn checkout_dir(&self) -> PathBuf {
        match &self.spec.engine {
            EngineSpec::Abra(_) => engine::abra::checkout_dir(&self.engine_dir(), self.spec.plan.recipe.as_str()),
            EngineSpec::Embedded | EngineSpec::Swarm(_) => self.dir.join("recipe"),
        }
    }

    pub fn engine_dir(&self) -> PathBuf {
        self.dir.join("engine")
    }

    pub fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }
}
