//! The network between hosts: a tree of networks, NATs between them, links, and the packets under way.
//!
//! The internet is the root. A network behind a NAT hangs on another network by the NAT's link. Within a network a packet
//! finds its destination among the hosts and NATs attached to it, or leaves through the network's NAT; the networks
//! themselves take no time. Hosts have a private or public IPv4 address, an IPv6 address (`network/ipv6.rs`), or both; NATs one outside
//! address.

mod ipv6;

use crate::digest::Digest;
use crate::event::{Counters, DropReason, Event, Observer, PacketView, Place};
use crate::link::{Fate, Link, Mishap, Retiming, Way, Wire};
use crate::nat::{Firewall, FirewallBox, Nat, NatBox, Outbound};
use crate::queue::{Due, Queue};
use posse_core::{Ecn, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

pub(crate) use ipv6::{HEADER_MORE, net_of};

/// The first public address less one. A block in real use; nothing here ever leaves the process.
const PUBLIC: u32 = u32::from_be_bytes([5, 0, 0, 0]);
/// The private block of RFC 1918; each network behind a NAT gets 2^16 addresses of it.
const PRIVATE: u32 = u32::from_be_bytes([10, 0, 0, 0]);
/// Blocks of 2^16 private addresses before they begin again (private networks do not see each other).
const PRIVATE_BLOCKS: u32 = 256;
/// Hosts and NATs that one private network has addresses for.
const PRIVATE_HOSTS: usize = (1 << 16) - 3;

/// What systems set as hop limit unless told otherwise.
const HOP_LIMIT: u8 = 64;
/// Routers that a packet meets in the internet; each NAT is one more.
const INTERNET_HOPS: u8 = 8;

/// Bytes that a TCP segment's packet has less than [`crate::HEADERS`]: its own header is part of what it carries.
const NO_UDP_HEADER: usize = 8;
/// How long a NAT keeps a mapping of an established connection: RFC 5382 REQ-5.
const TCP_LIFETIME: posse_core::Duration = posse_core::Duration::from_secs(2 * 3600 + 240);
/// Streams of randomness of NATs' mappings for TCP.
const TCP_NATS: u64 = 1 << 32;

/// A network of hosts: the internet, or one behind a NAT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Net(pub(crate) usize);

impl Net {
    pub(crate) const INTERNET: Self = Self(0);
}

impl From<Net> for Place {
    fn from(net: Net) -> Self {
        Self::Net(net.0)
    }
}

/// Which kinds of address a host has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Families {
    /// IPv4 alone.
    #[default]
    V4,
    /// Both, where its network has IPv6; else IPv4.
    Both,
    /// IPv6 alone, where its network has it; else none.
    V6,
}

impl Families {
    /// Whether IPv4 is among them.
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is among them.
    pub fn has_v6(self) -> bool {
        self != Self::V4
    }
}

/// A datagram that a host puts on its link.
pub(crate) struct Datagram<'a> {
    pub(crate) host: usize,
    pub(crate) socket: posse_core::SocketId,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Ecn,
    pub(crate) hop_limit: Option<u8>,
    pub(crate) tcp: bool,
    pub(crate) bytes: &'a [u8],
}

/// A packet under way. Slots are reused, and with them the memory of the bytes.
pub(crate) struct Packet {
    id: u64,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Ecn,
    hops: u8,
    pub(crate) tcp: bool,
    /// When it left, or leaves, the queue of the wire that it is on, in ns; and whether it arrives in order.
    sent: u64,
    in_order: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Packet {
    pub(crate) fn view(&self) -> PacketView<'_> {
        let Self { id, from, to, ecn, hops, tcp, ref bytes, .. } = *self;
        PacketView { id, from, to, ecn, hops, tcp, bytes }
    }
}

/// What is attached to a network by a link: a host, or the NAT of another network. Its wires are numbered 2n (up) and
/// 2n + 1 (down).
struct Attachment {
    place: Place,
    on: usize,
    /// Of a host; a NAT's outside has IPv4, and a way for the IPv6 of its network.
    families: Families,
    /// Nobody is there any more.
    gone: bool,
}

struct NetState {
    /// The address of the first attachment.
    first: u32,
    /// Attachments in the order of their addresses; none where the address was given up.
    attached: Vec<Option<usize>>,
    /// The way out; none from the internet.
    gateway: Option<Gateway>,
    /// Whether there is IPv6.
    ipv6: bool,
}

struct Gateway {
    nat: NatBox,
    /// Its mappings for TCP.
    tcp: NatBox,
    /// The firewalls before its IPv6 addresses, for datagrams and for TCP.
    walls: Option<[FirewallBox; 2]>,
    attachment: usize,
}

impl Gateway {
    fn of(&mut self, tcp: bool) -> &mut NatBox {
        if tcp { &mut self.tcp } else { &mut self.nat }
    }

    fn reboot(&mut self) {
        self.nat.reboot();
        self.tcp.reboot();
        self.walls.iter_mut().flatten().for_each(FirewallBox::reboot);
    }
}

/// Everything that is told of what happens.
pub(crate) struct Log {
    pub(crate) digest: Digest,
    pub(crate) counters: Counters,
    pub(crate) observers: Vec<Box<dyn Observer>>,
}

impl Log {
    pub(crate) fn event(&mut self, now: Instant, event: &Event<'_>) {
        self.digest.add(now, event);
        self.counters.count(event);
        for observer in &mut self.observers {
            observer.event(now, event);
        }
    }
}

/// See the module's text.
pub(crate) struct Network {
    seed: u64,
    nets: Vec<NetState>,
    attachments: Vec<Attachment>,
    wires: Vec<Wire>,
    packets: Vec<Packet>,
    free: Vec<u32>,
    next_id: u64,
    blocked: BTreeSet<(IpAddr, IpAddr)>,
    /// Where a firewall drops datagrams.
    udp_blocked: BTreeSet<Place>,
    /// What is to happen on links that are yet to be made.
    mishaps: BTreeMap<(Place, Way), Vec<(u64, Mishap)>>,
    watched: bool,
    pub(crate) queue: Queue,
    pub(crate) log: Log,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            nets: vec![NetState { first: PUBLIC + 1, attached: Vec::new(), gateway: None, ipv6: true }],
            attachments: Vec::new(),
            wires: Vec::new(),
            packets: Vec::new(),
            free: Vec::new(),
            next_id: 0,
            blocked: BTreeSet::new(),
            udp_blocked: BTreeSet::new(),
            mishaps: BTreeMap::new(),
            watched: false,
            queue: Queue::default(),
            log: Log { digest: Digest::new(), counters: Counters::default(), observers: Vec::new() },
        }
    }

    /// A new network behind `nat`, which is attached to `outside`.
    pub(crate) fn add_net(&mut self, outside: Net, nat: Nat, link: Link) -> Net {
        let net = self.nets.len();
        let (attachment, address) = self.attach(outside, Place::Net(net), Families::V4, link);
        let block = PRIVATE + (net as u32 % PRIVATE_BLOCKS) * (1 << 16);
        let for_tcp = nat.clone().lifetime(TCP_LIFETIME);
        let tcp = NatBox::new(self.seed, TCP_NATS | net as u64, address, for_tcp);
        let ipv6 = nat.ipv6.clone().filter(|_| self.nets[outside.0].ipv6);
        let walls = ipv6.map(|wall| {
            let for_tcp = Firewall { lifetime: TCP_LIFETIME, ..wall.clone() };
            [FirewallBox::new(wall), FirewallBox::new(for_tcp)]
        });
        let ipv6 = walls.is_some();
        let gateway = Gateway { nat: NatBox::new(self.seed, net as u64, address, nat), tcp, walls, attachment };
        // .0 is the network and .1 the NAT's inside address.
        self.nets.push(NetState { first: block + 2, attached: Vec::new(), gateway: Some(gateway), ipv6 });
        Net(net)
    }

    /// Attaches a host to `on`. Its attachment and address.
    pub(crate) fn add_host(&mut self, on: Net, host: usize, families: Families, link: Link) -> (usize, Ipv4Addr) {
        self.attach(on, Place::Host(host), families, link)
    }

    /// One more address for what is attached there, by the same link.
    pub(crate) fn add_address(&mut self, attachment: usize) -> Ipv4Addr {
        let on = Net(self.attachments[attachment].on);
        self.claim(on, attachment).expect("a private network has 65,533 addresses")
    }

    fn attach(&mut self, on: Net, place: Place, families: Families, link: Link) -> (usize, Ipv4Addr) {
        let attachment = self.attachments.len();
        self.attachments.push(Attachment { place, on: on.0, families, gone: false });
        for (way, direction) in [(Way::Up, link.up), (Way::Down, link.down)] {
            let mut wire = Wire::new(self.seed, self.wires.len() as u64, direction);
            wire.mishaps.list(self.mishaps.remove(&(place, way)).unwrap_or_default());
            if self.watched {
                wire.mishaps.watch();
            }
            self.wires.push(wire);
        }
        (attachment, self.claim(on, attachment).expect("a private network has 65,533 addresses"))
    }

    /// An address for what is attached to `on`; one that was given up only if no other is left.
    fn claim(&mut self, on: Net, attachment: usize) -> Option<Ipv4Addr> {
        let net = &mut self.nets[on.0];
        let index = if on == Net::INTERNET || net.attached.len() < PRIVATE_HOSTS {
            net.attached.push(None);
            net.attached.len() - 1
        } else {
            net.attached.iter().position(Option::is_none)?
        };
        net.attached[index] = Some(attachment);
        Some(Ipv4Addr::from_bits(net.first + index as u32))
    }

    /// `address` on `on` is nobody's any more.
    fn give_up(&mut self, on: usize, address: Ipv4Addr) {
        let net = &mut self.nets[on];
        let index = address.to_bits().checked_sub(net.first).map(|index| index as usize);
        if let Some(slot) = index.and_then(|index| net.attached.get_mut(index)) {
            *slot = None;
        }
    }

    /// The address under which the internet sees what `net` sends; none for the internet itself.
    pub(crate) fn public_address(&self, net: Net) -> Option<Ipv4Addr> {
        let gateway = self.nets[net.0].gateway.as_ref()?;
        let outside = self.attachments[gateway.attachment].on;
        self.public_address(Net(outside)).or(Some(gateway.nat.outside()))
    }

    /// Where `net` leads to and the address that its NAT has there; nowhere from the internet.
    pub(crate) fn outside(&self, net: Net) -> Option<(Net, Ipv4Addr)> {
        let gateway = self.nets[net.0].gateway.as_ref()?;
        Some((Net(self.attachments[gateway.attachment].on), gateway.nat.outside()))
    }

    /// Packets that are neither delivered nor dropped.
    pub(crate) fn in_flight(&self) -> u64 {
        (self.packets.len() - self.free.len()) as u64
    }

    /// Puts a datagram on its host's link, at `attachment`.
    pub(crate) fn send(&mut self, now: Instant, attachment: usize, datagram: &Datagram<'_>) {
        let Datagram { host, socket, from, to, ecn, hop_limit, tcp, bytes } = *datagram;
        let slot = self.packet(from, to, ecn, hop_limit.unwrap_or(HOP_LIMIT), tcp, bytes);
        let packet = self.packets[slot as usize].view();
        self.log.event(now, &Event::Sent { host, socket, packet });
        self.transmit(now, attachment * 2, slot);
    }

    /// A packet comes out of a wire. If that is at a host, the caller delivers it: `Some` is the host.
    pub(crate) fn arrive(&mut self, now: Instant, wire: u32, slot: u32) -> Option<usize> {
        let attachment = &self.attachments[wire as usize / 2];
        let Attachment { place, on, gone, .. } = *attachment;
        match place {
            _ if wire.is_multiple_of(2) => self.route(now, on, slot),
            _ if gone => self.drop(now, place, DropReason::NoRoute, slot),
            Place::Host(host) => return Some(host),
            Place::Net(net) => self.enter(now, net, slot),
        }
        None
    }

    /// The packet in `slot`.
    pub(crate) fn packet_mut(&mut self, slot: u32) -> &mut Packet {
        &mut self.packets[slot as usize]
    }

    /// Its way is over; the slot is free.
    pub(crate) fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Its way ends here.
    pub(crate) fn drop(&mut self, now: Instant, place: Place, why: DropReason, slot: u32) {
        let packet = self.packets[slot as usize].view();
        self.log.event(now, &Event::Dropped { place, why, packet });
        self.release(slot);
    }

    /// Finds the way of a packet that is in `net`.
    fn route(&mut self, now: Instant, net: usize, slot: u32) {
        let packet = &self.packets[slot as usize];
        let (from, to, tcp) = (packet.from, packet.to, packet.tcp);
        if net == Net::INTERNET.0 {
            if self.blocked.contains(&(from.ip(), to.ip())) {
                return self.drop(now, Place::Net(net), DropReason::Blocked, slot);
            }
            if !self.hop(now, net, INTERNET_HOPS, slot) {
                return;
            }
        }
        let (from, to) = match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => (from, to),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => return self.route_ipv6(now, net, slot, from, to),
            _ => return self.drop(now, Place::Net(net), DropReason::NoRoute, slot),
        };
        if let Some(attachment) = self.find(net, *to.ip()) {
            return self.transmit(now, attachment * 2 + 1, slot);
        }
        let Some(gateway) = &mut self.nets[net].gateway else {
            return self.drop(now, Place::Net(net), DropReason::NoRoute, slot);
        };
        if *to.ip() == gateway.nat.outside() {
            return match gateway.of(tcp).hairpin(now, from, to) {
                Ok((out, inside)) => {
                    self.translate(now, net, slot, out, inside);
                    if self.hop(now, net, 1, slot) {
                        self.route(now, net, slot);
                    }
                }
                Err(why) => self.drop(now, Place::Net(net), why, slot),
            };
        }
        let attachment = gateway.attachment;
        match gateway.of(tcp).outbound(now, from, to) {
            Ok(out) => {
                self.translate(now, net, slot, out, to);
                if self.hop(now, net, 1, slot) {
                    self.transmit(now, attachment * 2, slot);
                }
            }
            Err(why) => self.drop(now, Place::Net(net), why, slot),
        }
    }

    /// A packet from outside meets the NAT of `net`.
    fn enter(&mut self, now: Instant, net: usize, slot: u32) {
        let packet = &self.packets[slot as usize];
        let (from, to, tcp) = match (packet.from, packet.to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => (from, to, packet.tcp),
            _ => return self.enter_ipv6(now, net, slot),
        };
        let Some(gateway) = &mut self.nets[net].gateway else { return };
        match gateway.of(tcp).inbound(now, from, to.port()) {
            Ok(inside) => {
                self.translate(now, net, slot, Outbound { from, created: false }, inside);
                if self.hop(now, net, 1, slot) {
                    self.route(now, net, slot);
                }
            }
            Err(why) => self.drop(now, Place::Net(net), why, slot),
        }
    }

    /// Rewrites a packet's addresses as a NAT decided.
    fn translate(&mut self, now: Instant, net: usize, slot: u32, out: Outbound, to: SocketAddrV4) {
        let packet = &mut self.packets[slot as usize];
        let before = (packet.from, packet.to);
        (packet.from, packet.to) = (out.from.into(), to.into());
        if out.created {
            let mapped = Event::Mapped { net, inside: before.0, outside: out.from.into(), toward: before.1 };
            self.log.event(now, &mapped);
        }
        self.log.event(now, &Event::Translated { net, before, packet: packet.view() });
    }

    /// Takes `hops` off a packet's hop limit. False: it was dropped for it.
    fn hop(&mut self, now: Instant, net: usize, hops: u8, slot: u32) -> bool {
        let packet = &mut self.packets[slot as usize];
        packet.hops = packet.hops.saturating_sub(hops);
        if packet.hops == 0 {
            self.drop(now, Place::Net(net), DropReason::HopLimit, slot);
            return false;
        }
        true
    }

    /// What has `address` in `net`.
    fn find(&self, net: usize, address: Ipv4Addr) -> Option<usize> {
        let net = &self.nets[net];
        let index = address.to_bits().checked_sub(net.first)?;
        let attachment = net.attached.get(index as usize).copied().flatten();
        attachment.filter(|at| self.attachments[*at].families.has_v4())
    }

    /// Puts a packet on a wire.
    fn transmit(&mut self, now: Instant, wire: usize, slot: u32) {
        let place = self.attachments[wire / 2].place;
        let packet = &self.packets[slot as usize];
        if !packet.tcp && self.udp_blocked.contains(&place) {
            return self.drop(now, place, DropReason::Firewall, slot);
        }
        let more = if packet.to.is_ipv6() { HEADER_MORE } else { 0 };
        let (tcp, len) = (packet.tcp, packet.bytes.len() + more);
        match self.wires[wire].pass(now, if tcp { len.saturating_sub(NO_UDP_HEADER) } else { len }) {
            Fate::Dropped(why) => self.drop(now, place, why, slot),
            Fate::Arrives { flipped: Some(_), .. } if tcp => self.drop(now, place, DropReason::Checksum, slot),
            Fate::Arrives { at, flipped, copy, marked } => {
                let packet = &mut self.packets[slot as usize];
                packet.ecn = match packet.ecn {
                    _ if self.wires[wire].config().clears_ecn => Ecn::NotCapable,
                    Ecn::Ect0 | Ecn::Ect1 if marked => Ecn::Ce,
                    kept => kept,
                };
                (packet.sent, packet.in_order) = (self.wires[wire].sent(now), self.wires[wire].in_order(at));
                let copy = copy.map(|at| (at, self.copy(now, place, slot)));
                if let Some(bit) = flipped {
                    let packet = &mut self.packets[slot as usize];
                    if let Some(byte) = packet.bytes.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                    self.log.event(now, &Event::Corrupted { place, packet: packet.view() });
                }
                for (at, packet) in [(at, slot)].into_iter().chain(copy) {
                    self.queue.push(at, Due::Arrival { wire: wire as u32, packet });
                }
            }
        }
    }

    /// A second packet like the one in `slot`.
    fn copy(&mut self, now: Instant, place: Place, slot: u32) -> u32 {
        let original = &mut self.packets[slot as usize];
        let Packet { id, from, to, ecn, hops, tcp, sent, .. } = *original;
        let bytes = std::mem::take(&mut original.bytes);
        let copy = self.packet(from, to, ecn, hops, tcp, &bytes);
        self.packets[slot as usize].bytes = bytes;
        self.packets[copy as usize].sent = sent;
        let packet = self.packets[copy as usize].view();
        self.log.event(now, &Event::Duplicated { place, original: id, packet });
        copy
    }

    /// A slot with a new packet in it.
    fn packet(&mut self, from: SocketAddr, to: SocketAddr, ecn: Ecn, hops: u8, tcp: bool, bytes: &[u8]) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.packets.push(Packet { id, from, to, ecn, hops, tcp, sent: 0, in_order: false, bytes: Vec::new() });
            (self.packets.len() - 1) as u32
        });
        let packet = &mut self.packets[slot as usize];
        let mut memory = std::mem::take(&mut packet.bytes);
        memory.clear();
        memory.extend_from_slice(bytes);
        *packet = Packet { id, from, to, ecn, hops, tcp, sent: 0, in_order: false, bytes: memory };
        slot
    }
}

/// What can be changed while the world runs.
impl Network {
    /// The link of `place`. The internet has none.
    pub(crate) fn link(&self, place: Place) -> Option<Link> {
        let up = self.wires_of(place)?;
        Some(Link { up: self.wires[up].config(), down: self.wires[up + 1].config() })
    }

    pub(crate) fn set_link(&mut self, now: Instant, place: Place, link: Link) {
        let Some(up) = self.wires_of(place) else { return };
        for (wire, direction) in [(up, link.up), (up + 1, link.down)] {
            if let Some(retiming) = self.wires[wire].set_config(now, direction) {
                self.retime(wire, retiming);
            }
        }
        self.changed(now, place);
    }

    /// Has mishaps happen to packets of one direction of a link, by their ordinals on it, from 0.
    pub(crate) fn set_mishaps(&mut self, place: Place, way: Way, all: Vec<(u64, Mishap)>) {
        match self.wires_of(place) {
            Some(up) => self.wires[up + usize::from(way == Way::Down)].mishaps.list(all),
            None => _ = self.mishaps.insert((place, way), all),
        }
    }

    /// Has mishaps of all links written down from now on.
    pub(crate) fn watch_mishaps(&mut self) {
        self.watched = true;
        self.wires.iter_mut().for_each(|wire| wire.mishaps.watch());
    }

    /// What was written down.
    pub(crate) fn mishaps(&self, place: Place, way: Way) -> &[(u64, Mishap)] {
        self.wires_of(place).map_or(&[], |up| self.wires[up + usize::from(way == Way::Down)].mishaps.seen())
    }

    /// What waits for a wire's rate leaves at another, and so arrives at another time, in the same order.
    fn retime(&mut self, wire: usize, retiming: Retiming) {
        let Self { queue, packets, wires, .. } = self;
        let mut last = None;
        queue.move_arrivals(wire as u32, |at, slot| {
            let packet = &mut packets[slot as usize];
            let sent = retiming.moved(packet.sent);
            let moved = Instant(at.0.saturating_sub(packet.sent).saturating_add(sent));
            packet.sent = sent;
            if !packet.in_order {
                return moved;
            }
            *last.insert(moved.max(last.unwrap_or(moved)))
        });
        if let Some(last) = last {
            wires[wire].set_last_arrival(last);
        }
    }

    /// Cuts or heals each direction: `Some(true)` cuts, `None` leaves as is.
    pub(crate) fn set_cut(&mut self, now: Instant, place: Place, up: Option<bool>, down: Option<bool>) {
        self.change(now, place, |wire, is_down| {
            if let Some(cut) = if is_down { down } else { up } {
                wire.cut = cut;
            }
        });
    }

    fn change(&mut self, now: Instant, place: Place, mut change: impl FnMut(&mut Wire, bool)) {
        let Some(up) = self.wires_of(place) else { return };
        change(&mut self.wires[up], false);
        change(&mut self.wires[up + 1], true);
        self.changed(now, place);
    }

    fn changed(&mut self, now: Instant, place: Place) {
        let Some(up) = self.wires_of(place) else { return };
        let cut = (self.wires[up].cut, self.wires[up + 1].cut);
        self.log.event(now, &Event::LinkChanged { place, cut });
    }

    fn wires_of(&self, place: Place) -> Option<usize> {
        match place {
            Place::Host(_) => self.attachments.iter().position(|a| a.place == place && !a.gone).map(|n| n * 2),
            Place::Net(net) => self.nets.get(net)?.gateway.as_ref().map(|g| g.attachment * 2),
        }
    }

    /// Whether the internet carries packets from one public address to another.
    pub(crate) fn set_blocked(&mut self, now: Instant, from: IpAddr, to: IpAddr, blocked: bool) {
        if blocked {
            self.blocked.insert((from, to));
        } else {
            self.blocked.remove(&(from, to));
        }
        self.log.event(now, &Event::Blocked { from, to, blocked });
    }

    /// Whether a firewall there drops datagrams.
    pub(crate) fn block_udp(&mut self, now: Instant, place: Place, blocked: bool) {
        if blocked {
            self.udp_blocked.insert(place);
        } else {
            self.udp_blocked.remove(&place);
        }
        self.log.event(now, &Event::Firewall { place, blocked });
    }

    pub(crate) fn reboot(&mut self, now: Instant, net: Net) {
        if let Some(gateway) = &mut self.nets[net.0].gateway {
            gateway.reboot();
            self.log.event(now, &Event::Rebooted { net: net.0 });
        }
    }

    /// The same, and the NAT has another outside address. Its old one if there is no other.
    pub(crate) fn reboot_elsewhere(&mut self, now: Instant, net: Net) {
        let Some(gateway) = &self.nets[net.0].gateway else { return };
        let (attachment, old) = (gateway.attachment, gateway.nat.outside());
        let on = self.attachments[attachment].on;
        let address = self.claim(Net(on), attachment);
        if address.is_some() {
            self.give_up(on, old);
        }
        let address = address.unwrap_or(old);
        if let Some(gateway) = &mut self.nets[net.0].gateway {
            gateway.reboot();
            gateway.nat.reboot_as(address);
            gateway.tcp.reboot_as(address);
        }
        self.log.event(now, &Event::Rebooted { net: net.0 });
        self.log.event(now, &Event::Moved { place: Place::Net(net.0), address: address.into() });
    }

    /// A host leaves its attachment for a new one. What is under way to it is lost, what comes from it is not.
    pub(crate) fn move_host(
        &mut self,
        now: Instant,
        from: (usize, Ipv4Addr),
        on: Net,
        link: Link,
    ) -> (usize, Ipv4Addr) {
        let (old, address) = from;
        let place = self.attachments[old].place;
        self.attachments[old].gone = true;
        let Attachment { on: outside, families, .. } = self.attachments[old];
        let (attachment, new) = self.attach(on, place, families, link);
        // Packets are counted by whose they are: nothing passes the old link any more, and the new one counts on.
        for wire in 0..2 {
            self.wires[attachment * 2 + wire].mishaps = std::mem::take(&mut self.wires[old * 2 + wire].mishaps);
        }
        self.give_up(outside, address);
        let v4 = Some(IpAddr::from(new)).filter(|_| families.has_v4());
        for address in v4.into_iter().chain(self.ipv6_of(attachment, new).map(IpAddr::from)) {
            self.log.event(now, &Event::Moved { place, address });
        }
        (attachment, new)
    }

    pub(crate) fn nat_of(&self, net: Net) -> Option<&NatBox> {
        self.nets[net.0].gateway.as_ref().map(|g| &g.nat)
    }
}
