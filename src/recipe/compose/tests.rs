//! Whole compose files, through loading, merging and typing.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::recipe::stack::*;
use crate::recipe::tree::Entry;

/// A recipe of these files, with an app `a.example.org` whose environment is `env`.
pub(in crate::recipe) fn recipe(files: &[(&str, &str)], env: &str) -> Result<Compose> {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.files.insert((*path).to_owned(), Entry::File { bytes: text.as_bytes().to_vec(), executable: false });
    }
    tree.files.insert("link".into(), Entry::Symlink { target: "/etc/passwd".into() });
    let mut app = AppEnv::parse(env).unwrap();
    app.set("STACK_NAME", "a_example_org");
    load(&tree, &app)
}

pub(super) fn compose(text: &str) -> Result<Compose> {
    recipe(&[("compose.yml", text), ("default.conf", "conf")], "X=x\n")
}

fn stack(text: &str) -> Stack {
    compose(text).unwrap_or_else(|error| panic!("{error:#}")).stack
}

/// The service `app` with these lines.
fn app(lines: &str) -> Service {
    stack(&in_app(lines)).services.remove("app").unwrap()
}

fn in_app(lines: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "services:\n  app:\n    image: nginx:1\n{indented}volumes:\n  data:\n  more:\nnetworks:\n  proxy:\n    external: true\n\
         secrets:\n  pw:\n    external: true\n    name: ${{STACK_NAME}}_pw_v1\nconfigs:\n  conf:\n    file: default.conf\n"
    )
}

pub(super) fn error(text: &str) -> String {
    format!("{:#}", compose(text).unwrap_err())
}

pub(super) fn app_error(lines: &str) -> String {
    error(&in_app(lines))
}

pub(super) fn merged(first: &str, second: &str) -> Compose {
    let env = "COMPOSE_FILE=compose.yml:compose.more.yml\n";
    let files = [("compose.yml", in_app(first)), ("compose.more.yml", format!("services:\n  app:\n{second}"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    recipe(&[&files[..], &[("default.conf", "conf")]].concat(), env).unwrap_or_else(|error| panic!("{error:#}"))
}

fn merged_app(first: &str, second: &str) -> Service {
    merged(first, second).stack.services.remove("app").unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn names_are_final() {
    let stack = stack(
        "version: '3.8'\nservices:\n  app:\n    image: nginx:1\nvolumes:\n  data:\n  shared:\n    external: true\n  named:\n    name: ${STACK_NAME}_x\n\
         networks:\n  internal:\n  proxy:\n    external: true\n  old:\n    external:\n      name: older\nsecrets:\n  pw:\n    external: true\n    name: ${STACK_NAME}_pw_v1\n\
         configs:\n  conf:\n    name: ${STACK_NAME}_conf_v2\n    file: ./default.conf\n  plain:\n    file: default.conf\n",
    );
    assert_eq!(stack.name, "a_example_org");
    let names: Vec<&str> = stack.volumes.values().map(|volume| volume.name.as_str()).collect();
    assert_eq!(names, ["a_example_org_data", "a_example_org_x", "shared"]);
    let networks: Vec<(&str, bool)> = stack.networks.values().map(|n| (n.name.as_str(), n.external)).collect();
    let expected =
        [("a_example_org_default", false), ("a_example_org_internal", false), ("older", true), ("proxy", true)];
    assert_eq!(networks, expected);
    assert_eq!((stack.secrets["pw"].name.as_str(), stack.secrets["pw"].external), ("a_example_org_pw_v1", true));
    assert_eq!(stack.configs["conf"].name, "a_example_org_conf_v2");
    assert_eq!(stack.configs["conf"].content.as_deref(), Some(&b"conf"[..]));
    assert_eq!(stack.configs["plain"].name, "a_example_org_plain");
}

#[test]
fn every_part_of_a_service_is_typed() {
    let service = app(
        "command: nginx -g 'daemon off;'\nentrypoint: [\"/entry\", \"a b\"]\nenvironment:\n  A: text\n  N: 5\n  F: 1.10\n  E:\n  X:\nworking_dir: /srv\nuser: \"1000:1000\"\nhostname: h\n\
         stop_signal: SIGINT\nstop_grace_period: 1m30s\nlabels: [\"a=b\", \"c\"]\nread_only: true\ninit: true\nextra_hosts: [\"h:1.2.3.4\", \"v6=[::1]\"]\n\
         networks:\n  proxy:\n    aliases: [web]\nvolumes:\n  - data:/data:ro\n  - /cache\n  - ./x:/x\n  - type: tmpfs\n    target: /tmp\n    tmpfs:\n      size: 4096\n  - type: volume\n    source: more\n    target: /more\n    volume:\n      nocopy: true\n\
         secrets:\n  - pw\n  - source: pw\n    target: other\n    uid: \"33\"\n    mode: 0400\nconfigs:\n  - conf\n  - source: conf\n    target: /etc/x.conf\nports:\n  - 80\n  - \"8080:81/udp\"\n  - target: 82\n    published: 8082\n    mode: host\n",
    );
    assert_eq!(service.command.unwrap(), ["nginx", "-g", "daemon off;"]);
    assert_eq!(service.entrypoint.unwrap(), ["/entry", "a b"]);
    assert_eq!(service.environment, map(&[("A", "text"), ("N", "5"), ("F", "1.1"), ("X", "x")]));
    assert_eq!(service.labels, map(&[("a", "b"), ("c", "")]));
    assert_eq!((service.working_dir.as_deref(), service.user.as_deref()), (Some("/srv"), Some("1000:1000")));
    assert_eq!(service.stop_grace_period, Some(Duration::from_secs(90)));
    assert_eq!(service.extra_hosts, [("h".into(), "1.2.3.4".into()), ("v6".into(), "::1".into())]);
    assert_eq!(service.networks, BTreeMap::from([("proxy".into(), vec!["web".into()])]));
    let mount = |kind, target: &str| Mount { kind, target: target.into(), read_only: false, no_copy: false };
    assert_eq!(
        service.mounts,
        [
            Mount { read_only: true, ..mount(MountKind::Volume("data".into()), "/data") },
            mount(MountKind::Anonymous, "/cache"),
            mount(MountKind::Bind(PathBuf::from("./x")), "/x"),
            mount(MountKind::Tmpfs { size: Some(4096) }, "/tmp"),
            Mount { no_copy: true, ..mount(MountKind::Volume("more".into()), "/more") },
        ]
    );
    let file = |source: &str, target: &str| FileMount {
        source: source.into(),
        target: target.into(),
        uid: 0,
        gid: 0,
        mode: 0o444,
    };
    let expected =
        [file("pw", "/run/secrets/pw"), FileMount { uid: 33, mode: 0o400, ..file("pw", "/run/secrets/other") }];
    assert_eq!(service.secrets, expected);
    assert_eq!(service.configs, [file("conf", "/conf"), file("conf", "/etc/x.conf")]);
    let port = |target, published, protocol: &str, mode: &str| Port {
        target,
        published,
        protocol: protocol.into(),
        mode: mode.into(),
    };
    let expected =
        [port(80, None, "tcp", "ingress"), port(81, Some(8080), "udp", "ingress"), port(82, Some(8082), "tcp", "host")];
    assert_eq!(service.ports, expected);
    assert!(service.read_only && service.init);
}

#[test]
fn the_deploy_section_is_typed() {
    let deploy = app(
        "deploy:\n  mode: replicated\n  replicas: 2\n  labels:\n    - \"traefik.enable=true\"\n  update_config:\n    parallelism: 0\n    delay: 5s\n    failure_action: rollback\n    order: start-first\n    monitor: 0s\n    max_failure_ratio: 0.5\n  rollback_config:\n    order: stop-first\n  restart_policy:\n    condition: on-failure\n    max_attempts: 3\n    window: 1m\n  resources:\n    limits:\n      memory: 64m\n  placement:\n    constraints: [node.role == manager]\n",
    )
    .deploy;
    assert_eq!((deploy.mode, deploy.labels), (Mode::Replicated(2), map(&[("traefik.enable", "true")])));
    assert_eq!(
        deploy.update,
        UpdateConfig {
            parallelism: 0,
            delay: Duration::from_secs(5),
            failure_action: FailureAction::Rollback,
            is_named: true,
            monitor: None,
            max_failure_ratio: 0.5,
            order: UpdateOrder::StartFirst,
        }
    );
    assert_eq!(deploy.rollback, UpdateConfig::default());
    assert_eq!((deploy.restart.condition, deploy.restart.max_attempts), (RestartCondition::OnFailure, Some(3)));
    assert_eq!(app("deploy:\n  mode: global\n").deploy.mode, Mode::Global);
    assert_eq!(app("restart: on-failure:5\n").deploy.restart.max_attempts, Some(5));
    assert_eq!(app("restart: unless-stopped\n").deploy, Deploy::default());
}

#[test]
fn health_checks_have_three_forms() {
    let test = |lines: &str| app(&format!("healthcheck:\n{lines}")).healthcheck.unwrap().test;
    assert_eq!(test("  test: curl -f http://localhost\n"), Some(HealthTest::Shell("curl -f http://localhost".into())));
    let cmd = HealthTest::Cmd(vec!["curl".into(), "-f".into()]);
    assert_eq!(test("  test: [\"CMD\", \"curl\", \"-f\"]\n"), Some(cmd));
    assert_eq!(test("  test: [\"CMD-SHELL\", \"a || b\"]\n"), Some(HealthTest::Shell("a || b".into())));
    assert_eq!(test("  test: [\"NONE\"]\n"), Some(HealthTest::None));
    assert_eq!(test("  disable: true\n"), Some(HealthTest::None));
    let check = app("healthcheck:\n  interval: 30s\n  retries: 0\n  start_period: 1m\n").healthcheck.unwrap();
    assert_eq!((check.test, check.interval, check.retries), (None, Some(Duration::from_secs(30)), None));
}

#[test]
fn anchors_and_extension_blocks_work() {
    let text = "x-env: &env\n  A: 1\n  B: 2\nservices:\n  app: &app\n    image: i\n    environment:\n      <<: *env\n      B: 3\n    x-note: hello\n  worker:\n    <<: *app\n    command: work\n";
    let stack = stack(text);
    assert_eq!(stack.services["worker"].environment, map(&[("A", "1"), ("B", "3")]));
    assert_eq!(stack.services["worker"].image, "i");
    // Where docker's schema has no place for them, they are errors; a variable in them is replaced like any other.
    let message = app_error("deploy:\n  x-note: 1");
    assert_eq!(message, "`compose.yml`: `services.app.deploy.x-note`: the key is not known");
    let message = error("x-a: $(date)\nservices: {app: {image: i}}\n");
    assert!(message.starts_with("`compose.yml`: `x-a`: `$(date)`: a `$` must be followed by"), "{message}");
}

#[test]
fn this_processs_environment_is_never_read() {
    let service =
        app("environment:\n  - PATH\n  - CARGO_MANIFEST_DIR\n  - \"P=$PATH${CARGO_MANIFEST_DIR}${HOME:-none}\"\n");
    assert_eq!(service.environment, map(&[("P", "none")]));
}

#[test]
fn env_files_stand_below_the_environment() {
    let text =
        "services:\n  app:\n    image: i\n    env_file: ./vars.env\n    environment:\n      B: own\n      C: \"\"\n";
    let vars = "# comment\nA=file=1\nB=file\n\nX\nEMPTY=\n";
    let compose = recipe(&[("compose.yml", text), ("vars.env", vars)], "X=x\nC=c\n").unwrap();
    let expected = map(&[("A", "file=1"), ("B", "own"), ("C", "c"), ("X", "x"), ("EMPTY", "")]);
    assert_eq!(compose.stack.services["app"].environment, expected);
    assert_eq!(compose.document["services"]["app"].get("env_file"), None);
    let error = |file: &str| {
        let text = format!("services:\n  app:\n    image: i\n    env_file: {file}\n");
        format!("{:#}", recipe(&[("compose.yml", &text)], "").unwrap_err())
    };
    assert_eq!(
        error("/etc/environment"),
        "`compose.yml` line 4: `services.app.env_file`: path `/etc/environment` leaves the recipe, which nothing allows: put the file into the recipe"
    );
    assert_eq!(error("none"), "`compose.yml` line 4: `services.app.env_file`: the recipe has no file `none`");
}

#[test]
fn what_swarm_ignores_is_noted() {
    let stack = stack(
        "services:\n  app:\n    image: i\n    restart: always\n    depends_on: [db]\n    container_name: c\n    build: .\n    environment:\n      A: $X-y\n  db:\n    image: d\n    privileged: true\n",
    );
    assert_eq!(
        stack.notes,
        [
            "`compose.yml`: `services.app.environment.A`: what follows a variable without braces, up to a `}`, counts as its default or message",
            "service `app`: Swarm ignores `build`",
            "service `app`: Swarm ignores `container_name`",
            "service `app`: Swarm ignores `depends_on`",
            "service `db`: Swarm ignores `privileged`",
        ]
    );
}

#[test]
fn errors_name_file_service_and_key() {
    for (lines, expected) in [
        (
            "enviroment: {}",
            "`compose.yml`: `services.app.enviroment`: the key is not known; did you mean `environment`?",
        ),
        (
            "deploy:\n  replica: 1",
            "`compose.yml`: `services.app.deploy.replica`: the key is not known; did you mean `replicas`?",
        ),
        ("zzz: 1", "`compose.yml`: `services.app.zzz`: the key is not known"),
        (
            "mem_limit: 1g",
            "`compose.yml`: `services.app.mem_limit`: `docker stack deploy` refuses it: set `deploy.resources.limits.memory`",
        ),
        ("hostname: 5", "`compose.yml`: `services.app.hostname`: expected text, seen a number `5`"),
        (
            "environment:\n  A: true",
            "`compose.yml`: `services.app.environment.A`: expected text or a number, seen the boolean `true`: put it in quotes",
        ),
        (
            "environment:\n  A: [1]",
            "`compose.yml`: `services.app.environment.A`: expected text or a number, seen a list",
        ),
        ("environment: text", "`compose.yml`: `services.app.environment`: expected a mapping, seen text `text`"),
        ("labels: [a=1, a=1]", "`compose.yml`: `services.app.labels[1]`: `a=1` stands here twice"),
        (
            "deploy:\n  replicas: \"2\"",
            "`compose.yml`: `services.app.deploy.replicas`: expected a whole number, seen text `2`",
        ),
        ("deploy:\n  replicas: -1", "`compose.yml`: `services.app.deploy.replicas`: `-1` is out of range"),
        (
            "deploy:\n  mode: replicated-job",
            "`compose.yml`: `services.app.deploy.mode`: `replicated-job` is not known: possible are `replicated`, `global`",
        ),
        (
            "deploy:\n  mode: global\n  replicas: 1",
            "`compose.yml`: `services.app.deploy`: `replicas` and mode `global` exclude each other",
        ),
        (
            "deploy:\n  update_config:\n    order: random",
            "`compose.yml`: `services.app.deploy.update_config.order`: `random` is not known: possible are `start-first`, `stop-first`",
        ),
        ("stop_grace_period: 10", "`compose.yml`: `services.app.stop_grace_period`: expected text, seen a number `10`"),
        (
            "stop_grace_period: 10x",
            "`compose.yml`: `services.app.stop_grace_period`: `10x` is not a duration such as `1m30s`",
        ),
        ("command: \"a 'b\"", "`compose.yml`: `services.app.command`: a quote (`'`) is not closed"),
        (
            "command: $(date)",
            "`compose.yml`: `services.app.command`: `$(date)`: a `$` must be followed by a name, or by `{` with a name and maybe `:-`, `-`, `:?` or `?`: write `$$` for a dollar sign",
        ),
        (
            "hostname: ${NEEDED:?set it}",
            "`compose.yml`: `services.app.hostname`: `${NEEDED:?set it}`: variable `NEEDED` is required: set it",
        ),
        (
            "volumes: [dta:/data]",
            "`compose.yml`: `services.app.volumes[0]`: volume `dta` is not defined in the top-level `volumes`; did you mean `data`?",
        ),
        ("volumes: [data:data]", "`compose.yml`: `services.app.volumes[0]`: target `data` is not an absolute path"),
        (
            "volumes:\n  - type: npipe\n    target: /x",
            "`compose.yml`: `services.app.volumes[0]`: mount type `npipe` is not known: possible are `volume`, `bind` and `tmpfs`",
        ),
        ("volumes:\n  - target: /x", "`compose.yml`: `services.app.volumes[0]`: `type` is missing"),
        (
            "networks: [nope]",
            "`compose.yml`: `services.app.networks.nope`: network `nope` is not defined in the top-level `networks`",
        ),
        (
            "secrets: [pww]",
            "`compose.yml`: `services.app.secrets[0]`: secret `pww` is not defined in the top-level `secrets`; did you mean `pw`?",
        ),
        (
            "configs: [{source: conf, uid: root}]",
            "`compose.yml`: `services.app.configs[0]`: uid `root` is not a number",
        ),
        ("ports: [\"x\"]", "`compose.yml`: `services.app.ports[0]`: `x` is not a port such as `8080:80/tcp`"),
        ("ports: [{published: 1}]", "`compose.yml`: `services.app.ports[0]`: `target` is missing"),
        (
            "healthcheck:\n  test: [curl]",
            "`compose.yml`: `services.app.healthcheck`: `test` begins with `curl`: expected `NONE`, `CMD` with a command, or `CMD-SHELL` with one line",
        ),
        (
            "healthcheck:\n  test: x\n  disable: true",
            "`compose.yml`: `services.app.healthcheck`: `test` and `disable` exclude each other",
        ),
        (
            "depends_on:\n  db:\n    condition: service_healthy",
            "`compose.yml`: `services.app.depends_on`: expected a list, seen a mapping",
        ),
        (
            "restart: sometimes",
            "`compose.yml`: `services.app.restart`: `sometimes` is not known: possible are `no`, `always`, `unless-stopped` and `on-failure`",
        ),
        (
            "ulimits: {nofile: {soft: 1}}",
            "`compose.yml`: `services.app.ulimits.nofile`: both `soft` and `hard` are needed",
        ),
    ] {
        assert_eq!(app_error(lines), expected);
    }
}

#[test]
fn errors_outside_of_services_name_their_place_too() {
    let service = "services:\n  app:\n    image: i\n";
    for (text, expected) in [
        ("service: {}", "`compose.yml`: `service`: the key is not known; did you mean `services`?"),
        (
            "version: '2.4'\nservices: {}",
            "`compose.yml`: version `2.4` is not supported: expected `3`, or `3.0` to `3.13`",
        ),
        ("version: 3.8\nservices: {}", "`compose.yml`: `version`: expected text, seen a number `3.8`"),
        ("services: {}", "`compose.yml`: no service is defined"),
        ("services:\n  app:\n    command: x", "`compose.yml`: `services.app`: it has no `image`"),
        (
            "services:\n  \"a b\":\n    image: x",
            "`compose.yml`: `services.a b`: expected a name of letters, digits, `.`, `_` and `-`",
        ),
        ("services: [a]", "`compose.yml`: `services`: expected a mapping, seen a list"),
        ("services:\n  app:", "`compose.yml`: `services.app`: expected a mapping, seen nothing"),
    ] {
        assert_eq!(error(text), expected);
    }
    for (text, expected) in [
        ("configs:\n  c: {}", "`compose.yml`: `configs.c`: it has neither `file` nor `external`"),
        (
            "configs:\n  c: {file: /etc/hostname}",
            "`compose.yml` line 5: `configs.c.file`: path `/etc/hostname` leaves the recipe, which nothing allows: put the file into the recipe",
        ),
        (
            "configs:\n  c: {file: ../x}",
            "`compose.yml` line 5: `configs.c.file`: path `../x` leaves the recipe, which nothing allows: put the file into the recipe",
        ),
        (
            "configs:\n  c: {file: link}",
            "`compose.yml` line 5: `configs.c.file`: `link` is a symbolic link to `/etc/passwd`: links are not followed, which nothing allows: put the file itself into the recipe",
        ),
        ("configs:\n  c: {file: none}", "`compose.yml` line 5: `configs.c.file`: the recipe has no file `none`"),
        (
            "volumes:\n  v: {external: true, driver: local}",
            "`compose.yml`: `volumes.v`: `external` and `driver` exclude each other",
        ),
        (
            "networks:\n  n: {external: {name: a}, name: b}",
            "`compose.yml`: `networks.n`: both `external.name` and `name` are given: `name` is enough",
        ),
        (
            "networks:\n  n: {external: \"$X\"}",
            "`compose.yml`: `networks.n.external`: expected a boolean, seen `x` once variables are replaced",
        ),
    ] {
        assert_eq!(error(&format!("{service}{text}\n")), expected);
    }
    assert!(error("a: [").starts_with("failed to read `compose.yml`: not valid YAML: "), "{}", error("a: ["));
}

#[test]
fn a_later_file_adds_replaces_and_appends() {
    let service = merged_app(
        "command: old words\nentrypoint: old\nhostname: old\nworking_dir: /old\nread_only: true\nenvironment: {A: 1, B: 1}\nlabels: {a: 1, b: 1}\nextra_hosts: [\"a:1.1.1.1\"]\n\
         volumes: [\"data:/data\", \"/keep\"]\nports: [\"8080:80\", \"9090:90\"]\nsecrets: [pw]\nnetworks: {proxy: {aliases: [x, y]}}\ndeploy: {replicas: 2, labels: [\"l=1\", \"m=1\"], update_config: {order: start-first, delay: 5s}}",
        "    command: new\n    hostname: new\n    working_dir: \"\"\n    read_only: false\n    environment: [\"B=2\", \"C=2\", \"A=\"]\n    labels: {b: \"\", c: 2}\n    extra_hosts: [\"b:2.2.2.2\"]\n\
         \x20   volumes: [\"more:/data:ro\", \"/alpha\"]\n    ports: [{target: 81, published: 8080}]\n    secrets: [{source: pw, target: other}]\n    networks: {proxy: {aliases: [z]}, default: {}}\n    deploy: {replicas: 0, labels: [\"m=2\"], update_config: {order: stop-first, delay: 0s}}\n",
    );
    assert_eq!(
        (service.command.unwrap(), service.entrypoint.unwrap()),
        (vec!["new".to_owned()], vec!["old".to_owned()])
    );
    assert_eq!(
        (service.hostname.as_deref(), service.working_dir.as_deref(), service.read_only),
        (Some("new"), Some("/old"), true)
    );
    assert_eq!(service.environment, map(&[("A", "1"), ("B", "2"), ("C", "2")]));
    assert_eq!(service.labels, map(&[("a", "1"), ("b", ""), ("c", "2")]));
    assert_eq!(service.extra_hosts.len(), 2);
    let mounts: Vec<(&str, &MountKind)> =
        service.mounts.iter().map(|mount| (mount.target.as_str(), &mount.kind)).collect();
    let (anonymous, more) = (MountKind::Anonymous, MountKind::Volume("more".into()));
    assert_eq!(mounts, [("/alpha", &anonymous), ("/data", &more), ("/keep", &anonymous)]);
    let ports: Vec<_> = service.ports.iter().map(|port| (port.published, port.target)).collect();
    assert_eq!(ports, [(Some(8080), 81), (Some(9090), 90)]);
    assert_eq!(service.secrets.iter().map(|secret| secret.target.as_str()).collect::<Vec<_>>(), ["/run/secrets/other"]);
    assert_eq!(service.networks, BTreeMap::from([("default".into(), vec![]), ("proxy".into(), vec!["z".into()])]));
    assert_eq!(service.deploy.mode, Mode::Replicated(0), "0 replicas is a value");
    assert_eq!(service.deploy.labels, map(&[("l", "1"), ("m", "2")]));
    assert_eq!(service.deploy.update.order, UpdateOrder::StopFirst);
    assert_eq!(service.deploy.update.delay, Duration::from_secs(5), "no time at all replaces none");
}

#[test]
fn a_later_file_keeps_what_it_does_not_name() {
    let compose = merged(
        "cap_add: [A]\nulimits: {nofile: 5, nproc: 6}\nlogging: {driver: a, options: {x: 1}}\nhealthcheck: {test: old, retries: 3, interval: 5s}",
        "    cap_add: [B]\n    ulimits: {nofile: {soft: 1, hard: 2}}\n    logging: {driver: b}\n    healthcheck: {retries: 9}\n  worker:\n    image: w\nvolumes:\n  data:\n    name: other\n",
    );
    let app = &compose.document["services"]["app"];
    assert_eq!(app["cap_add"], json!(["A", "B"]));
    assert_eq!(app["ulimits"], json!({"nofile": {"soft": 1, "hard": 2}, "nproc": 6}));
    assert_eq!(app["logging"], json!({"driver": "b"}), "another driver takes no options over");
    let check = compose.stack.services["app"].healthcheck.clone().unwrap();
    assert_eq!((check.test, check.retries), (Some(HealthTest::Shell("old".into())), Some(9)));
    assert_eq!(check.interval, Some(Duration::from_secs(5)));
    assert_eq!(compose.stack.volumes["data"].name, "other");
    assert!(compose.stack.services.contains_key("worker"));
}

#[test]
fn logging_options_of_one_driver_are_merged() {
    let compose = merged("logging: {driver: a, options: {x: 1, y: 1}}", "    logging: {options: {y: 2}}\n");
    assert_eq!(compose.document["services"]["app"]["logging"], json!({"driver": "a", "options": {"x": "1", "y": "2"}}));
}

#[test]
fn a_section_of_a_later_file_replaces_whole_entries() {
    let files = [
        ("compose.yml", "services:\n  app:\n    image: i\nnetworks:\n  n:\n    driver: overlay\n    internal: true\n"),
        ("more.yml", "networks:\n  n:\n    external: true\n"),
    ];
    let compose = recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap();
    assert_eq!(compose.stack.networks["n"], Network { name: "n".into(), external: true, ..Network::default() });
}

#[test]
fn files_of_different_versions_do_not_go_together() {
    let files =
        [("compose.yml", "version: '3.8'\nservices: {app: {image: i}}\n"), ("more.yml", "services: {b: {image: i}}\n")];
    let error = format!("{:#}", recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap_err());
    assert_eq!(error, "`more.yml`: version `3.13` differs from `3.8` of `compose.yml`: one is needed");
    let same = [("compose.yml", "version: '3'\nservices: {app: {image: i}}\n"), files[1]];
    assert!(recipe(&same, "COMPOSE_FILE=compose.yml:more.yml").is_ok());
}

#[test]
fn errors_of_a_later_file_name_that_file() {
    let files = [("compose.yml", "services: {app: {image: i}}\n"), ("more.yml", "services: {app: {imag: i}}\n")];
    let error = format!("{:#}", recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap_err());
    assert_eq!(error, "`more.yml`: `services.app.imag`: the key is not known; did you mean `image`?");
    let files = [files[0], ("more.yml", "services: {app: {volumes: [\"vol:/v\"]}}\n")];
    let error = format!("{:#}", recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap_err());
    assert!(
        error.starts_with("`compose.yml` + `more.yml`: `services.app.volumes[0]`: volume `vol` is not defined"),
        "{error}"
    );
}

#[test]
fn the_document_is_what_docker_would_be_given() {
    let compose = compose("version: '3.2'\nservices:\n  app:\n    image: nginx:$X\n    command: echo $$HOME\n    ports: [\"8080:80\"]\n    deploy:\n      labels: [\"a=1\"]\n").unwrap();
    let text = for_stack_deploy(&compose.document).unwrap();
    let expected = json!({"version": "3.8", "services": {"app": {
        "image": "nginx:x",
        "command": ["echo", "$$HOME"],
        "ports": [{"mode": "ingress", "target": 80, "published": 8080, "protocol": "tcp"}],
        "deploy": {"labels": {"a": "1"}},
    }}});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    assert!(recipe(&[("compose.yml", &text)], "").is_ok(), "the document is itself a compose file");
}

#[test]
fn secrets_know_the_variable_that_declares_them() {
    let text = "services: {app: {image: i}}\nsecrets:\n  jwt-key:\n    external: true\n    name: ${STACK_NAME}_jwt_key_${SECRET_JWT_KEY_VERSION}\n";
    let compose = recipe(&[("compose.yml", text)], "SECRET_JWT_KEY_VERSION=v7\n").unwrap();
    assert_eq!(compose.stack.secrets["jwt-key"].name, "a_example_org_jwt_key_v7");
    assert_eq!(compose.secret_variables["jwt-key"], ["STACK_NAME", "SECRET_JWT_KEY_VERSION"]);
}

#[test]
fn a_template_that_is_not_understood_is_noted() {
    let files = [
        (
            "compose.yml",
            "services:\n  app:\n    image: i\n    configs: [known, odd]\n\
          configs:\n  known: {file: t1, template_driver: golang}\n  odd: {file: t2, template_driver: golang}\n  raw: {file: t2}\n",
        ),
        ("t1", "A={{ env \"A\" }} {{ secret \"pw\" }} {{ .Task.Slot }}"),
        ("t2", "{{ range .Service }}"),
    ];
    let notes = template::notes(&recipe(&files, "").unwrap().stack);
    let start = "config `odd` is a template with more in it than `env`, `secret`, `config`, `if` and the names";
    assert!(notes.len() == 1 && notes[0].starts_with(start), "{notes:?}");
}

proptest::proptest! {
    #[test]
    fn a_file_that_says_nothing_changes_nothing(names in proptest::collection::vec("[a-c]{1,2}", 1..4)) {
        let lines: String = names.iter().map(|name| format!("    x-{name}: 1\n    labels: {{{name}: {name}}}\n")).take(1).collect();
        let first = format!("services:\n  app:\n    image: i\n{lines}    ports: [\"80:80\"]\n");
        let one = recipe(&[("compose.yml", &first)], "").unwrap();
        let files = [("compose.yml", first.as_str()), ("more.yml", "services: {app: {}}\n")];
        let two = recipe(&files, "COMPOSE_FILE=compose.yml:more.yml").unwrap();
        proptest::prop_assert_eq!(one.stack, two.stack);
        proptest::prop_assert_eq!(one.document, two.document);
    }
}

#[test]
fn a_few_lines_do_not_take_all_memory() {
    let big = format!("BIG={}\n", "x".repeat(100_000));
    let said = |text: &str| {
        format!("{:#}", recipe(&[("compose.yml", text), ("large", &"a=b\n".repeat(250_000))], &big).unwrap_err())
    };
    let service = "services:\n  app:\n    image: nginx:1\n";
    let more = "put more than 8 MiB into the compose files, and no more is read";
    let list = |entry: &str| -> String { (0..20_000).map(|_| format!("- {entry}\n")).collect() };
    let error = said(&format!("x-many:\n{}{service}", list("\"$BIG\"")));
    assert!(error.starts_with("`compose.yml`: `x-many[]`: variables") && error.ends_with(more), "{error}");
    let error = said(&format!("{service}    hostname: \"{}\"\n", "$BIG".repeat(20_000)));
    let shown = "$BIG".repeat(20);
    assert_eq!(
        error,
        format!(
            "`compose.yml`: `services.app.hostname`: `{shown}`: it has more than 1024 KiB once variables are replaced"
        )
    );
    let services: String = (0..500).map(|number| format!("  s{number}: {{image: x, env_file: [large]}}\n")).collect();
    let error = said(&format!("services:\n{services}"));
    assert!(error.ends_with(more), "{error}");
    let services: String = (0..500).map(|number| format!("  s{number}: {{image: x, environment: [BIG]}}\n")).collect();
    assert!(said(&format!("services:\n{services}")).ends_with(more));
    let configs: String = (0..500).map(|number| format!("  c{number}: {{file: large}}\n")).collect();
    assert!(said(&format!("{service}configs:\n{configs}")).ends_with(more));
    let aliases = format!("x-a: &a {}\nx-many:\n{}{service}", "y".repeat(500_000), list("*a"));
    let error = said(&aliases);
    assert!(error.contains("it has more than 4 MiB of text, aliases replaced, at line 10 "), "{error}");
    let error = said(&format!("{service}{}", "# x\n".repeat(300_000)));
    assert_eq!(error, "the compose files have 1200036 bytes together: at most 1048576 are read");
}
