//! Templates that Docker renders for each task: configs with `template_driver: golang`, the host name, and variables.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::spec::{Content, Kind, MountedFile, Spec};
use crate::recipe::compose::template::{Context, is_template, render};

/// Whose templates they are.
pub struct Whose<'a> {
    /// The service, as the compose file names it.
    pub service: &'a str,
    /// `app.1.<id>`
    pub task: &'a str,
    pub slot: u32,
}

/// The specification with its templates rendered for one task. What is not understood stays as it is, and of a config a
/// note of the run says so.
pub fn expand(spec: &Arc<Spec>, whose: &Whose<'_>) -> Arc<Spec> {
    let service = &spec.service;
    let is_plain = service.environment.values().chain(&service.hostname).all(|text| !is_template(text));
    if is_plain && spec.files.iter().all(|file| file.kind != Kind::Template) {
        return Arc::clone(spec);
    }
    let mut expanded = (**spec).clone();
    let fields = |path: &str| field(spec, whose, path);
    let secrets = |name: &str| file(spec, |kind| kind == Kind::Secret, "/run/secrets", name);
    let configs = |name: &str| file(spec, |kind| kind != Kind::Secret, "", name);
    let context = Context { environment: &service.environment, secrets: &secrets, configs: &configs, fields: &fields };
    let rendered = |text: &str| render(text, &context).unwrap_or_else(|| text.to_owned());
    expanded.service.hostname = service.hostname.as_deref().map(rendered);
    expanded.service.environment.values_mut().for_each(|value| *value = rendered(value));
    // Docker renders a config with the variables as they are written.
    for file in expanded.files.iter_mut().filter(|file| file.kind == Kind::Template) {
        if let Ok(text) = std::str::from_utf8(&file.content.0) {
            file.content = Content(rendered(text).into_bytes().into());
        }
    }
    Arc::new(expanded)
}

/// The content of a secret or config that the service has, by the name that it is mounted under.
fn file(spec: &Spec, is_kind: impl Fn(Kind) -> bool, dir: &str, name: &str) -> Option<String> {
    let full = format!("{dir}/{name}");
    let is_it = |file: &&MountedFile| is_kind(file.kind) && [name, full.as_str()].contains(&file.mount.target.as_str());
    let found = spec.files.iter().find(is_it)?;
    String::from_utf8(found.content.0.to_vec()).ok()
}

/// `.Service.Name` and its like. A Swarm's ids are 25 characters, and mean nothing to anybody.
fn field(spec: &Spec, whose: &Whose<'_>, path: &str) -> Option<String> {
    let service = format!("{}_{}", spec.stack, whose.service);
    let id = |of: &str| HEXLOWER.encode(&Sha256::digest(of))[..25].to_owned();
    if let Some(label) = path.strip_prefix(".Service.Labels.") {
        return Some(spec.service.deploy.labels.get(label).cloned().unwrap_or_default());
    }
    Some(match path {
        ".Service.Name" => service,
        ".Service.ID" => id(&service),
        ".Node.ID" => id("node"),
        ".Node.Hostname" => std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned(),
        ".Node.Platform.OS" => "linux".into(),
        ".Node.Platform.Architecture" => std::env::consts::ARCH.into(),
        ".Task.ID" => whose.task.rsplit('.').next().unwrap_or(whose.task).to_owned(),
        ".Task.Slot" => whose.slot.to_string(),
        ".Task.Name" => format!("{service}.{}.{}", whose.slot, whose.task.rsplit('.').next().unwrap_or(whose.task)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{FileMount, Service};

    fn mounted(kind: Kind, target: &str, content: &str) -> MountedFile {
        let mount = FileMount { source: "x".into(), target: target.into(), uid: 0, gid: 0, mode: 0o444 };
        MountedFile { name: "x".into(), kind, mount, content: Content(content.as_bytes().into()) }
    }

    #[test]
    fn what_docker_renders_for_a_task_is_rendered() {
        let mut service = Service { hostname: Some("web-{{.Task.Slot}}".into()), ..Service::default() };
        service.environment =
            [("A".to_owned(), "one".to_owned()), ("N".to_owned(), "{{.Service.Name}}".to_owned())].into();
        service.deploy.labels = [("coop-cloud.x".to_owned(), "y".to_owned())].into();
        let text = "{{ env \"A\" }} {{ secret \"pw\" }} {{ config \"/plain\" }} {{ .Task.Name }} \
                    {{ index .Service.Labels \"coop-cloud.x\" }}";
        let files = vec![
            mounted(Kind::Secret, "/run/secrets/pw", "hunter2"),
            mounted(Kind::Config, "/plain", "{{ left }}"),
            mounted(Kind::Template, "/conf", text),
            mounted(Kind::Template, "/odd", "{{ range .Service }}"),
        ];
        let spec = Spec { stack: "s".into(), service, files, mounts: Vec::new(), networks: Default::default() };
        let whose = Whose { service: "app", task: "app.2.abc", slot: 2 };
        let expanded = expand(&Arc::new(spec), &whose);
        assert_eq!(expanded.service.hostname.as_deref(), Some("web-2"));
        assert_eq!(expanded.service.environment["N"], "s_app");
        let texts: Vec<&str> =
            expanded.files.iter().map(|file| std::str::from_utf8(&file.content.0).unwrap()).collect();
        assert_eq!(texts, ["hunter2", "{{ left }}", "one hunter2 {{ left }} s_app.2.abc y", "{{ range .Service }}"]);
    }
}
