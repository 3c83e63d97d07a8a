//! Registries: a real one, and one that fails on request.

mod daemon;
mod fake;
mod pulls;
mod refusals;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = refusals::CASES.iter().copied().map(crate::trial).collect();
    trials.extend(pulls::CASES.iter().copied().map(pulls::trial));
    trials
}
