//! Times whole five-tier runs of the bundled recipe, and splits each into operations, assertions and the harness's own
//! time. Not a test: nothing here can fail. `cargo bench --bench run`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends when it cannot measure")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::keeper::journal::{self, Event, Record};
use harness::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const RUNS: usize = 7;

fn main() -> ExitCode {
    let Some(runner) = std::env::var_os("RUNNER").map(PathBuf::from) else {
        println!("RUNNER must name the built runner: see docs/performance.md");
        return ExitCode::from(2);
    };
    let mut samples: Vec<Sample> = (0..=RUNS).map(|_| measure(&runner)).collect();
    // The first run fills the caches of the file system.
    samples.remove(0);
    println!(
        "| of {RUNS} runs | whole run | operations | waiting for stability | harness and assertions | peak memory |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, pick) in [("fastest", 0), ("median", RUNS / 2), ("slowest", RUNS - 1)] {
        let at = |of: fn(&Sample) -> u64| {
            let mut values: Vec<u64> = samples.iter().map(of).collect();
            values.sort_unstable();
            values[pick]
        };
        println!(
            "| {name} | {} ms | {} ms | {} ms | {} ms | {} MB |",
            at(|it| it.whole),
            at(|it| it.operations),
            at(|it| it.stability),
            at(|it| it.rest),
            at(|it| it.memory)
        );
    }
    ExitCode::SUCCESS
}

/// Milliseconds, and megabytes of test process and keeper together.
struct Sample {
    whole: u64,
    operations: u64,
    stability: u64,
    rest: u64,
    memory: u64,
}

fn measure(runner: &Path) -> Sample {
    let state = tempfile::tempdir().unwrap();
    // The mirror of the recipe outlives runs, as it does for a user.
    let shared = std::env::temp_dir().join("recipe-harness-bench");
    let start = Instant::now();
    let mut command = process::command(runner);
    command
        .args(["--recipe", "custom-html", "--run-dir"])
        .arg(state.path().join("run"))
        .env("HARNESS_STATE", shared)
        .env("HARNESS_SCREENSHOTS", "0");
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let memory = watch(child.id(), state.path(), || child.try_wait().unwrap().is_some());
    let whole = millis(start.elapsed());
    let records = journal::read(&state.path().join("run").join(journal::FILE)).unwrap();
    let operations = sum(&records, |event| match event {
        Event::OperationFinished { millis, .. } | Event::TeardownFinished { millis, .. } => Some(*millis),
        _ => None,
    });
    let stability = sum(&records, |event| match event {
        Event::TrialFinished(trial) if trial.name.ends_with("services_are_stable") => Some(trial.millis),
        _ => None,
    });
    Sample { whole, operations, stability, rest: whole.saturating_sub(operations + stability), memory }
}

/// The highest sum of both processes' resident memory that was seen until `ended`.
fn watch(pid: u32, state: &Path, mut ended: impl FnMut() -> bool) -> u64 {
    let (mut highest, mut keeper) = (0, None);
    let process = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
    while !ended() {
        // A look every 10 ms, so that the measuring does not take the time that it measures.
        let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&pause));
        keeper = keeper.or_else(|| keeper_of(&state.join("run")));
        let now = resident(pid) + keeper.map_or(0, resident);
        highest = highest.max(now);
    }
    highest / 1024
}

fn keeper_of(run: &Path) -> Option<u32> {
    let records = journal::read(&run.join(journal::FILE)).ok()?;
    records.iter().find_map(|record| match record.event {
        Event::RunStarted { pid, .. } => Some(pid),
        _ => None,
    })
}

/// Kilobytes, from `/proc/<pid>/status`; 0 for a process that is gone.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn sum(records: &[Record], of: impl Fn(&Event) -> Option<u64>) -> u64 {
    records.iter().filter_map(|record| of(&record.event)).sum()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
