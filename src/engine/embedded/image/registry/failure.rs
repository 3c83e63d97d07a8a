//! What a registry's refusal means: whose fault it is, and what to do.

use anyhow::anyhow;
use serde::Deserialize;

use super::super::PullError;
use super::super::manifest::Digest;
use super::super::reference::Reference;

/// What was asked for. A part that the registry itself announced and does not have is the registry's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Image,
    Part,
}

/// Why a request did not give what it was made for.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry refused, with these words.
    Status(u16, String),
    /// The registry's token service refused.
    Token(u16, String),
    /// What arrived is not what was asked for.
    Digest { expected: Digest, actual: Digest },
    /// More arrives than was announced, or than is read.
    TooLarge { what: String, most: u64 },
    /// An answer that means nothing.
    Nonsense(String),
    /// No answer, or one that broke off.
    Transport(reqwest::Error),
    /// Our own files.
    Io(std::io::Error),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Failure {
        Failure::Transport(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Sorts a failure by whose fault it is. Addresses are left out: they may carry signatures.
pub(super) fn classify(reference: &Reference, asked: Asked, failure: Failure) -> anyhow::Error {
    let kind = match failure {
        Failure::Io(error) => return local(error),
        Failure::Status(code, said) => of_status(code, &said),
        Failure::Token(code, said) => of_token(code, &said),
        // Without the address that it names.
        Failure::Transport(error) => Kind::Unreachable(format!("{:#}", anyhow!(error.without_url()))),
        Failure::Digest { expected, actual } => {
            Kind::Corrupt(format!("blob `{expected}` arrived with the digest `{actual}`"))
        }
        Failure::TooLarge { what, most } => Kind::Corrupt(format!("{what} is larger than {most} bytes")),
        Failure::Nonsense(said) => Kind::Corrupt(brief(&said)),
    };
    sentence(reference, asked, kind).into()
}

enum Kind {
    NotFound(String),
    Denied(String),
    RateLimited(String),
    Unreachable(String),
    Corrupt(String),
}

fn sentence(reference: &Reference, asked: Asked, kind: Kind) -> PullError {
    let registry = reference.address();
    match kind {
        Kind::NotFound(said) if asked == Asked::Part => {
            PullError::Corrupt(format!("registry `{registry}` lacks a part of `{reference}`: {said}"))
        }
        Kind::NotFound(said) => {
            PullError::NotFound(format!("registry `{registry}` has no image `{reference}`: {said}"))
        }
        Kind::Denied(said) => PullError::Denied(format!(
            "registry `{registry}` does not give out `{reference}`: {said}; either there is no such image, or a login is \
             missing in Docker's config.json (credential helpers are not asked)"
        )),
        Kind::RateLimited(said) => PullError::RateLimited(format!(
            "registry `{registry}` limits how much may be pulled: {said}; try later, or log in with `docker login`"
        )),
        Kind::Unreachable(said) => PullError::Unreachable(format!("registry `{registry}` cannot be reached: {said}")),
        Kind::Corrupt(said) => {
            PullError::Corrupt(format!("registry `{registry}` sent `{reference}` in a damaged state: {said}"))
        }
    }
}

/// The specification's error document.
#[derive(Deserialize)]
struct Document {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn of_status(code: u16, said: &str) -> Kind {
    let reason = serde_json::from_str::<Document>(said).ok().and_then(|document| document.errors.into_iter().next());
    let named = reason.as_ref().map_or("", |reason| reason.code.as_str());
    let said = match reason.as_ref().map_or(brief(said), |reason| brief(&reason.message)) {
        text if reason.is_some() && !text.is_empty() => text,
        text if text.is_empty() || reason.is_some() => format!("status {code}"),
        text => format!("status {code}, {text}"),
    };
    // Some registries say with one status what the document's code tells apart.
    match named {
        "TOOMANYREQUESTS" => return Kind::RateLimited(said),
        "UNAUTHORIZED" | "DENIED" if code != 401 => return Kind::Denied(said),
        "MANIFEST_UNKNOWN"
        | "NAME_UNKNOWN"
        | "NAME_INVALID"
        | "NOT_FOUND"
        | "BLOB_UNKNOWN"
        | "MANIFEST_BLOB_UNKNOWN" => return Kind::NotFound(said),
        _ if is_about_limits(&said) => return Kind::RateLimited(said),
        _ => {}
    }
    match code {
        404 => Kind::NotFound(said),
        401 => Kind::Denied("it wants a login".into()),
        403 => Kind::Denied(said),
        429 => Kind::RateLimited(said),
        408 | 425 | 500.. => Kind::Unreachable(said),
        _ => Kind::Corrupt(said),
    }
}

/// The token service answered with something else than a token; not all of them use the status that is meant for it.
fn of_token(code: u16, said: &str) -> Kind {
    let lower = said.to_lowercase();
    let refused = ["unauthorized", "denied", "incorrect username or password", "forbidden"];
    let text = format!("its token service said: status {code}, {}", brief(said));
    match code {
        429 => Kind::RateLimited(text),
        _ if is_about_limits(&lower) => Kind::RateLimited(text),
        401 | 403 => Kind::Denied(text),
        _ if refused.iter().any(|word| lower.contains(word)) => Kind::Denied(text),
        _ => Kind::Unreachable(text),
    }
}

fn is_about_limits(said: &str) -> bool {
    let lower = said.to_lowercase();
    ["too many requests", "toomanyrequests", "rate limit", "rate exceeded"].iter().any(|word| lower.contains(word))
}

/// One line of at most 200 characters: proxies answer with whole pages.
fn brief(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn local(error: std::io::Error) -> anyhow::Error {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let hint = if full {
        "no space left for the image; free some, or use a state directory elsewhere"
    } else {
        "failed to write a downloaded layer"
    };
    anyhow::Error::new(error).context(hint)
}

#[cfg(test)]
mod tests;
