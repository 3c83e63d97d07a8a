//! Which engine a run uses: the one that was asked for, else the first that is usable here, and why.

use anyhow::{Context as _, Result, bail};

use crate::config::{Config, EngineChoice};
use crate::engine::swarm::endpoint::Endpoint;
use crate::engine::{EngineSpec, embedded, swarm};
use crate::recipe::stack::Stack;

/// An engine that can deploy these stacks.
pub struct Chosen {
    pub spec: EngineSpec,
    /// Which one, and why, for people.
    pub why: String,
    /// One line for every image that is not what its name says.
    pub stand_ins: Vec<String>,
    pub notes: Vec<String>,
}

/// Chooses the engine. Whatever keeps a Swarm from deploying these very stacks is an error when it was asked for, and
/// otherwise the reason, which the header of the run says, for not using it.
pub fn choose(config: &Config, stacks: &[&Stack]) -> Result<Chosen> {
    match config.engine {
        EngineChoice::Embedded => embedded(config, stacks, "as asked for".into()),
        EngineChoice::Swarm => swarm(stacks, "as asked for").context("failed to use the engine `swarm`"),
        EngineChoice::Auto => match swarm(stacks, "because a Swarm manager answers") {
            Ok(chosen) => Ok(chosen),
            Err(error) => embedded(config, stacks, format!("because no Docker Swarm is usable here: {error:#}")),
        },
    }
}

fn embedded(config: &Config, stacks: &[&Stack], why: String) -> Result<Chosen> {
    let impossible = embedded::impossible_images(stacks.iter().copied(), &config.images);
    if !impossible.is_empty() {
        // Without the reason for this engine, nobody would know that another one would do.
        bail!("{}; engine: embedded, {why}", impossible.join("; "));
    }
    let stand_ins = embedded::stand_ins(stacks.iter().copied(), &config.images);
    Ok(Chosen { spec: EngineSpec::Embedded, why: format!("embedded, {why}"), stand_ins, notes: Vec::new() })
}

fn swarm(stacks: &[&Stack], why: &str) -> Result<Chosen> {
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok())?;
    let place = format!("{} ({})", endpoint.host, endpoint.origin);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let wanted = swarm::Wanted { stacks: stacks.to_vec() };
    let checked = runtime.block_on(swarm::preflight(endpoint, &wanted))?;
    Ok(Chosen {
        spec: EngineSpec::Swarm(checked.spec),
        why: format!("swarm, {why}: {place}"),
        stand_ins: checked.stand_ins,
        notes: checked.notes,
    })
}
