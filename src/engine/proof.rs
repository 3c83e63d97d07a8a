//! What proves that nothing is left: a second look after a removal, and the removal of what a dead run left. And the
//! two things that planted faults need of an engine, so that they are proven to be seen.

use std::path::Path;

use anyhow::Result;

use super::{Engine, Kind, embedded, swarm};

impl Engine {
    /// What is there of the run now, by a look of its own: what a removal says about itself is no proof.
    pub async fn left(&self) -> Result<Vec<(Kind, String)>> {
        match self {
            Engine::Embedded(engine) => engine.left(),
            Engine::Swarm(engine) => engine.left().await,
            Engine::Abra(engine) => engine.swarm.left().await,
        }
    }

    /// What of the run was there and is gone, although nothing of the run has removed it. To be asked before a removal.
    pub async fn vanished(&self) -> Result<Vec<(Kind, String)>> {
        match self {
            // Nobody else gets at what the embedded engine has.
            Engine::Embedded(_) => Ok(Vec::new()),
            Engine::Swarm(engine) => engine.vanished().await,
            Engine::Abra(engine) => engine.swarm.vanished().await,
        }
    }

    /// Kills the newest running container of a service, as a crash would: for planted faults.
    pub async fn kill(&self, service: &str) -> Result<()> {
        match self {
            Engine::Embedded(engine) => engine.kill(service),
            Engine::Swarm(engine) => engine.kill(service).await,
            Engine::Abra(engine) => engine.swarm.kill(service).await,
        }
    }

    /// Creates a thing of this kind that belongs to the run, after everything was removed: for planted faults. A sweep
    /// finds it like anything else of the run.
    pub async fn leave(&self, kind: Kind) -> Result<()> {
        match self {
            Engine::Embedded(engine) => engine.leave(kind),
            Engine::Swarm(engine) => engine.leave(kind).await,
            Engine::Abra(engine) => engine.swarm.leave(kind).await,
        }
    }
}

/// Removes what an engine without an owner has left in a run's engine directory and elsewhere, and says what stayed.
/// The directory tells which engine it was; one that has never begun leaves nothing.
pub async fn sweep(dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for swept in [embedded::sweep(dir).await.map(|swept| swept.left), swarm::sweep(dir).await] {
        match swept {
            Ok(things) => left.extend(things.into_iter().map(|(kind, name)| format!("{kind} `{name}`"))),
            Err(error) => left.push(format!("{error:#}")),
        }
    }
    left
}
