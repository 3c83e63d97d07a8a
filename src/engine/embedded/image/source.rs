//! What an image reference stands for: the map of `harness.toml`, and the four kinds of values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::PullError;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `builtin:<name>`
    Builtin(String),
    /// `host`
    Host,
    /// `oci:<dir>[:<tag>]`
    Layout {
        dir: PathBuf,
        /// The tag that the value itself names: the layout must have it.
        tag: Option<String>,
        /// The tag of the compose file's reference: chooses among several images of one layout.
        hint: Option<String>,
    },
    /// A reference to pull.
    Registry(String),
}

/// Looks `reference` up in the map, once: what stands in is not looked up again.
pub(super) fn choose(reference: &str, map: &BTreeMap<String, String>) -> Result<Source> {
    let wanted = Name::split(reference);
    if wanted.name.is_empty() {
        return Err(PullError::Malformed(format!("image reference `{reference}` has no name")).into());
    }
    let Some(value) = stand_in(reference, map) else { return parse(reference, None) };
    match parse(value, wanted.tag)? {
        // A mirror keeps the version that the recipe asks for, unless the map pins one.
        Source::Registry(other) if Name::split(&other).is_bare() => {
            Ok(Source::Registry(format!("{other}{}", &reference[wanted.name.len()..])))
        }
        source => Ok(source),
    }
}

/// The value that the map has for a reference.
pub(super) fn stand_in<'a>(reference: &str, map: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let wanted = familiar(Name::split(reference).name);
    map.iter().find(|(name, _)| familiar(name) == wanted).map(|(_, value)| value.as_str())
}

/// Reads one of the four kinds of values.
fn parse(value: &str, hint: Option<&str>) -> Result<Source> {
    if value == "host" {
        return Ok(Source::Host);
    }
    if let Some(name) = value.strip_prefix("builtin:") {
        return Ok(Source::Builtin(name.to_owned()));
    }
    let Some(layout) = value.strip_prefix("oci:") else { return Ok(Source::Registry(value.to_owned())) };
    let (dir, tag) = match layout.rsplit_once(':') {
        // A directory may have a colon in its name, a tag has no slash.
        Some((dir, tag)) if !tag.contains('/') && !Path::new(layout).is_dir() => (dir, Some(tag)),
        _ => (layout, None),
    };
    if dir.is_empty() || tag == Some("") {
        bail!("image value `{value}` is not of the form `oci:<path of an OCI layout>[:<tag>]`");
    }
    Ok(Source::Layout { dir: dir.into(), tag: tag.map(str::to_owned), hint: hint.map(str::to_owned) })
}

/// A reference in its parts: `name[:tag][@digest]`.
struct Name<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn split(reference: &'a str) -> Name<'a> {
        let (rest, digest) = match reference.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (reference, None),
        };
        match rest.rsplit_once(':') {
            // `localhost:5000/app` has a port, not a tag.
            Some((name, tag)) if !tag.contains('/') => Name { name, tag: Some(tag), digest },
            _ => Name { name: rest, tag: None, digest },
        }
    }

    fn is_bare(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }
}

/// The short form that Docker shows: `docker.io/library/nginx` is `nginx`.
fn familiar(name: &str) -> &str {
    let hub = name.strip_prefix("docker.io/").or_else(|| name.strip_prefix("index.docker.io/")).unwrap_or(name);
    match hub.strip_prefix("library/") {
        Some(short) if !short.contains('/') => short,
        _ => hub,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reference: &str, map: &[(&str, &str)], expected: Source) {
        let map = map.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(choose(reference, &map).unwrap(), expected, "{reference} with {map:?}");
    }

    fn registry(reference: &str) -> Source {
        Source::Registry(reference.to_owned())
    }

    fn layout(dir: &str, tag: Option<&str>, hint: Option<&str>) -> Source {
        Source::Layout { dir: dir.into(), tag: tag.map(str::to_owned), hint: hint.map(str::to_owned) }
    }

    #[test]
    fn a_name_without_an_entry_is_pulled_as_it_is() {
        check("nginx:1.27", &[], registry("nginx:1.27"));
        check("nginx-unprivileged:1", &[("nginx", "host")], registry("nginx-unprivileged:1"));
        check("localhost:5000/app", &[("localhost", "host")], registry("localhost:5000/app"));
    }

    #[test]
    fn the_map_is_asked_by_name_whatever_the_tag_and_the_digest() {
        for reference in ["nginx", "nginx:1.27", "nginx:1.27@sha256:ab", "docker.io/library/nginx:1", "library/nginx"] {
            check(reference, &[("nginx", "builtin:static-web")], Source::Builtin("static-web".into()));
        }
        check("nginx:1", &[("docker.io/library/nginx", "host")], Source::Host);
        check("localhost:5000/app:2", &[("localhost:5000/app", "host")], Source::Host);
    }

    #[test]
    fn a_reference_may_itself_be_one_of_the_values() {
        check("host", &[], Source::Host);
        check("builtin:static-web", &[], Source::Builtin("static-web".into()));
        check("oci:/images/web", &[], layout("/images/web", None, None));
    }

    #[test]
    fn a_layout_takes_the_tag_of_the_value_and_remembers_that_of_the_recipe() {
        check("nginx:1.27", &[("nginx", "oci:images/web")], layout("images/web", None, Some("1.27")));
        check("nginx:1.27", &[("nginx", "oci:images/web:old")], layout("images/web", Some("old"), Some("1.27")));
        check("nginx", &[("nginx", "oci:/a:b/web")], layout("/a:b/web", None, None));
    }

    #[test]
    fn a_mirror_keeps_the_version_the_recipe_asks_for() {
        let map = [("nginx", "localhost:5000/nginx")];
        check("nginx:1.27", &map, registry("localhost:5000/nginx:1.27"));
        check("nginx:1.27@sha256:ab", &map, registry("localhost:5000/nginx:1.27@sha256:ab"));
        check("nginx:1.27", &[("nginx", "mirror/nginx:9")], registry("mirror/nginx:9"));
    }

    #[test]
    fn what_stands_in_is_not_looked_up_again() {
        check("a:1", &[("a", "b"), ("b", "host")], registry("b:1"));
    }

    #[test]
    fn a_reference_without_a_name_is_malformed() {
        for reference in ["", ":1.27", "@sha256:ab"] {
            let error = choose(reference, &BTreeMap::new()).unwrap_err();
            assert_eq!(error.to_string(), format!("image reference `{reference}` has no name"));
            assert!(matches!(error.downcast_ref(), Some(PullError::Malformed(_))));
        }
    }

    #[test]
    fn a_layout_without_a_path_is_refused() {
        let error = choose("oci:", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "image value `oci:` is not of the form `oci:<path of an OCI layout>[:<tag>]`");
    }
}
