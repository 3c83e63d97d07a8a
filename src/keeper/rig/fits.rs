//! Where a fault cannot be planted: a recipe without secrets prints none.

use std::collections::BTreeSet;

use crate::engine::EngineSpec;
use crate::keeper::databases;
use crate::keeper::spec::RunSpec;
use crate::recipe::abra::APP;
use crate::recipe::backup::BackupPlan;
use crate::sabotage::Sabotage;
use crate::tier::Tier;

/// Why the run's fault cannot be planted in it; `None` when it can, or there is none.
pub fn cannot_be_planted(spec: &RunSpec) -> Option<String> {
    let sabotage = spec.sabotage?;
    let operates = |tier| spec.plan.step(tier).is_some() && spec.plan.skip(tier).is_none();
    if let Some(tier) = Tier::ALL.into_iter().find(|tier| *tier <= sabotage.facts().until && !operates(*tier)) {
        return Some(format!("the run has no tier `{tier}`, which is needed to see it"));
    }
    let is_abra = matches!(spec.engine, EngineSpec::Abra(_));
    match sabotage {
        _ if is_abra && changes_the_deployment(sabotage) => {
            Some("abra reads what it deploys from the recipe itself: use `--engine swarm`".into())
        }
        Sabotage::InstallsTheHead => needs_secrets_of_its_own(spec),
        Sabotage::InstallsAnotherImage | Sabotage::StampsTheLabelOnly | Sabotage::DeploysTheOldImage => {
            let image = |state: &crate::recipe::AppState| state.stack.services.get(APP).map(|app| app.image.clone());
            let same = spec.base.as_ref().and_then(image) == image(&spec.head);
            same.then(|| "base and head run the same image in service `app`".into())
        }
        Sabotage::SecretIsPrinted if spec.head.stack.own_secrets().next().is_none() => {
            Some("the recipe has no secret".into())
        }
        Sabotage::VolumeIsEmptied | Sabotage::MountIsMoved | Sabotage::UpgradeEmptiesFiles
            if spec.head.stack.volumes.is_empty() =>
        {
            Some("the recipe has no volume".into())
        }
        Sabotage::RouterAnswersForADeadApp
        | Sabotage::RouteIsCut
        | Sabotage::RouterNamesNothing
        | Sabotage::OldContainerAnswers => spec.head.route.as_ref().err().cloned(),
        Sabotage::ExecFailsSilently | Sabotage::DumpIsStale if is_abra => Some("abra's bot runs the hooks".into()),
        Sabotage::DatabaseForgets if !has_server(spec) => Some(NO_DATABASE.into()),
        Sabotage::RestoreHookLoadsNothing if is_abra => Some("abra's bot runs the hooks".into()),
        Sabotage::RestoreHookLoadsNothing if !has_server(spec) => Some(NO_DATABASE.into()),
        Sabotage::RestoreHookLoadsNothing => {
            let hooked = spec.head.backup.services.iter().any(|it| it.restore_post_hook.is_some());
            (!hooked).then(|| "no hook loads anything after a restore".into())
        }
        Sabotage::BackupLabelsAreGone if spec.base.as_ref().is_none_or(|base| base.backup.services.is_empty()) => {
            Some("the base has no backup labels".into())
        }
        Sabotage::AppWritesOverTheRestore if !whole(&spec.head.backup) => {
            Some("the labels put no whole volume into the snapshot".into())
        }
        Sabotage::ExecFailsSilently | Sabotage::DumpIsStale => {
            let hooks = spec.head.backup.services.iter().any(|it| it.pre_hook.is_some()) && limited(&spec.head.backup);
            (!hooks).then(|| "no backup hook writes what the labels put into the snapshot".into())
        }
        Sabotage::BackupStoresNothing | Sabotage::BackupLacksAVolume if !whole(&spec.head.backup) => {
            Some("the labels put no whole volume into the snapshot, and an empty dump fails the backup itself".into())
        }
        Sabotage::BackupLacksAVolume if is_abra => Some("abra's bot stores the volumes".into()),
        Sabotage::BackupStoresNothing | Sabotage::RestoresAnotherRun if is_abra => {
            Some("abra's bot stores the volumes".into())
        }
        Sabotage::LeavesASecret | Sabotage::LeavesANetwork if matches!(spec.engine, EngineSpec::Embedded) => {
            Some("on the embedded engine they are part of the containers, and end with them".into())
        }
        _ => None,
    }
}

fn changes_the_deployment(sabotage: Sabotage) -> bool {
    use Sabotage::*;
    let changing: BTreeSet<Sabotage> = [
        NeverStarts,
        InstallsTheHead,
        InstallsAnotherImage,
        RouterAnswersForADeadApp,
        RedeploysTheBase,
        StampsTheLabelOnly,
        DeploysTheOldImage,
        RollsBack,
        RollsBackAfterwards,
        DroppedServiceLivesOn,
        OldContainerAnswers,
        VolumeIsEmptied,
        MountIsMoved,
        RouterNamesNothing,
        ServiceIsScaledAway,
        BackupLabelsAreGone,
    ]
    .into();
    changing.contains(&sabotage)
}

const NO_DATABASE: &str = "the recipe has no database server that is known before it runs";

fn has_server(spec: &RunSpec) -> bool {
    databases::has_server(&spec.head.stack)
}

fn needs_secrets_of_its_own(spec: &RunSpec) -> Option<String> {
    let base = spec.base.as_ref()?;
    let new = spec.head.stack.secrets.keys().find(|key| !base.stack.secrets.contains_key(*key))?;
    Some(format!("the head has a secret `{new}` that the base has not"))
}

fn whole(plan: &BackupPlan) -> bool {
    plan.services.iter().flat_map(|it| &it.volumes).any(|volume| volume.paths.is_empty())
}

fn limited(plan: &BackupPlan) -> bool {
    plan.services.iter().flat_map(|it| &it.volumes).any(|volume| !volume.paths.is_empty())
}
