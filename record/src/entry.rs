//! What enters a machine, owned, and how it enters again.

use posse_core::{
    Channel, Client, Command, Duration, Ecn, Entry, Input, Instant, Machine, Outbox, Room, SendFailure, SendOptions,
    Server, SocketId, SocketInput, StreamEnd, StreamId, StreamInput, To, Transmit,
};
use std::net::{IpAddr, SocketAddr};

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

/// A machine that a recording can be fed to.
pub trait Replay: Machine {
    /// Does what an [`OwnedEntry::Send`], [`OwnedEntry::Command`] or [`OwnedEntry::PollEvent`] says; the others are
    /// calls of [`Machine`] and are made by [`Feeder`].
    fn apply(&mut self, now: Instant, entry: &OwnedEntry);
}

/// Both have these calls, and no trait of the core says so.
macro_rules! replays {
    ($($machine:ty),*) => {$(
        impl Replay for $machine {
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
    )*};
}

replays!(Client, Server);

/// Feeds recorded entries to a machine that was made as the recorded one was.
pub struct Feeder {
    outbox: Outbox,
    room: Option<Room>,
}

impl Default for Feeder {
    fn default() -> Self {
        Self { outbox: Outbox::with_capacity(0, 0), room: None }
    }
}

impl Feeder {
    /// Feeds one entry, and hands what the machine sends to `sent`.
    pub fn feed<M: Replay + ?Sized>(
        &mut self,
        machine: &mut M,
        now: Instant,
        entry: &OwnedEntry,
        mut sent: impl FnMut(&Transmit, &[u8]),
    ) {
        match entry {
            OwnedEntry::Input { input, room } => machine.handle(now, input.clone().lend(), self.with_room(*room)),
            OwnedEntry::Transmit(room) => machine.transmit(now, self.with_room(*room)),
            OwnedEntry::PollRequest => drop(machine.request()),
            OwnedEntry::Send { .. } | OwnedEntry::Command(_) | OwnedEntry::PollEvent => machine.apply(now, entry),
        }
        for (transmit, bytes) in self.outbox.sends() {
            sent(transmit, bytes);
        }
        self.outbox.clear();
    }

    /// An empty outbox with exactly that room: the one at hand if it fits, since most have the same.
    fn with_room(&mut self, room: Room) -> &mut Outbox {
        if self.room != Some(room) {
            self.outbox = Outbox::with_capacity(room.bytes, room.sends);
            self.outbox.set_max_segments(room.segments);
            self.room = Some(room);
        }
        &mut self.outbox
    }
}
