//! What the volumes hold before and after the upgrade: stores of data that vanished, and the loss of most bytes.
//!
//! Nothing here knows the app. A database is known by what its files begin with, everything else by its size; what an
//! app may throw away at any time, such as locks, logs and caches, does not count.

mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Keeper;
use super::journal::Event;
use super::protocol::Losses;
use crate::engine::contents::{Contents, Entry};
use crate::engine::is_out_of_reach;
use crate::fault::Failure;
use crate::recipe::stack::Stack;
use stores::{bytes, directories};

pub use stores::{directories as databases, is_inside};

/// Files that are named in one sentence.
const NAMED: usize = 5;

/// What every volume of the deployed stack holds now, by its key, or why it could not be listed.
pub type Listing = BTreeMap<String, Result<Contents, String>>;

/// Lists every mounted volume of what is deployed.
pub async fn list(keeper: &Arc<Keeper>) -> Result<Listing, Failure> {
    let Some(stack) = keeper.app.lock().await.deployed.state.as_ref().map(|state| state.stack.clone()) else {
        return Ok(Listing::new());
    };
    let engine = keeper.engine().await?;
    let mut listing = Listing::new();
    for volume in mounted(&stack) {
        let listed = match engine.list_volume(&volume).await {
            // The other volumes could not be listed either, and each would be waited for.
            Err(error) if is_out_of_reach(&error) => return Err(Failure::infrastructure(error)),
            listed => listed.map_err(|error| format!("{error:#}")),
        };
        listing.insert(volume, listed);
    }
    Ok(listing)
}

/// Whether nothing but what is left out of account lies in a volume. What was not seen whole may hold anything.
pub fn holds_nothing(listed: &Result<Contents, String>, but: impl Fn(&str) -> bool) -> bool {
    listed
        .as_ref()
        .is_ok_and(|it| it.cut.is_none() && it.entries.iter().all(|entry| entry.size == 0 || but(&entry.path)))
}

/// The volumes in which there is nothing at all.
pub fn empty(listing: &Listing) -> BTreeSet<String> {
    let is_empty = |listed: &Result<Contents, String>| holds_nothing(listed, |_| false);
    listing.iter().filter(|(_, listed)| is_empty(listed)).map(|(volume, _)| volume.clone()).collect()
}

/// The keys of volumes that a service mounts and that are the app's own.
fn mounted(stack: &Stack) -> BTreeSet<String> {
    let places = super::mounts::of_stack(stack).into_iter().map(|place| place.volume);
    places.filter(|volume| !stack.volumes.get(volume).is_some_and(|it| it.external)).collect()
}

/// Looks at the volumes again after the upgrade, remembers what was lost, and notes what is too little to be a loss.
pub async fn compare(keeper: &Arc<Keeper>, before: Listing) -> Result<(), Failure> {
    let after = list(keeper).await?;
    let canaries: BTreeSet<(String, String)> = {
        let app = keeper.app.lock().await;
        app.planted.iter().map(|canary| (canary.volume.clone(), canary.path.clone())).collect()
    };
    let drops = &keeper.spec.settings.recipe_toml.upgrade.drops;
    let mut losses = Losses { looked: true, ..Losses::default() };
    for (volume, before) in &before {
        // One that the head no longer mounts is another assertion's to name.
        let Some(after) = after.get(volume) else { continue };
        let ignored = |path: &str| {
            canaries.contains(&(volume.clone(), path.to_owned())) || drops.iter().any(|it| covers(it, volume, path))
        };
        match (before, after) {
            (Ok(before), Ok(after)) => {
                let found = judge(volume, &without(before, &ignored), &without(after, &ignored));
                for text in found.notes {
                    keeper.journal.write(Event::Note { text }).map_err(Failure::infrastructure)?;
                }
                losses.lost.extend(found.lost);
                losses.unjudged.extend(found.unjudged);
            }
            (Err(reason), _) | (_, Err(reason)) => {
                losses.unjudged.push(format!("the volume `{volume}` could not be listed: {reason}"));
            }
        }
    }
    keeper.app.lock().await.losses = losses;
    Ok(())
}

/// Whether `upgrade.drops` gives a path up: by its volume, or by `volume/path`.
fn covers(dropped: &str, volume: &str, path: &str) -> bool {
    match dropped.split_once('/') {
        None => dropped == volume,
        Some((of, below)) => of == volume && is_inside(path, below.trim_end_matches('/')),
    }
}

fn without(contents: &Contents, ignored: &dyn Fn(&str) -> bool) -> Contents {
    let entries = contents.entries.iter().filter(|entry| !ignored(&entry.path)).cloned().collect();
    Contents { entries, cut: contents.cut.clone() }
}

/// What became of one volume.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lost: Vec<String>,
    unjudged: Vec<String>,
    notes: Vec<String>,
}

fn judge(volume: &str, before: &Contents, after: &Contents) -> Found {
    let mut found = Found::default();
    for contents in [before, after] {
        found.unjudged.extend(contents.cut.iter().map(|cut| format!("of the volume `{volume}` {cut}")));
    }
    // What lies beyond the limit would look as if it were lost.
    if !found.unjudged.is_empty() {
        return found;
    }
    stores::judge(volume, before, after, &mut found);
    let gone = files(volume, before, after);
    let said = !found.lost.is_empty();
    match gone {
        Some((text, true)) if !is_cache(volume) && !said => found.lost.push(text),
        Some((text, _)) => found.notes.push(text),
        None => {}
    }
    found
}

/// Files that are gone or shrank, as a sentence, and whether they were most of the volume. What only moved is not lost.
fn files(volume: &str, before: &Contents, after: &Contents) -> Option<(String, bool)> {
    let inside = directories(before);
    let counts = |entry: &&Entry| {
        !entry.is_dir && !is_passing(&entry.path) && !inside.iter().any(|it| is_inside(&entry.path, it))
    };
    let now: BTreeMap<&str, &Entry> = after.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let were: BTreeSet<&str> = before.entries.iter().map(|entry| entry.path.as_str()).collect();
    let moved = |entry: &Entry| {
        let same = |other: &&Entry| {
            !entry.sha256.is_empty() && other.sha256 == entry.sha256
                || entry.sha256.is_empty() && other.size == entry.size && name(&other.path) == name(&entry.path)
        };
        after
            .entries
            .iter()
            .filter(|other| !other.is_dir && !were.contains(other.path.as_str()))
            .any(|other| same(&other))
    };
    let total: u64 = before.entries.iter().filter(counts).map(|entry| entry.size).sum();
    let mut gone: Vec<(&Entry, u64)> = Vec::new();
    for entry in before.entries.iter().filter(counts) {
        let left = match now.get(entry.path.as_str()) {
            Some(now) if !now.is_dir => now.size,
            _ if moved(entry) => entry.size,
            _ => 0,
        };
        if left < entry.size {
            gone.push((entry, entry.size - left));
        }
    }
    // Something that merely became a little shorter is an edit.
    gone.retain(|(entry, lost)| *lost * 2 > entry.size);
    gone.sort_by_key(|(_, lost)| std::cmp::Reverse(*lost));
    let lost: u64 = gone.iter().map(|(_, lost)| lost).sum();
    (lost > 0).then(|| {
        let named: Vec<String> = gone.iter().take(NAMED).map(|(entry, _)| fate(entry, &now)).collect();
        let more = gone.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (lost_bytes, total_bytes) = (bytes(lost), bytes(total));
        let text = format!(
            "the volume `{volume}` lost {lost_bytes} of the {total_bytes} that it held before the upgrade: {}{more}",
            named.join(", ")
        );
        (text, lost * 2 >= total)
    })
}

/// `` `app.db` (12 bytes) is gone``
fn fate(entry: &Entry, now: &BTreeMap<&str, &Entry>) -> String {
    let left = now.get(entry.path.as_str()).map(|now| now.size);
    match left {
        Some(left) => format!("`{}` ({}) has {} left", entry.path, bytes(entry.size), bytes(left)),
        None => format!("`{}` ({}) is gone", entry.path, bytes(entry.size)),
    }
}

/// What an app may throw away: locks, logs, temporary and cached files, and what a database keeps beside its file.
fn is_passing(path: &str) -> bool {
    const ENDS: [&str; 9] = [".pid", ".lock", ".sock", ".tmp", ".log", ".swp", "-wal", "-shm", "-journal"];
    const PARTS: [&str; 10] =
        ["tmp", "temp", "cache", ".cache", "caches", "log", "logs", "run", "sessions", "lost+found"];
    ENDS.iter().any(|end| path.ends_with(end)) || path.split('/').rev().skip(1).any(|part| PARTS.contains(&part))
}

/// By its name, a volume whose whole content may be thrown away.
fn is_cache(volume: &str) -> bool {
    let parts = volume.split(|c: char| !c.is_ascii_alphanumeric());
    parts.into_iter().any(|part| ["cache", "caches", "tmp", "temp", "sockets", "logs"].contains(&part))
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), size, mode: 0o644, sha256: format!("{path}{size}"), ..Entry::default() }
    }

    fn of(entries: &[Entry]) -> Contents {
        Contents { entries: entries.to_vec(), cut: None }
    }

    fn found(volume: &str, before: &[Entry], after: &[Entry]) -> Found {
        judge(volume, &of(before), &of(after))
    }

    #[test]
    fn what_is_kept_grows_or_is_edited_is_no_loss() {
        let before = [file("a", 100), file("b", 10)];
        assert_eq!(found("data", &before, &before), Found::default());
        assert_eq!(found("data", &before, &[file("a", 90), file("b", 10), file("c", 1)]), Found::default());
    }

    #[test]
    fn the_loss_of_most_bytes_names_the_files_and_a_small_one_is_a_note() {
        let before = [file("db/app", 100), file("b", 10)];
        let lost = found("data", &before, &[file("b", 10)]);
        let text = "the volume `data` lost 100 bytes of the 110 bytes that it held before the upgrade: `db/app` (100 \
                    bytes) is gone";
        assert_eq!(lost.lost, [text]);
        let emptied = found("data", &before, &[file("db/app", 0), file("b", 10)]);
        assert!(emptied.lost[0].ends_with("`db/app` (100 bytes) has 0 bytes left"), "{emptied:?}");
        let small = found("data", &before, &[file("db/app", 100)]);
        assert!(small.lost.is_empty() && small.notes[0].contains("`b` (10 bytes) is gone"), "{small:?}");
    }

    #[test]
    fn what_moved_within_the_volume_is_not_lost() {
        let moved = Entry { path: "new/app".into(), ..file("app", 100) };
        assert_eq!(found("data", &[file("app", 100)], &[moved]), Found::default());
    }

    #[test]
    fn locks_logs_and_caches_may_go() {
        for path in ["app.pid", "cache/a", "app.log", "x/tmp/y", "app.db-wal"] {
            assert_eq!(found("data", &[file(path, 100)], &[]), Found::default(), "{path}");
        }
        let cache = found("app_cache", &[file("a", 100)], &[]);
        assert!(cache.lost.is_empty() && cache.notes.len() == 1, "{cache:?}");
    }

    #[test]
    fn a_volume_that_was_listed_in_part_is_not_judged() {
        let cut = Contents { cut: Some("only the first 5 files were looked at".into()), ..of(&[file("a", 1)]) };
        let found = judge("data", &cut, &of(&[]));
        assert_eq!(found.unjudged, ["of the volume `data` only the first 5 files were looked at"]);
        assert!(found.lost.is_empty());
    }

    #[test]
    fn a_declared_loss_is_of_a_volume_or_of_a_path() {
        assert!(
            covers("data", "data", "a") && covers("data/old", "data", "old/a") && covers("data/old", "data", "old")
        );
        assert!(!covers("data/old", "data", "older") && !covers("data", "other", "a"));
    }
}
