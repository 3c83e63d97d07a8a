//! The environment as CI systems set it: an empty variable is one that nobody has set, and the short names, which are
//! everybody's, come after the harness's own.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::cli::Cli;

/// Flags that have a variable of a short name, too: the argument's id, the flag, its own variable, the short one.
pub const SHORT: [(&str, &str, &str, &str); 5] = [
    ("recipe", "--recipe", "HARNESS_RECIPE", "RECIPE"),
    ("reference", "--ref", "HARNESS_REF", "REF"),
    ("pr", "--pr", "HARNESS_PR", "PR"),
    ("base", "--base", "HARNESS_BASE", "VERSION"),
    ("tiers", "--tiers", "HARNESS_TIERS", "STAGES"),
];

/// Reads a command line, and from the environment what it does not say.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = adjust(Cli::command()).try_get_matches_from(arguments)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.short = in_force(&matches);
    Ok(cli)
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Has a command read the variables that somebody has set, by their short names where the others are not.
pub fn adjust(mut command: clap::Command) -> clap::Command {
    let of = |arg: &clap::Arg| Some((arg.get_id().to_string(), arg.get_env()?.to_string_lossy().into_owned()));
    let variables: Vec<(String, String)> = command.get_arguments().filter_map(of).collect();
    for (id, variable) in variables.iter().filter(|(_, variable)| !is_set(variable)) {
        let short = SHORT.iter().find(|(of, ..)| of == id).map(|(.., short)| *short);
        match short {
            Some(short) if is_set(short) => command = command.mut_arg(id, |arg| arg.env(short)),
            // An empty name of a recipe is a mistake that is told: nothing would be run, and it would look well.
            Some("RECIPE") if std::env::var_os("RECIPE").is_some() => {
                command = command.mut_arg(id, |arg| arg.env("RECIPE"));
            }
            _ if id == "recipe" && std::env::var_os(variable).is_some() => {}
            _ => command = command.mut_arg(id, |arg| arg.env(None::<&str>)),
        }
    }
    command
}

/// The short names that stand for a flag now.
fn in_force(matches: &ArgMatches) -> Vec<(&'static str, &'static str)> {
    let used = |(id, _, variable, short): &&(&str, &str, &str, &str)| {
        matches.value_source(id) == Some(ValueSource::EnvVariable) && !is_set(variable) && is_set(short)
    };
    SHORT.iter().filter(used).map(|(_, flag, _, short)| (*short, *flag)).collect()
}

impl Cli {
    /// One line for the short names in force: who has not set them for the harness learns what they do.
    pub fn short_names(&self) -> Option<String> {
        let said: Vec<String> =
            self.short.iter().map(|(short, flag)| format!("`{short}` is taken for `{flag}`")).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    /// The same of those that choose what is tested, for an error about it.
    pub fn short_names_of_versions(&self) -> Option<String> {
        let of_versions = |(_, flag): &&(&str, &str)| ["--ref", "--pr", "--base"].contains(flag);
        let said: Vec<String> =
            self.short.iter().filter(of_versions).map(|(short, flag)| format!("`{short}` for `{flag}`")).collect();
        (!said.is_empty()).then(|| format!("with {} from the environment", said.join(" and ")))
    }
}
