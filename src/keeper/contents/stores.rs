//! Databases in a volume, known by what their files are called and begin with.

use std::collections::BTreeSet;

use super::Found;
use crate::engine::contents::{Contents, Entry};

/// A store that is one file, and what it begins with.
const FILES: [(&str, &[u8]); 2] = [("SQLite", b"SQLite format 3\0"), ("Redis", b"REDIS")];

/// A store that is a directory, and the file that makes it one.
const DIRECTORIES: [(&str, &str); 4] =
    [("PostgreSQL", "PG_VERSION"), ("MariaDB", "ibdata1"), ("MariaDB", "aria_log_control"), ("MongoDB", "WiredTiger")];

/// Of a database's directory, what it writes and throws away as it goes: logs of changes, not the data.
const PASSING: [&str; 7] = ["pg_wal", "pg_xlog", "ib_logfile", "#innodb_redo", "ibtmp", "undo_", "aria_log."];

/// What PostgreSQL begins this file with: a number that no two clusters share.
const CONTROL: &str = "global/pg_control";

/// Judges every store of a volume.
pub fn judge(volume: &str, before: &Contents, after: &Contents, found: &mut Found) {
    for entry in before.entries.iter().filter(|entry| !entry.is_dir) {
        if let Some((kind, magic)) = FILES.iter().find(|(_, magic)| entry.begins.starts_with(&hex(magic))) {
            let now = after.entries.iter().find(|it| it.path == entry.path && !it.is_dir);
            let were = |path: &str| before.entries.iter().any(|it| it.path == path);
            let new: Vec<&Entry> = after.entries.iter().filter(|it| !it.is_dir && !were(&it.path)).collect();
            found.lost.extend(file(volume, kind, magic, entry, now, &new));
        }
    }
    for (directory, kind, marker) in topmost(before) {
        self::directory(volume, &directory, kind, marker, (before, after), found);
    }
}

/// The directories that are databases; a file below is theirs.
pub fn directories(contents: &Contents) -> Vec<String> {
    topmost(contents).into_iter().map(|(directory, ..)| directory).collect()
}

/// Whether a path is a directory's, or the directory itself. The volume's root is the empty path.
pub fn is_inside(path: &str, directory: &str) -> bool {
    directory.is_empty() || path == directory || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Bytes for people.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// What is wrong with a store that is one file.
fn file(volume: &str, kind: &str, magic: &[u8], before: &Entry, now: Option<&Entry>, new: &[&Entry]) -> Option<String> {
    let path = &before.path;
    let what = format!("the {kind} database `{path}` of the volume `{volume}`");
    let Some(now) = now else {
        // Renamed as it is, or still of its kind and as large: the app has taken it along.
        let moved = new.iter().any(|it| it.begins == before.begins && it.size >= before.size);
        return (!moved).then(|| format!("{what} ({}) is gone", bytes(before.size)));
    };
    if !now.begins.starts_with(&hex(magic)) {
        return Some(format!("{what} can no longer be read as one: it has {} now", bytes(now.size)));
    }
    if before.mode & 0o444 != 0 && now.mode & 0o444 == 0 {
        return Some(format!(
            "{what} can be read by nobody any more: its mode went from {:o} to {:o}",
            before.mode, now.mode
        ));
    }
    (now.size * 2 < before.size)
        .then(|| format!("{what} lost most of its bytes: it had {}, and has {}", bytes(before.size), bytes(now.size)))
}

/// What is wrong with a store that is a directory.
fn directory(
    volume: &str,
    directory: &str,
    kind: &str,
    marker: &str,
    (before, after): (&Contents, &Contents),
    found: &mut Found,
) {
    let shown = if directory.is_empty() { "its root".to_owned() } else { format!("`{directory}`") };
    let what = format!("the {kind} database in {shown} of the volume `{volume}`");
    let at = |contents: &'_ Contents, name: &str| -> Option<Entry> {
        let path = join(directory, name);
        contents.entries.iter().find(|entry| entry.path == path && !entry.is_dir).cloned()
    };
    let (Some(old), Some(new)) = (at(before, marker), at(after, marker)) else {
        found.lost.push(format!("{what} is gone: there is no `{}` any more", join(directory, marker)));
        return;
    };
    let (was, is) = (weight(before, directory), weight(after, directory));
    if is * 2 < was {
        found.lost.push(format!("{what} lost most of its bytes: it had {}, and has {}", bytes(was), bytes(is)));
        return;
    }
    let identity = |entry: Option<Entry>| entry.map(|entry| entry.begins);
    let (one, other) = (identity(at(before, CONTROL)), identity(at(after, CONTROL)));
    match (kind, one == other, old.sha256 == new.sha256) {
        ("PostgreSQL", false, true) => found.lost.push(format!(
            "{what} was begun anew: `{}` is another cluster's than before the upgrade",
            join(directory, CONTROL)
        )),
        ("PostgreSQL", false, false) => found.unjudged.push(format!(
            "{what} is a cluster of another version, made anew: whether its data came along only the app can tell"
        )),
        _ => {}
    }
}

/// The directories of databases that lie in no other: PostgreSQL has its marker in each database's own folder, too.
fn topmost(contents: &Contents) -> Vec<(String, &'static str, &'static str)> {
    let mut found: Vec<(String, &str, &str)> = Vec::new();
    for (kind, marker) in DIRECTORIES {
        let files = contents.entries.iter().filter(|entry| !entry.is_dir && entry.size > 0);
        for entry in files {
            let Some(directory) = entry.path.strip_suffix(marker) else { continue };
            if directory.is_empty() || directory.ends_with('/') {
                found.push((directory.trim_end_matches('/').to_owned(), kind, marker));
            }
        }
    }
    let all: BTreeSet<String> = found.iter().map(|(directory, ..)| directory.clone()).collect();
    let lies_in_another = |directory: &str| all.iter().any(|other| other != directory && is_inside(directory, other));
    found.retain(|(directory, ..)| !lies_in_another(directory));
    found.sort();
    // MariaDB has two markers, and one of them is enough.
    found.dedup_by(|one, other| one.0 == other.0 && one.1 == other.1);
    found
}

/// The bytes of a database's own files.
fn weight(contents: &Contents, directory: &str) -> u64 {
    let own = contents.entries.iter().filter(|entry| is_inside(&entry.path, directory));
    let lasting = own.filter(|entry| !entry.path.split('/').any(|part| PASSING.iter().any(|it| part.starts_with(it))));
    lasting.map(|entry| entry.size).sum()
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, begins: &[u8]) -> Entry {
        let sha256 = format!("{size}{begins:?}");
        Entry { path: path.into(), size, mode: 0o600, begins: hex(begins), sha256, ..Entry::default() }
    }

    fn judged(before: &[Entry], after: &[Entry]) -> Found {
        let (before, after) = (before.to_vec(), after.to_vec());
        let mut found = Found::default();
        let of = |entries| Contents { entries, cut: None };
        judge("data", &of(before), &of(after), &mut found);
        found
    }

    #[test]
    fn a_database_in_a_file_that_is_gone_emptied_replaced_or_locked_away_is_lost() {
        let sqlite = |size| file("app.db", size, b"SQLite format 3\0");
        let what = "the SQLite database `app.db` of the volume `data`";
        assert_eq!(judged(&[sqlite(8192)], &[sqlite(8192)]), Found::default());
        assert_eq!(judged(&[sqlite(8192)], &[]).lost, [format!("{what} (8192 bytes) is gone")]);
        let emptied = judged(&[sqlite(8192)], &[file("app.db", 0, b"")]);
        assert_eq!(emptied.lost, [format!("{what} can no longer be read as one: it has 0 bytes now")]);
        let shrunk = judged(&[sqlite(81920)], &[sqlite(8192)]);
        assert_eq!(shrunk.lost, [format!("{what} lost most of its bytes: it had 81 kB, and has 8192 bytes")]);
        let locked = judged(&[sqlite(8192)], &[Entry { mode: 0, ..sqlite(8192) }]);
        assert_eq!(locked.lost, [format!("{what} can be read by nobody any more: its mode went from 600 to 0")]);
        let renamed = Entry { path: "new.db".into(), ..sqlite(8192) };
        assert_eq!(judged(&[sqlite(8192)], &[renamed]), Found::default());
    }

    fn cluster(directory: &str, version: &[u8], identity: &[u8]) -> Vec<Entry> {
        let at = |name: &str, size, begins: &[u8]| file(&join(directory, name), size, begins);
        vec![
            at("PG_VERSION", 3, version),
            at("global/pg_control", 8192, identity),
            at("base/1/PG_VERSION", 3, version),
            at("base/1/1234", 500_000, b"x"),
            at("pg_wal/0001", 16_000_000, b"x"),
        ]
    }

    #[test]
    fn a_cluster_of_postgresql_is_one_store_and_known_by_its_number() {
        let (one, other) = (cluster("pg", b"15\n", b"identity"), cluster("pg", b"15\n", b"ANOTHER!"));
        assert_eq!(judged(&one, &one), Found::default());
        let anew = judged(&one, &other);
        assert!(
            anew.lost[0].starts_with("the PostgreSQL database in `pg` of the volume `data` was begun anew"),
            "{anew:?}"
        );
        let gone = judged(&one, &[]);
        let text = "the PostgreSQL database in `pg` of the volume `data` is gone: there is no `pg/PG_VERSION` any more";
        assert_eq!(gone.lost, [text], "and its folders are none of their own");
        let newer = judged(&one, &cluster("pg", b"17\n", b"ANOTHER!"));
        assert!(newer.lost.is_empty() && newer.unjudged.len() == 1, "{newer:?}");
        let fewer: Vec<Entry> = one.iter().filter(|it| !it.path.ends_with("1234")).cloned().collect();
        assert!(judged(&one, &fewer).lost[0].contains("lost most of its bytes"));
    }

    #[test]
    fn mariadb_has_two_markers_and_is_named_once() {
        let before = [file("ibdata1", 100, b"x"), file("aria_log_control", 52, b"x"), file("app/t.ibd", 100, b"x")];
        assert_eq!(judged(&before, &[]).lost.len(), 1);
        assert_eq!(directories(&Contents { entries: before.to_vec(), cut: None }), [""]);
    }
}
