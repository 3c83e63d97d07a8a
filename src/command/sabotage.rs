//! `harness sabotage`: builds the recipe runner, runs it with every fault, and prints what each turned red.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Run;
use crate::sabotage::Sabotage;
use crate::sabotage::drill::{Drill, Outcome, Row, Score};

#[derive(clap::Args)]
pub(super) struct Options {
    /// The recipe whose runs are sabotaged
    #[arg(long, value_name = "NAME")]
    recipe: String,
    /// Only these faults; all of them when not given
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    only: Vec<String>,
    /// Run every tier every time, and name the recipe's own assertions that no fault turned red
    #[arg(long)]
    overlays: bool,
    /// How many runs go on at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    at_once: usize,
    /// More arguments of the runner, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// A build of the runner on a slow machine.
const BUILD: Duration = Duration::from_secs(1800);

pub(super) async fn run(options: &Options) -> Result<ExitCode> {
    let chosen: Vec<Sabotage> = options.only.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let faults = if chosen.is_empty() { Sabotage::ALL.to_vec() } else { chosen };
    let own = ["--recipe", &options.recipe].map(str::to_owned);
    let drill = Drill {
        runner: runner().await?,
        arguments: own.iter().chain(&options.arguments).map(Into::into).collect(),
        env: std::env::vars_os().collect(),
        at_once: options.at_once.max(1),
        whole: options.overlays,
    };
    let score = drill.run(&faults, show).await?;
    conclude(options, &score)
}

fn show(row: &Row) {
    eprintln!("{row}");
}

fn conclude(options: &Options, score: &Score) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut say = |line: &str| writeln!(out, "{line}").context("failed to print");
    for row in score.survivors() {
        if let Outcome::Survived { said, .. } = &row.outcome {
            say(&format!("\n---- {} ----\n{said}", row.sabotage))?;
        }
    }
    say(&score.line())?;
    let mut unseen = Vec::new();
    if options.overlays {
        unseen = score.never_red("overlays::");
        for (name, count) in score.by_assertion("overlays::") {
            say(&format!("{name}: turned red by {count} faults"))?;
        }
    }
    let good = score.survivors().is_empty() && unseen.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The executable with the recipe's assertions: cargo builds it, and says where it is.
async fn runner() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["test", "--quiet", "--no-run", "--test", "recipe", "--message-format=json-render-diagnostics"];
    let run = Run::new(cargo, arguments).cwd(crate::program::root()).deadline(BUILD);
    let built = Run { env: std::env::vars_os().collect(), ..run }.checked().await;
    let built = built.context("failed to build the recipe runner")?;
    let text = String::from_utf8_lossy(&built.stdout).into_owned();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable = messages.filter(|it| it["target"]["name"] == "recipe").find_map(|it| {
        let path = it["executable"].as_str()?;
        Some(PathBuf::from(path))
    });
    executable.context("cargo built the recipe runner, and did not say where it is")
}
