//! A minimal init for services that ask for one (`init: true`), as Docker's: it passes signals on and reaps orphans.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::wire::{self, Reply};

/// Runs the program as a child and ends as it ended. Only a failure to start it is an error.
pub fn run(command: &mut Command, socket: &OwnedFd) -> Result<()> {
    // Signals are blocked after the start, since the child would inherit the mask.
    let child = command.process_group(0).spawn()?;
    let child = Pid::from_raw(child.id() as i32);
    let mut signals = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL] {
        signals.remove(fault);
    }
    signals.thread_block().context("failed to block signals")?;
    wire::send(socket, &Reply::Ok(()), &[])?;
    loop {
        // First of all: the child may have ended before its signal was blocked.
        if let Some(code) = reap(child) {
            return end(code);
        }
        match signals.wait().context("failed to wait for a signal")? {
            Signal::SIGCHLD => {}
            signal => {
                let _ = killpg(child, signal);
            }
        }
    }
}

/// Reaps every dead child; the exit code once the program itself is among them.
fn reap(program: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, exit)) if pid == program => code = Some(exit),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}

/// Ends this process with the program's code: by `exit`, since the parent only sees this process.
#[expect(clippy::disallowed_methods, reason = "pid 1 of a container owns nothing that a destructor would release")]
fn end(code: i32) -> Result<()> {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    std::process::exit(code)
}
