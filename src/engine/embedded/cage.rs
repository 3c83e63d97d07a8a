//! A cage for code of a recipe that runs on this machine and not in one of the app's own containers: a pod with one
//! container, which sees the machine's programs, what it is given, the app, and nothing else.
//!
//! What it does not see: the home directories, the environment, the Docker socket, any network but a door to the app.
//! It ends at its deadline, when it uses too much, and with every process that it started. It is a container and no
//! virtual machine: it shares the kernel.

pub mod door;
mod watch;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::core::bridge_index;
use super::idmap;
use super::pod::{Pod, executable};
use super::stage::Stage;
use super::stage::container::{
    Builtin, ContainerEvent, ContainerSpec, Interface, Limit, MountSource, MountSpec, RootSpec,
};
use super::stage::pod::{Bridge, Scratch};
use super::state::{self, PREFIX};
use door::Changes;
pub use watch::Limits;
use watch::Watch;
pub(super) use watch::used;

/// Of the output only the end is kept: what went wrong stands there.
const KEPT: usize = 64 * 1024;
/// A killed container is gone in milliseconds.
const DEATH: Duration = Duration::from_secs(10);
const CABLE: u32 = 2_000_000;
/// How often it is looked at what a cage uses.
const LOOK: Duration = Duration::from_millis(100);

/// The limits of every process in a cage.
const PROGRAM: [Limit; 6] = [
    Limit::AddressSpace(4 << 30),
    Limit::FileSize(256 << 20),
    Limit::OpenFiles(1024),
    // Counted over the whole cage, whose user has no other processes.
    Limit::Processes(256),
    Limit::Cores(0),
    Limit::SharedMemory(64 << 20),
];

/// A browser reserves far more addresses than it uses, and each of its many threads counts as a process.
const BROWSER: [Limit; 5] = [
    Limit::FileSize(256 << 20),
    Limit::OpenFiles(4096),
    Limit::Processes(1024),
    Limit::Cores(0),
    Limit::SharedMemory(64 << 20),
];

/// A program to run in a cage, and all that it is given.
#[derive(Clone, Debug, Default)]
pub struct Cage {
    pub argv: Vec<String>,
    /// The whole environment, but for `PATH`, `HOME` and `HOSTNAME`.
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub mounts: Vec<Given>,
    /// This executable, where one of its own programs is to run: `builtin::BIN` has them.
    pub own: Option<PathBuf>,
    pub kind: Kind,
    /// The way to the app, if there is one.
    pub door: Option<Door>,
    /// The way to whoever runs the program, if there is one.
    pub hatch: Option<Hatch>,
    pub deadline: Duration,
    /// What all its processes may use together.
    pub limits: Limits,
}

/// What a program is, and with it what each of its processes may use.
#[derive(Clone, Copy, Debug, Default)]
pub enum Kind {
    #[default]
    Program,
    Browser,
}

/// A directory of this machine that the program sees.
#[derive(Clone, Debug)]
pub struct Given {
    pub from: PathBuf,
    pub target: String,
    /// Bytes that the program may have in it, in a copy in memory; `None` when it may only read.
    pub writable: Option<u64>,
}

/// The one address that a cage reaches: `domain` and `port` inside lead to `to` outside.
#[derive(Clone, Debug)]
pub struct Door {
    pub domain: String,
    pub port: u16,
    pub to: SocketAddr,
    pub changes: Changes,
}

/// An address inside of a cage whose connections are handed to this process: nobody outside of the cage can reach it.
#[derive(Clone, Debug)]
pub struct Hatch {
    pub name: String,
    pub port: u16,
    pub to: mpsc::Sender<TcpStream>,
}

/// What became of a program in a cage.
#[derive(Debug)]
pub struct Ended {
    pub how: How,
    /// The end of what it wrote, on both streams.
    pub output: String,
    /// The directories that it could write to, as it left them, in the order in which they were given.
    pub left: Vec<OwnedFd>,
}

/// How a program in a cage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    Exited(i32),
    /// It was killed at this deadline.
    Late(Duration),
    /// It was killed because it used this: `more than 2048 MiB of memory in all`.
    Beyond(String),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Exited(code) => write!(f, "exited with code {code}"),
            How::Late(deadline) => {
                write!(f, "did not end within {}, and was killed", humantime::format_duration(*deadline))
            }
            How::Beyond(what) => write!(f, "used {what}, and was killed"),
        }
    }
}

impl Cage {
    /// Runs the program to its end. Only trouble of this machine is an error. `dir` is a directory below which nobody
    /// else writes; nothing is left in it.
    pub async fn run(&self, dir: &Path) -> Result<Ended> {
        let dir = tempfile::Builder::new().prefix("cage-").tempdir_in(dir);
        let dir = dir.context("failed to create a directory for a cage")?;
        let container = dir.path().join("container");
        fs::DirBuilder::new().mode(0o700).create(&container).context("failed to create the cage's own directory")?;
        idmap::give(dir.path())?;
        idmap::give(&container)?;
        let program = executable(dir.path())?;
        let places = self.mounts.iter().map(|given| given.from.clone());
        let places = places.chain([dir.path().to_owned()]).chain(self.own.clone()).collect();
        let pod = Pod::start(&program, places, &dir.path().join("pod.log")).await.context("failed to start a cage")?;
        let ended = self.run_in(&pod, &container).await;
        let removed = pod.remove_dir(&container).await.context("failed to clear a cage");
        let over = pod.end().await;
        let ended = ended?;
        removed.and(over)?;
        dir.close().context("failed to remove a cage's directory")?;
        Ok(ended)
    }

    async fn run_in(&self, pod: &Pod, dir: &Path) -> Result<Ended> {
        let gateway = state::gateway(0);
        let bridge = Bridge { index: bridge_index(0), address: gateway, prefix: PREFIX };
        pod.add_bridge(bridge).await.context("failed to make the network of a cage")?;
        let _door = match &self.door {
            Some(door) => Some(door.open(pod, gateway).await?),
            None => None,
        };
        let _hatch = match &self.hatch {
            Some(hatch) => Some(hatch.open(pod, gateway).await?),
            None => None,
        };
        let mut left = Vec::new();
        for (given, size) in self.mounts.iter().filter_map(|given| Some((given, given.writable?))) {
            left.push(
                pod.scratch(Scratch { dir: given.from.clone(), size }).await.context("failed to make a scratch")?,
            );
        }
        fs::write(dir.join("hosts"), self.hosts(gateway)).context("failed to write the host table")?;
        idmap::give(&dir.join("hosts"))?;
        let (reader, writer) = std::io::pipe().context("failed to make a pipe")?;
        idmap::give_stream(&writer)?;
        let reading = tokio::spawn(read_end(reader.into()));
        let events = pod.stage(Stage::Container, &self.spec(dir, gateway), &[writer.as_fd(), writer.as_fd()]).await?;
        drop(writer);
        let (_, fds) = events.reply::<ContainerEvent>().await.context("failed to start the program in a cage")?;
        let process = fds.into_iter().next().context("the container came without its process")?;
        let exit = async {
            match events.reply::<ContainerEvent>().await.context("lost the cage")?.0 {
                ContainerEvent::Exited { code } => Ok(code),
                ContainerEvent::Started { .. } => bail!("a container started twice"),
            }
        };
        tokio::pin!(exit);
        let how = tokio::select! {
            code = &mut exit => How::Exited(code?),
            () = tokio::time::sleep(self.deadline) => How::Late(self.deadline),
            beyond = self.watch(&process) => How::Beyond(beyond?),
        };
        if !matches!(how, How::Exited(_)) {
            // Pid 1 of a namespace takes every process in it along.
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
            tokio::time::timeout(DEATH, exit).await.context("a killed cage did not end")??;
        }
        let output = tokio::time::timeout(DEATH, reading).await.context("the output of a cage did not end")?;
        Ok(Ended { how, output: output.context("failed to read the output of a cage")??, left })
    }

    /// Ends when the processes use too much together, and says of what.
    async fn watch(&self, init: &OwnedFd) -> Result<String> {
        let mut watch = Watch::new(pid_of(init)?, self.limits);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let look = tokio::task::spawn_blocking(move || (watch.look(), watch));
            let (beyond, back) = look.await.context("failed to look at what a cage uses")?;
            watch = back;
            if let Some(beyond) = beyond {
                return Ok(beyond);
            }
        }
    }

    fn spec(&self, dir: &Path, gateway: Ipv4Addr) -> ContainerSpec {
        let [a, b, c, d] = gateway.octets();
        let builtin = self.own.clone().map(|program| Builtin { program, stands_in_for: "cage".into() });
        let limits = match self.kind {
            Kind::Program => PROGRAM.to_vec(),
            Kind::Browser => BROWSER.to_vec(),
        };
        let mounts = self.mounts.iter().map(|given| MountSpec {
            source: MountSource::Directory(given.from.clone()),
            target: given.target.clone(),
            read_only: given.writable.is_none(),
            copy_up: false,
        });
        ContainerSpec {
            hostname: "cage".into(),
            root: RootSpec::Userland { builtin },
            dir: dir.to_owned(),
            argv: self.argv.clone(),
            env: self.env.clone(),
            working_dir: Some(self.working_dir.clone()),
            user: user(),
            read_only: false,
            // Orphans are reaped, so that they do not use up the processes it may have.
            init: true,
            mounts: mounts.collect(),
            files: Vec::new(),
            interfaces: vec![Interface {
                bridge: bridge_index(0),
                cable: CABLE,
                address: Ipv4Addr::new(a, b, c, d + 1),
                prefix: PREFIX,
            }],
            limits,
        }
    }

    fn hosts(&self, gateway: Ipv4Addr) -> String {
        let names = self.door.iter().map(|door| &door.domain).chain(self.hatch.iter().map(|hatch| &hatch.name));
        let lines = names.map(|name| format!("{gateway} {name}\n"));
        format!("127.0.0.1 localhost\n{}", lines.collect::<String>())
    }
}

/// The number of the process that a pidfd stands for.
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let info = info.context("failed to look a cage's first process up")?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.and_then(|pid| pid.trim().parse().ok()).context("failed to look a cage's first process up: it has no number")
}

/// Root's own cage belongs to nobody. An ordinary user's belongs to that user, who is root only inside of it: there
/// may be no other id, and what the program writes has to be readable outside.
fn user() -> Option<String> {
    rustix::process::getuid().is_root().then(|| "65534:65534".to_owned())
}

/// An open door; dropping it closes it.
struct Opened(JoinHandle<()>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Door {
    /// Listens inside the pod, and connects outside: the cage has no route to anywhere.
    async fn open(&self, pod: &Pod, gateway: Ipv4Addr) -> Result<Opened> {
        let listener = listen(pod, gateway, self.port).await?;
        Ok(Opened(tokio::spawn(serve(listener, self.to, self.changes.clone().into()))))
    }
}

impl Hatch {
    async fn open(&self, pod: &Pod, gateway: Ipv4Addr) -> Result<Opened> {
        let listener = listen(pod, gateway, self.port).await?;
        let to = self.to.clone();
        Ok(Opened(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if to.send(stream).await.is_err() {
                    return;
                }
            }
        })))
    }
}

async fn listen(pod: &Pod, gateway: Ipv4Addr, port: u16) -> Result<TcpListener> {
    let socket = pod.tcp_socket().await?;
    let failed = || format!("failed to open port {port} of a cage");
    socket.bind(SocketAddr::new(IpAddr::V4(gateway), port)).with_context(failed)?;
    socket.listen(64).with_context(failed)
}

/// Ends with its connections when the door is closed.
async fn serve(listener: TcpListener, to: SocketAddr, changes: Arc<Changes>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((inside, _)) = listener.accept().await {
        let changes = changes.clone();
        connections.spawn(async move {
            let Ok(outside) = TcpStream::connect(to).await else { return };
            let _ = door::pass(inside, outside, &changes).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Reads a stream to its end, and keeps the last of it.
async fn read_end(reader: OwnedFd) -> Result<String> {
    let mut reader = pipe::Receiver::from_owned_fd(reader).context("failed to read the output of a cage")?;
    let (mut kept, mut buffer) = (Vec::new(), vec![0; KEPT]);
    while let read @ 1.. = reader.read(&mut buffer).await.context("failed to read the output of a cage")? {
        kept.extend(&buffer[..read]);
        let cut = kept.len().saturating_sub(KEPT);
        kept.drain(..cut);
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}
