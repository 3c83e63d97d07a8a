//! Which engine a run uses: the one that was asked for, else a Swarm of this machine, else the embedded one, and why.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use crate::config::{Config, EngineChoice, Settings};
use crate::engine::swarm::endpoint::Endpoint;
use crate::engine::{EngineSpec, SWARMS_MONITOR, abra, embedded, swarm};
use crate::fault::{Failure, Fault};
use crate::recipe::source::address::redact;
use crate::recipe::stack::{Service, Stack};

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
/// otherwise the reason, which the header of the run says, for not using it. What Docker or a registry says of the
/// recipe's own images is the recipe's failure, whoever asked.
pub fn choose(config: &Config, stacks: &[&Stack]) -> Result<Chosen> {
    match config.engine {
        EngineChoice::Embedded => embedded(config, stacks, ", as asked for"),
        EngineChoice::Swarm => {
            let chosen = Endpoint::find(&env).and_then(|endpoint| swarm(endpoint, stacks, "as asked for"));
            chosen.context("failed to use the engine `swarm`")
        }
        EngineChoice::Abra => {
            let found = runtime()?.block_on(abra::find(&env, config.abra_server.as_deref()));
            let chosen = found.and_then(|found| abra(stacks, "as asked for", found));
            chosen.context("failed to use the engine `abra`")
        }
        EngineChoice::Auto => auto(config, stacks),
    }
}

/// How long the app is watched: what dies later than that is not seen, and a reader should know.
pub fn patience(settings: &Settings, engine: &EngineSpec, head: &Stack) -> Vec<String> {
    let watched = humantime::format_duration(settings.settle.max(settings.stable));
    let longer = match settings.settle > settings.stable {
        true => String::new(),
        false => "; `CI=true` makes that 30s, `deadlines.settle` as long as you like".to_owned(),
    };
    let mut notes = vec![format!("the app is watched for {watched} after the last operation{longer}")];
    let shortened = |service: &Service| {
        let policy = &service.deploy.update;
        policy.is_named && policy.monitor.is_none() && settings.settle < SWARMS_MONITOR
    };
    let names: Vec<&str> =
        head.services.iter().filter(|(_, it)| shortened(it)).map(|(name, _)| name.as_str()).collect();
    if matches!(engine, EngineSpec::Embedded) && !names.is_empty() {
        notes.push(format!(
            "a Swarm watches a new task of `{}` for 5s before its update counts as done, and this run for less: a failure \
             after that is no rollback here",
            names.join("`, `")
        ));
    }
    notes
}

/// What a plan says although nobody has looked: a registry is asked when its image is pulled.
pub fn not_looked_at(engine: &EngineSpec, stacks: &[&Stack], images: &BTreeMap<String, String>) -> Option<String> {
    let EngineSpec::Embedded = engine else { return None };
    let pulled = embedded::to_pull(stacks.iter().copied(), images);
    (!pulled.is_empty()).then(|| {
        let them = if pulled.len() == 1 { "it" } else { "them" };
        format!(
            "whether `{}` can be pulled is not known yet: `--plan` asks no registry, and a run without {them} is none",
            pulled.join("`, `")
        )
    })
}

/// A Swarm of this machine, else the embedded engine. What is somewhere else may be in production: nobody who has not
/// named it wants anything deployed there.
fn auto(config: &Config, stacks: &[&Stack]) -> Result<Chosen> {
    let mut notes = Vec::new();
    match &config.abra_server {
        Some(server) => {
            let found = runtime()?.block_on(abra::find(&env, Some(server)));
            match found.and_then(|found| abra(stacks, "because `[abra] server` in harness.toml names it", found)) {
                Err(error) if !is_recipes(&error) => notes.push(format!("abra was passed over: {error:#}")),
                chosen => return chosen.context("failed to use the engine `abra`"),
            }
        }
        None => notes.extend(abra::would_be_used(&env)),
    }
    let mut chosen = match Endpoint::find(&env) {
        Ok(endpoint) if endpoint.is_local() => match swarm(endpoint, stacks, "because a Swarm manager answers here") {
            Err(error) if !is_recipes(&error) => embedded(config, stacks, &format!(" ({})", briefly(&error)))?,
            chosen => chosen.context("failed to use the engine `swarm`")?,
        },
        Ok(elsewhere) => {
            let (host, origin) = (redact(&elsewhere.host), &elsewhere.origin);
            notes.push(format!("there is a Docker at `{host}` ({origin}): `--engine swarm` would use its Swarm"));
            embedded(config, stacks, &format!(" ({origin} leads to another machine)"))?
        }
        Err(error) => embedded(config, stacks, &format!(" ({error:#})"))?,
    };
    chosen.notes.extend(notes);
    Ok(chosen)
}

/// Whether what Docker or a registry said is about the recipe: no other engine makes it right.
fn is_recipes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.fault == Fault::Recipe)
}

/// Why no Swarm of this machine is used, for one line of the header.
fn briefly(error: &anyhow::Error) -> String {
    match (error.downcast_ref::<swarm::NotHere>(), error.downcast_ref::<Failure>()) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(failure)) => failure.message.clone(),
        // Remedies stand on further lines, and nobody needs them who goes on without.
        (None, None) => {
            format!("no Swarm here can be used: {}", format!("{error:#}").lines().next().unwrap_or_default())
        }
    }
}

fn embedded(config: &Config, stacks: &[&Stack], why: &str) -> Result<Chosen> {
    let mut impossible = embedded::impossible_images(stacks.iter().copied(), &config.images);
    impossible.extend(embedded::impossible_mounts(stacks));
    if !impossible.is_empty() {
        // Without the reason for this engine, nobody would know that another one would do.
        bail!("{}; engine: embedded{why}", impossible.join("; "));
    }
    let stand_ins = embedded::stand_ins(stacks.iter().copied(), &config.images);
    Ok(Chosen { spec: EngineSpec::Embedded, why: format!("embedded{why}"), stand_ins, notes: Vec::new() })
}

fn swarm(endpoint: Endpoint, stacks: &[&Stack], why: &str) -> Result<Chosen> {
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
