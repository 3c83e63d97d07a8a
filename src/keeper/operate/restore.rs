//! Restore: that very snapshot, by its id, over the running app.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::backup::{archive_path, hook, missing, plan, volumes_of};
use crate::fault::Failure;
use crate::keeper::blame::blame;
use crate::keeper::canary::Dump;
use crate::keeper::protocol::Snapshot;
use crate::keeper::{Keeper, canary, converge, databases};
use crate::recipe::backup::{BackupPlan, BackupService};

/// Changes the canaries, so that a restore of nothing is seen, then unpacks the archives and runs the hooks.
pub async fn run(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let snapshot = keeper.app.lock().await.snapshot.clone().ok_or_else(missing)?;
    canary::change(keeper).await?;
    databases::change(keeper).await?;
    let plan = plan(keeper).await;
    let told = keeper.app.lock().await.ended.clone();
    let ended = super::ended(keeper).await?;
    let dumps = canary::ruin_dumps(keeper, &plan, &snapshot).await?;
    put_back(keeper, &plan, &snapshot, dumps).await.map_err(blame)?;
    let state = keeper.app.lock().await.deployed.state.clone().ok_or_else(missing)?;
    let deadline = keeper.spec.settings.backup;
    let before = BTreeMap::new();
    let expect = converge::Expect { ended: ended.clone(), ..converge::Expect::new(&state.stack, &before) };
    converge::wait(keeper, expect, deadline).await?;
    converge::ready(keeper, deadline).await?;
    // The backup's assertions have told what ended before it was over. Without a hook nothing was restarted since: what
    // ended meanwhile ended by itself.
    let hooked = |service: &BackupService| service.restore_pre_hook.is_some() || service.restore_post_hook.is_some();
    let hooked = plan.services.iter().any(hooked);
    let is_forgiven = |task: &str| told.contains(task) || (hooked && !ended.contains(task));
    super::note_failures(keeper, is_forgiven).await
}

async fn put_back(keeper: &Keeper, plan: &BackupPlan, snapshot: &Snapshot, dumps: Vec<Dump>) -> Result<()> {
    let dir = keeper.snapshots_dir().join(&snapshot.id);
    let engine = &*keeper.engine().await?;
    if engine.restore(&snapshot.id).await.with_context(|| format!("failed to restore snapshot `{}`", snapshot.id))? {
        // The hooks have run, and one of them may have taken the dump away.
        let hooked = plan.services.iter().any(|service| service.restore_post_hook.is_some());
        return canary::look_at_dumps(keeper, engine, dumps, hooked).await;
    }
    for service in &plan.services {
        hook(keeper, engine, service, service.restore_pre_hook.as_deref(), "backupbot.restore.pre-hook").await?;
    }
    for (volume, _) in volumes_of(plan) {
        let restored = engine.restore_volume(&volume, &archive_path(&dir, &volume)).await;
        restored.with_context(|| format!("failed to restore the volume `{volume}` from snapshot `{}`", snapshot.id))?;
    }
    canary::look_at_dumps(keeper, engine, dumps, false).await?;
    for service in &plan.services {
        hook(keeper, engine, service, service.restore_post_hook.as_deref(), "backupbot.restore.post-hook").await?;
    }
    Ok(())
}
