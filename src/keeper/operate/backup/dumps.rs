//! Dumps that a hook wrote into a snapshot: a dump that broke off in the middle is found now, and not at the restore.
//!
//! A database that restarts under the hook leaves half a dump and an exit code of 0 behind. The tools that write dumps
//! end them with a line of their own, and compressed files end with a checksum: both are looked for. A dump of no known
//! format is said to be unjudged, and one that the hook has not written anew is of an earlier time.

mod budget;
mod formats;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use budget::{Beyond, Budget};

use crate::engine::FileEntry;
use crate::engine::contents::{Contents, Entry};
use crate::keeper::contents::{Listing, is_inside};
use crate::recipe::backup::{BackupPlan, BackupService};

/// Paths that the labels name and that hold nothing: the hook that should have filled them wrote nothing.
pub fn check_paths(paths: &[String], files: &[FileEntry]) -> Result<()> {
    for path in paths {
        let path = path.trim_end_matches('/');
        let below = |file: &&FileEntry| file.path == path || file.path.starts_with(&format!("{path}/"));
        if !files.iter().filter(below).any(|file| file.size > 0) {
            bail!(
                "`{path}`, which the labels put into the snapshot, is empty: there is nothing that could be restored"
            );
        }
    }
    Ok(())
}

/// Whether a service's hook writes files that the labels name.
pub fn are_named(service: &BackupService) -> bool {
    service.pre_hook.is_some() && service.volumes.iter().any(|volume| !volume.paths.is_empty())
}

/// The paths of a volume that hooks are to write.
pub fn named(plan: &BackupPlan, volume: &str) -> Vec<String> {
    let of_volume = plan.services.iter().filter(|it| are_named(it)).flat_map(|it| &it.volumes);
    of_volume.filter(|it| it.volume == volume).flat_map(|it| it.paths.clone()).collect()
}

/// What a hook left as it was, although it was there to write it. Files that the labels name beside a dump may be the
/// app's own and stay as they are, but for one that is called a dump.
pub fn stale(service: &BackupService, before: &Listing, after: &Listing) -> Option<String> {
    let (mut old, mut written) = (Vec::new(), 0);
    for (volume, path) in
        service.volumes.iter().flat_map(|it| it.paths.iter().map(|path| (it.volume.as_str(), path.as_str())))
    {
        let (Some(Ok(before)), Some(Ok(after))) = (before.get(volume), after.get(volume)) else { continue };
        let of_path = |contents: &Contents| -> Vec<Entry> {
            contents.entries.iter().filter(|it| !it.is_dir && is_inside(&it.path, path)).cloned().collect()
        };
        let (were, are) = (of_path(before), of_path(after));
        if are.iter().any(|entry| !were.contains(entry)) {
            written += 1;
        } else if !are.is_empty() {
            old.push((volume, path));
        }
    }
    old.retain(|(_, path)| written == 0 || is_called_a_dump(path));
    let named: Vec<String> = old.iter().map(|(volume, path)| format!("`{path}` of the volume `{volume}`")).collect();
    (!named.is_empty() && service.pre_hook.is_some()).then(|| {
        format!(
            "the hook `backupbot.backup.pre-hook` of service `{}` has not written {}: what the snapshot holds there is of \
             an earlier time",
            service.service,
            named.join(", ")
        )
    })
}

fn is_called_a_dump(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ["dump", "backup"].iter().any(|part| name.contains(part))
        || [".sql", ".gz", ".zst"].iter().any(|end| name.ends_with(end))
}

/// Looks at every file of an archive that is a dump. The named ones of no known format are returned.
pub fn check(archive: &Path, named: &[String], until: Instant) -> Result<Vec<String>> {
    let open = || anyhow::Ok(tar::Archive::new(std::fs::File::open(archive)?));
    let mut tar = open().with_context(|| format!("failed to open `{}`", archive.display()))?;
    let (mut unknown, mut budget) = (Vec::new(), Budget::until(until));
    for entry in tar.entries().context("failed to read the snapshot")? {
        let entry = entry.context("failed to read the snapshot")?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().context("failed to read the snapshot")?.display().to_string();
            let size = entry.size();
            let is_known = formats::check(entry, size, &mut budget).map_err(|error| match error.is::<Beyond>() {
                true => error.context(format!("failed to look into the dump `{name}`")),
                false => error.context(format!("the dump `{name}` is cut off")),
            })?;
            if !is_known && size > 0 && named.contains(&name) {
                unknown.push(name);
            }
        }
    }
    Ok(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const WHOLE: &str =
        "--\n-- PostgreSQL database dump\n--\nCREATE TABLE a();\n--\n-- PostgreSQL database dump complete\n--\n";

    fn checked(name: &str, content: &[u8]) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
        builder.finish().unwrap();
        check(&path, &[name.to_owned()], Instant::now() + std::time::Duration::from_secs(3600))
    }

    fn gzip(content: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_whole_dump_passes_and_half_of_it_does_not() {
        checked("backup.sql", WHOLE.as_bytes()).unwrap();
        let long = WHOLE.replace("CREATE", &format!("{}\nCREATE", "INSERT;\n".repeat(5000)));
        checked("backup.sql", long.as_bytes()).unwrap();
        let error = format!("{:#}", checked("backup.sql", &long.as_bytes()[..long.len() / 2]).unwrap_err());
        assert_eq!(
            error,
            "the dump `backup.sql` is cut off: PostgreSQL ends its dumps with `-- PostgreSQL database dump complete`, \
             and this one ends without"
        );
        assert!(checked("b.sql", b"-- MariaDB dump 10.19\nINSERT").is_err());
        checked("b.sql", b"-- MariaDB dump 10.19\nINSERT\n-- Dump completed on 2026-11-24\n").unwrap();
    }

    #[test]
    fn a_compressed_dump_is_looked_into() {
        let whole = gzip(WHOLE);
        checked("backup.sql.gz", &whole).unwrap();
        let error = format!("{:#}", checked("backup.sql.gz", &whole[..whole.len() - 12]).unwrap_err());
        assert!(error.starts_with("the dump `backup.sql.gz` is cut off: "), "{error}");
        assert!(checked("backup.sql.gz", &gzip(&WHOLE[..40])).is_err(), "compressed whole, but dumped by half");
    }

    #[test]
    fn other_files_are_none_of_its_business() {
        checked("picture", b"\x89PNG").unwrap();
        checked("empty", b"").unwrap();
        checked("notes.txt", b"-- Dump completed").unwrap();
    }

    #[test]
    fn a_named_file_of_no_known_format_is_said_to_be_unjudged() {
        assert_eq!(checked("dump", b"--\n").unwrap(), ["dump"]);
        assert!(checked("dump", WHOLE.as_bytes()).unwrap().is_empty());
        assert!(checked("dump.gz", &gzip("anything")).unwrap().is_empty(), "its checksum tells that it is whole");
    }

    fn service(paths: &[&str]) -> BackupService {
        let paths = paths.iter().map(|path| path.to_string()).collect();
        let volumes = vec![crate::recipe::backup::VolumeBackup { volume: "data".into(), paths }];
        BackupService { service: "db".into(), volumes, pre_hook: Some("dump".into()), ..BackupService::default() }
    }

    fn listing(files: &[(&str, i64)]) -> Listing {
        let entry =
            |(path, modified): &(&str, i64)| Entry { path: (*path).into(), modified: *modified, ..Entry::default() };
        let entries = files.iter().map(entry).collect();
        [("data".to_owned(), Ok(Contents { entries, cut: None }))].into()
    }

    #[test]
    fn a_dump_that_the_hook_left_alone_is_stale() {
        let before = listing(&[("dump", 1), ("conf", 1)]);
        let said = |paths: &[&str], after: &[(&str, i64)]| stale(&service(paths), &before, &listing(after));
        assert_eq!(
            said(&["dump"], &[("dump", 1)]).unwrap(),
            "the hook `backupbot.backup.pre-hook` of service `db` has not written `dump` of the volume `data`: what the \
             snapshot holds there is of an earlier time"
        );
        assert_eq!(said(&["dump"], &[("dump", 2)]), None);
        assert_eq!(said(&["dump", "conf"], &[("dump", 2), ("conf", 1)]), None, "the app's own file stays as it is");
        assert!(said(&["dump", "conf"], &[("dump", 1), ("conf", 2)]).is_some());
        assert!(said(&["conf"], &[("conf", 1)]).is_some(), "nothing at all was written");
    }

    #[test]
    fn a_path_that_the_labels_name_must_hold_something() {
        let file = |path: &str, size| FileEntry { path: path.into(), size, sha256: String::new() };
        let files = [file("backup.sql", 0), file("files/a", 1), file("filesystem", 0)];
        check_paths(&["files/".into()], &files).unwrap();
        let error = check_paths(&["backup.sql".into()], &files).unwrap_err().to_string();
        assert!(error.starts_with("`backup.sql`, which the labels put into the snapshot, is empty"), "{error}");
        assert!(check_paths(&["file".into()], &files).is_err(), "a name is not a prefix");
    }
}
