//! `docker stack config`, where a docker CLI has it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use harness::process::Run;

/// The docker of this machine that knows `docker stack config`; Debian's 20.10 does not.
pub static DOCKER: LazyLock<Option<Docker>> = LazyLock::new(Docker::find);

/// Where a case stands in what is recorded of docker: it makes some paths absolute.
pub const DIRECTORY: &str = "/recipe";

pub struct Docker {
    program: PathBuf,
    /// The client's version, such as `28.2.2`.
    pub version: String,
}

impl Docker {
    fn find() -> Option<Docker> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("docker")).find_map(Docker::that_can)
    }

    fn that_can(program: PathBuf) -> Option<Docker> {
        let ask = |args: &[&str]| {
            let run = Run { env: Vec::new(), ..Run::new(&program, args) }.deadline(Duration::from_secs(20));
            let output = wait(run.output()).ok().filter(|output| output.code == 0)?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        // A docker without the command answers with the help of `docker stack`.
        ask(&["stack", "config", "--help"]).filter(|help| help.contains("--skip-interpolation"))?;
        let version = ask(&["--version"])?.split([' ', ',']).nth(2)?.to_owned();
        Some(Docker { program, version })
    }

    /// The merged configuration of these files of a directory, or why docker refuses them. Docker sees the given
    /// variables and no others.
    pub fn config<'a>(
        &self,
        dir: &Path,
        files: &[String],
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<String, String> {
        let mut args = vec!["stack", "config"];
        args.extend(files.iter().flat_map(|file| ["-c", file]));
        let env = variables.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let run = Run { env, ..Run::new(&self.program, args) }.cwd(dir);
        let output = wait(run.output()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(dir.to_str().unwrap(), DIRECTORY);
        if output.code == 0 { Ok(text(&output.stdout)) } else { Err(essence(&text(&output.stderr))) }
    }
}

/// The message without the warnings before it, and without the stack of a crash: some wrong values make docker panic.
fn essence(stderr: &str) -> String {
    let said = stderr.lines().filter(|line| !line.starts_with("time="));
    let message: Vec<&str> = said.map(str::trim).take_while(|line| !line.starts_with("goroutine ")).collect();
    message.join(" ").trim().to_owned()
}

/// Says on standard error, past the test runner's capture, that a comparison with the real docker is not made.
pub fn missing(what: &str) {
    let line = format!("NOT CHECKED: {what}: no docker on the PATH knows `docker stack config`\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
