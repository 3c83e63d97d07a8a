//! Paths that a person types: from where they were typed, and with what may have been meant by one that leads nowhere.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::cli::Cli;
use crate::caller;
use crate::recipe::suggest::nearest;

/// So many directories are looked at for what may have been meant.
const MOST: usize = 2000;

/// Makes the paths of a command line absolute. One that leads nowhere is an error that says where it was looked for.
pub fn locate(cli: &mut Cli) -> Result<()> {
    if let Some(typed) = &cli.recipe_dir {
        let path = caller::absolute(typed)?;
        if !path.is_dir() {
            let from = caller::dir()?;
            let (shown, from) = (typed.display(), from.as_path());
            bail!("`--recipe-dir {shown}`: there is no such folder{}{}", seen_from(typed, from), meant(typed, from));
        }
        cli.recipe_dir = Some(path);
    }
    if let Some(typed) = &cli.junit {
        let path = caller::absolute(typed)?;
        if !path.parent().is_some_and(Path::is_dir) {
            let seen = seen_from(typed, &caller::dir()?);
            bail!("`--junit {}` names a file in a directory that does not exist{seen}", typed.display());
        }
        cli.junit = Some(path);
    }
    cli.run_dir = cli.run_dir.as_deref().map(caller::absolute).transpose().context("failed to use `--run-dir`")?;
    Ok(())
}

fn seen_from(typed: &Path, dir: &Path) -> String {
    if typed.is_absolute() { String::new() } else { format!(", seen from `{}`", dir.display()) }
}

/// A recipe's repository near by whose name is the one that was typed, or much like it.
fn meant(typed: &Path, dir: &Path) -> String {
    let wanted = typed.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let near = near(dir);
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = near.iter().map(name).collect();
    let best = nearest(&wanted, names.iter().map(String::as_str), 1).first().map(ToString::to_string);
    let found = near.iter().find(|path| Some(name(path)) == best);
    found.map_or_else(String::new, |path| format!("; `{}` is a git repository with a compose.yml", path.display()))
}

/// The recipes' repositories in a directory, in the two above it, and one level below each; by the way to them.
fn near(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), MOST);
    for way in ["", "..", "../.."].map(Path::new) {
        for child in folders(dir, way, &mut left) {
            let below = folders(dir, &child, &mut left);
            found.extend(std::iter::once(child).chain(below).filter(|path| is_recipe(&dir.join(path))));
        }
    }
    found
}

/// The folders in one, by the way to them.
fn folders(dir: &Path, way: &Path, left: &mut usize) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(way)).into_iter().flatten().flatten().take(*left);
    let mut folders: Vec<PathBuf> = entries
        .inspect(|_| *left = left.saturating_sub(1))
        .filter(|entry| entry.path().is_dir() && !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| way.join(entry.file_name()))
        .collect();
    folders.sort();
    folders
}

fn is_recipe(dir: &Path) -> bool {
    dir.join(".git").exists() && dir.join("compose.yml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_of_the_name_that_was_typed_is_suggested() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, is_recipe) in [("recipes/notes", true), ("recipes/wiki", true), ("other/notes", false)] {
            std::fs::create_dir_all(at(name).join(".git")).unwrap();
            if is_recipe {
                std::fs::write(at(name).join("compose.yml"), "").unwrap();
            }
        }
        std::fs::create_dir_all(at("harness")).unwrap();
        let suggested = "; `../recipes/notes` is a git repository with a compose.yml";
        for typed in ["../notes", "notes", "../recipes/nots"] {
            assert_eq!(meant(Path::new(typed), &at("harness")), suggested, "{typed}");
        }
        assert_eq!(meant(Path::new("../zzz"), &at("harness")), "");
    }
}
