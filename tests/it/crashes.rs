//! Broken-off runs on the embedded engine, as `crash.rs` breaks them off.

use crate::crash::{Victim, all, before_each_sync, crash_at_each, journal, points, records};
use crate::runner::{World, tell};

#[test]
fn a_sigkill_after_any_record_leaves_nothing() {
    let (count, created) = records(&World::of_test_data());
    let mut points = points(count, all());
    // Between the creation of a thing and the record of it.
    points.extend(created.into_iter().map(|record| (format!("before:{record}"), Victim::Both)));
    let reached = crash_at_each(&points, 4, World::of_test_data, |_| {});
    assert!(reached * 10 >= points.len() * 9, "only {reached} of {} runs got to their point", points.len());
    tell(&format!("embedded: {reached} crash points in a run of {count} records, with zero leftovers"));
}

#[test]
fn a_power_loss_that_costs_what_was_not_synced_leaves_nothing() {
    let points = before_each_sync(&journal(&World::of_test_data()));
    let points: Vec<_> = points.into_iter().step_by(if all() { 1 } else { 3 }).collect();
    assert!(!points.is_empty(), "every record is synced");
    let reached = crash_at_each(&points, 4, World::of_test_data, |_| {});
    assert!(reached * 10 >= points.len() * 9, "only {reached} of {} runs got to their point", points.len());
    tell(&format!("embedded: {reached} power losses with unsynced records dropped, with zero leftovers"));
}

#[test]
fn a_journal_that_fails_from_any_record_on_is_an_infrastructure_error_and_leaves_nothing() {
    let (count, _) = records(&World::of_test_data());
    let step = if all() { 1 } else { 9 };
    for record in (1..=count).step_by(step) {
        let world = World::of_test_data();
        let run = world.command(&["--recipe", "whole"]).env("RECIPE_HARNESS_TEST_HALT", format!("fail:{record}"));
        let ended = crate::runner::finish(&run);
        assert_eq!(ended.code, 101, "record {record}: {ended}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("failed to write to the journal `"), "record {record}: {ended}");
        assert_eq!(ended.stdout.matches("test result: FAILED").count(), 1, "record {record}: {ended}");
        let left = world.leftovers();
        assert!(left.iter().all(|it| it.ends_with("/lock")), "record {record}: {left:?}: {ended}");
        // A zero that could not be written down is not proven: the next sweep proves it.
        let swept = tokio::runtime::Runtime::new().unwrap().block_on(harness::keeper::sweep::all(&world.state()));
        assert!(swept.unwrap().iter().all(|run| run.leftovers.is_empty()));
        assert_eq!(world.leftovers(), Vec::<String>::new(), "record {record}: {ended}");
    }
    tell(&format!(
        "embedded: journals that fail from each of {} records on, with zero leftovers",
        count.div_ceil(step)
    ));
}
