//! How much a run has to prove.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::Env;
use super::cli::Cli;

/// What has to be proven beside that nothing fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// What is not proven is a failure.
    pub strict: bool,
    pub min_level: u8,
    /// A CI server would have it strict, and somebody has said no.
    #[serde(default)]
    pub lax_in_ci: bool,
}

impl Wants {
    /// By flag or environment; where CI=true, strict unless somebody says no.
    pub fn of(cli: &Cli, env: Env<'_>) -> Result<Self> {
        let in_ci = env("CI").as_deref() == Some("true");
        let strict = match cli.strict.as_deref().map(str::trim) {
            None | Some("") => in_ci,
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(other) => bail!("`--strict={other}` (or HARNESS_STRICT): write `--strict` or `--strict=false`"),
        };
        Ok(Wants { strict, min_level: cli.min_level.unwrap_or(0), lax_in_ci: in_ci && !strict })
    }

    /// Whether nothing is wanted beside the default; such a run is recorded as before there were wishes.
    pub fn is_plain(&self) -> bool {
        *self == Wants::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(strict: Option<&str>, ci: &str) -> Result<Wants> {
        let cli = Cli { strict: strict.map(Into::into), ..Cli::default() };
        Wants::of(&cli, &|key| (key == "CI").then(|| ci.to_owned()))
    }

    #[test]
    fn a_ci_server_is_strict_unless_somebody_says_no() {
        assert!(!wants(None, "").unwrap().strict && wants(None, "true").unwrap().strict);
        assert!(wants(Some("true"), "").unwrap().strict && wants(Some(""), "true").unwrap().strict);
        let off = wants(Some("false"), "true").unwrap();
        assert_eq!((off.strict, off.lax_in_ci), (false, true));
        assert!(!wants(Some("0"), "").unwrap().lax_in_ci);
        let line = wants(Some("maybe"), "").unwrap_err().to_string();
        assert_eq!(line, "`--strict=maybe` (or HARNESS_STRICT): write `--strict` or `--strict=false`");
    }
}
