//! `--last-failed`: the trials that failed in the last run of the recipe.

use std::collections::BTreeSet;

use super::selection::Selected;
use crate::keeper::sweep::runs_dir;
use crate::plain::plain;
use crate::prepare::Prepared;
use crate::report::history;
use crate::report::results::Results;

/// Their names, and a line about it; `None` where nothing failed, or nothing has run: then everything does.
pub fn names(prepared: &Prepared, trials: &[Selected<'_>]) -> Option<BTreeSet<String>> {
    let spec = &prepared.spec;
    let runs = history::read(&runs_dir(&spec.state));
    let last = runs.iter().rev().find(|run| run.recipe == spec.plan.recipe.as_str());
    let mut failed = last.map(failed).unwrap_or_default();
    let any = !failed.is_empty();
    failed.retain(|name| trials.iter().any(|trial| trial.name == *name));
    let said = match last {
        None => "the recipe has no run yet: everything runs".to_owned(),
        Some(last) if any && failed.is_empty() => {
            format!("none of the trials that failed in {} is there any more: everything runs", last.run_id)
        }
        Some(last) if failed.is_empty() => format!("nothing failed in {}: everything runs", last.run_id),
        Some(last) => format!("{} of {}", counted(failed.len()), last.run_id),
    };
    eprintln!("last     {}", plain(&said));
    (!failed.is_empty()).then_some(failed)
}

fn counted(number: usize) -> String {
    if number == 1 { "1 failed trial".into() } else { format!("{number} failed trials") }
}

fn failed(run: &Results) -> BTreeSet<String> {
    run.failures().map(|(_, trial)| trial.name.clone()).collect()
}
