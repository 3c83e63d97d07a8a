//! "Run test" in an editor: rust-analyzer, asked over its protocol, names the trial of every generic and overlay
//! assertion, and the commands it gives run exactly those trials.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::process::Run;
use serde_json::{Value, json};

use super::language_server::Server;
use crate::Case;
use crate::runner::{World, checkout, finish};

pub const CASES: &[Case] = &[(
    "editor::every_assertion_has_a_runnable_and_its_command_runs_exactly_that_trial",
    every_assertion_has_a_runnable,
)];

/// Loading a workspace compiles what its macros and build scripts need.
const LOADING: Duration = Duration::from_secs(900);

/// Why there is no rust-analyzer here; a rustup without the component has a program of that name that only complains.
pub fn missing() -> Option<String> {
    let runs = tokio::runtime::Runtime::new().unwrap().block_on(Run::new("rust-analyzer", ["--version"]).output());
    match runs {
        Ok(output) if output.code == 0 => None,
        _ => Some("there is no `rust-analyzer` that runs on PATH (`rustup component add rust-analyzer`)".into()),
    }
}

fn every_assertion_has_a_runnable() {
    let mut server = start();
    let mut trials = Vec::new();
    let mut kept = Vec::new();
    for (at, file) in files().iter().enumerate() {
        let runnables = runnables(&mut server, file, at == 0);
        let (found, runs) = trials_of(&runnables);
        assert!(!found.is_empty(), "nothing can be run in {}", file.display());
        // One of each folder stands for all: each of them deploys.
        if file.ends_with("overlays/custom-html/upgrade.rs") || file.ends_with("generic/upgrade.rs") {
            runs_exactly(&runs[0], &found[0]);
        }
        trials.extend(found);
        kept.extend(runnables.into_iter().filter(|runnable| runnable["args"]["executableArgs"][1] == "--exact"));
    }
    trials.sort();
    assert_eq!(trials, assertions(), "one for each assertion of `generic/` and `overlays/`");
    keep(&kept);
    let explored = explored(&mut server);
    for trial in trials {
        assert!(explored.contains(&format!("recipe::{trial}")), "the test explorer must show `{trial}`: {explored:?}");
    }
}

/// The files with assertions.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["overlays/custom-html", "overlays/guestbook", "generic"] {
        let entries = std::fs::read_dir(checkout().join(folder)).unwrap().flatten().map(|entry| entry.path());
        let rust = entries.filter(|it| it.extension().is_some_and(|is| is == "rs") && !it.ends_with("lib.rs"));
        let mut rust: Vec<PathBuf> = rust.collect();
        rust.sort();
        files.append(&mut rust);
    }
    assert!(files.len() >= 10, "{files:?}");
    files
}

/// The names of all assertions, as the runner lists them.
fn assertions() -> Vec<String> {
    let listed = World::of_checkout().run(&["--list"]);
    let names = listed.stdout.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("tier::")).map(str::to_owned).collect();
    names.sort();
    names
}

/// The trials that can be run in a file, and what runs each.
fn trials_of(runnables: &[Value]) -> (Vec<String>, Vec<Value>) {
    let runs = runnables.iter().map(|it| &it["args"]).filter(|args| args["executableArgs"][1] == "--exact");
    runs.map(|args| (args["executableArgs"][0].as_str().unwrap().to_owned(), args.clone())).unzip()
}

/// Runs what an editor would, in the world of a test.
fn runs_exactly(args: &Value, trial: &str) {
    let world = World::of_checkout();
    let words = |key: &str| args[key].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    let mut run = Run::new("cargo", words("cargoArgs").chain(["--".into()]).chain(words("executableArgs")));
    run.env.extend(world.command(&[]).env.into_iter().filter(|(key, _)| key.to_string_lossy().starts_with("HARNESS_")));
    let ended = finish(&run.cwd(args["cwd"].as_str().unwrap()).deadline(LOADING));
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.with_outcome("ok"), [trial], "{ended}");
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn start() -> Server {
    let able = json!({"experimental": {"serverStatusNotification": true, "testExplorer": true}});
    let options = json!({"checkOnSave": false, "cachePriming": {"enable": false}});
    Server::start(&["rust-analyzer"], &checkout(), able, options)
}

/// What can be run in a file; for the first one, once the whole workspace is loaded: before that the answer is about
/// less.
fn runnables(server: &mut Server, file: &Path, first: bool) -> Vec<Value> {
    let uri = server.open(file, "rust", &std::fs::read_to_string(file).unwrap());
    let start = Instant::now();
    loop {
        let quiet = |message: &Value| {
            message["method"] == "experimental/serverStatus" && message["params"]["quiescent"] == true
        };
        while first && !quiet(&server.receive()) {}
        let answer = server.ask("experimental/runnables", json!({"textDocument": {"uri": uri}, "position": null}));
        let runnables = answer.as_array().unwrap().clone();
        if !first || runnables.iter().any(|it| it["args"]["executableArgs"][0].is_string()) {
            return runnables;
        }
        assert!(start.elapsed() < LOADING, "nothing can be run in {}: {answer}", file.display());
    }
}

/// What the test explorer shows of the recipe runner.
fn explored(server: &mut Server) -> Vec<String> {
    let answer = server.ask("experimental/discoverTest", json!({"testId": "recipe"}));
    let tests = answer["tests"].as_array().unwrap_or_else(|| panic!("{answer}"));
    tests.iter().map(|test| test["id"].as_str().unwrap().to_owned()).collect()
}

/// Keeps what an editor was told: where no server is, it is all there is to look at. Without the places in the files, which
/// move with every edit, and the environment, which is this machine's.
fn keep(runnables: &[Value]) {
    let told = |runnable: &Value| {
        let args = &runnable["args"];
        json!({
            "label": runnable["label"],
            "kind": runnable["kind"],
            "cwd": args["cwd"],
            "cargoArgs": args["cargoArgs"],
            "executableArgs": args["executableArgs"],
        })
    };
    let told: Vec<Value> = runnables.iter().map(told).collect();
    let text = serde_json::to_string_pretty(&told).unwrap() + "\n";
    let text = text.replace(checkout().to_str().unwrap(), "/home/maintainer/recipe-harness");
    let path: PathBuf = checkout().join("tests/data/editors/runnables.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "`BLESS=1 cargo test` writes it again");
}
