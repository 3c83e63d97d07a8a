//! Volumes, secrets and configs, and health checks.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::engine::{Deployment, FileEntry, Health, TaskPhase};
use harness::recipe::secret::SecretValue;
use harness::recipe::stack::{FileMount, FileObject, Mode, Mount, MountKind, Service, Volume};
use libtest_mimic::Trial;

use crate::support::{World, answered, deployment, error_of, health, idle, trial, volume, web};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("volumes::an_empty_volume_is_filled_from_the_image_once", copy_up),
        trial("volumes::files_go_straight_into_a_volume_and_out", read_and_write),
        trial("volumes::nothing_outside_a_volume_is_read_or_written", confined),
        trial("volumes::an_archive_restores_what_it_holds_and_keeps_the_rest", archive),
        trial("volumes::a_read_only_mount_refuses_writes", read_only),
        trial("volumes::an_anonymous_volume_goes_with_its_task", anonymous),
        trial("volumes::drivers_and_external_volumes_are_refused", refused),
        trial("files::secrets_and_configs_are_there_and_never_on_disk", secrets),
        trial("files::a_secret_without_a_value_is_refused", secret_without_value),
        trial("health::a_healthy_container_is_known_in_milliseconds", healthy),
        trial("health::an_unhealthy_container_is_replaced", unhealthy),
        trial("health::a_check_that_hangs_fails_at_its_timeout", hanging_check),
    ]
}

async fn copy_up() -> Result<()> {
    let world = World::new().await?;
    let mut service = Service { mounts: vec![volume("data", "/usr/share/nginx/html")], ..web(&[]) };
    service.deploy.mode = Mode::Replicated(2);
    world.engine.deploy(&deployment([("app", service.clone())])).await?;
    world.converged("app").await?;
    let address = world.engine.publish("app", 80).await?;
    ensure!(answered(&address, "/").await?.1.contains("stands in for"));
    world.engine.write_volume("data", "index.html", b"ours").await?;
    ensure!(answered(&address, "/").await?.1 == "ours");
    service.environment.insert("VERSION".into(), "2".into());
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await?;
    ensure!(answered(&address, "/").await?.1 == "ours", "the volume was filled again");
    world.end().await
}

/// The idle service with the volume `data` at `/data`.
async fn with_volume() -> Result<World> {
    let world = World::new().await?;
    let service = Service { mounts: vec![volume("data", "/data")], ..idle() };
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await?;
    Ok(world)
}

async fn read_and_write() -> Result<()> {
    let world = with_volume().await?;
    let engine = &world.engine;
    ensure!(engine.read_volume("data", "a/b").await?.is_none());
    engine.write_volume("data", "a/b", b"from outside").await?;
    ensure!(world.shell("app", "cat /data/a/b").await? == "from outside");
    world.shell("app", "echo inside > /data/a/b").await?;
    ensure!(engine.read_volume("data", "/a/b").await?.as_deref() == Some(b"inside\n".as_slice()));
    let error = error_of(engine.read_volume("other", "a").await)?;
    ensure!(error == "failed to read `a` in volume `other`: there is no volume `other`", "{error}");
    world.end().await
}

async fn confined() -> Result<()> {
    let world = with_volume().await?;
    let outside = world.dir.path().join("outside");
    std::fs::write(&outside, "secret of the host")?;
    let outside = outside.display();
    world
        .shell("app", &format!("ln -s {outside} /data/absolute; ln -s ../../../../../../../..{outside} /data/relative; ln -s / /data/root"))
        .await?;
    for path in ["absolute", "relative", &format!("root{outside}")] {
        let read = world.engine.read_volume("data", path).await;
        ensure!(!matches!(read, Ok(Some(_))), "{path}: {read:?}");
        let _ = world.engine.write_volume("data", path, b"overwritten").await;
    }
    let error = error_of(world.engine.read_volume("data", "../../../etc/passwd").await)?;
    ensure!(error.ends_with("`../../../etc/passwd` leads out of the volume"), "{error}");
    ensure!(std::fs::read_to_string(world.dir.path().join("outside"))? == "secret of the host");
    world.end().await
}

async fn archive() -> Result<()> {
    let world = with_volume().await?;
    let engine = &world.engine;
    world
        .shell("app", "cd /data && mkdir -p dir/empty && printf one > dir/one && chmod 640 dir/one && ln -s one dir/link && printf two > two && mkfifo pipe")
        .await?;
    let path = world.dir.path().join("all.tar");
    let held = engine.archive_volume("data", &[], &path).await?;
    let entry = |path: &str, size, sha256: &str| FileEntry { path: path.into(), size, sha256: sha256.into() };
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
    let expected = [
        entry("dir", 0, ""),
        entry("dir/empty", 0, ""),
        entry("dir/link", 0, ""),
        entry("dir/one", 3, one),
        entry("two", 3, two),
    ];
    ensure!(held == expected, "{held:?}");
    world
        .shell("app", "cd /data && printf changed > dir/one && chmod 600 dir/one && rm -r two dir/link dir/empty && mkdir dir/link && touch dir/link/x && printf new > new")
        .await?;
    engine.restore_volume("data", &path).await?;
    let seen = world.shell("app", "cd /data && cat dir/one two new dir/link && stat -c %a dir/one && ls dir").await?;
    ensure!(seen == "onetwonewone640\nempty\nlink\none\n", "{seen}");

    let part = world.dir.path().join("part.tar");
    let held = engine.archive_volume("data", &["dir/one".into()], &part).await?;
    ensure!(held == [entry("dir/one", 3, one)], "{held:?}");
    let error = error_of(engine.archive_volume("data", &["missing".into()], &part).await)?;
    ensure!(error == "failed to archive volume `data`: `missing` is not in the volume", "{error}");
    let error = error_of(engine.restore_volume("data", Path::new("/nonexistent.tar")).await)?;
    ensure!(error.starts_with("failed to open `/nonexistent.tar`"), "{error}");
    std::fs::write(&part, "no archive")?;
    ensure!(engine.restore_volume("data", &part).await.is_err());
    world.end().await
}

async fn read_only() -> Result<()> {
    let world = World::new().await?;
    let mount = Mount { read_only: true, ..volume("data", "/data") };
    world.engine.deploy(&deployment([("app", Service { mounts: vec![mount], ..idle() })])).await?;
    world.converged("app").await?;
    let output = world.exec("app", &["touch", "/data/x"]).await?;
    ensure!(output.code == 1 && String::from_utf8_lossy(&output.stderr).contains("Read-only"), "{output:?}");
    world.engine.write_volume("data", "x", b"outside may").await?;
    ensure!(world.shell("app", "cat /data/x").await? == "outside may");
    world.end().await
}

async fn anonymous() -> Result<()> {
    let world = World::new().await?;
    let service = |number: &str| {
        let mount = Mount { kind: MountKind::Anonymous, target: "/data".into(), read_only: false, no_copy: false };
        let mut service = Service { mounts: vec![mount], ..idle() };
        service.environment.insert("VERSION".into(), number.into());
        service
    };
    world.engine.deploy(&deployment([("app", service("1"))])).await?;
    world.converged("app").await?;
    world.shell("app", "touch /data/x").await?;
    world.engine.deploy(&deployment([("app", service("2"))])).await?;
    world.converged("app").await?;
    ensure!(world.shell("app", "ls /data").await?.is_empty());
    world.end().await
}

async fn refused() -> Result<()> {
    let world = World::new().await?;
    let with = |volume: Volume| {
        let mount = volume_mount();
        let mut deployment = deployment([("app", Service { mounts: vec![mount], ..idle() })]);
        deployment.stack.volumes.insert("data".into(), volume);
        deployment
    };
    let named = || Volume { name: "s_data".into(), ..Volume::default() };
    let options = [("o".to_owned(), "bind".to_owned()), ("device".to_owned(), "/etc".to_owned())].into();
    for (volume, expected) in [
        (Volume { external: true, ..named() }, "is external, and an embedded pod has no volumes but its own"),
        (Volume { driver_opts: options, ..named() }, "only plain local volumes exist here"),
        (
            Volume { name: "../../etc".into(), ..named() },
            "is not a volume name: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed",
        ),
    ] {
        let error = error_of(world.engine.deploy(&with(volume)).await)?;
        ensure!(error.starts_with("failed to deploy service `app`: ") && error.ends_with(expected), "{error}");
    }
    ensure!(world.engine.services().await?.is_empty());
    world.end().await
}

fn volume_mount() -> Mount {
    volume("data", "/data")
}

/// A stack whose service mounts a secret and a config.
fn with_files(value: Option<&str>) -> Deployment {
    let mount = |source: &str, target: &str, mode| FileMount {
        source: source.into(),
        target: target.into(),
        uid: 0,
        gid: 0,
        mode,
    };
    let service = Service {
        secrets: vec![mount("password", "/run/secrets/password", 0o400)],
        configs: vec![mount("conf", "/usr/local/etc/app/conf", 0o444)],
        ..idle()
    };
    let mut deployment = deployment([("app", service)]);
    let object = |name: &str, content| FileObject { name: name.into(), content, ..FileObject::default() };
    deployment.stack.secrets.insert("password".into(), object("s_password_v1", None));
    let content = Some(b"config-canary".to_vec());
    deployment.stack.configs.insert("conf".into(), object("s_conf_v1", content));
    deployment.secrets.extend(value.map(|value| ("password".to_owned(), SecretValue::new(value))));
    deployment
}

async fn secrets() -> Result<()> {
    // Long enough to leave the packet for a memory file on its way.
    let canary = format!("canary-{}-{}", std::process::id(), "x".repeat(100_000));
    let world = World::new().await?;
    world.engine.deploy(&with_files(Some(&canary))).await?;
    world.converged("app").await?;
    ensure!(world.shell("app", "cat /run/secrets/password").await? == canary);
    ensure!(world.shell("app", "cat /usr/local/etc/app/conf").await? == "config-canary");
    let modes = world.shell("app", "stat -c '%a %u' /run/secrets/password /usr/local/etc/app/conf").await?;
    ensure!(modes == "400 0\n444 0\n", "{modes}");
    let write = world.exec("app", &["/bin/sh", "-c", "echo x > /run/secrets/password"]).await?;
    ensure!(write.code != 0, "a secret was overwritten");
    // Neither on disk, nor in any argument list or environment.
    let needle = &canary.as_bytes()[..30];
    let holds = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes.windows(30).any(|window| window == needle));
    let mut dirs = vec![world.dir.path().to_owned()];
    let mut looked_at = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_type()?.is_file() {
                looked_at += 1;
                ensure!(!holds(&entry.path()), "`{}` holds the secret", entry.path().display());
            }
        }
    }
    ensure!(looked_at >= 3, "only {looked_at} files were looked at");
    for process in std::fs::read_dir("/proc")?.flatten() {
        for file in ["cmdline", "environ"] {
            ensure!(!holds(&process.path().join(file)), "{file} of {:?} holds the secret", process.file_name());
        }
    }
    let shown = format!("{:?}", world.service("app").await?);
    ensure!(!shown.contains("canary-"), "{shown}");
    world.end().await
}

async fn secret_without_value() -> Result<()> {
    let world = World::new().await?;
    let error = error_of(world.engine.deploy(&with_files(None)).await)?;
    ensure!(error == "failed to deploy service `app`: secret not found: s_password_v1", "{error}");
    world.end().await
}

async fn healthy() -> Result<()> {
    let world = World::new().await?;
    let check = health("curl -fsS -o /dev/null http://localhost/", Duration::from_secs(30), 3);
    let before = Instant::now();
    world.engine.deploy(&deployment([("app", Service { healthcheck: check, ..web(&[]) })])).await?;
    let service = world.converged("app").await?;
    ensure!(service.tasks[0].health == Health::Healthy);
    ensure!(before.elapsed() < Duration::from_secs(10), "an interval of 30 s was waited for");
    world.end().await
}

async fn unhealthy() -> Result<()> {
    let world = World::new().await?;
    let check = health("echo looking; test ! -e /tmp/ill", Duration::from_millis(50), 2);
    world.engine.deploy(&deployment([("app", Service { healthcheck: check, ..idle() })])).await?;
    let first = world.converged("app").await?.tasks[0].id.clone();
    world.shell("app", "touch /tmp/ill").await?;
    let service = world.until("replacement", "app", |service| service.tasks[0].id != first).await?;
    let ill = service.tasks.iter().find(|task| task.id == first).unwrap();
    ensure!(ill.phase == TaskPhase::Complete && ill.health == Health::Unhealthy && ill.failed(), "{ill:?}");
    ensure!(ill.health_output == "looking", "{ill:?}");
    world.converged("app").await?;
    world.end().await
}

async fn hanging_check() -> Result<()> {
    let world = World::new().await?;
    let mut check = health("sleep 1000", Duration::from_millis(50), 1).unwrap();
    check.timeout = Some(Duration::from_millis(100));
    world.engine.deploy(&deployment([("app", Service { healthcheck: Some(check), ..idle() })])).await?;
    let service = world.until("a failure", "app", |service| service.failures().count() > 0).await?;
    let output = &service.failures().next().unwrap().health_output;
    ensure!(output.starts_with("it did not end within 100ms and was killed"), "{output}");
    world.end().await
}
