//! The one door to processes: whatever runs outside this one gets a deadline, a group of its own, and no inherited
//! environment beyond what it is given.

pub mod harden;
pub mod orphans;
mod talk;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
pub use talk::Talk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A command to run to its end, within a deadline.
#[derive(Clone, Debug)]
pub struct Run {
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<PathBuf>,
    pub stdin: Vec<u8>,
    pub deadline: Duration,
    /// Bytes of the largest file that the command, or what it starts, may write. One that writes on is killed.
    pub largest_file: Option<u64>,
}

/// What a command answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code, or 128 plus the signal that ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Run {
    /// A command with the few variables that tools need to work at all (`PATH`, `HOME`, `TMPDIR`, locale).
    pub fn new(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Run {
            program: program.as_ref().to_owned(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: base_env(),
            cwd: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(60),
            largest_file: None,
        }
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the command in its own process group, which is killed as a whole at the deadline, and returns its output
    /// whatever its exit code.
    pub async fn output(&self) -> Result<Output> {
        let name = self.program.to_string_lossy().into_owned();
        let mut child = self.spawn()?;
        if let Some(most) = self.largest_file {
            limit_files(child.id(), most).with_context(|| format!("failed to limit the files of `{name}`"))?;
        }
        let mut stdin = child.stdin().take().context("no standard input")?;
        let mut out = child.stdout().take().context("no standard output")?;
        let mut err = child.stderr().take().context("no standard error")?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let talk = async {
            let feed = async {
                // A command may end without reading its input: that is its own business, not an error here.
                let _ = stdin.write_all(&self.stdin).await;
                drop(stdin);
            };
            let (_, read_out, read_err, status) =
                tokio::join!(feed, out.read_to_end(&mut stdout), err.read_to_end(&mut stderr), child.wait());
            read_out.context("failed to read standard output")?;
            read_err.context("failed to read standard error")?;
            status.context("failed to wait")
        };
        match tokio::time::timeout(self.deadline, talk).await {
            Ok(status) => Ok(Output { code: exit_code(status?), stdout, stderr }),
            Err(_) => {
                let _ = child.start_kill();
                bail!("`{name}` did not end within {}{}", humantime::format_duration(self.deadline), tail(&stderr))
            }
        }
    }

    /// Starts the command in its own process group, with a pipe to each of its streams. It ends with what is returned.
    fn spawn(&self) -> Result<Box<dyn ChildWrapper>> {
        let mut command = CommandWrap::with_new(&self.program, |command| {
            command.args(&self.args).env_clear().envs(self.env.iter().cloned());
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            if let Some(dir) = &self.cwd {
                command.current_dir(dir);
            }
        });
        command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
        command.spawn().with_context(|| format!("failed to start `{}`", self.program.to_string_lossy()))
    }

    /// Runs the command and fails, with the end of its output, unless it exits with 0.
    pub async fn checked(&self) -> Result<Output> {
        let output = self.output().await?;
        if output.code != 0 {
            let name = self.program.to_string_lossy();
            let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
            bail!("`{name}` exited with code {}{}", output.code, tail(said));
        }
        Ok(output)
    }
}

/// One that has ended already needs no limit any more.
fn limit_files(pid: Option<u32>, most: u64) -> Result<()> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid as i32)) else { return Ok(()) };
    match prlimit(Some(pid), Resource::Fsize, Rlimit { current: Some(most), maximum: Some(most) }) {
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The exit code of a finished process; 128 plus the signal for a killed one, as shells report it.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A plain `std` command: for the stages of the embedded engine, which replace or fork themselves.
#[expect(clippy::disallowed_methods, reason = "this module is the door")]
pub fn command(program: impl AsRef<OsStr>) -> std::process::Command {
    std::process::Command::new(program)
}

/// `PATH`, `HOME`, `TMPDIR` and the locale of this process, and the mark of its run; nothing that changes what a tool
/// does.
pub fn base_env() -> Vec<(OsString, OsString)> {
    ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL"]
        .into_iter()
        .filter_map(|key| Some((key.into(), std::env::var_os(key)?)))
        .chain(orphans::variable())
        .collect()
}

/// The last lines of an output, ready to stand after a sentence.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn a_finished_command_gives_its_code_and_both_streams() {
        let run = Run::new("sh", ["-c", "cat; echo oops >&2; exit 7"]);
        let output = Run { stdin: b"hello".to_vec(), ..run }.output().await.unwrap();
        assert_eq!(output, Output { code: 7, stdout: b"hello".to_vec(), stderr: b"oops\n".to_vec() });
    }

    #[tokio::test]
    async fn a_deadline_ends_the_whole_group() {
        let start = Instant::now();
        let run = Run::new("sh", ["-c", "sleep 30; true"]).deadline(Duration::from_millis(200));
        let error = run.output().await.unwrap_err().to_string();
        assert_eq!(error, "`sh` did not end within 200ms");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_failing_command_is_an_error_with_its_last_words() {
        let error = Run::new("sh", ["-c", "echo no such tag >&2; exit 3"]).checked().await.unwrap_err();
        assert_eq!(error.to_string(), "`sh` exited with code 3: no such tag");
    }

    #[tokio::test]
    async fn a_command_that_writes_too_large_a_file_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        // It waits for its input, and with it for the limit.
        let script = "read x; head -c 5000 /dev/zero > file; echo $?";
        let run = Run { stdin: b"go\n".to_vec(), largest_file: Some(4096), ..Run::new("sh", ["-c", script]) };
        let output = run.cwd(dir.path()).output().await.unwrap();
        assert_ne!(output.stdout, b"0\n");
        assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().len(), 4096);
    }

    #[tokio::test]
    async fn nothing_of_our_environment_reaches_the_command() {
        let output = Run::new("sh", ["-c", "env"]).output().await.unwrap();
        let env = String::from_utf8(output.stdout).unwrap();
        assert!(!env.contains("CARGO"), "{env}");
    }
}
