//! Backups by the server's backup bot, through abra: the snapshot that was made, and what is really in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder};

use super::commands::DOWNLOADED;
use super::{Abra, FileEntry};

/// The caller's own deadline is shorter; this one ends a command whose caller has gone.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Has a snapshot made, downloads it, and says what it holds: one archive a volume in `dir`, and its files.
pub(super) async fn create(
    abra: &Abra,
    volumes: &[String],
    dir: &Path,
) -> Result<(String, BTreeMap<String, Vec<FileEntry>>)> {
    let id = abra.backup_create(DEADLINE).await?;
    abra.backup_download(&id, dir, DEADLINE).await?;
    let mut names = BTreeMap::new();
    for key in volumes {
        names.insert(abra.swarm.volume_name(key)?, key.clone());
    }
    let (downloaded, to) = (dir.join(DOWNLOADED), dir.to_owned());
    let split = tokio::task::spawn_blocking(move || {
        let held = split(File::open(&downloaded)?, &names, &to)?;
        std::fs::remove_file(&downloaded)?;
        anyhow::Ok(held)
    });
    let held = split.await.context("failed to look into the snapshot")?;
    Ok((id.clone(), held.with_context(|| format!("failed to look into snapshot `{id}`"))?))
}

pub(super) async fn restore(abra: &Abra, snapshot: &str) -> Result<()> {
    abra.app_restore(snapshot, DEADLINE).await
}

/// Takes a download apart: everything below `<volume>/_data` belongs to that volume, wherever Docker keeps volumes.
fn split(
    download: impl Read,
    names: &BTreeMap<String, String>,
    dir: &Path,
) -> Result<BTreeMap<String, Vec<FileEntry>>> {
    let mut parts = BTreeMap::new();
    for key in names.values() {
        let path = dir.join(format!("{key}.tar"));
        let file = File::create(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
        parts.insert(key.clone(), (Builder::new(file), Vec::new()));
    }
    let mut archive = Archive::new(MultiGzDecoder::new(download));
    for entry in archive.entries().context("failed to read the download")? {
        let mut entry = entry.context("failed to read the download")?;
        let Some((volume, path)) = place(&entry.path().context("a name cannot be read")?) else { continue };
        let Some((builder, held)) = names.get(&volume).and_then(|key| parts.get_mut(key)) else { continue };
        held.extend(take(&mut entry, &path, builder).with_context(|| format!("failed to read `{}`", path.display()))?);
    }
    let mut held = BTreeMap::new();
    for (key, (builder, files)) in parts {
        builder.into_inner().and_then(|file| file.sync_all()).context("failed to write the archive")?;
        held.insert(key, files);
    }
    Ok(held)
}

/// The volume that a path of the snapshot belongs to, and where in it.
fn place(path: &Path) -> Option<(String, PathBuf)> {
    let parts: Vec<&str> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let data = parts.iter().position(|part| *part == "_data").filter(|at| *at > 0)?;
    let inside: PathBuf = parts[data + 1..].iter().collect();
    (!inside.as_os_str().is_empty()).then(|| (parts[data - 1].to_owned(), inside))
}

/// Copies one entry, reading it to its end: a download that was cut off is an error here.
fn take(entry: &mut tar::Entry<'_, impl Read>, path: &Path, builder: &mut Builder<File>) -> Result<Option<FileEntry>> {
    let mut header = entry.header().clone();
    let kind = header.entry_type();
    let named = |size, sha256| Some(FileEntry { path: path.display().to_string(), size, sha256 });
    if kind.is_symlink() {
        let target = entry.link_name()?.context("a link leads nowhere")?.into_owned();
        builder.append_link(&mut header, path, target)?;
        return Ok(named(0, String::new()));
    }
    if kind.is_dir() {
        builder.append_data(&mut header, path, std::io::empty())?;
        return Ok(named(0, String::new()));
    }
    if !kind.is_file() {
        return Ok(None);
    }
    let size = entry.size();
    let mut file = tempfile::tempfile().context("failed to make room for a file")?;
    let read = std::io::copy(entry, &mut file)?;
    ensure!(read == size, "it is cut off");
    std::io::Seek::rewind(&mut file)?;
    let mut hash = Sha256::new();
    let mut reader = std::io::BufReader::new(&file);
    std::io::copy(&mut reader, &mut Hasher(&mut hash))?;
    std::io::Seek::rewind(&mut file)?;
    builder.append_data(&mut header, path, &mut file)?;
    Ok(named(size, HEXLOWER.encode(&hash.finalize())))
}

/// Takes what is written into a hash.
struct Hasher<'a>(&'a mut Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn names() -> BTreeMap<String, String> {
        [("s_data".to_owned(), "data".to_owned()), ("s_db".to_owned(), "db".to_owned())].into()
    }

    #[test]
    fn every_volume_gets_what_is_its_own_and_strangers_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = download(&[
            ("var/lib/docker/volumes/s_data/_data/site/index.html", b"hello"),
            ("var/lib/docker/volumes/other_data/_data/index.html", b"not ours"),
            ("etc/passwd", b"nor this"),
        ]);
        let held = split(bytes.as_slice(), &names(), dir.path()).unwrap();
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned();
        let file = FileEntry { path: "site/index.html".into(), size: 5, sha256 };
        assert_eq!(held, [("data".to_owned(), vec![file]), ("db".to_owned(), vec![])].into());
        let mut archive = Archive::new(File::open(dir.path().join("data.tar")).unwrap());
        let mut text = String::new();
        archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_download_that_was_cut_off_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = download(&[("volumes/s_data/_data/a", &[7; 100_000])]);
        assert!(split(&bytes[..bytes.len() / 2], &names(), dir.path()).is_err());
    }
}
