//! TCP connections of a driver: those it accepts, those its machine asked for. Nothing in here waits.
//!
//! A machine owns what is to be sent; a connection holds one frame at most, partly written. `TCP_NODELAY` is set, so that no
//! frame waits for the next one, and where the system has it a low `TCP_NOTSENT_LOWAT`, so that it takes no more than the network
//! does and what is urgent can still overtake what is not.

use crate::socket::BindError;
use posse_core::{StreamEnd, StreamId};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Connections that wait to be accepted: as many as a burst of players after a restart.
const BACKLOG: i32 = 1_024;
/// Connections accepted in one update.
pub(crate) const MAX_ACCEPTS: usize = 64;
/// Reads of one connection in one update.
const MAX_READS: usize = 4;
/// How long a connection that was closed here may take to be closed there: what came meanwhile has to be read, or the
/// system would take the last word back.
const CLOSING: Duration = Duration::from_secs(2);
/// Who waits is left alone for so long when one could not be accepted, which is mostly for want of file descriptors.
pub(crate) const DEAF: Duration = Duration::from_millis(100);
/// Bytes that a connection takes beyond what it has sent, where the system lets one say so: two frames and what TCP needs to fill
/// a segment.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT: u32 = 4 << 10;
/// Streams that were accepted are numbered from here on, apart from those that a machine asked for.
const FIRST_ACCEPTED: u64 = 1 << 32;

/// What a machine is to be told of a stream.
pub(crate) enum News {
    Connected,
    Writable,
    Closed(StreamEnd),
}

/// One connection.
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    connecting: bool,
    /// What of the last frame is not written yet.
    pending: Vec<u8>,
    owes_writable: bool,
    /// Closed by the machine; gone then at the latest.
    closing: Option<Instant>,
    over: Option<StreamEnd>,
}

impl Stream {
    /// Whether it waits to write, or to be open.
    #[cfg(any(feature = "tokio", target_os = "linux", target_os = "android"))]
    pub(crate) fn wants_write(&self) -> bool {
        self.connecting || !self.pending.is_empty()
    }

    fn write(&mut self) {
        while !self.pending.is_empty() && self.over.is_none() {
            match self.socket.write(&self.pending) {
                Ok(0) => self.over = Some(StreamEnd::Reset),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.over = Some(StreamEnd::Reset),
            }
        }
    }

    /// Whether a connection that was begun is open by now, or never will be.
    fn check_connecting(&mut self) -> Option<News> {
        if let Ok(Some(_)) | Err(_) = self.socket.take_error() {
            self.over = Some(StreamEnd::Refused);
            return None;
        }
        // Not connected yet, says the system until it is.
        self.socket.peer_addr().ok()?;
        self.connecting = false;
        Some(News::Connected)
    }
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Streams {
    listener: Option<TcpListener>,
    deaf_until: Option<Instant>,
    pub(crate) all: BTreeMap<StreamId, Stream>,
    accepted: u64,
    /// How often one came or went.
    pub(crate) changes: u64,
}

impl Streams {
    /// Accepts connections to `addr` from now on.
    pub(crate) fn listen(&mut self, addr: SocketAddr) -> Result<(), BindError> {
        let listen = || -> io::Result<TcpListener> {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            if addr.is_ipv6() && addr.ip().is_unspecified() {
                let _ = socket.set_only_v6(false);
            }
            // A server that comes back must not wait for its old connections to be forgotten. On Windows the same option
            // means that somebody else may take the port.
            #[cfg(unix)]
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        self.listener = Some(listen().map_err(|source| BindError::tcp(addr, source))?);
        self.changes += 1;
        Ok(())
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn listener(&self) -> Option<&TcpListener> {
        self.listener.as_ref()
    }

    /// The same, unless nobody can be accepted for now.
    pub(crate) fn hears(&self) -> Option<&TcpListener> {
        self.listener.as_ref().filter(|_| self.deaf_until.is_none())
    }

    /// Begins a connection. False if it cannot even be begun.
    pub(crate) fn connect(&mut self, id: StreamId, to: SocketAddr) -> bool {
        let begin = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            match socket.connect(&to.into()) {
                Ok(()) => {}
                Err(e) if in_progress(&e) => {}
                Err(e) => return Err(e),
            }
            Ok(socket.into())
        };
        let Some(socket) = begin().ok().filter(|_| !self.all.contains_key(&id)) else { return false };
        self.add(id, socket, true);
        true
    }

    fn add(&mut self, id: StreamId, socket: TcpStream, connecting: bool) {
        let _ = socket.set_nodelay(true);
        low_watermark(&socket);
        let stream =
            Stream { socket, connecting, pending: Vec::new(), owes_writable: false, closing: None, over: None };
        self.all.insert(id, stream);
        self.changes += 1;
    }

    /// The machine is done with it.
    pub(crate) fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.all.get_mut(&id) {
            let _ = stream.socket.shutdown(Shutdown::Write);
            stream.closing = Some(Instant::now() + CLOSING);
            if stream.connecting {
                stream.over = Some(StreamEnd::Refused);
            }
        }
    }

    /// The connection after `last`, or the first.
    pub(crate) fn after(&self, last: Option<StreamId>) -> Option<StreamId> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.range((from, Bound::Unbounded)).next().map(|(id, _)| *id)
    }

    /// Nobody can look after it.
    #[cfg(feature = "tokio")]
    pub(crate) fn fail(&mut self, id: StreamId) {
        if let Some(stream) = self.all.get_mut(&id) {
            stream.over = Some(StreamEnd::Reset);
        }
    }

    /// The machine hands a frame over. It hands over one at a time.
    pub(crate) fn write(&mut self, id: StreamId, frame: &[u8]) {
        if let Some(stream) = self.all.get_mut(&id).filter(|s| s.closing.is_none()) {
            stream.pending.extend_from_slice(frame);
            stream.owes_writable = true;
            stream.write();
        }
    }

    /// Accepts whoever waits. What is to be told comes from [`Self::news`].
    pub(crate) fn accept(&mut self, mut tell: impl FnMut(StreamId, SocketAddr)) {
        self.deaf_until = self.deaf_until.filter(|until| Instant::now() < *until);
        for _ in 0..MAX_ACCEPTS {
            match self.hears().map(TcpListener::accept) {
                Some(Ok((socket, from))) => {
                    if let Some((id, from)) = self.adopt(socket, from) {
                        tell(id, from);
                    }
                }
                Some(Err(e)) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Some(Err(e)) => {
                    self.deaf_until = (e.kind() != ErrorKind::WouldBlock).then(|| Instant::now() + DEAF);
                    return;
                }
                None => return,
            }
        }
    }

    /// Takes a connection over that was accepted.
    pub(crate) fn adopt(&mut self, socket: TcpStream, mut from: SocketAddr) -> Option<(StreamId, SocketAddr)> {
        socket.set_nonblocking(true).ok()?;
        from.set_ip(from.ip().to_canonical());
        self.accepted += 1;
        let id = StreamId(FIRST_ACCEPTED + self.accepted);
        self.add(id, socket, false);
        Some((id, from))
    }

    /// Reads one connection, within bounds; what came goes to `take`. Whether it was emptied.
    pub(crate) fn read(&mut self, id: StreamId, buffer: &mut [u8], mut take: impl FnMut(&mut [u8])) -> bool {
        let Some(stream) = self.all.get_mut(&id) else { return true };
        for _ in 0..MAX_READS {
            if stream.connecting || stream.over.is_some() {
                return true;
            }
            match stream.socket.read(buffer) {
                Ok(0) => stream.over = Some(StreamEnd::Finished),
                Ok(read) if stream.closing.is_none() => take(buffer.get_mut(..read).unwrap_or_default()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => stream.over = Some(StreamEnd::Reset),
            }
        }
        false
    }

    /// What became of one connection since it was last asked for; repeatedly, until `None`. One that is over is gone then.
    pub(crate) fn news(&mut self, id: StreamId) -> Option<News> {
        let stream = self.all.get_mut(&id)?;
        if stream.connecting && stream.over.is_none() {
            let news = stream.check_connecting();
            if news.is_some() {
                return news;
            }
        }
        stream.write();
        let late = stream.closing.is_some_and(|until| Instant::now() >= until);
        if let Some(end) = stream.over.or(late.then_some(StreamEnd::Reset)) {
            let told = stream.closing.is_none();
            self.all.remove(&id);
            self.changes += 1;
            return told.then_some(News::Closed(end));
        }
        if stream.owes_writable && stream.pending.is_empty() && stream.closing.is_none() {
            stream.owes_writable = false;
            return Some(News::Writable);
        }
        None
    }

    /// Whether there is something to look at again soon, of which the system says nothing: a connection that is closing, or
    /// somebody who could not be accepted.
    pub(crate) fn needs_look(&self) -> bool {
        self.deaf_until.is_some() || self.all.values().any(|s| s.closing.is_some())
    }
}

/// An address like `addr`, whose port is 0, with a port that is free for UDP and TCP, if one is soon found: the system chooses for one
/// of them and knows nothing of the other.
pub(crate) fn free_for_both(addr: SocketAddr) -> Option<SocketAddr> {
    (0..16).find_map(|_| {
        let udp = std::net::UdpSocket::bind(addr).ok()?;
        let both = SocketAddr::new(addr.ip(), udp.local_addr().ok()?.port());
        TcpListener::bind(both).ok().map(|_| both)
    })
}

/// Has the system take only so much that it has not sent yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn low_watermark(socket: &TcpStream) {
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn low_watermark(_: &TcpStream) {}

fn in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no kind of its own everywhere.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) {
        return true;
    }
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    if error.raw_os_error() == Some(36) {
        return true;
    }
    error.kind() == ErrorKind::WouldBlock
}
