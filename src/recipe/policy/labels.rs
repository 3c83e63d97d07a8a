//! Labels: they steer Traefik, the backup bot and whatever else listens to Docker.

use super::Finder;
use super::demand::{Demand, Limit, List};
use super::rule::{self, Reach};
use super::spot::Spot;
use crate::recipe::route::rule::Rule;

/// Beginnings of labels that nothing acts on beyond the app: swarm-cronjob starts the service that has them. Traefik's are
/// looked at one by one.
const HARMLESS: [&str; 5] = ["backupbot.", "coop-cloud.", "org.opencontainers.", "org.label-schema.", "swarm.cronjob."];

pub(super) fn label(finder: &mut Finder<'_>, at: &Spot<'_>) {
    // Traefik does not look at the case of a label.
    let key = at.name().to_lowercase();
    if key.contains("${") {
        let why = "Docker puts variables into values and not into keys, so that this is the label's very name: write the labels \
                   as a list, `- \"key=value\"`";
        finder.add(at, why, Demand::Never);
    } else if key.starts_with("traefik.") {
        traefik(finder, at, &key);
    } else if key == format!("coop-cloud.{}.timeout", finder.stack) {
        let millis = at.text().trim().parse::<u64>().map_or(0, |seconds| seconds.saturating_mul(1000));
        finder.at_most(at, Limit::Duration, millis);
    } else if !HARMLESS.iter().any(|beginning| key.starts_with(beginning)) {
        finder.entry(at, List::Labels, at.name(), "nobody knows what acts on this label");
    }
}

fn traefik(finder: &mut Finder<'_>, at: &Spot<'_>, key: &str) {
    let parts: Vec<&str> = key.split('.').collect();
    if let ["traefik", "http" | "tcp" | "udp", _, name, ..] = parts[..]
        && !carries_stack(finder, name)
    {
        let why = "a name without the stack's is everybody's: another app may have the same";
        finder.entry(at, List::Labels, at.name(), why);
    }
    match parts[..] {
        ["traefik", "enable"] | ["traefik", "docker" | "swarm", ..] => {}
        // A policy that allows the name has said nothing of the hosts.
        ["traefik", "http" | "tcp", "routers", _, "rule"] => rule(finder, at),
        ["traefik", "udp", "routers", _, "entrypoints"] => {
            finder.entry(at, List::Hosts, "*", "a router for UDP takes everything that comes to its entry point");
        }
        // `api@internal` is Traefik's own dashboard, and any other service is another app's.
        ["traefik", "http" | "tcp" | "udp", "routers" | "middlewares", _, .., "service"]
            if !carries_stack(finder, &at.text()) =>
        {
            finder.entry(at, List::Labels, at.name(), "visitors of the app would meet what is not the app's");
        }
        ["traefik", "http" | "tcp", "routers", _, "tls", _, "main" | "sans"] => certificates(finder, at),
        ["traefik", "http" | "tcp" | "udp", "services", _, .., "url" | "address"]
        | ["traefik", "http", "middlewares", _, "forwardauth", "address"] => {
            finder.entry(at, List::Labels, at.name(), "Traefik would ask an address of the recipe's choice");
        }
        ["traefik", "http", "middlewares", _, "forwardauth", "tls", "ca" | "cert" | "key"]
        | ["traefik", "http", "middlewares", _, _, "usersfile"] => {
            finder.entry(at, List::Labels, at.name(), "Traefik would read a file of its own");
        }
        ["traefik", "http" | "tcp", "routers" | "services" | "middlewares" | "serverstransports", _, ..]
        | ["traefik", "udp", "routers" | "services", _, ..] => {}
        _ => finder.entry(at, List::Labels, at.name(), "it is Traefik's own setting, not the app's"),
    }
}

fn carries_stack(finder: &Finder<'_>, name: &str) -> bool {
    name.to_lowercase().contains(&finder.stack.to_lowercase())
}

/// Names that Traefik would ask a certificate for: of nobody else's, for whom there are only so many a week.
fn certificates(finder: &mut Finder<'_>, at: &Spot<'_>) {
    let text = at.text();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let host = name.strip_prefix("*.").unwrap_or(name);
        if !rule::is_own(host, finder.domain) {
            foreign(finder, at, host);
        }
    }
}

fn rule(finder: &mut Finder<'_>, at: &Spot<'_>) {
    if at.text().trim().is_empty() {
        let why = "the rule is empty, as one is whose variable neither `.env.sample` nor `[env]` of `recipe.toml` sets, and no \
                   visitor is led to the app by it";
        return finder.add(at, why, Demand::Never);
    }
    match rule::reach(&at.text(), finder.domain) {
        Reach::Own => {}
        Reach::Foreign(hosts) => hosts.iter().for_each(|host| foreign(finder, at, host)),
        Reach::Any => {
            let why = match Rule::read(&at.text()) {
                Ok(_) => "the rule takes requests for any host".to_owned(),
                Err(why) => format!("the rule is malformed, so that nobody knows for which hosts it is: {why}"),
            };
            finder.entry(at, List::Hosts, "*", &why);
        }
    }
}

fn foreign(finder: &mut Finder<'_>, at: &Spot<'_>, host: &str) {
    let why = format!("`{host}` is outside of the run's own domain `{}`", finder.domain);
    finder.entry(at, List::Hosts, host, &why);
}
