//! `harness du` and `harness prune`: what the state directory holds, and what of it may go.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::state;
use crate::plain::plain;
use crate::store;
use crate::store::prune::Asked;
use anyhow::{Context as _, Result};

#[derive(clap::Args)]
pub struct Prune {
    /// Records of finished runs that began longer ago than this go, too
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prints how much each folder of the state directory holds.
pub fn du() -> Result<ExitCode> {
    let state = state::dir(&|key| std::env::var(key).ok())?;
    print(&store::table(&state, &store::amounts(&state)?))
}

/// Removes what no run needs, and prints it.
pub fn prune(asked: &Prune) -> Result<ExitCode> {
    let state = state::dir(&|key| std::env::var(key).ok())?;
    let asked = Asked { older_than: asked.older_than, dry: asked.dry_run };
    print(&store::prune::prune(&state, asked)?.to_string())
}

fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(plain(text).as_bytes()).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}
