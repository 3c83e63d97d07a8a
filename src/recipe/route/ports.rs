//! The ports that others reach an app at beside its page: published ones, and those that Traefik routes over TCP or UDP.

use serde::{Deserialize, Serialize};

use super::labels;
use crate::recipe::stack::{Service, Stack};

/// A port of a service's containers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub service: String,
    pub number: u16,
    pub udp: bool,
    /// Who leads there, ready to stand behind "which".
    pub by: String,
}

/// Every port of the stack that somebody outside is led to, once. A service that is to have no task has none.
pub fn of(stack: &Stack) -> Vec<Port> {
    let mut ports = Vec::new();
    for (name, service) in stack.services.iter().filter(|(_, it)| it.deploy.mode.replicas() > 0) {
        ports.extend(published(name, service));
        if labels::is_enabled(service) {
            ports.extend(routed(name, service));
        }
    }
    ports.sort();
    ports.dedup_by(|one, other| (&one.service, one.number, one.udp) == (&other.service, other.number, other.udp));
    ports
}

fn published<'a>(name: &'a str, service: &'a Service) -> impl Iterator<Item = Port> + 'a {
    let known = service.ports.iter().filter(|port| ["tcp", "udp"].contains(&port.protocol.as_str()));
    known.map(|port| Port {
        service: name.to_owned(),
        number: port.target,
        udp: port.protocol == "udp",
        by: "`ports` publishes".to_owned(),
    })
}

/// `traefik.tcp.services.<name>.loadbalancer.server.port`
fn routed<'a>(name: &'a str, service: &'a Service) -> impl Iterator<Item = Port> + 'a {
    service.deploy.labels.iter().filter_map(move |(label, value)| {
        let key = label.to_lowercase();
        let parts: Vec<&str> = key.split('.').collect();
        let ["traefik", protocol @ ("tcp" | "udp"), "services", _, "loadbalancer", "server", "port"] = parts[..] else {
            return None;
        };
        let number = value.trim().parse().ok()?;
        let by = format!("the label `{label}` leads to");
        Some(Port { service: name.to_owned(), number, udp: protocol == "udp", by })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::stack::{self, Deploy, Mode};

    #[test]
    fn published_and_routed_ports_are_found_once() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = [
            label("traefik.enable", "true"),
            label("traefik.tcp.services.a-tcp.loadbalancer.server.port", "64738"),
            label("traefik.udp.services.a-udp.loadbalancer.server.port", " 64738 "),
            label("traefik.http.services.a.loadbalancer.server.port", "80"),
            label("traefik.tcp.services.b.loadbalancer.server.port", "web"),
        ];
        let port = |target: u16, protocol: &str| {
            let (published, protocol, mode) = (Some(1), protocol.to_owned(), "ingress".to_owned());
            stack::Port { target, published, protocol, mode }
        };
        let mut service = Service {
            deploy: Deploy { labels: labels.into(), ..Deploy::default() },
            ports: vec![port(64738, "tcp"), port(53, "udp"), port(9, "sctp")],
            ..Service::default()
        };
        let of_service = |service: &Service| {
            of(&Stack { services: [("app".to_owned(), service.clone())].into(), ..Stack::default() })
        };
        let found: Vec<(u16, bool)> = of_service(&service).iter().map(|it| (it.number, it.udp)).collect();
        assert_eq!(found, [(53, true), (64738, false), (64738, true)]);
        let udp = &of_service(&service)[2];
        assert_eq!(udp.by, "the label `traefik.udp.services.a-udp.loadbalancer.server.port` leads to");
        service.deploy.labels.remove("traefik.enable");
        assert_eq!(of_service(&service).len(), 2, "Traefik does not mind the service");
        service.deploy.mode = Mode::Replicated(0);
        assert_eq!(of_service(&service), []);
    }
}
