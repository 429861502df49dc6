//! One number for everything that happened: 128 bits of SipHash-1-3 with fixed keys over every event, with its time and
//! its bytes. Two runs are the same run exactly if their digests are equal (but for a chance of 2^-128).

use crate::event::{DropReason, Event, PacketView, Place};
use posse_core::Instant;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

/// The running digest.
pub(crate) struct Digest {
    hasher: SipHasher13,
    events: u64,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908), events: 0 }
    }

    /// Over everything so far.
    pub(crate) fn value(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    /// How many events that were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Adds one event. Each kind begins with a number of its own and has a fixed length, but for a packet's bytes, which
    /// follow their length: no two sequences of events give the same bytes. A packet's bytes count where they come from
    /// or change; where it is delivered, its number stands for them.
    pub(crate) fn add(&mut self, at: Instant, event: &Event<'_>) {
        self.events += 1;
        let mut fields = Fields { bytes: [0; FIELDS * 8], used: 0 };
        fields.number(at.0);
        let payload = fields.event(event);
        self.hasher.write(fields.bytes.get(..fields.used).unwrap_or_default());
        self.hasher.write(payload);
    }
}

/// Numbers that the longest event has: an IPv6 packet that was sent or damaged.
const FIELDS: usize = 11;
/// What an IPv6 address begins with; one of IPv4 and its port are less.
const IPV6: u64 = 1 << 56;

/// An event's numbers, gathered so that the hasher is fed once.
struct Fields {
    bytes: [u8; FIELDS * 8],
    used: usize,
}

impl Fields {
    /// Takes the numbers of `event` and returns the bytes that belong to it beside them.
    fn event<'a>(&mut self, event: &Event<'a>) -> &'a [u8] {
        match *event {
            Event::Sent { host, socket, packet } => {
                self.head(0, host, u64::from(socket.0));
                return self.packet(packet);
            }
            Event::Delivered { host, socket, packet } => {
                self.head(1, host, u64::from(socket.0));
                self.packet(packet);
            }
            Event::Dropped { place, why, packet } => {
                // Which chance lost a packet is no part of what happened: a list of what chances came to is the same run.
                let why = if why == DropReason::Burst { DropReason::Loss } else { why };
                self.place(2, place, why as u64);
                self.number(packet.id);
            }
            Event::Duplicated { place, original, packet } => {
                self.place(3, place, original);
                self.number(packet.id);
            }
            Event::Corrupted { place, packet } => {
                self.place(4, place, 0);
                return self.packet(packet);
            }
            Event::Translated { net, before: (from, to), packet } => {
                self.head(5, net, packet.id);
                [from, to, packet.from, packet.to].into_iter().for_each(|a| self.address(a));
            }
            Event::Passed { net, outward, packet } => {
                self.head(19, net, packet.id);
                self.number(u64::from(outward));
            }
            Event::Mapped { net, inside, outside, toward } => {
                self.head(6, net, 0);
                [inside, outside, toward].into_iter().for_each(|a| self.address(a));
            }
            Event::Woken { host, why } => self.head(7, host, why as u64),
            Event::Acted { host } => self.head(8, host, 0),
            Event::Started { host, incarnation } => self.head(9, host, u64::from(incarnation)),
            Event::SocketOpened { host, socket, port } => {
                self.head(10, host, u64::from(socket.0) << 16 | u64::from(port));
            }
            Event::LinkChanged { place, cut: (up, down) } => {
                self.place(11, place, u64::from(up) << 1 | u64::from(down));
            }
            Event::Rebooted { net } => self.head(12, net, 0),
            Event::Blocked { from: IpAddr::V4(from), to: IpAddr::V4(to), blocked } => {
                self.head(13, usize::from(blocked), u64::from(from.to_bits()) << 32 | u64::from(to.to_bits()));
            }
            Event::Blocked { from, to, blocked } => {
                self.head(20, usize::from(blocked), 0);
                [from, to].into_iter().for_each(|ip| self.address(SocketAddr::new(ip, 0)));
            }
            Event::Unsendable { host, len } => self.head(14, host, len as u64),
            Event::Paused { host, paused } => self.head(15, host, u64::from(paused)),
            Event::ClockJumped { host, ahead } => self.head(16, host, ahead.cast_unsigned()),
            Event::Firewall { place, blocked } => self.place(18, place, u64::from(blocked)),
            Event::Moved { place, address: IpAddr::V4(address) } => self.place(17, place, u64::from(address.to_bits())),
            Event::Moved { place, address } => {
                self.place(21, place, 0);
                self.address(SocketAddr::new(address, 0));
            }
        }
        &[]
    }

    fn head(&mut self, kind: u8, who: usize, detail: u64) {
        self.number(u64::from(kind) << 56 | who as u64);
        self.number(detail);
    }

    fn place(&mut self, kind: u8, place: Place, detail: u64) {
        let (is_net, who) = match place {
            Place::Host(host) => (0, host),
            Place::Net(net) => (1, net),
        };
        self.head(kind, who | is_net << 48, detail);
    }

    fn packet<'a>(&mut self, packet: PacketView<'a>) -> &'a [u8] {
        self.number(packet.id);
        self.address(packet.from);
        self.address(packet.to);
        self.number(u64::from(packet.tcp) << 40 | u64::from(packet.ecn.bits()) << 32 | packet.bytes.len() as u64);
        packet.bytes
    }

    fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => self.number(u64::from(ip.to_bits()) << 16 | u64::from(address.port())),
            IpAddr::V6(ip) => {
                self.number(IPV6 | u64::from(address.port()));
                self.number((ip.to_bits() >> 64) as u64);
                self.number(ip.to_bits() as u64);
            }
        }
    }

    fn number(&mut self, number: u64) {
        let place = self.bytes.get_mut(self.used..self.used + 8).expect("no event has more numbers than FIELDS");
        place.copy_from_slice(&number.to_le_bytes());
        self.used += 8;
    }
}
