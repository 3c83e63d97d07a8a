//! Planted faults on a real Swarm: those that no other engine has room for, and some of the others or all of them.

use harness::sabotage::Sabotage;

use super::docker::named;
use crate::drills::{OF_DATABASES, all_are_seen, check, drill, swept};
use crate::runner::{World, tell};
use crate::sample;

pub const CASES: &[crate::Case] = &[("every_planted_fault_is_seen_on_a_swarm", every_planted_fault_is_seen)];

const ONLY_HERE: [Sabotage; 3] = [Sabotage::LeavesAVolume, Sabotage::LeavesASecret, Sabotage::LeavesANetwork];

fn every_planted_fault_is_seen() {
    let others = Sabotage::ALL
        .iter()
        .copied()
        .filter(|fault| !ONLY_HERE.contains(fault) && !OF_DATABASES.contains(fault))
        .collect();
    let mut faults = sample::of("planted faults on a Swarm", 8, others);
    faults.extend(ONLY_HERE);
    let world = World::of_test_data().on("swarm");
    let score = drill(&world, "whole", &faults, false);
    check(&score, &[]);
    if sample::all() {
        all_are_seen(&score);
    }
    tell(&format!("swarm: {}", score.line()));
    // What was left on purpose is still there, under the run's mark, and a sweep takes it away.
    swept(&world);
    let left: Vec<String> = named("whol-").into_iter().filter(|thing| thing.ends_with("_left_behind")).collect();
    assert_eq!(left, Vec::<String>::new());
}
