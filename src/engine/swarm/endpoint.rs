//! Which Docker to talk to, decided as the docker CLI decides it: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context
//! of `config.json`, and the default socket.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bollard::{API_DEFAULT_VERSION, Docker};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::alive::HANGS;
use super::tunnel;
use crate::recipe::suggest::listed;

/// The socket of a Docker on this machine.
const LOCAL: &str = "unix:///var/run/docker.sock";

/// One request may take this long; streams and pulls are bounded by their callers.
const TIMEOUT: u64 = 120;

/// The first request asks for no more than a version.
const CONNECT: Duration = Duration::from_secs(15);

/// A Docker, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `unix://…`, `tcp://…` or `ssh://…`.
    pub host: String,
    /// A directory with `ca.pem`, `cert.pem` and `key.pem`, when the connection is to be encrypted.
    pub tls: Option<PathBuf>,
    /// What decided it, for people.
    pub origin: String,
}

impl Endpoint {
    /// Finds the endpoint. `env` reads the environment, so that tests need not touch the process's own.
    pub fn find(env: &dyn Fn(&str) -> Option<String>) -> Result<Endpoint> {
        let env = |key: &str| env(key).filter(|value| !value.is_empty());
        let config = match (env("DOCKER_CONFIG"), env("HOME")) {
            (Some(dir), _) => Some(PathBuf::from(dir)),
            (None, home) => home.map(|home| Path::new(&home).join(".docker")),
        };
        if let Some(host) = env("DOCKER_HOST") {
            let certificates = env("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config.clone());
            let tls = if env("DOCKER_TLS_VERIFY").is_some() { certificates } else { None };
            return Ok(Endpoint { host, tls, origin: "DOCKER_HOST".into() });
        }
        let Some(config) = config else { return Ok(Endpoint::local()) };
        let named = match env("DOCKER_CONTEXT") {
            Some(name) => Some((name, "DOCKER_CONTEXT")),
            None => current_context(&config)?.map(|name| (name, "the current context")),
        };
        match named.filter(|(name, _)| name != "default") {
            Some((name, origin)) => context(&config, &name, origin),
            None => Ok(Endpoint::local()),
        }
    }

    fn local() -> Endpoint {
        Endpoint { host: LOCAL.into(), tls: None, origin: "the default socket".into() }
    }

    /// Whether the daemon runs on this machine, so that its containers' addresses can be reached from here.
    pub fn is_local(&self) -> bool {
        self.host.starts_with("unix://")
    }

    /// Connects, and agrees on a version of the API that both sides speak.
    pub async fn connect(&self) -> Result<Docker> {
        let attempt = || format!("failed to connect to Docker at `{}` ({})", self.host, self.origin);
        let docker = self.client().with_context(attempt)?;
        let agreed = tokio::time::timeout(CONNECT, docker.negotiate_version()).await;
        let late = || anyhow!("{HANGS}it did not say its version within {}", humantime::format_duration(CONNECT));
        agreed.map_err(|_| late()).and_then(|agreed| Ok(agreed?)).with_context(attempt)
    }

    /// Why nobody answers at a socket of this machine, in a few words; `None` when somebody does, or when that cannot be
    /// told.
    pub fn silence(&self) -> Option<String> {
        let path = self.host.strip_prefix("unix://")?;
        let error = UnixStream::connect(path).err()?;
        Some(match error.kind() {
            ErrorKind::NotFound => "there is no Docker here".into(),
            ErrorKind::PermissionDenied => match group_of(Path::new(path)) {
                Some(group) => format!("Docker is here, but you are not in the group `{group}`"),
                None => format!("Docker is here, but you may not open its socket `{path}`"),
            },
            ErrorKind::ConnectionRefused => format!("nobody answers at Docker's socket `{path}`: does Docker run"),
            _ => return None,
        })
    }

    fn client(&self) -> Result<Docker> {
        let version = API_DEFAULT_VERSION;
        let host = &self.host;
        Ok(match (host.split_once("://"), &self.tls) {
            (Some(("unix", path)), _) => {
                // The client would only say that a connection failed; the usual reasons are worth their names.
                match UnixStream::connect(path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        bail!("there is no socket `{path}`: is Docker installed, and does it run")
                    }
                    connected => connected.with_context(|| format!("failed to open the socket `{path}`"))?,
                };
                Docker::connect_with_unix(host, TIMEOUT, version)?
            }
            (Some(("tcp" | "https", _)), Some(dir)) => {
                let file = |name: &str| dir.join(name);
                let (key, cert, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
                for path in [&key, &cert, &ca] {
                    std::fs::metadata(path).with_context(|| format!("failed to read `{}`", path.display()))?;
                }
                Docker::connect_with_ssl(host, &key, &cert, &ca, TIMEOUT, version)?
            }
            (Some(("tcp" | "http", _)), None) => Docker::connect_with_http(host, TIMEOUT, version)?,
            (Some(("ssh", _)), _) => tunnel::client(host, TIMEOUT, version)?,
            _ => bail!("`{host}` is no address of a Docker: expected `unix://…`, `tcp://…` or `ssh://…`"),
        })
    }

    /// The environment under which the docker CLI talks to the same Docker.
    pub fn cli_env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![("DOCKER_HOST", self.host.clone())];
        if let (true, Ok(agent)) = (self.host.starts_with("ssh://"), std::env::var("SSH_AUTH_SOCK")) {
            env.push(("SSH_AUTH_SOCK", agent));
        }
        if let Some(dir) = &self.tls {
            env.push(("DOCKER_TLS_VERIFY", "1".into()));
            env.push(("DOCKER_CERT_PATH", dir.display().to_string()));
        }
        env
    }
}

/// The group that may open a socket, when it is not one of this process's.
fn group_of(socket: &Path) -> Option<String> {
    let about = std::fs::metadata(socket).ok()?;
    let own = rustix::process::getgroups().ok()?;
    if about.mode() & 0o060 != 0o060 || own.iter().any(|group| group.as_raw() == about.gid()) {
        return None;
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == about.gid().to_string()).then(|| name.to_owned())
    };
    groups.lines().find_map(named)
}

/// `currentContext` of the CLI's configuration, if there is one.
fn current_context(config: &Path) -> Result<Option<String>> {
    let path = config.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    };
    let json: Value =
        serde_json::from_slice(&text).with_context(|| format!("failed to understand `{}`", path.display()))?;
    Ok(json["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned))
}

/// A context, as `docker context create` stores it: below a directory named after the hash of its name.
fn context(config: &Path, name: &str, origin: &str) -> Result<Endpoint> {
    let id = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "there is no Docker context `{name}` ({origin}): there are {}",
                listed(contexts(config).iter().map(String::as_str), 8)
            )
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("failed to read the docker context `{name}` from `{}`", path.display()));
        }
    };
    let json: Value =
        serde_json::from_slice(&text).with_context(|| format!("failed to understand `{}`", path.display()))?;
    let docker = &json["Endpoints"]["docker"];
    let Some(host) = docker["Host"].as_str().filter(|host| !host.is_empty()) else {
        bail!("the docker context `{name}` names no host (`{}`)", path.display());
    };
    if docker["SkipTLSVerify"].as_bool() == Some(true) {
        bail!(
            "the docker context `{name}` does not verify its server's certificate: nothing is deployed to such a one"
        );
    }
    let tls = config.join("contexts/tls").join(&id).join("docker");
    let tls = tls.is_dir().then_some(tls);
    Ok(Endpoint { host: host.to_owned(), tls, origin: format!("{origin} `{name}`") })
}

/// The names of the contexts that there are.
fn contexts(config: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(config.join("contexts/meta")).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let json: Value = serde_json::from_slice(&std::fs::read(entry.path().join("meta.json")).ok()?).ok()?;
        Some(json["Name"].as_str()?.to_owned())
    };
    let mut names: Vec<String> = entries.filter_map(name).chain(["default".to_owned()]).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    fn find(env: &[(&str, &str)]) -> Result<Endpoint> {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Endpoint::find(&|key| env.get(key).cloned())
    }

    /// A configuration directory with one context, as the CLI writes it.
    fn with_context(name: &str, docker: &str, tls: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let id = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
        let meta = dir.path().join("contexts/meta").join(&id);
        fs::create_dir_all(&meta).unwrap();
        fs::write(meta.join("meta.json"), format!("{{\"Name\":\"{name}\",\"Endpoints\":{{\"docker\":{docker}}}}}"))
            .unwrap();
        if tls {
            fs::create_dir_all(dir.path().join("contexts/tls").join(&id).join("docker")).unwrap();
        }
        dir
    }

    #[test]
    fn nothing_said_means_the_default_socket() {
        assert_eq!(find(&[]).unwrap(), Endpoint::local());
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find(&[("HOME", empty.path().to_str().unwrap())]).unwrap(), Endpoint::local());
        assert!(Endpoint::local().is_local());
    }

    #[test]
    fn docker_host_comes_before_contexts_and_brings_its_certificates() {
        let host = [("DOCKER_HOST", "tcp://a:2376"), ("DOCKER_CONTEXT", "b"), ("HOME", "/home/m")];
        let endpoint = find(&host).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.tls.clone()), ("tcp://a:2376", None));
        assert!(!endpoint.is_local());
        let verified = find(&[host[0], ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")]).unwrap();
        assert_eq!(verified.tls.as_deref(), Some(Path::new("/certs")));
        let env = [("DOCKER_HOST", "tcp://a:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        assert_eq!(verified.cli_env(), env.map(|(key, value)| (key, value.to_owned())));
        let by_home = find(&[host[0], ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/m")]).unwrap();
        assert_eq!(by_home.tls.as_deref(), Some(Path::new("/home/m/.docker")));
    }

    #[test]
    fn a_context_is_found_by_name_and_by_configuration() {
        let dir = with_context("prod", r#"{"Host":"tcp://prod:2376"}"#, true);
        let config = dir.path().to_str().unwrap();
        let named = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "prod")]).unwrap();
        assert_eq!((named.host.as_str(), named.origin.as_str()), ("tcp://prod:2376", "DOCKER_CONTEXT `prod`"));
        assert!(named.tls.unwrap().ends_with("docker"));
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"prod"}"#).unwrap();
        assert_eq!(find(&[("DOCKER_CONFIG", config)]).unwrap().origin, "the current context `prod`");
        let default = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "default")]).unwrap();
        assert_eq!(default, Endpoint::local());
    }

    #[test]
    fn a_context_that_is_not_there_or_not_verified_is_an_error() {
        let dir = with_context("loose", r#"{"Host":"tcp://x:2376","SkipTLSVerify":true}"#, true);
        let config = dir.path().to_str().unwrap();
        let error = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "loose")]).unwrap_err().to_string();
        assert!(error.starts_with("the docker context `loose` does not verify"), "{error}");
        let error = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "none")]).unwrap_err().to_string();
        assert_eq!(error, "there is no Docker context `none` (DOCKER_CONTEXT): there are `default`, `loose`");
        fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = format!("{:#}", find(&[("DOCKER_CONFIG", config)]).unwrap_err());
        assert!(error.starts_with("failed to understand `"), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_be_connected_to_is_said_with_its_origin() {
        let local = Endpoint { host: "unix:///nowhere/docker.sock".into(), ..Endpoint::local() };
        let error = format!("{:#}", local.connect().await.unwrap_err());
        let expected = "failed to connect to Docker at `unix:///nowhere/docker.sock` (the default socket): there is no \
                        socket `/nowhere/docker.sock`: is Docker installed, and does it run";
        assert_eq!(error, expected);
        let odd = Endpoint { host: "docker.example.org".into(), ..Endpoint::local() };
        assert!(format!("{:#}", odd.connect().await.unwrap_err()).contains("is no address of a Docker"));
        // Nobody listens there, and `ssh` itself says so: user, host and port have reached it.
        let ssh = Endpoint { host: "ssh://someone@127.0.0.1:1".into(), ..Endpoint::local() };
        let error = format!("{:#}", ssh.connect().await.unwrap_err());
        assert!(
            error.starts_with("failed to connect to Docker at `ssh://someone@127.0.0.1:1` (the default socket): "),
            "{error}"
        );
        assert!(error.ends_with("connect to host 127.0.0.1 port 1: Connection refused"), "{error}");
        let tls = Endpoint { host: "tcp://127.0.0.1:1".into(), tls: Some("/nowhere".into()), ..Endpoint::local() };
        assert!(format!("{:#}", tls.connect().await.unwrap_err()).contains("failed to read `/nowhere/key.pem`"));
    }
}
