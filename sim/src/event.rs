//! What happens in a world, one by one: for the digest, for timelines, for packet captures.

use posse_core::{Ecn, Instant, SocketId, Wake};
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// A host or a network, by its number in the world. What has a link: a host, or (under the name of the network behind
/// it) a NAT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// A host; its link is the one to the network it is on.
    Host(usize),
    /// A network; its link is the one from its NAT to the network outside. The internet has none.
    Net(usize),
}

/// Why a packet went no further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum DropReason {
    /// Lost by chance.
    Loss,
    /// The queue of a limited link was full.
    Queue,
    /// Larger than the link takes.
    TooBig,
    /// The link is cut.
    Cut,
    /// The internet does not carry it between these two addresses at the moment.
    Blocked,
    /// Nobody has the destination address.
    NoRoute,
    /// The host has no socket on that port.
    NoSocket,
    /// It went through more routers than its hop limit allowed.
    HopLimit,
    /// The NAT has no mapping on that port.
    NoMapping,
    /// The NAT has a mapping there, which does not admit that source; or the firewall does not.
    Filtered,
    /// From inside to the NAT's own outside address, and the NAT does not hairpin.
    Hairpin,
    /// The NAT has no port left.
    NoPort,
    /// Lost in a burst of losses.
    Burst,
    /// The host is paused, and what has arrived meanwhile fills its receive buffer.
    Buffer,
    /// A firewall lets no datagrams pass.
    Firewall,
    /// A damaged TCP segment: its checksum is wrong.
    Checksum,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Queue,
        Self::TooBig,
        Self::Cut,
        Self::Blocked,
        Self::NoRoute,
        Self::NoSocket,
        Self::HopLimit,
        Self::NoMapping,
        Self::Filtered,
        Self::Hairpin,
        Self::NoPort,
        Self::Burst,
        Self::Buffer,
        Self::Firewall,
        Self::Checksum,
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "lost",
            Self::Queue => "queue full",
            Self::TooBig => "too big",
            Self::Cut => "link cut",
            Self::Blocked => "blocked",
            Self::NoRoute => "no route",
            Self::NoSocket => "no socket",
            Self::HopLimit => "hop limit",
            Self::NoMapping => "no mapping",
            Self::Filtered => "filtered",
            Self::Hairpin => "no hairpin",
            Self::NoPort => "no port left",
            Self::Burst => "lost in a burst",
            Self::Buffer => "receive buffer full",
            Self::Firewall => "UDP blocked by a firewall",
            Self::Checksum => "checksum wrong",
        })
    }
}

/// A packet as an observer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketView<'a> {
    /// Its number in this world, kept on its whole way; a duplicate has its own.
    pub id: u64,
    /// Source, as the addresses stand at this point of its way.
    pub from: SocketAddr,
    /// Destination, likewise.
    pub to: SocketAddr,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// Hop limit that it has left.
    pub hops: u8,
    /// It is a TCP segment, not a datagram.
    pub tcp: bool,
    /// UDP payload, or TCP header and payload.
    pub bytes: &'a [u8],
}

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A host sent a packet.
    Sent {
        /// Which host.
        host: usize,
        /// By which socket.
        socket: SocketId,
        /// The packet.
        packet: PacketView<'a>,
    },
    /// A host received a packet.
    Delivered {
        /// Which host.
        host: usize,
        /// On which socket.
        socket: SocketId,
        /// The packet.
        packet: PacketView<'a>,
    },
    /// A packet went no further.
    Dropped {
        /// Where: the host or NAT whose link or table it was; the internet for what it does not route.
        place: Place,
        /// Why.
        why: DropReason,
        /// The packet.
        packet: PacketView<'a>,
    },
    /// A link doubled a packet.
    Duplicated {
        /// Whose link.
        place: Place,
        /// Number of the original.
        original: u64,
        /// The copy.
        packet: PacketView<'a>,
    },
    /// A link flipped a bit of a packet.
    Corrupted {
        /// Whose link.
        place: Place,
        /// The packet, as it is now.
        packet: PacketView<'a>,
    },
    /// A packet passed a NAT.
    Translated {
        /// The network behind the NAT.
        net: usize,
        /// Source and destination before.
        before: (SocketAddr, SocketAddr),
        /// The packet, as it is now.
        packet: PacketView<'a>,
    },
    /// An IPv6 packet passed the firewall of a network, as it was.
    Passed {
        /// The network behind the firewall.
        net: usize,
        /// Whether it goes out.
        outward: bool,
        /// The packet.
        packet: PacketView<'a>,
    },
    /// A NAT opened a mapping.
    Mapped {
        /// The network behind the NAT.
        net: usize,
        /// Whose.
        inside: SocketAddr,
        /// How the outside sees it.
        outside: SocketAddr,
        /// The destination for which it was opened.
        toward: SocketAddr,
    },
    /// A machine was told that the time it had named has come.
    Woken {
        /// Which host.
        host: usize,
        /// Why it wanted to be woken.
        why: Wake,
    },
    /// The application of a host did something with its machine.
    Acted {
        /// Which host.
        host: usize,
    },
    /// A host started (its first `incarnation` is 0) or started again.
    Started {
        /// Which host.
        host: usize,
        /// How often it had started before.
        incarnation: u32,
    },
    /// A machine sent on a stream, to an address of a family that its host does not have, or by a socket that it does not have.
    Unsendable {
        /// Which host.
        host: usize,
        /// How much, in bytes.
        len: usize,
    },
    /// A host opened a socket.
    SocketOpened {
        /// Which host.
        host: usize,
        /// The socket.
        socket: SocketId,
        /// Its port.
        port: u16,
    },
    /// A link was changed, cut or healed.
    LinkChanged {
        /// Whose.
        place: Place,
        /// Whether each direction is cut now: (up, down).
        cut: (bool, bool),
    },
    /// A NAT lost its table.
    Rebooted {
        /// The network behind it.
        net: usize,
    },
    /// The internet stopped (or began again) to carry packets from one address to another.
    Blocked {
        /// From.
        from: IpAddr,
        /// To.
        to: IpAddr,
        /// Whether it is blocked now.
        blocked: bool,
    },
    /// A host was paused or goes on.
    Paused {
        /// Which host.
        host: usize,
        /// Whether it is paused now.
        paused: bool,
    },
    /// A host's clock jumped.
    ClockJumped {
        /// Which host.
        host: usize,
        /// Nanoseconds that it is ahead of the world's from now on; behind if negative.
        ahead: i64,
    },
    /// A firewall at a host or NAT blocks UDP, or lets it pass again.
    Firewall {
        /// Where.
        place: Place,
        /// Whether it blocks UDP now.
        blocked: bool,
    },
    /// A host or NAT has another address.
    Moved {
        /// Which.
        place: Place,
        /// The address.
        address: IpAddr,
    },
}

impl<'a> Event<'a> {
    /// The packet that it is about.
    pub fn packet(&self) -> Option<PacketView<'a>> {
        match *self {
            Self::Sent { packet, .. }
            | Self::Delivered { packet, .. }
            | Self::Dropped { packet, .. }
            | Self::Duplicated { packet, .. }
            | Self::Corrupted { packet, .. }
            | Self::Translated { packet, .. }
            | Self::Passed { packet, .. } => Some(packet),
            Self::Mapped { .. }
            | Self::Woken { .. }
            | Self::Acted { .. }
            | Self::Started { .. }
            | Self::Unsendable { .. }
            | Self::SocketOpened { .. }
            | Self::LinkChanged { .. }
            | Self::Rebooted { .. }
            | Self::Blocked { .. }
            | Self::Paused { .. }
            | Self::ClockJumped { .. }
            | Self::Firewall { .. }
            | Self::Moved { .. } => None,
        }
    }

    /// The same with other bytes in its packet, so that the event can be kept apart from them.
    pub(crate) fn with_bytes<'b>(self, bytes: &'b [u8]) -> Event<'b> {
        let with = |packet: PacketView<'a>| PacketView::<'b> {
            id: packet.id,
            from: packet.from,
            to: packet.to,
            ecn: packet.ecn,
            hops: packet.hops,
            tcp: packet.tcp,
            bytes,
        };
        match self {
            Self::Sent { host, socket, packet } => Event::Sent { host, socket, packet: with(packet) },
            Self::Delivered { host, socket, packet } => Event::Delivered { host, socket, packet: with(packet) },
            Self::Dropped { place, why, packet } => Event::Dropped { place, why, packet: with(packet) },
            Self::Duplicated { place, original, packet } => Event::Duplicated { place, original, packet: with(packet) },
            Self::Corrupted { place, packet } => Event::Corrupted { place, packet: with(packet) },
            Self::Translated { net, before, packet } => Event::Translated { net, before, packet: with(packet) },
            Self::Passed { net, outward, packet } => Event::Passed { net, outward, packet: with(packet) },
            Self::Mapped { net, inside, outside, toward } => Event::Mapped { net, inside, outside, toward },
            Self::Woken { host, why } => Event::Woken { host, why },
            Self::Acted { host } => Event::Acted { host },
            Self::Started { host, incarnation } => Event::Started { host, incarnation },
            Self::Unsendable { host, len } => Event::Unsendable { host, len },
            Self::SocketOpened { host, socket, port } => Event::SocketOpened { host, socket, port },
            Self::LinkChanged { place, cut } => Event::LinkChanged { place, cut },
            Self::Rebooted { net } => Event::Rebooted { net },
            Self::Blocked { from, to, blocked } => Event::Blocked { from, to, blocked },
            Self::Paused { host, paused } => Event::Paused { host, paused },
            Self::ClockJumped { host, ahead } => Event::ClockJumped { host, ahead },
            Self::Firewall { place, blocked } => Event::Firewall { place, blocked },
            Self::Moved { place, address } => Event::Moved { place, address },
        }
    }
}

/// Sees everything that happens in a world, in order.
pub trait Observer {
    /// Takes one event in.
    fn event(&mut self, at: Instant, event: &Event<'_>);
}

impl<O: Observer> Observer for Rc<RefCell<O>> {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        self.borrow_mut().event(at, event);
    }
}

/// How many packets met which end. `sent + duplicated = delivered + dropped + in flight`, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sent by hosts.
    pub sent: u64,
    /// Made by links.
    pub duplicated: u64,
    /// Received by hosts.
    pub delivered: u64,
    /// Not sent at all: see [`Event::Unsendable`].
    pub unsendable: u64,
    /// Of all packets, those with a bit flipped on the way (once for each time).
    pub corrupted: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Dropped for `why`.
    pub fn dropped(&self, why: DropReason) -> u64 {
        self.dropped[why as usize]
    }

    /// Dropped for whatever reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(crate) fn count(&mut self, event: &Event<'_>) {
        match event {
            Event::Sent { .. } => self.sent += 1,
            Event::Delivered { .. } => self.delivered += 1,
            Event::Dropped { why, .. } => self.dropped[*why as usize] += 1,
            Event::Duplicated { .. } => self.duplicated += 1,
            Event::Corrupted { .. } => self.corrupted += 1,
            Event::Unsendable { .. } => self.unsendable += 1,
            _ => {}
        }
    }
}
