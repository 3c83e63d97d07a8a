//! Where a verdict goes, by the environment of each CI server, and what is refused.

use std::collections::BTreeMap;

use super::*;

const SHA: &str = "b2d51b5c64d70f38ce983902f9d876f59dc8f337";

fn found(flags: &[(&str, &str)], links: &[&str], variables: &[(&str, &str)]) -> Result<Option<Place>> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let flag = |name: &str| flags.iter().find(|(it, _)| *it == name).map(|(_, value)| value.to_string());
    let api = flag("api").map(|it| if it == "github" { Api::GitHub } else { Api::Gitea });
    let (forge, repo, pr, sha) = (flag("forge"), flag("repo"), flag("pr"), flag("sha"));
    let given = Given { forge: &forge, api, repo: &repo, pr: &pr, sha: &sha };
    let links: Vec<String> = links.iter().map(|it| it.to_string()).collect();
    find(&given, &links, &|key| variables.get(key).filter(|it| !it.is_empty()).map(|it| it.to_string()))
}

/// Every part with where it came from.
fn lines(place: Option<Place>) -> Vec<String> {
    place.unwrap().lines().iter().map(|(what, value, from)| format!("{what} {value} ({from})")).collect()
}

fn flags() -> Vec<(&'static str, &'static str)> {
    vec![("forge", "https://git.example.org/"), ("repo", "coop-cloud/notes"), ("pr", "17"), ("sha", SHA)]
}

fn refusal(flag: &str, value: &str) -> String {
    let mut flags = flags();
    flags.retain(|(name, _)| *name != flag);
    flags.push((flag, value));
    format!("{:#}", found(&flags, &[], &[]).unwrap_err())
}

#[test]
fn flags_name_everything_and_come_before_the_environment() {
    let drone = [("DRONE", "true"), ("DRONE_REPO", "other/repo"), ("DRONE_PULL_REQUEST", "3")];
    let place = found(&flags(), &["https://ci.example.org/1"], &drone).unwrap();
    let expected = [
        "forge https://git.example.org (--forge)".to_owned(),
        "api gitea (by the forge's name; `--api` says otherwise)".into(),
        "repo coop-cloud/notes (--repo)".into(),
        "pr 17 (--pr)".into(),
        format!("sha {SHA} (--sha)"),
        "link https://ci.example.org/1 (--link)".into(),
    ];
    assert_eq!(lines(place), expected);
    let mut github = flags();
    github[0] = ("forge", "https://github.com");
    assert_eq!(found(&github, &[], &[]).unwrap().unwrap().api.value, Api::GitHub);
}

#[test]
fn drone_and_woodpecker_tell_it_by_themselves() {
    let drone = [
        ("DRONE", "true"),
        ("DRONE_REPO", "coop-cloud/notes"),
        ("DRONE_REPO_LINK", "https://git.example.org/sub/coop-cloud/notes"),
        ("DRONE_PULL_REQUEST", "17"),
        ("DRONE_COMMIT_SHA", SHA),
        ("DRONE_BUILD_LINK", "https://drone.example.org/coop-cloud/notes/42"),
    ];
    let expected = [
        "forge https://git.example.org/sub (DRONE_REPO_LINK of Drone)".to_owned(),
        "api gitea (by the forge's name; `--api` says otherwise)".into(),
        "repo coop-cloud/notes (DRONE_REPO of Drone)".into(),
        "pr 17 (DRONE_PULL_REQUEST of Drone)".into(),
        format!("sha {SHA} (DRONE_COMMIT_SHA of Drone)"),
        "link https://drone.example.org/coop-cloud/notes/42 (DRONE_BUILD_LINK of Drone)".into(),
    ];
    assert_eq!(lines(found(&[], &[], &drone).unwrap()), expected);
    let woodpecker = [
        ("CI", "woodpecker"),
        // It sets some of Drone's, too.
        ("DRONE", "true"),
        ("CI_FORGE_TYPE", "forgejo"),
        ("CI_FORGE_URL", "https://git.example.org"),
        ("CI_REPO", "coop-cloud/notes"),
        ("CI_COMMIT_PULL_REQUEST", "17"),
        ("CI_COMMIT_SHA", SHA),
        ("CI_PIPELINE_URL", "https://ci.example.org/repos/3/pipeline/9"),
    ];
    let expected = [
        "forge https://git.example.org (CI_FORGE_URL of Woodpecker)".to_owned(),
        "api gitea (CI_FORGE_TYPE)".into(),
        "repo coop-cloud/notes (CI_REPO of Woodpecker)".into(),
        "pr 17 (CI_COMMIT_PULL_REQUEST of Woodpecker)".into(),
        format!("sha {SHA} (CI_COMMIT_SHA of Woodpecker)"),
        "link https://ci.example.org/repos/3/pipeline/9 (CI_PIPELINE_URL of Woodpecker)".into(),
    ];
    assert_eq!(lines(found(&[], &[], &woodpecker).unwrap()), expected);
}

#[test]
fn actions_tell_the_pull_requests_head_and_not_the_merge_that_was_checked_out() {
    let dir = tempfile::tempdir().unwrap();
    let event = dir.path().join("event.json");
    let json = serde_json::json!({ "pull_request": { "number": 17, "head": { "sha": SHA } } });
    std::fs::write(&event, json.to_string()).unwrap();
    let merge = "0".repeat(40);
    let mut variables = vec![
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://git.example.org"),
        ("GITHUB_API_URL", "https://git.example.org/api/v1"),
        ("GITHUB_REPOSITORY", "coop-cloud/notes"),
        ("GITHUB_REF", "refs/pull/17/merge"),
        ("GITHUB_SHA", &merge),
        ("GITHUB_RUN_ID", "9001"),
        ("GITHUB_RUN_NUMBER", "12"),
        ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
    ];
    let expected = [
        "forge https://git.example.org (GITHUB_SERVER_URL of Actions)".to_owned(),
        "api gitea (GITHUB_API_URL)".into(),
        "repo coop-cloud/notes (GITHUB_REPOSITORY of Actions)".into(),
        "pr 17 (the event of Actions)".into(),
        format!("sha {SHA} (the event of Actions)"),
        "link https://git.example.org/coop-cloud/notes/actions/runs/12 (GITHUB_RUN_NUMBER of Actions)".into(),
    ];
    assert_eq!(lines(found(&[], &[], &variables).unwrap()), expected);
    (variables[1].1, variables[2].1) = ("https://github.com", "https://api.github.com");
    let place = found(&[], &[], &variables).unwrap().unwrap();
    assert_eq!((place.api.value, place.automatic_users()), (Api::GitHub, &["github-actions[bot]"][..]));
    assert_eq!(place.links[0].1, "https://github.com/coop-cloud/notes/actions/runs/9001");
    // A comment's event names the pull request, and no commit of it: what is checked out there is another branch.
    let json = serde_json::json!({ "issue": { "number": 17, "pull_request": {} } });
    std::fs::write(&event, json.to_string()).unwrap();
    let error = found(&[], &[], &variables).unwrap_err().to_string();
    assert!(error.starts_with("no commit is named: give `--sha SHA`"), "{error}");
    std::fs::write(&event, "{").unwrap();
    let error = format!("{:#}", found(&[], &[], &variables).unwrap_err());
    let expected = format!("failed to read the event in `{}`, which GITHUB_EVENT_PATH names: ", event.display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_build_of_no_pull_request_has_nothing_to_announce() {
    let nightly = [("DRONE", "true"), ("DRONE_REPO", "coop-cloud/notes"), ("DRONE_PULL_REQUEST", "")];
    assert!(found(&[], &[], &nightly).unwrap().is_none());
    let push = [("GITHUB_ACTIONS", "true"), ("GITHUB_REF", "refs/heads/main")];
    assert!(found(&[], &[], &push).unwrap().is_none());
    let nowhere = found(&[], &[], &[]).unwrap_err().to_string();
    let expected = "no pull request is named: give `--pr NUMBER`; Drone, Woodpecker, Forgejo Actions, Gitea Actions and \
                    GitHub Actions tell it by themselves";
    assert_eq!(nowhere, expected);
}

#[test]
fn what_cannot_be_is_refused_with_where_it_came_from() {
    for (flag, value, expected) in [
        ("pr", "0", "`0` (--pr) is no number of a pull request"),
        ("pr", "17/../18", "`17/../18` (--pr) is no number of a pull request"),
        ("sha", "abc", "`abc` (--sha) is not the 40 hex digits of a commit"),
        ("repo", "../..", "`../..` (--repo) is not OWNER/NAME, of letters, digits and any of `_-.`"),
        ("repo", "a/b/c", "`a/b/c` (--repo) is not OWNER/NAME, of letters, digits and any of `_-.`"),
        ("repo", "a/b\n", "`a/b\\n` (--repo) is not OWNER/NAME, of letters, digits and any of `_-.`"),
        (
            "forge",
            "git.example.org",
            "`git.example.org` (--forge) is no address of a forge: relative URL without a base",
        ),
        (
            "forge",
            "ftp://git.example.org",
            "`ftp://git.example.org` (--forge) begins with `ftp`: an address of a forge begins with https",
        ),
        (
            "forge",
            "https://git.example.org/?a=b",
            "`https://git.example.org/?a=b` (--forge) has more behind its path, and is no address of a forge",
        ),
        (
            "forge",
            "http://git.example.org",
            "`http://git.example.org` (--forge) is not encrypted, and the token would be readable on its way: give an address with https",
        ),
        (
            "forge",
            "http://127.0.0.1.example.org",
            "`http://127.0.0.1.example.org` (--forge) is not encrypted, and the token would be readable on its way: give an address with https",
        ),
        (
            "forge",
            "https://me:secret@git.example.org",
            "the forge's address (--forge) holds a user's name or password: give the token by `--token-file`",
        ),
    ] {
        assert_eq!(refusal(flag, value), expected);
    }
    for forge in ["http://127.0.0.1:3000", "http://[::1]:3000", "http://localhost"] {
        let mut flags = flags();
        flags[0] = ("forge", forge);
        assert_eq!(found(&flags, &[], &[]).unwrap().unwrap().forge.value, forge);
    }
}

#[test]
fn a_link_may_have_a_name_and_nothing_that_ends_it() {
    let links = |link: &str| found(&flags(), &[link], &[]).map(|place| place.unwrap().links);
    let link = |name: &str, address: &str| vec![(name.to_owned(), address.to_owned())];
    assert_eq!(links("https://ci.example.org/1?a=b").unwrap(), link("log and report", "https://ci.example.org/1?a=b"));
    assert_eq!(links("report=https://x.example.org").unwrap(), link("report", "https://x.example.org"));
    for (wrong, expected) in [
        ("https://x.example/>)", "`https://x.example/>)` is no address that a link could have"),
        ("https://x.example/a b", "`https://x.example/a b` is no address that a link could have"),
        ("javascript:alert(1)", "`javascript:alert(1)` is no address that a link could have"),
        ("data:text/html,x", "`data:text/html,x`: a link begins with https:// or http://"),
        ("[a]=https://x.example", "`[a]=https://x.example`: a link's name has letters, digits and blanks, at most 40"),
    ] {
        assert_eq!(links(wrong).unwrap_err().to_string(), expected);
    }
}
