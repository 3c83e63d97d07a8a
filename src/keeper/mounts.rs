//! Where an app has its named volumes: by its compose files, and as the engine has deployed them.

use std::sync::Arc;

use super::Keeper;
use super::blame::blame;
use super::protocol::{Place, Ran};
use crate::engine::ServiceState;
use crate::fault::Failure;
use crate::recipe::image;
use crate::recipe::stack::{MountKind, Stack};

/// Remembers what runs, and where volumes are, right before the upgrade. Both count: a mount that only one of them shows is one that
/// the head must not take away either.
pub async fn remember(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let services = keeper.engine().await?.services().await.map_err(blame)?;
    let mut app = keeper.app.lock().await;
    let Some(state) = &app.deployed.state else { return Ok(()) };
    let mut places = of_stack(&state.stack);
    places.extend(of_services(&services, &state.stack));
    places.sort();
    places.dedup();
    app.mounts_before = places;
    let ran = |service: &ServiceState| Ran {
        replicas: service.replicas,
        done: service.is_done(),
        image: image::name(&service.image).to_owned(),
    };
    app.ran_before = services.iter().map(|service| (service.name.clone(), ran(service))).collect();
    Ok(())
}

/// Where the compose files want volumes.
pub fn of_stack(stack: &Stack) -> Vec<Place> {
    let mut places = Vec::new();
    for (service, declared) in &stack.services {
        for mount in &declared.mounts {
            let MountKind::Volume(key) = &mount.kind else { continue };
            places.push(Place {
                service: service.clone(),
                volume: key.clone(),
                name: stack.volumes.get(key).map_or_else(|| key.clone(), |volume| volume.name.clone()),
                target: tidy(&mount.target),
                read_only: mount.read_only,
            });
        }
    }
    places
}

/// Where the engine has put volumes. One that the compose files do not know goes by its name.
pub fn of_services(services: &[ServiceState], stack: &Stack) -> Vec<Place> {
    let key = |name: &str| stack.volumes.iter().find(|(_, volume)| volume.name == name).map(|(key, _)| key.clone());
    let places = services.iter().flat_map(|service| {
        service.mounts.iter().map(|mount| Place {
            service: service.name.clone(),
            volume: key(&mount.volume).unwrap_or_else(|| mount.volume.clone()),
            name: mount.volume.clone(),
            target: tidy(&mount.target),
            read_only: mount.read_only,
        })
    });
    places.collect()
}

/// `/srv//data/.` and `/srv/data/` are one place.
pub fn tidy(target: &str) -> String {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_however_it_is_written() {
        for written in ["/srv/data", "/srv/data/", "/srv//./data/."] {
            assert_eq!(tidy(written), "/srv/data");
        }
    }
}
