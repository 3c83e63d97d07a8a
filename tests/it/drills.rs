//! Drills with planted faults, as the tests run them on either engine.

use std::collections::BTreeSet;

use harness::sabotage::Sabotage;
use harness::sabotage::drill::{Drill, Outcome, Score};

use crate::runner::{World, tell};

/// The recipe `whole` has no database for these, which `databases.rs` has.
pub const OF_DATABASES: [Sabotage; 2] = [Sabotage::DatabaseForgets, Sabotage::RestoreHookLoadsNothing];

/// What no fault turns red in the recipe `whole`, for want of a database or of a port of its own: `databases.rs` and `real.rs`
/// have recipes with those.
const RED_ELSEWHERE: [&str; 5] = [
    "generic::install::ports_answer",
    "generic::restore::databases_are_restored",
    "generic::restore::ports_answer",
    "generic::upgrade::databases_are_kept",
    "generic::upgrade::ports_answer",
];

/// Every generic assertion is turned red by a fault, but for those.
pub fn all_are_seen(score: &Score) {
    let unseen: BTreeSet<&str> = score.never_red("generic::").into_iter().collect();
    assert_eq!(unseen, BTreeSet::from(RED_ELSEWHERE), "{}", score.line());
}

/// Runs the drill in a world of its own.
pub fn drill(world: &World, recipe: &str, faults: &[Sabotage], whole: bool) -> Score {
    drill_of(world.command(&["--recipe", recipe]), faults, whole)
}

/// The same with a command line of the runner.
pub fn drill_of(run: harness::process::Run, faults: &[Sabotage], whole: bool) -> Score {
    let drill = Drill { runner: run.program.into(), arguments: run.args, env: run.env, at_once: 3, whole };
    tokio::runtime::Runtime::new().unwrap().block_on(drill.run(faults, |row| tell(&row.to_string()))).unwrap()
}

/// No fault survives; those that have no room are exactly these.
pub fn check(score: &Score, not_planted: &[Sabotage]) {
    for row in score.survivors() {
        let Outcome::Survived { green, said } = &row.outcome else { continue };
        eprintln!("---- {}: still green: {}\n{said}", row.sabotage, green.join(", "));
    }
    let names: Vec<&str> = score.survivors().iter().map(|row| row.sabotage.name()).collect();
    assert!(names.is_empty(), "nobody has seen {names:?}: {}", score.line());
    for row in score.rows.iter().filter(|row| row.outcome == Outcome::Killed) {
        let named = row.sabotage.facts().red;
        assert!(named.iter().all(|name| row.red.contains(*name)), "{row}: {named:?} must all be red themselves");
    }
    let left_out = score.rows.iter().filter(|row| matches!(row.outcome, Outcome::NotPlanted(_)));
    let left_out: Vec<Sabotage> = left_out.map(|row| row.sabotage).collect();
    assert_eq!(left_out, not_planted);
}

/// What faults have left behind on purpose is found by a sweep.
pub fn swept(world: &World) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let swept = runtime.block_on(harness::keeper::sweep::all(&world.state())).unwrap();
    assert!(swept.iter().all(|run| run.leftovers.is_empty()), "{swept:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
