//! A fuzzer's bytes as steps against a server or a client that has real sessions: see `crate::stage` for what must hold.
//!
//! The first byte is the setup. Then each step is an opcode and its operands, of fixed width or prefixed with their
//! length, so that a step can be written by hand (see [`crate::seeds`]) and the committed inputs keep their meaning.

use crate::body::Body;
use crate::cursor::Cursor;
use crate::flat::TAG;
use crate::stage::{CLIENT, Host, SERVER, Stage, address, stranger};
use arbitrary::{Arbitrary as _, Unstructured};
use posse_core::secure::public_key;
use posse_core::{
    Channel, Class, Command, Ecn, GroupId, Input, Instant, LoginId, Outbox, PeerId, SendFailure, SendOptions, SocketId,
    SocketInput, StreamEnd, StreamId, StreamInput, Target,
};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Steps of one input beyond which the rest is ignored, so that an input takes milliseconds.
const MAX_STEPS: usize = 96;
/// Time that all steps of one input may let pass.
const MAX_TIME: Duration = Duration::from_secs(300);

/// Any datagrams, packets, commands, times and polls against a server with three clients.
pub fn server_survives(data: &[u8]) {
    survive(SERVER, data);
}

/// The same against a client with a server and two peers.
pub fn client_survives(data: &[u8]) {
    survive(CLIENT, data);
}

fn survive(victim: usize, data: &[u8]) {
    let mut c = Cursor(data);
    let mut play = Play { stage: Stage::new(victim, c.u8()), victim, passed: Duration::ZERO };
    for _ in 0..MAX_STEPS {
        if c.is_empty() {
            break;
        }
        play.step(&mut c);
    }
    play.stage.finish();
}

/// The opcodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    /// From whom, ECN, stride, bytes.
    Raw,
    /// Which captured, from whom, count of edits, (at, xor).
    Mutated,
    /// A sealed packet: which link, from whom, number, generation, count of frames, frames.
    Sealed,
    /// A control message in a sealed packet: kind and fields.
    Control,
    /// A command.
    Command,
    /// Milliseconds in which everyone runs.
    Run,
    /// A wake-up and a transmit at any time, clock unchanged.
    WakeAt,
    /// A transmit into an outbox of this room.
    Transmit,
    /// So many polls.
    Poll,
    /// An input that is no datagram.
    Other,
    /// A peer of the victim sends.
    Send,
    /// The network misbehaves.
    Disturb,
    /// One more client.
    LogIn,
    /// The victim's application polls after every call, or not any more.
    Polls,
}

const OPS: [Op; 14] = [
    Op::Raw,
    Op::Mutated,
    Op::Sealed,
    Op::Control,
    Op::Command,
    Op::Run,
    Op::WakeAt,
    Op::Transmit,
    Op::Poll,
    Op::Other,
    Op::Send,
    Op::Disturb,
    Op::LogIn,
    Op::Polls,
];

struct Play {
    stage: Stage,
    victim: usize,
    passed: Duration,
}

impl Play {
    fn step(&mut self, c: &mut Cursor<'_>) {
        match OPS[usize::from(c.u8()) % OPS.len()] {
            Op::Raw => {
                let (from, ecn, stride) = (self.source(c), Ecn::from_bits(c.u8()), usize::from(c.u16()));
                let bytes = c.prefixed().to_vec();
                self.stage.deliver(self.victim, from, ecn, stride, bytes);
            }
            Op::Mutated => self.mutated(c),
            Op::Sealed => self.sealed(c),
            Op::Control => self.control(c),
            Op::Command => self.command(c),
            Op::Run => {
                let lasts = Duration::from_millis(c.u16().into());
                self.passed += lasts;
                if self.passed <= MAX_TIME {
                    self.stage.run(lasts);
                }
            }
            Op::WakeAt => {
                let at = self.instant(c);
                let clock = std::mem::replace(&mut self.stage.now, at);
                self.stage.input(self.victim, Input::Wake);
                self.stage.transmit(self.victim, at, &mut Outbox::with_capacity(16 << 10, 16));
                self.stage.now = clock;
            }
            Op::Transmit => {
                let (room, sends, segments) = (usize::from(c.u16()), usize::from(c.u8()), c.u8());
                let mut out = Outbox::with_capacity(room, sends);
                out.set_max_segments(segments.into());
                self.stage.transmit(self.victim, self.stage.now, &mut out);
            }
            Op::Poll => self.stage.poll(self.victim, usize::from(c.u8())),
            Op::Other => self.other(c),
            Op::Send => self.send(c),
            Op::Disturb => self.stage.disturb(c.u8(), c.u8()),
            Op::LogIn => self.stage.log_in(),
            Op::Polls => self.stage.polls = c.u8() & 1 == 0,
        }
    }

    // ---- operands

    fn source(&self, c: &mut Cursor<'_>) -> SocketAddr {
        let n = c.u8();
        if n < 8 { address(usize::from(n)) } else { stranger(n) }
    }

    fn instant(&self, c: &mut Cursor<'_>) -> Instant {
        let (how, by) = (c.u8(), Duration::from_micros(c.u32().into()));
        match how % 5 {
            0 => self.stage.now + by,
            1 => self.stage.now - by,
            2 => Instant::ZERO + by,
            3 => Instant::FAR - by,
            _ => Instant(c.u64()),
        }
    }

    fn peer(&self, c: &mut Cursor<'_>) -> PeerId {
        match c.u8() {
            0xf0 => PeerId::SERVER,
            0xf1 => PeerId::from_raw(c.u64()),
            n => self.stage.peers.get(usize::from(n) % 8).copied().unwrap_or(PeerId::new(n.into(), 1)),
        }
    }

    fn group(&self, c: &mut Cursor<'_>) -> GroupId {
        match c.u8() {
            0xf1 => GroupId::from_raw(c.u64()),
            n => self.stage.groups.get(usize::from(n) % 4).copied().unwrap_or(GroupId::new((n % 8).into(), 1)),
        }
    }

    fn epoch(c: &mut Cursor<'_>) -> u64 {
        match c.u8() {
            0xff => c.u64(),
            n => n.into(),
        }
    }

    fn addresses(&self, c: &mut Cursor<'_>) -> Vec<SocketAddr> {
        (0..c.u8() % 10).map(|_| self.source(c)).collect()
    }

    /// One of the links on which the victim receives, else none.
    fn link(&self, c: &mut Cursor<'_>) -> Option<usize> {
        let n = usize::from(c.u8());
        let links: Vec<usize> =
            (0..self.stage.talks.len()).filter(|t| self.stage.talks[*t].receiver == self.victim).collect();
        links.get(n % links.len().max(1)).copied()
    }

    // ---- datagrams

    fn mutated(&mut self, c: &mut Cursor<'_>) {
        let all = self.stage.captured.len();
        let which = usize::from(c.u8()) % all.max(1);
        let Some((from, mut bytes)) = self.stage.captured.get(which).cloned() else { return };
        let from = match c.u8() {
            0 => from,
            n => stranger(n),
        };
        for _ in 0..c.u8() % 8 {
            let (at, by) = (usize::from(c.u16()), c.u8());
            match bytes.get_mut(at) {
                Some(byte) => *byte ^= by,
                None if at & 1 == 0 => bytes.truncate(bytes.len().saturating_sub(by.into())),
                None => bytes.extend(std::iter::repeat_n(by, at % 64)),
            }
        }
        self.stage.deliver(self.victim, from, Ecn::NotCapable, 0, bytes);
    }

    fn sealed(&mut self, c: &mut Cursor<'_>) {
        let Some(link) = self.link(c) else { return };
        let (from, number, generation) = (c.u8(), c.u8(), c.u8());
        let number = if number == 0xff { c.u64() } else { self.number(link, number) };
        let count = c.u8() % 12;
        let body = (0..count).fold(Body::new(), |body, _| self.frame(body, link, c));
        self.seal(link, from, number, generation, &body.0);
    }

    /// The number after the largest; or, from 128 on, one before it.
    fn number(&self, link: usize, n: u8) -> u64 {
        let largest = self.stage.talks[link].largest;
        if n < 128 { largest.saturating_add(1 + u64::from(n)) } else { largest.saturating_sub(u64::from(n - 128)) }
    }

    fn seal(&mut self, link: usize, from: u8, number: u64, generation: u8, body: &[u8]) {
        let talk = &self.stage.talks[link];
        let from = if from == 0 { talk.from } else { stranger(from) };
        let head = Body::new().u8(0x43 | (generation & 3) << 2).u64(talk.cid).u32(number as u32);
        let datagram = head.bytes(body).bytes(&TAG).0;
        self.stage.deliver(self.victim, from, Ecn::Ect0, 0, datagram);
    }

    fn frame(&self, body: Body, link: usize, c: &mut Cursor<'_>) -> Body {
        let talks = &self.stage.talks;
        let scope = |c: &mut Cursor<'_>| -> (u64, u64) {
            let n = c.u8();
            let known = talks[link].scopes.iter().nth(usize::from(n) % 8).map(|(id, (_, next))| (*id, *next));
            match known {
                Some(scope) if n < 0x80 => scope,
                _ => (u64::from(n & 0x7f), 0),
            }
        };
        match c.u8() % 16 {
            0 => body.bytes(c.prefixed()),
            1 => body.ping(),
            2 | 3 => {
                let (path, of, back, first, more) = (c.u8() & 3, c.u8(), c.u8(), c.u8(), c.u8() % 6);
                let sent: Vec<u64> = talks.iter().filter(|t| t.receiver != self.victim).map(|t| t.largest).collect();
                let largest = sent.get(usize::from(of) % sent.len().max(1)).copied().unwrap_or_default();
                let largest = if back < 128 { largest.saturating_sub(back.into()) } else { largest + u64::from(back) };
                let ranges: Vec<(u64, u64)> = (0..more).map(|_| (c.u8().into(), c.u8().into())).collect();
                let delay = c.u16();
                let ecn = (delay & 1 == 1).then(|| [c.u8(), c.u8(), c.u8()].map(u64::from));
                body.ack(path, largest, delay.into(), u64::from(first).min(largest), &ranges, ecn)
            }
            4 => body.scope_peer(c.u8().into(), c.u8(), c.u8().into()),
            5 => {
                let (id, channel, group) = (c.u8(), c.u8(), self.group(c).raw());
                body.scope_group(id.into(), channel, group, Self::epoch(c), c.u8().into())
            }
            6 => body.scope_control(c.u8().into(), c.u8().into()),
            7 => body.scope_end(scope(c).0, Self::epoch(c)),
            8 | 9 => {
                let ((id, next), ahead, reliable) = (scope(c), c.u8(), c.u8() & 1 == 0);
                body.message(id, next + u64::from(ahead), reliable, None, c.prefixed())
            }
            10 => {
                let ((id, next), ahead, reliable) = (scope(c), c.u8(), c.u8() & 1 == 0);
                let (offset, units, total) = (u64::from(c.u8()) * 32, usize::from(c.u8() % 8) * 32, c.u16());
                let data = vec![0xda; units.min(usize::from(total))];
                body.message(id, next + u64::from(ahead), reliable, Some((offset, total.into())), &data)
            }
            11 => body.credit(Self::epoch(c)),
            12 => body.challenge(c.u64()),
            13 => {
                let n = usize::from(c.u8());
                body.response(self.stage.tokens.get(n % 32).copied().unwrap_or(n as u64))
            }
            14 => body.key_share(&Self::key(c)),
            _ => body.close(c.u8()),
        }
    }

    /// A public key: a good one, one of low order, any.
    fn key(c: &mut Cursor<'_>) -> [u8; 32] {
        match c.u8() % 4 {
            0 | 1 => public_key(&[c.u8().max(1); 32]),
            2 => [0; 32],
            _ => c.array(),
        }
    }

    /// A control message, in the place where the link's next one belongs.
    fn control(&mut self, c: &mut Cursor<'_>) {
        let Some(link) = self.link(c) else { return };
        let talk = &self.stage.talks[link];
        let Some((scope, next)) = talk.scopes.iter().find(|(_, s)| s.0).map(|(id, (_, next))| (*id, *next)) else {
            return;
        };
        let count = c.u8() % 8 + 1;
        let mut body = Body::new();
        for n in 0..count {
            let message = if self.victim == SERVER { self.to_server(c) } else { self.to_client(c) };
            let len = message.0.len().min(1_000);
            body = body.message(scope, next + u64::from(n), true, None, &message.0[..len]);
        }
        let number = self.number(link, 0);
        // What does not fit one packet is sent all the same: the victim has no business with its length.
        self.seal(link, 0, number, 0, &body.0);
    }

    fn to_server(&self, c: &mut Cursor<'_>) -> Body {
        let b = Body::new();
        match c.u8() % 7 {
            0 => b.token(c.prefixed()),
            1 => b.host_candidates(&self.addresses(c)),
            2 => b.join_processed(self.group(c).raw(), self.peer(c).raw(), Self::epoch(c)),
            3 => b.path_report(self.peer(c).raw(), Self::epoch(c), Ok(c.u32())),
            4 => b.path_report(self.peer(c).raw(), Self::epoch(c), Err(c.u8())),
            5 => b.request_punch(self.peer(c).raw(), Self::epoch(c)),
            _ => b.bytes(c.prefixed()),
        }
    }

    fn to_client(&self, c: &mut Cursor<'_>) -> Body {
        let b = Body::new();
        match c.u8() % 9 {
            0 => b.welcome(self.peer(c).raw(), c.prefixed(), b"welcome"),
            1 => b.rejected(c.prefixed()),
            2 | 3 => {
                let (peer, key, epoch) = (self.peer(c).raw(), Self::key(c), Self::epoch(c));
                let suite = if c.u8() < 250 { u8::MAX } else { c.u8() };
                b.peer_up(peer, &key, epoch, suite, &self.addresses(c))
            }
            4 => b.peer_down(self.peer(c).raw(), Self::epoch(c)),
            5 => b.member_joined(self.group(c).raw(), self.peer(c).raw(), Self::epoch(c), b"join"),
            6 => b.member_left(self.group(c).raw(), self.peer(c).raw(), Self::epoch(c), c.u8()),
            7 => b.punch(self.peer(c).raw(), Self::epoch(c), &self.addresses(c)),
            _ => b.bytes(c.prefixed()),
        }
    }

    // ---- everything else

    fn command(&mut self, c: &mut Cursor<'_>) {
        let login = |n: u8, logins: &[LoginId]| {
            logins.get(usize::from(n) % logins.len().max(1)).copied().unwrap_or(LoginId::new(n.into(), 1))
        };
        let fill = |c: &mut Cursor<'_>| vec![0xfe; usize::from(c.u16())];
        let command = match c.u8() % 9 {
            0 => self.message(c),
            1 => Command::Disconnect { client: self.peer(c) },
            2 => Command::Accept { login: login(c.u8(), &self.stage.logins), user_data: fill(c), message: fill(c) },
            3 => Command::Reject { login: login(c.u8(), &self.stage.logins), message: fill(c) },
            4 => {
                let members = (0..c.u8() % 8).map(|_| self.peer(c)).collect();
                let rules = posse_core::GroupRules::default();
                Command::CreateGroup { members, message: fill(c), rules, policy: None }
            }
            5 => Command::Join { member: self.peer(c), group: self.group(c), message: fill(c) },
            6 => Command::Leave { member: self.peer(c), group: self.group(c) },
            7 => Command::DestroyGroup { group: self.group(c) },
            _ => match Command::arbitrary(&mut Unstructured::new(c.prefixed())) {
                Ok(command) => command,
                Err(_) => return,
            },
        };
        self.stage.touch(|host, now| match host {
            Host::Server(server) => drop(server.execute(now, &command)),
            Host::Client(client) => drop(client.execute(now, &command)),
        });
    }

    fn message(&self, c: &mut Cursor<'_>) -> Command {
        let to = if c.u8() & 1 == 0 { Target::Peer(self.peer(c)) } else { Target::Group(self.group(c)) };
        let (channel, len, options) = (Channel(c.u8()), c.u16() % 6_000, SendOptions::default());
        let bits = c.u8();
        let options = if bits & 1 == 1 { options.loopback() } else { options };
        let options = if bits & 2 == 2 { options.replaces(u32::from(bits >> 6)) } else { options };
        let options = if bits & 4 == 4 { options.class(Class::Urgent) } else { options };
        let options = if bits & 8 == 8 { options.class(Class::Bulk) } else { options };
        let options = if bits & 48 == 48 { options.deadline(Duration::from_millis(20)) } else { options };
        Command::Send { to, channel, bytes: vec![0x5e; len.into()], options }
    }

    /// An honest client sends, the attacked one or another.
    fn send(&mut self, c: &mut Cursor<'_>) {
        let (host, times) = (1 + usize::from(c.u8()) % 3, c.u8() % 16 + 1);
        let command = self.message(c);
        let now = self.stage.now;
        for _ in 0..times {
            if host == self.victim {
                self.stage.touch(|host, now| {
                    if let Host::Client(client) = host {
                        let _ = client.execute(now, &command);
                    }
                });
            } else if let Some(Host::Client(client)) = self.stage.hosts.get_mut(host) {
                let _ = client.execute(now, &command);
            }
        }
        self.stage.settle(host);
    }

    fn other(&mut self, c: &mut Cursor<'_>) {
        let (kind, socket) = (c.u8() % 14, SocketId(u16::from(c.u8() % 2)));
        let from = self.source(c);
        let mut bytes = Vec::new();
        let (list, fresh);
        let input = match kind {
            0 => {
                fresh = [c.u8(); 32];
                Input::Entropy(&fresh)
            }
            1 => {
                list = (0..c.u8() % 20).map(|_| self.source(c).ip()).collect::<Vec<IpAddr>>();
                Input::Interfaces(&list)
            }
            2 => Input::Socket(socket, SocketInput::Opened { local: from, max_segments: c.u16() }),
            3 => Input::Socket(socket, SocketInput::Failed),
            4 => Input::Socket(socket, SocketInput::Closed),
            5 => Input::SendFailed { socket, to: from, size: c.u16().into(), why: SendFailure::TooBig },
            6 => Input::SendFailed { socket, to: from, size: c.u16().into(), why: SendFailure::Unreachable },
            7 => Input::PortMapped { socket, external: (c.u8() & 1 == 0).then_some(from) },
            8 => Input::UnixTime(Duration::from_secs(c.u64())),
            9 => Input::Stream(StreamId(1), StreamInput::Accepted { from }),
            10 => Input::Stream(StreamId(1), StreamInput::Connected),
            11 => {
                bytes.extend(c.prefixed());
                Input::Stream(StreamId(1), StreamInput::Bytes(&mut bytes))
            }
            12 => Input::Stream(StreamId(1), StreamInput::Closed(StreamEnd::Reset)),
            // Another socket than the main one.
            _ => {
                bytes.extend(c.prefixed());
                let (socket, ecn) = (SocketId(1), Ecn::NotCapable);
                Input::Datagrams { socket, from, local: None, ecn, stride: 0, bytes: &mut bytes }
            }
        };
        self.stage.input(self.victim, input);
        self.stage.settle(self.victim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(victim: usize, setup: u8, steps: &[u8]) -> Play {
        let mut play = Play { stage: Stage::new(victim, setup), victim, passed: Duration::ZERO };
        let mut c = Cursor(steps);
        while !c.is_empty() {
            play.step(&mut c);
        }
        play
    }

    fn client(play: &Play) -> &posse_core::Client {
        let Host::Client(client) = &play.stage.hosts[CLIENT] else { panic!("a client") };
        client
    }

    fn server(play: &Play) -> &posse_core::Server {
        let Host::Server(server) = &play.stage.hosts[SERVER] else { panic!("a server") };
        server
    }

    #[test]
    fn the_stage_has_sessions_a_group_and_direct_paths_or_relayed_ones() {
        for (setup, direct) in [(0, true), (1, false)] {
            let play = play(CLIENT, setup, &[]);
            let paths: Vec<_> = client(&play).peers().map(|peer| peer.path).collect();
            assert_eq!(paths.len(), 2);
            assert!(paths.iter().all(|p| matches!(p, posse_core::Path::Direct { .. }) == direct), "{paths:?}");
        }
    }

    #[test]
    fn control_messages_of_a_fuzzer_reach_the_client_behind_the_encryption() {
        // A welcome is out of place by now.
        let violated = play(CLIENT, 0, &[Op::Control as u8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(client(&violated).counters().violations, 1);
        // A new peer with a good key is taken, and gets packets.
        let met = play(CLIENT, 0, &[Op::Control as u8, 0, 0, 2, 6, 0, 9, 30, 0, 1, 0x20]);
        assert_eq!(client(&met).counters().violations, 0);
        assert_eq!(client(&met).peers().count(), 3);
    }

    #[test]
    fn control_messages_of_a_fuzzer_reach_the_server_behind_the_encryption() {
        // A second token ends a session.
        let violated = play(SERVER, 0, &[Op::Control as u8, 0, 0, 0, 0, 0]);
        assert_eq!((server(&violated).counters().violations, server(&violated).size().clients), (1, 2));
    }

    #[test]
    fn frames_of_a_fuzzer_reach_the_transport_of_every_link() {
        for (victim, links) in [(SERVER, 3), (CLIENT, 5)] {
            for link in 0..links {
                // A message in a scope that was never opened.
                let play = play(victim, 0, &[Op::Sealed as u8, link, 0, 0, 0, 1, 8, 0xff, 0, 0, 0, 1, 7]);
                let violations = match &play.stage.hosts[victim] {
                    Host::Server(server) => server.counters().violations,
                    Host::Client(client) => client.counters().violations,
                };
                assert_eq!(violations, 1, "link {link} of host {victim}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "showed no keys")]
    fn more_than_thrice_what_came_to_a_stranger_is_noticed() {
        let mut stage = Stage::new(SERVER, 0);
        stage.post(SERVER, stranger(0x20), vec![0; 1]);
    }

    #[test]
    #[should_panic(expected = "never authenticated")]
    fn a_client_that_writes_to_a_stranger_is_noticed() {
        let mut stage = Stage::new(CLIENT, 0);
        stage.post(CLIENT, stranger(0x20), vec![0; 1]);
    }
}
