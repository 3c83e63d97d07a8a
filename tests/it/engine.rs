//! Which engine a run takes when nobody has named one: none on another machine, and none that makes up for what is wrong
//! with the recipe.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::process::Run;

use crate::runner::{Ended, World, checkout, finish, working_copy};

const PLAN: [&str; 3] = ["--recipe", "no-backup", "--plan"];

/// A Docker that is somewhere else: it counts who connects, and hangs up.
struct Elsewhere {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Elsewhere {
    fn start() -> Elsewhere {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        Elsewhere { address, asked }
    }

    fn was_asked(&self) -> bool {
        self.asked.swap(0, Ordering::SeqCst) > 0
    }

    /// A configuration of the docker command whose current context leads there, as the command writes it.
    fn context(&self, dir: &Path) -> PathBuf {
        let config = dir.join("docker");
        let id = finish(&Run::new("sh", ["-c", "printf prod | sha256sum | cut -d' ' -f1"])).stdout;
        let meta = config.join("contexts/meta").join(id.trim_end());
        std::fs::create_dir_all(&meta).unwrap();
        let json = format!(r#"{{"Name":"prod","Endpoints":{{"docker":{{"Host":"{}"}}}}}}"#, self.address);
        std::fs::write(meta.join("meta.json"), json).unwrap();
        std::fs::write(config.join("config.json"), r#"{"currentContext":"prod"}"#).unwrap();
        config
    }
}

/// The recipes of the test data under a configuration of its own.
fn root_with(dir: &Path, more: &str) -> PathBuf {
    let (root, data) = (dir.join("root"), checkout().join("tests/data"));
    std::fs::create_dir_all(&root).unwrap();
    let _ = symlink(data.join("recipes"), root.join("recipes"));
    let harness = std::fs::read_to_string(data.join("harness.toml")).unwrap();
    std::fs::write(root.join("harness.toml"), format!("{more}\n{harness}")).unwrap();
    root
}

fn line<'a>(ended: &'a Ended, label: &str) -> &'a str {
    let label = format!("{label:<9}");
    let found = ended.stdout.lines().find_map(|line| line.strip_prefix(&label));
    found.unwrap_or_else(|| panic!("no line `{label}` in {ended}"))
}

#[test]
fn a_docker_on_another_machine_is_used_only_when_the_engine_is_named() {
    let (world, docker) = (World::of_test_data().on("auto"), Elsewhere::start());
    let config = docker.context(world.dir.path());
    let by_host = |run: Run| run.env("DOCKER_HOST", &docker.address);
    let by_context = |run: Run| run.env("DOCKER_CONFIG", &config);
    let ways: [(&str, &dyn Fn(Run) -> Run); 2] =
        [("DOCKER_HOST", &by_host), ("the current context `prod`", &by_context)];
    for (origin, lead) in ways {
        let ended = finish(&lead(world.command(&PLAN)));
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(line(&ended, "engine"), format!("embedded ({origin} leads to another machine)"));
        let note =
            format!("there is a Docker at `{}` ({origin}): `--engine swarm` would use its Swarm", docker.address);
        assert!(ended.stdout.contains(&format!("note     {note}\n")), "{ended}");
        assert!(!docker.was_asked(), "{ended}");

        let root = root_with(world.dir.path(), "engine = \"swarm\"");
        for named in [
            lead(world.command(&[&PLAN[..], &["--engine", "swarm"]].concat())),
            lead(world.command(&PLAN)).env("HARNESS_ENGINE", "swarm"),
            lead(world.command(&PLAN)).env("HARNESS_ENGINE", "").env("HARNESS_ROOT", &root),
        ] {
            let ended = finish(&named);
            assert_ne!(ended.code, 0, "{ended}");
            let said = format!("failed to use the engine `swarm`: failed to connect to Docker at `{}`", docker.address);
            assert!(format!("{ended}").contains(&said), "{ended}");
            assert!(docker.was_asked(), "{ended}");
        }
    }
}

#[test]
fn an_abra_that_has_a_server_is_used_only_when_it_is_named() {
    let world = World::of_test_data().on("auto");
    let dir = world.dir.path();
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::create_dir_all(dir.join("abra/servers/prod.example.org")).unwrap();
    let (program, called) = (dir.join("bin/abra"), dir.join("called"));
    std::fs::write(&program, format!("#!/bin/sh\ntouch '{}'\necho abra version 0.13.0\n", called.display())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let with_abra = |run: Run| {
        let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
        run.env("PATH", path).env("ABRA_DIR", dir.join("abra")).env("DOCKER_HOST", "unix:///nowhere/docker.sock")
    };
    let note = "note     abra has the server `prod.example.org`: `--engine abra` would use it\n";

    let ended = finish(&with_abra(world.command(&PLAN)));
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(line(&ended, "engine"), "embedded (there is no Docker here)");
    assert!(ended.stdout.contains(note), "{ended}");
    assert!(!called.exists(), "abra was started: {ended}");

    let root = root_with(dir, "abra.server = \"prod.example.org\"");
    for named in [
        with_abra(world.command(&[&PLAN[..], &["--engine", "abra"]].concat())),
        with_abra(world.command(&PLAN)).env("HARNESS_ENGINE", "abra"),
        with_abra(world.command(&PLAN)).env("HARNESS_ROOT", &root),
    ] {
        // There is no Docker context of that name, which is where it ends.
        let ended = finish(&named);
        assert!(format!("{ended}").contains("there is no Docker context `prod.example.org`"), "{ended}");
        assert!(!format!("{ended}").contains(note), "{ended}");
        assert!(called.exists(), "abra was not asked: {ended}");
        std::fs::remove_file(&called).unwrap();
    }
}

/// Not root, who may open everything.
#[test]
fn a_docker_that_may_not_be_asked_is_told_in_few_words() {
    let world = World::of_test_data().on("auto");
    let Some(world) = world.for_ordinary_user() else { return };
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let group = groups.lines().find(|line| line.contains(":1:")).expect("a group of number 1");
    let group = group.split(':').next().unwrap();
    let socket = world.dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let plan = |mode| {
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode)).unwrap();
        finish(&world.command(&PLAN).env("DOCKER_HOST", format!("unix://{}", socket.display())))
    };
    chown(&socket, Some(0), Some(1)).unwrap();
    let ended = plan(0o660);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(line(&ended, "engine"), format!("embedded (Docker is here, but you are not in the group `{group}`)"));
    let ended = plan(0o600);
    let place = socket.display();
    assert_eq!(line(&ended, "engine"), format!("embedded (Docker is here, but you may not open its socket `{place}`)"));
    drop(listener);
    let ended = plan(0o666);
    let silent = format!("embedded (nobody answers at Docker's socket `{place}`: does Docker run)");
    assert_eq!(line(&ended, "engine"), silent);
}

/// Such a tag was green by a stand-in, which answers whatever the tag.
#[test]
fn a_tag_that_is_never_set_is_the_recipes_failure_on_every_engine() {
    let expected = "the image `nginx:` of service `app` is no valid reference: no tag stands behind its `:`; it is written \
                    `nginx:${NGINX_TAG}`, and `NGINX_TAG` has no value in the app's `.env`";
    for engine in ["embedded", "auto", "swarm", "abra"] {
        let world = World::of_test_data().on(engine);
        let run = world.command(&["--recipe", "image-tag-unset"]);
        let ended = finish(&run.env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
        assert_ne!(ended.code, 0, "{engine}: {ended}");
        assert!(format!("{ended}").contains(expected), "{engine}: {ended}");
        assert_eq!(ended.with_outcome("ok"), Vec::<&str>::new(), "{engine}: {ended}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{engine}: {ended}");
    }
    // With a value it is an image like any other.
    let world = World::of_test_data();
    let root = root_with(world.dir.path(), "");
    let overlay = root.join("overlays/image-tag-unset");
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("recipe.toml"), "[upgrade.env]\nNGINX_TAG = \"1.27.5\"\n").unwrap();
    let run = world.command(&["--recipe", "image-tag-unset", "--tiers", "install,upgrade"]);
    let ended = finish(&run.env("HARNESS_ROOT", &root));
    assert_eq!(ended.code, 0, "{ended}");
}

/// A working copy whose image would have to be pulled, and a root that lets it.
fn with_image(world: &World, image: &str) -> (PathBuf, PathBuf) {
    let (dir, recipe) = (world.dir.path(), world.dir.path().join("notes"));
    working_copy(&recipe, "git tag -a -m x");
    let compose = recipe.join("compose.yml");
    let text = std::fs::read_to_string(&compose).unwrap();
    let other = |line: &str| if line.contains("image: ") { format!("    image: {image}") } else { line.to_owned() };
    std::fs::write(&compose, text.lines().map(other).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let root = root_with(dir, "");
    std::fs::create_dir_all(root.join("overlays/notes")).unwrap();
    let registry = image.split('/').next().unwrap();
    let policy = format!("[policy]\nregistries = [\"{registry}\"]\n");
    std::fs::write(root.join("overlays/notes/recipe.toml"), policy).unwrap();
    (recipe, root)
}

/// What `--plan` has not looked at it says, and what it cannot find out keeps nobody from reading the rest.
#[test]
fn a_plan_says_what_it_could_not_look_at() {
    let world = World::of_test_data();
    let (recipe, root) = with_image(&world, "127.0.0.1:1/team/notes:1.0.1");
    let plan = |engine: &str| {
        let arguments = ["--recipe", "notes", "--recipe-dir", recipe.to_str().unwrap(), "--plan", "--engine", engine];
        let run = world.command(&arguments).env("HARNESS_ROOT", &root);
        finish(&run.env("DOCKER_HOST", "unix:///nowhere/docker.sock"))
    };
    let ended = plan("embedded");
    assert_eq!(ended.code, 0, "{ended}");
    let note = "whether `127.0.0.1:1/team/notes:1.0.1` can be pulled is not known yet: `--plan` asks no registry, and a run \
                without it is none";
    assert!(ended.stdout.contains(note), "{ended}");
    assert!(!ended.stdout.contains("\nrun      ") && !ended.stdout.contains("\ndomain   "), "{ended}");
    let ended = plan("swarm");
    assert_eq!(ended.code, 3, "{ended}");
    assert!(ended.stdout.contains("\ninstall  deploy 1.0.0+1.27.4\nupgrade  redeploy the head "), "{ended}");
    let refusal = "error: failed to use the engine `swarm`: there is no Docker here: failed to connect to Docker at \
                   `unix:///nowhere/docker.sock`";
    assert!(ended.stderr.contains(refusal), "{ended}");
    // Nothing is said of what has no need of a registry.
    assert!(!world.run(&PLAN).stdout.contains("is not known yet"));
}

/// A registry that nobody can reach says nothing about the recipe; one that answers does.
#[test]
fn an_image_that_cannot_be_pulled_is_the_registrys_trouble_or_the_recipes() {
    let world = World::of_test_data();
    let run = |image: &str| {
        let (recipe, root) = with_image(&world, image);
        let arguments = ["--recipe", "notes", "--recipe-dir", recipe.to_str().unwrap(), "--tiers", "install,upgrade"];
        let ended = finish(&world.command(&arguments).env("HARNESS_ROOT", &root));
        std::fs::remove_dir_all(&recipe).unwrap();
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
        ended
    };
    let ended = run("127.0.0.1:1/team/notes:1.0.1");
    assert_eq!(ended.code, 3, "{ended}");
    let said = ended.message("tier::upgrade");
    let first = "infrastructure trouble, not the recipe's fault: 1 image is not here, and cannot be had: \
                 `127.0.0.1:1/team/notes:1.0.1` (registry `127.0.0.1:1` cannot be reached: ";
    assert!(said.starts_with(first), "{said}");
    assert!(said.contains("\neither (a) let this machine reach the registry"), "{said}");
    assert!(said.contains("\n    or (c) put something in its place: `[embedded.images]`, docs/images.md"), "{said}");

    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/team/notes:1.0.1", registry.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in registry.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let ended = run(&image);
    assert_eq!(ended.code, 101, "{ended}");
    let said = ended.message("tier::upgrade");
    assert!(said.contains("has no image `") && !said.contains("infrastructure trouble"), "{said}");
}
