//! What is said when a keeper answers nothing any more: that it is gone, or that it lived, was silent, and was killed.

use std::sync::{Arc, OnceLock};

use crate::fault::{Failure, Fault};

/// How the failure begins of whoever waited for a keeper that is gone.
const SILENT: &str = "the keeper does not answer";

/// Why a keeper was given up, once it was; shared by everybody who waits for its answers.
#[derive(Clone, Default)]
pub struct Silence(Arc<OnceLock<String>>);

impl Silence {
    /// Gives the keeper up. Only the first reason counts: what comes after it is a consequence.
    pub fn because(&self, reason: String) {
        let _ = self.0.set(reason);
    }

    /// Why the keeper was given up, if it was.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// The failure of whoever waited for an answer and saw this error instead.
    pub fn failure(&self, seen: anyhow::Error) -> anyhow::Error {
        let cause = self.reason().map_or(seen, |reason| anyhow::anyhow!("{reason}"));
        Failure::harness(cause.context(SILENT)).into()
    }
}

/// Whether a failure is that of somebody who waited for a keeper that is gone.
pub fn is_behind(failure: &Failure) -> bool {
    let first = failure.message.lines().next().unwrap_or_default();
    failure.fault == Fault::Harness && first.contains(SILENT)
}

/// The same failure for whoever comes later: one line, which says where the whole stands.
pub fn as_told_by(trial: &str) -> Failure {
    let failure = Failure::new(Fault::Harness, format!("{SILENT}: see `{trial}`"));
    Failure::new(failure.fault, &failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn whoever_waits_hears_why_the_keeper_was_given_up_and_else_what_was_seen() {
        let silence = Silence::default();
        let shared = silence.clone();
        let trouble = "harness trouble, not the recipe's fault: the keeper does not answer: ";
        let seen = || anyhow!("it closed the connection");
        assert_eq!(shared.failure(seen()).to_string(), format!("{trouble}it closed the connection"));
        silence.because("it was killed".into());
        silence.because("something later".into());
        let failure = shared.failure(seen()).downcast::<Failure>().unwrap();
        assert!(is_behind(&failure) && is_behind(&as_told_by("tier::install")));
        assert!(!is_behind(&Failure::new(Fault::Recipe, &failure)) && !is_behind(&Failure::new(Fault::Harness, "x")));
        assert_eq!(as_told_by("tier::install").message, format!("{trouble}see `tier::install`"));
        assert_eq!(shared.failure(seen()).to_string(), format!("{trouble}it was killed"));
    }
}
