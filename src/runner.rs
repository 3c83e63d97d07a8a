//! What `tests/recipe.rs` calls: arguments in, trials out, an exit code at the end.

mod call;
mod calls;
mod candidates;
mod data;
mod exit;
mod last_failed;
mod leaks;
mod listed;
mod nextest;
mod recipe_run;
mod reports;
mod scripted;
mod selection;
mod side_by_side;
mod signals;
mod teardown;
mod told_once;
mod trial;
mod turns;
mod warm;
mod watch;
mod without_recipe;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Arguments, Conclusion, Trial};

use crate::assertion::Registry;
use crate::client::{Session, runtime};
use crate::config::cli::Cli;
use crate::config::files::{self, HarnessToml};
use crate::config::state::create_private;
use crate::config::{environment, paths};
use crate::fault::{Blame as _, Failure, Fault};
use crate::plain::printed;
use crate::process::harden;
use crate::recipe::suggest::did_you_mean;
use crate::report::results::Results;
use crate::report::{header, summary, verdict};
use crate::{engine, fault, keeper, program};
use candidates::{Candidate, Stopped};
use exit::Code;
pub use recipe_run::RecipeRun;
use side_by_side::Places;

/// The whole of a test executable's `main`.
pub fn main() -> ExitCode {
    if let Some(code) = hidden() {
        return code;
    }
    if let Some(code) = crate::command::asked_for() {
        return code;
    }
    // This process is told the secrets, too. Nothing is proven by it, so that a machine which refuses is no reason to fail.
    let _ = harden::no_core_file();
    // What it starts, git and a browser among them, is not whoever started it.
    harden::keep_inherited();
    harden::leave_keys();
    match parse_and_run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", printed(&format!("{error:#}")));
            ExitCode::from(Code::Usage.number())
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

fn parse_and_run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match environment::parse(std::env::args_os()) {
        Ok(cli) => run(&cli, &arguments),
        Err(error) => {
            match error.print() {
                // Nobody may be left to read it, as behind `head`.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                printed => printed.context("failed to print")?,
            }
            Ok(ExitCode::from(error.exit_code() as u8))
        }
    }
}

/// Does what a command line asks for. `arguments` is as it was typed: it tells a flag from a variable.
pub fn run(cli: &Cli, arguments: &[String]) -> Result<ExitCode> {
    if cli.mimic.test_threads == Some(0) {
        bail!("`--test-threads=0` would run nothing for ever: give 1 or more, or leave it out");
    }
    let mut cli = cli.clone();
    paths::locate(&mut cli)?;
    let cli = &cli;
    let registry = Arc::new(Registry::read()?);
    let recipes = selection::recipes(cli, &registry, default_recipe)?;
    if recipes.is_empty() {
        refuse_flags_without_recipe(cli, arguments)?;
        without_recipe::refuse_filter(cli, &registry)?;
        return Ok(listed::without_recipe(cli, &registry));
    }
    if nextest::is_here() {
        return nextest::run(cli, registry, &recipes);
    }
    if cli.watch {
        return watch::run(cli, &recipes);
    }
    if cli.mimic.list {
        return Ok(listed::list(cli, &registry, &recipes));
    }
    let candidates = candidates::decide(cli, &registry, &recipes)?;
    match cli.plan {
        true => plan(&candidates),
        false => go(cli, arguments, candidates),
    }
}

/// Prints what would be done; nothing is created, and no report is written of what could not begin.
fn plan(candidates: &[Candidate]) -> Result<ExitCode> {
    let mut code = Code::Proven;
    for candidate in candidates {
        match candidate {
            Candidate::Run(run) => crate::report::print_plan(&run.prepared)?,
            Candidate::Stopped(stopped) => {
                // What is known is shown, and then what stands in the way of it.
                stopped.plan.iter().try_for_each(|plan| crate::report::print(&plan.to_string()))?;
                eprint!("{}", stopped.said());
                code = code.max(stopped.code());
            }
        }
    }
    Ok(ExitCode::from(code.number()))
}

/// The recipe that `harness.toml` names for trials that are every recipe's.
fn default_recipe() -> Result<Option<String>> {
    let harness: HarnessToml = files::read(&program::root().join("harness.toml"))?;
    if let Some(name) = &harness.recipes.default {
        eprintln!(
            "note: no recipe is named, so it is `{name}` (`recipes.default` in harness.toml): RECIPE={name} says so, or another"
        );
    }
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

fn go(cli: &Cli, arguments: &[String], mut candidates: Vec<Candidate>) -> Result<ExitCode> {
    if candidates.iter().all(|it| it.selected() == 0) && Cli::names_recipe_on_command_line(arguments) {
        let filter = cli.mimic.filter.as_deref().unwrap_or_default();
        let meant = did_you_mean(filter, candidates.iter().flat_map(Candidate::words));
        bail!("no trial matches `{filter}`, so nothing would be proven: `--list` shows the trials{meant}");
    }
    let several = candidates.len() > 1;
    leave_out_what_is_not_asked_for(&mut candidates);
    let jobs = side_by_side::jobs(cli, candidates.len(), candidates.iter().all(is_embedded))?;
    let (mut runs, mut stopped) = (Vec::new(), Vec::new());
    let most_trials = candidates.iter().map(Candidate::selected).max().unwrap_or_default();
    for candidate in candidates {
        match begin(candidate, several) {
            Ok(run) => runs.push(run),
            Err(it) => {
                eprint!("{}", it.said());
                stopped.push(it);
            }
        }
    }
    let threads = several.then(|| side_by_side::threads(jobs, most_trials));
    if several {
        let places = Arc::new(Places::new(runs.len(), jobs));
        runs.iter_mut().enumerate().for_each(|(number, run)| run.seat = Some((places.clone(), number)));
        eprintln!("\nat once  {jobs} of {} recipes", runs.len());
    }
    let runs: Vec<Arc<RecipeRun>> = runs.into_iter().map(Arc::new).collect();
    let (conclusion, clean) = perform(cli, threads, &runs, &stopped);
    Ok(conclude(cli, &runs, &stopped, &conclusion, clean))
}

/// A filter may name trials of one recipe alone: the others are not under test then.
fn leave_out_what_is_not_asked_for(candidates: &mut Vec<Candidate>) {
    if candidates.iter().any(|it| it.selected() > 0) {
        candidates.retain(|it| {
            let is_asked_for = it.selected() > 0;
            if !is_asked_for {
                eprintln!("note: no trial of `{}` is asked for", it.recipe());
            }
            is_asked_for
        });
    }
}

fn is_embedded(candidate: &Candidate) -> bool {
    match candidate {
        Candidate::Run(run) => matches!(run.prepared.spec.engine, engine::EngineSpec::Embedded),
        Candidate::Stopped(_) => true,
    }
}

/// Looks whether the machine has a place for a run, and says what it will be.
fn begin(candidate: Candidate, several: bool) -> Result<RecipeRun, Box<Stopped>> {
    let mut run = match candidate {
        Candidate::Run(run) => *run,
        Candidate::Stopped(stopped) => return Err(stopped),
    };
    let embedded = matches!(run.prepared.spec.engine, engine::EngineSpec::Embedded);
    let ready = if embedded { preflight(&run.prepared.spec.state) } else { Ok(()) };
    // Whoever has not asked for this engine would not know that another one would do, and why it does not.
    let ready = ready.map_err(|error| error.context(format!("engine {}", run.prepared.spec.about.engine)));
    let ready = ready.and_then(|()| warm::claim(&mut run)).blame(Fault::Infrastructure);
    match ready.map_err(|error| fault::failure(error).unwrap_or_else(Failure::infrastructure)) {
        Ok(()) => {
            header::print(&run.prepared, run.said.as_deref());
            Ok(run)
        }
        Err(failure) => Err(Stopped::after_all(&run.prepared, failure, several).into()),
    }
}

/// Runs the trials, and ends whatever no trial has ended: as it was asked for, and only what is up after that is torn down
/// by the guard. False when that went wrong.
fn perform(cli: &Cli, threads: Option<usize>, runs: &[Arc<RecipeRun>], stopped: &[Box<Stopped>]) -> (Conclusion, bool) {
    let trials: Vec<Trial> = stopped.iter().map(|it| it.trial()).chain(runs.iter().flat_map(trial::of_run)).collect();
    let guard = Guard(runs.to_vec());
    signals::watch(runs.iter().map(|run| run.session.clone()).collect());
    let arguments = Arguments { test_threads: threads.or(cli.mimic.test_threads), ..cli.mimic.clone() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    signals::yield_to_interruption();
    let clean = teardown::finish(runs);
    drop(guard);
    (conclusion, clean)
}

/// Writes every report, and says what became of each recipe.
fn conclude(
    cli: &Cli,
    runs: &[Arc<RecipeRun>],
    stopped: &[Box<Stopped>],
    conclusion: &Conclusion,
    mut clean: bool,
) -> ExitCode {
    for run in runs {
        clean &= leaks::print(run, &summary::text(run));
    }
    for it in stopped {
        clean &= said_if_failed(it.record());
    }
    let results: Vec<(PathBuf, Results)> = runs
        .iter()
        .map(|run| reports::of(run))
        .chain(stopped.iter().map(|it| (it.run_dir.clone(), it.results())))
        .collect();
    clean &= reports::write(cli, &results);
    clean &= leaks::search(cli, runs);
    let rows = results
        .iter()
        .map(|(dir, results)| verdict::Row { results, dir: dir.join("report.html").is_file().then_some(dir) });
    let masked = |text: &str| runs.iter().fold(text.to_owned(), |text, run| run.session.masked(&text));
    eprint!("{}", verdict::text(&rows.collect::<Vec<_>>(), masked));
    let codes = results[..runs.len()].iter().map(|(_, results)| Code::of(results));
    let mut code = codes.chain(stopped.iter().map(|it| it.code())).max().unwrap_or(Code::Unproven);
    if !clean || (conclusion.has_failed() && code < Code::Usage) {
        code = code.max(Code::Trouble);
    }
    ExitCode::from(code.number())
}

fn said_if_failed(done: Result<()>) -> bool {
    done.inspect_err(|error| eprintln!("error: {}", printed(&format!("{error:#}")))).is_ok()
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
