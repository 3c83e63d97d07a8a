//! What a run was asked to do: flags over environment over `recipe.toml` over `harness.toml` over defaults.

pub mod cli;
pub mod data;
pub mod docs;
pub mod environment;
pub mod files;
pub mod page;
pub mod paths;
pub mod reference;
pub mod secrets;
pub mod state;
pub mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::fault::{Blame as _, Fault};
use crate::recipe::mirror::Reference;
use crate::recipe::name::RecipeName;
use crate::recipe::policy::Policy;
use crate::recipe::source::{self, Source};
use crate::tier::Tier;
use cli::Cli;
use files::{HarnessToml, RecipeToml};
use wants::Wants;

/// Everything one recipe's run was asked to do. Reading it creates nothing.
#[derive(Clone, Debug)]
pub struct Config {
    pub recipe: RecipeName,
    pub sources: Vec<Source>,
    pub reference: Reference,
    /// The base that was asked for, by flag or by `recipe.toml`.
    pub base: Option<String>,
    pub tiers: BTreeSet<Tier>,
    /// Tiers whose generic assertions were opted out of, aloud.
    pub skip_generic: BTreeSet<Tier>,
    pub engine: EngineChoice,
    /// Which of abra's servers, when it has several.
    pub abra_server: Option<String>,
    pub keep: Keep,
    /// How much has to be proven.
    pub wants: Wants,
    /// How long the app stays up for the next run of the same thing, if it does.
    pub warm: Option<Duration>,
    /// Where mirrors, images and runs live.
    pub state: PathBuf,
    pub run_dir: Option<PathBuf>,
    pub zone: String,
    pub keep_runs: usize,
    pub images: BTreeMap<String, String>,
    /// The overlay folder of the recipe, whether it exists or not.
    pub overlay: PathBuf,
    /// The list of recipes whose own code may run, whether it exists or not.
    pub approved: PathBuf,
    pub settings: Settings,
}

/// What the keeper and the assertions need to know while the run goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub recipe_toml: RecipeToml,
    /// Deploying and converging; `None` leaves it to the recipe's timeout label, else [`Settings::DEPLOY`].
    pub deploy: Option<Duration>,
    pub backup: Duration,
    pub assertion: Duration,
    pub call: Duration,
    pub stable: Duration,
    /// How long the app is watched after the last operation, if longer than `stable`.
    pub settle: Duration,
    pub https: Https,
    pub screenshots: Screenshots,
    /// What compose files may declare: `recipe.toml` on top of `harness.toml`.
    pub policy: Policy,
}

/// Whether pictures of the app are taken, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screenshots {
    pub on: bool,
    /// Instead of the Chromium on `PATH`.
    pub chromium: Option<PathBuf>,
}

/// How an app behind a Traefik is asked over `https://<domain>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Https {
    /// Whether the certificate has to be good.
    pub verify: bool,
    /// Where Traefik listens, when the run's domain is in no DNS.
    pub address: Option<SocketAddr>,
}

impl Default for Https {
    fn default() -> Self {
        Https { verify: true, address: None }
    }
}

impl Settings {
    /// abra's own default for the timeout label, as recipes write it: `${TIMEOUT:-300}`.
    pub const DEPLOY: Duration = Duration::from_secs(300);
}

/// Which engine was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// A Swarm of this machine if it can be used, else embedded; abra before them where `harness.toml` names its server.
    Auto,
    Abra,
    Swarm,
    Embedded,
}

/// Whether the app stays up at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    #[default]
    Never,
    OnFailure,
    Always,
}

/// The environment, as far as it is read: a function, so that tests need not touch the process's own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Puts the layers together for one recipe. Errors are one line each, and nothing was created.
    pub fn resolve(cli: &Cli, env: Env<'_>, root: &Path, recipe: &str) -> Result<Self> {
        let recipe: RecipeName = recipe.parse()?;
        ensure!(root.is_dir(), "there is no directory `{}`, which HARNESS_ROOT names", root.display());
        let harness: HarnessToml = files::read(&root.join("harness.toml"))?;
        let overlay = root.join("overlays").join(recipe.as_str());
        let recipe_toml: RecipeToml = files::read(&overlay.join("recipe.toml")).blame(Fault::Assertion)?;
        check_recipe_toml(&recipe_toml)
            .with_context(|| format!("failed to use `{}/recipe.toml`", overlay.display()))
            .blame(Fault::Assertion)?;
        Ok(Config {
            sources: sources(cli, &harness, root)?,
            reference: reference::from(cli)?,
            base: cli.base.clone().or_else(|| recipe_toml.upgrade.base.clone()),
            tiers: tiers(&cli.tiers)?,
            skip_generic: skip_generic(cli, env)?,
            abra_server: harness.abra.server.clone(),
            engine: engine(cli.engine.as_deref().or(harness.engine.as_deref()))?,
            keep: keep(cli.keep.as_deref())?,
            wants: Wants::of(cli, env)?,
            warm: warm(env, &harness)?,
            state: state::dir(env)?,
            run_dir: cli.run_dir.clone(),
            zone: zone(harness.zone.as_deref())?,
            keep_runs: harness.keep_runs.unwrap_or(50),
            images: images(&harness, &recipe_toml),
            approved: approved(env, &harness, root),
            settings: settings(recipe_toml, &harness, screenshots(env, &harness)?, env),
            recipe,
            overlay,
        })
    }
}

/// What `recipe.toml` says of an image comes before what `harness.toml` says of it for every recipe.
fn images(harness: &HarnessToml, recipe: &RecipeToml) -> BTreeMap<String, String> {
    harness.embedded.images.clone().into_iter().chain(recipe.embedded.images.clone()).collect()
}

/// A path relative to the checkout, wherever a run is started.
fn approved(env: Env<'_>, harness: &HarnessToml, root: &Path) -> PathBuf {
    let given = env("CCCI_REPO_LOCAL_APPROVED_FILE").filter(|path| !path.is_empty());
    let given = given.or_else(|| harness.repo_local_approved.clone());
    root.join(given.as_deref().unwrap_or("repo-local-approved.txt"))
}

fn screenshots(env: Env<'_>, harness: &HarnessToml) -> Result<Screenshots> {
    let on = match env("HARNESS_SCREENSHOTS").as_deref() {
        // Somebody who waits for a run of seconds has no use for pictures that take as long again.
        None | Some("") => harness.screenshots.unwrap_or_else(|| env("CI").as_deref() == Some("true")),
        Some("1") => true,
        Some("0") => false,
        Some(value) => bail!("HARNESS_SCREENSHOTS is `{value}`: write `1` or `0`"),
    };
    let given = env("HARNESS_CHROMIUM").filter(|path| !path.is_empty()).map(PathBuf::from);
    Ok(Screenshots { on, chromium: given.or_else(|| harness.chromium.clone()) })
}

fn settings(recipe_toml: RecipeToml, harness: &HarnessToml, screenshots: Screenshots, env: Env<'_>) -> Settings {
    let deadlines = recipe_toml.deadlines.or(&harness.deadlines);
    // Nobody waits for a CI's run, and what dies half a minute later is as dead.
    let patient = if env("CI").as_deref() == Some("true") { Duration::from_secs(30) } else { Duration::ZERO };
    let settle = deadlines.settle.unwrap_or(patient);
    Settings {
        deploy: deadlines.deploy,
        backup: deadlines.backup.unwrap_or(Duration::from_secs(300)),
        // The last look alone takes as long as the app is watched.
        assertion: deadlines.assertion.unwrap_or(Duration::from_secs(60).max(settle * 2)),
        call: deadlines.call.unwrap_or(Duration::from_secs(30)),
        stable: recipe_toml.stable.unwrap_or(Duration::from_secs(1)),
        settle,
        https: https(harness),
        screenshots,
        policy: recipe_toml.policy.clone().and(&harness.policy),
        recipe_toml,
    }
}

/// How an app behind a Traefik is asked, by `harness.toml`.
pub fn https(harness: &HarnessToml) -> Https {
    Https { verify: harness.swarm.verify_certificates.unwrap_or(true), address: harness.swarm.traefik_address }
}

fn check_recipe_toml(toml: &RecipeToml) -> Result<()> {
    toml.http.check()?;
    if let Some((volume, place)) = toml.upgrade.moves.iter().find(|(_, place)| !place.contains('/')) {
        bail!("`upgrade.moves.{volume}` is `{place}`: write where the head mounts it, as `/path` or `service:/path`");
    }
    if let Some((tier, _)) = toml.skip.iter().find(|(_, reason)| reason.trim().is_empty()) {
        bail!("`skip.{tier}` has no reason: an intended skip needs one");
    }
    if toml.skip.contains_key(&Tier::Install) {
        bail!("`skip.install` cannot be: without an install nothing is proven");
    }
    data::check(&toml.data)
}

/// Where recipes are looked for when nobody has said it: beside the settings, and on Co-op Cloud's own forge.
const SOURCES: [&str; 2] = ["recipes", "https://git.coopcloud.tech/coop-cloud/{recipe}.git"];

fn sources(cli: &Cli, harness: &HarnessToml, root: &Path) -> Result<Vec<Source>> {
    if let Some(path) = &cli.recipe_dir {
        if cli.recipe.len() > 1 {
            bail!(
                "`--recipe-dir` goes with one recipe, but {} were given: {}",
                cli.recipe.len(),
                cli.recipe.join(", ")
            );
        }
        return Ok(vec![Source::WorkingCopy { path: path.clone() }]);
    }
    let listed = match harness.recipes.sources.as_slice() {
        [] => SOURCES.map(str::to_owned).to_vec(),
        listed => listed.to_vec(),
    };
    listed.iter().map(|text| source(text, root, harness.recipes.ssh)).collect()
}

/// An address has a scheme, a host with a colon, or the placeholder; everything else is a folder of the checkout.
fn source(text: &str, root: &Path, ssh: bool) -> Result<Source> {
    source::check(text, ssh).context("failed to use `recipes.sources` of `harness.toml`")?;
    let remote = text.contains("://") || text.contains('@');
    Ok(if remote {
        Source::Git { url: text.to_owned() }
    } else if text.contains("{recipe}") {
        Source::Git { url: root.join(text).display().to_string() }
    } else {
        Source::Bundled { folder: root.join(text) }
    })
}

fn tiers(names: &[String]) -> Result<BTreeSet<Tier>> {
    // A CI server that has nothing to say sets HARNESS_TIERS to nothing.
    if names.iter().all(|name| name.trim().is_empty()) {
        return Ok(Tier::ALL.into());
    }
    names.iter().map(|name| name.trim().parse().with_context(|| "failed to read `--tiers` (or STAGES)")).collect()
}

fn skip_generic(cli: &Cli, env: Env<'_>) -> Result<BTreeSet<Tier>> {
    let mut skipped: BTreeSet<Tier> = match cli.skip_generic.as_deref() {
        None => BTreeSet::new(),
        Some("all") => Tier::ALL.into(),
        Some(names) => names
            .split(',')
            .map(|name| name.trim().parse().with_context(|| "failed to read `--skip-generic`"))
            .collect::<Result<_>>()?,
    };
    if switch(env, "CCCI_SKIP_GENERIC")? {
        skipped.extend(Tier::ALL);
    }
    for tier in Tier::ALL {
        if switch(env, &format!("CCCI_SKIP_GENERIC_{}", tier.name().to_uppercase()))? {
            skipped.insert(tier);
        }
    }
    Ok(skipped)
}

fn switch(env: Env<'_>, name: &str) -> Result<bool> {
    match env(name).as_deref() {
        None | Some("" | "0") => Ok(false),
        Some("1") => Ok(true),
        Some(value) => bail!("{name} is `{value}`: write `1`, or leave it out"),
    }
}

fn engine(name: Option<&str>) -> Result<EngineChoice> {
    match name {
        None | Some("auto") => Ok(EngineChoice::Auto),
        Some("abra") => Ok(EngineChoice::Abra),
        Some("swarm") => Ok(EngineChoice::Swarm),
        Some("embedded") => Ok(EngineChoice::Embedded),
        Some(other) => bail!("unknown engine `{other}`: the engines are auto, abra, swarm, embedded"),
    }
}

fn keep(when: Option<&str>) -> Result<Keep> {
    match when {
        None => Ok(Keep::Never),
        Some("always") => Ok(Keep::Always),
        Some("on-failure") => Ok(Keep::OnFailure),
        Some(other) => bail!("unknown `--keep={other}`: write `--keep` or `--keep=on-failure`"),
    }
}

/// A week: what is left up for longer was forgotten.
const LONGEST_WARM: Duration = Duration::from_secs(7 * 24 * 3600);

/// `HARNESS_WARM=0` is no for whoever has it in a file.
fn warm(env: Env<'_>, harness: &HarnessToml) -> Result<Option<Duration>> {
    let limit = match env("HARNESS_WARM").as_deref().map(str::trim) {
        None | Some("") => harness.warm,
        Some("0") => None,
        Some(text) => match humantime::parse_duration(text) {
            Ok(limit) => Some(limit),
            Err(_) => bail!("HARNESS_WARM is `{text}`: write a length of time such as `10m`, or `0`"),
        },
    };
    if let Some(limit) = limit.filter(|limit| *limit > LONGEST_WARM) {
        let (limit, most) = (humantime::format_duration(limit), humantime::format_duration(LONGEST_WARM));
        bail!("an app would stay warm for {limit} (HARNESS_WARM, or `warm` in harness.toml): {most} is the most");
    }
    Ok(limit.filter(|limit| !limit.is_zero()))
}

/// The domain below which runs get names, `harness.test` when `harness.toml` names none.
pub fn zone(zone: Option<&str>) -> Result<String> {
    let zone = zone.unwrap_or("harness.test");
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let label =
        |part: &str| !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    if zone.len() > 40 || !zone.split('.').all(label) {
        bail!(
            "`zone = \"{}\"` in harness.toml is no domain of at most 40 characters: its labels are letters, digits, and `-` \
             between them",
            zone.escape_debug()
        );
    }
    Ok(zone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn root(harness: &str, recipe_toml: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("harness.toml"), harness).unwrap();
        let overlay = dir.path().join("overlays/wiki");
        std::fs::create_dir_all(&overlay).unwrap();
        std::fs::write(overlay.join("recipe.toml"), recipe_toml).unwrap();
        dir
    }

    fn resolve(arguments: &[&str], env: &[(&str, &str)], harness: &str, recipe_toml: &str) -> Result<Config> {
        let dir = root(&format!("{harness}\n[recipes]\nsources = [\"recipes\"]\n"), recipe_toml);
        let cli = Cli::try_parse_from([&["recipe"], arguments].concat()).unwrap();
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::resolve(&cli, &|key| env.get(key).cloned(), dir.path(), "wiki")
    }

    #[test]
    fn a_root_that_is_not_there_is_called_so() {
        let cli = Cli::try_parse_from(["recipe"]).unwrap();
        let root = tempfile::tempdir().unwrap();
        let error = |root: &Path| Config::resolve(&cli, &|_| None, root, "wiki").unwrap_err().to_string();
        let gone = root.path().join("gone");
        let expected = format!("there is no directory `{}`, which HARNESS_ROOT names", gone.display());
        assert_eq!(error(&gone), expected);
    }

    #[test]
    fn without_any_settings_recipes_come_from_beside_them_or_from_the_forge() {
        let cli = Cli::try_parse_from(["recipe"]).unwrap();
        let root = tempfile::tempdir().unwrap();
        let config = Config::resolve(&cli, &|_| None, root.path(), "wiki").unwrap();
        let forge = Source::Git { url: "https://git.coopcloud.tech/coop-cloud/{recipe}.git".into() };
        assert_eq!(config.sources, [Source::Bundled { folder: root.path().join("recipes") }, forge]);
        assert_eq!(config.zone, "harness.test");
    }

    fn refusal(arguments: &[&str], env: &[(&str, &str)], harness: &str, recipe_toml: &str) -> String {
        format!("{:#}", resolve(arguments, env, harness, recipe_toml).unwrap_err())
    }

    #[test]
    fn flags_come_before_recipe_toml_and_recipe_toml_before_harness_toml() {
        let harness = "deadlines.assertion = \"7s\"\ndeadlines.call = \"8s\"";
        let toml = "[deadlines]\nassertion = \"9s\"\n[upgrade]\nbase = \"1.0.0+1\"";
        let config = resolve(&[], &[], harness, toml).unwrap();
        assert_eq!(config.settings.assertion, Duration::from_secs(9));
        assert_eq!(config.settings.call, Duration::from_secs(8));
        assert_eq!(config.settings.backup, Duration::from_secs(300));
        assert_eq!(config.base.as_deref(), Some("1.0.0+1"));
        let config = resolve(&["--base", "2.0.0+1"], &[], harness, toml).unwrap();
        assert_eq!(config.base.as_deref(), Some("2.0.0+1"));
    }

    #[test]
    fn generic_assertions_are_opted_out_of_by_flag_or_environment_only() {
        assert!(resolve(&[], &[], "", "").unwrap().skip_generic.is_empty());
        let by_flag = resolve(&["--skip-generic=backup"], &[], "", "").unwrap().skip_generic;
        assert_eq!(by_flag, BTreeSet::from([Tier::Backup]));
        let by_env = resolve(&[], &[("CCCI_SKIP_GENERIC_UPGRADE", "1")], "", "").unwrap().skip_generic;
        assert_eq!(by_env, BTreeSet::from([Tier::Upgrade]));
        assert_eq!(resolve(&[], &[("CCCI_SKIP_GENERIC", "1")], "", "").unwrap().skip_generic.len(), 5);
    }

    #[test]
    fn pictures_are_taken_in_ci_unless_harness_toml_or_the_environment_says_otherwise() {
        let screenshots = |env: &[(&str, &str)], harness: &str| {
            let Screenshots { on, chromium } = resolve(&[], env, harness, "").unwrap().settings.screenshots;
            (on, chromium.map(|path| path.display().to_string()))
        };
        assert_eq!((screenshots(&[], ""), screenshots(&[("CI", "true")], "")), ((false, None), (true, None)));
        assert_eq!(screenshots(&[], "screenshots = true"), (true, None));
        assert_eq!(screenshots(&[("CI", "true"), ("HARNESS_SCREENSHOTS", "0")], ""), (false, None));
        let harness = "screenshots = false\nchromium = \"/opt/one\"";
        assert_eq!(screenshots(&[("CI", "true")], harness), (false, Some("/opt/one".into())));
        let env = [("HARNESS_SCREENSHOTS", "1"), ("HARNESS_CHROMIUM", "/opt/two")];
        assert_eq!(screenshots(&env, harness), (true, Some("/opt/two".into())));
        let line = refusal(&[], &[("HARNESS_SCREENSHOTS", "no")], "", "");
        assert_eq!(line, "HARNESS_SCREENSHOTS is `no`: write `1` or `0`");
    }

    #[test]
    fn malformed_values_get_one_line_each() {
        for (arguments, line) in [
            (
                ["--tiers", "install,backups"],
                "failed to read `--tiers` (or STAGES): unknown tier `backups`: the tiers are install, upgrade, backup, \
                 restore, custom",
            ),
            (["--engine", "podman"], "unknown engine `podman`: the engines are auto, abra, swarm, embedded"),
            (["--keep=never", "x"], "unknown `--keep=never`: write `--keep` or `--keep=on-failure`"),
            (["--pr", "seven"], "`--pr seven` is no number of a pull request"),
        ] {
            assert_eq!(refusal(&arguments, &[], "", ""), line);
        }
        let line = refusal(&[], &[("CCCI_SKIP_GENERIC", "yes")], "", "");
        assert_eq!(line, "CCCI_SKIP_GENERIC is `yes`: write `1`, or leave it out");
    }

    #[test]
    fn an_app_stays_warm_by_environment_or_file_and_not_by_default() {
        let warm = |env: &[(&str, &str)], harness: &str| resolve(&[], env, harness, "").unwrap().warm;
        assert_eq!(warm(&[], ""), None);
        assert_eq!(warm(&[], "warm = \"5m\""), Some(Duration::from_secs(300)));
        assert_eq!(warm(&[("HARNESS_WARM", "10m")], "warm = \"5m\""), Some(Duration::from_secs(600)));
        assert_eq!(warm(&[("HARNESS_WARM", "0")], "warm = \"5m\""), None);
        assert_eq!(warm(&[("HARNESS_WARM", "")], "warm = \"5m\""), Some(Duration::from_secs(300)));
        let line = refusal(&[], &[("HARNESS_WARM", "soon")], "", "");
        assert_eq!(line, "HARNESS_WARM is `soon`: write a length of time such as `10m`, or `0`");
        assert_eq!(warm(&[("HARNESS_WARM", "7d")], ""), Some(LONGEST_WARM));
        let most = "(HARNESS_WARM, or `warm` in harness.toml): 7days is the most";
        let line = refusal(&[], &[("HARNESS_WARM", "7d 1ns")], "", "");
        assert_eq!(line, format!("an app would stay warm for 7days 1ns {most}"));
        assert_eq!(refusal(&[], &[], "warm = \"8d\"", ""), format!("an app would stay warm for 8days {most}"));
    }

    #[test]
    fn a_recipe_toml_that_could_never_fail_is_refused() {
        let line = refusal(&[], &[], "", "[http]\nstatus = []");
        assert!(
            line.ends_with("`http.status` is empty, so nothing could ever be accepted: name at least one status code")
        );
        assert!(refusal(&[], &[], "", "[skip]\nbackup = \" \"").contains("`skip.backup` has no reason"));
        assert!(refusal(&[], &[], "", "[skip]\ninstall = \"x\"").contains("`skip.install` cannot be"));
    }

    #[test]
    fn a_zone_is_a_domain() {
        let of = |name: &str| super::zone(Some(name)).map_err(|error| error.to_string());
        for good in ["harness.test", "a-b.example.org", "x"] {
            assert_eq!(of(good).as_deref(), Ok(good));
        }
        for bad in ["-x.test", "x-.test", "x.-y", "", "a..b", "a b", "a_b", "a/b", &"x".repeat(41)] {
            let expected = format!(
                "`zone = \"{bad}\"` in harness.toml is no domain of at most 40 characters: its labels are letters, digits, \
                 and `-` between them"
            );
            assert_eq!(of(bad), Err(expected));
        }
    }

    #[test]
    fn a_source_is_an_address_a_template_or_a_folder() {
        let root = Path::new("/root-of-checkout");
        let source = |text| super::source(text, root, false).unwrap();
        assert!(matches!(source("https://git.example.org/{recipe}.git"), Source::Git { .. }));
        let Source::Git { url } = source("../others/{recipe}") else { panic!() };
        assert_eq!(url, "/root-of-checkout/../others/{recipe}");
        let Source::Bundled { folder } = source("recipes") else { panic!() };
        assert_eq!(folder, Path::new("/root-of-checkout/recipes"));
    }
}
