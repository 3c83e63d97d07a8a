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

    cargo harness sabotage --recipe my-recipe

runs one deployment for every fault, and fails if one survives. A fault that the recipe has no room for, such as a
printed secret where there is none, is said not to be there. `--overlays` runs every tier every time and then says
which of the recipe's own assertions no fault turned red: they may still see something, but nobody has shown it.

    cargo test --test recipe -- --recipe my-recipe --sabotage restore-does-nothing

plants one fault. The header, the journal and the exit code say so: such a run proves nothing about the recipe.

`tests/it/sabotage.rs` plants every fault on the embedded engine, and fails if one survives or if a generic assertion is
seen to be turned red by none; `tests/it/swarm/sabotage.rs` plants them on a Swarm, and `tests/it/abra/sabotage.rs` those
nine that have room between abra and the app, through the stand-in for abra.

Of the bundled `custom-html`, with its overlays, on the embedded engine, this printed (most of the rows left out):

    $ cargo harness sabotage --recipe custom-html --overlays -- --engine embedded
    not there  secret-is-printed                       the recipe has no secret
    killed     volume-is-emptied                4.1 s  generic::upgrade::volumes_are_kept, overlays::custom_html::upgrade::seeded_page_survives
    killed     backup-stores-nothing            4.1 s  generic::backup::snapshot_holds_every_volume, generic::restore::changes_since_the_backup_are_undone, overlays::custom_html::backup::snapshot_holds_the_keepsake, overlays::custom_html::restore::ruined_page_is_back
    …
    sabotages killed 21/21, generic assertions killed 22/25, 4 faults not planted
    overlays::custom_html::backup::snapshot_holds_the_keepsake: turned red by 2 faults
    overlays::custom_html::custom::requests_are_logged: turned red by 1 faults
    overlays::custom_html::install::a_first_page_is_served: turned red by 2 faults
    overlays::custom_html::install::a_missing_page_is_not_found: turned red by 2 faults
    overlays::custom_html::restore::ruined_page_is_back: turned red by 3 faults
    overlays::custom_html::upgrade::seeded_page_survives: turned red by 2 faults
";
