//! Whether a backup bot runs, without which the tiers backup and restore prove nothing.

use super::{SHORT, Step};

pub(super) const STEP: Step = Step {
    name: "backup bot",
    needs: &["swarm"],
    remedy: |_| "`abra app new backup-bot-two`, then `abra app deploy`".into(),
    deadline: SHORT,
    look: |patient| Box::pin(async { patient.host()?.backup_bot().await }),
};
