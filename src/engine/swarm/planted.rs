//! What planted faults need of this engine.

use anyhow::{Context as _, Result, bail};
use bollard::models::{NetworkCreateRequest, SecretSpec, VolumeCreateRequest};
use bollard::query_parameters::KillContainerOptionsBuilder;
use data_encoding::BASE64;

use super::super::Kind;
use super::{Swarm, Trace, call, deploy};

impl Swarm {
    /// Kills the newest running container of a service.
    pub async fn kill(&self, service: &str) -> Result<()> {
        let target = call::find(&self.core, service).await?;
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = self.core.docker.kill_container(&target.container, Some(options)).await;
        killed.with_context(|| format!("failed to kill the container of task `{}`", target.task))
    }

    /// Creates a volume, secret or network of the stack that nobody will remove, and the trace that leads a sweep to it.
    pub async fn leave(&self, kind: Kind) -> Result<()> {
        let core = &self.core;
        let (stack, run_id, endpoint) =
            (core.context.stack.clone(), core.context.run_id.clone(), core.spec.endpoint.clone());
        Trace { stack, run_id, endpoint }.write(&core.context.dir)?;
        let (name, labels) = (format!("{}_left_behind", core.context.stack), Some(deploy::labels(core)));
        let docker = &core.docker;
        match kind {
            Kind::Volume => {
                let request = VolumeCreateRequest { name: Some(name), labels, ..VolumeCreateRequest::default() };
                docker.create_volume(request).await.map(drop).context("failed to create a volume")
            }
            Kind::Secret => {
                let data = Some(BASE64.encode(b"left behind"));
                let spec = SecretSpec { name: Some(name), labels, data, ..SecretSpec::default() };
                docker.create_secret(spec).await.map(drop).context("failed to create a secret")
            }
            Kind::Network => {
                let driver = Some("overlay".into());
                let request = NetworkCreateRequest { name, driver, labels, ..NetworkCreateRequest::default() };
                docker.create_network(request).await.map(drop).context("failed to create a network")
            }
            kind => bail!("nothing of the kind `{kind}` is left behind on purpose"),
        }
    }
}
