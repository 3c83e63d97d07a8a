//! Whether there is an abra, and one that is known.

use super::{SHORT, Step};
use crate::engine::abra;

pub(super) const STEP: Step = Step {
    name: "abra",
    needs: &[],
    remedy: |_| "install abra, https://docs.coopcloud.tech/abra/install, and put it on `PATH`".into(),
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            let found = abra::program(&patient.env).await?;
            let mut seen = format!("`{}` says it is version {}", found.path.display(), found.version);
            found.warning().into_iter().for_each(|warning| seen.push_str(&format!("; {warning}")));
            Ok(seen)
        })
    },
};
