//! The generic assertions once more, for `harness test`: under the same names as in a checkout's test executable.

#[path = "../../generic/backup.rs"]
mod backup;
#[path = "../../generic/custom.rs"]
mod custom;
#[path = "../../generic/install.rs"]
mod install;
#[path = "../../generic/restore.rs"]
mod restore;
#[path = "../../generic/upgrade.rs"]
mod upgrade;

harness::inventory::submit! {
    harness::assertion::GenericFolder {
        // It has to change with them and no more: so it is them.
        sources: concat!(
            include_str!("../../generic/backup.rs"),
            include_str!("../../generic/custom.rs"),
            include_str!("../../generic/install.rs"),
            include_str!("../../generic/restore.rs"),
            include_str!("../../generic/upgrade.rs"),
        ),
    }
}
