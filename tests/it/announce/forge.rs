//! A forge for the tests: a server on a socket that answers as Gitea's API is documented, or GitHub's, and remembers what
//! it was told. Every request, and every answer of its own, is held to `tests/data/forge/gitea.schema.json`.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::runner::checkout;

pub const TOKEN: &str = "t0ken-of-the-bridge-0123456789";
pub const REPO: &str = "coop-cloud/notes";
/// The token's own user, and somebody else.
pub const BOT: (i64, &str) = (7, "bridge");
pub const OTHER: (i64, &str) = (8, "mallory");

/// An answer that is given once in the place of the right one.
pub enum Instead {
    /// As it goes over the wire.
    Raw(String),
    /// Nothing, until the other side has had enough.
    Silence,
    /// Bytes without end.
    Endless,
    /// The right answer is made, and its connection closed before it is sent.
    Lost,
    /// The comments that are there are deleted first.
    Deleted,
}

#[derive(Default)]
pub struct Told {
    pub head: String,
    /// Commits that the repository has.
    pub commits: Vec<String>,
    pub locked: bool,
    pub archived: bool,
    /// The token may not ask whose it is, as an automatic one of GitHub's.
    pub may_not_ask: bool,
    pub comments: Vec<Value>,
    /// All of them, in the order in which they came.
    pub statuses: Vec<Value>,
    /// `METHOD path`, in order.
    pub requests: Vec<String>,
    pub instead: VecDeque<(&'static str, Instead)>,
    /// What no server would have taken, or no client understood.
    wrong: Vec<String>,
    next: i64,
}

pub struct Forge {
    pub address: String,
    github: bool,
    told: Arc<Mutex<Told>>,
}

impl Forge {
    pub fn gitea(head: &str) -> Self {
        Forge::new(head, false)
    }

    pub fn github(head: &str) -> Self {
        Forge::new(head, true)
    }

    fn new(head: &str, github: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let told = Told { head: head.into(), commits: vec![head.into()], next: 100, ..Told::default() };
        let told = Arc::new(Mutex::new(told));
        let (shared, own) = (told.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, own) = (shared.clone(), own.clone());
                std::thread::spawn(move || answer(&mut stream.unwrap(), &shared, &own, github));
            }
        });
        Forge { address, github, told }
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// The next request whose line begins so is answered otherwise.
    pub fn instead(&self, request: &'static str, instead: Instead) {
        self.told().instead.push_back((request, instead));
    }

    pub fn status_line(status: &str, body: &str) -> Instead {
        let length = body.len();
        Instead::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    }

    /// A comment that was there before.
    pub fn comment(&self, user: (i64, &str), body: &str) -> i64 {
        let mut told = self.told();
        let comment = comment(&mut told, &self.address, user, body);
        told.comments.push(comment.clone());
        comment["id"].as_i64().unwrap()
    }

    /// Bodies of the comments of a user.
    pub fn comments_of(&self, user: (i64, &str)) -> Vec<String> {
        let told = self.told();
        let of_user = told.comments.iter().filter(|it| it["user"]["id"] == user.0);
        of_user.map(|it| it["body"].as_str().unwrap().to_owned()).collect()
    }

    /// State and description of every status, in order.
    pub fn statuses(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.told().statuses.iter().map(|it| (text(&it["status"]), text(&it["description"]))).collect()
    }

    pub fn api(&self) -> &'static str {
        if self.github { "github" } else { "gitea" }
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        let wrong = std::mem::take(&mut self.told.lock().unwrap_or_else(|it| it.into_inner()).wrong);
        assert!(wrong.is_empty() || std::thread::panicking(), "{}", wrong.join("\n"));
    }
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (method, path) = line.trim().strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, it)| it.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// One request a connection. `None` when there is none.
fn answer(stream: &mut TcpStream, shared: &Mutex<Told>, own: &str, github: bool) -> Option<()> {
    let request = read(stream)?;
    let line = format!("{} {}", request.method, request.path);
    let mut told = shared.lock().unwrap();
    told.requests.push(line.clone());
    let api = if github { "/api/v3" } else { "/api/v1" };
    let below = request.path.strip_prefix(api).unwrap_or("").to_owned();
    let method = format!("{} {below}", request.method);
    let instead = match told.instead.front() {
        Some((prefix, _)) if method.starts_with(prefix) => told.instead.pop_front().map(|(_, instead)| instead),
        _ => None,
    };
    let right = |told: &mut Told| respond(told, &request, &below, own, github);
    let text = match instead {
        None => text(right(&mut told)),
        Some(Instead::Raw(text)) => text,
        Some(Instead::Lost) => {
            drop(right(&mut told));
            String::new()
        }
        Some(Instead::Deleted) => {
            told.comments.clear();
            text(right(&mut told))
        }
        Some(Instead::Silence) => {
            drop(told);
            // Until the other side closes.
            let _ = stream.read(&mut [0]);
            return None;
        }
        Some(Instead::Endless) => {
            drop(told);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[").ok()?;
            while stream.write_all(&[b' '; 65536]).is_ok() {}
            return None;
        }
    };
    drop(told);
    stream.write_all(text.as_bytes()).ok()
}

fn text((status, body): (&str, Option<Value>)) -> String {
    let body = body.map(|it| it.to_string()).unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The right answer, from which the shapes are looked at on both sides.
fn respond(told: &mut Told, request: &Request, path: &str, own: &str, github: bool) -> (&'static str, Option<Value>) {
    let header = |name: &str| request.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str());
    let scheme = if github { "Bearer" } else { "token" };
    if header("authorization") != Some(&format!("{scheme} {TOKEN}")) {
        return ("401 Unauthorized", Some(json!({ "message": "invalid username, password or token" })));
    }
    if header("user-agent").is_none() {
        told.wrong.push("GitHub refuses a request without a user agent".into());
    }
    let body: Value = match request.body.as_slice() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).unwrap(),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let below = path.strip_prefix(&format!("/repos/{REPO}")).unwrap_or("");
    let parts: Vec<&str> = below.split('/').skip(1).collect();
    let (asked, answered, answer) = match (request.method.as_str(), parts.as_slice()) {
        ("GET", _) if path == "/user" && told.may_not_ask => {
            return ("403 Forbidden", Some(json!({ "message": "Resource not accessible by integration" })));
        }
        ("GET", _) if path == "/user" => (None, "User", ("200 OK", Some(user(BOT)))),
        ("GET", ["pulls", "17"]) => (None, "PullRequest", ("200 OK", Some(pull(told)))),
        ("POST", ["statuses", sha]) => (Some("CreateStatusOption"), "CommitStatus", status(told, sha, &body, github)),
        ("GET", ["issues", "17", "comments"]) => (None, "CommentList", ("200 OK", Some(page(told, query, github)))),
        ("POST", ["issues", "17", "comments"]) => {
            (Some("CreateIssueCommentOption"), "Comment", write(told, own, &body))
        }
        ("PATCH", ["issues", "comments", id]) => (Some("EditIssueCommentOption"), "Comment", edit(told, id, &body)),
        _ => return ("404 Not Found", Some(json!({ "message": "The target couldn't be found." }))),
    };
    if let Some(shape) = asked {
        hold(told, shape, &body);
    }
    if let (true, Some(body)) = (answer.0.starts_with("20"), &answer.1) {
        hold(told, answered, body);
    }
    answer
}

fn hold(told: &mut Told, shape: &str, value: &Value) {
    let file = std::fs::read(checkout().join("tests/data/forge/gitea.schema.json")).unwrap();
    let mut schema: Value = serde_json::from_slice(&file).unwrap();
    schema["$ref"] = format!("#/$defs/{shape}").into();
    let validator = jsonschema::validator_for(&schema).unwrap();
    told.wrong.extend(validator.iter_errors(value).map(|error| format!("{shape}: {error}")));
}

fn user((id, login): (i64, &str)) -> Value {
    json!({ "id": id, "login": login, "full_name": "", "email": "" })
}

fn pull(told: &Told) -> Value {
    let head = json!({ "label": "next", "ref": "next", "sha": told.head, "repo_id": 3 });
    let base = json!({ "label": "main", "ref": "main", "sha": "0".repeat(40), "repo_id": 3 });
    json!({ "number": 17, "state": "open", "merged": false, "is_locked": told.locked, "title": "Next", "head": head, "base": base })
}

fn status(told: &mut Told, sha: &str, body: &Value, github: bool) -> (&'static str, Option<Value>) {
    if !told.commits.iter().any(|it| it == sha) {
        // As they really do.
        return match github {
            true => ("422 Unprocessable Entity", Some(json!({ "message": format!("No commit found for SHA: {sha}") }))),
            false => ("500 Internal Server Error", Some(json!({ "message": "object does not exist" }))),
        };
    }
    told.next += 1;
    let target = body["target_url"].as_str().unwrap_or_default();
    let status = json!({ "id": told.next, "status": body["state"], "context": body["context"],
        "description": body["description"], "target_url": target, "creator": user(BOT) });
    told.statuses.push(status.clone());
    ("201 Created", Some(status))
}

/// Gitea has no pages here.
fn page(told: &Told, query: &str, github: bool) -> Value {
    let number = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.and_then(|it| it.parse::<usize>().ok())
    };
    let (per, page) = (number("per_page").unwrap_or(30), number("page").unwrap_or(1));
    match github {
        true => told.comments.iter().skip((page - 1) * per).take(per).cloned().collect(),
        false => told.comments.clone().into(),
    }
}

fn comment(told: &mut Told, own: &str, by: (i64, &str), body: &str) -> Value {
    told.next += 1;
    let address = format!("{own}/{REPO}/pulls/17#issuecomment-{}", told.next);
    json!({ "id": told.next, "body": body, "user": user(by), "html_url": address, "issue_url": "",
        "pull_request_url": format!("{own}/{REPO}/pulls/17"), "created_at": "2026-11-28T12:00:00Z", "updated_at": "2026-11-28T12:00:00Z" })
}

fn closed(told: &Told) -> Option<(&'static str, Option<Value>)> {
    match (told.archived, told.locked) {
        (true, _) => Some(("423 Locked", Some(json!({ "message": "The repository is archived." })))),
        (_, true) => Some(("403 Forbidden", Some(json!({ "message": "issue is locked" })))),
        _ => None,
    }
}

fn write(told: &mut Told, own: &str, body: &Value) -> (&'static str, Option<Value>) {
    if let Some(closed) = closed(told) {
        return closed;
    }
    let comment = comment(told, own, BOT, body["body"].as_str().unwrap_or_default());
    told.comments.push(comment.clone());
    ("201 Created", Some(comment))
}

/// A repository's administrator may edit anybody's comment, so that a mistake would go unseen.
fn edit(told: &mut Told, id: &str, body: &Value) -> (&'static str, Option<Value>) {
    if let Some(closed) = closed(told) {
        return closed;
    }
    match told.comments.iter_mut().find(|it| it["id"].as_i64() == id.parse().ok()) {
        None => ("404 Not Found", Some(json!({ "message": "comment does not exist" }))),
        Some(comment) => {
            comment["body"] = body["body"].clone();
            ("200 OK", Some(comment.clone()))
        }
    }
}
