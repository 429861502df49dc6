//! Reference hole punching, as plain as it can be: to try the NATs on before any real protocol does.
//!
//! A [`Rendezvous`] server tells each of two [`Puncher`]s the address that it sees the other at. Each then sends probes to
//! that address, and to every address that a probe of the other's came from, at a fixed interval. Whoever receives a
//! probe says so through the server. A direction works once its sender has been told so. The two directions may well use
//! different addresses.
//!
//! | Message | Bytes | From, to |
//! |---|---|---|
//! | hello | 1, role | puncher → server |
//! | peer | 2, IPv4 address, port | server → puncher |
//! | probe | 3, role | puncher → puncher |
//! | heard | 4, role of who heard | puncher → server → the other puncher |

use posse_core::{Duration, Entry, Input, Instant, Machine, Outbox, Request, SocketId, Tap, Transmit, Wake};
use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};

const HELLO: u8 = 1;
const PEER: u8 = 2;
const PROBE: u8 = 3;
const HEARD: u8 = 4;

/// Between two rounds of probes.
const INTERVAL: Duration = Duration::from_millis(20);
/// Addresses probed at most.
const MAX_TARGETS: usize = 8;
/// Messages that wait for room; further ones are dropped.
const MAX_WAITING: usize = 64;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one.
    First,
    /// The other.
    Second,
}

impl Role {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::First, Self::Second].into_iter().find(|r| *r as u8 == byte)
    }

    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What either machine has to send, and who listens at its door.
#[derive(Default)]
struct Door {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    tap: Option<Box<dyn Tap>>,
}

impl Door {
    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, entry);
        }
    }

    fn push(&mut self, to: SocketAddr, message: &[u8]) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((to, message.to_vec()));
        }
    }

    fn transmit(&mut self, out: &mut Outbox) {
        while let Some((to, message)) = self.waiting.front() {
            let Some(room) = out.reserve(message.len()) else { return };
            room.copy_from_slice(message);
            out.commit(message.len(), Transmit::datagram(SocketId::MAIN, *to));
            self.waiting.pop_front();
        }
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        (!self.waiting.is_empty()).then_some((Instant::ZERO, Wake::Now))
    }
}

/// The single datagrams of an input, and where they came from.
fn datagrams<'a>(input: Input<'a>) -> Option<(SocketAddr, impl Iterator<Item = &'a mut [u8]>)> {
    let Input::Datagrams { from, stride, bytes, .. } = input else { return None };
    Some((from, posse_core::datagrams(stride, bytes)))
}

/// Introduces two punchers to each other and passes on what each has heard.
#[derive(Default)]
pub struct Rendezvous {
    seen: [Option<SocketAddr>; 2],
    door: Door,
}

impl Rendezvous {
    /// One that knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn message(&mut self, from: SocketAddr, message: &[u8]) {
        let [kind, role] = *message else { return };
        let Some(role) = Role::from_byte(role) else { return };
        let other = self.seen[role.other() as usize];
        match (kind, other) {
            (HELLO, other) => {
                self.seen[role as usize] = Some(from);
                if let Some(other) = other {
                    self.introduce(from, other);
                    self.introduce(other, from);
                }
            }
            (HEARD, Some(other)) => self.door.push(other, message),
            _ => {}
        }
    }

    fn introduce(&mut self, to: SocketAddr, peer: SocketAddr) {
        if let SocketAddr::V4(peer) = peer {
            let mut message = vec![PEER];
            message.extend_from_slice(&peer.ip().octets());
            message.extend_from_slice(&peer.port().to_be_bytes());
            self.door.push(to, &message);
        }
    }
}

impl Machine for Rendezvous {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.door.record(now, Entry::Input { input: &input, room: out.state() });
        let Some((from, messages)) = datagrams(input) else { return };
        messages.for_each(|m| self.message(from, m));
        self.door.transmit(out);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.door.record(now, Entry::Transmit(out.state()));
        self.door.transmit(out);
    }

    fn request(&mut self) -> Option<Request> {
        None
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.door.wake()
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.door.tap = tap;
    }
}

/// One of two that try to reach each other directly.
pub struct Puncher {
    role: Role,
    server: SocketAddr,
    /// The address that the server named, then those that probes came from.
    targets: Vec<SocketAddr>,
    next_round: Instant,
    rounds_left: u32,
    answers: bool,
    heard: bool,
    confirmed: bool,
    door: Door,
}

impl Puncher {
    /// One that begins at `now` and gives up after `rounds` rounds, 20 ms apart.
    pub fn new(now: Instant, role: Role, server: SocketAddr, rounds: u32) -> Self {
        Self {
            role,
            server,
            targets: Vec::new(),
            next_round: now,
            rounds_left: rounds,
            answers: true,
            heard: false,
            confirmed: false,
            door: Door::default(),
        }
    }

    /// Probes nothing but the address that the server named, whatever address the other's probes come from.
    #[must_use]
    pub fn without_answers(mut self) -> Self {
        self.answers = false;
        self
    }

    /// Whether a probe of the other's arrived.
    pub fn inbound(&self) -> bool {
        self.heard
    }

    /// Whether the other has said that a probe of ours arrived.
    pub fn outbound(&self) -> bool {
        self.confirmed
    }

    /// Whether both directions work.
    pub fn direct(&self) -> bool {
        self.heard && self.confirmed
    }

    fn round(&mut self) {
        if self.targets.is_empty() {
            self.door.push(self.server, &[HELLO, self.role as u8]);
        }
        for target in &self.targets {
            self.door.push(*target, &[PROBE, self.role as u8]);
        }
        if self.heard {
            self.door.push(self.server, &[HEARD, self.role as u8]);
        }
    }

    fn message(&mut self, from: SocketAddr, message: &[u8]) {
        let other = self.role.other() as u8;
        match *message {
            [PEER, a, b, c, d, high, low] if from == self.server => {
                let peer = SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]));
                self.target(SocketAddr::V4(peer));
            }
            [PROBE, role] if role == other => {
                self.heard = true;
                if self.answers {
                    self.target(from);
                }
            }
            [HEARD, role] if role == other && from == self.server => self.confirmed = true,
            _ => {}
        }
    }

    fn target(&mut self, target: SocketAddr) {
        if !self.targets.contains(&target) && self.targets.len() < MAX_TARGETS {
            self.targets.push(target);
        }
    }
}

impl Machine for Puncher {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.door.record(now, Entry::Input { input: &input, room: out.state() });
        let Some((from, messages)) = datagrams(input) else { return };
        messages.for_each(|m| self.message(from, m));
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.door.record(now, Entry::Transmit(out.state()));
        if self.next_round <= now && self.rounds_left > 0 {
            self.round();
            self.rounds_left -= 1;
            self.next_round = now + INTERVAL;
        }
        self.door.transmit(out);
    }

    fn request(&mut self) -> Option<Request> {
        None
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.door.wake().or((self.rounds_left > 0).then_some((self.next_round, Wake::Probe)))
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.door.tap = tap;
    }
}
