//! Another app on the same Swarm: whatever a recipe's files say, it is what it was.

use std::collections::BTreeMap;

use harness::engine::swarm::{Wanted, endpoint::Endpoint, preflight};
use harness::engine::{Engine, EngineContext, EngineSpec, Kind, Ledger};

use super::docker::{docker, named, stack};
use crate::runner::{World, checkout, tell};

pub const CASES: &[crate::Case] = &[
    ("another_app_is_what_it_was_whatever_a_recipe_says", another_app),
    ("a_name_that_is_taken_is_refused_before_anything_is_made_or_removed", taken),
    ("what_vanishes_without_the_run_fails_its_teardown", vanishes),
];

/// An app that is somebody else's.
struct Neighbour {
    name: String,
}

impl Neighbour {
    fn deploy() -> Neighbour {
        let name = format!("neighbour-{}_example_org", std::process::id());
        let labelled = format!("com.docker.stack.namespace={name}");
        let (data, token, page, inner) =
            (format!("{name}_data"), format!("{name}_token_v1"), format!("{name}_page_v1"), format!("{name}_inner"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "of the other app").unwrap();
        let path = file.path().to_str().unwrap();
        docker(vec!["volume", "create", "--label", &labelled, &data]);
        docker(vec!["secret", "create", "--label", &labelled, &token, path]);
        docker(vec!["config", "create", "--label", &labelled, &page, path]);
        docker(vec!["network", "create", "--driver", "overlay", "--label", &labelled, &inner]);
        let (mount, app) = (format!("type=volume,source={data},target=/data"), format!("{name}_app"));
        docker(vec![
            "service",
            "create",
            "--quiet",
            "--detach",
            "--no-resolve-image",
            "--name",
            &app,
            "--label",
            &labelled,
            "--secret",
            &token,
            "--config",
            &page,
            "--network",
            &inner,
            "--mount",
            &mount,
            "nginx:1.27.4",
        ]);
        Neighbour { name }
    }

    /// Everything that Docker says of it.
    fn seen(&self) -> String {
        let (kinds, ends) =
            (["service", "volume", "network", "secret", "config"], ["app", "data", "inner", "token_v1", "page_v1"]);
        let inspect = |(kind, end): (&str, &str)| docker(vec![kind, "inspect", &format!("{}_{end}", self.name)]);
        kinds.into_iter().zip(ends).map(inspect).collect()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Network and volume are in use until the service's containers are gone, and each for a while of its own.
        let script = "docker service rm $1_app; for thing in 'network rm '$1_inner 'volume rm '$1_data; do \
                      for i in $(seq 100); do docker $thing && break; sleep 0.2; done; done; \
                      docker secret rm $1_token_v1; docker config rm $1_page_v1";
        let _ = harness::process::command("sh").args(["-c", script, "sh", &self.name]).output();
    }
}

const COMPOSE: &str = r#"version: "3.8"
services:
  app:
    image: nginx:1.27.4
    networks: [proxy, inner]
    volumes: ["data:/data"]
    deploy:
      labels:
        - "traefik.enable=true"
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)"
        - "traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80"
networks: {proxy: {external: true}, inner: {name: "${STACK_NAME}_inner"}}
volumes: {data: {name: "${STACK_NAME}_data"}}
"#;

/// A checkout with one recipe, of these files beside its compose file.
fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [("recipes/mover/head/compose.yml", COMPOSE)].iter().chain(files) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::copy(checkout().join("tests/data/hostile/harness.toml"), dir.path().join("harness.toml")).unwrap();
    let world = World::new(dir.path().to_owned()).on("swarm");
    (dir, world)
}

fn another_app() {
    let neighbour = Neighbour::deploy();
    let (name, domain) = (neighbour.name.clone(), neighbour.name.replace('_', "."));
    crate::running::wait("the neighbour to run", || {
        let tasks = docker(vec!["service", "ls", "--filter", &format!("name={name}_app"), "--format", "{{.Replicas}}"]);
        tasks.trim() == "1/1"
    });
    let before = neighbour.seen();
    let run = |files: &[(&str, &str)]| {
        let (_dir, world) = world(files);
        let ended = world.run(&["--recipe", "mover", "--tiers", "install"]);
        assert_eq!(neighbour.seen(), before, "the other app changed: {ended}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
        ended
    };
    for key in ["STACK_NAME", "DOMAIN"] {
        let value = if key == "DOMAIN" { &domain } else { &name };
        let ended = run(&[("recipes/mover/head/abra.sh", &format!("export {key}={value}\n"))]);
        assert_eq!(ended.code, 101, "{ended}");
        let said = format!("`abra.sh` exports `{key}`, which says which app this is");
        assert!(ended.to_string().contains(&said), "{ended}");
    }
    // Of a prefix of its name there is nothing either.
    let prefix = name.split('_').next().unwrap();
    let ended = run(&[("recipes/mover/head/abra.sh", &format!("export STACK_NAME={prefix}\n"))]);
    assert_eq!(ended.code, 101, "{ended}");
    let sample = format!("STACK_NAME={name}\nDOMAIN={domain}\n");
    let ended = run(&[("recipes/mover/head/.env.sample", &sample)]);
    assert_eq!(ended.code, 0, "the sample's names are examples, and the run has its own: {ended}");
    assert!(!ended.stderr.contains("WARNING"), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
    let steps = format!("sed -i 's/^STACK_NAME=.*/STACK_NAME={name}/' \"$APP_ENV\"\n");
    let ended = run(&[("overlays/mover/install_steps.sh", &steps)]);
    assert_eq!(ended.code, 101, "{ended}");
    let said = format!("`install_steps.sh` left `STACK_NAME={name}` in the app's `.env`, which says which app this is");
    assert!(ended.message("tier::install").contains(&said), "{ended}");
    tell("swarm: another app is what it was beside 5 recipes that reach for it");
}

#[derive(Default)]
struct Silent;

impl Ledger for Silent {
    fn creating(&self, _: Kind, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn created(&self, _: Kind, _: &str, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn removed(&self, _: Kind, _: &str) -> anyhow::Result<()> {
        Ok(())
    }
}

fn taken() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok()).unwrap();
    let checked = runtime.block_on(preflight(endpoint, &Wanted { stacks: Vec::new(), as_it_is: false })).unwrap();
    let id = format!("{:06x}", std::process::id() & 0xff_ffff);
    let stack = format!("take-{id}_harness_test");
    let volume = format!("{stack}_data");
    docker(vec!["volume", "create", &volume]);
    let dir = tempfile::tempdir().unwrap();
    let context = EngineContext {
        run_id: format!("taken-20261128t101112-{id}"),
        dir: dir.path().join("engine"),
        image_cache: dir.path().join("images"),
        image_map: BTreeMap::new(),
        stack: stack.clone(),
        domain: stack.replace('_', "."),
        monitor: std::time::Duration::ZERO,
        ledger: std::sync::Arc::new(Silent),
    };
    let started = runtime.block_on(Engine::start(&EngineSpec::Swarm(checked.spec), context));
    let error = started.err().map(|error| format!("{error:#}")).unwrap_or_default();
    let swept = runtime.block_on(harness::engine::sweep(&dir.path().join("engine")));
    let there = named(&stack);
    docker(vec!["volume", "rm", &volume]);
    let said = format!(
        "there is something under the name of the stack `{stack}` already: volume `{volume}`: start the run again"
    );
    assert!(error.starts_with(&said), "{error}");
    assert_eq!((swept, there), (Vec::new(), vec![format!("volume {volume}")]), "a sweep finds no trace of it");
}

fn vanishes() {
    let (_dir, world) = world(&[]);
    let mut running = world.start(&["--recipe", "mover", "--tiers", "install"]);
    running.wait_for("install  done in");
    let said = running.said.lock().unwrap().clone();
    let service = format!("{}_app", stack(&said));
    docker(vec!["service", "rm", &service]);
    let code = running.end();
    let said = running.said.lock().unwrap().clone();
    assert_ne!(code, 0, "{said}");
    let expected = format!("service `{service}` was gone before teardown, and this run did not remove it");
    let heard = format!("{said}\n{}", world.journal());
    assert!(heard.contains(&expected), "{heard}");
    assert_eq!(named(&stack(&said)), Vec::<String>::new(), "{said}");
}
