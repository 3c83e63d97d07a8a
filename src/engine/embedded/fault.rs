//! What goes wrong inside the pod: at which step, with which system error, in which words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of bringing a pod or a container up that a locked-down host is known to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    UserNamespace,
    IdMap,
    Executable,
    Namespaces,
    Network,
    MountProc,
    Root,
    Mounts,
    User,
    Program,
    Process,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::UserNamespace => "failed to create a user namespace",
            Step::IdMap => "failed to write the id map",
            Step::Executable => "failed to shield the harness's own executable",
            Step::Namespaces => "failed to create namespaces",
            Step::Network => "failed to set up the network",
            Step::MountProc => "failed to mount `/proc`",
            Step::Root => "failed to make the root file system",
            Step::Mounts => "failed to mount into the container",
            Step::User => "failed to become the user",
            Step::Program => "failed to run the program",
            Step::Process => "failed to start a process",
        })
    }
}

/// An error that crossed the process boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub step: Option<Step>,
    pub errno: Option<i32>,
    /// The whole chain of causes.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl From<&anyhow::Error> for Fault {
    fn from(error: &anyhow::Error) -> Fault {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Fault { text: format!("{error:#}"), ..fault.clone() };
        }
        Fault { step: error.downcast_ref::<Step>().copied(), errno: errno(error), text: format!("{error:#}") }
    }
}

/// The system error at the root of a chain, whichever crate wrapped it.
pub fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let nix = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
        let rustix = cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error());
        io.or(nix).or(rustix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn step_and_errno_survive_further_context() {
        let refused: Result<(), _> = Err(nix::errno::Errno::EPERM);
        let error = refused.context(Step::MountProc).context("failed to start the pod").unwrap_err();
        let fault = Fault::from(&error);
        assert_eq!((fault.step, fault.errno), (Some(Step::MountProc), Some(1)));
        assert_eq!(fault.text, "failed to start the pod: failed to mount `/proc`: EPERM: Operation not permitted");
    }
}
