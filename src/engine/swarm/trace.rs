//! The small file by which a sweep finds what a run has left on a Swarm.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;

/// The file in the engine's directory that a sweep finds the stack by.
const TRACE: &str = "swarm.json";

/// What a sweep needs to know of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trace {
    pub stack: String,
    pub run_id: String,
    pub endpoint: Endpoint,
}

impl Trace {
    fn path(dir: &Path) -> PathBuf {
        dir.join(TRACE)
    }

    /// Writes and syncs the trace, before anything is created that it would have to lead to.
    pub fn write(&self, dir: &Path) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::DirBuilderExt as _;
        let path = Trace::path(dir);
        let write = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut file = std::fs::File::create(&path)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()
        };
        write().with_context(|| format!("failed to write `{}`", path.display()))
    }

    pub fn read(dir: &Path) -> Result<Option<Trace>> {
        let path = Trace::path(dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        };
        let trace: Trace =
            serde_json::from_slice(&bytes).with_context(|| format!("failed to understand `{}`", path.display()))?;
        // A stack without a name would be every stack.
        if trace.stack.is_empty() {
            bail!("`{}` names no stack", path.display());
        }
        Ok(Some(trace))
    }

    pub fn forget(dir: &Path) -> Result<()> {
        match std::fs::remove_file(Trace::path(dir)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("failed to remove the trace of the stack")
            }
            _ => Ok(()),
        }
    }
}
