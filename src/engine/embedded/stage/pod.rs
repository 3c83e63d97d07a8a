//! `__pod` and `__pod1`: the namespaces all containers of an app live in, and the process that holds them.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::super::fault::{Fault, Step};
use super::super::wire::{self, Reply};
use super::ground::{self, Ground};
use super::mounts::NOTHING;
use super::netlink::Netlink;
use super::{Stage, copy, mounts, next_fd};

/// What the pod tells the keeper while it comes up.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// In a user namespace of its own: the keeper may write the id maps now, and then send [`Mapped`].
    Unshared,
    /// The pod's first process, in the keeper's pid namespace.
    Started { pid: i32 },
    /// Requests are answered from now on.
    Ready,
}

/// The keeper wrote the id maps.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mapped;

/// What the keeper asks of the pod's first process. Every request carries a socket, where the answer goes.
#[derive(Debug, Serialize, Deserialize)]
pub enum PodRequest {
    /// Start a stage with the socket as its standard input. Only a failure is answered.
    Start(Stage),
    /// A TCP socket of the pod's network, not connected yet; the answer is `()` with a descriptor.
    TcpSocket,
    /// Make the bridge of a network.
    Bridge(Bridge),
    /// Lay a copy in memory over a directory; the answer is `()` with a descriptor of it.
    Scratch(Scratch),
}

/// A directory that the pod sees as a copy in memory, with everybody's leave to write, and never larger than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    pub dir: PathBuf,
    /// Bytes
    pub size: u64,
}

/// A network of the stack, inside the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    pub index: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

pub fn pod(socket: &OwnedFd) -> Result<()> {
    // Keys belong to sessions, and to no namespace: those of whoever started the harness stay outside. A kernel without
    // keys has none to hide.
    let _ = keyutils::Keyring::join_anonymous_session();
    let Some((ground, _)) = wire::receive::<Ground>(socket)? else { return Ok(()) };
    // A session of its own: Ctrl-C at the keeper's terminal is the keeper's business, not the containers'.
    nix::unistd::setsid().context("failed to start a session")?;
    stop_ignoring_signals()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Whoever owns the working directory, it is none of the pod's.
    nix::unistd::chdir("/").context("failed to leave the working directory")?;
    if ground.foreign {
        unshare(CloneFlags::CLONE_NEWNS).context(Step::Namespaces)?;
        ground::lay(&ground)?;
    }
    unshare(CloneFlags::CLONE_NEWUSER).context(Step::UserNamespace)?;
    wire::send(socket, &Reply::Ok(Hello::Unshared), &[])?;
    let Some((Mapped, _)) = wire::receive(socket)? else { return Ok(()) };
    nix::unistd::setgid(0.into()).and_then(|()| nix::unistd::setuid(0.into())).context(Step::IdMap)?;
    // Refused where only one id is mapped, and then there is nothing to gain by it either.
    let _ = nix::unistd::setgroups(&[]);
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .context(Step::Namespaces)?;
    if !ground.foreign {
        ground::lay(&ground)?;
    }
    Netlink::open()?.loopback_up().context(Step::Network)?;
    let socket_for_init = socket.try_clone().context("failed to copy a socket")?;
    let mut init = Stage::PodInit.of(&ground.program, socket_for_init).spawn().context(Step::Process)?;
    wire::send(socket, &Reply::Ok(Hello::Started { pid: init.id() as i32 }), &[])?;
    init.wait().context("failed to wait for the pod's first process")?;
    Ok(())
}

/// A signal that the keeper's shell made it ignore, as `nohup` and `&` do, would be ignored by every container's
/// program, too. One that is handled here is at its default again after the next exec.
fn stop_ignoring_signals() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read `/proc/self/status`")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // Rust ignores SIGPIPE in every program, and undoes it for its children.
    let ignored = Signal::iterator().filter(|signal| mask & (1 << (*signal as i32 - 1)) != 0);
    for signal in ignored.filter(|signal| *signal != Signal::SIGPIPE) {
        signal_hook::flag::register(signal as i32, Arc::default())
            .with_context(|| format!("failed to stop ignoring {signal}"))?;
    }
    Ok(())
}

/// Pid 1 of the pod. It ends when the keeper's end of the socket is closed, and the kernel then kills every process
/// of the pod: no container survives its keeper.
pub fn pod_init(socket: &OwnedFd) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("failed to tie the pod to its parent")?;
    // Anew, for a namespace that is another user's follows what is mounted outside.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context(Step::Namespaces)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NOTHING).context(Step::MountProc)?;
    // In a user namespace of its own a container would be root of more than it is given. The filter of system calls
    // refuses it as well, so that a kernel that keeps this to itself is no hole.
    let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
    let children = SigSet::from(Signal::SIGCHLD);
    children.thread_block().context("failed to block SIGCHLD")?;
    let deaths = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("failed to watch for dead children")?;
    wire::send(socket, &Reply::Ok(Hello::Ready), &[])?;
    loop {
        let mut polled = [PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(deaths.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("failed to poll"),
        }
        let (asked, died) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
        if died {
            reap(&deaths);
        }
        if asked {
            let Some((ask, fds)) = wire::receive::<PodRequest>(socket)? else { return Ok(()) };
            let answer_to = next_fd(&mut fds.into_iter(), "socket")?;
            serve(ask, answer_to);
        }
    }
}

/// Stages and orphans alike become children of pid 1 in the end.
fn reap(deaths: &SignalFd) {
    while let Ok(Some(_)) = deaths.read_signal() {}
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Answers one request. An answer that nobody waits for any more is not an error.
fn serve(ask: PodRequest, answer_to: OwnedFd) {
    let result = match ask {
        PodRequest::Start(stage) => start(stage, &answer_to),
        PodRequest::TcpSocket => tcp_socket(&answer_to),
        PodRequest::Bridge(bridge) => make_bridge(&bridge, &answer_to),
        PodRequest::Scratch(scratch) => make_scratch(&scratch, &answer_to),
    };
    if let Err(error) = result {
        let _ = wire::send(&answer_to, &Reply::<()>::Err(Fault::from(&error)), &[]);
    }
}

fn start(stage: Stage, socket: &OwnedFd) -> Result<()> {
    if matches!(stage, Stage::Pod | Stage::PodInit | Stage::Init) {
        bail!("`{}` is not for the pod to start", stage.name());
    }
    let socket = socket.try_clone().context("failed to copy a socket")?;
    stage.command(socket).spawn().context(Step::Process)?;
    Ok(())
}

fn tcp_socket(answer_to: &OwnedFd) -> Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        .context("failed to create a socket in the pod")?;
    wire::send(answer_to, &Reply::Ok(()), &[socket.as_fd()])
}

fn make_bridge(bridge: &Bridge, answer_to: &OwnedFd) -> Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.add_bridge(bridge.index).context(Step::Network)?;
    netlink.add_address(bridge.index, bridge.address, bridge.prefix).context(Step::Network)?;
    wire::send(answer_to, &Reply::Ok(()), &[])
}

fn make_scratch(Scratch { dir, size }: &Scratch, answer_to: &OwnedFd) -> Result<()> {
    let open = |flags| {
        rustix::fs::open(dir, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("failed to open `{}`", dir.display()))
    };
    let original = open(OFlags::RDONLY)?;
    // Each file takes memory of the kernel, however small it is.
    let options = format!("mode=777,size={size},nr_inodes=4096");
    mounts::tmpfs(dir, &options, MsFlags::MS_NOSUID | MsFlags::MS_NODEV).context(Step::Mounts)?;
    let copy = open(OFlags::RDONLY)?;
    copy::between(&original, &copy).context(Step::Mounts)?;
    wire::send(answer_to, &Reply::Ok(()), &[copy.as_fd()])
}
