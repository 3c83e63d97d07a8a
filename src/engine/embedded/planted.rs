//! What planted faults need of this engine.

use std::fs;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::super::Kind;
use super::Embedded;

impl Embedded {
    /// Kills the newest running container of a service.
    pub fn kill(&self, service: &str) -> Result<()> {
        let container = self.core.read(|state| {
            let record = state.known(service)?;
            anyhow::Ok(record.running().find_map(|task| task.container.clone()))
        })?;
        container.with_context(|| format!("service `{service}` has no running container"))?.signal(Signal::KILL);
        Ok(())
    }

    /// Makes a volume that nobody will remove. Nothing else of this engine can outlive its pod.
    pub fn leave(&self, kind: Kind) -> Result<()> {
        let Kind::Volume = kind else { bail!("nothing of the kind `{kind}` outlives its pod here") };
        let dir = self.core.context.dir.join("volumes/left-behind");
        fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))
    }
}
