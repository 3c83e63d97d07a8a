//! The reports of a run, once it is over: the client's own word is added to what the keeper has written.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::nextest;
use super::recipe_run::RecipeRun;
use crate::config::cli::Cli;
use crate::keeper::journal::{self, Event};
use crate::keeper::spec::RunSpec;
use crate::report::files;
use crate::report::results::Results;

/// Writes every report, and says on standard error what went wrong; false when something did. A missing report is a
/// failure, because nobody would miss it otherwise.
pub fn write(cli: &Cli, runs: &[(PathBuf, Results)]) -> bool {
    let written = write_all(cli, runs);
    if let Err(error) = &written {
        eprintln!("error: {error:#}");
    }
    written.is_ok()
}

/// What the keeper's process writes when its run is over. Under nextest nobody comes after it.
pub fn of_keeper(run_dir: &Path) -> Result<()> {
    let results = files::of_dir(run_dir)?;
    if was_left(run_dir) {
        // The process that left the app has written every file it was asked for.
        return Ok(());
    }
    let about = RunSpec::read(run_dir)?.about;
    if let Some(path) = about.junit {
        files::write_junit(&path, &[(run_dir.to_owned(), results.clone())])?;
    }
    if let Some(dir) = about.report_dir {
        files::copy_to(run_dir, &dir)?;
    }
    if nextest::is_here() {
        append_summary(&results)?;
    }
    Ok(())
}

fn was_left(run_dir: &Path) -> bool {
    let records = journal::read(&run_dir.join(journal::FILE)).unwrap_or_default();
    records.iter().any(|record| matches!(record.event, Event::Left { .. }))
}

fn append_summary(results: &Results) -> Result<()> {
    match std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) {
        Some(path) => files::append_summary(path.as_ref(), results),
        None => Ok(()),
    }
}

/// What a run came to, with its directory.
pub fn of(run: &RecipeRun) -> (PathBuf, Results) {
    let dir = run.prepared.run_dir.clone();
    let results = files::results(&run.session.spec, &dir, &run.finished());
    (dir, results)
}

fn write_all(cli: &Cli, runs: &[(PathBuf, Results)]) -> Result<()> {
    // A run that never began has no directory.
    for (dir, results) in runs.iter().filter(|(dir, _)| dir.is_dir()) {
        files::write(dir, results)?;
    }
    if let Some(path) = &cli.junit {
        files::write_junit(path, runs)?;
    }
    for (dir, results) in runs.iter().filter(|_| cli.report_dir.is_some()) {
        let place = cli.report_dir.iter().map(|place| place.join(&results.recipe));
        place.into_iter().try_for_each(|place| files::copy_to(dir, &place))?;
    }
    runs.iter().try_for_each(|(_, results)| append_summary(results))
}
