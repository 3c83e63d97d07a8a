//! A Swarm on another machine, as far as the harness can tell: a daemon behind TLS that wants a certificate, and an app
//! that is reached through a Traefik.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::process::Run;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::docker::{named, stack};
use super::traefik::Proxy;
use crate::runner::{World, checkout, finish};

pub const CASES: &[crate::Case] = &[("a_remote_swarm_is_deployed_to_over_tls", a_remote_swarm)];

const NETWORK: &str = "harness-test-remote";

fn a_remote_swarm() {
    let proxy = Proxy::start(NETWORK);
    let daemon = Daemon::start();
    let world = World::new(proxy.root("remote", "verify_certificates = false")).on("swarm");
    let recipe = recipe(world.dir.path(), NETWORK);
    let run = world.command(&["--recipe", "behind-traefik", "--recipe-dir", recipe.to_str().unwrap()]);
    let with = |host: &str, certificates: PathBuf| {
        let run = run.clone().env("DOCKER_HOST", host).env("DOCKER_TLS_VERIFY", "1");
        finish(&run.env("DOCKER_CERT_PATH", certificates))
    };
    let ended = with(&daemon.host, daemon.certificates("client"));
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains(&format!("swarm, as asked for: {} (DOCKER_HOST)", daemon.host)), "{ended}");
    assert_eq!(ended.outcome("generic::install::answers_over_http"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("generic::install::deployed_what_was_asked_for"), Some("ok"), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");

    // Another authority's certificate opens nothing, and one line says so before anything is created.
    let stranger = with(&daemon.host, Daemon::start().certificates("client"));
    assert_eq!(stranger.code, 3, "{stranger}");
    let start = format!("error: failed to use the engine `swarm`: failed to connect to Docker at `{}`", daemon.host);
    assert!(stranger.refusal().starts_with(&start), "{stranger}");
    let none = with(&daemon.host, world.dir.path().to_owned());
    assert!(none.stderr.contains("key.pem`: No such file or directory"), "{none}");
}

/// The recipe behind a Traefik, on a test's own network.
pub fn recipe(dir: &Path, network: &str) -> PathBuf {
    let (source, recipe) = (checkout().join("tests/data/swarm/recipes/behind-traefik/head"), dir.join("recipe"));
    let script = format!(
        "git init -q '{1}' && cd '{1}' && sed 's/harness-test-public/{network}/' '{0}/compose.yml' >compose.yml && \
         git add -A && git -c user.name=m -c user.email=m@example.org commit -qm 'First release'",
        source.display(),
        recipe.display()
    );
    let made = finish(&Run::new("sh", ["-ec", &script]));
    assert_eq!(made.code, 0, "{made}");
    recipe
}

/// The daemon of this machine, behind TLS on loopback. It ends with its test.
pub struct Daemon {
    pub host: String,
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub fn start() -> Daemon {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        make_certificates(dir.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config(dir.path())));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await?;
                    let mut docker = UnixStream::connect("/var/run/docker.sock").await?;
                    tokio::io::copy_bidirectional(&mut client, &mut docker).await
                });
            }
        });
        Daemon { host, dir, _runtime: runtime }
    }

    /// A directory as `DOCKER_CERT_PATH` names it.
    pub fn certificates(&self, who: &str) -> PathBuf {
        let dir = self.dir.path().join(format!("{who}-certificates"));
        std::fs::create_dir_all(&dir).unwrap();
        for (from, to) in
            [("ca.pem".to_owned(), "ca.pem"), (format!("{who}.pem"), "cert.pem"), (format!("{who}-key.pem"), "key.pem")]
        {
            std::fs::copy(self.dir.path().join(from), dir.join(to)).unwrap();
        }
        dir
    }
}

/// An authority, and a certificate of it for the daemon and for its client.
fn make_certificates(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    write("ca.pem", authority.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(authority, key);
    for who in ["daemon", "client"] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority);
        write(&format!("{who}.pem"), certificate.unwrap().pem());
        write(&format!("{who}-key.pem"), key.serialize_pem());
    }
}

fn config(dir: &Path) -> ServerConfig {
    let certificate = |name: &str| CertificateDer::from_pem_file(dir.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("daemon-key.pem")).unwrap();
    ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate("daemon.pem")], key)
        .unwrap()
}
