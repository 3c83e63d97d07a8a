//! `__exec`: runs a command in a running container.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Child;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

use super::super::wire::{self, Reply};
use super::container::{LIMITS, enter_groups, first_to_go};
use super::init::limit;
use super::user::Identity;
use super::{next_fd, request};

/// A command. With it come the pidfd of the container's pid 1, the command's three standard streams, and the container's
/// control groups as for [`super::container::ContainerSpec`]. The answer is its exit code; the command is killed when the socket is closed before.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub hostname: String,
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (spec, fds) = request::<ExecSpec>(socket)?;
    let mut fds = fds.into_iter();
    let container = next_fd(&mut fds, "container")?;
    let (stdin, stdout) = (next_fd(&mut fds, "standard input")?, next_fd(&mut fds, "standard output")?);
    let stderr = next_fd(&mut fds, "standard error")?;
    first_to_go();
    // A command has no more than its container, where there are groups at all.
    let _ = enter_groups(fds);
    enter(&container)?;
    let identity = Identity::find(spec.user.as_deref())?;
    identity.own([&stdin, &stdout, &stderr]);
    limit(&LIMITS)?;
    identity.assume()?;
    let dir = spec.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/");
    nix::unistd::chdir(dir).with_context(|| format!("failed to enter `{dir}`"))?;
    let (program, args) = spec.argv.split_first().context("no command given")?;
    let mut command = crate::process::command(program);
    command.args(args).env_clear().envs(identity.environment(&spec.env, &spec.hostname));
    let complain_to = stderr.try_clone().context("failed to copy standard error")?;
    command.process_group(0).stdin(stdin).stdout(stdout).stderr(stderr);
    let spawned = command.spawn();
    // The command holds the other copies of its streams: its end must be their end.
    drop(command);
    let code = match spawned {
        Ok(child) => {
            drop(complain_to);
            wait(child, socket)?
        }
        Err(error) => {
            let _ = writeln!(std::fs::File::from(complain_to), "failed to run `{program}`: {error}");
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
    };
    wire::send(socket, &Reply::Ok(code), &[])
}

/// Joins every namespace of the container at once, through the pidfd: a number could mean another process by now.
fn enter(container: &OwnedFd) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS;
    setns(container, namespaces).context("failed to enter the container")
}

/// The exit code; when nobody waits for it any more, the whole process group is killed.
fn wait(mut child: Child, socket: &OwnedFd) -> Result<i32> {
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("failed to open a pidfd")?;
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("failed to poll"),
        }
        if polled[0].revents().is_empty() && !polled[1].revents().is_empty() {
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        }
        if !polled[0].revents().is_empty() || !polled[1].revents().is_empty() {
            return Ok(crate::process::exit_code(child.wait().context("failed to wait for the command")?));
        }
    }
}
