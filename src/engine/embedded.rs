//! The embedded engine: services as real containers in one private pod, without a daemon.
//!
//! The pod is a set of Linux namespaces that this process owns; it dies with this process, whatever kills it. Services
//! run as in Swarm: replicas, restarts, health checks, updates in place with their orders and failure actions. Where
//! it cannot be, or deliberately is not, like Swarm:
//!
//! - A name leads to the addresses of a service's replicas, not to a virtual one; they stay the same over updates.
//! - Containers reach each other and nothing outside the pod.
//! - Health checks run at once and often while a container starts (see [`health`]).
//! - An update watches new tasks for 500 ms where Swarm's default is 5 s (`update_config.monitor` is honoured), unless
//!   its policy names a failure action and the run takes its time.
//! - Memory, processes and processor time of containers are bounded by control groups where they can be had, and else
//!   looked at (see [`groups`] and [`limits`]); there are no devices, no added capabilities, and nothing of the host is
//!   mounted into a container.
//! - A stop takes 60 s at most, and no time at all when the whole app is removed.
//! - A secret or config is mounted as a file even where its directory is a volume; archives of volumes keep modes,
//!   owners and times, but neither extended attributes nor hard links.

pub mod builtin;
pub mod cage;
mod call;
mod container;
mod core;
mod dns;
mod fault;
mod fetch;
mod groups;
pub mod health;
mod idmap;
pub mod image;
mod limits;
mod logs;
mod names;
mod outside;
mod planted;
mod pod;
mod preflight;
mod publish;
mod remove;
mod spec;
mod stage;
mod state;
mod task;
mod templates;
mod traces;
mod update;
mod usage;
mod volumes;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

use self::core::Core;
use self::groups::Groups;
use self::pod::Pod;
use self::publish::Published;
use self::traces::{Facts, Process};
use super::contents::Contents;
use super::outside::Outside;
use super::printed::{Hit, Secrets};
use super::{
    CallError, Deployment, EngineContext, Exec, ExecOutput, FetchError, FileEntry, Kind, LogLine, ServiceState,
    TaskUsage,
};
use crate::recipe::stack::{MountKind, Service, Stack};

pub use self::idmap::first_id;
pub use self::pod::executable;
pub use self::preflight::preflight;
pub use self::remove::{Swept, sweep};
pub use self::stage::stage;

/// A pod with the containers of one app. Dropping it ends every process in it; [`Embedded::remove`] also removes what
/// is on disk.
pub struct Embedded {
    core: Arc<Core>,
    published: tokio::sync::Mutex<BTreeMap<(String, u16), Published>>,
    /// Its only note was taken.
    told: AtomicBool,
}

impl Drop for Embedded {
    /// The engine's own tasks hold the pod, too: it has to be told.
    fn drop(&mut self) {
        self.core.close();
        self.core.pod.kill();
    }
}

impl Embedded {
    /// Starts an empty pod. The executable of this process must call [`stage`] first thing in its `main`. A failure
    /// leaves nothing.
    pub async fn start(context: EngineContext) -> Result<Embedded> {
        context.ledger.creating(Kind::Process, &context.run_id)?;
        let mut groups = Groups::find(&context.run_id);
        match start_pod(&context, &mut groups).await {
            Ok((program, pod)) => {
                context.ledger.created(Kind::Process, &context.run_id, &pod.pids[0].to_string())?;
                let core = Core::new(context, program, pod, groups);
                tokio::spawn(limits::watch(Arc::clone(&core)));
                Ok(Embedded { core, published: Default::default(), told: AtomicBool::new(false) })
            }
            Err(error) => {
                // What cannot be removed is found by the next sweep.
                let busy = Groups::remove_all(&groups.dirs()).await;
                if busy.is_empty() && remove::files_left(&context.dir).is_ok_and(|left| left.is_empty()) {
                    context.ledger.removed(Kind::Process, &context.run_id)?;
                }
                Err(error)
            }
        }
    }

    /// That containers are bounded by less than was said, once.
    pub fn take_notes(&self) -> Vec<String> {
        let lost = self.core.groups.lost().filter(|_| !self.told.swap(true, Ordering::Relaxed));
        lost.into_iter().collect()
    }

    /// Creates what is missing and updates in place what changed. Nothing is changed when anything in the deployment
    /// cannot be had.
    pub async fn deploy(&self, deployment: &Deployment) -> Result<()> {
        let core = &self.core;
        core.pod.check()?;
        let _turn = core.deploying.lock().await;
        let stack = &deployment.stack;
        let specs = stack.services.iter().map(|(name, service)| Ok((name, spec::resolve(deployment, name, service)?)));
        let specs = specs.collect::<Result<Vec<_>>>()?;
        let digests = spec::file_digests(deployment);
        core.read(|state| spec::check_unchanged(&state.files, &digests))?;
        for (key, value) in &deployment.secrets {
            let name = stack.secrets.get(key).map_or(key, |secret| &secret.name);
            core.printed.watch(name, value.expose())?;
        }
        core.change(|state| {
            state.stack.clone_from(&stack.name);
            state.files.extend(digests);
            state.volumes.extend(stack.volumes.iter().map(|(key, volume)| (key.clone(), volume.name.clone())));
        });
        for (_, spec) in &specs {
            for network in spec.networks.keys() {
                core.ensure_network(network).await?;
            }
            for volume in spec.mounts.iter().filter_map(|mount| mount.volume.as_deref()) {
                core.ensure_volume(volume)?;
            }
        }
        for (name, spec) in specs {
            let new = core.read(|state| !state.services.contains_key(name));
            if new {
                core.context.ledger.creating(Kind::Service, name)?;
            }
            update::apply(core, name, spec);
            if new {
                core.context.ledger.created(Kind::Service, name, name)?;
            }
        }
        Ok(())
    }

    /// Tasks resolve their images themselves; what is wrong with one is better known before there is any.
    pub async fn fetch(&self, images: &[String]) -> Result<BTreeMap<String, String>, FetchError> {
        let context = &self.core.context;
        fetch::all(images, &context.image_map, &context.image_cache).await
    }

    /// A look costs microseconds here: there is nothing to be told of.
    pub async fn changed(&self) {}

    pub async fn services(&self) -> Result<Vec<ServiceState>> {
        self.core.pod.check()?;
        Ok(self.core.read(|state| state.services.iter().map(|(name, record)| record.observe(name)).collect()))
    }

    pub async fn exec(&self, exec: &Exec) -> Result<ExecOutput, CallError> {
        call::exec(&self.core, exec).await
    }

    pub async fn printed(&self, service: &str, _: &Secrets) -> Result<Vec<Hit>> {
        self.core.pod.check()?;
        Ok(self.core.printed.hits(service))
    }

    pub async fn logs(&self, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
        // A service that is gone may still have a log; one that never was is a mistake.
        self.core.pod.check()?;
        self.core
            .read(|state| state.known(service).map(drop))
            .and_then(|()| logs::read(&self.core.dir("logs"), service, tail))
            .with_context(|| format!("failed to read the log of service `{service}`"))
    }

    pub async fn read_file(&self, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
        call::read_file(&self.core, service, path).await
    }

    pub async fn write_file(&self, service: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
        call::write_file(&self.core, service, path, bytes).await
    }

    pub async fn write_volume(&self, volume: &str, path: &str, bytes: &[u8]) -> Result<()> {
        volumes::write(&self.core, volume, path, bytes).await
    }

    pub async fn read_volume(&self, volume: &str, path: &str) -> Result<Option<Vec<u8>>> {
        volumes::read(&self.core, volume, path).await
    }

    pub async fn list_volume(&self, volume: &str) -> Result<Contents> {
        volumes::list(&self.core, volume).await
    }

    pub async fn outside(&self) -> Result<Vec<Outside>> {
        outside::look(&self.core).await
    }

    pub async fn archive_volume(&self, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
        volumes::archive(&self.core, volume, paths, archive).await
    }

    pub async fn restore_volume(&self, volume: &str, archive: &Path) -> Result<()> {
        volumes::restore(&self.core, volume, archive).await
    }

    pub async fn usage(&self) -> Result<Vec<TaskUsage>> {
        usage::tasks(&self.core).await
    }

    pub async fn volume_size(&self, volume: &str) -> Result<u64> {
        usage::volume(&self.core, volume).await
    }

    pub async fn image_size(&self, image: &str) -> Result<u64> {
        usage::image(&self.core, image).await
    }

    pub async fn connects(&self, service: &str, port: u16) -> Result<bool> {
        publish::connects(&self.core, service, port).await
    }

    /// The same address for every call with the same service and port.
    pub async fn publish(&self, service: &str, port: u16) -> Result<String> {
        let mut published = self.published.lock().await;
        if let Some(published) = published.get(&(service.to_owned(), port)) {
            return Ok(published.address.clone());
        }
        let new = publish::publish(&self.core, service, port).await?;
        let address = new.address.clone();
        published.insert((service.to_owned(), port), new);
        Ok(address)
    }

    pub async fn remove(&self) -> Result<Vec<(Kind, String)>> {
        self.published.lock().await.clear();
        remove::remove(&self.core).await
    }

    /// Ends everything and removes nothing.
    pub async fn let_go(&self) {
        remove::let_go(&self.core).await;
    }

    /// What is there now: processes, mounts, and whatever lies in the engine's directory.
    pub fn left(&self) -> Result<Vec<(Kind, String)>> {
        remove::left(&self.core)
    }
}

/// Makes the engine's directories and starts the pod, with the record that recognises it written before and after.
async fn start_pod(context: &EngineContext, groups: &mut Groups) -> Result<(PathBuf, Pod)> {
    let dir = &context.dir;
    for name in ["volumes", "containers", "logs"] {
        // Nobody else has any business in it: containers may leave programs there that run as their owner.
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join(name));
        created.with_context(|| format!("failed to create `{}`", dir.join(name).display()))?;
    }
    for place in [dir.clone(), dir.join("volumes"), dir.join("containers")] {
        idmap::give(&place)?;
    }
    let images = &context.image_cache;
    fs::create_dir_all(images).with_context(|| format!("failed to create `{}`", images.display()))?;
    idmap::let_through(images)?;
    let program = pod::executable(dir)?;
    let mut facts = Facts::new(&context.run_id)?;
    facts.groups = groups.dirs();
    facts.write(dir)?;
    groups.make();
    let pod = Pod::start(&program, vec![dir.clone(), images.clone()], &dir.join("logs/pod.log")).await?;
    facts.processes = pod.pids.into_iter().filter_map(Process::find).collect();
    facts.user_namespace = Some(pod.namespace_number()?);
    facts.write(dir)?;
    Ok((program, pod))
}

/// How what containers use is bounded on this machine, for the header of a run.
pub fn bounds() -> String {
    Groups::find("header").sentence()
}

/// One line for every image of the stacks that something else stands in for.
pub fn stand_ins<'a>(stacks: impl Iterator<Item = &'a Stack>, map: &BTreeMap<String, String>) -> Vec<String> {
    let stand_in = |image: &&str| Some((image.to_string(), image::stand_in(image, map)?));
    let lines = images(stacks).into_iter().filter_map(|image| stand_in(&image));
    lines.map(|(image, stand_in)| format!("`{image}` is not what runs: `{stand_in}` stands in for it")).collect()
}

/// Images of the stacks that a registry has to be asked for.
pub fn to_pull<'a>(stacks: impl Iterator<Item = &'a Stack>, map: &BTreeMap<String, String>) -> Vec<String> {
    images(stacks).into_iter().filter(|image| image::is_pulled(image, map)).map(str::to_owned).collect()
}

/// Images of the stacks that this build cannot have, each as one sentence.
pub fn impossible_images<'a>(stacks: impl Iterator<Item = &'a Stack>, map: &BTreeMap<String, String>) -> Vec<String> {
    images(stacks).into_iter().filter_map(|image| image::cannot_resolve(image, map)).collect()
}

/// One sentence for everything of somebody else's that a service mounts: a pod has no volumes, secrets and configs but
/// its own.
pub fn impossible_mounts(stacks: &[&Stack]) -> BTreeSet<String> {
    let of_service = |stack: &&Stack, service: &Service| {
        let (volumes, secrets, configs) = (&stack.volumes, &stack.secrets, &stack.configs);
        let volumes = service.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume(key) => volumes.get(key).filter(|it| it.external).map(|it| ("volume", it.name.clone())),
            _ => None,
        });
        let secrets = service.secrets.iter().filter_map(|mount| secrets.get(&mount.source));
        let secrets = secrets.filter(|it| stack.is_foreign(it)).map(|it| ("secret", it.name.clone()));
        let configs = service.configs.iter().filter_map(|mount| configs.get(&mount.source));
        let configs = configs.filter(|it| it.external).map(|it| ("config", it.name.clone()));
        volumes.chain(secrets).chain(configs).collect::<Vec<_>>()
    };
    let all = stacks.iter().flat_map(|stack| stack.services.values().flat_map(|it| of_service(stack, it)));
    let said = |(kind, name): (&str, String)| {
        format!(
            "the external {kind} `{name}` is Docker's, and the embedded engine has nothing but the app's own: use \
             `--engine swarm`"
        )
    };
    all.map(said).collect()
}

fn images<'a>(stacks: impl Iterator<Item = &'a Stack>) -> BTreeSet<&'a str> {
    stacks.flat_map(|stack| stack.services.values()).map(|service| service.image.as_str()).collect()
}
