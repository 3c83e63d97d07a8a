//! Everything that a Swarm and its daemon have, images excepted: what a run removes is chosen from it, and what changed
//! beside a run is found by comparing two of them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use bollard::Docker;
use bollard::query_parameters::{
    ListConfigsOptions, ListContainersOptionsBuilder, ListNetworksOptions, ListSecretsOptions, ListServicesOptions,
    ListVolumesOptions,
};

use super::super::Kind;
use super::{RUN_LABEL, STACK_LABEL};

/// Swarm's label on the containers of a task.
const TASK_LABEL: &str = "com.docker.swarm.task.id";

/// One thing.
pub struct Object {
    pub kind: Kind,
    /// For people.
    pub name: String,
    pub id: String,
    pub labels: HashMap<String, String>,
}

/// Everything there is.
pub async fn everything(docker: &Docker) -> Result<Vec<Object>> {
    let containers = ListContainersOptionsBuilder::default().all(true).build();
    let (services, containers, networks, configs, secrets, volumes) = tokio::try_join!(
        docker.list_services(None::<ListServicesOptions>),
        docker.list_containers(Some(containers)),
        docker.list_networks(None::<ListNetworksOptions>),
        docker.list_configs(None::<ListConfigsOptions>),
        docker.list_secrets(None::<ListSecretsOptions>),
        docker.list_volumes(None::<ListVolumesOptions>),
    )
    .context("failed to list what there is")?;
    let mut objects = Vec::new();
    let mut add = |kind, name: Option<String>, id: Option<String>, labels: Option<HashMap<String, String>>| {
        let Some(name) = name else { return };
        objects.push(Object { kind, id: id.unwrap_or_else(|| name.clone()), name, labels: labels.unwrap_or_default() });
    };
    for service in services {
        let spec = service.spec.unwrap_or_default();
        add(Kind::Service, spec.name, service.id, spec.labels);
    }
    for container in containers {
        let name = container.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned());
        add(Kind::Container, name, container.id, container.labels);
    }
    for network in networks {
        add(Kind::Network, network.name, network.id, network.labels);
    }
    for config in configs {
        let spec = config.spec.unwrap_or_default();
        add(Kind::Config, spec.name, config.id, spec.labels);
    }
    for secret in secrets {
        let spec = secret.spec.unwrap_or_default();
        add(Kind::Secret, spec.name, secret.id, spec.labels);
    }
    for volume in volumes.volumes.unwrap_or_default() {
        add(Kind::Volume, Some(volume.name), None, Some(volume.labels));
    }
    Ok(objects)
}

/// What a server has beside the runs of the harness, by kind and name; with it the id, which a replacement changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings(BTreeMap<(Kind, String), String>);

impl Surroundings {
    /// Looks at what there is now.
    pub async fn look(docker: &Docker) -> Result<Surroundings> {
        Ok(Surroundings::of(everything(docker).await?))
    }

    fn of(objects: Vec<Object>) -> Surroundings {
        let theirs = objects.into_iter().filter(|object| !is_of_a_run(object) && !is_of_a_task(object));
        Surroundings(theirs.map(|object| ((object.kind, object.name), object.id)).collect())
    }

    /// What became different since then, a phrase for each thing.
    pub fn changes(&self, later: &Surroundings) -> Vec<String> {
        let mut changes = Vec::new();
        for ((kind, name), id) in &self.0 {
            match later.0.get(&(*kind, name.clone())) {
                None => changes.push(format!("{kind} `{name}` is gone")),
                Some(now) if now != id => changes.push(format!("{kind} `{name}` was replaced")),
                Some(_) => {}
            }
        }
        let new = later.0.keys().filter(|key| !self.0.contains_key(*key));
        changes.extend(new.map(|(kind, name)| format!("{kind} `{name}` is new")));
        changes
    }
}

/// Whether a thing belongs to a run of the harness, this one or another: by the run's label, or by the stack's name,
/// which is all that what abra deploys has.
fn is_of_a_run(object: &Object) -> bool {
    let stack = object.labels.get(STACK_LABEL).map_or(object.name.as_str(), String::as_str);
    object.labels.contains_key(RUN_LABEL) || is_stack_of_a_run(stack)
}

/// A container of a task comes and goes with its service, which is looked at itself.
fn is_of_a_task(object: &Object) -> bool {
    object.kind == Kind::Container && object.labels.contains_key(TASK_LABEL)
}

/// A run's domain begins with up to four characters of the recipe and six digits of the run, as `wiki-3fa9c1`.
fn is_stack_of_a_run(name: &str) -> bool {
    id_of_a_run(name).is_some()
}

/// The six digits of the run whose stack has this name, if it is a run's.
fn id_of_a_run(stack: &str) -> Option<&str> {
    let first = stack.split(['_', '.']).next().unwrap_or_default();
    let (recipe, run) = first.rsplit_once('-')?;
    let is_id = run.len() == 6 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    ((1..=4).contains(&recipe.len()) && is_id).then_some(run)
}

/// How a thing of this run is recognised: by the run's label, and by the stack's label and the names that begin with the
/// stack's, but only if the stack's name has this very run's digits in it. Any other may be somebody else's.
pub struct Ours<'a> {
    stack: Option<&'a str>,
    run_id: &'a str,
}

impl<'a> Ours<'a> {
    pub fn new(stack: &'a str, run_id: &'a str) -> Ours<'a> {
        let is_own = id_of_a_run(stack).is_some_and(|id| run_id.contains(id));
        Ours { stack: Some(stack).filter(|_| is_own), run_id }
    }

    pub fn are(&self, name: &str, labels: &HashMap<String, String>) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        let of_stack = |stack: &str| {
            label(STACK_LABEL) == Some(stack) || name.strip_prefix(stack).is_some_and(|rest| rest.starts_with('_'))
        };
        label(RUN_LABEL) == Some(self.run_id) || self.stack.is_some_and(of_stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, name: &str, id: &str, labels: &[(&str, &str)]) -> Object {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Object { kind, name: name.into(), id: id.into(), labels }
    }

    #[test]
    fn what_changed_beside_a_run_is_named_and_what_did_not_is_not() {
        let before = Surroundings::of(vec![
            object(Kind::Volume, "wiki_data", "wiki_data", &[]),
            object(Kind::Service, "wiki_app", "s1", &[(STACK_LABEL, "wiki")]),
            object(Kind::Network, "proxy", "n1", &[]),
        ]);
        assert_eq!(before.changes(&before), Vec::<String>::new());
        let after = Surroundings::of(vec![
            object(Kind::Service, "wiki_app", "s2", &[(STACK_LABEL, "wiki")]),
            object(Kind::Network, "proxy", "n1", &[]),
            object(Kind::Secret, "token", "x1", &[]),
        ]);
        let changes = ["service `wiki_app` was replaced", "volume `wiki_data` is gone", "secret `token` is new"];
        assert_eq!(before.changes(&after), changes);
    }

    #[test]
    fn other_runs_and_the_containers_of_tasks_are_no_change() {
        let after = Surroundings::of(vec![
            object(Kind::Volume, "anything", "", &[(RUN_LABEL, "wiki-1")]),
            object(Kind::Service, "wiki-3fa9c1_example_org_app", "", &[(STACK_LABEL, "wiki-3fa9c1_example_org")]),
            object(Kind::Secret, "wiki-3fa9c1_example_org_token_v1", "", &[]),
            object(Kind::Container, "wiki_app.1.x", "", &[(TASK_LABEL, "x")]),
        ]);
        assert_eq!(Surroundings::default().changes(&after), Vec::<String>::new());
        for stack in ["wiki", "wiki-3fa9c1x_a", "wikis-3fa9c1_a", "-3fa9c1_a", "wiki-3fa9g1_a", "my-wiki_example_org"] {
            assert!(!is_stack_of_a_run(stack), "{stack}");
        }
    }
}
