//! Volumes, networks, configs and secrets: the app's own, and nobody else's.

use super::Finder;
use super::demand::{Demand, List};
use super::spot::Spot;

/// The network of Traefik, which every app that is to be reached joins.
const PROXY: &str = "proxy";

/// Drivers that stay on this machine or in this Swarm.
const DRIVERS: [&str; 4] = ["", "local", "overlay", "bridge"];

/// Nothing lends an app the secrets of another, so `list` is missing for them.
pub(super) fn object(finder: &mut Finder<'_>, at: &Spot<'_>, list: Option<List>) {
    name(finder, at, list);
    match at.get("file") {
        Some(file) if list.is_none() => finder.add(&file, "a secret in a repository is none", Demand::Never),
        _ => {}
    }
    if let Some(driver) = at.get("driver").filter(|driver| !DRIVERS.contains(&&*driver.text())) {
        finder.entry(&driver, List::Drivers, driver.text(), "the driver reaches beyond the app");
    }
    for option in at.section("driver_opts").filter(|option| option.name() != "encrypted") {
        let entry = format!("{}={}", option.name(), option.text());
        finder.entry(&option, List::DriverOpts, entry, "an option of a driver can mount the host's files");
    }
}

/// The name in Docker begins with the stack's, unless the object is somebody else's.
fn name(finder: &mut Finder<'_>, at: &Spot<'_>, list: Option<List>) {
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
        Some(List::Networks) if external && name == PROXY => {}
        Some(list) => finder.entry(&spot, list, name, "it does not belong to this app"),
        None => finder.add(&spot, "it does not belong to this app", Demand::Never),
    }
}
