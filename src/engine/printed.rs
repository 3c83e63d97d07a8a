//! Secrets in what an app prints: in one line, or broken over several.
//!
//! Looked for while it is printed, or while a daemon hands it out, and never in what was kept of it: an app that prints its
//! secret and thirty megabytes after it has printed its secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::mask::Masks;

/// Secrets by name, each with all forms of its value.
pub type Secrets = Vec<(String, Masks)>;

/// A secret, and the 1-based line of a service's log in which it ends.
pub type Hit = (String, usize);

/// The end of what one stream of one task has printed: the beginning of a secret may stand there.
#[derive(Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// The secrets that end in this line, or in this piece of one.
    pub fn found<'a>(&mut self, secrets: &'a Secrets, line: &[u8]) -> Vec<&'a str> {
        let known = self.0.len();
        // Whoever breaks a text into lines also indents them.
        self.0.extend_from_slice(line.trim_ascii());
        let ends_here = |masks: &Masks| masks.finds_bytes(line) || masks.finds_behind(&self.0, known);
        let found = secrets.iter().filter(|(_, masks)| ends_here(masks)).map(|(name, _)| name.as_str()).collect();
        let longest = secrets.iter().map(|(_, masks)| masks.longest()).max().unwrap_or(1);
        let done = (self.0.len() + 1).saturating_sub(longest);
        self.0.drain(..done);
        found
    }
}

/// What a run's services have printed so far, for an engine through whose hands it goes.
#[derive(Default)]
pub struct Printed {
    secrets: Mutex<Secrets>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Default)]
struct Seen {
    lines: usize,
    hits: BTreeSet<Hit>,
}

impl Printed {
    /// From now on this value is looked for.
    pub fn watch(&self, name: &str, value: &str) -> Result<()> {
        let masks = Masks::new([value])?;
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.retain(|(known, _)| known != name);
        secrets.push((name.to_owned(), masks));
        Ok(())
    }

    /// A service has printed a line.
    pub fn line(&self, service: &str, tail: &mut Tail, line: &[u8]) {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let found = tail.found(&secrets, line);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(service.to_owned()).or_default();
        seen.lines += 1;
        seen.hits.extend(found.into_iter().map(|name| (name.to_owned(), seen.lines)));
    }

    /// Where a service has printed a secret.
    pub fn hits(&self, service: &str) -> Vec<Hit> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(service).map(|seen| seen.hits.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: &[&str]) -> Vec<Hit> {
        let printed = Printed::default();
        printed.watch("token", "correct-horse-battery").unwrap();
        let mut tail = Tail::default();
        lines.iter().for_each(|line| printed.line("app", &mut tail, line.as_bytes()));
        printed.hits("app")
    }

    #[test]
    fn a_secret_is_found_in_a_line_and_over_several_and_told_once() {
        let at = |line| vec![("token".to_owned(), line)];
        assert_eq!(printed(&["a", "the token is correct-horse-battery.", "b", "c"]), at(2));
        assert_eq!(printed(&["token: correct-", "  horse-", "  battery", "and more", "and more"]), at(3));
        assert_eq!(printed(&["c", "o", "r", "r", "ect-horse-battery"]), at(5));
        assert_eq!(printed(&["correct-horse", "battery"]), vec![]);
    }

    #[test]
    fn a_secret_is_found_however_much_comes_after_it() {
        let mut lines = vec!["correct-horse-battery"];
        lines.extend(["x"; 10_000]);
        assert_eq!(printed(&lines), [("token".to_owned(), 1)]);
    }
}
