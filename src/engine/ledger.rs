//! What a deployment creates, and where that is written down before it is there.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Where an engine records what it is about to create, before it does: the keeper's journal, or a test's.
pub trait Ledger: Send + Sync {
    /// Written and synced *before* the request that creates `name`; an error means that nothing may be created.
    fn creating(&self, kind: Kind, name: &str) -> Result<()>;
    /// The request was answered: `id` is what the engine calls the thing.
    fn created(&self, kind: Kind, name: &str, id: &str) -> Result<()>;
    /// The thing is gone.
    fn removed(&self, kind: Kind, name: &str) -> Result<()>;
}

/// Kinds of things a deployment creates and teardown has to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Service,
    Container,
    Network,
    Volume,
    Secret,
    Config,
    /// A process tree with its namespaces, as the embedded engine's pod.
    Process,
    Mount,
    /// What the kernel counts an app's processes in, under one name in every hierarchy.
    ControlGroup,
    /// A directory outside the deployment proper: a checkout, a snapshot.
    Directory,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Kind::Service => "service",
            Kind::Container => "container",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Secret => "secret",
            Kind::Config => "config",
            Kind::Process => "process",
            Kind::Mount => "mount",
            Kind::ControlGroup => "control group",
            Kind::Directory => "directory",
        };
        f.write_str(name)
    }
}
