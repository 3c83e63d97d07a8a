//! Past runs beside each other: what has become slower or larger since the last green run, and which assertions are flaky.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::markdown::printable;
use super::results::{Outcome, Results, SCHEMA, Verdict};
use super::{amount, seconds};
use crate::keeper::read_back::{self, read_back};
use crate::tier::Tier;

/// No results are nearly as large.
const LARGEST: u64 = 64 << 20;

/// The results of every run below a directory, oldest first. What is not there, or of another format, is left out.
pub fn read(runs_dir: &Path) -> Vec<Results> {
    let dirs = std::fs::read_dir(runs_dir).into_iter().flatten().flatten();
    let results = dirs.filter_map(|dir| {
        let json = read_back(&read_back::open(&dir.path()).ok()?, "results.json", LARGEST).ok()??;
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
        let _ = writeln!(out, "{}", one_line(recipe));
        let _ = writeln!(
            out,
            "  {:<24}  {:<10}  {:<8}  {:<14}  level  install  upgrade  downtime  memory   images",
            "when", "head", "engine", "verdict"
        );
        for (at, run) in runs.iter().enumerate() {
            let _ = writeln!(out, "  {}", line(run));
            for worse in regressions(run, &runs[..at]) {
                let _ = writeln!(out, "    {worse}");
            }
        }
        for flaky in flaky(&runs) {
            let _ = writeln!(out, "  flaky: {flaky}");
        }
    }
    if out.is_empty() { "no run has left results\n".into() } else { out }
}

fn line(run: &Results) -> String {
    let cells = figures(run).map(|figure| {
        let width = figure.name.len().max(7);
        format!("{:<width$}", figure.value.map_or_else(|| "-".into(), figure.words))
    });
    let verdict = match run.verdict {
        Verdict::Error => "error",
        verdict => verdict.words(),
    };
    let line = format!(
        "{:<24}  {:<10}  {:<8}  {verdict:<14}  {:<5}  {}",
        one_line(&run.started),
        one_line(&run.head).chars().take(10).collect::<String>(),
        one_line(&run.engine),
        run.level.reached,
        cells.join("  ")
    );
    line.trim_end().to_owned()
}

/// One thing that is compared between runs.
struct Figure {
    name: &'static str,
    /// What it is called that there is more of it.
    more: &'static str,
    value: Option<u64>,
    /// After which tier it was measured: only the same is compared.
    after: Option<Tier>,
    words: fn(u64) -> String,
    limit: Limit,
}

/// A figure is a regression when it is larger by this factor, and by this much: small ones vary a lot.
struct Limit {
    factor: f64,
    least: u64,
}

/// On a busy machine even the same work takes longer.
const TIME: Limit = Limit { factor: 1.5, least: 1000 };
const MEMORY: Limit = Limit { factor: 1.5, least: 16 << 20 };
/// An image is the same wherever it is looked at.
const IMAGES: Limit = Limit { factor: 1.2, least: 10 << 20 };

/// How long until the app was healthy, how long it did not answer, and what it needs.
fn figures(run: &Results) -> [Figure; 5] {
    let operation = |tier| {
        let tier = run.tiers.iter().find(|it| it.tier == tier)?;
        tier.operation.as_ref().filter(|it| it.ended && it.failure.is_none()).map(|it| it.millis)
    };
    let time = |name, value| Figure { name, more: "slower", value, after: None, words: millis, limit: TIME };
    let usage = amount::telling(run);
    let after = usage.map(|usage| usage.tier);
    let size = |name, value, limit| Figure { name, more: "larger", value, after, words: amount::bytes, limit };
    let memory = usage.and_then(|usage| amount::memory(usage).amount());
    let images = usage.and_then(|usage| amount::images(usage).amount());
    [
        time("install", operation(Tier::Install)),
        time("upgrade", operation(Tier::Upgrade)),
        time("downtime", run.downtime.as_ref().map(|downtime| downtime.millis)),
        size("memory", memory, MEMORY),
        size("images", images, IMAGES),
    ]
}

fn millis(millis: u64) -> String {
    seconds(Duration::from_millis(millis))
}

/// Against the last green run before it on the same engine.
fn regressions(run: &Results, before: &[&Results]) -> Vec<String> {
    let green = |it: &&&Results| it.verdict == Verdict::Passed && it.engine == run.engine;
    let Some(green) = before.iter().rev().find(green) else { return Vec::new() };
    let pairs = figures(run).into_iter().zip(figures(green));
    let worse = pairs.filter(|(figure, then)| figure.after == then.after).filter_map(|(figure, then)| {
        let (now, then) = (figure.value?, then.value?);
        let Limit { factor, least } = figure.limit;
        let is_worse = now as f64 > then as f64 * factor && now > then + least;
        let [now, then] = [now, then].map(figure.words);
        is_worse.then(|| {
            format!(
                "{}: {} {now}, in the last green run ({}) {then}",
                figure.more,
                figure.name,
                one_line(&green.started)
            )
        })
    });
    worse.collect()
}

/// Results may come from another machine, and this goes to a terminal.
fn one_line(raw: &str) -> String {
    printable(raw).replace(['\n', '\t'], " ")
}

/// Assertions that passed and failed at the same commit, on the same engine, and judged by the same, from evidence and not
/// from a guess.
fn flaky(runs: &[&Results]) -> Vec<String> {
    type Like<'a> = (&'a str, &'a str, &'a str, &'a str);
    let mut outcomes: BTreeMap<Like<'_>, (usize, usize)> = BTreeMap::new();
    // A working copy may have changed under the same commit.
    for run in runs.iter().filter(|run| !run.dirty) {
        // Who judged a run of before that was recorded, nobody knows.
        let Some(judged_by) = &run.judged_by else { continue };
        for (_, trial) in run.trials() {
            let counts = outcomes.entry((&trial.name, &run.commit, &run.engine, judged_by)).or_default();
            match trial.outcome {
                Outcome::Passed => counts.0 += 1,
                Outcome::Failed => counts.1 += 1,
                Outcome::Ignored | Outcome::NotRun => {}
            }
        }
    }
    let both = outcomes.into_iter().filter(|(_, (passed, failed))| *passed > 0 && *failed > 0);
    let line = |((name, commit, engine, _), (passed, failed)): (Like<'_>, (usize, usize))| {
        let short = commit.get(..8).unwrap_or(commit);
        format!(
            "{} passed {passed} and failed {failed} times at {} on {}",
            one_line(name),
            one_line(short),
            one_line(engine)
        )
    };
    both.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recorded green run, changed.
    fn run(day: u32, change: impl FnOnce(&mut Results)) -> Results {
        let path = crate::program::root().join("tests/data/runs/green/results.json");
        let mut results: Results = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        results.started = format!("2026-11-{day:02}T10:00:00.000Z");
        results.judged_by = Some("1".into());
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

    fn uses(memory: u64, image: u64) -> impl FnOnce(&mut Results) {
        use crate::engine::Measured;
        use crate::keeper::usage::ServiceUsage;
        move |results| {
            let usage = results.tiers[1].usage.as_mut().unwrap();
            let memory = Measured::Amount(memory << 20);
            let service = ServiceUsage { memory_peak: memory.clone(), cpu_millis: Measured::Amount(1), memory };
            usage.services = [("app".to_owned(), service)].into();
            usage.images = [("nginx:1".to_owned(), Measured::Amount(image << 20))].into();
        }
    }

    #[test]
    fn what_needs_much_more_than_the_last_green_run_is_told() {
        let text = render(&[run(1, uses(30, 100)), run(2, uses(60, 121))]);
        let green = "in the last green run (2026-11-01T10:00:00.000Z)";
        for line in [
            format!("    larger: memory 60.0 MiB, {green} 30.0 MiB\n"),
            format!("    larger: images 121.0 MiB, {green} 100.0 MiB\n"),
        ] {
            assert!(text.contains(&line), "{text}");
        }
        // A little more, or of little, is none; and what was not measured is compared with nothing.
        assert!(!render(&[run(1, uses(30, 100)), run(2, uses(44, 119))]).contains("larger"));
        assert!(!render(&[run(1, uses(2, 10)), run(2, uses(17, 19))]).contains("larger"));
        let unmeasured = |results: &mut Results| results.tiers[1].usage = None;
        assert!(!render(&[run(1, unmeasured), run(2, uses(600, 900))]).contains("larger"), "after another tier");
        let nothing = |results: &mut Results| results.tiers.iter_mut().for_each(|tier| tier.usage = None);
        assert!(!render(&[run(1, nothing), run(2, uses(600, 900))]).contains("larger"));
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
    fn an_assertion_that_was_edited_between_two_runs_is_not_flaky() {
        let fails = |judged_by: Option<&'static str>| {
            move |results: &mut Results| {
                results.tiers[0].trials[1].outcome = Outcome::Failed;
                results.judged_by = judged_by.map(Into::into);
            }
        };
        assert!(render(&[run(1, |_| {}), run(2, fails(Some("1")))]).contains("flaky"));
        assert!(!render(&[run(1, |_| {}), run(2, fails(Some("2")))]).contains("flaky"));
        let unknown = |results: &mut Results| results.judged_by = None;
        assert!(!render(&[run(1, unknown), run(2, fails(None))]).contains("flaky"), "nobody knows who judged");
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
