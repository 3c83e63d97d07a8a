//! Install: the one create-and-deploy of a run.

use std::sync::Arc;

use super::install_steps;
use crate::engine::{Engine, EngineContext, Kind, Ledger as _, SWARMS_MONITOR};
use crate::fault::Failure;
use crate::keeper::protocol::Deployed;
use crate::keeper::rig::Rig;
use crate::keeper::{Keeper, lint, surroundings};
use crate::recipe::checkout::Checkout;

/// Checks the recipe out, starts the engine, lets the overlay prepare, and deploys the base, or the head when there is
/// nothing to upgrade from.
pub async fn run(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let (checkout, engine) = tokio::join!(check_out(keeper), start(keeper));
    *keeper.engine.write().await = Some(Rig::new(engine?, &keeper.spec));
    keeper.app.lock().await.checkout = Some(checkout?);
    surroundings::remember(keeper).await;
    lint::begin(keeper);
    let spec = &keeper.spec;
    let (state, form) = match &spec.base {
        Some(base) => (base.clone(), Deployed::Base),
        None => (spec.head.clone(), Deployed::Head),
    };
    let state = install_steps::run(keeper, state).await?;
    let what = spec.plan.base.as_ref().map_or_else(|| spec.plan.head.to_string(), |base| base.to_string());
    super::deploy(keeper, &state, form, &what).await?;
    super::fetch_ahead(keeper);
    Ok(())
}

async fn check_out(keeper: &Arc<Keeper>) -> Result<Checkout, Failure> {
    let dir = keeper.checkout_dir();
    let name = dir.display().to_string();
    keeper.journal.creating(Kind::Directory, &name).map_err(Failure::infrastructure)?;
    let checkout = keeper.on_disk(move |keeper| keeper.spec.mirror.checkout(&keeper.spec.base_or_head(), &dir));
    checkout.await.map_err(Failure::infrastructure)
}

async fn start(keeper: &Arc<Keeper>) -> Result<Engine, Failure> {
    let context = EngineContext {
        run_id: keeper.spec.run_id.clone(),
        dir: keeper.engine_dir(),
        image_cache: keeper.spec.state.join("images"),
        image_map: keeper.spec.images.clone(),
        stack: keeper.spec.stack(),
        domain: keeper.spec.domain.clone(),
        monitor: keeper.spec.settings.settle.min(SWARMS_MONITOR),
        ledger: keeper.journal.clone(),
    };
    Engine::start(&keeper.spec.engine, context).await.map_err(Failure::infrastructure)
}
