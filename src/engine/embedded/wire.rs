//! Packets between the keeper's process and the stages: one JSON value each, with file descriptors beside it.
//!
//! A packet keeps its boundaries (`SOCK_SEQPACKET`), and a large value travels in a memory file, so that neither
//! secrets nor megabytes ever stand in an argument list, an environment or a file on disk.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::fault::Fault;

/// What a stage answers: a value, or what went wrong and at which step.
pub type Reply<T> = std::result::Result<T, Fault>;

/// Descriptors in one packet, the memory file of a large value included.
const MAX_FDS: usize = 8;
/// Values up to this size travel in the packet itself; it stays below every system's socket buffer.
const INLINE: usize = 32 * 1024;
const IN_PACKET: u8 = b'P';
const IN_MEMORY_FILE: u8 = b'M';

/// Two connected ends, closed on exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("failed to make a socket pair")
}

/// Sends one value. Blocks on a blocking socket.
pub fn send(socket: impl AsFd, value: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let packet = Packet::new(value)?;
    packet.send(socket.as_fd(), fds).context("failed to send a packet")
}

/// The next value, or `None` when the other end is closed.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    loop {
        match receive_packet(socket.as_fd()) {
            Ok(None) => return Ok(None),
            Ok(Some((bytes, fds))) => return open(bytes, fds).map(Some),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("failed to receive a packet"),
        }
    }
}

/// The keeper's end of a socket, for tokio, which has no type for packets: a stream's waiting serves them as well.
#[derive(Debug)]
pub struct Socket(UnixStream);

impl Socket {
    pub fn new(fd: OwnedFd) -> Result<Socket> {
        rustix::io::ioctl_fionbio(&fd, true).context("failed to make a socket non-blocking")?;
        Ok(Socket(UnixStream::from_std(fd.into()).context("failed to watch a socket")?))
    }

    pub async fn send(&self, value: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let packet = Packet::new(value)?;
        let send = || packet.send(self.0.as_fd(), fds).map_err(std::io::Error::from);
        self.0.async_io(Interest::WRITABLE, send).await.context("failed to send a packet")
    }

    /// The next value, or `None` when the other end is closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let receive = || receive_packet(self.0.as_fd()).map_err(std::io::Error::from);
        match self.0.async_io(Interest::READABLE, receive).await {
            Ok(Some((bytes, fds))) => open(bytes, fds).map(Some),
            Ok(None) => Ok(None),
            // The other end died with packets of ours unread: for the reader that is the end, too.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error).context("failed to receive a packet"),
        }
    }

    /// Closes both directions: the other end sees the end, although this end is still held.
    pub fn close(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// The answer of a stage; a stage that ended without one is an error.
    pub async fn reply<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>)> {
        match self.receive::<Reply<T>>().await? {
            Some((Ok(value), fds)) => Ok((value, fds)),
            Some((Err(fault), _)) => Err(anyhow::Error::new(fault)),
            None => bail!("the stage ended without an answer"),
        }
    }
}

/// An encoded value, ready to send, possibly more than once.
struct Packet {
    bytes: Vec<u8>,
    memory_file: Option<File>,
}

impl Packet {
    fn new(value: &impl Serialize) -> Result<Packet> {
        let json = serde_json::to_vec(value).context("failed to encode a packet")?;
        if json.len() > INLINE {
            return Ok(Packet { bytes: vec![IN_MEMORY_FILE], memory_file: Some(memory_file(&json)?) });
        }
        let mut bytes = vec![IN_PACKET];
        bytes.extend(json);
        Ok(Packet { bytes, memory_file: None })
    }

    fn send(&self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut all: Vec<BorrowedFd<'_>> = self.memory_file.iter().map(AsFd::as_fd).collect();
        all.extend(fds);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !all.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&all)) {
            return Err(Errno::TOOBIG);
        }
        rustix::net::sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Bytes in memory that only holders of the descriptor can read.
pub fn memory_file(bytes: &[u8]) -> Result<File> {
    let fd = rustix::fs::memfd_create("harness", rustix::fs::MemfdFlags::CLOEXEC)
        .context("failed to create a memory file")?;
    let mut file = File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).context("failed to fill a memory file")?;
    Ok(file)
}

type Raw = (Vec<u8>, Vec<OwnedFd>);

fn receive_packet(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<Raw>> {
    let mut bytes = vec![0; INLINE + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    let fds = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    Ok(Some((bytes, fds)))
}

fn open<T: DeserializeOwned>(bytes: Vec<u8>, mut fds: Vec<OwnedFd>) -> Result<(T, Vec<OwnedFd>)> {
    let value = match bytes.split_first() {
        Some((&IN_PACKET, json)) => serde_json::from_slice(json),
        Some((&IN_MEMORY_FILE, _)) => {
            ensure!(!fds.is_empty(), "a packet came without its memory file");
            let mut file = File::from(fds.remove(0));
            let mut json = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut json)).context("failed to read a memory file")?;
            serde_json::from_slice(&json)
        }
        _ => bail!("a packet of unknown form came"),
    };
    Ok((value.context("failed to decode a packet")?, fds))
}

/// Bytes as base64: a JSON array would take four times the space.
pub mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_value_and_a_descriptor_arrive_whole() {
        let (a, b) = pair().unwrap();
        let text = "x".repeat(1_000_000);
        let extra = memory_file(b"beside").unwrap();
        send(&a, &text, &[extra.as_fd()]).unwrap();
        let (value, mut fds) = receive::<String>(&b).unwrap().unwrap();
        assert_eq!(value, text);
        let mut beside = String::new();
        File::from(fds.remove(0)).read_to_string(&mut beside).unwrap();
        assert_eq!(beside, "beside");
    }

    #[test]
    fn a_closed_end_is_the_end() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(receive::<String>(&b).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_fault_of_a_stage_is_an_error_here() {
        let (a, b) = pair().unwrap();
        let fault = Fault { step: None, errno: None, text: "no such program".into() };
        send(&a, &Reply::<()>::Err(fault), &[]).unwrap();
        drop(a);
        let socket = Socket::new(b).unwrap();
        assert_eq!(socket.reply::<()>().await.unwrap_err().to_string(), "no such program");
        assert_eq!(socket.reply::<()>().await.unwrap_err().to_string(), "the stage ended without an answer");
    }
}
