//! What every recipe with backup labels must show after a backup.

use harness::generic;
use harness::prelude::*;

/// The snapshot holds every volume that the labels promise, and something of the app's own in it.
#[harness::test]
async fn snapshot_holds_every_volume(app: &App) -> Result {
    let snapshot = app.evidence().await?.snapshot.context("no snapshot was made")?;
    ensure!(!snapshot.promised.is_empty(), "the labels switch the backup on, but promise no volume at all");
    for volume in &snapshot.promised {
        let files = snapshot.volumes.get(volume);
        let files = files.with_context(|| format!("the snapshot `{}` lacks the volume `{volume}`", snapshot.id))?;
        ensure!(
            files.iter().any(|file| file.size > 0) || snapshot.empty.contains(volume),
            "the snapshot `{}` must hold data of the volume `{volume}`, but there are {} files and all are empty",
            snapshot.id,
            files.len()
        );
    }
    Ok(())
}

/// What the hooks dumped is of this backup, and whole as far as its format is known.
#[harness::test]
async fn dumps_are_new_and_whole(app: &App) -> Result {
    generic::dumps_are_new_and_whole(app).await
}

/// The app still answers: a backup must not take it down.
#[harness::test]
async fn answers_over_http(app: &App) -> Result {
    generic::answers_over_http(app).await
}

/// No service restarted under the backup.
#[harness::test]
async fn services_are_stable(app: &App) -> Result {
    generic::services_are_stable(app).await
}

/// The backup took no longer than its budget, or its deadline.
#[harness::test]
async fn within_budget(app: &App) -> Result {
    generic::within_budget(app).await
}
