//! What is given with a recipe: by its overlay folder, and by whoever runs the harness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::config::cli::Cli;
use crate::config::data::{self, Data};
use crate::config::files::{self, RecipeToml};
use crate::config::secrets;
use crate::program::{self, root};
use crate::recipe::AppState;
use crate::recipe::version::Revision;
use crate::script::find::{self, File};
use crate::script::{Code, Script, odd};
use crate::tier::Tier;

/// The programs of a recipe's overlay folder.
pub fn overlay_scripts(recipe: &str) -> Result<Vec<Script>> {
    let folder = root().join("overlays").join(recipe);
    let code = Code::Overlay { module: recipe.replace('-', "_"), folder: folder.clone() };
    let mut contents = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.with_context(|| format!("failed to list `{}`", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if (find::is_code(&name) || name.ends_with(".rs") || odd::why(&name).is_some()) && path.is_file() {
            let executable = std::os::unix::fs::PermissionsExt::mode(&path.metadata()?.permissions()) & 0o100 != 0;
            let bytes = crate::regular::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            contents.push((name, bytes, executable));
        }
    }
    contents.sort();
    let files: Vec<File<'_>> =
        contents.iter().map(|(name, bytes, executable)| File { name, bytes, executable: *executable }).collect();
    let mut scripts = find::scripts(&files, &code);
    if program::stands_alone() {
        scripts.extend(find::not_compiled(&files, &code));
    }
    scripts.extend(stray_folder(recipe, &folder).map(|why| find::odd_script(&code, "folder", Tier::Custom, why)));
    Ok(scripts)
}

/// Where a recipe has no overlay, and a folder of nearly its name has no recipe.
fn stray_folder(recipe: &str, folder: &Path) -> Option<String> {
    if folder.is_dir() {
        return None;
    }
    let folders = std::fs::read_dir(root().join("overlays")).into_iter().flatten().flatten();
    let names = folders.filter(|it| it.path().is_dir()).map(|it| it.file_name().to_string_lossy().into_owned());
    let plain = |name: &str| name.to_lowercase().replace(['-', '_', '.'], "");
    let is_near = |name: &String| {
        let is_a_recipe = root().join("recipes").join(name).is_dir();
        !is_a_recipe && (strsim::osa_distance(name, recipe) == 1 || plain(name) == plain(recipe))
    };
    let name = names.into_iter().find(|name| is_near(name))?;
    Some(format!("`overlays/{}` belongs to no recipe: did you mean `overlays/{recipe}`?", name.escape_debug()))
}

/// The data that a recipe's overlay folder says must survive.
pub fn overlay_data(recipe: &str) -> Result<Vec<Data>> {
    let toml: RecipeToml = files::read(&root().join("overlays").join(recipe).join("recipe.toml"))?;
    Ok(toml.data)
}

/// Where the values of secrets stand that come from outside, and what stands there for none.
pub(super) fn secrets_from_outside(
    cli: &Cli,
    states: &[&AppState],
) -> Result<(BTreeMap<String, secrets::Place>, Vec<String>)> {
    let own = states.iter().flat_map(|state| state.stack.own_secrets());
    let keys: BTreeSet<String> = own.map(|(key, _)| key.clone()).collect();
    let places = secrets::places(&cli.secret, &|key| std::env::var(key).ok(), &keys)?;
    let variables: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    Ok((places, secrets::unused(variables.iter().map(String::as_str), &keys)))
}

/// Data is made in what is installed, and looked for in the head.
pub(super) fn check_data(toml: &RecipeToml, head: &AppState, base: Option<&(Revision, AppState)>) -> Result<()> {
    if let Some((_, base)) = base {
        data::check_services(&toml.data, "the base", &base.stack)?;
    }
    data::check_services(&toml.data, "the head", &head.stack)
}
