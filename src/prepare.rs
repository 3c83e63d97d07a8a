//! From a command line to a decided run: the recipe is read, the plan made, and every mistake found that can be found
//! before anything is created.

pub mod again;
mod engine;
mod given;
mod refused;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::config::cli::Cli;
use crate::config::files::RecipeToml;
use crate::config::{Config, Keep, state};
use crate::fault::{self, Blame as _, Failure, Fault};
use crate::keeper::blame;
use crate::keeper::facts::Facts;
use crate::keeper::rig::cannot_be_planted;
use crate::keeper::spec::{About, Client, RunSpec};
use crate::keeper::sweep::runs_dir;
use crate::plan::{self, Plan};
use crate::program::root;
use crate::recipe::abra::Form;
use crate::recipe::fresh::{self, Fresh};
use crate::recipe::name::RecipeName;
use crate::recipe::policy::Policy;
use crate::recipe::source;
use crate::recipe::stack::Stack;
use crate::recipe::version::{Base, Revision};
use crate::recipe::{AppState, Recipe};
use crate::sabotage::drill::CANNOT_BE_PLANTED;
use crate::script::Script;
use crate::script::approved::{Approval, Sorted};
use crate::script::find;
pub use again::quoted;
use given::{check_data, secrets_from_outside};
pub use given::{overlay_data, overlay_scripts};

/// A run that is decided and not begun.
#[derive(Serialize, Deserialize)]
pub struct Prepared {
    pub spec: RunSpec,
    pub run_dir: PathBuf,
    pub keep: Keep,
    /// How long the app stays up for the next run of the same thing, if it does.
    pub warm: Option<std::time::Duration>,
    /// The directory was asked for by name.
    pub own_dir: bool,
    /// The short names of the environment that stand for a flag, on one line.
    #[serde(default)]
    pub short_names: Option<String>,
    /// The variables that lead to the same run again where there are no flags.
    #[serde(default)]
    pub variables: String,
    /// One line for everything that the policy allowed beyond its defaults.
    pub allowed: Vec<String>,
    /// Tests and hooks that are programs: the overlay's, and the recipe's own as far as they are approved.
    pub scripts: Vec<Script>,
    /// One line for every file of the recipe's own code that runs, and one for every one that does not.
    pub approved: Vec<String>,
    pub ignored: Vec<String>,
}

/// A run that cannot begin, with what became known of it.
pub struct Unbegun {
    pub facts: Facts,
    pub run_dir: PathBuf,
    pub state: PathBuf,
    pub failure: Failure,
    /// What would be done, where that is known in spite of the failure.
    pub plan: Option<Plan>,
}

/// Decides the run of one recipe. An error is one of usage: nobody can tell what is meant, and nothing is begun. Whatever
/// else stops a run is a run that cannot begin, with the fault that is behind it.
pub fn prepare(cli: &Cli, recipe: &str) -> Result<Result<Prepared, Box<Unbegun>>> {
    let place = Place::new(cli, recipe).usage()?;
    let mut facts = Facts::unknown(&place.run_id, recipe);
    facts.arguments = again::arguments(cli, recipe);
    let mut plan = None;
    match decide(cli, recipe, &place, &mut facts, &mut plan) {
        Ok(prepared) => Ok(Ok(prepared)),
        Err(error) => {
            let failure = fault::failure(error)?;
            Ok(Err(Box::new(Unbegun { facts, run_dir: place.run_dir, state: place.state, failure, plan })))
        }
    }
}

/// What is known of a run before its recipe is looked at.
struct Place {
    run_id: String,
    run_dir: PathBuf,
    state: PathBuf,
    junit: Option<PathBuf>,
    report_dir: Option<PathBuf>,
}

impl Place {
    fn new(cli: &Cli, recipe: &str) -> Result<Self> {
        let name: RecipeName = recipe.parse()?;
        let state = state::dir(&|key| std::env::var(key).ok())?;
        let run_id = run_id(name.as_str());
        let junit = cli.junit.as_deref().map(junit).transpose()?;
        let report_dir = cli.report_dir.as_deref().map(|dir| report_dir(dir, &name)).transpose()?;
        Ok(Place { run_dir: run_dir(cli, &state, &run_id)?, run_id, state, junit, report_dir })
    }
}

/// What becomes known on the way is noted in `facts` and `early`, for the reports of a run that gets no further, and for
/// `--plan`.
fn decide(
    cli: &Cli,
    recipe_name: &str,
    place: &Place,
    facts: &mut Facts,
    early: &mut Option<Plan>,
) -> Result<Prepared> {
    let sabotage = cli.sabotage.as_deref().map(str::parse).transpose().usage()?;
    let config = Config::resolve(cli, &|key| std::env::var(key).ok(), &root(), recipe_name).usage()?;
    facts.will(&config.tiers);
    // From here on mirrors are used, and images soon.
    state::use_until_exit(&config.state)?;
    let recipe = open(cli, &config)?;
    facts.source = recipe.source.clone();
    facts.is_about(&recipe.head);
    let domain = domain(config.recipe.as_str(), &place.run_id, &config.zone);
    let Read { base, head, fresh, mut notes } = read(&config, &recipe, &domain).blame(Fault::Recipe)?;
    let states: Vec<&AppState> = base.iter().map(|(_, state)| state).chain([&head]).collect();
    let allowed = judge(&config.settings.policy, &head, &recipe.head, base.as_ref()).blame(Fault::Recipe)?;
    refused::check(&states).blame(Fault::Recipe)?;
    let stacks: Vec<&Stack> = states.iter().map(|state| &state.stack).collect();
    let plan = Plan::make(plan::Facts {
        recipe: &config.recipe,
        source: &recipe.source,
        head: &recipe.head,
        base: &recipe.base,
        has_backup: !head.backup.services.is_empty(),
        tiers: &config.tiers,
        declared_skips: &config.settings.recipe_toml.skip,
        skip_generic: &config.skip_generic,
        notes: Vec::new(),
    });
    let plan = early.insert(plan.usage()?).clone();
    let chosen = engine::choose(&config, &stacks).blame(Fault::Infrastructure)?;
    refused::check_placement(&chosen.spec, &states).blame(Fault::Recipe)?;
    facts.runs_on(chosen.spec.name(), &chosen.why, &chosen.stand_ins);
    notes.extend(chosen.notes);
    notes.extend(engine::patience(&config.settings, &chosen.spec, &head.stack));
    if cli.plan {
        notes.extend(engine::not_looked_at(&chosen.spec, &stacks, &config.images));
    }
    let (secrets, unused) = secrets_from_outside(cli, &states).usage()?;
    notes.extend(unused);
    let plan = Plan { notes, ..plan };
    let toml = &config.settings.recipe_toml;
    check_data(toml, &head, base.as_ref().filter(|_| plan.base.is_some())).blame(Fault::Assertion)?;
    let own = own_code(&config, &recipe).blame(Fault::Assertion)?;
    let scripts = overlay_scripts(config.recipe.as_str()).blame(Fault::Assertion)?;
    let scripts = scripts.into_iter().chain(own.scripts).collect();
    let (base_revision, base) = base.filter(|_| plan.base.is_some()).unzip();
    let room = blame::room(&place.run_dir, &chosen.spec);
    let client = Client::look_up(std::process::id() as i32).context("failed to look this process up in /proc")?;
    let prepared = Prepared {
        short_names: cli.short_names(),
        variables: again::variables(cli, recipe_name),
        allowed,
        scripts,
        approved: own.approved,
        ignored: own.ignored,
        keep: config.keep,
        warm: config.warm,
        own_dir: config.run_dir.is_some(),
        run_dir: place.run_dir.clone(),
        spec: RunSpec {
            run_id: place.run_id.clone(),
            plan,
            domain,
            engine: chosen.spec,
            images: absolute(config.images, &root()),
            state: config.state,
            keep_runs: config.keep_runs,
            overlay: config.overlay,
            settings: config.settings,
            mirror: recipe.mirror,
            base,
            base_revision,
            head,
            fresh,
            install_steps: own.install_steps,
            client,
            about: About {
                engine: chosen.why,
                stand_ins: chosen.stand_ins,
                arguments: facts.arguments.clone(),
                junit: place.junit.clone(),
                wants: config.wants,
                room,
                report_dir: place.report_dir.clone(),
                ..About::default()
            },
            secrets,
            sabotage,
        },
    };
    if let Some(reason) = cannot_be_planted(&prepared.spec) {
        let name = cli.sabotage.as_deref().unwrap_or_default();
        return Err(anyhow!("`--sabotage {name}` {CANNOT_BE_PLANTED}: {reason}")).usage();
    }
    Ok(prepared)
}

fn open(cli: &Cli, config: &Config) -> Result<Recipe> {
    let base = config.base.as_deref();
    let recipe = Recipe::open(&config.recipe, &config.sources, &config.state, &config.reference, base);
    let recipe = match cli.base {
        Some(_) => recipe.usage(),
        // All that is left to be wrong is the base that `recipe.toml` names.
        None => recipe.blame(Fault::Assertion),
    };
    // Where a forge has been asked in vain, it is the name that may be wrong.
    let recipe = match recipe {
        Err(error) if is_infrastructures(&error) => match source::meant(&config.recipe, &config.sources) {
            Some(meant) => Err(error.context(meant)),
            None => Err(error),
        },
        recipe => recipe,
    };
    match cli.short_names_of_versions() {
        Some(short) => recipe.context(short),
        None => recipe,
    }
}

fn is_infrastructures(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.fault == Fault::Infrastructure)
}

/// What head and base define.
struct Read {
    base: Option<(Revision, AppState)>,
    head: AppState,
    /// What only the head's `.env.sample` has.
    fresh: Vec<Fresh>,
    /// What a reader of the run should know of them.
    notes: Vec<String>,
}

fn read(config: &Config, recipe: &Recipe, domain: &str) -> Result<Read> {
    let toml = &config.settings.recipe_toml;
    let mut notes = recipe.notes();
    let base = base(recipe, domain, toml)?;
    notes.extend(recipe.base.version().filter(|version| !version.annotated).map(|version| {
        format!("the tag `{version}` is lightweight, which abra does not deploy: its commit is deployed as chaos")
    }));
    // An upgrade goes on from the installed app's `.env`, which has the other keys already.
    let mut extra = if base.is_some() { BTreeMap::new() } else { toml.env.clone() };
    extra.extend(toml.upgrade.env.clone());
    let form = Form::Chaos { revision: recipe.head.clone() };
    let head = recipe.state(&recipe.head, domain, &extra, base.as_ref().map(|(_, state)| state), &form);
    let head = head.with_context(|| format!("failed to read the head {}", recipe.head))?;
    notes.extend(head.stack.notes.iter().cloned());
    notes.extend(head.backup.unread_dumps());
    let lost = base.iter().flat_map(|(_, base)| head.backup.lost_since(&base.backup));
    notes.extend(lost.map(|lost| lost.sentence));
    let fresh = match &base {
        Some((revision, state)) => {
            let fresh = recipe.fresh(revision, state, domain, &form)?;
            notes.extend(fresh::notes(&fresh, &state.stack, &head.stack));
            fresh
        }
        None => Vec::new(),
    };
    Ok(Read { base, head, fresh, notes })
}

/// The recipe's own code in its head, sorted by what this repository approves.
fn own_code(config: &Config, recipe: &Recipe) -> Result<Sorted> {
    let approval = Approval::read(&config.approved, &config.recipe)?;
    let tree = recipe.mirror.tree(&recipe.head)?;
    let list = config.approved.strip_prefix(root()).unwrap_or(&config.approved).display().to_string();
    Ok(approval.sort(&config.recipe, &find::in_tests(&tree), &recipe.mirror.blobs(&recipe.head)?, &list))
}

/// Image layouts are named relative to `harness.toml`, wherever a run is started.
fn absolute(images: BTreeMap<String, String>, root: &Path) -> BTreeMap<String, String> {
    let absolute = |value: String| match value.strip_prefix("oci:") {
        Some(layout) => format!("oci:{}", root.join(layout).display()),
        None => value,
    };
    images.into_iter().map(|(name, value)| (name, absolute(value))).collect()
}

/// The base's revision and the app as it defines it, if there is a base.
fn base(recipe: &Recipe, domain: &str, toml: &RecipeToml) -> Result<Option<(Revision, AppState)>> {
    let Base::Version(version) = &recipe.base else { return Ok(None) };
    let revision = recipe.revision_of(version)?;
    let form = Form::of_version(version, &revision);
    let state = recipe.state(&revision, domain, &toml.env, None, &form);
    Ok(Some((revision, state.with_context(|| format!("failed to read the base {version}"))?)))
}

/// `custom-html-20261123t220102-3fa9c1`: sorts by time, and its last six characters are unique enough for a domain.
fn run_id(recipe: &str) -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let stamp: String = now.chars().filter(|c| !"-:Z".contains(*c)).collect();
    format!("{recipe}-{}-{:06x}", stamp.to_lowercase(), rand::random::<u32>() & 0xff_ffff)
}

/// `cust-3fa9c1.harness.test`. Short, because Swarm limits the names of secrets and configs to 64 characters and the
/// stack name stands in each.
fn domain(recipe: &str, run_id: &str, zone: &str) -> String {
    let short: String = recipe.chars().take(4).collect();
    format!("{}-{}.{zone}", short.trim_end_matches('-'), &run_id[run_id.len() - 6..])
}

/// Refuses what the policy refuses, and returns what it allows. The head is judged first: it is what is under test.
fn judge(
    policy: &Policy,
    head: &AppState,
    revision: &Revision,
    base: Option<&(Revision, AppState)>,
) -> Result<Vec<String>> {
    let mut allowed = Vec::new();
    let base = base.map(|(revision, state)| (format!("the base {revision}"), state));
    for (which, state) in [(format!("the head {revision}"), head)].into_iter().chain(base) {
        let judgement = policy.judge(&state.findings);
        if let Some(refusal) = judgement.refusal() {
            bail!("{which} declares what is not allowed: {refusal}");
        }
        allowed.extend(judgement.allowed.into_iter().filter(|line| !allowed.contains(line)).collect::<Vec<_>>());
    }
    Ok(allowed)
}

fn run_dir(cli: &Cli, state: &Path, run_id: &str) -> Result<PathBuf> {
    let Some(dir) = &cli.run_dir else { return Ok(runs_dir(state).join(run_id)) };
    if cli.recipe.len() > 1 {
        bail!("`--run-dir` goes with one recipe, but {} were given: {}", cli.recipe.len(), cli.recipe.join(", "));
    }
    let dir = std::path::absolute(dir).with_context(|| format!("failed to use `--run-dir {}`", dir.display()))?;
    match std::fs::read_dir(&dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => bail!("`--run-dir {}` is not empty: name a new directory, or an empty one", dir.display()),
            None => Ok(dir),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(dir),
        Err(error) => Err(error).with_context(|| format!("failed to use `--run-dir {}`", dir.display())),
    }
}

/// Where a recipe's reports go; that they cannot be written is better known before the run.
fn report_dir(dir: &Path, recipe: &RecipeName) -> Result<PathBuf> {
    if dir.exists() && !dir.is_dir() {
        bail!("`--report-dir {}` is a file: name a folder", dir.display());
    }
    let path = std::path::absolute(dir).with_context(|| format!("failed to use `--report-dir {}`", dir.display()))?;
    Ok(path.join(recipe.as_str()))
}

/// Where the JUnit file goes; that it cannot be written is better known before the run.
fn junit(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("failed to use `--junit {}`", path.display()))?;
    if path.is_dir() {
        bail!("`--junit {}` is a directory: name a file", path.display());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_unique_and_the_domain_is_short() {
        let (one, two) = (run_id("custom-html"), run_id("custom-html"));
        assert_ne!(one, two);
        let domain = domain("custom-html", "custom-html-20261123t220102-3fa9c1", "harness.test");
        assert_eq!(domain, "cust-3fa9c1.harness.test");
        assert_eq!(super::domain("abc-de", "x-3fa9c1", "harness.test"), "abc-3fa9c1.harness.test");
    }
}
