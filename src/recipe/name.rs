//! The name of a recipe: it becomes part of paths, URLs and domains, so it is checked once, here.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

/// A name that matches `^[a-z0-9][a-z0-9-]{0,39}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecipeName(String);

impl RecipeName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RecipeName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || name.starts_with('-') || !name.chars().all(known) {
            bail!(
                "`{}` is not a recipe name: expected 1 to 40 lower-case letters, digits or `-`, not starting with `-`",
                name.escape_debug()
            );
        }
        Ok(RecipeName(name))
    }
}

impl FromStr for RecipeName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        RecipeName::try_from(name.to_owned())
    }
}

impl From<RecipeName> for String {
    fn from(name: RecipeName) -> String {
        name.0
    }
}

impl fmt::Display for RecipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in ["custom-html", "n8n", "a", "0", &"x".repeat(40)] {
            assert_eq!(name.parse::<RecipeName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_steer_a_path_or_an_option_are_refused() {
        for name in ["", "../x", "-u", "a b", "a\nb", "Ä", "A", "a_b", "a.b", "a/b", &"x".repeat(41)] {
            let error = name.parse::<RecipeName>().unwrap_err().to_string();
            assert!(error.contains("is not a recipe name: expected 1 to 40 lower-case letters"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<RecipeName>("\"custom-html\"").is_ok());
        let error = serde_json::from_str::<RecipeName>("\"../x\"").unwrap_err().to_string();
        assert!(error.contains("`../x` is not a recipe name"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_harmless(name in "\\PC{0,50}") {
            if let Ok(name) = name.parse::<RecipeName>() {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
}
