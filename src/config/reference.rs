//! Which commit is under test: `--ref`, `--pr`, or the default branch.

use anyhow::{Result, bail};

use super::cli::Cli;
use crate::recipe::mirror::Reference;

/// Reads `--ref` and `--pr`; together they are refused, because one of them would be ignored.
pub fn from(cli: &Cli) -> Result<Reference> {
    let reference = cli.reference.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let pr = cli.pr.as_deref().map(str::trim).filter(|text| !text.is_empty());
    match (reference, pr) {
        (None, None) => Ok(Reference::Default),
        (Some(name), None) => named(name),
        (None, Some(number)) => pull(number),
        // A CI server sets both for a pull request: the commit is what is tested, the number only tells where to
        // find it.
        (Some(name), Some(number)) if is_full_sha(name) => {
            pull(number)?;
            named(name)
        }
        (Some(name), Some(number)) => {
            bail!(
                "`--ref {name}` and `--pr {number}` name two things to test: give one, or the full commit of the pull request"
            )
        }
    }
}

fn named(name: &str) -> Result<Reference> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._-+/@".contains(c);
    if name.starts_with('-') || name.contains("..") || !name.chars().all(harmless) {
        bail!("`--ref {}` is no commit, branch or tag name", name.escape_debug());
    }
    Ok(Reference::Named(name.to_owned()))
}

fn pull(number: &str) -> Result<Reference> {
    match number.parse::<u64>() {
        Ok(number) if number > 0 => Ok(Reference::Pull(number)),
        _ => bail!("`--pr {}` is no number of a pull request", number.escape_debug()),
    }
}

fn is_full_sha(name: &str) -> bool {
    name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reference: Option<&str>, pr: Option<&str>) -> Result<Reference> {
        from(&Cli { reference: reference.map(Into::into), pr: pr.map(Into::into), ..Cli::default() })
    }

    #[test]
    fn one_of_the_two_names_what_is_tested() {
        assert!(matches!(read(None, None).unwrap(), Reference::Default));
        assert!(matches!(read(Some("1.0.0+1.27.4"), None).unwrap(), Reference::Named(_)));
        assert!(matches!(read(None, Some("12")).unwrap(), Reference::Pull(12)));
        let sha = "0123456789012345678901234567890123456789";
        assert!(matches!(read(Some(sha), Some("12")).unwrap(), Reference::Named(name) if name == sha));
    }

    #[test]
    fn two_different_things_and_malformed_names_are_refused() {
        let error = read(Some("main"), Some("12")).unwrap_err().to_string();
        assert!(error.starts_with("`--ref main` and `--pr 12` name two things to test"), "{error}");
        let error = read(Some("--upload-pack=x"), None).unwrap_err().to_string();
        assert_eq!(error, "`--ref --upload-pack=x` is no commit, branch or tag name");
        assert!(read(None, Some("0")).is_err());
    }
}
