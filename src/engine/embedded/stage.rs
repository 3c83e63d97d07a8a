//! The stages: hidden subcommands of whatever executable links this library.
//!
//! Namespaces are entered by processes of their own, started by fork and exec, so that the keeper's threads never
//! meet a raw clone. Every stage is alone in its process and has one thread; its standard input is its socket.

pub mod container;
pub mod copy;
pub mod exec;
pub mod files;
pub mod filter;
pub mod ground;
pub mod init;
pub mod mounts;
pub mod netlink;
pub mod pod;
pub mod reaper;
pub mod root;
pub mod system;
pub mod tree;
pub mod user;
pub mod volume;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::signal::SigSet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::builtin;
use super::fault::Fault;
use super::wire::{self, Reply};

/// Which stage a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Makes the pod's namespaces and waits for its first process.
    Pod,
    /// Pid 1 of the pod: starts the other stages on request, and ends the pod by ending.
    PodInit,
    /// Makes a container's network and pid namespaces and waits for it.
    Container,
    /// Pid 1 of a container until it becomes the container's own program.
    Init,
    /// Runs a command in a container.
    Exec,
    /// Reads and writes files as a container sees them.
    Files,
    /// Works on a volume or another directory of the pod, whoever owns the files in it.
    Volume,
}

const ALL: [Stage; 7] =
    [Stage::Pod, Stage::PodInit, Stage::Container, Stage::Init, Stage::Exec, Stage::Files, Stage::Volume];

impl Stage {
    /// The subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Pod => "__pod",
            Stage::PodInit => "__pod1",
            Stage::Container => "__ctr",
            Stage::Init => "__init",
            Stage::Exec => "__exec",
            Stage::Files => "__files",
            Stage::Volume => "__volume",
        }
    }

    /// A command that becomes this stage, with `socket` as its standard input and nothing inherited but standard
    /// error.
    pub fn command(self, socket: OwnedFd) -> Command {
        self.of(Path::new("/proc/self/exe"), socket)
    }

    /// The same from a given path of this executable.
    pub fn of(self, program: &Path, socket: OwnedFd) -> Command {
        let mut command = crate::process::command(program);
        command.arg(self.name()).env_clear().stdin(socket).stdout(std::process::Stdio::null());
        command
    }
}

/// Runs the stage or built-in program that this process was started as; `None` when it was started as neither.
///
/// Every executable that uses the embedded engine calls this first thing in `main`.
pub fn stage() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if let Some(code) = Path::new(&program).file_name().and_then(OsStr::to_str).and_then(builtin::run) {
        return Some(code);
    }
    let first = args.next()?;
    if let Some(code) = first.to_str().and_then(super::image::stage) {
        return Some(code);
    }
    let stage = ALL.into_iter().find(|stage| first == stage.name())?;
    Some(match run(stage) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error:#}", stage.name());
            ExitCode::FAILURE
        }
    })
}

fn run(stage: Stage) -> Result<ExitCode> {
    crate::process::harden::close_inherited().context("failed to close what was inherited")?;
    let socket = take_socket()?;
    // A mask is inherited, even by a container's program: pid 1 of the pod blocks SIGCHLD for itself alone.
    SigSet::empty().thread_set_mask().context("failed to unblock signals")?;
    match stage {
        Stage::Pod => answer(&socket, pod::pod(&socket)),
        Stage::PodInit => answer(&socket, pod::pod_init(&socket)),
        Stage::Container => answer(&socket, container::run(&socket)),
        Stage::Init => answer(&socket, init::run(&socket)),
        Stage::Exec => answer(&socket, exec::run(&socket)),
        Stage::Files => answer(&socket, files::run(&socket)),
        Stage::Volume => answer(&socket, volume::run(&socket)),
    }
}

/// A stage answers its requests itself; what it fails with goes out as its last packet.
fn answer(socket: &OwnedFd, result: Result<()>) -> Result<ExitCode> {
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            wire::send(socket, &Reply::<()>::Err(Fault::from(&error)), &[])?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Moves the socket away from standard input, so that no program started later inherits it.
fn take_socket() -> Result<OwnedFd> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("failed to take the stage's socket")?;
    let null = File::open("/dev/null").context("failed to open `/dev/null`")?;
    rustix::stdio::dup2_stdin(&null).context("failed to replace standard input")?;
    Ok(socket)
}

/// The request a stage was started for.
fn request<T: DeserializeOwned>(socket: &OwnedFd) -> Result<(T, Vec<OwnedFd>)> {
    wire::receive(socket)?.context("the keeper is gone")
}

/// The next descriptor of a packet.
fn next_fd(fds: &mut std::vec::IntoIter<OwnedFd>, what: &str) -> Result<OwnedFd> {
    fds.next().with_context(|| format!("the request came without its {what}"))
}
