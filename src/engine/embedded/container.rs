//! The keeper's side of one container: what it is started with, and how it is reached while it runs.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::builtin;
use super::core::{Core, bridge_index};
use super::image::{Image, Root};
use super::logs::{self, Log};
use super::spec::{NamedMount, Spec};
use super::stage::Stage;
use super::stage::container::{
    Builtin, ContainerEvent, ContainerSpec, FileSpec, Interface, LIMITS, MountSource, MountSpec, PROCESSES, RootSpec,
};
use super::state::PREFIX;
use super::wire::Socket;
use super::{dns, idmap, state};
use crate::recipe::stack::{Limits, MountKind, Service};

/// A container that writes on after its end is not waited for longer than this.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running container.
pub struct Container {
    pub dir: PathBuf,
    pub hostname: String,
    /// Its pid 1. Signals and commands go through it: a number could mean another process by now.
    pub process: OwnedFd,
    /// What its program was given, which commands run in it get as well.
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// Where it may write that is no named volume.
    pub scratch: Vec<Scratch>,
    /// What all its processes may use together.
    pub limits: Limits,
}

/// A place that goes with the container.
#[derive(Clone, Debug)]
pub enum Scratch {
    /// A root in memory, with what the harness put there.
    Root,
    /// The overlay's upper directory over an image.
    Layer(PathBuf),
    /// An anonymous volume: its target, its directory, and what the image has in its place.
    Anonymous(String, PathBuf, Option<PathBuf>),
    Tmpfs(String),
}

fn scratch(spec: &ContainerSpec, dir: &Path) -> Vec<Scratch> {
    let (mut scratch, image) = match &spec.root {
        RootSpec::Userland { .. } => (vec![Scratch::Root], None),
        RootSpec::Directory(image) => (vec![Scratch::Layer(dir.join("upper"))], Some(image)),
    };
    scratch.extend(spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Tmpfs { .. } => Some(Scratch::Tmpfs(mount.target.clone())),
        MountSource::Directory(path) if path.starts_with(dir) => {
            let copied = image.map(|image| image.join(mount.target.trim_start_matches('/')));
            Some(Scratch::Anonymous(mount.target.clone(), path.clone(), copied))
        }
        MountSource::Directory(_) => None,
    }));
    scratch
}

/// What only the task that runs a container needs.
pub struct Running {
    pub container: Arc<Container>,
    events: Socket,
    resolver: JoinHandle<()>,
    pumps: [JoinHandle<Result<()>>; 2],
}

/// Which container to start.
#[derive(Clone)]
pub struct Plan {
    pub service: String,
    pub task: String,
    pub slot: u32,
    pub spec: Arc<Spec>,
    pub addresses: Vec<(String, std::net::Ipv4Addr)>,
    /// Its host table, as of now.
    pub hosts: String,
    pub hostname: String,
}

impl Container {
    /// The task that it is of.
    pub fn task(&self) -> &str {
        self.dir.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    /// Sends a signal to pid 1; one that is gone needs none.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.process, signal);
    }
}

/// Starts a container and returns when its program runs.
pub async fn start(core: &Arc<Core>, plan: &Plan, image: &Image) -> Result<Running> {
    let dir = core.dir("containers").join(&plan.task);
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    std::fs::write(dir.join("hosts"), &plan.hosts).context("failed to write the host table")?;
    idmap::give(&dir)?;
    idmap::give(&dir.join("hosts"))?;
    let spec = container_spec(core, plan, image, &dir)?;
    let log = Log::open(&core.dir("logs"), &plan.service, plan.slot, &plan.task, &core.printed)?;
    let (out, stdout) = std::io::pipe().context("failed to make a pipe")?;
    let (err, stderr) = std::io::pipe().context("failed to make a pipe")?;
    idmap::give_stream(&stdout)?;
    idmap::give_stream(&stderr)?;
    let pumps = [("stdout", out), ("stderr", err)]
        .map(|(stream, reader)| tokio::spawn(logs::pump(stream, reader.into(), Arc::clone(&log))));
    let limits = limits(&plan.spec.service);
    let groups = enter_groups(core, &plan.task, &limits);
    let fds: Vec<_> = [stdout.as_fd(), stderr.as_fd()].into_iter().chain(groups.iter().map(AsFd::as_fd)).collect();
    let events = core.pod.stage(Stage::Container, &spec, &fds).await?;
    drop(fds);
    drop((groups, stdout, stderr));
    let (event, fds) = events.reply::<ContainerEvent>().await?;
    if let ContainerEvent::Started { refused: Some(why) } = event {
        core.groups.lose(why);
    }
    let Ok([process, resolver]) = <[OwnedFd; 2]>::try_from(fds) else {
        bail!("the container came without its process")
    };
    let resolver = tokio::spawn(dns::serve(Arc::clone(core), plan.service.clone(), plan.task.clone(), resolver));
    let container = Arc::new(Container {
        scratch: scratch(&spec, &dir),
        dir,
        hostname: spec.hostname,
        process,
        env: spec.env,
        user: spec.user,
        working_dir: spec.working_dir,
        limits,
    });
    Ok(Running { container, events, resolver, pumps })
}

impl Running {
    /// Waits until every process of the container is gone; the exit code, or why there is none. May be cancelled
    /// and called again.
    pub async fn exit(&self) -> Result<i32> {
        match self.events.reply::<ContainerEvent>().await.context("lost the container")?.0 {
            ContainerEvent::Exited { code } => Ok(code),
            ContainerEvent::Started { .. } => bail!("a container started twice"),
        }
    }

    /// Ends what served the container, with its last output written.
    pub async fn finish(self) {
        self.container.signal(Signal::KILL);
        self.resolver.abort();
        for pump in self.pumps {
            let abort = pump.abort_handle();
            if tokio::time::timeout(LAST_WORDS, pump).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// The groups of a new container. One that cannot be made is no reason not to start it.
fn enter_groups(core: &Core, task: &str, limits: &Limits) -> Vec<File> {
    let groups = core.groups.container(task, limits);
    groups.inspect_err(|error| core.groups.lose(format!("{error:#}"))).unwrap_or_default()
}

/// What a service's containers may use, each: as the recipe says, or as many processes as any app has. What the policy
/// gives of memory and processors stands there already.
fn limits(service: &Service) -> Limits {
    let limits = service.deploy.limits;
    Limits { pids: limits.pids.or(Some(PROCESSES)), ..limits }
}

fn container_spec(core: &Core, plan: &Plan, image: &Image, dir: &Path) -> Result<ContainerSpec> {
    let service = &plan.spec.service;
    let builtin = (image.root == Root::Builtin)
        .then(|| Builtin { program: core.program.clone(), stands_in_for: image.reference.clone() });
    let root = match &image.root {
        Root::Builtin | Root::Host => RootSpec::Userland { builtin },
        Root::Unpacked(path) => RootSpec::Directory(path.clone()),
    };
    let files = plan.spec.files.iter().map(|file| FileSpec {
        target: file.mount.target.clone(),
        uid: file.mount.uid,
        gid: file.mount.gid,
        mode: file.mount.mode,
        content: file.content.0.to_vec(),
    });
    Ok(ContainerSpec {
        hostname: plan.hostname.clone(),
        root,
        dir: dir.to_owned(),
        argv: argv(plan, image)?,
        env: env(plan, image),
        working_dir: service.working_dir.clone().or_else(|| image.config.working_dir.clone()),
        user: service.user.clone().or_else(|| image.config.user.clone()),
        read_only: service.read_only,
        init: service.init,
        mounts: mounts(core, plan, image, dir)?,
        files: files.collect(),
        interfaces: interfaces(core, plan)?,
        limits: LIMITS.to_vec(),
    })
}

/// Docker's rule: a new entrypoint also drops the image's command.
fn argv(plan: &Plan, image: &Image) -> Result<Vec<String>> {
    let service = &plan.spec.service;
    let entrypoint = service.entrypoint.as_ref().unwrap_or(&image.config.entrypoint);
    let command = match (&service.command, &service.entrypoint) {
        (Some(command), _) => command.as_slice(),
        (None, Some(_)) => &[],
        (None, None) => &image.config.cmd,
    };
    let argv: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if argv.is_empty() {
        bail!("no command specified: neither the service nor the image `{}` has one", image.reference);
    }
    Ok(argv)
}

/// The image's environment, overridden by the service's.
fn env(plan: &Plan, image: &Image) -> Vec<(String, String)> {
    let own = &plan.spec.service.environment;
    let mut env: Vec<(String, String)> =
        image.config.env.iter().filter(|(key, _)| !own.contains_key(key)).cloned().collect();
    env.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    if image.root == Root::Builtin {
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", builtin::BIN);
        let defaults = [("PATH", path), (builtin::STANDS_IN_FOR, image.reference.clone())];
        env.extend(
            defaults.into_iter().filter(|(key, _)| !own.contains_key(*key)).map(|(key, value)| (key.into(), value)),
        );
    }
    env
}

fn mounts(core: &Core, plan: &Plan, image: &Image, dir: &Path) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    let anonymous = |number: usize| {
        let all = dir.join("anonymous");
        let path = all.join(number.to_string());
        std::fs::create_dir_all(&path).context("failed to create an anonymous volume")?;
        idmap::give(&all)?;
        idmap::give(&path)?;
        Ok::<_, anyhow::Error>(MountSource::Directory(path))
    };
    for (number, NamedMount { mount, volume }) in plan.spec.mounts.iter().enumerate() {
        let source = match (&mount.kind, volume) {
            (MountKind::Volume(_), Some(name)) => MountSource::Directory(core.dir("volumes").join(name)),
            (MountKind::Volume(key), None) => bail!("the volume `{key}` has no name"),
            (MountKind::Anonymous, _) => anonymous(number)?,
            (MountKind::Tmpfs { size }, _) => MountSource::Tmpfs { size: *size },
            (MountKind::Bind(path), _) => bail!(
                "invalid mount config for type \"bind\": `{}` at `{}`: the embedded engine mounts nothing of this \
                 machine into a container",
                path.display(),
                mount.target
            ),
        };
        let copy_up = !mount.no_copy;
        mounts.push(MountSpec { source, target: mount.target.clone(), read_only: mount.read_only, copy_up });
    }
    let declared =
        image.config.volumes.iter().filter(|path| !plan.spec.mounts.iter().any(|mount| mount.mount.target == **path));
    for (number, target) in (mounts.len()..).zip(declared.collect::<Vec<_>>()) {
        let source = anonymous(number)?;
        mounts.push(MountSpec { source, target: target.clone(), read_only: false, copy_up: true });
    }
    Ok(mounts)
}

fn interfaces(core: &Core, plan: &Plan) -> Result<Vec<Interface>> {
    if plan.addresses.len() < plan.spec.networks.len() {
        bail!("no address is left in one of the networks of the service");
    }
    let interface = |(network, address): &(String, std::net::Ipv4Addr)| {
        let number = core.read(|state: &state::State| state.networks.get(network).copied());
        let number = number.with_context(|| format!("the network `{network}` does not exist"))?;
        Ok(Interface { bridge: bridge_index(number), cable: core.next_cable(), address: *address, prefix: PREFIX })
    };
    plan.addresses.iter().map(interface).collect()
}
