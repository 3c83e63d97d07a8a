//! Files that the archive API does not see: it knows a container's own file system and its volumes, but no tmpfs and
//! nothing of the kernel's, and in the place of a secret or config it shows an empty file. There the container's own
//! shell has to help.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bollard::models::{MountType, Task};

use super::super::Exec;
use super::{Core, call};

const DEADLINE: Duration = Duration::from_secs(30);

/// What is mounted into every container of a Swarm.
const ALWAYS: [&str; 5] = ["/proc", "/sys", "/dev", "/run/secrets", "/var/run/secrets"];

/// What the scripts below say of a path.
const NOT_FOUND: i64 = 44;
const NOT_REGULAR: i64 = 45;

const READ: &str = r#"[ -e "$1" ] || exit 44; [ -f "$1" ] || exit 45; exec cat "$1""#;
const WRITE: &str = r#"[ ! -e "$1" ] || [ -f "$1" ] || exit 45; mkdir -p "${1%/*}/" && cat > "$1""#;

/// The paths below which the archive API does not see what a container sees.
#[derive(Clone, Debug, Default)]
pub struct Hidden(Vec<PathBuf>);

impl Hidden {
    /// By what Swarm mounts for the task.
    pub fn of(task: &Task) -> Hidden {
        let mut paths: Vec<PathBuf> = ALWAYS.map(PathBuf::from).into();
        let Some(spec) = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref()) else { return Hidden(paths) };
        let tmpfs = spec.mounts.iter().flatten().filter(|mount| mount.typ == Some(MountType::TMPFS));
        paths.extend(tmpfs.filter_map(|mount| mount.target.as_ref().map(PathBuf::from)));
        // A relative target is one below `/run/secrets` for a secret, which is there already, and below `/` for a
        // config.
        let secrets = spec.secrets.iter().flatten().filter_map(|secret| secret.file.as_ref()?.name.as_ref());
        paths.extend(secrets.filter(|name| name.starts_with('/')).map(PathBuf::from));
        let configs = spec.configs.iter().flatten().filter_map(|config| config.file.as_ref()?.name.as_ref());
        paths.extend(configs.map(|name| Path::new("/").join(name)));
        Hidden(paths)
    }

    pub fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|hidden| path.starts_with(hidden))
    }
}

/// The content of a regular file; `None` when it is not there.
pub async fn read(core: &Core, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let finished = shell(core, container, READ, path, Vec::new()).await?;
    match finished.code {
        0 => {
            ensure!(!finished.truncated, "the file is larger than {} MiB", finished.stdout.len() >> 20);
            Ok(Some(finished.stdout))
        }
        NOT_FOUND => Ok(None),
        NOT_REGULAR => bail!("`{path}` is no regular file"),
        _ => bail!("{}", refused(&finished)),
    }
}

/// Writes a regular file, with its parent directories where they are missing.
pub async fn write(core: &Core, container: &str, path: &str, bytes: &[u8]) -> Result<()> {
    let finished = shell(core, container, WRITE, path, bytes.to_vec()).await?;
    match finished.code {
        0 => Ok(()),
        NOT_REGULAR => bail!("`{path}` is no regular file"),
        _ => bail!("{}", refused(&finished)),
    }
}

async fn shell(core: &Core, container: &str, script: &str, path: &str, stdin: Vec<u8>) -> Result<call::Finished> {
    let argv = ["/bin/sh", "-c", script, "sh", path].map(str::to_owned).into();
    let exec = Exec { argv, stdin, user: Some("0".into()), deadline: DEADLINE, ..Exec::default() };
    let attempt = "the path is a tmpfs, a secret, a config or the kernel's, which only the container's shell can reach";
    call::run(core, container, &exec).await.context(attempt)
}

fn refused(finished: &call::Finished) -> String {
    let said = String::from_utf8_lossy(&finished.stderr);
    format!("the container's shell exited with code {}: {}", finished.code, said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{
        Mount, TaskSpec, TaskSpecContainerSpec, TaskSpecContainerSpecConfigs, TaskSpecContainerSpecFile1,
    };

    #[test]
    fn what_is_mounted_from_memory_is_hidden_and_a_volume_is_not() {
        let mount = |target: &str, typ| Mount { target: Some(target.into()), typ: Some(typ), ..Mount::default() };
        let file = TaskSpecContainerSpecFile1 { name: Some("app.conf".into()), ..Default::default() };
        let config = TaskSpecContainerSpecConfigs { file: Some(file), ..Default::default() };
        let spec = TaskSpecContainerSpec {
            mounts: Some(vec![mount("/data", MountType::VOLUME), mount("/scratch", MountType::TMPFS)]),
            configs: Some(vec![config]),
            ..TaskSpecContainerSpec::default()
        };
        let spec = TaskSpec { container_spec: Some(spec), ..TaskSpec::default() };
        let hidden = Hidden::of(&Task { spec: Some(spec), ..Task::default() });
        for path in ["/scratch/a/b", "/app.conf", "/run/secrets/pw", "/proc/1/comm"] {
            assert!(hidden.has(Path::new(path)), "{path}");
        }
        for path in ["/data/x", "/scratched", "/etc/app.conf"] {
            assert!(!hidden.has(Path::new(path)), "{path}");
        }
    }
}
