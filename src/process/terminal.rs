//! Commands that want a terminal: the same deadline, group and environment as for any other, on a pseudo-terminal.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pty_process::{Pty, Size};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;

use super::{Output, Run, exit_code};

/// Wide enough that no table is cut off to fit the screen.
const SIZE: (u16, u16) = (50, 1000);

/// A command that writes more than this is out of its mind.
const MOST: usize = 16 << 20;

/// What is read after the command has ended: a grandchild may hold the terminal for as long as it likes.
const REST: Duration = Duration::from_secs(2);

impl Run {
    /// Runs the command as the leader of a session of its own, on a terminal that is its standard input and both of
    /// its outputs, so that everything it says is in `stdout`, without colours and carriage returns. At the deadline
    /// the whole group is killed.
    pub async fn on_terminal(&self) -> Result<Output> {
        let name = self.program.to_string_lossy().into_owned();
        let (mut terminal, end) = pty_process::open().context("failed to open a pseudo-terminal")?;
        terminal.resize(Size::new(SIZE.0, SIZE.1)).context("failed to size a pseudo-terminal")?;
        let mut command = pty_process::Command::new(&self.program);
        command = command.args(&self.args).env_clear().envs(self.env.iter().cloned()).env("TERM", "dumb");
        if let Some(dir) = &self.cwd {
            command = command.current_dir(dir);
        }
        let mut child = command.kill_on_drop(true).spawn(end).with_context(|| format!("failed to start `{name}`"))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
        let mut said = Vec::new();
        let ended = tokio::time::timeout(self.deadline, async {
            tokio::select! {
                status = child.wait() => status.context("failed to wait"),
                read = read(&mut terminal, &mut said) => {
                    read?;
                    child.wait().await.context("failed to wait")
                }
            }
        });
        let Ok(status) = ended.await else {
            drop(group);
            let last = super::tail(clean(&said).as_bytes());
            bail!("`{name}` did not end within {}{last}", humantime::format_duration(self.deadline));
        };
        let status = status?;
        let _ = tokio::time::timeout(REST, read(&mut terminal, &mut said)).await;
        Ok(Output { code: exit_code(status), stdout: clean(&said).into_bytes(), stderr: Vec::new() })
    }
}

/// Reads until nobody holds the other end any more, which Linux says as an error of input and output.
async fn read(terminal: &mut Pty, said: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match terminal.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) if said.len() + read > MOST => bail!("it wrote more than {MOST} bytes"),
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
            Err(error) => return Err(error).context("failed to read from the pseudo-terminal"),
        }
    }
}

/// The text as a file would hold it.
fn clean(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    anstream::adapter::strip_str(&text).to_string().replace('\r', "")
}

/// A process group that ends with its command, whatever the command has started in it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Run {
        Run::new("sh", ["-c", script])
    }

    #[tokio::test]
    async fn a_command_sees_a_terminal_and_its_words_come_without_dress() {
        let output = run("test -t 0 && test -t 1 && test -t 2 && stty size; printf '\\033[31mred\\033[0m\\n'; exit 3");
        let output = output.on_terminal().await.unwrap();
        assert_eq!((output.code, String::from_utf8(output.stdout).unwrap()), (3, "50 1000\nred\n".to_owned()));
    }

    #[tokio::test]
    async fn everything_that_was_said_arrives_however_much_it_is() {
        let output = run("seq 1 200000").on_terminal().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (200_000, Some("200000")));
    }

    #[tokio::test]
    async fn a_deadline_ends_the_whole_group_and_says_what_was_heard_last() {
        let run = run("echo waiting; sleep 1000 & sleep 1000").deadline(Duration::from_millis(300));
        let error = run.on_terminal().await.unwrap_err().to_string();
        assert_eq!(error, "`sh` did not end within 300ms: waiting");
    }

    #[tokio::test]
    async fn nobody_waits_for_an_answer_that_nobody_gives() {
        let error = run("read answer").deadline(Duration::from_millis(300)).on_terminal().await.unwrap_err();
        assert_eq!(error.to_string(), "`sh` did not end within 300ms");
    }

    #[tokio::test]
    async fn nothing_of_our_environment_reaches_the_command() {
        let output = run("env").on_terminal().await.unwrap();
        assert!(!String::from_utf8(output.stdout).unwrap().contains("CARGO"));
    }
}
