//! What a volume holds, file by file: as much as tells whether it is still the same, and no content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// More entries are not listed: whoever compares then says so.
const MAX_ENTRIES: usize = 50_000;
/// A larger file is not hashed; bytes.
const SMALL: u64 = 64 << 10;
/// So much of a file tells what kind of a store it is; bytes.
const BEGINNING: usize = 16;
/// Docker gives a volume as one archive, content included: what comes after this is not waited for; bytes.
pub const MAX_ARCHIVE: u64 = 1 << 30;

/// The files and directories of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub entries: Vec<Entry>,
    /// Why not all of it is listed.
    pub cut: Option<String>,
}

/// One of them. Links, pipes, sockets and devices hold nothing of their own and are not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the volume's root.
    pub path: String,
    pub is_dir: bool,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// When its content last changed, in seconds since 1970.
    pub modified: i64,
    /// The first bytes of a file, as lower-case hex digits.
    pub begins: String,
    /// Lower-case hex SHA-256 of a small file; empty for anything else.
    pub sha256: String,
}

impl Contents {
    /// Whether there is room for another entry. It remembers when there was none.
    fn has_room(&mut self) -> bool {
        if self.entries.len() >= MAX_ENTRIES {
            self.cut = Some(format!("only the first {MAX_ENTRIES} files were looked at"));
        }
        self.cut.is_none()
    }

    /// Adds a file, of which no more is read than has to be.
    fn add_file(&mut self, mut entry: Entry, mut content: impl Read) -> io::Result<()> {
        let mut begins = Vec::new();
        content.by_ref().take(BEGINNING as u64).read_to_end(&mut begins)?;
        if entry.size <= SMALL {
            let mut digest = Sha256::new();
            digest.update(&begins);
            let mut rest = Vec::new();
            content.take(SMALL).read_to_end(&mut rest)?;
            digest.update(&rest);
            entry.sha256 = HEXLOWER.encode(&digest.finalize());
        }
        entry.begins = HEXLOWER.encode(&begins);
        self.entries.push(entry);
        Ok(())
    }
}

/// Lists a directory and everything below it. What an app removes meanwhile is not there.
pub fn of_directory(root: &Path) -> io::Result<Contents> {
    walk(root, None)
}

/// The same without what is mounted below it.
pub fn of_one_file_system(root: &Path) -> io::Result<Contents> {
    walk(root, Some(root.symlink_metadata()?.dev()))
}

fn walk(root: &Path, device: Option<u64>) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => continue,
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            if !contents.has_room() {
                return Ok(contents);
            }
            match add(&mut contents, root, &path, device) {
                Ok(true) => directories.push(path),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(contents)
}

/// Adds what is at a path; true for a directory, which is still to be listed.
fn add(contents: &mut Contents, root: &Path, path: &Path, device: Option<u64>) -> io::Result<bool> {
    let metadata = path.symlink_metadata()?;
    if device.is_some_and(|device| device != metadata.dev()) {
        return Ok(false);
    }
    let entry = Entry {
        path: path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned(),
        is_dir: metadata.is_dir(),
        size: if metadata.is_file() { metadata.len() } else { 0 },
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid().into(),
        gid: metadata.gid().into(),
        modified: metadata.mtime(),
        ..Entry::default()
    };
    if metadata.is_dir() {
        contents.entries.push(entry);
        return Ok(true);
    }
    if metadata.is_file() {
        contents.add_file(entry, File::open(path)?)?;
    }
    Ok(false)
}

/// Lists an archive of a volume, as Docker gives it.
pub fn of_archive(archive: impl Read) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut file = entry?;
        if !contents.has_room() {
            break;
        }
        let path = file.path()?.to_string_lossy().trim_start_matches("./").trim_matches('/').to_owned();
        if path.is_empty() || path == "." {
            continue;
        }
        let header = file.header();
        let (kind, mode) = (header.entry_type(), header.mode()? & 0o7777);
        let (uid, gid, modified) = (header.uid()?, header.gid()?, header.mtime()? as i64);
        let size = if kind.is_file() { file.size() } else { 0 };
        let entry = Entry { path, is_dir: kind.is_dir(), size, mode, uid, gid, modified, ..Entry::default() };
        if kind.is_dir() {
            contents.entries.push(entry);
        } else if kind.is_file() {
            contents.add_file(entry, &mut file)?;
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with one file of each size, and the archive of it that Docker would give.
    fn sample() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/app.db"), b"SQLite format 3\0 and more").unwrap();
        fs::write(dir.path().join("large"), vec![7; SMALL as usize + 1]).unwrap();
        std::os::unix::fs::symlink("large", dir.path().join("link")).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.append_dir_all(".", dir.path()).unwrap();
        let archive = builder.into_inner().unwrap();
        (dir, archive)
    }

    fn sorted(mut contents: Contents) -> Contents {
        contents.entries.sort_by(|one, other| one.path.cmp(&other.path));
        contents
    }

    #[test]
    fn a_directory_and_its_archive_are_listed_alike() {
        let (dir, archive) = sample();
        let listed = sorted(of_directory(dir.path()).unwrap());
        assert_eq!(listed, sorted(of_archive(archive.as_slice()).unwrap()));
        let paths: Vec<&str> = listed.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["large", "sub", "sub/app.db"], "a link holds nothing");
        assert_eq!(listed.entries[0].sha256, "", "too large to be hashed");
        assert_eq!(listed.entries[2].begins, HEXLOWER.encode(b"SQLite format 3\0"));
        assert_eq!(listed.entries[2].sha256, HEXLOWER.encode(&Sha256::digest(b"SQLite format 3\0 and more")));
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let (_dir, archive) = sample();
        assert!(of_archive(&archive[..1000]).is_err());
    }
}
