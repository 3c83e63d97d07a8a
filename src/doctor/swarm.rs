//! Whether the server is the manager of a Swarm.

use anyhow::Context as _;

use super::{SHORT, Step};
use crate::engine::swarm::host::Host;

pub(super) const STEP: Step = Step {
    name: "swarm",
    needs: &["server"],
    remedy: |_| {
        "see that Docker runs on the server and that this user may reach it; `docker swarm init` makes it a Swarm"
            .into()
    },
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            let endpoint = patient.endpoint.clone().context("no server was found")?;
            let (host, checked) = Host::connect(endpoint).await?;
            let mut seen = format!("a manager, {}", host.version().await?);
            checked.notes.iter().for_each(|note| seen.push_str(&format!("; {note}")));
            patient.host = Some(host);
            Ok(seen)
        })
    },
};
