//! Which volumes a recipe's `backupbot.*` labels put into a snapshot, and which commands run around it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::stack::{MountKind, Service, Stack};

/// What a backup bot would do for a stack. No services: the stack has no backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    pub services: Vec<BackupService>,
    /// Labels that look like a mistake.
    pub notes: Vec<String>,
}

impl BackupPlan {
    /// What the installed version puts into a snapshot and this one does not any more. A dump in the place of raw files
    /// is none of it, and neither is a dump under another name.
    pub fn lost_since(&self, installed: &BackupPlan) -> Vec<Lost> {
        let now = self.covers();
        let mut lost = Vec::new();
        for (volume, before) in installed.covers() {
            let told = |what: String, sentence: String| Lost { what, sentence };
            match now.get(&volume) {
                None => {
                    let sentence = format!("the base backs up the volume `{volume}`, and the head does not");
                    lost.push(told(volume, sentence));
                }
                Some(now) if now.paths.is_empty() || now.hooked && (before.hooked || before.paths.is_empty()) => {}
                Some(now) if before.paths.is_empty() => {
                    let paths = now.paths.join("`, `");
                    let sentence =
                        format!("the base backs up the whole volume `{volume}`, and the head only `{paths}` of it");
                    lost.push(told(volume, sentence));
                }
                Some(now) => {
                    let gone = before.paths.iter().filter(|path| !now.paths.iter().any(|it| below(path, it).is_some()));
                    lost.extend(gone.map(|path| {
                        let sentence =
                            format!("the base backs up `{path}` of the volume `{volume}`, and the head does not");
                        told(format!("{volume}/{path}"), sentence)
                    }));
                }
            }
        }
        lost
    }

    /// Every volume in the snapshot. One that two services name is limited to the paths of both, if both limit it.
    fn covers(&self) -> BTreeMap<String, Cover> {
        let mut covers = BTreeMap::<String, Cover>::new();
        for service in &self.services {
            for VolumeBackup { volume, paths } in &service.volumes {
                let hooked = service.pre_hook.is_some();
                match covers.get_mut(volume) {
                    None => {
                        covers.insert(volume.clone(), Cover { paths: paths.clone(), hooked });
                    }
                    Some(cover) => {
                        let is_whole = cover.paths.is_empty() || paths.is_empty();
                        cover.paths = if is_whole { Vec::new() } else { [cover.paths.clone(), paths.clone()].concat() };
                        cover.hooked |= hooked;
                    }
                }
            }
        }
        covers
    }

    /// Services whose dump nothing loads: it comes back as a file, and whether it is of any use nobody has seen.
    pub fn unread_dumps(&self) -> Vec<String> {
        let unread = self.services.iter().filter(|service| {
            let is_dump = service.pre_hook.is_some() && service.volumes.iter().any(|it| !it.paths.is_empty());
            is_dump && service.restore_post_hook.is_none()
        });
        let note = |service: &BackupService| {
            format!(
                "service `{}` is backed up as a dump, and no `backupbot.restore.post-hook` loads it: that the file comes \
                 back is all that a restore shows",
                service.service
            )
        };
        unread.map(note).collect()
    }
}

/// A part of the base's snapshot that the head's lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// `volume`, or `volume/path`.
    pub what: String,
    pub sentence: String,
}

/// How a volume is backed up.
struct Cover {
    /// Empty means all of it.
    paths: Vec<String>,
    /// A hook writes what is to be stored.
    hooked: bool,
}

/// One labelled service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupService {
    pub service: String,
    pub volumes: Vec<VolumeBackup>,
    /// Shell lines that run inside the service's container.
    pub pre_hook: Option<String>,
    pub post_hook: Option<String>,
    pub restore_pre_hook: Option<String>,
    pub restore_post_hook: Option<String>,
}

/// One volume of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeBackup {
    /// The key in the stack's `volumes`.
    pub volume: String,
    /// Paths relative to the volume's root; empty means all of it.
    pub paths: Vec<String>,
}

/// Labels of the specification, apart from those of single volumes.
const KNOWN: [&str; 7] = [
    "backupbot.backup",
    "backupbot.backup.path",
    "backupbot.backup.pre-hook",
    "backupbot.backup.post-hook",
    "backupbot.restore",
    "backupbot.restore.pre-hook",
    "backupbot.restore.post-hook",
];

/// Reads the labels in `deploy.labels`, which is where the bot looks. The v2 form takes every named volume of a
/// labelled service, less those with `backupbot.backup.volumes.<v>=false`, each limited to the comma list in
/// `backupbot.backup.volumes.<v>.path`. The v1 form, `backupbot.backup.path=/abs/path`, means the volume mounted there.
pub fn plan(stack: &Stack) -> Result<BackupPlan> {
    let mut plan = BackupPlan::default();
    for (name, service) in &stack.services {
        plan.notes.extend(mistakes(name, service));
        if service.deploy.labels.get("backupbot.backup").is_some_and(|value| value == "true") {
            plan.services.push(labelled(name, service)?);
        }
    }
    Ok(plan)
}

fn labelled(name: &str, service: &Service) -> Result<BackupService> {
    let label = |key: &str| service.deploy.labels.get(key).filter(|value| !value.trim().is_empty()).cloned();
    Ok(BackupService {
        service: name.to_owned(),
        volumes: match label("backupbot.backup.path") {
            Some(paths) => mounted_at(name, service, &paths)?,
            None => by_volume(name, service)?,
        },
        pre_hook: label("backupbot.backup.pre-hook"),
        post_hook: label("backupbot.backup.post-hook"),
        restore_pre_hook: label("backupbot.restore.pre-hook"),
        restore_post_hook: label("backupbot.restore.post-hook"),
    })
}

/// The v2 form.
fn by_volume(name: &str, service: &Service) -> Result<Vec<VolumeBackup>> {
    let mounted: BTreeMap<&str, &str> = volumes(service).collect();
    for key in service.deploy.labels.keys().filter_map(|key| key.strip_prefix("backupbot.backup.volumes.")) {
        let volume = key.strip_suffix(".path").unwrap_or(key);
        if !mounted.contains_key(volume) {
            let known: Vec<&str> = mounted.keys().copied().collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            bail!(
                "service `{name}` has the label `backupbot.backup.volumes.{key}`, but mounts no volume `{volume}`: it mounts {known}"
            );
        }
    }
    let label = |volume: &str, end: &str| service.deploy.labels.get(&format!("backupbot.backup.volumes.{volume}{end}"));
    let wanted = mounted.keys().filter(|volume| label(volume, "").is_none_or(|value| value != "false"));
    wanted
        .map(|volume| {
            let paths = label(volume, ".path").map(|list| split(list)).unwrap_or_default();
            if let Some(path) = paths.iter().find(|path| path.starts_with('/') || path.split('/').any(|part| part == "..")) {
                bail!("the label `backupbot.backup.volumes.{volume}.path` of service `{name}` names `{path}`, which is not inside the volume");
            }
            let mut paths: Vec<String> = paths.iter().map(|path| tidy(path)).collect();
            // The volume's own root is all of it.
            if paths.iter().any(String::is_empty) {
                paths.clear();
            }
            Ok(VolumeBackup { volume: volume.to_string(), paths })
        })
        .collect()
}

/// The v1 form: absolute paths inside the container.
fn mounted_at(name: &str, service: &Service, list: &str) -> Result<Vec<VolumeBackup>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in split(list) {
        let inside = volumes(service)
            .filter_map(|(volume, target)| Some((volume, target, below(&path, target)?)))
            .max_by_key(|(_, target, _)| target.len());
        let Some((volume, _, rest)) = inside else {
            bail!(
                "the label `backupbot.backup.path` of service `{name}` names `{path}`, but no volume is mounted there"
            );
        };
        let paths = found.entry(volume.to_owned()).or_default();
        paths.extend((!rest.is_empty()).then(|| rest.to_owned()));
    }
    Ok(found.into_iter().map(|(volume, paths)| VolumeBackup { volume, paths }).collect())
}

/// The part of `path` below `target`, if it is there at all.
fn below<'a>(path: &'a str, target: &str) -> Option<&'a str> {
    let rest = path.trim_end_matches('/').strip_prefix(target.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// Named volumes of a service, and where they are mounted.
fn volumes(service: &Service) -> impl Iterator<Item = (&str, &str)> {
    service.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => Some((volume.as_str(), mount.target.as_str())),
        _ => None,
    })
}

/// `./a//b/` is the path `a/b`, as every archive has it.
fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(|path| path.trim().to_owned()).filter(|path| !path.is_empty()).collect()
}

/// Labels that the bot never sees, or does not know: both have cost people their data.
fn mistakes(name: &str, service: &Service) -> Vec<String> {
    let mut notes = Vec::new();
    for key in service.labels.keys().filter(|key| key.starts_with("backupbot.")) {
        notes.push(format!(
            "service `{name}` has `{key}` in `labels`, where no backup bot looks: it belongs into `deploy.labels`"
        ));
    }
    for key in service.deploy.labels.keys().filter(|key| key.starts_with("backupbot.")) {
        if !KNOWN.contains(&key.as_str()) && !key.starts_with("backupbot.backup.volumes.") {
            notes.push(format!("service `{name}` has the label `{key}`, which no backup specification knows"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::Mount;

    fn stack(mounts: &[(&str, &str)], labels: &[(&str, &str)]) -> Stack {
        let mut service = Service::default();
        for (volume, target) in mounts {
            let kind = MountKind::Volume((*volume).into());
            service.mounts.push(Mount { kind, target: (*target).into(), read_only: false, no_copy: false });
        }
        service.deploy.labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Stack { name: "s".into(), services: [("app".to_owned(), service)].into(), ..Stack::default() }
    }

    fn volumes_of(mounts: &[(&str, &str)], labels: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
        let plan = plan(&stack(mounts, labels)).unwrap();
        plan.services.into_iter().flat_map(|it| it.volumes).map(|it| (it.volume, it.paths)).collect()
    }

    fn refusal(mounts: &[(&str, &str)], labels: &[(&str, &str)]) -> String {
        plan(&stack(mounts, labels)).unwrap_err().to_string()
    }

    const ON: (&str, &str) = ("backupbot.backup", "true");

    #[test]
    fn what_the_head_no_longer_backs_up_is_told() {
        let (base, mounts) = (&[ON], &[("data", "/data"), ("uploads", "/uploads")]);
        let base = plan(&stack(mounts, base)).unwrap();
        let less = plan(&stack(mounts, &[ON, ("backupbot.backup.volumes.data", "false")])).unwrap();
        let said = |head: &BackupPlan, base| -> Vec<String> {
            head.lost_since(base).into_iter().map(|lost| lost.sentence).collect()
        };
        assert_eq!(said(&less, &base), ["the base backs up the volume `data`, and the head does not"]);
        assert!(said(&base, &less).is_empty() && said(&base, &base).is_empty());
        let path = ("backupbot.backup.volumes.data.path", "./log");
        let narrow = plan(&stack(mounts, &[ON, path])).unwrap();
        assert_eq!(said(&narrow, &base), ["the base backs up the whole volume `data`, and the head only `log` of it"]);
        let other = plan(&stack(mounts, &[ON, (path.0, "logs")])).unwrap();
        assert_eq!(said(&other, &narrow), ["the base backs up `log` of the volume `data`, and the head does not"]);
        let dump = plan(&stack(mounts, &[ON, path, ("backupbot.backup.pre-hook", "dump > log")])).unwrap();
        assert!(said(&dump, &base).is_empty(), "a dump stands for the whole");
        assert_eq!(said(&plan(&stack(mounts, &[])).unwrap(), &base).len(), 2);
    }

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        let of =
            |path| volumes_of(&[("data", "/data")], &[ON, ("backupbot.backup.volumes.data.path", path)]).remove(0).1;
        assert_eq!(of("./a.sql, b//c/"), ["a.sql", "b/c"]);
        assert!(of(".").is_empty(), "that is all of it");
    }

    #[test]
    fn a_dump_that_nothing_loads_is_told() {
        let hook = ("backupbot.backup.pre-hook", "pg_dump > /data/dump");
        let (dump, load) = (("backupbot.backup.volumes.data.path", "dump"), ("backupbot.restore.post-hook", "psql"));
        let notes = |labels: &[(&str, &str)]| plan(&stack(&[("data", "/data")], labels)).unwrap().unread_dumps();
        let unread = notes(&[ON, hook, dump]);
        assert!(
            unread.len() == 1 && unread[0].starts_with("service `app` is backed up as a dump, and no "),
            "{unread:?}"
        );
        assert!(notes(&[ON, hook, dump, load]).is_empty() && notes(&[ON, hook]).is_empty());
    }

    #[test]
    fn without_the_label_there_is_no_backup() {
        assert!(plan(&stack(&[("data", "/data")], &[])).unwrap().services.is_empty());
        assert!(plan(&stack(&[("data", "/data")], &[("backupbot.backup", "false")])).unwrap().services.is_empty());
    }

    #[test]
    fn all_named_volumes_are_taken_but_the_excluded_ones() {
        let mounts = [("data", "/data"), ("cache", "/cache"), ("db", "/db")];
        let labels =
            [ON, ("backupbot.backup.volumes.cache", "false"), ("backupbot.backup.volumes.db.path", "dump.sql, logs")];
        let expected = [("data".to_owned(), vec![]), ("db".to_owned(), vec!["dump.sql".to_owned(), "logs".to_owned()])];
        let mut found = volumes_of(&mounts, &labels);
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_old_form_means_the_volume_that_is_mounted_there() {
        let mounts = [("data", "/var/lib"), ("inner", "/var/lib/inner")];
        let whole = volumes_of(&mounts, &[ON, ("backupbot.backup.path", "/var/lib")]);
        assert_eq!(whole, [("data".to_owned(), vec![])]);
        let nested = volumes_of(&mounts, &[ON, ("backupbot.backup.path", "/var/lib/inner/a,/var/lib/b")]);
        assert_eq!(nested, [("data".to_owned(), vec!["b".to_owned()]), ("inner".to_owned(), vec!["a".to_owned()])]);
        let error = refusal(&mounts, &[ON, ("backupbot.backup.path", "/var/library")]);
        assert_eq!(
            error,
            "the label `backupbot.backup.path` of service `app` names `/var/library`, but no volume is mounted there"
        );
    }

    #[test]
    fn a_label_of_a_volume_that_is_not_mounted_is_an_error() {
        let error = refusal(&[("data", "/data")], &[ON, ("backupbot.backup.volumes.datas", "false")]);
        assert_eq!(
            error,
            "service `app` has the label `backupbot.backup.volumes.datas`, but mounts no volume `datas`: it mounts data"
        );
        let error = refusal(&[("data", "/data")], &[ON, ("backupbot.backup.volumes.data.path", "../other")]);
        assert!(error.ends_with("names `../other`, which is not inside the volume"), "{error}");
    }

    #[test]
    fn hooks_are_read_and_mistaken_labels_noted() {
        let mut stack = stack(
            &[("data", "/data")],
            &[
                ON,
                ("backupbot.backup.pre-hook", "dump"),
                ("backupbot.restore.post-hook", "load"),
                ("backupbot.backup.command", "x"),
            ],
        );
        stack.services.get_mut("app").unwrap().labels.insert("backupbot.backup".into(), "true".into());
        let plan = plan(&stack).unwrap();
        assert_eq!(plan.services[0].pre_hook.as_deref(), Some("dump"));
        assert_eq!(plan.services[0].restore_post_hook.as_deref(), Some("load"));
        assert_eq!(
            plan.notes,
            [
                "service `app` has `backupbot.backup` in `labels`, where no backup bot looks: it belongs into `deploy.labels`",
                "service `app` has the label `backupbot.backup.command`, which no backup specification knows"
            ]
        );
    }
}
