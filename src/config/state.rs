//! Where the harness keeps what outlives a process: mirrors, unpacked images, and one directory per run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::fs::{Access, access};

use super::Env;

/// `HARNESS_STATE`, else `$XDG_STATE_HOME/recipe-harness`, else `~/.local/state/recipe-harness`, else a directory of
/// this user below `/tmp`. The first that can be written to; one that was asked for by name must be.
pub fn dir(env: Env<'_>) -> Result<PathBuf> {
    let given = |key: &str| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = given("HARNESS_STATE") {
        if !dir.is_absolute() {
            bail!("HARNESS_STATE is `{}`: write an absolute path", dir.display());
        }
        if !can_create(&dir) {
            bail!("HARNESS_STATE is `{}`, where this user cannot write", dir.display());
        }
        return Ok(dir);
    }
    let candidates = [
        given("XDG_STATE_HOME").map(|dir| dir.join("recipe-harness")),
        given("HOME").map(|dir| dir.join(".local/state/recipe-harness")),
    ];
    let usable = candidates.into_iter().flatten().find(|dir| dir.is_absolute() && can_create(dir));
    Ok(usable.unwrap_or_else(|| format!("/tmp/recipe-harness-{}", rustix::process::getuid().as_raw()).into()))
}

/// Whether the nearest directory that exists can be written to.
fn can_create(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|ancestor| access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// Creates a directory that only this user may enter, with its parents.
pub fn create_private(dir: &Path) -> Result<()> {
    use anyhow::Context as _;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("failed to create `{}`", dir.display()))?;
    let owner = std::fs::metadata(dir).with_context(|| format!("failed to look at `{}`", dir.display()))?.uid();
    if owner != rustix::process::getuid().as_raw() {
        bail!(
            "`{}` belongs to user {owner}: remove it, or set HARNESS_STATE to a directory of your own",
            dir.display()
        );
    }
    Ok(())
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
        let error =
            dir(&|key| (key == "HARNESS_STATE").then(|| "/proc/version/nowhere".into())).unwrap_err().to_string();
        assert_eq!(error, "HARNESS_STATE is `/proc/version/nowhere`, where this user cannot write");
        let error = dir(&|key| (key == "HARNESS_STATE").then(|| "here".into())).unwrap_err().to_string();
        assert_eq!(error, "HARNESS_STATE is `here`: write an absolute path");
    }
}
