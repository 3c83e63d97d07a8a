//! Whether abra knows a server, and Docker the context of its name.

use super::{SHORT, Step};
use crate::engine::abra;

pub(super) const STEP: Step = Step {
    name: "server",
    needs: &["abra"],
    remedy: |_| {
        "`abra server add <domain>` makes one, `abra server add --local` makes this machine one; `--server` says which"
            .into()
    },
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            let server = abra::server(&patient.env, patient.server.as_deref())?;
            let endpoint = abra::endpoint(&patient.env, &server)?;
            let seen = format!("`{server}` at {} ({})", endpoint.host, endpoint.origin);
            (patient.server, patient.endpoint) = (Some(server), Some(endpoint));
            Ok(seen)
        })
    },
};
