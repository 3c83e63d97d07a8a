//! Whether there is the network on which Traefik finds apps.

use super::{SHORT, Step};

pub(super) const STEP: Step = Step {
    name: "network",
    needs: &["swarm"],
    remedy: |patient| {
        let network = &patient.asked.network;
        format!(
            "`docker network create --driver overlay --subnet 10.64.0.0/16 {network}` on the server: a small subnet runs out; `--network` names another"
        )
    },
    deadline: SHORT,
    look: |patient| Box::pin(async { patient.host()?.network(&patient.asked.network).await }),
};
