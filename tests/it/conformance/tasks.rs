//! Tasks: their health, their end, and what comes after it.

use anyhow::{Context as _, Result, ensure};
use harness::engine::{Health, ServiceState, TaskPhase, TaskState};
use harness::recipe::stack::RestartCondition;

use super::recipe::Recipe;
use super::world::{World, brief};

crate::cases! {
    "tasks::a_healthy_container_runs" => healthy,
    "tasks::a_container_starts_until_its_check_has_passed" => starting,
    "tasks::a_container_that_never_gets_healthy_is_killed_while_starting" => killed_while_starting,
    "tasks::a_container_that_becomes_unhealthy_is_replaced" => unhealthy,
    "tasks::a_command_that_exits_is_restarted_and_counted" => crash_loop,
    "tasks::a_policy_may_forbid_a_restart" => restart_policies,
    "tasks::an_image_that_does_not_exist_is_rejected" => missing_image,
    "tasks::a_program_that_does_not_exist_is_a_failure" => missing_program,
}

/// `test` is a shell line, `options` more lines of the health check.
fn checked(test: &str, options: &str) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    healthcheck:
      test: "<TEST>"
      interval: 300ms
      timeout: 2s
<OPTIONS>
    deploy: *quick
"#,
    );
    let options: Vec<String> = options.lines().map(|line| format!("      {line}")).collect();
    recipe.put("TEST", test).put("OPTIONS", &options.join("\n"))
}

/// The last task that ended by itself.
fn ended(tasks: &[TaskState]) -> Result<&TaskState> {
    tasks.iter().rfind(|task| task.failed()).context("no task has ended")
}

async fn healthy(world: &World) -> Result<()> {
    world.deployed(&checked("echo all is well", "retries: 3")).await?;
    let service = world.until("health", "app", |service| service.tasks[0].health == Health::Healthy).await?;
    let task = &service.tasks[0];
    ensure!(task.phase == TaskPhase::Running && task.health_output == "all is well", "{task:?}");
    ensure!(service.tasks.len() == 1 && task.ever_ready, "{}", brief(&service));
    Ok(())
}

async fn starting(world: &World) -> Result<()> {
    world.deploy(&checked("echo waiting; test -e /tmp/well", "retries: 1000")).await?;
    let said = |service: &ServiceState| service.tasks.first().is_some_and(|task| task.health_output == "waiting");
    let service = world.until("a first look", "app", said).await?;
    let task = &service.tasks[0];
    ensure!((task.phase, task.health) == (TaskPhase::Starting, Health::Starting), "{task:?}");
    ensure!(task.desired_running && !task.ever_ready, "{task:?}");
    // Its container is there to be looked into.
    world.sh("app", "touch /tmp/well").await?;
    let service = world.converged("app").await?;
    ensure!(service.tasks.len() == 1 && service.tasks[0].health == Health::Healthy, "{}", brief(&service));
    Ok(())
}

async fn killed_while_starting(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
x-ill: &ill
  healthcheck: { test: "echo not yet; false", interval: 300ms, timeout: 2s, retries: 2 }
  deploy: *quick
services:
  polite:
    <<: [*idle, *ill]
  rude:
    <<: [*idle, *ill]
    command: ["sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait"]
"#,
    );
    world.deploy(&recipe).await?;
    let killed = |service: &ServiceState| service.tasks.iter().any(TaskState::failed);
    // What stops with code 0 is complete to Swarm, and nothing is said against it.
    for (name, phase, code, error) in [
        ("polite", TaskPhase::Complete, 0, ""),
        ("rude", TaskPhase::Failed, 3, "task: non-zero exit (3): dockerexec: unhealthy container"),
    ] {
        let service = world.until("a failure", name, killed).await?;
        let task = ended(&service.tasks)?;
        ensure!(task.killed_while_starting(), "{task:?}");
        // On a busy machine Swarm may trip over its own removal of the network, and calls that a failure.
        let tripped = task.error.starts_with("unhealthy container shutdown failed: ");
        let seen = (task.phase, task.exit_code, task.error.as_str());
        ensure!(seen == (phase, Some(code), error) || tripped && task.phase == TaskPhase::Failed, "{task:?}");
        ensure!(task.health_output == "not yet" && task.health == Health::Unhealthy, "{task:?}");
        ensure!(!task.desired_running && service.failures().count() >= 1, "{}", brief(&service));
    }
    Ok(())
}

async fn unhealthy(world: &World) -> Result<()> {
    world.deployed(&checked("test ! -e /tmp/ill || { echo ill; false; }", "retries: 1")).await?;
    world.sh("app", "touch /tmp/ill").await?;
    let replaced = |service: &ServiceState| service.tasks.len() == 2 && service.tasks[0].phase == TaskPhase::Running;
    let service = world.until("a new container", "app", replaced).await?;
    let [new, old] = service.tasks.as_slice() else { unreachable!() };
    ensure!(old.failed() && !old.killed_while_starting() && old.ever_ready, "{old:?}");
    ensure!(old.exit_code == Some(0) && old.health == Health::Unhealthy && old.health_output == "ill", "{old:?}");
    ensure!(new.slot == old.slot && new.desired_running && service.failures().count() == 1, "{}", brief(&service));
    Ok(())
}

/// One service that runs a shell line.
fn shell(line: &str, policy: &str) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    command: ["sh", "-c", "<LINE>"]
    deploy:
      restart_policy: { delay: 50ms<POLICY> }
"#,
    );
    recipe.put("LINE", line).put("POLICY", policy)
}

async fn crash_loop(world: &World) -> Result<()> {
    world.deploy(&shell("echo dying; exit 4", "")).await?;
    let service = world.until("two failures", "app", |service| service.failures().count() >= 2).await?;
    for task in service.failures() {
        ensure!((task.phase, task.exit_code) == (TaskPhase::Failed, Some(4)), "{task:?}");
        ensure!(task.error == "task: non-zero exit (4)" && !task.desired_running, "{task:?}");
        ensure!(task.slot == 1 && task.spec_version == service.spec_version, "{task:?}");
    }
    ensure!(service.update.is_none() && service.spec_version == 1, "{}", brief(&service));
    Ok(())
}

async fn restart_policies(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  job:
    <<: *idle
    command: ["true"]
    deploy:
      restart_policy: { condition: on-failure, delay: 50ms }
  limited:
    <<: *idle
    command: ["false"]
    deploy:
      restart_policy: { max_attempts: 2, delay: 50ms }
  never:
    <<: *idle
    command: ["sh", "-c", "exit 7"]
    deploy:
      restart_policy: { condition: none }
"#,
    );
    world.deploy(&recipe).await?;
    world.until("three failures", "limited", |service| service.failures().count() == 3).await?;
    let job = world.until("its end", "job", |service| service.tasks[0].failed()).await?;
    ensure!((job.tasks[0].phase, job.tasks[0].exit_code) == (TaskPhase::Complete, Some(0)), "{}", brief(&job));
    ensure!(job.tasks[0].error.is_empty(), "{}", brief(&job));
    // It has done its work, and that is no failure.
    ensure!((job.restarts, job.done()) == (RestartCondition::OnFailure, 1), "{}", brief(&job));
    ensure!(job.failures().count() == 0 && job.wanted().count() == 0, "{}", brief(&job));
    let never = world.until("its end", "never", |service| service.tasks[0].failed()).await?;
    ensure!((never.tasks[0].phase, never.tasks[0].exit_code) == (TaskPhase::Failed, Some(7)), "{}", brief(&never));
    ensure!((never.restarts, never.done()) == (RestartCondition::None, 0), "{}", brief(&never));
    ensure!(never.failures().count() == 1, "{}", brief(&never));
    // The three attempts of the other service have taken longer than another one of these would have.
    for (name, tasks) in [("job", 1), ("never", 1), ("limited", 3)] {
        let service = world.service(name).await?;
        ensure!(service.tasks.len() == tasks && service.replicas == 1, "{}", brief(&service));
    }
    Ok(())
}

async fn missing_image(world: &World) -> Result<()> {
    let recipe =
        Recipe::new("services:\n  app:\n    <<: *idle\n    image: conformance-has-none:1\n    deploy: *quick\n");
    world.deploy(&recipe).await?;
    let rejected = |service: &ServiceState| service.tasks.iter().any(TaskState::failed);
    let service = world.until("a rejection", "app", rejected).await?;
    let task = ended(&service.tasks)?;
    ensure!(task.phase == TaskPhase::Rejected && task.exit_code.is_none(), "{task:?}");
    ensure!(task.error.starts_with("No such image: conformance-has-none:1"), "{task:?}");
    ensure!(!task.ever_ready && service.image == "conformance-has-none:1", "{}", brief(&service));
    Ok(())
}

async fn missing_program(world: &World) -> Result<()> {
    let recipe =
        Recipe::new("services:\n  app:\n    <<: *idle\n    command: [\"no-such-program\"]\n    deploy: *quick\n");
    world.deploy(&recipe).await?;
    let failed = |service: &ServiceState| service.tasks.iter().any(TaskState::failed);
    let service = world.until("a failure", "app", failed).await?;
    let task = ended(&service.tasks)?;
    ensure!(task.error.starts_with("starting container failed: ") && !task.ever_ready, "{task:?}");
    ensure!(task.error.contains("no-such-program") && task.phase == TaskPhase::Failed, "{task:?}");
    Ok(())
}
