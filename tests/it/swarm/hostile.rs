//! Recipes that mean harm, on a Swarm: nothing of theirs runs outside of its cage or is deployed.

use crate::repo_local;
use crate::runner::{World, checkout};

pub const CASES: &[crate::Case] =
    &[("hostile_code_runs_nowhere_or_in_its_cage", hostile_code_runs_nowhere_or_in_its_cage)];

fn hostile_code_runs_nowhere_or_in_its_cage() {
    repo_local::hostile(&World::new(checkout().join("tests/data/hostile")).on("swarm"));
}
