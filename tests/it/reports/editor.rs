//! "Run test" in an editor: rust-analyzer, asked over its protocol, names the trial of every generic and overlay
//! assertion, and the commands it gives run exactly those trials.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use harness::process::{self, Run};
use serde_json::{Value, json};

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
    let mut server = Server::start();
    let mut trials = Vec::new();
    let mut kept = Vec::new();
    for (at, file) in files().iter().enumerate() {
        let runnables = server.runnables(file, at == 0);
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
    let explored = server.explored();
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
    assert!(ended.stderr.contains("deploy-count = 1 (expect 1)"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// A language server, talked to as editors do.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: u64,
}

impl Server {
    fn start() -> Self {
        let mut command = process::command("rust-analyzer");
        command.current_dir(checkout()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Server { child, input, output, asked: 0 };
        let root = format!("file://{}", checkout().display());
        let able = json!({"experimental": {"serverStatusNotification": true, "testExplorer": true}});
        let options = json!({"checkOnSave": false, "cachePriming": {"enable": false}});
        let hello = json!({"processId": null, "rootUri": root, "capabilities": able, "initializationOptions": options});
        server.ask("initialize", hello);
        server.send(json!({"jsonrpc": "2.0", "method": "initialized", "params": {}}));
        server
    }

    /// What can be run in a file; for the first one, once the whole workspace is loaded: before that the answer is about
    /// less.
    fn runnables(&mut self, file: &Path, first: bool) -> Vec<Value> {
        let uri = format!("file://{}", file.display());
        let text = std::fs::read_to_string(file).unwrap();
        let document = json!({"uri": uri, "languageId": "rust", "version": 1, "text": text});
        self.send(json!({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": document}}));
        let start = Instant::now();
        loop {
            let quiet = |message: &Value| {
                message["method"] == "experimental/serverStatus" && message["params"]["quiescent"] == true
            };
            while first && !quiet(&self.receive()) {}
            let answer = self.ask("experimental/runnables", json!({"textDocument": {"uri": uri}, "position": null}));
            let runnables = answer.as_array().unwrap().clone();
            if !first || runnables.iter().any(|it| it["args"]["executableArgs"][0].is_string()) {
                return runnables;
            }
            assert!(start.elapsed() < LOADING, "nothing can be run in {}: {answer}", file.display());
        }
    }

    /// What the test explorer shows of the recipe runner.
    fn explored(&mut self) -> Vec<String> {
        let answer = self.ask("experimental/discoverTest", json!({"testId": "recipe"}));
        let tests = answer["tests"].as_array().unwrap_or_else(|| panic!("{answer}"));
        tests.iter().map(|test| test["id"].as_str().unwrap().to_owned()).collect()
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}));
        loop {
            let mut message = self.receive();
            if message["id"] == id && message.get("method").is_none() {
                return message["result"].take();
            }
        }
    }

    /// The next message; what the server asks is answered with nothing, as by an editor without settings.
    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "rust-analyzer has ended");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        let message: Value = serde_json::from_slice(&body).unwrap();
        if message.get("method").is_some() && message.get("id").is_some() {
            self.send(json!({"jsonrpc": "2.0", "id": message["id"], "result": null}));
        }
        message
    }

    fn send(&mut self, message: Value) {
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.input.flush().unwrap();
    }
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
