//! A registry over a layout that fails on request.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Result;

use crate::fixture::Bench;

/// An answer. The body may be shorter than announced, and is left out of the answer to a `HEAD`.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many bytes of the body are sent before the connection is closed.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A request as the fault sees it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub authorization: Option<String>,
    pub host: String,
    /// How often this method and path were asked for before.
    pub repeated: usize,
}

/// Changes an answer, or leaves it as it is.
pub type Fault = dyn Fn(&Request, Answer) -> Answer + Send + Sync;

pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Serves the blobs of `bench` as repository `app`; the tag `1` is the manifest `digest`.
    pub fn start(
        bench: &Bench,
        digest: &str,
        fault: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static,
    ) -> Result<Fake> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (seen, closing) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let server =
            Server { blobs: bench.layout().join("blobs/sha256"), digest: digest.to_owned(), fault: Box::new(fault) };
        let mut fake =
            Fake { address: listener.local_addr()?, seen: seen.clone(), closing: closing.clone(), thread: None };
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closing.load(Ordering::SeqCst) {
                    break;
                }
                // A client that hangs up is its own business.
                let _ = server.serve(stream, &seen);
            }
        });
        fake.thread = Some(thread);
        Ok(fake)
    }

    pub fn reference(&self) -> String {
        format!("{}/app:1", self.address)
    }

    /// How often something of this path was asked for.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.seen.lock().expect("a lock");
        seen.iter().filter(|request| request.method == method && request.path.contains(path)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    blobs: std::path::PathBuf,
    digest: String,
    fault: Box<Fault>,
}

impl Server {
    fn serve(&self, mut stream: TcpStream, seen: &Mutex<Vec<Request>>) -> Result<()> {
        let request = read(&stream, seen)?;
        let answer = (self.fault)(&request, self.answer(&request));
        let mut head =
            format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())])?;
        }
        Ok(())
    }

    /// The answer of a registry in good health.
    fn answer(&self, request: &Request) -> Answer {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let digest = if name == "1" { &self.digest } else { name };
        let blob = fs::read(self.blobs.join(digest.trim_start_matches("sha256:")));
        match blob {
            _ if request.path == "/v2/" => Answer::new(200, "{}"),
            Ok(bytes) => Answer::new(200, bytes).header("Docker-Content-Digest", digest),
            Err(_) => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
        }
    }
}

fn read(stream: &TcpStream, seen: &Mutex<Vec<Request>>) -> Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut authorization, mut host) = (None, String::new());
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => authorization = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("host") => host = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    let mut seen = seen.lock().expect("a lock");
    let repeated = seen.iter().filter(|request| request.method == method && request.path == path).count();
    let request = Request { method, path, authorization, host, repeated };
    seen.push(request.clone());
    Ok(request)
}
