//! The two configuration files: `harness.toml` for the whole checkout, `overlays/<recipe>/recipe.toml` for one recipe.
//!
//! Every key is declared here and nowhere else; unknown keys are errors. `docs/configuration.md` is made from these
//! comments, and a test holds it to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::data::{self, Data};
use super::page::Http;
use crate::recipe::policy::Policy;
use crate::recipe::source::address::redact_all;
use crate::tier::Tier;

/// `harness.toml`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HarnessToml {
    /// What deploys: `abra`, `swarm`, `embedded`, or `auto`: a Swarm behind a Unix socket of this machine, else
    /// `embedded`, and which and why is said. abra, and whatever is on another machine, is used only when it is named.
    #[schemars(extend("enum" = ["auto", "abra", "swarm", "embedded"]))]
    pub engine: Option<String>,
    /// The domain below which every run gets a name of its own, such as `cust-3fa9c1.harness.test`.
    pub zone: Option<String>,
    /// How many finished runs of each recipe are kept, with journal and logs; older ones are removed.
    pub keep_runs: Option<usize>,
    /// How long a run leaves its app up for the next run of the same thing, as `10m`, and 7 days at most; `HARNESS_WARM`
    /// comes before it. Not at all when neither is given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub warm: Option<Duration>,
    /// The list of recipes whose own tests and install steps may run; `repo-local-approved.txt` when not given.
    pub repo_local_approved: Option<String>,
    /// Whether the app is photographed after install and upgrade, where there is a Chromium; with `CI=true` alone when not
    /// given, because it takes seconds.
    pub screenshots: Option<bool>,
    /// The Chromium to take pictures with, when it is not the one on `PATH`.
    pub chromium: Option<std::path::PathBuf>,
    pub recipes: RecipesSection,
    pub embedded: EmbeddedSection,
    pub swarm: SwarmSection,
    pub abra: AbraSection,
    /// Deadlines for every recipe; `recipe.toml` and the recipe's own timeout label come before these.
    pub deadlines: Deadlines,
    /// What the compose files of every recipe may declare beyond the defaults.
    pub policy: Policy,
}

/// Where recipes come from.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecipesSection {
    /// The recipe of a generic trial that is run by its name alone, as "Run test" in an editor does.
    pub default: Option<String>,
    /// Tried in this order: a folder of this checkout that has a directory named after the recipe, a path, or a git
    /// address over `https` in which `{recipe}` stands for the name. When not given: `recipes`, and Co-op Cloud's forge.
    pub sources: Vec<String>,
    /// Whether an address may be one of `ssh`, too, which takes the keys of whoever runs the harness.
    pub ssh: bool,
}

/// The embedded engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedSection {
    /// What stands in for an image, by its name without the tag: `builtin:static-web`, `host`, `oci:<layout>[:tag]`,
    /// or another reference. The header of a run names every stand-in it used. What a `recipe.toml` says comes before
    /// what `harness.toml` says for every recipe.
    pub images: BTreeMap<String, String>,
}

impl EmbeddedSection {
    fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

/// The swarm engine. Which Docker it talks to is decided as for the docker CLI: `DOCKER_HOST`, `DOCKER_CONTEXT`, the
/// current context, the default socket.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmSection {
    /// Where a real Traefik listens, as `127.0.0.1:443`, when the zone is in no DNS.
    #[schemars(with = "Option<String>")]
    pub traefik_address: Option<std::net::SocketAddr>,
    /// Whether the certificate that a real Traefik shows for the run's domain has to be good; true when not given.
    pub verify_certificates: Option<bool>,
}

/// The abra engine. `abra` is looked for on `PATH`, and its servers below `$ABRA_DIR`, which is `~/.abra` by default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AbraSection {
    /// The server to deploy to, when abra has several. With `engine = "auto"` abra comes first where a server is named
    /// here, and is not used otherwise.
    pub server: Option<String>,
}

/// `overlays/<recipe>/recipe.toml`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecipeToml {
    pub http: Http,
    pub deadlines: Deadlines,
    /// A service must have run this long without a restart before it counts as stable; 1 s when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub stable: Option<Duration>,
    /// Keys added to the app's `.env` for the whole run.
    pub env: BTreeMap<String, String>,
    pub upgrade: Upgrade,
    pub databases: Databases,
    /// Ports that must accept connections before a tier counts as reached.
    pub ready: Vec<Ready>,
    /// Services whose tasks end with code 0 and are started again on purpose, as a job that runs every 30 seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub periodic: Vec<String>,
    /// Data that must survive the upgrade and come back with the restore.
    pub data: Vec<Data>,
    /// The longest time an operation may take, by tier; its generic `within_budget` assertion fails beyond it.
    pub budget: BTreeMap<Tier, Span>,
    /// Tiers that cannot be proven for this recipe, each with the reason: an intended skip instead of an unverified one.
    pub skip: BTreeMap<Tier, String>,
    /// What stands in for this recipe's images on the embedded engine.
    #[serde(skip_serializing_if = "EmbeddedSection::is_empty")]
    pub embedded: EmbeddedSection,
    /// What this recipe's compose files may declare beyond the defaults and `harness.toml`.
    pub policy: Policy,
}

/// How long things may take, as `90s` or `5m`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// Deploying, and converging after it. Otherwise the recipe's `coop-cloud.<stack>.timeout` label, else 5 m.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub deploy: Option<Duration>,
    /// A backup or a restore, each with its hooks; 5 m when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub backup: Option<Duration>,
    /// One assertion or hook; 1 m when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub assertion: Option<Duration>,
    /// An HTTP answer or a command in a container that is being replaced; 30 s when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub call: Option<Duration>,
    /// How long the app is watched after the last operation; 30 s with `CI=true`, else no longer than `stable`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub settle: Option<Duration>,
}

/// The upgrade to the head.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// The published version to upgrade from, when the newest older one will not do.
    pub base: Option<String>,
    /// Volumes that the head gives up on purpose: their data need not survive the upgrade. `volume/path` is one path of
    /// a volume, and what lies below it.
    pub drops: Vec<String>,
    /// Volumes that the head mounts elsewhere on purpose, and where: `/path`, or `service:/path` when it is another
    /// service that mounts it, with `:ro` behind it when it is to be read only.
    pub moves: BTreeMap<String, String>,
    /// What the base backs up and the head does not on purpose: a volume, or `volume/path`.
    pub unbacked: Vec<String>,
    /// What containers may write outside of named volumes, because nobody needs it: `service:/path`, or `service` for all
    /// of its.
    pub ephemeral: Vec<String>,
    /// Services of which the head runs fewer tasks on purpose, or that now end when their work is done.
    pub stops: Vec<String>,
    /// Keys added to the app's `.env` from the upgrade on, as an operator would who reads the release notes.
    pub env: BTreeMap<String, String>,
}

/// The databases that the harness looks into.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Databases {
    /// Services into whose databases the harness writes no row of its own, because the app minds a table or key more.
    pub unwatched: Vec<String>,
}

/// A port that must accept connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The service, as the compose file names it.
    pub service: String,
    /// The port inside its container.
    pub tcp: u16,
}

/// A length of time, as `30s` or `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        humantime_serde::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        humantime_serde::deserialize(deserializer).map(Span)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

impl Deadlines {
    /// These, with `other` filling what they leave open.
    pub fn or(&self, other: &Deadlines) -> Deadlines {
        Deadlines {
            deploy: self.deploy.or(other.deploy),
            backup: self.backup.or(other.backup),
            assertion: self.assertion.or(other.assertion),
            call: self.call.or(other.call),
            settle: self.settle.or(other.settle),
        }
    }
}

/// Reads one of the files; a missing one gives the defaults, anything else that goes wrong is an error that quotes the
/// line.
pub fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    match crate::regular::read_text(path) {
        Ok(text) => parse(&text).with_context(|| format!("failed to read `{}`", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    // The parser's message spans several lines, with the offending one quoted and underlined; that is worth keeping. A
    // source in it may have a token.
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let said = by_example(&redact_all(&error.to_string()));
        match error.span().is_some_and(|span| is_about_data(text, span.start)) {
            true => data::with_example(said.trim_end()),
            false => anyhow!("{said}"),
        }
    })
}

/// Whether a place of a file belongs to an entry of `[[data]]`.
fn is_about_data(text: &str, at: usize) -> bool {
    let until = text.get(..at).unwrap_or_default();
    until.lines().rev().find(|line| line.starts_with('[')).is_some_and(|line| line.starts_with("[[data]]"))
}

/// What the parser expects, with an example of it in the place of a name that only Rust knows.
fn by_example(said: &str) -> String {
    const EXAMPLES: [(&str, &str); 11] = [
        ("expected struct Databases", "expected a table: `[databases]` and below it `unwatched = [\"db\"]`"),
        ("expected struct Http", "expected a table: `[http]` and below it `path = \"/\"`"),
        ("expected struct Deadlines", "expected a table: `[deadlines]` and below it `deploy = \"5m\"`"),
        ("expected struct Upgrade", "expected a table: `[upgrade]` and below it `base = \"1.0.0+2.0\"`"),
        ("expected struct Ready", "expected a table: `[[ready]]` and below it `service = \"db\"` and `tcp = 5432`"),
        ("expected struct Policy", "expected a table: `[policy]` and below it such as `ports = [\"8443/tcp\"]`"),
        ("expected struct RecipesSection", "expected a table: `[recipes]` and below it `sources = [\"recipes\"]`"),
        ("expected struct EmbeddedSection", "expected a table: `[embedded.images]` and below it `nginx = \"host\"`"),
        ("expected struct SwarmSection", "expected a table: `[swarm]` and below it `verify_certificates = false`"),
        ("expected struct AbraSection", "expected a table: `[abra]` and below it `server = \"default\"`"),
        ("expected a duration", "expected a length of time, as `\"3m\"` or `\"90s\"`"),
    ];
    EXAMPLES.iter().fold(said.to_owned(), |said, (name, example)| said.replace(name, example))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_recipe_toml_is_read() {
        let toml: RecipeToml = parse(
            r#"
            stable = "3s"
            [http]
            path = "/health"
            status = [204]
            [deadlines]
            deploy = "10m"
            [upgrade]
            base = "1.0.0+2.0"
            [[ready]]
            service = "db"
            tcp = 5432
            [budget]
            upgrade = "20s"
            [skip]
            backup = "holds no data"
            "#,
        )
        .unwrap();
        assert_eq!(toml.stable, Some(Duration::from_secs(3)));
        assert_eq!((toml.http.path.as_str(), toml.http.status.as_slice()), ("/health", [204].as_slice()));
        assert_eq!(toml.deadlines.deploy, Some(Duration::from_secs(600)));
        assert_eq!(toml.budget[&Tier::Upgrade], Span(Duration::from_secs(20)));
        assert_eq!(toml.skip[&Tier::Backup], "holds no data");
        assert_eq!(toml.ready[0].tcp, 5432);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let error = parse::<RecipeToml>("[http]\npaht = \"/\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2, column 1"), "{error}");
        assert!(
            error.contains("unknown field `paht`, expected one of `path`, `status`, `title`, `contains`"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_of_data_is_answered_with_an_example() {
        let error = parse::<RecipeToml>("[http]\n[[data]]\nwirte = \"/\"\n").unwrap_err().to_string();
        assert!(
            error.contains("line 3, column 1") && error.contains("unknown field `wirte`, expected one of"),
            "{error}"
        );
        assert!(error.contains("; for example: data = [{ name = "), "{error}");
        let error = parse::<RecipeToml>("[[data]]\nget = \"/\"\n[http]\npaht = \"/\"\n").unwrap_err().to_string();
        assert!(!error.contains("for example"), "{error}");
    }

    #[test]
    fn a_quoted_line_shows_no_token_of_a_source() {
        let toml = "[recipes]\nsources = [\"https://user:hidden@h.org/{recipe}?k=hidden\"\nssh = 1\n";
        let error = parse::<HarnessToml>(toml).unwrap_err().to_string();
        assert!(error.contains("TOML parse error at line ") && !error.contains("hidden"), "{error}");
        let toml = "[recipes]\nsources = \"https://user:hidden@h.org/{recipe}\"\n";
        let error = parse::<HarnessToml>(toml).unwrap_err().to_string();
        assert!(error.contains("sources = \"https://h.org/{recipe}\"") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn what_is_expected_is_shown_by_an_example() {
        for (toml, expected) in [
            ("http = \"/\"", "expected a table: `[http]` and below it `path = \"/\"`"),
            ("stable = \"3 minuten\"", "expected a length of time, as `\"3m\"` or `\"90s\"`"),
            ("stable = 3", "expected a length of time, as `\"3m\"` or `\"90s\"`"),
            ("deadlines = 5", "expected a table: `[deadlines]` and below it `deploy = \"5m\"`"),
        ] {
            let error = parse::<RecipeToml>(toml).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("struct"), "{error}");
        }
    }

    #[test]
    fn a_malformed_value_is_an_error() {
        let error = parse::<RecipeToml>("stable = \"soon\"").unwrap_err().to_string();
        assert!(error.contains("stable"), "{error}");
        let error = parse::<RecipeToml>("[skip]\nbackups = \"x\"").unwrap_err().to_string();
        assert!(error.contains("backups"), "{error}");
    }

    #[test]
    fn a_missing_file_gives_the_defaults_and_an_unreadable_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let toml: RecipeToml = read(&dir.path().join("none.toml")).unwrap();
        assert_eq!(toml.http.path, "/");
        let error = read::<RecipeToml>(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("failed to read `"), "{error}");
    }
}
