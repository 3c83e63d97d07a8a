//! Calls into a service's container: what is asked, what came back, and why nothing did.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::poll::Look;

/// A command to run inside a service's container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exec {
    pub service: String,
    pub argv: Vec<String>,
    /// Bytes for standard input; empty closes it at once.
    pub stdin: Vec<u8>,
    /// `uid`, `uid:gid` or a name; the container's own user by default.
    pub user: Option<String>,
    /// The command is killed after this time, and the call fails.
    pub deadline: Duration,
}

/// What a command answered. A failed command is an exit code with its output, never an error and never empty data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    /// 127: not found, 126: not executable, 128 plus the signal when killed.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Output beyond the engine's cap was dropped.
    pub truncated: bool,
    /// The task it ran in.
    pub task: String,
}

/// Why a call into a container could not be answered. Callers branch on it: only `Interrupted` is worth a retry.
#[derive(Debug)]
pub enum CallError {
    /// The container is being replaced, or stopped during the call; the partial output is in the message.
    Interrupted(anyhow::Error),
    /// There is no such file. Waiting will not bring it.
    NotFound(anyhow::Error),
    /// Anything else: no such service, a deadline, an engine failure.
    Failed(anyhow::Error),
}

/// Whether a call is made again: only while its container cycles.
pub fn again<T>(answer: Result<T, CallError>) -> anyhow::Result<Look<T>> {
    match answer {
        Ok(value) => Ok(Look::Ready(value)),
        Err(CallError::Interrupted(error)) => Ok(Look::NotYet(format!("{error:#}"))),
        Err(CallError::NotFound(error) | CallError::Failed(error)) => Err(error),
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Interrupted(error) | CallError::NotFound(error) | CallError::Failed(error) => {
                write!(f, "{error:#}")
            }
        }
    }
}

impl std::error::Error for CallError {}
