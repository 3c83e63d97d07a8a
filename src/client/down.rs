//! Tearing down a run by name, whoever has begun it: through its keeper, or after it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;

use super::Session;
use super::watchdog::Watched;
use crate::keeper::journal;
use crate::keeper::spec::RunSpec;

/// Teardown reports within its own limit; this is that and a margin.
const LIMIT: Duration = Duration::from_secs(150);
/// Only builds with debug assertions know it: another limit, as `5s`.
const VARIABLE: &str = "RECIPE_HARNESS_TEST_TEARDOWN";

/// A teardown that has not ended by then never will.
pub(super) fn limit() -> Duration {
    let asked = std::env::var(VARIABLE).ok().filter(|_| cfg!(debug_assertions));
    asked.and_then(|text| humantime::parse_duration(&text).ok()).unwrap_or(LIMIT)
}

/// How it went.
pub struct Down {
    /// What is still there; empty is the proven zero.
    pub leftovers: Vec<String>,
    /// Why the keeper did not do it, where somebody else had to.
    pub replaced: Option<String>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// What became of a run whose keeper could not tear it down.
pub struct Replaced {
    /// Why somebody else had to.
    pub why: String,
    /// What is still there.
    pub leftovers: Vec<String>,
}

/// Tears a run down, and returns when its keeper is gone, too. One that answers nothing is killed.
pub async fn down(run_dir: &Path, reason: &str) -> Result<Down> {
    let records = journal::read(&run_dir.join(journal::FILE)).unwrap_or_default();
    let session = Session::new(RunSpec::read(run_dir)?, run_dir.to_owned());
    let keeper = Watched::stranger(run_dir, journal::keeper(&records), &session.silence);
    let session = Session { keeper: OnceLock::from(Ok(keeper)), ..session };
    if let Some(report) = session.ask_for_teardown(reason).await {
        return Ok(Down { leftovers: report.leftovers, replaced: None, notes: report.notes });
    }
    let replaced = session.sweep().await?;
    Ok(Down { leftovers: replaced.leftovers, replaced: Some(replaced.why), notes: Vec::new() })
}
