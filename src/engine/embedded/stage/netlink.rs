//! The few route-netlink requests that networks inside the pod need, encoded by hand: see rtnetlink(7).

mod message;

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use message::{Kind, Message, UP, acknowledged};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `lo` is the first interface of every network namespace.
const LOOPBACK: u32 = 1;

/// A route-netlink socket. It stays with the network namespace it was opened in.
pub struct Netlink(Socket);

/// A cable between a bridge here and a container's network namespace.
pub struct Cable<'a> {
    /// The bridge, and the index of the cable's end there. Without it the kernel would not let us choose the other
    /// end's index either.
    pub bridge: u32,
    pub index: u32,
    /// Name, index and hardware address of the container's end.
    pub peer_name: &'a str,
    pub peer_index: u32,
    pub peer_mac: [u8; 6],
    pub namespace: BorrowedFd<'a>,
}

impl Netlink {
    pub fn open() -> Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("failed to open a netlink socket")?;
        socket.bind_auto().context("failed to bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("failed to connect a netlink socket")?;
        Ok(Netlink(socket))
    }

    pub fn loopback_up(&mut self) -> Result<()> {
        self.bring_up(LOOPBACK)
    }

    pub fn bring_up(&mut self, index: u32) -> Result<()> {
        self.ask(&set_up(index)).with_context(|| format!("failed to bring link {index} up"))
    }

    /// Makes the bridge with this interface index, and brings it up.
    pub fn add_bridge(&mut self, index: u32) -> Result<()> {
        self.ask(&new_bridge(index)).context("failed to make a bridge")
    }

    /// Makes both ends of a cable, the near one up and plugged in. The far one cannot be brought up before both are
    /// there.
    pub fn add_cable(&mut self, cable: &Cable<'_>) -> Result<()> {
        self.ask(&new_cable(cable)).context("failed to make a veth pair")
    }

    /// Removes a cable by the index of its near end; one that is gone already is fine.
    pub fn remove_cable(&mut self, index: u32) -> Result<()> {
        match self.ask(&Message::link(Kind::DelLink, index, 0)) {
            Err(error) if super::super::fault::errno(&error) == Some(nix::errno::Errno::ENODEV as i32) => Ok(()),
            result => result.context("failed to remove a veth pair"),
        }
    }

    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        self.ask(&new_address(index, address, prefix)).with_context(|| format!("failed to add the address {address}"))
    }

    /// Changes the hardware address of an interface; with `arp_notify` set its neighbours learn of it at once.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<()> {
        self.ask(&new_mac(index, mac)).context("failed to change a hardware address")
    }

    /// Sends one request and waits for its acknowledgement.
    fn ask(&mut self, message: &Message) -> Result<()> {
        self.0.send(&message.bytes(), 0).context("failed to send a netlink request")?;
        let (answer, _) = self.0.recv_from_full().context("failed to receive a netlink answer")?;
        acknowledged(&answer)
    }
}

fn set_up(index: u32) -> Message {
    Message::link(Kind::SetLink, index, UP)
}

fn new_bridge(index: u32) -> Message {
    let mut link = Message::link(Kind::NewLink, index, UP);
    link.text(message::IFNAME, &format!("br{index}"));
    link.nest(message::LINKINFO, |info| info.text(message::INFO_KIND, "bridge"));
    link
}

fn new_cable(cable: &Cable<'_>) -> Message {
    let mut link = Message::link(Kind::NewLink, cable.index, UP);
    link.text(message::IFNAME, &format!("v{}", cable.index));
    link.number(message::MASTER, cable.bridge);
    link.nest(message::LINKINFO, |info| {
        info.text(message::INFO_KIND, "veth");
        info.nest(message::INFO_DATA, |data| {
            data.nest(message::VETH_PEER, |peer| {
                peer.link_header(cable.peer_index, 0);
                peer.text(message::IFNAME, cable.peer_name);
                peer.bytes_of(message::ADDRESS, &cable.peer_mac);
                peer.bytes_of(message::NET_NS_FD, &cable.namespace.as_raw_fd().to_ne_bytes());
            });
        });
    });
    link
}

fn new_address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let mut message = Message::address(index, prefix);
    message.bytes_of(message::IFA_LOCAL, &address.octets());
    message.bytes_of(message::IFA_ADDRESS, &address.octets());
    message
}

fn new_mac(index: u32, mac: [u8; 6]) -> Message {
    let mut link = Message::link(Kind::SetLink, index, 0);
    link.bytes_of(message::ADDRESS, &mac);
    link
}

/// The bytes are those that the crate `netlink-packet-route` 0.34 made of the same requests.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    const MAC: [u8; 6] = [2, 0x42, 10, 89, 0, 2];

    fn check(message: &Message, expected: &str) {
        let bytes = message.bytes();
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), expected.replace(' ', ""));
        // What the kernel itself looks at first.
        assert_eq!(bytes.len() as u32, u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")));
    }

    #[test]
    fn a_link_is_brought_up_changed_and_removed() {
        check(&set_up(7), "20000000 1300 0500 0000000000000000 00000000 07000000 01000000 01000000");
        check(
            &new_mac(9, MAC),
            "2c000000 1300 0500 0000000000000000 00000000 09000000 00000000 00000000 0a000100 02420a590002 0000",
        );
        check(
            &Message::link(Kind::DelLink, 8, 0),
            "20000000 1100 0500 0000000000000000 00000000 08000000 00000000 00000000",
        );
    }

    #[test]
    fn a_bridge_is_made_with_its_name_and_its_kind() {
        check(
            &new_bridge(7),
            "38000000 1000 0506 0000000000000000 00000000 07000000 01000000 01000000 \
             08000300 62723700 10001200 0b000100 62726964676500 00",
        );
    }

    #[test]
    fn a_cable_has_its_other_end_inside() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let namespace = file.as_fd();
        let fd = data_encoding::HEXLOWER.encode(&namespace.as_raw_fd().to_le_bytes());
        let cable = Cable { bridge: 7, index: 8, peer_name: "eth0", peer_index: 9, peer_mac: MAC, namespace };
        let expected = format!(
            "78000000 1000 0506 0000000000000000 00000000 08000000 01000000 01000000 \
             07000300 763800 00 08000a00 07000000 48001200 09000100 7665746800 000000 38000200 34000100 \
             00000000 09000000 00000000 00000000 09000300 6574683000 000000 0a000100 02420a590002 0000 08001c00 {fd}"
        );
        check(&new_cable(&cable), &expected);
    }

    #[test]
    fn an_address_stands_there_as_both_of_its_kinds() {
        check(
            &new_address(7, Ipv4Addr::new(10, 89, 0, 1), 24),
            "28000000 1400 0506 0000000000000000 02180000 07000000 08000200 0a590001 08000100 0a590001",
        );
    }
}
