//! Credentials from Docker's `config.json`, as `docker login` writes it without a credential helper.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use data_encoding::BASE64;
use serde::Deserialize;

/// What a registry is shown.
// Only tests may print one: it is a secret.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Anonymous,
    /// Name and password.
    Password(String, String),
    /// A token that the registry itself gave out.
    Token(String),
}

/// The credentials for a registry: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, else none.
pub(super) fn find(registry: &str) -> Result<Login> {
    let Some(path) = config_path(|key| std::env::var_os(key)) else { return Ok(Login::Anonymous) };
    match std::fs::read(&path) {
        Ok(bytes) => choose(&bytes, registry).with_context(|| format!("failed to read `{}`", path.display())),
        // Under `sudo -u` the home directory may be that of somebody else, whose logins are not ours.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(Login::Anonymous),
        Err(error) => Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    }
}

fn config_path(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |key| env(key).filter(|value| !value.is_empty());
    let dir = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(Path::new(&set("HOME")?).join(".docker")))?;
    Some(dir.join("config.json"))
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    registrytoken: String,
}

/// Errors say where, never what: this file is full of secrets.
fn choose(bytes: &[u8], registry: &str) -> Result<Login> {
    let config: DockerConfig = serde_json::from_slice(bytes)
        .map_err(|error| anyhow!("it is not what Docker writes, at line {} column {}", error.line(), error.column()))?;
    let entry = config.auths.into_iter().find(|(name, _)| host(name) == host(registry));
    match entry {
        None => Ok(Login::Anonymous),
        Some((name, entry)) => entry.credentials().with_context(|| format!("the entry for `{name}` is not readable")),
    }
}

impl Entry {
    fn credentials(self) -> Result<Login> {
        if !self.registrytoken.is_empty() {
            return Ok(Login::Token(self.registrytoken));
        }
        if !self.auth.is_empty() {
            // The cause is left out, since it could quote the secret.
            let decoded = BASE64.decode(self.auth.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.context("its `auth` is not base64")?;
            let (username, password) = decoded.split_once(':').context("its `auth` has no colon")?;
            return Ok(Login::Password(username.to_owned(), password.trim_end_matches('\0').to_owned()));
        }
        // An empty entry means that the secret is with a credential helper.
        let has_password = !self.username.is_empty() && !self.password.is_empty();
        Ok(if has_password { Login::Password(self.username, self.password) } else { Login::Anonymous })
    }
}

/// The host of a registry, which the file may give as an address: Docker Hub is `https://index.docker.io/v1/`.
fn host(name: &str) -> &str {
    let bare = name.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if matches!(host, "docker.io" | "registry-1.docker.io") { "index.docker.io" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, registry: &str) -> Result<Login> {
        choose(config.as_bytes(), registry)
    }

    fn basic(username: &str, password: &str) -> Login {
        Login::Password(username.to_owned(), password.to_owned())
    }

    #[test]
    fn the_entry_of_the_registry_is_used() {
        let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOmEtaHVi"},
            "localhost:5000":{"username":"me","password":"pass:word"},"ghcr.io":{"registrytoken":"t"}}}"#;
        assert_eq!(check(config, "index.docker.io").unwrap(), basic("hub", "a-hub"));
        assert_eq!(check(config, "localhost:5000").unwrap(), basic("me", "pass:word"));
        assert_eq!(check(config, "ghcr.io").unwrap(), Login::Token("t".into()));
        assert_eq!(check(config, "localhost:5001").unwrap(), Login::Anonymous);
    }

    #[test]
    fn without_an_entry_or_with_a_helper_access_is_anonymous() {
        for config in ["{}", r#"{"auths":{"quay.io":{}},"credsStore":"pass"}"#] {
            assert_eq!(check(config, "quay.io").unwrap(), Login::Anonymous);
        }
    }

    #[test]
    fn a_broken_entry_is_an_error_that_does_not_quote_it() {
        let error = check(r#"{"auths":{"quay.io":{"auth":"c2VjcmV0!"}}}"#, "quay.io").unwrap_err();
        assert_eq!(format!("{error:#}"), "the entry for `quay.io` is not readable: its `auth` is not base64");
        let error = check(r#"{"auths":{"quay.io":{"password":271828}}}"#, "quay.io").unwrap_err();
        assert_eq!(format!("{error:#}"), "it is not what Docker writes, at line 1 column 38");
    }

    #[test]
    fn the_file_is_where_docker_looks_for_it() {
        let env = |pairs: &'static [(&str, &str)]| {
            config_path(move |key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.into()))
        };
        assert_eq!(env(&[("HOME", "/h"), ("DOCKER_CONFIG", "/c")]), Some("/c/config.json".into()));
        assert_eq!(env(&[("HOME", "/h"), ("DOCKER_CONFIG", "")]), Some("/h/.docker/config.json".into()));
        assert_eq!(env(&[]), None);
    }
}
