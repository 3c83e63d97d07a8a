//! Which engine a run uses: the one that was asked for, else the first that is usable here, and why.

use anyhow::{Context as _, Result, bail};

use crate::config::{Config, EngineChoice};
use crate::engine::swarm::endpoint::Endpoint;
use crate::engine::{EngineSpec, abra, embedded, swarm};
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

/// Chooses the engine. Whatever keeps an engine from deploying these very stacks is an error when it was asked for, and
/// otherwise the reason, which the header of the run says, for not using it.
pub fn choose(config: &Config, stacks: &[&Stack]) -> Result<Chosen> {
    match config.engine {
        EngineChoice::Embedded => embedded(config, stacks, "as asked for".into()),
        EngineChoice::Swarm => swarm(stacks, "as asked for").context("failed to use the engine `swarm`"),
        EngineChoice::Abra => {
            let found = runtime()?.block_on(abra::find(&env, config.abra_server.as_deref()));
            let chosen = found.and_then(|found| abra(stacks, "as asked for", found));
            chosen.context("failed to use the engine `abra`")
        }
        EngineChoice::Auto => auto(config, stacks),
    }
}

fn auto(config: &Config, stacks: &[&Stack]) -> Result<Chosen> {
    // That there is no abra, or one that was never given a server, is worth no word; one that cannot be used is.
    let wanted = config.abra_server.as_deref();
    let mut passed_over = None;
    if wanted.is_some() || abra::is_set_up(&env) {
        let found = runtime()?.block_on(abra::find(&env, wanted));
        match found.and_then(|found| abra(stacks, "because it is here and has a server", found)) {
            Ok(chosen) => return Ok(chosen),
            Err(error) => passed_over = Some(format!("abra was passed over: {error:#}")),
        }
    }
    let mut chosen = match swarm(stacks, "because a Swarm manager answers") {
        Ok(chosen) => chosen,
        Err(error) => embedded(config, stacks, format!("because no Docker Swarm is usable here: {error:#}"))?,
    };
    chosen.notes.extend(passed_over);
    Ok(chosen)
}

fn embedded(config: &Config, stacks: &[&Stack], why: String) -> Result<Chosen> {
    let mut impossible = embedded::impossible_images(stacks.iter().copied(), &config.images);
    impossible.extend(embedded::impossible_mounts(stacks));
    if !impossible.is_empty() {
        // Without the reason for this engine, nobody would know that another one would do.
        bail!("{}; engine: embedded, {why}", impossible.join("; "));
    }
    let stand_ins = embedded::stand_ins(stacks.iter().copied(), &config.images);
    Ok(Chosen { spec: EngineSpec::Embedded, why: format!("embedded, {why}"), stand_ins, notes: Vec::new() })
}

fn swarm(stacks: &[&Stack], why: &str) -> Result<Chosen> {
    let endpoint = Endpoint::find(&env)?;
    let place = format!("{} ({})", endpoint.host, endpoint.origin);
    let checked = check(endpoint, stacks, false)?;
    Ok(Chosen {
        spec: EngineSpec::Swarm(checked.spec),
        why: format!("swarm, {why}: {place}"),
        stand_ins: checked.stand_ins,
        notes: checked.notes,
    })
}

fn abra(stacks: &[&Stack], why: &str, found: abra::Found) -> Result<Chosen> {
    let endpoint = abra::endpoint(&env, &found.server)?;
    check_length(stacks)?;
    let checked = check(endpoint, stacks, true)?;
    let why = format!(
        "abra, {why}: `{}` says it is version {}; server `{}`",
        found.program.display(),
        found.version,
        found.server
    );
    let spec = abra::AbraSpec {
        swarm: checked.spec,
        program: found.program,
        version: found.version,
        server: found.server,
        catalogue: found.catalogue,
    };
    let notes = found.notes.into_iter().chain(checked.notes).collect();
    Ok(Chosen { spec: EngineSpec::Abra(spec), why, stand_ins: checked.stand_ins, notes })
}

/// That abra cuts off longer names is recalled; see `src/engine/abra/app.rs` for what is done when it cuts off others.
fn check_length(stacks: &[&Stack]) -> Result<()> {
    const LONGEST: usize = 45;
    match stacks.iter().find(|stack| stack.name.len() > LONGEST) {
        Some(stack) => bail!(
            "the stack's name `{}` has {} characters, and abra cuts it off after {LONGEST}: shorten `zone`",
            stack.name,
            stack.name.len()
        ),
        None => Ok(()),
    }
}

fn check(endpoint: Endpoint, stacks: &[&Stack], as_it_is: bool) -> Result<swarm::Checked> {
    let wanted = swarm::Wanted { stacks: stacks.to_vec(), as_it_is };
    runtime()?.block_on(swarm::preflight(endpoint, &wanted))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")
}

fn env(key: &str) -> Option<String> {
    std::env::var(key).ok()
}
