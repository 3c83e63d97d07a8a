//! The operations: one file each, performed here and nowhere else, each once.

pub mod backup;
pub mod install;
pub mod install_steps;
pub mod restore;
mod secrets;
pub mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::blame::{blame, unless_full};
use super::converge::{self, Expect};
use super::journal::{Event, millis};
use super::protocol::{Deployed, OperationReport};
use super::{AppRecord, DeployedState, Keeper, databases, photo, usage};
use crate::config::Settings;
use crate::engine::{Cycle, Deployment, FetchError, Origin, TaskState};
use crate::fault::{Failure, Fault};
use crate::mask::Masks;
use crate::recipe::AppState;
use crate::recipe::route::{self, Asked, Way};
use crate::recipe::secret::SecretValue;
use crate::recipe::stack::{Mode, Stack};
use crate::recipe::{abra, refused};
use crate::sabotage::Sabotage;
use crate::tier::Tier;

/// How long the images of a stack may take to get here. It is no time of the app's: slow pulls used to eat up the
/// deadline of the deployment itself.
const PULL: Duration = Duration::from_secs(900);

/// A hook may take as long as a whole backup. One that hangs is to be ended by its own deadline, which names it.
const HOOK_MARGIN: Duration = Duration::from_secs(10);
/// The deadline whose passing a planted fault swallows.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Performs the operation of a tier within its deadline, and journals how it went.
pub async fn perform(keeper: &Arc<Keeper>, tier: Tier, what: String) -> Result<(), Failure> {
    let start = Instant::now();
    keeper.journal.write(Event::OperationStarted { tier, what: what.clone() }).map_err(Failure::infrastructure)?;
    let swallows = keeper.spec.sabotage == Some(Sabotage::TimeOutIsSwallowed);
    let deadline = if swallows { AT_ONCE } else { deadline(keeper, tier) };
    let (result, looks) = usage::during(keeper, within(deadline, swallows, operation(keeper, tier))).await;
    let result = match result {
        Ok(()) => plant(keeper, tier).await.and(remember_ended(keeper, tier).await),
        failed => failed,
    };
    let result = masked(keeper, result).await.map_err(|failure| unless_full(failure, &keeper.dir, &keeper.spec));
    let took = start.elapsed();
    let finished = Event::OperationFinished { tier, millis: millis(took), failure: result.as_ref().err().cloned() };
    keeper.journal.write(finished).map_err(Failure::infrastructure)?;
    usage::after(keeper, tier, looks).await;
    result?;
    photo::begin(keeper, tier).await;
    keeper.app.lock().await.operated = Some(Instant::now());
    let limit = keeper.spec.settings.recipe_toml.budget.get(&tier).map_or(deadline, |budget| budget.0.min(deadline));
    keeper.app.lock().await.operations.insert(tier, OperationReport { what, took, limit });
    Ok(())
}

/// An operation that does not end in time is the recipe's fault; a planted fault waits on all the same.
async fn within(
    deadline: Duration,
    swallows: bool,
    operation: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::pin!(operation);
    match tokio::time::timeout(deadline, &mut operation).await {
        Ok(result) => result,
        Err(_) if swallows => operation.await,
        Err(_) => Err(Failure::new(
            Fault::Recipe,
            format!("the operation did not end within {}", humantime::format_duration(deadline)),
        )),
    }
}

/// What a planted fault does once an operation is done.
async fn plant(keeper: &Arc<Keeper>, tier: Tier) -> Result<(), Failure> {
    if keeper.spec.sabotage.is_none() {
        return Ok(());
    }
    let engine = keeper.engine().await?;
    if keeper.spec.sabotage == Some(Sabotage::DatabaseForgets) && tier == Tier::Upgrade {
        let lost = databases::lose(keeper, &engine).await;
        lost.context("failed to plant the fault").map_err(Failure::harness)?;
    }
    let planted = engine.after(tier).await;
    planted.context("failed to plant the fault").map_err(Failure::harness)
}

/// Whatever an engine or a program of the recipe said of a failure, it may have quoted a secret.
async fn masked(keeper: &Keeper, result: Result<(), Failure>) -> Result<(), Failure> {
    let Err(failure) = result else { return Ok(()) };
    let app = keeper.app.lock().await;
    let masks = Masks::new(app.secrets.values().map(SecretValue::expose)).map_err(Failure::harness)?;
    Err(Failure::new(failure.fault, masks.mask(&failure.message)))
}

async fn operation(keeper: &Arc<Keeper>, tier: Tier) -> Result<(), Failure> {
    match tier {
        Tier::Install => install::run(keeper).await,
        Tier::Upgrade => upgrade::run(keeper).await,
        Tier::Backup => backup::run(keeper).await,
        Tier::Restore => restore::run(keeper).await,
        Tier::Custom => Ok(()),
    }
}

/// A whole operation, with a margin over the wait inside it: the inner wait says more about what it saw.
fn deadline(keeper: &Keeper, tier: Tier) -> Duration {
    let settings = &keeper.spec.settings;
    match tier {
        Tier::Install | Tier::Upgrade => {
            PULL + converge_deadline(keeper, &keeper.spec.head.stack) + Duration::from_secs(60)
        }
        _ => settings.backup + HOOK_MARGIN,
    }
}

/// How long a deployment may take to converge: `recipe.toml`, else the recipe's own timeout label, else abra's default.
fn converge_deadline(keeper: &Keeper, stack: &Stack) -> Duration {
    keeper.spec.settings.deploy.or_else(|| abra::timeout(stack)).unwrap_or(Settings::DEPLOY)
}

/// Deploys a state, creating it or updating it in place, and waits until it has converged and answers on its ports.
async fn deploy(keeper: &Arc<Keeper>, state: &AppState, form: Deployed, what: &str) -> Result<(), Failure> {
    let stack = &state.stack;
    let mut problems = abra::problems(stack);
    problems.extend(refused::problems(stack, &state.document));
    if !problems.is_empty() {
        return Err(Failure::new(Fault::Recipe, problems.join("; ")));
    }
    let supplied = secrets::of(keeper, state).await?;
    let forgets = keeper.spec.sabotage == Some(Sabotage::DeploysTwice);
    let in_place = keeper.app.lock().await.deployed.form.is_some() && !forgets;
    let before = update_marks(keeper).await?;
    fetch(keeper, stack).await?;
    keeper
        .journal
        .write_synced(Event::Deploying { what: what.to_owned(), in_place })
        .map_err(Failure::infrastructure)?;
    keeper.app.lock().await.deployed = DeployedState { form: Some(form), state: Some(state.clone()) };
    let origin = origin(keeper, state, form).await;
    let mut document = state.document.clone();
    // For an engine that hands it on; what the recipe says stays as it is where it is looked at.
    keeper.spec.settings.policy.cap(&mut document);
    let own = keeper.spec.settings.policy.capped_stack(stack.clone().with_own_secrets());
    let deployment = Deployment { stack: own, document, secrets: supplied, origin };
    {
        let engine = keeper.engine_mut().await?;
        let made = engine.prepare(&deployment).await;
        note(keeper, engine.take_notes())?;
        remember(keeper, stack, made.map_err(blame)?).await;
        let deployed = engine.deploy(&deployment).await;
        note(keeper, engine.take_notes())?;
        deployed.map_err(blame)?;
    }
    converge::wait(keeper, Expect::new(stack, &before), converge_deadline(keeper, stack)).await?;
    publish(keeper, state).await?;
    converge::ready(keeper, converge_deadline(keeper, stack)).await?;
    note_failures(keeper, |_| true).await
}

/// For an engine that reads the recipe itself: what has to lie in the checkout.
async fn origin(keeper: &Keeper, state: &AppState, form: Deployed) -> Option<Origin> {
    let spec = &keeper.spec;
    let (revision, form) = match form {
        Deployed::Base => (spec.base_or_head(), spec.form()),
        _ => (spec.plan.head.clone(), abra::Form::Chaos { revision: spec.plan.head.clone() }),
    };
    Some(Origin {
        recipe: spec.plan.recipe.clone(),
        checkout: keeper.app.lock().await.checkout.clone()?,
        revision,
        form,
        env: state.env.clone(),
        deadline: converge_deadline(keeper, &state.stack),
    })
}

/// Secrets that the engine made: from now on they are looked for in logs, and masked.
async fn remember(keeper: &Keeper, stack: &Stack, made: BTreeMap<String, SecretValue>) {
    let mut app = keeper.app.lock().await;
    let named = made.into_iter().filter_map(|(key, value)| Some((stack.secrets.get(&key)?.name.clone(), value)));
    app.secrets.extend(named);
    // A mask that cannot be made would fail every message that needs it.
    let _ = hide(keeper, &app);
}

fn note(keeper: &Keeper, notes: Vec<String>) -> Result<(), Failure> {
    let mut notes = notes.into_iter();
    notes.try_for_each(|text| keeper.journal.write(Event::Note { text })).map_err(Failure::infrastructure)
}

/// Brings the images here first: a registry's trouble is none of the recipe's, and its time is not the app's.
async fn fetch(keeper: &Keeper, stack: &Stack) -> Result<(), Failure> {
    let mut images: Vec<String> = images(stack).into_values().collect();
    images.sort();
    images.dedup();
    keeper.fetching.stop();
    let engine = keeper.engine().await?;
    let fetched = tokio::time::timeout(PULL, engine.fetch(&images)).await;
    let late =
        || format!("the images `{}` were not here within {}", images.join("`, `"), humantime::format_duration(PULL));
    let digests = fetched.map_err(|_| Failure::new(Fault::Infrastructure, late()))?.map_err(|error| match error {
        FetchError::Missing(error) | FetchError::Denied(error) => Failure::recipe(error),
        FetchError::Unavailable(error) => Failure::infrastructure(error),
    })?;
    if !digests.is_empty() {
        keeper.journal.write(Event::Images { digests }).map_err(Failure::infrastructure)?;
    }
    Ok(())
}

/// Brings the head's images here while the tiers before the upgrade run. What fails is tried again by the upgrade,
/// which then says so.
pub fn fetch_ahead(keeper: &Arc<Keeper>) {
    let fetching = keeper.clone();
    keeper.fetching.begin(async move {
        let images: Vec<String> = images(&fetching.spec.head.stack).into_values().collect();
        if let Ok(engine) = fetching.engine().await {
            let _ = engine.fetch(&images).await;
        }
    });
}

/// Spec versions before a change, so that the state of the last update is not taken for that of this one.
async fn update_marks(keeper: &Keeper) -> Result<BTreeMap<String, u64>, Failure> {
    let engine = keeper.engine.read().await;
    let Some(engine) = engine.as_ref() else { return Ok(BTreeMap::new()) };
    let services = engine.services().await.map_err(Failure::infrastructure)?;
    Ok(services.into_iter().map(|service| (service.name, service.spec_version)).collect())
}

/// Keeps the app's secrets out of the journal, and with it out of everything that is made of it.
pub(super) fn hide(keeper: &Keeper, app: &AppRecord) -> anyhow::Result<()> {
    keeper.journal.hide(app.secrets.values().map(SecretValue::expose))
}

/// Publishes the app's route on this machine, and remembers the address or why there is none.
async fn publish(keeper: &Keeper, state: &AppState) -> Result<(), Failure> {
    let mut rewrites = Vec::new();
    let url = match way(keeper, &state.stack).route {
        Ok(route) => {
            let engine = keeper.engine_mut().await?;
            let published = engine
                .publish(&route.service, route.port)
                .await
                .with_context(|| format!("failed to publish port {} of service `{}`", route.port, route.service));
            let mut url = published.map_err(Failure::infrastructure)?;
            // Without a Traefik in between, this is what it would do.
            if let Some(address) = url.strip_prefix("http://127.0.0.1:") {
                rewrites = route.rewrites;
                if route.tls {
                    url = format!("https://127.0.0.1:{address}");
                }
            } else if url.strip_prefix("https://") == Some(&keeper.spec.domain) {
                url = format!("https://{}", keeper.spec.host());
            }
            Ok(url)
        }
        Err(reason) => Err(reason),
    };
    let mut app = keeper.app.lock().await;
    (app.url, app.rewrites) = (url, rewrites);
    Ok(())
}

/// The way to the page that `http.path` names.
pub fn way(keeper: &Keeper, stack: &Stack) -> Way {
    let http = &keeper.spec.settings.recipe_toml.http;
    let host = keeper.spec.host();
    route::way(stack, Asked { domain: &host, path: &http.path, entrypoints: &http.entrypoints })
}

/// The backup's assertions speak of what has ended by now, so that the restore has not to.
async fn remember_ended(keeper: &Keeper, tier: Tier) -> Result<(), Failure> {
    if tier != Tier::Backup {
        return Ok(());
    }
    let ended = ended(keeper).await?;
    keeper.app.lock().await.ended = ended;
    Ok(())
}

/// Tasks that have ended, by their ids.
async fn ended(keeper: &Keeper) -> Result<BTreeSet<String>, Failure> {
    let services = keeper.engine().await?.services().await.map_err(Failure::infrastructure)?;
    Ok(services.iter().flat_map(|service| service.failures()).map(|task| task.id.clone()).collect())
}

/// Remembers which tasks failed on the way here, so that assertions can tell a bumpy start from a restart afterwards. By
/// their ids: the Swarm forgets old tasks, so that a count would stop growing. What is forgiven is said.
async fn note_failures(keeper: &Keeper, is_forgiven: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let services = {
        let engine = keeper.engine().await?;
        engine.services().await.map_err(Failure::infrastructure)?
    };
    let mut app = keeper.app.lock().await;
    for service in &services {
        let known = app.failures_before.entry(service.name.clone()).or_default();
        let of_it = service.failures().filter(|task| is_forgiven(&task.id));
        let new: Vec<&TaskState> = of_it.filter(|task| known.insert(task.id.clone())).collect();
        if let Some(last) = new.first() {
            let text = format!(
                "service `{}`: {} of its tasks ended on the way, the last: {}",
                service.name,
                new.len(),
                converge::describe(last)
            );
            keeper.journal.write(Event::Note { text }).map_err(Failure::infrastructure)?;
        }
        if service.done() > 0 && service.cycle == Cycle::No && app.done.insert(service.name.clone()) {
            let text = format!("service `{}` has ended with code 0, and its restart policy leaves it so", service.name);
            keeper.journal.write(Event::Note { text }).map_err(Failure::infrastructure)?;
        }
    }
    Ok(())
}

/// Images by service, as the compose files name them.
pub fn images(stack: &Stack) -> BTreeMap<String, String> {
    stack.services.iter().map(|(name, service)| (name.clone(), service.image.clone())).collect()
}

/// Tasks by service, as the compose files want them; a global service has one a node, which only the engine knows.
pub fn replicas(stack: &Stack) -> BTreeMap<String, u32> {
    let wanted = stack.services.iter().filter_map(|(name, service)| match service.deploy.mode {
        Mode::Replicated(replicas) => Some((name.clone(), replicas)),
        Mode::Global => None,
    });
    wanted.collect()
}
