//! A Swarm behind ssh: a real `sshd` on loopback, at a port that is not the usual one.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use harness::process::{self, Run};

use super::docker::{named, stack};
use super::remote::recipe;
use super::traefik::Proxy;
use crate::runner::{Ended, World, finish};
use crate::running::wait;

pub const CASES: &[crate::Case] = &[("ssh::a_swarm_behind_ssh_is_deployed_to_at_its_port", a_swarm_behind_ssh)];

const NETWORK: &str = "harness-test-ssh";
const SSHD: &str = "/usr/sbin/sshd";

/// Why this cannot be tried, if so.
pub fn missing() -> Option<String> {
    match (rustix::process::getuid().is_root(), Path::new(SSHD).is_file()) {
        (false, _) => Some("it has to be root, whom its own sshd lets in".into()),
        (true, false) => Some("there is no sshd: on Debian, apt-get install openssh-server".into()),
        (true, true) => None,
    }
}

fn a_swarm_behind_ssh() {
    let (proxy, sshd) = (Proxy::start(NETWORK), Sshd::start());
    let world = World::new(proxy.root("ssh", "verify_certificates = false")).on("swarm");
    let recipe = recipe(world.dir.path(), NETWORK);
    let arguments = ["--recipe", "behind-traefik", "--recipe-dir", recipe.to_str().unwrap(), "--tiers", "install"];
    let run = |host: &str, known: &str| -> Ended {
        let run = world.command(&arguments).env("DOCKER_HOST", host);
        finish(&run.env("PATH", sshd.path(known)))
    };
    let ended = run(&sshd.host(), &sshd.known());
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains(&format!("swarm, as asked for: {} (DOCKER_HOST)", sshd.host())), "{ended}");
    for trial in ["tier::install", "generic::install::answers_over_http", "generic::install::no_secret_in_the_logs"] {
        assert_eq!(ended.outcome(trial), Some("ok"), "{trial}\n{ended}");
    }
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");

    // What `ssh` itself says is what is told: of a machine that nobody knows, and of a port where nobody listens.
    let stranger = run(&sshd.host(), "");
    assert_eq!(stranger.code, 3, "{stranger}");
    assert!(stranger.refusal().contains("Host key verification failed."), "{stranger}");
    let nobody = run("ssh://root@127.0.0.1:1", &sshd.known());
    assert_eq!(nobody.code, 3, "{nobody}");
    assert!(nobody.refusal().contains("connect to host 127.0.0.1 port 1: Connection refused"), "{nobody}");
}

/// A server with keys of its own. It ends with its test.
struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Sshd {
    fn start() -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["host", "client"] {
            let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", at(name).to_str().unwrap()].map(str::to_owned);
            let made = finish(&Run::new("ssh-keygen", arguments));
            assert_eq!(made.code, 0, "{made}");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let top = dir.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {top}/host\nAuthorizedKeysFile {top}/client.pub\nStrictModes no\n\
             UsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        // Where Debian's own service would have made it.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = process::command(SSHD);
        command.args(["-D", "-e", "-f"]).arg(at("sshd_config")).stdin(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        wait("sshd to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Sshd { dir, port, child }
    }

    fn host(&self) -> String {
        format!("ssh://root@127.0.0.1:{}", self.port)
    }

    /// The line of `known_hosts` for this server.
    fn known(&self) -> String {
        let key = std::fs::read_to_string(self.dir.path().join("host.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// A `PATH` whose `ssh` is the machine's own, with another configuration than that of whoever runs the tests: it
    /// takes no notice of HOME.
    fn path(&self, known: &str) -> String {
        let at = |name: &str| self.dir.path().join(name);
        let bin: PathBuf = at("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(at("known_hosts"), known).unwrap();
        let top = self.dir.path().display();
        let config = format!(
            "IdentityFile {top}/client\nIdentitiesOnly yes\nUserKnownHostsFile {top}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        );
        std::fs::write(at("ssh_config"), config).unwrap();
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{top}/ssh_config' \"$@\"\n");
        std::fs::write(bin.join("ssh"), script).unwrap();
        std::fs::set_permissions(bin.join("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
