//! Calls into a running container: commands and files.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::super::{CallError, Exec, ExecOutput};
use super::container::Container;
use super::core::Core;
use super::fault::errno;
use super::idmap;
use super::stage::Stage;
use super::stage::exec::ExecSpec;
use super::stage::files::FilesRequest;
use super::wire;
use crate::poll::{Look, Poll};

/// Of each stream of a command, more than this is read but not kept.
const MAX_OUTPUT: usize = 1024 * 1024;
/// A larger file is not for a test to hold in memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// How long a command's output may stay open after its end: a process it left behind may hold it for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the end of a container may lag behind the end of the commands that were killed with it: all of its processes
/// have to be gone first, which takes its time on a busy machine.
const DEATH_LAG: Duration = Duration::from_secs(2);
const KILLED: i32 = 128 + 9;

/// What a command left.
pub struct Finished {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub truncated: bool,
}

/// Runs a command in the newest running container of a service.
pub async fn exec(core: &Core, exec: &Exec) -> Result<ExecOutput, CallError> {
    let (task, container) = find(core, &exec.service)?;
    let finished = run(core, &container, &exec.argv, &exec.stdin, exec.user.as_deref(), exec.deadline).await;
    let what = || format!("failed to run `{}` in service `{}`", exec.argv.join(" "), exec.service);
    match finished {
        Ok(finished) if finished.code == KILLED && died(&container).await => {
            let partial = String::from_utf8_lossy(&finished.stdout).into_owned();
            Err(CallError::Interrupted(
                anyhow!("the container of task `{task}` ended during the command; its output so far: `{partial}`")
                    .context(what()),
            ))
        }
        Ok(Finished { code, stdout, stderr, truncated }) => Ok(ExecOutput { code, stdout, stderr, truncated, task }),
        Err(error) => Err(lost(&container, error.context(what())).await),
    }
}

/// Runs a command in a container; dropping the future kills it.
pub async fn run(
    core: &Core,
    container: &Container,
    argv: &[String],
    stdin: &[u8],
    user: Option<&str>,
    deadline: Duration,
) -> Result<Finished> {
    let spec = ExecSpec {
        argv: argv.to_vec(),
        env: container.env.clone(),
        hostname: container.hostname.clone(),
        user: user.map(str::to_owned).or_else(|| container.user.clone()),
        working_dir: container.working_dir.clone(),
    };
    let (their_in, our_in) = std::io::pipe().context("failed to make a pipe")?;
    let (our_out, their_out) = std::io::pipe().context("failed to make a pipe")?;
    let (our_err, their_err) = std::io::pipe().context("failed to make a pipe")?;
    for stream in [their_in.as_fd(), their_out.as_fd(), their_err.as_fd()] {
        idmap::give_stream(stream)?;
    }
    // One that is about to end takes the command along, with or without its group.
    let groups = core.groups.entrances(container.task()).unwrap_or_default();
    let fds = [container.process.as_fd(), their_in.as_fd(), their_out.as_fd(), their_err.as_fd()];
    let fds: Vec<_> = fds.into_iter().chain(groups.iter().map(AsFd::as_fd)).collect();
    let socket = core.pod.stage(Stage::Exec, &spec, &fds).await?;
    drop(fds);
    drop((groups, their_in, their_out, their_err));
    let (mut out, mut err) = (Captured::new(our_out.into())?, Captured::new(our_err.into())?);
    let mut input = pipe::Sender::from_owned_fd(our_in.into()).context("failed to open standard input")?;
    let feed = async move {
        // A command may end without reading its input: that is its own business.
        let _ = input.write_all(stdin).await;
    };
    let work = async {
        let read = async { tokio::join!(out.read(), err.read()) };
        tokio::pin!(read, feed);
        let (mut fed, mut drained) = (false, false);
        let reply = socket.reply::<i32>();
        tokio::pin!(reply);
        let code = loop {
            tokio::select! {
                code = &mut reply => break code?.0,
                () = &mut feed, if !fed => fed = true,
                _ = &mut read, if !drained => drained = true,
            }
        };
        if !drained {
            let _ = tokio::time::timeout(LAST_WORDS, &mut read).await;
        }
        Ok::<i32, anyhow::Error>(code)
    };
    let ended = tokio::time::timeout(deadline, work).await;
    let truncated = out.truncated || err.truncated;
    match ended {
        Ok(code) => Ok(Finished { code: code?, stdout: out.kept, stderr: err.kept, truncated }),
        Err(_) => Err(anyhow!(
            "it did not end within {} and was killed; its output so far: `{}` `{}`",
            humantime::format_duration(deadline),
            String::from_utf8_lossy(&out.kept),
            String::from_utf8_lossy(&err.kept)
        )),
    }
}

/// One stream of a command, read to its end and kept up to a limit.
struct Captured {
    reader: pipe::Receiver,
    kept: Vec<u8>,
    truncated: bool,
}

impl Captured {
    fn new(reader: OwnedFd) -> Result<Captured> {
        let reader = pipe::Receiver::from_owned_fd(reader).context("failed to open a command's output")?;
        Ok(Captured { reader, kept: Vec::new(), truncated: false })
    }

    async fn read(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = self.reader.read(&mut buffer).await {
            let room = MAX_OUTPUT - self.kept.len();
            self.kept.extend(&buffer[..read.min(room)]);
            self.truncated |= read > room;
        }
    }
}

pub async fn read_file(core: &Core, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
    let (_, container) = find(core, service)?;
    let request = FilesRequest::Read { path: absolute(path)? };
    let read = async {
        let ((), mut fds) = core.pod.call::<()>(Stage::Files, &request, &[container.process.as_fd()]).await?;
        read_all(fds.pop().context("the answer came without the file")?)
    };
    match read.await {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            Err(lost(&container, error.context(format!("failed to read a file of service `{service}`"))).await)
        }
    }
}

pub async fn write_file(core: &Core, service: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
    let (_, container) = find(core, service)?;
    let request = FilesRequest::Write { path: absolute(path)? };
    let write = async {
        let content = wire::memory_file(bytes)?;
        let fds = [container.process.as_fd(), content.as_fd()];
        core.pod.call::<()>(Stage::Files, &request, &fds).await.map(drop)
    };
    match write.await {
        Ok(()) => Ok(()),
        Err(error) => {
            Err(lost(&container, error.context(format!("failed to write a file of service `{service}`"))).await)
        }
    }
}

/// Relative to what would be anybody's guess.
fn absolute(path: &str) -> Result<PathBuf, CallError> {
    let absolute = path.starts_with('/').then(|| PathBuf::from(path));
    absolute.ok_or_else(|| CallError::Failed(anyhow!("`{path}` is no absolute path")))
}

/// Reads a file that a stage has opened for us.
pub fn read_all(file: OwnedFd) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes).context("failed to read the file")?;
    anyhow::ensure!(read as u64 <= MAX_FILE, "the file is larger than {} MiB", MAX_FILE >> 20);
    Ok(bytes)
}

/// The container to call into; a service that has none right now may have one soon.
fn find(core: &Core, service: &str) -> Result<(String, Arc<Container>), CallError> {
    core.pod.check().map_err(CallError::Failed)?;
    core.read(|state| {
        let record = state.known(service).map_err(CallError::Failed)?;
        let containers = || record.tasks.iter().filter_map(|task| Some((task.id.clone(), task.container.clone()?)));
        let running = record.running().find_map(|task| Some((task.id.clone(), task.container.clone()?)));
        running.or_else(|| containers().next()).ok_or_else(|| {
            let newest = record.tasks.first().map_or("it has no task".to_owned(), |task| {
                let error = if task.error.is_empty() { String::new() } else { format!(": {}", task.error) };
                format!("its newest task `{}` is {}{error}", task.id, task.phase)
            });
            CallError::Interrupted(anyhow!("service `{service}` has no running container: {newest}"))
        })
    })
}

/// Whether an error comes from the container's end, which a retry may outlive.
async fn lost(container: &Container, error: anyhow::Error) -> CallError {
    let errno = errno(&error).or_else(|| error.downcast_ref::<super::fault::Fault>().and_then(|fault| fault.errno));
    if errno == Some(nix::errno::Errno::ESRCH as i32) || is_dead(container) {
        CallError::Interrupted(error)
    } else if errno == Some(nix::errno::Errno::ENOENT as i32) {
        CallError::NotFound(error)
    } else {
        CallError::Failed(error)
    }
}

fn is_dead(container: &Container) -> bool {
    let mut polled = [rustix::event::PollFd::new(&container.process, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Whether the container is gone, or goes within the moment that its own end takes.
async fn died(container: &Container) -> bool {
    let poll = Poll { interval: Duration::from_millis(5), deadline: DEATH_LAG };
    let look = || {
        let look = if is_dead(container) { Look::Ready(()) } else { Look::NotYet("it runs".into()) };
        std::future::ready(Ok(look))
    };
    poll.until("the container's end", look).await.is_ok()
}
