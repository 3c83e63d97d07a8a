//! Where recipes come from: a bundled folder, a git repository, or a maintainer's working copy.

pub mod address;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::name::RecipeName;
use super::suggest::{listed, nearest};
use crate::fault::Blame as _;
use crate::plain::plain;
use address::{redact, redact_all};

/// One place to look for recipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder with one directory per recipe, which holds one directory per published version and `head`.
    Bundled { folder: PathBuf },
    /// A git URL, or a path, in which `{recipe}` stands for the name.
    Git { url: String },
    /// One working copy, uncommitted changes included.
    WorkingCopy { path: PathBuf },
}

/// Whether a source has the recipe of a name.
type IsHere<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// A source, made definite for one recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Bundled { dir: PathBuf },
    Remote { url: String },
    Local { path: PathBuf },
    WorkingCopy { path: PathBuf },
}

impl Source {
    /// The origin of this recipe, or `None` when this source does not have it (a bundled folder without such a
    /// directory, a path that does not exist).
    pub(crate) fn origin(&self, name: &RecipeName) -> Result<Option<Origin>> {
        match self {
            Source::Bundled { folder } => {
                let dir = folder.join(name.as_str());
                Ok(dir.is_dir().then_some(Origin::Bundled { dir }))
            }
            Source::WorkingCopy { path } => {
                let opened = path.canonicalize().with_context(|| format!("failed to open `{}`", path.display()));
                let path = opened.usage()?;
                Ok(Some(Origin::WorkingCopy { path }))
            }
            Source::Git { url } => {
                let url = url.replace("{recipe}", name.as_str());
                match local_path(&url)? {
                    None => Ok(Some(Origin::Remote { url })),
                    Some(path) if !path.exists() => Ok(None),
                    Some(path) => {
                        let path = path.canonicalize().with_context(|| format!("failed to open `{}`", redact(&url)))?;
                        Ok(Some(Origin::Local { path }))
                    }
                }
            }
        }
    }

    /// Recipes that a folder offers, for suggestions: one of bundled recipes, or one of repositories.
    fn offers(&self) -> Vec<String> {
        let (folder, is_here): (PathBuf, IsHere<'_>) = match self {
            Source::Bundled { folder } => (folder.clone(), Box::new(|_| true)),
            // A path with the name in its place: what lies beside it.
            Source::Git { url } if !url.contains("://") && !is_scp_like(url) => {
                let before = url.split("{recipe}").next().unwrap_or_default();
                let folder = Path::new(before).ancestors().find(|dir| dir.is_dir());
                let Some(folder) = folder.filter(|_| before != url) else { return Vec::new() };
                (folder.to_owned(), Box::new(|name| Path::new(&url.replace("{recipe}", name)).exists()))
            }
            _ => return Vec::new(),
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.parse::<RecipeName>().is_ok() && is_here(name))
            .collect();
        names.sort();
        names
    }
}

/// `no recipe `custom-htm` here; did you mean `custom-html`?`, for a name that none of the folders has and one of them
/// nearly has.
pub(crate) fn meant(name: &RecipeName, sources: &[Source]) -> Option<String> {
    let offers: Vec<String> = sources.iter().flat_map(Source::offers).collect();
    if offers.iter().any(|offer| offer == name.as_str()) {
        return None;
    }
    let near = *nearest(name.as_str(), offers.iter().map(String::as_str), 1).first()?;
    Some(format!("no recipe `{name}` here; did you mean `{near}`?"))
}

/// The first origin that has the recipe.
pub(crate) fn find(name: &RecipeName, sources: &[Source]) -> Result<Origin> {
    for source in sources {
        if let Some(origin) = source.origin(name)? {
            return Ok(origin);
        }
    }
    let tried: Vec<String> = sources.iter().map(ToString::to_string).collect();
    let offers: Vec<String> = sources.iter().flat_map(Source::offers).collect();
    let near = nearest(name.as_str(), offers.iter().map(String::as_str), 3);
    let shown = if near.is_empty() { offers.iter().map(String::as_str).collect() } else { near };
    let tried =
        if tried.is_empty() { "no source is configured".into() } else { format!("looked in {}", tried.join(", ")) };
    Err(anyhow!("no recipe `{name}`: {tried}; possible are {}", listed(shown, 8))).usage()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Bundled { folder } => write!(f, "`{}`", folder.display()),
            Source::Git { url } => write!(f, "`{}`", redact(url)),
            Source::WorkingCopy { path } => write!(f, "working copy `{}`", path.display()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Bundled { dir: path } | Origin::Local { path } => write!(f, "{}", path.display()),
            Origin::Remote { url } => f.write_str(&redact(url)),
            Origin::WorkingCopy { path } => write!(f, "working copy {}", path.display()),
        }
    }
}

/// What a source may be, for messages.
const POSSIBLE: &str = "possible are `https://…`, `file://…` and a path";

/// Refuses what would fetch a recipe without encryption, or by running a program. `ssh` goes with the keys of whoever
/// runs the harness, so it has to be allowed.
pub fn check(url: &str, ssh: bool) -> Result<()> {
    let scheme = match url.split_once("://") {
        Some((scheme, _)) => scheme,
        None if is_scp_like(url) => "ssh",
        None => return local_path(url).map(drop),
    };
    let shown = plain(&redact(url));
    match scheme {
        "https" | "file" => Ok(()),
        "ssh" if ssh => Ok(()),
        "ssh" => bail!(
            "source `{shown}` uses `ssh`, which takes the keys of whoever runs this: `ssh = true` under `[recipes]` in \
             `harness.toml` would allow it; otherwise {POSSIBLE}"
        ),
        "http" | "git" | "ftp" => {
            bail!("source `{shown}` uses `{scheme}`, over which anybody on the way can change a recipe: {POSSIBLE}")
        }
        _ => bail!("source `{shown}` uses `{}`: {POSSIBLE}", plain(scheme)),
    }
}

/// The path that a URL means, when it means one. `ext::…` would run a program.
fn local_path(url: &str) -> Result<Option<PathBuf>> {
    if let Some(path) = url.strip_prefix("file://") {
        return Ok(Some(PathBuf::from(path)));
    }
    if url.contains("::") || url.starts_with('-') || url.is_empty() {
        bail!("source `{}` is neither a git URL nor a path: {POSSIBLE}", plain(&redact_all(url)));
    }
    let remote = url.contains("://") || is_scp_like(url);
    Ok((!remote).then(|| Path::new(url).to_path_buf()))
}

/// `git@host:path` is scp's way to write an ssh address; a path with a colon has a slash before it.
fn is_scp_like(url: &str) -> bool {
    !url.contains("::") && url.split_once(':').is_some_and(|(host, _)| !host.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> RecipeName {
        name.parse().unwrap()
    }

    fn git(url: &str) -> Source {
        Source::Git { url: url.into() }
    }

    #[test]
    fn sources_are_tried_in_order_and_those_without_the_recipe_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("bundled/custom-html")).unwrap();
        let bundled = Source::Bundled { folder: dir.path().join("bundled") };
        let missing = git(dir.path().join("none/{recipe}").to_str().unwrap());
        let remote = git("https://example.org/{recipe}.git");
        let sources = [missing, bundled, remote];
        assert!(matches!(find(&name("custom-html"), &sources).unwrap(), Origin::Bundled { .. }));
        let expected = Origin::Remote { url: "https://example.org/n8n.git".into() };
        assert_eq!(find(&name("n8n"), &sources).unwrap(), expected);
    }

    #[test]
    fn an_unknown_recipe_names_where_it_was_looked_for_and_what_is_possible() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("custom-html")).unwrap();
        let bundled = Source::Bundled { folder: dir.path().to_path_buf() };
        let error = find(&name("custom-htm"), &[bundled]).unwrap_err().to_string();
        let folder = dir.path().display();
        assert_eq!(error, format!("no recipe `custom-htm`: looked in `{folder}`; possible are `custom-html`"));
        let template = git(dir.path().join("{recipe}").to_str().unwrap());
        let error = find(&name("custom-htm"), std::slice::from_ref(&template)).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("no recipe `custom-htm`: looked in `{folder}/{{recipe}}`; possible are `custom-html`")
        );
        let forge = [template, git("https://example.org/{recipe}.git")];
        let meant = |text: &str| super::meant(&name(text), &forge);
        assert_eq!(meant("custom-htm").as_deref(), Some("no recipe `custom-htm` here; did you mean `custom-html`?"));
        assert_eq!((meant("custom-html"), meant("zzz")), (None, None));
        let error = find(&name("x"), &[]).unwrap_err().to_string();
        assert_eq!(error, "no recipe `x`: no source is configured; possible are none");
    }

    #[test]
    fn only_what_is_encrypted_or_here_is_a_source() {
        let said = |url: &str, ssh| super::check(url, ssh).map_err(|error| error.to_string());
        for good in ["https://h/{recipe}.git", "file:///srv/{recipe}", "/srv/{recipe}", "./a:b", "recipes"] {
            assert_eq!(said(good, false), Ok(()), "{good}");
        }
        for scheme in ["http", "git", "ftp"] {
            let expected = format!(
                "source `{scheme}://h/x` uses `{scheme}`, over which anybody on the way can change a recipe: possible are \
                 `https://…`, `file://…` and a path"
            );
            assert_eq!(said(&format!("{scheme}://user:token@h/x"), true), Err(expected));
        }
        for ssh in ["git@h.org:r/{recipe}", "ssh://git@h.org/r/{recipe}"] {
            assert_eq!(said(ssh, true), Ok(()));
            let said = said(ssh, false).unwrap_err();
            assert!(said.ends_with(
                "uses `ssh`, which takes the keys of whoever runs this: `ssh = true` under `[recipes]` in `harness.toml` \
                 would allow it; otherwise possible are `https://…`, `file://…` and a path"
            ));
        }
        for (odd, expected) in [
            ("ext::sh -c id", "source `ext::sh -c id` is neither a git URL nor a path"),
            ("ext::https://h/x", "source `ext::https://h/x` uses `ext::https`"),
            ("-upload-pack=x", "source `-upload-pack=x` is neither a git URL nor a path"),
            ("", "source `` is neither a git URL nor a path"),
            ("x\u{1b}://h", "source `x\\u{1b}://h` uses `x\\u{1b}`"),
        ] {
            let end = ": possible are `https://…`, `file://…` and a path";
            assert_eq!(said(odd, true), Err(format!("{expected}{end}")));
        }
        assert!(git("ext::sh -c id").origin(&name("x")).is_err());
        assert!(matches!(git("git@h.org:r/{recipe}").origin(&name("x")), Ok(Some(Origin::Remote { .. }))));
    }

    #[test]
    fn no_refusal_shows_credentials() {
        assert_eq!(git("https://user:token@h.org/{recipe}?token=x").to_string(), "`https://h.org/{recipe}?***`");
        for odd in
            ["http://user:hidden@h/x?k=hidden", "ssh://h/x?hidden", "hidden@h:x", "ext::sh https://hidden@h?hidden"]
        {
            let said = super::check(odd, false).unwrap_err().to_string();
            assert!(said.starts_with("source `") && !said.contains("hidden"), "{said}");
        }
    }
}
