//! Deployments with a fault in them: in the typed stack and in the document behind it alike.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::STOWAWAY;
use crate::engine::Deployment;
use crate::recipe::AppState;
use crate::recipe::abra::APP;
use crate::recipe::stack::{FailureAction, Mode, MountKind, Service};
use crate::sabotage::Sabotage;

/// What is installed in the place of what should be.
pub fn install(sabotage: Sabotage, deployment: &Deployment, head: &AppState) -> Deployment {
    let mut deployment = deployment.clone();
    match sabotage {
        Sabotage::NeverStarts => broken(&deployment),
        Sabotage::InstallsTheHead => {
            deployment.stack = head.stack.clone().with_own_secrets();
            deployment.document = head.document.clone();
            deployment
        }
        Sabotage::InstallsAnotherImage => {
            with_image(deployment, head.stack.services.get(APP).map(|app| app.image.clone()))
        }
        Sabotage::RouterNamesNothing => with_lost_router(deployment),
        Sabotage::DroppedServiceLivesOn | Sabotage::OldContainerAnswers => with_stowaway(deployment),
        _ => deployment,
    }
}

/// What is deployed over the installed app in the place of the head.
pub fn upgrade(sabotage: Sabotage, head: &Deployment, installed: &Deployment) -> Deployment {
    match sabotage {
        Sabotage::RedeploysTheBase => installed.clone(),
        Sabotage::StampsTheLabelOnly => {
            let mut stamped = installed.clone();
            if let (Some(app), Some(new)) = (stamped.stack.services.get_mut(APP), head.stack.services.get(APP)) {
                app.deploy.labels.clone_from(&new.deploy.labels);
            }
            stamped
        }
        Sabotage::DeploysTheOldImage => {
            with_image(head.clone(), installed.stack.services.get(APP).map(|app| app.image.clone()))
        }
        Sabotage::RollsBack => broken(head),
        Sabotage::VolumeIsEmptied => with_new_volumes(head.clone()),
        Sabotage::RouterNamesNothing => with_lost_router(head.clone()),
        Sabotage::ServiceIsScaledAway => match head.stack.services.keys().next_back() {
            Some(last) => scaled_to_nothing(head, last),
            None => head.clone(),
        },
        Sabotage::BackupLabelsAreGone => without_backup_labels(head.clone()),
        Sabotage::MountIsMoved => with_moved_mounts(head.clone()),
        _ => head.clone(),
    }
}

/// The app's program is not there, and the engine is told to roll such an update back.
pub fn broken(deployment: &Deployment) -> Deployment {
    let mut deployment = deployment.clone();
    let program = "/harness/no-such-program";
    if let Some(app) = deployment.stack.services.get_mut(APP) {
        (app.entrypoint, app.command) = (Some(vec![program.into()]), None);
        app.deploy.update.failure_action = FailureAction::Rollback;
    }
    let app = &mut deployment.document["services"][APP];
    app["entrypoint"] = json!([program]);
    app["deploy"]["update_config"]["failure_action"] = "rollback".into();
    remove(app, "command");
    deployment
}

/// The same with no task of a service.
pub fn scaled_to_nothing(deployment: &Deployment, service: &str) -> Deployment {
    let mut deployment = deployment.clone();
    if let Some(typed) = deployment.stack.services.get_mut(service) {
        typed.deploy.mode = Mode::Replicated(0);
    }
    let deploy = &mut deployment.document["services"][service]["deploy"];
    deploy["replicas"] = 0.into();
    remove(deploy, "mode");
    deployment
}

/// An archive that holds nothing.
pub fn empty(archive: &Path) -> Result<()> {
    let made = std::fs::File::create(archive).and_then(|file| tar::Builder::new(file).into_inner());
    made.map(drop).with_context(|| format!("failed to empty `{}`", archive.display()))
}

fn with_image(mut deployment: Deployment, image: Option<String>) -> Deployment {
    let Some(image) = image else { return deployment };
    deployment.document["services"][APP]["image"] = image.as_str().into();
    if let Some(app) = deployment.stack.services.get_mut(APP) {
        app.image = image;
    }
    deployment
}

/// The app once more under another name, which no route leads to and which publishes nothing.
fn with_stowaway(mut deployment: Deployment) -> Deployment {
    let Some(app) = deployment.stack.services.get(APP) else { return deployment };
    let mut stowaway = Service { ports: Vec::new(), ..app.clone() };
    stowaway.deploy.labels.clear();
    deployment.stack.services.insert(STOWAWAY.into(), stowaway);
    let mut document = deployment.document["services"][APP].clone();
    remove(&mut document, "ports");
    if let Some(deploy) = document.get_mut("deploy") {
        remove(deploy, "labels");
    }
    deployment.document["services"][STOWAWAY] = document;
    deployment
}

fn with_new_volumes(mut deployment: Deployment) -> Deployment {
    for (key, volume) in deployment.stack.volumes.iter_mut().filter(|(_, volume)| !volume.external) {
        volume.name.push_str("_emptied");
        let document = &mut deployment.document["volumes"][key];
        if !document.is_object() {
            *document = json!({});
        }
        document["name"] = volume.name.as_str().into();
    }
    deployment
}

/// The same volumes, beside the places where the compose files want them.
fn with_moved_mounts(mut deployment: Deployment) -> Deployment {
    const BESIDE: &str = ".moved";
    for (name, service) in &mut deployment.stack.services {
        let volumes = service.mounts.iter_mut().filter(|mount| matches!(mount.kind, MountKind::Volume(_)));
        volumes.for_each(|mount| mount.target = format!("{}{BESIDE}", mount.target.trim_end_matches('/')));
        let document = deployment.document["services"][name].get_mut("volumes").and_then(Value::as_array_mut);
        for mount in document.into_iter().flatten().filter(|mount| mount["type"] == "volume" && mount["source"] != "") {
            if let Some(target) = mount["target"].as_str().map(|it| it.trim_end_matches('/').to_owned()) {
                mount["target"] = format!("{target}{BESIDE}").into();
            }
        }
    }
    deployment
}

/// Every router of the app names a middleware that nobody defines.
fn with_lost_router(mut deployment: Deployment) -> Deployment {
    let Some(app) = deployment.stack.services.get_mut(APP) else { return deployment };
    let labels = &mut app.deploy.labels;
    let routers: Vec<String> =
        labels.keys().filter_map(|key| key.strip_suffix(".rule")).map(|key| format!("{key}.middlewares")).collect();
    labels.extend(routers.into_iter().map(|key| (key, "harness-nowhere".to_owned())));
    deployment
}

/// No service says anything to a backup bot.
fn without_backup_labels(mut deployment: Deployment) -> Deployment {
    let is_other = |key: &str| !key.starts_with("backupbot.");
    for (name, service) in &mut deployment.stack.services {
        service.deploy.labels.retain(|key, _| is_other(key));
        if let Some(labels) = deployment.document["services"][name].pointer_mut("/deploy/labels") {
            match labels {
                Value::Object(labels) => labels.retain(|key, _| is_other(key)),
                Value::Array(labels) => labels.retain(|label| label.as_str().is_none_or(is_other)),
                _ => {}
            }
        }
    }
    deployment
}

fn remove(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}
