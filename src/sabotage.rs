//! Planted faults: each is put between the harness and the app, never into an assertion, and names the trials that must
//! turn red. A fault that turns none of them red has found a hole in the assertions.
//!
//! A new fault is one variant, one entry of [`Sabotage::facts`], and the place in `src/keeper/rig` that plants it.

pub mod docs;
pub mod drill;

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// The closed set of faults that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    NeverStarts,
    InstallsTheHead,
    InstallsAnotherImage,
    RouterAnswersForADeadApp,
    RouteIsCut,
    RouterNamesNothing,
    DatabaseLiesInTheLayer,
    ServiceFlaps,
    TimeOutIsSwallowed,
    SecretIsPrinted,
    RedeploysTheBase,
    StampsTheLabelOnly,
    DeploysTheOldImage,
    RollsBack,
    RollsBackAfterwards,
    DroppedServiceLivesOn,
    ServiceIsScaledAway,
    OldContainerAnswers,
    VolumeIsEmptied,
    MountIsMoved,
    UpgradeEmptiesFiles,
    DatabaseForgets,
    ExecFailsSilently,
    KeyIsNotTold,
    BackupLabelsAreGone,
    DumpIsStale,
    BackupStoresNothing,
    BackupLacksAVolume,
    RestoreDoesNothing,
    RestoresAnotherRun,
    AppWritesOverTheRestore,
    RestoreHookLoadsNothing,
    DeploysTwice,
    LeavesAVolume,
    LeavesASecret,
    LeavesANetwork,
}

/// What a fault is, and what it must turn red.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As `--sabotage` takes it.
    pub name: &'static str,
    /// What goes wrong, in one clause.
    pub what: &'static str,
    /// The trials that must fail; others may fail as well.
    pub red: &'static [&'static str],
    /// The last tier that is needed to see it.
    pub until: Tier,
}

impl Sabotage {
    pub const ALL: [Sabotage; 36] = [
        Sabotage::NeverStarts,
        Sabotage::InstallsTheHead,
        Sabotage::InstallsAnotherImage,
        Sabotage::RouterAnswersForADeadApp,
        Sabotage::RouteIsCut,
        Sabotage::RouterNamesNothing,
        Sabotage::DatabaseLiesInTheLayer,
        Sabotage::ServiceFlaps,
        Sabotage::TimeOutIsSwallowed,
        Sabotage::SecretIsPrinted,
        Sabotage::RedeploysTheBase,
        Sabotage::StampsTheLabelOnly,
        Sabotage::DeploysTheOldImage,
        Sabotage::RollsBack,
        Sabotage::RollsBackAfterwards,
        Sabotage::DroppedServiceLivesOn,
        Sabotage::ServiceIsScaledAway,
        Sabotage::OldContainerAnswers,
        Sabotage::VolumeIsEmptied,
        Sabotage::MountIsMoved,
        Sabotage::UpgradeEmptiesFiles,
        Sabotage::DatabaseForgets,
        Sabotage::ExecFailsSilently,
        Sabotage::KeyIsNotTold,
        Sabotage::BackupLabelsAreGone,
        Sabotage::DumpIsStale,
        Sabotage::BackupStoresNothing,
        Sabotage::BackupLacksAVolume,
        Sabotage::RestoreDoesNothing,
        Sabotage::RestoresAnotherRun,
        Sabotage::AppWritesOverTheRestore,
        Sabotage::RestoreHookLoadsNothing,
        Sabotage::DeploysTwice,
        Sabotage::LeavesAVolume,
        Sabotage::LeavesASecret,
        Sabotage::LeavesANetwork,
    ];

    /// The entry of this fault.
    pub fn facts(self) -> Facts {
        let entry = |name, what, red, until| Facts { name, what, red, until };
        match self {
            Sabotage::NeverStarts => {
                entry("never-starts", "the app's program is not there", &["tier::install"], Tier::Install)
            }
            Sabotage::InstallsTheHead => entry(
                "installs-the-head",
                "install deploys the head where the base was asked for",
                &["generic::install::deployed_what_was_asked_for"],
                Tier::Upgrade,
            ),
            Sabotage::InstallsAnotherImage => entry(
                "installs-another-image",
                "install deploys the head's image under the base's labels",
                &["generic::install::images_match_the_compose_files"],
                Tier::Upgrade,
            ),
            Sabotage::RouterAnswersForADeadApp => entry(
                "router-answers-for-a-dead-app",
                "nothing of the app runs, and the router answers 200 in its place",
                &["generic::install::services_are_stable"],
                Tier::Install,
            ),
            Sabotage::RouteIsCut => entry(
                "route-is-cut",
                "the app runs, and its address leads nowhere",
                &[
                    "generic::install::answers_over_http",
                    "generic::upgrade::answers_over_http",
                    "generic::backup::answers_over_http",
                    "generic::restore::answers_over_http",
                ],
                Tier::Restore,
            ),
            Sabotage::RouterNamesNothing => entry(
                "router-names-nothing",
                "the app is deployed with a router whose middleware nobody defines",
                &["generic::install::route_leads_to_the_app", "generic::upgrade::route_leads_to_the_app"],
                Tier::Upgrade,
            ),
            Sabotage::DatabaseLiesInTheLayer => entry(
                "database-lies-in-the-layer",
                "the app has its database in its container's own layer, beside every volume",
                &["generic::install::data_is_in_volumes", "generic::upgrade::data_is_in_volumes"],
                Tier::Upgrade,
            ),
            Sabotage::ServiceFlaps => entry(
                "service-flaps",
                "the app's container is killed after every operation, and comes back",
                &[
                    "generic::install::services_are_stable",
                    "generic::upgrade::services_are_stable",
                    "generic::backup::services_are_stable",
                    "generic::restore::services_are_stable",
                    "generic::custom::services_are_stable",
                ],
                Tier::Custom,
            ),
            Sabotage::TimeOutIsSwallowed => entry(
                "time-out-is-swallowed",
                "every operation runs out of time, and goes on as if it had not",
                &[
                    "generic::install::within_budget",
                    "generic::upgrade::within_budget",
                    "generic::backup::within_budget",
                    "generic::restore::within_budget",
                ],
                Tier::Restore,
            ),
            Sabotage::SecretIsPrinted => entry(
                "secret-is-printed",
                "the log shows a secret's value",
                &["generic::install::no_secret_in_the_logs", "generic::custom::no_secret_in_the_logs"],
                Tier::Custom,
            ),
            Sabotage::RedeploysTheBase => entry(
                "redeploys-the-base",
                "the upgrade deploys the stale base once more",
                &["generic::upgrade::deployed_head"],
                Tier::Upgrade,
            ),
            Sabotage::StampsTheLabelOnly => entry(
                "stamps-the-label-only",
                "the head's commit is put on the deployment, and the base goes on running",
                &["generic::upgrade::images_match_the_head"],
                Tier::Upgrade,
            ),
            Sabotage::DeploysTheOldImage => entry(
                "deploys-the-old-image",
                "the head is deployed with the base's image",
                &["generic::upgrade::images_match_the_head"],
                Tier::Upgrade,
            ),
            Sabotage::RollsBack => entry(
                "rolls-back",
                "the head's program fails, and the update is rolled back to healthy tasks of the base",
                &["tier::upgrade"],
                Tier::Upgrade,
            ),
            Sabotage::RollsBackAfterwards => entry(
                "rolls-back-afterwards",
                "once the upgrade has converged, another update comes and is rolled back",
                &["generic::upgrade::update_was_not_rolled_back"],
                Tier::Upgrade,
            ),
            Sabotage::DroppedServiceLivesOn => entry(
                "dropped-service-lives-on",
                "install deploys one more service, which the head does not have",
                &["generic::upgrade::no_dropped_service_runs"],
                Tier::Upgrade,
            ),
            Sabotage::ServiceIsScaledAway => entry(
                "service-is-scaled-away",
                "the upgrade leaves no task of the last service",
                &["generic::upgrade::services_still_run"],
                Tier::Upgrade,
            ),
            Sabotage::OldContainerAnswers => entry(
                "old-container-answers",
                "a container of the base outlives the upgrade, and the address leads to it",
                &["generic::upgrade::no_old_task_runs"],
                Tier::Upgrade,
            ),
            Sabotage::VolumeIsEmptied => entry(
                "volume-is-emptied",
                "the upgrade mounts a new volume in the place of the old one",
                &["generic::upgrade::volumes_are_kept"],
                Tier::Upgrade,
            ),
            Sabotage::MountIsMoved => entry(
                "mount-is-moved",
                "the upgrade mounts every volume beside the place where it was, and the app begins afresh in its layer",
                &["generic::upgrade::mounts_are_kept"],
                Tier::Upgrade,
            ),
            Sabotage::UpgradeEmptiesFiles => entry(
                "upgrade-empties-files",
                "the upgrade empties every file that the app has stored",
                &["generic::upgrade::stored_data_is_kept"],
                Tier::Upgrade,
            ),
            Sabotage::DatabaseForgets => entry(
                "database-forgets",
                "the upgrade keeps every file of the app's databases, and a table of them is gone",
                &["generic::upgrade::databases_are_kept"],
                Tier::Upgrade,
            ),
            Sabotage::ExecFailsSilently => entry(
                "exec-fails-silently",
                "no command is run in any container, and each is said to have succeeded without output",
                &["tier::backup"],
                Tier::Backup,
            ),
            Sabotage::KeyIsNotTold => entry(
                "key-is-not-told",
                "the head needs a key that no installed app has, and tells nobody",
                &["generic::upgrade::new_settings_are_told"],
                Tier::Upgrade,
            ),
            Sabotage::BackupLabelsAreGone => entry(
                "backup-labels-are-gone",
                "the upgrade deploys the head without its backup labels",
                &["generic::upgrade::backup_covers_what_it_did"],
                Tier::Upgrade,
            ),
            Sabotage::DumpIsStale => entry(
                "dump-is-stale",
                "a dump of an earlier time lies there, and the hook writes none",
                &["generic::backup::dumps_are_new_and_whole"],
                Tier::Backup,
            ),
            Sabotage::BackupStoresNothing => entry(
                "backup-stores-nothing",
                "the archives of the backup are empty",
                &["generic::backup::snapshot_holds_every_volume"],
                Tier::Backup,
            ),
            Sabotage::BackupLacksAVolume => entry(
                "backup-lacks-a-volume",
                "the backup stores every volume but the last",
                &["generic::backup::snapshot_holds_every_volume"],
                Tier::Backup,
            ),
            Sabotage::RestoreDoesNothing => entry(
                "restore-does-nothing",
                "the restore reports success and changes nothing",
                &["generic::restore::changes_since_the_backup_are_undone"],
                Tier::Restore,
            ),
            Sabotage::RestoresAnotherRun => entry(
                "restores-another-run",
                "what the restore brings back is of another run's snapshot",
                &["generic::restore::changes_since_the_backup_are_undone"],
                Tier::Restore,
            ),
            Sabotage::AppWritesOverTheRestore => entry(
                "app-writes-over-the-restore",
                "a moment after the restore the app writes what it remembers over the restored files",
                &["generic::restore::changes_since_the_backup_are_undone"],
                Tier::Restore,
            ),
            Sabotage::RestoreHookLoadsNothing => entry(
                "restore-hook-loads-nothing",
                "the dump is back in its volume, and the hook that should load it reports success and loads nothing",
                &["generic::restore::databases_are_restored"],
                Tier::Restore,
            ),
            Sabotage::DeploysTwice => entry(
                "deploys-twice",
                "the upgrade creates the app a second time, instead of updating it in place",
                &["tier::teardown"],
                Tier::Upgrade,
            ),
            Sabotage::LeavesAVolume => {
                entry("leaves-a-volume", "teardown leaves a volume", &["tier::teardown"], Tier::Install)
            }
            Sabotage::LeavesASecret => {
                entry("leaves-a-secret", "teardown leaves a secret", &["tier::teardown"], Tier::Install)
            }
            Sabotage::LeavesANetwork => {
                entry("leaves-a-network", "teardown leaves a network", &["tier::teardown"], Tier::Install)
            }
        }
    }

    pub fn name(self) -> &'static str {
        self.facts().name
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sabotage {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Sabotage::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Sabotage::ALL.iter().map(|it| it.name()).collect();
            anyhow!("`--sabotage {}` names no planted fault: there are {}", text.escape_debug(), names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_something_to_turn_red() {
        let mut names: Vec<&str> = Sabotage::ALL.iter().map(|it| it.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Sabotage::ALL.len());
        for sabotage in Sabotage::ALL {
            assert!(!sabotage.facts().red.is_empty(), "{sabotage}");
            assert_eq!(serde_json::to_value(sabotage).unwrap(), sabotage.name(), "one name everywhere");
            assert_eq!(sabotage.name().parse::<Sabotage>().unwrap(), sabotage);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "restore-nothing".parse::<Sabotage>().unwrap_err().to_string();
        assert!(error.starts_with("`--sabotage restore-nothing` names no planted fault: there are never-starts, "));
    }
}
