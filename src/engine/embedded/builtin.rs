//! The programs of the built-in image: small, without dependencies, and hidden in the harness's own executable.

mod curl;
pub mod photograph;
mod static_web;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::stage::mounts::{self, Point};

/// Where the programs stand in a container; part of its `PATH`.
pub const BIN: &str = "/opt/harness/bin";
/// What the web server serves unless told otherwise: nginx's own default, so that recipes for nginx just work.
pub const WEB_ROOT: &str = "/usr/share/nginx/html";
/// Tells the programs what image they stand in for.
pub const STANDS_IN_FOR: &str = "HARNESS_STANDS_IN_FOR";

type Program = fn(&[String]) -> ExitCode;
const PROGRAMS: [(&str, Program); 3] =
    [("static-web", static_web::main), ("curl", curl::main), ("photograph", photograph::main)];

/// Runs the program of this name with this process's arguments; `None` when there is none.
pub fn run(name: &str) -> Option<ExitCode> {
    let (_, program) = PROGRAMS.iter().find(|(program, _)| *program == name)?;
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    Some(program(&args))
}

/// Puts the programs and the default page into a container, whose root is this process's root.
pub fn install(executable: &Path, stands_in_for: &str) -> Result<()> {
    for (name, _) in PROGRAMS {
        let target = mounts::mount_point(&Path::new(BIN).join(name), Point::File)?;
        mounts::bind(executable, &target)?;
    }
    mounts::read_only(&[BIN.into()])?;
    let root = Path::new(WEB_ROOT);
    if root.exists() {
        // The host's own page is not ours to serve.
        mounts::tmpfs(root, "mode=755", nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV)?;
    }
    mounts::mount_point(root, Point::Directory)?;
    let page = include_str!("builtin/index.html").replace("{reference}", &escape(stands_in_for));
    fs::write(root.join("index.html"), page).context("failed to write the default page")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
