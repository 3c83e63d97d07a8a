//! The default engine on a machine with a Swarm: what a registry says of the recipe's images is the recipe's failure,
//! and what cannot be asked is none.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use harness::process::Run;

use crate::runner::{World, checkout, finish};

pub const CASES: &[crate::Case] = &[
    ("auto_takes_the_swarm_of_this_machine", auto_takes_the_swarm_of_this_machine),
    ("a_tag_that_its_registry_does_not_have_is_red_whoever_chose_the_engine", a_missing_tag),
    ("an_image_that_cannot_be_asked_for_is_left_to_the_embedded_engine", an_image_that_cannot_be_asked_for),
    ("a_process_in_another_network_than_the_containers_is_told_so_beforehand", another_network),
];

fn auto_takes_the_swarm_of_this_machine() {
    let world = World::of_checkout().on("auto");
    let ended = world.run(&["--recipe", "custom-html", "--plan"]);
    assert_eq!(ended.code, 0, "{ended}");
    let engine = "engine   swarm, because a Swarm manager answers here: unix:///var/run/docker.sock";
    assert!(ended.stdout.contains(engine), "{ended}");
}

/// A registry that answers every question for an image alike.
fn registry(status: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, status, code)));
    address
}

fn answer(mut stream: TcpStream, status: &str, code: &str) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let first = request.first().cloned().unwrap_or_default();
    let (status, body) = match first.contains(" /v2/ ") {
        true => ("200 OK", "{}".to_owned()),
        false => (status, format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase())),
    };
    let length = body.len();
    let body = if first.starts_with("HEAD") { "" } else { &body };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// A recipe whose head runs an image of that registry, and a configuration in which something stands in for it.
fn recipe_of(world: &World, registry: &str) -> (PathBuf, PathBuf) {
    let dir = world.dir.path();
    let (recipe, root) = (dir.join("recipe"), dir.join("root"));
    let source = checkout().join("tests/data/recipes/no-backup");
    let commit = "git -c user.name=m -c user.email=m@example.org";
    let script = format!(
        "git init -q '{0}' && cd '{0}' && cp '{1}/1.0.0+1.27.4/'* '{1}/1.0.0+1.27.4/.env.sample' . && git add -A && \
         {commit} commit -qm 'First release' && {commit} tag -a 1.0.0+1.27.4 -m 'First release' && \
         cp '{1}/head/compose.yml' . && sed -i 's|nginx:1.27.5|{registry}/nginx:9.9.9|' compose.yml && \
         {commit} commit -qam 'Bump'",
        recipe.display(),
        source.display()
    );
    let made = finish(&Run::new("sh", ["-ec", &script]));
    assert_eq!(made.code, 0, "{made}");
    std::fs::create_dir(&root).unwrap();
    let harness = format!(
        "[embedded.images]\nnginx = \"builtin:static-web\"\n\"{registry}/nginx\" = \"builtin:static-web\"\n\
         [policy]\nregistries = [\"127.0.0.1:*\"]\n"
    );
    std::fs::write(root.join("harness.toml"), harness).unwrap();
    (recipe, root)
}

fn run(world: &World, recipe: &Path, root: &Path, engine: &str) -> crate::runner::Ended {
    let arguments = ["--recipe", "app", "--recipe-dir", recipe.to_str().unwrap(), "--tiers", "install,upgrade"];
    finish(&world.command(&arguments).env("HARNESS_ROOT", root).env("HARNESS_ENGINE", engine))
}

fn a_missing_tag() {
    let registry = registry("404 Not Found", "MANIFEST_UNKNOWN");
    let said = format!("failed to find the image `{registry}/nginx:9.9.9` in its registry: ");
    for engine in ["auto", "swarm"] {
        let world = World::of_test_data();
        let (recipe, root) = recipe_of(&world, &registry);
        let ended = run(&world, &recipe, &root, engine);
        assert_ne!(ended.code, 0, "{engine}: {ended}");
        let all = format!("{ended}");
        assert!(all.contains(&said) && all.contains("manifest unknown"), "{engine}: {ended}");
        assert!(!all.contains("engine   embedded") && !all.contains("infrastructure trouble"), "{engine}: {ended}");
        assert_eq!(ended.with_outcome("ok"), Vec::<&str>::new(), "{engine}: {ended}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{engine}: {ended}");
    }
}

fn an_image_that_cannot_be_asked_for() {
    // Nobody listens at the first, and the second lets nobody in without a login.
    let (gone, closed) = ("127.0.0.1:1".to_owned(), registry("401 Unauthorized", "UNAUTHORIZED"));
    for registry in [gone, closed] {
        let world = World::of_test_data();
        let (recipe, root) = recipe_of(&world, &registry);
        let ended = run(&world, &recipe, &root, "auto");
        assert_eq!(ended.code, 0, "{ended}");
        let engine = format!(
            "engine   embedded (no Swarm here can be used: 1 image is not here, and cannot be had: `{registry}/nginx:9.9.9` ("
        );
        assert!(ended.stderr.contains(&engine), "{ended}");
        let named = run(&world, &recipe, &root, "swarm");
        assert_ne!(named.code, 0, "{named}");
        let said = format!("1 image is not here, and cannot be had: `{registry}/nginx:9.9.9` (");
        assert!(format!("{named}").contains(&said), "{named}");
        assert!(named.stderr.contains("\n    or (c) put something in its place: `--engine embedded`"), "{named}");
    }
}

/// As a container of a CI system that was given Docker's socket: nothing of the Swarm can be reached from there.
fn another_network() {
    // The bridge that is looked at comes with the first task.
    let world = World::of_checkout();
    let ended = world.run(&["--recipe", "custom-html", "--engine", "swarm", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let apart = |engine: &str| {
        let world = World::of_checkout();
        let arguments = ["--recipe", "custom-html", "--engine", engine, "--tiers", "install", "--plan"];
        let inner = world.command(&arguments);
        let program = std::iter::once("--net".into()).chain([inner.program.clone()]);
        let args = program.chain(inner.args.iter().cloned()).collect();
        (finish(&Run { program: "unshare".into(), args, ..inner }), world)
    };
    let (ended, world) = apart("swarm");
    assert_ne!(ended.code, 0, "{ended}");
    let said = format!("{ended}");
    let why =
        "this process is in another network than Docker's containers, which it has to reach: `docker_gwbridge` is ";
    assert!(said.contains("infrastructure") && said.contains(why), "{ended}");
    assert!(said.contains("In a container, start it with `--network host`"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    // Whoever has asked for no engine in particular gets one that can be had here, and learns why.
    let (ended, _world) = apart("auto");
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.contains(&format!("engine   embedded ({why}")), "{ended}");
}
