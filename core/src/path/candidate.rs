//! One way that may lead to the peer: its schedule of challenges, and what came back.

use super::{FAST_FOR, FAST_INTERVAL, GRACE, Pace, ROUND, SLOWEST_INTERVAL, TOKEN_LIFE, Way};
use crate::time::{Duration, Instant};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// Outstanding tokens a candidate; a newer one replaces the oldest. At the fast rate they cover round trips to 600 ms at
/// once; slower answers find their token among the last of the fast ones, which stay while probing slows down.
const TOKENS: usize = 32;

/// Why nothing is ever sent to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unprobeable {
    /// Port 0.
    #[error("port 0")]
    PortZero,
    /// The unspecified address, or another of IPv4's "this network" (RFC 1122 §3.2.1.3).
    #[error("unspecified address")]
    Unspecified,
    /// A multicast group.
    #[error("multicast address")]
    Multicast,
    /// The limited broadcast address.
    #[error("broadcast address")]
    Broadcast,
}

/// Whether a single host can be at `address`. Looks through IPv4-mapped IPv6 addresses.
pub(crate) fn probeable(address: SocketAddr) -> Result<(), Unprobeable> {
    let ip = address.ip().to_canonical();
    let this_network = matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 0);
    if address.port() == 0 {
        Err(Unprobeable::PortZero)
    } else if ip.is_unspecified() || this_network {
        Err(Unprobeable::Unspecified)
    } else if ip.is_multicast() {
        Err(Unprobeable::Multicast)
    } else if matches!(ip, IpAddr::V4(v4) if v4.is_broadcast()) {
        Err(Unprobeable::Broadcast)
    } else {
        Ok(())
    }
}

/// Whether an address can belong to a host's own network only: private (RFC 1918), link-local (RFC 3927, RFC 4291) or
/// unique local (RFC 4193). What a client says of its interfaces is believed for no other address: it could name anybody's.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Datagrams that may be saved up to be answered: those of one flight, not of a minute.
const MAX_CREDIT: u32 = 4;

/// Who named a candidate; in the order in which they are probed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Origin {
    /// The server.
    Given,
    /// A search that the server ordered.
    Found,
    /// An authenticated packet came from there.
    Reflexive,
}

struct Outstanding {
    token: u64,
    sent: Instant,
}

/// See the module's text.
pub(super) struct Candidate {
    pub(super) way: Way,
    pub(super) origin: Origin,
    /// When to challenge it next.
    pub(super) due: Option<Instant>,
    /// Its turn among all pairs' challenges, if it waits for one.
    turn: Option<Instant>,
    /// When an authenticated packet last came from there.
    pub(super) heard: Option<Instant>,
    /// The proof that it arrives: the lowest time that a challenge of the latest round took to be answered. The answer
    /// to a challenge may have come over the relay, so it is a bound on no single way, but comparable among candidates.
    pub(super) rtt: Option<Duration>,
    /// `rtt` is of an earlier round.
    rtt_is_old: bool,
    /// It answered a challenge once: whoever is there is the peer, or was.
    proven: bool,
    pub(super) challenges: u32,
    /// Datagrams that came from there and were not answered by one yet.
    credit: u32,
    began: Instant,
    interval: Duration,
    last_sent: Option<Instant>,
    /// A ring once it is full, with `oldest` to be replaced next.
    outstanding: Vec<Outstanding>,
    oldest: usize,
}

impl Candidate {
    /// A candidate that is due at once.
    pub(super) fn new(way: Way, origin: Origin, now: Instant) -> Self {
        Self {
            way,
            origin,
            due: Some(now),
            turn: None,
            heard: None,
            rtt: None,
            rtt_is_old: false,
            proven: false,
            challenges: 0,
            credit: 0,
            began: now,
            interval: FAST_INTERVAL,
            last_sent: None,
            outstanding: Vec::new(),
            oldest: 0,
        }
    }

    /// Starts its schedule anew. Its proof is of the past then and counts only if it is in use.
    pub(super) fn begin(&mut self, now: Instant, in_use: bool) {
        (self.due, self.turn) = (Some(now), None);
        self.began = now;
        self.interval = FAST_INTERVAL;
        self.rtt_is_old = true;
        if !in_use {
            self.rtt = None;
        }
    }

    /// It was found good by an earlier pair of the same two, and still is if a round-trip time is given.
    pub(super) fn inherit(&mut self, rtt: Option<Duration>) {
        (self.proven, self.rtt) = (true, rtt);
    }

    /// It need not be challenged any more in this schedule. A turn that it waited for is not one for the next.
    pub(super) fn rest(&mut self) {
        (self.due, self.turn) = (None, None);
    }

    /// Whether its schedule began before (or when) something happened.
    pub(super) fn began_before(&self, when: Option<Instant>) -> bool {
        when >= Some(self.began)
    }

    /// How long to wait after a challenge at `now`.
    pub(super) fn next_interval(&mut self, now: Instant) -> Duration {
        if now.since(self.began) >= FAST_FOR {
            self.interval = self.interval.saturating_mul(2).min(SLOWEST_INTERVAL);
        }
        self.interval
    }

    /// Whether one that is due may be challenged now; if not, it is due when its turn has come.
    pub(super) fn has_turn(&mut self, now: Instant, pace: &mut Pace) -> bool {
        let turn = self.turn.take().unwrap_or_else(|| pace.grant(now));
        if turn > now {
            (self.turn, self.due) = (Some(turn), Some(turn));
        }
        turn <= now
    }

    /// Until when it may take to answer in its present schedule before it counts as silent; `None` if it has.
    pub(super) fn has_until(&self) -> Option<Instant> {
        let rtt = self.rtt.filter(|_| self.rtt_is_old)?;
        Some(self.began + rtt.saturating_mul(3) / 2 + GRACE)
    }

    /// An authenticated packet came from there.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.credit = (self.credit + 1).min(MAX_CREDIT);
    }

    /// Whether a datagram may go there. A source that only the peer vouches for, by a packet whose address it may have
    /// forged, gets no more datagrams than came from it until it has proven that it is the peer.
    pub(super) fn affords(&self) -> bool {
        self.origin != Origin::Reflexive || self.proven || self.credit > 0
    }

    /// Notes a datagram that goes there.
    pub(super) fn spend(&mut self) {
        self.credit = self.credit.saturating_sub(1);
    }

    /// Notes a challenge, and that the next one is due after `pause` if its schedule is not over then.
    pub(super) fn sent(&mut self, now: Instant, token: u64, pause: Duration) {
        // Later than now, even at the end of time: that is no earlier than any schedule's end.
        let next = now + pause;
        self.due = (next < self.began + ROUND).then_some(next);
        self.last_sent = Some(now);
        self.challenges = self.challenges.saturating_add(1);
        let entry = Outstanding { token, sent: now };
        if self.outstanding.len() < TOKENS {
            self.outstanding.reserve_exact(TOKENS - self.outstanding.len());
            self.outstanding.push(entry);
        } else if let Some(slot) = self.outstanding.get_mut(self.oldest) {
            *slot = entry;
            self.oldest = (self.oldest + 1) % TOKENS;
        }
    }

    /// The peer just sent from there, so now is a good time, unless it is proven or was challenged just now.
    pub(super) fn trigger(&mut self, now: Instant) {
        if self.rtt.is_none() {
            let soonest = self.last_sent.map_or(now, |last| now.max(last + FAST_INTERVAL));
            self.due = Some(self.due.map_or(soonest, |due| due.min(soonest)));
        }
    }

    /// If `token` is one of its own, its round-trip time. The token stays known: its second copy is no surprise.
    pub(super) fn on_response(&mut self, now: Instant, token: u64) -> Option<Duration> {
        let sent = self.outstanding.iter().find(|o| o.token == token)?.sent;
        let sample = now.since(sent);
        if sample > TOKEN_LIFE {
            return None;
        }
        self.proven = true;
        let best = match self.rtt {
            Some(rtt) if !self.rtt_is_old => rtt.min(sample),
            _ => sample,
        };
        self.rtt = Some(best);
        self.rtt_is_old = false;
        self.rtt
    }

    /// Gives the tokens' memory back when all have expired: a pair that is settled stays small.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.last_sent.is_some_and(|last| now.since(last) > TOKEN_LIFE) && self.outstanding.capacity() > 0 {
            self.outstanding = Vec::new();
            self.oldest = 0;
        }
    }

    /// Nothing sent before now proves anything. What its schedule still has goes on if it `stays`.
    pub(super) fn forget(&mut self, stays: bool) {
        self.rtt = None;
        self.outstanding.clear();
        self.oldest = 0;
        (self.due, self.turn) = (self.due.filter(|_| stays), self.turn.filter(|_| stays));
    }

    #[cfg(test)]
    pub(super) fn holds_tokens(&self) -> bool {
        self.outstanding.capacity() > 0
    }
}
