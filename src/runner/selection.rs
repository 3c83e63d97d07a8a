//! Which recipes a command line means, and which trials a recipe has.

use anyhow::Result;
use libtest_mimic::Trial;

use super::turns::Place;
use crate::assertion::{Assertion, Registered, Registry, Scope, recipe_of};
use crate::config::cli::Cli;
use crate::config::data::{Data, named};
use crate::keeper::facts::{TrialFact, TrialKind};
use crate::script::{self, Part, Script};
use crate::tier::Tier;

/// The name of the last trial.
pub const TEARDOWN: &str = "tier::teardown";

/// One trial, before it is bound to a run.
pub struct Selected<'a> {
    pub name: String,
    /// `None` for teardown, which comes after every tier.
    pub tier: Option<Tier>,
    pub what: What<'a>,
}

/// The last look at the app, whose time comes when every other trial has ended.
const LAST_LOOK: &str = "generic::custom::services_are_stable";

/// What a trial shows.
#[derive(Clone)]
pub enum What<'a> {
    Operation,
    Assertion(&'a Registered<Assertion>),
    /// A program of an overlay or of the recipe itself.
    Script(&'a Script, Part),
    /// An entry of `[[data]]`, with its name.
    Data(String, &'a Data),
    Teardown,
}

impl<'a> Selected<'a> {
    /// The trials of a recipe: by tier, the operation first, teardown last.
    pub fn of_recipe(registry: &'a Registry, recipe: &'a str, scripts: &'a [Script], data: &'a [Data]) -> Vec<Self> {
        arrange(registry.assertions_of(recipe), scripts, of_data(recipe, data))
    }

    /// The trials of every recipe together.
    pub fn everything(registry: &'a Registry) -> Vec<Self> {
        arrange(registry.assertions.iter(), &[], Vec::new())
    }
}

fn arrange<'a>(
    assertions: impl Iterator<Item = &'a Registered<Assertion>>,
    scripts: &'a [Script],
    data: Vec<Selected<'a>>,
) -> Vec<Selected<'a>> {
    let mut trials: Vec<Selected<'a>> = assertions
        .map(|it| Selected { name: it.name.clone(), tier: Some(it.tier), what: What::Assertion(it) })
        .collect();
    trials.extend(script::trials(scripts).into_iter().map(|(script, part)| Selected {
        name: part.name.clone(),
        tier: Some(script.tier),
        what: What::Script(script, part),
    }));
    trials.extend(data);
    trials.extend(Tier::ALL.into_iter().filter(|tier| tier.has_operation()).map(|tier| Selected {
        name: operation_name(tier),
        tier: Some(tier),
        what: What::Operation,
    }));
    trials.push(Selected { name: TEARDOWN.into(), tier: None, what: What::Teardown });
    // Teardown comes last, and before it the last look; within a tier the operation comes first, then by name.
    trials.sort_by_key(|it| (it.place(), !matches!(it.what, What::Operation), it.name.clone()));
    trials
}

/// Which trials of a recipe a command line asks for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub cli: &'a Cli,
    pub recipe: &'a str,
    /// Each trial is shown with its recipe, and can be asked for by it.
    pub several: bool,
}

impl Asked<'_> {
    /// Whether the trial of this name takes part.
    pub fn takes(&self, name: &str, ignored: bool) -> bool {
        let probe = Trial::test(name, || Ok(())).with_ignored_flag(ignored);
        let probe = if self.several { probe.with_kind(self.recipe) } else { probe };
        !self.cli.mimic.is_filtered_out(&probe) && !self.cli.mimic.is_ignored(&probe)
    }
}

/// The trials of `[[data]]`: after the upgrade, and after the restore where it has to come back.
fn of_data<'a>(recipe: &str, data: &'a [Data]) -> Vec<Selected<'a>> {
    let module = recipe.replace('-', "_");
    let trial = |tier, entry: String, data| Selected {
        name: format!("overlays::{module}::{tier}::data_{entry}"),
        tier: Some(tier),
        what: What::Data(entry, data),
    };
    let entries = named(data).into_iter().flat_map(|(entry, data)| {
        let restored = data.comes_back().then(|| trial(Tier::Restore, entry.clone(), data));
        [Some(trial(Tier::Upgrade, entry, data)), restored].into_iter().flatten()
    });
    entries.collect()
}

/// `tier::upgrade`
pub fn operation_name(tier: Tier) -> String {
    format!("tier::{tier}")
}

/// The recipes that were asked for: by flag or environment, or by the assertion that a filter names, as when "Run test"
/// is pressed above it. An overlay's has a recipe of its own; for a generic one it is `default`, which is asked for only
/// then.
pub fn recipes(
    cli: &Cli,
    registry: &Registry,
    default: impl FnOnce() -> Result<Option<String>>,
) -> Result<Vec<String>> {
    let mut recipes: Vec<String> = Vec::new();
    for name in cli.recipe.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        if !recipes.iter().any(|it| it == name) {
            recipes.push(name.to_owned());
        }
    }
    // A name that was given and is empty is a mistake, which is told elsewhere.
    if let (true, Some(filter)) = (cli.recipe.is_empty(), &cli.mimic.filter) {
        recipes.extend(implied(filter));
        if is_generic(registry, filter) {
            recipes.extend(default()?);
        }
    }
    Ok(recipes)
}

/// Whether a filter is the path of a generic assertion, or of one of their modules.
fn is_generic(registry: &Registry, filter: &str) -> bool {
    let is_below = |name: &str| name.strip_prefix(filter).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let mut generic = registry.assertions.iter().filter(|it| it.scope == Scope::Generic);
    filter.starts_with("generic::") && generic.any(|it| is_below(&it.name))
}

fn implied(filter: &str) -> Option<String> {
    let module = filter.strip_prefix("overlays::")?.split("::").next()?;
    recipe_of(module).map(str::to_owned)
}

impl Selected<'_> {
    /// When it is this trial's turn.
    pub fn place(&self) -> Place {
        match self.tier {
            Some(_) if self.name == LAST_LOOK => Place::LastLook,
            Some(tier) => Place::Tier(tier),
            None => Place::Teardown,
        }
    }

    /// Whether the trial is one of the generic assertions, which can be opted out of.
    pub fn is_generic(&self) -> bool {
        matches!(self.what, What::Assertion(Registered { scope: Scope::Generic, .. }))
    }

    /// Whether the trial asks ports beside that of the page, which few apps have.
    pub fn is_about_ports(&self) -> bool {
        self.is_generic() && self.name.ends_with("::ports_answer")
    }

    /// The trial as the journal knows it.
    pub fn fact(&self) -> TrialFact {
        let kind = match self.what {
            What::Operation => TrialKind::Operation,
            What::Assertion(_) if self.is_generic() => TrialKind::Generic,
            What::Assertion(_) | What::Script(..) | What::Data(..) => TrialKind::Overlay,
            What::Teardown => TrialKind::Teardown,
        };
        TrialFact { name: self.name.clone(), tier: self.tier, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_stand_in_the_order_of_the_tiers_with_the_operation_first() {
        let registry = Registry { assertions: Vec::new(), hooks: Vec::new() };
        let names: Vec<String> = Selected::everything(&registry).into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["tier::install", "tier::upgrade", "tier::backup", "tier::restore", "tier::teardown"]);
    }

    #[test]
    fn a_recipe_is_named_once_and_an_unknown_overlay_implies_none() {
        let registry = Registry { assertions: Vec::new(), hooks: Vec::new() };
        let recipes = |cli: &Cli| super::recipes(cli, &registry, || panic!("nobody needs a default")).unwrap();
        let cli = Cli { recipe: vec!["a".into(), " b".into(), "a".into(), "".into()], ..Cli::default() };
        assert_eq!(recipes(&cli), ["a", "b"]);
        let mut cli = Cli::default();
        cli.mimic.filter = Some("overlays::nowhere::install::x".into());
        assert!(recipes(&cli).is_empty());
        cli.mimic.filter = Some("generic::install::nothing_of_that_name".into());
        assert!(recipes(&cli).is_empty());
    }
}
