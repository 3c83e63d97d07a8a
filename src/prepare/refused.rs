//! What would fail later is refused before anything is created.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::engine::EngineSpec;
use crate::fault::{Failure, Fault};
use crate::memory;
use crate::recipe::refused::{self, Node};
use crate::recipe::{AppState, abra};

/// What would fail later is refused now.
pub fn check(states: &[&AppState]) -> Result<()> {
    let mut problems: Vec<String> = states.iter().flat_map(|state| abra::problems(&state.stack)).collect();
    problems.extend(states.iter().flat_map(|state| refused::problems(&state.stack, &state.document)));
    problems.extend(states.iter().flat_map(|state| state.impossible_images.clone()));
    if let [base, head] = states {
        problems.extend(abra::check_configs(&base.stack, &head.stack));
    }
    refuse(problems)
}

/// A Swarm says itself what none of its nodes can run; on the embedded engine this machine is the only one.
pub fn check_placement(engine: &EngineSpec, states: &[&AppState]) -> Result<()> {
    if !matches!(engine, EngineSpec::Embedded) {
        return Ok(());
    }
    let node = this_machine();
    refuse(states.iter().flat_map(|state| refused::unplaceable(&state.document, node)).collect())
}

fn refuse(mut problems: Vec<String>) -> Result<()> {
    // What base and head have in common is said once.
    let mut said = BTreeSet::new();
    problems.retain(|problem| said.insert(problem.clone()));
    if !problems.is_empty() {
        return Err(Failure::new(Fault::Recipe, problems.join("; ")).into());
    }
    Ok(())
}

/// What this machine has; what nobody can tell is enough for everything.
fn this_machine() -> Node {
    let cpus = std::thread::available_parallelism().map_or(f64::MAX, |cpus| cpus.get() as f64);
    Node { cpus, memory: memory::total().unwrap_or(u64::MAX) }
}
