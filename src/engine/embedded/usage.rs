//! What containers use, from `/proc`: where there is no cgroup of one's own, the kernel counts by process all the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::usage::{TaskUsage, Used};
use super::container::Container;
use super::core::Core;
use super::image::{self, Root};
use super::stage::volume::VolumeAction;
use super::state::State;
use super::volumes;

/// Every container that runs, the old ones of an update under way included.
pub async fn tasks(core: &Core) -> Result<Vec<TaskUsage>> {
    core.pod.check()?;
    let running = core.read(running);
    let look = tokio::task::spawn_blocking(move || {
        let processes = processes()?;
        Ok(running
            .into_iter()
            .filter_map(|(service, task, container)| {
                let used = used(&container, &processes).transpose()?;
                Some(TaskUsage { service, task, used: used.map_err(|error| format!("{error:#}")) })
            })
            .collect())
    });
    look.await.context("the look at the processes panicked")?
}

pub async fn volume(core: &Core, volume: &str) -> Result<u64> {
    let size = volumes::call::<u64>(core, volume, VolumeAction::Size, &[]).await;
    size.map(|(size, _)| size).with_context(|| format!("failed to measure volume `{volume}`"))
}

/// The unpacked image. What stands in for one without being one has no size of its own.
pub async fn image(core: &Core, reference: &str) -> Result<u64> {
    let attempt = || format!("failed to measure image `{reference}`");
    let root = core.read(|state| state.images.get(reference).cloned());
    let root = root.context("no container was made from it").with_context(attempt)?;
    let Root::Unpacked(rootfs) = root else {
        let stand_in = image::stand_in(reference, &core.context.image_map).unwrap_or(reference);
        anyhow::bail!("`{stand_in}` runs in its place, which is made of this machine's own programs");
    };
    let look = tokio::task::spawn_blocking(move || image::size(&rootfs));
    look.await.context("the look at the files panicked")?.with_context(attempt)
}

/// A container that runs, and the service and task that it is of.
pub type Running = (String, String, Arc<Container>);

/// All that run.
pub fn running(state: &State) -> Vec<Running> {
    let tasks = state.services.iter().flat_map(|(name, record)| record.tasks.iter().map(move |task| (name, task)));
    tasks.filter_map(|(name, task)| Some((name.clone(), task.id.clone(), task.container.clone()?))).collect()
}

/// Processes by their pid namespace.
pub fn processes() -> Result<BTreeMap<u64, Vec<i32>>> {
    let mut found: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("failed to list processes")? {
        let entry = entry.context("failed to list processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends meanwhile, or belongs to somebody else, is not one of ours.
        if let Ok(namespace) = fs::metadata(entry.path().join("ns/pid")) {
            found.entry(namespace.ino()).or_default().push(pid);
        }
    }
    Ok(found)
}

/// What all processes of a container use; `None` when it has ended meanwhile.
fn used(container: &Container, processes: &BTreeMap<u64, Vec<i32>>) -> Result<Option<Used>> {
    let Some(pids) = pids(container, processes)? else { return Ok(None) };
    let (mut used, mut seen) = (Used { memory: 0, cpu: Duration::ZERO }, false);
    for pid in pids {
        if let Some(one) = of_process(*pid)? {
            (used.memory, used.cpu, seen) = (used.memory + one.memory, used.cpu + one.cpu, true);
        }
    }
    ensure!(seen || pid_is_gone(container)?, "its processes cannot be seen in `/proc`");
    Ok(seen.then_some(used))
}

/// The processes of a container among those; `None` when it has ended meanwhile.
pub fn pids<'a>(container: &Container, processes: &'a BTreeMap<u64, Vec<i32>>) -> Result<Option<&'a [i32]>> {
    let Some(init) = pid(container)? else { return Ok(None) };
    let namespace = match fs::metadata(format!("/proc/{init}/ns/pid")) {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other.context("failed to look at its first process")?.ino(),
    };
    Ok(Some(processes.get(&namespace).map_or(&[], Vec::as_slice)))
}

/// Processes with their threads, as the kernel counts them in a control group.
pub fn threads(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

fn pid_is_gone(container: &Container) -> Result<bool> {
    Ok(pid(container)?.is_none())
}

/// The number of a container's first process, as this process sees it; `None` once it has ended.
fn pid(container: &Container) -> Result<Option<i32>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", container.process.as_raw_fd()));
    let info = info.context("failed to look up its first process")?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).context("a pidfd has no number")?;
    let pid: i32 = pid.trim().parse().context("a pidfd has no number")?;
    ensure!(pid != 0, "its first process is outside of what this process can see");
    Ok((pid > 0).then_some(pid))
}

/// `None` for a process that has ended: it holds no memory, and its time was added to its parent's.
fn of_process(pid: i32) -> Result<Option<Used>> {
    let read = |name: &str| match fs::read_to_string(format!("/proc/{pid}/{name}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read `/proc/{pid}/{name}`")),
    };
    let (Some(stat), Some(memory)) = (read("stat")?, read("smaps_rollup")?) else { return Ok(None) };
    let cpu = cpu(&stat).with_context(|| format!("failed to understand `/proc/{pid}/stat`"))?;
    let memory = pss(&memory).with_context(|| format!("failed to understand `/proc/{pid}/smaps_rollup`"))?;
    Ok(Some(Used { memory, cpu }))
}

/// Its own time and that of the children that it has waited for, in user and in kernel mode.
fn cpu(stat: &str) -> Option<Duration> {
    // The name may hold anything, blanks and parentheses included: the fields start after its last parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u32>().ok()).sum::<Option<u32>>()?;
    Some(Duration::from_millis(u64::from(ticks) * 1000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// The process's share of all its pages, in bytes: what it shares with others is divided among them.
fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_behind_the_last_parenthesis() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 3 4 1 20 0 1 0 100 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_millis(200)));
        assert_eq!(cpu("7 (a) S 1"), None);
    }

    #[test]
    fn the_share_of_the_memory_is_read_in_bytes() {
        let rollup = "5573-7ffd ---p 0 00:00 0 [rollup]\nRss:   9000 kB\nPss:       1234 kB\nPss_Dirty:  1 kB\n";
        assert_eq!((pss(rollup), pss("")), (Some(1234 << 10), None));
    }

    #[test]
    fn this_process_uses_something_and_one_that_is_gone_nothing() {
        let used = of_process(std::process::id() as i32).unwrap().unwrap();
        assert!(used.memory > 100 << 10, "{used:?}");
        assert_eq!(of_process(i32::MAX).unwrap(), None);
    }
}
