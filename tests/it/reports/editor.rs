//! "Run test" in an editor: rust-analyzer, asked over its protocol, names the trial of every overlay assertion, and the
//! command it gives runs exactly that trial.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use harness::process::{self, Run};
use serde_json::{Value, json};

use crate::Case;
use crate::runner::{World, checkout, finish};

pub const CASES: &[Case] = &[(
    "editor::every_overlay_assertion_has_a_runnable_and_its_command_runs_exactly_that_trial",
    every_overlay_assertion_has_a_runnable,
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

fn every_overlay_assertion_has_a_runnable() {
    let file = checkout().join("overlays/custom-html/upgrade.rs");
    let mut server = Server::start();
    let runnables = server.runnables(&file);
    let commands: Vec<&Value> = runnables
        .iter()
        .map(|runnable| &runnable["args"])
        .filter(|args| args["executableArgs"][1] == "--exact")
        .collect();
    let trials: Vec<&str> = commands.iter().map(|args| args["executableArgs"][0].as_str().unwrap()).collect();
    assert_eq!(trials, ["overlays::custom_html::upgrade::seeded_page_survives"], "one for each assertion of the file");
    // What an editor runs, in the world of a test.
    let world = World::of_checkout();
    let words = |key: &str| commands[0][key].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    let mut run = Run::new("cargo", words("cargoArgs").chain(["--".into()]).chain(words("executableArgs")));
    run.env.extend(world.command(&[]).env.into_iter().filter(|(key, _)| key.to_string_lossy().starts_with("HARNESS_")));
    let ended = finish(&run.cwd(commands[0]["cwd"].as_str().unwrap()).deadline(LOADING));
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.with_outcome("ok"), trials, "{ended}");
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
        let able = json!({"experimental": {"serverStatusNotification": true}});
        let options = json!({"checkOnSave": false, "cachePriming": {"enable": false}});
        let hello = json!({"processId": null, "rootUri": root, "capabilities": able, "initializationOptions": options});
        server.ask("initialize", hello);
        server.send(json!({"jsonrpc": "2.0", "method": "initialized", "params": {}}));
        server
    }

    /// What can be run in a file, once the whole workspace is loaded: before that the answer is about less.
    fn runnables(&mut self, file: &Path) -> Vec<Value> {
        let uri = format!("file://{}", file.display());
        let text = std::fs::read_to_string(file).unwrap();
        let document = json!({"uri": uri, "languageId": "rust", "version": 1, "text": text});
        self.send(json!({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": document}}));
        let start = Instant::now();
        loop {
            let quiet = |message: &Value| {
                message["method"] == "experimental/serverStatus" && message["params"]["quiescent"] == true
            };
            while !quiet(&self.receive()) {}
            let answer = self.ask("experimental/runnables", json!({"textDocument": {"uri": uri}, "position": null}));
            let runnables = answer.as_array().unwrap().clone();
            if runnables.iter().any(|it| it["args"]["executableArgs"][0].is_string()) {
                keep(&runnables);
                return runnables;
            }
            assert!(start.elapsed() < LOADING, "nothing can be run in {}: {answer}", file.display());
        }
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

/// Keeps the answer as a record of what an editor was told: where no server is, it is all there is to look at.
fn keep(runnables: &[Value]) {
    let text = serde_json::to_string_pretty(runnables).unwrap();
    let text = text.replace(checkout().to_str().unwrap(), "/home/maintainer/recipe-harness");
    let toolchain = |line: &&str| !line.contains("RUSTC_TOOLCHAIN");
    let text: String = text.lines().filter(toolchain).map(|line| format!("{line}\n")).collect();
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
