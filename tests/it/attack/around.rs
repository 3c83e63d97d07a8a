//! What surrounds a container: the harness's own executable, and what whoever starts the harness leaves open.
//!
//! Each of these runs once more, as a copy of this program in the surroundings that it needs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process::Run;
use harness::recipe::stack::{FileMount, FileObject, Service};
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::Promise::{Executable, Inherited};
use crate::support::{World, deployment, idle, shell, trial};
use crate::{Attempt, By, in_cage, in_container};

/// Set for the copy.
const INSIDE: &str = "ATTACK_INSIDE";
const MODE: &str = "around::the_executable_given_another_mode_and_content";
const OPEN: &str = "around::what_was_left_open";

pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "the_executable_given_another_mode_and_content", promise: Executable, by: By::Test(mode) },
    Attempt { name: "what_was_left_open", promise: Inherited, by: By::Test(open) },
];

fn mode() -> Trial {
    trial(MODE, || async {
        if inside() { change_executable().await } else { again(MODE, "exec \"$0\" --exact \"$1\"").await }
    })
}

fn open() -> Trial {
    let script = "exec 9<\"$0\" 8</ 7</tmp; exec \"$0\" --exact \"$1\"";
    trial(OPEN, move || async move { if inside() { find_open().await } else { again(OPEN, script).await } })
}

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs a trial of a copy of this program that belongs to whoever runs it, by way of a shell.
async fn again(trial: &str, script: &str) -> Result<()> {
    let dir = TempDir::new()?;
    let program = dir.path().join("program");
    // By another process: one that is started meanwhile would hold our copy open for writing, so that it cannot be run.
    Run::new("cp", [std::env::current_exe()?.as_os_str(), program.as_os_str()]).checked().await?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let args: [OsString; 4] = ["-c".into(), script.into(), program.clone().into_os_string(), trial.into()];
    let run = Run::new("sh", args).env(INSIDE, "1").deadline(Duration::from_secs(55));
    let output = run.output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.code == 0 && said.contains("1 passed"), "{said}");
    Ok(())
}

/// Changes the executables of all processes that come by, while running and afterwards.
const CHANGE: &str = "import glob, os\nheld = {}\nprint('begun', flush=True)\nwhile True:\n    \
    for path in glob.glob('/proc/[0-9]*/exe'):\n        if path == '/proc/1/exe': continue\n        \
    try: os.chmod(path, 0o4777)\n        except OSError: pass\n        \
    try: held.setdefault(path, os.open(path, os.O_RDONLY)) if len(held) < 200 else None\n        \
    except OSError: pass\n    for fd in list(held.values())[-20:]:\n        \
    try: os.write(os.open(f'/proc/self/fd/{fd}', os.O_WRONLY | os.O_APPEND), b'x')\n        except OSError: pass\n";

/// A command whose interpreter is the process that starts it: the kernel looks for it inside, and finds the harness.
async fn change_executable() -> Result<()> {
    let before = look(Path::new("/proc/self/exe"))?;
    let mount = FileMount { source: "conf".into(), target: "/evil".into(), uid: 0, gid: 0, mode: 0o755 };
    let service = Service { configs: vec![mount], ..shell("") };
    let command = ["/usr/bin/python3", "-c", CHANGE].map(str::to_owned).to_vec();
    let mut deployment = deployment([("app", Service { command: Some(command), ..service })]);
    let content = Some(b"#!/proc/self/exe\n".to_vec());
    let object = FileObject { name: "s_conf_v1".into(), content, ..FileObject::default() };
    deployment.stack.configs.insert("conf".into(), object);
    let world = World::new().await?;
    world.engine.deploy(&deployment).await?;
    world.converged("app").await?;
    world.until_logged("app", "begun").await?;
    for _ in 0..30 {
        // It is this program, which finds no test of that name, or is killed.
        let output = world.exec("app", &["/evil"]).await?;
        ensure!(output.stderr.is_empty() || output.code != 0, "{output:?}");
    }
    world.end().await?;
    let after = look(Path::new("/proc/self/exe"))?;
    ensure!(before == after, "mode, length and time were {before:?} and are {after:?}");
    Ok(())
}

fn look(path: &Path) -> Result<(String, u64, i64)> {
    let file = fs::metadata(path).context("failed to look at this program")?;
    Ok((format!("{:o}", file.mode()), file.len(), file.mtime()))
}

/// Descriptors of the program itself and of the first process.
const FIND: &str = "for who in ('self', '1'):\n    try: names = os.listdir(f'/proc/{who}/fd')\n    \
    except PermissionError: continue\n    for fd in names:\n        \
    try: seen = os.readlink(f'/proc/{who}/fd/{fd}')\n        except OSError: continue\n        \
    if int(fd) > 2 and 'signalfd' not in seen: sys.exit(f'OUT: {who} {fd} {seen}')";

async fn find_open() -> Result<()> {
    // They are here, or nothing would be shown.
    for fd in [7, 8, 9] {
        fs::read_link(format!("/proc/self/fd/{fd}")).context("nothing was inherited")?;
    }
    in_container(FIND).await?;
    in_cage(FIND).await?;
    let world = World::new().await?;
    let own = Service { command: Some(crate::argv(&format!("{FIND}\nprint('none is open', flush=True)"))), ..idle() };
    world.engine.deploy(&deployment([("app", own)])).await?;
    world.until_logged("app", "none is open").await?;
    world.end().await
}
