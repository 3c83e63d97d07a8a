//! What the abra engine needs beside a Swarm: the stand-in for abra, and a recipe's repository to deploy from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::Origin;
use harness::engine::abra::{AbraSpec, checkout_dir};
use harness::engine::swarm::SwarmSpec;
use harness::process::Run;
use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::checkout::Checkout;
use harness::recipe::version::Revision;
use once_cell::sync::Lazy;
use tempfile::TempDir;

use super::recipe::{NAME, Recipe};

/// The stand-in under abra's name. It does not wait for convergence, so that the engines are compared in what they
/// observe, and not in their patience.
static PROGRAM: Lazy<Result<Arc<TempDir>, String>> = Lazy::new(|| {
    let made = || -> Result<TempDir> {
        let dir = TempDir::new()?;
        let program = dir.path().join("abra");
        let built = env!("CARGO_BIN_EXE_fake-abra");
        std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(|_| ()))?;
        std::fs::write(dir.path().join("fake.json"), r#"{"quirks": ["does-not-wait"]}"#)?;
        Ok(dir)
    };
    made().map(Arc::new).map_err(|error| format!("{error:#}"))
});

pub fn spec(swarm: SwarmSpec) -> Result<AbraSpec, String> {
    let program = PROGRAM.as_ref().map_err(Clone::clone)?.path().join("abra");
    Ok(AbraSpec { swarm, program, version: "0.13.0-stand-in".into(), server: "default".into(), catalogue: None })
}

/// Commits the recipe to the repository that abra reads, and tags the commit as its version.
pub async fn origin(engine_dir: &Path, recipe: &Recipe, state: &AppState) -> Result<Origin> {
    let dir = checkout_dir(engine_dir, NAME);
    if !dir.join(".git").exists() {
        std::fs::create_dir_all(&dir)?;
        git(&dir, &["init", "--quiet", "--initial-branch=main"]).await?;
    }
    for (path, text) in recipe.files() {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(path, text)?;
    }
    let me = ["-c", "user.name=m", "-c", "user.email=m@example.org"];
    git(&dir, &["add", "--all"]).await?;
    git(&dir, &[&me[..], &["commit", "--quiet", "--allow-empty", "-m", "x"]].concat()).await?;
    let version = recipe.version_name();
    git(&dir, &[&me[..], &["tag", "--annotate", "--force", "-m", "x", version]].concat()).await?;
    let commit = git(&dir, &["rev-parse", "HEAD"]).await?;
    let tree = git(&dir, &["rev-parse", "HEAD^{tree}"]).await?;
    Ok(Origin {
        recipe: NAME.parse()?,
        checkout: Checkout { dir },
        revision: Revision { commit, tree, dirty: false, version: None, label: version.to_owned() },
        form: Form::Pinned { version: version.to_owned() },
        env: state.env.clone(),
        deadline: Duration::from_secs(60),
    })
}

async fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let output = Run::new("git", arguments).cwd(dir).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.code == 0, "`git {}` exited with code {}: {said}", arguments.join(" "), output.code);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
