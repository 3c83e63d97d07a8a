//! Whether abra can be used here: the binary, its version, and the server it would deploy to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::commands;
use crate::engine::swarm::endpoint::Endpoint;
use crate::process::Run;

/// An abra, and the server that it is pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub program: PathBuf,
    pub version: String,
    pub server: String,
    pub catalogue: Option<PathBuf>,
    /// What a reader of the run should know.
    pub notes: Vec<String>,
}

/// The binary, and what it says it is.
pub struct Program {
    pub path: PathBuf,
    pub version: String,
}

impl Program {
    /// What a reader should know of a version that these commands were never seen to work with.
    pub fn warning(&self) -> Option<String> {
        if commands::KNOWN.iter().any(|known| self.version.starts_with(known)) {
            return None;
        }
        let known: Vec<String> = commands::KNOWN.iter().map(|known| format!("{known}x")).collect();
        Some(format!("abra {} is not known to work with this harness; known are {}", self.version, known.join(", ")))
    }
}

/// Reads a variable of the environment.
type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Looks for the binary on `PATH` and for a server below the operator's `$ABRA_DIR`.
pub async fn find(env: Env<'_>, wanted: Option<&str>) -> Result<Found> {
    // A server first: without one it does not matter which abra there is, unless there is none at all.
    let path = on_path(env)?;
    let server = server(env, wanted)?;
    let program = ask(path).await?;
    let catalogue = Some(home(env)?.join("catalogue")).filter(|dir| dir.is_dir());
    let notes = program.warning().into_iter().collect();
    Ok(Found { program: program.path, version: program.version, server, catalogue, notes })
}

/// What a reader should know of an abra that has a server and that nobody has asked for: one line, if there is one.
pub fn would_be_used(env: Env<'_>) -> Option<String> {
    on_path(env).ok()?;
    let servers = servers(&home(env).ok()?.join("servers")).ok()?;
    let several = if servers.len() > 1 { "servers" } else { "server" };
    let what = match choose_of(&servers, None) {
        Some(_) if servers.len() == 1 => "would use it".to_owned(),
        Some(server) => format!("would use `{server}`"),
        None if servers.is_empty() => return None,
        None => "with `server` below `[abra]` in `harness.toml` would use one of them".to_owned(),
    };
    Some(format!("abra has the {several} {}: `--engine abra` {what}", listed(&servers)))
}

/// The `abra` on `PATH`, asked for its version.
pub async fn program(env: Env<'_>) -> Result<Program> {
    ask(on_path(env)?).await
}

fn on_path(env: Env<'_>) -> Result<PathBuf> {
    let path = env("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|dir| dir.join("abra")).find(|file| is_program(file));
    let program = program.context("there is no `abra` on `PATH`")?;
    // It is started elsewhere, by the keeper.
    std::path::absolute(&program).with_context(|| format!("failed to find `{}`", program.display()))
}

async fn ask(path: PathBuf) -> Result<Program> {
    let scratch = tempfile::tempdir().context("failed to make a directory for abra")?;
    let asked = Run::new(&path, ["--version"]).env("ABRA_DIR", scratch.path()).on_terminal().await;
    let asked = asked.with_context(|| format!("failed to ask `{}` for its version", path.display()))?;
    let text = String::from_utf8_lossy(&asked.stdout).into_owned();
    let Some(version) = commands::version(&text) else {
        let said = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
        bail!("`{} --version` was expected to say `abra version …`, and says: {said}", path.display());
    };
    Ok(Program { path, version })
}

/// The operator's `$ABRA_DIR`.
fn home(env: Env<'_>) -> Result<PathBuf> {
    let env = |key: &str| env(key).filter(|value| !value.is_empty());
    let dir = match (env("ABRA_DIR"), env("HOME")) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(home)) => Path::new(&home).join(".abra"),
        (None, None) => bail!("neither `ABRA_DIR` nor `HOME` says where abra keeps its servers"),
    };
    std::path::absolute(&dir).with_context(|| format!("failed to find `{}`", dir.display()))
}

/// Whether a file can be executed by somebody.
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// The server to deploy to: the one that was asked for, else the only one.
pub fn server(env: Env<'_>, wanted: Option<&str>) -> Result<String> {
    choose(&home(env)?.join("servers"), wanted)
}

/// The Docker behind a server. abra deploys to the context of the server's name, whatever `DOCKER_HOST` says.
pub fn endpoint(env: Env<'_>, server: &str) -> Result<Endpoint> {
    Endpoint::find(&|key| match key {
        "DOCKER_HOST" => None,
        "DOCKER_CONTEXT" => Some(server.to_owned()),
        key => env(key),
    })
}

fn choose(dir: &Path, wanted: Option<&str>) -> Result<String> {
    let add = "`abra server add` makes one";
    if !dir.exists() {
        bail!("abra has no server: there is no `{}`; {add}", dir.display());
    }
    let names = servers(dir)?;
    match (choose_of(&names, wanted), wanted) {
        (Some(server), _) => Ok(server),
        (None, Some(wanted)) => bail!("abra has no server `{wanted}`: it has {}", listed(&names)),
        (None, None) if names.is_empty() => bail!("abra has no server in `{}`; {add}", dir.display()),
        (None, None) => bail!(
            "abra has {} servers, {}: `server` below `[abra]` in `harness.toml` says which",
            names.len(),
            listed(&names)
        ),
    }
}

/// The one that was asked for, else the only one, else this machine's.
fn choose_of(names: &[String], wanted: Option<&str>) -> Option<String> {
    match (wanted, names) {
        (None, [only]) => Some(only.clone()),
        (wanted, names) => names.iter().find(|name| *name == wanted.unwrap_or("default")).cloned(),
    }
}

fn servers(dir: &Path) -> Result<Vec<String>> {
    let failed = || format!("failed to list `{}`", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { format!("`{}`", names.join("`, `")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(servers: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for server in servers {
            std::fs::create_dir_all(home.path().join("servers").join(server)).unwrap();
        }
        home
    }

    fn chosen(servers: &[&str], wanted: Option<&str>) -> Result<String, String> {
        let home = home(servers);
        let dir = home.path().join("servers");
        let place = dir.display().to_string();
        choose(&dir, wanted).map_err(|error| error.to_string().replace(&place, "DIR"))
    }

    #[test]
    fn the_only_server_is_taken_and_of_several_the_one_on_this_machine() {
        assert_eq!(chosen(&["a.example.org"], None), Ok("a.example.org".into()));
        assert_eq!(chosen(&["a.example.org", "default"], None), Ok("default".into()));
        assert_eq!(chosen(&["a.example.org", "b"], Some("b")), Ok("b".into()));
    }

    #[test]
    fn without_a_server_the_message_says_what_to_do() {
        let none = chosen(&[], None).unwrap_err();
        assert_eq!(none, "abra has no server: there is no `DIR`; `abra server add` makes one");
        let several = chosen(&["a", "b"], None).unwrap_err();
        assert_eq!(several, "abra has 2 servers, `a`, `b`: `server` below `[abra]` in `harness.toml` says which");
        assert_eq!(chosen(&["a"], Some("x")).unwrap_err(), "abra has no server `x`: it has `a`");
    }

    #[test]
    fn an_abra_that_nobody_asked_for_is_told_with_its_servers() {
        let said = |servers: &[&str], with_abra: bool| {
            let home = home(servers);
            std::fs::write(home.path().join("abra"), "").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(if with_abra { 0o755 } else { 0o644 });
            std::fs::set_permissions(home.path().join("abra"), mode).unwrap();
            let dir = home.path().display().to_string();
            would_be_used(&|key| matches!(key, "PATH" | "ABRA_DIR").then(|| dir.clone()))
        };
        let one = "abra has the server `a.example.org`: `--engine abra` would use it";
        assert_eq!(said(&["a.example.org"], true).as_deref(), Some(one));
        let local = "abra has the servers `a`, `default`: `--engine abra` would use `default`";
        assert_eq!(said(&["a", "default"], true).as_deref(), Some(local));
        let several = "abra has the servers `a`, `b`: `--engine abra` with `server` below `[abra]` in `harness.toml` would \
                       use one of them";
        assert_eq!(said(&["a", "b"], true).as_deref(), Some(several));
        assert_eq!((said(&[], true), said(&["a"], false)), (None, None));
    }

    fn abra(script: &str) -> (tempfile::TempDir, impl Fn(&str) -> Option<String>) {
        use std::os::unix::fs::PermissionsExt as _;
        let home = home(&["default"]);
        let program = home.path().join("abra");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let dir = home.path().display().to_string();
        (home, move |key: &str| matches!(key, "PATH" | "ABRA_DIR").then(|| dir.clone()))
    }

    #[tokio::test]
    async fn a_known_version_is_taken_and_an_unknown_one_warned_of() {
        let (home, env) = abra("echo abra version 0.13.0-beta");
        let found = find(&env, None).await.unwrap();
        let expected = Found {
            program: home.path().join("abra"),
            version: "0.13.0-beta".into(),
            server: "default".into(),
            catalogue: None,
            notes: vec![],
        };
        assert_eq!(found, expected);
        let (_home, env) = abra("echo abra version 9.9.9");
        let notes = find(&env, None).await.unwrap().notes;
        assert_eq!(notes, ["abra 9.9.9 is not known to work with this harness; known are 0.13.x"]);
    }

    #[tokio::test]
    async fn no_abra_and_something_else_of_that_name_are_told_apart() {
        let none = find(&|key| (key == "HOME").then(|| "/nowhere".into()), None).await.unwrap_err().to_string();
        assert_eq!(none, "there is no `abra` on `PATH`");
        let (home, env) = abra("echo I am a magic spell");
        let other = find(&env, None).await.unwrap_err().to_string().replace(home.path().to_str().unwrap(), "DIR");
        assert_eq!(other, "`DIR/abra --version` was expected to say `abra version …`, and says: I am a magic spell");
    }
}
