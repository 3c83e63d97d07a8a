//! One suite for every engine: the same compose file and the same calls have to give the same observations.
//!
//! Every case is one function, run once on each engine. Where an engine cannot be like the other, the case says so
//! through `differences::DIFFERENCES`, and both behaviours are asserted.

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

use libtest_mimic::Trial;

use self::world::{Case, On};
use crate::sample;

/// What the abra engine hands to the swarm engine as it is: all but deploying, backing up and undeploying.
const BY_SWARM: [&[Case]; 6] =
    [commands::CASES, files::CASES, logs::CASES, network::CASES, containers::CASES, usage::CASES];

/// Every trial: each case on each engine.
pub fn trials() -> Vec<Trial> {
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
    for (number, case) in cases.iter().enumerate() {
        trials.extend([On::Swarm, On::Embedded].map(|on| world::trial(*case, on)));
        // The abra engine asks its Swarm for these, so that the same proof would stand twice.
        let asks_its_swarm = BY_SWARM.iter().any(|cases| cases.iter().any(|(name, _)| *name == case.0));
        let left_out = match asks_its_swarm {
            true => sample::left_out("questions through abra", 8, number),
            false => sample::left_out("deployments through abra", 3, number),
        };
        trials.push(match left_out {
            Some(reason) => world::left_out(case.0, On::Abra, reason),
            None => world::trial(*case, On::Abra),
        });
    }
    let names: Vec<&'static str> = cases.iter().map(|(name, _)| *name).collect();
    trials.push(differences::trial(names));
    trials
}
