//! For tests of crashes: at a chosen record the keeper stops as if it had been killed there, panics, hangs, or finds that
//! its journal fails. Builds without debug assertions have none of it, and the variable has to be set on purpose.

use std::io;

use nix::sys::signal::{Signal, raise};

use super::Event;

/// For a keeper: `before:7` and `after:7` stop the whole process around the seventh record, `fail:7` fails from it on, and
/// at `panic:7` whoever writes it panics. At `hang:teardown` the teardown hangs before its first record, and nothing else
/// does.
pub const KEEPER: &str = "RECIPE_HARNESS_TEST_HALT";
/// The same for a sweep.
pub const SWEEP: &str = "RECIPE_HARNESS_TEST_HALT_SWEEP";

/// What happens, and at which record, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    Before(usize),
    After(usize),
    FailFrom(usize),
    Panic(usize),
    HangTeardown,
}

/// What the environment asks for under this name.
pub fn from_env(variable: &str) -> Option<Halt> {
    if !cfg!(debug_assertions) {
        return None;
    }
    parse(&std::env::var(variable).ok()?)
}

fn parse(text: &str) -> Option<Halt> {
    if text == "hang:teardown" {
        return Some(Halt::HangTeardown);
    }
    let (what, record) = text.split_once(':')?;
    let record = record.parse().ok()?;
    match what {
        "before" => Some(Halt::Before(record)),
        "after" => Some(Halt::After(record)),
        "fail" => Some(Halt::FailFrom(record)),
        "panic" => Some(Halt::Panic(record)),
        _ => None,
    }
}

impl Halt {
    /// What comes before anything of an event is written, while others may still write.
    pub fn at(self, event: &Event) {
        if self == Halt::HangTeardown && matches!(event, Event::TeardownStarted { .. }) {
            // Only this task hangs: the others go on, on another thread.
            tokio::task::block_in_place(|| {
                loop {
                    std::thread::park();
                }
            });
        }
    }

    /// What comes before record `number` is written.
    pub fn before(self, number: usize) -> io::Result<()> {
        match self {
            Halt::Before(at) if at == number => stop(),
            Halt::Panic(at) if at == number => panic!("a panic that is planted at record {number}"),
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
        assert_eq!(parse("hang:teardown"), Some(Halt::HangTeardown));
        assert_eq!(parse("hang:7"), None);
        assert_eq!(parse("7"), None);
        assert_eq!(parse("sometimes:7"), None);
    }

    #[test]
    fn a_journal_fails_from_its_record_on() {
        let halt = Halt::FailFrom(2);
        assert!(halt.before(1).is_ok() && halt.before(2).is_err() && halt.before(3).is_err());
    }
}
