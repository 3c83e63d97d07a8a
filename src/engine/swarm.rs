//! The swarm engine: a real Docker Swarm, deployed to through `docker stack deploy` as abra would, and observed through
//! the Docker Engine API.
//!
//! Everything it creates carries the stack's name, which is unique to the run, and the label of the stack; what the
//! engine creates itself also carries the run's id. Commands, files, logs and volumes go through the daemon that is
//! talked to: tasks on other nodes of a Swarm are observed, but not entered.

mod alive;
mod call;
mod deploy;
mod document;
pub mod endpoint;
mod events;
mod files;
mod hidden;
pub mod host;
mod images;
mod inventory;
mod logs;
mod observe;
mod outside;
#[cfg(test)]
mod own_tests;
mod planted;
mod preflight;
mod publish;
mod remove;
mod trace;
mod tunnel;
mod usage;
mod versions;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use bollard::Docker;
use serde::{Deserialize, Serialize};

use self::endpoint::Endpoint;
use self::events::Events;
use self::observe::Observed;
use self::publish::Published;
use self::trace::Trace;
use super::printed::{Hit, Secrets};
use super::{
    CallError, Deployment, EngineContext, Exec, ExecOutput, FetchError, FileEntry, Kind, LogLine, ServiceState,
};

use crate::recipe::secret::SecretValue;
use crate::recipe::stack::Stack;

pub use self::inventory::Surroundings;
pub use self::preflight::{Checked, NotHere, Wanted, preflight};
pub use self::remove::sweep;

/// The label that `docker stack` puts on everything of a stack.
const STACK_LABEL: &str = "com.docker.stack.namespace";

/// The label of what the engine creates itself: the run's id.
const RUN_LABEL: &str = "recipe-harness.run";

/// What the preflight found out about a Swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmSpec {
    pub endpoint: Endpoint,
    /// The node that is talked to.
    pub node: String,
    /// Where a Docker on this machine keeps everything.
    #[serde(default)]
    pub data_root: Option<PathBuf>,
    /// This process is in another network than the containers, although their Docker is on this machine.
    #[serde(default)]
    pub apart: bool,
    /// The kernel has no IPVS, so virtual addresses and the routing mesh carry no traffic: services are deployed with
    /// `endpoint_mode: dnsrr`.
    pub without_ipvs: bool,
    /// External networks that a Traefik listens on: they are used as they are, and requests go through it.
    pub traefik: Vec<String>,
    /// External networks that every run gets one of its own in the place of.
    pub own_networks: Vec<String>,
}

/// A stack on a Swarm.
pub struct Swarm {
    core: Arc<Core>,
    events: Events,
    published: tokio::sync::Mutex<BTreeMap<(String, u16), Published>>,
}

/// What the parts of the engine share.
struct Core {
    docker: Docker,
    spec: SwarmSpec,
    context: EngineContext,
    observed: Mutex<Observed>,
    /// What of this run was there.
    seen: Mutex<BTreeSet<(Kind, String)>>,
    /// Volumes by their key in the stack, as the last deployment named them; those of an earlier one stay.
    volumes: Mutex<BTreeMap<String, String>>,
    /// Held by a deployment: two at once would be told apart by nobody.
    deploying: tokio::sync::Mutex<usize>,
    /// Values of the secrets that were deployed, by name.
    secrets: tokio::sync::Mutex<BTreeMap<String, SecretValue>>,
    /// The container through which volumes are reached, by volume; it never runs.
    helpers: tokio::sync::Mutex<BTreeMap<String, String>>,
}

impl Swarm {
    /// Connects, and leaves a trace in the engine's directory by which a sweep finds the stack. Nothing is created, and
    /// it is an error if there is something of the stack's name already.
    pub async fn start(context: EngineContext, spec: &SwarmSpec) -> Result<Swarm> {
        let docker = spec.endpoint.connect().await?;
        // Before the trace, by which a sweep would remove it.
        alive::while_alive(&docker, Box::pin(preflight::nothing_there(&docker, &context.stack))).await??;
        Swarm::attach(context, spec).await
    }

    /// The same for a stack that may be there: `abra` is called anew for every step of one app.
    pub async fn attach(context: EngineContext, spec: &SwarmSpec) -> Result<Swarm> {
        let docker = spec.endpoint.connect().await?;
        let trace =
            Trace { stack: context.stack.clone(), run_id: context.run_id.clone(), endpoint: spec.endpoint.clone() };
        trace.write(&context.dir)?;
        let events = Events::follow(docker.clone(), context.stack.clone());
        let core = Core {
            docker,
            spec: spec.clone(),
            context,
            observed: Mutex::default(),
            seen: Mutex::default(),
            volumes: Mutex::default(),
            deploying: tokio::sync::Mutex::default(),
            secrets: tokio::sync::Mutex::default(),
            helpers: tokio::sync::Mutex::default(),
        };
        Ok(Swarm { core: Arc::new(core), events, published: Default::default() })
    }

    pub async fn fetch(&self, images: &[String]) -> Result<BTreeMap<String, String>, FetchError> {
        let fetch = Box::pin(images::fetch(&self.core.docker, images));
        alive::while_alive(&self.core.docker, fetch).await.map_err(FetchError::Unavailable)?
    }

    /// Waits for the next event of the stack, and not for long: events may be lost, polling is not.
    pub async fn changed(&self) {
        self.events.next().await;
    }

    pub async fn deploy(&self, deployment: &Deployment) -> Result<()> {
        self.while_alive(Box::pin(deploy::deploy(&self.core, deployment))).await
    }

    /// The same for whoever deploys by other means: what is going to be there is written down before and after.
    pub(super) async fn deploy_by(&self, stack: &Stack, deploying: impl Future<Output = Result<()>>) -> Result<()> {
        self.while_alive(Box::pin(deploy::by(&self.core, stack, deploying))).await
    }

    /// Does what may take long, for as long as the daemon shows signs of life.
    pub(super) async fn while_alive<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        alive::while_alive(&self.core.docker, work).await?
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        alive::while_alive(&self.core.docker, work).await.map_err(CallError::Failed)?
    }

    /// What the server has beside the runs of the harness.
    pub async fn surroundings(&self) -> Result<Surroundings> {
        Surroundings::look(&self.core.docker).await
    }

    /// Remembers a secret's value; another one under the same name would be lost, and nobody would notice.
    pub(super) async fn remember_secret(&self, name: &str, value: &SecretValue) -> Result<()> {
        deploy::remember_secret(&mut *self.core.secrets.lock().await, name, value)
    }

    /// Names of the stack's secrets that are not there.
    pub(super) async fn missing_secrets(&self, stack: &Stack) -> Result<Vec<String>> {
        deploy::missing_secrets(&self.core, stack).await
    }

    /// Writes down that these secrets are going to be made.
    pub(super) fn announce_secrets(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.core.context.ledger.creating(Kind::Secret, name))
    }

    /// Writes down that these secrets were not made after all.
    pub(super) fn retract_secrets(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.core.context.ledger.removed(Kind::Secret, name))
    }

    /// The name to which the name of this stack was cut off, by the services that are there.
    pub(super) async fn cut_short(&self, stack: &str) -> Result<Option<String>> {
        let stacks = preflight::stacks(&self.core.docker).await?;
        Ok(stacks.into_iter().find(|found| is_cut_off(stack, found)))
    }

    /// The same by its secrets, of which these were expected.
    pub(super) async fn cut_short_in_secrets(&self, stack: &str, expected: &[String]) -> Result<Option<String>> {
        let ends: Vec<&str> = expected.iter().filter_map(|name| name.strip_prefix(stack)).collect();
        let found = deploy::secret_names(&self.core).await?;
        let begins = found.iter().flat_map(|name| ends.iter().filter_map(|end| name.strip_suffix(end)));
        Ok(begins.map(str::to_owned).find(|found| is_cut_off(stack, found)))
    }

    /// Removes a stack of another name than the run's own, and returns what stays.
    pub(super) async fn remove_stack(&self, stack: &str) -> Result<Vec<(Kind, String)>> {
        let (docker, context) = (&self.core.docker, &self.core.context);
        remove::remove(docker, stack, &context.run_id, |kind, name| context.ledger.removed(kind, name)).await
    }

    /// A volume's name in Docker, by its key in the stack.
    pub(super) fn volume_name(&self, key: &str) -> Result<String> {
        self.core.volume(key)
    }

    pub async fn services(&self) -> Result<Vec<ServiceState>> {
        observe::services(&self.core).await.context("failed to observe the stack")
    }

    pub async fn exec(&self, exec: &Exec) -> Result<ExecOutput, CallError> {
        self.call(Box::pin(call::exec(&self.core, exec))).await
    }

    pub async fn printed(&self, service: &str, secrets: &Secrets) -> Result<Vec<Hit>> {
        self.while_alive(Box::pin(logs::printed(&self.core, service, secrets)))
            .await
            .with_context(|| format!("failed to read the log of service `{service}`"))
    }

    pub async fn logs(&self, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
        self.while_alive(Box::pin(logs::read(&self.core, service, tail)))
            .await
            .with_context(|| format!("failed to read the log of service `{service}`"))
    }

    pub async fn read_file(&self, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
        self.call(Box::pin(files::read(&self.core, service, path))).await
    }

    pub async fn write_file(&self, service: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
        self.call(Box::pin(files::write(&self.core, service, path, bytes))).await
    }

    pub async fn write_volume(&self, volume: &str, path: &str, bytes: &[u8]) -> Result<()> {
        self.while_alive(Box::pin(volumes::write(&self.core, volume, path, bytes)))
            .await
            .with_context(|| format!("failed to write `{path}` in volume `{volume}`"))
    }

    pub async fn read_volume(&self, volume: &str, path: &str) -> Result<Option<Vec<u8>>> {
        self.while_alive(Box::pin(volumes::read(&self.core, volume, path)))
            .await
            .with_context(|| format!("failed to read `{path}` in volume `{volume}`"))
    }

    pub async fn archive_volume(&self, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
        self.while_alive(Box::pin(volumes::archive(&self.core, volume, paths, archive)))
            .await
            .with_context(|| format!("failed to archive volume `{volume}`"))
    }

    pub async fn restore_volume(&self, volume: &str, archive: &Path) -> Result<()> {
        self.while_alive(Box::pin(volumes::restore(&self.core, volume, archive)))
            .await
            .with_context(|| format!("failed to restore volume `{volume}`"))
    }

    pub async fn connects(&self, service: &str, port: u16) -> Result<bool> {
        publish::connects(&self.core, service, port).await
    }

    /// Through Traefik when there is a real one, else an address on this machine that leads to the newest running
    /// container.
    pub async fn publish(&self, service: &str, port: u16) -> Result<String> {
        if !self.core.spec.traefik.is_empty() {
            return Ok(format!("https://{}", self.core.context.domain));
        }
        let mut published = self.published.lock().await;
        if let Some(published) = published.get(&(service.to_owned(), port)) {
            return Ok(published.address.clone());
        }
        let new = publish::publish(&self.core, service, port).await?;
        let address = new.address.clone();
        published.insert((service.to_owned(), port), new);
        Ok(address)
    }

    pub async fn remove(&self) -> Result<Vec<(Kind, String)>> {
        self.remove_after(async {}).await
    }

    /// The same after somebody else has removed some of it, in what comes first.
    pub(super) async fn remove_after(&self, first: impl Future<Output = ()>) -> Result<Vec<(Kind, String)>> {
        self.published.lock().await.clear();
        let (docker, context) = (&self.core.docker, &self.core.context);
        let removed = |kind: Kind, name: &str| context.ledger.removed(kind, name);
        let left = remove::remove_after(first, docker, &context.stack, &context.run_id, removed).await?;
        if left.is_empty() {
            Trace::forget(&self.core.context.dir)?;
        }
        Ok(left)
    }
}

impl Swarm {
    /// What of the stack was there, and is not any more, before anything was removed: somebody else did it.
    pub async fn vanished(&self) -> Result<Vec<(Kind, String)>> {
        let context = &self.core.context;
        let there = remove::left_in_the_end(&self.core.docker, &context.stack, &context.run_id).await?;
        let seen = self.core.seen();
        Ok(seen.iter().filter(|thing| !there.contains(thing)).cloned().collect())
    }

    /// What is there of the stack now.
    pub async fn left(&self) -> Result<Vec<(Kind, String)>> {
        remove::left(&self.core.docker, &self.core.context.stack, &self.core.context.run_id).await
    }
}

impl Core {
    fn stack(&self) -> &str {
        &self.context.stack
    }

    /// `<stack>_<service>`, as Swarm knows the service.
    fn full_name(&self, service: &str) -> String {
        format!("{}_{service}", self.context.stack)
    }

    /// A filter for everything of the stack.
    fn of_stack(&self) -> std::collections::HashMap<String, Vec<String>> {
        of_stack(&self.context.stack)
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<(Kind, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is there of the run, containers and tasks excepted: they come and go.
    async fn look_around(&self) -> Result<()> {
        let there = remove::left_in_the_end(&self.docker, &self.context.stack, &self.context.run_id).await?;
        self.seen().extend(there.into_iter().filter(|(kind, _)| !matches!(kind, Kind::Container | Kind::Process)));
        Ok(())
    }

    /// The volume's name in Docker.
    fn volume(&self, key: &str) -> Result<String> {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.get(key).cloned().with_context(|| format!("there is no volume `{key}`"))
    }
}

fn of_stack(stack: &str) -> std::collections::HashMap<String, Vec<String>> {
    [("label".to_owned(), vec![format!("{STACK_LABEL}={stack}")])].into()
}

/// Whether a name is the beginning of the stack's. It must hold the run's own id, which ends the first part of the
/// domain: whatever is shorter may be somebody else's.
fn is_cut_off(stack: &str, found: &str) -> bool {
    let own = stack.split('_').next().unwrap_or(stack);
    stack.starts_with(found) && found != stack && found.len() >= own.len()
}

/// Whether the daemon says that there is no such thing.
fn is_missing(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404)
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the CLI says when the daemon, or the Swarm behind it, could not be asked: it passes no status on.
const OUT_OF_REACH: [&str; 7] = [
    alive::HANGS,
    "Cannot connect to the Docker daemon",
    "error during connect",
    "The swarm does not have a leader",
    "rpc error: code = Unavailable",
    "rpc error: code = DeadlineExceeded",
    "rpc error: code = Internal",
];

/// Whether an error says that the daemon could not be asked, or that it is in trouble of its own (500, 503), as opposed
/// to what it has against the question.
pub fn is_out_of_reach(error: &anyhow::Error) -> bool {
    use bollard::errors::Error;
    let broken = |error: &Error| match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code >= 500,
        Error::DockerStreamError { .. } => false,
        _ => true,
    };
    let text = format!("{error:#}");
    error.downcast_ref::<Error>().is_some_and(broken) || OUT_OF_REACH.iter().any(|words| text.contains(words))
}

/// Why something could not be created: there is one of its name. The names of a run hold the run's own id, so that no
/// recipe can be to blame.
#[derive(Debug)]
pub struct NameTaken(pub String);

impl std::fmt::Display for NameTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NameTaken(what) = self;
        write!(f, "{what} exists already, although its name is this run's own: was it made beside the harness")
    }
}

impl std::error::Error for NameTaken {}

impl NameTaken {
    /// The error of a creation through the API.
    fn of(error: bollard::errors::Error, what: String) -> anyhow::Error {
        match status(&error) {
            Some(409) => anyhow::Error::from(error).context(NameTaken(what)),
            _ => anyhow::Error::from(error).context(format!("failed to create {what}")),
        }
    }

    /// Whether the CLI says so of a thing of this stack.
    fn is_said(said: &str, stack: &str) -> bool {
        let taken = ["code = AlreadyExists", "already exists", "name conflicts with an existing object"];
        said.contains(&format!("{stack}_")) && taken.iter().any(|words| said.contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_with_the_runs_own_id_is_the_stacks_that_was_cut_off() {
        let is_it = |found| is_cut_off("zzbr-7bd4cf_brk_test", found);
        assert!(is_it("zzbr-7bd4cf") && is_it("zzbr-7bd4cf_brk_t"));
        for others in ["", "zzbr", "zzbr-7bd4c", "zzbr-7bd4cf_brk_test", "zzbr-7bd4cf_other", "other"] {
            assert!(!is_it(others), "{others}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_told_from_one_that_a_recipe_has_chosen() {
        let said = |name: &str| {
            format!(
                "failed to create network {name}: Error response from daemon: network with name {name} already exists"
            )
        };
        assert!(NameTaken::is_said(&said("wiki-3fa9c1_a_inner"), "wiki-3fa9c1_a"));
        assert!(!NameTaken::is_said(&said("fixed"), "wiki-3fa9c1_a"), "the compose file names it so");
        assert!(!NameTaken::is_said("failed to create service wiki-3fa9c1_a_app: no such image", "wiki-3fa9c1_a"));
    }
}
