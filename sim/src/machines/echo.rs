//! Echo: a server that sends every datagram back, and a client that pings it.

use crate::record::{OwnedEntry, Replay};
use posse_core::{
    Channel, Duration, Entry, Input, Instant, Machine, Outbox, PeerId, Request, SendOptions, SocketId, Tap, To,
    Transmit, Wake, datagrams,
};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Echoes that wait for room; further ones are dropped.
const MAX_WAITING: usize = 1024;

/// Sends every datagram back to where it came from, by the socket it came in by.
#[derive(Default)]
pub struct EchoServer {
    waiting: VecDeque<(SocketId, SocketAddr, Vec<u8>)>,
    tap: Option<Box<dyn Tap>>,
}

impl EchoServer {
    /// One that has nothing to send yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Machine for EchoServer {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Input { input: &input, room: out.state() });
        }
        let Input::Datagrams { socket, from, stride, bytes, .. } = input else { return };
        for datagram in datagrams(stride, bytes) {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back((socket, from, datagram.to_vec()));
            }
        }
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Transmit(out.state()));
        }
        while let Some((socket, to, bytes)) = self.waiting.front() {
            if !send(out, *socket, *to, bytes) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn request(&mut self) -> Option<Request> {
        None
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        (!self.waiting.is_empty()).then_some((Instant::ZERO, Wake::Now))
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
    }
}

/// Sends numbered pings at a fixed interval, and whatever it is told to say, and keeps what comes back.
pub struct EchoClient {
    server: SocketAddr,
    seed: [u8; 32],
    size: usize,
    interval: Duration,
    next_ping: Option<Instant>,
    left: u64,
    number: u64,
    waiting: VecDeque<Vec<u8>>,
    received: Vec<(Instant, u64)>,
    tap: Option<Box<dyn Tap>>,
}

impl EchoClient {
    /// `pings` pings of `size` bytes (40 at least: a number and the seed), the first at `now`.
    pub fn new(
        now: Instant,
        server: SocketAddr,
        seed: [u8; 32],
        (pings, size): (u64, usize),
        interval: Duration,
    ) -> Self {
        let next_ping = (pings > 0).then_some(now);
        let (waiting, received) = (VecDeque::new(), Vec::new());
        let size = size.max(40);
        Self { server, seed, size, interval, next_ping, left: pings, number: 0, waiting, received, tap: None }
    }

    /// Sends `bytes` as soon as there is room.
    pub fn say(&mut self, now: Instant, bytes: &[u8]) {
        if let Some(tap) = &mut self.tap {
            let (to, options) = (To::Peer(PeerId::SERVER), SendOptions::default());
            tap.record(now, Entry::Send { to, channel: Channel::unreliable(0), bytes, options });
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(bytes.to_vec());
        }
    }

    /// When which ping came back, in the order of arrival. What else comes back has the number `u64::MAX`.
    pub fn received(&self) -> &[(Instant, u64)] {
        &self.received
    }

    /// Pings sent.
    pub fn sent(&self) -> u64 {
        self.number
    }

    fn ping(&self) -> Vec<u8> {
        let mut ping = vec![0; self.size];
        for (to, from) in ping.iter_mut().zip(self.number.to_be_bytes().iter().chain(&self.seed)) {
            *to = *from;
        }
        ping
    }
}

impl Machine for EchoClient {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Input { input: &input, room: out.state() });
        }
        let Input::Datagrams { stride, bytes, .. } = input else { return };
        for datagram in datagrams(stride, bytes) {
            let number = match datagram.split_first_chunk() {
                Some((number, rest)) if rest.starts_with(&self.seed) => u64::from_be_bytes(*number),
                _ => u64::MAX,
            };
            self.received.push((now, number));
        }
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Transmit(out.state()));
        }
        while let Some(at) = self.next_ping.filter(|at| *at <= now && self.waiting.len() < MAX_WAITING) {
            self.waiting.push_back(self.ping());
            self.number += 1;
            self.left -= 1;
            self.next_ping = (self.left > 0).then_some(at + self.interval);
        }
        while let Some(bytes) = self.waiting.front() {
            if !send(out, SocketId::MAIN, self.server, bytes) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn request(&mut self) -> Option<Request> {
        None
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        if self.waiting.is_empty() {
            self.next_ping.map(|at| (at, Wake::Pacing))
        } else {
            Some((Instant::ZERO, Wake::Now))
        }
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
    }
}

impl Replay for EchoServer {
    fn apply(&mut self, _: Instant, _: &OwnedEntry) {}
}

impl Replay for EchoClient {
    fn apply(&mut self, now: Instant, entry: &OwnedEntry) {
        if let OwnedEntry::Send { bytes, .. } = entry {
            self.say(now, bytes);
        }
    }
}

/// False: no room now. What does not fit an empty outbox either is given up, as is a message of no bytes.
fn send(out: &mut Outbox, socket: SocketId, to: SocketAddr, bytes: &[u8]) -> bool {
    let Some(room) = out.reserve(bytes.len()) else { return out.is_empty() };
    room.copy_from_slice(bytes);
    out.commit(bytes.len(), Transmit::datagram(socket, to));
    true
}
