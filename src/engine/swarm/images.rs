//! Images ahead of a deployment: whether a registry has them, pulling them, and whose fault it is when that fails.

use std::collections::BTreeMap;

use anyhow::{Context as _, Error, anyhow};
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use docker_credential::DockerCredential;
use futures_util::StreamExt as _;

use super::super::FetchError;
use super::{is_missing, status};

/// The label by which an image says that it is not what its name says.
const STAND_IN: &str = "recipe-harness.stand-in";

/// What a registry says when it answers and has no such image, and Docker of what is no name of one. Everything else is
/// its own trouble.
const ABSENT: [&str; 5] = ["manifest unknown", "manifest for", "not found", "does not exist", "invalid reference"];

/// What it says when it has none for us.
const DENIED: [&str; 5] = [
    "access denied",
    "access to the resource is denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
];

/// What a registry says when it serves nobody, or not now, whatever else is in the message.
const BUSY: [&str; 2] = ["toomanyrequests", "too many requests"];

/// Pulls every image that the daemon does not have as the registry has it, and returns what each resolved to: the
/// registry's digest, or the image's own id where only this daemon knows it.
pub async fn fetch(docker: &Docker, images: &[String]) -> Result<BTreeMap<String, String>, FetchError> {
    let mut resolved = BTreeMap::new();
    for image in images {
        resolved.insert(image.clone(), fetch_one(docker, image).await?);
    }
    Ok(resolved)
}

/// Pulls an image from its registry, whatever the daemon has, and returns the registry's digest.
pub async fn pull_anew(docker: &Docker, image: &str) -> Result<String, FetchError> {
    let digest = digest(docker, image).await?;
    pull(docker, image).await.map(|()| digest)
}

async fn fetch_one(docker: &Docker, image: &str) -> Result<String, FetchError> {
    let local = local(docker, image).await?;
    let registry = digest(docker, image).await;
    match (local, registry) {
        (Some(local), Ok(digest)) if has_digest(&local, &digest) => Ok(digest),
        (_, Ok(digest)) => pull(docker, image).await.map(|()| digest),
        // What is here will do: `docker stack deploy` cannot ask the registry either, and says so.
        (Some(local), Err(_)) => Ok(local.id.unwrap_or_default()),
        (None, Err(error)) => Err(error),
    }
}

/// Whether the image can be had at all: it is here, or its registry has it. With it, what the image says of itself
/// when it stands in for another.
pub async fn resolvable(docker: &Docker, image: &str) -> Result<Option<String>, FetchError> {
    match local(docker, image).await? {
        Some(local) => {
            let labels = local.config.and_then(|config| config.labels).unwrap_or_default();
            Ok(labels.get(STAND_IN).cloned())
        }
        None => digest(docker, image).await.map(|_| None),
    }
}

async fn local(docker: &Docker, image: &str) -> Result<Option<ImageInspect>, FetchError> {
    match docker.inspect_image(image).await {
        Ok(local) => Ok(Some(local)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => {
            let named = status(&error) == Some(400);
            let error = Error::from(error).context(format!("failed to ask Docker for the image `{image}`"));
            // It does not even look for what is no reference.
            Err(if named { FetchError::Missing(error) } else { FetchError::Unavailable(error) })
        }
    }
}

fn has_digest(local: &ImageInspect, digest: &str) -> bool {
    local.repo_digests.iter().flatten().any(|known| known.ends_with(&format!("@{digest}")))
}

/// The digest that the registry has for the reference.
async fn digest(docker: &Docker, image: &str) -> Result<String, FetchError> {
    let attempt = || format!("failed to find the image `{image}` in its registry");
    let credentials = credentials(image).map_err(|error| FetchError::Unavailable(error.context(attempt())))?;
    match docker.inspect_registry_image(image, credentials).await {
        Ok(found) => {
            let digest = found.descriptor.digest;
            digest.ok_or_else(|| FetchError::Unavailable(anyhow!("the registry gave no digest").context(attempt())))
        }
        Err(error) => Err(classify(error, attempt())),
    }
}

async fn pull(docker: &Docker, image: &str) -> Result<(), FetchError> {
    let attempt = || format!("failed to pull the image `{image}`");
    let credentials = credentials(image).map_err(|error| FetchError::Unavailable(error.context(attempt())))?;
    let mut options = CreateImageOptionsBuilder::default().from_image(image);
    // Without a tag Docker would pull every tag there is.
    if !image.contains('@') && !last_part(image).contains(':') {
        options = options.tag("latest");
    }
    let mut progress = Box::pin(docker.create_image(Some(options.build()), None, credentials));
    while let Some(step) = progress.next().await {
        step.map_err(|error| classify(error, attempt()))?;
    }
    Ok(())
}

/// Whose fault it is that an image cannot be had, by what the registry said.
fn classify(error: bollard::errors::Error, attempt: String) -> FetchError {
    let text = error.to_string().to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let denied = matches!(status(&error), Some(401 | 403)) || says(&DENIED);
    let absent = status(&error) == Some(404) || says(&ABSENT);
    // A name that cannot be resolved is "not found", too, but it is the registry's.
    let own = says(&BUSY) || text.contains("dial tcp") || text.contains("no such host");
    let error = Error::from(error).context(attempt);
    match (own, denied, absent) {
        (false, true, _) => FetchError::Denied(error),
        (false, _, true) => FetchError::Missing(error),
        _ => FetchError::Unavailable(error),
    }
}

/// What the docker CLI would log in with, credential helpers included.
fn credentials(image: &str) -> Result<Option<DockerCredentials>, Error> {
    let registry = registry(image);
    let found = match docker_credential::get_credential(registry) {
        Ok(found) => found,
        // Nobody has logged in: most images are public.
        Err(
            docker_credential::CredentialRetrievalError::NoCredentialConfigured
            | docker_credential::CredentialRetrievalError::ConfigNotFound
            | docker_credential::CredentialRetrievalError::ConfigReadError,
        ) => return Ok(None),
        Err(error) => return Err(Error::from(error)).context(format!("failed to read the login of `{registry}`")),
    };
    let login = DockerCredentials { serveraddress: Some(registry.to_owned()), ..DockerCredentials::default() };
    Ok(Some(match found {
        DockerCredential::IdentityToken(token) => DockerCredentials { identitytoken: Some(token), ..login },
        DockerCredential::UsernamePassword(username, password) => {
            DockerCredentials { username: Some(username), password: Some(password), ..login }
        }
    }))
}

/// The registry's key in the CLI's configuration; Docker's own has a whole address.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

fn last_part(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status_code: u16, message: &str) -> FetchError {
        let message = message.to_owned();
        classify(bollard::errors::Error::DockerResponseServerError { status_code, message }, "failed to x".into())
    }

    #[test]
    fn an_image_that_is_not_there_is_told_from_a_registry_in_trouble() {
        for (status, message) in [
            (404, "manifest for nginx:99 not found: manifest unknown: manifest unknown"),
            (400, "invalid reference format"),
        ] {
            assert!(matches!(classified(status, message), FetchError::Missing(_)), "{message}");
        }
        for (status, message) in [
            (404, "pull access denied for x, repository does not exist or may require 'docker login'"),
            (403, "pull access denied for x, repository does not exist or may require 'docker login'"),
            (500, "unauthorized: authentication required"),
            (500, "Head \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials"),
        ] {
            assert!(matches!(classified(status, message), FetchError::Denied(_)), "{message}");
        }
        for (status, message) in [
            (429, "toomanyrequests: You have reached your pull rate limit"),
            (404, "toomanyrequests: manifest unknown"),
            (500, "Get \"https://registry.example.org/v2/\": dial tcp: lookup registry.example.org: no such host"),
            (500, "dial tcp 127.0.0.1:1: connection refused"),
            (500, "received unexpected HTTP status: 503 Service Unavailable"),
        ] {
            let FetchError::Unavailable(error) = classified(status, message) else { panic!("{message}") };
            assert!(format!("{error:#}").starts_with("failed to x: "), "{error:#}");
        }
    }

    #[test]
    fn the_registry_is_found_as_docker_finds_it() {
        for (image, expected) in [
            ("nginx:1", "https://index.docker.io/v1/"),
            ("library/nginx", "https://index.docker.io/v1/"),
            ("registry.example.org/a/b:1", "registry.example.org"),
            ("localhost:5000/a", "localhost:5000"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
        assert!(!last_part("localhost:5000/a").contains(':'));
    }
}
