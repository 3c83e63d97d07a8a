//! Which program this is: the test executable of a checkout, or the `harness` command on its own. The one has its
//! checkout's assertions in it, the other goes wherever somebody puts it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file that makes a folder a root.
pub const CONFIGURATION: &str = "harness.toml";

/// Set in the `harness` command alone.
static ON_ITS_OWN: OnceLock<()> = OnceLock::new();

/// To be called first in `main` of the `harness` command: from then on nothing is looked for where it was compiled.
pub fn stand_alone() {
    let _ = ON_ITS_OWN.set(());
}

/// Whether this is the `harness` command.
pub fn stands_alone() -> bool {
    ON_ITS_OWN.get().is_some()
}

/// What to type before the arguments of a run, as whoever called this program did.
pub fn test() -> &'static str {
    match (stands_alone(), under_cargo()) {
        (false, _) => "cargo test --test recipe --",
        (true, true) => "cargo run -- test",
        (true, false) => "harness test",
    }
}

/// cargo tells what it starts.
fn under_cargo() -> bool {
    std::env::var_os("CARGO").is_some()
}

/// The folder that holds `harness.toml` and `overlays`: `HARNESS_ROOT`, else the checkout that a test executable was
/// compiled in, and for the command the nearest folder upwards with a `harness.toml`, or where it was called.
pub fn root() -> PathBuf {
    if let Some(root) = named() {
        return root;
    }
    if !stands_alone() {
        return Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    }
    let here = std::env::current_dir().unwrap_or_else(|_| ".".into());
    nearest(&here).unwrap_or(&here).to_owned()
}

fn named() -> Option<PathBuf> {
    let root = std::env::var_os("HARNESS_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from)?;
    Some(crate::caller::absolute(&root).unwrap_or(root))
}

/// The nearest folder with a `harness.toml`, from `here` upwards.
fn nearest(here: &Path) -> Option<&Path> {
    here.ancestors().find(|folder| folder.join(CONFIGURATION).is_file())
}

/// Where the command takes settings and overlays from, in a line: nobody should have to guess.
pub fn root_line() -> String {
    let root = root();
    let (shown, has_settings) = (root.display(), root.join(CONFIGURATION).is_file());
    match (named().is_some(), has_settings) {
        (true, true) => format!("`{shown}` (HARNESS_ROOT)"),
        (true, false) => format!("`{shown}` (HARNESS_ROOT), which has no `{CONFIGURATION}`: the defaults hold"),
        (false, true) => format!("`{shown}`, the nearest folder with a `{CONFIGURATION}`"),
        (false, false) => format!(
            "no `{CONFIGURATION}` in `{shown}` or above it: the defaults hold, and overlays are looked for in `{}`",
            root.join("overlays").display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_upwards_is_taken_and_none_where_there_is_none() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(nearest(&deep), None);
        std::fs::write(top.path().join("a").join(CONFIGURATION), "").unwrap();
        assert_eq!(nearest(&deep), Some(top.path().join("a").as_path()));
        // A folder of that name is no configuration.
        std::fs::create_dir(deep.join(CONFIGURATION)).unwrap();
        assert_eq!(nearest(&deep), Some(top.path().join("a").as_path()));
    }

    #[test]
    fn a_test_executable_speaks_of_cargo_and_has_the_checkout_for_its_root() {
        assert_eq!(test(), "cargo test --test recipe --");
        assert_eq!(root(), Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}
