//! Where the person stands who typed the command. cargo starts a test in its package's folder, and nobody types paths
//! from there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The directory in which the command was typed: cargo's own, where cargo has started this process in the folder of its
/// package, else this process's.
pub fn dir() -> Result<PathBuf> {
    let own = std::env::current_dir().context("failed to find the current directory")?;
    let variable = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(choose(own, variable("CARGO_MANIFEST_DIR"), variable("PWD"), starter))
}

/// A path as it was typed, from where it was typed.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    std::path::absolute(dir()?.join(path)).with_context(|| format!("failed to find `{}`", path.display()))
}

/// `PWD` shows the directory as the person knows it, links included, but it is only what somebody has set: it must be the
/// directory of the process that has started this one. Where that cannot be seen, it must be a directory.
fn choose(
    own: PathBuf,
    package: Option<PathBuf>,
    pwd: Option<PathBuf>,
    starter: impl FnOnce() -> Option<PathBuf>,
) -> PathBuf {
    // Somebody else than cargo has chosen where this process starts, and knew why.
    if !package.is_some_and(|package| is_same(&package, &own)) {
        return own;
    }
    let pwd = pwd.filter(|pwd| pwd.is_absolute() && pwd.is_dir());
    match (starter(), pwd) {
        (Some(starter), Some(pwd)) if is_same(&starter, &pwd) => pwd,
        (Some(starter), _) => starter,
        (None, Some(pwd)) => pwd,
        (None, None) => own,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The directory of the nearest `cargo` among the ancestors of this process.
fn starter() -> Option<PathBuf> {
    let mut pid = std::process::id();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        pid = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if matches!(name.trim_end(), "cargo" | "cargo-nextest") {
            return std::fs::read_link(format!("/proc/{pid}/cwd")).ok().filter(|dir| dir.is_dir());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_directory_is_cargos_and_pwd_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["checkout/tests", "elsewhere"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("checkout"), at("link")).unwrap();
        let package = at("checkout/tests");
        let chosen = |own: &str, package: Option<PathBuf>, pwd: Option<PathBuf>, starter: Option<PathBuf>| {
            choose(at(own), package, pwd, || starter)
        };
        let under_cargo = |pwd, starter| chosen("checkout/tests", Some(package.clone()), pwd, starter);
        assert_eq!(under_cargo(Some(at("link")), Some(at("checkout"))), at("link"), "as it was typed");
        assert_eq!(under_cargo(Some(at("elsewhere")), Some(at("checkout"))), at("checkout"), "a stale `PWD`");
        assert_eq!(under_cargo(None, Some(at("checkout"))), at("checkout"));
        assert_eq!(under_cargo(Some(at("elsewhere")), None), at("elsewhere"));
        for odd in [at("nowhere"), "checkout".into()] {
            assert_eq!(under_cargo(Some(odd), None), package);
        }
        // Without cargo, and where somebody else has chosen the directory, nothing is made up for.
        assert_eq!(chosen("elsewhere", None, Some(at("checkout")), Some(at("checkout"))), at("elsewhere"));
        let own = chosen("elsewhere", Some(package.clone()), Some(at("checkout")), Some(at("checkout")));
        assert_eq!(own, at("elsewhere"));
    }
}
