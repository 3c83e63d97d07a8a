//! An app behind a Traefik that is there already: requests go through it, over HTTPS.
//!
//! Traefik's image is not to be had here. What stands in for it is nginx under an image name of Traefik's: it ends TLS
//! with a certificate of its own making and leads each host of the zone to its stack.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::config::Https;
use harness::http;
use harness::poll::{Look, Poll};
use harness::process::Run;

use super::docker::{docker, named, stack};
use crate::runner::{World, checkout, finish, tell};
use crate::running::wait;

pub const CASES: &[crate::Case] =
    &[("requests_go_through_a_traefik_with_its_certificate", requests_go_through_a_traefik_with_its_certificate)];

const NETWORK: &str = "harness-test-public";

const NGINX: &str = r#"
# The service's own name would lead to a virtual address, which carries no traffic where the kernel has no IPVS.
map $host $upstream { "~^(?<name>[^.]+)\.harness\.test$" "tasks.${name}_harness_test_app"; }
server {
    listen 443 ssl;
    access_log /dev/stdout;
    error_log /dev/stderr info;
    ssl_certificate /cert.pem;
    ssl_certificate_key /key.pem;
    location / {
        # A name that nobody has is asked for in the world outside, which is out of reach here.
        resolver 127.0.0.11 valid=1s;
        resolver_timeout 2s;
        # A packet may be lost while the network is still being set up: better asked again than waited for.
        proxy_connect_timeout 1s;
        proxy_set_header Host $host;
        add_header X-Through traefik;
        proxy_pass http://$upstream:80;
    }
}
"#;

fn requests_go_through_a_traefik_with_its_certificate() {
    let proxy = Proxy::start(NETWORK);
    let trusting = World::new(proxy.root("trusting", "verify_certificates = false")).on("swarm");
    let ended = trusting.run(&["--recipe", "behind-traefik"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(
        ended.stderr.contains("note     requests go through the Traefik on network `harness-test-public`"),
        "{ended}"
    );
    assert_eq!(ended.outcome("generic::install::answers_over_http"), Some("ok"), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
    // The network is the operator's: it was used, and is still there.
    assert_eq!(named(NETWORK), [format!("network {NETWORK}")]);

    let careful = World::new(proxy.root("careful", "")).on("swarm");
    let ended = careful.run(&["--recipe", "behind-traefik"]);
    assert_eq!(ended.code, 101, "{ended}");
    let message = ended.message("generic::install::answers_over_http");
    assert!(message.contains("no answer from `https://behi-"), "{ended}");
    assert!(message.contains("invalid peer certificate: "), "{ended}");

    // A machine that has none to check them by is no fault of the recipe's.
    let run = careful.command(&["--recipe", "behind-traefik", "--tiers", "install"]);
    let ended = finish(&run.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nowhere"));
    assert_ne!(ended.code, 0, "{ended}");
    let message = ended.message("generic::install::answers_over_http");
    let start = "infrastructure trouble, not the recipe's fault: failed to get ready for https by this machine's CA \
                 certificates (on Debian, apt-get install ca-certificates; ";
    assert!(message.starts_with(start), "{ended}");
}

/// The stand-in, removed at the end.
pub struct Proxy {
    pub dir: tempfile::TempDir,
    network: &'static str,
    stack: String,
    image: String,
    pub port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the stand-in's log: {}", self.log());
        }
        docker(vec!["stack", "rm", &self.stack]);
        wait("the proxy to be gone", || named(&self.stack).is_empty());
        wait("its network to be removed", || {
            harness::process::command("docker").args(["network", "rm", self.network]).output().unwrap();
            named(self.network).is_empty()
        });
        docker(vec!["image", "rm", &self.image]);
    }
}

impl Proxy {
    /// On a network of its own of this name.
    pub fn start(network: &'static str) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        // Free a moment ago; another process taking it in between fails the trial loudly.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed(vec!["*.harness.test".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("proxy.conf"), NGINX).unwrap();
        let image = format!("{network}/traefik:stand-in");
        docker(vec!["tag", "nginx:1.27.4", &image]);
        docker(vec!["network", "create", "--driver", "overlay", network]);
        // The network's name does not begin it: what begins with that is to be the network alone.
        let stack = format!("harness-test-traefik-{}-{network}", std::process::id());
        let proxy = Proxy { dir, network, stack, image, port };
        proxy.deploy();
        proxy
    }

    fn deploy(&self) {
        let mount = |name: &str, target: &str| format!("      - {{ source: {name}, target: {target} }}\n");
        let file = |name: &str, file: &str| format!("  {name}: {{ file: {} }}\n", self.dir.path().join(file).display());
        let compose = format!(
            "version: '3.8'\nservices:\n  proxy:\n    image: {}\n    networks: [public]\n    \
             stop_grace_period: 1s\n    ports:\n      - {{ target: 443, published: {}, mode: host }}\n    \
             deploy: {{ endpoint_mode: dnsrr }}\n    configs:\n{}{}{}networks:\n  public: {{ external: true, name: \
             {} }}\nconfigs:\n{}{}{}",
            self.image,
            self.port,
            mount("conf", "/etc/nginx/conf.d/default.conf"),
            mount("cert", "/cert.pem"),
            mount("key", "/key.pem"),
            self.network,
            file("conf", "proxy.conf"),
            file("cert", "cert.pem"),
            file("key", "key.pem"),
        );
        let path = self.dir.path().join("compose.yml");
        std::fs::write(&path, compose).unwrap();
        docker(vec!["stack", "deploy", "-c", path.to_str().unwrap(), &self.stack]);
        // That its port is open says only that Docker holds it. While many containers come and go, one has been seen that
        // nothing reached from here: then another one takes its place, and its log is shown.
        for _ in 0..3 {
            let Err(error) = self.answers() else { return };
            tell(&format!("the stand-in for Traefik is started again, because {error:#}; {}", self.log()));
            docker(vec!["service", "update", "--force", "--detach", &format!("{}_proxy", self.stack)]);
        }
        self.answers().unwrap();
    }

    /// Waits for an answer through it, whatever it is: for a host that nobody has it is an error of its own.
    fn answers(&self) -> anyhow::Result<()> {
        let (host, port) = ("nobody.harness.test", self.port);
        let https = Https { verify: false, address: Some(([127, 0, 0, 1], port).into()) };
        let attempt = async || {
            let answer = http::look(&format!("https://{host}"), host, &https, "/", Duration::from_secs(5)).await;
            Ok(answer.map_or_else(|error| Look::NotYet(format!("{error:#}")), |_| Look::Ready(())))
        };
        let answered = Poll::within(Duration::from_secs(30)).until("an answer of the stand-in", attempt);
        tokio::runtime::Runtime::new()?.block_on(answered)
    }

    fn log(&self) -> String {
        let line =
            format!("docker service ps --no-trunc {0}_proxy; docker service logs --raw {0}_proxy 2>&1", self.stack);
        finish(&Run::new("sh", ["-c", &line])).to_string()
    }

    /// A root whose configuration knows where the Traefik listens.
    pub fn root(&self, name: &str, more: &str) -> PathBuf {
        let root = self.dir.path().join(name);
        let recipes = checkout().join("tests/data/swarm/recipes");
        let (port, network) = (self.port, self.network);
        write(
            &root.join("harness.toml"),
            &format!(
                "zone = \"harness.test\"\n[recipes]\nsources = [{recipes:?}]\n[deadlines]\ncall = \"20s\"\n\
                 [swarm]\ntraefik_address = \"127.0.0.1:{port}\"\n{more}\n\
                 [policy]\nnetworks = [\"{network}\"]\n"
            ),
        );
        root
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
