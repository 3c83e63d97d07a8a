//! What programs in a cage may ask of the app: the calls of [`App`], over HTTP with JSON.
//!
//! The listener is inside of the cage's pod, and its connections are answered here, by the process that holds the app:
//! nobody outside of the cage can reach it. `src/script/harness.py` is the other end.

mod http;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::engine::embedded::cage::Hatch;
use crate::engine::{Exec, ExecOutput, ServiceState, TaskPhase};
use crate::fault::{Failure, Fault};
use http::{Answer, Question};

/// The name of the listener in the cage, and its port: 80 and 443 may be the app's.
const NAME: &str = "app-calls";
const PORT: u16 = 8080;
/// Questions that are answered at a time; the others wait, so that a program takes no more memory than this allows.
const AT_A_TIME: usize = 4;
/// The largest content of a file, or output, in an answer.
const LARGEST: usize = 16 << 20;
/// Log lines of an answer when nobody says how many.
const TAIL: usize = 1000;

/// The calls of one cage, answered until it is dropped.
pub struct Calls {
    /// The way in, for the cage.
    pub hatch: Hatch,
    /// The first failure that was not the recipe's.
    trouble: Arc<Mutex<Option<Failure>>>,
    answering: JoinHandle<()>,
}

impl Calls {
    /// Begins to answer for an app.
    pub fn open(app: App) -> Self {
        let (to, connections) = mpsc::channel(AT_A_TIME);
        let trouble = Arc::default();
        let answering = tokio::spawn(answer_all(connections, app, Arc::clone(&trouble)));
        Calls { hatch: Hatch { name: NAME.into(), port: PORT, to }, trouble, answering }
    }

    /// What programs are told, as `$APP_CALLS`.
    pub fn url() -> String {
        format!("http://{NAME}:{PORT}")
    }

    /// What went wrong with the machine or the harness while calls were answered: a program that fails after it is not
    /// to be blamed for it.
    pub fn trouble(&self) -> Option<Failure> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer_all(mut connections: mpsc::Receiver<TcpStream>, app: App, trouble: Arc<Mutex<Option<Failure>>>) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut answering = JoinSet::new();
    while let Some(stream) = connections.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (app, trouble) = (app.clone(), Arc::clone(&trouble));
        answering.spawn(async move {
            let _place = place;
            http::serve(stream, async |question| answer(&app, &question, &trouble).await).await;
        });
        while answering.try_join_next().is_some() {}
    }
}

async fn answer(app: &App, question: &Question, trouble: &Mutex<Option<Failure>>) -> Answer {
    match ask(app, question).await {
        Ok(answer) => answer,
        Err(Refused::Question(error)) => Answer::refusal(400, &format!("{error:#}")),
        Err(Refused::Unknown) => {
            let text = format!("there is no call `{}`: there are {}", question.call, names());
            Answer::refusal(404, &text)
        }
        Err(Refused::Call(error)) => {
            let failure = error.downcast::<Failure>().unwrap_or_else(Failure::recipe);
            let blames_others = matches!(failure.fault, Fault::Infrastructure | Fault::Harness);
            if blames_others {
                let mut trouble = trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                trouble.get_or_insert_with(|| failure.clone());
            }
            Answer::refusal(if blames_others { 500 } else { 422 }, &failure.message)
        }
    }
}

/// Why there is no answer.
enum Refused {
    Unknown,
    /// The question makes no sense.
    Question(anyhow::Error),
    /// The app, or what is between it and here, did not answer.
    Call(anyhow::Error),
}

/// Every call, with a question as it should be.
const CALLS: [(&str, &str); 7] = [
    ("exec", r#"{"service": "app", "argv": ["ls", "/data"]}"#),
    ("read", r#"{"service": "app", "path": "/data/page"}"#),
    ("write", r#"{"service": "app", "path": "/data/page", "text": "hello"}"#),
    ("logs", r#"{"service": "app", "tail": 20}"#),
    ("services", "{}"),
    ("remember", r#"{"key": "page", "value": "hello"}"#),
    ("recall", r#"{"key": "page"}"#),
];

fn names() -> String {
    let names: Vec<String> = CALLS.iter().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

async fn ask(app: &App, question: &Question) -> Result<Answer, Refused> {
    let raw = question.raw;
    Ok(match question.call.as_str() {
        "exec" => {
            let exec: AskExec = read(question)?;
            let output = app.exec_with(exec.exec(app).map_err(Refused::Question)?).await.map_err(Refused::Call)?;
            if raw { raw_output(output) } else { Answer::json(&executed(output)) }
        }
        "read" => {
            let AskRead { service, path } = read(question)?;
            let content = app.read(&service, &path).await.map_err(Refused::Call)?;
            bounded(&content).map_err(Refused::Call)?;
            if raw { Answer::bytes(content) } else { Answer::json(&encoded(content, "text", "base64")) }
        }
        "write" => {
            let ask: AskWrite = read(question)?;
            let content = ask.content().map_err(Refused::Question)?;
            app.write(&ask.service, &ask.path, content).await.map_err(Refused::Call)?;
            Answer::json(&json!({}))
        }
        "logs" => {
            let AskLogs { service, tail } = read(question)?;
            let lines = app.logs(&service, tail.unwrap_or(TAIL)).await.map_err(Refused::Call)?;
            let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
            bounded(&lines.concat()).map_err(Refused::Call)?;
            if raw { Answer::bytes(lines.join("\n") + "\n") } else { Answer::json(&json!({ "lines": lines })) }
        }
        "services" => {
            let services = app.services().await.map_err(Refused::Call)?;
            Answer::json(&json!({ "services": services.iter().map(service).collect::<Vec<Value>>() }))
        }
        "remember" => {
            let Remembered { key, value } = read(question)?;
            bounded(&value).map_err(Refused::Question)?;
            app.remember(&key, value).await.map_err(Refused::Call)?;
            Answer::json(&json!({}))
        }
        "recall" => {
            let AskRecall { key } = read(question)?;
            let value = app.recall(&key).await.map_err(Refused::Call)?;
            if raw { Answer::bytes(value) } else { Answer::json(&json!({ "value": value })) }
        }
        _ => return Err(Refused::Unknown),
    })
}

/// The question's fields; one that cannot be understood is answered with one that can.
fn read<T: DeserializeOwned>(question: &Question) -> Result<T, Refused> {
    let example = CALLS.iter().find(|(name, _)| *name == question.call).map_or("{}", |(_, example)| example);
    let read = serde_json::from_slice(&question.body);
    let what = || format!("failed to understand the question to `{}`, for example {example}", question.call);
    read.with_context(what).map_err(Refused::Question)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskExec {
    service: String,
    argv: Vec<String>,
    #[serde(default)]
    stdin: String,
    user: Option<String>,
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRead {
    service: String,
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskWrite {
    service: String,
    path: String,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskLogs {
    service: String,
    tail: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRecall {
    key: String,
}

#[derive(Serialize)]
struct Executed {
    code: i32,
    stdout: String,
    stderr: String,
    truncated: bool,
}

impl AskExec {
    /// As for an assertion, whose command may take as long as it may itself.
    fn exec(self, app: &App) -> Result<Exec> {
        ensure!(!self.argv.is_empty(), "`argv` is empty: name a program, as [\"ls\", \"/data\"]");
        let most = app.settings().assertion;
        let deadline = self.seconds.map_or(app.settings().call, Duration::from_secs).min(most);
        let stdin = self.stdin.into_bytes();
        Ok(Exec { service: self.service, argv: self.argv, stdin, user: self.user, deadline })
    }
}

impl AskWrite {
    fn content(&self) -> Result<Vec<u8>> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(base64)) => BASE64.decode(base64.as_bytes()).context("failed to decode `base64`"),
            _ => anyhow::bail!("give the content as `text` or as `base64`, and not as both"),
        }
    }
}

fn executed(output: ExecOutput) -> Executed {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Executed { code: output.code, stdout, stderr, truncated: output.truncated }
}

/// A failed command has no output that a shell could take for the right one.
fn raw_output(output: ExecOutput) -> Answer {
    match output.success() {
        Ok(output) => Answer::bytes(output.stdout),
        Err(error) => Answer::refusal(422, &format!("{error:#}")),
    }
}

/// Bytes under the name of their form.
fn encoded(bytes: Vec<u8>, text: &str, base64: &str) -> Value {
    match String::from_utf8(bytes) {
        Ok(content) => json!({ text: content }),
        Err(error) => json!({ base64: BASE64.encode(error.as_bytes()) }),
    }
}

fn bounded(content: &(impl AsRef<[u8]> + ?Sized)) -> Result<()> {
    let length = content.as_ref().len();
    ensure!(length <= LARGEST, "{length} bytes are more than the {} MiB of one answer", LARGEST >> 20);
    Ok(())
}

fn service(state: &ServiceState) -> Value {
    let running = state.wanted().filter(|task| task.phase == TaskPhase::Running).count();
    json!({
        "name": state.name,
        "image": state.image,
        "replicas": state.replicas,
        "running": running,
        "labels": state.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: DeserializeOwned>(call: &str, body: &str) -> String {
        let question = Question { call: call.into(), raw: false, body: body.into() };
        match read::<T>(&question) {
            Err(Refused::Question(error)) => format!("{error:#}"),
            _ => panic!("`{body}` was understood"),
        }
    }

    #[test]
    fn a_question_that_makes_no_sense_is_answered_with_one_that_does() {
        assert_eq!(
            refusal::<AskRead>("read", r#"{"service": "app", "file": "/x"}"#),
            "failed to understand the question to `read`, for example {\"service\": \"app\", \"path\": \"/data/page\"}: \
             unknown field `file`, expected `service` or `path` at line 1 column 25"
        );
        assert!(refusal::<AskExec>("exec", "").contains("for example {\"service\": \"app\", \"argv\": ["));
    }

    #[test]
    fn every_example_is_a_question() {
        let question = |call: &str| {
            let (_, example) = CALLS.iter().find(|(name, _)| *name == call).unwrap();
            Question { call: call.into(), raw: false, body: (*example).into() }
        };
        assert!(read::<AskExec>(&question("exec")).is_ok() && read::<AskRead>(&question("read")).is_ok());
        assert!(read::<AskWrite>(&question("write")).is_ok() && read::<AskLogs>(&question("logs")).is_ok());
        assert!(read::<Remembered>(&question("remember")).is_ok() && read::<AskRecall>(&question("recall")).is_ok());
    }

    #[test]
    fn content_is_text_or_base64_and_bounded() {
        let write = |text: Option<&str>, base64: Option<&str>| AskWrite {
            service: "app".into(),
            path: "/x".into(),
            text: text.map(Into::into),
            base64: base64.map(Into::into),
        };
        assert_eq!(write(Some("a"), None).content().unwrap(), b"a");
        assert_eq!(write(None, Some("/w==")).content().unwrap(), [255]);
        let error = write(Some("a"), Some("")).content().unwrap_err().to_string();
        assert_eq!(error, "give the content as `text` or as `base64`, and not as both");
        assert_eq!(encoded(vec![255], "text", "base64"), json!({ "base64": "/w==" }));
        assert_eq!(encoded(b"a".to_vec(), "text", "base64"), json!({ "text": "a" }));
        let error = bounded(&vec![0; LARGEST + 1]).unwrap_err().to_string();
        assert_eq!(error, "16777217 bytes are more than the 16 MiB of one answer");
    }
}
