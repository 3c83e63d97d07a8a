//! Broken-off runs on the embedded engine, as `crash.rs` breaks them off.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crash::{Victim, before_each_sync, crash_at_each, journal, points, records};
use crate::runner::{World, tell};
use crate::sample;

#[test]
fn a_sigkill_after_any_record_leaves_nothing() {
    let (count, created) = records(&World::of_test_data());
    let mut points = sample::of("crash points", 13, points(count));
    // Between the creation of a thing and the record of it.
    points.extend(created.into_iter().map(|record| (format!("before:{record}"), Victim::Both)));
    let reached = crash_at_each(&points, 4, World::of_test_data, |_| {});
    assert!(reached * 10 >= points.len() * 9, "only {reached} of {} runs got to their point", points.len());
    tell(&format!("embedded: {reached} crash points in a run of {count} records, with zero leftovers"));
}

#[test]
fn a_power_loss_that_costs_what_was_not_synced_leaves_nothing() {
    let points = before_each_sync(&journal(&World::of_test_data()));
    let points = sample::of("power losses", 3, points);
    assert!(!points.is_empty(), "every record is synced");
    let reached = crash_at_each(&points, 4, World::of_test_data, |_| {});
    assert!(reached * 10 >= points.len() * 9, "only {reached} of {} runs got to their point", points.len());
    tell(&format!("embedded: {reached} power losses with unsynced records dropped, with zero leftovers"));
}

#[test]
fn a_journal_that_fails_from_any_record_on_is_an_infrastructure_error_and_leaves_nothing() {
    let (count, _) = records(&World::of_test_data());
    let records = sample::of("journals that fail", 9, (1..=count).collect());
    for record in &records {
        let world = World::of_test_data();
        let run = world.command(&["--recipe", "whole"]).env("RECIPE_HARNESS_TEST_HALT", format!("fail:{record}"));
        let ended = crate::runner::finish(&run);
        assert_eq!(ended.code, 3, "record {record}: {ended}");
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
    tell(&format!("embedded: journals that fail from each of {} records on, with zero leftovers", records.len()));
}

/// In an operation, in a question, at the beginning or in the middle of teardown: whoever wrote the record panics.
#[test]
fn a_panic_of_the_keeper_at_any_record_leaves_nothing_and_is_named() {
    let world = World::of_test_data();
    let (count, _) = records(&world);
    let mut points: Vec<usize> = sample::of("panics of the keeper", 11, (1..=count).collect());
    // Written between two operations, by whoever is on the way to the next: everybody else waits for that one.
    let journal = world.journal();
    let measured = journal.lines().enumerate().filter(|(_, line)| line.contains("\"event\":\"measured\""));
    points.extend(measured.map(|(at, _)| at + 1));
    // Before the engine is asked to go: it would go on starting what a sweep removes.
    points.extend(journal.lines().position(|line| line.contains("\"event\":\"teardown_started\"")).map(|at| at + 1));
    points.sort_unstable();
    points.dedup();
    let (next, named) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(record) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    named.fetch_add(usize::from(panics_at(*record)), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(named.into_inner() > 0, "no panic was ever told");
    tell(&format!("embedded: a panic of the keeper at each of {} records, with zero leftovers", points.len()));
}

/// Whether the run says the panic.
fn panics_at(record: usize) -> bool {
    let world = World::of_test_data();
    let run = world.command(&["--recipe", "whole"]).env("RECIPE_HARNESS_TEST_HALT", format!("panic:{record}"));
    let ended = crate::runner::finish(&run);
    // What only tells how a trial went can be told again by the client.
    assert!([0, 3].contains(&ended.code), "{ended}\nrecord {record}: the harness's own fault");
    assert_eq!(
        ended.stdout.matches("\ntest result: ").count(),
        1,
        "{ended}\nrecord {record}: the end is not told once"
    );
    let panic = format!("a panic that is planted at record {record}");
    let is_named = format!("{}{}", ended.stdout, ended.stderr).contains(&panic);
    assert!(is_named || ended.code == 0, "{ended}\nrecord {record}: the panic is not named");
    let left = world.leftovers();
    assert!(left.iter().all(|it| it.ends_with("/lock")), "{ended}\nrecord {record}: {left:?}");
    let swept = crate::crash::sweep(&world);
    assert!(swept.iter().all(|run| run.leftovers.is_empty()), "{ended}\nrecord {record}: {swept:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}\nrecord {record}: left after a sweep");
    is_named
}

/// The sweep of a dead run is itself killed at each of its records; the next one does what is left to do.
#[test]
fn a_sweep_that_is_killed_is_finished_by_the_next() {
    let mut killed = 0;
    for record in 1..20 {
        let world = World::of_test_data();
        let mut running = crate::crash::dead_run(&world, &["--recipe", "whole"]);
        assert!(!world.leftovers().is_empty(), "nobody has cleaned up yet");
        let sweep = harness::process::Run::new(env!("CARGO_BIN_EXE_harness-command"), ["sweep"]);
        let sweep = sweep.env("HARNESS_STATE", world.state());
        let halted = sweep.clone().env("RECIPE_HARNESS_TEST_HALT_SWEEP", format!("before:{record}"));
        let mut command = harness::process::command(&halted.program);
        command.args(&halted.args);
        let mut sweeping = crate::running::Running::start(command, &halted);
        let mut stopped = false;
        crate::running::wait("the sweep to stop at its record, or to end", || {
            stopped = sweeping.is_stopped();
            stopped || sweeping.has_ended()
        });
        if stopped {
            sweeping.signal(rustix::process::Signal::KILL);
            killed += 1;
        }
        sweeping.end();
        let again = crate::runner::finish(&sweep);
        assert_eq!(again.code, 0, "record {record}: {again}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "record {record}: {again}");
        running.end();
        if !stopped {
            break;
        }
    }
    assert!(killed > 1, "a sweep of a dead run writes records");
    tell(&format!("embedded: a sweep killed at each of its {killed} records, with zero leftovers"));
}
