//! Connections to the keeper: one a trial, one for whoever watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;

use super::blame::blame;
use super::journal::Event;
use super::protocol::{Answer, Call, Evidence, Hidden, Leak, Scattered};
use super::socket::Wire;
use super::spec::RunSpec;
use super::{Keeper, canary, databases, mounts, operate, outside, stage, teardown};
use crate::engine::printed::Secrets;
use crate::engine::{ServiceState, again};
use crate::fault::{Failure, Fault};
use crate::mask::Masks;
use crate::poll::Poll;
use crate::recipe::backup::{self, Lost};
use crate::recipe::fresh::Fresh;
use crate::recipe::route::ports;
use crate::recipe::secret::SecretValue;
use crate::recipe::stack::Stack;
use crate::recipe::{AppState, abra};
use crate::sabotage::Sabotage;

/// Accepts connections until the keeper is done.
pub async fn listen(keeper: &Arc<Keeper>, listener: UnixListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("failed to accept a connection")?;
        let keeper = keeper.clone();
        tokio::spawn(async move {
            if let Err(error) = talk(&keeper, Wire::new(stream)).await {
                eprintln!("a connection ended early: {error:#}");
            }
        });
    }
}

async fn talk(keeper: &Arc<Keeper>, mut wire: Wire) -> Result<()> {
    // The lease of this connection; it ends with it, however it ends.
    let mut lease = None;
    while let Some(call) = wire.receive::<Call>().await? {
        match call {
            Call::Enter { tier } => {
                drop(lease.take());
                lease = stage::enter(keeper, tier, &mut wire).await?;
            }
            Call::Watch => return watch(keeper, wire).await,
            Call::Teardown { reason } => {
                drop(lease.take());
                let report = teardown::run(keeper, &reason).await;
                wire.send(&Answer::TornDown(report)).await?;
                keeper.finished.notify_one();
            }
            Call::Keep => {
                keeper.settle().await;
                wire.send(&keeper.keep().map_or_else(Answer::Failed, Answer::TornDown)).await?;
            }
            Call::Leave { limit } => {
                keeper.settle().await;
                wire.send(&keeper.leave(limit).map_or_else(Answer::Failed, Answer::TornDown)).await?;
            }
            call => wire.send(&answer(keeper, call).await).await?,
        }
    }
    Ok(())
}

async fn watch(keeper: &Arc<Keeper>, mut wire: Wire) -> Result<()> {
    let (past, mut future) = keeper.journal.follow()?;
    for record in past {
        wire.send(&Answer::Record(Box::new(record))).await?;
    }
    loop {
        match future.recv().await {
            Ok(record) => wire.send(&Answer::Record(Box::new(record))).await?,
            // A slow watcher misses some records on its screen; the journal has them all.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Answers one question about the app.
pub async fn answer(keeper: &Arc<Keeper>, call: Call) -> Answer {
    ask(keeper, call).await.unwrap_or_else(Answer::Failed)
}

async fn ask(keeper: &Arc<Keeper>, call: Call) -> Result<Answer, Failure> {
    match call {
        Call::Exec(exec) => {
            let engine = keeper.engine().await?;
            // A command has a deadline of its own, which may be longer than that of a call.
            let attempt = async || again(engine.exec(&exec).await);
            cycling(keeper).until_done(RUNNING, attempt).await.map(Answer::Exec).map_err(blame)
        }
        Call::Read { service, path } => {
            let engine = keeper.engine().await?;
            let look = async || again(engine.read_file(&service, &path).await);
            cycling(keeper).until(RUNNING, look).await.map(Answer::Content).map_err(blame)
        }
        Call::Write { service, path, content } => {
            let engine = keeper.engine().await?;
            let look = async || again(engine.write_file(&service, &path, &content).await);
            cycling(keeper).until(RUNNING, look).await.map(|()| Answer::Done).map_err(blame)
        }
        Call::Logs { service, tail } => {
            let logs = keeper.engine().await?.logs(&service, tail).await;
            logs.map(Answer::Logs).map_err(blame)
        }
        Call::Services => services(keeper).await.map(Answer::Services),
        Call::Connects { service, port } => {
            let connects = keeper.engine().await?.connects(&service, port).await;
            connects.map(Answer::Connects).map_err(blame)
        }
        Call::Identity => identity(keeper).await,
        Call::Remember { key, value } => {
            keeper.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key, value);
            Ok(Answer::Done)
        }
        Call::Recall { key } => {
            let memory = keeper.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Ok(Answer::Recalled(memory.get(&key).cloned()))
        }
        Call::Note { text } => keeper.note_once(text).await.map(|()| Answer::Done),
        Call::Ping => Ok(Answer::Done),
        Call::Evidence => Ok(Answer::Evidence(Box::new(evidence(keeper).await))),
        Call::Canaries => canary::look(keeper).await.map(Answer::Canaries),
        Call::Leaks => leaks(keeper).await.map(Answer::Leaks),
        Call::Secrets => {
            let secrets = keeper.app.lock().await.secrets.values().map(|value| value.expose().to_owned()).collect();
            Ok(Answer::Secrets(Hidden(secrets)))
        }
        Call::Way => {
            let stack = deployed(keeper).await?;
            Ok(Answer::Way(Box::new(operate::way(keeper, &stack))))
        }
        Call::Databases => databases::look(keeper).await.map(Answer::Databases),
        Call::Scattered => scattered(keeper).await.map(Answer::Scattered),
        Call::Uncovered => uncovered(keeper).await.map(Answer::Uncovered),
        Call::Address => Ok(Answer::Address(keeper.app.lock().await.url.clone())),
        Call::Standing => Ok(Answer::Standing(keeper.standing())),
        Call::Resume(invocation) => keeper.resume(*invocation).map(|()| Answer::Done),
        Call::TrialFinished(trial) => journal(keeper, Event::TrialFinished(trial)),
        Call::HookFinished { tier, name, millis, failure } => {
            journal(keeper, Event::HookFinished { tier, name, millis, failure })
        }
        other => Err(Failure::new(Fault::Harness, format!("a question that makes no sense here: {other:?}"))),
    }
}

fn journal(keeper: &Keeper, event: Event) -> Result<Answer, Failure> {
    keeper.journal.write(event).map(|()| Answer::Done).map_err(Failure::infrastructure)
}

const RUNNING: &str = "a running container";

/// Calls are repeated while the container cycles: a service that is just being replaced is no failure, until the deadline.
fn cycling(keeper: &Keeper) -> Poll {
    Poll { interval: Duration::from_millis(50), deadline: keeper.spec.settings.call }
}

async fn services(keeper: &Keeper) -> Result<Vec<ServiceState>, Failure> {
    keeper.engine().await?.services().await.map_err(Failure::infrastructure)
}

async fn identity(keeper: &Keeper) -> Result<Answer, Failure> {
    let services = services(keeper).await?;
    let app = services.iter().find(|service| service.name == abra::APP).ok_or_else(|| {
        let names: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
        Failure::recipe(anyhow!("no service `app`, which is the one that abra labels: there are {}", names.join(", ")))
    })?;
    Ok(Answer::Identity(abra::identity(&app.labels, &keeper.spec.stack())))
}

/// The compose files that were deployed last, with the labels that are on the deployment: those are what others read.
async fn deployed(keeper: &Keeper) -> Result<Stack, Failure> {
    let state = keeper.app.lock().await.deployed.state.clone();
    let mut stack = state.map(|state| state.stack).unwrap_or_default();
    for service in services(keeper).await? {
        if let Some(declared) = stack.services.get_mut(&service.name) {
            declared.deploy.labels = service.labels;
        }
    }
    Ok(stack)
}

/// What goes with its container. A note of it is journalled once.
async fn scattered(keeper: &Keeper) -> Result<Scattered, Failure> {
    let seen = keeper.engine().await?.outside().await.map_err(Failure::infrastructure)?;
    let scattered = outside::judge(&seen, &keeper.spec.settings.recipe_toml.upgrade.ephemeral);
    for text in &scattered.notes {
        keeper.note_once(text.clone()).await?;
    }
    Ok(scattered)
}

/// What a backup of the base would hold, and one of what is deployed would not.
async fn uncovered(keeper: &Keeper) -> Result<Vec<Lost>, Failure> {
    let Some(base) = &keeper.spec.base else { return Ok(Vec::new()) };
    let plan = backup::plan(&deployed(keeper).await?).map_err(Failure::recipe)?;
    Ok(plan.lost_since(&base.backup))
}

async fn leaks(keeper: &Keeper) -> Result<Vec<Leak>, Failure> {
    let secrets = keeper.app.lock().await.secrets.clone();
    let services = services(keeper).await?;
    let mask = |(name, value): (&String, &SecretValue)| Ok((name.clone(), Masks::new([value.expose()])?));
    let masks: Secrets = secrets.iter().map(mask).collect::<Result<_>>().map_err(Failure::harness)?;
    let mut leaks = Vec::new();
    for service in services.iter().filter(|_| !masks.is_empty()) {
        let hits = keeper.engine().await?.printed(&service.name, &masks).await.map_err(Failure::infrastructure)?;
        leaks.extend(hits.into_iter().map(|(secret, line)| Leak { secret, service: service.name.clone(), line }));
    }
    Ok(leaks)
}

/// Secrets of the stack that have no known value: abra made them, and did not say it.
fn unwatched(state: &AppState, known: &BTreeMap<String, SecretValue>) -> Vec<String> {
    let secrets = state.stack.secrets.iter();
    secrets.filter(|(_, object)| !known.contains_key(&object.name)).map(|(key, _)| key.clone()).collect()
}

async fn evidence(keeper: &Keeper) -> Evidence {
    let app = keeper.app.lock().await;
    let plan = &keeper.spec.plan;
    let state = app.deployed.state.as_ref();
    Evidence {
        base: plan.base.clone(),
        head: plan.head.clone(),
        deployed: app.deployed.form.unwrap_or(super::protocol::Deployed::Nothing),
        images: state.map(|it| operate::images(&it.stack)).unwrap_or_default(),
        replicas: state.map(|it| operate::replicas(&it.stack)).unwrap_or_default(),
        ports: state.map(|it| ports::of(&it.stack)).unwrap_or_default(),
        stop_grace: stop_grace(&keeper.spec),
        operations: app.operations.clone(),
        unwatched: state.map(|it| unwatched(it, &app.secrets)).unwrap_or_default(),
        failures_before: app.failures_before.clone(),
        snapshot: app.snapshot.clone(),
        mounts_before: app.mounts_before.clone(),
        losses: app.losses.clone(),
        held_nothing: app.held_nothing.clone(),
        ran_before: app.ran_before.clone(),
        fresh: fresh(&keeper.spec),
        settled: app.operated.map(|at| at.elapsed()).unwrap_or_default(),
        mounts: state.map(|it| mounts::of_stack(&it.stack)).unwrap_or_default(),
    }
}

/// The keys, and the one of a planted fault.
fn fresh(spec: &RunSpec) -> Vec<Fresh> {
    let mut fresh = spec.fresh.clone();
    if spec.sabotage == Some(Sabotage::KeyIsNotTold) {
        let needed = Some("the image of service `app` is another one".to_owned());
        fresh.push(Fresh { key: "HARNESS_NEW_KEY".into(), told: None, needed });
    }
    fresh
}

/// Docker's default, or more where base or head ask for it.
fn stop_grace(spec: &RunSpec) -> Duration {
    let stacks = spec.base.iter().chain([&spec.head]).map(|state| &state.stack);
    let graces = stacks.flat_map(|stack| stack.services.values()).filter_map(|service| service.stop_grace_period);
    graces.chain([Duration::from_secs(10)]).max().unwrap_or_default()
}
