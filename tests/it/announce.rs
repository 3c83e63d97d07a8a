//! `harness announce`: what a pull request is told of real runs, and every way in which a forge may refuse.

pub mod forge;
mod pipelines;

use std::path::{Path, PathBuf};

use harness::mask::Masks;
use harness::process::Run;

use crate::program::Desk;
use crate::runner::{Ended, checkout, copy, finish};
use forge::{BOT, Forge, Instead, OTHER, REPO, TOKEN};

/// The commit of the recorded green run.
const SHA: &str = "b2d51b5c64d70f38ce983902f9d876f59dc8f337";
const MARK: &str = "<!-- recipe-harness/testme at ";

/// The command line for a forge, and the token in its place.
fn command(desk: &Desk, forge: &Forge, sha: &str, arguments: &[&str]) -> Run {
    let place =
        ["announce", "--forge", &forge.address, "--repo", REPO, "--pr", "17", "--sha", sha, "--api", forge.api()];
    desk.command(&desk.path(""), &[&place[..], arguments].concat()).env("HARNESS_FORGE_TOKEN", TOKEN)
}

fn announce(desk: &Desk, forge: &Forge, sha: &str, arguments: &[&str]) -> Ended {
    let ended = finish(&command(desk, forge, sha, arguments));
    assert!(!ended.to_string().contains(TOKEN), "{ended}");
    ended
}

/// A copy of a recorded run.
fn recorded(desk: &Desk, run: &str) -> String {
    let to = desk.path(run);
    copy(&checkout().join("tests/data/runs").join(run), &to);
    to.to_str().unwrap().to_owned()
}

/// The recorded green run, told to a forge on which something is otherwise.
fn green(forge: &Forge, more: &[&str]) -> Ended {
    let desk = Desk::new();
    let run = recorded(&desk, "green");
    announce(&desk, forge, SHA, &[&[run.as_str()], more].concat())
}

fn sh(cwd: &Path, script: &str) -> String {
    let ended = finish(&Run::new("sh", ["-ec", script]).cwd(cwd));
    assert_eq!(ended.code, 0, "{ended}");
    ended.stdout.trim().to_owned()
}

fn commit(recipe: &Path) -> String {
    sh(recipe, "git -c user.name=m -c user.email=m@example.org commit -qam Next && git rev-parse HEAD")
}

/// A root and a recipe with a commit on top of its published version.
fn recipe(desk: &Desk) -> (PathBuf, PathBuf, String) {
    let (root, recipe) = (desk.root("mine"), desk.recipe("notes"));
    let sha = commit(&recipe);
    (root, recipe, sha)
}

fn tested(desk: &Desk, root: &Path, recipe: &Path, code: i32) -> String {
    let reports = desk.path("reports");
    let run = ["test", "notes", "--recipe-dir", recipe.to_str().unwrap(), "--report-dir", reports.to_str().unwrap()];
    let ended = desk.run(root, &run);
    assert_eq!(ended.code, code, "{ended}");
    reports.join("notes").to_str().unwrap().to_owned()
}

fn states(forge: &Forge) -> Vec<String> {
    forge.statuses().into_iter().map(|(state, _)| state).collect()
}

#[test]
fn a_pull_request_is_told_that_it_is_tested_then_green_then_red() {
    let desk = Desk::new();
    let (root, recipe, sha) = recipe(&desk);
    let forge = Forge::gitea(&sha);
    let link = "log=https://ci.example.org/coop-cloud/notes/1";
    let said = announce(&desk, &forge, &sha, &["--pending", "--link", link]);
    assert_eq!(said.code, 0, "{said}");
    for line in [
        format!("sha      {sha} (--sha)"),
        "token    *** (HARNESS_FORGE_TOKEN)".into(),
        "status   pending: the recipe is being tested".into(),
    ] {
        assert!(said.stderr.lines().any(|it| it == line), "no line `{line}` in\n{said}");
    }
    let comment = forge.comments_of(BOT).concat();
    assert!(comment.starts_with(&format!("{MARK}{sha} -->\n### ⏳ `{}` is being tested\n", &sha[..8])), "{comment}");

    let run = tested(&desk, &root, &recipe, 0);
    let said = announce(&desk, &forge, &sha, &[&run, "--link", link]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stderr.contains("\ncomment  edited: http://127.0.0.1:"), "{said}");
    let [comment] = &forge.comments_of(BOT)[..] else { panic!("{:?}", forge.comments_of(BOT)) };
    assert!(comment.starts_with(&format!("{MARK}{sha} -->\n### ✅ `notes` `1.0.0+1.27.4 → ")), "{comment}");
    assert!(comment.contains("| `app` | `nginx:1.27.4` | `nginx:1.27.5` |"), "{comment}");
    assert!(comment.contains("[log](<https://ci.example.org/coop-cloud/notes/1>)"), "{comment}");
    assert_eq!(forge.told().statuses[1]["target_url"], "https://ci.example.org/coop-cloud/notes/1");
    let (state, line) = forge.statuses().pop().unwrap();
    assert_eq!((state.as_str(), line.as_str()), ("success", "passed, level 2: upgrades"));

    // What the comment says does the same run, in a folder whose settings name the recipe's repository.
    let again = comment.lines().find(|line| line.starts_with("harness test ")).unwrap().to_owned();
    let settings = format!(
        "[recipes]\nsources = [\"{}\"]\n[embedded.images]\nnginx = \"builtin:static-web\"\n",
        desk.path("{recipe}").display()
    );
    desk.write("home/harness.toml", &settings);
    let ended = desk.run(&desk.path("home"), &again.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!((ended.code, ended.outcome("tier::upgrade")), (0, Some("ok")), "{again}\n{ended}");

    // The next commit is worse, and the comment is the same one.
    desk.write("mine/overlays/notes/test_install_page.sh", "echo 'expected a page, seen @team <b>none</b>'; exit 1\n");
    sh(&recipe, "echo '# more' >>compose.yml");
    let worse = commit(&recipe);
    forge.told().commits.push(worse.clone());
    forge.told().head = worse.clone();
    let run = tested(&desk, &root, &recipe, 101);
    let said = announce(&desk, &forge, &worse, &[&run]);
    assert_eq!(said.code, 0, "{said}");
    let [comment] = &forge.comments_of(BOT)[..] else { panic!("{:?}", forge.comments_of(BOT)) };
    assert!(comment.contains("### ❌ `notes` `1.0.0+1.27.4 → "), "{comment}");
    assert!(
        comment.contains("<summary>overlays::notes::install::test\\_install\\_page</summary>\n\n```text\n"),
        "{comment}"
    );
    assert!(comment.contains("expected a page, seen @team <b>none</b>\n"), "in a fence it stands as it is: {comment}");
    assert_eq!(states(&forge), ["pending", "success", "failure"]);
    assert!(
        forge.statuses()[2].1.starts_with("failed, level 2: overlays::notes::install::test_install_page"),
        "{:?}",
        forge.statuses()
    );
}

#[test]
fn a_level_that_goes_down_is_told_by_the_last_green_run_of_this_machine() {
    let (desk, forge) = (Desk::new(), Forge::gitea(SHA));
    copy(&checkout().join("tests/data/runs/green"), &desk.path("state/runs/custom-html-20261125t214013-36b2f3"));
    let run = recorded(&desk, "upgrade-fails");
    let results = std::fs::read_to_string(format!("{run}/results.json")).unwrap();
    let results = results
        .replace("\"recipe\": \"rolls-back\"", "\"recipe\": \"custom-html\"")
        .replace("2026-11-25T21:40:08", "2026-11-26T21:40:08");
    std::fs::write(format!("{run}/results.json"), results).unwrap();
    let said = announce(&desk, &forge, SHA, &[&run, "--any-commit"]);
    assert_eq!(said.code, 0, "{said}");
    let comment = forge.comments_of(BOT).concat();
    assert!(
        comment.contains("failed, level 1 of 5, down from 4\n") && comment.contains("The level goes down from 4 to 1"),
        "{comment}"
    );
    assert!(forge.statuses()[0].1.starts_with("failed, level 1, down from 4: upgrade: "), "{:?}", forge.statuses());
}

#[test]
fn what_could_not_begin_is_failure_or_error_by_whose_fault_it_is() {
    let desk = Desk::new();
    let (root, recipe, _) = recipe(&desk);
    sh(
        &recipe,
        "printf 'configs:\\n  page:\\n    file: page.conf\\n    name: ${STACK_NAME}_page_v1\\n' >>compose.yml && echo one >page.conf && git add -A",
    );
    commit(&recipe);
    sh(
        &recipe,
        "git -c user.name=m -c user.email=m@example.org tag -a -m 'Second release' 1.1.0+1.27.5 && echo two >page.conf",
    );
    let sha = commit(&recipe);
    let forge = Forge::gitea(&sha);
    let run = tested(&desk, &root, &recipe, 101);
    let said = announce(&desk, &forge, &sha, &[&run]);
    assert_eq!(said.code, 0, "{said}");
    let comment = forge.comments_of(BOT).concat();
    let changed = "config `page` has other content in the head than in the base, under the same name";
    assert!(comment.contains(changed) && comment.contains("give it a new version in `abra.sh`"), "{comment}");
    assert!(comment.contains("Reason: the run could not begin: "), "{comment}");

    // Nothing listens at the forge: that is no word about the recipe.
    desk.write(
        "away/harness.toml",
        "engine = \"embedded\"\n[recipes]\nsources = [\"https://127.0.0.1:1/{recipe}.git\"]\n",
    );
    let reports = desk.path("away-reports");
    let ended = desk.run(&desk.path("away"), &["test", "notes", "--report-dir", reports.to_str().unwrap()]);
    assert_eq!(ended.code, 3, "{ended}");
    let said = announce(&desk, &forge, &sha, &[reports.join("notes").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(states(&forge), ["failure", "error"]);
    assert!(
        forge.statuses()[1].1.starts_with("error, not the recipe's fault: the run could not begin: "),
        "{:?}",
        forge.statuses()
    );
    assert!(forge.comments_of(BOT).concat().contains("### ⚠️ `notes` `unknown`: error, not the recipe's fault"));
}

#[test]
fn a_run_that_left_nothing_does_not_leave_the_status_pending() {
    let (desk, forge) = (Desk::new(), Forge::gitea(SHA));
    assert_eq!(announce(&desk, &forge, SHA, &["--pending"]).code, 0);
    let said = announce(&desk, &forge, SHA, &["./nowhere"]);
    assert_eq!(said.code, 2, "{said}");
    assert!(said.stderr.ends_with("error: failed to read the results of the run in `./nowhere`: failed to open `./nowhere`: No such file or directory (os error 2)\n"), "{said}");
    assert_eq!(forge.statuses()[1], ("error".into(), "the run has left no results".into()));
    let comment = forge.comments_of(BOT).concat();
    assert!(comment.contains("### ⚠️ `b2d51b5c` was not judged: error, not the recipe's fault"), "{comment}");
    // So is what cannot be understood, or is of another format.
    for (text, why) in [("{}", "missing field `schema`"), ("[1", "EOF while parsing")] {
        desk.write("broken/results.json", text);
        let said = announce(&desk, &forge, SHA, &["./broken"]);
        assert_eq!((said.code, said.stderr.contains(why)), (2, true), "{said}");
    }
    let run = recorded(&desk, "green");
    let later =
        std::fs::read_to_string(format!("{run}/results.json")).unwrap().replacen("\"schema\": 1", "\"schema\": 2", 1);
    std::fs::write(format!("{run}/results.json"), later).unwrap();
    let said = announce(&desk, &forge, SHA, &[&run]);
    assert!(said.code == 2 && said.stderr.contains("have format 2, and this harness knows 1\n"), "{said}");
    assert!(states(&forge)[1..].iter().all(|state| state == "error"), "{:?}", forge.statuses());
}

#[test]
fn a_green_run_of_another_commit_is_no_success() {
    let other = "a".repeat(40);
    let (desk, forge) = (Desk::new(), Forge::gitea(&other));
    let run = recorded(&desk, "green");
    let said = announce(&desk, &forge, &other, &[&run]);
    assert_eq!(said.code, 2, "{said}");
    let why = format!(
        "error: the run is of commit `{SHA}`, and not of `{other}`: test that commit, or give `--any-commit` where that is meant\n"
    );
    assert!(said.stderr.ends_with(&why), "{said}");
    assert_eq!(states(&forge), ["error"]);
    assert!(!forge.comments_of(BOT).concat().contains("✅"));
    // Where that is meant, the comment says what was tested.
    let said = announce(&desk, &forge, &other, &[&run, "--any-commit"]);
    assert_eq!((said.code, states(&forge).pop().as_deref()), (0, Some("success")), "{said}");
    assert!(forge.comments_of(BOT).concat().contains("What was tested is commit `b2d51b5c` of "));
}

#[test]
fn only_a_comment_of_the_tokens_own_user_is_edited() {
    let forge = Forge::gitea(SHA);
    let marked = format!("{MARK}{SHA} -->\nmine");
    forge.comment(OTHER, &marked);
    forge.comment(BOT, &format!("> {marked}"));
    let other_context = "<!-- recipe-harness/nightly at 00 -->\nof another context";
    forge.comment(BOT, other_context);
    let said = green(&forge, &[]);
    assert!(said.code == 0 && said.stderr.contains("comment  written: "), "{said}");
    assert_eq!(forge.comments_of(OTHER), [marked.as_str()]);
    let own = forge.comments_of(BOT);
    assert_eq!((own.len(), own[0].as_str(), own[1].as_str()), (3, format!("> {marked}").as_str(), other_context));
    assert!(green(&forge, &[]).stderr.contains("comment  edited: "));
    assert_eq!(forge.comments_of(BOT).len(), 3);
}

#[test]
fn a_slower_run_of_an_older_commit_does_not_replace_what_is_said_of_the_head() {
    let head = "d".repeat(40);
    let forge = Forge::gitea(&head);
    forge.told().commits.push(SHA.into());
    let said = green(&forge, &[]);
    assert_eq!(said.code, 0, "{said}");
    assert!(forge.comments_of(BOT).concat().contains("Tested `b2d51b5c`, the head is now `dddddddd`."));
    let newer = format!("{MARK}{head} -->\nabout the head");
    forge.told().comments[0]["body"] = newer.as_str().into();
    let said = green(&forge, &[]);
    assert!(
        said.code == 0 && said.stderr.contains("comment  left as it is, because it is about the newer head: "),
        "{said}"
    );
    assert_eq!(forge.comments_of(BOT), [newer]);
    assert_eq!(states(&forge), ["success", "success"], "its own commit has its status all the same");
}

#[test]
fn github_has_pages_of_comments_and_a_token_that_does_not_know_itself() {
    let forge = Forge::github(SHA);
    for at in 0..150 {
        forge.comment(OTHER, &format!("comment {at}"));
    }
    forge.comment(BOT, &format!("{MARK}{SHA} -->\nold"));
    let said = green(&forge, &[]);
    assert!(said.code == 0 && said.stderr.contains("comment  edited: "), "{said}");
    assert!(
        forge.told().requests.contains(&format!("GET /api/v3/repos/{REPO}/issues/17/comments?per_page=100&page=2"))
    );
    forge.told().may_not_ask = true;
    let said = green(&forge, &[]);
    assert_eq!(said.code, 3, "{said}");
    let why = "/api/v3/user was answered by 403, \"Resource not accessible by integration\": `--user LOGIN` says it where the token may not ask\n";
    assert!(
        said.stderr.contains("error: failed to find out whose token this is: GET ") && said.stderr.ends_with(why),
        "{said}"
    );
    let said = green(&forge, &["--user", "Bridge"]);
    assert!(said.code == 0 && said.stderr.contains("comment  edited: "), "{said}");
}

#[test]
fn a_comment_that_was_deleted_is_written_anew() {
    let forge = Forge::gitea(SHA);
    assert_eq!(green(&forge, &[]).code, 0);
    forge.instead("PATCH", Instead::Deleted);
    let said = green(&forge, &[]);
    assert!(said.code == 0 && said.stderr.contains("comment  written: "), "{said}");
    assert_eq!(forge.comments_of(BOT).len(), 1);
    // Gitea says so, too, of an id that is no comment.
    forge.instead("PATCH", Forge::status_line("204 No Content", ""));
    assert!(green(&forge, &[]).stderr.contains("comment  written: "));
}

#[test]
fn what_may_be_better_in_a_moment_is_tried_again_and_nothing_is_written_twice() {
    let forge = Forge::gitea(SHA);
    let post = "POST /repos/coop-cloud/notes/issues/17/comments";
    forge.instead("POST /repos/coop-cloud/notes/statuses", Forge::status_line("502 Bad Gateway", "<html>"));
    forge.instead(
        "GET /user",
        Instead::Raw(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        ),
    );
    // The forge has written it, and nobody was told.
    forge.instead(post, Instead::Lost);
    let said = green(&forge, &[]);
    assert!(said.code == 0 && said.stderr.contains("comment  edited: "), "{said}");
    assert_eq!((forge.comments_of(BOT).len(), states(&forge).len()), (1, 1));
    forge.told().comments.clear();
    forge.instead(post, Forge::status_line("503 Service Unavailable", ""));
    let said = green(&forge, &[]);
    assert!(said.code == 0 && said.stderr.contains("comment  written: "), "{said}");
    assert_eq!(forge.comments_of(BOT).len(), 1);
}

/// What is said where both the status and the comment are refused, one after the other.
fn refusals(forge: &Forge, more: &[&str]) -> Vec<String> {
    let said = green(forge, more);
    assert_eq!(said.code, 3, "{said}");
    let address = &forge.address;
    let errors = said.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
    errors.map(|line| line.replace(address, "FORGE")).collect()
}

#[test]
fn what_a_forge_refuses_is_told_with_what_to_do() {
    let statuses = "POST FORGE/api/v1/repos/coop-cloud/notes/statuses/b2d51b5c64d70f38ce983902f9d876f59dc8f337";
    let unknown = Forge::gitea(&"c".repeat(40));
    let expected = format!(
        "failed to set the status of `{SHA}`: {statuses} was answered 3 times by 500, \"object does not exist\": does the repository have that commit?"
    );
    assert_eq!(refusals(&unknown, &[]), [expected]);
    assert_eq!(
        unknown.told().requests.iter().filter(|it| it.contains("/statuses/")).count(),
        3,
        "it is not tried for ever"
    );
    assert_eq!(unknown.comments_of(BOT).len(), 1, "the one may be refused where the other is not");

    let post = "failed to write the comment at pull request 17: POST FORGE/api/v1/repos/coop-cloud/notes/issues/17/comments was answered by ";
    let locked = Forge::gitea(SHA);
    locked.told().locked = true;
    let why = "403, \"issue is locked\": the conversation may be locked, or the token may not write comments";
    assert_eq!(refusals(&locked, &[]), [format!("{post}{why}")]);
    assert_eq!(
        locked.told().requests.iter().filter(|it| it.starts_with("POST") && it.ends_with("/comments")).count(),
        1
    );
    assert_eq!(states(&locked), ["success"]);
    let archived = Forge::gitea(SHA);
    archived.told().archived = true;
    let why = "423, \"The repository is archived.\": the repository is archived";
    assert_eq!(refusals(&archived, &[]), [format!("{post}{why}")]);

    let forge = Forge::gitea(SHA);
    for (status, said, why) in [
        ("401 Unauthorized", "401, \"no\"", "the forge does not accept the token from HARNESS_FORGE_TOKEN"),
        ("403 Forbidden", "403, \"no\"", "setting a status takes a token with write access to the repository"),
        ("404 Not Found", "404, \"no\"", "there is no such thing in `coop-cloud/notes`, or the token may not see it"),
    ] {
        forge.instead("POST /repos/coop-cloud/notes/statuses", Forge::status_line(status, "{\"message\": \"no\"}"));
        let expected = format!("failed to set the status of `{SHA}`: {statuses} was answered by {said}: {why}");
        assert_eq!(refusals(&forge, &[]), [expected]);
    }
    let pulls = "failed to read pull request 17: GET FORGE/api/v1/repos/coop-cloud/notes/pulls/17";
    forge.instead("GET /repos/coop-cloud/notes/pulls", Forge::status_line("200 OK", "<html>\u{1b}[2J"));
    let expected = format!(
        "{pulls} was answered by something that is no JSON: \"<html>\\u{{1b}}[2J\": expected value at line 1 column 1"
    );
    assert_eq!(refusals(&forge, &[]), [expected]);
    forge.instead("GET /repos/coop-cloud/notes/pulls", Forge::status_line("200 OK", "{}"));
    assert_eq!(refusals(&forge, &[]), [format!("{pulls} names no head")]);
}

#[test]
fn no_answer_is_waited_for_or_read_without_end_and_no_redirect_is_followed() {
    let elsewhere = Forge::gitea(SHA);
    let forge = Forge::gitea(SHA);
    let redirect = format!(
        "HTTP/1.1 303 See Other\r\nLocation: {}/api/v1/user\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.address
    );
    forge.instead("GET /user", Instead::Raw(redirect));
    let said = refusals(&forge, &[]).concat();
    let start = format!(
        "failed to find out whose token this is: GET FORGE/api/v1/user was answered by a redirect (303) to `{}/api/v1/user`, which is not followed, because the token would go there, too: ",
        elsewhere.address
    );
    assert!(said.starts_with(&start), "{said}");
    assert!(elsewhere.told().requests.is_empty(), "the token went there");

    forge.instead("GET /repos/coop-cloud/notes/issues/17/comments", Instead::Endless);
    let expected = "failed to look for an earlier comment at pull request 17: GET FORGE/api/v1/repos/coop-cloud/notes/issues/17/comments was answered by more than 16 MiB, and no more of it is read";
    assert_eq!(refusals(&forge, &[]), [expected]);
    forge.instead("GET /user", Instead::Endless);
    assert!(
        refusals(&forge, &[])[0].ends_with("/api/v1/user was answered by more than 1 MiB, and no more of it is read")
    );

    (0..3).for_each(|_| forge.instead("GET /user", Instead::Silence));
    let said = refusals(&forge, &["--deadline", "4s"]).concat();
    assert!(
        said.starts_with(
            "failed to find out whose token this is: GET FORGE/api/v1/user was not answered: nothing within "
        ) || said.contains("another attempt would begin in "),
        "{said}"
    );
    forge.told().instead.clear();
    let later = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    forge.instead("GET /user", Instead::Raw(later.into()));
    let expected = "failed to find out whose token this is: GET FORGE/api/v1/user was answered by 429: (nothing): another attempt would begin in 1h, and `--deadline 2m` ends before that";
    assert_eq!(refusals(&forge, &[]), [expected]);
}

#[test]
fn a_forge_that_is_away_is_infrastructure() {
    let desk = Desk::new();
    let run = recorded(&desk, "green");
    let place = ["announce", &run, "--forge", "http://127.0.0.1:1", "--repo", REPO, "--pr", "17", "--sha", SHA];
    let ended = finish(&desk.command(&desk.path(""), &place).env("HARNESS_FORGE_TOKEN", TOKEN));
    assert_eq!(ended.code, 3, "{ended}");
    assert!(ended.stderr.contains(" was not answered: Connection refused (os error 111)\n"), "{ended}");
}

#[test]
fn usage_is_refused_before_anything_is_sent() {
    let (desk, forge) = (Desk::new(), Forge::gitea(SHA));
    let run = recorded(&desk, "green");
    let refused = |command: Run| {
        let ended = finish(&command);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        ended.stderr
    };
    let place = ["announce", "--forge", &forge.address, "--repo", REPO, "--pr", "17", "--sha", SHA, &run];
    let said = refused(desk.command(&desk.path(""), &place));
    assert!(said.starts_with("error: there is no token for the forge: name a file with it by `--token-file FILE`, or set HARNESS_FORGE_TOKEN; "), "{said}");
    let said = refused(command(&desk, &forge, SHA, &[]));
    assert!(said.contains("required arguments were not provided"), "{said}");
    let said = refused(command(&desk, &forge, SHA, &[&run, "--context", "a --> b"]));
    assert_eq!(said, "error: `--context` takes letters, digits and any of `_-./ `, at most 100 of them\n");
    let said = refused(desk.command(&desk.path(""), &["announce", &run]));
    assert!(said.starts_with("error: no pull request is named: give `--pr NUMBER`; Drone, Woodpecker, "), "{said}");
    assert_eq!(forge.told().requests, Vec::<String>::new());
    // A file holds it as well, and neither is shown.
    let token = desk.write("token", &format!("{TOKEN}\n"));
    let arguments = [&place[..], &["--token-file", token.to_str().unwrap()]].concat();
    let ended = finish(&desk.command(&desk.path(""), &arguments));
    assert!(
        ended.code == 0 && ended.stderr.contains(&format!("token    *** (the file `{}`)\n", token.display())),
        "{ended}"
    );
    // A build of something else has nothing to announce, and is no mistake.
    let nightly = desk.command(&desk.path(""), &["announce", "--pending"]).env("DRONE", "true").env("DRONE_REPO", REPO);
    let ended = finish(&nightly);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, "this build is of no pull request: nothing is announced (`--pr NUMBER` names one)\n")
    );
}

#[test]
fn nothing_hostile_and_no_secret_reaches_the_pull_request() {
    let (desk, forge) = (Desk::new(), Forge::gitea(SHA));
    let run = recorded(&desk, "hostile");
    let results = std::fs::read_to_string(format!("{run}/results.json")).unwrap();
    let results = results.replace("\"notes\": [", "\"notes\": [\"s3cr3t-of-the-mail\",").replacen(
        "\"reason\": \"",
        &format!("\"reason\": \"s3cr3t-of-the-mail {TOKEN} "),
        1,
    );
    std::fs::write(format!("{run}/results.json"), results).unwrap();
    let said =
        command(&desk, &forge, SHA, &[&run, "--any-commit"]).env("HARNESS_SECRET_SMTP_PASSWORD", "s3cr3t-of-the-mail");
    let said = finish(&said);
    assert_eq!(said.code, 0, "{said}");
    let comment = forge.comments_of(BOT).concat();
    let masks = Masks::new(["s3cr3t-of-the-mail", TOKEN]).unwrap();
    assert!(comment.contains("Reason: \\*\\*\\* \\*\\*\\* "), "{comment}");
    let line = forge.statuses()[0].1.clone();
    assert!(line.contains(": *** *** ") && !line.contains(|c: char| c.is_control()), "{line}");
    for text in [&comment, &line, &said.stderr] {
        assert!(!masks.finds(text), "{text}");
    }
    // In a fence and between backticks it stands as it is, and means nothing.
    let outside = outside_of_code(&comment);
    for markup in ["<script", "<img", "<b>", "@mention", "@here", "https://", "#1"] {
        assert!(!outside.contains(markup), "{markup} in {outside}");
    }
    assert!(comment.contains("<script>alert") && !comment.contains(['\u{1b}', '\u{202e}']), "{comment}");
}

/// A comment without its fences, and without what stands between backticks.
fn outside_of_code(comment: &str) -> String {
    let (mut out, mut fence) = (String::new(), None::<String>);
    for line in comment.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => out.extend(line.split('`').step_by(2).chain(["\n"])),
        }
    }
    assert_eq!(fence, None, "a fence stays open in {comment}");
    out
}
