//! The commands: testing a recipe; runs that are there, which are up, tearing them down, what dead ones left, their
//! reports, and telling a pull request of them; what the state directory holds.
//!
//! The `harness` executable answers them, and so does the test executable that began the run: it is built already when
//! somebody wants to be rid of an app that was kept.

mod down;
mod look;
mod open;
mod runs;
mod sabotage;
mod shell;
mod store;
mod test;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::announce;
use crate::caller;
use crate::config::{environment, state};
use crate::doctor::{self, Asked};
use crate::keeper::{journal, sweep};
use crate::plain::printed;
use crate::recipe::suggest;
use crate::report::{files, history};
use crate::spelling;

/// Proves that a Co-op Cloud recipe works: deploys it once, upgrades, backs up and restores it, and judges each step
#[derive(Parser)]
#[command(name = "harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tests a recipe
    Test(Box<test::Options>),
    /// Removes what dead runs have left; runs that live are not touched
    Sweep,
    /// Plants every fault in runs of a recipe, one after the other, and fails if one of them goes unseen
    Sabotage(sabotage::Options),
    /// Lists the runs that are up: in use, kept, or warm
    Runs,
    /// Tears down a run that was left up, with `--keep` or HARNESS_WARM
    Down {
        /// The run's id, as `harness runs` lists it
        run: String,
    },
    /// Writes a first overlay for a recipe, from what its compose files say; what is there already stays as it is
    Init(look::Init),
    /// Runs a command in a container of an app that was left up
    Exec(look::Command),
    /// Prints the log of a service of an app that was left up
    Logs(look::Logs),
    /// Looks whether a server is ready for runs through abra, step by step, with a remedy beside each failing line
    Doctor {
        /// Which of abra's servers; as in harness.toml when not given
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        /// The network that apps share with Traefik
        #[arg(long, value_name = "NAME", default_value = "proxy")]
        network: String,
        /// A small image to pull
        #[arg(long, value_name = "REFERENCE", default_value = "hello-world:latest")]
        image: String,
    },
    /// Makes the reports of a run again from its journal, and prints its summary as Markdown
    Report {
        /// The run's id, or its directory; the newest run when not given
        run: Option<String>,
        /// Show all runs beside each other instead: what has become slower, and what is flaky
        #[arg(long, conflicts_with = "run")]
        history: bool,
    },
    /// Tells a pull request what a run has come to: by the status of its commit, and by one comment
    Announce(Box<announce::Options>),
    /// Opens the report of a run in a browser
    Open {
        /// The run's id, or its directory; the newest run when not given
        run: Option<String>,
    },
    /// Says how much the state directory holds: runs, mirrors, images
    Du,
    /// Removes what no run needs: mirrors, unpacked images, and the records of runs that are long over
    Prune(store::Prune),
    /// Prints completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual as a man page: `harness man | man -l -`
    Man,
}

/// What the `harness` executable does.
pub fn main() -> ExitCode {
    if let Some(code) = crate::runner::hidden() {
        return code;
    }
    answer(parse_from(std::env::args_os()).command)
}

/// What a test executable does when it is started as `harness COMMAND …` instead of for its trials. A single word is a
/// filter of libtest's, whatever it says.
pub fn asked_for() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    arguments.next_if(|first| first == spelling::MARK)?;
    arguments.peek()?;
    let arguments = [OsString::from(spelling::MARK)].into_iter().chain(arguments);
    Some(answer(parse_from(arguments).command))
}

/// An empty variable is one that nobody has set, for `harness test` as for the test executable.
fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Cli {
    let matches = Cli::command().mut_subcommand("test", environment::adjust).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn answer(command: Command) -> ExitCode {
    let result = match command {
        Command::Test(options) => test::run(*options),
        Command::Du => store::du(),
        Command::Prune(asked) => store::prune(&asked),
        Command::Completions { shell } => shell::completions(&mut Cli::command(), shell),
        Command::Man => shell::manual(Cli::command()),
        Command::Sweep => sweep_all(),
        Command::Sabotage(options) => runtime().and_then(|runtime| runtime.block_on(sabotage::run(&options))),
        Command::Runs => runs_dir().and_then(|dir| runtime()?.block_on(runs::list(&dir))),
        Command::Down { run } => dir_of(&run).and_then(|dir| runtime()?.block_on(down::run(&run, &dir))),
        Command::Init(init) => look::init(&init),
        Command::Exec(exec) => dir_of(&exec.run).and_then(|dir| runtime()?.block_on(look::exec(exec, &dir))),
        Command::Logs(logs) => dir_of(&logs.run).and_then(|dir| runtime()?.block_on(look::logs(logs, &dir))),
        Command::Doctor { server, network, image } => examine(Asked { server, network, image }),
        Command::Report { history: true, .. } => past_runs(),
        Command::Report { run, .. } => report(run.as_deref()),
        Command::Announce(options) => runtime().and_then(|runtime| runtime.block_on(announce::run(*options))),
        Command::Open { run } => dir_or_newest(run.as_deref()).and_then(|dir| open::report(&dir)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", printed(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

fn examine(asked: Asked) -> Result<ExitCode> {
    let root = crate::program::root();
    let examination = doctor::examine(asked, |key| std::env::var(key).ok(), &root);
    let examination = runtime()?.block_on(examination)?;
    write!(std::io::stdout().lock(), "{examination}").context("failed to print")?;
    Ok(if examination.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sweep_all() -> Result<ExitCode> {
    let state = state::dir(&|key| std::env::var(key).ok())?;
    let swept = runtime()?.block_on(sweep::all(&state))?;
    for run in &swept {
        eprintln!("{run}");
    }
    if swept.is_empty() {
        eprintln!("no dead run has left anything");
    }
    let clean = swept.iter().all(|run| run.leftovers.is_empty());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("failed to start the runtime")
}

fn runs_dir() -> Result<PathBuf> {
    Ok(sweep::runs_dir(&state::dir(&|key| std::env::var(key).ok())?))
}

fn dir_of(run: &str) -> Result<PathBuf> {
    let runs = runs_dir()?;
    // A run's id, or the path of its directory, from where it was typed.
    let named = if run.contains('/') { None } else { Some(runs.join(run)) };
    let dir = match named.filter(|dir| sweep::started(dir).is_some()) {
        Some(dir) => dir,
        None => caller::absolute(Path::new(run))?,
    };
    if run.contains('/') && sweep::started(&dir).is_none() {
        bail!("no run has left its record in `{}`: there is no `{}`", dir.display(), journal::FILE);
    }
    if sweep::started(&dir).is_none() {
        let mut known: Vec<_> = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|it| it.path()).collect();
        known.retain(|dir| sweep::started(dir).is_some());
        known.sort_by_key(|dir| std::cmp::Reverse(sweep::started(dir)));
        let names = known.iter().filter_map(|dir| dir.file_name()?.to_str());
        bail!("no run `{run}`: `{}` holds the runs, the newest are {}", runs.display(), suggest::listed(names, 3));
    }
    Ok(dir)
}

fn dir_or_newest(run: Option<&str>) -> Result<PathBuf> {
    match run {
        Some(run) => dir_of(run),
        None => newest(),
    }
}

fn report(run: Option<&str>) -> Result<ExitCode> {
    let dir = dir_or_newest(run)?;
    let results = files::of_dir(&dir)?;
    for text in files::left_out(&dir) {
        eprintln!("note: {}", printed(&text));
    }
    for name in files::NAMES {
        eprintln!("{}", dir.join(name).display());
    }
    std::io::stdout().write_all(files::summary(&results).as_bytes()).context("failed to print the summary")?;
    Ok(ExitCode::SUCCESS)
}

fn past_runs() -> Result<ExitCode> {
    let text = history::render(&history::read(&runs_dir()?));
    std::io::stdout().write_all(text.as_bytes()).context("failed to print the history")?;
    Ok(ExitCode::SUCCESS)
}

fn newest() -> Result<PathBuf> {
    let runs = runs_dir()?;
    let dirs = std::fs::read_dir(&runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = dirs.filter(|dir| sweep::started(dir).is_some()).max_by_key(|dir| sweep::started(dir));
    newest.with_context(|| format!("no run has left a record in `{}`", runs.display()))
}
