//! A command line that names no recipe: nothing is proven by it, which must not look like a pass.

use anyhow::{Result, bail};

use super::selection::{Asked, Selected};
use crate::assertion::Registry;
use crate::config::cli::Cli;
use crate::config::wants::Wants;
use crate::program;
use crate::recipe::suggest::nearest;

/// Refuses a filter that was meant as a recipe, and, where it has to be strict, one that selects trials of which none can
/// run. Nothing at all is fine: that is plain `cargo test`, and a line says that no recipe was tested. So is a filter that
/// is about the tests of another package: cargo hands it to every executable.
pub fn refuse_filter(cli: &Cli, registry: &Registry) -> Result<()> {
    let strict = Wants::of(cli, &|key| std::env::var(key).ok())?.strict;
    if cli.mimic.list {
        return Ok(());
    }
    let Some(filter) = &cli.mimic.filter else {
        eprintln!("no recipe is named, so none is tested: `--recipe NAME` tests one");
        return Ok(());
    };
    let known = known_recipes();
    if let Some(recipe) = nearest(filter, known.iter().map(String::as_str), 1).first().filter(|it| is_meant(filter, it))
    {
        bail!("nothing was run: `{}` is no filter of trials; did you mean `--recipe {recipe}`?", filter.escape_debug());
    }
    let asked = Asked { cli, recipe: "", several: false };
    let selected = Selected::everything(registry).iter().filter(|it| asked.takes(&it.name, false)).count();
    // One that is asked for although it is ignored runs, and fails with what is missing.
    let runs = cli.mimic.include_ignored || cli.mimic.ignored;
    let said = format!(
        "no recipe is named, so none of the {selected} trials that match `{}` runs: did you mean `--recipe {}` beside it?",
        filter.escape_debug(),
        known.first().map_or("NAME", String::as_str)
    );
    match (selected, strict && !runs) {
        (0, _) => Ok(()),
        (_, true) => bail!("{said}"),
        (_, false) => {
            eprintln!("note: {said}");
            Ok(())
        }
    }
}

/// Exactly a recipe's name, or a slip of the pen beside it; the path of a trial never is.
fn is_meant(filter: &str, recipe: &str) -> bool {
    filter == recipe || (!filter.contains("::") && strsim::osa_distance(&filter.replace('_', "-"), recipe) <= 1)
}

/// Recipes that lie here, or have an overlay.
fn known_recipes() -> Vec<String> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(program::root().join(folder)).into_iter().flatten().flatten();
        entries.filter(|it| it.path().is_dir()).filter_map(|it| it.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let mut names = [names("recipes"), names("overlays")].concat();
    names.sort();
    names.dedup();
    names
}
