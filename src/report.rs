//! What people and machines read of a run: while it goes on and at its end on standard error, because standard output
//! is libtest's, and afterwards in files, each made from the results that are folded from the journal.

pub mod amount;
mod badge;
mod card;
mod colour;
pub mod comment;
pub mod explain;
pub mod files;
pub mod fold;
pub mod header;
pub mod history;
mod html;
mod junit;
pub mod kept;
pub mod level;
mod markdown;
pub mod progress;
pub mod results;
pub mod summary;
pub mod verdict;
mod wanted;

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::plain::printed;
use crate::prepare::Prepared;

/// What `--plan` answers, on standard output: no tests are run, so nothing else is written there.
pub fn print_plan(prepared: &Prepared) -> Result<()> {
    // Which recipe, and what is skipped, is in the plan already; a domain and a directory this run will never have.
    let is_new = |label: &str| !["skipped", "untested", "domain", "run"].contains(&label);
    let lines = header::lines(prepared).into_iter().skip(2).filter(|(label, _)| is_new(label));
    let lines = lines.map(|(label, text)| format!("{label:<9}{text}\n"));
    print(&format!("{}{}", prepared.spec.plan, lines.collect::<String>()))
}

/// Prints a plan, on standard output.
pub fn print(plan: &str) -> Result<()> {
    std::io::stdout().lock().write_all(printed(plan).as_bytes()).context("failed to print the plan")
}

/// `1 trial`, `2 trials`
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A duration for people: two decimals from a second on, whole milliseconds below.
pub fn seconds(duration: std::time::Duration) -> String {
    if duration.as_millis() < 1000 {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{:.2}s", duration.as_secs_f64())
    }
}
