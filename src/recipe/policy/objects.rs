//! Volumes, networks, configs and secrets: the app's own, and nobody else's.

use super::demand::{Demand, List};
use super::spot::Spot;
use super::{Finder, labels};

/// The network of Traefik, which every app that is to be reached joins.
const PROXY: &str = "proxy";

/// Drivers that stay on this machine or in this Swarm.
const DRIVERS: [&str; 4] = ["", "local", "overlay", "bridge"];

pub(super) fn object(finder: &mut Finder<'_>, at: &Spot<'_>, list: List) {
    name(finder, at, list);
    match at.get("file") {
        Some(file) if list == List::Secrets => {
            let why =
                "a secret in a repository is none: declared as `external: true`, it gets a value of the run's own";
            finder.add(&file, why, Demand::Never);
        }
        _ => {}
    }
    at.section("labels").for_each(|label| labels::label(finder, &label));
    subnets(finder, at);
    if let Some(driver) = at.get("driver").filter(|driver| !DRIVERS.contains(&&*driver.text())) {
        finder.entry(&driver, List::Drivers, driver.text(), "the driver reaches beyond the app");
    }
    for option in at.section("driver_opts").filter(|option| option.name() != "encrypted") {
        let entry = format!("{}={}", option.name(), option.text());
        finder.entry(&option, List::DriverOpts, entry, "an option of a driver can mount the host's files");
    }
}

/// Whether a network, by its key, is the app's own: `default` is, and what is declared under the stack's name.
pub(super) fn is_own_network(finder: &Finder<'_>, key: &str) -> bool {
    let top = Spot::top(&finder.compose.document);
    let Some(network) = top.section("networks").find(|network| network.name() == key) else { return key == "default" };
    let external = network.get("external").is_some_and(|external| external.value == true);
    let name = network.get("name").map(|name| name.text()).or_else(|| external.then(|| key.to_owned()));
    name.is_none_or(|name| name.starts_with(&format!("{}_", finder.stack)))
}

/// A bridge is an interface of the host: its addresses become the host's routes, whoever has them elsewhere.
fn subnets(finder: &mut Finder<'_>, at: &Spot<'_>) {
    let Some(ipam) = at.get("ipam") else { return };
    if let Some(driver) = ipam.get("driver").filter(|driver| !["", "default"].contains(&&*driver.text())) {
        finder.entry(&driver, List::Drivers, driver.text(), "the driver reaches beyond the app");
    }
    if at.get("driver").is_none_or(|driver| driver.text() != "bridge") {
        return;
    }
    for subnet in ipam.section("config").filter_map(|config| config.get("subnet")) {
        let entry = format!("subnet={}", subnet.text());
        finder.entry(&subnet, List::DriverOpts, entry, "the host itself would look for these addresses there");
    }
}

/// The name in Docker begins with the stack's, unless the object is somebody else's.
fn name(finder: &mut Finder<'_>, at: &Spot<'_>, list: List) {
    let external = at.get("external").is_some_and(|external| external.value == true);
    let given = at.get("name");
    let name = match &given {
        Some(name) => name.text(),
        None if external => at.name().to_owned(),
        None => return,
    };
    let own = name.starts_with(&format!("{}_", finder.stack));
    let spot = given.or_else(|| at.get("external")).unwrap_or_else(|| at.clone());
    match list {
        _ if own => {}
        List::Networks if external && name == PROXY => {}
        // Docker would make it, or write its labels over those of the owner.
        List::Configs | List::Secrets if !external => {
            let why = "it would be made under a name that is not the app's: `external: true` uses what is there";
            finder.add(&spot, why, Demand::Never);
        }
        list => finder.entry(&spot, list, name, "it does not belong to this app"),
    }
}
