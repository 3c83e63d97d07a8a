//! Where a verdict goes: forge, repository, pull request and commit, from flags or from what the CI server says of its
//! build. Each is known with where it came from, so that a wrong one can be found.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// No event is nearly as large.
const LARGEST_EVENT: u64 = 16 << 20;
/// Further addresses of a comment, and characters of one.
const LINKS: usize = 10;
const LONGEST_LINK: usize = 1024;

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the forge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Api {
    /// Gitea and Forgejo.
    Gitea,
    #[value(name = "github")]
    GitHub,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Api::Gitea { "gitea" } else { "github" })
    }
}

/// Something that was told, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<T> {
    pub value: T,
    pub from: String,
}

/// What flags say.
pub struct Given<'a> {
    pub forge: &'a Option<String>,
    pub api: Option<Api>,
    pub repo: &'a Option<String>,
    pub pr: &'a Option<String>,
    pub sha: &'a Option<String>,
}

/// Where to.
#[derive(Debug)]
pub struct Place {
    pub forge: Told<String>,
    pub api: Told<Api>,
    /// `OWNER/NAME`.
    pub repo: Told<String>,
    pub pr: Told<u64>,
    pub sha: Told<String>,
    /// Names with addresses; the first is the status's.
    pub links: Vec<(String, String)>,
    link_from: Option<String>,
    server: Option<Server>,
}

/// A CI server that sets variables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Drone,
    Woodpecker,
    /// GitHub's, and those of Forgejo and Gitea, which set the same variables.
    Actions,
}

impl Server {
    fn of(env: Env<'_>) -> Option<Self> {
        let is = |key: &str, value: &str| env(key).as_deref() == Some(value);
        match () {
            () if is("CI", "woodpecker") || is("CI_SYSTEM_NAME", "woodpecker") => Some(Server::Woodpecker),
            () if ["GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS"].iter().any(|key| is(key, "true")) => {
                Some(Server::Actions)
            }
            () if is("DRONE", "true") => Some(Server::Drone),
            () => None,
        }
    }
}

/// The place, or nothing where the CI server's build is of no pull request.
pub fn find(given: &Given<'_>, links: &[String], env: Env<'_>) -> Result<Option<Place>> {
    let server = Server::of(env);
    let event = match server {
        Some(Server::Actions) => event(env)?,
        _ => None,
    };
    let told = |flag: &str, given: &Option<String>, other: Option<Told<String>>| {
        given.clone().map(|value| Told { value, from: format!("--{flag}") }).or(other)
    };
    let Some(pr) = told("pr", given.pr, pr(server, env, event.as_ref())) else {
        if server.is_some() {
            return Ok(None);
        }
        return Err(missing("pull request", "--pr NUMBER"));
    };
    let repo = told("repo", given.repo, repo(server, env)).ok_or_else(|| missing("repository", "--repo OWNER/NAME"))?;
    let sha = told("sha", given.sha, sha(server, env, event.as_ref())).ok_or_else(|| missing("commit", "--sha SHA"))?;
    let forge = told("forge", given.forge, forge(server, env, &repo.value));
    let forge = forge.ok_or_else(|| missing("forge", "--forge URL"))?;
    let forge = Told { value: checked_forge(&forge)?, from: forge.from };
    let api = api(given, server, env, &forge.value);
    let mut place = Place {
        api,
        repo: checked(repo, is_repo, "OWNER/NAME, of letters, digits and any of `_-.`")?,
        sha: checked(sha, is_sha, "the 40 hex digits of a commit")?,
        pr: number(&pr)?,
        forge,
        links: links.iter().map(|link| checked_link(link)).collect::<Result<_>>()?,
        link_from: (!links.is_empty()).then(|| "--link".into()),
        server,
    };
    ensure!(links.len() <= LINKS, "`--link` is given {} times, and {LINKS} are shown", links.len());
    if let Some(build) = link(server, env, &place).filter(|_| links.is_empty()) {
        place.links = vec![checked_link(&format!("log={}", build.value)).with_context(|| build.from.clone())?];
        place.link_from = Some(build.from);
    }
    Ok(Some(place))
}

impl Place {
    /// Each part with its value and where it came from, for people.
    pub fn lines(&self) -> Vec<(&'static str, String, String)> {
        let mut lines = vec![
            ("forge", self.forge.value.clone(), self.forge.from.clone()),
            ("api", self.api.value.to_string(), self.api.from.clone()),
            ("repo", self.repo.value.clone(), self.repo.from.clone()),
            ("pr", self.pr.value.to_string(), self.pr.from.clone()),
            ("sha", self.sha.value.clone(), self.sha.from.clone()),
        ];
        if let (Some((_, link)), Some(from)) = (self.links.first(), &self.link_from) {
            lines.push(("link", link.clone(), from.clone()));
        }
        lines
    }

    /// The users that a job's automatic token may write as. Such a token may not ask, and nobody else has these names.
    pub fn automatic_users(&self) -> &'static [&'static str] {
        match (self.server, self.api.value) {
            (Some(Server::Actions), Api::GitHub) => &["github-actions[bot]"],
            (Some(Server::Actions), Api::Gitea) => &["forgejo-actions", "gitea-actions"],
            _ => &[],
        }
    }
}

fn missing(what: &str, flag: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "no {what} is named: give `{flag}`; Drone, Woodpecker, Forgejo Actions, Gitea Actions and GitHub Actions tell it \
         by themselves"
    )
}

fn variable(env: Env<'_>, key: &str, of: &str) -> Option<Told<String>> {
    env(key).map(|value| Told { value, from: format!("{key} of {of}") })
}

fn repo(server: Option<Server>, env: Env<'_>) -> Option<Told<String>> {
    match server? {
        Server::Drone => variable(env, "DRONE_REPO", "Drone"),
        Server::Woodpecker => variable(env, "CI_REPO", "Woodpecker"),
        Server::Actions => variable(env, "GITHUB_REPOSITORY", "Actions"),
    }
}

fn forge(server: Option<Server>, env: Env<'_>, repo: &str) -> Option<Told<String>> {
    match server? {
        Server::Drone => {
            let link = variable(env, "DRONE_REPO_LINK", "Drone")?;
            // The address of the repository on the forge, and its name behind that of the forge.
            let forge = link.value.strip_suffix(repo)?.trim_end_matches('/').to_owned();
            Some(Told { value: forge, from: link.from })
        }
        Server::Woodpecker => variable(env, "CI_FORGE_URL", "Woodpecker"),
        Server::Actions => variable(env, "GITHUB_SERVER_URL", "Actions"),
    }
}

fn pr(server: Option<Server>, env: Env<'_>, event: Option<&Value>) -> Option<Told<String>> {
    match server? {
        Server::Drone => variable(env, "DRONE_PULL_REQUEST", "Drone"),
        Server::Woodpecker => variable(env, "CI_COMMIT_PULL_REQUEST", "Woodpecker"),
        Server::Actions => {
            let from_event = event.and_then(|event| {
                let of_comment = event["issue"].get("pull_request").filter(|it| !it.is_null());
                let number = event["pull_request"]["number"].as_u64();
                number.or_else(|| of_comment.and(event["issue"]["number"].as_u64()))
            });
            let told = |number: u64| Told { value: number.to_string(), from: "the event of Actions".into() };
            from_event.map(told).or_else(|| {
                let of_ref = variable(env, "GITHUB_REF", "Actions")?;
                let number = of_ref.value.strip_prefix("refs/pull/")?.split('/').next()?.to_owned();
                Some(Told { value: number, from: of_ref.from })
            })
        }
    }
}

/// What a pull request's build has checked out may be a merge that nobody has written: its head counts.
fn sha(server: Option<Server>, env: Env<'_>, event: Option<&Value>) -> Option<Told<String>> {
    match server? {
        Server::Drone => variable(env, "DRONE_COMMIT_SHA", "Drone"),
        Server::Woodpecker => variable(env, "CI_COMMIT_SHA", "Woodpecker"),
        Server::Actions => {
            let head = event.and_then(|event| event["pull_request"]["head"]["sha"].as_str());
            head.map(|sha| Told { value: sha.to_owned(), from: "the event of Actions".into() })
        }
    }
}

fn link(server: Option<Server>, env: Env<'_>, place: &Place) -> Option<Told<String>> {
    match server? {
        Server::Drone => variable(env, "DRONE_BUILD_LINK", "Drone"),
        Server::Woodpecker => variable(env, "CI_PIPELINE_URL", "Woodpecker"),
        Server::Actions => {
            // GitHub's pages of runs go by their id, the others' by their number in the repository.
            let key = if place.api.value == Api::GitHub { "GITHUB_RUN_ID" } else { "GITHUB_RUN_NUMBER" };
            let run = variable(env, key, "Actions")?;
            let page = format!("{}/{}/actions/runs/{}", place.forge.value, place.repo.value, run.value);
            Some(Told { value: page, from: run.from })
        }
    }
}

fn api(given: &Given<'_>, server: Option<Server>, env: Env<'_>, forge: &str) -> Told<Api> {
    if let Some(value) = given.api {
        return Told { value, from: "--api".into() };
    }
    let key = match server {
        Some(Server::Woodpecker) => "CI_FORGE_TYPE",
        Some(Server::Actions) => "GITHUB_API_URL",
        _ => "",
    };
    let of_server = env(key).filter(|_| given.forge.is_none()).map(|said| {
        let is_github = said == "github" || (said.contains("://") && !said.trim_end_matches('/').ends_with("/api/v1"));
        (if is_github { Api::GitHub } else { Api::Gitea }, key.to_owned())
    });
    let host = forge.split("://").nth(1).unwrap_or_default();
    let by_host = if host == "github.com" { Api::GitHub } else { Api::Gitea };
    let (value, from) = of_server.unwrap_or_else(|| (by_host, "by the forge's name; `--api` says otherwise".into()));
    Told { value, from }
}

/// What GitHub and its likes write about the event that the build is for.
fn event(env: Env<'_>) -> Result<Option<Value>> {
    use std::io::Read as _;
    let Some(path) = env("GITHUB_EVENT_PATH") else { return Ok(None) };
    let failed = || format!("failed to read the event in `{path}`, which GITHUB_EVENT_PATH names");
    let mut json = Vec::new();
    let file = std::fs::File::open(&path).with_context(failed)?;
    file.take(LARGEST_EVENT + 1).read_to_end(&mut json).with_context(failed)?;
    ensure!(json.len() as u64 <= LARGEST_EVENT, "the event in `{path}` has more than {LARGEST_EVENT} bytes");
    serde_json::from_slice(&json).map(Some).with_context(failed)
}

fn checked(told: Told<String>, is_right: fn(&str) -> bool, what: &str) -> Result<Told<String>> {
    ensure!(is_right(&told.value), "`{}` ({}) is not {what}", told.value.escape_debug(), told.from);
    Ok(told)
}

fn is_repo(repo: &str) -> bool {
    let name = |it: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        !it.is_empty() && it.len() <= 100 && it.chars().all(fits) && it != "." && it != ".."
    };
    repo.split_once('/').is_some_and(|(owner, repo)| name(owner) && name(repo))
}

fn is_sha(sha: &str) -> bool {
    // Git knows two lengths.
    [40, 64].contains(&sha.len()) && sha.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

fn number(told: &Told<String>) -> Result<Told<u64>> {
    let value = told.value.parse().ok().filter(|number| *number > 0);
    let value = value
        .with_context(|| format!("`{}` ({}) is no number of a pull request", told.value.escape_debug(), told.from))?;
    Ok(Told { value, from: told.from.clone() })
}

/// Without TLS the token would be everybody's: only this machine is spoken to without.
fn checked_forge(told: &Told<String>) -> Result<String> {
    let shown = format!("`{}` ({})", told.value.escape_debug(), told.from);
    let url = reqwest::Url::parse(&told.value).with_context(|| format!("{shown} is no address of a forge"))?;
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the forge's address ({}) holds a user's name or password: give the token by `--token-file`",
        told.from
    );
    ensure!(
        url.query().is_none() && url.fragment().is_none(),
        "{shown} has more behind its path, and is no address of a forge"
    );
    let host = url.host_str().with_context(|| format!("{shown} names no host"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        "http" => {
            bail!("{shown} is not encrypted, and the token would be readable on its way: give an address with https")
        }
        other => bail!("{shown} begins with `{other}`: an address of a forge begins with https"),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether a host is this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `NAME=URL`, or the address alone.
fn checked_link(link: &str) -> Result<(String, String)> {
    let (name, address) = match link.split_once('=') {
        Some((name, address)) if !name.contains("://") => (name, address),
        _ => ("log and report", link),
    };
    let shown = link.escape_debug();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == ' ' || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= 40 && name.chars().all(is_name),
        "`{shown}`: a link's name has letters, digits and blanks, at most 40"
    );
    // What ends a link in Markdown has no place in an address either.
    let fits = |c: char| c.is_ascii_graphic() && !"<>\"'`\\^{}|()[]".contains(c);
    ensure!(
        address.len() <= LONGEST_LINK && address.chars().all(fits),
        "`{shown}` is no address that a link could have"
    );
    ensure!(
        address.starts_with("https://") || address.starts_with("http://"),
        "`{shown}`: a link begins with https:// or http://"
    );
    Ok((name.to_owned(), address.to_owned()))
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
