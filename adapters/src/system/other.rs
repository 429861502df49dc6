//! The same with what std has, for every other system.

use crate::streams::Streams;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// With several sockets the wait is on the first, in slices so short that the others are not kept waiting.
const SLICE: Duration = Duration::from_millis(2);

pub(super) fn no_timestamps(_: &UdpSocket) {}

pub(super) fn wait_writable(_: &UdpSocket, max: Duration) {
    std::thread::sleep(max);
}

pub(super) fn wait_readable<'a>(mut sockets: impl Iterator<Item = &'a UdpSocket>, streams: &Streams, max: Duration) {
    let Some(first) = sockets.next() else { return std::thread::sleep(max) };
    let streams = streams.hears().is_some() || !streams.all.is_empty();
    let max = if streams || sockets.next().is_some() { max.min(SLICE) } else { max };
    // A timeout of zero would mean "for ever" and is refused.
    if max.is_zero() || first.set_read_timeout(Some(max)).is_err() || first.set_nonblocking(false).is_err() {
        return;
    }
    let _ = first.peek(&mut [0]);
    let _ = first.set_nonblocking(true);
}

/// There is no portable way to limit one datagram alone, and one that lives longer than asked for is not what was asked
/// for: it is not sent.
pub(super) fn send_limited(_: &UdpSocket, _: SocketAddr, _: u8, _: &[u8]) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
