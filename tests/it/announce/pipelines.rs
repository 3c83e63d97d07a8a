//! The pipelines of `docs/ci/announce` do what they say: read as their server would read them, and performed step after
//! step, with the variables that it sets and against a forge on a socket.

use std::path::Path;
use std::time::Duration;

use harness::process::Run;
use serde_json::{Value, json};

use super::forge::{BOT, Forge, REPO, TOKEN};
use crate::program::Desk;
use crate::runner::{Ended, checkout, finish};

/// One step, as far as it runs in a shell.
struct Step {
    lines: Vec<String>,
    /// It runs also after a step that failed.
    always: bool,
    env: Vec<(String, String)>,
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(table) => table.values().collect(),
        _ => Vec::new(),
    }
}

fn texts(value: &Value) -> Vec<String> {
    list(value).into_iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// What the server puts in the place of its expressions. The names of secrets are those that the file asks for.
fn filled(text: &str) -> String {
    let known = [
        ("${{ secrets.FORGE_TOKEN }}", TOKEN),
        ("${{ github.token }}", TOKEN),
        ("${{ github.event.repository.name }}", "notes"),
    ];
    let text = known.iter().fold(text.to_owned(), |text, (expression, value)| text.replace(expression, value));
    assert!(!text.contains("${{"), "nobody knows `{text}`");
    text
}

fn env(value: &Value) -> Vec<(String, String)> {
    let table = value.as_object().into_iter().flatten();
    let entry = |(key, value): (&String, &Value)| {
        let secret = value.get("from_secret").map(|name| {
            assert_eq!(name, "forge_token");
            TOKEN.to_owned()
        });
        (key.clone(), secret.unwrap_or_else(|| filled(value.as_str().unwrap())))
    };
    table.map(entry).collect()
}

/// The steps of a pipeline of Drone or Woodpecker, or of a workflow.
fn steps(file: &Value) -> Vec<Step> {
    if let Some(job) = file["jobs"].get("recipe") {
        let step = |step: &Value| Step {
            lines: vec![filled(step["run"].as_str().unwrap())],
            always: step["if"] == "always()",
            env: [env(&job["env"]), env(&step["env"])].concat(),
        };
        return list(&job["steps"]).into_iter().filter(|step| step.get("run").is_some()).map(step).collect();
    }
    let step = |step: &Value| {
        let when = if step["when"].is_array() { &step["when"][0] } else { &step["when"] };
        let status = texts(&when["status"]);
        Step {
            lines: texts(&step["commands"]),
            always: status == ["success", "failure"],
            env: env(&step["environment"]),
        }
    };
    list(&file["steps"]).into_iter().map(step).collect()
}

/// What the server says of a build of the pull request.
fn variables(server: &str, forge: &Forge, sha: &str, event: &Path) -> Vec<(String, String)> {
    let (address, event) = (&forge.address, event.to_str().unwrap());
    let list: Vec<(&str, String)> = match server {
        "drone" => vec![
            ("DRONE", "true".into()),
            ("DRONE_REPO", REPO.into()),
            ("DRONE_REPO_NAME", "notes".into()),
            ("DRONE_REPO_LINK", format!("{address}/{REPO}")),
            ("DRONE_PULL_REQUEST", "17".into()),
            ("DRONE_COMMIT_SHA", sha.into()),
            ("DRONE_BUILD_LINK", "https://drone.example.org/coop-cloud/notes/42".into()),
        ],
        "woodpecker" => vec![
            ("CI", "woodpecker".into()),
            ("CI_FORGE_TYPE", "forgejo".into()),
            ("CI_FORGE_URL", address.clone()),
            ("CI_REPO", REPO.into()),
            ("CI_REPO_NAME", "notes".into()),
            ("CI_COMMIT_PULL_REQUEST", "17".into()),
            ("CI_COMMIT_SHA", sha.into()),
            ("CI_PIPELINE_URL", "https://ci.example.org/repos/3/pipeline/9".into()),
        ],
        _ => vec![
            ("GITHUB_ACTIONS", "true".into()),
            ("GITHUB_SERVER_URL", address.clone()),
            ("GITHUB_API_URL", format!("{address}{}", if server == "github" { "/api/v3" } else { "/api/v1" })),
            ("GITHUB_REPOSITORY", REPO.into()),
            ("GITHUB_REF", "refs/pull/17/merge".into()),
            // The merge, which nobody has written.
            ("GITHUB_SHA", "e".repeat(40)),
            ("GITHUB_RUN_ID", "9001".into()),
            ("GITHUB_RUN_NUMBER", "12".into()),
            ("GITHUB_EVENT_PATH", event.into()),
        ],
    };
    list.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Performs the steps in a clone: after one that failed, only those that ask for it. Gives what the verdict's step said.
fn perform(desk: &Desk, clone: &Path, steps: &[Step], variables: &[(String, String)]) -> (Vec<i32>, Ended) {
    let mut codes = Vec::new();
    let mut last = None;
    let path = format!("{}:{}", desk.path("bin").display(), std::env::var("PATH").unwrap());
    for step in steps {
        if codes.iter().any(|code| *code != 0) && !step.always {
            continue;
        }
        let lines: Vec<&String> = step.lines.iter().filter(|line| !line.starts_with("sudo sysctl")).collect();
        let script = lines.into_iter().cloned().collect::<Vec<_>>().join("\n");
        let mut run = Run::new("sh", ["-ec", &script]).cwd(clone).env("PATH", &path).env("HOME", desk.path(""));
        run = run.env("HARNESS_STATE", desk.path("state")).env("HARNESS_SCREENSHOTS", "0");
        run = variables.iter().chain(&step.env).fold(run, |run, (key, value)| run.env(key, value));
        let ended = finish(&run.deadline(Duration::from_secs(120)));
        // The code of a pull request runs in the one step that has no token.
        assert!(!script.contains("harness test") || !step.env.iter().any(|(_, value)| value == TOKEN));
        assert!(!ended.to_string().contains(TOKEN), "{ended}");
        codes.push(ended.code);
        last = Some(ended);
    }
    (codes, last.unwrap())
}

fn git(clone: &Path, script: &str) -> String {
    let script =
        format!("git config user.name m && git config user.email m@example.org && {script} && git rev-parse HEAD");
    let ended = finish(&Run::new("sh", ["-ec", &script]).cwd(clone));
    assert_eq!(ended.code, 0, "{ended}");
    ended.stdout.lines().last().unwrap().to_owned()
}

/// The file of a server, for a good commit and then for a bad one.
fn is_a_bridge(server: &str) {
    let text = std::fs::read_to_string(checkout().join(format!("docs/ci/announce/{server}.yml"))).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let steps = steps(&file);
    assert!(steps.iter().any(|step| step.lines.concat().contains("harness test")), "{text}");
    let desk = Desk::new();
    std::fs::create_dir(desk.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_harness-command"), desk.path("bin/harness")).unwrap();
    // Beside the clone, as an administrator of the runner has it: the image stands in for one that would be pulled.
    desk.write("harness.toml", "engine = \"embedded\"\n[embedded.images]\nnginx = \"builtin:static-web\"\n");
    let clone = desk.recipe("notes");
    let sha = git(&clone, "git remote add origin . && git commit -qam Next");
    let forge = if server == "github" { Forge::github(&sha) } else { Forge::gitea(&sha) };
    let event = |sha: &str| {
        let json = json!({ "pull_request": { "number": 17, "head": { "sha": sha } } });
        desk.write("event.json", &json.to_string())
    };
    let (codes, said) = perform(&desk, &clone, &steps, &variables(server, &forge, &sha, &event(&sha)));
    assert!(codes.iter().all(|code| *code == 0), "{server}: {codes:?}\n{said}");
    let states = |forge: &Forge| forge.statuses().into_iter().map(|(state, _)| state).collect::<Vec<_>>();
    assert_eq!(states(&forge), ["pending", "success"], "{server}\n{said}");
    assert!(forge.comments_of(BOT).concat().contains("### ✅ `notes` "), "{server}\n{said}");

    let worse = git(&clone, "git clean -fdxq && sed -i s/1.27.5/1.27.5@nothing/ compose.yml && git commit -qam Worse");
    forge.told().commits.push(worse.clone());
    forge.told().head = worse.clone();
    let (codes, said) = perform(&desk, &clone, &steps, &variables(server, &forge, &worse, &event(&worse)));
    assert!(codes.contains(&101) && codes.last() == Some(&0), "{server}: {codes:?}\n{said}");
    assert_eq!(states(&forge)[2..], ["pending", "failure"], "{server}\n{said}");
    let [comment] = &forge.comments_of(BOT)[..] else { panic!("{:?}", forge.comments_of(BOT)) };
    assert!(comment.contains("### ❌ `notes` "), "{comment}");
}

#[test]
fn drones_file_is_a_bridge() {
    is_a_bridge("drone");
}

#[test]
fn woodpeckers_file_is_a_bridge() {
    is_a_bridge("woodpecker");
}

#[test]
fn forgejos_and_githubs_files_are_bridges() {
    is_a_bridge("forgejo");
    is_a_bridge("github");
}
