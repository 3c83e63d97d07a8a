//! What a deployment creates, and what a second one leaves alone.

use anyhow::{Result, ensure};
use harness::engine::{Health, TaskPhase, UpdateState};

use super::recipe::Recipe;
use super::world::{World, brief};

crate::cases! {
    "deploy::services_are_as_the_compose_file_says" => as_written,
    "deploy::the_same_again_changes_nothing" => unchanged,
    "deploy::labels_change_without_a_new_task" => labels_only,
    "deploy::replicas_come_and_go_without_an_update" => scaled,
    "deploy::a_service_that_is_no_longer_named_keeps_running" => dropped,
    "deploy::a_global_service_runs_once" => global,
}

async fn as_written(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    deploy:
      <<: *quick
      labels:
        plain: "yes"
        priced: "5$$ \"quoted\""
  two:
    <<: *idle
    image: nginx:1.27.5
    deploy:
      <<: *quick
      replicas: 2
"#,
    );
    world.deployed(&recipe).await?;
    let services = world.engine.services().await?;
    let names: Vec<(&str, &str, u32)> =
        services.iter().map(|it| (it.name.as_str(), it.image.as_str(), it.replicas)).collect();
    ensure!(names == [("app", "nginx:1.27.4", 1), ("two", "nginx:1.27.5", 2)], "{names:?}");
    let [app, two] = services.as_slice() else { unreachable!() };
    let label = |what: &str| format!("coop-cloud.{}.{what}", world.stack());
    let labels: Vec<(String, &str)> = app.labels.iter().map(|(key, value)| (key.clone(), value.as_str())).collect();
    let expected = [
        (label("chaos"), "false"),
        (label("recipe"), "conformance"),
        (label("version"), "1.0.0+1.27.4"),
        ("plain".into(), "yes"),
        ("priced".into(), "5$ \"quoted\""),
    ];
    ensure!(labels == expected, "{labels:?}");
    ensure!(two.labels.is_empty(), "only `app` says what it is: {:?}", two.labels);
    ensure!(app.spec_version == 1 && app.update.is_none(), "{}", brief(app));
    let [task] = app.tasks.as_slice() else { anyhow::bail!("{}", brief(app)) };
    ensure!((task.slot, task.phase, task.health) == (1, TaskPhase::Running, Health::None), "{task:?}");
    ensure!(task.image == "nginx:1.27.4" && task.spec_version == 1 && task.desired_running, "{task:?}");
    ensure!(task.exit_code.is_none() && task.error.is_empty() && task.health_output.is_empty(), "{task:?}");
    ensure!(task.started_at.is_some() && task.ever_ready && !task.failed(), "{task:?}");
    let mut slots: Vec<u32> = two.wanted().map(|task| task.slot).collect();
    slots.sort();
    ensure!(slots == [1, 2], "{slots:?}");
    Ok(())
}

/// A service that tells its versions apart by a variable and a label.
fn versioned(variable: &str, label: &str) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    environment:
      VERSION: "<VARIABLE>"
    deploy:
      <<: *quick
      labels:
        version: "<LABEL>"
"#,
    );
    recipe.put("VARIABLE", variable).put("LABEL", label)
}

async fn unchanged(world: &World) -> Result<()> {
    world.deployed(&versioned("1", "1")).await?;
    let before = world.service("app").await?;
    world.deployed(&versioned("1", "1")).await?;
    let after = world.service("app").await?;
    ensure!(after == before, "{} became {}", brief(&before), brief(&after));
    // After an update, the same again makes Swarm forget how that went.
    world.deploy(&versioned("2", "1")).await?;
    world.update("app", UpdateState::Completed).await?;
    world.deploy(&versioned("2", "1")).await?;
    let after = world.service("app").await?;
    ensure!(after.update.is_none() && after.spec_version == 2 && after.tasks.len() == 2, "{}", brief(&after));
    Ok(())
}

async fn labels_only(world: &World) -> Result<()> {
    world.deployed(&versioned("1", "1")).await?;
    let before = world.service("app").await?;
    world.deployed(&versioned("1", "2")).await?;
    let after = world.service("app").await?;
    ensure!(after.labels["version"] == "2" && after.spec_version == 2 && after.update.is_none(), "{}", brief(&after));
    let [task] = after.tasks.as_slice() else { anyhow::bail!("{}", brief(&after)) };
    ensure!(task.id == before.tasks[0].id && task.spec_version == 2, "{}", brief(&after));
    Ok(())
}

async fn scaled(world: &World) -> Result<()> {
    let replicas = |number: u32| {
        let recipe =
            Recipe::new("services:\n  app:\n    <<: *idle\n    deploy:\n      <<: *quick\n      replicas: <N>\n");
        recipe.put("N", &number.to_string())
    };
    world.deployed(&replicas(1)).await?;
    let first = world.service("app").await?.tasks[0].id.clone();
    for number in [3, 1, 0] {
        world.deployed(&replicas(number)).await?;
        let state = world.service("app").await?;
        ensure!(state.replicas == number && state.update.is_none(), "{}", brief(&state));
        let wanted = state.wanted().count() as u32;
        ensure!(wanted == number && (number != 3 || state.wanted().any(|task| task.id == first)), "{}", brief(&state));
    }
    Ok(())
}

async fn dropped(world: &World) -> Result<()> {
    let app = "services:\n  app:\n    <<: *idle\n    environment:\n      VERSION: \"<V>\"\n    deploy: *quick\n";
    let sidekick = "  sidekick:\n    <<: *idle\n    deploy: *quick\n";
    world.deployed(&Recipe::new(&format!("{app}{sidekick}")).put("V", "1")).await?;
    let before = world.service("sidekick").await?;
    world.deploy(&Recipe::new(app).put("V", "2")).await?;
    world.update("app", UpdateState::Completed).await?;
    let after = world.service("sidekick").await?;
    ensure!(after == before, "{} became {}", brief(&before), brief(&after));
    Ok(())
}

async fn global(world: &World) -> Result<()> {
    let recipe = Recipe::new("services:\n  app:\n    <<: *idle\n    deploy:\n      <<: *quick\n      mode: global\n");
    world.deployed(&recipe).await?;
    let service = world.service("app").await?;
    let slots: Vec<u32> = service.wanted().map(|task| task.slot).collect();
    ensure!(service.replicas == 1 && slots == [1], "{}", brief(&service));
    ensure!(world.sh("app", "echo here").await? == "here\n");
    Ok(())
}
