//! The contract between a machine and whatever drives it: a socket adapter, the simulator, a fuzzer.
//!
//! A [`Machine`] is fed [`Input`]s and the time, and writes datagrams into the caller's [`Outbox`]. The loop of a driver:
//!
//! 1. hand each received batch to [`Machine::handle`], and drain the outbox;
//! 2. call [`Machine::transmit`] and drain the outbox, until it stays empty;
//! 3. carry out [`Machine::request`]s until there is none;
//! 4. sleep until the earlier of a datagram and [`Machine::wake`]; on the latter hand in [`Input::Wake`].
//!
//! Any order is legal and nothing has to be drained: whatever is queued makes [`Machine::wake`] return a time that has
//! already come. Polls are inputs too: what a machine does next may depend on them, so a [`Tap`] records them.

use crate::command::{Command, SendOptions, To};
use crate::ids::{Channel, SocketId, StreamId};
use crate::outbox::Outbox;
use crate::time::{Duration, Instant};
use core::net::{IpAddr, SocketAddr};

/// A pure state machine: the same calls with the same arguments put the same bytes out.
pub trait Machine: Send {
    /// Takes one input in. May send: answers to what came in go to `out` if there is room, else later.
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox);
    /// Writes what is due into `out`, as much as fits.
    fn transmit(&mut self, now: Instant, out: &mut Outbox);
    /// What the machine wants of its driver, one request a call.
    fn request(&mut self) -> Option<Request>;
    /// When to hand in [`Input::Wake`], or call the polls, at the latest; and why. `None`: only an input changes anything.
    fn wake(&self) -> Option<(Instant, Wake)>;
    /// Installs (or removes) a recorder of everything that enters through the front doors from now on.
    fn tap(&mut self, tap: Option<alloc::boxed::Box<dyn Tap>>);
}

/// Something that happened outside the machine.
#[derive(Debug)]
pub enum Input<'a> {
    /// One or more datagrams from one source that arrived together (GRO): each `stride` bytes, the last possibly shorter.
    Datagrams {
        /// The socket they arrived on.
        socket: SocketId,
        /// Their source.
        from: SocketAddr,
        /// The local address they were sent to, if the driver knows it.
        local: Option<IpAddr>,
        /// Their explicit congestion notification.
        ecn: Ecn,
        /// Length in bytes of each datagram but the last; 0 is read as "one datagram".
        stride: usize,
        /// The datagrams back to back. Opened in place, hence mutable.
        bytes: &'a mut [u8],
    },
    /// Something happened to a byte stream.
    Stream(StreamId, StreamInput<'a>),
    /// The time that [`Machine::wake`] named has come (or any other time: harmless).
    Wake,
    /// Something happened to a socket.
    Socket(SocketId, SocketInput),
    /// A datagram could not be sent.
    SendFailed {
        /// The socket it should have left by.
        socket: SocketId,
        /// Its destination.
        to: SocketAddr,
        /// Its size in bytes.
        size: usize,
        /// Why not.
        why: SendFailure,
    },
    /// The host's addresses, after every change.
    Interfaces(&'a [IpAddr]),
    /// A port mapping was made (`Some`) or refused, or ended (`None`).
    PortMapped {
        /// The socket it was asked for.
        socket: SocketId,
        /// The public address that now leads to it.
        external: Option<SocketAddr>,
    },
    /// Time since the Unix epoch; used for nothing but the expiry of tickets.
    UnixTime(Duration),
    /// Fresh entropy from the operating system, mixed into the key stream.
    Entropy(&'a [u8; 32]),
}

/// Something that happened to a byte stream.
#[derive(Debug)]
pub enum StreamInput<'a> {
    /// A stream was accepted.
    Accepted {
        /// The other end.
        from: SocketAddr,
    },
    /// A stream that the machine asked for is open.
    Connected,
    /// Bytes arrived.
    Bytes(&'a mut [u8]),
    /// What was handed over has been written.
    Writable,
    /// The stream is over.
    Closed(StreamEnd),
}

/// Why a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEnd {
    /// The other end closed it.
    Finished,
    /// It could not be opened.
    Refused,
    /// It broke.
    Reset,
}

/// Something that happened to a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketInput {
    /// It is open.
    Opened {
        /// Its local address; the IP address may be unspecified.
        local: SocketAddr,
        /// How many segments one send may carry (GSO); 1 where the system cannot.
        max_segments: u16,
    },
    /// It could not be opened.
    Failed,
    /// It is gone.
    Closed,
}

/// The single datagrams of an [`Input::Datagrams`]: `bytes` cut at each `stride`, or whole if that is 0. None of no bytes.
pub fn datagrams(stride: usize, bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    let stride = if stride == 0 { bytes.len() } else { stride };
    bytes.chunks_mut(stride.max(1))
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendFailure {
    /// Larger than the path or the interface takes.
    TooBig,
    /// No route, or the network said unreachable.
    Unreachable,
    /// The system forbids it.
    Denied,
    /// The system cannot send several segments at once; the machine is told, and stops building such batches.
    NoSegmentation,
}

/// What a machine wants of its driver. A driver that cannot answers with the input that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Open one more socket.
    OpenSocket {
        /// How the machine will call it.
        id: SocketId,
        /// The socket whose address family and interface it should share.
        like: SocketId,
    },
    /// Close a socket.
    CloseSocket(SocketId),
    /// Open a stream.
    Connect {
        /// How the machine will call it.
        id: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Close a stream.
    Close(StreamId),
    /// Ask the gateway for a port mapping.
    MapPort(SocketId),
}

/// Why a machine wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// Something is queued: an event, a request, a packet.
    Now,
    /// The pacer lets the next packet go.
    Pacing,
    /// A packet counts as lost, or a probe is due.
    LossDetection,
    /// An acknowledgement may wait no longer.
    AckDelay,
    /// A path must be kept open.
    Keepalive,
    /// A path probe is due.
    Probe,
    /// A lease ends.
    Lease,
    /// Something idle is given up.
    Idle,
}

/// Explicit congestion notification, RFC 3168.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Ecn {
    /// Not capable.
    #[default]
    NotCapable,
    /// ECT(1).
    Ect1,
    /// ECT(0), what a capable sender sets.
    Ect0,
    /// Congestion experienced.
    Ce,
}

impl Ecn {
    /// The two bits as in the IP header.
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotCapable => 0b00,
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }

    /// From the low two bits of `bits`.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotCapable,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// A recorder inside a machine's front door. It sees every entry before anything is changed by it.
pub trait Tap: Send {
    /// Takes one entry down.
    fn record(&mut self, now: Instant, entry: Entry<'_>);
}

/// One call through a machine's front door.
#[derive(Debug)]
pub enum Entry<'a> {
    /// [`Machine::handle`], with the room that its outbox had.
    Input {
        /// What was handed in.
        input: &'a Input<'a>,
        /// The outbox at that moment.
        room: Room,
    },
    /// A send, apart from [`Entry::Command`] because it is frequent and its bytes are borrowed.
    Send {
        /// Whom to.
        to: To,
        /// On which channel.
        channel: Channel,
        /// The message.
        bytes: &'a [u8],
        /// How.
        options: SendOptions,
    },
    /// Any other call of the application.
    Command(&'a Command),
    /// [`Machine::transmit`], with the room that its outbox had.
    Transmit(Room),
    /// A poll for an event.
    PollEvent,
    /// [`Machine::request`].
    PollRequest,
}

/// What an [`Outbox`] could still take when it was passed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes.
    pub bytes: usize,
    /// Sends that stand apart.
    pub sends: usize,
    /// Segments a send.
    pub segments: u16,
}
