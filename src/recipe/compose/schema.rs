//! The keys of a compose file, as docker's loader knows them (schema 3.13), and what each holds.

/// What a key holds, which decides how it is checked, normalised and merged.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    Int,
    Number,
    /// Text or number.
    TextOrNumber,
    Duration,
    Size,
    /// A list of texts without repetition.
    Texts,
    /// One text, or a list of them.
    TextOrTexts,
    /// A list of texts and numbers.
    TextsAndNumbers,
    /// A command line as text, or its words as a list.
    Command,
    /// A mapping, or a list of `key=value`.
    Pairs,
    /// Pairs whose value may be missing.
    Environment,
    /// A mapping, or a list of `name:address`.
    Hosts,
    /// A mapping to texts and numbers.
    Options,
    HealthTest,
    Ports,
    Mounts,
    /// Secrets or configs of a service: a list of names or mappings.
    Files,
    /// Networks of a service: a list of names, or a mapping.
    Attachments,
    Ulimits,
    /// A path of text, or a mapping: `build`.
    Build,
    /// `true`, `false`, or a mapping with the name (the deprecated form).
    External,
    Object(&'static [Key]),
    /// A mapping of names to objects; an empty one is allowed when `nullable`.
    Named {
        entry: &'static [Key],
        nullable: bool,
    },
    /// A list of mappings that nothing here looks into.
    Objects,
}

/// A key and what it holds.
pub(super) type Key = (&'static str, Kind);

use Kind::*;

pub(super) const FILE: &[Key] = &[
    ("version", Text),
    ("services", Named { entry: SERVICE, nullable: false }),
    ("networks", Named { entry: NETWORK, nullable: true }),
    ("volumes", Named { entry: VOLUME, nullable: true }),
    ("secrets", Named { entry: SECRET, nullable: false }),
    ("configs", Named { entry: CONFIG, nullable: false }),
];

const SERVICE: &[Key] = &[
    ("build", Build),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup_parent", Text),
    ("cgroupns_mode", Text),
    ("command", Command),
    ("configs", Files),
    ("container_name", Text),
    ("credential_spec", Object(&[("config", Text), ("file", Text), ("registry", Text)])),
    ("depends_on", Texts),
    ("deploy", Object(DEPLOY)),
    ("devices", Texts),
    ("dns", TextOrTexts),
    ("dns_search", TextOrTexts),
    ("domainname", Text),
    ("entrypoint", Command),
    ("env_file", TextOrTexts),
    ("environment", Environment),
    ("expose", TextsAndNumbers),
    ("external_links", Texts),
    ("extra_hosts", Hosts),
    ("healthcheck", Object(HEALTHCHECK)),
    ("hostname", Text),
    ("image", Text),
    ("init", Bool),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", Pairs),
    ("links", Texts),
    ("logging", Object(&[("driver", Text), ("options", Options)])),
    ("mac_address", Text),
    ("network_mode", Text),
    ("networks", Attachments),
    ("oom_score_adj", Int),
    ("pid", Text),
    ("ports", Ports),
    ("privileged", Bool),
    ("read_only", Bool),
    ("restart", Text),
    ("secrets", Files),
    ("security_opt", Texts),
    ("shm_size", TextOrNumber),
    ("stdin_open", Bool),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("sysctls", Pairs),
    ("tmpfs", TextOrTexts),
    ("tty", Bool),
    ("ulimits", Ulimits),
    ("user", Text),
    ("userns_mode", Text),
    ("volumes", Mounts),
    ("working_dir", Text),
];

const DEPLOY: &[Key] = &[
    ("endpoint_mode", Text),
    ("labels", Pairs),
    ("mode", Text),
    ("placement", Object(&[("constraints", Texts), ("preferences", Objects), ("max_replicas_per_node", Int)])),
    ("replicas", Int),
    ("resources", Object(&[("limits", Object(LIMITS)), ("reservations", Object(RESERVATIONS))])),
    (
        "restart_policy",
        Object(&[("condition", Text), ("delay", Duration), ("max_attempts", Int), ("window", Duration)]),
    ),
    ("rollback_config", Object(UPDATE)),
    ("update_config", Object(UPDATE)),
];

const LIMITS: &[Key] = &[("cpus", Text), ("memory", Size), ("pids", Int)];
const RESERVATIONS: &[Key] = &[("cpus", Text), ("memory", Size), ("generic_resources", Objects)];

const UPDATE: &[Key] = &[
    ("delay", Duration),
    ("failure_action", Text),
    ("max_failure_ratio", Number),
    ("monitor", Duration),
    ("order", Text),
    ("parallelism", Int),
];

const HEALTHCHECK: &[Key] = &[
    ("disable", Bool),
    ("interval", Duration),
    ("retries", Int),
    ("start_interval", Duration),
    ("start_period", Duration),
    ("test", HealthTest),
    ("timeout", Duration),
];

const NETWORK: &[Key] = &[
    ("attachable", Bool),
    ("driver", Text),
    ("driver_opts", Options),
    ("external", External),
    ("internal", Bool),
    ("ipam", Object(&[("driver", Text), ("config", Objects)])),
    ("labels", Pairs),
    ("name", Text),
];

const VOLUME: &[Key] =
    &[("driver", Text), ("driver_opts", Options), ("external", External), ("labels", Pairs), ("name", Text)];

const SECRET: &[Key] = &[
    ("driver", Text),
    ("driver_opts", Options),
    ("external", External),
    ("file", Text),
    ("labels", Pairs),
    ("name", Text),
    ("template_driver", Text),
];

const CONFIG: &[Key] =
    &[("external", External), ("file", Text), ("labels", Pairs), ("name", Text), ("template_driver", Text)];

/// The long form of a port, a mount, and a secret or config of a service.
pub(super) const PORT: &[Key] = &[("mode", Text), ("protocol", Text), ("published", Int), ("target", Int)];
pub(super) const MOUNT: &[Key] = &[
    ("bind", Object(&[("propagation", Text)])),
    ("consistency", Text),
    ("read_only", Bool),
    ("source", Text),
    ("target", Text),
    ("tmpfs", Object(&[("size", Int)])),
    ("type", Text),
    ("volume", Object(&[("nocopy", Bool), ("subpath", Text)])),
];
pub(super) const FILE_MOUNT: &[Key] =
    &[("gid", Text), ("mode", Int), ("source", Text), ("target", Text), ("uid", Text)];
pub(super) const ATTACHMENT: &[Key] =
    &[("aliases", Texts), ("driver_opts", Options), ("ipv4_address", Text), ("ipv6_address", Text)];
pub(super) const ULIMIT: &[Key] = &[("hard", Int), ("soft", Int)];

/// Keys of a service that a Swarm does not act on. `restart` is no such key: it is used when no
/// `deploy.restart_policy` is given.
pub(super) const IGNORED: &[&str] = &[
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "container_name",
    "depends_on",
    "devices",
    "domainname",
    "expose",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "security_opt",
    "shm_size",
    "tmpfs",
    "userns_mode",
];

/// Keys of a service that docker's loader refuses, and what to write instead.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("extends", "anchors (`<<: *base`) do the same"),
    ("volume_driver", "define a volume with a driver under the top-level `volumes`"),
    ("volumes_from", "share a volume of the top-level `volumes`"),
    ("cpu_quota", "set `deploy.resources`"),
    ("cpu_shares", "set `deploy.resources`"),
    ("cpuset", "set `deploy.resources`"),
    ("mem_limit", "set `deploy.resources.limits.memory`"),
    ("memswap_limit", "set `deploy.resources`"),
];
