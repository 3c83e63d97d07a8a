//! `abra recipe lint`: what abra holds against a recipe. A section of the report, without weight for the verdict.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::commands::Program;
use super::{AbraSpec, checkout_dir};
use crate::recipe::checkout::Checkout;

/// The directory below the engine's in which the recipe is linted, apart from the app's own.
const DIR: &str = "lint";

/// One rule of abra's, and whether the recipe keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// `R001`, …
    pub reference: String,
    /// What the rule wants.
    pub rule: String,
    /// `error` or `warn`, as abra says it.
    pub severity: String,
    pub kept: Kept,
    /// What abra says is to be done.
    pub remedy: String,
}

/// Whether a recipe keeps a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    Yes,
    No,
    /// abra found that it does not apply.
    Skipped,
}

/// Where a pristine clone has to lie to be linted: abra reads every compose file in it, so nothing of a run may.
pub fn clone_dir(engine_dir: &Path, recipe: &str) -> PathBuf {
    checkout_dir(&engine_dir.join(DIR), recipe)
}

/// Has the clone linted. abra fetches tags from `origin`, which is the mirror on this machine.
pub async fn lint(spec: &AbraSpec, engine_dir: &Path, recipe: &str, clone: &Checkout) -> Result<Vec<Rule>> {
    let whole = clone.clone();
    let copied = tokio::task::spawn_blocking(move || whole.make_whole()).await;
    copied.context("failed to copy the recipe's objects")??;
    let home = super::make_home(&engine_dir.join(DIR), spec)?;
    let said = Program { spec, home: &home }.recipe_lint(recipe).await?;
    // Its exit code only says whether it could lint.
    if said.failed() {
        bail!("`abra recipe lint` exited with code {}: {}", said.code, said.complaint());
    }
    let rules = table(&said.text);
    if rules.is_empty() {
        bail!("`abra recipe lint` was expected to print a table of rules (`R001`, …), and says: {}", said.last_lines());
    }
    Ok(rules)
}

/// Reads the table: reference, rule, severity, satisfied, skipped, how to fix. A cell that does not fit goes on in the
/// next row, whose first cell is empty.
fn table(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines() {
        let Some(cells) = cells(line) else { continue };
        match (cells.as_slice(), rules.last_mut()) {
            ([reference, rule, severity, satisfied, skipped, remedy, ..], _) if is_reference(reference) => {
                rules.push(Rule {
                    reference: reference.clone(),
                    rule: rule.clone(),
                    severity: severity.clone(),
                    kept: kept(satisfied, skipped),
                    remedy: remedy.clone(),
                });
            }
            ([reference, rule, .., remedy], Some(last)) if reference.is_empty() && cells.len() >= 6 => {
                append(&mut last.rule, rule);
                append(&mut last.remedy, remedy);
            }
            _ => {}
        }
    }
    rules
}

/// The cells between the bars of a row, whichever of the usual bars they are.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix(['|', '│', '┃'])?.strip_suffix(['|', '│', '┃'])?;
    Some(inner.split(['|', '│', '┃']).map(|cell| cell.trim().to_owned()).collect())
}

fn is_reference(cell: &str) -> bool {
    cell.strip_prefix('R').is_some_and(|number| number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// That a skipped rule is marked in its own column is recalled; whatever is neither kept nor broken counts as skipped.
fn kept(satisfied: &str, skipped: &str) -> Kept {
    match satisfied {
        _ if skipped.contains('✅') => Kept::Skipped,
        yes if yes.contains('✅') => Kept::Yes,
        no if no.contains('❌') => Kept::No,
        _ => Kept::Skipped,
    }
}

fn append(cell: &mut String, more: &str) {
    if !more.is_empty() {
        cell.push(' ');
        cell.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(text: &str) -> Vec<(String, String, Kept, String)> {
        let brief = |it: Rule| (it.reference, it.severity, it.kept, it.remedy);
        table(text).into_iter().map(brief).collect()
    }

    #[test]
    fn rules_are_read_whatever_bars_stand_between_the_cells() {
        for bar in ["|", "│", "┃"] {
            let text = "━━━━━\n┃ REF ┃ RULE ┃ SEVERITY ┃ SATISFIED ┃ SKIPPED ┃ RESOLVE ┃\n\
                        ┃ R001 ┃ a version ┃ warn ┃ ✅ ┃ - ┃ do this ┃\n┃ R008 ┃ a sample ┃ error ┃ ❌ ┃ - ┃ do that ┃\n\
                        ┃ R015 ┃ short names ┃ warn ┃ - ┃ ✅ ┃ nothing ┃\nWARN critical errors present in x config\n";
            let row = |reference: &str, severity: &str, kept, remedy: &str| {
                (reference.to_owned(), severity.to_owned(), kept, remedy.to_owned())
            };
            let expected = [
                row("R001", "warn", Kept::Yes, "do this"),
                row("R008", "error", Kept::No, "do that"),
                row("R015", "warn", Kept::Skipped, "nothing"),
            ];
            assert_eq!(brief(&text.replace('┃', bar)), expected);
        }
    }

    #[test]
    fn a_cell_that_goes_on_in_the_next_row_is_put_together() {
        let text = "| R001 | expects a | warn | ✅ | - | ensure |\n|  | version |  |  |  | it |\n";
        let rules = table(text);
        assert_eq!((rules[0].rule.as_str(), rules[0].remedy.as_str()), ("expects a version", "ensure it"));
    }

    #[test]
    fn what_is_no_table_gives_no_rules() {
        assert!(table("FATA no recipe\nR001 is a rule\n| R001 | too | few |\n| x | a | b | c | d | e |").is_empty());
    }
}
