//! What lists trials and runs none.

use std::process::ExitCode;

use libtest_mimic::Trial;

use super::selection::Selected;
use crate::assertion::Registry;
use crate::config::cli::Cli;
use crate::prepare;

/// Every trial, ignored: plain `cargo test` deploys nothing by accident. A trial that is run all the same, as an
/// editor's "Run test" does, says what is missing.
pub fn without_recipe(cli: &Cli, registry: &Registry) -> ExitCode {
    let trials = Selected::everything(registry).into_iter().map(|selected| {
        let missing = "choose a recipe: `--recipe NAME`, RECIPE=NAME in the environment, or, for a generic assertion, \
                       `recipes.default` in harness.toml";
        Trial::test(selected.name, move || Err(missing.into())).with_ignored_flag(true)
    });
    libtest_mimic::run(&cli.mimic, trials.collect()).exit_code()
}

/// `--list` touches nothing, not even the recipe's repository.
pub fn list(cli: &Cli, registry: &Registry, recipes: &[String]) -> ExitCode {
    let mut trials = Vec::new();
    for recipe in recipes {
        let scripts = prepare::overlay_scripts(recipe).unwrap_or_default();
        let data = prepare::overlay_data(recipe).unwrap_or_default();
        for selected in Selected::of_recipe(registry, recipe, &scripts, &data) {
            let trial = Trial::test(selected.name, || Ok(()));
            trials.push(if recipes.len() > 1 { trial.with_kind(recipe) } else { trial });
        }
    }
    libtest_mimic::run(&cli.mimic, trials).exit_code()
}
