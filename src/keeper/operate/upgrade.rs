//! Upgrade: the head over the base, in place, as `abra app deploy --chaos` does it.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::fault::Failure;
use crate::keeper::protocol::Deployed;
use crate::keeper::{Keeper, canary, contents, databases, mounts, probe};
use crate::tier::Tier;

/// Lists what the volumes hold and plants canaries there, checks the head out again, redeploys, and lists once more.
pub async fn run(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let listing = contents::list(keeper).await?;
    canary::plant(keeper, &listing).await?;
    databases::plant(keeper, &listing).await?;
    mounts::remember(keeper).await?;
    keeper.app.lock().await.held_nothing = contents::empty(&listing);
    switch(keeper).await.context("failed to check the head out").map_err(Failure::infrastructure)?;
    let head = keeper.spec.head.clone();
    let what = keeper.spec.plan.head.to_string();
    probe::during(keeper, Tier::Upgrade, super::deploy(keeper, &head, Deployed::Head, &what)).await?;
    contents::compare(keeper, listing).await
}

/// The checkout is forced to the head right before it is deployed, whatever happened to it since.
async fn switch(keeper: &Arc<Keeper>) -> anyhow::Result<()> {
    let checkout = keeper.app.lock().await.checkout.take().ok_or_else(|| anyhow!("there is no checkout"))?;
    let switched = keeper.on_disk(move |keeper| checkout.switch(&keeper.spec.plan.head).map(|()| checkout)).await?;
    keeper.app.lock().await.checkout = Some(switched);
    Ok(())
}
