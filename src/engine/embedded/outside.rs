//! What containers wrote outside of their named volumes: overlay layers, anonymous volumes, file systems in memory.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::super::contents::Contents;
use super::super::outside::{Outside, Place, PlaceKind, below};
use super::container::{Container, Scratch};
use super::core::Core;
use super::stage::Stage;
use super::stage::files::FilesRequest;
use super::stage::volume::{VolumeAction, VolumeRequest};

/// What a root in memory is made with.
const MADE: [&str; 3] = ["etc/passwd", "etc/group", "etc/nsswitch.conf"];

/// Looks into the newest running container of every service.
pub async fn look(core: &Core) -> Result<Vec<Outside>> {
    core.pod.check()?;
    let running: Vec<(String, Arc<Container>)> = core.read(|state| {
        let newest = |(name, record): (&String, &super::state::Record)| {
            let container = record.running().next()?.container.clone()?;
            Some((name.clone(), container))
        };
        state.services.iter().filter_map(newest).collect()
    });
    let mut seen = Vec::new();
    for (service, container) in running {
        let mut outside = Outside { service, ..Outside::default() };
        for scratch in &container.scratch {
            match place(core, &container, scratch).await {
                Ok(place) => outside.places.push(place),
                Err(error) => outside.unseen.push(format!("{error:#}")),
            }
        }
        seen.push(outside);
    }
    Ok(seen)
}

async fn place(core: &Core, container: &Container, scratch: &Scratch) -> Result<Place> {
    let (kind, at, contents) = match scratch {
        Scratch::Root => {
            let mut contents = inside(core, container, "/").await?;
            contents.entries.retain(|entry| !MADE.contains(&entry.path.as_str()));
            (PlaceKind::Layer, "/", contents)
        }
        Scratch::Layer(upper) => (PlaceKind::Layer, "/", of_directory(core, upper).await?),
        Scratch::Tmpfs(target) => (PlaceKind::Memory, target.as_str(), inside(core, container, target).await?),
        Scratch::Anonymous(target, dir, copied) => {
            let mut contents = of_directory(core, dir).await?;
            // It was filled with what the image has there, which is nothing that the app wrote.
            let size = |path: &str| Some(copied.as_ref()?.join(path).symlink_metadata().ok()?.len());
            contents.entries.retain(|entry| size(&entry.path) != Some(entry.size));
            (PlaceKind::Anonymous, target.as_str(), contents)
        }
    };
    let files = contents.entries.iter().filter(|entry| !entry.is_dir && entry.size > 0);
    let files = files.map(|entry| (below(at, &entry.path), entry.size)).collect();
    Ok(Place { kind, at: at.to_owned(), files })
}

/// A directory as the container sees it.
async fn inside(core: &Core, container: &Container, path: &str) -> Result<Contents> {
    let request = FilesRequest::List { path: PathBuf::from(path) };
    let listed = core.pod.call::<Contents>(Stage::Files, &request, &[container.process.as_fd()]).await;
    listed.map(|(contents, _)| contents).with_context(|| format!("failed to look into `{path}` of a container"))
}

/// A directory of the container's own on this machine.
async fn of_directory(core: &Core, dir: &Path) -> Result<Contents> {
    let request = VolumeRequest { dir: dir.to_owned(), action: VolumeAction::List };
    let listed = core.pod.call::<Contents>(Stage::Volume, &request, &[]).await;
    listed.map(|(contents, _)| contents).context("failed to look into a container's own directory")
}
