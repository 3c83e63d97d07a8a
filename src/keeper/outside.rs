//! Data that goes with its container: what was written into anonymous volumes, layers and memory.

use std::collections::BTreeMap;

use super::protocol::Scattered;
use crate::engine::outside::{Outside, Place, PlaceKind};

/// Files that make their directory a database's.
const DATABASES: [(&str, &str); 7] = [
    ("PG_VERSION", "PostgreSQL"),
    ("ibdata1", "MariaDB"),
    ("aria_log_control", "MariaDB"),
    ("WiredTiger", "MongoDB"),
    ("dump.rdb", "Redis"),
    ("appendonly.aof", "Redis"),
    ("appendonlydir", "Redis"),
];

/// Nothing that anybody would keep.
const PASSING: [&str; 9] =
    ["/tmp/", "/var/tmp/", "/run/", "/var/run/", "/var/cache/", "/var/log/", "/dev/", "/root/.cache/", "/proc/"];

/// Places that are named in a note.
const NAMED: usize = 5;

/// Judges what was seen. `ephemeral` names places that may go, as `service:/path`, or `service` for all of its.
pub fn judge(seen: &[Outside], ephemeral: &[String]) -> Scattered {
    let mut scattered = Scattered::default();
    for outside in seen {
        let service = &outside.service;
        let is_declared = |path: &str| {
            ephemeral.iter().any(|it| match it.split_once(':') {
                None => it == service,
                Some((of, place)) => of == service && super::contents::is_inside(path, place.trim_end_matches('/')),
            })
        };
        let mut loose = BTreeMap::<String, u64>::new();
        for place in &outside.places {
            let files: Vec<&(String, u64)> =
                place.files.iter().filter(|(path, _)| !is_declared(path) && !is_declared(&place.at)).collect();
            if let Some(sentence) = lost(service, place, &files) {
                scattered.lost.push(sentence);
                continue;
            }
            for (path, size) in files.iter().filter(|(path, _)| !PASSING.iter().any(|it| path.starts_with(it))) {
                let directory = path
                    .rsplit_once('/')
                    .map_or("/", |(directory, _)| if directory.is_empty() { "/" } else { directory });
                *loose.entry(directory.to_owned()).or_default() += size;
            }
        }
        scattered.notes.extend(note(service, loose));
        scattered.unjudged.extend(outside.unseen.iter().map(|why| format!("service `{service}`: {why}")));
    }
    scattered
}

/// Why what lies at a place is data that is about to be lost.
fn lost(service: &str, place: &Place, files: &[&(String, u64)]) -> Option<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let database = files.iter().find_map(|(path, _)| {
        let (marker, kind) =
            DATABASES.iter().find(|(marker, _)| name(path) == *marker || path.contains(&format!("/{marker}/")))?;
        Some((*kind, path.split(&format!("/{marker}")).next().unwrap_or(path).to_owned()))
    });
    let (what, at) = match (place.kind, database) {
        (PlaceKind::Anonymous, Some((kind, _))) => {
            (format!("a {kind} database in a volume without a name"), place.at.clone())
        }
        (PlaceKind::Anonymous, None) => {
            let bytes: u64 = files.iter().map(|(_, size)| size).sum();
            let (first, _) = files.first()?;
            (format!("{bytes} bytes in a volume without a name (`{first}` among them)"), place.at.clone())
        }
        (PlaceKind::Layer, Some((kind, at))) => (format!("a {kind} database in the container's own layer"), at),
        (PlaceKind::Memory, Some((kind, at))) => (format!("a {kind} database in memory"), at),
        (_, None) => return None,
    };
    Some(format!(
        "service `{service}` keeps {what}, at `{at}`: it is gone with the container, at the next update at the latest. Mount a \
         named volume there, or say in recipe.toml that it may go: `[upgrade] ephemeral = [\"{service}:{at}\"]`"
    ))
}

/// The rest, largest first.
fn note(service: &str, loose: BTreeMap<String, u64>) -> Option<String> {
    let mut loose: Vec<(String, u64)> = loose.into_iter().collect();
    loose.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let more = loose.len().saturating_sub(NAMED);
    let named: Vec<String> = loose.iter().take(NAMED).map(|(at, size)| format!("`{at}` ({size} bytes)")).collect();
    let more = if more > 0 { format!(" and {more} more places") } else { String::new() };
    (!named.is_empty()).then(|| {
        format!(
            "service `{service}` wrote outside of its volumes, where nothing outlives the container: {}{more}",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kind: PlaceKind, at: &str, files: &[(&str, u64)], ephemeral: &[&str]) -> Scattered {
        let files = files.iter().map(|(path, size)| (path.to_string(), *size)).collect();
        let places = vec![Place { kind, at: at.into(), files }];
        let ephemeral: Vec<String> = ephemeral.iter().map(|it| it.to_string()).collect();
        judge(&[Outside { service: "db".into(), places, unseen: Vec::new() }], &ephemeral)
    }

    #[test]
    fn data_in_a_volume_without_a_name_is_lost_unless_it_is_declared() {
        let files = [("/srv/data/a", 12)];
        let found = judged(PlaceKind::Anonymous, "/srv/data", &files, &[]);
        assert_eq!(
            found.lost,
            [
                "service `db` keeps 12 bytes in a volume without a name (`/srv/data/a` among them), at `/srv/data`: it is gone \
              with the container, at the next update at the latest. Mount a named volume there, or say in recipe.toml that \
              it may go: `[upgrade] ephemeral = [\"db:/srv/data\"]`"
            ]
        );
        assert_eq!(judged(PlaceKind::Anonymous, "/srv/data", &files, &["db:/srv/data"]), Scattered::default());
        assert_eq!(judged(PlaceKind::Anonymous, "/srv/data", &[], &[]), Scattered::default());
    }

    #[test]
    fn a_database_in_a_layer_or_in_memory_is_lost_and_anything_else_a_note() {
        let cluster = [("/var/lib/pg/PG_VERSION", 3), ("/var/lib/pg/base/1/1", 9000)];
        for (kind, words) in [(PlaceKind::Layer, "the container's own layer"), (PlaceKind::Memory, "memory")] {
            let found = judged(kind, "/", &cluster, &[]);
            assert!(
                found.lost[0].contains(&format!("a PostgreSQL database in {words}, at `/var/lib/pg`")),
                "{found:?}"
            );
        }
        let found = judged(PlaceKind::Layer, "/", &[("/app/a", 1), ("/opt/b", 20), ("/tmp/c", 300)], &[]);
        let text = "service `db` wrote outside of its volumes, where nothing outlives the container: `/opt` (20 bytes), \
                    `/app` (1 bytes)";
        assert_eq!((found.lost.len(), found.notes.as_slice()), (0, [text.to_owned()].as_slice()));
        assert_eq!(judged(PlaceKind::Layer, "/", &[("/app/a", 1)], &["db:/app"]), Scattered::default());
    }
}
