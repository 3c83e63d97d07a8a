//! Pulling: what can go wrong, told apart by whose fault it is; and what a build without the `registry` feature says.

use std::fmt;

/// Why an image could not be had from a registry. Each carries a whole sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullError {
    /// The reference is not one: the recipe's fault.
    Malformed(String),
    /// The registry answers, and has no such image: the recipe's fault.
    NotFound(String),
    /// The registry wants other credentials, or hides that there is no such image.
    Denied(String),
    /// It is there, but not a container image for this machine.
    Unusable(String),
    /// Too many requests (HTTP 429): try later, or log in.
    RateLimited(String),
    /// No connection, a time-out, a server error or a download that broke off, several times over.
    Unreachable(String),
    /// The registry sent something else than it announced.
    Corrupt(String),
    /// This build pulls nothing.
    NotBuilt(String),
}

impl PullError {
    /// Whether neither the recipe nor the configuration can do anything about it.
    pub fn is_infrastructure(&self) -> bool {
        matches!(self, PullError::RateLimited(_) | PullError::Unreachable(_) | PullError::Corrupt(_))
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PullError::Malformed(text)
            | PullError::NotFound(text)
            | PullError::Denied(text)
            | PullError::Unusable(text)
            | PullError::RateLimited(text)
            | PullError::Unreachable(text)
            | PullError::Corrupt(text)
            | PullError::NotBuilt(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for PullError {}

#[cfg(feature = "registry")]
pub(super) use super::registry::resolve;

/// Without the feature, the way out is named instead.
#[cfg(not(feature = "registry"))]
pub(super) async fn resolve(reference: &str, _cache: &std::path::Path) -> anyhow::Result<super::cache::Unpacked> {
    Err(PullError::NotBuilt(not_built(reference)).into())
}

/// Why this build cannot pull a reference at all.
pub(super) fn cannot_pull(reference: &str) -> Option<String> {
    (!cfg!(feature = "registry")).then(|| not_built(reference))
}

fn not_built(reference: &str) -> String {
    format!(
        "`{reference}` would have to be pulled from a registry, which this build cannot do: let something stand in for \
         it in harness.toml, as in `[embedded.images]` `\"{}\" = \"oci:<path of an OCI layout>\"` (or \
         `\"builtin:static-web\"`, or `\"host\"`), or build with `--features registry`",
        super::source::name(reference)
    )
}
