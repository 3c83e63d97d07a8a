//! Past runs beside each other: what has become slower since the last green run, and which assertions are flaky.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::markdown::printable;
use super::results::{Outcome, Results, SCHEMA, Verdict};
use super::seconds;
use crate::tier::Tier;

/// A time is a regression when it is longer by this factor …
const FACTOR: f64 = 1.5;
/// … and by this many milliseconds: on a busy machine short times vary a lot.
const LEAST: u64 = 1000;

/// The results of every run below a directory, oldest first. What is not there, or of another format, is left out.
pub fn read(runs_dir: &Path) -> Vec<Results> {
    let dirs = std::fs::read_dir(runs_dir).into_iter().flatten().flatten();
    let results = dirs.filter_map(|dir| {
        let json = std::fs::read(dir.path().join("results.json")).ok()?;
        serde_json::from_slice::<Results>(&json).ok().filter(|results| results.schema == SCHEMA)
    });
    let mut results: Vec<Results> = results.collect();
    results.sort_by(|a, b| a.started.cmp(&b.started));
    results
}

/// The history in plain text.
pub fn render(runs: &[Results]) -> String {
    let mut out = String::new();
    let recipes: BTreeSet<&str> = runs.iter().map(|run| run.recipe.as_str()).collect();
    for recipe in recipes {
        let runs: Vec<&Results> = runs.iter().filter(|run| run.recipe == recipe).collect();
        let _ = writeln!(out, "{}", printable(recipe));
        let _ = writeln!(
            out,
            "  {:<24}  {:<10}  {:<8}  {:<14}  level  install  upgrade  downtime",
            "when", "head", "engine", "verdict"
        );
        for (at, run) in runs.iter().enumerate() {
            let _ = writeln!(out, "  {}", line(run));
            for slower in regressions(run, &runs[..at]) {
                let _ = writeln!(out, "    slower: {slower}");
            }
        }
        for flaky in flaky(&runs) {
            let _ = writeln!(out, "  flaky: {flaky}");
        }
    }
    if out.is_empty() { "no run has left results\n".into() } else { out }
}

fn line(run: &Results) -> String {
    let time = |value: Option<u64>| value.map_or_else(|| "-".into(), |millis| seconds(Duration::from_millis(millis)));
    let [install, upgrade, downtime] = times(run).map(|(_, value)| time(value));
    let verdict = match run.verdict {
        Verdict::Error => "error",
        verdict => verdict.words(),
    };
    format!(
        "{:<24}  {:<10}  {:<8}  {verdict:<14}  {:<5}  {install:<7}  {upgrade:<7}  {downtime}",
        run.started,
        printable(&run.head).chars().take(10).collect::<String>(),
        run.engine,
        run.level.reached
    )
}

/// What is compared: how long until the app was healthy, and how long it did not answer.
fn times(run: &Results) -> [(&'static str, Option<u64>); 3] {
    let operation = |tier| {
        let tier = run.tiers.iter().find(|it| it.tier == tier)?;
        tier.operation.as_ref().filter(|it| it.ended && it.failure.is_none()).map(|it| it.millis)
    };
    let downtime = run.downtime.as_ref().map(|downtime| downtime.millis);
    [("install", operation(Tier::Install)), ("upgrade", operation(Tier::Upgrade)), ("downtime", downtime)]
}

/// Against the last green run before it on the same engine.
fn regressions(run: &Results, before: &[&Results]) -> Vec<String> {
    let green = |it: &&&Results| it.verdict == Verdict::Passed && it.engine == run.engine;
    let Some(green) = before.iter().rev().find(green) else { return Vec::new() };
    let pairs = times(run).into_iter().zip(times(green));
    let slower = pairs.filter_map(|((name, now), (_, then))| {
        let (now, then) = (now?, then?);
        let is_slower = now as f64 > then as f64 * FACTOR && now > then + LEAST;
        let [now, then] = [now, then].map(|millis| seconds(Duration::from_millis(millis)));
        is_slower.then(|| format!("{name} {now}, in the last green run ({}) {then}", green.started))
    });
    slower.collect()
}

/// Assertions that passed and failed at the same commit on the same engine, from evidence and not from a guess.
fn flaky(runs: &[&Results]) -> Vec<String> {
    let mut outcomes: BTreeMap<(&str, &str, &str), (usize, usize)> = BTreeMap::new();
    // A working copy may have changed under the same commit.
    for run in runs.iter().filter(|run| !run.dirty) {
        for (_, trial) in run.trials() {
            let counts = outcomes.entry((&trial.name, &run.commit, &run.engine)).or_default();
            match trial.outcome {
                Outcome::Passed => counts.0 += 1,
                Outcome::Failed => counts.1 += 1,
                Outcome::Ignored | Outcome::NotRun => {}
            }
        }
    }
    let both = outcomes.into_iter().filter(|(_, (passed, failed))| *passed > 0 && *failed > 0);
    let line = |((name, commit, engine), (passed, failed)): ((&str, &str, &str), (usize, usize))| {
        let short = commit.get(..8).unwrap_or(commit);
        format!("{} passed {passed} and failed {failed} times at {short} on {engine}", printable(name))
    };
    both.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recorded green run, changed.
    fn run(day: u32, change: impl FnOnce(&mut Results)) -> Results {
        let path = crate::prepare::root().join("tests/data/runs/green/results.json");
        let mut results: Results = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        results.started = format!("2026-11-{day:02}T10:00:00.000Z");
        change(&mut results);
        results
    }

    fn upgrade_takes(millis: u64) -> impl FnOnce(&mut Results) {
        move |results| results.tiers[1].operation.as_mut().unwrap().millis = millis
    }

    #[test]
    fn what_is_much_slower_than_the_last_green_run_is_told() {
        let failed = |results: &mut Results| results.verdict = Verdict::Failed;
        let text = render(&[run(1, upgrade_takes(2000)), run(2, failed), run(3, upgrade_takes(5000))]);
        let slower = "    slower: upgrade 5.00s, in the last green run (2026-11-01T10:00:00.000Z) 2.00s\n";
        assert!(text.contains(slower), "{text}");
        assert_eq!(text.matches("slower").count(), 1, "{text}");
    }

    #[test]
    fn what_is_a_little_slower_or_on_another_engine_is_not() {
        let text = render(&[run(1, upgrade_takes(600)), run(2, upgrade_takes(1500))]);
        assert!(!text.contains("slower"), "{text}");
        let swarm = |results: &mut Results| {
            upgrade_takes(50_000)(results);
            results.engine = "swarm".into();
        };
        assert!(!render(&[run(1, upgrade_takes(600)), run(2, swarm)]).contains("slower"));
    }

    #[test]
    fn an_assertion_is_flaky_only_at_the_same_commit() {
        let fails = |results: &mut Results| results.tiers[0].trials[1].outcome = Outcome::Failed;
        let text = render(&[run(1, |_| {}), run(2, fails)]);
        let name = run(1, |_| {}).tiers[0].trials[1].name.clone();
        assert!(text.contains(&format!("  flaky: {name} passed 1 and failed 1 times at ")), "{text}");
        let elsewhere = |results: &mut Results| {
            fails(results);
            results.commit = "0".repeat(40);
        };
        assert!(!render(&[run(1, |_| {}), run(2, elsewhere)]).contains("flaky"));
        let dirty = |results: &mut Results| {
            fails(results);
            results.dirty = true;
        };
        assert!(!render(&[run(1, |_| {}), run(2, dirty)]).contains("flaky"));
    }

    #[test]
    fn without_runs_it_says_so_and_other_formats_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("old")).unwrap();
        let later = run(1, |results| results.schema = SCHEMA + 1);
        std::fs::write(dir.path().join("old/results.json"), serde_json::to_vec(&later).unwrap()).unwrap();
        assert_eq!(render(&read(dir.path())), "no run has left results\n");
        std::fs::create_dir(dir.path().join("new")).unwrap();
        std::fs::write(dir.path().join("new/results.json"), serde_json::to_vec(&run(1, |_| {})).unwrap()).unwrap();
        assert_eq!(read(dir.path()).len(), 1);
    }
}
