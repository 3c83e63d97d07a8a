//! Updates in place: what is replaced and what is not, in which order, and what happens when it goes wrong. What holds for
//! every engine is in `tests/it/conformance`, and here only what more can be said of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::{TaskPhase, UpdateState};
use harness::recipe::stack::{FailureAction, FileMount, FileObject, Mode, Service, UpdateOrder};
use libtest_mimic::Trial;

use crate::support::{World, deployment, error_of, get, health, idle, shell, trial, volume, web};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("updates::a_service_whose_spec_is_the_same_is_left_alone", unchanged),
        trial("updates::a_changed_service_is_replaced_at_its_old_address", replaced),
        trial("updates::labels_of_deploy_change_without_a_new_task", labels_only),
        trial("updates::start_first_answers_without_a_gap", start_first),
        trial("updates::an_update_to_an_image_that_is_missing_is_paused", missing_image),
        trial("updates::an_unhealthy_update_is_rolled_back_and_never_served", unhealthy),
        trial("updates::a_failing_rollback_is_paused", rollback_paused),
        trial("updates::replicas_are_replaced_as_many_at_a_time_as_the_spec_says", parallelism),
        trial("updates::replicas_come_and_go_without_an_update", scaled),
        trial("updates::a_dropped_service_keeps_running", dropped),
        trial("updates::a_config_cannot_change_under_its_name", config_content),
    ]
}

/// The idle service with something to tell its versions apart.
fn version(number: u32) -> Service {
    versioned(idle(), number)
}

fn versioned(mut service: Service, number: u32) -> Service {
    service.environment.insert("VERSION".into(), number.to_string());
    service.deploy.labels.insert("version".into(), number.to_string());
    service
}

/// A version whose tasks end by themselves.
fn broken(number: u32, action: FailureAction) -> Service {
    let mut service = versioned(shell("sleep 0.05; exit 9"), number);
    service.deploy.update.failure_action = action;
    service
}

async fn deployed(service: Service) -> Result<World> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await?;
    Ok(world)
}

async fn unchanged() -> Result<()> {
    let world = deployed(version(1)).await?;
    let before = world.service("app").await?;
    ensure!(before.update.is_none() && before.spec_version == 1);
    world.engine.deploy(&deployment([("app", version(1)), ("new", idle())])).await?;
    world.converged("new").await?;
    ensure!(world.service("app").await? == before);
    world.end().await
}

async fn replaced() -> Result<()> {
    let world = deployed(version(1)).await?;
    let address = world.shell("app", "hostname -I 2>/dev/null || cat /etc/hosts").await?;
    let old = world.service("app").await?.tasks[0].id.clone();
    world.engine.deploy(&deployment([("app", version(2))])).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    ensure!(service.update.as_ref().unwrap().message == "update completed");
    ensure!((service.spec_version, service.labels["version"].as_str()) == (2, "2"));
    let [new, replaced] = service.tasks.as_slice() else { anyhow::bail!("{service:#?}") };
    ensure!(new.phase == TaskPhase::Running && new.spec_version == 2 && new.slot == 1);
    ensure!(replaced.id == old && replaced.phase == TaskPhase::Shutdown && !replaced.desired_running);
    ensure!(world.shell("app", "echo $VERSION").await? == "2\n");
    ensure!(world.shell("app", "hostname -I 2>/dev/null || cat /etc/hosts").await? == address);
    // The same spec again: Swarm forgets how the last update went.
    world.engine.deploy(&deployment([("app", version(2))])).await?;
    let service = world.service("app").await?;
    ensure!(service.update.is_none() && service.spec_version == 2 && service.tasks.len() == 2);
    world.end().await
}

async fn labels_only() -> Result<()> {
    let world = deployed(version(1)).await?;
    let before = world.service("app").await?;
    let mut service = version(1);
    service.deploy.labels.insert("extra".into(), "x".into());
    world.engine.deploy(&deployment([("app", service)])).await?;
    let after = world.service("app").await?;
    ensure!(after.labels["extra"] == "x" && after.spec_version == 2 && after.update.is_none());
    ensure!(after.tasks.len() == 1 && after.tasks[0].id == before.tasks[0].id && after.tasks[0].spec_version == 2);
    world.end().await
}

async fn start_first() -> Result<()> {
    let server = |number| {
        let mut service = versioned(web(&[]), number);
        service.healthcheck = health("curl -fsS -o /dev/null http://localhost/", Duration::from_secs(5), 3);
        service.deploy.update.order = UpdateOrder::StartFirst;
        service
    };
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", server(1)), ("other", idle())])).await?;
    world.converged("app").await?;
    world.converged("other").await?;
    let address = world.engine.publish("app", 80).await?;
    let address_seen_by_others = "grep -w app /etc/hosts";
    let before = world.shell("other", address_seen_by_others).await?;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // A connection in flight is cut when its task ends; a new one must find a task at any time.
                let (status, _) = match get(&address, "/").await {
                    Ok(answer) => answer,
                    Err(_) => get(&address, "/").await?,
                };
                ensure!(status == 200, "{status}");
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    };
    for number in 2..5 {
        world.engine.deploy(&deployment([("app", server(number)), ("other", idle())])).await?;
        world.update("app", UpdateState::Completed).await?;
        ensure!(world.service("app").await?.spec_version == u64::from(number));
    }
    stop.store(true, Ordering::Relaxed);
    asking.await??;
    ensure!(served.load(Ordering::Relaxed) > 3);
    // Whoever looked the name up before the updates still reaches the service.
    ensure!(world.shell("other", address_seen_by_others).await? == before);
    let host = before.split_whitespace().next().unwrap().to_owned();
    let reached = world.shell("other", &format!("bash -c 'echo > /dev/tcp/{host}/80' && echo reached")).await?;
    ensure!(reached == "reached\n", "{reached}");
    world.end().await
}

async fn missing_image() -> Result<()> {
    let world = deployed(version(1)).await?;
    let service = Service { image: "nginx-that-is-not:9".into(), ..version(2) };
    world.engine.deploy(&deployment([("app", service)])).await?;
    let service = world.update("app", UpdateState::Paused).await?;
    let rejected = service.failures().last().unwrap();
    ensure!(rejected.phase == TaskPhase::Rejected, "{rejected:?}");
    ensure!(rejected.error.starts_with("No such image: nginx-that-is-not:9"), "{rejected:?}");
    ensure!(service.image == "nginx-that-is-not:9");
    world.end().await
}

async fn unhealthy() -> Result<()> {
    let server = |number, status: &str| {
        let mut service = versioned(web(&["--status", status]), number);
        service.healthcheck = health("curl -fsS http://localhost/", Duration::from_millis(60), 2);
        service.deploy.update.failure_action = FailureAction::Rollback;
        service
    };
    let world = deployed(server(1, "200")).await?;
    let address = world.engine.publish("app", 80).await?;
    world.engine.deploy(&deployment([("app", server(2, "500"))])).await?;
    let service = world.update("app", UpdateState::RollbackCompleted).await?;
    let failed = service.tasks.iter().find(|task| task.failed()).context("the failure is forgotten")?;
    // The server stops with code 0 when it is told to: for Swarm it has come to its end.
    ensure!(failed.phase == TaskPhase::Complete && failed.killed_while_starting(), "{failed:?}");
    ensure!(failed.health_output.contains("curl: (22) The requested URL returned error: 500"), "{failed:?}");
    world.converged("app").await?;
    ensure!(get(&address, "/").await?.0 == 200);
    world.end().await
}

async fn rollback_paused() -> Result<()> {
    // The first version only ever runs once: its volume remembers.
    let once = "test -e /data/ran && exit 5; touch /data/ran; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let service = Service { mounts: vec![volume("data", "/data")], ..versioned(shell(once), 1) };
    let world = deployed(service).await?;
    world.until_shell("app", "test -e /data/ran").await?;
    world.engine.deploy(&deployment([("app", broken(2, FailureAction::Rollback))])).await?;
    let service = world.update("app", UpdateState::RollbackPaused).await?;
    let message = &service.update.as_ref().unwrap().message;
    ensure!(message.starts_with("rollback paused due to failure or early termination of task "), "{message}");
    world.end().await
}

async fn parallelism() -> Result<()> {
    let service = |number, at_a_time| {
        let mut service = version(number);
        service.deploy.mode = Mode::Replicated(4);
        service.deploy.update.parallelism = at_a_time;
        service.deploy.update.monitor = Some(Duration::from_millis(10));
        service
    };
    let world = deployed(service(1, 1)).await?;
    for (number, at_a_time, most_missing) in [(2, 1, 1), (3, 2, 2), (4, 0, 4)] {
        world.engine.deploy(&deployment([("app", service(number, at_a_time))])).await?;
        let mut fewest = 4;
        let state = world
            .until_watching("app", |service| {
                let running = service.tasks.iter().filter(|task| task.phase == TaskPhase::Running).count();
                fewest = fewest.min(running);
                service.update.as_ref().is_some_and(|update| update.state == UpdateState::Completed)
            })
            .await?;
        ensure!(fewest >= 4 - most_missing, "only {fewest} of 4 ran with {at_a_time} at a time");
        ensure!(state.wanted().all(|task| task.spec_version == u64::from(number)), "{state:#?}");
    }
    let slots: std::collections::BTreeSet<u32> = world.service("app").await?.wanted().map(|task| task.slot).collect();
    ensure!(slots == (1..=4).collect());
    world.end().await
}

async fn scaled() -> Result<()> {
    let service = |replicas| {
        let mut service = version(1);
        service.deploy.mode = Mode::Replicated(replicas);
        service
    };
    let world = deployed(service(1)).await?;
    let first = world.service("app").await?.tasks[0].id.clone();
    for replicas in [3, 1, 0] {
        world.engine.deploy(&deployment([("app", service(replicas))])).await?;
        let state = world.converged("app").await?;
        ensure!(state.update.is_none(), "{state:#?}");
        ensure!(replicas == 0 || state.wanted().any(|task| task.id == first), "{state:#?}");
    }
    world.end().await
}

async fn dropped() -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", version(1)), ("sidekick", idle())])).await?;
    world.converged("sidekick").await?;
    let before = world.service("sidekick").await?;
    world.engine.deploy(&deployment([("app", version(2))])).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.service("sidekick").await? == before);
    world.end().await
}

async fn config_content() -> Result<()> {
    let with = |name: &str, content: &str| {
        let mount = FileMount { source: "conf".into(), target: "/conf".into(), uid: 0, gid: 0, mode: 0o444 };
        let mut deployment = deployment([("app", Service { configs: vec![mount], ..idle() })]);
        let object = FileObject { name: name.into(), content: Some(content.into()), ..FileObject::default() };
        deployment.stack.configs.insert("conf".into(), object);
        deployment
    };
    let world = World::new().await?;
    world.engine.deploy(&with("s_conf_v1", "one")).await?;
    world.converged("app").await?;
    let error = error_of(world.engine.deploy(&with("s_conf_v1", "two")).await)?;
    let expected = "failed to update config s_conf_v1: only updates to Labels are allowed; its content changed under \
        the same name, so give it a new version";
    ensure!(error == expected, "{error}");
    ensure!(world.service("app").await?.spec_version == 1);
    world.engine.deploy(&with("s_conf_v2", "two")).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.shell("app", "cat /conf").await? == "two");
    world.end().await
}
