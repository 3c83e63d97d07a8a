//! `harness runs`: which apps are up, why, and for how long.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::keeper::lock::RunLock;
use crate::keeper::protocol::{Answer, Call, OwnedBy, Standing};
use crate::keeper::{lock, socket};
use crate::spelling;

/// A keeper that lives answers at once.
const ANSWER: Duration = Duration::from_secs(3);

/// Prints a line for every run that is up, and for every dead one that was not torn down.
pub async fn list(runs: &Path) -> Result<ExitCode> {
    let mut dirs: Vec<_> = std::fs::read_dir(runs).into_iter().flatten().flatten().map(|it| it.path()).collect();
    dirs.retain(|dir| lock::exists(dir));
    dirs.sort();
    let mut text = String::new();
    for dir in &dirs {
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let line = match RunLock::probe(dir)? {
            Some(_) => format!("dead: `{}` removes what it left", spelling::harness("sweep")),
            None => describe(standing(dir).await),
        };
        text.push_str(&format!("{id}  {line}\n"));
    }
    if dirs.is_empty() {
        text.push_str("no run is up\n");
    }
    std::io::stdout().write_all(text.as_bytes()).context("failed to print the runs")?;
    Ok(ExitCode::SUCCESS)
}

/// Where a run stands, as its keeper says it at once.
pub async fn standing(dir: &Path) -> Result<Standing> {
    tokio::time::timeout(ANSWER, ask(dir)).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(ANSWER);
        bail!("nothing came within {limit}: `{}` ends it", spelling::harness("down"))
    })
}

async fn ask(dir: &Path) -> Result<Standing> {
    let mut wire = socket::connect(dir).await?;
    wire.send(&Call::Standing).await?;
    match wire.receive().await? {
        Some(Answer::Standing(standing)) => Ok(standing),
        other => bail!("the keeper answered with something else: {other:?}"),
    }
}

fn describe(standing: Result<Standing>) -> String {
    let standing = match standing {
        Ok(standing) => standing,
        Err(error) => return format!("its keeper does not answer: {error:#}"),
    };
    let owner = match standing.owner {
        OwnedBy::Process { pid } => format!("in use by process {pid}"),
        OwnedBy::Kept => "kept".into(),
        OwnedBy::Idle { left } => {
            format!("warm for {} more", humantime::format_duration(Duration::from_secs(left.as_secs())))
        }
        OwnedBy::Nobody => "being torn down".into(),
    };
    match (standing.failed, standing.reached) {
        (Some(failed), _) => format!("{owner}, `{failed}` failed"),
        (None, Some(reached)) => format!("{owner}, at tier `{reached}`"),
        (None, None) => format!("{owner}, not deployed yet"),
    }
}
