//! What every recipe with backup labels must show after a restore.

use harness::generic;
use harness::prelude::*;

/// Files that were changed between backup and restore are as they were when the snapshot was made.
#[harness::test]
async fn changes_since_the_backup_are_undone(app: &App) -> Result {
    generic::changes_since_the_backup_are_undone(app).await
}

/// A row that was changed in each of the app's databases says what it said when the snapshot was made, and goes on to.
#[harness::test]
async fn databases_are_restored(app: &App) -> Result {
    generic::databases_are_restored(app).await
}

/// The app answers again.
#[harness::test]
async fn answers_over_http(app: &App) -> Result {
    generic::answers_over_http(app).await
}

/// Ports that the recipe publishes, or routes over TCP or UDP, are listened on. A recipe without any has no such trial.
#[harness::test]
async fn ports_answer(app: &App) -> Result {
    generic::ports_answer(app).await
}

/// Every service runs as many tasks as it should, for long enough, without a restart.
#[harness::test]
async fn services_are_stable(app: &App) -> Result {
    generic::services_are_stable(app).await
}

/// The restore took no longer than its budget, or its deadline.
#[harness::test]
async fn within_budget(app: &App) -> Result {
    generic::within_budget(app).await
}
