//! Whole runs on a real Docker Swarm: green ones, broken ones, and broken-off ones.

mod auto;
mod crashes;
mod databases;
mod declared;
pub mod docker;
mod faults;
mod full;
mod green;
mod hostile;
mod neighbour;
mod proxy;
mod red;
pub mod registry;
pub mod remote;
mod sabotage;
mod ssh;
mod teardown;
pub mod traefik;

use libtest_mimic::Trial;

use crate::{Needs, trial};

/// Every trial, with what it needs of this machine.
pub fn trials(needs: &Needs) -> Vec<Trial> {
    let cases = [
        auto::CASES,
        crashes::CASES,
        databases::CASES,
        declared::CASES,
        faults::CASES,
        green::CASES,
        hostile::CASES,
        neighbour::CASES,
        red::CASES,
        sabotage::CASES,
        teardown::CASES,
        traefik::CASES,
        remote::CASES,
    ]
    .concat();
    let missing = needs.look(docker::missing);
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| trial("swarm", case, missing.clone())).collect();
    // Some need more than a Swarm.
    for (cases, missing_too) in
        [(registry::CASES, registry::missing as fn() -> _), (full::CASES, full::missing), (ssh::CASES, ssh::missing)]
    {
        let missing = missing.clone().or_else(|| needs.look(missing_too));
        trials.extend(cases.iter().map(|case| trial("swarm", *case, missing.clone())));
    }
    trials
}
