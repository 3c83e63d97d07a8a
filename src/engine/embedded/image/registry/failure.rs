//! What a registry's refusal means: whose fault it is, and what to do.

use anyhow::anyhow;
use oci_client::Reference;
use oci_client::errors::{DigestError, OciDistributionError, OciEnvelope, OciErrorCode};

use super::super::PullError;

/// What was asked for. A part that the registry itself announced and does not have is the registry's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Image,
    Part,
}

/// Sorts an error of the client. Addresses are left out: they may carry signatures.
pub(super) fn classify(reference: &Reference, asked: Asked, error: OciDistributionError) -> anyhow::Error {
    use OciDistributionError as E;
    let kind = match error {
        // Only our own files cause this.
        E::IoError(error) => return local(error),
        E::UnauthorizedError { .. } => Kind::Denied("it wants a login".into()),
        E::AuthenticationFailure(said) => of_text(&said),
        E::RegistryError { envelope, .. } => of_envelope(&envelope),
        E::ServerError { code, message, .. } => of_status(code, &message),
        E::RequestError(error) => Kind::Unreachable(format!("{:#}", anyhow!(error.without_url()))),
        E::ImageManifestNotFoundError(said) => Kind::NotFound(said),
        E::DigestError(DigestError::VerificationError { expected, actual }) => {
            Kind::Corrupt(format!("blob `{expected}` arrived with the digest `{actual}`"))
        }
        other => Kind::Corrupt(brief(&other.to_string())),
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
    let registry = reference.resolve_registry();
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

fn of_status(code: u16, said: &str) -> Kind {
    let said = match brief(said) {
        text if text.is_empty() => format!("status {code}"),
        text => format!("status {code}, {text}"),
    };
    match code {
        404 => Kind::NotFound(said),
        401 | 403 => Kind::Denied(said),
        429 => Kind::RateLimited(said),
        408 | 425 | 500.. => Kind::Unreachable(said),
        _ => Kind::Corrupt(said),
    }
}

/// The specification's error document; the client does not pass on the status that came with it.
fn of_envelope(envelope: &OciEnvelope) -> Kind {
    let Some(error) = envelope.errors.first() else { return Kind::Corrupt("an error without a reason".into()) };
    let said = brief(if error.message.is_empty() { "no reason given" } else { &error.message });
    match &error.code {
        OciErrorCode::Toomanyrequests => Kind::RateLimited(said),
        OciErrorCode::Unauthorized | OciErrorCode::Denied => Kind::Denied(said),
        OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NameInvalid => Kind::NotFound(said),
        OciErrorCode::NotFound | OciErrorCode::BlobUnknown | OciErrorCode::ManifestBlobUnknown => Kind::NotFound(said),
        _ if is_about_limits(&said) => Kind::RateLimited(said),
        other => Kind::Unreachable(format!("{said} ({other:?})")),
    }
}

/// The token service answered with something else than a token; the client keeps only the text.
fn of_text(said: &str) -> Kind {
    if let Ok(envelope) = serde_json::from_str::<OciEnvelope>(said) {
        return of_envelope(&envelope);
    }
    let lower = said.to_lowercase();
    let refused = ["unauthorized", "denied", "incorrect username or password", "forbidden"];
    let text = format!("its token service said: {}", brief(said));
    match () {
        () if is_about_limits(&lower) => Kind::RateLimited(text),
        () if refused.iter().any(|word| lower.contains(word)) => Kind::Denied(text),
        () => Kind::Unreachable(text),
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
