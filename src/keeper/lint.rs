//! Linting the head with abra, beside the tiers: a section of the report, without weight for the verdict.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::Keeper;
use super::journal::Event;
use crate::engine::abra::{AbraSpec, lint};
use crate::engine::{EngineSpec, Kind, Ledger as _};

/// A lint that is still under way at teardown gets this long to end.
const REST: Duration = Duration::from_secs(10);

/// Begins to lint the head, where abra is the engine.
pub fn begin(keeper: &Arc<Keeper>) {
    let EngineSpec::Abra(spec) = keeper.spec.engine.clone() else { return };
    let linting = tokio::spawn({
        let keeper = keeper.clone();
        async move {
            let (rules, failure) = match lint_head(&keeper, &spec).await {
                Ok(rules) => (rules, None),
                Err(error) => (Vec::new(), Some(format!("{error:#}"))),
            };
            if let Err(error) = keeper.journal.write(Event::Linted { rules, failure }) {
                eprintln!("{error:#}");
            }
        }
    });
    *keeper.linting.lock().unwrap_or_else(PoisonError::into_inner) = Some(linting);
}

/// Waits for a lint that is under way, and ends it when that takes too long.
pub async fn end(keeper: &Keeper) {
    let linting = keeper.linting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut linting) = linting else { return };
    if tokio::time::timeout(REST, &mut linting).await.is_err() {
        linting.abort();
        let _ = linting.await;
        let failure = Some("the run was torn down before abra had ended".to_owned());
        if let Err(error) = keeper.journal.write(Event::Linted { rules: Vec::new(), failure }) {
            eprintln!("{error:#}");
        }
    }
}

async fn lint_head(keeper: &Arc<Keeper>, spec: &AbraSpec) -> Result<Vec<lint::Rule>> {
    let recipe = keeper.spec.plan.recipe.as_str();
    let dir = lint::clone_dir(&keeper.engine_dir(), recipe);
    keeper.journal.creating(Kind::Directory, &dir.display().to_string())?;
    let clone = keeper.on_disk(move |keeper| keeper.spec.mirror.checkout(&keeper.spec.plan.head, &dir)).await?;
    lint::lint(spec, &keeper.engine_dir(), recipe, &clone).await
}
