//! What containers use, as Docker's statistics tell it, and how large volumes and images are.

use std::collections::BTreeMap;
use std::io::{PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bollard::models::{ContainerStatsResponse, Task};
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, ListServicesOptionsBuilder, ListTasksOptionsBuilder, StatsOptionsBuilder,
};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::super::contents::{self, Contents, MAX_ARCHIVE};
use super::super::usage::{TaskUsage, Used};
use super::{Core, Swarm, call, is_missing, volumes};

impl Swarm {
    pub async fn usage(&self) -> Result<Vec<TaskUsage>> {
        tasks(&self.core).await.context("failed to observe what the stack uses")
    }

    pub async fn volume_size(&self, volume: &str) -> Result<u64> {
        self::volume(&self.core, volume).await.with_context(|| format!("failed to measure volume `{volume}`"))
    }

    pub async fn list_volume(&self, volume: &str) -> Result<Contents> {
        let listed = self.while_alive(Box::pin(list(&self.core, volume))).await;
        listed.with_context(|| format!("failed to list volume `{volume}`"))
    }

    pub async fn image_size(&self, image: &str) -> Result<u64> {
        self::image(&self.core, image).await.with_context(|| format!("failed to measure image `{image}`"))
    }
}

/// Every container of the stack that runs, the old ones of an update under way included.
pub async fn tasks(core: &Core) -> Result<Vec<TaskUsage>> {
    let filters = core.of_stack();
    let options = ListServicesOptionsBuilder::default().filters(&filters).build();
    let services = core.docker.list_services(Some(options)).await.context("failed to list the services")?;
    let prefix = core.full_name("");
    let names: BTreeMap<String, String> = services
        .into_iter()
        .filter_map(|service| Some((service.id?, service.spec?.name?.strip_prefix(&prefix)?.to_owned())))
        .collect();
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let tasks = core.docker.list_tasks(Some(options)).await.context("failed to list the tasks")?;
    // At once: a daemon that has much to do takes a second for each.
    let looks = tasks.iter().filter(|task| call::runs(task)).map(|task| async {
        let service = names.get(task.service_id.as_ref()?)?;
        let used = used(core, task, &call::container(task)?).await?;
        Some(TaskUsage { service: service.clone(), task: call::task_name(service, task), used })
    });
    Ok(join_all(looks).await.into_iter().flatten().collect())
}

/// `None` when the container has ended meanwhile.
async fn used(core: &Core, task: &Task, container: &str) -> Option<Result<Used, String>> {
    let node = task.node_id.as_deref().unwrap_or_default();
    if node != core.spec.node {
        let own = &core.spec.node;
        return Some(Err(format!("it runs on node `{node}`, and only node `{own}` is talked to")));
    }
    // Without `one_shot` the daemon would look twice, a second apart.
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    match Box::pin(core.docker.stats(container, Some(options))).next().await? {
        Err(error) if is_missing(&error) => None,
        Err(error) => Some(Err(format!("failed to ask for its statistics: {error}"))),
        Ok(stats) => of_stats(&stats).transpose(),
    }
}

/// Docker answers with nothing in it for a container that has just ended.
fn of_stats(stats: &ContainerStatsResponse) -> Result<Option<Used>, String> {
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage).unwrap_or_default();
    let Some(memory) = stats.memory_stats.as_ref().filter(|memory| memory.usage.is_some()) else {
        let none = "Docker counts no memory: the kernel's memory controller is off";
        return if cpu == 0 { Ok(None) } else { Err(none.into()) };
    };
    let detail = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    // What `docker stats` shows: without the cached files that can go at any time. Version 1 of cgroups, then 2.
    let idle = detail("total_inactive_file").or_else(|| detail("inactive_file")).unwrap_or_default();
    let memory = memory.usage.unwrap_or_default().saturating_sub(idle);
    Ok(Some(Used { memory, cpu: Duration::from_nanos(cpu) }))
}

/// A volume's size from its archive, which names nothing but this volume: the daemon's own count goes through all that
/// there are on the server.
pub async fn volume(core: &Core, volume: &str) -> Result<u64> {
    let helper = volumes::helper(core, volume).await?;
    read(core, &helper, volumes::WHOLE, u64::MAX, count).await
}

/// What a volume holds, from the same archive. Of one that is too large no more is taken than that is known.
pub async fn list(core: &Core, volume: &str) -> Result<Contents> {
    let helper = volumes::helper(core, volume).await?;
    match read(core, &helper, volumes::WHOLE, MAX_ARCHIVE, contents::of_archive).await {
        Err(error) if error.downcast_ref::<TooLarge>().is_some() => {
            Ok(Contents { entries: Vec::new(), cut: Some(TooLarge.to_string()) })
        }
        other => other,
    }
}

/// An archive of which not all was taken.
#[derive(Debug)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "more than {} MiB would have to be read", MAX_ARCHIVE >> 20)
    }
}

impl std::error::Error for TooLarge {}

/// Reads the archive of a path in a container as it comes, and `most` bytes of it.
pub async fn read<T: Send + 'static>(
    core: &Core,
    container: &str,
    path: &str,
    most: u64,
    look: impl FnOnce(PipeReader) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut stream = Box::pin(core.docker.download_from_container(container, Some(options)));
    let (reader, writer) = std::io::pipe().context("failed to make a pipe")?;
    let looking = tokio::task::spawn_blocking(move || look(reader));
    let mut writer = pipe::Sender::from_owned_fd(OwnedFd::from(writer)).context("failed to open a pipe")?;
    let mut taken = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.context("the archive broke off")?;
        taken += chunk.len() as u64;
        if taken > most {
            return Err(TooLarge.into());
        }
        if writer.write_all(&chunk).await.is_err() {
            // Whoever looks has seen enough, or has given up and says why.
            break;
        }
    }
    drop(writer);
    looking.await.context("the look at the archive panicked")?.context("failed to read the archive")
}

/// The bytes of all files in an archive: a file with several names once, a link as long as what it leads to.
fn count(archive: PipeReader) -> std::io::Result<u64> {
    let mut archive = tar::Archive::new(archive);
    let mut size = 0;
    for entry in archive.entries()? {
        let entry = entry?;
        size += match entry.header().entry_type() {
            kind if kind.is_file() => entry.size(),
            kind if kind.is_symlink() => entry.link_name_bytes().map_or(0, |target| target.len() as u64),
            _ => 0,
        };
    }
    // Zeros follow the end of an archive, and whoever writes them would break off.
    std::io::copy(&mut archive.into_inner().by_ref(), &mut std::io::sink())?;
    Ok(size)
}

pub async fn image(core: &Core, reference: &str) -> Result<u64> {
    match core.docker.inspect_image(reference).await {
        Ok(image) => Ok(image.size.context("Docker gave no size")?.max(0) as u64),
        Err(error) if is_missing(&error) => Err(anyhow!("node `{}` does not have the image", core.spec.node)),
        Err(error) => Err(error).context("failed to ask Docker for the image"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats};

    fn stats(cpu: u64, usage: Option<u64>, detail: &[(&str, u64)]) -> ContainerStatsResponse {
        let detail = detail.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        let cpu = ContainerCpuUsage { total_usage: Some(cpu), ..Default::default() };
        ContainerStatsResponse {
            cpu_stats: Some(ContainerCpuStats { cpu_usage: Some(cpu), ..Default::default() }),
            memory_stats: Some(ContainerMemoryStats { usage, stats: Some(detail), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn cached_files_that_are_not_in_use_do_not_count() {
        let used = |memory| Ok(Some(Used { memory, cpu: Duration::from_nanos(5) }));
        assert_eq!(of_stats(&stats(5, Some(100), &[("inactive_file", 30)])), used(70));
        assert_eq!(of_stats(&stats(5, Some(100), &[("total_inactive_file", 40), ("inactive_file", 30)])), used(60));
        assert_eq!(of_stats(&stats(5, Some(100), &[])), used(100));
    }

    #[test]
    fn memory_that_is_not_counted_is_no_nought() {
        let error = "Docker counts no memory: the kernel's memory controller is off";
        assert_eq!(of_stats(&stats(5, None, &[])), Err(error.into()));
        assert_eq!(of_stats(&stats(0, None, &[])), Ok(None), "a container that has just ended");
    }
}
