//! What a recipe may declare: the merged compose document against the policy of this repository.
//!
//! A compose file can read the host, take another app's secrets, or claim another app's domain. What could is found
//! first ([`findings`], which knows no policy), and judged then ([`Policy::judge`]), before anything is created.

mod caps;
mod demand;
mod images;
mod labels;
mod objects;
mod rule;
mod services;
mod spot;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compose::Compose;
use crate::plain::plain;
pub use demand::{Demand, Finding, Limit, List};
use spot::Spot;

/// What recipes may do beyond the defaults. An entry that ends with `*` stands for everything that begins so, and `<stack>`
/// in it for the stack's name, which every run has another of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Registries that images may come from, besides the public ones that recipes use: docker.io, ghcr.io, quay.io,
    /// lscr.io, codeberg.org, git.coopcloud.tech.
    pub registries: Vec<String>,
    /// Images that are no images of a registry: `host`, `builtin:…`, `oci:…`.
    pub images: Vec<String>,
    /// Paths of the host that may be mounted.
    pub binds: Vec<String>,
    /// Options of volumes and networks, as `key=value`.
    pub driver_opts: Vec<String>,
    /// Drivers of volumes, networks, secrets and logs.
    pub drivers: Vec<String>,
    /// Volumes that do not belong to the app, by their name in Docker.
    pub volumes: Vec<String>,
    /// Networks that do not belong to the app, besides `proxy`, by their name in Docker.
    pub networks: Vec<String>,
    /// Configs that do not belong to the app, by their name in Docker.
    pub configs: Vec<String>,
    /// Secrets that do not belong to the app, by their name in Docker. Nobody knows their values, so that they are
    /// neither masked nor looked for.
    pub secrets: Vec<String>,
    /// Capabilities.
    pub cap_add: Vec<String>,
    /// Kernel settings beyond `net.`, as `key=value`.
    pub sysctls: Vec<String>,
    /// Keys of a service that weaken its isolation, as `privileged`, `pid` or `devices`.
    pub isolation: Vec<String>,
    /// Published ports, as `8443/tcp`; `0/tcp` is a port of Docker's choice.
    pub ports: Vec<String>,
    /// Hosts outside of the run's own domain that a Traefik rule may claim; `*` allows rules without a host, and
    /// routers for UDP, and no host.
    pub hosts: Vec<String>,
    /// Labels beyond `traefik.`, `backupbot.`, `coop-cloud.` and those of the OCI, and labels of Traefik that concern
    /// more than the app.
    pub labels: Vec<String>,
    /// The most tasks of one service; 5 when not given.
    pub max_replicas: Option<u64>,
    /// The most tasks of all services together; 50 when not given.
    pub max_tasks: Option<u64>,
    /// The most processors that a service may reserve or have, in thousandths; 8000 when not given.
    pub max_cpus: Option<u64>,
    /// The most memory that a service may reserve or have, in MiB; 8192 when not given.
    pub max_memory: Option<u64>,
    /// The largest logs of a task, all its files together, in MiB; 1024 when not given.
    pub max_logs: Option<u64>,
    /// The longest `stop_grace_period`; 5 m when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub max_stop_grace: Option<Duration>,
    /// The longest of every other length of time, the timeout label included; 30 m when not given.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub max_duration: Option<Duration>,
}

/// More is no recipe but an attempt to keep the policy busy: each takes a look at the files for its line.
const MOST_FINDINGS: usize = 500;
/// What stands for the run's own stack in an entry.
const STACK: &str = "<stack>";
/// Refusals that are said in full.
const SAID: usize = 20;

/// What a policy says about the findings of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// One sentence each.
    pub refused: Vec<String>,
    pub allowed: Vec<String>,
}

impl Judgement {
    /// What is refused, as the rest of a sentence; `None` when nothing is.
    pub fn refusal(&self) -> Option<String> {
        let said = self.refused[..self.refused.len().min(SAID)].join("; ");
        match self.refused.len().saturating_sub(SAID) {
            0 if self.refused.is_empty() => None,
            0 => Some(said),
            more => Some(format!("{said}; and {more} more")),
        }
    }
}

impl Policy {
    /// This policy with what another adds; its own limits come first.
    pub fn and(mut self, other: &Policy) -> Policy {
        for list in List::ALL {
            let more = list.of(other).clone();
            list.of_mut(&mut self).extend(more);
        }
        demand::fill_limits(&mut self, other);
        self
    }

    /// Sorts findings into what is refused and what the policy allows.
    pub fn judge(&self, findings: &[Finding]) -> Judgement {
        let mut judgement = Judgement::default();
        for finding in findings {
            match &finding.demand {
                Demand::Entry { list, entry } if list.allows(self, entry) => judgement.allowed.push(finding.allowed()),
                // A policy may be stricter than the default, too.
                Demand::AtMost { limit, amount } if *amount <= limit.of(self) => {
                    let beyond = *amount > limit.default();
                    judgement.allowed.extend(beyond.then(|| finding.allowed()));
                }
                _ => judgement.refused.push(finding.refused(self)),
            }
        }
        judgement
    }
}

/// Everything in a compose document that a policy has a word in, in the order of the document.
pub(super) fn findings(compose: &Compose, stack: &str, domain: &str) -> Vec<Finding> {
    let mut finder = Finder { compose, stack, domain, found: Vec::new() };
    let top = Spot::top(&compose.document);
    top.section("services").for_each(|service| services::service(&mut finder, &service));
    for (section, list) in [
        ("volumes", List::Volumes),
        ("networks", List::Networks),
        ("configs", List::Configs),
        ("secrets", List::Secrets),
    ] {
        top.section(section).for_each(|object| objects::object(&mut finder, &object, list));
    }
    // The last, and whatever was found before: it is one finding, however many services there are.
    services::all_tasks(&mut finder, &top);
    finder.found
}

/// Collects findings, each with its place in the files.
struct Finder<'a> {
    compose: &'a Compose,
    stack: &'a str,
    domain: &'a str,
    found: Vec<Finding>,
}

impl Finder<'_> {
    /// After too many, one that nothing allows stands for all the rest.
    fn add(&mut self, at: &Spot<'_>, why: &str, demand: Demand) {
        let (why, demand) = match self.found.len() {
            0..MOST_FINDINGS => (why, demand),
            MOST_FINDINGS => ("so many things that the policy has to judge are not looked at", Demand::Never),
            _ => return,
        };
        self.push(at, at.shown(), why, demand);
    }

    fn push(&mut self, at: &Spot<'_>, value: String, why: &str, demand: Demand) {
        let (file, line) = self.compose.sources.place(&self.compose.document, &at.path);
        // Some reasons quote a part of the value, which may be on several lines.
        let why = plain(why).replace('\n', "\\n").replace('\t', "\\t");
        self.found.push(Finding { file, line, key: at.key(), value, why, demand });
    }

    /// The entry has to do for every run: each has a stack of its own.
    fn entry(&mut self, at: &Spot<'_>, list: List, entry: impl Into<String>, why: &str) {
        let entry = match self.stack {
            "" => entry.into(),
            stack => entry.into().replace(stack, STACK),
        };
        self.add(at, why, Demand::Entry { list, entry });
    }

    fn at_most(&mut self, at: &Spot<'_>, limit: Limit, amount: u64) {
        self.add(at, limit.why(), Demand::AtMost { limit, amount });
    }

    fn duration(&mut self, at: &Spot<'_>, limit: Limit) {
        if let Ok(duration) = super::compose::scalar::duration(&at.text()) {
            self.at_most(at, limit, duration.as_millis() as u64);
        }
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
