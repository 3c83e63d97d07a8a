//! `harness doctor` on a host that has everything, and on one that lacks this or that.

use harness::process::Run;

use super::fake::Abra;
use crate::runner::{Ended, finish};
use crate::running::wait;
use crate::swarm::docker::docker;
use crate::swarm::registry::{self, Registry};
use crate::swarm::remote::Daemon;
use crate::swarm::traefik::Proxy;

/// Needs a registry, too.
pub const CASES: &[crate::Case] =
    &[("a_host_is_examined_step_by_step_with_a_remedy_for_each_that_fails", a_host_is_examined)];

pub use registry::missing;

const NETWORK: &str = "harness-test-doctor";

fn a_host_is_examined() {
    let (abra, proxy) = (Abra::with(&[]), Proxy::start(NETWORK));
    let dir = abra.world.dir.path();
    let registry = Registry::start(dir);
    let [image, _] = registry.push(dir, ["nginx:1.27.4", "nginx:1.27.5"]);
    let (config, certificate) = (dir.join("docker"), proxy.dir.path().join("cert.pem"));
    let root = proxy.root("doctor", "");
    let run = |arguments: &[&str]| {
        let run = abra.command(&[]).env("HARNESS_ROOT", &root).env("DOCKER_CONFIG", &config);
        let arguments = [&["doctor", "--network", NETWORK], arguments].concat();
        Run {
            program: env!("CARGO_BIN_EXE_harness-command").into(),
            args: arguments.iter().map(Into::into).collect(),
            ..run
        }
    };

    // Nothing but a Traefik, whose certificate nobody knows.
    let ended = finish(&run(&["--image", "127.0.0.1:1/nothing:1"]));
    assert_eq!(ended.code, 1, "{ended}");
    for step in ["abra", "server", "swarm", "network", "traefik", "domain", "disk"] {
        assert!(line(&ended, step).starts_with("ok "), "{step} in {ended}");
    }
    fails(
        &ended,
        "certificate",
        "invalid peer certificate: ",
        "a wildcard certificate for `*.harness.test` in Traefik",
    );
    let none = "no service has the label `coop-cloud.backupbot.enabled=true`, and none an image `backup-bot-two`";
    fails(&ended, "backup bot", none, "`abra app new backup-bot-two`, then `abra app deploy`");
    let refused = "failed to find the image `127.0.0.1:1/nothing:1` in its registry: ";
    fails(&ended, "image pulls", refused, "see that the server reaches the registry");
    assert!(ended.stdout.ends_with("\n7 of 10 steps are well\n"), "{ended}");

    let _bot = Bot::start();
    let ended = finish(&run(&["--image", &image]).env("SSL_CERT_FILE", &certificate));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stdout.ends_with("\n10 of 10 steps are well\n"), "{ended}");
    assert!(line(&ended, "abra").ends_with("says it is version 0.13.0-stand-in"), "{ended}");
    assert!(line(&ended, "certificate").ends_with("with a good certificate"), "{ended}");
    assert!(line(&ended, "image pulls").contains("is sha256:"), "{ended}");
    let left = docker(vec!["image", "ls", "--quiet", &image]);
    assert_eq!(left, "", "the image was not here before");

    // On another machine the disk is asked for in a container.
    let daemon = Daemon::start();
    let file = |key: &str| format!("{key}={}", daemon.certificates("client").join(format!("{key}.pem")).display());
    let place = format!("host={},{},{},{}", daemon.host, file("ca"), file("cert"), file("key"));
    docker(vec!["--config", config.to_str().unwrap(), "context", "create", "elsewhere", "--docker", &place]);
    std::fs::create_dir_all(dir.join("abra/servers/elsewhere")).unwrap();
    let ended = finish(&run(&["--image", &image, "--server", "elsewhere"]).env("SSL_CERT_FILE", &certificate));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(line(&ended, "server").contains(&format!("`elsewhere` at {} (DOCKER_CONTEXT", daemon.host)), "{ended}");
    assert!(line(&ended, "disk").ends_with(&format!("GiB are free at {}", daemon.host)), "{ended}");

    // A network that is not there takes what builds on it along, and nothing is called well that was not looked at.
    let absent = ["--network", "harness-test-nowhere", "--image", &image];
    let ended = finish(&Run { args: ["doctor"].iter().chain(&absent).map(Into::into).collect(), ..run(&[]) });
    assert_eq!(ended.code, 1, "{ended}");
    fails(&ended, "network", "there is no network `harness-test-nowhere`", "`docker network create --driver overlay");
    assert_eq!(line(&ended, "traefik"), "-       traefik      not looked at, because `network` comes first");
    assert_eq!(line(&ended, "certificate"), "-       certificate  not looked at, because `traefik` comes first");

    std::fs::remove_file(abra.beside.join("abra")).unwrap();
    let ended = finish(&run(&[]));
    assert_eq!(ended.code, 1, "{ended}");
    fails(&ended, "abra", "there is no `abra` on `PATH`", "install abra, https://docs.coopcloud.tech/abra/install");
    assert_eq!(ended.stdout.matches("not looked at, because").count(), 9, "{ended}");
}

/// The line of a step.
fn line<'a>(ended: &'a Ended, step: &str) -> &'a str {
    let found =
        ended.stdout.lines().find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(&format!("{step} "))));
    found.unwrap_or_else(|| panic!("no line of `{step}` in {ended}"))
}

/// The step has failed, with this seen and this remedy below it.
fn fails(ended: &Ended, step: &str, seen: &str, remedy: &str) {
    let line = line(ended, step);
    assert!(line.starts_with("FAILED  ") && line.contains(seen), "{step} in {ended}");
    let below = ended.stdout.lines().skip_while(|it| *it != line).nth(1).unwrap();
    assert!(below.starts_with("        remedy       ") && below.contains(remedy), "{step} in {ended}");
}

/// What stands in for a backup bot, as far as anybody looks at it.
struct Bot(String);

impl Bot {
    fn start() -> Bot {
        let name = format!("harness-test-bot-{}", std::process::id());
        let label = ["--label", "coop-cloud.backupbot.enabled=true", "--no-resolve-image", "nginx:1.27.4"];
        let create = ["service", "create", "--quiet", "--detach", "--name", &name];
        docker([&create[..], &label, &["sleep", "1000"]].concat());
        let bot = Bot(name);
        wait("the bot to run", || {
            docker(vec!["service", "ls", "--filter", &format!("name={}", bot.0), "--format", "{{.Replicas}}"])
                == "1/1\n"
        });
        bot
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        docker(vec!["service", "rm", &self.0]);
    }
}
