//! Commands that outlive whoever started them: they would go on changing what a sweep has just cleaned.
//!
//! A signal at the parent's death is no way out, because the kernel binds it to the thread that started the command. So
//! every command of a run carries the run's directory in its environment, and the sweep of a dead run ends those first.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::poll::{Look, Poll};

/// The variable that carries the directory of the run.
const MARK: &str = "RECIPE_HARNESS_RUN";

/// The kernel needs milliseconds to end a killed process.
const END: Duration = Duration::from_secs(10);

static RUN: OnceLock<PathBuf> = OnceLock::new();

/// From now on every command of this process carries the run's mark.
pub fn mark(run_dir: &Path) {
    let _ = RUN.set(run_dir.to_owned());
}

/// The variable, where there is a run.
pub(super) fn variable() -> Option<(OsString, OsString)> {
    RUN.get().map(|dir| (MARK.into(), dir.into()))
}

/// Ends every command of a dead run, and says which could not be.
pub async fn end(run_dir: &Path) -> Vec<String> {
    let look = || {
        let left = marked(run_dir);
        for pid in &left {
            // Through a descriptor, which cannot come to mean another process between look and signal.
            if let Ok(process) = pidfd_open(*pid, PidfdFlags::empty())
                && is_marked(*pid, run_dir)
            {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        let look = if left.is_empty() { Look::Ready(()) } else { Look::NotYet("they run".into()) };
        std::future::ready(Ok(look))
    };
    match Poll::within(END).until("the run's commands to end", look).await {
        Ok(()) => Vec::new(),
        Err(_) => marked(run_dir).iter().map(|pid| format!("process `{}`", pid.as_raw_nonzero())).collect(),
    }
}

fn marked(run_dir: &Path) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| is_marked(*pid, run_dir)).collect()
}

/// A process that has ended, or that is another user's, shows no environment.
fn is_marked(pid: Pid, run_dir: &Path) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let mark = [MARK.as_bytes(), b"=", run_dir.as_os_str().as_bytes()].concat();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_commands_of_a_run_are_ended_and_another_runs_are_not() {
        let start = |run: &str| super::super::command("sleep").arg("600").env(MARK, run).spawn().unwrap();
        let (mut ours, mut theirs) = (start("/runs/a"), start("/runs/ab"));
        let reaped = std::thread::spawn(move || ours.wait().unwrap());
        assert_eq!(end(Path::new("/runs/a")).await, Vec::<String>::new());
        assert_eq!(super::super::exit_code(reaped.join().unwrap()), 128 + 9);
        assert!(theirs.try_wait().unwrap().is_none(), "the other run's command must go on");
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }
}
