//! One suite for every engine: the same compose file and the same calls have to give the same observations.
//!
//! Every case is one function, run once on each engine. Where an engine cannot be like the other, the case says so
//! through `differences::DIFFERENCES`, and both behaviours are asserted.
//!
//! Without libtest, because the embedded engine runs its own executable again, and because where there is no Swarm its
//! trials are ignored with the reason; in CI they fail with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot get at what it looks at has failed")]

mod abra;
mod differences;
mod docker;
mod recipe;
mod world;

mod commands;
mod containers;
mod deploying;
mod files;
mod logs;
mod network;
mod objects;
mod removal;
mod tasks;
mod updates;
mod usage;
mod volumes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::world::{Case, On};

fn main() -> ExitCode {
    if let Some(code) = harness::engine::embedded::stage() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // A Docker daemon is kept busy by two: more of them only wait for each other.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let cases: Vec<Case> = [
        deploying::CASES,
        tasks::CASES,
        updates::CASES,
        commands::CASES,
        files::CASES,
        volumes::CASES,
        logs::CASES,
        objects::CASES,
        network::CASES,
        containers::CASES,
        usage::CASES,
        removal::CASES,
    ]
    .concat();
    let mut trials: Vec<Trial> = Vec::new();
    for on in [On::Embedded, On::Swarm, On::Abra] {
        trials.extend(cases.iter().map(|case| world::trial(*case, on)));
    }
    let names: Vec<&'static str> = cases.iter().map(|(name, _)| *name).collect();
    trials.push(differences::trial(names));
    libtest_mimic::run(&arguments, trials).exit_code()
}
