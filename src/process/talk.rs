//! A command that is talked with while it runs: no deadline ends it, but whoever talks with it.

use anyhow::{Context as _, Result};
use process_wrap::tokio::ChildWrapper;
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::{Run, exit_code, tail};

/// A running command, and its streams. It is killed when `child` goes.
pub struct Talk {
    pub child: Box<dyn ChildWrapper>,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

impl Run {
    /// Starts the command. Its `stdin`, `deadline` and `largest_file` are without effect.
    pub fn talk(&self) -> Result<Talk> {
        let mut child = self.spawn()?;
        let stdin = child.stdin().take().context("no standard input")?;
        let stdout = child.stdout().take().context("no standard output")?;
        let stderr = child.stderr().take().context("no standard error")?;
        Ok(Talk { child, stdin, stdout, stderr })
    }
}

impl Talk {
    /// Waits for the end of a command, and says with which code and words it ended; nothing of one that ended well. It is
    /// killed when the future goes.
    pub async fn last_words(mut child: Box<dyn ChildWrapper>, stderr: ChildStderr, most: u64) -> Option<String> {
        let mut said = Vec::new();
        if let Err(error) = stderr.take(most).read_to_end(&mut said).await {
            return Some(format!("what it said cannot be read: {error}"));
        }
        match child.wait().await.map(exit_code) {
            Ok(0) => None,
            Ok(code) => Some(format!("it exited with code {code}{}", tail(&said))),
            Err(error) => Some(format!("it cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn words_go_both_ways_and_the_last_ones_are_those_of_a_failure() {
        let script = "read line; echo \"$line, too\"; echo oops >&2; exit \"$1\"";
        for (code, last) in [("0", None), ("3", Some("it exited with code 3: oops".to_owned()))] {
            let Talk { child, mut stdin, mut stdout, stderr } =
                Run::new("sh", ["-c", script, "sh", code]).talk().unwrap();
            stdin.write_all(b"me\n").await.unwrap();
            let mut said = String::new();
            stdout.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "me, too\n");
            assert_eq!(Talk::last_words(child, stderr, 100).await, last);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let error = format!("{:#}", Run::new("/nowhere/ssh", [""; 0]).talk().err().unwrap());
        assert!(error.starts_with("failed to start `/nowhere/ssh`: No such file"), "{error}");
    }
}
