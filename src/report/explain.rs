//! What a failed assertion shows beside its own words: the last log lines of the services it is about.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::Session;
use crate::keeper::protocol::{Answer, Call};

/// Log lines shown of each service.
const TAIL: usize = 8;
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
    match session.ask(&Call::Logs { service: service.to_owned(), tail: Some(TAIL) }).await {
        Ok(Answer::Logs(lines)) if lines.is_empty() => format!("\nservice `{service}` has logged nothing"),
        Ok(Answer::Logs(lines)) => {
            let lines: String = lines.iter().map(|line| format!("\n  {}", line.text)).collect();
            format!("\nlast log lines of service `{service}`:{lines}")
        }
        Ok(Answer::Failed(failure)) => format!("\nthe log of service `{service}` could not be read: {failure}"),
        Ok(_) => String::new(),
        Err(error) => format!("\nthe log of service `{service}` could not be read: {error:#}"),
    }
}
