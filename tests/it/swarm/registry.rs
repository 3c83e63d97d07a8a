//! Images from a real registry on loopback, which lets nobody in without a login.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use harness::process::{self, Run};

use super::docker::{docker, named, stack};
use crate::runner::{World, checkout, finish};
use crate::running::wait;

pub const CASES: &[crate::Case] = &[(
    "images_are_pulled_ahead_with_a_login_and_their_digests_recorded",
    images_are_pulled_ahead_with_a_login_and_their_digests_recorded,
)];

/// `user:password`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

/// Why these cannot be proven here.
pub fn missing() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("docker-registry").is_file());
    (!found).then(|| "there is no `docker-registry`: on Debian, apt-get install docker-registry".to_owned())
}

fn images_are_pulled_ahead_with_a_login_and_their_digests_recorded() {
    let world = World::new(checkout().join("tests/data/swarm")).on("swarm");
    let dir = world.dir.path();
    let registry = Registry::start(dir);
    let images = registry.push(dir, ["nginx:1.27.4", "nginx:1.27.5"]);
    let recipe = dir.join("pulled");
    make_recipe(&recipe, &images);
    let command = world.command(&["--recipe", "pulled", "--recipe-dir", recipe.to_str().unwrap()]);
    let stranger = finish(&command.clone().env("DOCKER_CONFIG", dir.join("nobody")));
    assert_eq!(stranger.code, 3, "{stranger}");
    let start = "error: failed to use the engine `swarm`: 2 images are not here, and cannot be had: ";
    assert!(
        stranger.stderr.starts_with(start) && images.iter().all(|it| stranger.refusal().contains(it)),
        "{stranger}"
    );
    assert!(stranger.stderr.contains("no basic auth credentials"), "{stranger}");
    let ended = finish(&command.env("DOCKER_CONFIG", dir.join("docker")));
    for image in &images {
        docker(vec!["image", "rm", "--force", image]);
    }
    assert_eq!(ended.code, 0, "{ended}");
    // The Swarm runs `image@digest`; what the compose file names is compared all the same.
    assert_eq!(ended.outcome("generic::upgrade::images_match_the_head"), Some("ok"), "{ended}");
    assert!(!ended.stderr.contains("is not what its name says: recipe"), "{ended}");
    let runs = std::fs::read_dir(world.state().join("runs")).unwrap();
    let journals = runs.flatten().filter_map(|run| std::fs::read_to_string(run.path().join("events.jsonl")).ok());
    let journal = journals.into_iter().find(|journal| !journal.contains("\"could_not_begin\"")).unwrap();
    for image in &images {
        assert!(journal.contains(&format!("\"{image}\":\"sha256:")), "{journal}");
    }
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}

/// A registry that ends with its test.
pub struct Registry {
    child: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub fn start(dir: &Path) -> Registry {
        // Free a moment ago; another process taking it in between fails the trial loudly.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let root = dir.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/registry}}}}\n\
             http: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
        );
        std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        std::fs::write(dir.join("registry.yml"), config).unwrap();
        let mut command = process::command("docker-registry");
        command.arg("serve").arg(dir.join("registry.yml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Registry { child, address };
        wait("the registry to listen", || TcpStream::connect(&registry.address).is_ok());
        registry
    }

    /// Pushes images under names of this registry, and forgets them here; leaves the login in `<dir>/docker`.
    pub fn push(&self, dir: &Path, images: [&str; 2]) -> [String; 2] {
        let config = dir.join("docker");
        let config = config.to_str().unwrap();
        let login = Run::new("docker", ["--config", config, "login", &self.address, "-u", "user", "--password-stdin"]);
        let login = finish(&Run { stdin: b"password".to_vec(), ..login });
        assert_eq!(login.code, 0, "{login}");
        images.map(|image| {
            let name = format!("{}/{image}", self.address);
            docker(vec!["tag", image, &name]);
            docker(vec!["--config", config, "push", "--quiet", &name]);
            docker(vec!["image", "rm", &name]);
            name
        })
    }
}

/// A recipe whose two versions run these images.
fn make_recipe(dir: &Path, images: &[String; 2]) {
    let source = checkout().join("tests/data/swarm/recipes/silent-rollback/1.0.0+1.27.4");
    let commit = "git -c user.name=m -c user.email=m@example.org";
    let script = format!(
        "git init -q '{dir}' && cd '{dir}' && cp '{source}'/compose.yml '{source}'/.env.sample . && \
         sed -i 's|nginx:1.27.4$|{one}|' compose.yml && git add -A && {commit} commit -qm 'First release' && \
         {commit} tag -a 1.0.0+1.27.4 -m 'First release' && sed -i 's|{one}|{two}|' compose.yml && \
         {commit} commit -qam 'Second release'",
        dir = dir.display(),
        source = source.display(),
        one = images[0],
        two = images[1],
    );
    let made = finish(&Run::new("sh", ["-ec", &script]));
    assert_eq!(made.code, 0, "{made}");
}
