//! Whose fault a failure is. A verdict that blames the recipe for a full disk is worth less than none.

use std::fmt;

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
