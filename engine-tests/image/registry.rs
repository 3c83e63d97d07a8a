//! Registries: a build that can pull, and one that cannot.

#[cfg(feature = "registry")]
mod daemon;
#[cfg(feature = "registry")]
mod fake;
#[cfg(feature = "registry")]
mod pulls;
#[cfg(feature = "registry")]
mod refusals;

use libtest_mimic::Trial;

#[cfg(feature = "registry")]
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = refusals::CASES.iter().copied().map(crate::trial).collect();
    trials.extend(pulls::CASES.iter().copied().map(pulls::trial));
    trials
}

#[cfg(not(feature = "registry"))]
pub fn trials() -> Vec<Trial> {
    let ignored = || Ok(libtest_mimic::Completion::ignored_with("built without `--features registry`"));
    vec![
        crate::trial(("registry::a_build_without_the_feature_names_the_ways_out", without_the_feature)),
        Trial::ignorable_test("registry::images_are_pulled", ignored),
    ]
}

#[cfg(not(feature = "registry"))]
fn without_the_feature() -> anyhow::Result<()> {
    use anyhow::{Context as _, ensure};
    use harness::engine::embedded::image::{self, PullError};
    let (map, cache) = (Default::default(), std::path::Path::new("/nowhere"));
    let error = crate::fixture::block_on(image::resolve("docker.io/library/nginx:1.27", &map, cache))
        .err()
        .context("resolving succeeded")?;
    let expected = "failed to resolve image `docker.io/library/nginx:1.27`: `docker.io/library/nginx:1.27` would have to \
                    be pulled from a registry, which this build cannot do: let something stand in for it in \
                    harness.toml, as in `[embedded.images]` `\"nginx\" = \"oci:<path of an OCI layout>\"` (or \
                    `\"builtin:static-web\"`, or `\"host\"`), or build with `--features registry`";
    ensure!(format!("{error:#}") == expected, "{error:#}");
    ensure!(matches!(error.downcast_ref(), Some(PullError::NotBuilt(_))), "{error:?}");
    Ok(())
}
