//! Volumes, whoever mounts them and how: through a container that has the volume mounted and is never started, whose
//! files the archive API reads and writes all the same.

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{ArchiveBudget, Exec, FileEntry, Kind, disk};
use super::{Core, RUN_LABEL, STACK_LABEL, call, files, is_missing, status};
use crate::poll::{Look, Poll};

/// How long Docker may be at the making of a container that nobody waits for any more.
const MAKING: Duration = Duration::from_secs(30);

/// Where the volume is mounted in its helper.
const ROOT: &str = "/volume";
/// A volume may be large: its operation has a deadline of its own.
const COPY: Duration = Duration::from_secs(3600);
/// All of it; Docker takes `.` at the end as the content of a directory.
pub const WHOLE: &str = "/volume/.";

pub async fn write(core: &Core, volume: &str, path: &str, bytes: &[u8]) -> Result<()> {
    let helper = helper(core, volume).await?;
    let file = file(core, &helper, path).await?;
    files::write_in(&core.docker, &helper, &file, bytes).await
}

pub async fn read(core: &Core, volume: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let helper = helper(core, volume).await?;
    let file = file(core, &helper, path).await?;
    files::read_in(&core.docker, &helper, &file).await
}

/// Writes what Docker gives for each path into one archive, with names relative to the volume, and says what it holds.
pub async fn archive(core: &Core, volume: &str, paths: &[String], archive: &Path) -> Result<Vec<FileEntry>> {
    let helper = helper(core, volume).await?;
    let whole = [String::new()];
    let paths = if paths.is_empty() { &whole } else { paths };
    let part = archive.with_extension("part");
    let file = std::fs::File::create(archive).with_context(|| format!("failed to create `{}`", archive.display()))?;
    let mut builder = tar::Builder::new(file);
    let mut held = Vec::new();
    // Each part lies there twice for a while.
    let room = archive.parent().and_then(disk::free).map(|free| free / 2);
    let (mut budget, mut names) = (ArchiveBudget::new(room), ArchiveBudget::new(None));
    for path in paths {
        download(core, &helper, path, &part, &mut budget).await?;
        held.extend(
            append(&mut builder, path, &part, &mut names).with_context(|| format!("failed to archive `{path}`"))?,
        );
    }
    std::fs::remove_file(&part).context("failed to remove a part of the archive")?;
    builder.into_inner().and_then(|file| file.sync_all()).context("failed to write the archive")?;
    held.sort_by(|one, other| one.path.cmp(&other.path));
    held.dedup_by(|one, other| one.path == other.path);
    Ok(held)
}

pub async fn restore(core: &Core, volume: &str, archive: &Path) -> Result<()> {
    if in_place(core, volume, archive).await? {
        return Ok(());
    }
    upload(core, &helper(core, volume).await?, ROOT, archive).await
}

/// Writes into the files that are there, as the restic of backup-bot-two does: an app that holds one open goes on with
/// it. Docker itself makes every file anew, and SQLite calls the old one read-only then. The app's own container copies
/// them; `false` when none can.
async fn in_place(core: &Core, volume: &str, archive: &Path) -> Result<bool> {
    let Some((container, target)) = user_of(core, &core.volume(volume)?).await? else { return Ok(false) };
    let dir = format!("/.recipe-harness-{:08x}", rand::random::<u32>());
    let succeeds = async |argv: &[&str]| {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let exec = Exec { argv, user: Some("0".into()), deadline: COPY, ..Exec::default() };
        call::run(core, &container, &exec).await.is_ok_and(|ended| ended.code == 0)
    };
    // Without these programs, or where nothing can be written beside the volume.
    if !succeeds(&["mkdir", &dir]).await {
        return Ok(false);
    }
    let copied = upload(core, &container, &dir, archive).await.is_ok()
        && succeeds(&["cp", "-a", &format!("{dir}/."), &format!("{target}/")]).await;
    succeeds(&["rm", "-rf", &dir]).await;
    Ok(copied)
}

/// A running container that may write into the volume, and where it has it.
async fn user_of(core: &Core, volume: &str) -> Result<Option<(String, String)>> {
    for service in super::observe::services(core).await? {
        let mount = service.mounts.iter().find(|mount| mount.volume == volume && !mount.read_only);
        let Some(mount) = mount else { continue };
        if let Some(running) = call::running(core, &service.name).await?.first() {
            return Ok(Some((running.container.clone(), mount.target.clone())));
        }
    }
    Ok(None)
}

/// Unpacks an archive below a directory of a container, whether it runs or not.
async fn upload(core: &Core, container: &str, dir: &str, archive: &Path) -> Result<()> {
    let open = tokio::fs::File::open(archive).await;
    let file = open.with_context(|| format!("failed to open `{}`", archive.display()))?;
    let options = UploadToContainerOptionsBuilder::default().path(dir).build();
    let body = bollard::body_try_stream(chunks(file));
    Ok(patient(&core.docker).upload_to_container(container, Some(options), body).await?)
}

/// A client whose requests take what time they need, until their operation's deadline: Docker answers an upload when the
/// last byte of the volume is there. Whether the daemon is alive is asked meanwhile.
fn patient(docker: &Docker) -> Docker {
    docker.clone().with_timeout(Duration::from_secs(24 * 3600))
}

/// A file in pieces: a volume may be larger than memory.
fn chunks(file: tokio::fs::File) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut buffer = vec![0; 64 * 1024];
        let read = file.read(&mut buffer).await?;
        buffer.truncate(read);
        Ok((read > 0).then(|| (buffer.into(), file)))
    })
}

/// Fetches one path of the volume as Docker archives it. A path that is not there is an error.
async fn download(core: &Core, helper: &str, path: &str, to: &Path, budget: &mut ArchiveBudget) -> Result<()> {
    let inside = below(path)?;
    let options = DownloadFromContainerOptionsBuilder::default().path(&inside).build();
    let mut stream = Box::pin(core.docker.download_from_container(helper, Some(options)));
    let mut file = tokio::fs::File::create(to).await.with_context(|| format!("failed to create `{}`", to.display()))?;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                // Docker fills holes with zeros, and says nothing of them.
                let hollow = if chunk.iter().all(|byte| *byte == 0) { chunk.len() } else { 0 };
                budget.take_bytes(path, chunk.len() as u64, hollow as u64)?;
                file.write_all(&chunk).await.context("failed to write the archive")?
            }
            Err(error) if is_missing(&error) => return Err(anyhow!("there is no `{path}` in the volume")),
            Err(error) => return Err(error).context("the archive broke off"),
        }
    }
    file.sync_all().await.context("failed to write the archive")
}

/// Appends the entries of a part under names relative to the volume, reading each to its end: an archive that Docker
/// cut off is an error here and not at the restore.
fn append(
    builder: &mut tar::Builder<std::fs::File>,
    path: &str,
    part: &Path,
    names: &mut ArchiveBudget,
) -> Result<Vec<FileEntry>> {
    let mut held = Vec::new();
    let mut archive = tar::Archive::new(std::fs::File::open(part)?);
    // Docker names the entries by the last part of the path that was asked for.
    let parent = normal(Path::new(path)).parent().map(Path::to_owned).unwrap_or_default();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = normal(&parent.join(entry.path()?));
        if name.as_os_str().is_empty() {
            continue;
        }
        let mut header = entry.header().clone();
        let kind = header.entry_type();
        let path = name.display().to_string();
        names.take_name(&path)?;
        if kind.is_symlink() || kind.is_hard_link() {
            let mut target = entry.link_name()?.context("a link leads nowhere")?.into_owned();
            let mut linked = None;
            if kind.is_hard_link() {
                target = normal(&parent.join(target));
                // Another name of a file that came before is as much a file as that one.
                linked = held.iter().find(|it: &&FileEntry| Path::new(&it.path) == target).cloned();
            }
            builder.append_link(&mut header, &name, target)?;
            let (size, sha256) = linked.map(|it| (it.size, it.sha256)).unwrap_or_default();
            held.push(FileEntry { path, size, sha256 });
            continue;
        }
        if kind.is_dir() {
            builder.append_data(&mut header, &name, std::io::empty())?;
            held.push(FileEntry { path, size: 0, sha256: String::new() });
            continue;
        }
        // Pipes and devices are not data.
        if !kind.is_file() {
            continue;
        }
        let size = entry.size();
        let mut content = Hashed { inner: &mut entry, hash: Sha256::new(), read: 0 };
        builder.append_data(&mut header, &name, &mut content)?;
        ensure!(content.read == size, "`{}` is cut off", name.display());
        held.push(FileEntry { path, size, sha256: HEXLOWER.encode(&content.hash.finalize()) });
    }
    Ok(held)
}

/// A path without `.` and whatever else is no name.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Counts and hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    read: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}

/// `<mount>/<path>`, for a path inside the volume: `/` is the volume's own root.
fn below(path: &str) -> Result<String> {
    let leads_out =
        Path::new(path).components().any(|part| matches!(part, Component::ParentDir | Component::Prefix(_)));
    ensure!(!leads_out, "`{path}` leads out of the volume");
    let inside = normal(Path::new(path));
    Ok(if inside.as_os_str().is_empty() { WHOLE.to_owned() } else { format!("{ROOT}/{}", inside.display()) })
}

/// A file of the volume, in whose path no link may lead out of the volume: what it leads to is the helper's own, and
/// the same link leads elsewhere in the containers that use the volume.
async fn file(core: &Core, helper: &str, path: &str) -> Result<String> {
    let full = below(path)?;
    for part in Path::new(&full).ancestors().take_while(|part| *part != Path::new(ROOT)) {
        let (target, _) = files::follow_one(&core.docker, helper, part).await?;
        ensure!(target.starts_with(ROOT), "`{path}` leads out of the volume");
    }
    Ok(full)
}

/// The container that has the volume mounted; made at the first call, removed with everything else.
pub async fn helper(core: &Core, key: &str) -> Result<String> {
    let mut helpers = core.helpers.lock().await;
    if let Some(helper) = helpers.get(key) {
        return Ok(helper.clone());
    }
    let volume = core.volume(key)?;
    let name = format!("{}_volume-{key}", core.stack());
    let ledger = &core.context.ledger;
    ledger.creating(Kind::Container, &name)?;
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let id = match core.docker.create_container(Some(options), body(core, &volume).await?).await {
        Ok(created) => created.id,
        Err(error) => made_before(core, &name, error)
            .await
            .with_context(|| format!("failed to create a container for the volume `{volume}`"))?,
    };
    ledger.created(Kind::Container, &name, &id)?;
    helpers.insert(key.to_owned(), id.clone());
    // Volumes come with the tasks that mount them, after the deployment.
    core.look_around().await?;
    Ok(id)
}

/// The container that this run made of that name, when a call that was cut off has not heard the answer. What the name belongs
/// to otherwise is not touched.
async fn made_before(core: &Core, name: &str, error: bollard::errors::Error) -> Result<String> {
    if status(&error) != Some(409) {
        return Err(error.into());
    }
    // Docker reserves the name before there is a container to be seen.
    let found = Poll::within(MAKING).until(format!("container `{name}`"), async || {
        match core.docker.inspect_container(name, None).await {
            Ok(found) => Ok(Look::Ready(found)),
            Err(missing) if is_missing(&missing) => Ok(Look::NotYet(missing.to_string())),
            Err(error) => Err(error.into()),
        }
    });
    let found = found.await?;
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    match found.id {
        Some(id) if labels.get(RUN_LABEL) == Some(&core.context.run_id) => Ok(id),
        _ => Err(error.into()),
    }
}

/// Any image will do, for nothing of it runs: one of the stack's is certainly there.
async fn body(core: &Core, volume: &str) -> Result<ContainerCreateBody> {
    let services = super::observe::services(core).await?;
    let image = services.into_iter().flat_map(|it| it.tasks).find(|task| task.desired_running).map(|task| task.image);
    let options = MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() };
    let mount = Mount {
        target: Some(ROOT.into()),
        source: Some(volume.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(options),
        ..Mount::default()
    };
    let labels = [(STACK_LABEL, core.stack()), (RUN_LABEL, &core.context.run_id)];
    Ok(ContainerCreateBody {
        image: Some(image.context("no task runs, whose image could be used to reach the volume")?),
        cmd: Some(vec!["never-started".into()]),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        network_disabled: Some(true),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn an_upload_may_take_longer_than_any_other_request() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let impatient = Docker::connect_with_unix(socket.to_str().unwrap(), 1, bollard::API_DEFAULT_VERSION).unwrap();
        let uploading = patient(&impatient);
        let upload = tokio::spawn(async move { uploading.ping().await });
        let (mut slow, _) = listener.accept().await.unwrap();
        // Meanwhile another request gives up, so that this one has waited for longer than that.
        let gave_up = impatient.ping().await.unwrap_err();
        assert!(matches!(gave_up, bollard::errors::Error::RequestTimeoutError), "{gave_up}");
        slow.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        assert_eq!(upload.await.unwrap().unwrap(), "OK");
    }
}
