//! `__ctr`: one process per container, outside its pid namespace, which makes its network and reports its end.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use super::super::fault::Step;
use super::super::wire::{self, Reply};
use super::netlink::{Cable, Netlink};
use super::{Stage, next_fd, request};

/// The index of a container's first interface; the following ones count up from it.
pub const FIRST_INTERFACE: u32 = 10;
/// Where containers ask for names, as under Docker.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A container to run. With it come the writing ends of its standard output and standard error, and whatever control
/// groups it is to be in, as the files by which a process enters them.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub hostname: String,
    pub root: RootSpec,
    /// The container's own directory on the host.
    pub dir: PathBuf,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub read_only: bool,
    /// A minimal init as pid 1, which reaps orphans and passes signals on.
    pub init: bool,
    pub mounts: Vec<MountSpec>,
    pub files: Vec<FileSpec>,
    pub interfaces: Vec<Interface>,
    pub limits: Vec<Limit>,
}

/// What a process of the container may use at most. Bytes, or a number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Limit {
    AddressSpace(u64),
    FileSize(u64),
    OpenFiles(u64),
    /// Of the container's user, all together.
    Processes(u64),
    /// The size of a core dump.
    Cores(u64),
    /// System V shared memory of the container, which no process has to hold. Kernels before 6.2 let none but the
    /// machine's own root bound it.
    SharedMemory(u64),
}

/// The limits of every process of an app. Processes are counted in the pod, for each user: more than any app has, and
/// few enough for the machine to go on.
pub const LIMITS: [Limit; 1] = [Limit::Processes(PROCESSES)];
pub const PROCESSES: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
pub enum RootSpec {
    /// The host's userland; `builtin` names the harness's executable and the reference it stands in for.
    Userland { builtin: Option<Builtin> },
    /// An unpacked image, never written to.
    Directory(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Builtin {
    pub program: PathBuf,
    pub stands_in_for: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MountSpec {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
    /// Fill an empty directory with what the image has at the target.
    pub copy_up: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum MountSource {
    Directory(PathBuf),
    Tmpfs { size: Option<u64> },
}

/// A secret or config: it only ever exists in memory.
#[derive(Serialize, Deserialize)]
pub struct FileSpec {
    pub target: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    #[serde(with = "wire::base64")]
    pub content: Vec<u8>,
}

impl std::fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileSpec({})", self.target)
    }
}

/// A container's place on a bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    pub bridge: u32,
    /// Index of the end at the bridge, unique in the pod.
    pub cable: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

/// What becomes of a container, told in this order.
#[derive(Debug, Serialize, Deserialize)]
pub enum ContainerEvent {
    /// The program runs. Beside it come a pidfd of the container's pid 1 and its resolver's socket, bound to
    /// [`RESOLVER`] port 53.
    Started {
        /// Why it is in no control group of its own, although there is one.
        refused: Option<String>,
    },
    /// Every process of the container is gone.
    Exited { code: i32 },
}

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (spec, fds) = request::<ContainerSpec>(socket)?;
    let mut fds = fds.into_iter();
    let output = [next_fd(&mut fds, "standard output")?, next_fd(&mut fds, "standard error")?];
    // Before anything of the image's is run, and for whatever is started from here on.
    let refused = enter_groups(fds).err().map(|error| format!("{error:#}"));
    let interfaces = spec.interfaces.clone();
    let mut pod_network = Netlink::open()?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP)
        .context(Step::Namespaces)?;
    let code = connect(&interfaces, &mut pod_network)
        .context(Step::Network)
        .and_then(|resolver| run_program(socket, spec, output, resolver, refused));
    // The address is free for the next container only when this one no longer answers for it. The kernel would remove
    // the cables with the namespace, but in its own time.
    for interface in &interfaces {
        pod_network.remove_cable(interface.cable)?;
    }
    wire::send(socket, &Reply::Ok(ContainerEvent::Exited { code: code? }), &[])
}

/// Runs the container to its end, and returns its exit code.
fn run_program(
    socket: &OwnedFd,
    spec: ContainerSpec,
    output: [OwnedFd; 2],
    resolver: UdpSocket,
    refused: Option<String>,
) -> Result<i32> {
    let (mut init, pidfd) = start_init(spec, output)?;
    wire::send(socket, &Reply::Ok(ContainerEvent::Started { refused }), &[pidfd.as_fd(), resolver.as_fd()])?;
    drop((pidfd, resolver));
    let status = init.wait().context("failed to wait for the container")?;
    Ok(crate::process::exit_code(status))
}

/// Enters control groups. The kernel asks what whoever opened the files may do, which is the keeper.
pub fn enter_groups(files: impl Iterator<Item = OwnedFd>) -> Result<()> {
    for file in files {
        File::from(file).write_all(b"0").context("failed to enter a control group")?;
    }
    Ok(())
}

/// Lets the kernel end this process, and what it starts, before any other when there is no memory left: an app is no
/// reason to end the harness, or whatever else runs on the machine.
pub fn first_to_go() {
    let _ = fs::write("/proc/self/oom_score_adj", "500");
}

/// Gives this network namespace its interfaces, and binds the resolver's socket in it.
fn connect(interfaces: &[Interface], pod_network: &mut Netlink) -> Result<UdpSocket> {
    let namespace = File::open("/proc/thread-self/ns/net").context("failed to open the network namespace")?;
    let mut network = Netlink::open()?;
    network.loopback_up()?;
    for (peer_index, interface) in (FIRST_INTERFACE..).zip(interfaces) {
        pod_network.add_cable(&Cable {
            bridge: interface.bridge,
            index: interface.cable,
            peer_name: &format!("eth{}", peer_index - FIRST_INTERFACE),
            peer_index,
            peer_mac: mac_of(interface.address),
            namespace: namespace.as_fd(),
        })?;
        network.bring_up(peer_index)?;
        network.add_address(peer_index, interface.address, interface.prefix)?;
    }
    // Ordinary users may bind port 80, as in a Docker container.
    sysctl("ip_unprivileged_port_start", "0")?;
    // Neighbours learn at once when an address moves to another container.
    sysctl("conf/all/arp_notify", "1")?;
    UdpSocket::bind((RESOLVER, 53)).context("failed to bind the resolver")
}

/// The hardware address that belongs to an address, as Docker's bridges have it: a new container that takes over an
/// address is reached without waiting for its neighbours' caches.
pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).with_context(|| format!("failed to set `{name}`"))
}

/// Starts pid 1 and waits until it has become the container's program.
fn start_init(spec: ContainerSpec, output: [OwnedFd; 2]) -> Result<(Child, OwnedFd)> {
    let (ours, theirs) = wire::pair()?;
    let mut init = Stage::Init.command(theirs).spawn().context(Step::Process)?;
    let pid = Pid::from_child(&init);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("failed to open a pidfd")?;
    wire::send(&ours, &spec, &[output[0].as_fd(), output[1].as_fd()])?;
    // The other end closes on exec: silence means that the program was started.
    if let Some((Err(fault), _)) = wire::receive::<Reply<()>>(&ours)? {
        let _ = init.wait();
        return Err(fault.into());
    }
    Ok((init, pidfd))
}
