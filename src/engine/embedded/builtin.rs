//! The programs of the built-in image: small, without dependencies, and hidden in the harness's own executable.

mod curl;
pub mod photograph;
mod static_web;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;

use super::stage::mounts::Point;
use super::stage::tree::{self, Tree};

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

/// Puts the programs and the default page into a container. The executable is a mount that is read-only already.
pub fn install(executable: &OwnedFd, root: &Tree, stands_in_for: &str) -> Result<()> {
    for (name, _) in PROGRAMS {
        let place = root.point(&Path::new(BIN).join(name), Point::File)?;
        tree::attach(&tree::clone_of(executable)?, &place)?;
    }
    // The host's own page is not ours to serve.
    let pages = tree::memory(&[("mode", "755")], MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?;
    tree::attach(&pages, &root.point(Path::new(WEB_ROOT), Point::Directory)?)?;
    let page = include_str!("builtin/index.html").replace("{reference}", &escape(stands_in_for));
    let write = || {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&pages, "index.html", flags, Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(page.as_bytes())
    };
    write().context("failed to write the default page")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
