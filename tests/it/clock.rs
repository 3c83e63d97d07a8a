//! A clock that jumps in the middle of a run: for every process of the run it is another day from one record on.

use std::path::{Path, PathBuf};

use crate::crash::{records, sweep, while_halted};
use crate::runner::{World, tell};
use crate::sample;

#[test]
fn a_clock_that_jumps_by_a_day_changes_nothing_of_a_run() {
    let Some(library) = faketime() else { return };
    let (count, _) = records(&World::of_test_data());
    let mut jumps = 0;
    for (at, record) in sample::of("clocks that jump", 29, (2..count).collect()).into_iter().enumerate() {
        let days = if at % 2 == 0 { "+1d" } else { "-1d" };
        jumps_at(&World::of_test_data(), &library, record, days);
        jumps += 1;
    }
    tell(&format!("embedded: a clock that jumps by a day at each of {jumps} records, every run green"));
}

fn jumps_at(world: &World, library: &Path, record: usize, days: &str) {
    let clock = world.dir.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let run = world
        .command(&["--recipe", "whole"])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        // What counts how long things take does not jump: only the clock on the wall can be set.
        .env("DONT_FAKE_MONOTONIC", "1");
    let ended = while_halted(world, run, record, || {
        std::fs::write(&clock, days).unwrap();
        // One that looks from this day lets the run be.
        let swept = sweep(world);
        assert!(swept.is_empty(), "record {record}, {days}: {swept:?}");
    });
    assert_eq!(std::fs::read_to_string(&clock).unwrap(), days, "the run ended before its record {record}: {ended}");
    assert_eq!(ended.code, 0, "record {record}, {days}: {ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "record {record}, {days}: {ended}");
    let results: serde_json::Value = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    let took = results["millis"].as_u64().unwrap();
    assert!((1..100_000).contains(&took), "record {record}, {days}: the run took {took} ms");
}

/// The library that lets a clock jump; `None` where it is missing, which CI's machine must have.
fn faketime() -> Option<PathBuf> {
    let found = ["x86_64", "aarch64"].map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1"));
    let found = found.into_iter().map(PathBuf::from).find(|library| library.exists());
    if found.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must have faketime");
        tell("a clock that jumps is not tried, because faketime is missing: on Debian, apt-get install faketime");
    }
    found
}
