//! References of images in registries, as Docker reads them: `[registry/]repository[:tag][@digest]`.

use std::fmt;

use super::PullError;
use super::manifest::Digest;

/// What is meant where no registry is named.
const DOCKER_HUB: &str = "docker.io";
/// The length that Docker allows a name.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// An image of a registry, with everything spelled out that the short form leaves to the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; one that is none is the recipe's fault.
    pub(super) fn parse(text: &str) -> Result<Reference, PullError> {
        read(text).map_err(|why| PullError::Malformed(format!("`{text}` is not an image reference: {why}")))
    }

    /// Where the registry answers: host, and port if there is one.
    pub(super) fn address(&self) -> &str {
        if self.registry == DOCKER_HUB { "index.docker.io" } else { &self.registry }
    }

    /// The path of the repository in its registry.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub(super) fn version(&self) -> String {
        let tag = || self.tag.clone().unwrap_or_else(|| "latest".into());
        self.digest.as_ref().map_or_else(tag, ToString::to_string)
    }

    /// The same repository, pinned.
    pub(super) fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.digest.is_some() { '@' } else { ':' };
        write!(f, "{}/{}{between}{}", self.registry, self.repository, self.version())
    }
}

fn read(text: &str) -> Result<Reference, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::try_from(digest.to_owned()).map_err(|why| why.to_string())?)),
        None => (text, None),
    };
    // `localhost:5000/app` has a port, not a tag.
    let (name, tag) = match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(format!("`{tag}` is not a tag"));
    }
    let (registry, repository) = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
        Some(("index.docker.io" | "registry-1.docker.io", path)) => (DOCKER_HUB, path),
        Some((registry, path)) => (registry, path),
        None => (DOCKER_HUB, name),
    };
    if let Some(part) = repository.split('/').find(|part| !is_part(part)) {
        return Err(format!(
            "`{part}` is not a part of a name (lowercase letters, digits, and `.`, `_`, `-` between them)"
        ));
    }
    if !is_host(registry) {
        return Err(format!("`{registry}` is not the address of a registry"));
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("its name is longer than {LONGEST_NAME} characters"));
    }
    // The official images have a place of their own on Docker Hub.
    let official = registry == DOCKER_HUB && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
}

/// Whether the first part of a name is a registry, and no folder of Docker Hub.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
            let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            inner && edge(label.bytes().next()) && edge(label.bytes().last())
        }),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lowercase letters and digits; between them one `.`, one or two `_`, or any number of `-`.
fn is_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let edges = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| is_word(*first) && is_word(*last));
    let between = part.split(|c: char| is_word(u8::try_from(c).unwrap_or_default()));
    edges && between.into_iter().all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
    rest && tag.bytes().next().is_some_and(is_word) && tag.len() <= LONGEST_TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_the_short_form_leaves_out_is_added() {
        let pinned = format!("docker.io/library/nginx@sha256:{HEX}");
        for (text, full, address) in [
            ("nginx", "docker.io/library/nginx:latest", "index.docker.io"),
            ("library/nginx:1.27", "docker.io/library/nginx:1.27", "index.docker.io"),
            ("index.docker.io/team/app", "docker.io/team/app:latest", "index.docker.io"),
            ("team/app:V1_0-rc.2", "docker.io/team/app:V1_0-rc.2", "index.docker.io"),
            ("localhost/app", "localhost/app:latest", "localhost"),
            ("localhost:5000/a/b__c/d--e.f:1", "localhost:5000/a/b__c/d--e.f:1", "localhost:5000"),
            ("registry.example.org/app", "registry.example.org/app:latest", "registry.example.org"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000"),
            (&format!("nginx:1.27@sha256:{HEX}"), &pinned, "index.docker.io"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.address()), (full, address), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_says_why() {
        for (text, why) in [
            ("nginx:", "`` is not a tag"),
            ("nginx:-1", "`-1` is not a tag"),
            ("nginx:1:2", "`nginx:1` is not a part of a name"),
            ("Nginx:1", "`Nginx` is not a part of a name"),
            ("a//b", "`` is not a part of a name"),
            ("a..b/c", "`a..b` is not the address of a registry"),
            ("team/a___b", "`a___b` is not a part of a name"),
            ("team/app-", "`app-` is not a part of a name"),
            ("localhost:port/app", "`localhost:port` is not the address of a registry"),
            ("example.org:99999/app", "`example.org:99999` is not the address of a registry"),
            ("-x.org/app", "`-x.org` is not the address of a registry"),
            ("nginx@sha256:abc", "`sha256:abc` is not a sha256 digest of 64 lowercase hex digits"),
            ("nginx@md5:abc", "`md5:abc` is not a sha256 digest"),
            (&format!("team/{}", "a".repeat(300)), "its name is longer than 255 characters"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not an image reference: {why}")), "{error}");
        }
    }

    #[test]
    fn a_pinned_reference_forgets_its_tag() {
        let digest = Digest::try_from(format!("sha256:{HEX}")).unwrap();
        let pinned = Reference::parse("localhost:5000/app:1").unwrap().with_digest(digest.clone());
        assert_eq!(pinned.to_string(), format!("localhost:5000/app@{digest}"));
        assert_eq!((pinned.version(), pinned.digest()), (digest.to_string(), Some(&digest)));
    }
}
