//! One netlink message as the kernel reads it: a header, what it is about, and attributes, each aligned to four bytes.
//!
//! Numbers and layouts are those of the kernel's `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`,
//! `linux/if_addr.h` and `linux/veth.h`, which are part of its interface and do not change.

use anyhow::{Context as _, Result, bail};

/// `IFF_UP`.
pub(super) const UP: u32 = 1;

/// Attributes of a link.
pub(super) const ADDRESS: u16 = 1;
pub(super) const IFNAME: u16 = 3;
pub(super) const MASTER: u16 = 10;
pub(super) const LINKINFO: u16 = 18;
pub(super) const NET_NS_FD: u16 = 28;
/// Attributes in `LINKINFO`, and in the data of a veth.
pub(super) const INFO_KIND: u16 = 1;
pub(super) const INFO_DATA: u16 = 2;
pub(super) const VETH_PEER: u16 = 1;
/// Attributes of an address.
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;

const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
/// `NLMSG_ERROR`: the answer to a request that asked for an acknowledgement, also where nothing went wrong.
const ERROR: u16 = 2;
const AF_INET: u8 = 2;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    NewLink = 16,
    DelLink = 17,
    SetLink = 19,
    NewAddress = 20,
}

/// A request, or a part of one: everything behind the message's own header.
pub(super) struct Message {
    kind: Kind,
    body: Vec<u8>,
}

impl Message {
    /// About the link with this index. Those of `flags` are set, and no others are touched.
    pub(super) fn link(kind: Kind, index: u32, flags: u32) -> Message {
        let mut message = Message { kind, body: Vec::new() };
        message.link_header(index, flags);
        message
    }

    /// About an IPv4 address of the link with this index: `struct ifaddrmsg`.
    pub(super) fn address(index: u32, prefix: u8) -> Message {
        let mut body = vec![AF_INET, prefix, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        Message { kind: Kind::NewAddress, body }
    }

    /// `struct ifinfomsg`, with which the other end of a veth begins, too.
    pub(super) fn link_header(&mut self, index: u32, flags: u32) {
        // Family, padding and type of the device: none of them is ours to say.
        self.body.extend_from_slice(&[0; 4]);
        for field in [index, flags, flags] {
            self.body.extend_from_slice(&field.to_ne_bytes());
        }
    }

    pub(super) fn bytes_of(&mut self, attribute: u16, value: &[u8]) {
        self.nest(attribute, |inside| inside.body.extend_from_slice(value));
    }

    pub(super) fn number(&mut self, attribute: u16, value: u32) {
        self.bytes_of(attribute, &value.to_ne_bytes());
    }

    /// Text ends with a zero byte.
    pub(super) fn text(&mut self, attribute: u16, value: &str) {
        self.bytes_of(attribute, &[value.as_bytes(), b"\0"].concat());
    }

    /// An attribute that `fill` writes the content of.
    pub(super) fn nest(&mut self, attribute: u16, fill: impl FnOnce(&mut Message)) {
        let start = self.body.len();
        self.body.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.body.len() - start).expect("a request is a few hundred bytes long");
        self.body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.body[start + 2..start + 4].copy_from_slice(&attribute.to_ne_bytes());
        // The padding is not part of the attribute's own length.
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    /// The whole request.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let made = match self.kind {
            Kind::NewLink | Kind::NewAddress => CREATE | EXCLUSIVE,
            Kind::DelLink | Kind::SetLink => 0,
        };
        let length = u32::try_from(HEADER + self.body.len()).expect("a request is a few hundred bytes long");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&(self.kind as u16).to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | ACK | made).to_ne_bytes());
        // Sequence number and sender: there is one request at a time, on a socket of its own.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Reads the answer to a request: an acknowledgement, or the error that the kernel has for it.
pub(super) fn acknowledged(answer: &[u8]) -> Result<()> {
    let field = |at: usize| answer.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let short = || format!("netlink answered with {} bytes, too few for an acknowledgement", answer.len());
    let announced = u32::from_ne_bytes(field(0).with_context(short)?);
    let code = i32::from_ne_bytes(field(HEADER).with_context(short)?);
    if (announced as usize) < HEADER + 4 || announced as usize > answer.len() {
        bail!("netlink answered with {} bytes that say they are {announced}", answer.len());
    }
    match u16::from_ne_bytes([answer[4], answer[5]]) {
        ERROR if code == 0 => Ok(()),
        // A number of the kernel's is negative; anything else would be no error of any kind.
        ERROR if code < 0 => Err(std::io::Error::from_raw_os_error(code.saturating_neg()).into()),
        ERROR => bail!("netlink answered with the code {code}, which is no error"),
        other => bail!("netlink answered with a message of type {other} instead of an acknowledgement"),
    }
}

#[cfg(test)]
mod tests;
