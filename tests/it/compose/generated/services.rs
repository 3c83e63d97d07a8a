//! Services with random keys, over several files.

use super::*;

/// Files of which each has some of the same services, with random keys.
pub fn files(services: usize) -> impl Strategy<Value = Files> {
    let one = prop::collection::vec((any::<Index>(), any::<Index>()), 0..9);
    let file = prop::collection::vec(prop::option::weighted(0.8, one), services);
    let variables =
        (select(&["0", "2", "70"]), select(&["true", "no", "YES", "off"]), select(&["", "x", "a b", "$$", "${N}"]));
    (prop::collection::vec(file, 1..4), variables).prop_map(|(files, (number, boolean, text))| {
        let texts = files.iter().enumerate().map(|(index, file)| text_of(index, file)).collect();
        Files {
            texts,
            variables: vec![("N", number), ("B", boolean), ("T", text), ("HOME", "/home/x")],
            deployed: true,
        }
    })
}

type Chosen = Vec<(Index, Index)>;

fn text_of(index: usize, services: &[Option<Chosen>]) -> String {
    let mut text = String::from("version: '3.13'\n");
    text += "x-anchors: {pairs: &pairs {P: 1, Q: two}, deploy: &deploy {replicas: 3, labels: [l=anchor]}}\n";
    text += "services:\n";
    for (name, keys) in services.iter().enumerate() {
        // The first file has every service, with an image: without one the loader is stricter than docker.
        let empty = Vec::new();
        let keys = match keys {
            Some(keys) => keys,
            None if index == 0 => &empty,
            None => continue,
        };
        text += &format!("  s{name}:\n    image: i{index}\n");
        let mut taken = Vec::new();
        for (key, value) in keys {
            let (key, values) = KEYS[key.index(KEYS.len())];
            if !taken.contains(&key) {
                text += &format!("    {key}: {}\n", values[value.index(values.len())]);
                taken.push(key);
            }
        }
    }
    text + TOP
}

const TOP: &str = "networks: {n: {}, m: {external: true}, default: {}}\nvolumes: {vol: {}, more: {}}\n\
                   secrets: {sec: {external: true}, tes: {external: true}}\nconfigs: {conf: {external: true}, fonc: {external: true}}\n";

/// Keys of a service and values that docker accepts; few of each, so that files meet in them.
const KEYS: &[(&str, &[&str])] = &[
    ("command", &["a b", "'a \"b c\" # d'", "[x, y]", "[]", "''", "$T"]),
    ("entrypoint", &["/e", "[/e, x]", "''"]),
    (
        "environment",
        &[
            "{A: 1, B: ~, C: ''}",
            "[A=2, B, 'C=']",
            "{A: '', B: b, T: }",
            "*pairs",
            "{<<: *pairs, Q: $T}",
            "{F: 1e6, O: 0440, D: 2024-01-01}",
            "{}",
        ],
    ),
    ("labels", &["{a: 1, b: ''}", "[a=2, c]", "{<<: *pairs, a: ~}", "{t: '${T:-none}'}"]),
    (
        "ports",
        &[
            "[80, 81]",
            "['80:80', '81:81/udp']",
            "[{target: 82, published: 80, mode: host}]",
            "['3000-3002:9-11']",
            "['8000-8001:80']",
            "[{target: 5, published: $N}]",
            "[]",
            "['127.0.0.1:80:8080']",
        ],
    ),
    (
        "volumes",
        &[
            "['vol:/a', 'more:/b']",
            "['/a']",
            "['./rel:/b:ro', '~/x:/c']",
            "[{type: volume, source: vol, target: /a, volume: {nocopy: true}}]",
            "[{type: tmpfs, target: /t, tmpfs: {size: 5}}, {type: bind, source: /abs, target: /a, bind: {propagation: rslave}}]",
            "[{type: volume, target: /a, read_only: $B, volume: {}}]",
            "[]",
        ],
    ),
    (
        "secrets",
        &[
            "[sec]",
            "[tes, sec]",
            "[{source: sec, target: x, uid: '5', mode: 0400}]",
            "[{source: sec, target: y}, {source: sec, target: z, mode: 0}]",
            "[]",
        ],
    ),
    ("configs", &["[conf]", "[{source: fonc, target: /x, gid: '7', mode: $N}, conf]", "[]"]),
    (
        "networks",
        &[
            "[n]",
            "[n, m]",
            "{n: {aliases: [a, b]}}",
            "{n: {aliases: [c], ipv4_address: 1.2.3.4}}",
            "{n: {}}",
            "{n: ~, m: {driver_opts: {x: 1}}}",
            "{n: {driver_opts: {x: 2}, ipv6_address: '::1'}}",
            "{}",
        ],
    ),
    (
        "deploy",
        &[
            "*deploy",
            "{replicas: 0}",
            "{replicas: $N, labels: {l: $T}}",
            "{<<: *deploy, replicas: 1}",
            "{update_config: {delay: 5s, parallelism: 2, order: start-first, max_failure_ratio: 0.3}}",
            "{update_config: {delay: 0s, parallelism: 0, monitor: 90s, max_failure_ratio: 0}}",
            "{update_config: {}}",
            "{rollback_config: {order: stop-first, failure_action: pause}}",
            "{restart_policy: {condition: none, delay: 0s, max_attempts: 0, window: 1h}}",
            "{restart_policy: {delay: 1500ms, max_attempts: 3}}",
            "{resources: {limits: {cpus: '0.5', memory: 64m}}}",
            "{resources: {limits: {memory: '0', pids: 5}, reservations: {}}}",
            "{resources: {reservations: {memory: 1g, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}",
            "{placement: {constraints: [a == b], preferences: [{spread: x}]}}",
            "{placement: {constraints: [a == b, c == d], max_replicas_per_node: 2}}",
            "{endpoint_mode: dnsrr, mode: replicated}",
            "~",
            "{}",
        ],
    ),
    (
        "healthcheck",
        &[
            "{test: curl x, interval: 30s, retries: 3}",
            "{test: [CMD, a], timeout: 0s}",
            "{retries: 0, start_period: 1m}",
            "{interval: 0s, start_interval: 500ms}",
            "{}",
        ],
    ),
    (
        "logging",
        &[
            "{driver: json-file, options: {a: 1, b: ~}}",
            "{driver: json-file}",
            "{options: {a: '2', c: x}}",
            "{driver: syslog, options: {}}",
            "{driver: ''}",
            "{}",
        ],
    ),
    ("ulimits", &["{nofile: 5, core: 0}", "{nofile: {soft: 1, hard: 2}}", "{nproc: {soft: 0, hard: 7}, core: $N}"]),
    ("sysctls", &["{a: 1, b: x}", "[a=2, c]"]),
    ("cap_add", &["[A]", "[B, C]", "[]"]),
    ("cap_drop", &["[ALL]"]),
    ("dns", &["1.1.1.1", "[8.8.8.8, 9.9.9.9]"]),
    ("dns_search", &["[a.b]", "c.d"]),
    ("extra_hosts", &["['a:1.1.1.1', 'b=2.2.2.2', dropped]", "{z: '[::1]', y: 3.3.3.3, n: ~}", "['a:[::1]']"]),
    ("devices", &["['/dev/a:/dev/a']", "[/dev/b]"]),
    ("tmpfs", &["/t", "[/u, /v]"]),
    ("init", &["true", "false"]),
    ("read_only", &["true", "false", "$B"]),
    ("tty", &["true", "false"]),
    ("stdin_open", &["$B"]),
    ("privileged", &["$B"]),
    ("hostname", &["h", "''", "$T"]),
    ("user", &["'1000:1000'", "\"${T-nobody}\""]),
    ("working_dir", &["/w", "''", "${NONE}"]),
    ("stop_grace_period", &["1m30s", "0s", "0.5h"]),
    ("stop_signal", &["SIGINT", "''"]),
    ("restart", &["always", "no", "on-failure:3"]),
    ("depends_on", &["[x]", "[y, z]"]),
    ("expose", &["[80, '90']", "[1.5]"]),
    (
        "build",
        &[
            ".",
            "{context: x, args: {A: 1, B: ~}, labels: [a=b]}",
            "{args: [A=2, B=3], cache_from: [c], extra_hosts: {h: 1.1.1.1}}",
        ],
    ),
    ("credential_spec", &["{file: x}", "{registry: y, config: ''}"]),
    ("container_name", &["c"]),
    ("env_file", &["[]"]),
    ("isolation", &["default", "''"]),
    ("shm_size", &["64m"]),
    ("pid", &["host", "~"]),
    ("oom_score_adj", &["5"]),
    ("x-own", &["{a: [b]}", "1"]),
];

/// One service with one value somewhere that may not belong there, in some version of the format.
pub fn with_one_value_out_of_place() -> impl Strategy<Value = Files> {
    let keys = KEYS.iter().map(|(key, _)| format!("services: {{a: {{image: i, {key}: @}}}}"));
    let places: Vec<String> = keys.chain(PLACES.iter().map(|place| (*place).to_owned())).collect();
    (select(places), select(VALUES), select(VERSIONS)).prop_map(|(place, value, version)| {
        let text = format!("version: '{version}'\n{}\n", place.replace('@', value));
        Files { texts: vec![text], variables: vec![("X", "3")], deployed: false }
    })
}

const VERSIONS: &[&str] = &["3", "3.0", "3.2", "3.3", "3.6", "3.8", "3.8", "3.9", "3.11", "3.13", "3.14", "2.1"];

const VALUES: &[&str] = &[
    "~",
    "true",
    "yes",
    "1",
    "0",
    "-1",
    "2.0",
    "2.5",
    "1e6",
    "x",
    "''",
    "'5'",
    "1h",
    "10m",
    "2024-01-01",
    "$X",
    "[]",
    "[a, b]",
    "[a, a]",
    "[1, 2]",
    "[a=b, c]",
    "[~]",
    "[{}]",
    "{}",
    "{a: b}",
    "{a: 1, b: ~}",
    "{a: true}",
    "{a: [x]}",
    "{a: {}}",
    "{1: a}",
];

/// Places below the keys of a service, and outside of services.
const PLACES: &[&str] = &[
    "services: @",
    "services: {a: @}",
    "services: {a: {image: @}}",
    "services: {a: {image: i, unknown: @}}",
    "services: {a: {image: i}}\nunknown: @",
    "services: {a: {image: i}}\nx-own: @",
    "services: {a: {image: i, deploy: {mode: @}}}",
    "services: {a: {image: i, deploy: {endpoint_mode: @}}}",
    "services: {a: {image: i, deploy: {replicas: @}}}",
    "services: {a: {image: i, deploy: {labels: @}}}",
    "services: {a: {image: i, deploy: {placement: @}}}",
    "services: {a: {image: i, deploy: {placement: {constraints: @}}}}",
    "services: {a: {image: i, deploy: {placement: {max_replicas_per_node: @}}}}",
    "services: {a: {image: i, deploy: {placement: {preferences: @}}}}",
    "services: {a: {image: i, deploy: {resources: @}}}",
    "services: {a: {image: i, deploy: {resources: {limits: @}}}}",
    "services: {a: {image: i, deploy: {resources: {limits: {cpus: @}}}}}",
    "services: {a: {image: i, deploy: {resources: {limits: {memory: @}}}}}",
    "services: {a: {image: i, deploy: {resources: {limits: {pids: @}}}}}",
    "services: {a: {image: i, deploy: {resources: {reservations: {generic_resources: @}}}}}",
    "services: {a: {image: i, deploy: {restart_policy: @}}}",
    "services: {a: {image: i, deploy: {restart_policy: {condition: @}}}}",
    "services: {a: {image: i, deploy: {restart_policy: {delay: @}}}}",
    "services: {a: {image: i, deploy: {restart_policy: {max_attempts: @}}}}",
    "services: {a: {image: i, deploy: {update_config: @}}}",
    "services: {a: {image: i, deploy: {update_config: {delay: @}}}}",
    "services: {a: {image: i, deploy: {update_config: {failure_action: @}}}}",
    "services: {a: {image: i, deploy: {update_config: {max_failure_ratio: @}}}}",
    "services: {a: {image: i, deploy: {update_config: {order: @}}}}",
    "services: {a: {image: i, deploy: {update_config: {parallelism: @}}}}",
    "services: {a: {image: i, deploy: {unknown: @}}}",
    "services: {a: {image: i, healthcheck: {test: @}}}",
    "services: {a: {image: i, healthcheck: {interval: @}}}",
    "services: {a: {image: i, healthcheck: {retries: @}}}",
    "services: {a: {image: i, healthcheck: {start_interval: @}}}",
    "services: {a: {image: i, healthcheck: {disable: @}}}",
    "services: {a: {image: i, healthcheck: {unknown: @}}}",
    "services: {a: {image: i, logging: {driver: @}}}",
    "services: {a: {image: i, logging: {options: @}}}",
    "services: {a: {image: i, logging: {options: {x: @}}}}",
    "services: {a: {image: i, logging: {unknown: @}}}",
    "services: {a: {image: i, ports: [{target: 80, published: @}]}}",
    "services: {a: {image: i, ports: [{target: 80, protocol: @}]}}",
    "services: {a: {image: i, ports: [{target: 80, mode: @}]}}",
    "services: {a: {image: i, ports: [{target: 80, unknown: @}]}}",
    "services: {a: {image: i, ports: [@]}}",
    "services: {a: {image: i, volumes: [@]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: @}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, source: @}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: bind, source: @}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: tmpfs, tmpfs: {size: @}}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, read_only: @}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, volume: @}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, volume: {nocopy: @}}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, volume: {unknown: @}}]}}",
    "services: {a: {image: i, volumes: [{target: /x, type: volume, unknown: @}]}}",
    "services: {a: {image: i, secrets: [@]}}",
    "services: {a: {image: i, configs: [@]}}",
    "services: {a: {image: i, networks: {n: @}}}",
    "services: {a: {image: i, networks: {n: {aliases: @}}}}",
    "services: {a: {image: i, networks: {n: {ipv4_address: @}}}}",
    "services: {a: {image: i, networks: {n: {driver_opts: @}}}}",
    "services: {a: {image: i, networks: {n: {unknown: @}}}}",
    "services: {a: {image: i, ulimits: {nofile: @}}}",
    "services: {a: {image: i, ulimits: {nofile: {soft: 1, hard: @}}}}",
    "services: {a: {image: i, ulimits: {OTHER: @}}}",
    "services: {a: {image: i, environment: {A: @}}}",
    "services: {a: {image: i, labels: {A: @}}}",
    "services: {a: {image: i, sysctls: {A: @}}}",
    "services: {a: {image: i, extra_hosts: {A: @}}}",
    "services: {a: {image: i, build: {context: @}}}",
    "services: {a: {image: i, build: {args: @}}}",
    "services: {a: {image: i, build: {labels: @}}}",
    "services: {a: {image: i, build: {shm_size: @}}}",
    "services: {a: {image: i, build: {unknown: @}}}",
    "services: {a: {image: i}}\nnetworks: {e: {name: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {driver: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {driver_opts: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {ipam: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {external: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {internal: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {attachable: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {labels: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {x-own: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {unknown: @}}",
    "services: {a: {image: i}}\nnetworks: {e: {ipam: {config: @}}}",
    "services: {a: {image: i}}\nnetworks: {e: {external: {name: @}}}",
    "services: {a: {image: i}}\nnetworks: {e: @}",
    "services: {a: {image: i}}\nnetworks: @",
    "services: {a: {image: i}}\nvolumes: {e: {name: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {driver: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {driver_opts: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {external: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {labels: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {x-own: @}}",
    "services: {a: {image: i}}\nvolumes: {e: {unknown: @}}",
    "services: {a: {image: i}}\nvolumes: {e: @}",
    "services: {a: {image: i}}\nvolumes: @",
    "services: {a: {image: i}}\nsecrets: {e: {external: true, name: @}}",
    "services: {a: {image: i}}\nsecrets: {e: {external: true, labels: @}}",
    "services: {a: {image: i}}\nsecrets: {e: {external: @}}",
    "services: {a: {image: i}}\nsecrets: {e: {external: {name: @}}}",
    "services: {a: {image: i}}\nsecrets: {e: {driver: @}}",
    "services: {a: {image: i}}\nsecrets: {e: {driver_opts: @}}",
    "services: {a: {image: i}}\nsecrets: {e: {external: true, unknown: @}}",
    "services: {a: {image: i}}\nsecrets: {e: @}",
    "services: {a: {image: i}}\nsecrets: @",
    "services: {a: {image: i}}\nconfigs: {e: {external: true, name: @}}",
    "services: {a: {image: i}}\nconfigs: {e: {external: true, driver: @}}",
    "services: {a: {image: i}}\nconfigs: {e: {external: true, template_driver: @}}",
    "services: {a: {image: i}}\nconfigs: {e: {external: true, x-own: @}}",
    "services: {a: {image: i}}\nconfigs: {e: @}",
    "services: {a: {image: i}}\nconfigs: @",
];
