//! TCP between hosts: a real stack (smoltcp), not a pipe that pretends.
//!
//! Each end of a connection is an interface of its own with one socket. Its segments travel as packets of the simulated network, by
//! the same links, NATs and firewalls as datagrams, and are lost, delayed and reordered like them. smoltcp is deterministic; it
//! has CUBIC but no SACK, and no retransmission timer below a second, so it is harsher than what systems have. Compare with
//! bare smoltcp in the same run.
//!
//! Segments carry no checksums here: what a link damages it drops. A paused host's machine stands still, its stack does not.

use posse_core::{Instant, StreamEnd, StreamId};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Bytes of a packet with a segment in it at most: what IPv6 carries everywhere, so that no link is too narrow.
const MTU: usize = 1_280;
/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;
/// The protocol number of TCP in it.
const PROTOCOL: u8 = 6;
/// Bytes of a socket's receive buffer.
const RECEIVE: usize = 64 << 10;
/// Bytes that a socket takes before it has them acknowledged: as a low `TCP_NOTSENT_LOWAT` on top of a usual window.
const SEND: usize = 32 << 10;
/// Bytes handed to a machine at once.
const CHUNK: usize = 16 << 10;

/// Flags of a TCP header.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What a machine is to be told of a connection.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum News {
    Accepted,
    Connected,
    Bytes(Vec<u8>),
    Writable,
    Closed(StreamEnd),
}

/// Packets on their way into and out of a stack.
#[derive(Default)]
struct Wire {
    arrived: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
}

struct Arrived(Vec<u8>);
struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _now: StackInstant) -> Option<(Arrived, Leaving<'_>)> {
        Some((Arrived(self.arrived.pop_front()?), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        all.medium = Medium::Ip;
        all.max_transmission_unit = MTU;
        all.checksum = ChecksumCapabilities::ignored();
        all
    }
}

/// One end of a connection.
pub(crate) struct Connection {
    pub(crate) id: StreamId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Something happened to it since it was last looked at.
    pub(crate) dirty: bool,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Wire,
    accepted: bool,
    /// The machine knows that it is open; that it is over; that what it wrote is written.
    told_open: bool,
    told_over: bool,
    owes_writable: bool,
    /// The machine closed it.
    closed: bool,
    /// Its host has another address, or crashed.
    broken: bool,
    pending: Vec<u8>,
}

impl Connection {
    /// The end that begins.
    pub(crate) fn connect(now: Instant, seed: u64, id: StreamId, local: SocketAddr, remote: SocketAddr) -> Self {
        let mut this = Self::new(now, seed, id, local, remote, false);
        let socket = this.sockets.get_mut::<Socket<'_>>(this.socket);
        let to = (IpAddress::from(remote.ip()), remote.port());
        let begun = socket.connect(this.interface.context(), to, local.port());
        this.broken = begun.is_err();
        this
    }

    /// The end that a SYN arrives at.
    pub(crate) fn accept(now: Instant, seed: u64, id: StreamId, local: SocketAddr, remote: SocketAddr) -> Self {
        let mut this = Self::new(now, seed, id, local, remote, true);
        let begun = this.sockets.get_mut::<Socket<'_>>(this.socket).listen(local.port());
        this.broken = begun.is_err();
        this
    }

    fn new(now: Instant, seed: u64, id: StreamId, local: SocketAddr, remote: SocketAddr, accepted: bool) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, stack_time(now));
        // Everybody is a neighbour: the simulated network does the routing.
        interface.update_ip_addrs(|all| _ = all.push(IpCidr::new(IpAddress::from(local.ip()), 0)));
        let mut socket = Socket::new(SocketBuffer::new(vec![0; RECEIVE]), SocketBuffer::new(vec![0; SEND]));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Cubic);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            id,
            local,
            remote,
            dirty: true,
            interface,
            sockets,
            socket,
            wire,
            accepted,
            told_open: false,
            told_over: false,
            owes_writable: false,
            closed: false,
            broken: false,
            pending: Vec::new(),
        }
    }

    /// A segment arrived; its ports are those of the addresses that it was translated to.
    pub(crate) fn segment(&mut self, segment: &[u8]) {
        let mut packet = ip_packet(self.remote, self.local, segment);
        let header = header_len(self.local);
        set_ports(&mut packet[header..], self.remote.port(), self.local.port());
        self.wire.arrived.push_back(packet);
        self.dirty = true;
    }

    /// The machine writes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.owes_writable = true;
        self.dirty = true;
    }

    /// The machine closes it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.dirty = true;
    }

    /// Nothing of it is left on its host.
    pub(crate) fn break_off(&mut self) {
        (self.broken, self.dirty) = (true, true);
    }

    /// Has the stack do what is due. What leaves goes to `send`.
    pub(crate) fn poll(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        self.dirty = false;
        if self.broken {
            return;
        }
        let now = stack_time(now);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if !self.pending.is_empty() && socket.can_send() {
            let written = socket.send_slice(&self.pending).unwrap_or(0);
            self.pending.drain(..written);
        }
        if self.closed && self.pending.is_empty() {
            socket.close();
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let header = header_len(self.local);
        for packet in self.wire.leaving.drain(..) {
            send(packet.get(header..).unwrap_or_default());
        }
    }

    /// The next thing that the machine is to be told.
    pub(crate) fn news(&mut self) -> Option<News> {
        if self.told_over || self.closed {
            return None;
        }
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        let state = if self.broken { State::Closed } else { socket.state() };
        if !self.told_open && matches!(state, State::Established | State::CloseWait) {
            self.told_open = true;
            return Some(if self.accepted { News::Accepted } else { News::Connected });
        }
        if !self.broken && self.told_open && socket.can_recv() {
            let read = socket.recv(|bytes| {
                let part = bytes[..bytes.len().min(CHUNK)].to_vec();
                (part.len(), part)
            });
            // The window is open again.
            self.dirty = true;
            return read.ok().map(News::Bytes);
        }
        if matches!(state, State::Closed | State::CloseWait | State::TimeWait) {
            (self.told_over, self.closed, self.dirty) = (true, true, true);
            let end = match state {
                State::Closed if !self.told_open => StreamEnd::Refused,
                State::Closed => StreamEnd::Reset,
                _ => StreamEnd::Finished,
            };
            // Who was never told of it need not be told that it is over.
            return (self.told_open || !self.accepted).then_some(News::Closed(end));
        }
        if self.told_open && self.owes_writable && self.pending.is_empty() {
            self.owes_writable = false;
            return Some(News::Writable);
        }
        None
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_gone(&mut self) -> bool {
        let state = self.sockets.get_mut::<Socket<'_>>(self.socket).state();
        let over = self.broken || matches!(state, State::Closed | State::TimeWait);
        over && (self.told_over || self.closed)
    }

    /// When the stack wants to be polled again.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.broken {
            return None;
        }
        let at = self.interface.poll_at(stack_time(now), &self.sockets)?;
        // Its clock has microseconds; nothing happens twice in one.
        let at = Instant(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1_000));
        Some(at.max(Instant(now.0 / 1_000 * 1_000 + 1_000)))
    }
}

/// Whether a segment asks for a connection.
pub(crate) fn is_syn(segment: &[u8]) -> bool {
    segment.get(13).is_some_and(|flags| flags & (SYN | ACK | RST) == SYN)
}

/// What answers a segment that belongs to no connection (RFC 9293 §3.5.2); nothing if it is such an answer itself.
pub(crate) fn reset(segment: &[u8]) -> Option<Vec<u8>> {
    let (head, flags) = (segment.first_chunk::<20>()?, *segment.get(13)?);
    if flags & RST != 0 {
        return None;
    }
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let data = segment.len().saturating_sub(usize::from(head[12] >> 4) * 4);
    let length = data as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let mut answer = vec![0; 20];
    answer[..2].copy_from_slice(&head[2..4]);
    answer[2..4].copy_from_slice(&head[..2]);
    if flags & ACK != 0 {
        answer[4..8].copy_from_slice(&number(8).to_be_bytes());
        answer[13] = RST;
    } else {
        answer[8..12].copy_from_slice(&number(4).wrapping_add(length).to_be_bytes());
        answer[13] = RST | ACK;
    }
    answer[12] = 5 << 4;
    Some(answer)
}

fn header_len(of: SocketAddr) -> usize {
    if of.is_ipv6() { IPV6_HEADER } else { IPV4_HEADER }
}

/// An IPv4 (RFC 791) or IPv6 packet (RFC 8200) around a segment, both ends of one family. Its checksum is not looked at.
fn ip_packet(from: SocketAddr, to: SocketAddr, segment: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; header_len(to)];
    let bytes = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet[0] = 4 << 4 | 5;
            packet[2..4].copy_from_slice(&bytes(IPV4_HEADER + segment.len()));
            (packet[8], packet[9]) = (64, PROTOCOL);
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
        }
        (from, IpAddr::V6(to)) => {
            let from = if let IpAddr::V6(from) = from { from } else { to };
            packet[0] = 6 << 4;
            packet[4..6].copy_from_slice(&bytes(segment.len()));
            (packet[6], packet[7]) = (PROTOCOL, 64);
            packet[8..24].copy_from_slice(&from.octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
        (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    packet.extend_from_slice(segment);
    packet
}

fn set_ports(segment: &mut [u8], from: u16, to: u16) {
    if let Some(ports) = segment.first_chunk_mut::<4>() {
        let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
        *ports = [a, b, c, d];
    }
}

fn stack_time(at: Instant) -> StackInstant {
    StackInstant::from_micros(i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX))
}
