//! The keeper's socket in the run directory, and messages over it: one JSON document a line.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags, open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "keeper.sock";

/// A message may be a file of this size, encoded; more is refused rather than read into memory.
const LONGEST_MESSAGE: u64 = 64 << 20;

/// Binds the socket of a run; one that a dead keeper left is replaced.
pub fn bind(run_dir: &Path) -> Result<UnixListener> {
    let path = run_dir.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to replace `{}`", path.display()));
        }
        _ => {}
    }
    let (_dir, short) = short(run_dir)?;
    UnixListener::bind(short).with_context(|| format!("failed to listen on `{}`", path.display()))
}

/// Connects to the keeper of a run.
pub async fn connect(run_dir: &Path) -> Result<Wire> {
    let (_dir, short) = short(run_dir)?;
    let stream = UnixStream::connect(short).await;
    Ok(Wire::new(stream.with_context(|| format!("failed to reach the keeper at `{}`", run_dir.join(NAME).display()))?))
}

/// The same on a thread of its own.
pub fn connect_blocking(run_dir: &Path) -> std::io::Result<std::os::unix::net::UnixStream> {
    let (_dir, short) = short(run_dir).map_err(std::io::Error::other)?;
    std::os::unix::net::UnixStream::connect(short)
}

/// A name for the socket that fits the kernel's 108 bytes, however deep the run directory lies: through the
/// directory's own file descriptor, which must stay open while the name is used.
fn short(run_dir: &Path) -> Result<(std::os::fd::OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(run_dir, flags, Mode::empty()).with_context(|| format!("failed to open `{}`", run_dir.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// One connection, from either end.
pub struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Wire {
    pub fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Wire { reader: BufReader::new(reader), writer }
    }

    pub async fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message).context("failed to encode a message")?;
        line.push(b'\n');
        self.writer.write_all(&line).await.context("failed to send a message: the other end is gone")
    }

    /// The next message; `None` when the other end closed the connection between messages.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST_MESSAGE).read_until(b'\n', &mut line).await;
        if read.context("failed to receive a message")? == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            bail!("a message was cut off after {} bytes", line.len());
        }
        serde_json::from_slice(&line).map(Some).context("failed to understand a message")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_crosses_even_from_a_very_deep_directory() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = bind(&deep).unwrap();
        let mut near = connect(&deep).await.unwrap();
        let mut far = Wire::new(listener.accept().await.unwrap().0);
        near.send(&"hello").await.unwrap();
        assert_eq!(far.receive::<String>().await.unwrap().as_deref(), Some("hello"));
        drop(near);
        assert_eq!(far.receive::<String>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_cut_in_the_middle_is_an_error_and_not_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(dir.path()).unwrap();
        let mut near = connect(dir.path()).await.unwrap();
        let mut far = Wire::new(listener.accept().await.unwrap().0);
        near.writer.write_all(b"\"hel").await.unwrap();
        drop(near);
        let error = far.receive::<String>().await.unwrap_err().to_string();
        assert_eq!(error, "a message was cut off after 4 bytes");
    }

    #[tokio::test]
    async fn a_run_without_a_keeper_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect(dir.path()).await.err().unwrap().to_string();
        assert!(error.starts_with("failed to reach the keeper at `"), "{error}");
    }
}
