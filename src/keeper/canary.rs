//! Canaries: files that the harness puts into every named volume, so that data loss shows without any configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::Keeper;
use super::blame::blame;
use super::operate::backup::volumes_of;
use super::protocol::{Canary, Snapshot};
use super::rig::Rig;
use crate::engine::CallError;
use crate::fault::Failure;
use crate::poll::{Look, Poll};
use crate::recipe::AppState;
use crate::recipe::backup::BackupPlan;
use crate::recipe::stack::{MountKind, Stack};

/// The name of every canary file. As that of an editor's copy it is minded by no web server, database or directory of
/// configuration; it begins with no dot, so that whoever removes everything by `*` removes it, too.
pub const NAME: &str = "harness-canary~";

/// A canary as it was planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    pub volume: String,
    /// Relative to the volume's root.
    pub path: String,
    /// What the file must say from now on.
    pub content: String,
    /// Whether the labels put this file into a snapshot.
    pub backed_up: bool,
}

/// Whether a path in a snapshot is the harness's own file.
pub fn is_canary(path: &str) -> bool {
    path.rsplit('/').next() == Some(NAME)
}

/// Writes a fresh canary into every named volume of the deployed stack; they replace those of an earlier tier.
pub async fn plant(keeper: &Arc<Keeper>, why: &str) -> Result<(), Failure> {
    let state = keeper.app.lock().await.deployed.state.clone();
    let Some(state) = state else { return Ok(()) };
    let planted = chosen(&state, &format!("{}-{why}", keeper.spec.run_id));
    let engine = keeper.engine().await?;
    for canary in &planted {
        let write = engine.write_volume(&canary.volume, &canary.path, canary.content.as_bytes()).await;
        let write = write.with_context(|| format!("failed to plant a canary in the volume `{}`", canary.volume));
        write.map_err(Failure::infrastructure)?;
    }
    keeper.app.lock().await.planted = planted;
    Ok(())
}

/// Overwrites the canaries that a snapshot holds, and makes sure that they are changed: only then does their return
/// prove a restore.
pub async fn change(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let planted = keeper.app.lock().await.planted.clone();
    let engine = keeper.engine().await?;
    for canary in planted.iter().filter(|canary| canary.backed_up) {
        overwrite(&engine, canary).await.map_err(Failure::infrastructure)?;
    }
    Ok(())
}

/// A dump in a snapshot: a file that the labels name, and that a hook wrote.
pub struct Dump {
    volume: String,
    path: String,
    /// Of its content in the snapshot.
    sha256: String,
}

/// Ruins every dump that the snapshot holds. Where the labels limit a volume to such files, no other file of the
/// volume comes back by a restore, so that nothing else could prove one.
pub async fn ruin_dumps(keeper: &Arc<Keeper>, plan: &BackupPlan, snapshot: &Snapshot) -> Result<Vec<Dump>, Failure> {
    let engine = keeper.engine().await?;
    let mut dumps = Vec::new();
    for Dump { volume, path, sha256 } in dumps_of(plan, snapshot) {
        let ruined = engine.write_volume(&volume, &path, b"ruined after the backup\n").await;
        ruined.with_context(|| format!("failed to ruin the dump `{path}`")).map_err(Failure::infrastructure)?;
        dumps.push(Dump { volume, path, sha256 });
    }
    Ok(dumps)
}

/// What became of the ruined dumps: looked at after the restore and before its post-hooks, which may remove them.
/// Where they have run already, a dump that is gone proves nothing and is left out.
pub async fn look_at_dumps(keeper: &Keeper, engine: &Rig, dumps: Vec<Dump>, hooked: bool) -> Result<()> {
    let mut seen = Vec::new();
    for Dump { volume, path, sha256 } in dumps {
        let found = engine.read_volume(&volume, &path).await?;
        if hooked && found.is_none() {
            continue;
        }
        let found = found.map(|bytes| HEXLOWER.encode(&Sha256::digest(bytes)));
        let seen_through = format!("the SHA-256 of `{path}` in the volume, before the post-hook");
        seen.push(Canary { volume, seen_through, expected: sha256, found });
    }
    keeper.app.lock().await.restored = Some(seen);
    Ok(())
}

fn dumps_of(plan: &BackupPlan, snapshot: &Snapshot) -> Vec<Dump> {
    let hooked = plan.services.iter().filter(|service| service.pre_hook.is_some());
    let limited = hooked.flat_map(|service| &service.volumes);
    let mut dumps = Vec::new();
    for limited in limited {
        let files = snapshot.volumes.get(&limited.volume).into_iter().flatten();
        let named = files.filter(|file| limited.paths.contains(&file.path) && !file.sha256.is_empty());
        dumps.extend(named.map(|file| Dump {
            volume: limited.volume.clone(),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
        }));
    }
    dumps
}

async fn overwrite(engine: &Rig, canary: &Planted) -> Result<()> {
    let Planted { volume, path, content, .. } = canary;
    let changed = format!("changed after the backup of {content}");
    engine.write_volume(volume, path, changed.as_bytes()).await.context("failed to change a canary")?;
    let seen = engine.read_volume(volume, path).await.context("failed to read a canary again")?;
    ensure!(seen.as_deref() == Some(changed.as_bytes()), "the canary in the volume `{volume}` cannot be changed");
    Ok(())
}

/// What became of the canaries: through the container of a service that mounts the volume, because that is what the
/// app sees. Volumes that `recipe.toml` declares to be dropped by the upgrade are not looked at. After the restore only
/// what the snapshot held proves anything: the others were never touched.
pub async fn look(keeper: &Arc<Keeper>) -> Result<Vec<Canary>, Failure> {
    let (planted, state, restored) = {
        let app = keeper.app.lock().await;
        (app.planted.clone(), app.deployed.state.clone(), app.restored.clone())
    };
    let stack = state.map(|state| state.stack).unwrap_or_default();
    let engine = keeper.engine().await?;
    let dropped = &keeper.spec.settings.recipe_toml.upgrade.drops;
    let proves = |canary: &Planted| !dropped.contains(&canary.volume) && (restored.is_none() || canary.backed_up);
    let planted: Vec<Planted> = planted.into_iter().filter(proves).collect();
    let mut canaries = restored.unwrap_or_default();
    let mounts = Mounts { all: mounts(&stack), running: running(&engine).await.map_err(blame)? };
    for canary in planted {
        canaries.push(look_at(keeper, &engine, &mounts, canary).await.map_err(blame)?);
    }
    Ok(canaries)
}

/// Where volumes can be seen.
struct Mounts {
    all: BTreeMap<String, Vec<(String, String)>>,
    /// Services whose containers can be looked into: one that runs once and is done has none.
    running: BTreeSet<String>,
}

async fn running(engine: &Rig) -> Result<BTreeSet<String>> {
    let services = engine.services().await?;
    Ok(services.into_iter().filter(|service| service.done() == 0).map(|service| service.name).collect())
}

async fn look_at(keeper: &Keeper, engine: &Rig, mounts: &Mounts, canary: Planted) -> Result<Canary> {
    let mounting = mounts.all.get(&canary.volume).map(Vec::as_slice).unwrap_or_default();
    let open = mounting.iter().find(|(service, _)| mounts.running.contains(service));
    let (seen_through, found) = match open.or(mounting.first()) {
        Some((service, _)) if open.is_none() => {
            let read = engine.read_volume(&canary.volume, &canary.path).await?;
            (format!("`{}` in the volume itself, because service `{service}` has done its work", canary.path), read)
        }
        Some((service, target)) => {
            let path = format!("{}/{}", target.trim_end_matches('/'), canary.path);
            let read = read_through(keeper, engine, service, &path).await?;
            (format!("`{path}` in service `{service}`"), read)
        }
        // The data may still lie there, but no user of the app will ever see it again.
        None => ("nothing, for no service mounts the volume any more".to_owned(), None),
    };
    let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Canary { volume: canary.volume, seen_through, expected: canary.content, found })
}

async fn read_through(keeper: &Keeper, engine: &Rig, service: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let poll = Poll::within(keeper.spec.settings.call);
    poll.until(format!("a container of service `{service}`"), async || match engine.read_file(service, path).await {
        Ok(bytes) => Ok(Look::Ready(Some(bytes))),
        Err(CallError::Interrupted(error)) => Ok(Look::NotYet(format!("{error:#}"))),
        Err(CallError::NotFound(_)) => Ok(Look::Ready(None)),
        Err(CallError::Failed(error)) => Err(error),
    })
    .await
}

/// For each named volume, the services that mount it and where.
fn mounts(stack: &Stack) -> BTreeMap<String, Vec<(String, String)>> {
    let mut mounts: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (name, service) in &stack.services {
        for mount in &service.mounts {
            if let MountKind::Volume(volume) = &mount.kind {
                mounts.entry(volume.clone()).or_default().push((name.clone(), mount.target.clone()));
            }
        }
    }
    mounts
}

/// One canary in the root of every mounted named volume. Where the labels limit a volume to some of its paths, the
/// canary in its root is outside the snapshot, and the restore is proven by the files alone.
fn chosen(state: &AppState, content: &str) -> Vec<Planted> {
    let whole: BTreeMap<String, bool> =
        volumes_of(&state.backup).map(|(volume, paths)| (volume, paths.is_empty())).collect();
    let external = |volume: &String| state.stack.volumes.get(volume).is_some_and(|it| it.external);
    let volumes = mounts(&state.stack).into_keys().filter(|volume| !external(volume));
    volumes
        .map(|volume| Planted {
            content: format!("{content}-{volume}"),
            backed_up: whole.get(&volume) == Some(&true),
            path: NAME.to_owned(),
            volume,
        })
        .collect()
}
