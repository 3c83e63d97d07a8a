//! Writes every report of a run: into its directory, and where else somebody asked for one.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::results::Results;
use super::{badge, card, fold, html, junit, markdown};
use crate::keeper::facts::Facts;
use crate::keeper::journal::{self, Event, Record, Trial};
use crate::keeper::read_back::{self, read_back};
use crate::keeper::spec::RunSpec;

/// The names of the files that a run directory gets.
pub const NAMES: &[&str] = &[
    "results.json",
    "junit.xml",
    "summary.md",
    "badge.svg",
    "card.svg",
    "report.html",
    #[cfg(feature = "card-png")]
    CARD_PNG,
];

/// A run keeps no log that is nearly as large.
const LARGEST_LOG: u64 = 64 << 20;
const LARGEST_PICTURE: u64 = 16 << 20;

/// The only one that is no text. Only builds with the feature `card-png` write it.
pub const CARD_PNG: &str = "card.png";

/// Makes the reports of a run from its journal, as its keeper does at its end: also where the client is dead.
pub fn of_dir(run_dir: &Path) -> Result<Results> {
    let records = journal::read(&run_dir.join(journal::FILE))?;
    let results = fold::fold(&records)
        .with_context(|| format!("the journal in `{}` ends before the run was described", run_dir.display()))?;
    write(run_dir, &results)?;
    Ok(results)
}

/// The results of a run as its own process saw it: what the journal could not be told, because there was no keeper or
/// none any more, is added.
pub fn results(spec: &RunSpec, run_dir: &Path, ended: &[Trial]) -> Results {
    let mut records = journal::read(&run_dir.join(journal::FILE)).unwrap_or_default();
    if fold::fold(&records).is_none() {
        records.push(Record::now(Event::Planned(Box::new(Facts::of(spec)))));
    }
    let teardown = records.iter().position(|record| matches!(record.event, Event::TeardownStarted { .. }));
    let at = teardown.unwrap_or(records.len());
    // One that the journal was told of only during the teardown counts for nothing there.
    let known = |trial: &Trial| {
        let is_it = |record: &Record| matches!(&record.event, Event::TrialFinished(it) if it == trial);
        records[..at].iter().any(is_it)
    };
    let missing: Vec<Trial> = ended.iter().filter(|trial| trial.tier.is_some() && !known(trial)).cloned().collect();
    records.splice(at..at, missing.into_iter().map(|trial| Record::now(Event::TrialFinished(trial))));
    fold::fold(&records).expect("the facts were just added")
}

/// Writes the reports into a run directory.
pub fn write(run_dir: &Path, results: &Results) -> Result<()> {
    let logs = logs(run_dir);
    let card = card::render(results);
    #[cfg(feature = "card-png")]
    let picture = card::draw(&card)?;
    for (name, content) in NAMES.iter().zip([
        json(results)?.into_bytes(),
        junit::render(&[(results, &logs)])?.into_bytes(),
        markdown::with_card(results).into_bytes(),
        badge::render(results).into_bytes(),
        card.into_bytes(),
        html::render(results, &logs, |file| read(run_dir, file, LARGEST_PICTURE))?.into_bytes(),
        #[cfg(feature = "card-png")]
        picture,
    ]) {
        put(&run_dir.join(name), &content)?;
    }
    Ok(())
}

/// Writes the file that `--junit` asked for: the suites of all runs in one.
pub fn write_junit(path: &Path, runs: &[(PathBuf, Results)]) -> Result<()> {
    let logs: Vec<_> = runs.iter().map(|(dir, _)| logs(dir)).collect();
    let runs: Vec<_> = runs.iter().zip(&logs).map(|((_, results), logs)| (results, logs.as_slice())).collect();
    put(path, junit::render(&runs)?.as_bytes())
}

/// Copies the reports of a run, with its logs and pictures, to where everybody may read them. Those of an earlier run go,
/// and so do they where this one has left none: nobody should take them for this run's.
pub fn copy_to(run_dir: &Path, place: &Path) -> Result<()> {
    std::fs::create_dir_all(place).with_context(|| format!("failed to create `{}`", place.display()))?;
    // A run that never began has no directory, and may not even have a name for one.
    let left = |name: &str| run_dir.is_dir().then(|| run_dir.join(name));
    for name in NAMES {
        copy_file(left(name).as_deref(), &place.join(name))?;
    }
    for folder in ["logs", "pictures"] {
        let to = place.join(folder);
        if to.exists() {
            std::fs::remove_dir_all(&to).with_context(|| format!("failed to remove `{}`", to.display()))?;
        }
        for entry in left(folder).and_then(|from| std::fs::read_dir(from).ok()).into_iter().flatten().flatten() {
            std::fs::create_dir_all(&to).with_context(|| format!("failed to create `{}`", to.display()))?;
            copy_file(Some(&entry.path()), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A plain file, or nothing where there is none.
fn copy_file(from: Option<&Path>, to: &Path) -> Result<()> {
    if let Some(from) = from.filter(|from| from.symlink_metadata().is_ok_and(|it| it.is_file())) {
        let bytes = std::fs::read(from).with_context(|| format!("failed to read `{}`", from.display()))?;
        return put(to, &bytes);
    }
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", to.display()))
        }
        _ => Ok(()),
    }
}

/// The summary in Markdown.
pub fn summary(results: &Results) -> String {
    markdown::render(results)
}

/// Appends the summary to the file that a GitHub-like CI server names in `GITHUB_STEP_SUMMARY`.
pub fn append_summary(path: &Path, results: &Results) -> Result<()> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all((markdown::render(results) + "\n").as_bytes()));
    written.with_context(|| format!("failed to write to `{}`, which GITHUB_STEP_SUMMARY names", path.display()))
}

fn json(results: &Results) -> Result<String> {
    Ok(serde_json::to_string_pretty(results).context("failed to write the results")? + "\n")
}

/// The services' logs, as teardown left them: masked. In the place of one that is left out stands why.
fn logs(run_dir: &Path) -> Vec<(String, String)> {
    let or_why = |log: Result<String>| log.unwrap_or_else(|why| format!("(left out: {why:#})"));
    read_logs(run_dir).into_iter().map(|(service, log)| (service, or_why(log))).collect()
}

/// What lies among a run's logs and is none: it is in no report, and one line says why.
pub fn left_out(run_dir: &Path) -> Vec<String> {
    let logs = read_logs(run_dir).into_iter();
    logs.filter_map(|(_, log)| Some(format!("a log is left out of the reports: {:#}", log.err()?))).collect()
}

/// Only plain files: a run's directory may come from another machine.
fn read_logs(run_dir: &Path) -> Vec<(String, Result<String>)> {
    let entries = std::fs::read_dir(run_dir.join("logs")).into_iter().flatten().flatten();
    let log = |entry: std::fs::DirEntry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let text = read(run_dir, &format!("logs/{file}"), LARGEST_LOG);
        let text = text.map(|text| String::from_utf8_lossy(&text.unwrap_or_default()).into_owned());
        (file.trim_end_matches(".log").to_owned(), text)
    };
    let mut logs: Vec<_> = entries.map(log).collect();
    logs.sort_by(|(one, _), (other, _)| one.cmp(other));
    logs
}

/// A file of a run; `None` when there is none.
fn read(run_dir: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    read_back(&read_back::open(run_dir)?, name, most)
}

/// Whole or not at all: a reader never sees half a file, whoever else writes it again.
fn put(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("failed to write `{}`", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(dir).with_context(failed)?;
    std::fs::write(file.path(), content).with_context(failed)?;
    // For whoever collects it; the run directory itself is private.
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}
