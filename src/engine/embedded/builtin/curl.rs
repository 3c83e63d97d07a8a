//! `curl`: as much of it as the health checks of recipes need.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const MAX_REDIRECTS: usize = 10;

#[derive(Debug, Default, PartialEq)]
struct Options {
    url: String,
    fail: bool,
    silent: bool,
    show_error: bool,
    follow: bool,
    head: bool,
    output: Option<String>,
    max_time: Option<Duration>,
}

/// An exit code of the real curl, with what it says.
#[derive(Debug, PartialEq)]
struct Failure(u8, String);

pub fn main(args: &[String]) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(failure) => return complain(&failure, true),
    };
    match fetch(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure, !options.silent || options.show_error),
    }
}

fn complain(failure: &Failure, loud: bool) -> ExitCode {
    if loud {
        eprintln!("curl: ({}) {}", failure.0, failure.1);
    }
    ExitCode::from(failure.0)
}

fn options(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if let Some(name) = arg.strip_prefix("--") {
            let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            long(&mut options, name, value.map(str::to_owned), &mut args)?;
        } else if let Some(letters) = arg.strip_prefix('-') {
            for (place, letter) in letters.char_indices() {
                let rest = &letters[place + 1..];
                let rest = (!rest.is_empty()).then(|| rest.to_owned());
                if short(&mut options, letter, rest, &mut args)? {
                    break;
                }
            }
        } else {
            options.url.clone_from(arg);
        }
    }
    if options.url.is_empty() {
        return Err(Failure(2, "no URL specified".into()));
    }
    Ok(options)
}

type Args<'a> = std::slice::Iter<'a, String>;

fn long(options: &mut Options, name: &str, value: Option<String>, args: &mut Args<'_>) -> Result<(), Failure> {
    let letter = match name {
        "fail" => 'f',
        "silent" => 's',
        "show-error" => 'S',
        "location" => 'L',
        "insecure" => 'k',
        "head" => 'I',
        "output" => 'o',
        "max-time" | "connect-timeout" => 'm',
        _ => return Err(unknown(&format!("--{name}"))),
    };
    short(options, letter, value, args).map(drop)
}

/// Applies one option; true when it took `value`.
fn short(options: &mut Options, letter: char, value: Option<String>, args: &mut Args<'_>) -> Result<bool, Failure> {
    match letter {
        'f' => options.fail = true,
        's' => options.silent = true,
        'S' => options.show_error = true,
        'L' => options.follow = true,
        'I' => options.head = true,
        'k' => {}
        'o' | 'm' => {
            let value = value.or_else(|| args.next().cloned());
            let value = value.ok_or_else(|| Failure(2, format!("option -{letter}: requires parameter")))?;
            if letter == 'o' {
                options.output = Some(value);
            } else {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                options.max_time = Some(seconds.ok_or_else(|| Failure(2, format!("`{value}` is not a time")))?);
            }
            return Ok(true);
        }
        _ => return Err(unknown(&format!("-{letter}"))),
    }
    Ok(false)
}

fn unknown(option: &str) -> Failure {
    Failure(2, format!("option {option}: is not known to the built-in curl"))
}

fn fetch(options: &Options) -> Result<(), Failure> {
    let deadline = options.max_time.map(|time| Instant::now() + time);
    let mut url = options.url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (host, port, path) = split(&url)?;
        let mut answer = ask(options, &host, port, &path, deadline)?;
        match answer.location.take().filter(|_| options.follow && (300..400).contains(&answer.status)) {
            Some(location) if location.starts_with('/') => url = format!("http://{host}:{port}{location}"),
            Some(location) => url = location,
            None if options.fail && answer.status >= 400 => {
                return Err(Failure(22, format!("The requested URL returned error: {}", answer.status)));
            }
            None => return deliver(options, answer),
        }
    }
    Err(Failure(47, "Maximum redirects followed".into()))
}

/// Host, port and path of an address; plain HTTP only.
fn split(url: &str) -> Result<(String, u16, String), Failure> {
    if url.starts_with("https://") {
        return Err(Failure(1, "Protocol \"https\" not supported by the built-in curl".into()));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (place, Some(80)),
    };
    match (host, port) {
        ("", _) | (_, None) => Err(Failure(3, format!("URL rejected: `{url}`"))),
        (host, Some(port)) => {
            let path = if path.is_empty() { "/" } else { path };
            Ok((host.trim_matches(['[', ']']).to_owned(), port, path.to_owned()))
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    location: Option<String>,
    body: BufReader<TcpStream>,
}

fn ask(options: &Options, host: &str, port: u16, path: &str, deadline: Option<Instant>) -> Result<Answer, Failure> {
    let late = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure(28, "Operation timed out".into()),
        _ => Failure(56, format!("Recv failure: {error}")),
    };
    let stream = connect(host, port, deadline)?;
    let left = deadline.map(left_until);
    stream.set_read_timeout(left).and_then(|()| stream.set_write_timeout(left)).map_err(late)?;
    let method = if options.head { "HEAD" } else { "GET" };
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: curl (built in)\r\n\r\n");
    (&stream).write_all(head.as_bytes()).map_err(late)?;
    let mut body = BufReader::new(stream);
    let mut head = String::new();
    let mut location = None;
    loop {
        let mut line = String::new();
        if (&mut body).take(16 * 1024).read_line(&mut line).map_err(late)? == 0 {
            return Err(Failure(52, "Empty reply from server".into()));
        }
        head.push_str(&line);
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("location")) {
            location = Some(value.trim().to_owned());
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Failure(1, "Received HTTP/0.9 when not allowed".into()))?;
    Ok(Answer { status, head, location, body })
}

fn connect(host: &str, port: u16, deadline: Option<Instant>) -> Result<TcpStream, Failure> {
    let addresses = (host, port).to_socket_addrs();
    let addresses = addresses.map_err(|_| Failure(6, format!("Could not resolve host: {host}")))?;
    let mut last = Failure(6, format!("Could not resolve host: {host}"));
    for address in addresses {
        let connected = match deadline {
            Some(deadline) => TcpStream::connect_timeout(&address, left_until(deadline)),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                last = Failure(28, format!("Failed to connect to {host} port {port}: timed out"));
            }
            Err(_) => last = Failure(7, format!("Failed to connect to {host} port {port}: Couldn't connect to server")),
        }
    }
    Err(last)
}

/// The time left, but never zero, which would mean for ever.
fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn deliver(options: &Options, mut answer: Answer) -> Result<(), Failure> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure(28, "Operation timed out".into()),
        _ => Failure(23, format!("Failure writing output to destination: {error}")),
    };
    let mut output: Box<dyn Write> = match options.output.as_deref() {
        None | Some("-") => Box::new(io::stdout()),
        Some(path) => Box::new(File::options().write(true).create(true).truncate(true).open(path).map_err(cannot)?),
    };
    if options.head {
        return output.write_all(answer.head.as_bytes()).map_err(cannot);
    }
    io::copy(&mut answer.body, &mut output).and_then(|_| output.flush()).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Options, Failure> {
        options(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_options_of_recipes_health_checks_are_understood() {
        let options = check("-fsS -o/dev/null --max-time 2.5 http://localhost/").unwrap();
        assert!(options.fail && options.silent && options.show_error);
        assert_eq!(options.output.as_deref(), Some("/dev/null"));
        assert_eq!(options.max_time, Some(Duration::from_millis(2500)));
        assert_eq!(check("--fail localhost").unwrap().url, "localhost");
    }

    #[test]
    fn an_unknown_option_is_a_failure_and_not_ignored() {
        let failure = check("--data x http://localhost/").unwrap_err();
        assert_eq!(failure, Failure(2, "option --data: is not known to the built-in curl".into()));
    }

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(split("http://app:8080/x?y").unwrap(), ("app".into(), 8080, "/x?y".into()));
        assert_eq!(split("localhost").unwrap(), ("localhost".into(), 80, "/".into()));
        assert_eq!(split("http://[::1]:81/").unwrap(), ("::1".into(), 81, "/".into()));
        assert_eq!(split("http://:80/").unwrap_err().0, 3);
        assert_eq!(split("https://app/").unwrap_err().0, 1);
    }
}
