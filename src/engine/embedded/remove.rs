//! Teardown, the proof that nothing is left, and the removal of what a dead run left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Kind;
use super::core::Core;
use super::groups::{self, Groups};
use super::pod::{Pod, executable};
use super::state::Task;
use super::traces::{self, Facts};
use crate::poll::{Look, Poll};

/// Containers are killed, which takes milliseconds; longer than this means that the kernel cannot.
const STOP: Duration = Duration::from_secs(25);
/// How long the last processes of an ended pod may take to disappear.
const VANISH: Duration = Duration::from_secs(5);
/// What an engine keeps in its directory.
const DIRECTORIES: [(Kind, &str); 3] =
    [(Kind::Volume, "volumes"), (Kind::Container, "containers"), (Kind::Directory, "logs")];
const FILES: [&str; 3] = ["pod.json", "pod.json.new", "program"];

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: Vec<(Kind, String)>,
    /// What resisted.
    pub left: Vec<(Kind, String)>,
}

/// Removes everything, services first, and returns what is still there.
pub async fn remove(core: &Core) -> Result<Vec<(Kind, String)>> {
    stop(core).await;
    let dir = &core.context.dir;
    for (_, name) in DIRECTORIES {
        // Files of sub-ids can only be removed from inside; what fails here fails below, and is reported there.
        let _ = core.pod.remove_dir(&dir.join(name)).await;
    }
    // An error here is a process that is left, and counted below.
    let _ = core.pod.end().await;
    let mut left = processes_left(core.pod.namespace_number()?).await?;
    left.extend(groups_left(&core.groups.dirs()).await);
    left.extend(files_left(dir)?);
    report(core, &left)?;
    Ok(left)
}

/// Ends the pod and every task that watches over a container, and removes nothing: for a sweep beside a living engine, whose
/// tasks would start again what the sweep ends.
pub async fn let_go(core: &Core) {
    stop(core).await;
    // What does not end is killed by the sweep.
    let _ = core.pod.end().await;
}

async fn stop(core: &Core) {
    core.close();
    let stopped = core.wait_for(|state| {
        let mut tasks = state.services.values().flat_map(|record| &record.tasks);
        tasks.all(Task::ended).then_some(())
    });
    // What does not stop is found by what it leaves.
    let _ = tokio::time::timeout(STOP, stopped).await;
}

/// What is there of the pod now, by a look that removes nothing.
pub fn left(core: &Core) -> Result<Vec<(Kind, String)>> {
    let processes = traces::processes_in(core.pod.namespace_number()?)?;
    let mut left: Vec<(Kind, String)> = processes.into_iter().map(|pid| (Kind::Process, pid.to_string())).collect();
    let mounts = traces::mounts_below(&core.context.dir)?;
    left.extend(mounts.into_iter().map(|point| (Kind::Mount, point.display().to_string())));
    left.extend(groups::present(&core.groups.dirs()).iter().map(group));
    left.extend(present(&core.context.dir)?);
    Ok(left)
}

/// Removes what a dead run left in its engine's directory, and its processes. That the run is dead is for the caller
/// to know, by its lock.
pub async fn sweep(dir: &Path) -> Result<Swept> {
    let mut swept = Swept::default();
    if !dir.exists() {
        return Ok(swept);
    }
    // A directory without a record never had a pod, nor groups.
    let facts = Facts::read(dir)?;
    for process in facts.iter().flat_map(Facts::alive) {
        let list = if end(process).await { &mut swept.removed } else { &mut swept.left };
        list.push((Kind::Process, process.pid.to_string()));
    }
    let groups = facts.map(|facts| facts.groups).unwrap_or_default();
    let (there, busy) = (groups::present(&groups), groups_left(&groups).await);
    swept.removed.extend(there.iter().map(group).filter(|it| !busy.contains(it)));
    if !busy.is_empty() {
        // The next sweep finds them by the record, which has to stay for that.
        swept.left.extend(busy);
        return Ok(swept);
    }
    let before = present(dir)?;
    let left = files_left_after_help(dir).await?;
    swept.removed.extend(before.into_iter().filter(|thing| !left.contains(thing)));
    swept.left.extend(left);
    Ok(swept)
}

/// Removes groups, and returns those that resist.
async fn groups_left(dirs: &[PathBuf]) -> Vec<(Kind, String)> {
    Groups::remove_all(dirs).await.iter().map(group).collect()
}

fn group(dir: impl AsRef<Path>) -> (Kind, String) {
    (Kind::ControlGroup, dir.as_ref().display().to_string())
}

/// Kills a process of a dead pod, which may be about to end by itself, and waits until it is gone.
async fn end(process: traces::Process) -> bool {
    let killed = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    matches!(killed, Ok(()) | Err(nix::errno::Errno::ESRCH)) && vanished(process).await
}

async fn vanished(process: traces::Process) -> bool {
    let look = || {
        let gone = traces::Process::find(process.pid) != Some(process);
        std::future::ready(Ok(if gone { Look::Ready(()) } else { Look::NotYet("it lives".into()) }))
    };
    Poll::within(VANISH).until("the end of a process", look).await.is_ok()
}

/// Counts by the user namespace, which no process of the pod can leave.
async fn processes_left(user_namespace: u64) -> Result<Vec<(Kind, String)>> {
    let look = || {
        let look = traces::processes_in(user_namespace).map(|pids| match pids.as_slice() {
            [] => Look::Ready(()),
            pids => Look::NotYet(format!("{pids:?}")),
        });
        std::future::ready(look)
    };
    let poll = Poll { interval: Duration::from_millis(2), deadline: VANISH };
    if poll.until("the pod's processes to end", look).await.is_ok() {
        return Ok(Vec::new());
    }
    Ok(traces::processes_in(user_namespace)?.into_iter().map(|pid| (Kind::Process, pid.to_string())).collect())
}

/// Removes the directory's content and returns what could not be removed.
pub fn files_left(dir: &Path) -> Result<Vec<(Kind, String)>> {
    let mut left: Vec<(Kind, String)> =
        traces::mounts_below(dir)?.into_iter().map(|point| (Kind::Mount, point.display().to_string())).collect();
    for (_, name) in DIRECTORIES {
        let _ = fs::remove_dir_all(dir.join(name));
    }
    for name in FILES {
        let _ = fs::remove_file(dir.join(name));
    }
    // Something that is not the engine's keeps the directory, and is none of its business.
    let _ = fs::remove_dir(dir);
    left.extend(present(dir)?);
    Ok(left)
}

/// As above, with a pod's help where files belong to ids that only a pod has.
async fn files_left_after_help(dir: &Path) -> Result<Vec<(Kind, String)>> {
    let left = files_left(dir)?;
    if left.is_empty() {
        return Ok(left);
    }
    let log = dir.join("sweep.log");
    if let Ok(program) = executable(dir)
        && let Ok(pod) = Pod::start(&program, vec![dir.to_owned()], &log).await
    {
        for (_, name) in DIRECTORIES {
            let _ = pod.remove_dir(&dir.join(name)).await;
        }
        let _ = pod.end().await;
    }
    let _ = fs::remove_file(log);
    files_left(dir)
}

/// What of the engine's is in its directory: volumes and containers by name.
fn present(dir: &Path) -> Result<Vec<(Kind, String)>> {
    let mut present = Vec::new();
    for (kind, name) in DIRECTORIES {
        let path = dir.join(name);
        let names = list(&path).with_context(|| format!("failed to list `{}`", path.display()))?;
        match (names, kind) {
            (None, _) => {}
            (Some(_), Kind::Directory) => present.push((kind, path.display().to_string())),
            (Some(names), _) => present.extend(names.into_iter().map(|name| (kind, name))),
        }
    }
    Ok(present)
}

fn list(dir: &Path) -> io::Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<_>>().map(Some)
}

/// Tells the journal what is gone.
fn report(core: &Core, left: &[(Kind, String)]) -> Result<()> {
    let ledger = &core.context.ledger;
    let (services, volumes) = core.read(|state| {
        let volumes: Vec<String> = state.volume_dirs.keys().cloned().collect();
        (state.services.keys().cloned().collect::<Vec<_>>(), volumes)
    });
    for service in services {
        ledger.removed(Kind::Service, &service)?;
    }
    for volume in volumes.into_iter().filter(|name| !left.contains(&(Kind::Volume, name.clone()))) {
        ledger.removed(Kind::Volume, &volume)?;
    }
    if left.iter().all(|(kind, _)| *kind != Kind::Process) {
        ledger.removed(Kind::Process, &core.context.run_id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_ended_just_now_is_gone_and_not_left() {
        let mut child = crate::process::command("true").spawn().unwrap();
        let process = traces::Process { pid: child.id() as i32, start_time: 1 };
        child.wait().unwrap();
        assert!(end(process).await);
    }
}
