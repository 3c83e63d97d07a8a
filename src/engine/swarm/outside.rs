//! What containers wrote outside of their named volumes, as Docker tells it: changes of the layer, anonymous volumes, and
//! file systems in memory, which only the container's own shell sees.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bollard::models::{ChangeType, MountType, Task};
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, InspectContainerOptions, ListTasksOptionsBuilder};

use super::super::contents;
use super::super::outside::{Outside, Place, PlaceKind, below};
use super::super::{CallError, Exec};
use super::{Core, Swarm, call, usage};

/// Of an anonymous volume, no more than this is read; bytes.
const MOST: u64 = 256 << 20;
/// Files of a layer whose sizes are asked for, one by one.
const FILES: usize = 100;
const MOMENT: Duration = Duration::from_secs(10);

/// Go's mode bits: a directory, or a link.
const NO_FILE: u32 = 1 << 31 | 1 << 27;

impl Swarm {
    pub async fn outside(&self) -> Result<Vec<Outside>> {
        let seen = self.while_alive(Box::pin(look(&self.core))).await;
        seen.context("failed to look at what containers wrote outside of their volumes")
    }
}

async fn look(core: &Core) -> Result<Vec<Outside>> {
    let mut seen = Vec::new();
    for service in super::observe::services(core).await? {
        let mut outside = Outside { service: service.name.clone(), ..Outside::default() };
        match call::find(core, &service.name).await {
            Ok(target) => {
                if let Err(error) = container(core, &service.name, &target.container, &mut outside).await {
                    outside.unseen.push(format!("{error:#}"));
                }
            }
            // One that is done, or has no task, writes nothing any more.
            Err(CallError::Interrupted(_)) => continue,
            Err(CallError::NotFound(error) | CallError::Failed(error)) => outside.unseen.push(format!("{error:#}")),
        }
        seen.push(outside);
    }
    Ok(seen)
}

async fn container(core: &Core, service: &str, id: &str, outside: &mut Outside) -> Result<()> {
    let task = task(core, service, id).await?;
    let inspected = core.docker.inspect_container(id, None::<InspectContainerOptions>).await?;
    let born = inspected.created.as_deref().and_then(super::observe::time);
    let born = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs() as i64);
    let spec = task.spec.and_then(|spec| spec.container_spec).unwrap_or_default();
    let declared = spec.mounts.unwrap_or_default();
    let named: BTreeSet<String> =
        declared.iter().filter_map(|it| it.source.clone()).filter(|it| !it.is_empty()).collect();
    let mut mounted = Vec::new();
    for mount in inspected.mounts.unwrap_or_default() {
        let Some(at) = mount.destination else { continue };
        if mount.typ.as_deref() == Some("volume") && !mount.name.is_some_and(|name| named.contains(&name)) {
            match anonymous(core, id, &at, born).await {
                Ok(place) => outside.places.push(place),
                Err(error) => outside.unseen.push(format!("the anonymous volume at `{at}`: {error:#}")),
            }
        }
        mounted.push(at);
    }
    for mount in declared.iter().filter(|mount| mount.typ == Some(MountType::TMPFS)) {
        let Some(at) = mount.target.clone() else { continue };
        match memory(core, id, &at).await {
            Ok(place) => outside.places.push(place),
            Err(error) => outside.unseen.push(format!("the tmpfs at `{at}`: {error:#}")),
        }
        mounted.push(at);
    }
    outside.places.push(layer(core, id, &mounted).await?);
    Ok(())
}

async fn task(core: &Core, service: &str, container: &str) -> Result<Task> {
    let filters = [("service".to_owned(), vec![core.full_name(service)])].into();
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let tasks = core.docker.list_tasks(Some(options)).await.context("failed to list the tasks")?;
    let task = tasks.into_iter().find(|task| call::container(task).as_deref() == Some(container));
    task.context("its task is gone")
}

/// What was written there since the container was made: before that it was filled from the image.
async fn anonymous(core: &Core, container: &str, at: &str, born: i64) -> Result<Place> {
    let path = format!("{}/.", at.trim_end_matches('/'));
    let listed = usage::read(core, container, &path, MOST, contents::of_archive).await?;
    let written = listed.entries.iter().filter(|entry| !entry.is_dir && entry.size > 0 && entry.modified >= born);
    let files = written.map(|entry| (below(at, &entry.path), entry.size)).collect();
    Ok(Place { kind: PlaceKind::Anonymous, at: at.to_owned(), files })
}

async fn memory(core: &Core, container: &str, at: &str) -> Result<Place> {
    let script = "find \"$1\" -xdev -type f -size +0 | head -n 200";
    let argv = ["/bin/sh", "-c", script, "sh", at].map(str::to_owned).into();
    let exec = Exec { argv, user: Some("0".into()), deadline: MOMENT, ..Exec::default() };
    let found = call::run(core, container, &exec).await?;
    if found.code != 0 || !found.stderr.is_empty() {
        bail!("only the container's own shell sees it, which says {:?}", String::from_utf8_lossy(&found.stderr).trim());
    }
    let files = String::from_utf8_lossy(&found.stdout).lines().map(|path| (path.to_owned(), 1)).collect();
    Ok(Place { kind: PlaceKind::Memory, at: at.to_owned(), files })
}

/// What changed in the layer. Mount points show there, too.
async fn layer(core: &Core, container: &str, mounted: &[String]) -> Result<Place> {
    let changes = core.docker.container_changes(container).await.context("failed to ask for the changes")?;
    let is_mounted =
        |path: &str| mounted.iter().any(|at| Path::new(path).starts_with(at) || Path::new(at).starts_with(path));
    let changed = changes.unwrap_or_default().into_iter().filter(|change| change.kind != ChangeType::_2);
    let mut files = Vec::new();
    for path in changed.map(|change| change.path).filter(|path| !is_mounted(path)) {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
        // What is gone meanwhile was nothing to keep.
        let Ok(stat) = core.docker.get_container_archive_info(container, Some(options)).await else { continue };
        if stat.file_mode & NO_FILE == 0 && stat.size > 0 {
            files.push((path, stat.size as u64));
        }
        if files.len() >= FILES {
            break;
        }
    }
    Ok(Place { kind: PlaceKind::Layer, at: "/".into(), files })
}
