//! The drill: one run for every fault, and what it turned red.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use futures_util::stream;

use super::Sabotage;
use crate::process::{Output, Run};
use crate::tier::Tier;

/// How the runner says that a fault does not fit; it stands between the fault's name and the reason.
pub const CANNOT_BE_PLANTED: &str = "cannot be planted here";

/// One run, with its deployment and its teardown.
const RUN: Duration = Duration::from_secs(900);

/// What to run.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The recipe runner.
    pub runner: PathBuf,
    /// Its arguments, the recipe among them.
    pub arguments: Vec<OsString>,
    /// The runner's whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Runs at the same time.
    pub at_once: usize,
    /// Every tier is run for every fault: only then is it known which overlays would see it.
    pub whole: bool,
}

/// What became of one fault.
#[derive(Clone, Debug)]
pub struct Row {
    pub sabotage: Sabotage,
    pub outcome: Outcome,
    /// Every trial that failed.
    pub red: BTreeSet<String>,
    pub took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every trial that the fault names has failed, or could not even run because an operation had failed first.
    Killed,
    /// These have not; with what the run said.
    Survived { green: Vec<String>, said: String },
    /// The recipe, or the engine, has no room for it.
    NotPlanted(String),
}

/// The result of a drill.
pub struct Score {
    pub rows: Vec<Row>,
    /// Every assertion that the recipe has.
    pub assertions: Vec<String>,
}

impl Drill {
    /// Runs the faults, and hands each row to `seen` when it is there.
    pub async fn run(&self, faults: &[Sabotage], mut seen: impl FnMut(&Row)) -> Result<Score> {
        let assertions = self.assertions().await?;
        self.is_green().await?;
        let mut runs = stream::iter(faults.iter().map(|sabotage| self.one(*sabotage))).buffer_unordered(self.at_once);
        let mut rows = Vec::new();
        while let Some(row) = runs.next().await {
            let row = row?;
            seen(&row);
            rows.push(row);
        }
        rows.sort_by_key(|row| row.sabotage);
        Ok(Score { rows, assertions })
    }

    /// Without a fault nothing may fail: what is red anyway sees no fault.
    async fn is_green(&self) -> Result<()> {
        let output = self.start(Vec::new()).await.context("failed to run without a fault")?;
        let red: Vec<String> = failed(&String::from_utf8_lossy(&output.stdout)).into_iter().collect();
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("the recipe fails without any fault, so no fault could be seen: {}\n{}", red.join(", "), said.trim());
        }
        Ok(())
    }

    async fn one(&self, sabotage: Sabotage) -> Result<Row> {
        let start = Instant::now();
        let mut arguments = vec!["--sabotage".into(), sabotage.name().into()];
        if !self.whole {
            let until = |tier: &&Tier| **tier <= sabotage.facts().until;
            let tiers: Vec<&str> = Tier::ALL.iter().filter(until).map(|tier| tier.name()).collect();
            arguments.extend(["--tiers".into(), tiers.join(",").into()]);
        }
        let output = self.start(arguments).await.with_context(|| format!("failed to run with `{sabotage}`"))?;
        let red = failed(&String::from_utf8_lossy(&output.stdout));
        Ok(Row { sabotage, outcome: judge(sabotage, &red, &output)?, red, took: start.elapsed() })
    }

    async fn assertions(&self) -> Result<Vec<String>> {
        let output = self.start(vec!["--list".into()]).await.context("failed to list the trials")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        let names: Vec<String> = names.filter(|name| !name.starts_with("tier::")).map(str::to_owned).collect();
        if names.is_empty() {
            bail!("the runner lists no assertion: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(names)
    }

    async fn start(&self, more: Vec<OsString>) -> Result<Output> {
        let run = Run::new(&self.runner, self.arguments.iter().chain(&more)).deadline(RUN);
        // Each of these runs is to tear down, whatever holds for those that somebody clicks; nobody looks at its pictures.
        let run = Run { env: self.env.clone(), ..run }.env("HARNESS_WARM", "0").env("HARNESS_SCREENSHOTS", "0");
        run.output().await
    }
}

fn judge(sabotage: Sabotage, red: &BTreeSet<String>, output: &Output) -> Result<Outcome> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.code == 2 {
        let Some((_, reason)) = said.split_once(&format!("{CANNOT_BE_PLANTED}: ")) else {
            bail!("the runner refused `--sabotage {sabotage}`: {}", said.trim());
        };
        return Ok(Outcome::NotPlanted(reason.trim().to_owned()));
    }
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = |name: &&&str| red.contains(**name) || !red.is_empty() && was_forestalled(&stdout, name);
    let green: Vec<String> = sabotage.facts().red.iter().filter(|name| !seen(name)).map(ToString::to_string).collect();
    if green.is_empty() {
        return Ok(Outcome::Killed);
    }
    Ok(Outcome::Survived { green, said: format!("{stdout}{said}") })
}

/// Whether a trial was ignored because an operation before it had failed, as when an overlay's hook sees the fault.
fn was_forestalled(stdout: &str, name: &str) -> bool {
    let of_trial = |line: &&str| line.split_whitespace().nth(1) == Some(name);
    stdout.lines().find(of_trial).is_some_and(|line| line.contains("... ignored (because tier::"))
}

/// The failed trials, from libtest's lines.
fn failed(stdout: &str) -> BTreeSet<String> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    lines.filter(|(_, is)| is.trim() == "FAILED").map(|(name, _)| name.trim().to_owned()).collect()
}

impl Score {
    /// Faults that did not turn red what they must.
    pub fn survivors(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Survived { .. })).collect()
    }

    /// Assertions below `prefix` that no fault turned red.
    pub fn never_red(&self, prefix: &str) -> Vec<&str> {
        let red: BTreeSet<&str> = self.rows.iter().flat_map(|row| row.red.iter().map(String::as_str)).collect();
        self.below(prefix).filter(|name| !red.contains(name)).collect()
    }

    fn below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.assertions.iter().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    fn killed(&self) -> usize {
        self.rows.iter().filter(|row| row.outcome == Outcome::Killed).count()
    }

    fn planted(&self) -> usize {
        self.rows.iter().filter(|row| !matches!(row.outcome, Outcome::NotPlanted(_))).count()
    }

    /// How many faults each assertion below `prefix` saw.
    pub fn by_assertion(&self, prefix: &str) -> BTreeMap<&str, usize> {
        let count = |name: &str| self.rows.iter().filter(|row| row.red.contains(name)).count();
        self.below(prefix).map(|name| (name, count(name))).collect()
    }

    /// `sabotages killed 25/25, generic assertions killed 25/25`
    pub fn line(&self) -> String {
        let generic = self.below("generic::").count();
        let killed = generic - self.never_red("generic::").len();
        let mut line = format!(
            "sabotages killed {}/{}, generic assertions killed {killed}/{generic}",
            self.killed(),
            self.planted()
        );
        let left_out = self.rows.len() - self.planted();
        if left_out > 0 {
            line.push_str(&format!(", {left_out} faults not planted"));
        }
        line
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.sabotage.name();
        match &self.outcome {
            Outcome::Killed => {
                let red: Vec<&str> = self.red.iter().map(String::as_str).collect();
                write!(f, "killed     {name:<30} {:>5.1} s  {}", self.took.as_secs_f64(), red.join(", "))
            }
            Outcome::Survived { green, .. } => {
                write!(f, "SURVIVED   {name:<30} {:>5.1} s  still green: {}", self.took.as_secs_f64(), green.join(", "))
            }
            Outcome::NotPlanted(reason) => write!(f, "not there  {name:<30}          {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stderr: &str) -> Output {
        Output { code, stdout: Vec::new(), stderr: stderr.into() }
    }

    fn red(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_fault_is_killed_only_by_every_trial_that_it_names() {
        let fault = Sabotage::SecretIsPrinted;
        let both = ["generic::install::no_secret_in_the_logs", "generic::custom::no_secret_in_the_logs"];
        assert_eq!(judge(fault, &red(&both), &output(101, "")).unwrap(), Outcome::Killed);
        let Outcome::Survived { green, .. } = judge(fault, &red(&both[..1]), &output(101, "")).unwrap() else {
            panic!("half a kill is none")
        };
        assert_eq!(green, both[1..]);
    }

    #[test]
    fn a_trial_that_a_failed_operation_forestalled_is_no_survivor_and_a_skipped_one_is() {
        let ended = |line: &str| Output { stdout: format!("test tier::backup {line}\n").into(), ..output(101, "") };
        let forestalled = ended("... ignored (because tier::upgrade failed)");
        let outcome = judge(Sabotage::ExecFailsSilently, &red(&["tier::upgrade"]), &forestalled).unwrap();
        assert_eq!(outcome, Outcome::Killed);
        let skipped = ended("... ignored (unverified: no labels)");
        let outcome = judge(Sabotage::ExecFailsSilently, &red(&["tier::teardown"]), &skipped).unwrap();
        assert!(matches!(outcome, Outcome::Survived { .. }));
    }

    #[test]
    fn a_fault_that_does_not_fit_is_no_kill_and_bad_input_is_an_error() {
        let refused = output(2, "error: `--sabotage x` cannot be planted here: the recipe has no secret\n");
        let outcome = judge(Sabotage::SecretIsPrinted, &red(&[]), &refused).unwrap();
        assert_eq!(outcome, Outcome::NotPlanted("the recipe has no secret".into()));
        let error = judge(Sabotage::SecretIsPrinted, &red(&[]), &output(2, "error: no recipe `x`\n")).unwrap_err();
        assert!(error.to_string().ends_with("error: no recipe `x`"), "{error}");
    }

    #[test]
    fn what_no_fault_turned_red_is_named() {
        let row = |red_names: &[&str]| Row {
            sabotage: Sabotage::NeverStarts,
            outcome: Outcome::Killed,
            red: red(red_names),
            took: Duration::ZERO,
        };
        let assertions = vec!["generic::install::a".to_owned(), "generic::install::b".into()];
        let score = Score { rows: vec![row(&["generic::install::a"])], assertions };
        assert_eq!(score.never_red("generic::"), ["generic::install::b"]);
        assert_eq!(score.line(), "sabotages killed 1/1, generic assertions killed 1/2");
        assert_eq!(failed("test a ... ok\ntest b   ... FAILED\n"), red(&["b"]));
    }
}
