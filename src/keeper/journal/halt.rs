//! For tests of crashes: at a chosen record the keeper stops as if it had been killed there, or its journal fails. Builds
//! without debug assertions have none of it, and the variable has to be set on purpose.

use std::io;

use nix::sys::signal::{Signal, raise};

/// `before:7` and `after:7` stop the whole process around the seventh record, `fail:7` fails from it on.
const VARIABLE: &str = "RECIPE_HARNESS_TEST_HALT";

/// What happens, and at which record, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    Before(usize),
    After(usize),
    FailFrom(usize),
}

/// What the environment asks for.
pub fn from_env() -> Option<Halt> {
    if !cfg!(debug_assertions) {
        return None;
    }
    parse(&std::env::var(VARIABLE).ok()?)
}

fn parse(text: &str) -> Option<Halt> {
    let (what, record) = text.split_once(':')?;
    let record = record.parse().ok()?;
    match what {
        "before" => Some(Halt::Before(record)),
        "after" => Some(Halt::After(record)),
        "fail" => Some(Halt::FailFrom(record)),
        _ => None,
    }
}

impl Halt {
    /// What comes before record `number` is written.
    pub fn before(self, number: usize) -> io::Result<()> {
        match self {
            Halt::Before(at) if at == number => stop(),
            Halt::FailFrom(at) if number >= at => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// What comes once it is.
    pub fn after(self, number: usize) -> io::Result<()> {
        match self {
            Halt::After(at) if at == number => stop(),
            _ => Ok(()),
        }
    }
}

/// Every thread stops: whoever set this up kills the process now, or lets it go on. The signal goes to this thread, which
/// then cannot return before it: one to the whole process may be taken by another thread, while this one goes on.
fn stop() -> io::Result<()> {
    Ok(raise(Signal::SIGSTOP)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_is_understood() {
        assert_eq!(parse("after:7"), Some(Halt::After(7)));
        assert_eq!(parse("7"), None);
        assert_eq!(parse("sometimes:7"), None);
    }

    #[test]
    fn a_journal_fails_from_its_record_on() {
        let halt = Halt::FailFrom(2);
        assert!(halt.before(1).is_ok() && halt.before(2).is_err() && halt.before(3).is_err());
    }
}
