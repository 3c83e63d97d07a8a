//! `--watch`: runs again whenever a file changes that a run depends on, with the app kept warm in between.
//!
//! Each run is a process of its own, so that nothing of the last one stays. Under cargo it is cargo that starts the
//! next, because a changed Rust file has to be compiled first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::warm;
use crate::client::runtime;
use crate::config::cli::Cli;
use crate::config::state;
use crate::plain::plain;
use crate::poll::{Look, Poll};
use crate::process;
use crate::program::root;

/// As a shell reports it.
const INTERRUPTED: u8 = 130;
/// How long the app stays up between two runs, where HARNESS_WARM says nothing else.
const WARM: &str = "10m";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Somebody who writes for a day goes on watching.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What a file is known by, as far as a look at it tells.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Runs, waits for a change, and runs again, until it is interrupted. Then the app is torn down.
pub fn run(cli: &Cli, recipes: &[String]) -> Result<ExitCode> {
    if std::env::var("HARNESS_WARM").is_ok_and(|warm| warm == "0") {
        bail!("`--watch` keeps the app up between two runs, and HARNESS_WARM=0 forbids it: leave one of them out");
    }
    // As they were typed: `harness test NAME` has others than the test executable.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--watch").collect();
    let places = places(cli, recipes);
    runtime().block_on(watch(&arguments, &places))?;
    end(recipes)?;
    Ok(ExitCode::from(INTERRUPTED))
}

async fn watch(arguments: &[String], places: &[PathBuf]) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for signals")?;
    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for signals")?;
    let mut through_cargo = None;
    loop {
        let before = look(places);
        let child = start(arguments, through_cargo.as_deref())?;
        let pid = Pid::from_child(&child);
        let mut ended = tokio::task::spawn_blocking(move || wait(child));
        tokio::select! {
            ended = &mut ended => ended.context("lost a run")??,
            // A terminal interrupts both. Whoever interrupts only this one means the run as well.
            _ = interrupted.recv() => return stop(pid, Signal::INT, ended).await,
            _ = terminated.recv() => return stop(pid, Signal::TERM, ended).await,
        }
        eprintln!("\nwatch    waiting for a file to change; Ctrl-C tears the app down");
        tokio::select! {
            changed = change(places, &before) => eprintln!("watch    {} has changed\n", plain(&changed?)),
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        }
        through_cargo = std::env::var_os("CARGO");
    }
}

/// The run tears down what it deployed, and then ends.
async fn stop(pid: Pid, signal: Signal, ended: tokio::task::JoinHandle<Result<()>>) -> Result<()> {
    // A run that has ended meanwhile needs no signal.
    let _ = kill_process(pid, signal);
    ended.await.context("lost a run")?
}

fn start(arguments: &[String], cargo: Option<&std::ffi::OsStr>) -> Result<Child> {
    let mut command = match cargo {
        None => process::command("/proc/self/exe"),
        Some(cargo) => {
            let mut command = process::command(cargo);
            command.args(["test", "--quiet", "--test", "recipe", "--manifest-path"]).arg(root().join("Cargo.toml"));
            command.arg("--");
            command
        }
    };
    if std::env::var_os("HARNESS_WARM").is_none_or(|warm: OsString| warm.is_empty()) {
        command.env("HARNESS_WARM", WARM);
    }
    command.args(arguments).spawn().context("failed to start a run")
}

/// How it went, it has said itself.
fn wait(mut child: Child) -> Result<()> {
    child.wait().map(drop).context("failed to wait for a run")
}

/// What a run depends on and somebody may be working on.
fn places(cli: &Cli, recipes: &[String]) -> Vec<PathBuf> {
    let root = root();
    let overlays = recipes.iter().map(|recipe| root.join("overlays").join(recipe));
    let bundled = recipes.iter().map(|recipe| root.join("recipes").join(recipe));
    let more = ["generic", "src", "harness.toml", "repo-local-approved.txt"].map(|name| root.join(name));
    overlays.chain(bundled).chain(more).chain(cli.recipe_dir.clone()).collect()
}

/// The first file that is not as it was.
async fn change(places: &[PathBuf], before: &Files) -> Result<String> {
    let poll = Poll { interval: LOOK, deadline: PATIENCE };
    let changed = poll.until("a file to change", async || {
        let now = look(places);
        let differs = |path: &&PathBuf| now.get(*path) != before.get(*path);
        Ok(match now.keys().chain(before.keys()).find(differs) {
            Some(path) => Look::Ready(format!("`{}`", path.display())),
            None => Look::NotYet("they are as they were".into()),
        })
    });
    changed.await
}

fn look(places: &[PathBuf]) -> Files {
    let mut files = Files::new();
    places.iter().for_each(|place| collect(place, &mut files));
    files
}

/// A file, or everything in a folder. What git and editors keep there for themselves is no change.
fn collect(path: &Path, files: &mut Files) {
    let Ok(about) = path.metadata() else { return };
    if about.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let paths = entries.filter(|entry| !is_kept_aside(&entry.file_name().to_string_lossy()));
        paths.for_each(|entry| collect(&entry.path(), files));
    } else if about.is_file() {
        files.insert(path.to_owned(), (about.modified().ok(), about.len()));
    }
}

fn is_kept_aside(name: &str) -> bool {
    name.starts_with('.') && name != ".env.sample" || name.ends_with('~')
}

/// Tears down the apps that the last run has left up.
fn end(recipes: &[String]) -> Result<()> {
    let state = state::dir(&|key| std::env::var(key).ok())?;
    for recipe in recipes {
        if let Some(id) = warm::end(&state, recipe)? {
            eprintln!("watch    {id} is torn down, nothing is left");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_changed_and_a_removed_file_is_a_change_and_an_editors_own_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let places = [dir.path().to_owned()];
        put("recipe.toml", "a");
        let before = look(&places);
        put(".recipe.toml.swp", "x");
        put("recipe.toml~", "x");
        assert_eq!(look(&places), before);
        put("recipe.toml", "ab");
        let changed = runtime().block_on(change(&places, &before)).unwrap();
        assert_eq!(changed, format!("`{}`", dir.path().join("recipe.toml").display()));
        let before = look(&places);
        std::fs::remove_file(dir.path().join("recipe.toml")).unwrap();
        assert!(runtime().block_on(change(&places, &before)).unwrap().contains("recipe.toml"));
    }
}
