//! Two ends, virtual time, and a network that loses, delays, reorders, duplicates and cuts.

mod attacks;
mod batches;
mod channels;
mod controllers;
mod credit;
mod kinds;
mod paths;
mod recovery;
mod round_trips;

use super::*;
use crate::entropy::Entropy;
use crate::ids::Channel;
use crate::machine::Wake;
use crate::wire::buf::Writer;
use std::collections::BTreeSet;
use std::vec;

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const PAYLOAD: usize = 1171;

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a path does to packets, in both directions.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// Of a thousand.
    pub(super) loss: u64,
    pub(super) duplicates: u64,
    /// The largest datagram that passes, bytes.
    pub(super) carries: usize,
    /// By sender.
    pub(super) cut: [bool; 2],
}

impl Wire {
    pub(super) fn of(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0, duplicates: 0, carries: usize::MAX, cut: [false; 2] }
    }
}

struct Flying {
    at: Instant,
    order: u64,
    to: usize,
    path: PathId,
    pn: u64,
    ecn: Ecn,
    body: Vec<u8>,
}

/// A packet that was put on the wire.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) at: Instant,
    pub(super) from: usize,
    pub(super) path: PathId,
    pub(super) len: usize,
    pub(super) eliciting: bool,
    pub(super) body: Vec<u8>,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [Transport; 2],
    pub(super) wires: [Wire; 2],
    pub(super) got: [Vec<(Scope, Vec<u8>)>; 2],
    pub(super) events: [Vec<PathEvent>; 2],
    pub(super) frames: [Vec<LinkFrame>; 2],
    pub(super) log: Vec<Logged>,
    /// Whether the application takes messages.
    pub(super) polls: [bool; 2],
    /// The network marks what is ECN capable.
    pub(super) marked: bool,
    flying: Vec<Flying>,
    seen: BTreeSet<(usize, PathId, u64)>,
    order: u64,
    rng: Rng,
}

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, &TransportConfig::default(), PAYLOAD)
    }

    pub(super) fn with(seed: u64, config: &TransportConfig, payload: usize) -> Self {
        let entropy = Entropy::new(&[seed as u8; 32]);
        let now = Instant::from_millis(1000);
        let end = |n| Transport::new(now, config, entropy.stream("end", seed ^ n), ms(60), payload);
        Self {
            now,
            ends: [end(0), end(1)],
            wires: [Wire::of(ms(30)), Wire::of(ms(10))],
            got: Default::default(),
            events: Default::default(),
            frames: Default::default(),
            log: Vec::new(),
            polls: [true; 2],
            marked: false,
            flying: Vec::new(),
            seen: BTreeSet::new(),
            order: 0,
            rng: entropy.stream("wire", seed),
        }
    }

    pub(super) fn open(&mut self) {
        self.ends.iter_mut().for_each(Transport::open_peer);
    }

    pub(super) fn send(&mut self, from: usize, scope: Scope, bytes: &[u8]) {
        self.ends[from].send_next(self.now, scope, bytes).unwrap();
    }

    pub(super) fn send_as(&mut self, from: usize, scope: Scope, bytes: &[u8], options: SendOptions) -> u64 {
        self.ends[from].send(self.now, scope, None, bytes, &options).unwrap()
    }

    pub(super) fn send_at(
        &mut self,
        from: usize,
        scope: Scope,
        seq: u64,
        bytes: &[u8],
    ) -> Result<(), TransportSendError> {
        self.ends[from].send(self.now, scope, Some(seq), bytes, &SendOptions::default()).map(|_| ())
    }

    pub(super) fn open_direct(&mut self) {
        for end in &mut self.ends {
            end.open_path(self.now, DIRECT, ms(20), PAYLOAD);
        }
    }

    /// What the application does after each call.
    fn poll(&mut self, n: usize) {
        while let Some(event) = self.ends[n].poll_path_event() {
            self.events[n].push(event);
        }
        let mut payload = Vec::new();
        while self.polls[n] {
            let Some(delivery) = self.ends[n].next_message(self.now, &mut payload) else { break };
            self.got[n].push((delivery.scope, payload.clone()));
        }
        while self.ends[n].next_control(&mut payload) {
            self.got[n].push((Scope::Control, payload.clone()));
        }
    }

    /// Everything that is due now.
    pub(super) fn pump(&mut self) {
        for n in [A, B] {
            for round in 0.. {
                assert!(round < 20, "it never comes to rest");
                self.poll(n);
                for built in 0.. {
                    assert!(built < 10_000, "it builds without end");
                    let Some(path) = self.ends[n].wants(self.now) else { break };
                    self.build(n, path);
                }
                let wake = self.ends[n].wake();
                let Some((_, reason)) = wake.filter(|(at, _)| *at <= self.now) else { break };
                self.ends[n].on_wake(self.now);
                let wants = self.ends[n].wants(self.now).is_some();
                assert!(wants || self.ends[n].wake() != wake, "a wake-up that does nothing: {wake:?}");
                assert!(wants || matches!(reason, Wake::LossDetection | Wake::Idle), "{wake:?}");
            }
        }
    }

    fn build(&mut self, n: usize, path: PathId) {
        let end = &mut self.ends[n];
        let expected = end.next_number(path);
        let payload = end.datagram(self.now, path) - path::PACKET_OVERHEAD as usize;
        let mut buf = vec![0xee; payload];
        let mut w = Writer::new(&mut buf);
        let built = end.build(self.now, path, &mut w).expect("a path that wants a packet builds one");
        assert_eq!(built.pn, expected);
        assert!(w.len() > 0 && w.len() <= payload);
        let body = w.written().to_vec();
        let stats = end.path_stats(path);
        let datagram = end.paths[path as usize].datagram();
        if built.ack_eliciting {
            assert!(
                stats.in_flight <= stats.window + 2 * datagram,
                "in flight exceeds window and two probes: {stats:?}"
            );
        }
        self.log.push(Logged {
            at: self.now,
            from: n,
            path,
            len: body.len(),
            eliciting: built.ack_eliciting,
            body: body.clone(),
        });
        let marked = self.marked && built.ecn == Ecn::Ect0;
        self.put_marked(n, path, built.pn, if marked { Ecn::Ce } else { built.ecn }, body);
    }

    pub(super) fn put(&mut self, from: usize, path: PathId, pn: u64, body: Vec<u8>) {
        self.put_marked(from, path, pn, Ecn::NotCapable, body);
    }

    fn put_marked(&mut self, from: usize, path: PathId, pn: u64, ecn: Ecn, body: Vec<u8>) {
        let wire = self.wires[path as usize].clone();
        let size = body.len() + path::PACKET_OVERHEAD as usize;
        if wire.cut[from] || size > wire.carries || self.rng.below(1000) < wire.loss {
            return;
        }
        let copies = if self.rng.below(1000) < wire.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = Duration::from_nanos(self.rng.below(crate::time::nanos(wire.jitter).max(1)));
            self.order += 1;
            let (at, order, to) = (self.now + wire.delay + jitter, self.order, 1 - from);
            self.flying.push(Flying { at, order, to, path, pn, ecn, body: body.clone() });
        }
    }

    fn arrive(&mut self) {
        loop {
            let due = self.flying.iter().enumerate().filter(|(_, f)| f.at <= self.now);
            let Some(at) = due.min_by_key(|(_, f)| (f.at, f.order)).map(|(at, _)| at) else { break };
            let packet = self.flying.swap_remove(at);
            // What the link's replay window does.
            if self.seen.insert((packet.to, packet.path, packet.pn)) {
                let frames = &mut self.frames[packet.to];
                let take = &mut |frame| frames.push(frame);
                let end = &mut self.ends[packet.to];
                let done = end.received(self.now, packet.path, packet.pn, packet.ecn, &packet.body, take);
                assert_eq!(done, Ok(()), "honest ends");
            }
        }
    }

    /// To the next thing that happens, if it does before `limit`.
    fn step(&mut self, limit: Instant) -> bool {
        self.pump();
        let wakes = self.ends.iter().filter_map(Transport::wake).map(|(at, _)| at);
        let next = self.flying.iter().map(|f| f.at).chain(wakes).min();
        let Some(next) = next.filter(|&at| at <= limit) else {
            self.now = self.now.max(limit);
            return false;
        };
        assert!(next > self.now || self.flying.iter().any(|f| f.at <= self.now), "time stands still");
        self.now = self.now.max(next);
        self.arrive();
        self.poll(A);
        self.poll(B);
        true
    }

    pub(super) fn run(&mut self, time: Duration) {
        let limit = self.now + time;
        for steps in 0.. {
            assert!(steps < 1_000_000, "too many steps");
            if !self.step(limit) {
                return;
            }
        }
    }

    /// Runs until `done`, for at most `time`; says how long it took.
    pub(super) fn until(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let (start, limit) = (self.now, self.now + time);
        loop {
            self.pump();
            if done(self) {
                return self.now.since(start);
            }
            assert!(self.step(limit), "not within {time:?}; got {} and {}", self.got[A].len(), self.got[B].len());
        }
    }

    pub(super) fn bytes_of(&self, n: usize, scope: Scope) -> Vec<Vec<u8>> {
        self.got[n].iter().filter(|(s, _)| *s == scope).map(|(_, bytes)| bytes.clone()).collect()
    }
}

pub(super) const PEER: Scope = Scope::Peer(Channel::reliable(1));
pub(super) const LOOSE: Scope = Scope::Peer(Channel::unreliable(1));
pub(super) const UNORDERED: Scope = Scope::Peer(Channel::unordered(1));
pub(super) const SEQUENCED: Scope = Scope::Peer(Channel::sequenced(1));

/// A message that names itself, `len` bytes long.
pub(super) fn numbered(n: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at as u32).wrapping_mul(n | 1) as u8).collect();
    let head = n.to_be_bytes();
    let shown = head.len().min(len);
    bytes[..shown].copy_from_slice(&head[..shown]);
    bytes
}
