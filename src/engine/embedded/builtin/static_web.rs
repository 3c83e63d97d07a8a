//! `static-web`: a small web server for static files, with a few faults to order for testing the harness itself.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};

use super::{STANDS_IN_FOR, WEB_ROOT};

const USAGE: &str = "usage: static-web [--root DIR] [--port PORT] [--status CODE] [--crash-after TIME] [--print TEXT]";
/// A request's head is not longer than this.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_CONNECTIONS: usize = 256;
const IDLE: Duration = Duration::from_secs(15);
const TYPES: [(&str, &str); 16] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("ico", "image/x-icon"),
    ("woff2", "font/woff2"),
    ("pdf", "application/pdf"),
];

#[derive(Debug, PartialEq)]
struct Options {
    root: PathBuf,
    port: u16,
    /// Answer every request with this status.
    status: Option<u16>,
    /// End with code 1 after this time.
    crash_after: Option<Duration>,
    /// Print this line at the start.
    print: Option<String>,
}

pub fn main(args: &[String]) -> ExitCode {
    match options(args).and_then(serve) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("static-web: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options { root: WEB_ROOT.into(), port: 80, status: None, crash_after: None, print: None };
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let value = args.next().with_context(|| format!("`{option}` needs a value; {USAGE}"))?;
        let wrong = || format!("`{option} {value}` is not understood; {USAGE}");
        match option.as_str() {
            "--root" => options.root = value.into(),
            "--port" => options.port = value.parse().with_context(wrong)?,
            "--status" => options.status = Some(value.parse().with_context(wrong)?),
            "--crash-after" => options.crash_after = Some(humantime::parse_duration(value).with_context(wrong)?),
            "--print" => options.print = Some(value.clone()),
            _ => bail!("unknown option `{option}`; {USAGE}"),
        }
    }
    Ok(options)
}

/// Serves until a signal or the ordered crash.
fn serve(options: Options) -> Result<ExitCode> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT] {
        signals.add(signal);
    }
    // As pid 1 this process gets no signal that it does not ask for; every thread inherits the block.
    signals.thread_block().context("failed to block signals")?;
    let listener = TcpListener::bind(("::", options.port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", options.port)))
        .with_context(|| format!("failed to listen on port {}", options.port))?;
    if let Some(text) = &options.print {
        say(text);
    }
    say(&format!("static-web serves {} on port {}", options.root.display(), options.port));
    let crash_after = options.crash_after;
    let server = Arc::new(Server { options, identity: identity(), connections: AtomicUsize::new(0) });
    std::thread::spawn(move || accept(&listener, &server));
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn(move || stop.send(signals.wait()));
    let signal = match crash_after {
        None => stopped.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(time) => stopped.recv_timeout(time),
    };
    match signal {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(_) => {
            eprintln!("static-web: crashing as ordered");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn identity() -> String {
    let reference = std::env::var(STANDS_IN_FOR).unwrap_or_else(|_| "nothing".into());
    let reference: String = reference.chars().filter(|c| c.is_ascii_graphic()).collect();
    format!("static-web (built in; stands in for {reference})")
}

/// A line on standard output; whether anyone reads it is not the server's business.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

struct Server {
    options: Options,
    identity: String,
    connections: AtomicUsize,
}

fn accept(listener: &TcpListener, server: &Arc<Server>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if server.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            server.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let here = Arc::clone(server);
        let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            // A peer that hangs up in the middle is no event.
            let _ = here.talk(stream);
            here.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            server.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request's first line, and whether the connection stays open after it.
struct Request {
    method: String,
    target: String,
    line: String,
    keep_alive: bool,
}

/// The head and body of an answer.
struct Answer {
    status: u16,
    kind: &'static str,
    location: Option<String>,
    body: Body,
}

enum Body {
    Text(String),
    File(File, u64),
}

impl Server {
    fn talk(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        let peer = stream.peer_addr()?.ip().to_canonical();
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(request) = read_request(&mut reader)? {
            let answer = match &request {
                Ok(request) => self.answer(request),
                Err(reason) => text(400, reason),
            };
            let (line, keep_alive, head_only) = match &request {
                Ok(request) => (request.line.as_str(), request.keep_alive, request.method == "HEAD"),
                Err(_) => ("-", false, false),
            };
            let (status, length) = (answer.status, answer.body.length());
            self.write(&mut writer, answer, keep_alive, head_only)?;
            say(&format!("{peer} \"{line}\" {status} {length}"));
            if !keep_alive {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(status) = self.options.status {
            return text(status, "this server was told to answer so");
        }
        if request.method != "GET" && request.method != "HEAD" {
            return text(405, "only GET and HEAD are served");
        }
        let Some(path) = path_of(&request.target) else { return text(400, "a path that is not served") };
        let full = self.options.root.join(&path);
        if full.is_dir() && !request.target.split('?').next().unwrap_or_default().ends_with('/') {
            let location = format!("/{}/", path.display());
            return Answer { location: Some(location), ..text(301, "this is a directory") };
        }
        let full = if full.is_dir() { full.join("index.html") } else { full };
        match open(&full) {
            Ok((file, size)) => Answer { status: 200, kind: kind(&full), location: None, body: Body::File(file, size) },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => text(403, "forbidden"),
            Err(_) => text(404, "not found"),
        }
    }

    fn write(&self, writer: &mut TcpStream, answer: Answer, keep_alive: bool, head_only: bool) -> io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nServer: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n",
            answer.status,
            reason(answer.status),
            self.identity,
            answer.kind,
            answer.body.length(),
            if keep_alive { "keep-alive" } else { "close" },
        );
        if let Some(location) = answer.location {
            head.push_str(&format!("Location: {location}\r\n"));
        }
        head.push_str("\r\n");
        writer.write_all(head.as_bytes())?;
        match answer.body {
            _ if head_only => {}
            Body::Text(text) => writer.write_all(text.as_bytes())?,
            // A file that shrinks meanwhile breaks the promised length: the connection ends then.
            Body::File(file, size) => {
                if io::copy(&mut file.take(size), writer)? < size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        writer.flush()
    }
}

impl Body {
    fn length(&self) -> u64 {
        match self {
            Body::Text(text) => text.len() as u64,
            Body::File(_, size) => *size,
        }
    }
}

fn text(status: u16, text: &str) -> Answer {
    let body = Body::Text(format!("{status} {text}\n"));
    Answer { status, kind: "text/plain; charset=utf-8", location: None, body }
}

/// The next request; `None` when the peer is done, and a reason when it does not speak HTTP.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Result<Request, String>>> {
    let mut limited = reader.take(MAX_HEAD);
    let mut line = String::new();
    if limited.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let line = line.trim_end().to_owned();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(Some(Err("not a request line".into())));
    };
    let mut keep_alive = version == "HTTP/1.1";
    loop {
        let mut header = String::new();
        if limited.read_line(&mut header)? == 0 {
            return Ok(Some(Err("a head without end".into())));
        }
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("connection", "close")) => keep_alive = false,
            Some(("connection", "keep-alive")) => keep_alive = true,
            // A body would be read as the next request.
            Some(("content-length" | "transfer-encoding", value)) if value != "0" => keep_alive = false,
            _ if header.is_empty() => break,
            _ => {}
        }
    }
    Ok(Some(Ok(Request { method: method.into(), target: target.into(), line: line.clone(), keep_alive })))
}

/// The path of a request target below the root; `None` when it leads out of it or is not text.
fn path_of(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?;
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    let path = String::from_utf8(bytes).ok()?;
    let path = path.strip_prefix('/')?;
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let refused = path.contains('\0') || parts.clone().any(|part| part == "..");
    (!refused).then(|| parts.collect())
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn kind(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(extension));
    known.map_or("application/octet-stream", |(_, kind)| kind)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_never_lead_out() {
        assert_eq!(path_of("/a%20b//c/./d?x=../y").unwrap(), Path::new("a b/c/d"));
        assert_eq!(path_of("/").unwrap(), Path::new(""));
        for target in ["/../etc/passwd", "/a/%2e%2e/b", "/%00", "/%zz", "a", "http://elsewhere/", "/%ff"] {
            assert_eq!(path_of(target), None, "{target}");
        }
    }

    #[test]
    fn an_unknown_option_is_an_error_with_the_usage() {
        let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let known = options(&args(&["--status", "500", "--crash-after", "2s"])).unwrap();
        assert_eq!((known.status, known.crash_after, known.port), (Some(500), Some(Duration::from_secs(2)), 80));
        let error = options(&args(&["--colour", "red"])).unwrap_err().to_string();
        assert_eq!(error, format!("unknown option `--colour`; {USAGE}"));
    }
}
