//! An adversary in a container and in a cage: one small program for each attempt, with the promise that it would break.
//!
//! Every attempt runs as the user who runs the tests and, when that is root, as an ordinary user, too. Without libtest,
//! because the embedded engine runs its own executable again. The table in `docs/security.md` is made from this list.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod around;
mod bombs;
mod calls;
mod declared;
mod files;
mod race;
mod reach;
#[allow(dead_code, reason = "the engine's own tests use the rest")]
#[path = "../../../engine-tests/embedded/support.rs"]
mod support;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::engine::embedded::cage::{Cage, How};
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

use crate::support::{World, deployment, idle, trial};

/// What an adversary tries.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub name: &'static str,
    pub promise: Promise,
    pub by: By,
}

/// How it is tried.
#[derive(Clone, Copy)]
pub enum By {
    /// A Python program, in a container and in a cage. It ends with the line `held`, or says what it saw instead.
    Program(&'static str),
    /// The same in a container alone.
    InContainer(&'static str),
    /// A test of its own.
    Test(fn() -> Trial),
    /// A recipe that asks for it, which has to be refused.
    Declared(declared::Asks),
}

/// What `docs/security.md` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    Namespaces,
    Mounts,
    Executable,
    Inherited,
    Keys,
    Kernel,
    Settings,
    Devices,
    Files,
    Powers,
    Network,
    Bounds,
    Declared,
    OtherApps,
}

fn attempts() -> Vec<Attempt> {
    [
        calls::ATTEMPTS,
        files::ATTEMPTS,
        reach::ATTEMPTS,
        around::ATTEMPTS,
        race::ATTEMPTS,
        bombs::ATTEMPTS,
        declared::ATTEMPTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    if let Some(code) = harness::engine::embedded::stage() {
        return code;
    }
    let mut trials: Vec<Trial> = attempts().into_iter().flat_map(trials_of).collect();
    trials.extend(support::as_ordinary_user(&trials));
    trials.push(table::trial());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trials_of(attempt: Attempt) -> Vec<Trial> {
    let Attempt { name, by, .. } = attempt;
    let container = |program| trial(&format!("container::{name}"), move || in_container(program));
    match by {
        By::Program(program) => {
            vec![container(program), trial(&format!("cage::{name}"), move || in_cage(program))]
        }
        By::InContainer(program) => vec![container(program)],
        By::Test(test) => vec![test()],
        By::Declared(asks) => vec![declared::trial(name, asks)],
    }
}

fn argv(program: &str) -> Vec<String> {
    let program = format!("{}\n{}\n{program}\nprint('held')\n", calls::numbers(), calls::PRELUDE);
    ["/usr/bin/python3", "-c", &program].map(str::to_owned).to_vec()
}

async fn in_container(program: &str) -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", idle())])).await?;
    world.converged("app").await?;
    let argv = argv(program);
    let output = world.exec("app", &argv.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.code == 0 && said == "held\n", "it exited with code {} and said: {said}", output.code);
    world.end().await
}

async fn in_cage(program: &str) -> Result<()> {
    let dir = TempDir::new()?;
    let deadline = Duration::from_secs(30);
    let ended = Cage { argv: argv(program), working_dir: "/tmp".into(), deadline, ..Cage::default() };
    let ended = ended.run(dir.path()).await?;
    ensure!(ended.how == How::Exited(0) && ended.output == "held\n", "{}, and said: {}", ended.how, ended.output);
    Ok(())
}
