//! `harness test RECIPE`: the same runner as `cargo test --test recipe`, for machines without Rust. An overlay's assertions
//! are programs, pytest and `recipe.toml` here.

use std::path::Path;
use std::process::ExitCode;

use crate::config::cli::Cli;
use crate::plain::plain;
use anyhow::{Context as _, Result, bail, ensure};

#[derive(clap::Args)]
pub struct Options {
    /// The recipe to test, or the path of a working copy of it; several names with commas
    #[arg(value_name = "RECIPE")]
    recipe_name: Option<String>,
    #[command(flatten)]
    cli: Cli,
}

/// Runs what was asked for, to the exit code of the run.
pub fn run(options: Options) -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().collect();
    let by_flag = Cli::names_recipe_on_command_line(&arguments);
    let cli = name(options, by_flag)?;
    if !by_flag && !cli.recipe.is_empty() {
        arguments.push("--recipe".into());
    }
    // Before anything can go wrong: it may be why.
    if !cli.mimic.list {
        eprintln!("root     {}", plain(&crate::program::root_line()));
    }
    crate::runner::run(&cli, &arguments)
}

/// The runner's own command line, with the recipe put where that expects it.
fn name(Options { recipe_name, mut cli }: Options, by_flag: bool) -> Result<Cli> {
    match recipe_name {
        // Beside `--recipe` the only word is a filter, as it is under cargo.
        Some(word) if by_flag => {
            ensure!(cli.mimic.filter.is_none(), "`--recipe` and `{word}` both name a recipe: give one of them");
            cli.mimic.filter = Some(word);
        }
        Some(path) if path.contains('/') || path.starts_with('.') => take_path(&path, &mut cli)?,
        Some(names) => cli.recipe = names.split(',').map(str::to_owned).collect(),
        None if cli.recipe.is_empty() && !cli.mimic.list => {
            bail!("no recipe is named: `harness test NAME`, or the path of a working copy, as in `harness test .`")
        }
        None => {}
    }
    Ok(cli)
}

/// A path names a working copy, and its folder is called as the recipe.
fn take_path(path: &str, cli: &mut Cli) -> Result<()> {
    ensure!(cli.recipe_dir.is_none(), "`{path}` and `--recipe-dir` both name a working copy: give one of them");
    let dir = Path::new(path).canonicalize().with_context(|| format!("failed to open the working copy `{path}`"))?;
    ensure!(dir.is_dir(), "`{path}` is a file, and a working copy of a recipe is a folder");
    let recipe = dir.file_name().and_then(|name| name.to_str());
    let recipe = recipe.with_context(|| format!("`{path}` has no name that a recipe can have"))?;
    cli.recipe = vec![recipe.to_owned()];
    cli.recipe_dir = Some(dir);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn read(arguments: &[&str]) -> Result<Cli> {
        let line = Line::try_parse_from([&["test"], arguments].concat()).unwrap();
        let by_flag = arguments.iter().any(|it| it.starts_with("--recipe=") || *it == "--recipe");
        name(line.options, by_flag)
    }

    fn refusal(arguments: &[&str]) -> String {
        format!("{:#}", read(arguments).unwrap_err())
    }

    #[test]
    fn the_first_word_is_the_recipe_and_the_second_a_filter() {
        let cli = read(&["notes", "upgrade", "--tiers", "install,upgrade"]).unwrap();
        assert_eq!((cli.recipe, cli.mimic.filter.as_deref()), (vec!["notes".to_owned()], Some("upgrade")));
        assert_eq!(read(&["a,b"]).unwrap().recipe, ["a", "b"]);
        let cli = read(&["--recipe", "a", "--recipe", "b", "upgrade"]).unwrap();
        assert_eq!((cli.recipe.len(), cli.mimic.filter.as_deref()), (2, Some("upgrade")));
    }

    #[test]
    fn a_path_names_a_working_copy_and_its_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes");
        std::fs::create_dir(&notes).unwrap();
        let cli = read(&[notes.to_str().unwrap()]).unwrap();
        assert_eq!((cli.recipe, cli.recipe_dir), (vec!["notes".to_owned()], Some(notes.canonicalize().unwrap())));
    }

    #[test]
    fn what_names_no_recipe_or_two_is_refused() {
        assert!(refusal(&["--tiers", "install"]).starts_with("no recipe is named: `harness test NAME`"));
        assert!(refusal(&["./nowhere"]).starts_with("failed to open the working copy `./nowhere`: No such file"));
        let two = refusal(&["--recipe", "a", "b", "upgrade"]);
        assert_eq!(two, "`--recipe` and `b` both name a recipe: give one of them");
        let two = refusal(&[".", "--recipe-dir", "."]);
        assert_eq!(two, "`.` and `--recipe-dir` both name a working copy: give one of them");
        assert!(refusal(&["/etc/passwd"]).starts_with("`/etc/passwd` is a file"));
    }
}
