//! The docker CLI, and git.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use harness::process;

/// Runs the docker CLI to its end, and returns what it says.
pub fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", arguments, None)
}

pub fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    run("git", arguments, Some(dir))
}

fn run(program: &str, arguments: &[&str], dir: Option<&Path>) -> Result<String> {
    let mut command = process::command(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
