//! Where a service's image comes from.

use super::Finder;
use super::demand::List;
use super::spot::Spot;

/// Public registries that the recipes of Co-op Cloud use.
const REGISTRIES: [&str; 6] = ["docker.io", "ghcr.io", "quay.io", "lscr.io", "codeberg.org", "git.coopcloud.tech"];

pub(super) fn image(finder: &mut Finder<'_>, at: &Spot<'_>) {
    let image = at.text();
    // These are values of `harness.toml`: in a compose file they would name the host's own files.
    if image == "host" || image.starts_with("builtin:") || image.starts_with("oci:") {
        finder.entry(at, List::Images, image, "it is no image of a registry, but this machine's own files");
        return;
    }
    let registry = registry(&image);
    if !REGISTRIES.contains(&registry) {
        let why = format!("`{registry}` is none of the registries that images may come from");
        finder.entry(at, List::Registries, registry, &why);
    }
}

/// Docker's rule: the first part is a registry when it looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            first => first,
        },
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_looks_like_a_host() {
        for (image, expected) in [
            ("nginx", "docker.io"),
            ("nginx:1.27", "docker.io"),
            ("library/nginx@sha256:ab", "docker.io"),
            ("index.docker.io/library/nginx", "docker.io"),
            ("ghcr.io/a/b:1", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000"),
            ("registry:5000/a", "registry:5000"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }
}
