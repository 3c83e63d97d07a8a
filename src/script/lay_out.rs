//! What a program sees of the recipe and of its own folder: copies that everybody may read, for the user in the cage
//! owns nothing here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Code;
use crate::engine::embedded::cage::Given;
use crate::recipe::tree::{Entry, Tree};

/// Copies the code and the recipe into `dir`, and says what goes where. A recipe of which single files are approved
/// shows no others.
pub fn lay_out(code: &Code, tree: &Tree, dir: &Path) -> Result<Vec<Given>> {
    let only = match code {
        Code::RepoLocal { only } => only.as_ref(),
        Code::Overlay { .. } => None,
    };
    let recipe = dir.join("recipe");
    make_dir(&recipe)?;
    for (path, entry) in tree.files.iter().filter(|(path, _)| only.is_none_or(|only| only.contains(*path))) {
        // A link could lead anywhere; it is left out.
        let Entry::File { bytes, executable } = entry else { continue };
        write(&recipe.join(path), bytes, *executable)?;
    }
    let mut given = vec![Given { from: recipe, target: "/recipe".into(), writable: None }];
    if let Code::Overlay { folder, .. } = code {
        let copy = dir.join("overlay");
        copy_dir(folder, &copy)?;
        given.push(Given { from: copy, target: code.target().into(), writable: None });
    }
    Ok(given)
}

/// What a program may read about the app, and the Python module that asks about it, in a folder that `PYTHONPATH` names.
pub fn lay_out_about(json: &[u8], dir: &Path) -> Result<Given> {
    let about = dir.join("about");
    make_dir(&about)?;
    write(&about.join("app.json"), json, false)?;
    write(&about.join("harness.py"), include_bytes!("harness.py"), false)?;
    Ok(Given { from: about, target: "/about".into(), writable: None })
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to list `{}`", from.display()))? {
        let entry = entry.with_context(|| format!("failed to list `{}`", from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().with_context(|| format!("failed to look at `{}`", from.display()))?;
        if kind.is_dir() {
            copy_dir(&from, &to)?;
        } else if kind.is_file() {
            let failed = || format!("failed to read `{}`", from.display());
            let executable = entry.metadata().with_context(failed)?.permissions().mode() & 0o100 != 0;
            write(&to, &crate::regular::read(&from).with_context(failed)?, executable)?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], executable: bool) -> Result<()> {
    let failed = || format!("failed to write `{}`", path.display());
    for parent in path.ancestors().skip(1).take_while(|parent| !parent.exists()).collect::<Vec<_>>().into_iter().rev() {
        make_dir(parent)?;
    }
    fs::write(path, bytes).with_context(failed)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(failed)
}

/// Makes a directory that everybody may look into, as long as nothing above it keeps them out.
pub fn make_dir(path: &Path) -> Result<()> {
    let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.with_context(|| format!("failed to create `{}`", path.display()))
}
