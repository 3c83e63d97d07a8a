//! Containers from images: their own root file systems, configurations, and what a hostile one can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::Health;
use harness::engine::embedded::Embedded;
use harness::process::Run;
use harness::recipe::stack::{FileMount, FileObject, Mode, Service};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::support::{Notes, World, context, deployment, trial, volume};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("images::a_container_runs_on_its_images_root_and_configuration", configuration),
        trial("images::what_a_container_writes_never_reaches_the_image", writes_stay),
        trial("images::a_root_is_copied_where_no_overlay_can_be_mounted", copied),
        trial("images::links_of_a_hostile_image_lead_nowhere_outside", hostile_links),
        trial("images::an_image_without_room_for_the_kernels_own_is_refused", no_room),
        trial("images::nothing_is_mounted_over_the_kernels_own", over_the_kernels_own),
        trial("images::a_volume_takes_over_content_and_owner_of_the_image", ownership),
        trial("images::an_entrypoint_of_the_service_drops_the_images_command", entrypoint),
        trial("images::an_image_with_a_check_of_its_own_is_checked", own_check),
    ]
}

/// Idles in a shell without any other program.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// An image with the host's shell, `sleep` and `cat`, and whatever a test puts beside them.
struct Recipe {
    config: Value,
    layer: tar::Builder<Vec<u8>>,
}

impl Recipe {
    async fn new(config: Value) -> Result<Recipe> {
        let mut recipe = Recipe { config, layer: tar::Builder::new(Vec::new()) };
        for path in programs().await? {
            let content = fs::read(&path).with_context(|| format!("failed to read `{path}`"))?;
            recipe.add(path.trim_start_matches('/'), &content, 0o755, 0)?;
        }
        Ok(recipe)
    }

    fn add(&mut self, path: &str, content: &[u8], mode: u32, owner: u64) -> Result<()> {
        let mut header = header(EntryType::Regular, mode, owner);
        header.set_size(content.len() as u64);
        Ok(self.layer.append_data(&mut header, path, content)?)
    }

    fn add_dir(&mut self, path: &str, mode: u32, owner: u64) -> Result<()> {
        Ok(self.layer.append_data(&mut header(EntryType::Directory, mode, owner), path, &[][..])?)
    }

    fn add_link(&mut self, path: &str, target: &str) -> Result<()> {
        Ok(self.layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?)
    }

    /// Writes the image as an OCI layout.
    fn write(self, layout: &Path) -> Result<()> {
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
            fs::write(layout.join("blobs/sha256").join(&digest), bytes)?;
            let media_type = format!("application/vnd.oci.image.{media_type}");
            anyhow::Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
        };
        let layer = blob("layer.v1.tar", &self.layer.into_inner()?)?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({ "os": "linux", "architecture": architecture, "config": self.config });
        let config = blob("config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let manifest = blob("manifest.v1+json", manifest.to_string().as_bytes())?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        Ok(fs::write(layout.join("index.json"), index.to_string())?)
    }

    /// An engine for which this image stands for `app`.
    async fn world(self) -> Result<World> {
        let dir = TempDir::new()?;
        let below = dir.path().to_owned();
        self.world_in(dir, &below).await
    }

    async fn world_in(self, dir: TempDir, below: &Path) -> Result<World> {
        self.write(&dir.path().join("layout"))?;
        let notes = Arc::new(Notes::default());
        let mut context = context(below, &notes);
        context.image_map = BTreeMap::from([("app".into(), format!("oci:{}", dir.path().join("layout").display()))]);
        let engine = Embedded::start(context).await?;
        Ok(World { engine, dir, notes })
    }
}

fn header(kind: EntryType, mode: u32, owner: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_size(0);
    header
}

/// The programs and the libraries they need, by their paths.
async fn programs() -> Result<BTreeSet<String>> {
    let programs = ["/bin/sh", "/bin/sleep", "/bin/cat"];
    let output = Run::new("ldd", programs).checked().await?;
    let text = String::from_utf8(output.stdout)?;
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(programs.into_iter().chain(libraries).map(str::to_owned).collect())
}

fn app() -> Service {
    let mut service = Service { image: "app:1".into(), ..Service::default() };
    service.deploy.restart = crate::support::quick_restart();
    service
}

fn idle_app() -> Service {
    Service { command: Some(["/bin/sh", "-c", IDLE].map(str::to_owned).to_vec()), ..app() }
}

async fn run(world: &World, service: Service) -> Result<()> {
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await.map(drop)
}

async fn configuration() -> Result<()> {
    let recipe = Recipe::new(json!({
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [format!("echo started in $PWD as $ROLE; {IDLE}")],
        "Env": ["PATH=/bin", "ROLE=image", "ONLY=image"],
        "WorkingDir": "/srv/work",
        "Volumes": { "/srv/anonymous": {} },
    }))
    .await?;
    let world = recipe.world().await?;
    let mut service = app();
    service.environment.insert("ROLE".into(), "service".into());
    run(&world, service).await?;
    world.until_logged("app", "started in /srv/work as service").await?;
    let seen = world
        .shell("app", "echo $PATH $ROLE $ONLY $PWD; echo /*; echo x > /srv/anonymous/x && cat /srv/anonymous/x")
        .await?;
    let (first, rest) = seen.split_once('\n').context("no lines")?;
    ensure!(first == "/bin service image /srv/work", "{seen}");
    ensure!(!rest.contains("/opt") && !rest.contains("/home") && rest.ends_with("x\n"), "the host shows: {seen}");
    ensure!(world.service("app").await?.tasks[0].digest.is_some());
    world.end().await
}

async fn writes_stay() -> Result<()> {
    let mut recipe = Recipe::new(json!({})).await?;
    recipe.add("etc/keep", b"image", 0o644, 0)?;
    let world = recipe.world().await?;
    let mut service = idle_app();
    service.deploy.mode = Mode::Replicated(2);
    run(&world, service.clone()).await?;
    world.shell("app", "echo changed > /etc/keep; echo more > /etc/more").await?;
    service.environment.insert("VERSION".into(), "2".into());
    run(&world, service).await?;
    ensure!(world.shell("app", "cat /etc/keep; echo /etc/mor*").await? == "image/etc/mor*\n");
    world.end().await
}

async fn copied() -> Result<()> {
    let mut recipe = Recipe::new(json!({})).await?;
    recipe.add("etc/keep", b"image", 0o640, 0)?;
    recipe.add_link("etc/link", "keep")?;
    let dir = TempDir::new()?;
    // The options of an overlay have to fit into one page; those of these directories do not.
    let deep: PathBuf = std::iter::repeat_n("d".repeat(200), 8).collect();
    let deep = dir.path().join(deep);
    fs::create_dir_all(&deep)?;
    let world = recipe.world_in(dir, &deep).await?;
    let service = Service { read_only: true, mounts: vec![volume("data", "/data")], ..idle_app() };
    run(&world, service).await?;
    let kind =
        "while read -r _ _ _ _ point _ _ _ kind _; do test $point = / && echo $kind; done < /proc/self/mountinfo";
    let seen = world.shell("app", &format!("{kind}; true")).await?;
    ensure!(!seen.contains("overlay"), "{seen}");
    let seen = world
        .shell("app", "cat /etc/link; echo; (echo x > /etc/keep) 2>/dev/null || echo read-only; echo y > /data/y")
        .await?;
    ensure!(seen == "image\nread-only\n", "{seen}");
    let left = world.engine.remove().await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A stack whose service mounts a config at this place.
async fn config_at(world: &World, target: &str, service: Service) -> Result<()> {
    let mount = FileMount { source: "conf".into(), target: target.into(), uid: 0, gid: 0, mode: 0o444 };
    let mut deployment = deployment([("app", Service { configs: vec![mount], ..service })]);
    let object = FileObject { name: "s_conf_v1".into(), content: Some(b"content".to_vec()), ..FileObject::default() };
    deployment.stack.configs.insert("conf".into(), object);
    world.engine.deploy(&deployment).await?;
    world.converged("app").await.map(drop)
}

async fn hostile_links() -> Result<()> {
    let outside = TempDir::new()?;
    let target = outside.path().to_str().context("a strange path")?.to_owned();
    let mut recipe = Recipe::new(json!({})).await?;
    recipe.add_link("conf", &format!("{target}/conf"))?;
    recipe.add_link("data", &target)?;
    recipe.add_link("run", &format!("../../../../../../{target}"))?;
    recipe.add_link("etc", &format!("{target}/etc"))?;
    let world = recipe.world().await?;
    let service =
        Service { mounts: vec![volume("data", "/data/in/here")], working_dir: Some("/run/work".into()), ..idle_app() };
    config_at(&world, "/conf/file", service).await?;
    ensure!(
        world.shell("app", "cat /conf/file; echo > /data/in/here/x; cat /etc/hostname").await?.starts_with("content")
    );
    ensure!(world.engine.read_volume("data", "x").await?.is_some());
    ensure!(fs::read_dir(outside.path())?.next().is_none(), "the image wrote outside");
    world.end().await
}

/// The error of the first task that comes to nothing.
async fn refused(world: &World) -> Result<String> {
    let failed = |task: &harness::engine::TaskState| !task.error.is_empty();
    let service = world.until("an error", "app", |service| service.tasks.iter().any(failed)).await?;
    Ok(service.tasks.iter().find(|task| failed(task)).context("no error")?.error.clone())
}

async fn no_room() -> Result<()> {
    for (name, target) in [("proc", "p"), ("sys", "../../../../tmp"), ("dev", "/d")] {
        let mut recipe = Recipe::new(json!({})).await?;
        recipe.add_link(name, target)?;
        let world = recipe.world().await?;
        world.engine.deploy(&deployment([("app", idle_app())])).await?;
        let error = refused(&world).await?;
        let expected =
            format!("the image's `/{name}` is no directory, so that the kernel's own cannot be put in its place");
        ensure!(error.contains(&expected), "{error}");
        world.end().await?;
    }
    Ok(())
}

async fn over_the_kernels_own() -> Result<()> {
    for (target, expected) in [
        ("/proc/sys", "`/proc/sys`: it lies in `/proc` or `/sys`, where nothing is mounted"),
        ("/link/kernel", "`/link/kernel`: it lies in `/proc` or `/sys`, where nothing is mounted"),
        ("/dev", "failed to look at `/dev/null`"),
    ] {
        let mut recipe = Recipe::new(json!({})).await?;
        recipe.add_link("link", "proc/sys")?;
        let world = recipe.world().await?;
        let service = Service { mounts: vec![volume("data", target)], ..idle_app() };
        world.engine.deploy(&deployment([("app", service)])).await?;
        let error = refused(&world).await?;
        ensure!(error.contains(expected), "{target}: {error}");
        world.end().await?;
    }
    Ok(())
}

async fn ownership() -> Result<()> {
    // An ordinary user's image belongs to one owner, and its volumes do, too.
    let owner = if rustix::process::geteuid().is_root() { 70 } else { 0 };
    let mut recipe = Recipe::new(json!({ "User": if owner == 0 { "0" } else { "db" } })).await?;
    recipe.add("etc/passwd", b"root:x:0:0::/:/bin/sh\ndb:x:70:70::/var/lib/db:/bin/sh\n", 0o644, 0)?;
    recipe.add_dir("var/lib/db", 0o700, owner)?;
    recipe.add("var/lib/db/seed", b"seed", 0o600, owner)?;
    let world = recipe.world().await?;
    let service = Service { mounts: vec![volume("data", "/var/lib/db")], ..idle_app() };
    run(&world, service).await?;
    let seen = world.shell("app", "cat /var/lib/db/seed; echo mine > /var/lib/db/new; echo $HOME").await?;
    let home = if owner == 0 { "/" } else { "/var/lib/db" };
    ensure!(seen == format!("seed{home}\n"), "{seen}");
    // The program's own standard output can be opened anew, whoever it runs as.
    world.shell("app", "echo reopened > /dev/stderr").await?;
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(world.dir.path().join("engine/volumes/s_data"))?;
    ensure!(metadata.mode() & 0o777 == 0o700, "{:o}", metadata.mode());
    let outside = harness::engine::embedded::first_id().unwrap_or(0) + 70;
    ensure!(owner == 0 || metadata.uid() == outside, "{}", metadata.uid());
    world.end().await
}

async fn entrypoint() -> Result<()> {
    let recipe = Recipe::new(json!({ "Entrypoint": ["/missing"], "Cmd": ["argument"] })).await?;
    let world = recipe.world().await?;
    let line = format!("echo $# arguments; {IDLE}");
    let entrypoint = ["/bin/sh", "-c", &line, "name"].map(str::to_owned).to_vec();
    run(&world, Service { entrypoint: Some(entrypoint), ..app() }).await?;
    world.until_logged("app", "0 arguments").await?;
    world.end().await
}

async fn own_check() -> Result<()> {
    let check = json!({ "Test": ["CMD-SHELL", "exit 1"], "Interval": 50_000_000, "Retries": 1 });
    let world = Recipe::new(json!({ "Healthcheck": check })).await?.world().await?;
    world.engine.deploy(&deployment([("app", idle_app())])).await?;
    let service = world.until("a failure", "app", |service| service.failures().count() > 0).await?;
    let task = service.failures().next().context("no failure")?;
    ensure!(task.health == Health::Unhealthy && task.killed_while_starting(), "{task:?}");
    // The service may switch it off.
    let none = harness::recipe::stack::Healthcheck {
        test: Some(harness::recipe::stack::HealthTest::None),
        interval: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    run(&world, Service { healthcheck: Some(none), ..idle_app() }).await?;
    world.end().await
}
