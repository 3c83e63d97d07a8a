//! How visitors reach the app: the service and port that the recipe's Traefik labels name for its domain.

use serde::{Deserialize, Serialize};

use super::stack::{Service, Stack};

/// Where requests for the app's domain go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub service: String,
    /// The port inside the container.
    pub port: u16,
}

/// Finds the route, or says why there is none. A router's rule must name the app's own domain, and its service must
/// say its port.
pub fn find(stack: &Stack, domain: &str) -> Result<Route, String> {
    let mut almost = None;
    for (name, service) in &stack.services {
        if !routers(service).any(|rule| names_host(rule, domain)) {
            continue;
        }
        let labels = &service.deploy.labels;
        if labels.get("traefik.enable").is_none_or(|value| value != "true") {
            almost =
                Some(format!("service `{name}` has a router for `{domain}`, but not the label `traefik.enable=true`"));
            continue;
        }
        match port(service) {
            Some(port) => return Ok(Route { service: name.clone(), port }),
            None => {
                almost = Some(format!(
                    "service `{name}` has a router for `{domain}`, but no label \
                     `traefik.http.services.<name>.loadbalancer.server.port` with a port"
                ));
            }
        }
    }
    Err(almost.unwrap_or_else(|| format!("no service has a Traefik router whose rule is for `{domain}`")))
}

fn routers(service: &Service) -> impl Iterator<Item = &str> {
    let labels = service.deploy.labels.iter();
    labels
        .filter(|(key, _)| key.starts_with("traefik.http.routers.") && key.ends_with(".rule"))
        .map(|(_, rule)| rule.as_str())
}

/// Whether `Host(...)` in a rule names the domain. The list of names is quoted with backticks or double quotes.
fn names_host(rule: &str, domain: &str) -> bool {
    let mut rest = rule;
    while let Some(start) = rest.find("Host(") {
        let inside = &rest[start + "Host(".len()..];
        let end = inside.find(')').unwrap_or(inside.len());
        let mut names = inside[..end].split(',').map(|name| name.trim().trim_matches(['`', '"', '\'']));
        if names.any(|name| name.eq_ignore_ascii_case(domain)) {
            return true;
        }
        rest = &inside[end..];
    }
    false
}

fn port(service: &Service) -> Option<u16> {
    let is_port = |key: &str| key.starts_with("traefik.http.services.") && key.ends_with(".loadbalancer.server.port");
    service.deploy.labels.iter().find(|(key, _)| is_port(key)).and_then(|(_, port)| port.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(labels: &[(&str, &str)]) -> Result<Route, String> {
        let mut service = Service::default();
        service.deploy.labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let stack = Stack { services: [("web".to_owned(), service)].into(), ..Stack::default() };
        find(&stack, "wiki.example.test")
    }

    const ENABLE: (&str, &str) = ("traefik.enable", "true");
    const RULE: (&str, &str) =
        ("traefik.http.routers.a.rule", "Host(`other.test`, `wiki.example.test`) && PathPrefix(`/`)");
    const PORT: (&str, &str) = ("traefik.http.services.a.loadbalancer.server.port", "8080");

    #[test]
    fn the_labels_name_the_service_and_its_port() {
        assert_eq!(route(&[ENABLE, RULE, PORT]), Ok(Route { service: "web".into(), port: 8080 }));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(route(&[]).unwrap_err(), "no service has a Traefik router whose rule is for `wiki.example.test`");
        let other = ("traefik.http.routers.a.rule", "Host(`wiki.example.test.evil.test`)");
        assert!(route(&[ENABLE, other, PORT]).unwrap_err().starts_with("no service has"));
        assert!(route(&[RULE, PORT]).unwrap_err().ends_with("but not the label `traefik.enable=true`"));
        assert!(route(&[ENABLE, RULE]).unwrap_err().contains("loadbalancer.server.port"));
    }
}
