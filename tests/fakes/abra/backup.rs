//! The backup bot behind `abra app backup` and `abra app restore`: hooks, then the files of the volumes, straight from
//! where Docker keeps them. A hook that fails is only logged, and a path that is not there is dropped without a word.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use harness::process;
use harness::recipe::env::stack_name;

use crate::app::{self, App};
use crate::docker::docker;
use crate::{Call, say};

pub fn create(call: &Call, domain: &str) -> Result<()> {
    let app = app::load(call, domain, None)?;
    for service in &app.state.backup.services {
        hook(domain, &service.service, service.pre_hook.as_deref());
    }
    let mut paths = Vec::new();
    for volume in app.state.backup.services.iter().flat_map(|service| &service.volumes) {
        let data = data(&app, &volume.volume)?;
        match volume.paths.as_slice() {
            [] => paths.push(data),
            limited => paths.extend(limited.iter().map(|path| data.join(path))),
        }
    }
    if call.quirk("backs-up-nothing") {
        paths.clear();
    }
    paths.retain(|path| path.exists());
    let id = format!("{:08x}{:08x}", std::process::id(), elapsed());
    let repository = call.beside.join("repository");
    std::fs::create_dir_all(&repository)?;
    let archive = repository.join(format!("{id}.tar.gz"));
    let mut tar = process::command("tar");
    tar.arg("--create").arg("--gzip").arg("--file").arg(&archive).args([
        "--directory",
        "/",
        "--files-from",
        "/dev/null",
    ]);
    tar.args(paths.iter().filter_map(|path| path.strip_prefix("/").ok()));
    let output = tar.output().context("failed to run tar")?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    for service in &app.state.backup.services {
        hook(domain, &service.service, service.post_hook.as_deref());
    }
    say(&format!("{{\"message_type\":\"summary\",\"snapshot_id\":\"{id}\"}}"));
    Ok(())
}

/// Leaves `backup.tar.gz` in the working directory.
pub fn download(call: &Call, _domain: &str) -> Result<()> {
    std::fs::copy(snapshot(call)?, "backup.tar.gz").context("failed to download")?;
    say("INFO backup successfully downloaded to current working directory");
    Ok(())
}

pub fn restore(call: &Call, domain: &str) -> Result<()> {
    let archive = snapshot(call)?;
    let app = app::load(call, domain, None)?;
    for service in &app.state.backup.services {
        hook(domain, &service.service, service.restore_pre_hook.as_deref());
    }
    if !call.quirk("restores-nothing") {
        let mut tar = process::command("tar");
        tar.arg("--extract").arg("--gzip").arg("--file").arg(&archive).args(["--directory", "/"]);
        let output = tar.output().context("failed to run tar")?;
        if !output.status.success() {
            bail!("tar: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    for service in &app.state.backup.services {
        hook(domain, &service.service, service.restore_post_hook.as_deref());
    }
    Ok(())
}

fn snapshot(call: &Call) -> Result<PathBuf> {
    let id = call.option("snapshot")?;
    let archive = call.beside.join("repository").join(format!("{id}.tar.gz"));
    if !archive.is_file() {
        bail!("no snapshot {id}");
    }
    Ok(archive)
}

fn data(app: &App, volume: &str) -> Result<PathBuf> {
    let name = &app.state.stack.volumes.get(volume).context("no such volume")?.name;
    Ok(docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", name])?.into())
}

fn hook(domain: &str, service: &str, line: Option<&str>) {
    let Some(line) = line else { return };
    let label = format!("label=com.docker.swarm.service.name={}_{service}", stack_name(domain));
    let ran = docker(&["ps", "--quiet", "--latest", "--filter", &label]).and_then(|container| {
        let shell = "if command -v bash >/dev/null; then exec bash -c 'set -o pipefail; eval \"$0\"' \"$0\"; else exec sh -c \"$0\"; fi";
        docker(&["exec", &container, "sh", "-c", shell, line])
    });
    if let Err(error) = ran {
        say(&format!("ERRO {error:#}"));
    }
}

fn elapsed() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|now| now.subsec_nanos()).unwrap_or_default()
}
