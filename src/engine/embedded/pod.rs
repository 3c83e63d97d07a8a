//! The keeper's side of a pod: starting it, asking it for stages and sockets, and ending it.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpSocket;

use super::fault::Step;
use super::idmap::{self, IdMap};
use super::stage::Stage;
use super::stage::ground::Ground;
use super::stage::pod::{Bridge, Hello, Mapped, PodRequest, Scratch};
use super::stage::volume::{VolumeAction, VolumeRequest};
use super::wire::{self, Socket};

/// A pod comes up in milliseconds; one that needs longer than this does not come up.
const START: Duration = Duration::from_secs(30);
/// The kernel ends a pod's processes in milliseconds; longer than this means that it cannot.
const END: Duration = Duration::from_secs(10);

/// A running pod. Dropping it ends every process in it.
pub struct Pod {
    control: Socket,
    child: Mutex<Option<Child>>,
    /// Held open so that the kernel cannot give the namespace's number to another one while we count by it.
    pub user_namespace: File,
    /// The two processes that hold the pod: `__pod` and its child, pid 1 inside.
    pub pids: [i32; 2],
    pub id_map: IdMap,
}

impl Pod {
    /// Starts a pod from this executable, found by [`executable`], that works on these directories; messages of its
    /// stages go to `log`.
    pub async fn start(program: &Path, places: Vec<PathBuf>, log: &Path) -> Result<Pod> {
        let (ours, theirs) = wire::pair()?;
        let foreign = idmap::first_id().is_some();
        wire::send(&ours, &Ground { program: program.to_owned(), places, foreign }, &[])?;
        let log = File::options().create(true).append(true).open(log);
        let log = log.context("failed to open the pod's log")?;
        let child = Stage::Pod.of(program, theirs).stderr(log).spawn().context(Step::Process)?;
        let mut starting = Starting { control: Some(Socket::new(ours)?), child: Some(child) };
        match tokio::time::timeout(START, starting.greet()).await {
            Ok(pod) => pod,
            Err(_) => bail!("the pod did not come up within {}", humantime::format_duration(START)),
        }
    }

    /// Starts a stage with its request; the answers come from the socket.
    pub async fn stage(&self, stage: Stage, request: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<Socket> {
        let (ours, theirs) = wire::pair()?;
        let socket = Socket::new(ours)?;
        socket.send(request, fds).await?;
        self.ask(&PodRequest::Start(stage), theirs.as_fd()).await?;
        Ok(socket)
    }

    /// Starts a stage that gives one answer.
    pub async fn call<T: DeserializeOwned>(
        &self,
        stage: Stage,
        request: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(T, Vec<OwnedFd>)> {
        self.stage(stage, request, fds).await?.reply().await
    }

    /// A TCP socket in the pod's network: it reaches every container.
    pub async fn tcp_socket(&self) -> Result<TcpSocket> {
        let (ours, theirs) = wire::pair()?;
        self.ask(&PodRequest::TcpSocket, theirs.as_fd()).await?;
        drop(theirs);
        let ((), mut fds) = Socket::new(ours)?.reply().await?;
        let fd = fds.pop().context("the pod answered without a socket")?;
        Ok(TcpSocket::from_std_stream(fd.into()))
    }

    pub async fn add_bridge(&self, bridge: Bridge) -> Result<()> {
        let (ours, theirs) = wire::pair()?;
        self.ask(&PodRequest::Bridge(bridge), theirs.as_fd()).await?;
        drop(theirs);
        Socket::new(ours)?.reply().await.map(|((), _)| ())
    }

    /// Lays a copy in memory over a directory, for the pod alone, and returns a descriptor of that. What is in it can be
    /// read as long as the descriptor lives.
    pub async fn scratch(&self, scratch: Scratch) -> Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        self.ask(&PodRequest::Scratch(scratch), theirs.as_fd()).await?;
        drop(theirs);
        let ((), mut fds) = Socket::new(ours)?.reply().await?;
        fds.pop().context("the pod answered without a directory")
    }

    /// Removes a directory with all that containers left in it.
    pub async fn remove_dir(&self, dir: &Path) -> Result<()> {
        let request = VolumeRequest { dir: dir.to_owned(), action: VolumeAction::Remove };
        self.call(Stage::Volume, &request, &[]).await.map(|((), _)| ())
    }

    /// The number of the pod's user namespace, which every process of the pod shares.
    pub fn namespace_number(&self) -> Result<u64> {
        Ok(self.user_namespace.metadata().context("failed to look at the user namespace")?.ino())
    }

    /// Ends the pod and waits until its processes are gone.
    pub async fn end(&self) -> Result<()> {
        self.control.close();
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return Ok(()) };
        let pid = child.id() as i32;
        let waiting = tokio::task::spawn_blocking(move || child.wait());
        match tokio::time::timeout(END, waiting).await {
            Ok(_) => Ok(()),
            Err(_) => {
                // The stage's parent-death signal then takes pid 1 with it.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                bail!("the pod did not end within {}; it was killed", humantime::format_duration(END))
            }
        }
    }

    /// Fails when the pod has ended although nobody asked it to: that is trouble of this machine, and nothing that
    /// happens to the services then says anything about them.
    pub fn check(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(child) = child.as_mut() else { return Ok(()) };
        match child.try_wait().context("failed to look after the pod")? {
            None => Ok(()),
            Some(status) => {
                bail!("the pod is gone ({status}): its process {} was killed, perhaps for want of memory", child.id())
            }
        }
    }

    /// Ends the pod at once.
    pub fn kill(&self) {
        reap(self.child.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn ask(&self, request: &PodRequest, answer_to: BorrowedFd<'_>) -> Result<()> {
        self.control.send(request, &[answer_to]).await.context("the pod is gone")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A pod that is not up yet; dropping it ends it.
struct Starting {
    control: Option<Socket>,
    child: Option<Child>,
}

impl Starting {
    async fn greet(&mut self) -> Result<Pod> {
        let (mut init, mut ready) = (None, false);
        let pid = self.child.as_ref().context("the pod was not started")?.id();
        let mut found = None;
        while init.is_none() || !ready {
            let control = self.control.as_ref().context("the pod was not started")?;
            match control.reply::<Hello>().await?.0 {
                Hello::Unshared => {
                    let id_map = idmap::write(pid).await?;
                    let namespace =
                        File::open(format!("/proc/{pid}/ns/user")).context("failed to open the user namespace")?;
                    found = Some((id_map, namespace));
                    control.send(&Mapped, &[]).await?;
                }
                Hello::Started { pid } => init = Some(pid),
                Hello::Ready => ready = true,
            }
        }
        let (id_map, user_namespace) = found.context("the pod came up without a user namespace")?;
        let control = self.control.take().context("the pod was not started")?;
        let pids = [pid as i32, init.unwrap_or_default()];
        Ok(Pod { control, child: Mutex::new(self.child.take()), user_namespace, pids, id_map })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        reap(self.child.take());
    }
}

/// Kills the outer process, whose death takes the whole pod with it, so that the wait is short.
fn reap(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The path of this process's executable, for mounting it into containers; a copy in `dir` when it was replaced or
/// removed since it was started, as a rebuild does, or when a pod's root may not read it.
pub fn executable(dir: &Path) -> Result<PathBuf> {
    let running = fs::metadata("/proc/self/exe").context("failed to look at this program")?;
    if let Ok(path) = fs::read_link("/proc/self/exe")
        && fs::metadata(&path).is_ok_and(|file| (file.dev(), file.ino()) == (running.dev(), running.ino()))
        && (idmap::first_id().is_none() || running.mode() & 0o005 == 0o005)
    {
        return Ok(path);
    }
    let copy = dir.join("program");
    fs::copy("/proc/self/exe", &copy).context("failed to copy this program")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).context("failed to copy this program")?;
    Ok(copy)
}
