//! One service of the merged document, typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::at::At;
use super::typed::{DEFAULT, duration, flag, int, pairs, text, texts, word};
use crate::recipe::stack::{
    Deploy, FailureAction, FileMount, FileObject, HealthTest, Healthcheck, Limits, Mode, Mount, MountKind, Port,
    RestartCondition, RestartPolicy, Service, Stack, UpdateConfig, UpdateOrder,
};
use crate::recipe::suggest::did_you_mean;

/// Types a service; networks, volumes, secrets and configs it names must be in `stack`.
pub(super) fn service(at: &At<'_>, stack: &Stack) -> Result<Service> {
    let Some(image) = text(at, "image")?.filter(|image| !image.is_empty()) else {
        bail!(at.error("it has no `image`"));
    };
    let not_empty = |words: &Vec<String>| !words.is_empty();
    Ok(Service {
        image,
        // A Swarm cannot clear an image's entrypoint or command with an empty list: it keeps them.
        entrypoint: texts(at, "entrypoint")?.filter(not_empty),
        command: texts(at, "command")?.filter(not_empty),
        environment: environment(at)?,
        working_dir: text(at, "working_dir")?,
        user: text(at, "user")?,
        hostname: text(at, "hostname")?,
        stop_signal: text(at, "stop_signal")?,
        stop_grace_period: duration(at, "stop_grace_period")?,
        labels: pairs(at, "labels")?,
        deploy: deploy(at)?,
        healthcheck: at.get("healthcheck").map(|at| healthcheck(&at)).transpose()?,
        networks: networks(at, stack)?,
        mounts: items(at, "volumes", |at| mount(at, stack))?,
        secrets: items(at, "secrets", |at| file_mount(at, "secret", "/run/secrets/", &stack.secrets))?,
        configs: items(at, "configs", |at| file_mount(at, "config", "/", &stack.configs))?,
        ports: items(at, "ports", port)?,
        extra_hosts: texts(at, "extra_hosts")?.unwrap_or_default().iter().filter_map(|host| pair(host)).collect(),
        read_only: flag(at, "read_only")?,
        init: flag(at, "init")?,
    })
}

fn items<T>(at: &At<'_>, key: &str, read: impl Fn(&At<'_>) -> Result<T>) -> Result<Vec<T>> {
    let Some(at) = at.get(key) else { return Ok(Vec::new()) };
    at.list()?.iter().map(read).collect()
}

/// A variable without a value would be taken from the environment of `docker`, which is empty here: it is left out.
fn environment(at: &At<'_>) -> Result<BTreeMap<String, String>> {
    let Some(at) = at.get("environment") else { return Ok(BTreeMap::new()) };
    let given = at.entries()?.filter(|(_, at)| !at.value.is_null());
    given.map(|(key, at)| Ok((key.to_owned(), at.text()?.to_owned()))).collect()
}

fn pair(host: &str) -> Option<(String, String)> {
    host.split_once(':').map(|(name, address)| (name.to_owned(), address.to_owned()))
}

fn deploy(service: &At<'_>) -> Result<Deploy> {
    let restart = restart_of(service)?;
    let Some(at) = service.get("deploy") else { return Ok(Deploy { restart, ..Deploy::default() }) };
    Ok(Deploy {
        labels: pairs(&at, "labels")?,
        mode: mode(&at)?,
        update: at.get("update_config").map(|at| update(&at)).transpose()?.unwrap_or_default(),
        rollback: at.get("rollback_config").map(|at| update(&at)).transpose()?.unwrap_or_default(),
        restart: at.get("restart_policy").map(|at| restart_policy(&at)).transpose()?.unwrap_or(restart),
        limits: at
            .get("resources")
            .and_then(|at| at.get("limits"))
            .map(|at| limits(&at))
            .transpose()?
            .unwrap_or_default(),
    })
}

/// As the document has them once it is in Docker's form: bytes and processors as text. Docker reads zero as no limit.
fn limits(at: &At<'_>) -> Result<Limits> {
    let memory = at.get("memory").map(|at| at.text()?.parse().map_err(|_| at.expected("a size"))).transpose()?;
    let cpus = at.get("cpus").map(|at| at.text()?.parse::<f64>().map_err(|_| at.expected("a number"))).transpose()?;
    let pids: Option<i64> = int(at, "pids")?;
    Ok(Limits {
        memory: memory.filter(|bytes| *bytes > 0),
        cpus: cpus.map(|cpus| (cpus * 1000.0).ceil() as u64).filter(|thousandths| *thousandths > 0),
        pids: pids.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids > 0),
    })
}

fn mode(at: &At<'_>) -> Result<Mode> {
    let replicas: Option<u32> = int(at, "replicas")?;
    let global = word(at, "mode", &[("replicated", false), ("global", true)])?.unwrap_or(false);
    match replicas {
        Some(_) if global => bail!(at.error("`replicas` and mode `global` exclude each other")),
        Some(replicas) => Ok(Mode::Replicated(replicas)),
        None if global => Ok(Mode::Global),
        None => Ok(Mode::default()),
    }
}

fn update(at: &At<'_>) -> Result<UpdateConfig> {
    let default = UpdateConfig::default();
    let actions =
        [("pause", FailureAction::Pause), ("continue", FailureAction::Continue), ("rollback", FailureAction::Rollback)];
    let orders = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
    let ratio = at.get("max_failure_ratio").map(|at| at.float()).transpose()?;
    Ok(UpdateConfig {
        parallelism: int(at, "parallelism")?.unwrap_or(default.parallelism),
        delay: duration(at, "delay")?.unwrap_or_default(),
        failure_action: word(at, "failure_action", &actions)?.unwrap_or(default.failure_action),
        is_named: at.get("failure_action").is_some(),
        monitor: duration(at, "monitor")?.filter(|monitor| !monitor.is_zero()),
        max_failure_ratio: ratio.unwrap_or_default(),
        order: word(at, "order", &orders)?.unwrap_or(default.order),
    })
}

fn restart_policy(at: &At<'_>) -> Result<RestartPolicy> {
    let conditions =
        [("none", RestartCondition::None), ("on-failure", RestartCondition::OnFailure), ("any", RestartCondition::Any)];
    let default = RestartPolicy::default();
    Ok(RestartPolicy {
        condition: word(at, "condition", &conditions)?.unwrap_or(default.condition),
        delay: duration(at, "delay")?.unwrap_or(default.delay),
        // Swarm counts 0 as no limit.
        max_attempts: int(at, "max_attempts")?.filter(|attempts: &u64| *attempts > 0),
        window: duration(at, "window")?.unwrap_or_default(),
    })
}

/// `restart`, which docker still honours where no `deploy.restart_policy` is given.
fn restart_of(service: &At<'_>) -> Result<RestartPolicy> {
    let default = RestartPolicy::default();
    let Some(at) = service.get("restart") else { return Ok(default) };
    let (name, attempts) = at.text()?.split_once(':').unwrap_or((at.text()?, "0"));
    let attempts: u64 = attempts.parse().map_err(|_| at.error(format!("`{attempts}` is not a number of attempts")))?;
    let condition = match name {
        "" | "no" | "always" | "unless-stopped" => RestartCondition::Any,
        "on-failure" => RestartCondition::OnFailure,
        _ => bail!(at.error(format!(
            "`{}` is not known: possible are `no`, `always`, `unless-stopped` and `on-failure`",
            name.escape_debug()
        ))),
    };
    Ok(RestartPolicy { condition, max_attempts: Some(attempts).filter(|attempts| *attempts > 0), ..default })
}

fn healthcheck(at: &At<'_>) -> Result<Healthcheck> {
    let test = texts(at, "test")?.filter(|test| !test.is_empty());
    if flag(at, "disable")? {
        if test.is_some() {
            bail!(at.error("`test` and `disable` exclude each other"));
        }
        return Ok(Healthcheck { test: Some(HealthTest::None), ..Healthcheck::default() });
    }
    let test = match test.as_deref() {
        None => None,
        Some([kind]) if kind == "NONE" => Some(HealthTest::None),
        Some([kind, line]) if kind == "CMD-SHELL" => Some(HealthTest::Shell(line.clone())),
        Some([kind, command @ ..]) if kind == "CMD" && !command.is_empty() => Some(HealthTest::Cmd(command.to_vec())),
        Some([kind, ..]) => bail!(at.error(format!(
            "`test` begins with `{}`: expected `NONE`, `CMD` with a command, or `CMD-SHELL` with one line",
            kind.escape_debug()
        ))),
        Some([]) => None,
    };
    // Docker takes 0 as "not given".
    let given = |key| duration(at, key).map(|value| value.filter(|value| !value.is_zero()));
    Ok(Healthcheck {
        test,
        interval: given("interval")?,
        timeout: given("timeout")?,
        start_period: given("start_period")?,
        start_interval: given("start_interval")?,
        retries: int(at, "retries")?.filter(|retries: &u32| *retries > 0),
    })
}

fn networks(at: &At<'_>, stack: &Stack) -> Result<BTreeMap<String, Vec<String>>> {
    let mut networks = BTreeMap::new();
    if let Some(at) = at.get("networks") {
        for (name, at) in at.entries()? {
            if name != DEFAULT {
                known(&at, "network", name, &stack.networks)?;
            }
            networks.insert(name.to_owned(), texts(&at, "aliases")?.unwrap_or_default());
        }
    }
    if networks.is_empty() {
        networks.insert(DEFAULT.to_owned(), Vec::new());
    }
    Ok(networks)
}

fn known<T>(at: &At<'_>, what: &str, name: &str, all: &BTreeMap<String, T>) -> Result<()> {
    if all.contains_key(name) {
        return Ok(());
    }
    let hint = did_you_mean(name, all.keys().map(String::as_str));
    bail!(at.error(format!("{what} `{}` is not defined in the top-level `{what}s`{hint}", name.escape_debug())))
}

fn mount(at: &At<'_>, stack: &Stack) -> Result<Mount> {
    let source = text(at, "source")?.filter(|source| !source.is_empty());
    let target = text(at, "target")?.unwrap_or_default();
    if !target.starts_with('/') {
        let drive = target.chars().nth(1) == Some(':');
        let hint = if drive { ": docker takes one letter before a colon for a Windows drive" } else { "" };
        bail!(at.error(format!("target `{}` is not an absolute path{hint}", target.escape_debug())));
    }
    let kind = match (text(at, "type")?.as_deref(), source) {
        (Some("volume"), None) => MountKind::Anonymous,
        (Some("volume"), Some(source)) => {
            known(at, "volume", &source, &stack.volumes)?;
            MountKind::Volume(source)
        }
        (Some("bind"), Some(source)) => MountKind::Bind(PathBuf::from(source)),
        (Some("bind"), None) => bail!(at.error("a bind mount needs a `source`")),
        (Some("tmpfs"), None) => {
            let size = at.get("tmpfs").map(|at| int(&at, "size")).transpose()?.flatten();
            MountKind::Tmpfs { size: size.filter(|size: &u64| *size > 0) }
        }
        (Some("tmpfs"), Some(_)) => bail!(at.error("a tmpfs mount has no `source`")),
        (kind, _) => bail!(at.error(format!(
            "mount type `{}` is not known: possible are `volume`, `bind` and `tmpfs`",
            kind.unwrap_or_default().escape_debug()
        ))),
    };
    let no_copy = at.get("volume").map(|at| flag(&at, "nocopy")).transpose()?.unwrap_or(false);
    Ok(Mount { kind, target, read_only: flag(at, "read_only")?, no_copy })
}

/// A secret or config of the service; a relative target is below `directory`.
fn file_mount(at: &At<'_>, what: &str, directory: &str, all: &BTreeMap<String, FileObject>) -> Result<FileMount> {
    let source = text(at, "source")?.unwrap_or_default();
    known(at, what, &source, all)?;
    let target = text(at, "target")?.filter(|target| !target.is_empty()).unwrap_or_else(|| source.clone());
    let target = if target.starts_with('/') { target } else { format!("{directory}{target}") };
    let id = |key| -> Result<u32> {
        let id = text(at, key)?.filter(|id| !id.is_empty()).unwrap_or_else(|| "0".into());
        id.parse().map_err(|_| at.error(format!("{key} `{}` is not a number", id.escape_debug())))
    };
    Ok(FileMount { uid: id("uid")?, gid: id("gid")?, mode: int(at, "mode")?.unwrap_or(0o444), source, target })
}

fn port(at: &At<'_>) -> Result<Port> {
    let Some(target) = int(at, "target")?.filter(|target: &u16| *target > 0) else {
        bail!(at.error("`target` is missing"));
    };
    let protocols = [("", "tcp"), ("tcp", "tcp"), ("udp", "udp"), ("sctp", "sctp")];
    let modes = [("", "ingress"), ("ingress", "ingress"), ("host", "host")];
    Ok(Port {
        target,
        published: int(at, "published")?.filter(|published: &u16| *published > 0),
        protocol: word(at, "protocol", &protocols)?.unwrap_or("tcp").to_owned(),
        mode: word(at, "mode", &modes)?.unwrap_or("ingress").to_owned(),
    })
}
