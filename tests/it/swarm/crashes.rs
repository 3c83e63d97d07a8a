//! Broken-off runs on a Swarm, as `crash.rs` breaks them off: nothing stays on it either.

use super::docker::named;
use crate::crash::{Point, Victim, crash_at_each, records};
use crate::runner::{World, tell};
use crate::sample;

pub const CASES: &[crate::Case] = &[("a_sigkill_after_any_record_leaves_nothing", a_sigkill_after_any_record)];

fn a_sigkill_after_any_record() {
    let world = || World::of_test_data().on("swarm");
    let (count, created) = records(&world());
    let victims = [Victim::Runner, Victim::Keeper, Victim::Both];
    let mut points: Vec<Point> =
        (1..=count).map(|record| (format!("after:{record}"), victims[record % victims.len()])).collect();
    // Between the creation of a thing and the record of it.
    points.extend(created.into_iter().map(|record| (format!("before:{record}"), Victim::Both)));
    let points = sample::of("crash points on a Swarm", 17, points);
    let reached = crash_at_each(&points, 4, world, |world| {
        let stack = world.domain().replace('.', "_");
        assert_eq!(named(&stack), Vec::<String>::new());
    });
    assert!(reached * 10 >= points.len() * 9, "only {reached} of {} runs got to their point", points.len());
    tell(&format!("swarm: {reached} crash points in a run of {count} records, with zero leftovers"));
}
