//! Backup: a snapshot by the recipe's `backupbot.*` labels, hooks included.

mod dumps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::engine::{Exec, FileEntry, Kind, Ledger as _, again};
use crate::fault::{Failure, Fault};
use crate::keeper::blame::blame;
use crate::keeper::contents::Listing;
use crate::keeper::journal::Event;
use crate::keeper::protocol::Snapshot;
use crate::keeper::rig::Rig;
use crate::keeper::{Keeper, canary, contents, databases};
use crate::poll::Poll;
use crate::recipe::backup::{BackupPlan, BackupService};

/// Plants canaries in the volumes that the labels promise, then makes one archive a volume.
pub async fn run(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let listing = contents::list(keeper).await?;
    canary::plant(keeper, &listing).await?;
    databases::plant(keeper, &listing).await?;
    let plan = plan(keeper).await;
    let id = format!("snapshot-{}", &keeper.spec.run_id[keeper.spec.run_id.len().saturating_sub(6)..]);
    let dir = keeper.snapshots_dir().join(&id);
    let snapshot = make(keeper, &plan, &dir, id, &listing).await.map_err(blame)?;
    for volume in &snapshot.empty {
        let text = format!(
            "the volume `{volume}` holds nothing of the app's own yet: that it is backed up is proven by a file of the harness \
             alone"
        );
        keeper.journal.write(Event::Note { text }).map_err(Failure::infrastructure)?;
    }
    keeper.app.lock().await.snapshot = Some(snapshot);
    Ok(())
}

/// The labels of what is deployed, which is what a backup bot would read.
pub(super) async fn plan(keeper: &Keeper) -> BackupPlan {
    let app = keeper.app.lock().await;
    app.deployed.state.as_ref().map(|state| state.backup.clone()).unwrap_or_default()
}

/// Every volume that the labels promise, with the paths they limit it to. A volume that two services mount is there once,
/// with the paths of both, or whole if one of them limits it to none.
pub fn volumes_of(plan: &BackupPlan) -> impl Iterator<Item = (String, Vec<String>)> {
    let mut volumes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for volume in plan.services.iter().flat_map(|service| &service.volumes) {
        match volumes.get_mut(&volume.volume) {
            Some(paths) if paths.is_empty() || volume.paths.is_empty() => paths.clear(),
            Some(paths) => paths.extend(volume.paths.iter().cloned()),
            None => _ = volumes.insert(volume.volume.clone(), volume.paths.clone()),
        }
    }
    volumes.into_iter()
}

/// Makes the snapshot. The server's own bot does it where there is one.
async fn make(keeper: &Arc<Keeper>, plan: &BackupPlan, dir: &Path, id: String, listing: &Listing) -> Result<Snapshot> {
    keeper.journal.creating(Kind::Directory, &dir.display().to_string())?;
    crate::config::state::create_private(dir)?;
    let promised: BTreeSet<String> = volumes_of(plan).map(|(volume, _)| volume).collect();
    let promised: Vec<String> = promised.into_iter().collect();
    let mut snapshot = Snapshot { id, promised, ..Snapshot::default() };
    let engine = &*keeper.engine().await?;
    if let Some((id, mut held)) = engine.back_up(&snapshot.promised, dir).await? {
        snapshot.id = id;
        for (volume, paths) in volumes_of(plan) {
            let files = held.remove(&volume).unwrap_or_default();
            look_into(keeper, plan, (&volume, &paths), dir, files, listing, &mut snapshot).await?;
        }
        return Ok(snapshot);
    }
    for service in &plan.services {
        hook(keeper, engine, service, service.pre_hook.as_deref(), "backupbot.backup.pre-hook").await?;
    }
    if plan.services.iter().any(dumps::are_named) {
        let after = contents::list(keeper).await?;
        snapshot.stale = plan.services.iter().filter_map(|service| dumps::stale(service, listing, &after)).collect();
    }
    for (volume, paths) in volumes_of(plan) {
        let archive = archive_path(dir, &volume);
        let files = engine.archive_volume(&volume, &paths, &archive).await;
        let files = files.with_context(|| format!("failed to archive the volume `{volume}`"))?;
        look_into(keeper, plan, (&volume, &paths), dir, files, listing, &mut snapshot).await?;
    }
    for service in &plan.services {
        hook(keeper, engine, service, service.post_hook.as_deref(), "backupbot.backup.post-hook").await?;
    }
    Ok(snapshot)
}

/// Looks into what was archived of a volume: what the labels name has to be there, and whole.
async fn look_into(
    keeper: &Keeper,
    plan: &BackupPlan,
    (volume, paths): (&str, &[String]),
    dir: &Path,
    files: Vec<FileEntry>,
    listing: &Listing,
    snapshot: &mut Snapshot,
) -> Result<()> {
    dumps::check_paths(paths, &files).with_context(|| format!("the backup of the volume `{volume}`"))?;
    if plan.services.iter().any(|service| service.pre_hook.is_some()) {
        let (archive, named) = (archive_path(dir, volume), dumps::named(plan, volume));
        let until = Instant::now() + keeper.spec.settings.backup;
        let checked = tokio::task::spawn_blocking(move || dumps::check(&archive, &named, until)).await;
        let unknown =
            checked.context("failed to look at the dumps")?.with_context(|| format!("in the volume `{volume}`"))?;
        snapshot.unjudged.extend(unknown.into_iter().map(|path| format!("{volume}/{path}")));
    }
    let planted = keeper.app.lock().await.planted.clone();
    let is_canary = |path: &str| planted.iter().any(|it| it.volume == volume && it.path == path);
    let had_nothing = listing.get(volume).is_some_and(|listed| contents::holds_nothing(listed, is_canary));
    if had_nothing && files.iter().any(|file| is_canary(&file.path)) {
        snapshot.empty.insert(volume.to_owned());
    }
    let own = files.into_iter().filter(|file| !is_canary(&file.path)).collect();
    snapshot.volumes.insert(volume.to_owned(), own);
    Ok(())
}

/// The archive of a volume in a snapshot's directory.
pub(super) fn archive_path(dir: &Path, volume: &str) -> std::path::PathBuf {
    dir.join(format!("{volume}.tar"))
}

/// Gives the hook, which arrives as `$0`, to bash with `pipefail` where the container has bash, else to its `sh`.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash -c 'set -o pipefail; eval \"$0\"' \"$0\"; \
                     else exec sh -c \"$0\"; fi";

/// Runs a hook inside the service's container. backup-bot-two wraps it in `bash -c 'set -o pipefail; …'` and only logs
/// a failure; here a failed hook fails the operation, because what it should have dumped is not in the snapshot.
pub(super) async fn hook(
    keeper: &Keeper,
    engine: &Rig,
    service: &BackupService,
    line: Option<&str>,
    label: &str,
) -> Result<()> {
    let Some(line) = line else { return Ok(()) };
    let attempt = format!("hook `{label}` of service `{}`", service.service);
    let argv = ["/bin/sh", "-c", SHELL, line].map(str::to_owned).into();
    let exec =
        Exec { service: service.service.clone(), argv, deadline: keeper.spec.settings.backup, ..Exec::default() };
    let poll = Poll::within(keeper.spec.settings.backup);
    // A container that cycles under a hook leaves half a dump: the hook then runs again, from the start.
    let output = poll.until_done(&attempt, async || again(engine.exec(&exec).await)).await;
    let output = output.with_context(|| format!("failed to run the {attempt}"))?;
    if output.code != 0 {
        let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr })
            .into_owned();
        bail!("the {attempt} exited with code {}: {}", output.code, said.trim());
    }
    Ok(())
}

/// A snapshot must have been made before it can be put back.
pub(super) fn missing() -> Failure {
    Failure::new(Fault::Harness, "there is no snapshot to restore")
}
