//! Volumes, whoever mounts them and how.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::engine::{FileEntry, UpdateState};

use super::recipe::Recipe;
use super::world::{World, error_of};

crate::cases! {
    "volumes::files_go_straight_in_and_out" => read_and_write,
    "volumes::a_call_that_is_cut_off_leaves_the_next_one_able" => cut_off,
    "volumes::a_read_only_mount_does_not_keep_the_engine_out" => read_only,
    "volumes::an_archive_says_what_it_holds" => archive,
    "volumes::a_restore_brings_content_back_and_leaves_the_rest" => restore,
    "volumes::an_empty_volume_is_filled_from_the_image" => copy_up,
    "volumes::an_anonymous_volume_goes_with_its_task" => anonymous,
    "volumes::two_services_share_one" => shared,
}

fn with_volume(mount: &str) -> Recipe {
    let recipe = Recipe::new(
        "services:\n  app:\n    <<: *idle\n    volumes: [\"<MOUNT>\"]\n    deploy: *quick\nvolumes:\n  data:\n",
    );
    recipe.put("MOUNT", mount)
}

async fn read_and_write(world: &World) -> Result<()> {
    world.deployed(&with_volume("data:/data")).await?;
    let engine = &world.engine;
    ensure!(engine.read_volume("data", "deep/file").await?.is_none());
    engine.write_volume("data", "deep/file", b"from \xff outside").await?;
    ensure!(engine.read_file("app", "/data/deep/file").await? == b"from \xff outside");
    ensure!(world.sh("app", "stat -c '%u %a' /data/deep/file").await? == "0 644\n");
    world.sh("app", "printf inside > /data/deep/file; chown 33 /data/deep/file; mkdir /data/dir").await?;
    ensure!(engine.read_volume("data", "deep/file").await?.as_deref() == Some(b"inside".as_slice()));
    engine.write_volume("data", "deep/file", b"again").await?;
    let seen = world.sh("app", "cat /data/deep/file; stat -c ' %u' /data/deep/file").await?;
    ensure!(seen == "again 33\n", "the owner was not kept: {seen}");
    // What is no file, or lies outside, is neither read nor written.
    for path in ["../x", "deep/../../x", "dir"] {
        let (read, wrote) = (engine.read_volume("data", path).await, engine.write_volume("data", path, b"x").await);
        for error in [error_of(read)?, error_of(wrote)?] {
            ensure!(error.contains(&format!("`{path}`")) && error.contains("volume `data`"), "{error}");
        }
    }
    for error in
        [error_of(engine.read_volume("none", "x").await)?, error_of(engine.write_volume("none", "x", b"").await)?]
    {
        ensure!(error.ends_with("there is no volume `none`"), "{error}");
    }
    Ok(())
}

/// Whoever asked may stop waiting while the engine is at it: what it has begun by then is in nobody's way.
async fn cut_off(world: &World) -> Result<()> {
    let volumes: String = (0..8).map(|number| format!("      - v{number}:/v{number}\n")).collect();
    let names: String = (0..8).map(|number| format!("  v{number}:\n")).collect();
    let recipe =
        format!("services:\n  app:\n    <<: *idle\n    volumes:\n{volumes}    deploy: *quick\nvolumes:\n{names}");
    world.deployed(&Recipe::new(&recipe)).await?;
    for number in 0..8 {
        let (volume, patience) = (format!("v{number}"), Duration::from_millis(4 * number));
        // Whether it was cut off, and where, is a matter of luck, and what was begun may still come to its end.
        let _ = tokio::time::timeout(patience, world.engine.write_volume(&volume, "x", b"first")).await;
        world.engine.write_volume(&volume, "y", b"second").await?;
        ensure!(world.engine.read_volume(&volume, "y").await?.as_deref() == Some(b"second".as_slice()));
    }
    Ok(())
}

async fn read_only(world: &World) -> Result<()> {
    world.deployed(&with_volume("data:/data:ro")).await?;
    let output = world.exec("app", &["touch", "/data/x"]).await?;
    ensure!(output.code == 1 && String::from_utf8_lossy(&output.stderr).contains("Read-only"), "{output:?}");
    world.engine.write_volume("data", "x", b"outside may").await?;
    ensure!(world.sh("app", "cat /data/x").await? == "outside may");
    ensure!(world.engine.write_file("app", "/data/y", b"as the service may not").await.is_err());
    Ok(())
}

const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";

fn entry(path: &str, size: u64, sha256: &str) -> FileEntry {
    FileEntry { path: path.into(), size, sha256: sha256.into() }
}

/// Some of everything.
const FILL: &str = "cd /data && mkdir -p dir/empty && printf one > dir/one && chmod 640 dir/one && ln -s one dir/link \
    && printf two > two && mkfifo pipe";

async fn archive(world: &World) -> Result<()> {
    world.deployed(&with_volume("data:/data")).await?;
    let engine = &world.engine;
    world.sh("app", FILL).await?;
    let path = world.dir.path().join("data.tar");
    let dir = [entry("dir", 0, ""), entry("dir/empty", 0, ""), entry("dir/link", 0, ""), entry("dir/one", 3, ONE)];
    let two = entry("two", 3, TWO);
    let whole: Vec<FileEntry> = dir.iter().chain([&two]).cloned().collect();
    for (paths, expected) in [
        (&[][..], whole.clone()),
        (&["two"], vec![two.clone()]),
        (&["dir/one"], vec![entry("dir/one", 3, ONE)]),
        (&["dir"], dir.to_vec()),
        (&["./dir/"], dir.to_vec()),
        (&["two", "dir", "dir/one"], whole),
    ] {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let held = engine.archive_volume("data", &paths, &path).await?;
        ensure!(held == expected, "{paths:?}: {held:?}");
        // What it says is what it holds.
        let mut names: Vec<String> = names_in(&path)?;
        names.sort();
        names.dedup();
        let expected: Vec<&str> = expected.iter().map(|entry| entry.path.as_str()).collect();
        ensure!(names == expected, "{paths:?}: {names:?}");
    }
    let error = error_of(engine.archive_volume("data", &["two".into(), "missing".into()], &path).await)?;
    ensure!(error.starts_with("failed to archive volume `data`: ") && error.contains("`missing`"), "{error}");
    let error = error_of(engine.archive_volume("data", &["../x".into()], &path).await)?;
    ensure!(error.contains("`../x`"), "{error}");
    let error = error_of(engine.archive_volume("none", &[], &path).await)?;
    ensure!(error == "failed to archive volume `none`: there is no volume `none`", "{error}");
    Ok(())
}

/// Names in a tar archive, without the root's own.
fn names_in(archive: &std::path::Path) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive)?);
    let names = archive.entries()?.map(|entry| {
        let name = entry?.path()?.display().to_string();
        Ok(name.trim_start_matches("./").trim_end_matches('/').to_owned())
    });
    Ok(names.collect::<Result<Vec<String>>>()?.into_iter().filter(|name| !name.is_empty() && name != ".").collect())
}

async fn restore(world: &World) -> Result<()> {
    world.deployed(&with_volume("data:/data")).await?;
    let engine = &world.engine;
    world.sh("app", &format!("{FILL}; chown 33:34 two")).await?;
    let path = world.dir.path().join("data.tar");
    let before = engine.archive_volume("data", &[], &path).await?;
    world
        .sh("app", "cd /data && printf changed > dir/one && chmod 600 dir/one && rm -r two dir/link dir/empty && printf new > new")
        .await?;
    engine.restore_volume("data", &path).await?;
    let seen =
        world.sh("app", "cd /data && cat dir/one two new dir/link; stat -c ' %a' dir/one; stat -c '%u %g' two").await?;
    ensure!(seen == "onetwonewone 640\n33 34\n", "{seen}");
    let after = engine.archive_volume("data", &[], &path).await?;
    ensure!(after.iter().filter(|entry| entry.path != "new").eq(before.iter()), "{after:?}");
    // Only one file of several.
    engine.archive_volume("data", &["two".into()], &path).await?;
    world.sh("app", "printf later > /data/two; printf later > /data/new").await?;
    engine.restore_volume("data", &path).await?;
    ensure!(world.sh("app", "cd /data && cat two new").await? == "twolater");
    std::fs::write(&path, "no archive")?;
    let error = error_of(engine.restore_volume("data", &path).await)?;
    ensure!(error.contains("data"), "{error}");
    let error = error_of(engine.restore_volume("data", &world.dir.path().join("nothing.tar")).await)?;
    ensure!(error.contains("nothing.tar"), "{error}");
    Ok(())
}

async fn copy_up(world: &World) -> Result<()> {
    let recipe = |mount: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    environment: { VERSION: "<VERSION>" }
    volumes:
      - data:/etc/alternatives
      - { type: volume, source: bare, target: /etc/default, volume: { nocopy: true } }
    deploy: *quick
volumes:
  data:
  bare:
"#,
        );
        recipe.put("VERSION", mount)
    };
    world.deployed(&recipe("1")).await?;
    let files = world.sh("app", "ls /etc/alternatives | wc -l; ls /etc/default | wc -l").await?;
    let counts: Vec<u32> = files.lines().map(|line| line.trim().parse()).collect::<Result<_, _>>()?;
    ensure!(counts[0] > 0 && counts[1] == 0, "{files}");
    // Once: what was removed does not come back.
    world.sh("app", "rm -rf /etc/alternatives/*; touch /etc/alternatives/own").await?;
    world.deploy(&recipe("2")).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.sh("app", "ls /etc/alternatives").await? == "own\n");
    Ok(())
}

async fn anonymous(world: &World) -> Result<()> {
    let recipe = |version: &str| {
        let text = "services:\n  app:\n    <<: *idle\n    environment: { VERSION: \"<V>\" }\n    volumes: [/data]\n    deploy: *quick\n";
        Recipe::new(text).put("V", version)
    };
    world.deployed(&recipe("1")).await?;
    world.sh("app", "touch /data/x").await?;
    world.deploy(&recipe("2")).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.sh("app", "ls /data").await?.is_empty());
    Ok(())
}

async fn shared(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    volumes: ["data:/data"]
    deploy: *quick
  other:
    <<: *idle
    volumes: ["data:/elsewhere:ro"]
    deploy: *quick
volumes:
  data:
    name: ${STACK_NAME}_called_otherwise
"#,
    );
    world.deployed(&recipe).await?;
    world.sh("app", "echo hello > /data/x").await?;
    ensure!(world.sh("other", "cat /elsewhere/x").await? == "hello\n");
    ensure!(world.engine.read_volume("data", "x").await?.as_deref() == Some(b"hello\n".as_slice()));
    Ok(())
}
