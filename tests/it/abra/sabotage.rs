//! Planted faults on the abra engine: those that have room between abra and the app. What abra reads from the recipe
//! itself, and what its bot does, nobody stands in between; `quirks.rs` has what an abra itself may do wrong.

use harness::sabotage::Sabotage;

use super::fake::Abra;
use crate::drills::{check, drill_of, swept};
use crate::runner::{World, tell};
use crate::sample;
use crate::swarm::docker::named;

pub const CASES: &[crate::Case] = &[("every_planted_fault_that_has_room_is_seen_through_abra", seen)];

const PLANTED: [Sabotage; 9] = [
    Sabotage::RouteIsCut,
    Sabotage::ServiceFlaps,
    Sabotage::TimeOutIsSwallowed,
    Sabotage::SecretIsPrinted,
    Sabotage::RestoreDoesNothing,
    Sabotage::DeploysTwice,
    Sabotage::LeavesAVolume,
    Sabotage::LeavesASecret,
    Sabotage::LeavesANetwork,
];

fn seen() {
    let faults = if sample::all() { Sabotage::ALL.to_vec() } else { PLANTED.to_vec() };
    let faults = sample::of("planted faults through abra", 6, faults);
    let abra = Abra::in_world(World::of_test_data(), &[]);
    let score = drill_of(abra.command(&["--recipe", "whole"]), &faults, false);
    let without_room: Vec<Sabotage> = faults.iter().filter(|fault| !PLANTED.contains(fault)).copied().collect();
    check(&score, &without_room);
    tell(&format!("abra: {}", score.line()));
    swept(&abra.world);
    let left: Vec<String> = named("whol-").into_iter().filter(|thing| thing.ends_with("_left_behind")).collect();
    assert_eq!(left, Vec::<String>::new());
}
