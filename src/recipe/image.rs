//! Image references as Docker reads them: `[registry/]name[:tag][@digest]`.
//!
//! The grammar is that of distribution/reference. What is no reference for Docker is none here, whichever engine runs
//! it: a stand-in must not answer for it.

use super::env::AppEnv;

/// The longest name, and the longest tag, that Docker takes.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// Why Docker refuses a service's image, as one sentence that names the variables to blame; `None` for one that it takes.
pub fn problem(
    service: &str,
    image: &str,
    written: Option<&str>,
    variables: &[String],
    env: &AppEnv,
) -> Option<String> {
    let why = refusal(image)?;
    let mut text = format!("the image `{}` of service `{service}` is no valid reference: {why}", image.escape_debug());
    let written = written.unwrap_or_default();
    let has_default = |name: &str| [":-", "-"].iter().any(|sign| written.contains(&format!("{{{name}{sign}")));
    let unset = |name: &&String| env.get(name).is_none_or(str::is_empty) && !has_default(name);
    let unset: Vec<&str> = variables.iter().filter(unset).map(String::as_str).collect();
    if !unset.is_empty() {
        let have = if unset.len() == 1 { "has" } else { "have" };
        let (written, unset) = (written.escape_debug(), unset.join("` and `"));
        text.push_str(&format!("; it is written `{written}`, and `{unset}` {have} no value in the app's `.env`"));
    }
    Some(text)
}

/// The reference in full, as Docker completes it: with registry, `library` and tag. Two that are the same in full name the
/// same image: `docker stack deploy` shortens what a compose file writes in full, and adds the tag that it leaves out.
pub fn in_full(image: &str) -> String {
    let (name, tag, digest) = parts(image);
    let (registry, path) = match name.split_once('/') {
        Some(("index.docker.io", path)) => ("docker.io", path),
        Some((first, path)) if is_registry(first) => (first, path),
        _ => ("docker.io", name),
    };
    let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let tag = match (tag, digest) {
        (Some(tag), _) => format!(":{tag}"),
        (None, None) => ":latest".to_owned(),
        (None, Some(_)) => String::new(),
    };
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{registry}/{library}{path}{tag}{digest}")
}

/// A note for every image that may be another one tomorrow under the same name.
pub fn notes<'a>(images: impl Iterator<Item = (&'a String, &'a str)>) -> Vec<String> {
    let moves = |image: &str| {
        let is_special = image == "host" || image.starts_with("builtin:") || image.starts_with("oci:");
        let (_, tag, digest) = parts(image);
        !is_special && digest.is_none() && tag.is_none_or(|tag| tag == "latest")
    };
    let note = |(service, image): (&String, &str)| {
        format!(
            "service `{service}` runs `{image}`, which is whatever was published last: it changes without a commit of the \
             recipe, and no upgrade of it can be told. A tag such as `:1.2` says which it is"
        )
    };
    images.filter(|(_, image)| moves(image)).map(note).collect()
}

/// The name without tag and digest: an image's, whatever its version.
pub fn name(image: &str) -> &str {
    parts(image).0
}

/// The last part of the name: what the image is of, whoever's it is.
pub fn short_name(image: &str) -> &str {
    let name = name(image);
    name.rsplit('/').next().unwrap_or(name)
}

/// Name, tag and digest.
fn parts(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

/// Why a text is no reference.
fn refusal(image: &str) -> Option<String> {
    // These are no references, and the policy has the word on them.
    if image == "host" || image.starts_with("builtin:") || image.starts_with("oci:") {
        return None;
    }
    let (name, tag, digest) = parts(image);
    of_tag(tag).or_else(|| of_digest(digest)).or_else(|| of_name(name))
}

fn of_tag(tag: Option<&str>) -> Option<String> {
    let tag = tag?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if tag.is_empty() {
        return Some("no tag stands behind its `:`".into());
    }
    let good = tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-');
    match good && tag.len() <= LONGEST_TAG {
        true => None,
        false => Some(format!(
            "its tag `{}` has to begin with a letter, a digit or `_`, and to have no other characters than these, `.` and \
             `-`, {LONGEST_TAG} at most",
            tag.escape_debug()
        )),
    }
}

fn of_digest(digest: Option<&str>) -> Option<String> {
    let digest = digest?;
    let (algorithm, hex) = digest.split_once(':').unwrap_or((digest, ""));
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => 0,
    };
    let good = length > 0 && hex.len() == length && is_hex;
    (!good).then(|| format!("its digest `{}` is not `sha256:` and 64 digits of hex", digest.escape_debug()))
}

fn of_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it has no name".into());
    }
    if name.len() > LONGEST_NAME {
        return Some(format!("its name has {} characters, and {LONGEST_NAME} are allowed", name.len()));
    }
    let path = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => {
            if !is_host(first) {
                return Some(format!("`{}` is no name of a registry", first.escape_debug()));
            }
            path
        }
        _ => name,
    };
    let wrong = path.split('/').find(|part| !is_component(part))?;
    Some(if wrong.is_empty() {
        "a part of its name is empty".into()
    } else if wrong != wrong.to_lowercase() {
        format!("`{}` has to be in lower case", wrong.escape_debug())
    } else {
        format!(
            "the part `{}` of its name has to be letters and digits, with `.`, `_`, `__` or `-` between them",
            wrong.escape_debug()
        )
    })
}

/// Docker's rule: what stands before the first `/` is a registry when it looks like a host.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase()
}

/// `registry.example.org`, `localhost:5000`, `[::1]:5000`
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    is_name && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = part.split(alphanumeric).filter(|text| !text.is_empty());
    let separates = |text: &str| matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-');
    part.starts_with(alphanumeric) && part.ends_with(alphanumeric) && between.into_iter().all(separates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_one_in_every_version() {
        assert_eq!(name("registry:5000/app:1.2"), "registry:5000/app");
        assert_eq!(name("registry:5000/app@sha256:00"), "registry:5000/app");
        assert_eq!(name("app:1@sha256:00"), "app");
        assert_eq!(
            [short_name("registry:5000/team/app:1@sha256:00"), short_name("app"), short_name("")],
            ["app", "app", ""]
        );
    }

    #[test]
    fn what_docker_takes_is_a_reference() {
        let digest = format!("nginx@sha256:{}", "0a".repeat(32));
        for image in [
            "nginx",
            "nginx:1.27",
            "library/nginx:1.27-alpine",
            "localhost:5000/a/b:1",
            "localhost/a",
            "registry.example.org/team/app_x__y---z:V1",
            "127.0.0.1:5000/a",
            "[::1]:5000/a:1",
            "UPPER/a",
            "a.b/c",
            "host",
            "builtin:static-web",
            "oci:images/nginx:1.27",
            &digest,
        ] {
            assert_eq!(refusal(image), None, "{image}");
        }
    }

    #[test]
    fn what_docker_refuses_is_none_and_it_is_said_why() {
        let long = format!("nginx:{}", "x".repeat(129));
        for (image, why) in [
            ("nginx:", "no tag stands behind its `:`"),
            ("localhost:5000/nginx:", "no tag stands behind its `:`"),
            ("nginx:-alpine", "its tag `-alpine` has to begin with a letter"),
            ("nginx: 1", "its tag ` 1` has to begin"),
            (&long, "its tag `xxx"),
            (":1.27", "it has no name"),
            ("/nginx:1", "a part of its name is empty"),
            ("team//nginx", "a part of its name is empty"),
            ("Nginx:1", "`Nginx` has to be in lower case"),
            ("team/Nginx:1", "`Nginx` has to be in lower case"),
            ("ng inx:1", "the part `ng inx` of its name has to be letters and digits"),
            ("nginx-:1", "the part `nginx-` of its name"),
            ("a..b:1", "the part `a..b` of its name"),
            ("-x.org/a", "`-x.org` is no name of a registry"),
            ("x.org:/a:1", "`x.org:` is no name of a registry"),
            ("nginx@sha256:ab", "its digest `sha256:ab` is not `sha256:` and 64 digits of hex"),
            ("nginx:1@", "its digest `` is not"),
            ("", "it has no name"),
        ] {
            let said = refusal(image).unwrap_or_else(|| panic!("`{image}` was taken"));
            assert!(said.starts_with(why), "{image}: {said}");
        }
    }

    #[test]
    fn short_and_full_names_are_the_same_image() {
        for (short, full) in [
            ("mariadb", "docker.io/library/mariadb:latest"),
            ("index.docker.io/library/nginx:1.19.2", "docker.io/library/nginx:1.19.2"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("team/app:1", "docker.io/team/app:1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("codeberg.org/app", "codeberg.org/app:latest"),
            ("nginx@sha256:ab", "docker.io/library/nginx@sha256:ab"),
            ("nginx:1@sha256:ab", "docker.io/library/nginx:1@sha256:ab"),
        ] {
            assert_eq!(in_full(short), full);
            assert_eq!(in_full(full), full, "what is full stays so");
        }
        assert_ne!(in_full("nginx:1"), in_full("nginx"));
        assert_ne!(in_full("team/nginx"), in_full("nginx"));
    }

    #[test]
    fn an_image_without_a_version_is_noted() {
        let service = "db".to_owned();
        let noted = |image| notes([(&service, image)].into_iter());
        for image in ["mariadb", "mariadb:latest", "docker.io/library/mariadb:latest", "localhost:5000/mariadb"] {
            let start = format!("service `db` runs `{image}`, which is whatever was published last");
            assert!(noted(image)[0].starts_with(&start), "{image}");
        }
        for image in
            ["mariadb:11", "mariadb@sha256:ab", "mariadb:latest@sha256:ab", "host", "oci:x", "builtin:static-web"]
        {
            assert_eq!(noted(image), Vec::<String>::new(), "{image}");
        }
    }

    #[test]
    fn the_variable_without_a_value_is_named() {
        let env = AppEnv::parse("TYPE=wiki\nDOMAIN=s.x\nSET=nginx\nEMPTY=\n").unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let said = problem("app", "nginx:", Some("${SET}:${EMPTY}"), &names(&["SET", "EMPTY"]), &env).unwrap();
        assert_eq!(
            said,
            "the image `nginx:` of service `app` is no valid reference: no tag stands behind its `:`; it is written \
             `${SET}:${EMPTY}`, and `EMPTY` has no value in the app's `.env`"
        );
        let said = problem("app", "nginx:", Some("nginx:"), &[], &env).unwrap();
        assert_eq!(said, "the image `nginx:` of service `app` is no valid reference: no tag stands behind its `:`");
        let said = problem("app", "a:", Some("${NAME:-a}:${TAG}"), &names(&["NAME", "TAG"]), &env).unwrap();
        assert!(said.ends_with("and `TAG` has no value in the app's `.env`"), "{said}");
        assert_eq!(problem("app", "nginx:1", Some("nginx:${SET}"), &names(&["SET"]), &env), None);
    }
}
