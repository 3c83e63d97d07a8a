//! The keys of a compose file, as docker's loader knows them (schemas 3.0 to 3.13), and what each holds.
//!
//! One table decides how a value is checked and brought into its long form (`normalize`), how it goes over that of an
//! earlier file (`merge`), and when docker leaves it out (`omit`).

/// What a key holds.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// One of these texts.
    Word(&'static [&'static str]),
    TextOrInt,
    Bool,
    Int,
    /// A whole number that is not negative.
    Count,
    /// A number whose fraction docker cuts off, and which is not negative.
    Truncated,
    /// A fraction of single precision.
    Number,
    Duration,
    Size,
    /// A list of texts.
    Texts,
    /// A list of texts without repetition.
    Unique,
    /// One text, or a list without repetition.
    TextOrUnique,
    /// A list of texts and numbers without repetition.
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
    Logging,
    /// Options, of which `null` is an empty one.
    LogOptions,
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
    External(&'static [Key]),
    Object(&'static [Key]),
    /// A list of objects.
    Objects(&'static [Key]),
    /// A mapping of names to objects; an entry may be `null` when `nullable`.
    Named {
        entry: &'static [Key],
        nullable: bool,
    },
    /// A pointer in docker's types: zero, `false` and an empty object are values there.
    Kept(&'static Kind),
    /// `null` stands for nothing; elsewhere it is an error.
    Nullable(&'static Kind),
    /// The key is known from version 3.x on.
    Since(u32, &'static Kind),
    /// Anything, for the file's own use; nothing of it is kept.
    Extension,
    /// Anything, which docker does not look at.
    Unknown,
    /// Docker checks it, and then does nothing with it.
    Lost(&'static Kind),
}

/// A key and what it holds. The key `x-` stands for all that begin so, `*` for all that are not named.
pub(super) type Key = (&'static str, Kind);

use Kind::*;

/// The newest version of the format: 3.13.
pub(super) const NEWEST: u32 = 13;

pub(super) const FILE: &[Key] = &[
    ("version", Text),
    ("services", Named { entry: SERVICE, nullable: false }),
    ("networks", Named { entry: NETWORK, nullable: true }),
    ("volumes", Named { entry: VOLUME, nullable: true }),
    ("secrets", Since(1, &Named { entry: SECRET, nullable: false })),
    ("configs", Since(3, &Named { entry: CONFIG, nullable: false })),
    ("x-", Since(4, &Extension)),
];

pub(super) const SERVICE: &[Key] = &[
    ("build", Build),
    ("cap_add", Unique),
    ("cap_drop", Unique),
    ("cgroup_parent", Text),
    ("cgroupns_mode", Since(9, &Text)),
    ("command", Command),
    ("configs", Since(3, &Files)),
    ("container_name", Text),
    ("credential_spec", Since(3, &Object(&[("config", Since(8, &Text)), ("file", Text), ("registry", Text)]))),
    ("depends_on", Unique),
    ("deploy", Nullable(&Object(DEPLOY))),
    ("devices", Unique),
    ("dns", TextOrUnique),
    ("dns_search", TextOrUnique),
    ("domainname", Text),
    ("entrypoint", Command),
    ("env_file", TextOrUnique),
    ("environment", Environment),
    ("expose", TextsAndNumbers),
    ("external_links", Unique),
    ("extra_hosts", Hosts),
    ("healthcheck", Kept(&Object(HEALTHCHECK))),
    ("hostname", Text),
    ("image", Text),
    ("init", Since(7, &Kept(&Bool))),
    ("ipc", Text),
    ("isolation", Since(5, &Text)),
    ("labels", Pairs),
    ("links", Unique),
    ("logging", Logging),
    ("mac_address", Text),
    ("network_mode", Text),
    ("networks", Attachments),
    ("oom_score_adj", Since(13, &Lost(&Int))),
    ("pid", Nullable(&Text)),
    ("ports", Ports),
    ("privileged", Bool),
    ("read_only", Bool),
    ("restart", Text),
    ("secrets", Since(1, &Files)),
    ("security_opt", Unique),
    // The schema has numbers, too, but docker then fails to read one.
    ("shm_size", Text),
    ("stdin_open", Bool),
    ("stop_grace_period", Kept(&Duration)),
    ("stop_signal", Text),
    ("sysctls", Pairs),
    ("tmpfs", TextOrUnique),
    ("tty", Bool),
    ("ulimits", Ulimits),
    ("user", Text),
    ("userns_mode", Text),
    ("volumes", Mounts),
    ("working_dir", Text),
    ("x-", Since(7, &Extension)),
];

pub(super) const BUILD: &[Key] = &[
    ("args", Environment),
    ("cache_from", Since(2, &Unique)),
    ("context", Text),
    ("dockerfile", Text),
    ("extra_hosts", Since(9, &Hosts)),
    ("labels", Since(3, &Pairs)),
    ("network", Since(4, &Text)),
    ("shm_size", Since(5, &Lost(&TextOrInt))),
    ("target", Since(4, &Text)),
    ("*", Since(11, &Unknown)),
];

const DEPLOY: &[Key] = &[
    ("endpoint_mode", Since(2, &Text)),
    ("labels", Pairs),
    ("mode", Text),
    (
        "placement",
        Object(&[
            ("constraints", Texts),
            ("max_replicas_per_node", Since(8, &Count)),
            ("preferences", Since(3, &Objects(&[("spread", Text)]))),
        ]),
    ),
    ("replicas", Kept(&Count)),
    (
        "resources",
        Object(&[
            ("limits", Kept(&Object(&[("cpus", Text), ("memory", Size), ("pids", Since(9, &Int))]))),
            (
                "reservations",
                Kept(&Object(&[
                    ("cpus", Text),
                    ("generic_resources", Since(5, &Objects(&[("discrete_resource_spec", Kept(&Object(DISCRETE)))]))),
                    ("memory", Size),
                ])),
            ),
        ]),
    ),
    (
        "restart_policy",
        Kept(&Object(&[
            ("condition", Text),
            ("delay", Kept(&Duration)),
            ("max_attempts", Kept(&Count)),
            ("window", Kept(&Duration)),
        ])),
    ),
    ("rollback_config", Since(7, &Kept(&Object(UPDATE)))),
    ("update_config", Kept(&Object(UPDATE))),
];

/// Docker prints both even when they are empty.
const DISCRETE: &[Key] = &[("kind", Kept(&Text)), ("value", Kept(&Int))];

const UPDATE: &[Key] = &[
    ("delay", Duration),
    ("failure_action", Text),
    ("max_failure_ratio", Number),
    ("monitor", Duration),
    ("order", Since(4, &Word(&["start-first", "stop-first"]))),
    ("parallelism", Kept(&Count)),
];

const HEALTHCHECK: &[Key] = &[
    ("disable", Bool),
    ("interval", Kept(&Duration)),
    ("retries", Kept(&Truncated)),
    ("start_interval", Since(12, &Kept(&Duration))),
    ("start_period", Since(4, &Kept(&Duration))),
    ("test", HealthTest),
    ("timeout", Kept(&Duration)),
];

pub(super) const LOGGING: &[Key] = &[("driver", Text), ("options", LogOptions)];

const NETWORK: &[Key] = &[
    ("attachable", Since(2, &Bool)),
    ("driver", Text),
    ("driver_opts", Options),
    ("external", External(&[("name", Text)])),
    ("internal", Bool),
    ("ipam", Object(&[("config", Objects(&[("subnet", Text)])), ("driver", Text)])),
    ("labels", Pairs),
    ("name", Since(5, &Text)),
    ("x-", Since(7, &Extension)),
];

const VOLUME: &[Key] = &[
    ("driver", Text),
    ("driver_opts", Options),
    ("external", External(&[("name", Text)])),
    ("labels", Pairs),
    ("name", Since(4, &Text)),
    ("x-", Since(7, &Extension)),
];

const SECRET: &[Key] = &[
    ("driver", Since(8, &Text)),
    ("driver_opts", Since(8, &Options)),
    ("external", External(&[("name", Text), ("*", Unknown)])),
    ("file", Text),
    ("labels", Pairs),
    ("name", Since(5, &Text)),
    ("template_driver", Since(8, &Text)),
    ("x-", Since(7, &Extension)),
];

const CONFIG: &[Key] = &[
    ("external", External(&[("name", Text), ("*", Unknown)])),
    ("file", Text),
    ("labels", Pairs),
    ("name", Since(5, &Text)),
    ("template_driver", Since(8, &Text)),
    ("x-", Since(7, &Extension)),
];

/// The long form of a port, a mount, and a secret or config of a service.
pub(super) const PORT: &[Key] = &[("mode", Text), ("protocol", Text), ("published", Count), ("target", Count)];
pub(super) const MOUNT: &[Key] = &[
    ("bind", Kept(&Object(&[("propagation", Text), ("*", Unknown)]))),
    ("consistency", Text),
    ("read_only", Bool),
    ("source", Text),
    ("target", Text),
    ("tmpfs", Since(6, &Kept(&Object(&[("size", Count), ("*", Unknown)])))),
    ("type", Text),
    ("volume", Kept(&Object(&[("nocopy", Bool), ("subpath", Nullable(&Text)), ("*", Unknown)]))),
];
pub(super) const FILE_MOUNT: &[Key] =
    &[("gid", Text), ("mode", Kept(&Truncated)), ("source", Text), ("target", Text), ("uid", Text), ("*", Unknown)];
pub(super) const ATTACHMENT: &[Key] =
    &[("aliases", Unique), ("driver_opts", Since(13, &Options)), ("ipv4_address", Text), ("ipv6_address", Text)];
pub(super) const ULIMIT: &[Key] = &[("hard", Int), ("soft", Int)];

/// What a key of a table holds, and from which version 3.x on it is known.
pub(super) fn find(keys: &'static [Key], key: &str) -> Option<(u32, &'static Kind)> {
    let found = keys
        .iter()
        .find(|(known, _)| *known == key)
        .or_else(|| keys.iter().find(|(known, _)| *known == "x-" && key.starts_with("x-")))
        .or_else(|| keys.iter().find(|(known, _)| *known == "*"));
    found.map(|(_, kind)| match kind {
        Since(version, kind) => (*version, *kind),
        kind => (0, kind),
    })
}

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
