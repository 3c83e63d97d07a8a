//! The same proofs once more, as a user with no privileges: a copy of this executable under `setpriv`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use harness::process::Run;
use libtest_mimic::{Completion, Failed, Trial};
use once_cell::sync::OnceCell;

use crate::Case;
use crate::fixture::block_on;

/// `nobody`, to whom nothing belongs.
const UID: u32 = 65_534;

/// A directory that the user can enter, with the executable and a place for temporary files.
struct Stage {
    dir: tempfile::TempDir,
}

pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let stage = Arc::new(OnceCell::new());
    let trial = |(name, _): &Case| {
        let (name, stage) = (*name, Arc::clone(&stage));
        Trial::ignorable_test(format!("ordinary_user::{name}"), move || run(name, &stage))
    };
    cases.iter().map(trial).collect()
}

fn run(name: &str, stage: &OnceCell<Stage>) -> Result<Completion, Failed> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Completion::ignored_with("this is an ordinary user already"));
    }
    if block_on(Run::new("setpriv", ["--version"]).output()).is_err() {
        return crate::missing("`setpriv` of util-linux is not installed");
    }
    rerun(name, stage).map_err(|error| format!("{error:#}"))?;
    Ok(Completion::Completed)
}

fn rerun(name: &str, stage: &OnceCell<Stage>) -> Result<()> {
    let stage = stage.get_or_try_init(Stage::new)?;
    let user = [format!("--reuid={UID}"), format!("--regid={UID}"), "--clear-groups".into()];
    let command = [stage.executable().display().to_string(), "--exact".into(), name.into()];
    let mut run = Run::new("setpriv", user.into_iter().chain(command));
    run.env.retain(|(key, _)| key != "TMPDIR" && key != "HOME");
    let output = block_on(run.env("TMPDIR", stage.dir.path().join("tmp")).output())?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A filter that matches nothing would pass as well.
    anyhow::ensure!(
        output.code == 0 && said.contains(" 1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl Stage {
    fn new() -> Result<Stage> {
        let stage = Stage { dir: tempfile::tempdir()? };
        let temporary = stage.dir.path().join("tmp");
        fs::create_dir(&temporary)?;
        fs::set_permissions(stage.dir.path(), Permissions::from_mode(0o755))?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o1777))?;
        // By another process: one that is started meanwhile would hold our copy open for writing, so that it cannot be run.
        let own = std::env::current_exe().context("failed to find the executable")?;
        let copy = Run::new("cp", [own, stage.executable()]);
        block_on(copy.checked()).context("failed to copy the executable")?;
        Ok(stage)
    }

    fn executable(&self) -> PathBuf {
        self.dir.path().join("image-tests")
    }
}
