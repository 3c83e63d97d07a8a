//! `harness down`: tears down a run by name, whoever uses it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use super::runs;
use crate::client::Down;
use crate::keeper::lock;
use crate::keeper::protocol::OwnedBy;
use crate::plain::printed;

/// Tears a run down, and says what a reader has to know beside it.
pub async fn run(run: &str, dir: &Path) -> Result<ExitCode> {
    if !lock::exists(dir) {
        bail!("run `{run}` is not up");
    }
    // A keeper that says nothing is given up below, which takes longer than this.
    if let Ok(OwnedBy::Process { pid }) = runs::standing(dir).await.map(|standing| standing.owner) {
        note(&format!(
            "run `{run}` is in use by process {pid}: it is torn down all the same, and what that process still has to \
             show fails"
        ));
    }
    let down = crate::client::down(dir, "asked for with `harness down`").await;
    let Down { leftovers, replaced, notes } = down.with_context(|| format!("run `{run}` cannot be torn down"))?;
    replaced.iter().chain(&notes).for_each(|text| note(text));
    if leftovers.is_empty() {
        eprintln!("run `{run}` is torn down, nothing is left");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: run `{run}` still has: {}", printed(&leftovers.join(", ")));
    Ok(ExitCode::FAILURE)
}

fn note(text: &str) {
    eprintln!("note: {}", printed(text));
}
