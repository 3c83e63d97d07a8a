//! Whether a Traefik runs on that network.

use super::{SHORT, Step};

pub(super) const STEP: Step = Step {
    name: "traefik",
    needs: &["network"],
    remedy: |_| "`abra app new traefik`, then `abra app deploy`; `abra app logs` says why one does not run".into(),
    deadline: SHORT,
    look: |patient| Box::pin(async { patient.host()?.traefik(&patient.asked.network).await }),
};
