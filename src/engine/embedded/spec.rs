//! What a service is to run: the stack's model with every name resolved, comparable with the spec that runs now.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::super::{Deployment, VolumeMount};
use crate::recipe::stack::{Deploy, FileMount, FileObject, Mount, MountKind, Service};

/// More would not find addresses when an update starts new tasks first, nor prove anything about a recipe.
const MAX_REPLICAS: u32 = 100;

/// One service of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The stack's name.
    pub stack: String,
    pub service: Service,
    /// Secrets and configs, in the order of the model.
    pub files: Vec<MountedFile>,
    pub mounts: Vec<NamedMount>,
    /// Aliases by the network's name.
    pub networks: BTreeMap<String, Vec<String>>,
}

/// A secret or config where a service mounts it.
#[derive(Clone, Debug, PartialEq)]
pub struct MountedFile {
    /// The object's own name (`<stack>_<key>_<version>`): a new version is a new name.
    pub name: String,
    pub kind: Kind,
    pub mount: FileMount,
    pub content: Content,
}

/// What a mounted file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Secret,
    Config,
    /// A config that is rendered for each task.
    Template,
}

/// Bytes that are never shown: secrets are among them.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Arc<[u8]>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// A mount with the name of its volume, when it is of a named one.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedMount {
    pub mount: Mount,
    pub volume: Option<String>,
}

impl Spec {
    /// Whether tasks of `other` serve as well. Swarm replaces no task for a changed `deploy.labels`, number of
    /// replicas or update policy.
    pub fn same_tasks(&self, other: &Spec) -> bool {
        let of_tasks = |spec: &Spec| {
            let deploy = Deploy { restart: spec.service.deploy.restart.clone(), ..Deploy::default() };
            Spec { service: Service { deploy, ..spec.service.clone() }, ..spec.clone() }
        };
        of_tasks(self) == of_tasks(other)
    }

    /// The named volumes, and where they are mounted.
    pub fn volume_mounts(&self) -> Vec<VolumeMount> {
        let named = self.mounts.iter().filter_map(|NamedMount { mount, volume }| {
            Some(VolumeMount { volume: volume.clone()?, target: mount.target.clone(), read_only: mount.read_only })
        });
        named.collect()
    }
}

/// Resolves a service of the deployment.
pub fn resolve(deployment: &Deployment, name: &str, service: &Service) -> Result<Spec> {
    let resolve = || {
        let replicas = service.deploy.mode.replicas();
        ensure!(replicas <= MAX_REPLICAS, "it asks for {replicas} replicas, and a pod has room for {MAX_REPLICAS}");
        let secrets = service.secrets.iter().map(|mount| secret(deployment, mount));
        let configs = service.configs.iter().map(|mount| config(deployment, mount));
        Ok::<Spec, anyhow::Error>(Spec {
            stack: deployment.stack.name.clone(),
            service: service.clone(),
            files: secrets.chain(configs).collect::<Result<_>>()?,
            mounts: service.mounts.iter().map(|mount| named(deployment, mount)).collect::<Result<_>>()?,
            networks: networks(deployment, service)?,
        })
    };
    resolve().with_context(|| format!("failed to deploy service `{name}`"))
}

fn secret(deployment: &Deployment, mount: &FileMount) -> Result<MountedFile> {
    let object = deployment.stack.secrets.get(&mount.source);
    let object = object.with_context(|| format!("the stack has no secret `{}`", mount.source))?;
    let value = deployment.secrets.get(&mount.source);
    let value = value.with_context(|| format!("secret not found: {}", object.name))?;
    Ok(mounted(object, Kind::Secret, mount, value.expose().as_bytes()))
}

fn config(deployment: &Deployment, mount: &FileMount) -> Result<MountedFile> {
    let object = deployment.stack.configs.get(&mount.source);
    let object = object.with_context(|| format!("the stack has no config `{}`", mount.source))?;
    let content = object.content.as_deref().with_context(|| format!("config not found: {}", object.name))?;
    let kind = if object.is_template() { Kind::Template } else { Kind::Config };
    Ok(mounted(object, kind, mount, content))
}

fn mounted(object: &FileObject, kind: Kind, mount: &FileMount, content: &[u8]) -> MountedFile {
    MountedFile { name: object.name.clone(), kind, mount: mount.clone(), content: Content(content.into()) }
}

fn named(deployment: &Deployment, mount: &Mount) -> Result<NamedMount> {
    let MountKind::Volume(key) = &mount.kind else { return Ok(NamedMount { mount: mount.clone(), volume: None }) };
    let volume = deployment.stack.volumes.get(key).with_context(|| format!("the stack has no volume `{key}`"))?;
    if volume.external {
        bail!("volume `{}` is external, and an embedded pod has no volumes but its own", volume.name);
    }
    let local = volume.driver.as_deref().is_none_or(|driver| driver == "local") && volume.driver_opts.is_empty();
    ensure!(local, "volume `{}` asks for a driver or driver options; only plain local volumes exist here", volume.name);
    check_name(&volume.name)?;
    Ok(NamedMount { mount: mount.clone(), volume: Some(volume.name.clone()) })
}

/// Docker's rule for names, which also keeps a name from being a path.
fn check_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner) && name.len() < 256;
    ensure!(valid, "`{name}` is not a volume name: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed");
    Ok(())
}

/// A service that names no network is on `default`, as in every stack.
fn networks(deployment: &Deployment, service: &Service) -> Result<BTreeMap<String, Vec<String>>> {
    let default = BTreeMap::from([("default".to_owned(), Vec::new())]);
    let wanted = if service.networks.is_empty() { &default } else { &service.networks };
    let name = |key: &String| match deployment.stack.networks.get(key) {
        Some(network) => Ok(network.name.clone()),
        None if key == "default" => Ok(format!("{}_default", deployment.stack.name)),
        None => bail!("the stack has no network `{key}`"),
    };
    wanted.iter().map(|(key, aliases)| Ok((name(key)?, aliases.clone()))).collect()
}

/// Digests of every secret and config, by name: their content can never change under one name.
pub fn file_digests(deployment: &Deployment) -> BTreeMap<String, [u8; 32]> {
    let secrets = deployment.stack.secrets.iter().filter_map(|(key, object)| {
        let value = deployment.secrets.get(key)?;
        Some((format!("secret {}", object.name), digest(value.expose().as_bytes())))
    });
    let configs = deployment
        .stack
        .configs
        .values()
        .filter_map(|object| Some((format!("config {}", object.name), digest(object.content.as_deref()?))));
    secrets.chain(configs).collect()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Refuses changed content under an unchanged name, in Swarm's words.
pub fn check_unchanged(known: &BTreeMap<String, [u8; 32]>, new: &BTreeMap<String, [u8; 32]>) -> Result<()> {
    for (object, digest) in new {
        if known.get(object).is_some_and(|known| known != digest) {
            bail!(
                "failed to update {object}: only updates to Labels are allowed; its content changed under the same \
                 name, so give it a new version"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{Mode, Stack};

    fn check(service: Service) -> String {
        let stack = Stack { name: "s".into(), ..Stack::default() };
        let deployment = Deployment { stack, document: Default::default(), secrets: BTreeMap::new(), origin: None };
        format!("{:#}", resolve(&deployment, "app", &service).unwrap_err())
    }

    #[test]
    fn what_the_stack_does_not_have_is_named() {
        let mount = FileMount { source: "key".into(), target: "/key".into(), uid: 0, gid: 0, mode: 0o444 };
        let service = Service { secrets: vec![mount.clone()], ..Service::default() };
        assert_eq!(check(service), "failed to deploy service `app`: the stack has no secret `key`");
        let service = Service { configs: vec![mount], ..Service::default() };
        assert_eq!(check(service), "failed to deploy service `app`: the stack has no config `key`");
        let service = Service { networks: [("proxy".to_owned(), vec![])].into(), ..Service::default() };
        assert_eq!(check(service), "failed to deploy service `app`: the stack has no network `proxy`");
    }

    #[test]
    fn a_thousand_replicas_are_refused() {
        let mut service = Service::default();
        service.deploy.mode = Mode::Replicated(1000);
        let expected = "failed to deploy service `app`: it asks for 1000 replicas, and a pod has room for 100";
        assert_eq!(check(service), expected);
    }

    #[test]
    fn content_is_never_shown() {
        let content = Content(b"hunter2".as_slice().into());
        assert_eq!(format!("{content:?}"), "Content(7 bytes)");
    }
}
