//! Directories that nobody else may enter or change, and that nobody else has made.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Who else may write there.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory others cannot replace what is not theirs; it is `/tmp`, and nobody's own.
const STICKY: u32 = 0o1000;

/// Creates a directory that only this user may enter, with its parents, whatever the umask is. One that is there already
/// has to be this user's own, and is closed to the writing of others.
pub fn create(dir: &Path) -> Result<()> {
    refuse_foreign(dir)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("failed to create `{}`", dir.display()))?;
    refuse_foreign(dir)?;
    let mode = look(dir)?.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        fs::set_permissions(dir, Permissions::from_mode(mode & 0o7777 & !OTHERS_WRITE))
            .with_context(|| format!("failed to close `{}` to the writing of others", dir.display()))?;
    }
    Ok(())
}

/// Refuses a directory of somebody else, and a link that somebody else has made, before anything is made in it. Nothing
/// there is fine.
pub fn refuse_foreign(dir: &Path) -> Result<()> {
    let failed = || format!("failed to look at `{}`", dir.display());
    let (own, root) = (rustix::process::getuid().as_raw(), 0);
    let link = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        seen => seen.with_context(failed)?,
    };
    let foreign = [
        Some(link.uid()).filter(|owner| ![own, root].contains(owner)),
        Some(look(dir)?.uid()).filter(|owner| *owner != own),
    ];
    if let Some(owner) = foreign.into_iter().flatten().next() {
        bail!(
            "`{}` belongs to user {owner}: remove it, or set HARNESS_STATE to a directory of your own",
            dir.display()
        );
    }
    Ok(())
}

fn look(dir: &Path) -> Result<Metadata> {
    fs::metadata(dir).with_context(|| format!("failed to look at `{}`", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        look(dir).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_others_could_write_to_is_closed_and_what_is_everybodys_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (open, tmp, new) = (dir.path().join("open"), dir.path().join("tmp"), dir.path().join("new/deep"));
        for (path, mode) in [(&open, 0o777), (&tmp, 0o1777)] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        for path in [&open, &tmp, &new] {
            create(path).unwrap();
        }
        assert_eq!((mode(&open), mode(&tmp), mode(&new), mode(new.parent().unwrap())), (0o755, 0o1777, 0o700, 0o700));
    }

    #[test]
    fn what_somebody_else_has_made_is_refused() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (theirs, own, link) = (dir.path().join("theirs"), dir.path().join("own"), dir.path().join("link"));
        fs::create_dir(&theirs).unwrap();
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        create(&link).unwrap();
        for path in [&theirs, &link] {
            std::os::unix::fs::lchown(path, Some(65534), None).unwrap();
            let error = create(path).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "`{}` belongs to user 65534: remove it, or set HARNESS_STATE to a directory of your own",
                    path.display()
                )
            );
        }
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    }
}
