//! Assertions and hooks, and the registry they put themselves into.

use std::future::Future;
use std::pin::Pin;

use anyhow::{Result, bail};

use crate::app::App;
use crate::tier::Tier;

/// What a registered function returns when called.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// An async function over the state after an operation; it never performs an operation itself.
///
/// `#[harness::test]` makes one and submits it to the registry.
pub struct Assertion {
    pub place: Place,
    pub run: for<'a> fn(&'a App) -> Answer<'a>,
}

/// Code that runs before an operation: it seeds data, or changes what the operation must put back.
///
/// `#[harness::before]` makes one and submits it to the registry.
pub struct Hook {
    pub place: Place,
    pub run: for<'a> fn(&'a App) -> Answer<'a>,
}

/// Which folder of `overlays/` belongs to which module: a folder's `-` is a `_` in the module.
pub struct OverlayFolder {
    pub module: &'static str,
    pub recipe: &'static str,
    /// Changes when anything but an assertion does: hooks, and what they may call.
    pub besides_assertions: &'static str,
    /// Changes with any of its Rust files.
    pub sources: &'static str,
}

/// The folder of the assertions that every recipe gets.
pub struct GenericFolder {
    /// Changes with any of its files.
    pub sources: &'static str,
}

inventory::collect!(Assertion);
inventory::collect!(Hook);
inventory::collect!(OverlayFolder);
inventory::collect!(GenericFolder);

/// Where a function stands in the source; its name and its tier follow from that.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// `module_path!()`, crate name first.
    pub module: &'static str,
    pub function: &'static str,
    pub file: &'static str,
    pub line: u32,
}

/// Whom an assertion or hook is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// From `generic/`: every recipe.
    Generic,
    /// From `overlays/<recipe>/`: one recipe, by its folder's module name.
    Overlay(String),
}

impl Place {
    /// Module path and function without the crate: `overlays::custom_html::upgrade::seeded_page_survives`. Editors
    /// derive exactly this name from the source, so "Run test" finds the trial.
    pub fn name(&self) -> String {
        format!("{}::{}", self.path(), self.function)
    }

    fn path(&self) -> &'static str {
        self.module.split_once("::").map_or("", |(_crate, path)| path)
    }

    /// The tier is the file's name, the scope its folder.
    pub fn scope_and_tier(&self) -> Result<(Scope, Tier)> {
        let parts: Vec<&str> = self.path().split("::").collect();
        let (scope, tier) = match parts.as_slice() {
            ["generic", tier] => (Scope::Generic, tier),
            ["overlays", recipe, tier] => (Scope::Overlay(recipe.to_string()), tier),
            _ => bail!(
                "`{}` ({}:{}) stands outside `generic/<tier>.rs` and `overlays/<recipe>/<tier>.rs`",
                self.name(),
                self.file,
                self.line
            ),
        };
        match tier.parse() {
            Ok(tier) => Ok((scope, tier)),
            Err(error) => {
                bail!("the file name of `{}` ({}:{}) gives no tier: {error}", self.name(), self.file, self.line)
            }
        }
    }
}

/// Everything registered in this executable.
pub struct Registry {
    pub assertions: Vec<Registered<Assertion>>,
    pub hooks: Vec<Registered<Hook>>,
}

/// A registered function with what follows from its place.
pub struct Registered<T: 'static> {
    pub name: String,
    pub scope: Scope,
    pub tier: Tier,
    pub item: &'static T,
}

impl Registry {
    /// Reads the registry, sorted by tier and name, because `inventory` gives no order. A misplaced function is an
    /// error here, once, rather than an assertion that silently never runs.
    pub fn read() -> Result<Self> {
        let assertions = sorted(inventory::iter::<Assertion>.into_iter().map(|item| (&item.place, item)))?;
        let hooks = sorted(inventory::iter::<Hook>.into_iter().map(|item| (&item.place, item)))?;
        Ok(Registry { assertions, hooks })
    }

    /// The assertions that a recipe gets: all generic ones and its own.
    pub fn assertions_of<'a>(&'a self, recipe: &'a str) -> impl Iterator<Item = &'a Registered<Assertion>> {
        self.assertions.iter().filter(move |it| it.scope.covers(recipe))
    }

    /// The hooks that run before one operation of a recipe.
    pub fn hooks_of<'a>(&'a self, recipe: &'a str, tier: Tier) -> impl Iterator<Item = &'a Registered<Hook>> {
        self.hooks.iter().filter(move |it| it.tier == tier && it.scope.covers(recipe))
    }
}

impl Scope {
    fn covers(&self, recipe: &str) -> bool {
        match self {
            Scope::Generic => true,
            Scope::Overlay(module) => recipe_of(module).is_some_and(|it| it == recipe),
        }
    }
}

/// What has to be the same for the hooks of a recipe's overlay to be the same; nothing if it has none.
pub fn besides_assertions(registry: &Registry, recipe: &str) -> Option<&'static str> {
    let has_hooks = Tier::ALL.iter().any(|tier| registry.hooks_of(recipe, *tier).next().is_some());
    let folder = inventory::iter::<OverlayFolder>.into_iter().find(|folder| folder.recipe == recipe);
    folder.filter(|_| has_hooks).map(|folder| folder.besides_assertions)
}

/// What has to be the same for the compiled assertions and hooks of a recipe to be the same.
pub fn sources(recipe: &str) -> Vec<&'static str> {
    let generic = inventory::iter::<GenericFolder>.into_iter().map(|folder| folder.sources);
    let overlays = inventory::iter::<OverlayFolder>.into_iter().filter(|folder| folder.recipe == recipe);
    generic.chain(overlays.map(|folder| folder.sources)).collect()
}

/// The recipe whose overlay folder has this module name.
pub fn recipe_of(module: &str) -> Option<&'static str> {
    inventory::iter::<OverlayFolder>.into_iter().find(|folder| folder.module == module).map(|folder| folder.recipe)
}

fn sorted<T>(items: impl Iterator<Item = (&'static Place, &'static T)>) -> Result<Vec<Registered<T>>> {
    let mut list = items
        .map(|(place, item)| {
            let (scope, tier) = place.scope_and_tier()?;
            Ok(Registered { name: place.name(), scope, tier, item })
        })
        .collect::<Result<Vec<_>>>()?;
    list.sort_by(|a, b| (a.tier, &a.name).cmp(&(b.tier, &b.name)));
    if let Some(pair) = list.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!("two functions are registered as `{}`", pair[0].name);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(module: &'static str) -> Place {
        Place { module, function: "serves", file: "somewhere.rs", line: 7 }
    }

    #[test]
    fn the_name_is_the_module_path_without_the_crate() {
        let place = place("recipe::overlays::custom_html::upgrade");
        assert_eq!(place.name(), "overlays::custom_html::upgrade::serves");
        assert_eq!(place.scope_and_tier().unwrap(), (Scope::Overlay("custom_html".into()), Tier::Upgrade));
        let generic = super::tests::place("recipe::generic::install");
        assert_eq!(generic.scope_and_tier().unwrap(), (Scope::Generic, Tier::Install));
    }

    #[test]
    fn a_file_that_is_no_tier_is_refused_with_its_place() {
        let error = place("recipe::overlays::custom_html::helpers").scope_and_tier().unwrap_err().to_string();
        assert_eq!(
            error,
            "the file name of `overlays::custom_html::helpers::serves` (somewhere.rs:7) gives no tier: unknown tier \
             `helpers`: the tiers are install, upgrade, backup, restore, custom"
        );
        let error = place("recipe::elsewhere").scope_and_tier().unwrap_err().to_string();
        assert!(error.contains("stands outside `generic/<tier>.rs`"), "{error}");
    }
}
