//! Traefik's labels of a stack, as its Swarm provider reads them: routers, services and middlewares by their names.

use std::collections::BTreeMap;

use crate::recipe::stack::{Service, Stack};

/// What all services that Traefik minds define together.
#[derive(Debug, Default)]
pub struct Labels {
    pub routers: Vec<Router>,
    pub services: Vec<Backend>,
    pub middlewares: BTreeMap<String, Middleware>,
}

/// A router, as one compose service defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    pub name: String,
    /// The compose service whose labels these are.
    pub owner: String,
    pub rule: Option<String>,
    pub entrypoints: Vec<String>,
    pub middlewares: Vec<String>,
    /// The Traefik service that it names.
    pub service: Option<String>,
    pub priority: u64,
}

/// A Traefik service: a port of a compose service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    pub name: String,
    pub owner: String,
    pub port: Option<String>,
    pub scheme: Option<String>,
}

/// A middleware: its type in lower case, and what is set of it.
#[derive(Clone, Debug, Default)]
pub struct Middleware {
    pub kind: String,
    pub options: BTreeMap<String, String>,
}

impl Labels {
    /// The labels of every service that has `traefik.enable`.
    pub fn of(stack: &Stack) -> Labels {
        let mut labels = Labels::default();
        for (owner, service) in stack.services.iter().filter(|(_, service)| is_enabled(service)) {
            labels.read(owner, service);
        }
        labels
    }

    /// Those of one service, whether it has `traefik.enable` or not.
    pub fn of_service(owner: &str, service: &Service) -> Labels {
        let mut labels = Labels::default();
        labels.read(owner, service);
        labels
    }

    fn read(&mut self, owner: &str, service: &Service) {
        let (mut routers, mut backends) = (BTreeMap::<String, Router>::new(), BTreeMap::<String, Backend>::new());
        for (key, value) in &service.deploy.labels {
            let parts: Vec<&str> = key.split('.').collect();
            let [traefik, http, kind, name, field @ ..] = parts.as_slice() else { continue };
            if !traefik.eq_ignore_ascii_case("traefik") || !http.eq_ignore_ascii_case("http") {
                continue;
            }
            let (name, value, field) = ((*name).to_owned(), value.trim(), field.join(".").to_ascii_lowercase());
            match kind.to_ascii_lowercase().as_str() {
                "routers" => {
                    let router = routers.entry(name.clone()).or_default();
                    (router.name, router.owner) = (name, owner.to_owned());
                    router.set(&field, value);
                }
                "services" => {
                    let backend = backends.entry(name.clone()).or_default();
                    (backend.name, backend.owner) = (name, owner.to_owned());
                    match field.as_str() {
                        "loadbalancer.server.port" => backend.port = Some(value.to_owned()),
                        "loadbalancer.server.scheme" => backend.scheme = Some(value.to_ascii_lowercase()),
                        _ => {}
                    }
                }
                "middlewares" => {
                    let middleware = self.middlewares.entry(name).or_default();
                    let (kind, option) = field.split_once('.').unwrap_or((&field, ""));
                    kind.clone_into(&mut middleware.kind);
                    middleware.options.insert(option.to_owned(), value.to_owned());
                }
                _ => {}
            }
        }
        self.routers.extend(routers.into_values());
        self.services.extend(backends.into_values());
    }
}

impl Router {
    fn set(&mut self, field: &str, value: &str) {
        match field {
            "rule" => self.rule = Some(value.to_owned()),
            "entrypoints" => self.entrypoints = list(value),
            "middlewares" => self.middlewares = list(value),
            "service" => self.service = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "priority" => self.priority = value.parse().unwrap_or_default(),
            _ => {}
        }
    }

    /// The longer the rule, the sooner it is asked, unless the router says otherwise.
    pub fn weight(&self) -> u64 {
        if self.priority > 0 { self.priority } else { self.rule.as_ref().map_or(0, |rule| rule.len() as u64) }
    }
}

/// `traefik.enable`, as Go reads a boolean.
pub fn is_enabled(service: &Service) -> bool {
    let enable = service.deploy.labels.iter().find(|(key, _)| key.eq_ignore_ascii_case("traefik.enable"));
    enable.is_some_and(|(_, value)| ["1", "t", "T", "true", "TRUE", "True"].contains(&value.trim()))
}

/// The network that a service's labels name for Traefik, with the label.
pub fn network(service: &Service) -> Option<(&str, &str)> {
    let is_network =
        |key: &str| ["traefik.docker.network", "traefik.swarm.network"].iter().any(|it| key.eq_ignore_ascii_case(it));
    let label = service.deploy.labels.iter().find(|(key, _)| is_network(key));
    label.map(|(key, value)| (key.as_str(), value.trim())).filter(|(_, value)| !value.is_empty())
}

/// A list as Traefik reads it from a label.
pub fn list(value: &str) -> Vec<String> {
    value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}
