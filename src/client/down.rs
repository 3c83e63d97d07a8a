//! Tearing down a run by name, whoever has begun it: through its keeper, or after it.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use tokio::sync::MutexGuard;

use super::Session;
use super::watchdog::Watched;
use crate::keeper::journal;
use crate::keeper::protocol::{Call, TeardownReport};
use crate::keeper::spec::RunSpec;

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

impl Session {
    /// The report's place. Another thread may hold it that waits for a run's orderly end; the keeper is then told of the
    /// new reason, so that it waits for nothing which the run can do without.
    pub(super) async fn place_of_report(&self, reason: &str) -> MutexGuard<'_, Option<TeardownReport>> {
        let call = Call::Teardown { reason: reason.to_owned() };
        tokio::select! {
            biased;
            ended = self.ended.lock() => ended,
            _ = self.ask(&call) => self.ended.lock().await,
        }
    }
}
