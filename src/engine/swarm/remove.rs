//! Teardown: services, containers, networks, configs, secrets, volumes, in that order, to a proven zero. A graceful
//! stop is not waited for: what is about to be destroyed needs none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListTasksOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions};
use futures_util::future::join_all;

use super::super::Kind;
use super::alive::HANGS;
use super::inventory::{Ours, everything};
use super::{Trace, is_missing, of_stack, status};

/// Docker's removals lag behind its answers: a network stays "in use" until the last container is really gone.
const LIMIT: Duration = Duration::from_secs(45);
/// How long the daemon may be out of reach.
const OUTAGE: Duration = Duration::from_secs(20);
/// What does not answer within this time is out of reach.
const ANSWER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(25);

/// A thing of the stack: its kind, its name for people, and its id.
type Thing = (Kind, String, String);

/// Removes everything of the stack, and returns what is still there at the end.
pub async fn remove(
    docker: &Docker,
    stack: &str,
    run_id: &str,
    removed: impl Fn(Kind, &str) -> Result<()>,
) -> Result<Vec<(Kind, String)>> {
    remove_after(async {}, docker, stack, run_id, removed).await
}

/// The same after somebody else has removed some of it, in what comes first.
pub async fn remove_after(
    first: impl Future<Output = ()>,
    docker: &Docker,
    stack: &str,
    run_id: &str,
    removed: impl Fn(Kind, &str) -> Result<()>,
) -> Result<Vec<(Kind, String)>> {
    // What cannot be asked now is asked again below, where the answer counts.
    let things = inventory(docker, stack, run_id).await.unwrap_or_default();
    let mut seen: BTreeSet<(Kind, String)> = things.into_iter().map(|(kind, name, _)| (kind, name)).collect();
    first.await;
    let start = Instant::now();
    // A full disk must not keep anything from being removed: what could not be written down is said at the end.
    let mut unwritten = Ok(());
    loop {
        let things = match inventory(docker, stack, run_id).await {
            Ok(things) => things,
            // A daemon that is being restarted is back in seconds; nothing is removed by giving up on it.
            Err(_) if start.elapsed() < OUTAGE => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let gone = seen.iter().filter(|(kind, name)| !things.iter().any(|it| it.0 == *kind && it.1 == *name));
        for (kind, name) in gone.cloned().collect::<Vec<(Kind, String)>>() {
            unwritten = unwritten.and(removed(kind, &name));
            seen.remove(&(kind, name));
        }
        seen.extend(things.iter().map(|(kind, name, _)| (*kind, name.clone())));
        if things.is_empty() {
            return unwritten.context("everything was removed, but that was not written down").map(|()| Vec::new());
        }
        if start.elapsed() > LIMIT {
            return Ok(things.into_iter().map(|(kind, name, _)| (kind, name)).collect());
        }
        let last = step(docker, things).await;
        if start.elapsed() + PAUSE > LIMIT {
            // What stays is reported with the reason that was given last.
            let left = inventory(docker, stack, run_id).await?;
            return Ok(left.into_iter().map(|(kind, name, _)| (kind, with_reason(name, &last))).collect());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What there is of the stack now.
pub async fn left(docker: &Docker, stack: &str, run_id: &str) -> Result<Vec<(Kind, String)>> {
    let things = inventory(docker, stack, run_id).await?;
    Ok(things.into_iter().map(|(kind, name, _)| (kind, name)).collect())
}

/// The same from a daemon that may be being restarted just now.
pub async fn left_in_the_end(docker: &Docker, stack: &str, run_id: &str) -> Result<Vec<(Kind, String)>> {
    patiently(|| left(docker, stack, run_id)).await
}

/// Looks until the daemon answers, or its outage takes too long.
pub(super) async fn patiently<T, F>(mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Err(_) if start.elapsed() < OUTAGE => tokio::time::sleep(PAUSE).await,
            looked => return looked,
        }
    }
}

fn with_reason(name: String, reason: &Option<String>) -> String {
    reason.as_ref().map_or(name.clone(), |reason| format!("{name}` (Docker says: {reason}) `"))
}

/// Removes what comes next: nothing of a later kind while something of an earlier one is there. The last refusal is
/// returned; that a thing is in use, or gone already, is none.
async fn step(docker: &Docker, things: Vec<Thing>) -> Option<String> {
    let rank = |kind: &Kind| ORDER.iter().position(|it| it == kind).unwrap_or(ORDER.len());
    let first = things.iter().map(|(kind, ..)| rank(kind)).min()?;
    // Once the containers are gone the rest goes together: what is still in use is refused, and tried again.
    let turn = |kind: &Kind| rank(kind) == first || first >= LAST && rank(kind) >= LAST;
    let removals = things.iter().filter(|(kind, ..)| turn(kind)).map(|(kind, _, id)| remove_one(docker, *kind, id));
    let refusals = join_all(removals).await.into_iter().filter_map(Result::err);
    refusals.filter(|error| !is_missing(error)).last().map(|error| error.to_string())
}

const ORDER: [Kind; 7] =
    [Kind::Service, Kind::Container, Kind::Process, Kind::Network, Kind::Config, Kind::Secret, Kind::Volume];

/// From here on in `ORDER` nothing runs any more.
const LAST: usize = 2;

async fn remove_one(docker: &Docker, kind: Kind, id: &str) -> Result<(), Error> {
    match kind {
        Kind::Service => docker.delete_service(id).await,
        Kind::Container => {
            // Anonymous volumes go with their container.
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            docker.remove_container(id, Some(options)).await
        }
        Kind::Network => docker.remove_network(id).await,
        Kind::Config => docker.delete_config(id).await,
        Kind::Secret => docker.delete_secret(id).await,
        Kind::Volume => docker.remove_volume(id, None::<RemoveVolumeOptions>).await,
        // A task goes by itself once its service and its container are gone.
        Kind::Process | Kind::Mount | Kind::ControlGroup | Kind::Directory => Ok(()),
    }
}

/// Everything there is of the stack, by its label, by the run's label, and by its name. A daemon that hangs is away.
async fn inventory(docker: &Docker, stack: &str, run_id: &str) -> Result<Vec<Thing>> {
    let listed = tokio::time::timeout(ANSWER, list(docker, stack, run_id)).await;
    let late = || format!("{HANGS}it did not list what there is within {}", humantime::format_duration(ANSWER));
    listed.unwrap_or_else(|_| Err(anyhow!(late())))
}

async fn list(docker: &Docker, stack: &str, run_id: &str) -> Result<Vec<Thing>> {
    let ours = Ours::new(stack, run_id);
    let tasks = ListTasksOptionsBuilder::default().filters(&of_stack(stack)).build();
    let tasks = async { docker.list_tasks(Some(tasks)).await.context("failed to list the tasks") };
    let (objects, tasks) = tokio::try_join!(everything(docker), tasks)?;
    let objects = objects.into_iter().filter(|object| ours.are(&object.name, &object.labels));
    let mut things: Vec<Thing> = objects.map(|object| (object.kind, object.name, object.id)).collect();
    let of_tasks = tasks.into_iter().filter_map(|task| task.id);
    things.extend(of_tasks.map(|id| (Kind::Process, format!("task {id}"), id)));
    Ok(things)
}

/// Removes what a dead run has left on its Swarm, if its engine's directory says that it was on one.
pub async fn sweep(dir: &Path) -> Result<Vec<(Kind, String)>> {
    let Some(trace) = Trace::read(dir)? else { return Ok(Vec::new()) };
    let attempt = || format!("failed to sweep the stack `{}` on the Swarm at `{}`", trace.stack, trace.endpoint.host);
    let sweep = async {
        let docker = trace.endpoint.connect().await?;
        match remove(&docker, &trace.stack, &trace.run_id, |_, _| Ok(())).await {
            // The Swarm itself is gone (406: not a manager), and took everything with it.
            Err(error) if error.downcast_ref::<Error>().and_then(status) == Some(503) => {
                Err(error.context("the daemon is no Swarm manager any more"))
            }
            other => other,
        }
    };
    let left = sweep.await.with_context(attempt)?;
    if left.is_empty() {
        Trace::forget(dir)?;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{RUN_LABEL, STACK_LABEL};
    use super::*;

    #[test]
    fn a_thing_is_recognised_by_label_or_name_and_a_neighbours_is_not() {
        let ours = Ours::new("wiki-3fa9c1_x", "wiki-20261128t101112-3fa9c1");
        let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        assert!(ours.are("app", &label(STACK_LABEL, "wiki-3fa9c1_x")));
        assert!(ours.are("app", &label(RUN_LABEL, "wiki-20261128t101112-3fa9c1")));
        assert!(ours.are("wiki-3fa9c1_x_app", &HashMap::new()));
        assert!(!ours.are("wiki-3fa9c1_x2_app", &label(STACK_LABEL, "wiki-3fa9c1_x2")));
        assert!(!ours.are("wiki-3fa9c1_x", &HashMap::new()));
        assert!(!ours.are("app", &label(RUN_LABEL, "wiki-20261128t101112-3fa9c2")));
    }

    #[test]
    fn a_stack_without_the_runs_own_digits_is_never_removed_by_its_name() {
        for stack in ["attackold_example_org", "attackvictim", "wiki-3fa9c2_x", ""] {
            let ours = Ours::new(stack, "wiki-20261128t101112-3fa9c1");
            let of_stack = [(STACK_LABEL.to_owned(), stack.to_owned())].into();
            assert!(!ours.are(&format!("{stack}_data"), &HashMap::new()), "{stack}");
            assert!(!ours.are("anything", &of_stack), "{stack}");
            let of_run = [(RUN_LABEL.to_owned(), "wiki-20261128t101112-3fa9c1".to_owned())].into();
            assert!(ours.are(&format!("{stack}_data"), &of_run), "what this run made and labelled: {stack}");
        }
    }

    #[tokio::test]
    async fn a_run_that_was_on_no_swarm_leaves_nothing_and_a_lost_swarm_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sweep(dir.path()).await.unwrap(), []);
        let host = "unix:///nowhere/docker.sock".to_owned();
        let endpoint = super::super::Endpoint { host, tls: None, origin: "a test".into() };
        let trace = Trace { stack: "s".into(), run_id: "r".into(), endpoint };
        trace.write(dir.path()).unwrap();
        let error = format!("{:#}", sweep(dir.path()).await.unwrap_err());
        assert!(
            error.starts_with("failed to sweep the stack `s` on the Swarm at `unix:///nowhere/docker.sock`"),
            "{error}"
        );
        std::fs::write(dir.path().join("swarm.json"), "{\"stack\":\"\",\"run_id\":\"\"}").unwrap();
        assert!(sweep(dir.path()).await.is_err(), "a stack without a name would be every stack");
    }
}
