//! The way to the app, label by label.

use std::collections::BTreeMap;

use super::super::stack::{Network, Service};
use super::*;

const DOMAIN: &str = "wiki.example.test";

/// A service with labels, on these networks.
fn service(labels: &[(&str, &str)], networks: &[&str]) -> Service {
    let mut service = Service::default();
    service.deploy.labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    service.networks = networks.iter().map(|name| (name.to_string(), Vec::new())).collect();
    service
}

fn stack(services: &[(&str, Service)]) -> Stack {
    let network =
        |name: &str, external| (name.to_owned(), Network { name: name.into(), external, ..Network::default() });
    Stack {
        services: services.iter().map(|(name, service)| (name.to_string(), service.clone())).collect(),
        networks: BTreeMap::from([network("proxy", true), network("internal", false), network("other", true)]),
        ..Stack::default()
    }
}

fn asked(stack: &Stack, path: &str) -> Way {
    way(stack, Asked { domain: DOMAIN, path, entrypoints: &[] })
}

/// What is said of one service on the proxy's network.
fn said(labels: &[(&str, &str)]) -> Way {
    asked(&stack(&[("web", service(labels, &["proxy"]))]), "/")
}

fn to(service: &str, port: u16) -> Result<Route, String> {
    Ok(Route { service: service.into(), port, tls: false, rewrites: Vec::new() })
}

const ENABLE: (&str, &str) = ("traefik.enable", "true");
const RULE: (&str, &str) =
    ("traefik.http.routers.a.rule", "Host(`other.test`, `wiki.example.test`) && PathPrefix(`/`)");
const PORT: (&str, &str) = ("traefik.http.services.a.loadbalancer.server.port", "8080");

#[test]
fn the_labels_name_the_service_and_its_port() {
    let way = said(&[ENABLE, RULE, PORT]);
    assert_eq!(way, Way { route: to("web", 8080), problems: vec![], unjudged: vec![], is_none: false });
    assert_eq!(said(&[("traefik.enable", "True"), RULE, PORT]).route, to("web", 8080), "Go reads a boolean");
    assert_eq!(said(&[ENABLE, ("Traefik.HTTP.Routers.a.Rule", RULE.1), PORT]).route, to("web", 8080));
}

#[test]
fn what_is_missing_is_named() {
    let error = |labels: &[(&str, &str)]| said(labels).route.unwrap_err();
    assert_eq!(error(&[]), "no service has a Traefik router whose rule is for `wiki.example.test`");
    assert!(said(&[]).is_none);
    let other = ("traefik.http.routers.a.rule", "Host(`wiki.example.test.evil.test`)");
    assert_eq!(
        error(&[ENABLE, other, PORT]),
        "no service has a Traefik router whose rule is for `wiki.example.test`; the only rule is \
         `Host(`wiki.example.test.evil.test`)`, of `web`"
    );
    assert!(error(&[RULE, PORT]).ends_with("but not the label `traefik.enable=true`"));
    assert!(error(&[ENABLE, RULE]).contains("loadbalancer.server.port"));
    assert!(error(&[ENABLE, RULE, (PORT.0, "http")]).ends_with("is `http`, which is no port"));
    let nowhere = ("traefik.http.routers.a.rule", "Host(`wiki.example.test`) && PathPrefix(`/nowhere`)");
    assert_eq!(
        error(&[ENABLE, nowhere, PORT]),
        "no router's rule takes `/` of `wiki.example.test`: Traefik answers 404; the only rule is \
         `Host(`wiki.example.test`) && PathPrefix(`/nowhere`)`, of `web`"
    );
}

#[test]
fn the_rules_that_there_are_are_told_with_their_lines_and_not_without_end() {
    let rule = |number: usize| (format!("traefik.http.routers.r{number}.rule"), format!("Host(`{number}.test`)"));
    let error = |count: usize| {
        let rules: Vec<(String, String)> = (1..=count).map(rule).collect();
        let mut labels: Vec<(&str, &str)> = rules.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        labels.push(ENABLE);
        let mut stack = stack(&[("web", service(&labels, &["proxy"]))]);
        let place = ("traefik.http.routers.r1.rule".to_owned(), "`compose.yml` line 21".to_owned());
        stack.rules_at.insert("web".into(), [place].into());
        asked(&stack, "/").route.unwrap_err()
    };
    assert!(error(1).ends_with("; the only rule is `Host(`1.test`)`, of `web`: `compose.yml` line 21"), "{}", error(1));
    let two = "; the rules are `Host(`1.test`)`, of `web`: `compose.yml` line 21; `Host(`2.test`)`, of `web`";
    assert!(error(2).ends_with(two), "{}", error(2));
    assert!(error(5).ends_with("; `Host(`3.test`)`, of `web`; and 2 more"), "{}", error(5));
}

/// The one problem of a service that is right but for these labels.
fn problem(more: &[(&str, &str)]) -> String {
    let way = said(&[&[ENABLE, RULE, PORT], more].concat());
    assert_eq!(way.problems.len(), 1, "{way:?}");
    way.problems[0].clone()
}

#[test]
fn a_name_that_nobody_defines_is_a_problem() {
    let middleware = problem(&[
        ("traefik.http.routers.a.middlewares", "a-redirect"),
        ("traefik.http.middlewares.a_redirect.headers.SSLForceHost", "true"),
    ]);
    assert_eq!(
        middleware,
        "the label `traefik.http.routers.a.middlewares` names the middleware `a-redirect`, which no service with \
         `traefik.enable=true` defines (defined: `a_redirect`): Traefik drops the router, and visitors get 404"
    );
    let chained = problem(&[
        ("traefik.http.routers.a.middlewares", "c"),
        ("traefik.http.middlewares.c.chain.middlewares", "d@docker"),
    ]);
    assert!(chained.starts_with("the label `traefik.http.middlewares.c.chain.middlewares` names the middleware `d`"));
    assert!(problem(&[("traefik.http.routers.a.service", "b")]).contains("names `b`, which no label defines"));
    let entrypoint = problem(&[("traefik.http.routers.a.entrypoints", "websecured")]);
    assert!(
        entrypoint.contains("names the entry point `websecured`, which abra's Traefik does not have"),
        "{entrypoint}"
    );
    assert!(
        problem(&[("traefik.http.routers.b.rule", "Host(`b.test`")]).contains("is malformed, `Host(`b.test``: after")
    );
}

#[test]
fn several_ports_need_a_word_which_of_them_it_is() {
    let console = ("traefik.http.services.console.loadbalancer.server.port", "9001");
    assert!(problem(&[console]).contains("defines the Traefik services `a` and `console`, and no label"));
    let way = said(&[ENABLE, RULE, PORT, console, ("traefik.http.routers.a.service", "console@swarm")]);
    assert_eq!((way.route, way.problems), (to("web", 9001), vec![]));
}

#[test]
fn a_container_has_to_be_on_a_network_of_traefiks() {
    let on = |networks: &[&str], more: &[(&str, &str)]| {
        let way = asked(&stack(&[("web", service(&[&[ENABLE, RULE, PORT], more].concat(), networks))]), "/");
        assert_eq!(way.route, to("web", 8080), "the container itself can be asked all the same");
        (way.problems, way.unjudged)
    };
    assert_eq!(
        on(&["internal"], &[]).0,
        [
            "service `web` is on `internal`, and not on the network `proxy`: Traefik cannot reach it, and visitors get 504"
        ]
    );
    assert!(on(&[], &[]).0[0].starts_with("service `web` is on the stack's default network, and not"));
    let named = on(&["internal"], &[("traefik.docker.network", "proxy")]);
    assert!(named.0[0].starts_with("the label `traefik.docker.network` of service `web` names the network `proxy`"));
    assert!(
        on(&["other"], &[]).1[0].starts_with("whether Traefik is on one of the networks of service `web`, `other`")
    );
    assert_eq!(on(&["proxy", "internal"], &[]), (vec![], vec![]));
}

#[test]
fn the_longest_rule_takes_the_path_and_its_own_service_answers() {
    let api = [
        ENABLE,
        ("traefik.http.routers.api.rule", "Host(`wiki.example.test`) && PathPrefix(`/api`)"),
        ("traefik.http.services.api.loadbalancer.server.port", "8000"),
        ("traefik.http.routers.api.middlewares", "strip"),
        ("traefik.http.middlewares.strip.stripprefix.prefixes", "/api,/v1"),
    ];
    let app = [ENABLE, ("traefik.http.routers.app.rule", "Host(`wiki.example.test`)"), PORT];
    let stack = stack(&[("api", service(&api, &["proxy"])), ("app", service(&app, &["proxy"]))]);
    assert_eq!(asked(&stack, "/").route, to("app", 8080));
    let route = asked(&stack, "/api/pages").route.unwrap();
    assert_eq!((route.service.as_str(), route.port), ("api", 8000));
    assert_eq!(route.rewrites, [Rewrite::Strip(vec!["/api".into(), "/v1".into()])]);
    assert_eq!((route.rewrites[0].apply("/api/pages"), route.rewrites[0].apply("/api")), ("/pages".into(), "/".into()));
    assert_eq!(Rewrite::Add("/base/".into()).apply("/x"), "/base/x");
}

#[test]
fn the_encrypted_entry_point_comes_first_and_a_container_may_speak_tls_itself() {
    let plain = [
        ("traefik.http.routers.plain.rule", "Host(`wiki.example.test`) && PathPrefix(`/`) && Method(`GET`)"),
        ("traefik.http.routers.plain.entrypoints", "web"),
        ("traefik.http.routers.plain.service", "gone"),
    ];
    let scheme = ("traefik.http.services.a.loadbalancer.server.scheme", "https");
    let way = said(&[&[ENABLE, RULE, PORT, scheme][..], &plain[..2]].concat());
    assert_eq!(way.route, Ok(Route { tls: true, ..to("web", 8080).unwrap() }));
}

#[test]
fn what_lies_outside_of_the_recipe_is_not_judged() {
    let way = said(&[ENABLE, RULE, PORT, ("traefik.http.routers.a.middlewares", "auth@file")]);
    assert_eq!((way.problems.len(), way.route), (0, to("web", 8080)));
    let unjudged =
        "the label `traefik.http.routers.a.middlewares` names `auth@file`, which is defined outside of the recipe";
    assert_eq!(way.unjudged, [unjudged]);
    let ip = ("traefik.http.routers.a.rule", "Host(`wiki.example.test`) && ClientIP(`10.0.0.0/8`)");
    let way = said(&[ENABLE, ip, PORT]);
    assert!(way.unjudged[0].contains("depends on `clientip(10.0.0.0/8)` of its rule"), "{way:?}");
}

#[test]
fn a_router_of_two_services_must_be_one() {
    let other = ("traefik.http.routers.a.rule", "Host(`wiki.example.test`)");
    let stack = stack(&[
        ("web", service(&[ENABLE, RULE, PORT], &["proxy"])),
        ("zeb", service(&[ENABLE, other, PORT], &["proxy"])),
    ]);
    let way = asked(&stack, "/");
    assert_eq!(way.problems.len(), 1, "{way:?}");
    assert!(way.problems[0].contains("defined by service `web` and otherwise by service `zeb`"), "{way:?}");
}
