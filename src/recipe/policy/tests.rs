//! Findings of whole compose files, and what policies make of them. Each refusal in full is in `tests/it/declarations.rs`.

use super::super::compose::tests::recipe;
use super::*;

fn judge(policy: &Policy, text: &str) -> Judgement {
    let compose = recipe(&[("compose.yml", text), ("conf", "")], "DOMAIN=a.example.org\n").unwrap();
    policy.judge(&findings(&compose, "a_example_org", "a.example.org"))
}

fn service(lines: &str) -> String {
    format!(
        "services:\n  app:\n    image: nginx:1\n{}",
        lines.lines().map(|it| format!("    {it}\n")).collect::<String>()
    )
}

#[test]
fn what_recipes_usually_declare_is_no_matter_of_the_policy() {
    let text = r#"
services:
  app:
    image: ghcr.io/x/y:1
    networks: [proxy, inner]
    volumes: [data:/data, /scratch]
    configs: [conf]
    secrets: [pw]
    sysctls: {net.core.somaxconn: 1024}
    security_opt: [no-new-privileges]
    stop_grace_period: 5m
    logging: {driver: json-file, options: {max-size: 100m, max-file: 10}}
    healthcheck: {test: "true", interval: 30m}
    deploy:
      replicas: 5
      resources: {limits: {memory: 8192M, cpus: "8"}}
      labels:
        traefik.enable: "true"
        traefik.docker.network: proxy
        traefik.http.routers.a_example_org.rule: Host(`a.example.org`) && PathPrefix(`/x`)
        traefik.http.routers.a_example_org-www.rule: Host(`www.a.example.org`)
        traefik.http.services.a_example_org.loadbalancer.server.port: "80"
        traefik.http.middlewares.a_example_org-h.headers.customresponseheaders.x: "1"
        traefik.tcp.routers.a_example_org.rule: HostSNI(`a.example.org`)
        coop-cloud.a_example_org.timeout: "1800"
        backupbot.backup: "true"
networks:
  proxy: {external: true}
  inner: {driver: overlay, driver_opts: {encrypted: "true"}}
volumes: {data: {driver: local, name: a_example_org_data}}
configs: {conf: {file: conf, name: a_example_org_conf_v1}}
secrets: {pw: {external: true, name: a_example_org_pw_v1}}
"#;
    assert_eq!(judge(&Policy::default(), text), Judgement::default());
}

/// Every run has another stack, and what is pasted has to do for all of them.
#[test]
fn a_remedy_names_no_stack_and_an_entry_for_the_name_lifts_no_rule_about_hosts() {
    let label = |label: &str| service(&format!("deploy: {{labels: [\"traefik.{label}\"]}}"));
    let text = label("http.routers.a_example_org.service=api@internal");
    let refused = judge(&Policy::default(), &text).refusal().unwrap();
    let entry = "traefik.http.routers.<stack>.service";
    assert!(refused.contains(&format!("`labels = [\"{entry}\"]` under `[policy]`")), "{refused}");
    let policy = Policy { labels: vec![entry.into()], ..Policy::default() };
    assert_eq!(judge(&policy, &text).allowed.len(), 1);
    let text = label("http.routers.docs.rule=HostRegexp(`{any:.+}`)");
    let policy = Policy { labels: vec!["traefik.http.routers.docs.rule".into()], ..Policy::default() };
    let judged = judge(&policy, &text);
    assert_eq!((judged.allowed.len(), judged.refused.len()), (1, 1), "{judged:?}");
    assert!(judged.refused[0].contains("`hosts = [\"*\"]` under"), "{judged:?}");
}

#[test]
fn rules_without_a_host_are_allowed_without_any_other_host() {
    let text = service(
        "deploy: {labels: [\"traefik.tcp.routers.a_example_org.rule=HostSNI(`*`)\", \"traefik.udp.routers.a_example_org-u\
         .entrypoints=voice\", \"traefik.udp.services.a_example_org-u.loadbalancer.server.port=64738\"]}",
    );
    assert_eq!(judge(&Policy::default(), &text).refused.len(), 2);
    let policy = Policy { hosts: vec!["*".into()], ..Policy::default() };
    assert_eq!((judge(&policy, &text).refused, judge(&policy, &text).allowed.len()), (Vec::new(), 2));
    let foreign = service("deploy: {labels: [\"traefik.tcp.routers.a_example_org.rule=HostSNI(`bank.example.org`)\"]}");
    assert_eq!(judge(&policy, &foreign).refused.len(), 1);
}

#[test]
fn what_is_wrong_with_a_label_is_told_instead_of_an_entry_that_mends_nothing() {
    let refusal = |lines: &str| judge(&Policy::default(), &service(lines)).refusal().unwrap();
    let empty = refusal("deploy: {labels: [\"traefik.http.routers.a_example_org.rule=\"]}");
    assert!(empty.contains("the rule is empty, as one is whose variable neither `.env.sample`"), "{empty}");
    let key = refusal("deploy: {labels: {\"traefik.http.routers.${STACK_NAME}.rule\": \"Host(`a.example.org`)\"}}");
    assert!(key.contains("Docker puts variables into values and not into keys"), "{key}");
    for said in [empty, key] {
        assert!(said.ends_with("; nothing allows it"), "{said}");
    }
}

#[test]
fn many_services_do_not_have_many_tasks_each() {
    let services = |count: usize, replicas: u64| -> String {
        let service = |number| format!("  s{number}: {{image: nginx:1, deploy: {{replicas: {replicas}}}}}\n");
        format!("services:\n{}", (0..count).map(service).collect::<String>())
    };
    let refused = |text: &str, policy: Policy| judge(&policy, text).refused;
    assert_eq!(
        refused(&services(200, 5), Policy::default()),
        [
            "`compose.yml` line 1: `services` is `1000 tasks in all`: so many tasks could take the machine from all others; 50 is \
          the most; `max_tasks = 1000` under `[policy]` in this recipe's `recipe.toml`, or in `harness.toml`, would allow it"
        ]
    );
    assert_eq!(refused(&services(10, 5), Policy::default()), Vec::<String>::new());
    assert_eq!(refused(&services(51, 0), Policy::default()).len(), 1);
    assert_eq!(refused(&services(200, 5), Policy { max_tasks: Some(1000), ..Policy::default() }), Vec::<String>::new());
}

#[test]
fn an_entry_allows_what_it_names_and_no_more() {
    let text = service("cap_add: [NET_ADMIN, NET_RAW]\nports: ['8443:443', '53:53/udp']");
    let lists = |cap_add: &[&str], ports: &[&str]| Policy {
        cap_add: cap_add.iter().map(|it| it.to_string()).collect(),
        ports: ports.iter().map(|it| it.to_string()).collect(),
        ..Policy::default()
    };
    assert_eq!(judge(&Policy::default(), &text).refused.len(), 4);
    let judgement = judge(&lists(&["NET_ADMIN"], &["8443/tcp"]), &text);
    assert_eq!((judgement.refused.len(), judgement.allowed.len()), (2, 2), "{judgement:?}");
    // A port is its protocol's, and a beginning stands for all that begins so.
    let judgement = judge(&lists(&["NET_*"], &["53/tcp", "8443/tcp"]), &text);
    assert_eq!((judgement.refused.len(), judgement.allowed.len()), (1, 3), "{judgement:?}");
    assert_eq!(judge(&lists(&["*"], &["*"]), &text).refused, Vec::<String>::new());
}

/// Recipes declare their own secrets as external: it is the name that tells whose a secret is.
#[test]
fn a_secret_of_somebody_else_is_lent_by_its_name_and_never_made() {
    let text = |secret: &str| format!("{}secrets: {{pw: {secret}}}\n", service("secrets: [pw]"));
    let lends = Policy { secrets: vec!["smtp_password".into()], ..Policy::default() };
    for secret in ["{external: true, name: smtp_password}", "{external: {name: smtp_password}}"] {
        let judgement = judge(&Policy::default(), &text(secret));
        let expected = "`compose.yml` line 5: `secrets.pw.name` is `smtp_password`: it does not belong to this app; \
                        `secrets = [\"smtp_password\"]` under `[policy]` in this recipe's `recipe.toml`, or in \
                        `harness.toml`, would allow it";
        assert_eq!(judgement.refusal().as_deref(), Some(expected));
        let allowed = "`secrets.pw.name` is `smtp_password` (`compose.yml` line 5): the policy's `secrets` allows it";
        assert_eq!(judge(&lends, &text(secret)), Judgement { refused: vec![], allowed: vec![allowed.into()] });
    }
    let other = judge(&lends, &text("{external: true, name: smtp_password_v2}"));
    assert_eq!((other.refused.len(), other.allowed.len()), (1, 0), "{other:?}");
    let made = judge(&lends, &text("{driver: local, name: smtp_password}")).refusal().unwrap();
    assert!(made.ends_with("`external: true` uses what is there; nothing allows it"), "{made}");
}

#[test]
fn limits_hold_at_the_boundary_and_may_be_moved_both_ways() {
    let replicas = |count: u64| service(&format!("deploy: {{replicas: {count}}}"));
    let policy = |most| Policy { max_replicas: Some(most), ..Policy::default() };
    assert_eq!(judge(&Policy::default(), &replicas(5)), Judgement::default());
    assert_eq!(judge(&Policy::default(), &replicas(6)).refused.len(), 1);
    assert_eq!(judge(&policy(6), &replicas(6)).allowed.len(), 1);
    assert_eq!(judge(&policy(6), &replicas(7)).refused.len(), 1);
    assert_eq!(judge(&policy(2), &replicas(3)).refused.len(), 1);
    for lines in [
        "stop_grace_period: 5m1ms",
        "healthcheck: {test: x, interval: 30m1ms}",
        "healthcheck: {test: x, start_period: 1h}",
        "deploy: {update_config: {delay: 1h}}",
        "deploy: {restart_policy: {window: 1h}}",
        "deploy: {resources: {reservations: {memory: 9g}}}",
        "logging: {options: {max-size: '-1'}}",
        "logging: {options: {max-size: 1025m}}",
    ] {
        assert_eq!(judge(&Policy::default(), &service(lines)).refused.len(), 1, "{lines}");
    }
}

#[test]
fn what_hides_behind_another_form_is_found() {
    for lines in [
        "volumes: ['~/x:/x']",
        "volumes: ['./x:/x']",
        "network_mode: host",
        "ipc: host",
        "userns_mode: host",
        "cgroup_parent: /x",
        "ports: ['80']",
        "ports: [{target: 80, published: 80, mode: host}]",
        "labels: {Traefik.HTTP.Routers.a_example_org.Rule: Host(`b`)}",
        "labels: [traefik.udp.routers.a_example_org.entrypoints=dns]",
        "labels: [traefik.tls.stores.default.x=y]",
        "labels: [traefik.http.services.a_example_org.loadbalancer.servers.0.url=http://169.254.169.254]",
        "labels: [com.docker.stack.namespace=other]",
        "image: localhost/x",
        "image: builtin:static-web",
        "image: oci:/var/lib/x",
    ] {
        let text = service(lines);
        let text = if lines.starts_with("image") { text.replace("    image: nginx:1\n", "") } else { text };
        let judgement = judge(&Policy::default(), &text);
        assert_eq!(judgement.refused.len(), 1, "{lines}: {judgement:?}");
    }
}

/// Each reaches beyond the app in a way of its own, and has a harmless twin.
#[test]
fn what_reaches_beyond_the_app_is_found_and_its_harmless_twin_is_not() {
    let label = |label: &str| service(&format!("deploy: {{labels: [\"traefik.{label}\"]}}"));
    let network = |network: &str| format!("{}networks: {{n: {{{network}}}}}\n", service("networks: [n]"));
    let logging = |options: &str| service(&format!("logging: {{driver: local, options: {{{options}}}}}"));
    let own = "a_example_org";
    for (refused, harmless) in [
        (
            label("http.routers.a_example_org.service=api@internal"),
            label(&format!("http.routers.{own}.service={own}-api")),
        ),
        (
            label("http.middlewares.a_example_org-e.errors.service=cloud_example_org"),
            label("http.middlewares.a_example_org-e.errors.service=A_example_org-errors"),
        ),
        (
            label("http.routers.a_example_org.tls.domains[0].main=ci.example.org"),
            label("http.routers.a_example_org.tls.domains[0].main=a.example.org"),
        ),
        (
            label("tcp.routers.a_example_org.tls.domains[0].sans=*.a.example.org, *.example.org"),
            label("tcp.routers.a_example_org.tls.domains[0].sans=*.a.example.org"),
        ),
        (
            label("http.middlewares.a_example_org-f.forwardauth.address=http://169.254.169.254/"),
            label("http.middlewares.a_example_org-f.forwardauth.trustforwardheader=true"),
        ),
        (
            label("tcp.services.a_example_org.loadbalancer.servers[0].address=10.0.0.1:22"),
            label("tcp.services.a_example_org.loadbalancer.server.port=22"),
        ),
        (
            label("http.middlewares.a_example_org-a.basicauth.usersfile=/etc/traefik/file"),
            label("http.middlewares.a_example_org-a.basicauth.users=a:b"),
        ),
        (network("driver: bridge, ipam: {config: [{subnet: 192.168.1.0/24}]}"), network("driver: bridge")),
        (network("ipam: {driver: elsewhere}"), network("ipam: {driver: default, config: [{subnet: 192.168.1.0/24}]}")),
        (network("labels: {recipe-harness.run: another}"), network("labels: {backupbot.backup: 'true'}")),
        (logging("max-file: '1000'"), logging("max-file: '10'")),
        (logging("max-size: 500m"), logging("max-size: 200m")),
        (logging("mode: non-blocking, max-buffer-size: 100g"), logging("mode: non-blocking, max-buffer-size: 4m")),
        (
            service(
                "deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}]}}}",
            ),
            service("deploy: {resources: {reservations: {generic_resources: []}}}"),
        ),
    ] {
        let judgement = judge(&Policy::default(), &refused);
        assert_eq!((judgement.refused.len(), judgement.allowed.len()), (1, 0), "{refused}: {judgement:?}");
        let judgement = judge(&Policy::default(), &harmless);
        assert_eq!(judgement, Judgement::default(), "{harmless}");
    }
}

#[test]
fn the_policy_of_a_recipe_adds_to_that_of_all() {
    let own = Policy { cap_add: vec!["A".into()], max_replicas: Some(2), ..Policy::default() };
    let all = Policy { cap_add: vec!["B".into()], max_replicas: Some(9), max_logs: Some(1), ..Policy::default() };
    let both = own.and(&all);
    assert_eq!((both.cap_add, both.max_replicas, both.max_logs), (vec!["A".into(), "B".into()], Some(2), Some(1)));
}

/// What a fuzzer found: a few bytes that kept the harness busy for minutes, and could have taken all memory.
#[test]
fn no_few_bytes_ask_for_all_ports() {
    let error = |lines: &str| {
        let compose = recipe(&[("compose.yml", &service(lines))], "DOMAIN=a.example.org\n");
        format!("{:#}", compose.unwrap_err())
    };
    let place = "`compose.yml`: `services.app.ports";
    for all in ["8000-28001:80", "1-65535", "1-501:2-502"] {
        let expected = format!("{place}[0]`: `{all}` names more than 500 ports");
        assert_eq!(error(&format!("ports: ['{all}']")), expected);
    }
    assert_eq!(
        error("ports: ['1-500', '2001-2500:1']"),
        format!("{place}[1]`: with these the file has more than 500 ports, ranges written out")
    );
    let judged = judge(&Policy::default(), &service("ports: ['1-500:1-500']"));
    let refusal = judged.refusal().unwrap();
    assert!(refusal.ends_with("would allow it; and 480 more"), "{refusal}");
    assert_eq!(
        judge(&Policy { ports: vec!["*".into()], ..Policy::default() }, &service("ports: ['1-500:1-500']")).refusal(),
        None
    );
}

#[test]
fn more_than_can_be_judged_is_refused_whatever_the_policy() {
    let caps = |count: usize| (0..count).map(|index| format!("C{index}")).collect::<Vec<_>>().join(", ");
    let all = Policy { cap_add: vec!["*".into()], ..Policy::default() };
    let judged = |count| judge(&all, &service(&format!("cap_add: [{}]", caps(count))));
    assert_eq!((judged(500).refusal(), judged(500).allowed.len()), (None, 500));
    let expected = "`compose.yml` line 4: `services.app.cap_add[500]` is `C500`: so many things that the policy has to \
                    judge are not looked at; nothing allows it";
    assert_eq!(judged(502).refusal().as_deref(), Some(expected));
}

/// What a fuzzer found, too: the reason quoted the value as it is.
#[test]
fn a_refusal_is_one_line_whatever_the_value() {
    for lines in [
        "image: \"a.example/x\\n\\e[2Jy/z\"",
        "image: \"a\\n.b/x\"",
        "labels: {traefik.http.routers.a_example_org.rule: \"Host(`x\\ny`)\"}",
        "cap_add: [\"a\\nb\"]",
        "sysctls: {\"k\\n\": \"v\\n\"}",
    ] {
        let text = service(lines);
        let text = if lines.starts_with("image") { text.replace("    image: nginx:1\n", "") } else { text };
        let refusal = judge(&Policy::default(), &text).refusal().unwrap();
        assert!(refusal.chars().all(|c| !c.is_control()), "{refusal:?}");
    }
}
