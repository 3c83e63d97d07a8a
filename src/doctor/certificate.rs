//! Whether Traefik answers for a name below the zone, and with a certificate that is good for it.

use super::domain::probe;
use super::{SHORT, Step};
use crate::http;

pub(super) const STEP: Step = Step {
    name: "certificate",
    needs: &["traefik", "domain"],
    remedy: |patient| {
        let zone = &patient.zone;
        format!(
            "a wildcard certificate for `*.{zone}` in Traefik; or `swarm.verify_certificates = false` in `harness.toml`"
        )
    },
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            let (name, https) = (probe(&patient.zone), &patient.https);
            let page = http::get(&format!("https://{name}"), &name, https, "/", SHORT * 2 / 3).await?;
            let how =
                if https.verify { "with a good certificate" } else { "with whatever certificate: none is verified" };
            Ok(format!("`{name}` answers {} {how}", page.status))
        })
    },
};
