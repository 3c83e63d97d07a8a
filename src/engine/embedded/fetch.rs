//! Bringing images here ahead of a deployment: what a registry refuses is told from what nobody could ask it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Error, anyhow};
use futures_util::future::join_all;

use super::super::FetchError;
use super::super::not_here;
use super::super::swarm::endpoint::Endpoint;
use super::image::{self, PullError};

/// Has every image unpacked in the cache, and returns the digests of those that came from somewhere.
pub async fn all(
    images: &[String],
    map: &BTreeMap<String, String>,
    cache: &Path,
) -> Result<BTreeMap<String, String>, FetchError> {
    let (mut digests, mut refused) = (BTreeMap::new(), Vec::new());
    let resolved = join_all(images.iter().map(|image| image::resolve(image, map, cache))).await;
    for (image, resolved) in images.iter().zip(resolved) {
        match resolved {
            Ok(resolved) => digests.extend(resolved.digest.map(|digest| (image.clone(), digest))),
            Err(error) => refused.push((image.clone(), error)),
        }
    }
    if refused.is_empty() { Ok(digests) } else { Err(sorted(refused)) }
}

/// What the recipe has to mend comes first: no network makes it right.
fn sorted(refused: Vec<(String, Error)>) -> FetchError {
    let whole = |refused: &[&(String, Error)]| {
        let sentences: Vec<String> = refused.iter().map(|(_, error)| format!("{error:#}")).collect();
        anyhow!("{}", sentences.join("; "))
    };
    let kind = |wanted: fn(&PullError) -> bool| -> Vec<&(String, Error)> {
        refused.iter().filter(|(_, error)| error.downcast_ref::<PullError>().is_some_and(wanted)).collect()
    };
    let missing = kind(|it| matches!(it, PullError::Malformed(_) | PullError::NotFound(_) | PullError::Unusable(_)));
    let denied = kind(|it| matches!(it, PullError::Denied(_)));
    match (missing.is_empty(), denied.is_empty()) {
        (false, _) => FetchError::Missing(whole(&missing)),
        (true, false) => FetchError::Denied(whole(&denied)),
        (true, true) => FetchError::Unavailable(unavailable(&refused)),
    }
}

fn unavailable(refused: &[(String, Error)]) -> Error {
    let reason = |error: &Error| match error.downcast_ref::<PullError>() {
        Some(said) => said.to_string(),
        None => format!("{error:#}"),
    };
    let images: Vec<(String, String)> = refused.iter().map(|(image, error)| (image.clone(), reason(error))).collect();
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok());
    let docker = match endpoint.ok().and_then(|endpoint| endpoint.silence()) {
        Some(silence) => format!("use a Docker Swarm that has it, with `--engine swarm` ({silence})"),
        None => "use a Docker Swarm that has it, with `--engine swarm`".to_owned(),
    };
    let ways = [
        "let this machine reach the registry: a network, a proxy (HTTPS_PROXY), a login".to_owned(),
        docker,
        "put something in its place: `[embedded.images]`, docs/images.md".to_owned(),
    ];
    anyhow!("{}", not_here::said(&images, &ways))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: PullError) -> (String, Error) {
        ("a:1".to_owned(), Error::from(error).context("failed to resolve image `a:1`"))
    }

    #[test]
    fn a_registry_that_nobody_could_ask_is_not_the_recipes_fault_and_one_that_answers_is() {
        let unreachable = || refused(PullError::Unreachable("registry `r` cannot be reached: no route".into()));
        let FetchError::Unavailable(error) = sorted(vec![unreachable()]) else { panic!("blames the recipe") };
        let said = error.to_string();
        let first =
            "1 image is not here, and cannot be had: `a:1` (registry `r` cannot be reached: no route)\neither (a) ";
        assert!(said.starts_with(first), "{said}");
        assert!(
            said.ends_with("\n    or (c) put something in its place: `[embedded.images]`, docs/images.md"),
            "{said}"
        );
        let missing = refused(PullError::NotFound("registry `r` has no image `b:1`".into()));
        let FetchError::Missing(error) = sorted(vec![unreachable(), missing]) else { panic!("blames the network") };
        assert_eq!(error.to_string(), "failed to resolve image `a:1`: registry `r` has no image `b:1`");
        let denied = refused(PullError::Denied("a login is missing".into()));
        assert!(matches!(sorted(vec![denied, unreachable()]), FetchError::Denied(_)));
        // What this machine itself lacks, such as the layout that is to stand in.
        let own = ("a:1".to_owned(), anyhow!("there is no layout"));
        assert!(matches!(sorted(vec![own]), FetchError::Unavailable(_)));
    }
}
