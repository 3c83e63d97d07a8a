//! Times whole runs on a Docker Swarm beside a shell script that does the same five operations and no assertions, in
//! turns, so that both see the same machine. Not a test: nothing here can fail. `cargo bench --bench swarm`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and ends when it cannot measure")]

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use harness::process;

const ROUNDS: usize = 5;

/// Recipe, and the directories of its base and its head.
const RECIPES: [[&str; 3]; 2] = [["custom-html", "1.10.1+1.27.5", "head"], ["guestbook", "1.0.1+1.0.0", "head"]];

fn main() -> ExitCode {
    let Some(runner) = std::env::var_os("RUNNER").map(PathBuf::from) else {
        println!("RUNNER must name the built runner: see docs/performance.md");
        return ExitCode::from(2);
    };
    println!("| recipe | script (s) | harness (s) | ratio of the medians | ratios, round by round |");
    println!("| --- | --- | --- | --- | --- |");
    for recipe in RECIPES {
        let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (script(recipe), harness(&runner, recipe[0]))).collect();
        let mut ratios: Vec<String> =
            rounds.iter().map(|(script, harness)| format!("{:.2}", harness / script)).collect();
        ratios.sort();
        let (script, harness) = (median(rounds.iter().map(|it| it.0)), median(rounds.iter().map(|it| it.1)));
        println!("| {} | {script:.1} | {harness:.1} | {:.2} | {} |", recipe[0], harness / script, ratios.join(", "));
    }
    ExitCode::SUCCESS
}

fn script([recipe, base, head]: [&str; 3]) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let state = |version: &str| root.join("recipes").join(recipe).join(version);
    let mut command = process::command(root.join("benches/floor.sh"));
    command.arg(recipe).arg(state(base)).arg(state(head));
    time(command)
}

fn harness(runner: &Path, recipe: &str) -> f64 {
    let mut command = process::command(runner);
    command.args(["--recipe", recipe, "--engine", "swarm"]);
    command.env("HARNESS_SCREENSHOTS", "0").env("HARNESS_STATE", std::env::temp_dir().join("recipe-harness-bench"));
    time(command)
}

/// Seconds. A run that fails ends the benchmark: its time would mean nothing.
fn time(mut command: std::process::Command) -> f64 {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} failed");
    start.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
