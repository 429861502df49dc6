//! What Linux and Android can that neither std nor quinn-udp offers.

use crate::streams::Streams;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// quinn-udp from 0.6.2 on asks for receive timestamps. With a run of coalesced datagrams its room for control messages
/// (96 bytes, 0.6.3) then ends before the ECN bits, which come last: they would be lost exactly under load.
pub(super) fn no_timestamps(socket: &UdpSocket) {
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
}

pub(super) fn wait_writable(socket: &UdpSocket, max: Duration) {
    wait(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], max);
}

pub(super) fn wait_readable<'a>(sockets: impl Iterator<Item = &'a UdpSocket>, streams: &Streams, max: Duration) {
    let listener = streams.hears().map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN));
    let streams = streams.all.values().map(|s| {
        let write = if s.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        PollFd::new(s.socket.as_fd(), PollFlags::POLLIN | write)
    });
    let mut sockets = sockets.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).chain(listener).chain(streams);
    // One socket is the rule for a client, one and a listener for a server; neither costs an allocation.
    match (sockets.next(), sockets.next(), sockets.next()) {
        (Some(only), None, _) => wait(&mut [only], max),
        (Some(first), Some(second), None) => wait(&mut [first, second], max),
        (first, second, third) => {
            let all = first.into_iter().chain(second).chain(third).chain(sockets);
            wait(&mut all.collect::<Vec<_>>(), max);
        }
    }
}

/// Unlike `poll` it counts nanoseconds: a wait for the pacer is often well below a millisecond. A signal or an error ends
/// it early, which is harmless, since the caller looks at the sockets and the clock anyway.
fn wait(sockets: &mut [PollFd<'_>], max: Duration) {
    let _ = ppoll(sockets, Some(TimeSpec::from_duration(max.min(LONGEST_WAIT))), None);
}

/// Far below what the system's time type holds, and no one waits for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

pub(super) fn send_limited(socket: &UdpSocket, to: SocketAddr, hop_limit: u8, bytes: &[u8]) -> io::Result<()> {
    let limit = i32::from(hop_limit);
    let control = match to {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => ControlMessage::Ipv6HopLimit(&limit),
        _ => ControlMessage::Ipv4Ttl(&limit),
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[control], MsgFlags::empty(), Some(&to))?;
    Ok(())
}
