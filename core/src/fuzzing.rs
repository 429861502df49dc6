//! Doors for the fuzz targets (package posse-fuzz) to what this crate keeps to itself. No logic of its own: each function
//! reads with a parser of [`crate::wire`] and, where there is a writer, writes what was read. Not part of the API.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use crate::entropy::Entropy;
use crate::relay::{Forwarder, RelayLimits};
use crate::secure::{Asked, ClientLogin, LoginReply, RelayKey, Secret, ServerLogin, SessionKey};
use crate::wire::buf::{NoRoom, Writer};
use crate::wire::control::{MAX_LEN, ToClient, ToServer};
use crate::wire::frames::{self, Frame, Frames, Message, Scope};
use crate::wire::header::{self, Short};
use crate::wire::login::{self, Hello, SuiteList, Verdict};
use crate::wire::relay::{self, WRAP_LEN};
use crate::wire::{Malformed, control};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::SocketAddr;

/// What a parser made of some bytes, and what its writer makes of that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recoded {
    /// For people; equal values show the same.
    pub shown: String,
    /// Written anew.
    pub bytes: Vec<u8>,
}

impl Recoded {
    /// `None` if the writer refused what the parser took: always a fault.
    fn of(value: &impl Debug, room: usize, write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Option<Self> {
        let mut buf = vec![0; room];
        let mut w = Writer::new(&mut buf);
        write(&mut w).ok()?;
        Some(Self { shown: format!("{value:?}"), bytes: w.written().to_vec() })
    }
}

// ---- header

/// What can be seen of a short packet without keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The connection id.
    pub cid: u64,
    /// What the header's mask is made from.
    pub sample: [u8; 16],
}

/// Whether a datagram is of this protocol; if it is a short packet, what can be seen of it.
pub fn classify(datagram: &[u8]) -> Option<Option<Packet>> {
    header::classify(datagram)?;
    Some(Short::read(datagram).ok().map(|short| Packet { cid: short.cid, sample: short.sample }))
}

/// Bytes that a packet number takes.
pub fn number_len(number: u64, acked: Option<u64>) -> Option<usize> {
    header::number_len(number, acked)
}

/// A packet number from its low bits.
pub fn expand(low: u32, bits: u32, largest: Option<u64>) -> u64 {
    header::expand(low, bits, largest)
}

// ---- frames

/// What a harness that follows a conversation has to know of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A scope was opened.
    Scope {
        /// Its id on this link.
        id: u64,
        /// Whether it carries control messages.
        control: bool,
        /// The first message's number.
        start: u64,
    },
    /// A message or a part of one.
    Message {
        /// The scope's id.
        scope: u64,
        /// The message's number.
        seq: u64,
    },
    /// A path challenge or a response, with its token.
    Token(u64),
    /// Anything else.
    Other,
}

/// Each frame of a body: its kind as a number that the target can count, its facts, and the frame written anew (`None` if
/// its writer refuses it). The error that ended the body, if one did.
pub fn frames(body: &[u8], mut each: impl FnMut(u8, Fact, Option<Recoded>)) -> Result<(), String> {
    for frame in Frames::new(body) {
        let frame = frame.map_err(|error| format!("{error}"))?;
        // Longer than the body by a length field, so that no message ends with the memory and loses it.
        let room = body.len().saturating_add(16);
        let (kind, fact) = describe(&frame);
        let recoded = match &frame {
            // It holds on to the bytes that it came from, which are not part of what it says.
            Frame::Ack(ack) => {
                let ranges: Vec<_> = ack.ranges().collect();
                Recoded::of(&(ack.path, ack.delay, ranges, ack.ecn), room, |w| write_frame(w, &frame))
            }
            _ => Recoded::of(&frame, room, |w| write_frame(w, &frame)),
        };
        each(kind, fact, recoded);
    }
    Ok(())
}

/// The facts of a body's frames, up to the first error.
pub fn facts(body: &[u8]) -> impl Iterator<Item = Fact> + '_ {
    Frames::new(body).map_while(Result::ok).map(|frame| describe(&frame).1)
}

fn describe(frame: &Frame<'_>) -> (u8, Fact) {
    match *frame {
        Frame::Ping => (0, Fact::Other),
        Frame::Ack(ack) => (if ack.ecn.is_some() { 2 } else { 1 }, Fact::Other),
        Frame::Scope(s) => {
            let kind = match s.scope {
                Scope::Control => 3,
                Scope::Peer(_) => 4,
                Scope::Group(..) => 5,
            };
            (kind, Fact::Scope { id: s.id, control: s.scope == Scope::Control, start: s.start })
        }
        Frame::ScopeEnd { .. } => (6, Fact::Other),
        Frame::Message(Message { head, .. }) => {
            let kind = 7 + u8::from(head.fragment.is_some()) + 2 * u8::from(head.reliable);
            (kind, Fact::Message { scope: head.scope, seq: head.seq })
        }
        Frame::Credit(_) => (11, Fact::Other),
        Frame::Challenge(token) => (12, Fact::Token(token)),
        Frame::Response(token) => (13, Fact::Token(token)),
        Frame::KeyShare(_) => (14, Fact::Other),
        Frame::Close(_) => (15, Fact::Other),
        Frame::Skip { .. } => (16, Fact::Other),
        Frame::ScopeCredit { .. } => (17, Fact::Other),
        Frame::MaxMessage(_) => (18, Fact::Other),
        Frame::Observe(_) => (19, Fact::Other),
        Frame::Knock(_) => (20, Fact::Other),
        Frame::AskTime(_) => (21, Fact::Other),
        Frame::Time { .. } => (22, Fact::Other),
        Frame::Leg(_) => (23, Fact::Other),
    }
}

fn write_frame(w: &mut Writer<'_>, frame: &Frame<'_>) -> Result<(), NoRoom> {
    match frame {
        Frame::Ping => frames::write_ping(w),
        Frame::Ack(ack) => {
            let max = frames::MAX_ACK_RANGES as usize;
            frames::write_ack(w, ack.path, ack.delay, ack.ranges(), max, ack.ecn)
        }
        Frame::Scope(scope) => frames::write_scope(w, scope),
        Frame::ScopeEnd { id, charged } => frames::write_scope_end(w, *id, *charged),
        Frame::Skip { scope, seq, total } => frames::write_skip(w, *scope, *seq, *total),
        Frame::Message(message) => frames::write_message(w, &message.head, message.data),
        Frame::Credit(limit) => frames::write_credit(w, *limit),
        Frame::ScopeCredit { scope, limit } => frames::write_scope_credit(w, *scope, *limit),
        Frame::MaxMessage(bytes) => frames::write_max_message(w, *bytes),
        Frame::Challenge(token) => frames::write_challenge(w, *token),
        Frame::Response(token) => frames::write_response(w, *token),
        Frame::KeyShare(share) => frames::write_key_share(w, share),
        Frame::Close(reason) => frames::write_close(w, *reason),
        Frame::Observe(observe) => frames::write_observe(w, *observe),
        Frame::Knock(door) => frames::write_knock(w, *door),
        Frame::AskTime(number) => frames::write_ask_time(w, *number),
        Frame::Time { number, clock } => frames::write_time(w, *number, *clock),
        Frame::Leg(leg) => frames::write_leg(w, *leg),
    }
}

// ---- control messages

/// A control message from the server, and written anew.
pub fn to_client(bytes: &[u8]) -> Result<Option<Recoded>, Malformed> {
    let message = ToClient::decode(bytes)?;
    Ok(Recoded::of(&message, MAX_LEN, |w| message.encode(w)))
}

/// A control message from a client, and written anew.
pub fn to_server(bytes: &[u8]) -> Result<Option<Recoded>, Malformed> {
    let message = ToServer::decode(bytes)?;
    Ok(Recoded::of(&message, MAX_LEN, |w| message.encode(w)))
}

/// The longest byte strings of control messages: token, user data, message.
pub const CONTROL_BOUNDS: [usize; 3] = [control::MAX_TOKEN, control::MAX_USER_DATA, control::MAX_MESSAGE];

// ---- login

/// The payload of a login request, and written anew.
pub fn hello(payload: &[u8]) -> Result<Option<Recoded>, Malformed> {
    let hello = Hello::read(payload)?;
    Ok(Recoded::of(&hello, login::HELLO_LEN, |w| hello.write(w)))
}

/// The payload of a login reply, and written anew.
pub fn verdict(payload: &[u8]) -> Result<Recoded, Malformed> {
    let verdict = Verdict::read(payload)?;
    Ok(Recoded { shown: format!("{verdict:?}"), bytes: verdict.write().to_vec() })
}

/// A server's and a client's side of one login, with fixed keys.
pub struct LoginPair {
    entropy: Entropy,
    server: ServerLogin,
    client: Box<ClientLogin>,
}

impl LoginPair {
    /// A client that says these things of itself. `None` if it names too many suites.
    pub fn new(version: u16, app: u64, suites: &[u8]) -> Option<Self> {
        let mut entropy = Entropy::new(&[3; 32]);
        let secret = [7; 32];
        let hello = Hello { version, app, suites: SuiteList::new(suites)?, ticket: b"" };
        let session = SessionKey::new(entropy.keys());
        let client = ClientLogin::new(entropy.keys(), &session, &crate::secure::public_key(&secret), &hello).ok()?;
        Some(Self { entropy, server: ServerLogin::new([&secret]), client: Box::new(client) })
    }

    /// The client's request.
    pub fn request(&self) -> Vec<u8> {
        self.client.request().to_vec()
    }

    /// The server's answer to a request, and what it read of the client. It accepts with the session and suite given.
    pub fn answer(&mut self, request: &[u8], session: u64, suite: u8) -> Option<(Vec<u8>, String)> {
        let mut out = [0; login::REPLY_LEN];
        let mut seen = String::new();
        let decide = |asked: &Asked<'_>| {
            seen = format!("{:?}", asked.hello);
            Ok((session, suite))
        };
        let answer = self.server.answer(self.entropy.keys(), request, &mut out, decide).ok()?;
        Some((out.get(..answer.len)?.to_vec(), seen))
    }

    /// What the client makes of a reply: session and suite.
    pub fn read(&mut self, reply: &[u8]) -> Option<(u64, u8)> {
        match self.client.read(reply).ok()? {
            LoginReply::Accepted { session, suite, .. } => Some((session, suite)),
            LoginReply::Refused(_) => None,
        }
    }
}

// ---- relay

/// A wrapped packet, and the wrap written anew with the packet behind it.
pub fn relay_wrap(datagram: &[u8]) -> Result<Option<Recoded>, Malformed> {
    let wrap = relay::parse(datagram)?;
    let mut head = [0; WRAP_LEN];
    let written = relay::write(&mut head, wrap.session, u64::from(wrap.number_low), wrap.handle, wrap.mac);
    Ok(written.ok().map(|()| Recoded { shown: format!("{wrap:?}"), bytes: [&head, wrap.inner].concat() }))
}

/// A forwarding plane with one sender, one receiver and one route between them.
pub struct RelayPair {
    forwarder: Forwarder,
    key: RelayKey,
    handle: u32,
}

impl RelayPair {
    /// The sender's session id.
    pub const SENDER: u64 = 0x0102_0304_0506_0708;

    /// `receiver` is where admitted packets go.
    pub fn new(sender: SocketAddr, receiver: SocketAddr) -> Option<Self> {
        let limits = RelayLimits { sessions: 2, routes: 1, budget: crate::config::RelayBudget::default() };
        let mut forwarder = Forwarder::new(limits, Entropy::new(&[5; 32]).hasher("relay"));
        let key = RelayKey::from_secret(&Secret::new([1; 32]));
        forwarder.add_session(Self::SENDER, key.clone(), sender.into()).ok()?;
        forwarder.add_session(2, RelayKey::from_secret(&Secret::new([2; 32])), receiver.into()).ok()?;
        let handle = forwarder.add_route(Self::SENDER, 2).ok()?;
        Some(Self { forwarder, key, handle })
    }

    /// A genuine wrap of `inner` with the handle of the route plus `off`.
    pub fn wrap(&self, number: u64, off: u32, inner: &[u8]) -> Vec<u8> {
        let mut head = [0; WRAP_LEN];
        self.key.wrap(Self::SENDER, number, self.handle.wrapping_add(off), inner, &mut head);
        [&head, inner].concat()
    }

    /// Where an admitted datagram goes, and its inside.
    pub fn admit<'d>(&mut self, datagram: &'d [u8], from: SocketAddr) -> Option<(SocketAddr, &'d [u8])> {
        let forward = self.forwarder.admit(crate::time::Instant::ZERO, datagram, from.into()).ok()?;
        match forward.to {
            crate::relay::Reach::Datagram(to) => Some((to, forward.inner)),
            crate::relay::Reach::Stream(..) => None,
        }
    }
}
