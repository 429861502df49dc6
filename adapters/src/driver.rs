//! Drives any [`Machine`] over real UDP sockets, from a loop that is the application's own.
//!
//! 1. [`Driver::update`] hands in what has arrived and what is due, and sends what the machine has to say. It catches up
//!    as far as its bounds allow and never waits for the network.
//! 2. The application looks at its machine ([`Driver::machine_mut`]) and calls [`Driver::flush`] to send at once what it
//!    gave it.
//! 3. [`Driver::wait`] sleeps until a datagram or the machine's own time, whichever is first.
//!
//! What the machine asks for and this driver has not (port mappings) is answered with the input that says so.
//! The driver's memory is allocated at the start; a packet allocates nothing.

use crate::recording::Recording;
use crate::socket::{self, BindError, Sent, Udp};
use crate::streams::{News, Streams};
use posse_core::{
    Ecn, Input, Instant, Machine, Outbox, Request, SendFailure, SocketId, SocketInput, StreamEnd, StreamId,
    StreamInput, Transmit, Via,
};
use quinn_udp::RecvMeta;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a receive buffer: the longest run of coalesced datagrams that a system hands over.
const RECEIVE_BUFFER: usize = 65_535;
/// Buffers filled by one system call. Each may hold up to 64 datagrams, so more would cost memory and bring little.
const RECEIVE_BATCH: usize = if quinn_udp::BATCH_SIZE < 8 { quinn_udp::BATCH_SIZE } else { 8 };
/// Receiving system calls an update makes on one socket, so that a flood cannot hold the application's frame.
const MAX_RECEIVES: usize = 32;
/// Bytes the outbox holds: two of the largest sends of several segments, and room for the small ones between.
const OUTBOX_BYTES: usize = 256 << 10;
/// Sends the outbox holds.
const OUTBOX_SENDS: usize = 256;
/// Once less is left in the outbox, it is emptied before the next batch is handed in.
const OUTBOX_LOW: usize = OUTBOX_BYTES / 2;
/// Times that an update fills the outbox: 8 MiB, more than a socket's buffer takes at once.
const MAX_TRANSMITS: usize = 32;
/// Requests an update carries out.
const MAX_REQUESTS: usize = 256;
/// Sockets beside the first: the most that birthday probing is known to use.
const MAX_EXTRA_SOCKETS: usize = 256;
/// How long in all an update waits for a full send buffer before it drops datagrams: what a frame can spare.
const SEND_PATIENCE: Duration = Duration::from_millis(1);
/// Bytes read of a TCP connection at once.
const STREAM_READ: usize = 32 << 10;
/// A connection that is being closed is looked at so often.
const CLOSING_CHECK: Duration = Duration::from_millis(100);
/// How often an update asks the system for the host's addresses. A change of network is noticed by its silence anyway.
const ADDRESS_CHECK: Duration = Duration::from_secs(5);
/// How often the machine is told what time it is: tickets expire by it, which nobody counts in fractions of this.
const TIME_CHECK: Duration = Duration::from_secs(10);

/// Why a driver cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The socket can no longer be read, as on a phone that was asleep: bind a new driver.
    #[error("the UDP socket is broken, bind a new one: {0}")]
    Socket(#[source] io::Error),
}

/// What a driver has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DriverStats {
    /// Bytes received, headers of UDP and IP aside.
    pub received_bytes: u64,
    /// Batches received: runs of coalesced datagrams, handed to the machine as one input each.
    pub received_batches: u64,
    /// Bytes sent, headers of UDP and IP aside.
    pub sent_bytes: u64,
    /// Sends, of one or several segments each.
    pub sends: u64,
    /// Sends dropped because the system's buffer stayed full.
    pub dropped: u64,
    /// Sends that the system refused.
    pub failed: u64,
    /// Times that it slept, in [`Driver::wait`] or in a runtime, and came back.
    pub wakeups: u64,
}

/// See the module's text.
pub struct Driver<M> {
    machine: M,
    io: Io,
    buffers: Vec<u8>,
    addresses: Vec<IpAddr>,
    addresses_due: Instant,
    /// When the machine is next told what time it is.
    time_due: Instant,
}

impl<M: Machine> Driver<M> {
    /// Binds `addr` and drives `machine` from now on. The machine's time begins here: construct it at
    /// [`Instant::ZERO`].
    pub fn bind(addr: SocketAddr, machine: M) -> Result<Self, BindError> {
        Self::begin(addr, machine, Recording::default())
    }

    /// The same, and what is sent is told to the recording that `machine` is tapped for.
    pub(crate) fn begin(addr: SocketAddr, machine: M, recording: Recording) -> Result<Self, BindError> {
        let main = Udp::bind(SocketId::MAIN, addr)?;
        let (local, max_segments) = (main.local, main.max_segments());
        let mut driver = Self {
            machine,
            io: Io::new(main, recording),
            buffers: vec![0; RECEIVE_BUFFER * RECEIVE_BATCH],
            addresses: Vec::new(),
            addresses_due: Instant::ZERO,
            time_due: Instant::ZERO,
        };
        driver.input(Input::Socket(SocketId::MAIN, SocketInput::Opened { local, max_segments }));
        driver.check_addresses();
        driver.check_time();
        Ok(driver)
    }

    /// Binds one more socket, which the machine calls `id`, for as long as the driver lives.
    pub(crate) fn bind_more(&mut self, id: SocketId, addr: SocketAddr) -> Result<(), BindError> {
        let socket = Udp::bind(id, addr)?;
        let opened = SocketInput::Opened { local: socket.local, max_segments: socket.max_segments() };
        self.io.sockets.push(socket);
        self.io.changes += 1;
        self.input(Input::Socket(id, opened));
        Ok(())
    }

    /// Accepts TCP connections to the port number of the first socket, for as long as the driver lives: of clients whose UDP
    /// does not get through.
    pub fn listen(&mut self) -> Result<(), BindError> {
        self.io.streams.listen(self.local_addr())
    }

    /// Catches up with the network and the clock, within bounds and without waiting.
    pub fn update(&mut self) -> Result<(), UpdateError> {
        let mut index = 0;
        while let Some(socket) = self.io.sockets.get(index) {
            let id = socket.id;
            self.receive(id)?;
            // Unless it broke, and another one is in its place.
            index += usize::from(self.io.sockets.get(index).is_some_and(|s| s.id == id));
        }
        self.receive_streams();
        self.catch_up();
        Ok(())
    }

    /// Accepts who waits, and hands in what has arrived by TCP.
    pub(crate) fn receive_streams(&mut self) {
        let mut accepted = Vec::new();
        self.io.streams.accept(|id, from| accepted.push((id, from)));
        for (id, from) in accepted {
            self.input(Input::Stream(id, StreamInput::Accepted { from }));
        }
        let mut last = None;
        while let Some(id) = self.io.streams.after(last) {
            self.receive_stream(id);
            last = Some(id);
        }
    }

    /// Hands in what has arrived by one stream, and what became of it. Whether it was emptied.
    pub(crate) fn receive_stream(&mut self, id: StreamId) -> bool {
        let now = self.now();
        let Self { machine, io: Io { streams, out, stats, .. }, buffers, .. } = self;
        let part = buffers.get_mut(..STREAM_READ).unwrap_or_default();
        let emptied = streams.read(id, part, |bytes| {
            stats.received_bytes += bytes.len() as u64;
            machine.handle(now, Input::Stream(id, StreamInput::Bytes(bytes)), out);
        });
        self.io.flush(&mut self.machine, now);
        self.tell_stream(id);
        emptied
    }

    /// Writes what one stream has not written yet. Whether all is.
    #[cfg(feature = "tokio")]
    pub(crate) fn write_stream(&mut self, id: StreamId) -> bool {
        self.tell_stream(id);
        self.io.streams.all.get(&id).is_none_or(|stream| !stream.wants_write())
    }

    /// Ends a stream that the runtime cannot look after.
    #[cfg(feature = "tokio")]
    pub(crate) fn fail_stream(&mut self, id: StreamId) {
        self.io.streams.fail(id);
        self.tell_stream(id);
    }

    /// Takes a connection over that the runtime accepted.
    #[cfg(feature = "tokio")]
    pub(crate) fn adopt(&mut self, socket: std::net::TcpStream, from: SocketAddr) {
        if let Some((id, from)) = self.io.streams.adopt(socket, from) {
            self.input(Input::Stream(id, StreamInput::Accepted { from }));
        }
    }

    /// When to look after connections that are being closed.
    #[cfg(feature = "tokio")]
    pub(crate) fn closing_check(&self) -> Option<Instant> {
        self.io.streams.needs_look().then(|| self.now() + CLOSING_CHECK)
    }

    fn tell_stream(&mut self, id: StreamId) {
        while let Some(news) = self.io.streams.news(id) {
            let input = match news {
                News::Connected => StreamInput::Connected,
                News::Writable => StreamInput::Writable,
                News::Closed(end) => StreamInput::Closed(end),
            };
            self.input(Input::Stream(id, input));
        }
    }

    /// Hands in what has arrived at one socket, within bounds. Whether it was emptied.
    pub(crate) fn receive(&mut self, id: SocketId) -> Result<bool, UpdateError> {
        self.io.patience = SEND_PATIENCE;
        match self.receive_batches(id) {
            Ok(emptied) => Ok(emptied),
            Err(error) if id == SocketId::MAIN => Err(UpdateError::Socket(error)),
            Err(_) => {
                self.close(id);
                Ok(true)
            }
        }
    }

    /// Catches up with the clock, and sends what the machine has to say.
    pub(crate) fn catch_up(&mut self) {
        self.io.patience = SEND_PATIENCE;
        self.check_addresses();
        self.check_time();
        if self.machine.wake().is_some_and(|(at, _)| at <= self.now()) {
            self.input(Input::Wake);
        }
        self.drain();
    }

    /// Closes a socket and tells the machine so.
    pub(crate) fn close(&mut self, id: SocketId) {
        self.io.sockets.retain(|s| s.id != id);
        self.io.changes += 1;
        self.input(Input::Socket(id, SocketInput::Closed));
    }

    /// The sockets, and how often there were others.
    #[cfg(feature = "tokio")]
    pub(crate) fn sockets(&self) -> (&[Udp], &Streams, u64) {
        (&self.io.sockets, &self.io.streams, self.io.changes + self.io.streams.changes)
    }

    /// It slept and came back.
    #[cfg(feature = "tokio")]
    pub(crate) fn woken(&mut self) {
        self.io.stats.wakeups += 1;
    }

    /// The system's clock at a time of the machine; `None` if it cannot say so.
    #[cfg(feature = "tokio")]
    pub(crate) fn clock(&self, at: Instant) -> Option<std::time::Instant> {
        self.io.origin.checked_add(Duration::from_nanos(at.0))
    }

    /// Sends what the machine has to say, and carries out what it asks for.
    pub fn flush(&mut self) {
        self.io.patience = SEND_PATIENCE;
        self.drain();
    }

    /// Sleeps until a datagram is there, the machine's time has come, or `max` is over.
    pub fn wait(&mut self, max: Duration) {
        let now = self.now();
        let until_wake = self.machine.wake().map_or(Duration::MAX, |(at, _)| at.since(now));
        let sleep = max.min(until_wake);
        if !sleep.is_zero() {
            let sleep = if self.io.streams.needs_look() { sleep.min(CLOSING_CHECK) } else { sleep };
            socket::wait_readable(&self.io.sockets, &self.io.streams, sleep);
            self.io.stats.wakeups += 1;
        }
    }

    /// The machine's time: what has passed since [`Self::bind`].
    pub fn now(&self) -> Instant {
        self.io.now()
    }

    /// The time when [`Self::now`] was looked at last: for polls, which are many and mostly follow [`Self::update`] at once.
    pub(crate) fn latest(&self) -> Instant {
        self.io.latest.get()
    }

    /// Where the first socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.io.sockets.first().map_or(SocketAddr::from(([0; 4], 0)), |main| main.local)
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to give it something to do; [`Self::flush`] or the next update sends what comes of it.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Why the recording ended early, once.
    #[cfg(feature = "recorder")]
    pub(crate) fn recording_error(&self) -> Option<io::Error> {
        self.io.recording.take_error()
    }

    /// What was done so far.
    pub fn stats(&self) -> DriverStats {
        self.io.stats
    }

    fn drain(&mut self) {
        for _ in 0..MAX_REQUESTS {
            let Some(request) = self.machine.request() else { break };
            self.carry_out(request);
        }
        for _ in 0..MAX_TRANSMITS {
            let now = self.now();
            self.machine.transmit(now, &mut self.io.out);
            if self.io.out.is_empty() {
                break;
            }
            self.io.flush(&mut self.machine, now);
            let mut last = None;
            while let Some(id) = self.io.streams.after(last) {
                self.tell_stream(id);
                last = Some(id);
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.machine.handle(now, input, &mut self.io.out);
        self.io.flush(&mut self.machine, now);
    }

    fn receive_batches(&mut self, id: SocketId) -> io::Result<bool> {
        let mut parts = self.buffers.chunks_exact_mut(RECEIVE_BUFFER);
        let mut buffers: [_; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        let mut meta = [RecvMeta::default(); RECEIVE_BATCH];
        for _ in 0..MAX_RECEIVES {
            let Some(socket) = self.io.sockets.iter().find(|s| s.id == id) else { return Ok(true) };
            let count = match socket.receive(&mut buffers, &mut meta) {
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
                // How Windows says that something sent earlier found no listener.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused) => continue,
                Err(e) => return Err(e),
            };
            let now = self.io.now();
            for (buffer, m) in buffers.iter_mut().zip(&meta).take(count) {
                let Some(bytes) = buffer.get_mut(..m.len).filter(|b| !b.is_empty()) else { continue };
                self.io.stats.received_batches += 1;
                self.io.stats.received_bytes += bytes.len() as u64;
                let ecn = m.ecn.map_or(Ecn::NotCapable, |e| Ecn::from_bits(e as u8));
                let input =
                    Input::Datagrams { socket: id, from: m.addr, local: m.dst_ip, ecn, stride: m.stride, bytes };
                self.machine.handle(now, input, &mut self.io.out);
                if self.io.out.room() < OUTBOX_LOW {
                    self.io.flush(&mut self.machine, now);
                }
            }
            self.io.flush(&mut self.machine, now);
            // A batch that was not filled emptied the socket, where the system fills batches at all.
            if count < RECEIVE_BATCH && RECEIVE_BATCH > 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn carry_out(&mut self, request: Request) {
        match request {
            Request::OpenSocket { id, like } => {
                let answer = self.io.open(id, like);
                self.input(Input::Socket(id, answer));
            }
            Request::CloseSocket(id) if id != SocketId::MAIN => self.close(id),
            Request::Connect { id, to } => {
                if !self.io.streams.connect(id, to) {
                    self.input(Input::Stream(id, StreamInput::Closed(StreamEnd::Refused)));
                }
            }
            Request::Close(id) => self.io.streams.close(id),
            Request::MapPort(socket) => self.input(Input::PortMapped { socket, external: None }),
            // The first socket lives as long as the driver.
            Request::CloseSocket(_) => {}
        }
    }

    /// Tells the machine what time it is, in case somebody set the clock.
    fn check_time(&mut self) {
        let now = self.now();
        if now < self.time_due {
            return;
        }
        self.time_due = now + TIME_CHECK;
        // A clock before 1970 is none.
        if let Ok(time) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.input(Input::UnixTime(time));
        }
    }

    fn check_addresses(&mut self) {
        let (now, bound) = (self.now(), self.local_addr());
        // What is bound to one address never has another.
        if now < self.addresses_due || (!self.addresses.is_empty() && !bound.ip().is_unspecified()) {
            return;
        }
        self.addresses_due = now + ADDRESS_CHECK;
        let mut found = Vec::new();
        socket::own_addresses(bound, &mut found);
        if found != self.addresses {
            self.input(Input::Interfaces(&found));
            self.addresses = found;
        }
    }
}

/// The sockets and what leaves by them.
struct Io {
    origin: std::time::Instant,
    /// When the clock was looked at last.
    latest: Cell<Instant>,
    sockets: Vec<Udp>,
    streams: Streams,
    /// How often a socket was opened or closed.
    changes: u64,
    out: Outbox,
    failures: Vec<(SocketId, SocketAddr, usize, SendFailure)>,
    patience: Duration,
    recording: Recording,
    stats: DriverStats,
}

impl Io {
    fn new(main: Udp, recording: Recording) -> Self {
        let mut out = Outbox::with_capacity(OUTBOX_BYTES, OUTBOX_SENDS);
        out.set_max_segments(main.max_segments());
        Self {
            origin: std::time::Instant::now(),
            latest: Cell::new(Instant::ZERO),
            sockets: vec![main],
            streams: Streams::default(),
            changes: 0,
            out,
            failures: Vec::with_capacity(OUTBOX_SENDS),
            patience: SEND_PATIENCE,
            recording,
            stats: DriverStats::default(),
        }
    }

    fn now(&self) -> Instant {
        self.latest.set(Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)));
        self.latest.get()
    }

    fn open(&mut self, id: SocketId, like: SocketId) -> SocketInput {
        let like = self.sockets.iter().find(|s| s.id == like).map(|s| s.local.ip());
        let taken = self.sockets.iter().any(|s| s.id == id) || self.sockets.len() > MAX_EXTRA_SOCKETS;
        let (Some(ip), false) = (like, taken) else { return SocketInput::Failed };
        let Ok(socket) = Udp::bind(id, SocketAddr::new(ip, 0)) else { return SocketInput::Failed };
        let opened = SocketInput::Opened { local: socket.local, max_segments: socket.max_segments() };
        self.sockets.push(socket);
        self.changes += 1;
        opened
    }

    /// Sends what is in the outbox and tells the machine what failed.
    fn flush(&mut self, machine: &mut impl Machine, now: Instant) {
        if self.out.is_empty() {
            return;
        }
        for (transmit, bytes) in self.out.sends() {
            self.recording.sent(transmit, bytes);
            let (id, to) = match transmit.via {
                Via::Datagram { socket, to, .. } => (socket, to),
                Via::Stream(id) => {
                    self.streams.write(id, bytes);
                    self.stats.sends += 1;
                    self.stats.sent_bytes += bytes.len() as u64;
                    continue;
                }
            };
            let Some(socket) = self.sockets.iter().find(|s| s.id == id) else { continue };
            match send(socket, transmit, bytes, &mut self.patience) {
                Sent::Yes => {
                    self.stats.sends += 1;
                    self.stats.sent_bytes += bytes.len() as u64;
                }
                Sent::Full => self.stats.dropped += 1,
                Sent::Lost => self.stats.failed += 1,
                Sent::Failed(why) => {
                    self.stats.failed += 1;
                    let size = transmit.segment.map_or(bytes.len(), usize::from);
                    self.failures.push((id, to, size, why));
                }
            }
        }
        self.out.clear();
        self.recording.all_sent();
        // What the machine answers to a failure stays in the outbox until the next flush, so that failures cannot breed
        // failures without end.
        for (socket, to, size, why) in self.failures.drain(..) {
            if why == SendFailure::NoSegmentation {
                self.out.set_max_segments(1);
            }
            machine.handle(now, Input::SendFailed { socket, to, size, why }, &mut self.out);
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // What is left was sent as far as the machine knows.
        for (transmit, bytes) in self.out.sends() {
            self.recording.sent(transmit, bytes);
        }
    }
}

/// Sends, and once more where that may help: singly if the system cannot segment, later if its buffer is full.
fn send(socket: &Udp, transmit: &Transmit, bytes: &[u8], patience: &mut Duration) -> Sent {
    let Via::Datagram { to, from, hop_limit, .. } = transmit.via else { return Sent::Lost };
    if let Some(limit) = hop_limit {
        // Such datagrams are few and single: they open a hole in the own NAT and are to die before the other one.
        return socket.send_limited(to, limit, bytes);
    }
    let mut rest = bytes;
    let mut attempt = || socket.send(to, from, transmit.ecn, transmit.segment, &mut rest);
    match attempt() {
        Sent::Failed(SendFailure::NoSegmentation) => {
            // The socket has taken note and sends one by one from here on; the machine is told all the same.
            let _ = attempt();
            Sent::Failed(SendFailure::NoSegmentation)
        }
        Sent::Full if !patience.is_zero() => {
            let start = std::time::Instant::now();
            socket.wait_writable(*patience);
            *patience = patience.saturating_sub(start.elapsed());
            attempt()
        }
        other => other,
    }
}
