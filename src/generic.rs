//! The checks that several generic assertions share. `generic/` says which tier makes which of them.

mod backup;
mod databases;
mod http;
mod mounts;
mod ports;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::app::{App, skip};
use crate::engine::{Ages, Cycle, Health, ServiceState, TaskPhase, TaskState};
use crate::keeper::converge::describe;
use crate::keeper::protocol::Evidence;
use crate::poll::{Look, Poll};
use crate::recipe::image::in_full;

pub use backup::{
    backup_covers_what_it_did, changes_since_the_backup_are_undone, data_is_in_volumes, dumps_are_new_and_whole,
    new_settings_are_told,
};
pub use databases::{databases_are_kept, databases_are_restored};
pub use http::answers_over_http;
pub use mounts::mounts_are_kept;
pub use ports::ports_answer;

/// Every service that the compose files name runs as many tasks as it should, each for at least the `stable` time,
/// and none has ended by itself since the operation converged. One lucky sample is not enough.
pub async fn services_are_stable(app: &App) -> Result<()> {
    let evidence = app.evidence().await?;
    let stable = app.settings().stable;
    let poll = Poll { interval: Duration::from_millis(25), deadline: stable + app.settings().call };
    let what = format!("every service to run for {} without a restart", humantime::format_duration(stable));
    let ages = Ages::default();
    poll.until_seen(what, async || {
        let services = app.services().await?;
        Ok(match unstable(&services, &evidence, stable, &ages)? {
            Some(reason) => Look::NotYet(reason),
            None => Look::Ready(()),
        })
    })
    .await?;
    unless_guessed(&app.services().await?)
}

/// That a service which ends is meant to run again is a guess until somebody says so.
fn unless_guessed(services: &[ServiceState]) -> Result<()> {
    let guessed = services.iter().filter(|it| it.cycle == Cycle::Guessed && it.has_cycled());
    let names: Vec<&str> = guessed.map(|it| it.name.as_str()).collect();
    let Some(first) = names.first() else { return Ok(()) };
    skip(format!(
        "unverified: tasks of service `{}` end with code 0 and are started again after a while, as its restart policy says; \
         if that is meant, say so in recipe.toml: `periodic = [\"{first}\"]`",
        names.join("`, `")
    ))
}

/// The same at the end of a run: for the whole time since the last operation, which has to be `settle` ago.
pub async fn services_stay_stable(app: &App) -> Result<()> {
    let settle = app.settings().settle;
    services_are_stable(app).await?;
    let poll = Poll { interval: Duration::from_millis(100), deadline: settle + app.settings().call };
    let what = format!("the last operation to be {} ago", humantime::format_duration(settle));
    let ages = Ages::default();
    poll.until_seen(what, async || {
        let evidence = app.evidence().await?;
        let unstable = unstable(&app.services().await?, &evidence, Duration::ZERO, &ages)?;
        // Whatever is the matter with it then, it was well a moment ago.
        if let Some(reason) = unstable {
            bail!("the app ran, and then it did not stay well for {}: {reason}", humantime::format_duration(settle));
        }
        Ok(if evidence.settled >= settle { Look::Ready(()) } else { Look::NotYet("the app runs".into()) })
    })
    .await
}

/// Every service runs as many tasks as it did in the base, and what ran without end there does not end now.
pub async fn services_still_run(app: &App) -> Result<()> {
    let evidence = app.evidence().await?;
    ensure!(!evidence.ran_before.is_empty(), "nobody looked at what ran before the upgrade");
    let services = app.services().await?;
    let stops = &app.settings().recipe_toml.upgrade.stops;
    let mut found = Vec::new();
    for service in services.iter().filter(|it| !stops.contains(&it.name)) {
        let Some(ran) = evidence.ran_before.get(&service.name) else { continue };
        let name = &service.name;
        if service.replicas < ran.replicas {
            found.push(format!(
                "service `{name}` had {} tasks in the base, and has {} now",
                ran.replicas, service.replicas
            ));
        } else if service.is_done() && !ran.done {
            found.push(format!(
                "service `{name}` ran without end in the base, and now it has ended with code 0 and its restart policy \
                 leaves it so"
            ));
        }
    }
    if !found.is_empty() {
        bail!("{}. If that is meant, say so in recipe.toml: `[upgrade] stops = [\"service\"]`", found.join("; "));
    }
    Ok(())
}

/// Why the services are not stable yet; an error when they no longer can be.
fn unstable(services: &[ServiceState], evidence: &Evidence, stable: Duration, ages: &Ages) -> Result<Option<String>> {
    let mut waiting = None;
    for name in evidence.images.keys() {
        let service = services.iter().find(|it| it.name == *name);
        let service = service.with_context(|| format!("service `{name}` is gone"))?;
        let is_known = |task: &TaskState| evidence.failures_before.get(name).is_some_and(|ids| ids.contains(&task.id));
        let failures: Vec<&TaskState> = service.failures().filter(|task| !is_known(task)).collect();
        if let Some(last) = failures.first() {
            let (count, last) = (failures.len(), describe(last));
            bail!("service `{name}` must run without a restart, but {count} of its tasks ended: {last}");
        }
        if service.has_cycled() {
            continue;
        }
        // What the engine was told is not what the compose files want: a service scaled to nothing is steady, too.
        let replicas = evidence.replicas.get(name).copied().unwrap_or(service.replicas);
        let steady = service.wanted().filter(|task| is_steady(task, stable, ages)).count();
        if steady + service.done() != replicas as usize {
            let tasks: Vec<String> = service.wanted().map(describe).collect();
            waiting = Some(format!("service `{name}`: {steady}/{replicas} tasks are steady ({})", tasks.join(", ")));
        }
    }
    Ok(waiting)
}

fn is_steady(task: &TaskState, stable: Duration, ages: &Ages) -> bool {
    let healthy = matches!(task.health, Health::None | Health::Healthy);
    task.phase == TaskPhase::Running && healthy && ages.has_run(task, stable)
}

/// What to do about an app of which no router takes the page.
const ELSEWHERE: &str = ". Where its page has another host, name it in recipe.toml: `[http] host = \"www.${DOMAIN}\"`; where it \
                         has none, say why: `[http] none = \"a relay\"`";

fn no_page(what: &str) -> String {
    format!(
        "unverified: no service has a Traefik router or service in its labels, so there is no page to {what}; where the app \
         has none, say why in recipe.toml: `[http] none = \"a relay\"`"
    )
}

/// The labels lead a visitor from the app's address to its container, as Traefik resolves them.
pub async fn route_leads_to_the_app(app: &App) -> Result<()> {
    let (way, http) = (app.way().await?, &app.settings().recipe_toml.http);
    if let Some(why) = &http.none {
        return match way.route {
            Err(_) => skip(why.clone()),
            Ok(route) => bail!(
                "recipe.toml says that the app has no page (`http.none`), and yet the labels lead visitors of `{}` to port {} \
                 of service `{}`: one of the two has to go",
                app.host(),
                route.port,
                route.service
            ),
        };
    }
    if way.is_none {
        return skip(no_page("reach"));
    }
    if !way.problems.is_empty() {
        bail!("{}", way.problems.join("; "));
    }
    if let Err(reason) = way.route {
        bail!("{reason}{ELSEWHERE}");
    }
    if !way.unjudged.is_empty() {
        return skip(format!("unverified: {}", way.unjudged.join("; ")));
    }
    Ok(())
}

/// Whether two references name the same image. An engine tells the digest apart from the reference.
fn is_same_image(one: &str, other: &str) -> bool {
    let full = |image: &str| in_full(image.split('@').next().unwrap_or(image));
    one == other || full(one) == full(other)
}

/// Every service runs the image that the compose files deployed last name for it: in its specification and in each
/// running task.
pub async fn images_match_the_compose_files(app: &App) -> Result<()> {
    let evidence = app.evidence().await?;
    let services = app.services().await?;
    ensure!(!evidence.images.is_empty(), "the compose files name no image, so there is nothing to compare");
    for (name, image) in &evidence.images {
        let service = services.iter().find(|it| it.name == *name);
        let service = service.with_context(|| format!("service `{name}` must run `{image}`, but it does not exist"))?;
        ensure!(
            is_same_image(&service.image, image),
            "service `{name}` must run `{image}`, but it is set to `{}`",
            service.image
        );
        for task in service.wanted() {
            ensure!(
                is_same_image(&task.image, image),
                "service `{name}` must run `{image}`, but its task `{}` runs `{}`",
                task.id,
                task.image
            );
        }
    }
    Ok(())
}

/// No container of an earlier specification runs any more: one that outlived its stop may still be the one that answers.
pub async fn no_old_task_runs(app: &App) -> Result<()> {
    let deadline = app.evidence().await?.stop_grace + app.settings().call;
    let poll = Poll { interval: Duration::from_millis(50), deadline };
    poll.until_seen("every replaced container to end", async || {
        let services = app.services().await?;
        let runs =
            |task: &&TaskState| !task.desired_running && matches!(task.phase, TaskPhase::Starting | TaskPhase::Running);
        let old: Vec<String> = services.iter().flat_map(|it| &it.tasks).filter(runs).map(describe).collect();
        Ok(if old.is_empty() { Look::Ready(()) } else { Look::NotYet(old.join(", ")) })
    })
    .await
}

/// Every canary says what it said when it was planted, or when the snapshot was made.
pub async fn canaries_are_in_place(app: &App, lost: &str) -> Result<()> {
    let canaries = app.canaries().await?;
    if canaries.is_empty() {
        return skip("unverified: the recipe has no named volume that could be watched here");
    }
    for canary in canaries {
        let seen = match &canary.found {
            Some(found) if *found == canary.expected => continue,
            Some(found) => format!("it says {found:?}"),
            None => "it is not there".to_owned(),
        };
        bail!(
            "the volume `{}` must hold the file that was put there, saying {:?}, but {lost}: {seen} (looked for {})",
            canary.volume,
            canary.expected,
            canary.seen_through
        );
    }
    Ok(())
}

/// The operation of this tier took no longer than its budget in `recipe.toml`, else its deadline.
pub async fn within_budget(app: &App) -> Result<()> {
    let evidence = app.evidence().await?;
    let tier = app.tier();
    let operation =
        evidence.operations.get(&tier).with_context(|| format!("no operation of tier `{tier}` is recorded"))?;
    let (took, limit) = (crate::poll::round(operation.took), operation.limit);
    ensure!(
        took <= limit,
        "`{}` must be done within {}, but it took {}",
        operation.what,
        humantime::format_duration(limit),
        humantime::format_duration(took)
    );
    Ok(())
}

/// What the app had stored before the upgrade is in its volumes after it.
pub async fn stored_data_is_kept(app: &App) -> Result<()> {
    let Evidence { losses, mounts, .. } = app.evidence().await?;
    ensure!(losses.looked, "the volumes were not looked at before and after the upgrade");
    if !losses.lost.is_empty() {
        bail!(
            "{}. If the head gives it up on purpose, say so in recipe.toml: `[upgrade] drops = [\"volume/path\"]`",
            losses.lost.join("; ")
        );
    }
    if mounts.is_empty() {
        return skip("unverified: the recipe has no named volume in which anything could be kept");
    }
    if !losses.unjudged.is_empty() {
        return skip(format!("unverified: {}", losses.unjudged.join("; ")));
    }
    Ok(())
}

/// No generated secret stands in a log. The message says where, never what.
pub async fn no_secret_in_the_logs(app: &App) -> Result<()> {
    let leaks = app.leaks().await?;
    if let Some(leak) = leaks.first() {
        let more = leaks.len() - 1;
        bail!(
            "no secret may stand in a log, but the value of `{}` stands in line {} of the log of service `{}`{}",
            leak.secret,
            leak.line,
            leak.service,
            if more > 0 { format!(", and in {more} more places") } else { String::new() }
        );
    }
    let unwatched = app.evidence().await?.unwatched;
    if !unwatched.is_empty() {
        let names = unwatched.join("`, `");
        return skip(format!(
            "unverified: the value of `{names}` is not known here, so nobody can look for it in the logs"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    use crate::keeper::protocol::Deployed;
    use crate::recipe::stack::RestartCondition;
    use crate::recipe::version::Revision;

    fn evidence(failures_before: &[&str]) -> Evidence {
        Evidence {
            base: None,
            head: Revision {
                commit: "0".repeat(40),
                tree: String::new(),
                dirty: false,
                version: None,
                label: String::new(),
            },
            deployed: Deployed::Head,
            images: [("app".to_owned(), "nginx:1".to_owned())].into(),
            replicas: [("app".to_owned(), 1)].into(),
            ports: Vec::new(),
            stop_grace: Duration::ZERO,
            operations: Default::default(),
            failures_before: [("app".to_owned(), failures_before.iter().map(|id| id.to_string()).collect())].into(),
            snapshot: None,
            unwatched: Vec::new(),
            mounts_before: Vec::new(),
            mounts: Vec::new(),
            losses: Default::default(),
            held_nothing: Default::default(),
            ran_before: Default::default(),
            fresh: Vec::new(),
            settled: Duration::ZERO,
        }
    }

    fn task(phase: TaskPhase, age: Duration) -> TaskState {
        TaskState {
            ever_ready: true,
            id: "app.1.x".into(),
            slot: 1,
            phase,
            health: Health::None,
            image: "nginx:1".into(),
            digest: None,
            spec_version: 1,
            desired_running: phase == TaskPhase::Running,
            exit_code: (phase == TaskPhase::Failed).then_some(3),
            error: String::new(),
            started_at: Some(SystemTime::now() - age),
            health_output: String::new(),
        }
    }

    fn look(tasks: Vec<TaskState>, failures_before: &[&str]) -> Result<Option<String>> {
        let service =
            ServiceState { name: "app".into(), replicas: 1, spec_version: 1, tasks, ..ServiceState::default() };
        unstable(&[service], &evidence(failures_before), Duration::from_secs(2), &Ages::default())
    }

    const OLD: Duration = Duration::from_secs(10);

    #[test]
    fn a_task_that_has_run_long_enough_is_stable() {
        assert_eq!(look(vec![task(TaskPhase::Running, OLD)], &[]).unwrap(), None);
        let young = look(vec![task(TaskPhase::Running, Duration::ZERO)], &[]).unwrap().unwrap();
        assert_eq!(young, "service `app`: 0/1 tasks are steady (task `app.1.x` is running)");
    }

    #[test]
    fn a_restart_after_convergence_is_an_error_and_one_before_it_is_not() {
        let tasks = vec![task(TaskPhase::Running, OLD), task(TaskPhase::Failed, OLD)];
        assert_eq!(look(tasks.clone(), &["app.1.x"]).unwrap(), None);
        // The Swarm has forgotten the task that failed before, so that there are no more than there were.
        let error = look(tasks, &["app.1.earlier"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "service `app` must run without a restart, but 1 of its tasks ended: task `app.1.x` is failed (exit code 3)"
        );
    }

    #[test]
    fn a_service_that_runs_once_is_stable_when_it_is_done_and_one_that_comes_back_is_not() {
        let done = |restarts| {
            let tasks = vec![TaskState { exit_code: Some(0), ..task(TaskPhase::Complete, OLD) }];
            let (name, spec_version) = ("app".into(), 1);
            let service = ServiceState { name, replicas: 1, restarts, spec_version, tasks, ..ServiceState::default() };
            unstable(&[service], &evidence(&[]), Duration::ZERO, &Ages::default())
        };
        assert_eq!(done(RestartCondition::OnFailure).unwrap(), None);
        let error = done(RestartCondition::Any).unwrap_err().to_string();
        assert!(error.starts_with("service `app` must run without a restart, but 1 of its tasks ended"), "{error}");
    }

    #[test]
    fn a_service_that_is_scaled_to_nothing_is_not_stable() {
        let service = ServiceState { name: "app".into(), replicas: 0, ..ServiceState::default() };
        let reason = unstable(&[service], &evidence(&[]), Duration::ZERO, &Ages::default()).unwrap().unwrap();
        assert_eq!(reason, "service `app`: 0/1 tasks are steady ()");
    }

    #[test]
    fn a_service_that_is_gone_is_an_error() {
        let error = unstable(&[], &evidence(&[]), Duration::ZERO, &Ages::default()).unwrap_err().to_string();
        assert_eq!(error, "service `app` is gone");
    }
}
