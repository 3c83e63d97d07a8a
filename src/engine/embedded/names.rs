//! Names of services, as every container on a shared network resolves them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::state::{Record, State, Task};

/// Every name a task can resolve, with its addresses.
pub type Names = BTreeMap<String, BTreeSet<Ipv4Addr>>;

/// The names that a task of these networks sees: a service is visible through shared networks only.
///
/// A name leads to the addresses of the slots that run. A service without a running task keeps its name, as Swarm's
/// virtual addresses do: proxies that look names up once, at their start, must not fail for it.
pub fn visible<'a>(state: &State, networks: impl Iterator<Item = &'a String> + Clone) -> Names {
    let mut names = Names::new();
    for (service, record) in &state.services {
        for network in networks.clone() {
            let Some(aliases) = record.spec.networks.get(network) else { continue };
            let addresses = addresses(record, network);
            let stack = &state.stack;
            let own = [service.clone(), format!("{stack}_{service}")];
            let tasks = [format!("tasks.{service}"), format!("tasks.{stack}_{service}")];
            for name in own.into_iter().chain(tasks).chain(aliases.iter().cloned()) {
                names.entry(name.to_lowercase()).or_default().extend(&addresses);
            }
        }
    }
    names
}

fn addresses(record: &Record, network: &str) -> BTreeSet<Ipv4Addr> {
    let slots = |running_only: bool| {
        let runs = |slot: u32| record.running().any(|task| task.slot == slot && task.holds_slot);
        let slots = record.slots.iter().filter(|(slot, _)| !running_only || runs(**slot));
        slots.filter_map(|(_, slot)| slot.addresses.get(network)).copied().collect::<BTreeSet<_>>()
    };
    let running = slots(true);
    if running.is_empty() { slots(false) } else { running }
}

/// The host table of a task.
pub fn hosts(state: &State, task: &Task, hostname: &str, gateway: Option<Ipv4Addr>) -> String {
    let mut table = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(address) = task.addresses.values().next() {
        let _ = writeln!(table, "{address}\t{hostname}");
    }
    for (name, address) in &task.spec.service.extra_hosts {
        match (address.as_str(), gateway) {
            ("host-gateway", Some(gateway)) => _ = writeln!(table, "{gateway}\t{name}"),
            _ => _ = writeln!(table, "{address}\t{name}"),
        }
    }
    for (name, addresses) in visible(state, task.addresses.keys()) {
        for address in addresses {
            let _ = writeln!(table, "{address}\t{name}");
        }
    }
    table
}
