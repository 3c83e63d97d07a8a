//! Whole runs that deploy through abra, for which `fake-abra` stands in: on a real Swarm, with the habits of abra that
//! mislead.

mod doctor;
pub mod fake;
mod green;
mod quirks;
mod refused;
mod sabotage;

use libtest_mimic::Trial;

use crate::swarm::docker;
use crate::{Needs, trial};

/// Every trial, with what it needs of this machine.
pub fn trials(needs: &Needs) -> Vec<Trial> {
    let missing = needs.look(docker::missing);
    let cases = [green::CASES, quirks::CASES, refused::CASES, sabotage::CASES].concat();
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| trial("abra", case, missing.clone())).collect();
    let missing = missing.or_else(|| needs.look(doctor::missing));
    trials.extend(doctor::CASES.iter().map(|case| trial("abra", *case, missing.clone())));
    trials
}
