//! Logins: a request is judged and answered, and begins a session that has yet to prove itself.
//!
//! A repeated request, known by its ephemeral key, gets the same bytes again. One that is not authentic is dropped and counted.

use super::session::{Answered, MAX_SESSIONS, Session, session_id};
use super::{Server, Slot};
use crate::config::common_suite;
use crate::ids::{PeerId, SocketId};
use crate::link::DATAGRAM;
use crate::outbox::{Outbox, Transmit};
use crate::secure::{Crypto, Protection, RelayKey};
use crate::time::Instant;
use crate::wire;
use crate::wire::login::{Hello, Refusal};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Server {
    /// Answers a login request, or repeats the answer.
    pub(super) fn on_login(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        let Some(space) = out.reserve(DATAGRAM) else {
            self.counters.logins_dropped += 1;
            return;
        };
        let Some(request) = wire::login::ephemeral(datagram).ok().copied() else {
            self.counters.logins_dropped += 1;
            return;
        };
        if let Some(session) = self.requests.get(&request).and_then(|s| self.sessions[*s as usize].session.as_deref()) {
            // Also to another address than was answered first, for a NAT may have restarted in between. A copied request
            // draws no more than any other would, a twentieth of its size; the session itself stays where it is until the
            // client's first packet shows where that came from.
            if !session.reply.is_empty() {
                space[..session.reply.len()].copy_from_slice(&session.reply);
                out.commit(session.reply.len(), Transmit::datagram(SocketId::MAIN, from));
            }
            return;
        }
        let slot = self.free.last().copied().unwrap_or(self.sessions.len() as u32);
        let full = self.handshakes >= self.config.limits.max_handshakes
            || self.live >= self.config.limits.max_clients
            || slot as usize >= MAX_SESSIONS;
        let Ok(seed) = <[u8; 8]>::try_from(&self.entropy.keys().draw()[..8]) else { return };
        let id = session_id(slot, u64::from_be_bytes(seed));
        let mut agreed: Option<(Arc<dyn Crypto>, Vec<u8>)> = None;
        let (app, suites) = (self.config.app, &self.config.suites);
        let decide = |_: &[u8; 32], hello: &Hello| {
            let crypto = judge(hello, app, suites, full)?;
            let suite = crypto.id();
            agreed = Some((crypto, hello.suites.as_slice().to_vec()));
            Ok((id, suite))
        };
        let Ok(answer) = self.login.answer(self.entropy.keys(), datagram, space, decide) else {
            self.counters.logins_dropped += 1;
            return;
        };
        let reply = space[..answer.len].to_vec();
        out.commit(answer.len, Transmit::datagram(SocketId::MAIN, from));
        let (Some(secrets), Some((crypto, suites))) = (answer.accepted, agreed) else { return };
        if self.free.pop().is_none() {
            self.sessions.push(Slot::default());
        }
        let place = &mut self.sessions[slot as usize];
        place.generation = place.generation.saturating_add(1);
        let peer = PeerId::new(slot, place.generation);
        let protection = Protection::without_shares(crypto, &secrets.link, Session::ROLE);
        let key = answer.client_key;
        let answered = Answered { id, peer, addr: from, key, suites, request, reply, protection };
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

/// Whether a login may go on, and with which suite.
fn judge(hello: &Hello, app: u64, suites: &[Arc<dyn Crypto>], full: bool) -> Result<Arc<dyn Crypto>, Refusal> {
    if hello.version != crate::client::VERSION {
        return Err(Refusal::Version { server: crate::client::VERSION });
    }
    if hello.app != app {
        return Err(Refusal::Application);
    }
    // The suite with the highest id is the portable one that every client must have, so that any two can converse.
    let portable = suites.iter().map(|s| s.id()).max();
    let common =
        common_suite(suites, hello.suites.as_slice()).filter(|_| portable.is_some_and(|p| hello.suites.contains(p)));
    let crypto = common.ok_or(Refusal::Suite)?;
    if full { Err(Refusal::Full) } else { Ok(crypto) }
}
