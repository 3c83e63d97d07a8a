//! The reference of the planted faults, made from their entries.

use std::collections::BTreeMap;

use super::Sabotage;

/// The text of `docs/sabotage.md`.
pub fn reference() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("\n## The faults\n\n| `--sabotage` | what goes wrong | must turn red |\n| --- | --- | --- |\n");
    let mut seen_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for sabotage in Sabotage::ALL {
        let facts = sabotage.facts();
        text.push_str(&format!("| `{}` | {} | {} |\n", facts.name, facts.what, list(facts.red)));
        for trial in facts.red {
            seen_by.entry(trial).or_default().push(facts.name);
        }
    }
    text.push_str("\n## The trials\n\nWhat each trial is proven to see.\n\n| trial | turned red by |\n| --- | --- |\n");
    for (trial, faults) in seen_by {
        text.push_str(&format!("| `{trial}` | {} |\n", list(&faults)));
    }
    text
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>")
}

const INTRODUCTION: &str = "\
# Planted faults

<!-- Made from src/sabotage.rs: `BLESS=1 cargo test --test it docs` writes it again. -->

A pass means something only if a failure would have been seen. Each fault below is put between the harness and the app,
never into an assertion, and names the trials that must turn red; others may turn red as well. It is done to the app for
real wherever the engine can be made to do it: a container is killed, an update is rolled back, a volume stays.

    cargo run -- sabotage --recipe my-recipe

runs one deployment for every fault, and fails if one survives. A fault that the recipe has no room for, such as a
printed secret where there is none, is said not to be there. `--overlays` runs every tier every time and then says
which of the recipe's own assertions no fault turned red: they may still see something, but nobody has shown it.

    cargo test --test recipe -- --recipe my-recipe --sabotage restore-does-nothing

plants one fault. The header, the journal and the exit code say so: such a run proves nothing about the recipe.

`tests/it/sabotage.rs` plants every fault on the embedded engine, and fails if one survives or if a generic assertion is
seen to be turned red by none; `tests/it/swarm/sabotage.rs` plants them on a Swarm.
";
