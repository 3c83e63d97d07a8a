//! Files, as a container sees them.

use anyhow::{Result, ensure};
use harness::engine::CallError;

use super::recipe::Recipe;
use super::world::{World, error_of};

crate::cases! {
    "files::what_is_written_is_read_and_seen_inside" => round_trip,
    "files::a_file_that_is_not_there_is_not_found" => missing,
    "files::what_is_no_regular_file_is_an_error" => not_regular,
    "files::links_are_followed" => links,
    "files::mounts_are_looked_into" => mounts,
}

fn idle() -> Recipe {
    Recipe::new("services:\n  app:\n    <<: *idle\n    deploy: *quick\n")
}

async fn round_trip(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let engine = &world.engine;
    let all: Vec<u8> = (0..=255).cycle().take(500_000).collect();
    for (path, bytes) in [("/srv/deep/er/file", all.as_slice()), ("/srv/empty", b""), ("/srv/ with blank", b"x")] {
        engine.write_file("app", path, bytes).await?;
        let read = engine.read_file("app", path).await?;
        ensure!(read == bytes, "`{path}` has {} bytes", read.len());
    }
    let seen = world.sh("app", "wc -c < /srv/deep/er/file; stat -c '%U %a' /srv/deep/er/file /srv/deep").await?;
    ensure!(seen == "500000\nroot 644\nroot 755\n", "{seen}");
    // A directory that exists is left as it is, and so is the mode of a file.
    world
        .sh("app", "mkdir -m 700 /srv/own; chown 33 /srv/own; echo old > /srv/own/file; chmod 640 /srv/own/file")
        .await?;
    engine.write_file("app", "/srv/own/file", b"new").await?;
    let seen = world.sh("app", "cat /srv/own/file; stat -c ' %u %a' /srv/own; stat -c '%a' /srv/own/file").await?;
    ensure!(seen == "new 33 700\n640\n", "{seen}");
    world.sh("app", "printf inside > /srv/inside").await?;
    ensure!(engine.read_file("app", "/srv/inside").await? == b"inside");
    Ok(())
}

async fn missing(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    for path in ["/srv/none", "/no/such/directory/file"] {
        let read = world.engine.read_file("app", path).await;
        let Err(CallError::NotFound(error)) = read else { anyhow::bail!("`{path}`: {read:?}") };
        let error = format!("{error:#}");
        ensure!(error.contains(&format!("`{path}`")) && error.contains("service `app`"), "{error}");
    }
    Ok(())
}

async fn not_regular(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    world.sh("app", "mkdir -p /srv/dir; echo x > /srv/file; mkfifo /srv/pipe").await?;
    for path in ["/srv/dir", "/srv/pipe", "/dev/zero"] {
        let read = world.engine.read_file("app", path).await;
        ensure!(matches!(read, Err(CallError::Failed(_))), "`{path}`: {read:?}");
        ensure!(error_of(read)?.contains(&format!("`{path}`")));
    }
    for path in ["/srv/dir", "/srv/file/below", "relative"] {
        let wrote = world.engine.write_file("app", path, b"x").await;
        ensure!(matches!(wrote, Err(CallError::Failed(_))), "`{path}`: {wrote:?}");
    }
    Ok(())
}

async fn links(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let engine = &world.engine;
    world
        .sh("app", "mkdir -p /srv/a; ln -s a/target /srv/relative; ln -s /srv/a/target /srv/absolute; ln -s a /srv/b")
        .await?;
    for (number, path) in ["/srv/relative", "/srv/absolute", "/srv/b/target"].into_iter().enumerate() {
        let text = format!("text {number}");
        engine.write_file("app", path, text.as_bytes()).await?;
        let seen = world.sh("app", "cat /srv/a/target").await?;
        ensure!(seen == text, "`{path}`: {seen}");
        ensure!(engine.read_file("app", path).await? == text.as_bytes(), "`{path}`");
    }
    ensure!(world.sh("app", "test -L /srv/relative && test -L /srv/absolute && test -L /srv/b").await?.is_empty());
    world.sh("app", "ln -s loop /srv/loop; ln -s nowhere /srv/broken").await?;
    ensure!(matches!(engine.read_file("app", "/srv/loop").await, Err(CallError::Failed(_))));
    ensure!(matches!(engine.read_file("app", "/srv/broken").await, Err(CallError::NotFound(_))));
    Ok(())
}

async fn mounts(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    volumes:
      - data:/data
      - { type: tmpfs, target: /scratch }
    secrets:
      - pw
    configs:
      - source: conf
        target: /etc/app/app.conf
    deploy: *quick
volumes:
  data:
secrets:
  pw:
    external: true
    name: ${STACK_NAME}_pw_v1
configs:
  conf:
    name: ${STACK_NAME}_conf_v1
    file: ./app.conf
"#,
    );
    world.deployed(&recipe.file("app.conf", "key=value\n").secret("pw", "hunter2")).await?;
    let engine = &world.engine;
    engine.write_file("app", "/data/deep/file", b"kept").await?;
    ensure!(engine.read_volume("data", "deep/file").await?.as_deref() == Some(b"kept".as_slice()));
    world.sh("app", "printf inside > /scratch/file").await?;
    ensure!(engine.read_file("app", "/scratch/file").await? == b"inside", "a tmpfs");
    engine.write_file("app", "/scratch/deep/other", b"outside").await?;
    ensure!(world.sh("app", "cat /scratch/deep/other").await? == "outside", "into a tmpfs");
    ensure!(engine.read_file("app", "/run/secrets/pw").await? == b"hunter2", "a secret");
    ensure!(engine.read_file("app", "/etc/app/app.conf").await? == b"key=value\n", "a config");
    ensure!(engine.write_file("app", "/run/secrets/pw", b"x").await.is_err(), "a secret was overwritten");
    ensure!(matches!(engine.read_file("app", "/run/secrets/none").await, Err(CallError::NotFound(_))));
    let status = engine.read_file("app", "/proc/1/comm").await?;
    ensure!(status == b"sh\n", "{status:?}");
    Ok(())
}
