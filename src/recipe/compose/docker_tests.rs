//! What docker's own loader does and a reader would not expect; `tests/it/compose` compares with the real one.

use serde_json::{Value, json};

use super::tests::{app_error, compose, error, merged, recipe};

/// The document's service `app` with these lines.
fn app(lines: &str) -> Value {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    service(&compose(&format!("services:\n  app:\n    image: i\n{indented}{SECTIONS}")).unwrap().document)
}

/// The same, merged from the lines of two files.
fn two(first: &str, second: &str) -> Value {
    let file = |image: &str, keys: &str| format!("services: {{app: {{{image}{keys}}}}}\n{SECTIONS}");
    let (first, second) = (file("image: i, ", first), file("", second));
    let files = [("compose.yml", first.as_str()), ("more.yml", second.as_str()), ("default.conf", "")];
    service(&recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap().document)
}

fn service(document: &Value) -> Value {
    let mut service = document["services"]["app"].clone();
    service.as_object_mut().unwrap().remove("image");
    service
}

const SECTIONS: &str =
    "networks: {n: }\nvolumes: {data: , zeta: }\nsecrets: {pw: {external: true}, aa: {external: true}}\n";

#[test]
fn merging_thins_out_and_sorts_even_what_one_file_has_alone() {
    let ports = two("ports: [80, 81, \"9:9\"]", "tty: true")["ports"].clone();
    assert_eq!(ports.as_array().unwrap().iter().map(|port| &port["target"]).collect::<Vec<_>>(), [81, 9]);
    let volumes = two("volumes: [\"zeta:/z\", \"data:/a\"]", "tty: true")["volumes"].clone();
    assert_eq!(volumes[0]["target"], "/a");
    let twice = "secrets: [{source: pw, target: one}, {source: pw, target: two}]";
    assert_eq!(two(twice, "tty: true")["secrets"], json!([{"source": "pw", "target": "two"}]));
    assert_eq!(app("secrets: [{source: pw, target: one}, pw]")["secrets"].as_array().unwrap().len(), 2, "not merged");
}

#[test]
fn a_list_of_a_later_file_alone_is_taken_as_it_is() {
    let sources = |value: &Value| value.as_array().unwrap().iter().map(|it| it["source"].clone()).collect::<Vec<_>>();
    assert_eq!(sources(&two("tty: true", "secrets: [pw, aa]")["secrets"]), ["pw", "aa"]);
    assert_eq!(sources(&two("secrets: []", "secrets: [pw, aa]")["secrets"]), ["aa", "pw"]);
    let files = [
        ("compose.yml", format!("services: {{app: {{image: i}}}}\n{SECTIONS}")),
        ("a.yml", "services: {app: {secrets: []}}\n".to_owned()),
        ("b.yml", "services: {app: {secrets: [pw, aa]}}\n".to_owned()),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let document = recipe(&files, "COMPOSE_FILE=compose.yml:a.yml:b.yml").unwrap().document;
    assert_eq!(sources(&document["services"]["app"]["secrets"]), ["pw", "aa"], "an empty list of a later file is none");
}

#[test]
fn only_nothing_at_all_keeps_a_networks_aliases() {
    let network = |over: &str| {
        two("networks: {n: {aliases: [a], ipv4_address: 1.1.1.1, driver_opts: {x: 1}}}", over)["networks"]["n"].clone()
    };
    let (address, options) = (json!("1.1.1.1"), json!({"x": "1"}));
    let kept = json!({"aliases": ["a"], "ipv4_address": address, "driver_opts": options});
    assert_eq!(network("networks: {n: }"), kept);
    assert_eq!(network("networks: [n]"), kept);
    assert_eq!(network("networks: {n: {}}"), json!({"ipv4_address": address, "driver_opts": options}));
    assert_eq!(network("networks: {n: {driver_opts: {y: 2}}}")["driver_opts"], options);
    assert_eq!(two("networks: [n]", "networks: {n: {aliases: [b]}}")["networks"], json!({"n": {"aliases": ["b"]}}));
}

#[test]
fn logging_options_are_lost_where_there_were_none() {
    let logging =
        |first: &str, second: &str| two(&format!("logging: {first}"), &format!("logging: {second}"))["logging"].clone();
    assert_eq!(logging("{driver: a}", "{options: {x: 1}}"), json!({"driver": "a"}));
    assert_eq!(logging("{options: {}}", "{driver: a, options: {x: 1}}"), json!({"driver": "a", "options": {"x": "1"}}));
    assert_eq!(two("tty: false", "logging: {options: {x: 1}}"), json!({"logging": {"options": {"x": "1"}}}));
}

#[test]
fn an_empty_variable_gives_way_to_an_empty_one_only() {
    let environment = two("environment: {A: x, B: , C: \"\"}", "environment: {A: , B: \"\", C: }");
    assert_eq!(environment, json!({"environment": {"A": "x", "B": "", "C": null}}));
}

#[test]
fn zero_replaces_a_count_but_no_time_and_no_size() {
    let deploy = two(
        "deploy: {replicas: 2, update_config: {parallelism: 2, monitor: 5s}, resources: {limits: {memory: 1g, cpus: \"1\"}}}",
        "deploy: {replicas: 0, update_config: {parallelism: 0, monitor: 0s}, resources: {limits: {memory: \"0\"}}}",
    );
    assert_eq!(deploy["deploy"]["replicas"], 0);
    assert_eq!(deploy["deploy"]["update_config"], json!({"parallelism": 0, "monitor": "5s"}));
    assert_eq!(deploy["deploy"]["resources"]["limits"], json!({"memory": "1073741824", "cpus": "1"}));
    let check = two(
        "healthcheck: {retries: 3, interval: 5s}, init: true",
        "healthcheck: {retries: 0, interval: 0s}, init: false",
    );
    assert_eq!(check, json!({"healthcheck": {"retries": 0, "interval": "5s"}, "init": true}));
}

#[test]
fn what_says_nothing_is_left_out_but_not_behind_a_pointer() {
    let empty =
        "hostname: \"\"\ntty: false\nports: []\nlabels: {}\nnetworks: {}\ndeploy: {placement: {}, resources: {}}";
    assert_eq!(app(empty), json!({}));
    let kept = "init: false\nhealthcheck: {interval: 0s, test: []}\nlogging: {}\ndeploy: {update_config: {delay: 0s}, replicas: 0}";
    let expected = json!({"init": false, "healthcheck": {"interval": "0s"}, "logging": {},
        "deploy": {"update_config": {}, "replicas": 0}});
    assert_eq!(app(kept), expected);
}

#[test]
fn values_are_written_as_docker_writes_them() {
    let deploy = app(
        "stop_grace_period: 3600s\ndeploy: {resources: {limits: {memory: 64m}}, update_config: {max_failure_ratio: 0.1}}",
    );
    assert_eq!(deploy["stop_grace_period"], "1h0m0s");
    assert_eq!(deploy["deploy"]["resources"]["limits"]["memory"], "67108864");
    assert_eq!(deploy["deploy"]["update_config"]["max_failure_ratio"], 0.1);
    let environment = app("environment: {E: 1e6, D: 2024-1-2, O: 0440, H: \"0440\"}");
    let expected = json!({"E": "1e+06", "D": "2024-01-02 00:00:00 +0000 UTC", "O": "288", "H": "0440"});
    assert_eq!(environment["environment"], expected);
    let hosts = app("extra_hosts: {a: 1.1.1.1, a-b: \"[::1]\", none: }");
    assert_eq!(hosts["extra_hosts"], json!(["a-b:::1", "a:1.1.1.1"]), "sorted as texts");
    let numbers = app("healthcheck: {retries: 2.7}\ndeploy: {replicas: 2.0}");
    assert_eq!((&numbers["healthcheck"]["retries"], &numbers["deploy"]["replicas"]), (&json!(2), &json!(2)));
}

#[test]
fn external_objects_get_their_names() {
    let text =
        "services: {app: {image: i}}\nnetworks: {a: {external: true}, b: {external: {name: c}}, d: {external: {}}}\n";
    let networks = compose(text).unwrap().document["networks"].clone();
    let named = |name: &str| json!({"external": true, "name": name});
    assert_eq!(networks, json!({"a": named("a"), "b": named("c"), "d": named("d")}));
}

#[test]
fn keys_are_those_of_the_files_version() {
    let of = |version: &str, rest: &str| {
        compose(&format!("version: '{version}'\nservices: {{app: {{image: i, {rest}}}}}\n"))
    };
    let refused = |version: &str, rest: &str| format!("{:#}", of(version, rest).unwrap_err());
    assert!(of("3.7", "init: true").is_ok() && of("3", "init: true").is_ok());
    assert_eq!(
        refused("3.6", "init: true"),
        "`compose.yml`: `services.app.init`: the key is known from version 3.7 on, and the file says 3.6"
    );
    assert!(refused("3.8", "healthcheck: {start_interval: 1s}").contains("known from version 3.12 on"));
    assert!(refused("3.1", "ports: [{target: 80}]").contains("expected text, seen a mapping"));
    assert!(refused("3.1", "volumes: [/a, /a]").contains("`/a` stands here twice"));
    assert!(refused("3.14", "init: true").contains("version `3.14` is not supported"));
}

#[test]
fn nothing_is_no_value() {
    assert_eq!(app("deploy:\npid: ~"), json!({}));
    for key in ["image", "ports", "environment", "command", "healthcheck", "labels", "networks"] {
        let message = error(&format!("services: {{app: {{{key}: }}}}\n"));
        assert!(message.starts_with(&format!("`compose.yml`: `services.app.{key}`: expected ")), "{message}");
        assert!(message.ends_with(", seen nothing"), "{message}");
    }
    assert_eq!(
        error("services: {app: {image: i}}\nvolumes:\n"),
        "`compose.yml`: `volumes`: expected a mapping, seen nothing"
    );
}

#[test]
fn repetition_is_refused_where_dockers_schema_does() {
    for lines in ["dns: [a, a]", "cap_add: [a, a]", "ports: [80, 80]", "expose: [1, 1]", "env_file: [x, x]"] {
        assert!(app_error(lines).ends_with("stands here twice"), "{}", app_error(lines));
    }
    let service = app("ports: [80, \"80\"]\ndeploy: {placement: {constraints: [a == b, a == b]}}\ncommand: [a, a]");
    assert_eq!(service["deploy"]["placement"]["constraints"], json!(["a == b", "a == b"]));
}

#[test]
fn other_wrong_values_are_refused_as_docker_does() {
    for (lines, expected) in [
        ("shm_size: 5", "`services.app.shm_size`: expected text, seen a number `5`"),
        ("ulimits: {a: 2.0}", "`services.app.ulimits.a`: expected a whole number, seen a number `2.0`"),
        ("hostname: 2024-01-01", "`services.app.hostname`: expected text, seen a date"),
        ("labels: [=x]", "`services.app.labels`: `=x` has no name"),
        ("environment: {\"\": x}", "`services.app.environment.`: it has no name"),
        ("extra_hosts: {h: 5}", "`services.app.extra_hosts.h`: expected an address as text, seen a number `5`"),
        (
            "deploy: {update_config: {order: \"\"}}",
            "`services.app.deploy.update_config.order`: `` is not known: possible are `start-first`, `stop-first`",
        ),
    ] {
        assert_eq!(app_error(lines), format!("`compose.yml`: {expected}"));
    }
    for (section, expected) in [
        ("secrets: {s: {}}", "`secrets.s`: it has neither `file` nor `external`"),
        ("secrets: {s: {driver: d, file: f}}", "`secrets.s`: `driver` and `file` exclude each other"),
        ("volumes: {v: {driver_opts: {a: }}}", "`volumes.v.driver_opts.a`: expected text or a number, seen nothing"),
        ("volumes: {v: {x-cluster-spec: {}}}", "`volumes.v.x-cluster-spec`: cluster volumes are not supported"),
    ] {
        assert_eq!(
            error(&format!("services: {{app: {{image: i}}}}\n{section}\n")),
            format!("`compose.yml`: {expected}")
        );
    }
}

#[test]
fn what_docker_ignores_is_told() {
    let text = "services:\n  app:\n    image: i\n    oom_score_adj: 5\n    secrets: [{source: pw, mod: 1}]\n    volumes: [{type: tmpfs, target: /t, tmpfs: {sise: 1}}]\n\
                \x20   extra_hosts: [x]\nsecrets: {pw: {external: {name: a, more: b}}}\n";
    let stack = compose(text).unwrap().stack;
    assert_eq!(
        stack.notes,
        [
            "`compose.yml`: `secrets.pw.external.more`: docker ignores this key",
            "`compose.yml`: `services.app.extra_hosts[0]`: docker drops a host without an address",
            "`compose.yml`: `services.app.oom_score_adj`: docker ignores this key",
            "`compose.yml`: `services.app.secrets[0].mod`: docker ignores this key",
            "`compose.yml`: `services.app.volumes[0].tmpfs.sise`: docker ignores this key",
        ]
    );
}

#[test]
fn env_files_are_read_line_by_line() {
    let of = |vars: &str| {
        let files = [("compose.yml", "services: {app: {image: i, env_file: v}}\n"), ("v", vars)];
        recipe(&files, "OWN=own\n").map(|compose| service(&compose.document)["environment"].clone())
    };
    let vars = "\u{feff}BOM=1\nOWN\nNOBODYS\nQ=\"x\" \n  # no\n\tT=a=b\r\n";
    assert_eq!(of(vars).unwrap(), json!({"BOM": "1", "OWN": "own", "Q": "\"x\" ", "T": "a=b"}));
    for line in ["A B=1", "A =1", "=x", "A B"] {
        let message = format!("{:#}", of(line).unwrap_err());
        let expected =
            format!("`compose.yml` line 1: `services.app.env_file`: `v`: `{line}` is not a line such as `KEY=value`");
        assert_eq!(message, expected);
    }
}

#[test]
fn a_home_is_put_into_binds() {
    let text = "services: {app: {image: i, volumes: [\"~/x:/x\", \"data:/d\"]}}\nvolumes: {data: }\n";
    let source = |env: &str| {
        recipe(&[("compose.yml", text)], env).unwrap().document["services"]["app"]["volumes"][0]["source"].clone()
    };
    assert_eq!((source("HOME=/home/a\n"), source("")), (json!("/home/a/x"), json!("~/x")));
}

#[test]
fn the_version_is_not_interpolated_before_it_is_looked_at() {
    let message = error("version: $X\nservices: {app: {image: i}}\n");
    assert!(message.starts_with("`compose.yml`: version `$X` is not supported"), "{message}");
}

#[test]
fn the_deployed_document_is_one_that_docker_takes() {
    let deployed = |compose: super::Compose| {
        serde_json::from_str::<Value>(&super::for_stack_deploy(&compose.document).unwrap()).unwrap()
    };
    let document = deployed(merged("dns: [a, b]\ndepends_on: [x]", "    dns: [b, c]\n    depends_on: [x]\n"));
    assert_eq!(document["services"]["app"]["dns"], json!(["a", "b", "c"]), "no list has anything twice");
    assert_eq!(document.get("version"), None, "an older docker may not know the newest");
    let old = deployed(compose("version: '3.0'\nservices: {app: {image: i, ports: [\"80:80\"]}}\n").unwrap());
    assert_eq!(old["version"], "3.8", "3.0 has no long ports");
}
