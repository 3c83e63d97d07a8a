//! The compose file that is handed to `docker stack deploy`: the recipe's own, with what abra adds, and with what a
//! run of its own needs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::RUN_LABEL;
use crate::recipe::compose;
use crate::recipe::stack::Stack;

/// What a run changes about a compose file.
pub struct Changes<'a> {
    pub run_id: &'a str,
    /// `endpoint_mode: dnsrr` for every service, and host ports instead of the routing mesh.
    pub without_ipvs: bool,
    /// Names of external networks, and of those that stand in their place.
    pub networks: &'a BTreeMap<String, String>,
    /// A private directory for the contents of configs.
    pub dir: &'a Path,
}

/// Writes the file, with the configs beside it, and returns its text: every `$` is doubled, because the CLI replaces
/// variables itself.
pub fn write(document: &Value, stack: &Stack, changes: &Changes<'_>) -> Result<String> {
    let mut document = document.clone();
    services(&mut document, stack, changes);
    objects(&mut document, stack, changes)?;
    compose::for_stack_deploy(&document)
}

fn services(document: &mut Value, stack: &Stack, changes: &Changes<'_>) {
    for (name, service) in &stack.services {
        let target = &mut document["services"][name];
        for (key, value) in &service.environment {
            target["environment"][key] = value.as_str().into();
        }
        for (key, value) in &service.deploy.labels {
            target["deploy"]["labels"][key] = value.as_str().into();
        }
        if changes.without_ipvs {
            target["deploy"]["endpoint_mode"] = "dnsrr".into();
            for port in target.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                port["mode"] = "host".into();
            }
        }
    }
}

/// Networks, volumes, configs and secrets under their final names. Secrets exist by now: abra creates its own first,
/// and those of others are never created.
fn objects(document: &mut Value, stack: &Stack, changes: &Changes<'_>) -> Result<()> {
    for (key, network) in &stack.networks {
        match changes.networks.get(&network.name).filter(|_| network.external) {
            Some(own) => document["networks"][key] = json!({ "external": true, "name": own }),
            None if !network.external && document["networks"].get(key).is_some() => {
                label(&mut document["networks"][key], changes.run_id);
            }
            None => {}
        }
    }
    for (key, _) in stack.volumes.iter().filter(|(_, volume)| !volume.external) {
        label(&mut document["volumes"][key], changes.run_id);
    }
    for (number, (key, config)) in stack.configs.iter().enumerate() {
        let Some(content) = &config.content else { continue };
        let path = changes.dir.join(format!("config-{number}"));
        std::fs::write(&path, content).with_context(|| format!("failed to write `{}`", path.display()))?;
        let target = &mut document["configs"][key];
        target["file"] = path.to_str().context("the run's directory has a name that is no text")?.into();
        label(target, changes.run_id);
    }
    for (key, secret) in &stack.secrets {
        document["secrets"][key] = json!({ "external": true, "name": secret.name });
    }
    Ok(())
}

/// Adds the run's label to whatever form the object has, nothing at all included.
fn label(object: &mut Value, run_id: &str) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    object["labels"][RUN_LABEL] = run_id.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{FileObject, Network, Service, Volume};

    fn stack() -> Stack {
        let mut app = Service::default();
        app.environment.insert("PRICE".into(), "5$".into());
        app.deploy.labels.insert("coop-cloud.s.chaos".into(), "true".into());
        let network = |name: &str, external| Network { name: name.into(), external, ..Network::default() };
        let config = FileObject { name: "s_conf_v1".into(), content: Some(b"a $b".to_vec()), ..FileObject::default() };
        Stack {
            name: "s".into(),
            services: [("app".to_owned(), app)].into(),
            networks: [("proxy".into(), network("proxy", true)), ("inner".into(), network("s_inner", false))].into(),
            volumes: [("data".to_owned(), Volume { name: "s_data".into(), ..Volume::default() })].into(),
            secrets: [("pw".to_owned(), FileObject { name: "s_pw_v1".into(), ..FileObject::default() })].into(),
            configs: [("conf".to_owned(), config)].into(),
            ..Stack::default()
        }
    }

    fn written(document: Value, without_ipvs: bool) -> (Value, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let networks = [("proxy".to_owned(), "s_run_proxy".to_owned())].into();
        let changes = Changes { run_id: "run1", without_ipvs, networks: &networks, dir: dir.path() };
        let text = write(&document, &stack(), &changes).unwrap();
        (serde_json::from_str(&text).unwrap(), dir)
    }

    fn document() -> Value {
        json!({
            "version": "3.2",
            "services": { "app": { "image": "nginx", "ports": [{ "target": 80, "published": 80, "mode": "ingress" }] } },
            "networks": { "proxy": { "external": true }, "inner": null },
            "volumes": { "data": null },
            "secrets": { "pw": { "external": true, "name": "s_pw_v1" } },
            "configs": { "conf": { "name": "s_conf_v1", "file": "conf" } },
        })
    }

    #[test]
    fn what_abra_adds_and_what_a_run_needs_is_in_the_file() {
        let (written, dir) = written(document(), false);
        assert_eq!(written["version"], "3.8");
        assert_eq!(written["services"]["app"]["environment"]["PRICE"], "5$$", "the CLI replaces variables itself");
        assert_eq!(written["services"]["app"]["deploy"]["labels"]["coop-cloud.s.chaos"], "true");
        assert_eq!(written["networks"]["proxy"], json!({ "external": true, "name": "s_run_proxy" }));
        for object in [&written["networks"]["inner"], &written["volumes"]["data"], &written["configs"]["conf"]] {
            assert_eq!(object["labels"]["recipe-harness.run"], "run1");
        }
        assert_eq!(std::fs::read(dir.path().join("config-0")).unwrap(), b"a $b", "a config's content is no variable");
        assert_eq!(written["services"]["app"]["ports"][0]["mode"], "ingress");
        assert!(written["services"]["app"]["deploy"].get("endpoint_mode").is_none());
    }

    #[test]
    fn without_ipvs_nothing_relies_on_virtual_addresses() {
        let (written, _dir) = written(document(), true);
        assert_eq!(written["services"]["app"]["deploy"]["endpoint_mode"], "dnsrr");
        assert_eq!(written["services"]["app"]["ports"][0]["mode"], "host");
    }
}
