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
#[allow(dead_code, reason = "each of the test programs uses its part")]
#[path = "../sample.rs"]
mod sample;
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

/// What the abra engine hands to the swarm engine as it is: all but deploying, backing up and undeploying.
const BY_SWARM: [&[Case]; 6] =
    [commands::CASES, files::CASES, logs::CASES, network::CASES, containers::CASES, usage::CASES];

fn main() -> ExitCode {
    if let Some(code) = harness::engine::embedded::stage() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Two of them wait for Docker, one deploys without it, and a fourth begins where one of these ends.
    arguments.test_threads = arguments.test_threads.or(Some(4));
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
    // Side by side, so that what keeps this machine busy and what only waits for Docker take turns.
    for (number, case) in cases.iter().enumerate() {
        trials.extend([On::Swarm, On::Embedded].map(|on| world::trial(*case, on)));
        // The abra engine asks its Swarm for these, so that the same proof would stand twice.
        let asks_its_swarm = BY_SWARM.iter().any(|cases| cases.iter().any(|(name, _)| *name == case.0));
        let left_out = if asks_its_swarm { sample::left_out("questions through abra", 4, number) } else { None };
        trials.push(match left_out {
            Some(reason) => world::left_out(case.0, On::Abra, reason),
            None => world::trial(*case, On::Abra),
        });
    }
    let names: Vec<&'static str> = cases.iter().map(|(name, _)| *name).collect();
    trials.push(differences::trial(names));
    libtest_mimic::run(&arguments, trials).exit_code()
}
