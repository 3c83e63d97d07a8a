//! `harness init`: a first overlay of a recipe, from what its compose files say.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::config::Config;
use crate::config::cli::Cli;
use crate::program::root;
use crate::recipe::abra::Form;
use crate::recipe::stack::{HealthTest, MountKind, Service};
use crate::recipe::{AppState, Recipe};

/// Files that databases keep to themselves, by the name of their image, and the port at which they answer.
const DATABASES: [(&str, u16); 7] = [
    ("postgres", 5432),
    ("mariadb", 3306),
    ("mysql", 3306),
    ("redis", 6379),
    ("valkey", 6379),
    ("keydb", 6379),
    ("mongo", 27017),
];

/// A file of an overlay that is not written yet.
#[derive(Debug)]
pub struct Draft {
    pub path: PathBuf,
    pub text: String,
}

/// The files for a recipe: of its published head, or of a working copy. One that is there already is an error.
pub fn drafts(recipe: &str, working_copy: Option<&Path>) -> Result<Vec<Draft>> {
    let cli = Cli { recipe: vec![recipe.to_owned()], recipe_dir: working_copy.map(Path::to_owned), ..Cli::default() };
    let config = Config::resolve(&cli, &|key| std::env::var(key).ok(), &root(), recipe)?;
    let folder = config.overlay.clone();
    let missing = |name: &&str| !folder.join(name).exists();
    let wanted: Vec<&str> = [TOML, CHECK].into_iter().filter(missing).collect();
    if wanted.is_empty() {
        bail!("`{}` is there already, and what somebody wrote is not written over", folder.join(TOML).display());
    }
    let opened = Recipe::open(&config.recipe, &config.sources, &config.state, &config.reference, None)?;
    let domain = format!("{recipe}.{}", config.zone);
    let form = Form::Chaos { revision: opened.head.clone() };
    let state = opened.state(&opened.head, &domain, &Default::default(), None, &form);
    let state = state.with_context(|| format!("failed to read the head {}", opened.head))?;
    let text = |name| if name == TOML { toml(recipe, &state) } else { check(&state) };
    Ok(wanted.into_iter().map(|name| Draft { path: folder.join(name), text: text(name) }).collect())
}

const TOML: &str = "recipe.toml";
const CHECK: &str = "test_install_first.sh";

impl Draft {
    /// Writes it, if nothing is there.
    pub fn write(&self) -> Result<()> {
        let failed = || format!("failed to write `{}`", self.path.display());
        std::fs::create_dir_all(self.path.parent().context("a file without a folder")?).with_context(failed)?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&self.path);
        file.and_then(|mut file| file.write_all(self.text.as_bytes())).with_context(failed)
    }
}

/// The text of `recipe.toml`.
fn toml(recipe: &str, state: &AppState) -> String {
    let mut out = format!("# What is particular about testing {recipe}. All keys: docs/configuration.md.\n#\n");
    for (name, service) in &state.stack.services {
        let _ = writeln!(out, "# service `{name}`: {}{}", service.image, volumes_of(service));
    }
    let _ = writeln!(out, "\n[http]\npath = {}", quoted(&path(state)));
    for (name, service) in &state.stack.services {
        if let Some(port) = database(service) {
            let _ = writeln!(out, "\n[[ready]]\nservice = {}\ntcp = {port}", quoted(name));
        }
    }
    out.push_str(&data(state));
    out
}

fn volumes_of(service: &Service) -> String {
    let volumes = service.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => Some(format!("; volume `{volume}` at {}", mount.target)),
        _ => None,
    });
    volumes.collect()
}

/// A file in a volume: of a backed-up one, if there is any, and of no database, whose folder is its own.
fn data(state: &AppState) -> String {
    let is_held = |volume: &str| {
        let held = state.backup.services.iter().flat_map(|service| &service.volumes);
        held.into_iter().any(|it| it.volume == volume && it.paths.is_empty())
    };
    let services = state.stack.services.iter().filter(|(_, service)| database(service).is_none());
    let mut places: Vec<(bool, &str, &str, &str)> = services
        .flat_map(|(name, service)| service.mounts.iter().map(move |mount| (name.as_str(), mount)))
        .filter_map(|(name, mount)| match &mount.kind {
            MountKind::Volume(volume) if !mount.read_only => {
                Some((is_held(volume), name, volume.as_str(), mount.target.as_str()))
            }
            _ => None,
        })
        .collect();
    places.sort_by_key(|(held, ..)| !held);
    let Some((held, service, volume, target)) = places.first() else {
        return "\n# No service but a database has a volume. Data in one: `run`, `expect_run` and `ruin`, see \
                docs/overlays.md.\n"
            .into();
    };
    let file = quoted(&format!("{}/harness-first-check.txt", target.trim_end_matches('/')));
    let mut out = format!(
        "\n# This file in the volume `{volume}` must survive. What people would miss is better: a page, an entry, an \
         upload.\n[[data]]\nname = \"first_check\"\nservice = {}\nwrite = {file}\ntext = \"kept\"\nread = {file}\n",
        quoted(service)
    );
    if !held {
        let _ = writeln!(out, "# No backup label holds the whole of this volume.\nrestore = false");
    }
    out
}

/// What the app's own health check asks for, else the top.
fn path(state: &AppState) -> String {
    let route = state.route.as_ref().ok();
    let service = route.and_then(|route| state.stack.services.get(&route.service));
    service.and_then(asked_path).unwrap_or_else(|| "/".into())
}

fn asked_path(service: &Service) -> Option<String> {
    let words = match service.healthcheck.as_ref()?.test.as_ref()? {
        HealthTest::Cmd(words) => words.join(" "),
        HealthTest::Shell(line) => line.clone(),
        HealthTest::None => return None,
    };
    let rest = ["http://localhost", "http://127.0.0.1"].iter().find_map(|start| words.split(start).nth(1))?;
    let rest = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
    let end = rest.find(|c: char| c.is_whitespace() || "'\"|;)".contains(c)).unwrap_or(rest.len());
    rest[..end].starts_with('/').then(|| rest[..end].to_owned())
}

fn database(service: &Service) -> Option<u16> {
    let name = service.image.rsplit('/').next().unwrap_or_default();
    let name = name.split([':', '@']).next().unwrap_or_default();
    DATABASES.iter().find(|(image, _)| name == *image).map(|(_, port)| *port)
}

/// The text of the first check, in shell.
fn check(state: &AppState) -> String {
    let mut out = String::from(
        "# Runs after the install, in a cage: exit code 0 passes, 77 could not look. $APP_URL is the app, $APP_CALLS answers\n\
         # questions about it: docs/overlays.md.\n",
    );
    if state.route.is_ok() {
        let _ = writeln!(out, "curl -sS --max-time 20 -o /dev/null \"$APP_URL{}\"", path(state));
    }
    for (name, service) in &state.stack.services {
        let targets = service.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume(_)));
        for mount in targets {
            let question = serde_json::json!({ "service": name, "argv": ["ls", "-d", mount.target] });
            let _ = writeln!(
                out,
                "curl -sS --fail-with-body \"$APP_CALLS/exec?raw\" -d {}",
                in_quotes(&question.to_string())
            );
        }
    }
    if !out.contains("curl") {
        out.push_str("curl -sS --fail-with-body \"$APP_CALLS/services\"\n");
    }
    out
}

/// A word of a shell, whatever stands in it.
fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::Healthcheck;

    fn with_check(test: HealthTest) -> Service {
        let healthcheck = Healthcheck { test: Some(test), ..Default::default() };
        Service { healthcheck: Some(healthcheck), ..Service::default() }
    }

    #[test]
    fn the_path_is_what_the_health_check_asks_for() {
        for (line, expected) in [
            ("curl -f http://localhost:3000/api/health || exit 1", Some("/api/health")),
            ("wget -q 'http://127.0.0.1/ping'", Some("/ping")),
            ("curl http://localhost:80", None),
            ("pg_isready", None),
        ] {
            let service = with_check(HealthTest::Shell(line.into()));
            assert_eq!(asked_path(&service).as_deref(), expected, "{line}");
        }
        let words = ["curl", "-f", "http://localhost/x"].map(str::to_owned).into();
        assert_eq!(asked_path(&with_check(HealthTest::Cmd(words))).as_deref(), Some("/x"));
    }

    #[test]
    fn a_database_is_known_by_its_image() {
        let database = |image: &str| database(&Service { image: image.into(), ..Service::default() });
        assert_eq!(database("docker.io/library/postgres:16-alpine"), Some(5432));
        assert_eq!(database("mariadb@sha256:0"), Some(3306));
        assert_eq!(database("postgres-exporter:1"), None);
    }

    #[test]
    fn a_word_of_a_shell_keeps_its_quotes() {
        assert_eq!(in_quotes("it's"), "'it'\\''s'");
        assert_eq!(quoted("a \"b\" \\"), r#"'a "b" \'"#);
    }
}
