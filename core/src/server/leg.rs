//! The server's side of legs: clients decide, the server follows what they say in sealed packets.
//!
//! A packet that is newer than any before and says TCP makes the stream that it came by the session's, for its own link and for
//! what is relayed. One that says UDP is believed where it comes from the address that the session had; from another one it
//! is followed once that address has proven itself as any change of address does ([`crate::path::Roaming`]). A stream that
//! breaks leaves the address.

use super::discovery::Discovery;
use super::ipv6::Ipv6;
use super::session::{Phase, Session};
use super::{Queued, Server};
use crate::event::ServerEvent;
use crate::ids::{PeerId, SocketId, StreamId};
use crate::leg::Leg;
use crate::leg::streams::Streams;
use crate::link::Route;
use crate::machine::{Ecn, StreamInput};
use crate::outbox::Outbox;
use crate::path::Way;
use crate::relay::Reach;
use crate::time::Instant;
use crate::wire::control::{Candidates, ToClient};
use core::net::SocketAddr;

/// By which way packets go to a session's client.
pub(super) fn route<'a>(streams: &'a mut Streams, session: &Session) -> Route<'a> {
    match session.stream.and_then(|id| streams.queue(id)) {
        Some(queue) => Route::Stream(queue),
        None if session.udp_known => Route::Straight(session.addr.into()),
        // Where a stream came from is not where datagrams may go.
        None => Route::Nowhere,
    }
}

impl Server {
    /// By which leg a client's packets travel; `None` if there is no such client.
    pub fn leg(&self, client: PeerId) -> Option<Leg> {
        self.client(client).map(Session::leg)
    }

    /// Something happened to a stream.
    pub(super) fn on_stream(&mut self, now: Instant, id: StreamId, what: StreamInput<'_>, out: &mut Outbox) {
        match what {
            StreamInput::Accepted { from } => self.streams.accept(now, id, from),
            StreamInput::Bytes(bytes) => {
                let Some((from, mut reader)) = self.streams.take_reader(id) else { return };
                let read = reader
                    .read(bytes, |frame| self.datagram(now, Reach::Stream(id, from), Ecn::NotCapable, frame, out));
                if let Some(slot) = self.streams.put_reader(id, reader, read) {
                    self.leave_stream(now, slot, id);
                }
            }
            StreamInput::Writable => {
                if let Some(slot) = self.streams.written(id) {
                    if let Some(session) = self.session_mut(slot).filter(|s| s.stream == Some(id)) {
                        session.link.transport().set_blocked(false);
                    }
                    self.refresh(slot);
                }
            }
            StreamInput::Closed(_) => {
                if let Some(slot) = self.streams.closed(id) {
                    self.leave_stream(now, slot, id);
                }
            }
            // It opens none.
            StreamInput::Connected => {}
        }
    }

    /// What a packet just received says of its client's leg.
    pub(super) fn follow_leg(&mut self, now: Instant, slot: u32, from: Way, by: Option<StreamId>, out: &mut Outbox) {
        let Some(session) = self.session_mut(slot) else { return };
        if let Some(token) = session.link.take_asked()
            && by.is_none()
        {
            session.link.answer_asked(now, from, token, out);
        }
        let (stream, known) = (session.stream, session.udp_known);
        match (session.link.take_leg(), by) {
            (Some(Leg::Tcp), Some(id)) if stream != Some(id) && self.streams.own(id, slot) => {
                self.enter_stream(now, slot, id);
            }
            (Some(Leg::Udp), None) if stream.is_some() || !known => {
                if let Some(session) = self.session_mut(slot) {
                    session.wants_udp = true;
                }
                _ = self.check_udp(now, slot, from.at);
            }
            _ => {}
        }
    }

    /// The client of a session is reached by UDP again if it said so and this address is proven.
    /// True if so.
    pub(super) fn check_udp(&mut self, now: Instant, slot: u32, proven: SocketAddr) -> bool {
        let wants = self.session_mut(slot).filter(|s| s.wants_udp && s.addr == proven);
        let Some(session) = wants else { return false };
        (session.udp_known, session.wants_udp) = (true, false);
        session.link.transport().set_blocked(false);
        if let Some(id) = session.stream {
            // The client closes the stream when it is sure; what is in there arrives. One that vanishes does not keep it.
            self.leave_stream(now, slot, id);
            self.streams.release(now, id);
        }
        self.look_again(now, slot);
        true
    }

    /// Has a client and its peers look for direct paths again, as it is reached in another way.
    pub(super) fn look_again(&mut self, now: Instant, slot: u32) {
        let Some(session) = self.session_mut(slot).filter(|s| s.phase == Phase::Online) else { return };
        let me = session.peer;
        self.discover(now, slot);
        for peer in self.peers_of(me) {
            self.forget_search(me, peer);
            if !self.may_punch(me, peer, self.pairs.was_started(me, peer)) {
                continue;
            }
            // Whoever asked for a restart a moment ago did so as of the way before. Moves are rare enough by themselves.
            self.pairs.allow_restart(me, peer);
            if let Some(epoch) = self.pairs.restart_moved(now, me, peer) {
                self.punch(now, me, peer, epoch);
                self.punch(now, peer, me, epoch);
            }
        }
    }

    /// Finds out, from the beginning, how the NAT before a client behaves.
    pub(super) fn discover(&mut self, now: Instant, slot: u32) {
        let (doors, ipv6) = (self.config.doors, self.config.ipv6);
        // Of a client that UDP does not reach there is nothing to find out.
        let Some(session) = self.session_mut(slot).filter(|s| s.stream.is_none()) else { return };
        (session.discovery, session.ipv6) = (Discovery::new(now, &doors), Ipv6::Unknown);
        let main = ipv6.filter(|_| session.addr.is_ipv4()).map(SocketAddr::V6);
        let doors: Candidates = doors.iter().map(|(_, addr)| addr).chain(main).collect();
        if !doors.as_slice().is_empty() {
            self.tell(now, slot, &ToClient::Doors { doors });
        }
    }

    fn enter_stream(&mut self, now: Instant, slot: u32, id: StreamId) {
        let Some(session) = self.session_mut(slot) else { return };
        let before = session.stream.replace(id);
        session.wants_udp = false;
        let session_id = session.id;
        session.link.change_leg(now, Leg::Tcp);
        if let Some(before) = before {
            // The client has another stream, and the same leg: nothing that an application is told of.
            self.streams.close(before);
            self.refresh(slot);
        } else {
            self.tell_leg(slot);
        }
        self.relay
            .set_reach(session_id, Reach::Stream(id, SocketAddr::new(core::net::Ipv4Addr::UNSPECIFIED.into(), 0)));
    }

    /// A session's stream is not its way any more.
    fn leave_stream(&mut self, now: Instant, slot: u32, id: StreamId) {
        let Some(session) = self.session_mut(slot).filter(|s| s.stream == Some(id)) else { return };
        (session.stream, session.wants_udp) = (None, false);
        let (session_id, addr, known) = (session.id, session.addr, session.udp_known);
        session.link.change_leg(now, Leg::Udp);
        if known {
            self.relay.set_reach(session_id, addr.into());
        }
        self.tell_leg(slot);
    }

    pub(super) fn tell_leg(&mut self, slot: u32) {
        if let Some(session) = self.session_mut(slot).filter(|s| s.phase == Phase::Online)
            && !core::mem::replace(&mut session.leg_told, true)
        {
            let client = session.peer;
            self.queue.push_back(Queued::Leg(client));
        }
        self.refresh(slot);
    }

    /// What a mark in the queue stands for.
    pub(super) fn take_leg_news(&mut self, client: PeerId) -> Option<ServerEvent> {
        let session = self.client_mut(client)?;
        session.leg_told = false;
        Some(ServerEvent::LegChanged { client, leg: session.leg() })
    }

    /// A datagram's source, as links see it.
    pub(super) fn way_of(from: Reach) -> (Way, Option<StreamId>) {
        match from {
            Reach::Datagram(at) => (at.into(), None),
            Reach::Stream(id, at) => (Way::new(SocketId::STREAM, at), Some(id)),
        }
    }
}
