//! A proxy in front of the Docker socket that breaks what goes through it, as often and as deep as it is told to.
//!
//! Every request gets a connection of its own, so that none slips through behind another; a connection that is taken
//! over for a stream of its own goes through untouched.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const DOCKER: &str = "/var/run/docker.sock";

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered by the proxy, with this status and message; the daemon hears nothing.
    Answers(u16, &'static str),
    /// Never answered; the daemon hears nothing.
    Silent,
    /// The daemon does what it is asked, and its answer is held back for ever.
    HoldsTheAnswer,
    /// The daemon does what it is asked, and its answer breaks off in the middle of its body.
    CutsTheBody,
    /// The daemon does what it is asked, and the proxy answers with this status in its place.
    AnswersInstead(u16, &'static str),
}

/// Which requests meet a fault: the method, and what the path has to contain.
#[derive(Clone, Debug)]
pub struct Rule {
    pub method: &'static str,
    pub path: &'static str,
    pub fault: Fault,
    /// How many requests; the others go through.
    pub times: usize,
}

/// A daemon that breaks on demand. It is gone when this is dropped.
pub struct Proxy {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    /// Requests that met a fault, as `POST /v1.41/secrets/create`.
    met: Mutex<Vec<String>>,
    /// Nobody answers, and what was open is closed.
    gone: AtomicBool,
    /// Nobody answers, and nobody says so.
    hangs: AtomicBool,
    open: Mutex<BTreeMap<u64, UnixStream>>,
    numbers: AtomicU64,
}

impl Proxy {
    pub fn start(rules: Vec<Rule>) -> Proxy {
        let proxy = Proxy { dir: tempfile::tempdir().unwrap(), shared: Arc::default() };
        proxy.set(rules);
        let listener = UnixListener::bind(proxy.socket()).unwrap();
        let shared = proxy.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                // A broken connection is what this is for.
                std::thread::spawn(move || drop(shared.serve(client)));
            }
        });
        proxy
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn set(&self, rules: Vec<Rule>) {
        *self.shared.rules.lock().unwrap() = rules;
    }

    /// The daemon is killed: every connection breaks, and no new one is answered.
    pub fn leave(&self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        for stream in std::mem::take(&mut *self.shared.open.lock().unwrap()).into_values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The daemon hangs: it takes every request and answers none.
    pub fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
    }

    /// The daemon is back.
    pub fn come_back(&self) {
        self.shared.hangs.store(false, Ordering::SeqCst);
        self.shared.gone.store(false, Ordering::SeqCst);
    }

    /// Requests that met a fault so far.
    pub fn met(&self) -> Vec<String> {
        self.shared.met.lock().unwrap().clone()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }
}

/// A connection that a leaving daemon breaks.
struct Open<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.shared.open.lock().unwrap().remove(&self.number) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, mut client: UnixStream) -> std::io::Result<()> {
        if self.gone.load(Ordering::SeqCst) {
            return client.shutdown(Shutdown::Both);
        }
        let _client = self.opened(&client)?;
        let (head, rest) = read_head(&mut client)?;
        let request = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        let takes_over = head.to_lowercase().contains("\r\nupgrade:");
        let fault = if self.hangs.load(Ordering::SeqCst) { Some(Fault::Silent) } else { self.fault_for(&request) };
        match fault {
            Some(Fault::Answers(status, message)) => return answer(&mut client, status, message),
            Some(Fault::Silent) => return wait_for_end(&mut client),
            _ => {}
        }
        let mut docker = UnixStream::connect(DOCKER)?;
        let _docker = self.opened(&docker)?;
        docker.write_all(if takes_over { head } else { close_afterwards(&head) }.as_bytes())?;
        docker.write_all(&rest)?;
        let (mut up_from, mut up_to) = (client.try_clone()?, docker.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut up_from, &mut up_to);
            let _ = up_to.shutdown(Shutdown::Write);
        });
        match fault {
            None => {
                std::io::copy(&mut docker, &mut client)?;
                client.shutdown(Shutdown::Write)?;
                // What was sent has to arrive before the connection goes.
                wait_for_end(&mut client)
            }
            Some(Fault::CutsTheBody) => {
                let (head, body) = read_head(&mut docker)?;
                client.write_all(head.as_bytes())?;
                client.write_all(&body[..body.len() / 2])?;
                client.shutdown(Shutdown::Both)
            }
            Some(Fault::AnswersInstead(status, message)) => {
                read_head(&mut docker)?;
                answer(&mut client, status, message)
            }
            Some(_) => {
                // The answer is there, so what was asked for is done; nobody learns of it.
                read_head(&mut docker)?;
                self.met.lock().unwrap().push(format!("held {request}"));
                wait_for_end(&mut client)
            }
        }
    }

    /// Notes an open connection for as long as the answer lives.
    fn opened(&self, stream: &UnixStream) -> std::io::Result<Open<'_>> {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        self.open.lock().unwrap().insert(number, stream.try_clone()?);
        Ok(Open { shared: self, number })
    }

    fn fault_for(&self, request: &str) -> Option<Fault> {
        let (method, path) = request.split_once(' ')?;
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|it| it.times > 0 && it.method == method && path.contains(it.path))?;
        rule.times = rule.times.saturating_sub(1);
        self.met.lock().unwrap().push(request.to_owned());
        Some(rule.fault)
    }
}

/// The head of a message with its empty line, and what came behind it.
fn read_head(stream: &mut UnixStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
    }
}

fn close_afterwards(head: &str) -> String {
    let lines = head.trim_end().split("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:"));
    format!("{}\r\nConnection: close\r\n\r\n", lines.collect::<Vec<_>>().join("\r\n"))
}

fn answer(client: &mut UnixStream, status: u16, message: &str) -> std::io::Result<()> {
    let body = format!("{{\"message\":\"{message}\"}}");
    let length = body.len();
    let body = if status == 204 { String::new() } else { body };
    let head = format!(
        "HTTP/1.1 {status} Planted\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    wait_for_end(client)
}

/// Until the other end gives up.
fn wait_for_end(client: &mut UnixStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while client.read(&mut buffer)? > 0 {}
    Ok(())
}
