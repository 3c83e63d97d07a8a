//! Whose fault a failure is. A verdict that blames the recipe for a full disk is worth less than none.

use std::fmt;

use anyhow::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The recipe under test does not do what it must.
    Recipe,
    /// An assertion or hook of this repository is wrong: it panicked, hung, or asked for what cannot be.
    Assertion,
    /// The machine, the network, a registry, a full disk.
    Infrastructure,
    /// A bug of the harness itself.
    Harness,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Recipe => "recipe",
            Fault::Assertion => "assertion",
            Fault::Infrastructure => "infrastructure",
            Fault::Harness => "harness",
        })
    }
}

/// A failure with its fault, as it travels from the keeper to a trial and into the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    pub fault: Fault,
    pub message: String,
}

impl Failure {
    pub fn new(fault: Fault, message: impl fmt::Display) -> Self {
        Failure { fault, message: message.to_string() }
    }

    /// The recipe's fault, with the error's whole chain of causes.
    pub fn recipe(error: anyhow::Error) -> Self {
        Failure::new(Fault::Recipe, format!("{error:#}"))
    }

    pub fn infrastructure(error: anyhow::Error) -> Self {
        Failure::new(Fault::Infrastructure, format!("{error:#}"))
    }

    pub fn harness(error: anyhow::Error) -> Self {
        Failure::new(Fault::Harness, format!("{error:#}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Recipe | Fault::Assertion => f.write_str(&self.message),
            fault => write!(f, "{fault} trouble, not the recipe's fault: {}", self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// What was asked for cannot be: the command line, the environment or `harness.toml` has to be written otherwise. It is
/// no failure of a run, because none is begun.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Says of an error who has to act, where that is known: next to what may go wrong. Whoever says it first is right,
/// because nobody further up knows better.
pub trait Blame<T> {
    fn blame(self, fault: Fault) -> Result<T>;
    fn usage(self) -> Result<T>;
}

impl<T> Blame<T> for Result<T> {
    fn blame(self, fault: Fault) -> Result<T> {
        self.map_err(|error| if is_blamed(&error) { error } else { Failure::new(fault, format!("{error:#}")).into() })
    }

    fn usage(self) -> Result<T> {
        self.map_err(|error| if is_blamed(&error) { error } else { Usage(format!("{error:#}")).into() })
    }
}

fn is_blamed(error: &Error) -> bool {
    error.is::<Failure>() || error.is::<Usage>()
}

/// The failure that an error is; `Err` of one of usage. One for which nobody was blamed is the harness's.
pub fn failure(error: Error) -> Result<Failure> {
    if error.is::<Usage>() {
        return Err(error);
    }
    Ok(match error.downcast_ref::<Failure>() {
        Some(failure) if failure.to_string() == error.to_string() => failure.clone(),
        // What stands around it says where it happened.
        Some(failure) => Failure::new(failure.fault, format!("{error:#}")),
        None => Failure::harness(error),
    })
}

/// What a task that ended early said: the text of its panic, or that it was cancelled.
pub fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload_text(&*payload),
        Err(error) => error.to_string(),
    }
}

/// The text of a panic.
pub fn payload_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, bail};

    use super::*;

    #[test]
    fn the_first_to_blame_is_right_and_nobody_blamed_is_the_harness() {
        let broken = || -> Result<()> { bail!("no key `services`") };
        let recipe = || broken().context("failed to read `compose.yml`").blame(Fault::Recipe);
        let failure = |result: Result<()>| super::failure(result.unwrap_err()).unwrap();
        let expected = Failure::new(Fault::Recipe, "failed to read `compose.yml`: no key `services`");
        assert_eq!(failure(recipe().blame(Fault::Infrastructure)), expected);
        assert_eq!(failure(recipe().usage()), expected);
        assert_eq!(failure(broken()).fault, Fault::Harness);
        let usage = super::failure(broken().usage().blame(Fault::Recipe).context("and more").unwrap_err());
        assert_eq!(format!("{:#}", usage.unwrap_err()), "and more: no key `services`");
    }
}
