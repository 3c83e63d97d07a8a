//! Deploying, as abra does it: secrets first, then `docker stack deploy` with every image resolved and nothing pruned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bollard::models::{NetworkCreateRequest, SecretSpec};
use bollard::query_parameters::{InspectNetworkOptions, ListSecretsOptions, ListSecretsOptionsBuilder};
use data_encoding::BASE64;

use super::super::{Deployment, Kind};
use super::document::{self, Changes};
use super::{Core, NameTaken, RUN_LABEL, STACK_LABEL, is_missing, observe};
use crate::process::Run;
use crate::recipe::secret::SecretValue;
use crate::recipe::stack::Stack;

/// The CLI asks the registry for every image's digest, and returns without waiting for tasks.
const DEADLINE: Duration = Duration::from_secs(180);

/// Creates what is missing and updates in place what changed.
pub async fn deploy(core: &Core, deployment: &Deployment) -> Result<()> {
    let mut number = core.deploying.lock().await;
    *number += 1;
    let stack = &deployment.stack;
    let networks = own_networks(core, stack).await?;
    secrets(core, deployment).await?;
    remember_volumes(core, stack);
    let dir = core.context.dir.join(format!("deploy-{number}"));
    crate::engine::private_dir(&dir)?;
    let changes =
        Changes { run_id: &core.context.run_id, without_ipvs: core.spec.without_ipvs, networks: &networks, dir: &dir };
    let text = document::write(&deployment.document, stack, &changes)?;
    let file = dir.join("compose.yml");
    std::fs::write(&file, text).with_context(|| format!("failed to write `{}`", file.display()))?;
    written_down(core, stack, stack_deploy(core, &file)).await
}

/// A deployment by other means than this engine's.
pub async fn by(core: &Core, stack: &Stack, deploying: impl Future<Output = Result<()>>) -> Result<()> {
    let mut number = core.deploying.lock().await;
    *number += 1;
    remember_volumes(core, stack);
    written_down(core, stack, deploying).await
}

/// Deploys between two entries in the ledger for everything that it makes.
async fn written_down(core: &Core, stack: &Stack, deploying: impl Future<Output = Result<()>>) -> Result<()> {
    let before = marks(core).await?;
    let objects = objects(stack);
    for (kind, name) in &objects {
        core.context.ledger.creating(*kind, name)?;
    }
    deploying.await?;
    for (kind, name) in &objects {
        core.context.ledger.created(*kind, name, name)?;
    }
    core.look_around().await?;
    note_reverted(core, &before).await
}

/// Names of the stack's own secrets that the Swarm does not have.
pub async fn missing_secrets(core: &Core, stack: &Stack) -> Result<Vec<String>> {
    let known = secret_names(core).await?;
    let names = stack.secrets.values().filter(|object| !object.external).map(|object| object.name.clone());
    Ok(names.filter(|name| !known.contains(name)).collect())
}

/// The names of all secrets of the Swarm.
pub async fn secret_names(core: &Core) -> Result<BTreeSet<String>> {
    let known = core.docker.list_secrets(None::<ListSecretsOptions>).await.context("failed to list the secrets")?;
    Ok(known.into_iter().filter_map(|secret| secret.spec?.name).collect())
}

/// What `docker stack deploy` is going to create, or has created before.
pub(super) fn objects(stack: &Stack) -> BTreeSet<(Kind, String)> {
    let own =
        |kind: Kind, names: Vec<&String>| names.into_iter().map(move |name| (kind, name.clone())).collect::<Vec<_>>();
    let services = stack.services.keys().map(|name| (Kind::Service, format!("{}_{name}", stack.name)));
    let networks = own(Kind::Network, stack.networks.values().filter(|it| !it.external).map(|it| &it.name).collect());
    let volumes = own(Kind::Volume, stack.volumes.values().filter(|it| !it.external).map(|it| &it.name).collect());
    let configs = own(Kind::Config, stack.configs.values().filter(|it| !it.external).map(|it| &it.name).collect());
    services.chain(networks).chain(volumes).chain(configs).collect()
}

/// `--prune` is left out: abra deploys with `Prune=false`. Nothing secret stands in the file or in the arguments.
async fn stack_deploy(core: &Core, file: &Path) -> Result<()> {
    let file = file.to_str().context("the run's directory has a name that is no text")?;
    let arguments =
        ["stack", "deploy", "--compose-file", file, "--resolve-image", "always", "--with-registry-auth", core.stack()];
    let mut run = Run::new("docker", arguments).deadline(DEADLINE);
    for (key, value) in core.spec.endpoint.cli_env() {
        run = run.env(key, value);
    }
    if let Some(config) = std::env::var_os("DOCKER_CONFIG") {
        run = run.env("DOCKER_CONFIG", config);
    }
    let output = run.output().await.context("failed to run `docker stack deploy`")?;
    if output.code != 0 {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !is_chatter(line)).collect();
        let error = anyhow!("`docker stack deploy` exited with code {}: {}", output.code, said.join("; "));
        return Err(if NameTaken::is_said(&said.join("; "), core.stack()) {
            error.context(NameTaken("something of the stack".into()))
        } else {
            error
        });
    }
    Ok(())
}

/// What newer CLIs say every time.
fn is_chatter(line: &str) -> bool {
    line.is_empty() || line.contains("--detach=false")
}

/// Specification versions before the update, by service.
async fn marks(core: &Core) -> Result<BTreeMap<String, u64>> {
    Ok(observe::services(core).await?.into_iter().map(|service| (service.name, service.spec_version)).collect())
}

/// An update may be rolled back before anybody looks: then the specification is what it was, but Swarm, which forgets
/// the state of the last update when it accepts a new one, says how this one went.
async fn note_reverted(core: &Core, before: &BTreeMap<String, u64>) -> Result<()> {
    for service in observe::services(core).await? {
        if service.update.is_some() && before.get(&service.name) == Some(&service.spec_version) {
            core.observed().versions.entry(service.name).or_default().advance();
        }
    }
    Ok(())
}

/// The run's own networks, by the names of the external ones in whose place they stand. Runs that share a network
/// would see each other's services by name, and run out of its addresses.
async fn own_networks(core: &Core, stack: &Stack) -> Result<BTreeMap<String, String>> {
    let mut own = BTreeMap::new();
    let external = stack.networks.values().filter(|network| network.external);
    for network in external.filter(|network| core.spec.own_networks.contains(&network.name)) {
        let name = format!("{}_run_{}", core.stack(), network.name);
        if !network_exists(core, &name).await? {
            create_network(core, &name).await?;
        }
        own.insert(network.name.clone(), name);
    }
    Ok(own)
}

async fn network_exists(core: &Core, name: &str) -> Result<bool> {
    match core.docker.inspect_network(name, None::<InspectNetworkOptions>).await {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to look for the network `{name}`")),
    }
}

async fn create_network(core: &Core, name: &str) -> Result<()> {
    core.context.ledger.creating(Kind::Network, name)?;
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("overlay".into()),
        labels: Some(labels(core)),
        ..NetworkCreateRequest::default()
    };
    let created = core.docker.create_network(request).await;
    let id = created.map_err(|error| NameTaken::of(error, format!("the network `{name}`")))?.id;
    core.context.ledger.created(Kind::Network, name, &id)
}

/// Creates the secrets that are not there yet. A secret's value cannot change under its name, and nobody would notice:
/// Swarm gives none out, so the ones of this engine's life are remembered.
async fn secrets(core: &Core, deployment: &Deployment) -> Result<()> {
    let options = ListSecretsOptionsBuilder::default().filters(&core.of_stack()).build();
    let known = core.docker.list_secrets(Some(options)).await.context("failed to list the secrets")?;
    let known: BTreeSet<String> = known.into_iter().filter_map(|secret| secret.spec?.name).collect();
    let mut values = core.secrets.lock().await;
    for (key, object) in deployment.stack.secrets.iter().filter(|(_, object)| !object.external) {
        let value = deployment.secrets.get(key).with_context(|| format!("secret not found: {}", object.name))?;
        remember_secret(&mut values, &object.name, value)?;
        if known.contains(&object.name) {
            continue;
        }
        core.context.ledger.creating(Kind::Secret, &object.name)?;
        let spec = SecretSpec {
            name: Some(object.name.clone()),
            labels: Some(labels(core)),
            data: Some(BASE64.encode(value.expose().as_bytes())),
            ..SecretSpec::default()
        };
        let created = core.docker.create_secret(spec).await;
        let id = created.map_err(|error| NameTaken::of(error, format!("the secret `{}`", object.name)))?.id;
        core.context.ledger.created(Kind::Secret, &object.name, &id)?;
    }
    Ok(())
}

/// Remembers a secret's value, which cannot change under its name.
pub fn remember_secret(values: &mut BTreeMap<String, SecretValue>, name: &str, value: &SecretValue) -> Result<()> {
    if values.get(name).is_some_and(|before| before != value) {
        bail!("failed to update secret {name}: its content changed under the same name, so give it a new version");
    }
    values.insert(name.to_owned(), value.clone());
    Ok(())
}

/// The labels of what the engine creates itself.
pub fn labels(core: &Core) -> std::collections::HashMap<String, String> {
    let labels = [(STACK_LABEL, core.stack()), (RUN_LABEL, core.context.run_id.as_str())];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn remember_volumes(core: &Core, stack: &Stack) {
    let mut volumes = core.volumes.lock().unwrap_or_else(PoisonError::into_inner);
    volumes.extend(stack.volumes.iter().map(|(key, volume)| (key.clone(), volume.name.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{FileObject, Network, Volume};

    #[test]
    fn what_will_be_created_is_known_beforehand_and_external_things_are_not_among_it() {
        let network = |name: &str, external| Network { name: name.into(), external, ..Network::default() };
        let stack = Stack {
            name: "s".into(),
            services: [("app".to_owned(), Default::default())].into(),
            networks: [("proxy".into(), network("proxy", true)), ("inner".into(), network("s_inner", false))].into(),
            volumes: [("data".to_owned(), Volume { name: "s_data".into(), ..Volume::default() })].into(),
            configs: [("conf".to_owned(), FileObject { name: "s_conf_v1".into(), ..FileObject::default() })].into(),
            ..Stack::default()
        };
        let names: Vec<String> = objects(&stack).into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        assert_eq!(names, ["service s_app", "network s_inner", "volume s_data", "config s_conf_v1"]);
    }
}
