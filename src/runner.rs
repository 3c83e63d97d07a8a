//! What `tests/recipe.rs` calls: arguments in, trials out, an exit code at the end.

mod call;
mod leaks;
mod nextest;
mod reports;
mod scripted;
mod selection;
mod signals;
mod teardown;
mod told_once;
mod trial;
mod turns;
mod warm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use libtest_mimic::Trial;

use crate::assertion::Registry;
use crate::client::{Session, runtime};
use crate::config::cli::Cli;
use crate::config::files::{self, HarnessToml};
use crate::config::state::create_private;
use crate::plain::plain;
use crate::report::{header, summary};
use crate::{engine, keeper, prepare};
use selection::Selected;
pub use trial::RecipeRun;

/// Bad input, before anything was created: what libtest answers to unknown flags.
const BAD_INPUT: u8 = 2;
/// A failed run: what libtest answers to failed tests.
const FAILED: u8 = 101;

/// The whole of a test executable's `main`.
pub fn main() -> ExitCode {
    if let Some(code) = hidden() {
        return code;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", plain(&format!("{error:#}")));
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// The subcommands under which the executable starts itself again: the keeper, and the engine's stages.
pub fn hidden() -> Option<ExitCode> {
    if let Some(code) = engine::embedded::stage() {
        return Some(code);
    }
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != keeper::SUBCOMMAND {
        return None;
    }
    let run_dir = PathBuf::from(arguments.next()?);
    let code = keeper::main(&run_dir);
    // Here, because it is done however the client ended; what only the client knows, it adds afterwards.
    if let Err(error) = reports::of_keeper(&run_dir) {
        eprintln!("{error:#}");
    }
    Some(code)
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().context("failed to print")?;
            return Ok(ExitCode::from(error.exit_code() as u8));
        }
    };
    if cli.mimic.test_threads == Some(0) {
        bail!("`--test-threads=0` would run nothing for ever: give 1 or more, or leave it out");
    }
    let registry = Arc::new(Registry::read()?);
    let recipes = selection::recipes(&cli, &registry, default_recipe)?;
    if recipes.is_empty() {
        refuse_flags_without_recipe(&cli, &arguments)?;
        return Ok(list_without_recipe(&cli, &registry));
    }
    if nextest::is_here() {
        return nextest::run(&cli, registry, &recipes);
    }
    if cli.mimic.list {
        return Ok(list(&cli, &registry, &recipes));
    }
    let mut runs = Vec::new();
    for recipe in &recipes {
        let prepared = prepare::prepare(&cli, recipe)?;
        if cli.plan {
            crate::report::print_plan(&prepared)?;
            continue;
        }
        runs.push(RecipeRun::new(prepared, registry.clone(), &cli, recipes.len() > 1));
    }
    if cli.plan {
        return Ok(ExitCode::SUCCESS);
    }
    go(&cli, &arguments, runs)
}

/// The recipe that `harness.toml` names for trials that are every recipe's.
fn default_recipe() -> Result<Option<String>> {
    let harness: HarnessToml = files::read(&prepare::root().join("harness.toml"))?;
    Ok(harness.recipes.default)
}

/// What is about a recipe means nothing without one, and an empty name is a mistake: a run that proves nothing must not
/// look like one that passed.
fn refuse_flags_without_recipe(cli: &Cli, arguments: &[String]) -> Result<()> {
    const ABOUT_A_RECIPE: [&str; 9] =
        ["--recipe-dir", "--ref", "--pr", "--base", "--tiers", "--plan", "--keep", "--run-dir", "--engine"];
    if !cli.recipe.is_empty() {
        bail!("`--recipe` (or RECIPE) is empty: name a recipe, or leave it out");
    }
    let typed = |flag: &&&str| arguments.iter().any(|it| it.split('=').next() == Some(**flag));
    match ABOUT_A_RECIPE.iter().find(typed) {
        Some(flag) => bail!("`{flag}` is about a recipe, and none is named: `--recipe NAME`"),
        None => Ok(()),
    }
}

fn go(cli: &Cli, arguments: &[String], mut runs: Vec<RecipeRun>) -> Result<ExitCode> {
    if runs.iter().all(RecipeRun::selects_nothing) && Cli::names_recipe_on_command_line(arguments) {
        let filter = cli.mimic.filter.as_deref().unwrap_or_default();
        bail!("no trial matches `{filter}`, so nothing would be proven: `--list` shows the trials");
    }
    let embedded = |run: &&RecipeRun| matches!(run.prepared.spec.engine, engine::EngineSpec::Embedded);
    if let Some(run) = runs.iter().find(embedded) {
        preflight(&run.prepared.spec.state)?;
    }
    for run in &mut runs {
        warm::claim(run)?;
        header::print(&run.prepared, run.said.as_deref());
    }
    let runs: Vec<Arc<RecipeRun>> = runs.into_iter().map(Arc::new).collect();
    let trials: Vec<Trial> = runs.iter().flat_map(trial::of_run).collect();
    let guard = Guard(runs.clone());
    signals::watch(runs.iter().map(|run| run.session.clone()).collect());
    let conclusion = libtest_mimic::run(&cli.mimic, trials);
    signals::yield_to_interruption();
    let mut clean = teardown::finish(&runs);
    drop(guard);
    for run in &runs {
        clean &= leaks::print(run, &summary::text(run));
    }
    clean &= reports::write(cli, &runs);
    clean &= leaks::search(cli, &runs);
    Ok(if clean { conclusion.exit_code() } else { ExitCode::from(FAILED) })
}

/// Runs one real container before anything is begun: a machine that forbids it says so here, once.
fn preflight(state: &Path) -> Result<()> {
    create_private(state)?;
    runtime().block_on(engine::embedded::preflight(state))
}

/// Tears down whatever is still up when the run ends in a way nobody foresaw, such as a panic of the printer.
struct Guard(Vec<Arc<RecipeRun>>);

impl Drop for Guard {
    fn drop(&mut self) {
        for run in &self.0 {
            let session: &Session = &run.session;
            if let Err(error) = runtime().block_on(session.tear_down("the runner ended early")) {
                eprintln!("teardown failed: {error:#}");
            }
        }
    }
}

/// Every trial, ignored: plain `cargo test` deploys nothing by accident. A trial that is run all the same, as an
/// editor's "Run test" does, says what is missing.
fn list_without_recipe(cli: &Cli, registry: &Registry) -> ExitCode {
    let trials = Selected::everything(registry).into_iter().map(|selected| {
        let missing = "choose a recipe: `--recipe NAME`, RECIPE=NAME in the environment, or, for a generic assertion, \
                       `recipes.default` in harness.toml";
        Trial::test(selected.name, move || Err(missing.into())).with_ignored_flag(true)
    });
    libtest_mimic::run(&cli.mimic, trials.collect()).exit_code()
}

/// `--list` touches nothing, not even the recipe's repository.
fn list(cli: &Cli, registry: &Registry, recipes: &[String]) -> ExitCode {
    let mut trials = Vec::new();
    for recipe in recipes {
        let scripts = prepare::overlay_scripts(recipe).unwrap_or_default();
        for selected in Selected::of_recipe(registry, recipe, &scripts) {
            let trial = Trial::test(selected.name, || Ok(()));
            trials.push(if recipes.len() > 1 { trial.with_kind(recipe) } else { trial });
        }
    }
    libtest_mimic::run(&cli.mimic, trials).exit_code()
}
