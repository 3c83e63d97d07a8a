//! What leads to the same run again, for people to paste.

use crate::config::cli::Cli;

/// The flags that lead to the same run again. What came from the environment is written out.
pub fn arguments(cli: &Cli, recipe: &str) -> String {
    let flags = choices(cli, recipe).into_iter().map(|(flag, _, value)| format!("--{flag} {}", quoted(&value)));
    flags.collect::<Vec<_>>().join(" ")
}

/// The same for nextest, which passes no flags on.
pub fn variables(cli: &Cli, recipe: &str) -> String {
    let set = |(_, variable, value): (_, Option<&str>, String)| Some(format!("{}={}", variable?, quoted(&value)));
    choices(cli, recipe).into_iter().filter_map(set).collect::<Vec<_>>().join(" ")
}

/// What was chosen, by flag and by variable.
fn choices(cli: &Cli, recipe: &str) -> Vec<(&'static str, Option<&'static str>, String)> {
    let dir = cli.recipe_dir.as_ref().map(|dir| dir.display().to_string());
    let choices = [
        ("recipe", Some("HARNESS_RECIPE"), Some(recipe.to_owned())),
        ("recipe-dir", Some("HARNESS_RECIPE_DIR"), dir),
        ("ref", Some("HARNESS_REF"), cli.reference.clone()),
        ("pr", Some("HARNESS_PR"), cli.pr.clone()),
        ("base", Some("HARNESS_BASE"), cli.base.clone()),
        ("engine", Some("HARNESS_ENGINE"), cli.engine.clone()),
        ("sabotage", None, cli.sabotage.clone()),
    ];
    let secrets = cli.secret.iter().map(|secret| ("secret", None, Some(secret.clone())));
    choices.into_iter().chain(secrets).filter_map(|(flag, variable, value)| Some((flag, variable, value?))).collect()
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=.,:/@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_started_again_by_flags_and_by_variables() {
        let cli = Cli { recipe_dir: Some("/my recipes/notes".into()), engine: Some("swarm".into()), ..Cli::default() };
        assert_eq!(arguments(&cli, "notes"), "--recipe notes --recipe-dir '/my recipes/notes' --engine swarm");
        let expected = "HARNESS_RECIPE=notes HARNESS_RECIPE_DIR='/my recipes/notes' HARNESS_ENGINE=swarm";
        assert_eq!(variables(&cli, "notes"), expected);
    }

    #[test]
    fn what_a_shell_would_split_is_quoted() {
        assert_eq!(quoted("../my-recipes/notes:1.0.0+1.27"), "../my-recipes/notes:1.0.0+1.27");
        assert_eq!(quoted("/my recipes/it's"), r"'/my recipes/it'\''s'");
        assert_eq!((quoted(""), quoted("$(id)")), ("''".into(), "'$(id)'".into()));
    }
}
