//! The few route-netlink requests that networks inside the pod need.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
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
        let mut link = LinkMessage::default();
        link.header.index = index;
        up(&mut link);
        self.ask(RouteNetlinkMessage::SetLink(link), 0).with_context(|| format!("failed to bring link {index} up"))
    }

    /// Makes the bridge with this interface index, and brings it up.
    pub fn add_bridge(&mut self, index: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        up(&mut link);
        link.attributes = vec![
            LinkAttribute::IfName(format!("br{index}")),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).context("failed to make a bridge")
    }

    /// Makes both ends of a cable, the near one up and plugged in. The far one cannot be brought up before both are
    /// there.
    pub fn add_cable(&mut self, cable: &Cable<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.header.index = cable.peer_index;
        peer.attributes = vec![
            LinkAttribute::IfName(cable.peer_name.to_owned()),
            LinkAttribute::Address(cable.peer_mac.to_vec()),
            LinkAttribute::NetNsFd(cable.namespace.as_raw_fd()),
        ];
        let mut link = LinkMessage::default();
        link.header.index = cable.index;
        up(&mut link);
        link.attributes = vec![
            LinkAttribute::IfName(format!("v{}", cable.index)),
            LinkAttribute::Controller(cable.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).context("failed to make a veth pair")
    }

    /// Removes a cable by the index of its near end; one that is gone already is fine.
    pub fn remove_cable(&mut self, index: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        match self.ask(RouteNetlinkMessage::DelLink(link), 0) {
            Err(error) if super::super::fault::errno(&error) == Some(nix::errno::Errno::ENODEV as i32) => Ok(()),
            result => result.context("failed to remove a veth pair"),
        }
    }

    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        let address = IpAddr::V4(address);
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("failed to add the address {address}"))
    }

    /// Changes the hardware address of an interface; with `arp_notify` set its neighbours learn of it at once.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::Address(mac.to_vec())];
        self.ask(RouteNetlinkMessage::SetLink(link), 0).context("failed to change a hardware address")
    }

    /// Sends one request and waits for its acknowledgement.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0).context("failed to send a netlink request")?;
        let (answer, _) = self.0.recv_from_full().context("failed to receive a netlink answer")?;
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).context("failed to read a netlink answer")?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io().into()),
            other => bail!("netlink answered {other:?} instead of an acknowledgement"),
        }
    }
}

fn up(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}
