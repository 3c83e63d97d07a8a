//! Updates in place: what is replaced, in which order, and what happens when it goes wrong.

use anyhow::{Context as _, Result, ensure};
use harness::engine::{ServiceState, TaskPhase, UpdateState};

use super::recipe::Recipe;
use super::world::{World, brief};

crate::cases! {
    "updates::a_new_image_replaces_the_task" => new_image,
    "updates::start_first_keeps_the_old_task_until_the_new_one_runs" => start_first,
    "updates::stop_first_never_runs_both" => stop_first,
    "updates::a_failing_update_is_rolled_back_with_image_and_labels" => rolled_back,
    "updates::an_unhealthy_update_is_rolled_back" => unhealthy,
    "updates::a_failing_update_is_paused" => paused,
    "updates::a_failure_may_be_ignored" => continued,
    "updates::every_replica_is_replaced" => replicas,
    "updates::a_newer_deploy_takes_over" => superseded,
    "updates::what_is_written_outside_a_volume_is_lost" => volume_survives,
}

const IDLE: &str = "trap 'exit 0' TERM; touch /tmp/ready; sleep 1000 & wait";

/// One version of the app: its image's tag, what it runs, and more lines of `update_config`.
fn app(tag: &str, line: &str, update: &str) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    image: nginx:<TAG>
    command: ["sh", "-c", "<LINE>"]
    stop_signal: SIGTERM
    stop_grace_period: 2s
    deploy:
      labels:
        tag: "<TAG>"
      restart_policy: { delay: 50ms }
      update_config: { monitor: 1s<UPDATE> }
"#,
    );
    recipe.put("TAG", tag).put("LINE", line).put("UPDATE", update)
}

async fn new_image(world: &World) -> Result<()> {
    world.deployed(&app("1.27.4", IDLE, "")).await?;
    // Before its trap is set, the shell is deaf.
    world.until_sh("app", "test -e /tmp/ready").await?;
    let before = world.service("app").await?;
    world.deploy(&app("1.27.5", IDLE, "").version("1.0.1+1.27.5")).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    ensure!(service.update.as_ref().unwrap().message == "update completed", "{}", brief(&service));
    ensure!(service.spec_version > before.spec_version && service.image == "nginx:1.27.5", "{}", brief(&service));
    ensure!(service.labels["tag"] == "1.27.5", "{}", brief(&service));
    let version = format!("coop-cloud.{}.version", world.stack());
    ensure!(service.labels[&version] == "1.0.1+1.27.5", "{}", brief(&service));
    let [new, old] = service.tasks.as_slice() else { anyhow::bail!("{}", brief(&service)) };
    ensure!(new.phase == TaskPhase::Running && new.desired_running && new.slot == 1, "{new:?}");
    ensure!(new.spec_version == service.spec_version && new.image == "nginx:1.27.5", "{new:?}");
    ensure!(old.id == before.tasks[0].id && old.spec_version == before.spec_version, "{old:?}");
    ensure!(old.image == "nginx:1.27.4" && !old.desired_running && !old.failed(), "{old:?}");
    ensure!((old.phase, old.exit_code) == (TaskPhase::Shutdown, Some(0)), "{old:?}");
    ensure!(service.failures().count() == 0, "{}", brief(&service));
    Ok(())
}

fn running(service: &ServiceState, tag: &str) -> usize {
    let image = format!("nginx:{tag}");
    service.tasks.iter().filter(|task| task.phase == TaskPhase::Running && task.image == image).count()
}

async fn start_first(world: &World) -> Result<()> {
    let order = ", order: start-first";
    world.deployed(&app("1.27.4", IDLE, order)).await?;
    world.deploy(&app("1.27.5", IDLE, order)).await?;
    world
        .until("the new task", "app", |service| {
            // Swarm's own order; a look that sees neither would be a gap in the service.
            assert!(running(service, "1.27.4") + running(service, "1.27.5") > 0, "none runs: {}", brief(service));
            running(service, "1.27.5") == 1
        })
        .await?;
    world.update("app", UpdateState::Completed).await?;
    let service = world.until("the end of the old task", "app", |service| running(service, "1.27.4") == 0).await?;
    ensure!(running(&service, "1.27.5") == 1 && service.tasks.len() == 2, "{}", brief(&service));
    Ok(())
}

async fn stop_first(world: &World) -> Result<()> {
    let exclusive = |number: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    environment:
      VERSION: "<N>"
    command:
      - sh
      - -c
      - mkdir /data/lock || exit 3; trap 'rmdir /data/lock; exit 0' TERM; touch /tmp/ready; sleep 1000 & wait
    volumes:
      - data:/data
    deploy: *quick
volumes:
  data:
"#,
        );
        recipe.put("N", number)
    };
    world.deployed(&exclusive("1")).await?;
    // Before its trap is set, the shell would leave the lock behind.
    world.until_sh("app", "test -e /tmp/ready").await?;
    world.deploy(&exclusive("2")).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    ensure!(service.failures().count() == 0 && service.tasks.len() == 2, "{}", brief(&service));
    Ok(())
}

async fn rolled_back(world: &World) -> Result<()> {
    let version = |tag: &str, line: &str, check: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    image: nginx:<TAG>
    command: ["sh", "-c", "<LINE>"]
    healthcheck: { test: "<CHECK>", interval: 200ms, start_period: 60s }
    deploy:
      labels:
        tag: "<TAG>"
      restart_policy: { delay: 50ms }
      update_config: { monitor: 1s, order: start-first, failure_action: rollback }
"#,
        );
        recipe.put("TAG", tag).put("LINE", line).put("CHECK", check)
    };
    world.deployed(&version("1.27.4", IDLE, "true")).await?;
    let before = world.service("app").await?;
    // It ends before it ever counts as running, so the old one is never stopped.
    world.deploy(&version("1.27.5", "exit 9", "false").version("1.0.1+1.27.5")).await?;
    let service = world.update("app", UpdateState::RollbackCompleted).await?;
    let message = &service.update.as_ref().unwrap().message;
    ensure!(message.starts_with("rollback completed"), "{message}");
    ensure!(service.image == "nginx:1.27.4" && service.labels == before.labels, "{}", brief(&service));
    ensure!(service.spec_version > before.spec_version + 1, "both ways are changes: {}", brief(&service));
    let service = world.converged("app").await?;
    // With start-first the old task was never touched.
    let running: Vec<&str> = service.wanted().map(|task| task.id.as_str()).collect();
    ensure!(running == [before.tasks[0].id.as_str()], "{}", brief(&service));
    ensure!(service.failures().count() == 0, "the failures are not the current spec's: {}", brief(&service));
    let failed = service.tasks.iter().find(|task| task.failed()).context("the failure is forgotten")?;
    ensure!((failed.exit_code, failed.image.as_str()) == (Some(9), "nginx:1.27.5"), "{failed:?}");
    Ok(())
}

async fn unhealthy(world: &World) -> Result<()> {
    let checked = |tag: &str, test: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    image: nginx:<TAG>
    healthcheck:
      test: "<TEST>"
      interval: 200ms
      retries: 2
    deploy:
      restart_policy: { delay: 50ms }
      update_config: { monitor: 2s, failure_action: rollback }
"#,
        );
        recipe.put("TAG", tag).put("TEST", test)
    };
    world.deployed(&checked("1.27.4", "true")).await?;
    world.deploy(&checked("1.27.5", "echo no page; false")).await?;
    let service = world.update("app", UpdateState::RollbackCompleted).await?;
    let failed = service.tasks.iter().find(|task| task.failed()).context("it is forgotten")?;
    ensure!(failed.killed_while_starting() && failed.health_output == "no page", "{failed:?}");
    let service = world.converged("app").await?;
    ensure!((service.image.as_str(), running(&service, "1.27.4")) == ("nginx:1.27.4", 1), "{}", brief(&service));
    Ok(())
}

async fn paused(world: &World) -> Result<()> {
    world.deployed(&app("1.27.4", IDLE, "")).await?;
    world.deploy(&app("1.27.5", "exit 9", "")).await?;
    let service = world.update("app", UpdateState::Paused).await?;
    let message = &service.update.as_ref().unwrap().message;
    let task = message.strip_prefix("update paused due to failure or early termination of task ");
    let task = task.with_context(|| message.clone())?;
    let failed =
        service.failures().find(|failed| failed.id.ends_with(task)).with_context(|| brief(&service).to_string())?;
    ensure!(failed.exit_code == Some(9) && failed.error == "task: non-zero exit (9)", "{failed:?}");
    // Nothing goes back by itself.
    ensure!(service.image == "nginx:1.27.5" && service.labels["tag"] == "1.27.5", "{}", brief(&service));
    // Paused is for ever, but the failing task is restarted on and on.
    let service = world.until("restarts", "app", |service| service.failures().count() > 2).await?;
    ensure!(service.update.as_ref().unwrap().state == UpdateState::Paused, "{}", brief(&service));
    // The next deploy starts afresh.
    world.deploy(&app("1.28.0", IDLE, "")).await?;
    world.update("app", UpdateState::Completed).await?;
    let service = world.converged("app").await?;
    ensure!(running(&service, "1.28.0") == 1, "{}", brief(&service));
    Ok(())
}

async fn continued(world: &World) -> Result<()> {
    let update = ", failure_action: continue";
    world.deployed(&app("1.27.4", IDLE, update)).await?;
    world.deploy(&app("1.27.5", "exit 9", update)).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    ensure!(service.failures().count() > 0 && service.image == "nginx:1.27.5", "{}", brief(&service));
    Ok(())
}

async fn replicas(world: &World) -> Result<()> {
    let recipe = |tag: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    image: nginx:<TAG>
    deploy:
      replicas: 3
      update_config: { monitor: 100ms, parallelism: 2 }
"#,
        );
        recipe.put("TAG", tag)
    };
    world.deployed(&recipe("1.27.4")).await?;
    world.deploy(&recipe("1.27.5")).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    let mut slots: Vec<u32> = service.wanted().map(|task| task.slot).collect();
    slots.sort();
    ensure!(slots == [1, 2, 3] && running(&service, "1.27.5") == 3, "{}", brief(&service));
    ensure!(service.tasks.len() == 6 && service.failures().count() == 0, "{}", brief(&service));
    Ok(())
}

async fn superseded(world: &World) -> Result<()> {
    let stuck = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    image: nginx:1.27.5
    healthcheck: { test: "false", interval: 100s, start_period: 600s }
    deploy: *quick
"#,
    );
    world.deployed(&app("1.27.4", IDLE, "")).await?;
    // Its update would go on for longer than anybody waits.
    world.deploy(&stuck).await?;
    let starting = |service: &ServiceState| service.tasks[0].phase == TaskPhase::Starting;
    let service = world.until("the second version", "app", starting).await?;
    ensure!(service.update.as_ref().is_some_and(|it| it.state == UpdateState::Updating), "{}", brief(&service));
    world.deploy(&app("1.28.0", IDLE, "")).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    ensure!(service.spec_version == 3 && running(&service, "1.28.0") == 1, "{}", brief(&service));
    Ok(())
}

async fn volume_survives(world: &World) -> Result<()> {
    let recipe = |tag: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    image: nginx:<TAG>
    volumes:
      - data:/data
    deploy: *quick
volumes:
  data:
"#,
        );
        recipe.put("TAG", tag)
    };
    world.deployed(&recipe("1.27.4")).await?;
    world.sh("app", "echo kept > /data/file; echo lost > /tmp/file").await?;
    world.deploy(&recipe("1.27.5")).await?;
    world.update("app", UpdateState::Completed).await?;
    let seen = world.sh("app", "cat /data/file; test ! -e /tmp/file").await?;
    ensure!(seen == "kept\n", "{seen}");
    Ok(())
}
