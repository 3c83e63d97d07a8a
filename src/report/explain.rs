//! What a failed assertion shows beside its own words: the last log lines of the services it is about.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::Session;
use crate::keeper::protocol::{Answer, Call};

/// Log lines shown of each service.
const TAIL: usize = 8;
/// So many are looked at for them: most of an access log is the harness's own.
const LOOKED_AT: usize = 200;
/// An explanation may not hold up the verdict.
const LIMIT: Duration = Duration::from_secs(5);

/// The log tails of the services that a message names in backticks, else of `app`, as an appendix.
pub async fn logs(session: &Session, message: &str) -> String {
    if message.contains("last log lines of service") {
        return String::new();
    }
    match tokio::time::timeout(LIMIT, collect(session, message)).await {
        Ok(text) => text,
        Err(_) => "\nthe logs could not be read in time".into(),
    }
}

async fn collect(session: &Session, message: &str) -> String {
    let states = session.spec.base.iter().chain([&session.spec.head]);
    let known: BTreeSet<&String> = states.flat_map(|state| state.stack.services.keys()).collect();
    let mut about: Vec<&str> =
        known.iter().filter(|name| message.contains(&format!("`{name}`"))).map(|it| it.as_str()).collect();
    if about.is_empty() {
        about.extend(known.iter().find(|name| **name == "app").map(|it| it.as_str()));
    }
    let mut text = String::new();
    for service in about {
        text.push_str(&tail(session, service).await);
    }
    text
}

async fn tail(session: &Session, service: &str) -> String {
    match session.ask(&Call::Logs { service: service.to_owned(), tail: Some(LOOKED_AT) }).await {
        Ok(Answer::Logs(lines)) if lines.is_empty() => format!("\nservice `{service}` has logged nothing"),
        Ok(Answer::Logs(lines)) => {
            let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let said = telling(&lines, &paths(session, service));
            if said.is_empty() {
                return format!(
                    "\nservice `{service}` has logged nothing but good answers to the harness and its health check"
                );
            }
            let said: String = said.iter().map(|line| format!("\n  {line}")).collect();
            format!("\nlast log lines of service `{service}`:{said}")
        }
        Ok(Answer::Failed(failure)) => format!("\nthe log of service `{service}` could not be read: {failure}"),
        Ok(_) => String::new(),
        Err(error) => format!("\nthe log of service `{service}` could not be read: {error:#}"),
    }
}

/// The paths that the harness and the service's health check ask for.
fn paths(session: &Session, service: &str) -> Vec<String> {
    let stack = &session.spec.head.stack;
    let check = stack.services.get(service).map(|it| format!("{:?}", it.healthcheck)).unwrap_or_default();
    let path = |word: &str| {
        let (_, rest) = word.split_once("://")?;
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        Some(path.to_owned())
    };
    let words = check.split(|c: char| c.is_whitespace() || "\"'\\,;|&()[]".contains(c));
    let own = session.spec.settings.recipe_toml.http.path.clone();
    words.filter_map(path).chain([own]).collect()
}

/// The last lines that tell something: without good answers to requests for these paths, and what is said again and again
/// once.
fn telling<'a>(lines: &[&'a str], paths: &[String]) -> Vec<String> {
    let mut told: Vec<(&'a str, usize)> = Vec::new();
    for line in lines.iter().filter(|line| !paths.iter().any(|path| is_good_answer(line, path))) {
        match told.last_mut() {
            Some((last, count)) if last == line => *count += 1,
            _ => told.push((line, 1)),
        }
    }
    let said =
        |(line, count): &(&str, usize)| if *count > 1 { format!("{line} ({count} times)") } else { (*line).into() };
    told[told.len().saturating_sub(TAIL)..].iter().map(said).collect()
}

/// A line of an access log, as nearly every server writes it: `"GET /path HTTP/1.1" 200`.
fn is_good_answer(line: &str, path: &str) -> bool {
    let asked = ["GET", "HEAD"].iter().find_map(|method| line.split_once(&format!("{method} {path} HTTP/")));
    let status = asked.and_then(|(_, rest)| rest.split_once('"')?.1.split_whitespace().next()?.parse::<u16>().ok());
    status.is_some_and(|status| (200..400).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_harness_has_asked_for_itself_is_left_out() {
        let paths = ["/".to_owned(), "/health".into()];
        let own = "10.89.0.1 \"GET / HTTP/1.1\" 200 259";
        let check = "127.0.0.1 - - [26/Nov/2026:07:00:00 +0000] \"HEAD /health HTTP/1.1\" 302 0 \"-\" \"curl\"";
        let ill = "10.89.0.1 \"GET / HTTP/1.1\" 500 38";
        let other = "10.89.0.1 \"GET /other HTTP/1.1\" 200 1";
        assert_eq!(telling(&[own, check, own], &paths), Vec::<String>::new());
        assert_eq!(
            telling(&["started", own, ill, own, ill, other], &paths),
            ["started", &format!("{ill} (2 times)"), other]
        );
        let many: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(telling(&many, &paths).len(), TAIL);
        assert_eq!(telling(&many, &paths)[0], "line 12");
    }
}
