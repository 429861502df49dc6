//! A client that is logged in: its link to the server, its links to peers, its view of the groups.
//!
//! Control messages from the server are applied in order as they arrive: they make and end links and queue events. What
//! has to wait for the application happens when it polls: a join counts as processed then, and only then do its member's
//! messages pass the gates of the transport, so that none can overtake it.

mod bounds;
mod ending;
mod peers;
mod presence;
mod view;

use super::held::{HELD, Held};
use super::holding::Holding;
use super::login::Start;
use super::policy::{Allowed, Policies};
use super::queue::{Queue, Queued};
use super::search::{Asking, Search, Sockets};
use super::server_time::ServerClock;
use super::stash::Stash;
use super::{ClientCounters, SendError, Sent};
use crate::command::SendOptions;
use crate::config::{ClientConfig, SearchLimits, Timers};
use crate::entropy::{Entropy, Rng, SeededState};
use crate::event::{ClientEvent, EndReason, LeaveReason, LoginFailure, Message, Path, RelayReason};
use crate::group::client::{MAX_MEMBERSHIPS, View};
use crate::ids::{Channel, GroupId, PeerId};
use crate::leg::Leg;
use crate::link::{Link, Punched, RELAYED_PAYLOAD, RelayLeg, Route, Unusable};
use crate::machine::{Ecn, Wake};
use crate::outbox::Outbox;
use crate::path::{Punch, PunchConfig, Verdict, Way, is_local};
use crate::policy::PathPolicy;
use crate::schedule::Schedule;
use crate::secure::{Crypto, PairContext, Protection, Role, SessionKey, pair_secret};
use crate::time::{Duration, Instant};
use crate::transport::{DIRECT, Delivery, MAIN, PathId, Scope, Transport, TransportConfig};
use crate::wire::buf::Writer;
use crate::wire::control::{Candidates, MAX_LEN, Psk, ToClient, ToServer};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
pub(crate) use bounds::{check_message, most_ready, send_error, transport_config};
use core::net::SocketAddr;
use hashbrown::HashMap;
use peers::Up;
pub(super) use peers::believable;
use presence::Shown;

/// The server link's place in the schedule; peers follow from 1.
pub(super) const SERVER_SLOT: u32 = 0;

/// What a call acts on beside the session: when, where events go, what is counted, where randomness comes from.
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    pub(super) queue: &'a mut Queue,
    pub(super) counters: &'a mut ClientCounters,
    pub(super) entropy: &'a mut Entropy,
}

pub(super) struct Session {
    me: Option<PeerId>,
    app: u64,
    key: SessionKey,
    pub(super) server: Link,
    pub(super) leg: RelayLeg,
    /// Since the server's application let this client in.
    pub(super) view: Option<View>,
    pub(super) peers: Vec<Option<Peer>>,
    /// The search for a direct path that is under way, and the sockets of all that were.
    pub(super) search: Option<Search>,
    pub(super) sockets: Sockets,
    pub(super) search_limits: SearchLimits,
    /// How this host looks from the server's doors.
    pub(super) asking: Asking,
    pub(super) rng: Rng,
    /// What is allowed with peers.
    pub(super) policies: Policies,
    /// How holes are kept open.
    pub(super) holding: Holding,
    /// Slots without a peer.
    free: Vec<u32>,
    pub(super) by_id: BTreeMap<PeerId, u32>,
    by_cid: HashMap<u64, (u32, PathId), SeededState>,
    schedule: Schedule<Wake>,
    /// Links that the TCP leg had no room for, the longest waiting first.
    pub(super) held_up: VecDeque<u32>,
    stash: Stash,
    /// Holes to those who were peers.
    pub(super) held: Held,
    suites: Vec<Arc<dyn Crypto>>,
    pub(super) transport: TransportConfig,
    timers: Timers,
    /// As last told to the server.
    local: Candidates,
    /// What this client's peers see of it.
    user_data: Box<[u8]>,
    /// What the server said of itself.
    pub(super) about: Option<About>,
    /// Whether the server is offline.
    shown: Shown,
    /// Until when those who were offline along with it may be so still.
    unsure: Option<Instant>,
    clock: ServerClock,
    refused: Option<LoginFailure>,
    over: Option<EndReason>,
    /// Reused for control messages that go out.
    control: Vec<u8>,
    /// Reused for control messages that came in.
    heard: Vec<u8>,
}

pub(super) struct Peer {
    id: PeerId,
    pub(super) epoch: u64,
    /// Of its session.
    key: [u8; 32],
    /// How the server calls it in this client's wraps.
    handle: u32,
    pub(super) link: Link,
    user_data: Box<[u8]>,
    pub(super) allowed: Allowed,
    /// As last told to the server and the application.
    verdict: Verdict,
    /// A join of its was polled.
    met: bool,
    /// The server does not hear of it.
    away: bool,
    /// It may not be there: it was not before the server was back.
    unsure: bool,
    /// Whether nothing gets to it.
    shown: Shown,
    /// It broke the protocol: nothing of it is read any more.
    dead: bool,
}

impl Peer {
    pub(super) fn id(&self) -> PeerId {
        self.id
    }
}

impl Session {
    pub(super) fn new(
        now: Instant,
        config: &ClientConfig,
        entropy: &mut Entropy,
        start: Start,
        local: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        let Start { leg, crypto, secret, key, rtt } = start;
        let transport = transport_config(&config.limits, config.congestion);
        let mut protection = Protection::without_shares(crypto, &secret, Role::Initiator);
        protection.set_cid_out(MAIN, leg.session);
        let engine = Transport::new(now, &transport, entropy.stream("server link", 0), rtt, crate::link::PAYLOAD);
        let server = Link::with_server(now, protection, engine, Some(config.timers.server_keepalive));
        let mut by_cid = HashMap::with_hasher(entropy.hasher("client connection ids"));
        by_cid.insert(server.protection().cid_in(MAIN), (SERVER_SLOT, MAIN));
        let mut session = Self {
            me: None,
            app: config.app,
            key,
            server,
            leg,
            view: None,
            peers: Vec::new(),
            search: None,
            sockets: Sockets::default(),
            search_limits: config.limits.search,
            asking: Asking::default(),
            rng: entropy.stream("search", 0),
            holding: Holding::new(config.timers.direct_keepalive),
            policies: Policies::new(config.policy, config.limits.direct_peers),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            by_cid,
            schedule: Schedule::new(),
            held_up: VecDeque::new(),
            stash: Stash::default(),
            held: Held::new(config.timers.retain_for),
            suites: config.suites.clone(),
            transport,
            timers: config.timers.clone(),
            local: Candidates::new(),
            user_data: Box::default(),
            about: None,
            shown: Shown::default(),
            unsure: None,
            clock: ServerClock::default(),
            refused: None,
            over: None,
            control: vec![0; MAX_LEN],
            heard: Vec::new(),
        };
        session.tell_local(now, local);
        session.tell_policy(now);
        session.tell(now, &ToServer::Token { token: &config.token });
        session
    }

    // ---- queries

    pub(super) fn me(&self) -> Option<PeerId> {
        self.me
    }

    /// The login was turned down.
    pub(super) fn refused(&mut self) -> Option<LoginFailure> {
        self.refused.take()
    }

    #[cfg(test)]
    pub(super) fn peer_mut(&mut self, slot: u32) -> &mut Peer {
        self.peers[slot as usize - 1].as_mut().expect("a peer")
    }

    fn peer(&self, slot: u32) -> Option<&Peer> {
        self.peers.get(slot.checked_sub(1)? as usize)?.as_ref()
    }

    // ---- the application sends

    pub(super) fn send_peer(
        &mut self,
        now: Instant,
        to: PeerId,
        channel: Channel,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<Sent, SendError> {
        let slot = slot_of(&self.by_id, to).ok_or(SendError::Gone)?;
        if to.is_server() && self.me.is_none() {
            return Err(SendError::Gone);
        }
        let link = link_mut(&mut self.server, &mut self.peers, slot).ok_or(SendError::Gone)?;
        let sent = link.send(now, Scope::Peer(channel), None, bytes, options);
        self.refresh(slot);
        let displaced = sent.map_err(|e| send_error(e, to))?;
        Ok(Sent { receivers: 1, displaced })
    }

    pub(super) fn send_group(
        &mut self,
        now: Instant,
        group: GroupId,
        channel: Channel,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<Sent, SendError> {
        let reliable = channel.reliability().is_reliable();
        check_message(&self.transport, reliable, bytes, options)?;
        let view = self.view.as_mut().filter(|v| v.is_in(group)).ok_or(SendError::Gone)?;
        // All or nothing, if it is reliable: every link is asked before the first takes the message.
        for member in view.peers(group).filter(|_| reliable) {
            if let (Some(slot), Some(epoch)) = (slot_of(&self.by_id, member), view.scope_epoch(group, member))
                && let Some(link) = link_mut(&mut self.server, &mut self.peers, slot)
            {
                let scope = Scope::Group(group, epoch, channel);
                link.transport().check_room(scope, bytes.len()).map_err(|e| send_error(e, member))?;
            }
        }
        let seq = view.take_seq(group, channel).ok_or(SendError::Gone)?;
        let (mut all, mut server) = (Sent { receivers: 0, displaced: 0 }, false);
        for member in view.peers(group) {
            let (Some(slot), Some(epoch)) = (slot_of(&self.by_id, member), view.scope_epoch(group, member)) else {
                continue;
            };
            let Some(link) = link_mut(&mut self.server, &mut self.peers, slot) else { continue };
            let sent = link.send(now, Scope::Group(group, epoch, channel), Some(seq), bytes, options);
            debug_assert!(sent.is_ok() || !reliable, "there was room a moment ago");
            all.receivers += usize::from(sent.is_ok());
            all.displaced += sent.unwrap_or(0);
            if slot == SERVER_SLOT {
                server = true;
            } else {
                self.schedule.set(slot, link.wake());
            }
        }
        if server {
            self.refresh(SERVER_SLOT);
        }
        Ok(all)
    }

    // ---- the application polls

    /// The login event was polled: messages of the server's application may follow.
    pub(super) fn open_server(&mut self, queue: &mut Queue) {
        self.server.transport().open_peer();
        self.announce(SERVER_SLOT, queue);
        self.refresh(SERVER_SLOT);
    }

    /// What a queued mark stands for, if it still stands for anything.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        entry: Queued,
        payload: &mut Vec<u8>,
        queue: &mut Queue,
    ) -> Option<ClientEvent> {
        match entry {
            Queued::Event(event) => Some(event),
            Queued::Joined { group, member, epoch, user_data, message } => {
                self.processed(now, group, member, epoch, queue);
                Some(ClientEvent::MemberJoined { group, member, user_data, message })
            }
            Queued::Message(from) => {
                let slot = slot_of(&self.by_id, from)?;
                let link = link_mut(&mut self.server, &mut self.peers, slot)?;
                let delivery = link.transport().next_message(now, payload);
                self.refresh(slot);
                Some(ClientEvent::Message(message_of(from, &delivery?)?))
            }
            Queued::Kept { message, bytes } => {
                payload.extend_from_slice(&bytes);
                Some(ClientEvent::Message(message))
            }
            Queued::Loopback { group, channel, bytes } => {
                let from = self.me?;
                self.view.as_ref().filter(|v| group.is_none_or(|group| v.is_in(group)))?;
                payload.extend_from_slice(&bytes);
                Some(ClientEvent::Message(Message { from, group, channel, direct: true }))
            }
            Queued::Leg => self.leg_event(),
            Queued::Path(peer) => {
                // Of one whose join was not polled yet it is told after that.
                let peer = self.peer(*self.by_id.get(&peer)?).filter(|peer| peer.met)?;
                Some(ClientEvent::PathChanged { peer: peer.id, path: path_of(peer) })
            }
            Queued::Presence(of) => self.presence_news(of),
            Queued::Writable(to, channel) => Some(ClientEvent::Writable { to, channel }),
        }
    }

    /// A join was polled: the gates open for its member, and the server is told.
    fn processed(&mut self, now: Instant, group: GroupId, member: PeerId, epoch: u64, queue: &mut Queue) {
        self.tell(now, &ToServer::JoinProcessed { group, member, epoch });
        let Some(slot) = slot_of(&self.by_id, member) else { return };
        if let Some(peer) = path_peer(&mut self.peers, slot)
            && !core::mem::replace(&mut peer.met, true)
        {
            if peer.verdict != Verdict::Relayed(RelayReason::Probing) {
                queue.mark_path(member);
            }
            if peer.shown.offline {
                queue.mark_presence(member);
            }
        }
        let Some(link) = link_mut(&mut self.server, &mut self.peers, slot) else { return };
        link.transport().open_peer();
        link.transport().open_group(group, epoch);
        self.announce(slot, queue);
        self.refresh(slot);
    }

    // ---- datagrams

    pub(super) fn datagram(&mut self, cid: u64, from: Way, ecn: Ecn, datagram: &mut [u8], around: &mut Around<'_>) {
        match self.by_cid.get(&cid).copied() {
            Some((SERVER_SLOT, path)) => {
                match self.server.receive(around.now, path, from, ecn, datagram) {
                    Ok(()) => {
                        self.on_server_heard(from, around);
                        if let Some(door) = self.server.take_knocked().filter(|_| self.asking.listens()) {
                            self.tell(around.now, &ToServer::Heard { door });
                        }
                        if let Some((asked, answer)) = self.server.take_time() {
                            self.clock.on_answer(around.now, asked, answer);
                        }
                        self.drain_control(around);
                    }
                    Err(Unusable::Sealed(why)) => return around.counters.sealed(why),
                    Err(Unusable::Violation(_)) => self.break_off(around.counters),
                }
                self.check_server(around.now, around.queue);
                self.announce(SERVER_SLOT, around.queue);
                self.refresh(SERVER_SLOT);
            }
            // Nothing comes directly from where the relay is; it would make the server a place to probe.
            Some((_, DIRECT)) if from.at == self.leg.server => around.counters.unknown += 1,
            Some((HELD, _)) => self.on_held_packet(cid, from, datagram, around),
            Some((slot, path)) => self.on_peer_packet(slot, path, from, ecn, datagram, around),
            None if from.at == self.leg.server => {
                around.counters.held += 1;
                self.stash.hold(around.now, from, datagram);
            }
            None if self.held.leads_to(from) => {
                around.counters.held += 1;
                self.held.early.hold(around.now, from, datagram);
            }
            None => around.counters.unknown += 1,
        }
    }

    fn break_off(&mut self, counters: &mut ClientCounters) {
        counters.violations += 1;
        self.over = Some(EndReason::Violation);
    }

    fn on_peer_packet(
        &mut self,
        slot: u32,
        path: PathId,
        from: Way,
        ecn: Ecn,
        datagram: &mut [u8],
        around: &mut Around<'_>,
    ) {
        let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1) else { return };
        if peer.dead {
            around.counters.unopened += 1;
            return;
        }
        match peer.link.receive(around.now, path, from, ecn, datagram) {
            Ok(()) => self.make_sure(slot, around.queue),
            Err(Unusable::Sealed(why)) => return around.counters.sealed(why),
            Err(Unusable::Violation(_)) => {
                around.counters.violations += 1;
                peer.dead = true;
                self.policies.release(&mut peer.allowed);
                // Whoever waits for room on this link need not: sends to groups pass it over from now on.
                while let Some(channel) = peer.link.transport().waited_for() {
                    around.queue.mark_writable(peer.id, channel);
                }
            }
        }
        self.after(around.now, slot, around.queue);
    }

    /// Marks what became ready on a link, hears its puncher, and sets its time anew.
    fn after(&mut self, now: Instant, slot: u32, queue: &mut Queue) {
        self.announce(slot, queue);
        self.hear_punch(now, slot, queue);
        self.doubt_relay(slot);
        self.refresh(slot);
    }

    fn announce(&mut self, slot: u32, queue: &mut Queue) {
        let id = if slot == SERVER_SLOT { Some(PeerId::SERVER) } else { self.peer(slot).map(|p| p.id) };
        let (Some(id), Some(link)) = (id, link_mut(&mut self.server, &mut self.peers, slot)) else { return };
        queue.mark_messages(id, link.transport().take_ready());
        while let Some(channel) = link.transport().writable() {
            queue.mark_writable(id, channel);
        }
    }

    fn hear_punch(&mut self, now: Instant, slot: u32, queue: &mut Queue) {
        if path_peer(&mut self.peers, slot).is_some_and(|peer| peer.link.take_idle_death()) {
            self.on_idle_death();
        }
        let keepalive = self.holding.keepalive;
        while let Some(Some(peer)) = self.peers.get_mut((slot as usize).wrapping_sub(1))
            && !peer.dead
        {
            let (id, epoch) = (peer.id, peer.epoch);
            let message = match peer.link.poll_punch(now, keepalive) {
                None => return,
                Some(Punched::WantsRestart) => ToServer::RequestPunch { peer: id, epoch },
                Some(Punched::WantsSearch) => ToServer::RequestSearch { peer: id, epoch },
                Some(Punched::Verdict(verdict)) => {
                    peer.verdict = verdict;
                    queue.mark_path(id);
                    let report = ToServer::PathReport { peer: id, epoch, path: path_of(peer) };
                    self.yield_place(now, slot, verdict);
                    report
                }
            };
            self.tell(now, &message);
            self.check_peer(slot, queue);
        }
    }

    /// A link was touched: it may be due at another time.
    pub(super) fn refresh(&mut self, slot: u32) {
        if let Some(other) = self.schedule.touch(slot) {
            self.schedule.set(other, self.due(other));
        }
    }

    /// Sets the time of whichever link was touched last.
    fn set_times(&mut self) {
        if let Some(slot) = self.schedule.touched() {
            self.schedule.set(slot, self.due(slot));
        }
    }

    /// When a link is due, and why.
    fn due(&self, slot: u32) -> Option<(Instant, Wake)> {
        if slot != SERVER_SLOT {
            return self.peer(slot).filter(|peer| !peer.dead).and_then(|peer| peer.link.wake());
        }
        let blocked = self.server.transport_ref().is_held_up();
        let presence = self.server.presence_ref().wake(&self.timers, blocked);
        self.server.wake().into_iter().chain(presence.map(|at| (at, Wake::Idle))).min()
    }

    // ---- control

    /// Tells the server. One that left so much news unanswered that the transport takes no more (1 MiB) is over.
    pub(super) fn tell(&mut self, now: Instant, message: &ToServer<'_>) {
        let mut w = Writer::new(&mut self.control);
        let sent = message.encode(&mut w).is_ok()
            && self.server.transport().send_next(now, Scope::Control, w.written()).is_ok();
        if !sent {
            self.over = Some(EndReason::TimedOut);
        }
        self.refresh(SERVER_SLOT);
    }

    /// Asks the server for the time, if it is time to, with a packet that goes anyway.
    pub(super) fn ask_time(&mut self, now: Instant) {
        if self.clock.poll(now) {
            self.server.transport().want_time();
        }
    }

    /// Asks the server for the time anew, at once.
    pub(super) fn begin_time(&mut self, now: Instant) {
        self.clock.begin(now);
        self.ask_time(now);
        self.server.transport().probe(MAIN);
    }

    /// Tells the server where this host is on its own network, if that is news.
    pub(super) fn tell_local(&mut self, now: Instant, local: impl Iterator<Item = SocketAddr>) {
        let candidates: Candidates = local.filter(|addr| is_local(addr.ip())).collect();
        if candidates.as_slice() != self.local.as_slice() {
            self.local = candidates;
            self.tell(now, &ToServer::HostCandidates { candidates });
        }
    }

    fn drain_control(&mut self, around: &mut Around<'_>) {
        let mut message = core::mem::take(&mut self.heard);
        while self.server.transport().next_control(&mut message) {
            let applied = match ToClient::decode(&message) {
                Ok(control) => self.apply(control, around),
                Err(_) => Err(Nonsense),
            };
            if applied.is_err() {
                self.break_off(around.counters);
                break;
            }
        }
        self.heard = message;
    }

    fn apply(&mut self, control: ToClient<'_>, around: &mut Around<'_>) -> Result<(), Nonsense> {
        let queue = &mut *around.queue;
        match control {
            ToClient::Welcome { me, user_data, message } => {
                if self.me.replace(me).is_some() {
                    return Err(Nonsense);
                }
                self.user_data = user_data.into();
                self.view = Some(View::new(me, MAX_MEMBERSHIPS));
                self.begin_time(around.now);
                queue.push(ClientEvent::LoggedIn { me, message: message.into() });
            }
            ToClient::About { relay: [bytes, packets], addrs } => {
                self.about = Some(About { relay_bytes: bytes, relay_packets: packets, addrs });
            }
            ToClient::Rejected { message } => self.refused = Some(LoginFailure::Rejected { message: message.into() }),
            ToClient::PeerUp { peer, key, psk, epoch, handle, suite, rtt_us, user_data, policy, candidates } => {
                let rtt = Duration::from_micros(rtt_us.into());
                let up = Up { peer, key, psk, epoch, handle, suite, rtt, user_data, policy, candidates };
                self.peer_up(&up, around)?;
            }
            ToClient::PeerDown { peer, epoch } => {
                if self.by_id.get(&peer).and_then(|s| self.peer(*s)).is_some_and(|p| p.epoch == epoch) {
                    self.peer_down(peer, around);
                }
            }
            ToClient::Policy { peer, epoch, policy } => self.on_policy(around.now, peer, epoch, policy),
            ToClient::MemberJoined { group, member, epoch, message } => {
                let view = self.view.as_mut().ok_or(Nonsense)?;
                let epoch = view.joined(group, member, epoch).map_err(|_| Nonsense)?;
                let user_data = match self.by_id.get(&member).and_then(|s| self.peer(*s)) {
                    Some(peer) => peer.user_data.clone(),
                    None if Some(member) == self.me => self.user_data.clone(),
                    None if member.is_server() => Box::default(),
                    None => return Err(Nonsense),
                };
                queue.push_join(group, member, epoch, user_data, message.into());
            }
            ToClient::MemberLeft { group, member, epoch, why } => {
                self.left(around.now, group, member, epoch, why, queue);
            }
            ToClient::Lifetime { lifetime } => self.on_lifetime(around.now, lifetime),
            ToClient::Doors { doors } => self.asking.begin(around.now, self.leg.server.ip(), doors.as_slice()),
            ToClient::PeerOffline { peer, epoch, offline } => {
                self.peer_away(around.now, peer, epoch, offline, queue);
            }
            ToClient::Search { peer, epoch, number, plan } => self.on_order(around.now, peer, epoch, number, plan),
            ToClient::Punch { peer, epoch, candidates } => {
                let Some(slot) = self.by_id.get(&peer).copied() else { return Ok(()) };
                if let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1)
                    && peer.epoch == epoch
                {
                    peer.link.punch(around.now, believable(&candidates).as_slice());
                    self.after(around.now, slot, queue);
                }
            }
        }
        Ok(())
    }

    fn left(&mut self, now: Instant, group: GroupId, member: PeerId, epoch: u64, why: LeaveReason, queue: &mut Queue) {
        let mine = Some(member) == self.me;
        let Some(view) = &mut self.view else { return };
        let others: Vec<PeerId> = if mine { view.peers(group).collect() } else { vec![member] };
        let stays: Vec<_> = others.into_iter().filter_map(|o| Some((o, view.scope_epoch(group, o)?))).collect();
        if !view.left(group, member, epoch) {
            return;
        }
        for (other, stay) in stays {
            if let Some(slot) = slot_of(&self.by_id, other)
                && let Some(link) = link_mut(&mut self.server, &mut self.peers, slot)
            {
                // What had come before is told before.
                queue.keep_messages(other, |payload| message_of(other, &link.transport().next_message(now, payload)?));
                link.transport().close_group(group, stay);
                self.refresh(slot);
            }
            if mine {
                queue.cancel_join(group, other);
            }
        }
        if !queue.cancel_join(group, member) {
            queue.push(ClientEvent::MemberLeft { group, member, why });
        }
    }

    // ---- time

    pub(super) fn transmit(&mut self, now: Instant, queue: &mut Queue, out: &mut Outbox) {
        self.check_search(now);
        self.check_rotation(now);
        self.fill_places(now);
        self.check_unsure(now, queue);
        self.drive_legs(now, queue, out);
        self.serve_held_up(now, queue, out);
        self.transmit_held(now, out);
        while out.room() >= crate::link::DATAGRAM && self.transmit_observed(now, out) {}
        while out.room() >= crate::link::DATAGRAM {
            self.set_times();
            let Some(slot) = self.schedule.pop_due(now) else { break };
            let room = out.room();
            self.serve(now, slot, queue, out);
            if out.room() == room {
                self.set_times();
                self.schedule.postpone(slot, now);
            }
        }
        self.leg.carrier.transmit(out);
    }

    /// Has one link send what is due.
    pub(super) fn serve(&mut self, now: Instant, slot: u32, queue: &mut Queue, out: &mut Outbox) {
        let mut held_up = false;
        if slot == SERVER_SLOT {
            self.check_server(now, queue);
            self.server.transmit(now, &mut Route::Server(&mut self.leg), out);
            held_up = self.server.transport_ref().is_held_up();
        } else if let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1)
            && !peer.dead
        {
            peer.link.transmit(now, &mut Route::Relay(&mut self.leg, peer.handle), out);
            held_up = peer.link.transport_ref().is_held_up();
        }
        if held_up && !self.held_up.contains(&slot) {
            self.held_up.push_back(slot);
        }
        self.after(now, slot, queue);
    }

    /// The system refused a datagram as too large.
    pub(super) fn too_big(&mut self, now: Instant, to: SocketAddr, size: usize) {
        for slot in 1..=self.peers.len() as u32 {
            if let Some(link) = link_mut(&mut self.server, &mut self.peers, slot) {
                link.on_too_big(now, to, size);
                self.refresh(slot);
            }
        }
    }

    pub(super) fn wake(&self) -> Option<(Instant, Wake)> {
        // A poll or a send may have come to this; the next call acts on it.
        if self.over.is_some() || self.refused.is_some() || self.policies.is_due() {
            return Some((Instant::ZERO, Wake::Now));
        }
        let idle = (self.lease_ends(), Wake::Idle);
        let search = self.search_wake().map(|at| (at, Wake::Probe));
        let leg = self.leg.carrier.wake(self.server.presence_ref().heard());
        let due = !self.held_up.is_empty() && !self.leg.carrier.is_blocked();
        let leg = due.then_some(Instant::ZERO).or(leg).map(|at| (at, Wake::Probe));
        let holding = self.holding.wake().map(|at| (at, Wake::Probe));
        let held = self.held.wake().map(|at| (at, Wake::Probe));
        let unsure = self.unsure.map(|at| (at, Wake::Idle));
        let touched = self.schedule.touched().and_then(|slot| self.due(slot));
        [Some(idle), self.schedule.next(), touched, search, leg, holding, held, unsure].into_iter().flatten().min()
    }
}

/// The slot of a peer or the server, which may be a member as well.
pub(super) fn slot_of(by_id: &BTreeMap<PeerId, u32>, member: PeerId) -> Option<u32> {
    if member.is_server() { Some(SERVER_SLOT) } else { by_id.get(&member).copied() }
}

fn message_of(from: PeerId, delivery: &Delivery) -> Option<Message> {
    let (group, channel) = match delivery.scope {
        Scope::Peer(channel) => (None, channel),
        Scope::Group(group, _, channel) => (Some(group), channel),
        Scope::Control => return None,
    };
    Some(Message { from, group, channel, direct: delivery.direct || from.is_server() })
}

/// What a server says of itself.
pub(super) struct About {
    pub(super) relay_bytes: u32,
    pub(super) relay_packets: u32,
    pub(super) addrs: Candidates,
}

/// The server said something that it never says.
struct Nonsense;

/// The peer of a slot.
pub(super) fn path_peer(peers: &mut [Option<Peer>], slot: u32) -> Option<&mut Peer> {
    peers.get_mut(slot.checked_sub(1)? as usize)?.as_mut().filter(|p| !p.dead)
}

/// The link of a slot; none if its peer is dead, so that nothing is sent, delivered or scheduled for it any more.
pub(super) fn link_mut<'a>(server: &'a mut Link, peers: &'a mut [Option<Peer>], slot: u32) -> Option<&'a mut Link> {
    match slot.checked_sub(1) {
        None => Some(server),
        Some(index) => peers.get_mut(index as usize)?.as_mut().filter(|p| !p.dead).map(|p| &mut p.link),
    }
}

fn path_of(peer: &Peer) -> Path {
    match peer.verdict {
        Verdict::Direct => Path::Direct { rtt: peer.link.direct_rtt() },
        Verdict::Relayed(because) => Path::Relayed { because },
    }
}
