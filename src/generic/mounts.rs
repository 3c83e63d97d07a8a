//! The app finds its data where it has stored it: the mounts of base and head, held against each other.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::app::{App, skip};
use crate::config::files::Upgrade;
use crate::engine::ServiceState;
use crate::keeper::mounts::tidy;
use crate::keeper::protocol::{Evidence, Place};
use crate::recipe::image;

/// Every volume of the base is mounted by the same service at the same place in the head, and as writable as it was.
/// That the volume itself is kept helps nobody whose app looks elsewhere.
pub async fn mounts_are_kept(app: &App) -> Result<()> {
    let evidence = app.evidence().await?;
    if evidence.mounts_before.is_empty() {
        return skip(
            "unverified: the base mounts no named volume, so there is nothing that could be mounted elsewhere",
        );
    }
    let services = app.services().await?;
    let found = displaced(&evidence.mounts_before, &evidence.mounts, &services, &app.settings().recipe_toml.upgrade);
    let (told, found): (Vec<Displaced>, Vec<Displaced>) =
        found.into_iter().partition(|it| is_of_other_software(it.place, &evidence, &services));
    if !found.is_empty() {
        let sentences: Vec<String> = found.into_iter().map(|it| it.sentence).collect();
        bail!("{}", sentences.join("; "));
    }
    if let Some(Displaced { place, .. }) = told.first() {
        return skip(format!(
            "unverified: the volume `{}` was at `{}` in service `{}`, and is elsewhere now; there was nothing in it yet, and \
             the head's service runs another image, so that nobody can tell whether it means the move",
            place.volume, place.target, place.service
        ));
    }
    Ok(())
}

/// A place of the base that the head does not keep.
struct Displaced<'a> {
    place: &'a Place,
    sentence: String,
}

/// Nothing is lost with a volume in which there was nothing, where other software has taken the service over: it has
/// its data elsewhere. The same software looks where it always looked.
fn is_of_other_software(place: &Place, evidence: &Evidence, services: &[ServiceState]) -> bool {
    let ran = evidence.ran_before.get(&place.service).map(|ran| ran.image.as_str());
    let runs = services.iter().find(|it| it.name == place.service).map(|it| image::name(&it.image));
    evidence.held_nothing.contains(&place.volume) && ran.is_some() && runs.is_some() && ran != runs
}

/// One sentence for every place of the base that the head does not keep.
fn displaced<'a>(
    before: &'a [Place],
    wanted: &[Place],
    services: &[ServiceState],
    upgrade: &Upgrade,
) -> Vec<Displaced<'a>> {
    let names: BTreeMap<&str, &str> = wanted.iter().map(|it| (it.name.as_str(), it.volume.as_str())).collect();
    let deployed: Vec<Place> = services
        .iter()
        .flat_map(|service| service.mounts.iter().map(move |mount| (service, mount)))
        .filter(|(service, _)| wanted.iter().any(|it| it.service == service.name))
        .map(|(service, mount)| Place {
            service: service.name.clone(),
            volume: (*names.get(mount.volume.as_str()).unwrap_or(&mount.volume.as_str())).to_owned(),
            name: mount.volume.clone(),
            target: tidy(&mount.target),
            read_only: mount.read_only,
        })
        .collect();
    let judged = before.iter().filter(|place| !upgrade.drops.contains(&place.volume));
    let sentence = |place: &Place| {
        lost(place, wanted, upgrade, "the head's compose files mount")
            .or_else(|| lost(place, &deployed, upgrade, "the service that is deployed has"))
    };
    let mut found: Vec<Displaced> =
        judged.filter_map(|place| Some(Displaced { place, sentence: sentence(place)? })).collect();
    found.dedup_by(|one, other| one.sentence == other.sentence);
    found
}

/// Why a place of the base is not kept; `None` when it is, or when it was declared to be another.
fn lost(place: &Place, now: &[Place], upgrade: &Upgrade, who: &str) -> Option<String> {
    let of_volume: Vec<&Place> = now.iter().filter(|it| it.name == place.name).collect();
    let is_kept = |it: &&Place| it.service == place.service && it.target == place.target;
    let as_writable = |it: &&Place| place.read_only || !it.read_only;
    if of_volume.iter().filter(|it| is_kept(it)).any(as_writable) || is_declared(place, &of_volume, upgrade) {
        return None;
    }
    let Place { volume, service, target, .. } = place;
    let instead = match of_volume.iter().find(|it| is_kept(it)) {
        Some(_) => format!("{who} it there read-only, so that the app cannot store anything any more"),
        None if of_volume.is_empty() => format!("{who} it nowhere"),
        None => {
            let places: Vec<String> =
                of_volume.iter().map(|it| format!("`{}` in service `{}`", it.target, it.service)).collect();
            format!("{who} it at {}", places.join(" and "))
        }
    };
    let remedy = match of_volume.first() {
        Some(other) => format!(
            "`[upgrade] moves = {{ {volume} = \"{}:{}{}\" }}`",
            other.service,
            other.target,
            if other.read_only { ":ro" } else { "" }
        ),
        None => format!("`[upgrade] drops = [\"{volume}\"]`"),
    };
    Some(format!(
        "the base has the volume `{volume}` at `{target}` in service `{service}`, and {instead}: the app no longer finds \
         there what it has stored. If the head means it and brings the data along, say so in recipe.toml: {remedy}"
    ))
}

/// Whether `upgrade.moves` names a place of the volume, and the volume is there.
fn is_declared(place: &Place, of_volume: &[&Place], upgrade: &Upgrade) -> bool {
    let Some(declared) = upgrade.moves.get(&place.volume) else { return false };
    let (declared, read_only) = match declared.strip_suffix(":ro") {
        Some(declared) => (declared, true),
        None => (declared.as_str(), false),
    };
    let (service, target) = declared.split_once(':').unwrap_or((&place.service, declared));
    let is_there = |it: &&&Place| it.service == service && it.target == tidy(target) && (read_only || !it.read_only);
    of_volume.iter().any(|it| is_there(&it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::VolumeMount;

    fn place(service: &str, target: &str, read_only: bool) -> Place {
        let (volume, name) = ("data".into(), "stack_data".into());
        Place { service: service.into(), volume, name, target: target.into(), read_only }
    }

    fn deployed(places: &[Place]) -> Vec<ServiceState> {
        let service = |place: &Place| ServiceState {
            name: place.service.clone(),
            mounts: vec![VolumeMount {
                volume: place.name.clone(),
                target: place.target.clone(),
                read_only: place.read_only,
            }],
            ..ServiceState::default()
        };
        places.iter().map(service).collect()
    }

    /// What is said of a head that wants, and has, these places; `moves` as recipe.toml has it.
    fn said(now: &[Place], moves: Option<&str>) -> Vec<String> {
        let upgrade = Upgrade {
            moves: moves.map(|to| ("data".to_owned(), to.to_owned())).into_iter().collect(),
            ..Upgrade::default()
        };
        let before = [place("app", "/srv/data", false)];
        displaced(&before, now, &deployed(now), &upgrade).into_iter().map(|it| it.sentence).collect()
    }

    #[test]
    fn a_volume_that_is_where_it_was_is_kept() {
        assert_eq!(said(&[place("app", "/srv/data", false)], None), Vec::<String>::new());
    }

    #[test]
    fn another_place_is_named_beside_the_old_one() {
        let sentences = said(&[place("app", "/srv/dta", false)], None);
        assert_eq!(
            sentences,
            [
                "the base has the volume `data` at `/srv/data` in service `app`, and the head's compose files mount it at \
              `/srv/dta` in service `app`: the app no longer finds there what it has stored. If the head means it and \
              brings the data along, say so in recipe.toml: `[upgrade] moves = { data = \"app:/srv/dta\" }`"
            ]
        );
        assert!(said(&[], None)[0].contains("the head's compose files mount it nowhere"));
    }

    #[test]
    fn a_decoy_in_another_service_does_not_count_and_neither_does_one_that_cannot_be_written() {
        let decoy = said(&[place("decoy", "/srv/data", false)], None);
        assert!(decoy[0].contains("mount it at `/srv/data` in service `decoy`"), "{decoy:?}");
        let read_only = said(&[place("app", "/srv/data", true)], None);
        assert!(read_only[0].contains("mount it there read-only"), "{read_only:?}");
    }

    #[test]
    fn what_is_deployed_counts_beside_what_the_files_say() {
        let (before, wanted) = ([place("app", "/srv/data", false)], [place("app", "/srv/data", false)]);
        let elsewhere = deployed(&[place("app", "/srv/else", false)]);
        let found = displaced(&before, &wanted, &elsewhere, &Upgrade::default());
        let found: Vec<String> = found.into_iter().map(|it| it.sentence).collect();
        assert!(found[0].contains("the service that is deployed has it at `/srv/else` in service `app`"), "{found:?}");
    }

    #[test]
    fn a_declared_move_is_one_and_another_than_declared_is_not() {
        let moved = [place("app", "/srv/new", false)];
        for declared in ["/srv/new", "app:/srv/new/", "app:/srv/new:ro"] {
            assert_eq!(said(&moved, Some(declared)), Vec::<String>::new(), "{declared}");
        }
        assert_eq!(said(&moved, Some("/srv/other")).len(), 1);
        assert_eq!(said(&moved, Some("db:/srv/new")).len(), 1);
        assert_eq!(said(&[place("app", "/srv/new", true)], Some("/srv/new")).len(), 1, "it was not to be read only");
    }
}
