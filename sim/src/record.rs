//! Recording and replay. A [`Recorder`] is a [`Tap`] that keeps all that enters through a machine's front doors; fed to a
//! fresh machine of the same construction, the [`Recording`] brings the same bytes out, which is what [`replay`] checks
//! by digest.

use posse_core::{
    Channel, Client, Command, Duration, Ecn, Entry, Input, Instant, Machine, Outbox, Room, SendFailure, SendOptions,
    Server, SocketId, SocketInput, StreamEnd, StreamId, StreamInput, Tap, To, Via,
};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, Observer};

/// [`Input`], owned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Input`")]
pub enum OwnedInput {
    Datagrams { socket: SocketId, from: SocketAddr, local: Option<IpAddr>, ecn: Ecn, stride: usize, bytes: Vec<u8> },
    Stream(StreamId, OwnedStreamInput),
    Wake,
    Socket(SocketId, SocketInput),
    SendFailed { socket: SocketId, to: SocketAddr, size: usize, why: SendFailure },
    Interfaces(Vec<IpAddr>),
    PortMapped { socket: SocketId, external: Option<SocketAddr> },
    UnixTime(Duration),
    Entropy([u8; 32]),
}

/// [`StreamInput`], owned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of `StreamInput`")]
pub enum OwnedStreamInput {
    Accepted { from: SocketAddr },
    Connected,
    Bytes(Vec<u8>),
    Writable,
    Closed(StreamEnd),
}

impl From<&Input<'_>> for OwnedInput {
    fn from(input: &Input<'_>) -> Self {
        match *input {
            Input::Datagrams { socket, from, local, ecn, stride, ref bytes } => {
                Self::Datagrams { socket, from, local, ecn, stride, bytes: bytes.to_vec() }
            }
            Input::Stream(id, ref input) => Self::Stream(
                id,
                match *input {
                    StreamInput::Accepted { from } => OwnedStreamInput::Accepted { from },
                    StreamInput::Connected => OwnedStreamInput::Connected,
                    StreamInput::Bytes(ref bytes) => OwnedStreamInput::Bytes(bytes.to_vec()),
                    StreamInput::Writable => OwnedStreamInput::Writable,
                    StreamInput::Closed(end) => OwnedStreamInput::Closed(end),
                },
            ),
            Input::Wake => Self::Wake,
            Input::Socket(id, input) => Self::Socket(id, input),
            Input::SendFailed { socket, to, size, why } => Self::SendFailed { socket, to, size, why },
            Input::Interfaces(addresses) => Self::Interfaces(addresses.to_vec()),
            Input::PortMapped { socket, external } => Self::PortMapped { socket, external },
            Input::UnixTime(time) => Self::UnixTime(time),
            Input::Entropy(bytes) => Self::Entropy(*bytes),
        }
    }
}

impl OwnedInput {
    /// Lends it as an [`Input`]. Machines open datagrams in place, so what was lent is used up.
    pub fn lend(&mut self) -> Input<'_> {
        match self {
            Self::Datagrams { socket, from, local, ecn, stride, bytes } => {
                Input::Datagrams { socket: *socket, from: *from, local: *local, ecn: *ecn, stride: *stride, bytes }
            }
            Self::Stream(id, input) => Input::Stream(
                *id,
                match input {
                    OwnedStreamInput::Accepted { from } => StreamInput::Accepted { from: *from },
                    OwnedStreamInput::Connected => StreamInput::Connected,
                    OwnedStreamInput::Bytes(bytes) => StreamInput::Bytes(bytes),
                    OwnedStreamInput::Writable => StreamInput::Writable,
                    OwnedStreamInput::Closed(end) => StreamInput::Closed(*end),
                },
            ),
            Self::Wake => Input::Wake,
            Self::Socket(id, input) => Input::Socket(*id, *input),
            Self::SendFailed { socket, to, size, why } => {
                Input::SendFailed { socket: *socket, to: *to, size: *size, why: *why }
            }
            Self::Interfaces(addresses) => Input::Interfaces(addresses),
            Self::PortMapped { socket, external } => Input::PortMapped { socket: *socket, external: *external },
            Self::UnixTime(time) => Input::UnixTime(*time),
            Self::Entropy(bytes) => Input::Entropy(bytes),
        }
    }
}

/// [`Entry`], owned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Entry`")]
pub enum OwnedEntry {
    Input { input: OwnedInput, room: Room },
    Send { to: To, channel: Channel, bytes: Vec<u8>, options: SendOptions },
    Command(Command),
    Transmit(Room),
    PollEvent,
    PollRequest,
}

impl From<Entry<'_>> for OwnedEntry {
    fn from(entry: Entry<'_>) -> Self {
        match entry {
            Entry::Input { input, room } => Self::Input { input: input.into(), room },
            Entry::Send { to, channel, bytes, options } => Self::Send { to, channel, bytes: bytes.to_vec(), options },
            Entry::Command(command) => Self::Command(command.clone()),
            Entry::Transmit(room) => Self::Transmit(room),
            Entry::PollEvent => Self::PollEvent,
            Entry::PollRequest => Self::PollRequest,
        }
    }
}

/// All that entered a machine, with the time of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// In the order in which they came.
    pub entries: Vec<(Instant, OwnedEntry)>,
}

/// Takes down what enters a machine. Clones share one recording: give one to [`Machine::tap`] and keep the other.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// One with an empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was recorded so far; recording goes on with an empty one.
    pub fn take(&self) -> Recording {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tap for Recorder {
    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recording.entries.push((now, entry.into()));
    }
}

/// A machine that a recording can be fed to.
pub trait Replay: Machine {
    /// Does what an [`OwnedEntry::Send`], [`OwnedEntry::Command`] or [`OwnedEntry::PollEvent`] says; the others are
    /// calls of [`Machine`] and are made by [`replay`].
    fn apply(&mut self, now: Instant, entry: &OwnedEntry);
}

impl Replay for Client {
    fn apply(&mut self, now: Instant, entry: &OwnedEntry) {
        // A call that was refused when it was recorded is refused again.
        match entry {
            OwnedEntry::Send { to, channel, bytes, options } => {
                let _ = self.send(now, *to, *channel, bytes, *options);
            }
            OwnedEntry::Command(command) => {
                let _ = self.execute(now, command);
            }
            OwnedEntry::PollEvent => drop(self.poll_event(now, &mut Vec::new())),
            OwnedEntry::Input { .. } | OwnedEntry::Transmit(_) | OwnedEntry::PollRequest => {}
        }
    }
}

impl Replay for Server {
    fn apply(&mut self, now: Instant, entry: &OwnedEntry) {
        // A call that was refused when it was recorded is refused again.
        match entry {
            OwnedEntry::Send { to, channel, bytes, options } => {
                let _ = self.send(now, *to, *channel, bytes, *options);
            }
            OwnedEntry::Command(command) => {
                let _ = self.execute(now, command);
            }
            OwnedEntry::PollEvent => drop(self.poll_event(now, &mut Vec::new())),
            OwnedEntry::Input { .. } | OwnedEntry::Transmit(_) | OwnedEntry::PollRequest => {}
        }
    }
}

/// Feeds `recording` to `machine`, which must be made as the recorded one was: same configuration, same seed. What comes
/// out is compared by digest with an [`Outputs`] that watched the original.
pub fn replay<M: Replay + ?Sized>(machine: &mut M, recording: &Recording) -> Outputs {
    let mut outputs = Outputs::new();
    let mut outbox = (None, Outbox::with_capacity(0, 0));
    for (now, entry) in &recording.entries {
        match entry {
            OwnedEntry::Input { input, room } => {
                machine.handle(*now, input.clone().lend(), with_room(&mut outbox, *room));
            }
            OwnedEntry::Transmit(room) => machine.transmit(*now, with_room(&mut outbox, *room)),
            OwnedEntry::PollRequest => drop(machine.request()),
            OwnedEntry::Send { .. } | OwnedEntry::Command(_) | OwnedEntry::PollEvent => machine.apply(*now, entry),
        }
        for (transmit, bytes) in outbox.1.sends() {
            let Via::Datagram { socket, to, .. } = transmit.via else { continue };
            for bytes in bytes.chunks(transmit.segment.map_or(bytes.len(), usize::from).max(1)) {
                outputs.add(*now, socket, to, transmit.ecn, bytes);
            }
        }
        outbox.1.clear();
    }
    outputs
}

/// An empty outbox with exactly that room: the one at hand if it fits, since most have the same.
fn with_room(outbox: &mut (Option<Room>, Outbox), room: Room) -> &mut Outbox {
    if outbox.0 != Some(room) {
        let mut fresh = Outbox::with_capacity(room.bytes, room.sends);
        fresh.set_max_segments(room.segments);
        *outbox = (Some(room), fresh);
    }
    &mut outbox.1
}

/// A digest over the datagrams that a machine sends: time, socket, destination, ECN and bytes of each. How they were
/// batched does not matter.
#[derive(Clone, Debug)]
pub struct Outputs {
    hasher: SipHasher13,
    datagrams: u64,
    host: Option<usize>,
}

impl Default for Outputs {
    fn default() -> Self {
        Self::new()
    }
}

impl Outputs {
    /// Over nothing yet.
    pub fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(0, 0), datagrams: 0, host: None }
    }

    /// Over what `host` of a world sends, once that world is told to [`observe`](crate::World::observe) it.
    pub fn of(host: usize) -> Self {
        Self { host: Some(host), ..Self::new() }
    }

    /// Adds one datagram.
    pub fn add(&mut self, now: Instant, socket: SocketId, to: SocketAddr, ecn: Ecn, bytes: &[u8]) {
        self.datagrams += 1;
        let ip = match to.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.hasher.write(&now.0.to_le_bytes());
        self.hasher.write(&socket.0.to_le_bytes());
        self.hasher.write(&ip.octets());
        self.hasher.write(&to.port().to_le_bytes());
        self.hasher.write(&[ecn.bits()]);
        self.hasher.write(&(bytes.len() as u64).to_le_bytes());
        self.hasher.write(bytes);
    }

    /// Over all so far.
    pub fn digest(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    /// How many datagrams that were.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }
}

impl Observer for Outputs {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        if let Event::Sent { host, socket, packet } = *event
            && self.host == Some(host)
        {
            self.add(at, socket, SocketAddr::V4(packet.to), packet.ecn, packet.bytes);
        }
    }
}
