//! Secrets from outside, in the place of generated ones: `HARNESS_SECRET_<NAME>`, and `--secret name=@file`.
//!
//! Here is only decided where a value stands. It is read by the keeper when the app is deployed: no value is in an
//! argument, in the run's description, or in this process's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Env;

/// What a variable with the value of a secret begins with.
pub const PREFIX: &str = "HARNESS_SECRET_";
/// Docker takes no larger secret.
pub const LARGEST: u64 = 500 << 10;

/// Where the value of a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Variable(String),
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Variable(name) => f.write_str(name),
            Place::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// Where the values of these secrets stand, as far as they come from outside; a flag comes before a variable.
pub fn places(flags: &[String], env: Env<'_>, keys: &BTreeSet<String>) -> Result<BTreeMap<String, Place>> {
    let mut places = BTreeMap::new();
    for key in keys {
        let name = variable(key);
        if let Some(value) = env(&name) {
            ensure!(!value.is_empty(), "{name} is empty: give a value, or leave it out");
            places.insert(key.clone(), Place::Variable(name));
        }
    }
    for flag in flags {
        let (key, path) = parse(flag)?;
        ensure!(keys.contains(key), "`--secret {flag}`: the recipe has no secret `{key}`: {}", known(keys));
        let path = file(path).with_context(|| format!("failed to use `--secret {flag}`"))?;
        places.insert(key.to_owned(), Place::File(path));
    }
    Ok(places)
}

/// Variables that look like secrets, and that this recipe has none for: a mistake in the name would otherwise be a
/// generated value.
pub fn unused<'a>(names: impl IntoIterator<Item = &'a str>, keys: &BTreeSet<String>) -> Vec<String> {
    let wanted: BTreeSet<String> = keys.iter().map(|key| variable(key)).collect();
    let names = names.into_iter().filter(|name| name.starts_with(PREFIX) && !wanted.contains(*name));
    names.map(|name| format!("{name} is for no secret of this recipe: {}", known(keys))).collect()
}

/// `smtp_password` is `HARNESS_SECRET_SMTP_PASSWORD`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace(['-', '.'], "_"))
}

fn known(keys: &BTreeSet<String>) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    if keys.is_empty() { "it has none".into() } else { format!("it has {}", keys.join(", ")) }
}

/// The name and the path. What is written in the place of `@file` may be the value itself: it is not shown.
fn parse(flag: &str) -> Result<(&str, &str)> {
    let Some((key, path)) = flag.split_once("=@").filter(|(key, _)| !key.contains('=')) else {
        let key = flag.split_once('=').map_or("NAME", |(key, _)| key);
        bail!(
            "`--secret {key}=…` has no `@` before a file's name, and every user of this machine can read the arguments of a \
             process: write the value to a file and give `--secret {key}=@FILE`, or set {}",
            variable(key)
        );
    };
    ensure!(!key.is_empty() && !path.is_empty(), "`--secret {flag}`: write `--secret NAME=@FILE`");
    Ok((key, path))
}

fn file(path: &str) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("failed to find `{path}`"))?;
    let about = std::fs::metadata(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    ensure!(about.is_file(), "`{}` is no file", path.display());
    ensure!(about.len() <= LARGEST, "`{}` has more than {} KiB", path.display(), LARGEST >> 10);
    Ok(path)
}

/// Reads a value: of a file, without the line break at its end.
pub fn value(place: &Place) -> Result<String> {
    let value = match place {
        Place::Variable(name) => std::env::var(name).with_context(|| format!("failed to read {name}"))?,
        Place::File(path) => read(path)?,
    };
    ensure!(!value.is_empty(), "{place} is empty");
    ensure!(value.len() as u64 <= LARGEST, "{place} has more than {} KiB", LARGEST >> 10);
    Ok(value)
}

fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(line.unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BTreeSet<String> {
        ["smtp_password", "token"].map(str::to_owned).into()
    }

    fn refusal(flag: &str) -> String {
        format!("{:#}", places(&[flag.to_owned()], &|_| None, &keys()).unwrap_err())
    }

    #[test]
    fn a_flag_comes_before_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "from the file\n").unwrap();
        let env = |name: &str| name.starts_with(PREFIX).then(|| "from outside".to_owned());
        let flag = format!("token=@{}", path.display());
        let places = places(&[flag], &env, &keys()).unwrap();
        assert_eq!(places["smtp_password"], Place::Variable("HARNESS_SECRET_SMTP_PASSWORD".into()));
        assert_eq!(places["token"], Place::File(path));
        assert_eq!(value(&places["token"]).unwrap(), "from the file");
    }

    #[test]
    fn a_value_among_the_arguments_is_refused_and_not_repeated() {
        let expected = "`--secret token=…` has no `@` before a file's name, and every user of this machine can read the \
                        arguments of a process: write the value to a file and give `--secret token=@FILE`, or set \
                        HARNESS_SECRET_TOKEN";
        assert_eq!(refusal("token=opensesame"), expected);
        assert!(!refusal("opensesame").contains("opensesame"));
        assert!(!refusal("token=open=@sesame").contains("sesame"));
    }

    #[test]
    fn what_is_for_no_secret_or_not_there_is_refused() {
        assert_eq!(
            refusal("tokn=@/dev/null"),
            "`--secret tokn=@/dev/null`: the recipe has no secret `tokn`: it has `smtp_password`, `token`"
        );
        let missing = refusal("token=@/nowhere/token");
        let start = "failed to use `--secret token=@/nowhere/token`: failed to read `/nowhere/token`: No such file";
        assert!(missing.starts_with(start), "{missing}");
        assert_eq!(refusal("token=@/dev/null"), "failed to use `--secret token=@/dev/null`: `/dev/null` is no file");
        let empty = places(&[], &|_| Some(String::new()), &keys()).unwrap_err().to_string();
        assert_eq!(empty, "HARNESS_SECRET_SMTP_PASSWORD is empty: give a value, or leave it out");
        let unused = unused(["HARNESS_SECRET_TOKN", "HARNESS_SECRET_TOKEN", "HARNESS_STATE"], &keys());
        assert_eq!(unused, ["HARNESS_SECRET_TOKN is for no secret of this recipe: it has `smtp_password`, `token`"]);
    }
}
