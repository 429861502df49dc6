//! Logins: a request is judged and answered, and begins a session that has yet to prove itself.
//!
//! A repeated request, known by its ephemeral key, gets the same bytes again. One that is new passes `admission` before
//! anything costly is done with it. One that is not authentic is dropped and counted; one that is and yet cannot be taken gets
//! the reason, and so does the application.

use super::admission::Verdict;
use super::session::{Answered, MAX_SESSIONS, Session, session_id};
use super::{Queued, Server, Slot};
use crate::config::common_suite;
use crate::event::LoginRefusal;
use crate::ids::{PeerId, SocketId};
use crate::leg::streams::Streams;
use crate::link::DATAGRAM;
use crate::outbox::{Outbox, Transmit};
use crate::relay::Reach;
use crate::secure::{Asked, Crypto, Protection, RelayKey};
use crate::ticket::Audience;
use crate::time::Instant;
use crate::wire::login::{self, Hello, Refusal, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Server {
    /// Answers a login request, or repeats the answer.
    pub(super) fn on_login(&mut self, now: Instant, from: Reach, datagram: &[u8], out: &mut Outbox) {
        let Ok(request) = login::request(datagram) else {
            self.admission.counters.forged += 1;
            return;
        };
        let Some(space) = out.reserve(DATAGRAM) else {
            self.counters.logins_dropped += 1;
            return;
        };
        let known = self.requests.get(request.ephemeral);
        if let Some(session) = known.and_then(|s| self.sessions[*s as usize].session.as_deref()) {
            // Also to another address than was answered first, for a NAT may have restarted in between. A copied request
            // draws no more than any other would, a twentieth of its size; the session itself stays where it is until the
            // client's first packet shows where that came from.
            if !session.reply.is_empty() {
                space[..session.reply.len()].copy_from_slice(&session.reply);
                reply_to(&mut self.streams, from, session.reply.len(), out);
            }
            return;
        }
        if !self.login.has(request.hint) {
            self.admission.counters.other_key += 1;
            return;
        }
        match self.admission.judge(now, from, &request, self.entropy.keys()) {
            Verdict::Read => self.read_login(now, from, &request, datagram, out),
            Verdict::Retry(cookie) => {
                let retry = login::write_retry(request.ephemeral, cookie);
                space[..retry.len()].copy_from_slice(&retry);
                reply_to(&mut self.streams, from, retry.len(), out);
            }
            Verdict::Drop => {}
        }
    }

    fn read_login(&mut self, now: Instant, from: Reach, request: &Request<'_>, datagram: &[u8], out: &mut Outbox) {
        let Some(space) = out.reserve(DATAGRAM) else { return };
        let slot = self.free.last().copied().unwrap_or(self.sessions.len() as u32);
        let full = self.handshakes >= self.config.limits.max_handshakes
            || self.live >= self.config.limits.max_clients
            || slot as usize >= MAX_SESSIONS;
        let Ok(seed) = <[u8; 8]>::try_from(&self.entropy.keys().draw()[..8]) else { return };
        let id = session_id(slot, u64::from_be_bytes(seed));
        let mut agreed: Option<(Arc<dyn Crypto>, Vec<u8>)> = None;
        let mut refusal = None;
        let (mut ticket, draining) = (None, self.admission.draining);
        let (app, suites) = (self.config.app, &self.config.suites);
        self.tickets.tidy(now);
        let judge = |asked: &Asked<'_>| {
            let crypto = judge(&asked.hello, app, suites)?;
            let audience = Audience { server_key: &asked.server_key, app };
            let ticket = self.tickets.check(now, audience, asked.hello.ticket).map_err(LoginRefusal::Ticket)?;
            match () {
                () if draining => Err(LoginRefusal::Draining),
                () if full => Err(LoginRefusal::Full),
                () => Ok((crypto, ticket)),
            }
        };
        let decide = |asked: &Asked<'_>| match judge(asked) {
            Ok((crypto, brought)) => {
                ticket = brought;
                let suite = crypto.id();
                agreed = Some((crypto, asked.hello.suites.as_slice().to_vec()));
                Ok((id, suite))
            }
            Err(why) => {
                refusal = Some(why);
                Err(told(why))
            }
        };
        let Ok(answer) = self.login.answer(self.entropy.keys(), datagram, space, decide) else {
            self.admission.counters.forged += 1;
            return;
        };
        let reply = space[..answer.len].to_vec();
        reply_to(&mut self.streams, from, answer.len, out);
        if let Some(why) = refusal {
            let news = self.admission.refused(why, from.addr());
            return self.queue.extend(news.map(Queued::Refused));
        }
        let (Some(secrets), Some((crypto, suites))) = (answer.accepted, agreed) else { return };
        if self.free.pop().is_none() {
            self.sessions.push(Slot::default());
        }
        let place = &mut self.sessions[slot as usize];
        place.generation = place.generation.saturating_add(1);
        let peer = PeerId::new(slot, place.generation);
        let protection = Protection::without_shares(crypto, &secrets.link, Session::ROLE);
        let key = answer.client_key;
        ticket.iter().for_each(|ticket| self.tickets.take(ticket));
        let request = *request.ephemeral;
        let (addr, udp) = (from.addr(), matches!(from, Reach::Datagram(_)));
        let answered = Answered { id, peer, addr, udp, key, suites, request, ticket, reply, protection };
        let streams = ["client link", "roaming"].map(|label| self.entropy.stream(label, id));
        let session = Session::new(now, &self.config, &self.transport, streams, answered);
        place.session = Some(Box::new(session));
        let added = self.relay.add_session(id, RelayKey::from_secret(&secrets.relay), from);
        debug_assert!(added.is_ok(), "slots tell ids apart, and the relay has room for every slot");
        self.requests.insert(request, slot);
        self.handshakes += 1;
        self.live += 1;
        self.refresh(slot);
    }
}

/// Sends what was just written into the outbox's reserved room back by the leg that the request came by.
fn reply_to(streams: &mut Streams, from: Reach, len: usize, out: &mut Outbox) {
    match from {
        Reach::Datagram(at) => out.commit(len, Transmit::datagram(SocketId::MAIN, at)),
        Reach::Stream(id, _) => {
            // Who asks again and again and reads nothing has had its answer.
            if let (Some(queue), Some(reply)) = (streams.queue(id).filter(|queue| queue.has_room()), out.reserve(len)) {
                queue.push(reply);
            }
        }
    }
}

/// Whether a login may go on, and with which suite.
fn judge(hello: &Hello<'_>, app: u64, suites: &[Arc<dyn Crypto>]) -> Result<Arc<dyn Crypto>, LoginRefusal> {
    if hello.version != crate::client::VERSION {
        return Err(LoginRefusal::Version { client: hello.version });
    }
    if hello.app != app {
        return Err(LoginRefusal::Application { client: hello.app });
    }
    // The suite with the highest id is the portable one that every client must have, so that any two can converse.
    let portable = suites.iter().map(|s| s.id()).max();
    let common =
        common_suite(suites, hello.suites.as_slice()).filter(|_| portable.is_some_and(|p| hello.suites.contains(p)));
    common.ok_or(LoginRefusal::Suite)
}

/// What the client is told.
fn told(why: LoginRefusal) -> Refusal {
    match why {
        LoginRefusal::Version { .. } => Refusal::Version { server: crate::client::VERSION },
        LoginRefusal::Application { .. } => Refusal::Application,
        LoginRefusal::Suite => Refusal::Suite,
        LoginRefusal::Full => Refusal::Full,
        LoginRefusal::Draining => Refusal::Draining,
        LoginRefusal::Ticket(why) => Refusal::Ticket(why),
    }
}
