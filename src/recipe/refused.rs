//! What Docker and Swarm refuse of a document, or would wait for without end on one node: told before anything is created,
//! and on every engine alike. The words are Swarm's own where it has some.

use std::collections::BTreeSet;

use serde_json::Value;

use super::stack::{Service, Stack};

/// Bytes that a config may have; Swarm takes fewer than that.
const LARGEST_CONFIG: usize = 1000 * 1024;
/// Bytes of memory below which Docker limits no container.
const LEAST_MEMORY: u64 = 4 << 20;

/// Capabilities that Linux has.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Signals that Linux has, without their `SIG`.
const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// What there is to run it on.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub cpus: f64,
    /// Bytes.
    pub memory: u64,
}

/// What any Docker refuses, each as one sentence.
pub fn problems(stack: &Stack, document: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, objects) in [("secret", &stack.secrets), ("config", &stack.configs)] {
        for object in objects.values().filter(|object| !is_object_name(&object.name)) {
            problems.push(format!(
                "{kind} `{}` has a name that Swarm refuses: it begins and ends with a letter or a digit, and has letters, \
                 digits, `-`, `_` and `.` in between; is a variable in it unset?",
                object.name.escape_debug()
            ));
        }
    }
    for config in stack.configs.values() {
        let size = config.content.as_ref().map(Vec::len);
        if let Some(size) = size.filter(|size| *size == 0 || *size >= LARGEST_CONFIG) {
            problems.push(format!(
                "config `{}` has {size} bytes: Swarm takes more than 0 and fewer than {LARGEST_CONFIG}",
                config.name
            ));
        }
    }
    for (key, network) in stack.networks.iter().filter(|(_, network)| network.driver.as_deref() == Some("bridge")) {
        let name = network.name.escape_debug();
        problems.push(format!(
            "network `{key}` (`{name}`) has the driver `bridge`: services can be on networks scoped to the Swarm only"
        ));
    }
    for (name, service) in &stack.services {
        let declared = &document["services"][name];
        let said = of_service(name, service).into_iter().chain(of_declared(declared));
        problems.extend(said.map(|what| format!("service `{name}`: {what}")));
    }
    problems
}

/// What a Swarm of this one node waits for without end.
pub fn unplaceable(document: &Value, node: Node) -> Vec<String> {
    let mut problems = Vec::new();
    let services = document["services"].as_object();
    for (name, service) in services.into_iter().flatten() {
        let deploy = &service["deploy"];
        let mut say = |what: String| problems.push(format!("service `{name}`: no node is suitable: {what}"));
        for constraint in texts(&deploy["placement"]["constraints"]) {
            if is_unmet(&constraint) {
                say(format!("the constraint `{}` is met by no node of one", constraint.escape_debug()));
            }
        }
        let (most, replicas) = (&deploy["placement"]["max_replicas_per_node"], &deploy["replicas"]);
        if let (Some(most), Some(replicas)) = (most.as_u64().filter(|most| *most > 0), replicas.as_u64())
            && replicas > most
        {
            say(format!("it wants {replicas} tasks, and no more than {most} on one node"));
        }
        let reserved = &deploy["resources"]["reservations"];
        if number(&reserved["cpus"]).is_some_and(|cpus| cpus > node.cpus) {
            say(format!("it reserves {} processors, and this machine has {}", shown(&reserved["cpus"]), node.cpus));
        }
        if number(&reserved["memory"]).is_some_and(|bytes| bytes > node.memory as f64) {
            say(format!(
                "it reserves {} bytes of memory, and this machine has {}",
                shown(&reserved["memory"]),
                node.memory
            ));
        }
    }
    problems
}

/// What is wrong with a service that the model knows.
fn of_service(name: &str, service: &Service) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_host_name(name) {
        problems.push("its name must be valid as a component of a DNS name: letters, digits, `-` and `_`".to_owned());
    }
    let mut targets = BTreeSet::new();
    for mount in &service.mounts {
        let target = mount.target.trim_end_matches('/');
        if !targets.insert(target) {
            problems.push(format!("duplicate mount point: `{target}`"));
        }
    }
    if let Some(dir) = service.working_dir.as_ref().filter(|dir| !dir.is_empty() && !dir.starts_with('/')) {
        problems.push(format!("the working directory `{}` needs to be an absolute path", dir.escape_debug()));
    }
    if let Some(signal) = service.stop_signal.as_ref().filter(|signal| !signal.is_empty() && !is_signal(signal)) {
        problems.push(format!("invalid signal: `{}`", signal.escape_debug()));
    }
    for (what, policy) in [("update_config", &service.deploy.update), ("rollback_config", &service.deploy.rollback)] {
        if !(0.0..=1.0).contains(&policy.max_failure_ratio) {
            let ratio = policy.max_failure_ratio;
            problems.push(format!("`{what}.max_failure_ratio` is {ratio}: it cannot be less than 0 or more than 1"));
        }
    }
    if let Some(check) = &service.healthcheck {
        for (what, time) in
            [("interval", check.interval), ("timeout", check.timeout), ("start_period", check.start_period)]
        {
            if time.is_some_and(|time| !time.is_zero() && time.as_micros() < 1000) {
                problems.push(format!("`healthcheck.{what}` cannot be less than 1ms"));
            }
        }
    }
    problems
}

/// What is wrong with what no engine of the harness's own looks at.
fn of_declared(service: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for constraint in texts(&service["deploy"]["placement"]["constraints"]) {
        if split(&constraint).is_none() {
            let constraint = constraint.escape_debug();
            problems.push(format!("the constraint `{constraint}` is none: one operator is expected from ==, !="));
        }
    }
    for key in ["cap_add", "cap_drop"] {
        for name in texts(&service[key]) {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if bare != "ALL" && !CAPABILITIES.contains(&bare) {
                problems.push(format!("unknown capability in `{key}`: `{}`", name.escape_debug()));
            }
        }
    }
    for kind in ["limits", "reservations"] {
        let memory = number(&service["deploy"]["resources"][kind]["memory"]);
        if memory.is_some_and(|bytes| bytes > 0.0 && bytes < LEAST_MEMORY as f64) {
            problems.push(format!("`resources.{kind}.memory` must be at least 4 MiB"));
        }
    }
    for (name, limit) in service["ulimits"].as_object().into_iter().flatten() {
        if let (Some(soft), Some(hard)) = (limit["soft"].as_i64(), limit["hard"].as_i64())
            && hard >= 0
            && (soft > hard || soft < 0)
        {
            problems.push(format!("the soft limit of ulimit `{name}` is {soft}, above its hard limit of {hard}"));
        }
    }
    problems
}

/// `node.role == manager` as key, whether it has to be equal, and value.
fn split(constraint: &str) -> Option<(String, bool, String)> {
    let (key, equal, value) = match (constraint.split_once("=="), constraint.split_once("!=")) {
        (Some((key, value)), None) => (key, true, value),
        (None, Some((key, value))) => (key, false, value),
        _ => return None,
    };
    let (key, value) = (key.trim(), value.trim());
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!key.is_empty() && key.chars().all(good) && !value.is_empty()).then(|| (key.to_owned(), equal, value.to_owned()))
}

/// Whether the only node, which is a manager and has no labels, does not meet a constraint.
fn is_unmet(constraint: &str) -> bool {
    let Some((key, equal, value)) = split(constraint) else { return false };
    let is = |own: &str| own.eq_ignore_ascii_case(&value);
    let matches = match key.to_ascii_lowercase().as_str() {
        "node.role" => is("manager"),
        "node.platform.os" => is("linux"),
        "node.labels" => false,
        other if other.starts_with("node.labels.") || other.starts_with("engine.labels.") => false,
        // Its name, address and architecture are nobody's business here.
        _ => return false,
    };
    matches != equal
}

fn is_object_name(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_host_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

fn is_signal(signal: &str) -> bool {
    if let Ok(number) = signal.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = signal.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.contains(&bare) || bare.starts_with("RTMIN") || bare.starts_with("RTMAX")
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::recipe::stack::{FileObject, Healthcheck, Mount, MountKind, Network};

    fn said(stack: &Stack, app: Value) -> Vec<String> {
        problems(stack, &json!({"services": {"app": app}}))
    }

    fn with(service: Service) -> Stack {
        Stack { services: [("app".to_owned(), service)].into(), ..Stack::default() }
    }

    #[test]
    fn objects_need_a_name_and_configs_a_content() {
        let config = |name: &str, size: usize| Stack {
            configs: [(
                "site".to_owned(),
                FileObject { name: name.into(), content: Some(vec![b'x'; size]), ..FileObject::default() },
            )]
            .into(),
            ..Stack::default()
        };
        assert_eq!(said(&config("s_site_v1", 1), json!({})), Vec::<String>::new());
        assert!(
            said(&config("s_site_", 1), json!({}))[0].starts_with("config `s_site_` has a name that Swarm refuses")
        );
        for size in [0, LARGEST_CONFIG] {
            let expected =
                format!("config `s_site_v1` has {size} bytes: Swarm takes more than 0 and fewer than 1024000");
            assert_eq!(said(&config("s_site_v1", size), json!({})), [expected]);
        }
    }

    #[test]
    fn networks_and_services_have_to_be_ones_of_a_swarm() {
        let network = Network { name: "s_b".into(), driver: Some("bridge".into()), ..Network::default() };
        let stack = Stack { networks: [("b".to_owned(), network)].into(), ..Stack::default() };
        assert!(said(&stack, json!({}))[0].contains("networks scoped to the Swarm only"));
        let dotted = Stack { services: [("my.app".to_owned(), Service::default())].into(), ..Stack::default() };
        assert!(said(&dotted, json!({}))[0].starts_with("service `my.app`: its name must be valid as a component"));
    }

    #[test]
    fn what_a_service_declares_is_held_to_what_docker_takes() {
        let mount = |target: &str| {
            let kind = MountKind::Volume("v".into());
            Mount { kind, target: target.into(), read_only: false, no_copy: false }
        };
        let mut service = Service {
            mounts: vec![mount("/srv"), mount("/srv/")],
            working_dir: Some("srv".into()),
            stop_signal: Some("SIGFOO".into()),
            healthcheck: Some(Healthcheck {
                interval: Some(std::time::Duration::from_micros(100)),
                ..Healthcheck::default()
            }),
            ..Service::default()
        };
        service.deploy.update.max_failure_ratio = 2.0;
        let expected = [
            "duplicate mount point: `/srv`",
            "the working directory `srv` needs to be an absolute path",
            "invalid signal: `SIGFOO`",
            "`update_config.max_failure_ratio` is 2: it cannot be less than 0 or more than 1",
            "`healthcheck.interval` cannot be less than 1ms",
        ];
        assert_eq!(said(&with(service), json!({})), expected.map(|it| format!("service `app`: {it}")));
        let good = Service {
            mounts: vec![mount("/srv"), mount("/srv/a")],
            stop_signal: Some("SIGRTMIN+3".into()),
            ..Service::default()
        };
        assert_eq!(said(&with(good), json!({})), Vec::<String>::new());
    }

    #[test]
    fn what_no_engine_of_ours_looks_at_is_looked_at_all_the_same() {
        let declared = json!({
            "cap_drop": ["ALL", "NET_FOO", "CAP_CHOWN"],
            "ulimits": {"nofile": {"soft": 9, "hard": 1}, "nproc": 5},
            "deploy": {
                "placement": {"constraints": ["node.role = manager", "node.role == manager"]},
                "resources": {"limits": {"memory": "1048576"}},
            },
        });
        let expected = [
            "the constraint `node.role = manager` is none: one operator is expected from ==, !=",
            "unknown capability in `cap_drop`: `NET_FOO`",
            "`resources.limits.memory` must be at least 4 MiB",
            "the soft limit of ulimit `nofile` is 9, above its hard limit of 1",
        ];
        assert_eq!(said(&with(Service::default()), declared), expected.map(|it| format!("service `app`: {it}")));
    }

    #[test]
    fn what_one_node_cannot_run_is_told() {
        let node = Node { cpus: 2.0, memory: 1 << 30 };
        let said = |deploy: Value| unplaceable(&json!({"services": {"app": {"deploy": deploy}}}), node);
        let constraint = |text: &str| said(json!({"placement": {"constraints": [text]}}));
        assert_eq!(
            constraint("node.role == worker"),
            ["service `app`: no node is suitable: the constraint `node.role == worker` is met by no node of one"]
        );
        assert_eq!(constraint("node.labels.disk == ssd").len(), 1);
        for met in ["node.role == manager", "node.role != worker", "node.labels.x != y", "node.hostname == a"] {
            assert_eq!(constraint(met), Vec::<String>::new(), "{met}");
        }
        let replicas = json!({"replicas": 2, "placement": {"max_replicas_per_node": 1}});
        assert!(said(replicas)[0].ends_with("it wants 2 tasks, and no more than 1 on one node"));
        let reserved = json!({"resources": {"reservations": {"cpus": "7", "memory": "2147483648"}}});
        assert_eq!(said(reserved).len(), 2);
        let little = json!({"resources": {"reservations": {"cpus": "0.5", "memory": "1048576"}}});
        assert_eq!(said(little), Vec::<String>::new());
    }
}
