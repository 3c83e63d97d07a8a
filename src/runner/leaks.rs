//! Whether a secret stands in what this process prints, or wrote after the keeper had searched the run's files.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::recipe_run::RecipeRun;
use crate::config::cli::Cli;
use crate::keeper::leaks;
use crate::mask::Masks;
use crate::plain::printed;
use crate::report::files;

/// What a run keeps beside its reports. What was decided before there was any secret (`run.json`) may say the same by
/// chance, and an app that was left up still has its secrets beside it.
const KEPT: [&str; 2] = ["events.jsonl", "keeper.log"];
const LOGS: &str = "logs";

/// Prints a text on standard error. False when it held a secret, which is masked then.
pub fn print(run: &RecipeRun, text: &str) -> bool {
    let masked = run.session.masked(text);
    eprint!("{}", printed(&masked));
    if masked == text {
        return true;
    }
    eprintln!("error: the summary of `{}` held a secret, which is masked above", run.prepared.spec.plan.recipe);
    false
}

/// Looks for every secret of the runs in every file that they left, and says where one stands; false when one does, or
/// when that cannot be known.
pub fn search(cli: &Cli, runs: &[Arc<RecipeRun>]) -> bool {
    let mut clean = true;
    for run in runs.iter().filter(|run| run.prepared.run_dir.is_dir()) {
        let complaint = match found(cli, run) {
            Ok(found) if found.is_empty() => continue,
            Ok(found) => format!("a secret, or the canary of the keeper's environment, stands in {}", found.join(", ")),
            Err(error) => format!("nobody knows whether a secret stands in what was written: {error:#}"),
        };
        eprintln!("error: {}: {}", run.prepared.spec.plan.recipe, printed(&complaint));
        clean = false;
    }
    clean
}

fn found(cli: &Cli, run: &RecipeRun) -> Result<Vec<String>> {
    let secrets = run.session.secrets();
    let masks = Masks::new(secrets.iter().map(String::as_str))?;
    let dir = &run.prepared.run_dir;
    let mut found = Vec::new();
    for name in KEPT.iter().chain(files::NAMES).filter(|name| dir.join(name).is_file()) {
        found.extend(leaks::holds(&dir.join(name), &masks)?.then(|| (*name).to_owned()));
    }
    if dir.join(LOGS).is_dir() {
        found.extend(leaks::files_with(&dir.join(LOGS), &masks)?.into_iter().map(|file| format!("{LOGS}/{file}")));
    }
    found.sort();
    let beside = cli.junit.as_deref().filter(|path| path.is_file());
    for path in beside.into_iter().filter(|path| !is_inside(path, dir)) {
        found.extend(leaks::holds(path, &masks)?.then(|| path.display().to_string()));
    }
    // The file of a CI server is everybody's; what was added to it is this.
    if std::env::var_os("GITHUB_STEP_SUMMARY").is_some_and(|path| !path.is_empty()) {
        let summary = files::summary(&files::results(&run.session.spec, dir, &run.finished()));
        found.extend(masks.finds(&summary).then(|| "the summary".to_owned()));
    }
    Ok(found.into_iter().map(|file| format!("`{file}`")).collect())
}

fn is_inside(path: &Path, dir: &Path) -> bool {
    match (path.canonicalize(), dir.canonicalize()) {
        (Ok(path), Ok(dir)) => path.starts_with(dir),
        _ => false,
    }
}
