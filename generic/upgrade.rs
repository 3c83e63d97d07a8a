//! What every recipe must show after it was upgraded to its head.

use harness::generic;
use harness::prelude::*;

/// The commit on the deployment is the head's. "Something moved" would be no proof.
#[harness::test]
async fn deployed_head(app: &App) -> Result {
    let (identity, evidence) = (app.identity().await?, app.evidence().await?);
    ensure!(evidence.head.commit.len() == 40, "the head's commit is unknown, so nothing can be proven");
    ensure!(
        identity.chaos && identity.is_commit(&evidence.head.commit),
        "the deployment must say that it is commit `{}`, but its labels say {identity}",
        evidence.head.chaos_version()
    );
    ensure!(
        identity.dirty == evidence.head.dirty,
        "the deployment must say {} uncommitted changes (`+U`), but its labels say {identity}",
        if evidence.head.dirty { "that it has" } else { "that it has no" }
    );
    Ok(())
}

/// Swarm did not roll the update back, and did not stop in the middle of it.
#[harness::test]
async fn update_was_not_rolled_back(app: &App) -> Result {
    for service in app.services().await? {
        if let Some(update) = &service.update {
            // Swarm pauses the update of a service that runs once: its task ends "early".
            let is_done = update.state == UpdateState::Paused && service.is_done();
            ensure!(
                update.state == UpdateState::Completed || is_done,
                "the update of service `{}` must be completed, but it is {} ({})",
                service.name,
                update.state,
                update.message
            );
        }
    }
    Ok(())
}

/// Every service runs the image that the head's compose files name.
#[harness::test]
async fn images_match_the_head(app: &App) -> Result {
    generic::images_match_the_compose_files(app).await
}

/// No service runs that the head does not name. abra deploys without pruning, so one that the head dropped would live on.
#[harness::test]
async fn no_dropped_service_runs(app: &App) -> Result {
    let named = app.evidence().await?.images;
    let services = app.services().await?;
    let left: Vec<&str> =
        services.iter().map(|it| it.name.as_str()).filter(|name| !named.contains_key(*name)).collect();
    ensure!(
        left.is_empty(),
        "the head's compose files no longer name `{}`, but it still runs: abra deploys without pruning, so say in the \
         release notes how to remove it",
        left.join("`, `")
    );
    Ok(())
}

/// Operators are told of every key and secret that only the head's `.env.sample` has.
#[harness::test]
async fn new_settings_are_told(app: &App) -> Result {
    generic::new_settings_are_told(app).await
}

/// The head's labels put into a snapshot what the base's did.
#[harness::test]
async fn backup_covers_what_it_did(app: &App) -> Result {
    generic::backup_covers_what_it_did(app).await
}

/// Every service runs as many tasks as in the base, and none that ran without end has ended.
#[harness::test]
async fn services_still_run(app: &App) -> Result {
    generic::services_still_run(app).await
}

/// No container of the base runs any more: what answers is the head.
#[harness::test]
async fn no_old_task_runs(app: &App) -> Result {
    generic::no_old_task_runs(app).await
}

/// A file written into each named volume before the upgrade is still there.
#[harness::test]
async fn volumes_are_kept(app: &App) -> Result {
    generic::canaries_are_in_place(app, "the upgrade lost it").await
}

/// No database has vanished from a volume, none was emptied or begun anew, and no volume has lost most of its bytes.
#[harness::test]
async fn stored_data_is_kept(app: &App) -> Result {
    generic::stored_data_is_kept(app).await
}

/// A row that was written into each of the app's databases before the upgrade, by the database's own client, is there.
#[harness::test]
async fn databases_are_kept(app: &App) -> Result {
    generic::databases_are_kept(app).await
}

/// Every volume is mounted where the base had it, by the same service and as writable: the app still finds its data.
#[harness::test]
async fn mounts_are_kept(app: &App) -> Result {
    generic::mounts_are_kept(app).await
}

/// What the app stores it stores in named volumes: not in anonymous ones, its containers' layers, or memory.
#[harness::test]
async fn data_is_in_volumes(app: &App) -> Result {
    generic::data_is_in_volumes(app).await
}

/// Every service runs as many tasks as it should, for long enough, without a restart.
#[harness::test]
async fn services_are_stable(app: &App) -> Result {
    generic::services_are_stable(app).await
}

/// The head's labels lead visitors to the app: router, rule, entry point, middlewares, service, port and network.
#[harness::test]
async fn route_leads_to_the_app(app: &App) -> Result {
    generic::route_leads_to_the_app(app).await
}

/// The app answers through its own route with an accepted status.
#[harness::test]
async fn answers_over_http(app: &App) -> Result {
    generic::answers_over_http(app).await
}

/// Ports that the recipe publishes, or routes over TCP or UDP, are listened on. A recipe without any has no such trial.
#[harness::test]
async fn ports_answer(app: &App) -> Result {
    generic::ports_answer(app).await
}

/// The upgrade took no longer than its budget, or its deadline.
#[harness::test]
async fn within_budget(app: &App) -> Result {
    generic::within_budget(app).await
}
