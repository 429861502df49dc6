//! IPv6 addresses of clients that logged in by IPv4.
//!
//! No NAT stands before an IPv6 address, only firewalls, which let in whoever was written to (RFC 6092 §3.2): two clients that
//! both have one reach each other by simultaneous open, whatever NATs they have for IPv4. A client is told the server's IPv6
//! address with its doors ([`ServerConfig::ipv6`](crate::config::ServerConfig::ipv6)) and sends OBSERVE there from its main socket. Anybody could forge the source of
//! that, the client itself too, to have peers send to a stranger. So it is challenged there, with one datagram that is no larger for
//! each that came, and only an authentic answer makes the address a candidate.

use super::Server;
use super::session::Session;
use crate::event::Path;
use crate::ids::SocketId;
use crate::outbox::Outbox;
use crate::path::{Way, probeable};
use crate::time::Instant;
use core::net::SocketAddr;

/// What is known of a client's IPv6 address.
#[derive(Clone, Copy, Default)]
pub(super) enum Ipv6 {
    #[default]
    Unknown,
    /// It was asked there, for this answer.
    Asked(SocketAddr, u64),
    /// It answered there.
    Proven(SocketAddr),
}

impl Ipv6 {
    pub(super) fn proven(self) -> Option<SocketAddr> {
        if let Self::Proven(at) = self { Some(at) } else { None }
    }
}

impl Session {
    /// Whether peers can reach it by IPv6.
    pub(super) fn has_ipv6(&self) -> bool {
        self.addr.is_ipv6() || self.ipv6.proven().is_some()
    }

    /// The client asked to be looked at, from there.
    pub(super) fn ask_by_ipv6(&mut self, now: Instant, from: Way, out: &mut Outbox) {
        let new = self.ipv6.proven() != Some(from.at) && self.addr.is_ipv4() && from.at.is_ipv6();
        if new
            && from.socket == SocketId::MAIN
            && probeable(from.at).is_ok()
            && let Some(token) = self.link.ask_elsewhere(now, from, out)
        {
            self.ipv6 = Ipv6::Asked(from.at, token);
        }
    }
}

impl Server {
    /// A client answered a challenge: if that was for its IPv6 address, its peers may know it.
    pub(super) fn on_answered(&mut self, now: Instant, slot: u32, token: u64) {
        let Some(session) = self.session_mut(slot) else { return };
        let me = session.peer;
        match session.ipv6 {
            Ipv6::Asked(at, asked) if asked == token => session.ipv6 = Ipv6::Proven(at),
            _ => return,
        }
        // Who has no path yet may find one by it; who has one is well as it is.
        for peer in self.peers_of(me) {
            let both = self.client(peer).is_some_and(Session::has_ipv6);
            let direct = matches!(self.pairs.path(me, peer), Some(Path::Direct { .. }));
            if direct || !both || !self.may_punch(me, peer, self.pairs.was_started(me, peer)) {
                continue;
            }
            self.pairs.allow_restart(me, peer);
            if let Some(epoch) = self.pairs.restart_moved(now, me, peer) {
                self.punch(now, me, peer, epoch);
                self.punch(now, peer, me, epoch);
            }
        }
    }
}
