//! How visitors reach the app: from the address through router, middlewares, service and network, as Traefik would take
//! it from the recipe's labels.

mod labels;
pub mod ports;
pub mod rule;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::stack::Stack;
use labels::{Backend, Labels, Router};
use rule::{Meets, Request, Rule};

/// The network on which abra's Traefik looks for its services.
pub const PROXY: &str = "proxy";

/// The entry points of abra's Traefik that take HTTP; the first is the one without encryption.
pub const ENTRYPOINTS: [&str; 3] = ["web", "web-secure", "websecure"];

/// So many rules are told of an address that none of them takes.
const TOLD: usize = 3;

/// Where requests for the app's address go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub service: String,
    /// The port inside the container.
    pub port: u16,
    /// Whether the container itself speaks TLS (`loadbalancer.server.scheme=https`).
    #[serde(default)]
    pub tls: bool,
    /// What the router's middlewares do to a path, in this order.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
}

/// A middleware that changes the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rewrite {
    /// Takes the first of these beginnings away.
    Strip(Vec<String>),
    Add(String),
    Replace(String),
}

/// Everything that the labels say about the way to the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Where it leads, or why nowhere.
    pub route: Result<Route, String>,
    /// A sentence for everything that keeps visitors from getting there.
    pub problems: Vec<String>,
    /// A sentence for everything that nobody can judge from the labels.
    pub unjudged: Vec<String>,
    /// No service says anything to Traefik: the app has no page, or none that visitors are led to.
    pub is_none: bool,
}

/// What is asked for, and of which Traefik.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub domain: &'a str,
    /// `http.path`.
    pub path: &'a str,
    /// Entry points of the Traefik beside [`ENTRYPOINTS`].
    pub entrypoints: &'a [String],
}

impl Rewrite {
    /// The path as this middleware hands it on.
    pub fn apply(&self, path: &str) -> String {
        let changed = match self {
            Rewrite::Strip(prefixes) => {
                prefixes.iter().find_map(|it| path.strip_prefix(it.as_str())).unwrap_or(path).to_owned()
            }
            Rewrite::Add(prefix) => format!("{}{path}", prefix.trim_end_matches('/')),
            Rewrite::Replace(with) => with.clone(),
        };
        if changed.starts_with('/') { changed } else { format!("/{changed}") }
    }
}

/// Whether a label is the rule of a router for HTTP; Traefik does not look at its case.
pub fn is_rule(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    let parts: Vec<&str> = label.split('.').collect();
    matches!(parts[..], ["traefik", "http", "routers", _, "rule"])
}

/// Finds the route of the domain's first page, or says why there is none.
pub fn find(stack: &Stack, domain: &str) -> Result<Route, String> {
    way(stack, Asked { domain, path: "/", entrypoints: &[] }).route
}

/// Follows the way from the address to the container.
pub fn way(stack: &Stack, asked: Asked<'_>) -> Way {
    let mut judge = Judge { stack, asked, labels: Labels::of(stack), problems: Vec::new(), unjudged: Vec::new() };
    judge.duplicates();
    let route = judge.route();
    let is_none = stack.services.iter().all(|(name, service)| {
        let own = Labels::of_service(name, service);
        own.routers.is_empty() && own.services.is_empty()
    });
    let (mut problems, mut unjudged) = (judge.problems, judge.unjudged);
    for sentences in [&mut problems, &mut unjudged] {
        let mut said = BTreeSet::new();
        sentences.retain(|sentence| said.insert(sentence.clone()));
    }
    Way { route, problems, unjudged, is_none }
}

struct Judge<'a> {
    stack: &'a Stack,
    asked: Asked<'a>,
    labels: Labels,
    problems: Vec<String>,
    unjudged: Vec<String>,
}

impl Judge<'_> {
    /// Traefik drops what two services define differently under one name.
    fn duplicates(&mut self) {
        for (at, router) in self.labels.routers.iter().enumerate() {
            let as_other = |it: &&Router| {
                it.name == router.name && Router { owner: router.owner.clone(), ..(*it).clone() } != *router
            };
            if let Some(other) = self.labels.routers[..at].iter().find(as_other) {
                self.problems.push(format!(
                    "the router `{}` is defined by service `{}` and otherwise by service `{}`: Traefik drops both",
                    router.name, other.owner, router.owner
                ));
            }
        }
    }

    /// The router that takes the request, and where it leads.
    fn route(&mut self) -> Result<Route, String> {
        let Asked { domain, path, .. } = self.asked;
        let routers = self.labels.routers.clone();
        let (mut taking, mut named) = (Vec::new(), false);
        for router in &routers {
            let Some(rule) = self.rule(router) else { continue };
            named |= rule.names_host(domain);
            let is_open = self.entrypoints(router);
            let works = self.middlewares(router);
            match rule.meets(Request { host: domain, path }) {
                Meets::Yes => taking.push((router, is_open, works)),
                Meets::Unknown(part) if rule.names_host(domain) => {
                    self.unjudged.push(format!(
                        "whether the router `{}` takes a visitor depends on `{part}` of its rule, which is not judged here",
                        router.name
                    ));
                    taking.push((router, is_open, works));
                }
                _ => {}
            }
        }
        taking.retain(|(_, is_open, works)| *is_open && *works);
        // Visitors come encrypted; what listens on `web` alone mostly sends them there.
        let is_plain = |router: &Router| {
            !router.entrypoints.is_empty() && router.entrypoints.iter().all(|it| it == ENTRYPOINTS[0])
        };
        taking.sort_by_key(|(router, ..)| (is_plain(router), std::cmp::Reverse(router.weight()), router.name.clone()));
        let Some((router, ..)) = taking.first() else { return Err(self.no_router(named)) };
        self.backend(router)
    }

    fn no_router(&self, named: bool) -> String {
        let Asked { domain, path, .. } = self.asked;
        let disabled = self.stack.services.iter().find(|(name, service)| {
            let own = Labels::of_service(name, service);
            let rules = own.routers.iter().filter_map(|router| Rule::read(router.rule.as_deref()?).ok());
            !labels::is_enabled(service) && rules.into_iter().any(|rule| rule.names_host(domain))
        });
        match disabled {
            Some((name, _)) => {
                format!("service `{name}` has a router for `{domain}`, but not the label `traefik.enable=true`")
            }
            None if !self.problems.is_empty() => self.problems.join("; "),
            None if named => {
                format!("no router's rule takes `{path}` of `{domain}`: Traefik answers 404{}", self.rules())
            }
            None => format!("no service has a Traefik router whose rule is for `{domain}`{}", self.rules()),
        }
    }

    /// The rules that there are, and where they are written: one of them is mostly meant to be the one.
    fn rules(&self) -> String {
        let of = |router: &Router| Some((router.rule.clone()?, router.owner.clone(), self.written(router)));
        let rules: BTreeSet<(String, String, String)> = self.labels.routers.iter().filter_map(of).collect();
        let told: Vec<String> =
            rules.iter().take(TOLD).map(|(rule, owner, at)| format!("`{rule}`, of `{owner}`{at}")).collect();
        match (told.as_slice(), rules.len().saturating_sub(TOLD)) {
            ([], _) => String::new(),
            ([only], _) => format!("; the only rule is {only}"),
            (told, 0) => format!("; the rules are {}", told.join("; ")),
            (told, more) => format!("; the rules are {}; and {more} more", told.join("; ")),
        }
    }

    fn written(&self, router: &Router) -> String {
        let labels = self.stack.rules_at.get(&router.owner);
        let mut of_router =
            labels.into_iter().flatten().filter(|(label, _)| label.split('.').nth(3) == Some(&router.name));
        of_router.next().map_or_else(String::new, |(_, place)| format!(": {place}"))
    }

    /// The rule of a router. One that cannot be read takes its router away.
    fn rule(&mut self, router: &Router) -> Option<Rule> {
        let text = router.rule.as_deref()?;
        match Rule::read(text) {
            Ok(rule) => Some(rule),
            Err(why) => {
                let name = &router.name;
                self.problems.push(format!(
                    "the label `traefik.http.routers.{name}.rule` of service `{}` is malformed, `{text}`: {why}; Traefik \
                     drops the router",
                    router.owner
                ));
                None
            }
        }
    }

    /// Whether the router listens anywhere.
    fn entrypoints(&mut self, router: &Router) -> bool {
        let known: Vec<&str> =
            ENTRYPOINTS.into_iter().chain(self.asked.entrypoints.iter().map(String::as_str)).collect();
        let unknown: Vec<&String> = router.entrypoints.iter().filter(|it| !known.contains(&it.as_str())).collect();
        let is_open = router.entrypoints.is_empty() || unknown.len() < router.entrypoints.len();
        if let Some(unknown) = unknown.first() {
            self.problems.push(format!(
                "the label `traefik.http.routers.{}.entrypoints` of service `{}` names the entry point `{unknown}`, which \
                 abra's Traefik does not have (it has {}); another one's is named by `http.entrypoints` in recipe.toml",
                router.name,
                router.owner,
                known.join(", ")
            ));
        }
        is_open
    }

    /// Whether every middleware of a router is there. Traefik drops a router that names one which is not.
    fn middlewares(&mut self, router: &Router) -> bool {
        let label = format!("traefik.http.routers.{}.middlewares", router.name);
        let mut pending: Vec<(String, String)> =
            router.middlewares.iter().map(|it| (label.clone(), it.clone())).collect();
        let (mut works, mut seen) = (true, BTreeSet::new());
        while let Some((label, name)) = pending.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(own) = own_name(&name) else {
                let what = format!("the label `{label}` names `{name}`, which is defined outside of the recipe");
                self.unjudged.push(what);
                continue;
            };
            match self.labels.middlewares.get(own) {
                Some(middleware) if middleware.kind == "chain" => {
                    let chained = middleware.options.get("middlewares").map(|it| labels::list(it)).unwrap_or_default();
                    let label = format!("traefik.http.middlewares.{own}.chain.middlewares");
                    pending.extend(chained.into_iter().map(|it| (label.clone(), it)));
                }
                Some(_) => {}
                None => {
                    works = false;
                    let known: Vec<&str> = self.labels.middlewares.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { format!("`{}`", known.join("`, `")) };
                    self.problems.push(format!(
                        "the label `{label}` names the middleware `{own}`, which no service with `traefik.enable=true` \
                         defines (defined: {known}): Traefik drops the router, and visitors get 404"
                    ));
                }
            }
        }
        works
    }

    /// The container behind a router.
    fn backend(&mut self, router: &Router) -> Result<Route, String> {
        let backend = self.backend_of(router)?;
        let (owner, label) =
            (&backend.owner, format!("traefik.http.services.{}.loadbalancer.server.port", backend.name));
        let port = backend.port.as_deref().ok_or_else(|| {
            format!("service `{owner}` has a router for `{}`, but no label `{label}` with a port", self.asked.domain)
        })?;
        let port = port
            .parse()
            .map_err(|_| format!("the label `{label}` of service `{owner}` is `{port}`, which is no port"))?;
        self.network(owner);
        let tls = backend.scheme.as_deref() == Some("https");
        Ok(Route { service: owner.clone(), port, tls, rewrites: self.rewrites(router) })
    }

    /// The Traefik service that a router leads to: the one that it names, else the only one of its owner.
    fn backend_of(&mut self, router: &Router) -> Result<Backend, String> {
        let Router { name, owner, .. } = router;
        if let Some(wanted) = &router.service {
            let Some(own) = own_name(wanted) else {
                return Err(format!("the router `{name}` leads to `{wanted}`, which is defined outside of the recipe"));
            };
            let found = self.labels.services.iter().find(|it| it.name == own).cloned();
            return found.ok_or_else(|| {
                let known: Vec<&str> = self.labels.services.iter().map(|it| it.name.as_str()).collect();
                let problem = format!(
                    "the label `traefik.http.routers.{name}.service` of service `{owner}` names `{own}`, which no label \
                     defines (defined: `{}`): Traefik drops the router, and visitors get 404",
                    known.join("`, `")
                );
                self.problems.push(problem.clone());
                problem
            });
        }
        let own: Vec<&Backend> = self.labels.services.iter().filter(|it| it.owner == *owner).collect();
        match own.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(format!(
                "service `{owner}` has a router for `{}`, but no label \
                 `traefik.http.services.<name>.loadbalancer.server.port` with a port",
                self.asked.domain
            )),
            several => {
                let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
                let problem = format!(
                    "service `{owner}` defines the Traefik services `{}`, and no label `traefik.http.routers.{name}.service` \
                     says which of them the router leads to: Traefik drops the router",
                    names.join("` and `")
                );
                self.problems.push(problem.clone());
                Err(problem)
            }
        }
    }

    /// Traefik reaches a container only on a network that both are on.
    fn network(&mut self, owner: &str) {
        let Some(service) = self.stack.services.get(owner) else { return };
        let key = |key: &String| self.stack.networks.get(key).map(|it| (it.name.clone(), it.external));
        let on: Vec<(String, bool)> = service.networks.keys().filter_map(key).collect();
        let names = || on.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let label = labels::network(service);
        let wanted = label.map_or(PROXY, |(_, name)| name);
        match (label, on.iter().any(|(name, _)| name == wanted)) {
            (Some((label, _)), true) if wanted != PROXY => self.unjudged.push(format!(
                "whether Traefik is on the network `{wanted}`, which the label `{label}` of service `{owner}` names"
            )),
            (_, true) => {}
            (Some((label, _)), false) => self.problems.push(format!(
                "the label `{label}` of service `{owner}` names the network `{wanted}`, and the service is on {} alone: \
                 Traefik cannot reach it, and visitors get 504",
                if on.is_empty() { "the stack's default network".into() } else { names() }
            )),
            (None, false) if on.iter().any(|(_, external)| *external) => self.unjudged.push(format!(
                "whether Traefik is on one of the networks of service `{owner}`, {}: abra's is on `{PROXY}`",
                names()
            )),
            (None, false) => self.problems.push(format!(
                "service `{owner}` is on {}, and not on the network `{PROXY}`: Traefik cannot reach it, and visitors get 504",
                if on.is_empty() { "the stack's default network".into() } else { names() }
            )),
        }
    }

    /// What the middlewares of a router do to the path, chains unrolled.
    fn rewrites(&self, router: &Router) -> Vec<Rewrite> {
        let mut rewrites = Vec::new();
        let mut pending: Vec<String> = router.middlewares.iter().rev().cloned().collect();
        let mut steps = 0;
        while let Some(name) = pending.pop() {
            steps += 1;
            let Some(middleware) = own_name(&name).and_then(|own| self.labels.middlewares.get(own)) else { continue };
            let option = |name: &str| middleware.options.get(name).cloned().unwrap_or_default();
            match middleware.kind.as_str() {
                "stripprefix" => rewrites.push(Rewrite::Strip(labels::list(&option("prefixes")))),
                "addprefix" => rewrites.push(Rewrite::Add(option("prefix"))),
                "replacepath" => rewrites.push(Rewrite::Replace(option("path"))),
                "chain" if steps < 100 => pending.extend(labels::list(&option("middlewares")).into_iter().rev()),
                _ => {}
            }
        }
        rewrites
    }
}

/// The name of something that the recipe's own labels define; `None` for another provider's.
fn own_name(name: &str) -> Option<&str> {
    match name.split_once('@') {
        None => Some(name),
        Some((own, "docker" | "swarm")) => Some(own),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
