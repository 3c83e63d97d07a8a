//! What a service may ask of the machine.

use super::demand::{Demand, Limit, List};
use super::spot::Spot;
use super::{Finder, images, labels, objects, rule};

pub(super) fn service(finder: &mut Finder<'_>, at: &Spot<'_>) {
    at.get("image").into_iter().for_each(|image| images::image(finder, &image));
    at.section("volumes").for_each(|mount| self::mount(finder, &mount));
    let privileges = "a capability reaches beyond the container";
    at.section("cap_add").for_each(|cap| finder.entry(&cap, List::CapAdd, cap.text(), privileges));
    isolation(finder, at);
    at.section("ports").for_each(|port| self::port(finder, &port));
    for setting in at.section("sysctls").filter(|setting| !setting.name().starts_with("net.")) {
        let entry = format!("{}={}", setting.name(), setting.text());
        finder.entry(&setting, List::Sysctls, entry, "the setting may be the whole machine's");
    }
    at.get("logging").into_iter().for_each(|logging| self::logging(finder, &logging));
    at.section("networks").for_each(|network| aliases(finder, &network));
    at.section("labels").for_each(|label| labels::label(finder, &label));
    at.get("stop_grace_period").into_iter().for_each(|grace| finder.duration(&grace, Limit::StopGrace));
    at.get("healthcheck").into_iter().for_each(|check| durations(finder, &check));
    at.get("deploy").into_iter().for_each(|deploy| self::deploy(finder, &deploy));
}

/// A limit for each service alone would let many services have many tasks. One that has none yet may be scaled up.
pub(super) fn all_tasks(finder: &mut Finder<'_>, top: &Spot<'_>) {
    let Some(services) = top.get("services") else { return };
    let replicas = |service: Spot<'_>| {
        let replicas = service.get("deploy").and_then(|deploy| deploy.get("replicas"));
        replicas.map_or(1, |replicas| replicas.value.as_u64().unwrap_or(u64::MAX).max(1))
    };
    let tasks = services.parts().into_iter().map(replicas).fold(0, u64::saturating_add);
    let demand = Demand::AtMost { limit: Limit::Tasks, amount: tasks };
    finder.push(&services, format!("{tasks} tasks in all"), Limit::Tasks.why(), demand);
}

fn mount(finder: &mut Finder<'_>, at: &Spot<'_>) {
    let source = at.get("source");
    match at.get("type").map(|kind| kind.text()).as_deref() {
        Some("volume" | "tmpfs") | None => {}
        Some("bind") => {
            let source = source.unwrap_or_else(|| at.clone());
            finder.entry(&source, List::Binds, source.text(), "a bind mount reads the host's files");
        }
        Some(_) => finder.add(at, "only volumes and tmpfs are mounted", Demand::Never),
    }
}

/// On a network that others share, a name is everybody's: who looks for it there finds whoever has taken it.
fn aliases(finder: &mut Finder<'_>, network: &Spot<'_>) {
    if objects::is_own_network(finder, network.name()) {
        return;
    }
    for alias in network.section("aliases") {
        let name = alias.text();
        if !rule::is_own(&name, finder.domain) && !name.to_lowercase().starts_with(&finder.stack.to_lowercase()) {
            let why = "other apps of that network would look for somebody else by this name, and find this service";
            finder.entry(&alias, List::Hosts, name, why);
        }
    }
}

/// Swarm ignores most of these today; a recipe that writes them means them, and another engine might not.
fn isolation(finder: &mut Finder<'_>, at: &Spot<'_>) {
    for (key, harmless) in [
        ("privileged", &["false"][..]),
        ("pid", &[]),
        ("ipc", &["private", "shareable", "none"]),
        ("network_mode", &["bridge", "none"]),
        ("userns_mode", &[]),
        ("cgroupns_mode", &["private"]),
        ("cgroup_parent", &[]),
    ] {
        let Some(spot) = at.get(key).filter(|spot| !harmless.contains(&spot.text().as_str())) else { continue };
        finder.entry(&spot, List::Isolation, key, "it shares a part of the host, or of another container");
    }
    for key in ["devices", "credential_spec"] {
        if let Some(spot) = at.get(key).filter(|spot| !spot.parts().is_empty()) {
            finder.entry(&spot, List::Isolation, key, "it gives a part of the host to the container");
        }
    }
    let harmless = ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"];
    for option in at.section("security_opt").filter(|option| !harmless.contains(&option.text().as_str())) {
        finder.entry(&option, List::Isolation, "security_opt", "it weakens the container's confinement");
    }
}

fn port(finder: &mut Finder<'_>, at: &Spot<'_>) {
    let field = |key: &str, default: &str| at.get(key).map_or(default.to_owned(), |spot| spot.text());
    let entry = format!("{}/{}", field("published", "0"), field("protocol", "tcp"));
    finder.entry(at, List::Ports, entry, "a published port is the whole machine's");
}

fn logging(finder: &mut Finder<'_>, at: &Spot<'_>) {
    if let Some(driver) = at.get("driver").filter(|it| !["", "json-file", "local", "none"].contains(&&*it.text())) {
        finder.entry(&driver, List::Drivers, driver.text(), "logs would go elsewhere, where nobody looks");
    }
    let option = |key: &str| at.get("options").and_then(|options| options.get(key));
    // What does not fit into it is in the daemon's memory, and no container's.
    if let Some(buffer) = option("max-buffer-size") {
        let bytes = crate::recipe::compose::scalar::size(&buffer.text()).unwrap_or(u64::MAX);
        finder.at_most(&buffer, Limit::Logs, mebibytes(bytes));
    }
    // Of the driver `local` there are five files of 20 MiB when nothing is said.
    let is_local = at.get("driver").is_some_and(|driver| driver.text() == "local");
    let (count, limit) = (option("max-file"), option("max-size"));
    let files = count.as_ref().and_then(|it| it.text().parse().ok()).unwrap_or(if is_local { 5 } else { 1 });
    let size = match &limit {
        // Docker reads `-1` as without a limit.
        Some(size) => crate::recipe::compose::scalar::size(&size.text()).unwrap_or(u64::MAX),
        None if is_local => 20 << 20,
        None => return,
    };
    if let Some(spot) = limit.or(count) {
        finder.at_most(&spot, Limit::Logs, mebibytes(size.saturating_mul(files)));
    }
}

fn deploy(finder: &mut Finder<'_>, at: &Spot<'_>) {
    at.section("labels").for_each(|label| labels::label(finder, &label));
    if let Some(replicas) = at.get("replicas") {
        finder.at_most(&replicas, Limit::Replicas, replicas.value.as_u64().unwrap_or(u64::MAX));
    }
    for resources in at.section("resources").filter(|it| ["limits", "reservations"].contains(&it.name())) {
        if let Some(special) = resources.get("generic_resources").filter(|it| !it.parts().is_empty()) {
            finder.entry(&special, List::Isolation, special.name(), "it gives a part of the host to the container");
        }
        if let Some(cpus) = resources.get("cpus") {
            let count = cpus.text().parse::<f64>().map_or(u64::MAX, |count| (count * 1000.0).ceil() as u64);
            finder.at_most(&cpus, Limit::Cpus, count);
        }
        if let Some(memory) = resources.get("memory") {
            finder.at_most(&memory, Limit::Memory, memory.text().parse().map_or(u64::MAX, mebibytes));
        }
    }
    for policy in ["update_config", "rollback_config", "restart_policy"] {
        at.get(policy).into_iter().for_each(|policy| durations(finder, &policy));
    }
}

fn durations(finder: &mut Finder<'_>, at: &Spot<'_>) {
    for key in ["delay", "monitor", "window", "interval", "timeout", "start_period", "start_interval"] {
        at.get(key).into_iter().for_each(|duration| finder.duration(&duration, Limit::Duration));
    }
}

/// Begun ones count, so that a byte above a limit is above it.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
