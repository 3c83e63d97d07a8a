//! What containers use, and how large volumes and images are.

use anyhow::{Context as _, Result, ensure};
use harness::engine::{TaskUsage, UpdateState, Used};
use harness::poll::Look;

use super::recipe::Recipe;
use super::world::{World, error_of};

crate::cases! {
    "usage::memory_and_processor_time_are_those_of_the_containers" => containers,
    "usage::of_an_update_only_the_new_container_stays" => update,
    "usage::a_volume_is_as_large_as_its_files" => volumes,
    "usage::an_image_has_a_size_and_a_stand_in_has_none" => images,
}

/// Holds 48 MiB of zeros, and has spent some time on reading them.
const FAT: &str = "trap 'exit 0' TERM; (head -c 50331648 /dev/zero; sleep 1000) | tail -c 50331648 & wait";
const HELD: u64 = 48 << 20;

async fn of_service(world: &World, service: &str) -> Result<Vec<(String, Used)>> {
    let usage = world.engine.usage().await?;
    let own = usage.into_iter().filter(|it| it.service == service);
    let used = |it: TaskUsage| Ok((it.task, it.used.map_err(anyhow::Error::msg)?));
    own.map(used).collect()
}

async fn containers(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    deploy: { <<: *quick, replicas: 2 }
  fat:
    <<: *idle
    command: ["sh", "-c", "<FAT>"]
    deploy: *quick
"#,
    );
    world.deployed(&recipe.put("FAT", FAT)).await?;
    let fat = world.wait("the memory to be used", || async {
        let used = of_service(world, "fat").await?;
        let held = used.first().is_some_and(|(_, used)| used.memory > HELD && used.cpu.as_millis() > 0);
        Ok(if held { Look::Ready(used) } else { Look::NotYet(format!("{used:?}")) })
    });
    let fat = fat.await?;
    ensure!(fat.len() == 1 && fat[0].1.memory < 2 * HELD, "{fat:?}");
    let app = of_service(world, "app").await?;
    let (one, other) = (app.first().context("no app")?, app.last().context("no app")?);
    ensure!(app.len() == 2 && one.0 != other.0, "{app:?}");
    ensure!(app.iter().all(|(_, used)| used.memory > 0 && used.memory < HELD / 2), "{app:?}");
    let tasks: Vec<String> = world.service("app").await?.tasks.into_iter().map(|task| task.id).collect();
    ensure!(app.iter().all(|(task, _)| tasks.contains(task)), "{app:?} of {tasks:?}");
    // What is given back is not counted any more.
    world.sh("fat", "for p in /proc/[0-9]*; do case $(cat $p/comm) in tail) kill ${p#/proc/};; esac; done").await?;
    world
        .wait("the memory to be free", || async {
            let used = of_service(world, "fat").await?;
            let free = used.first().is_none_or(|(_, used)| used.memory < HELD / 2);
            Ok(if free { Look::Ready(()) } else { Look::NotYet(format!("{used:?}")) })
        })
        .await
}

async fn update(world: &World) -> Result<()> {
    let recipe = |version: &str| {
        let text = "services:\n  app:\n    <<: *idle\n    environment: { VERSION: \"<V>\" }\n    deploy: *quick\n";
        Recipe::new(text).put("V", version)
    };
    world.deployed(&recipe("1")).await?;
    let before = of_service(world, "app").await?;
    world.deploy(&recipe("2")).await?;
    world.update("app", UpdateState::Completed).await?;
    let after = of_service(world, "app").await?;
    ensure!(before.len() == 1 && after.len() == 1 && before[0].0 != after[0].0, "{before:?} {after:?}");
    Ok(())
}

async fn volumes(world: &World) -> Result<()> {
    let text = "services:\n  app:\n    <<: *idle\n    volumes: [\"data:/data\", \"bare:/bare\"]\n    deploy: *quick\nvolumes:\n  data:\n  bare:\n";
    world.deployed(&Recipe::new(text)).await?;
    let engine = &world.engine;
    ensure!(engine.volume_size("bare").await? == 0);
    world.sh("app", "cd /data && mkdir -p deep && head -c 100000 /dev/zero > deep/file && chmod 0 deep/file").await?;
    ensure!(engine.volume_size("data").await? == 100_000, "{}", engine.volume_size("data").await?);
    // A second name is no second file, a link is as long as its target, and what is no file counts nothing.
    world.sh("app", "cd /data && ln deep/file again && ln -s deep/file link && mkfifo pipe").await?;
    ensure!(engine.volume_size("data").await? == 100_009, "{}", engine.volume_size("data").await?);
    let error = error_of(engine.volume_size("none").await)?;
    ensure!(error == "failed to measure volume `none`: there is no volume `none`", "{error}");
    Ok(())
}

async fn images(world: &World) -> Result<()> {
    world.deployed(&Recipe::new("services:\n  app:\n    <<: *idle\n    deploy: *quick\n")).await?;
    let size = world.engine.image_size("nginx:1.27.4").await;
    let stand_in = "`builtin:static-web` runs in its place, which is made of this machine's own programs";
    match world.either("the size of an image", Some(stand_in), None)? {
        Some(expected) => {
            let error = error_of(size)?;
            ensure!(error == expected, "{error}");
        }
        None => ensure!(size.as_ref().is_ok_and(|size| *size > 1 << 20), "{size:?}"),
    }
    let error = error_of(world.engine.image_size("nginx:none").await)?;
    ensure!(error.starts_with("failed to measure image `nginx:none`: "), "{error}");
    Ok(())
}
