//! Dumps that a hook wrote into a snapshot: a dump that broke off in the middle is found now, and not at the restore.
//!
//! A database that restarts under the hook leaves half a dump and an exit code of 0 behind. The tools that write dumps
//! end them with a line of their own, and compressed files end with a checksum: both are looked for.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flate2::read::MultiGzDecoder;

use crate::engine::FileEntry;

/// What a dump begins with, and what its tool writes at the end. `mysqldump --skip-comments` writes neither.
const KINDS: [(&str, &str, &str); 4] = [
    ("PostgreSQL", "-- PostgreSQL database dump\n", "-- PostgreSQL database dump complete"),
    ("PostgreSQL", "-- PostgreSQL database cluster dump\n", "-- PostgreSQL database cluster dump complete"),
    ("MySQL", "-- MySQL dump", "-- Dump completed"),
    ("MariaDB", "-- MariaDB dump", "-- Dump completed"),
];

/// Bytes at either end of a file in which those lines stand.
const EDGE: usize = 4096;

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

/// Looks at every file of an archive that is a dump.
pub fn check(archive: &Path) -> Result<()> {
    let open = || anyhow::Ok(tar::Archive::new(std::fs::File::open(archive)?));
    let mut tar = open().with_context(|| format!("failed to open `{}`", archive.display()))?;
    for entry in tar.entries().context("failed to read the snapshot")? {
        let entry = entry.context("failed to read the snapshot")?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().context("failed to read the snapshot")?.display().to_string();
            check_file(entry).with_context(|| format!("the dump `{name}` is cut off"))?;
        }
    }
    Ok(())
}

fn check_file(mut file: impl Read) -> Result<()> {
    let mut start = [0; 2];
    let read = fill(&mut file, &mut start)?;
    let file = start[..read].chain(file);
    match start == [0x1f, 0x8b] {
        true => check_text(MultiGzDecoder::new(file)),
        false => check_text(file),
    }
}

/// An error of the reader is one of the compressed file: its end is missing, or its checksum is wrong.
fn check_text(mut file: impl Read) -> Result<()> {
    let mut head = vec![0; EDGE];
    let read = fill(&mut file, &mut head)?;
    head.truncate(read);
    let kind = KINDS.iter().find(|(_, begin, _)| contains(&head, begin.as_bytes()));
    let mut tail: VecDeque<u8> = head.into();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        tail.extend(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(EDGE));
    }
    match kind {
        Some((tool, _, end)) if !contains(tail.make_contiguous(), end.as_bytes()) => {
            bail!("{tool} ends its dumps with `{end}`, and this one ends without")
        }
        _ => Ok(()),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const WHOLE: &str =
        "--\n-- PostgreSQL database dump\n--\nCREATE TABLE a();\n--\n-- PostgreSQL database dump complete\n--\n";

    fn checked(name: &str, content: &[u8]) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.tar");
        let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
        builder.finish().unwrap();
        check(&path)
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
    fn a_path_that_the_labels_name_must_hold_something() {
        let file = |path: &str, size| FileEntry { path: path.into(), size, sha256: String::new() };
        let files = [file("backup.sql", 0), file("files/a", 1), file("filesystem", 0)];
        check_paths(&["files/".into()], &files).unwrap();
        let error = check_paths(&["backup.sql".into()], &files).unwrap_err().to_string();
        assert!(error.starts_with("`backup.sql`, which the labels put into the snapshot, is empty"), "{error}");
        assert!(check_paths(&["file".into()], &files).is_err(), "a name is not a prefix");
    }
}
