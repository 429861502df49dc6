//! A server and clients over UDP that can be switched off and TCP that cannot lose: what the legs promise together.

use crate::client::Client;
use crate::command::SendOptions;
use crate::config::{ClientConfig, ServerConfig};
use crate::event::{ClientEvent, ServerEvent};
use crate::ids::{Channel, GroupId, PeerId, SocketId, StreamId};
use crate::leg::{Leg, LegReason};
use crate::machine::{Ecn, Input, Machine, Request, StreamEnd, StreamInput};
use crate::outbox::{Outbox, Via};
use crate::server::{GroupOptions, Server};
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

const KEY: [u8; 32] = [9; 32];
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 7000);
/// One way, of UDP and of TCP.
const DELAY: Duration = Duration::from_millis(10);
const RELIABLE: Channel = Channel::reliable(0);

/// A connection: what each end wrote and the other has not read, with the time at which it may.
struct Pipe {
    client: usize,
    /// How each end calls it.
    ids: [StreamId; 2],
    open: bool,
    bytes: [VecDeque<(Instant, Vec<u8>)>; 2],
    /// An end was not told yet that what it handed over is written.
    handed: [bool; 2],
    /// Nothing is taken from either end any more.
    stuck: bool,
}

struct Bench {
    now: Instant,
    server: Server,
    clients: Vec<Client>,
    udp: Vec<bool>,
    tcp: bool,
    pipes: Vec<Pipe>,
    accepted: u64,
    flying: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    got: Vec<Vec<(PeerId, u32)>>,
    /// When each of those came.
    got_at: Vec<Vec<Instant>>,
    legs: Vec<Vec<(Leg, LegReason)>>,
    told: Vec<(PeerId, Leg)>,
    sent_over_udp: usize,
}

fn addr(client: usize) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, client as u8 + 1], 4000))
}

impl Bench {
    fn new(udp: &[bool]) -> Self {
        let now = Instant::from_millis(1);
        let server = Server::new(now, ServerConfig::new(KEY, 1, [1; 32])).unwrap();
        let client = |n: usize| {
            let config = ClientConfig::new(SERVER, server.public_key(), 1, [n as u8 + 2; 32]);
            Client::new(now, config).unwrap()
        };
        let n = udp.len();
        Self {
            now,
            clients: (0..n).map(client).collect(),
            server,
            udp: udp.to_vec(),
            tcp: true,
            pipes: vec![],
            accepted: 0,
            flying: VecDeque::new(),
            got: vec![vec![]; n],
            got_at: vec![vec![]; n],
            legs: vec![vec![]; n],
            told: vec![],
            sent_over_udp: 0,
        }
    }

    fn send(&mut self, from: SocketAddr, out: &Outbox) {
        for (transmit, bytes) in out.sends() {
            match transmit.via {
                Via::Datagram { to, .. } => {
                    let size = transmit.segment.map_or(bytes.len(), usize::from);
                    let at = self.now + DELAY;
                    self.flying.extend(bytes.chunks(size).map(|b| (at, from, to, b.to_vec())));
                }
                Via::Stream(id) => {
                    let end = usize::from(from != SERVER);
                    let pipe = self.pipes.iter_mut().find(|p| p.ids[end] == id && (end == 0 || addr(p.client) == from));
                    let Some(pipe) = pipe else { continue };
                    pipe.bytes[end].push_back((self.now + DELAY, bytes.to_vec()));
                    assert!(!core::mem::replace(&mut pipe.handed[end], true), "one frame at a time");
                }
            }
        }
    }

    fn input(&mut self, to: SocketAddr, input: Input<'_>) {
        let mut out = Outbox::with_capacity(256 << 10, 256);
        if to == SERVER {
            self.server.handle(self.now, input, &mut out);
        } else if let Some(client) = (0..self.clients.len()).find(|n| addr(*n) == to) {
            self.clients[client].handle(self.now, input, &mut out);
        }
        self.send(to, &out);
    }

    fn requests(&mut self) {
        for client in 0..self.clients.len() {
            while let Some(request) = self.clients[client].request() {
                match request {
                    Request::Connect { id, to } if self.tcp => {
                        assert_eq!(to, SERVER);
                        self.accepted += 1;
                        let ids = [StreamId(self.accepted), id];
                        self.pipes.push(Pipe {
                            client,
                            ids,
                            open: false,
                            bytes: Default::default(),
                            handed: [false; 2],
                            stuck: false,
                        });
                    }
                    Request::Connect { id, .. } => {
                        self.input(addr(client), Input::Stream(id, StreamInput::Closed(StreamEnd::Refused)));
                    }
                    Request::Close(id) => self.close(|p| p.client == client && p.ids[1] == id, 1),
                    _ => {}
                }
            }
        }
        while let Some(request) = self.server.request() {
            let Request::Close(id) = request else { panic!("{request:?}") };
            self.close(|p| p.ids[0] == id, 0);
        }
    }

    /// `end` closes; the other gets what was written, and hears of it.
    fn close(&mut self, which: impl Fn(&Pipe) -> bool, end: usize) {
        if let Some(at) = self.pipes.iter().position(which) {
            let mut pipe = self.pipes.remove(at);
            let other = if end == 0 { addr(pipe.client) } else { SERVER };
            for (_, mut bytes) in core::mem::take(&mut pipe.bytes[end]).into_iter().filter(|_| !pipe.stuck) {
                self.input(other, Input::Stream(pipe.ids[1 - end], StreamInput::Bytes(&mut bytes)));
            }
            self.input(other, Input::Stream(pipe.ids[1 - end], StreamInput::Closed(StreamEnd::Finished)));
        }
    }

    /// All connections break; what is under way is lost.
    fn break_all(&mut self) {
        for pipe in core::mem::take(&mut self.pipes) {
            for (to, id) in [(SERVER, pipe.ids[0]), (addr(pipe.client), pipe.ids[1])] {
                self.input(to, Input::Stream(id, StreamInput::Closed(StreamEnd::Reset)));
            }
        }
    }

    fn streams(&mut self) {
        for at in 0..self.pipes.len() {
            let Some(pipe) = self.pipes.get_mut(at) else { return };
            let (ids, ends) = (pipe.ids, [SERVER, addr(pipe.client)]);
            if !core::mem::replace(&mut pipe.open, true) {
                // Its port is not that of the datagrams.
                let from = SocketAddr::new(ends[1].ip(), 50_000);
                self.input(SERVER, Input::Stream(ids[0], StreamInput::Accepted { from }));
                self.input(ends[1], Input::Stream(ids[1], StreamInput::Connected));
            }
            for end in 0..2 {
                if let Some(pipe) = self.pipes.get_mut(at).filter(|p| p.ids == ids && !p.stuck)
                    && core::mem::take(&mut pipe.handed[end])
                {
                    self.input(ends[end], Input::Stream(ids[end], StreamInput::Writable));
                }
                while let Some(pipe) = self.pipes.get_mut(at).filter(|p| p.ids == ids && !p.stuck)
                    && let Some((_, mut bytes)) = pipe.bytes[end].pop_front_if_due(self.now)
                {
                    self.input(ends[1 - end], Input::Stream(ids[1 - end], StreamInput::Bytes(&mut bytes)));
                }
            }
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            for _ in 0..4 {
                let mut out = Outbox::with_capacity(256 << 10, 256);
                self.server.transmit(self.now, &mut out);
                self.send(SERVER, &out);
                for client in 0..self.clients.len() {
                    out.clear();
                    self.clients[client].transmit(self.now, &mut out);
                    self.send(addr(client), &out);
                }
                self.requests();
                self.streams();
            }
            while let Some((_, from, to, mut bytes)) = self.flying.pop_front_if_due(self.now) {
                let outside = if from == SERVER { to } else { from };
                let passes = (0..self.clients.len()).find(|n| addr(*n) == outside).is_some_and(|n| self.udp[n]);
                // Peers do not reach each other directly.
                if passes && (from == SERVER || to == SERVER) {
                    self.sent_over_udp += 1;
                    let (socket, ecn) = (SocketId::MAIN, Ecn::NotCapable);
                    self.input(to, Input::Datagrams { socket, from, local: None, ecn, stride: 0, bytes: &mut bytes });
                }
            }
            self.poll();
        }
    }

    fn poll(&mut self) {
        let mut payload = Vec::new();
        while let Some(event) = self.server.poll_event(self.now, &mut payload) {
            match event {
                ServerEvent::LoginRequested { login, .. } => drop(self.server.accept(self.now, login, b"", b"")),
                ServerEvent::LegChanged { client, leg } => self.told.push((client, leg)),
                _ => {}
            }
        }
        for (n, client) in self.clients.iter_mut().enumerate() {
            while let Some(event) = client.poll_event(self.now, &mut payload) {
                match event {
                    ClientEvent::Message(m) => {
                        let number = payload.first_chunk::<4>().copied().map(u32::from_be_bytes);
                        self.got[n].push((m.from, number.unwrap()));
                        self.got_at[n].push(self.now);
                    }
                    ClientEvent::LegChanged { leg, why } => self.legs[n].push((leg, why)),
                    _ => {}
                }
            }
        }
    }

    fn group(&mut self) -> GroupId {
        let ids: Vec<_> = self.clients.iter().map(|c| c.id().expect("logged in")).collect();
        let group = self.server.create_group(self.now, &ids, GroupOptions::default()).unwrap();
        self.run(100);
        group
    }

    /// Says numbers to a group, from all, every 20 ms, the second half of them in messages of several packets.
    fn talk(&mut self, group: GroupId, numbers: core::ops::Range<u32>, mut meanwhile: impl FnMut(&mut Self, u32)) {
        for n in numbers {
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.resize(if n % 2 == 0 { 8 } else { 3000 }, 7);
            for client in &mut self.clients {
                client.send(self.now, group, RELIABLE, &bytes, SendOptions::default()).unwrap();
            }
            meanwhile(self, n);
            self.run(20);
        }
    }

    /// Lets up to `ms` pass until everybody has all of `until` numbers of all others.
    fn settle(&mut self, ms: u64, until: u32) {
        let all = (self.clients.len() - 1) * until as usize;
        for _ in 0..ms / 100 {
            if self.got.iter().all(|got| got.len() >= all) {
                break;
            }
            self.run(100);
        }
        self.check(until);
    }

    /// Every client has every other's numbers, each once and in order.
    fn check(&self, until: u32) {
        let ids: Vec<_> = self.clients.iter().map(|c| c.id().unwrap()).collect();
        for (me, got) in self.got.iter().enumerate() {
            for other in ids.iter().filter(|id| **id != ids[me]) {
                let numbers: Vec<_> = got.iter().filter(|(from, _)| from == other).map(|(_, n)| *n).collect();
                assert!(numbers.iter().copied().eq(0..until), "{me} of {other:?}: {} of {until}", numbers.len());
            }
        }
    }
}

trait PopDue<T> {
    fn pop_front_if_due(&mut self, now: Instant) -> Option<T>;
}

impl PopDue<(Instant, Vec<u8>)> for VecDeque<(Instant, Vec<u8>)> {
    fn pop_front_if_due(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        if self.front()?.0 <= now { self.pop_front() } else { None }
    }
}

impl PopDue<(Instant, SocketAddr, SocketAddr, Vec<u8>)> for VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)> {
    fn pop_front_if_due(&mut self, now: Instant) -> Option<(Instant, SocketAddr, SocketAddr, Vec<u8>)> {
        if self.front()?.0 <= now { self.pop_front() } else { None }
    }
}

#[test]
fn where_udp_is_blocked_the_login_goes_by_tcp_and_both_ends_say_so() {
    let mut bench = Bench::new(&[false]);
    bench.run(600);
    let me = bench.clients[0].id().expect("logged in");
    assert_eq!(bench.legs[0], [(Leg::Tcp, LegReason::UdpSilent)]);
    assert_eq!((bench.clients[0].leg().0, bench.server.leg(me)), (Leg::Tcp, Some(Leg::Tcp)));
    assert_eq!(bench.told, [(me, Leg::Tcp)]);
}

#[test]
fn where_udp_works_nobody_opens_a_connection() {
    let mut bench = Bench::new(&[true, true]);
    bench.run(100);
    let group = bench.group();
    bench.talk(group, 0..50, |_, _| {});
    bench.run(500);
    bench.check(50);
    assert_eq!((bench.accepted, bench.legs[0].len()), (0, 0));
}

#[test]
fn a_client_by_udp_and_one_by_tcp_converse() {
    let mut bench = Bench::new(&[true, false, false]);
    bench.run(600);
    let group = bench.group();
    bench.talk(group, 0..50, |_, _| {});
    bench.run(1000);
    bench.check(50);
}

#[test]
fn udp_that_dies_and_returns_in_the_middle_of_messages_costs_none() {
    let mut bench = Bench::new(&[true, true]);
    bench.run(100);
    let group = bench.group();
    bench.talk(group, 0..600, |bench, n| match n {
        50 => bench.udp[0] = false,
        300 => bench.udp[0] = true,
        _ => {}
    });
    bench.run(2000);
    bench.check(600);
    assert_eq!(bench.legs[0], [(Leg::Tcp, LegReason::UdpSilent), (Leg::Udp, LegReason::UdpReturned)]);
    let me = bench.clients[0].id().unwrap();
    assert_eq!(bench.told, [(me, Leg::Tcp), (me, Leg::Udp)]);
    assert!(bench.legs[1].is_empty());
    bench.run(10_000);
    assert!(bench.pipes.is_empty(), "the stream is closed when it is not needed any more");
}

#[test]
fn a_stream_that_breaks_or_stands_still_is_replaced() {
    for stuck in [false, true] {
        let mut bench = Bench::new(&[false, true]);
        bench.run(600);
        let group = bench.group();
        bench.talk(group, 0..100, |bench, n| {
            if n == 20 {
                if stuck {
                    bench.pipes[0].stuck = true;
                } else {
                    bench.break_all();
                }
            }
        });
        // Four seconds of silence, then another connection.
        bench.settle(20_000, 100);
    }
}

#[test]
fn a_client_whose_connection_stands_still_costs_the_others_nothing() {
    // How long messages took from the second to the third client, while the first takes nothing, or does.
    let times = |stuck: bool| {
        let mut bench = Bench::new(&[false, true, true]);
        bench.run(600);
        let group = bench.group();
        bench.pipes[0].stuck = stuck;
        let (begin, mut waited) = (bench.now, 0);
        for n in 0..400u32 {
            let channel = if n % 2 == 0 { RELIABLE } else { Channel::unreliable(0) };
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.resize(1_000, 7);
            for client in [1, 2] {
                // Reliable ones to a group are all or nothing; those to one peer are that peer's business alone.
                let to = bench.clients[3 - client].id().unwrap();
                bench.clients[client].send(bench.now, to, channel, &bytes, SendOptions::default()).unwrap();
                let sent = bench.clients[client].send(
                    bench.now,
                    group,
                    Channel::unreliable(1),
                    &u32::MAX.to_be_bytes(),
                    SendOptions::default(),
                );
                assert!(sent.is_ok());
            }
            bench.run(16);
            let streams = bench.server.memory().streams;
            assert!(streams.used <= streams.budget);
            waited = waited.max(streams.used);
        }
        bench.run(100);
        let got = bench.got[2].iter().zip(&bench.got_at[2]).filter(|((_, n), _)| *n != u32::MAX);
        let took: Vec<_> = got.map(|((_, n), at)| at.since(begin + Duration::from_millis(16) * *n)).collect();
        (took.len(), took.into_iter().max(), waited)
    };
    let (moves, stands) = (times(false), times(true));
    assert_eq!((moves.0, stands.0), (400, 400));
    assert!(stands.2 > 10 * moves.2, "much waits for who takes nothing: {} and {}", stands.2, moves.2);
    assert_eq!(stands.1, moves.1, "nothing of the others' came later");
}

#[test]
fn without_tcp_either_the_session_goes_on_as_before_and_ends_when_nothing_answers() {
    let mut bench = Bench::new(&[true]);
    bench.tcp = false;
    bench.run(100);
    bench.udp[0] = false;
    bench.run(20_000);
    assert!(bench.clients[0].id().is_some() && bench.legs[0].is_empty());
    bench.udp[0] = true;
    bench.run(5_000);
    bench.clients[0].disconnect(bench.now);
    bench.run(2_000);
    assert_eq!(bench.server.size().sessions, 0);
}

#[test]
fn who_logs_out_by_tcp_leaves_nothing_behind() {
    let mut bench = Bench::new(&[false]);
    bench.run(600);
    bench.clients[0].disconnect(bench.now);
    bench.run(200);
    assert_eq!((bench.server.size().sessions, bench.pipes.len(), bench.clients[0].wake()), (0, 0, None));
}

#[test]
fn a_server_that_ends_a_session_says_so_by_tcp() {
    let mut bench = Bench::new(&[false]);
    bench.run(600);
    let me = bench.clients[0].id().unwrap();
    bench.server.disconnect(bench.now, me).unwrap();
    bench.run(500);
    assert_eq!((bench.server.size().sessions, bench.pipes.len(), bench.clients[0].wake()), (0, 0, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn however_often_udp_comes_and_goes_everything_arrives_once_and_in_order(
        switches in proptest::collection::vec((0u32..250, 0usize..2), 0..10),
        breaks in proptest::collection::vec(0u32..250, 0..3),
    ) {
        let mut bench = Bench::new(&[true, true]);
        bench.run(100);
        let group = bench.group();
        bench.talk(group, 0..250, |bench, n| {
            for (_, client) in switches.iter().filter(|(at, _)| *at == n) {
                bench.udp[*client] ^= true;
            }
            if breaks.contains(&n) {
                bench.break_all();
            }
        });
        bench.settle(40_000, 250);
    }
}
