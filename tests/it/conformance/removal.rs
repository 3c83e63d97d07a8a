//! The end: nothing stays, whoever ends it.

use anyhow::{Result, ensure};
use harness::engine::{Engine, Kind};

use super::recipe::Recipe;
use super::world::{World, error_of};

crate::cases! {
    "removal::nothing_is_left_and_the_second_time_finds_nothing" => removed,
    "removal::a_stack_in_trouble_goes_as_well" => in_trouble,
    "removal::a_sweep_finds_what_a_dead_engine_has_left" => swept,
    "removal::two_engines_do_not_meet" => two,
}

/// Some of everything that can be left behind.
fn everything() -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    volumes: ["data:/data", "/anonymous"]
    networks: [inner]
    secrets: [pw]
    configs: [conf]
    deploy: *quick
networks:
  inner:
volumes:
  data:
secrets:
  pw:
    external: true
    name: ${STACK_NAME}_pw_v1
configs:
  conf:
    name: ${STACK_NAME}_conf_v1
    file: conf
"#,
    );
    recipe.secret("pw", "hunter2").file("conf", "content")
}

async fn removed(world: &World) -> Result<()> {
    world.deployed(&everything()).await?;
    world.engine.write_volume("data", "x", b"data").await?;
    let address = world.engine.publish("app", 80).await?;
    let open = world.notes.open();
    ensure!(open.iter().any(|(kind, _)| *kind == Kind::Service), "{open:?}");
    ensure!(open.iter().any(|(kind, name)| *kind == Kind::Volume && *name == format!("{}_data", world.stack())));
    ensure!(!world.left().await?.is_empty(), "there is nothing that could be left");
    for time in ["first", "second"] {
        let left = world.engine.remove().await?;
        ensure!(left.is_empty(), "the {time} time: {left:?}");
        let left = world.left().await?;
        ensure!(left.is_empty(), "the {time} time: {left:?}");
        let open = world.notes.open();
        ensure!(open.is_empty(), "the {time} time: {open:?}");
    }
    let address = address.trim_start_matches("http://").to_owned();
    ensure!(std::net::TcpStream::connect(&address).is_err(), "{address} is still open");
    Ok(())
}

async fn in_trouble(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  crashing:
    <<: *idle
    command: ["false"]
    deploy: *quick
  deaf:
    <<: *idle
    command: ["sleep", "1000"]
    stop_grace_period: 60s
    deploy: *quick
  missing:
    <<: *idle
    image: conformance-has-none:1
    deploy: *quick
"#,
    );
    world.deploy(&recipe).await?;
    world.converged("deaf").await?;
    world.until("a failure", "crashing", |service| service.failures().count() > 0).await?;
    // The grace is not waited for: what is destroyed needs none.
    let start = std::time::Instant::now();
    let left = world.engine.remove().await?;
    ensure!(left.is_empty(), "{left:?}");
    ensure!(start.elapsed().as_secs() < 30, "it took {:?}", start.elapsed());
    Ok(())
}

/// Takes an engine away from under its stack, as the death of its process does.
async fn swept(world: &World) -> Result<()> {
    let other = world.another().await?;
    let stack = other.stack();
    let deploy = async {
        other.deploy(&everything()).await?;
        let running = || async {
            let services = other.engine.services().await?;
            let runs = services.iter().flat_map(|it| &it.tasks).any(|it| it.started_at.is_some());
            Ok(if runs { harness::poll::Look::Ready(()) } else { harness::poll::Look::NotYet(format!("{services:?}")) })
        };
        world.wait("a running task", running).await?;
        other.engine.write_volume("data", "x", b"data").await
    };
    let deployed = deploy.await;
    let World { engine, dir, on, .. } = other;
    if let Engine::Swarm(_) | Engine::Abra(_) = &engine {
        ensure!(!on.left(&stack, dir.path()).await?.is_empty(), "there is nothing that could be left");
    }
    drop(engine);
    let engine_dir = dir.path().join("engine");
    let left = harness::engine::sweep(&engine_dir).await;
    deployed?;
    ensure!(left.is_empty(), "{left:?}");
    let left = on.left(&stack, dir.path()).await?;
    ensure!(left.is_empty(), "{left:?}");
    let again = harness::engine::sweep(&engine_dir).await;
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}

async fn two(world: &World) -> Result<()> {
    let other = world.another().await?;
    let proven = apart(world, &other).await;
    // It ends while this one goes on.
    let ended = other.end().await;
    proven.and(ended)?;
    ensure!(world.sh("app", "cat /data/whose").await? == "ours");
    ensure!(world.service("app").await?.tasks.len() == 1);
    Ok(())
}

async fn apart(world: &World, other: &World) -> Result<()> {
    let recipe = everything();
    let deployed = tokio::join!(world.deployed(&recipe), other.deployed(&recipe));
    deployed.0.and(deployed.1)?;
    world.engine.write_volume("data", "whose", b"ours").await?;
    other.engine.write_volume("data", "whose", b"theirs").await?;
    ensure!(world.sh("app", "cat /data/whose").await? == "ours");
    ensure!(other.sh("app", "cat /data/whose").await? == "theirs");
    for (one, another) in [(world, other), (other, world)] {
        let services: Vec<String> = one.engine.services().await?.into_iter().map(|it| it.name).collect();
        ensure!(services == ["app"], "{services:?}");
        let known = one.exec("app", &["getent", "hosts", &format!("{}_app", another.stack())]).await?;
        ensure!(known.code == 2, "the other's service is known: {known:?}");
        let address = one.until_sh("app", "getent hosts app").await?;
        ensure!(address.lines().count() == 1, "another of the same name is known: {address}");
    }
    let error = error_of(world.engine.read_volume(&format!("{}_data", other.stack()), "whose").await)?;
    ensure!(error.contains("there is no volume"), "{error}");
    Ok(())
}
