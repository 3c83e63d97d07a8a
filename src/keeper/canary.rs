//! Canaries: files that the harness puts into every named volume, so that data loss shows without any configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::Keeper;
use super::blame::blame;
use super::contents::{self, Listing};
use super::operate::backup::volumes_of;
use super::protocol::{Canary, Snapshot};
use super::rig::Rig;
use crate::engine::contents::Contents;
use crate::engine::{CallError, ServiceState};
use crate::fault::Failure;
use crate::poll::{Look, Poll};
use crate::recipe::AppState;
use crate::recipe::backup::BackupPlan;
use crate::recipe::stack::{MountKind, Stack};

/// Ends of canary names. As those of an editor's copy they are minded by no web server, database or directory of
/// configuration. None begins with a dot, so that whoever removes everything by `*` removes a canary, too.
const ENDS: [&str; 5] = ["~", ".bak", ".old", ".orig", ".save"];

/// Directories of the app in which a canary lies, beside the one in the volume's root.
const NESTS: usize = 2;

/// No app minds a file more in its directories, but for these: what comes in is processed, sent, counted or cleared away.
const NO_NESTS: [&str; 22] = [
    "tmp",
    "temp",
    "cache",
    ".cache",
    "caches",
    "log",
    "logs",
    "run",
    "sessions",
    "lost+found",
    "new",
    "cur",
    "queue",
    "spool",
    "inbox",
    "incoming",
    "import",
    "refs",
    "objects",
    "plugins",
    "conf.d",
    "migrations",
];

/// Bytes of a file that are quoted.
const QUOTED: usize = 200;

/// A canary as it was planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    pub volume: String,
    /// Relative to the volume's root.
    pub path: String,
    /// What the file must say from now on.
    pub content: String,
    /// Whether the labels put this file into a snapshot.
    pub backed_up: bool,
}

/// Writes canaries into every named volume of the deployed stack: where those of an earlier tier lie they say something
/// else from now on.
pub async fn plant(keeper: &Arc<Keeper>, listing: &Listing) -> Result<(), Failure> {
    let (state, known) = {
        let app = keeper.app.lock().await;
        (app.deployed.state.clone(), app.planted.clone())
    };
    let Some(state) = state else { return Ok(()) };
    let planted = chosen(&state, listing, &known);
    let engine = keeper.engine().await?;
    for canary in &planted {
        let write = engine.write_volume(&canary.volume, &canary.path, canary.content.as_bytes()).await;
        let write = write.with_context(|| format!("failed to plant a canary in the volume `{}`", canary.volume));
        write.map_err(Failure::infrastructure)?;
    }
    keeper.app.lock().await.planted = planted;
    Ok(())
}

/// Overwrites the canaries that a snapshot holds, and makes sure that they are changed: only then does their return
/// prove a restore.
pub async fn change(keeper: &Arc<Keeper>) -> Result<(), Failure> {
    let planted = keeper.app.lock().await.planted.clone();
    let engine = keeper.engine().await?;
    for canary in planted.iter().filter(|canary| canary.backed_up) {
        overwrite(&engine, canary).await.map_err(Failure::infrastructure)?;
    }
    Ok(())
}

/// A dump in a snapshot: a file that the labels name, and that a hook wrote.
pub struct Dump {
    volume: String,
    path: String,
    /// Of its content in the snapshot.
    sha256: String,
}

/// Ruins every dump that the snapshot holds. Where the labels limit a volume to such files, no other file of the
/// volume comes back by a restore, so that nothing else could prove one.
pub async fn ruin_dumps(keeper: &Arc<Keeper>, plan: &BackupPlan, snapshot: &Snapshot) -> Result<Vec<Dump>, Failure> {
    let engine = keeper.engine().await?;
    let mut dumps = Vec::new();
    for Dump { volume, path, sha256 } in dumps_of(plan, snapshot) {
        let ruined = engine.write_volume(&volume, &path, b"ruined after the backup\n").await;
        ruined.with_context(|| format!("failed to ruin the dump `{path}`")).map_err(Failure::infrastructure)?;
        dumps.push(Dump { volume, path, sha256 });
    }
    Ok(dumps)
}

/// What became of the ruined dumps: looked at after the restore and before its post-hooks, which may remove them.
/// Where they have run already, a dump that is gone proves nothing and is left out.
pub async fn look_at_dumps(keeper: &Keeper, engine: &Rig, dumps: Vec<Dump>, hooked: bool) -> Result<()> {
    let mut seen = Vec::new();
    for Dump { volume, path, sha256 } in dumps {
        let found = engine.read_volume(&volume, &path).await?;
        if hooked && found.is_none() {
            continue;
        }
        let found = found.map(|bytes| HEXLOWER.encode(&Sha256::digest(bytes)));
        let seen_through = format!("the SHA-256 of `{path}` in the volume, before the post-hook");
        seen.push(Canary { volume, seen_through, expected: sha256, found });
    }
    keeper.app.lock().await.restored = Some(seen);
    Ok(())
}

fn dumps_of(plan: &BackupPlan, snapshot: &Snapshot) -> Vec<Dump> {
    let hooked = plan.services.iter().filter(|service| service.pre_hook.is_some());
    let limited = hooked.flat_map(|service| &service.volumes);
    let mut dumps = Vec::new();
    for limited in limited {
        let files = snapshot.volumes.get(&limited.volume).into_iter().flatten();
        let named = files.filter(|file| limited.paths.contains(&file.path) && !file.sha256.is_empty());
        dumps.extend(named.map(|file| Dump {
            volume: limited.volume.clone(),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
        }));
    }
    dumps
}

async fn overwrite(engine: &Rig, canary: &Planted) -> Result<()> {
    let Planted { volume, path, content, .. } = canary;
    let changed = format!("changed after the backup of {content}");
    engine.write_volume(volume, path, changed.as_bytes()).await.context("failed to change a canary")?;
    let seen = engine.read_volume(volume, path).await.context("failed to read a canary again")?;
    ensure!(seen.as_deref() == Some(changed.as_bytes()), "the canary in the volume `{volume}` cannot be changed");
    Ok(())
}

/// What became of the canaries: through the container of a service that mounts the volume, because that is what the
/// app sees. Volumes that `recipe.toml` declares to be dropped by the upgrade are not looked at. After the restore only
/// what the snapshot held proves anything: the others were never touched.
pub async fn look(keeper: &Arc<Keeper>) -> Result<Vec<Canary>, Failure> {
    let (planted, state, restored) = {
        let app = keeper.app.lock().await;
        (app.planted.clone(), app.deployed.state.clone(), app.restored.clone())
    };
    let stack = state.map(|state| state.stack).unwrap_or_default();
    let engine = keeper.engine().await?;
    let dropped = &keeper.spec.settings.recipe_toml.upgrade.drops;
    let proves = |canary: &Planted| !dropped.contains(&canary.volume) && (restored.is_none() || canary.backed_up);
    let planted: Vec<Planted> = planted.into_iter().filter(proves).collect();
    let mut canaries = restored.unwrap_or_default();
    let mounts = Mounts { all: mounts(&stack), running: running(&engine).await.map_err(blame)? };
    for canary in planted {
        canaries.push(look_at(keeper, &engine, &mounts, canary).await.map_err(blame)?);
    }
    Ok(canaries)
}

/// Where volumes can be seen.
struct Mounts {
    all: BTreeMap<String, Vec<(String, String)>>,
    /// Services whose containers can be looked into: one that is done, or scaled to nothing, has none.
    running: BTreeSet<String>,
}

async fn running(engine: &Rig) -> Result<BTreeSet<String>> {
    let services = engine.services().await?;
    let has_one = |service: &ServiceState| service.done() == 0 && service.replicas > 0;
    Ok(services.into_iter().filter(has_one).map(|service| service.name).collect())
}

async fn look_at(keeper: &Keeper, engine: &Rig, mounts: &Mounts, canary: Planted) -> Result<Canary> {
    let mounting = mounts.all.get(&canary.volume).map(Vec::as_slice).unwrap_or_default();
    let open = mounting.iter().find(|(service, _)| mounts.running.contains(service));
    let (seen_through, found) = match open.or(mounting.first()) {
        Some((service, _)) if open.is_none() => {
            let read = engine.read_volume(&canary.volume, &canary.path).await?;
            (format!("`{}` in the volume itself, because service `{service}` has no container", canary.path), read)
        }
        Some((service, target)) => {
            let path = format!("{}/{}", target.trim_end_matches('/'), canary.path);
            let read = read_through(keeper, engine, service, &path).await?;
            (format!("`{path}` in service `{service}`"), read)
        }
        // The data may still lie there, but no user of the app will ever see it again.
        None => ("nothing, for no service mounts the volume any more".to_owned(), None),
    };
    let found = found.map(|bytes| quoted(&bytes, &canary.content));
    Ok(Canary { volume: canary.volume, seen_through, expected: canary.content, found })
}

/// What a file says now: whole if it is what it was, else its beginning. An app may have put megabytes into it.
fn quoted(bytes: &[u8], expected: &str) -> String {
    let text = String::from_utf8_lossy(bytes.get(..QUOTED).unwrap_or(bytes)).into_owned();
    match bytes.len() {
        _ if bytes == expected.as_bytes() => expected.to_owned(),
        0..=QUOTED => text,
        length => {
            let digest = HEXLOWER.encode(&Sha256::digest(bytes)[..8]);
            format!("{text}… ({length} bytes in all, SHA-256 {digest}…)")
        }
    }
}

async fn read_through(keeper: &Keeper, engine: &Rig, service: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let poll = Poll::within(keeper.spec.settings.call);
    poll.until(format!("a container of service `{service}`"), async || match engine.read_file(service, path).await {
        Ok(bytes) => Ok(Look::Ready(Some(bytes))),
        Err(CallError::Interrupted(error)) => Ok(Look::NotYet(format!("{error:#}"))),
        Err(CallError::NotFound(_)) => Ok(Look::Ready(None)),
        Err(CallError::Failed(error)) => Err(error),
    })
    .await
}

/// For each named volume, the services that mount it and where.
fn mounts(stack: &Stack) -> BTreeMap<String, Vec<(String, String)>> {
    let mut mounts: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (name, service) in &stack.services {
        for mount in &service.mounts {
            if let MountKind::Volume(volume) = &mount.kind {
                mounts.entry(volume.clone()).or_default().push((name.clone(), mount.target.clone()));
            }
        }
    }
    mounts
}

/// Canaries for every mounted named volume: in its root, and in directories that the app made itself. Where the labels
/// limit a volume to some of its paths, a canary outside of them is outside the snapshot, and proves no restore.
fn chosen(state: &AppState, listing: &Listing, known: &[Planted]) -> Vec<Planted> {
    let limits: BTreeMap<String, Vec<String>> = volumes_of(&state.backup).collect();
    let external = |volume: &String| state.stack.volumes.get(volume).is_some_and(|it| it.external);
    let mut planted = Vec::new();
    for volume in mounts(&state.stack).into_keys().filter(|volume| !external(volume)) {
        let mut paths: Vec<String> =
            known.iter().filter(|it| it.volume == volume).map(|canary| canary.path.clone()).collect();
        if paths.is_empty() {
            let listed = listing.get(&volume).and_then(|listed| listed.as_ref().ok());
            paths = nests(listed, limits.get(&volume)).into_iter().map(|nest| below(&nest, &name())).collect();
        }
        planted.extend(paths.into_iter().map(|path| Planted {
            backed_up: limits.get(&volume).is_some_and(|limits| is_backed_up(&path, limits)),
            content: HEXLOWER.encode(&rand::random::<[u8; 20]>()),
            volume: volume.clone(),
            path,
        }));
    }
    planted
}

/// Directories for canaries: the root, and some of the app's own, those that are backed up first. Where the app has made
/// none, the root takes two.
fn nests(listed: Option<&Contents>, limits: Option<&Vec<String>>) -> Vec<String> {
    let databases = listed.map(contents::databases).unwrap_or_default();
    let is_own = |path: &str| {
        let mut parts = path.split('/');
        parts.clone().count() <= 3
            && parts.all(|part| !part.starts_with('.') && !NO_NESTS.contains(&part.to_ascii_lowercase().as_str()))
            && !databases.iter().any(|database| contents::is_inside(path, database))
    };
    let directories = listed.into_iter().flat_map(|listed| &listed.entries).filter(|entry| entry.is_dir);
    let mut own: Vec<&str> = directories.map(|entry| entry.path.as_str()).filter(|path| is_own(path)).collect();
    let outside = |path: &str| !limits.is_some_and(|limits| is_backed_up(&below(path, "x"), limits));
    own.sort_by_key(|path| (outside(path), path.split('/').count(), path.to_string()));
    let mut nests = vec![String::new()];
    nests.extend(own.into_iter().take(NESTS).map(str::to_owned));
    if nests.len() == 1 {
        nests.push(String::new());
    }
    nests
}

/// Whether the labels put a path into the snapshot; no limits mean all of the volume.
pub(super) fn is_backed_up(path: &str, limits: &[String]) -> bool {
    limits.is_empty() || limits.iter().any(|limit| contents::is_inside(path, limit.trim_matches('/')))
}

fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// A name that nobody can know beforehand.
fn name() -> String {
    let stem: String = (0..8).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect();
    format!("{stem}{}", ENDS[usize::from(rand::random::<u8>()) % ENDS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contents::Entry;

    fn listed(paths: &[(&str, bool)]) -> Contents {
        let entry = |(path, is_dir): &(&str, bool)| Entry {
            path: (*path).into(),
            is_dir: *is_dir,
            size: 3,
            ..Entry::default()
        };
        Contents { entries: paths.iter().map(entry).collect(), cut: None }
    }

    #[test]
    fn no_two_names_are_alike_and_none_begins_with_a_dot() {
        let names: BTreeSet<String> = (0..100).map(|_| name()).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.as_bytes()[0].is_ascii_lowercase()), "{names:?}");
    }

    #[test]
    fn canaries_lie_in_the_root_and_in_directories_of_the_app_that_nobody_clears() {
        let listed =
            listed(&[("uploads", true), ("uploads/2026", true), ("cache", true), (".git", true), ("a", false)]);
        assert_eq!(nests(Some(&listed), None), ["", "uploads", "uploads/2026"]);
        assert_eq!(nests(None, None), ["", ""], "two, wherever");
    }

    #[test]
    fn a_database_keeps_its_directories_for_itself() {
        let listed = listed(&[("pg/PG_VERSION", false), ("pg", true), ("pg/base", true), ("files", true)]);
        assert_eq!(nests(Some(&listed), None), ["", "files"]);
    }

    #[test]
    fn what_is_backed_up_comes_first_and_is_known_by_whole_names() {
        let listed = listed(&[("a", true), ("b", true), ("keep", true)]);
        assert_eq!(nests(Some(&listed), Some(&vec!["keep/".into()])), ["", "keep", "a"]);
        assert!(is_backed_up("keep/x", &["keep/".into()]) && !is_backed_up("keeper/x", &["keep".into()]));
        assert!(is_backed_up("x", &[]));
    }

    #[test]
    fn a_canary_is_quoted_whole_only_if_it_is_what_it_was() {
        let long = "wiki-".repeat(100);
        assert_eq!(quoted(long.as_bytes(), &long), long);
        assert_eq!(quoted(b"short", &long), "short");
        let overwritten = vec![b'x'; 30 << 20];
        let said = quoted(&overwritten, "x");
        assert!(said.starts_with(&format!("{}… (31457280 bytes in all, SHA-256 ", "x".repeat(200))), "{said}");
        assert!(said.len() < 300 && said.ends_with("…)"), "{said}");
        assert_ne!(quoted(&[0xff], "\u{fffd}"), "", "what is no text is shown as such");
    }
}
