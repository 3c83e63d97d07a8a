//! Every planted fault is seen, by the trials that it names; and every generic assertion sees one.
//!
//! The recipe `whole` has room for all of them: two whole volumes and one that is limited to a dump, a hook that writes
//! it, a secret, and a second service. One fault more than the embedded engine has room for is for a Swarm to show.

use harness::sabotage::Sabotage;
use harness::sabotage::drill::Drill;

use crate::drills::{OF_DATABASES, all_are_seen, check, drill, swept};
use crate::runner::{World, tell};

/// A secret or a network on the embedded engine is part of the containers, and ends with them.
const OF_A_SWARM: [Sabotage; 2] = [Sabotage::LeavesASecret, Sabotage::LeavesANetwork];
#[test]
fn every_planted_fault_is_seen_and_every_generic_assertion_sees_one() {
    let world = World::of_test_data();
    let score = drill(&world, "whole", &Sabotage::ALL, false);
    check(&score, &[OF_DATABASES, OF_A_SWARM].concat());
    all_are_seen(&score);
    tell(&format!("embedded: {}", score.line()));
    swept(&world);
}

#[test]
fn a_recipe_that_fails_anyway_is_no_place_for_a_drill() {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "serves-500"]);
    let drill = Drill { runner: run.program.into(), arguments: run.args, env: run.env, at_once: 1, whole: false };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(drill.run(&[Sabotage::NeverStarts], |_| {})).err().unwrap().to_string();
    let start = "the recipe fails without any fault, so no fault could be seen: generic::install::answers_over_http, ";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn without_a_fault_the_same_recipe_is_green() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "whole"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.with_outcome("ignored").is_empty(), "{ended}");
    assert!(!ended.stderr.contains("WARNING"), "{ended}");
}

#[test]
fn a_run_with_a_fault_says_so_in_its_header_and_its_journal() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "whole", "--sabotage", "never-starts", "--tiers", "install"]);
    assert_eq!(ended.code, 101, "{ended}");
    let warning = "a fault is planted, `never-starts`: the app's program is not there";
    assert!(ended.stderr.contains(&format!("WARNING  {warning}")), "{ended}");
    assert!(ended.message("tier::install").contains("--sabotage never-starts --exact tier::install"), "{ended}");
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap();
    assert!(std::fs::read_to_string(run.path().join("events.jsonl")).unwrap().contains(warning));
}

#[test]
fn a_fault_that_is_unknown_or_has_no_room_is_refused_before_anything() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "whole", "--sabotage", "nonsense"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.starts_with("error: `--sabotage nonsense` names no planted fault: there are "), "{ended}");
    let ended = world.run(&["--recipe", "no-backup", "--sabotage", "secret-is-printed"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert_eq!(
        ended.stderr.trim(),
        "error: `--sabotage secret-is-printed` cannot be planted here: the run has no tier `backup`, which is needed \
         to see it"
    );
    assert!(!world.state().join("runs").exists());
}
