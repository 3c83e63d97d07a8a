//! An engine as the keeper holds it: as it is, or with a fault planted between it and the harness.
//!
//! Without a fault every call goes straight through. What a fault does to the app is done for real wherever the engine
//! can be made to do it; only what an app itself would have to do wrong is done to the engine's answers.

mod edit;
mod fake_router;
mod fits;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::engine::outside::Outside;
use crate::engine::printed::{Hit, Secrets, Tail};
use crate::engine::{
    CallError, Cycle, Deployment, Engine, Exec, ExecOutput, FileEntry, Kind, LogLine, ServiceState, TaskPhase,
    UpdateState, is_out_of_reach,
};
use crate::keeper::outage::Outage;
use crate::keeper::spec::RunSpec;
use crate::poll::{Look, Poll};
use crate::recipe::AppState;
use crate::recipe::abra::APP;
use crate::recipe::secret::SecretValue;
use crate::recipe::stack::Service;
use crate::sabotage::Sabotage;
use crate::tier::Tier;
use fake_router::FakeRouter;
pub use fits::cannot_be_planted;

/// The service that a fault adds to the installed stack.
const STOWAWAY: &str = "harness-stowaway";
/// How long the engine may take to show what a fault did to the app.
const SHOWS: Duration = Duration::from_secs(60);
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// The engine, and the fault that is planted, if any.
pub struct Rig {
    engine: Engine,
    sabotage: Option<Sabotage>,
    /// The head, for the fault that installs it.
    head: AppState,
    /// Services that end and are started again on purpose.
    cycles: BTreeMap<String, Cycle>,
    memory: Mutex<Memory>,
    /// Of all looks together: who comes later need not wait again for a daemon that was found to be away for long.
    outage: Outage,
}

/// What a fault has to remember.
#[derive(Default)]
struct Memory {
    installed: Option<Deployment>,
    current: Option<Deployment>,
    upgraded: bool,
    /// The fault that comes after the restore may come now.
    restored: bool,
    /// Volumes are back, and hooks are next.
    unpacked: bool,
    archived: Vec<(String, FileEntry)>,
    router: Option<FakeRouter>,
}

impl Memory {
    fn remember(&mut self, deployment: &Deployment) {
        self.upgraded = self.installed.is_some();
        self.installed.get_or_insert_with(|| deployment.clone());
        self.current = Some(deployment.clone());
    }
}

/// Whatever no fault changes is asked of the engine itself.
impl Deref for Rig {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Rig {
    pub fn new(engine: Engine, spec: &RunSpec) -> Self {
        let (head, sabotage) = (spec.head.clone(), spec.sabotage);
        let cycle = |(name, service): (&String, &Service)| {
            (name.clone(), Cycle::of(name, service, &spec.settings.recipe_toml.periodic))
        };
        let cycles = head.stack.services.iter().map(cycle).collect();
        Rig { engine, sabotage, head, cycles, memory: Mutex::default(), outage: Outage::default() }
    }

    fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn deploy(&self, deployment: &Deployment) -> Result<()> {
        let Some(sabotage) = self.sabotage else { return self.engine.deploy(deployment).await };
        let installed = self.memory().installed.clone();
        let deployment = match &installed {
            None => edit::install(sabotage, deployment, &self.head),
            Some(installed) => edit::upgrade(sabotage, deployment, installed),
        };
        if sabotage == Sabotage::UpgradeEmptiesFiles && installed.is_some() {
            self.empty_files().await.context("failed to plant the fault")?;
        }
        self.memory().remember(&deployment);
        self.engine.deploy(&deployment).await
    }

    /// What happens to the app once the operation of a tier is done, and before anybody looks.
    pub async fn after(&self, tier: Tier) -> Result<()> {
        match self.sabotage {
            Some(Sabotage::ServiceFlaps) => self.flap().await,
            Some(Sabotage::RollsBackAfterwards) if tier == Tier::Upgrade => self.roll_back().await,
            Some(Sabotage::DatabaseLiesInTheLayer) => {
                let written = self.engine.write_file(APP, "/opt/database/PG_VERSION", b"15\n").await;
                written.context("failed to write into the layer")
            }
            Some(Sabotage::DumpIsStale) if tier == Tier::Upgrade => self.leave_dumps().await,
            Some(Sabotage::AppWritesOverTheRestore) if tier == Tier::Restore => {
                self.memory().restored = true;
                Ok(())
            }
            Some(Sabotage::RestoreHookLoadsNothing) => {
                self.memory().unpacked = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The address of the app's route.
    pub async fn publish(&self, service: &str, port: u16) -> Result<String> {
        match self.sabotage {
            Some(Sabotage::RouteIsCut) => Ok(NOWHERE.into()),
            Some(Sabotage::RouterAnswersForADeadApp) => {
                self.stop(service).await?;
                let router = FakeRouter::start().await?;
                let address = router.address.clone();
                self.memory().router = Some(router);
                Ok(address)
            }
            Some(Sabotage::OldContainerAnswers) if self.memory().upgraded => self.engine.publish(STOWAWAY, port).await,
            _ => self.engine.publish(service, port).await,
        }
    }

    /// Every service, seen through a short outage of the daemon.
    pub async fn services(&self) -> Result<Vec<ServiceState>> {
        self.outage.sit_out(|| self.services_now()).await
    }

    /// Every service, at the first look.
    pub async fn services_now(&self) -> Result<Vec<ServiceState>> {
        let mut services = self.engine.services().await?;
        for service in &mut services {
            service.cycle = self.cycles.get(&service.name).copied().unwrap_or_default();
        }
        let old = self.is(Sabotage::OldContainerAnswers);
        Ok(if old { with_old_container(services, self.memory().upgraded) } else { services })
    }

    /// What lies outside of volumes, through a short outage. It may take long, which says nothing of the daemon.
    pub async fn outside(&self) -> Result<Vec<Outside>> {
        match self.engine.outside().await {
            Err(error) if is_out_of_reach(&error) => {
                self.services().await?;
                self.engine.outside().await
            }
            seen => seen,
        }
    }

    pub async fn exec(&self, exec: &Exec) -> Result<ExecOutput, CallError> {
        let loads_nothing = self.is(Sabotage::RestoreHookLoadsNothing) && self.memory().unpacked;
        if self.is(Sabotage::ExecFailsSilently) || self.is(Sabotage::DumpIsStale) || loads_nothing {
            let (stdout, stderr, task) = (Vec::new(), Vec::new(), String::new());
            return Ok(ExecOutput { code: 0, stdout, stderr, truncated: false, task });
        }
        self.engine.exec(exec).await
    }

    /// Once a file was seen as it was restored, the app changes it.
    pub async fn read_file(&self, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
        let seen = self.engine.read_file(service, path).await?;
        if self.memory().restored {
            self.engine.write_file(service, path, b"what the app remembers\n").await?;
        }
        Ok(seen)
    }

    pub async fn logs(&self, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
        let mut lines = self.engine.logs(service, tail).await?;
        let secret = self.memory().current.as_ref().and_then(|it| it.secrets.values().next().cloned());
        if let Some(secret) = secret.filter(|_| self.is(Sabotage::SecretIsPrinted) && service == APP) {
            let text = format!("connecting with the password {}", SecretValue::expose(&secret));
            lines.push(LogLine { task: "planted".into(), stream: "stdout".into(), text });
        }
        Ok(lines)
    }

    pub async fn printed(&self, service: &str, secrets: &Secrets) -> Result<Vec<Hit>> {
        let mut hits = self.engine.printed(service, secrets).await?;
        if self.is(Sabotage::SecretIsPrinted) && service == APP {
            let planted = self.logs(service, None).await?.pop().map(|line| line.text).unwrap_or_default();
            hits.extend(
                Tail::default().found(secrets, planted.as_bytes()).into_iter().map(|name| (name.to_owned(), 1)),
            );
        }
        Ok(hits)
    }

    pub async fn archive_volume(&self, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
        let lacking = self.is(Sabotage::BackupLacksAVolume) && self.is_last_volume(volume);
        let files = self.engine.archive_volume(volume, paths, archive).await?;
        if lacking || self.is(Sabotage::BackupStoresNothing) && paths.is_empty() {
            edit::empty(archive)?;
            return Ok(Vec::new());
        }
        self.memory().archived.extend(files.iter().map(|file| (volume.to_owned(), file.clone())));
        Ok(files)
    }

    pub async fn restore_volume(&self, volume: &str, archive: &Path) -> Result<()> {
        self.memory().unpacked = true;
        match self.sabotage {
            Some(Sabotage::RestoreDoesNothing) => Ok(()),
            Some(Sabotage::RestoresAnotherRun) => {
                self.engine.restore_volume(volume, archive).await?;
                self.bring_others(volume).await
            }
            _ => self.engine.restore_volume(volume, archive).await,
        }
    }

    pub async fn restore(&self, snapshot: &str) -> Result<bool> {
        // A bot that does nothing says so in no way; without a bot the volumes are asked for one by one.
        if self.is(Sabotage::RestoreDoesNothing) && matches!(self.engine, Engine::Abra(_)) {
            return Ok(true);
        }
        self.engine.restore(snapshot).await
    }

    pub async fn remove(&self) -> Result<Vec<(Kind, String)>> {
        self.memory().router = None;
        let left = self.engine.remove().await?;
        let kind = match self.sabotage {
            Some(Sabotage::LeavesAVolume) => Kind::Volume,
            Some(Sabotage::LeavesASecret) => Kind::Secret,
            Some(Sabotage::LeavesANetwork) => Kind::Network,
            _ => return Ok(left),
        };
        self.engine.leave(kind).await.context("failed to leave something behind")?;
        Ok(left)
    }

    pub async fn let_go(&self) {
        self.engine.let_go().await;
    }

    /// Kills the app's container, and waits until that shows and the app is back.
    async fn flap(&self) -> Result<()> {
        let app = async || {
            let services = self.engine.services().await?;
            services.into_iter().find(|it| it.name == APP).context("there is no service `app`")
        };
        let before = app().await?.failures().count();
        self.engine.kill(APP).await?;
        let poll = Poll { interval: Duration::from_millis(20), deadline: SHOWS };
        let shows = poll.until("the killed container to be replaced", async || {
            let app = app().await?;
            let running = app.wanted().filter(|task| task.phase == TaskPhase::Running).count();
            let failures = app.failures().count();
            let back = failures > before && running == app.replicas as usize;
            let seen = format!("{failures} failures, {running} running");
            Ok(if back { Look::Ready(()) } else { Look::NotYet(seen) })
        });
        shows.await
    }

    /// One more update, whose program is not there; the engine itself rolls it back.
    async fn roll_back(&self) -> Result<()> {
        let current = self.memory().current.clone().context("nothing was deployed")?;
        self.engine.deploy(&edit::broken(&current)).await?;
        let poll = Poll { interval: Duration::from_millis(20), deadline: SHOWS };
        poll.until("the update to be rolled back", async || {
            let services = self.engine.services().await?;
            let update = services.into_iter().find(|it| it.name == APP).and_then(|it| it.update);
            Ok(match update {
                Some(update) if update.state == UpdateState::RollbackCompleted => Look::Ready(()),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
        .await
    }

    /// Scales a service to nothing, and waits until nothing of it runs.
    async fn stop(&self, service: &str) -> Result<()> {
        let current = self.memory().current.clone().context("nothing was deployed")?;
        self.engine.deploy(&edit::scaled_to_nothing(&current, service)).await?;
        let poll = Poll { interval: Duration::from_millis(20), deadline: SHOWS };
        poll.until(format!("service `{service}` to be stopped"), async || {
            let services = self.engine.services().await?;
            let of_service = services.iter().filter(|it| it.name == service).flat_map(|it| &it.tasks);
            let running = of_service.filter(|task| task.phase == TaskPhase::Running).count();
            Ok(if running == 0 { Look::Ready(()) } else { Look::NotYet(format!("{running} tasks run")) })
        })
        .await
    }

    /// Empties whatever the app has stored so far.
    async fn empty_files(&self) -> Result<()> {
        for volume in self.head.stack.volumes.keys() {
            for file in self.engine.list_volume(volume).await?.entries.iter().filter(|entry| !entry.is_dir) {
                self.engine.write_volume(volume, &file.path, b"").await?;
            }
        }
        Ok(())
    }

    /// Puts a dump where the labels want one, long before there is a backup.
    async fn leave_dumps(&self) -> Result<()> {
        let dump = "-- PostgreSQL database dump\nof another time\n-- PostgreSQL database dump complete\n";
        for volume in self.head.backup.services.iter().flat_map(|service| &service.volumes) {
            for path in &volume.paths {
                self.engine.write_volume(&volume.volume, path, dump.as_bytes()).await?;
            }
        }
        Ok(())
    }

    /// Whether it is the last of the volumes that the labels put into the snapshot as a whole.
    fn is_last_volume(&self, volume: &str) -> bool {
        let volumes = self.head.backup.services.iter().flat_map(|service| &service.volumes);
        volumes.filter(|it| it.paths.is_empty()).map(|it| it.volume.as_str()).max() == Some(volume)
    }

    /// Every file of the snapshot comes back as another run's.
    async fn bring_others(&self, volume: &str) -> Result<()> {
        let archived = self.memory().archived.clone();
        let of_volume: Vec<&FileEntry> = archived.iter().filter(|(it, _)| it == volume).map(|(_, file)| file).collect();
        for file in of_volume.iter().filter(|file| !file.sha256.is_empty()) {
            self.engine.write_volume(volume, &file.path, b"of another run\n").await?;
        }
        Ok(())
    }
}

/// As Swarm would show a container that was told to stop and did not: the stowaway's tasks are the app's own.
fn with_old_container(services: Vec<ServiceState>, upgraded: bool) -> Vec<ServiceState> {
    let (stowaways, mut services): (Vec<ServiceState>, Vec<ServiceState>) =
        services.into_iter().partition(|it| it.name == STOWAWAY);
    let app = services.iter_mut().find(|it| it.name == APP);
    if let Some(app) = app.filter(|_| upgraded) {
        for mut task in stowaways.into_iter().flat_map(|it| it.tasks) {
            (task.desired_running, task.spec_version) = (false, app.spec_version.saturating_sub(1));
            app.tasks.push(task);
        }
    }
    services
}
