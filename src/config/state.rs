//! Where the harness keeps what outlives a process: mirrors, unpacked images, and one directory per run.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Access, FlockOperation, access, flock};

use super::Env;
pub use crate::private::create as create_private;
use crate::private::refuse_foreign;

/// `HARNESS_STATE`, else `$XDG_STATE_HOME/recipe-harness`, else `~/.local/state/recipe-harness`, else a directory of
/// this user below `/tmp`. The first that can be written to; one that was asked for by name must be, and is taken from
/// the caller's directory.
pub fn dir(env: Env<'_>) -> Result<PathBuf> {
    let given = |key: &str| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = given("HARNESS_STATE") {
        // Its name may be what is wrong with it.
        let shown = dir.to_string_lossy().escape_debug().to_string();
        let dir = crate::caller::absolute(&dir)?;
        usable(&dir).and_then(|()| refuse_foreign(&dir)).with_context(|| format!("HARNESS_STATE is `{shown}`"))?;
        return Ok(dir);
    }
    let candidates = [
        given("XDG_STATE_HOME").map(|dir| dir.join("recipe-harness")),
        given("HOME").map(|dir| dir.join(".local/state/recipe-harness")),
    ];
    let usable = candidates.into_iter().flatten().find(|dir| dir.is_absolute() && can_create(dir));
    let dir = usable.unwrap_or_else(|| format!("/tmp/recipe-harness-{}", rustix::process::getuid().as_raw()).into());
    // Whoever made it first could change what is tested.
    refuse_foreign(&dir)?;
    Ok(dir)
}

/// An error says why nothing can be kept there. Permissions alone do not tell: root has all of them in `/proc`, too.
fn usable(dir: &Path) -> Result<()> {
    ensure!(!dir.to_string_lossy().contains(char::is_control), "a name may have no line breaks and other controls");
    let existing = dir.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).context("there is no `/`")?;
    if existing.is_symlink() && !existing.exists() {
        bail!("`{}` is a link that leads nowhere", existing.display());
    }
    ensure!(existing.is_dir(), "`{}` is a file, and a directory is needed", existing.display());
    let attempt = existing.join(format!(".recipe-harness-{:016x}", rand::random::<u64>()));
    match std::fs::create_dir(&attempt).and_then(|()| std::fs::remove_dir(&attempt)) {
        // A full disk is the trouble of whoever writes: what lies there can be looked at, and torn down.
        Err(error) if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Err(error).with_context(|| format!("failed to create a directory in `{}`", existing.display()))
        }
        _ => Ok(()),
    }
}

/// Whether the nearest directory that exists can be written to.
fn can_create(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|ancestor| access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// Held by every process that prepares a run, as long as it lives.
static IN_USE: OnceLock<File> = OnceLock::new();

/// Says for the rest of this process's life that it uses a state directory. Whoever prunes it is waited for.
pub fn use_until_exit(state: &Path) -> Result<()> {
    create_private(state)?;
    let file = in_use(state)?;
    flock(&file, FlockOperation::LockShared).with_context(|| format!("failed to lock `{}`", state.display()))?;
    let _ = IN_USE.set(file);
    Ok(())
}

/// The state directory for this process alone, until the file is dropped; `None` while others use it.
pub fn alone(state: &Path) -> Result<Option<File>> {
    create_private(state)?;
    let file = in_use(state)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to lock `{}`", state.display())),
    }
}

fn in_use(state: &Path) -> Result<File> {
    let path = state.join("in-use");
    let file = File::options().create(true).append(true).open(&path);
    file.with_context(|| format!("failed to open the lock `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_writable_place_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().display().to_string();
        let dir = dir(&|key| (key == "HOME").then(|| path.clone())).unwrap();
        assert_eq!(dir, home.path().join(".local/state/recipe-harness"));
    }

    #[test]
    fn without_a_home_it_is_a_directory_of_this_user_in_tmp() {
        let dir = dir(&|_| None).unwrap();
        assert!(dir.display().to_string().starts_with("/tmp/recipe-harness-"), "{}", dir.display());
    }

    #[test]
    fn a_place_asked_for_by_name_must_be_usable() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", at("link")).unwrap();
        for (state, why) in [
            (
                "/proc/nope".into(),
                "failed to create a directory in `/proc`: No such file or directory (os error 2)".into(),
            ),
            ("/proc/version/nowhere".into(), "`/proc/version` is a file, and a directory is needed".into()),
            (at("file"), format!("`{}` is a file, and a directory is needed", at("file"))),
            (at("link/below"), format!("`{}` is a link that leads nowhere", at("link"))),
            (at("a\nb"), "a name may have no line breaks and other controls".into()),
        ] {
            let error = dir(&|key| (key == "HARNESS_STATE").then(|| state.clone())).unwrap_err();
            assert_eq!(format!("{error:#}"), format!("HARNESS_STATE is `{}`: {why}", state.escape_debug()));
        }
        let relative = dir(&|key| (key == "HARNESS_STATE").then(|| "x/y".into())).unwrap();
        assert_eq!(relative, crate::caller::dir().unwrap().join("x/y"));
        let good = at("new/deeper");
        assert_eq!(dir(&|key| (key == "HARNESS_STATE").then(|| good.clone())).unwrap(), Path::new(&good));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "nothing stays of the attempt");
    }
}
