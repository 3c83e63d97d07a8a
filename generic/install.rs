//! What every recipe must show after it was installed.

use harness::generic;
use harness::prelude::*;

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

/// The labels lead visitors to the app: router, rule, entry point, middlewares, service, port and network.
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

/// The deployment says that it is exactly what was to be installed: the base version, or the head's commit.
#[harness::test]
async fn deployed_what_was_asked_for(app: &App) -> Result {
    let (identity, evidence) = (app.identity().await?, app.evidence().await?);
    match &evidence.base {
        Some(base) if !base.annotated => ensure!(
            identity.is_commit(&base.commit) && !identity.dirty,
            "the deployment must say that it is commit `{}` of the lightweight tag `{base}`, but its labels say {identity}",
            base.commit
        ),
        Some(base) => ensure!(
            identity.version.as_deref() == Some(base.tag.as_str()) && !identity.chaos,
            "the deployment must say that it is version `{base}`, but its labels say {identity}"
        ),
        None => ensure!(
            identity.is_commit(&evidence.head.commit) && identity.dirty == evidence.head.dirty,
            "the deployment must say that it is commit `{}`, but its labels say {identity}",
            evidence.head.chaos_version()
        ),
    }
    Ok(())
}

/// Every service runs the image that the compose files name.
#[harness::test]
async fn images_match_the_compose_files(app: &App) -> Result {
    generic::images_match_the_compose_files(app).await
}

/// The install took no longer than its budget, or its deadline.
#[harness::test]
async fn within_budget(app: &App) -> Result {
    generic::within_budget(app).await
}

/// No generated secret stands in a service's log.
#[harness::test]
async fn no_secret_in_the_logs(app: &App) -> Result {
    generic::no_secret_in_the_logs(app).await
}
