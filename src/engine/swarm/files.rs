//! Files of a container through the archive API, mounts included: it needs neither a shell nor `tar` inside.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bollard::Docker;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::super::CallError;
use super::call::{Target, find, lost};
use super::{Core, hidden, is_missing};

/// A larger file is not for a test to hold in memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// With these bytes of an archive, the first entry's header is complete.
const ENOUGH_FOR_A_HEADER: usize = 16 * 1024;

/// Links that lead to links end somewhere, or nowhere.
const MAX_LINKS: usize = 8;

/// Go's mode bits, as the API gives them.
const GO_DIR: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

/// Reads a file as the newest running container of a service sees it.
pub async fn read(core: &Core, service: &str, path: &str) -> Result<Vec<u8>, CallError> {
    let target = find(core, service).await?;
    let what = || format!("failed to read `{path}` of service `{service}`");
    let read = async {
        if is_hidden(&core.docker, &target, path).await? {
            return hidden::read(core, &target.container, path).await;
        }
        read_in(&core.docker, &target.container, path).await
    };
    match read.await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) if super::call::has_ended(core, &target.container).await => {
            Err(CallError::Interrupted(anyhow!("the container of task `{}` ended", target.task).context(what())))
        }
        Ok(None) => Err(CallError::NotFound(anyhow!("there is no such file").context(what()))),
        Err(error) => Err(lost(core, &target.container, error.context(what())).await),
    }
}

/// Writes a file as the newest running container of a service sees it.
pub async fn write(core: &Core, service: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
    let target = find(core, service).await?;
    let what = || format!("failed to write `{path}` of service `{service}`");
    let write = async {
        if is_hidden(&core.docker, &target, path).await? {
            return hidden::write(core, &target.container, path, bytes).await;
        }
        write_in(&core.docker, &target.container, path, bytes).await
    };
    match write.await {
        Ok(()) => Ok(()),
        Err(error) => Err(lost(core, &target.container, error.context(what())).await),
    }
}

/// Whether the file, or what it is a link to, is out of the archive API's sight.
async fn is_hidden(docker: &Docker, target: &Target, path: &str) -> Result<bool> {
    let path = absolute(path)?;
    if target.hidden.has(&path) {
        return Ok(true);
    }
    let link = stat(docker, &target.container, &path).await?.filter(|(mode, _)| mode & GO_LINK != 0);
    Ok(link.is_some_and(|(_, link)| target.hidden.has(Path::new(&link))))
}

/// The content of a regular file of a container, links followed; `None` when it is not there.
pub async fn read_in(docker: &Docker, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let (path, exists) = follow(docker, container, absolute(path)?).await?;
    if !exists {
        return Ok(None);
    }
    let options = DownloadFromContainerOptionsBuilder::default().path(text(&path)?).build();
    let mut stream = Box::pin(docker.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => archive.extend(chunk),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error).context("the answer broke off"),
        }
        ensure!(archive.len() as u64 <= MAX_FILE + 4096, "the file is larger than {} MiB", MAX_FILE >> 20);
    }
    let mut archive = tar::Archive::new(archive.as_slice());
    let entry = archive.entries().context("failed to read the answer")?.next().context("the answer is empty")?;
    let mut entry = entry.context("failed to read the answer")?;
    ensure!(entry.header().entry_type().is_file(), "`{}` is no regular file", path.display());
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).context("the answer is cut off")?;
    ensure!(bytes.len() as u64 == entry.size(), "the answer is cut off");
    Ok(Some(bytes))
}

/// Writes a regular file, with its parent directories where they are missing. What exists keeps its owner and
/// mode: directories because the archive does not name them, the file because it is given its own.
pub async fn write_in(docker: &Docker, container: &str, path: &str, bytes: &[u8]) -> Result<()> {
    let (path, _) = follow(docker, container, absolute(path)?).await?;
    let mut base = path.parent().context("a file needs a name")?.to_owned();
    while stat(docker, container, &base).await?.is_none() {
        base = base.parent().context("the container has no root")?.to_owned();
    }
    let inner = path.strip_prefix(&base).context("the path lies outside its own parent")?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut directory = PathBuf::new();
    for part in inner.parent().into_iter().flat_map(Path::components) {
        directory.push(part);
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, &directory, std::io::empty()).context("failed to make the archive")?;
    }
    let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
    if let Some(existing) = existing(docker, container, &path).await? {
        header.set_mode(existing.mode()?);
        header.set_uid(existing.uid()?);
        header.set_gid(existing.gid()?);
    }
    archive.append_data(&mut header, inner, bytes).context("failed to make the archive")?;
    let archive = archive.into_inner().context("failed to make the archive")?;
    upload(docker, container, &base, archive).await
}

/// The tar header of a file that is there already: an archive replaces a file, and its owner and mode with it.
async fn existing(docker: &Docker, container: &str, path: &Path) -> Result<Option<tar::Header>> {
    let options = DownloadFromContainerOptionsBuilder::default().path(text(path)?).build();
    let mut stream = Box::pin(docker.download_from_container(container, Some(options)));
    let mut begin = Vec::new();
    // The file itself is of no interest; extended headers may stand before its own.
    while let Some(chunk) = stream.next().await.filter(|_| begin.len() < ENOUGH_FOR_A_HEADER) {
        match chunk {
            Ok(chunk) => begin.extend(chunk),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error).context("the answer broke off"),
        }
    }
    let mut archive = tar::Archive::new(begin.as_slice());
    let entry = archive.entries().context("failed to read the answer")?.next().context("the answer is empty")?;
    Ok(Some(entry.context("failed to read the answer")?.header().clone()))
}

/// Unpacks an archive in a directory of a container.
pub async fn upload(docker: &Docker, container: &str, dir: &Path, archive: Vec<u8>) -> Result<()> {
    let options = UploadToContainerOptionsBuilder::default().path(text(dir)?).build();
    let body = bollard::body_full(Bytes::from(archive));
    Ok(docker.upload_to_container(container, Some(options), body).await?)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(now.as_secs());
    header
}

/// A path with its final links resolved, and whether anything is there: a link may lead to what is yet to be made.
async fn follow(docker: &Docker, container: &str, mut path: PathBuf) -> Result<(PathBuf, bool)> {
    for _ in 0..MAX_LINKS {
        let Some((mode, link)) = stat(docker, container, &path).await? else { return Ok((path, false)) };
        if mode & GO_LINK == 0 {
            ensure!(mode & GO_DIR == 0, "`{}` is a directory", path.display());
            return Ok((path, true));
        }
        path = absolute(&link)?;
    }
    bail!("`{}` is a link that leads to too many others", path.display())
}

/// A path, or what it is a link to, and whether anything is there.
pub async fn follow_one(docker: &Docker, container: &str, path: &Path) -> Result<(PathBuf, bool)> {
    Ok(match stat(docker, container, path).await? {
        Some((mode, link)) if mode & GO_LINK != 0 => (absolute(&link)?, true),
        Some(_) => (path.to_owned(), true),
        None => (path.to_owned(), false),
    })
}

/// Mode bits and, of a link, where it leads, as seen from the container's root.
async fn stat(docker: &Docker, container: &str, path: &Path) -> Result<Option<(u32, String)>> {
    let options = ContainerArchiveInfoOptionsBuilder::default().path(text(path)?).build();
    match docker.get_container_archive_info(container, Some(options)).await {
        Ok(stat) => Ok(Some((stat.file_mode, stat.link_target))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    ensure!(path.is_absolute(), "`{}` is no absolute path", path.display());
    ensure!(!path.components().any(|part| part == Component::ParentDir), "`{}` leads upwards", path.display());
    Ok(path.components().collect())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("`{}` is no text", path.display()))
}
