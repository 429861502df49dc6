//! One UDP socket: segmentation and coalescing (GSO, GRO), ECN and local addresses by way of quinn-udp.
//!
//! A socket bound to an unspecified IPv6 address also carries IPv4. The system then writes IPv4 addresses as
//! `::ffff:a.b.c.d`; machines never see that form: it is undone on the way in and redone on the way out.

use crate::streams::Streams;
use posse_core::{Ecn, SendFailure, SocketId};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Asked of the system for each direction: 2 MiB hold 100 ms of full-size datagrams at 160 Mbit/s. A system that grants
/// less does so silently, and loss recovery covers the rest.
const SOCKET_BUFFER: usize = 2 << 20;

/// Most bytes that one send of several segments may carry: the largest IPv4 payload less the UDP header.
const MAX_SEND: usize = 65_507;

/// A stand-in for "somewhere on the internet" that nobody has (RFC 5737, RFC 3849). Nothing is ever sent to it.
const SOMEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port.
    #[error("UDP port {} on {} is taken: end the program that uses it, or choose another port (0 lets the system choose)", .0.port(), .0.ip())]
    PortTaken(SocketAddr),
    /// Another program has the TCP port of that number, which a server needs beside the UDP port.
    #[error("TCP port {} on {} is taken (UDP of that number is free): end the program that uses it, or choose another port", .0.port(), .0.ip())]
    TcpPortTaken(SocketAddr),
    /// The system does not allow it.
    #[error("not allowed to bind {0}: choose a port above 1023, or grant this program the right to low ports")]
    Denied(SocketAddr),
    /// No interface has the address.
    #[error("this host has no address {}: choose one of its own, or 0.0.0.0 or [::] for all of them", .0.ip())]
    NoSuchAddress(SocketAddr),
    /// The system has no such address family.
    #[error("this system has no {}: choose an address of the other family", if .0.is_ipv6() { "IPv6" } else { "IPv4" })]
    NoSuchFamily(SocketAddr),
    /// Anything else.
    #[error("cannot bind {addr}: {source}")]
    Other {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    /// Of a TCP port.
    pub(crate) fn tcp(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::TcpPortTaken(addr),
            _ => Self::new(addr, source),
        }
    }

    fn new(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::PortTaken(addr),
            ErrorKind::PermissionDenied => Self::Denied(addr),
            ErrorKind::AddrNotAvailable => Self::NoSuchAddress(addr),
            ErrorKind::Unsupported => Self::NoSuchFamily(addr),
            // Creating a socket of a family that the kernel lacks has no kind of its own.
            _ if addr.is_ipv6() && UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() => Self::NoSuchFamily(addr),
            _ => Self::Other { addr, source },
        }
    }
}

/// What became of a send.
pub(crate) enum Sent {
    Yes,
    /// The system's buffer is full.
    Full,
    Failed(SendFailure),
    /// For a reason that no machine could act on.
    Lost,
}

pub(crate) struct Udp {
    pub(crate) id: SocketId,
    pub(crate) local: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Udp {
    pub(crate) fn bind(id: SocketId, addr: SocketAddr) -> Result<Self, BindError> {
        Self::open(id, addr).map_err(|source| BindError::new(addr, source))
    }

    fn open(id: SocketId, addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Where a system refuses both families on one socket, IPv6 alone is what is left.
            let _ = socket.set_only_v6(false);
        }
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        system::no_timestamps(&socket);
        Ok(Self { id, local: socket.local_addr()?, socket, state })
    }

    /// How many segments one send may carry at this time; falls to 1 once the system proved unable.
    pub(crate) fn max_segments(&self) -> u16 {
        u16::try_from(self.state.max_gso_segments()).unwrap_or(u16::MAX).max(1)
    }

    /// Another handle to the same socket, to be told when there is something to read.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_clone(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Fills buffers with what has arrived, without waiting.
    pub(crate) fn receive(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let count = self.state.recv((&self.socket).into(), buffers, meta)?;
        for m in meta.iter_mut().take(count) {
            m.addr.set_ip(m.addr.ip().to_canonical());
            m.dst_ip = m.dst_ip.map(|ip| ip.to_canonical());
        }
        Ok(count)
    }

    /// Sends `rest`, whole or cut into segments of `segment` bytes, and leaves in it what the system did not take.
    pub(crate) fn send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        ecn: Ecn,
        segment: Option<u16>,
        rest: &mut &[u8],
    ) -> Sent {
        // Port 0 is no destination, yet a stranger can put it into a source address; the system's answer to it (EINVAL)
        // would be taken for a sign that segmentation and ECN do not work here.
        if to.port() == 0 || (to.is_ipv6() && self.local.is_ipv4()) {
            return Sent::Failed(SendFailure::Unreachable);
        }
        let segment = segment.map_or(rest.len(), usize::from).max(1);
        let at_once = (MAX_SEND / segment).min(usize::from(self.max_segments())).max(1);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(segment.saturating_mul(at_once)));
            let transmit = Transmit {
                destination: self.as_own_family(to),
                ecn: EcnCodepoint::from_bits(ecn.bits()),
                contents: part,
                segment_size: Some(segment),
                src_ip: from.map(|ip| self.as_own_family(SocketAddr::new(ip, 0)).ip()),
            };
            if let Err(error) = self.state.try_send((&self.socket).into(), &transmit) {
                return self.judge(&error, part.len() > segment);
            }
            *rest = after;
        }
        Sent::Yes
    }

    fn judge(&self, error: &io::Error, segmented: bool) -> Sent {
        // quinn-udp saw EIO or EINVAL, the two that a system without working segmentation gives.
        if segmented && self.max_segments() == 1 {
            return Sent::Failed(SendFailure::NoSegmentation);
        }
        if quinn_udp::is_msg_size_err(error) {
            return Sent::Failed(SendFailure::TooBig);
        }
        match error.kind() {
            ErrorKind::WouldBlock => Sent::Full,
            // EPERM is what a local firewall's drop looks like.
            ErrorKind::PermissionDenied => Sent::Failed(SendFailure::Denied),
            ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::Unsupported => Sent::Failed(SendFailure::Unreachable),
            _ => Sent::Lost,
        }
    }

    fn as_own_family(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(v4) if self.local.is_ipv6() => SocketAddr::new(v4.to_ipv6_mapped().into(), addr.port()),
            _ => addr,
        }
    }

    /// Sends one datagram that lives for `hop_limit` routers. The socket's own limit is not touched: it serves everybody.
    /// The system chooses the source address.
    pub(crate) fn send_limited(&self, to: SocketAddr, hop_limit: u8, bytes: &[u8]) -> Sent {
        match system::send_limited(&self.socket, self.as_own_family(to), hop_limit, bytes) {
            Ok(()) => Sent::Yes,
            Err(error) => self.judge(&error, false),
        }
    }

    /// Waits until the system's buffer takes another datagram, or `max` is over.
    pub(crate) fn wait_writable(&self, max: Duration) {
        system::wait_writable(&self.socket, max);
    }
}

/// Waits until one of `sockets` can be read, or `max` is over.
pub(crate) fn wait_readable(sockets: &[Udp], streams: &Streams, max: Duration) {
    system::wait_readable(sockets.iter().map(|s| &s.socket), streams, max);
}

/// The address to bind a client's socket to that is to reach `server`, and by the other family whoever else has it: `[::]` where this
/// system carries both families on one socket.
pub(crate) fn any_for(server: SocketAddr) -> SocketAddr {
    let both = || -> io::Result<bool> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0).into())?;
        // A system that is told to have no IPv6 may still give such a socket.
        Ok(!socket.only_v6()?)
    };
    let ipv6 = server.is_ipv6() || both().unwrap_or(false);
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// This host's IPv6 address, if what is bound to `bound` carries both families and it has one that is neither of its network alone
/// nor of itself.
pub(crate) fn global_ipv6(bound: SocketAddr) -> Option<Ipv6Addr> {
    let mut found = Vec::new();
    if bound.is_ipv6() && bound.ip().is_unspecified() {
        own_addresses(bound, &mut found);
    }
    found.into_iter().find_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_unique_local() && !ip.is_unicast_link_local() && !ip.is_loopback() => Some(ip),
        _ => None,
    })
}

/// The addresses that this host would talk from, one a family, as the routing table has it. Nothing is sent.
pub(crate) fn own_addresses(bound: SocketAddr, found: &mut Vec<IpAddr>) {
    found.clear();
    if !bound.ip().is_unspecified() {
        found.push(bound.ip());
        return;
    }
    let families = if bound.is_ipv6() { &SOMEWHERE[..] } else { &SOMEWHERE[..1] };
    for somewhere in families {
        let any: IpAddr = if somewhere.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let source = UdpSocket::bind((any, 0)).and_then(|s| s.connect(somewhere).and_then(|()| s.local_addr()));
        if let Ok(source) = source
            && !source.ip().is_loopback()
            && !source.ip().is_unspecified()
        {
            found.push(source.ip());
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "system/linux.rs"]
mod system;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "system/other.rs"]
mod system;
