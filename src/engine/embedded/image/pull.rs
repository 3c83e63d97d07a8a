//! What can go wrong when an image is pulled, told apart by whose fault it is.

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
            | PullError::Corrupt(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for PullError {}
