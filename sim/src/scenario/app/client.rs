//! A client and its application.

use super::{Desk, Names, Unsent, earliest, group_of};
use crate::model::exact::ClientCounts;
use crate::scenario::journal::{Journal, What};
use crate::scenario::{ClientIndex, GroupIndex, Host, Target};
use posse_core::client::Client;
use posse_core::config::{ClientConfig, ConfigError};
use posse_core::{
    ClientEvent, Duration, GroupId, Input, Instant, Machine, Message, Outbox, Path, PeerId, PeerReport, Request,
    SocketId, SocketInput, Tap, To, Wake,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A client and its application.
pub struct SimClient {
    me: ClientIndex,
    names: Names,
    config: ClientConfig,
    start: Instant,
    /// Before its start: none, and what the driver said about the host.
    client: Option<Client>,
    opened: Option<SocketInput>,
    interfaces: Vec<IpAddr>,
    logouts: Vec<Instant>,
    crowd: Crowd,
    desk: Desk,
    payload: Vec<u8>,
}

/// Whom a client's application knows of.
#[derive(Default)]
struct Crowd {
    online: bool,
    peers: BTreeMap<PeerId, ClientIndex>,
    /// The session of each client that it heard of last.
    latest: BTreeMap<ClientIndex, PeerId>,
    groups: BTreeMap<GroupId, View>,
}

impl Crowd {
    /// How to address a target and who gets what is sent there; `None` if it is not there.
    fn receivers(&self, to: Target) -> Option<(To, Vec<Host>)> {
        match to {
            Target::Host(Host::Server) => self.online.then(|| (PeerId::SERVER.into(), vec![Host::Server])),
            Target::Host(Host::Client(whom)) => {
                let mut others = self.groups.values().filter(|view| view.inside).flat_map(|view| &view.others);
                others.find(|(_, other)| **other == whom).map(|(&peer, _)| (peer.into(), vec![Host::Client(whom)]))
            }
            Target::Group(index) => {
                let (&group, view) = self.groups.iter().find(|(_, view)| view.index == index && view.inside)?;
                let others: Vec<_> = view.others.values().map(|other| Host::Client(*other)).collect();
                (!others.is_empty()).then(|| (group.into(), others))
            }
        }
    }
}

/// A group as a client's application sees it.
struct View {
    index: GroupIndex,
    inside: bool,
    others: BTreeMap<PeerId, ClientIndex>,
}

/// What makes one client differ from the others.
pub(crate) struct ClientPart {
    pub(crate) me: ClientIndex,
    pub(crate) start: Instant,
    pub(crate) desk: Desk,
    /// When it logs out, in order.
    pub(crate) logouts: Vec<Instant>,
}

impl SimClient {
    pub(crate) fn new(names: Names, config: ClientConfig, part: ClientPart) -> Self {
        let ClientPart { me, start, desk, mut logouts } = part;
        logouts.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            me,
            names,
            config,
            start,
            client: None,
            opened: None,
            interfaces: Vec::new(),
            logouts,
            crowd: Crowd::default(),
            desk,
            payload: Vec::new(),
        }
    }

    /// What it wrote down so far.
    pub fn journal(&self) -> &Journal {
        &self.desk.journal
    }

    /// What is left for it to do after a restart at `now`.
    pub(crate) fn remainder(&self, now: Instant) -> ClientPart {
        let Self { me, start, desk, logouts, .. } = self;
        ClientPart { me: *me, start: *start, desk: desk.restarted(now), logouts: logouts.clone() }
    }

    /// The client; `None` before its start.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// The other members of a group as its application sees them; `None` if it is no member itself.
    pub fn others(&self, group: GroupIndex) -> Option<Vec<ClientIndex>> {
        let view = self.crowd.groups.values().find(|view| view.index == group && view.inside)?;
        Some(view.others.values().copied().collect())
    }

    /// Smoothed round-trip time of its direct path to another client, if there is one.
    pub fn direct_rtt(&self, to: ClientIndex) -> Option<Duration> {
        let mut peers = self.client.as_ref()?.peers();
        peers.find(|peer| self.crowd.peers.get(&peer.id) == Some(&to))?.direct_rtt
    }

    /// Bytes that it sent on main paths, and of those the ones that went again.
    pub(crate) fn repeated(&self) -> (u64, u64) {
        let Some(client) = &self.client else { return (0, 0) };
        let paths = client.server_path().into_iter().chain(client.peers().map(|peer| peer.relay));
        paths.fold((0, 0), |(sent, again), path| (sent + path.bytes_sent, again + path.bytes_repeated))
    }

    /// What was done for a direct path to another client, if that is a peer now.
    pub fn report(&self, to: ClientIndex) -> Option<PeerReport> {
        let client = self.client.as_ref()?;
        client.report(*self.crowd.peers.iter().find(|(_, client)| **client == to)?.0)
    }

    /// Challenges that it has sent to all its peers.
    pub fn challenges(&self) -> u64 {
        let reports = self.client.iter().flat_map(|client| client.peers().filter_map(|peer| client.report(peer.id)));
        reports.map(|report| report.challenges).sum()
    }

    /// Peers with which traffic goes directly.
    pub fn direct_peers(&self) -> usize {
        let peers = self.client.iter().flat_map(Client::peers);
        peers.filter(|peer| matches!(peer.path, Path::Direct { .. })).count()
    }

    /// What its machine counted.
    pub(crate) fn counts(&self) -> ClientCounts {
        let Some(client) = &self.client else { return ClientCounts::default() };
        let peers: u64 = client.peers().map(|peer| peer.relay.packets_lost + peer.direct.packets_lost).sum();
        let server = client.server_path().map_or(0, |stats| stats.packets_lost);
        let held = ClientCounts::held(client.memory());
        ClientCounts { refused: client.counters(), lost: peers + server, held }
    }

    /// What it should have sent and did not, with the number of messages. Not what fell into a receiver's absence.
    pub fn unsent(&self) -> impl Iterator<Item = Unsent<'_>> {
        self.desk.unsent()
    }

    fn start(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConfigError> {
        let mut client = Client::new(now, self.config.clone())?;
        if let Some(opened) = self.opened {
            client.handle(now, Input::Socket(SocketId::MAIN, opened), out);
        }
        client.handle(now, Input::Interfaces(&self.interfaces), out);
        self.client = Some(client);
        Ok(())
    }

    fn turn(&mut self, now: Instant) {
        let Some(mut client) = self.client.take() else { return };
        while let Some(event) = client.poll_event(now, &mut self.payload) {
            self.event(now, event);
        }
        if self.logouts.last().is_some_and(|at| *at <= now) {
            self.logouts.pop();
            self.desk.note(now, What::LoggingOut(self.me));
            client.disconnect(now);
            while let Some(event) = client.poll_event(now, &mut self.payload) {
                self.event(now, event);
            }
        }
        let Self { desk, crowd, .. } = self;
        let send = |to, channel, bytes: &[u8], options| client.send(now, to, channel, bytes, options);
        desk.send_due(now, |to| crowd.receivers(to), send);
        self.client = Some(client);
    }

    fn event(&mut self, now: Instant, event: ClientEvent) {
        match event {
            ClientEvent::LoggedIn { me, .. } => {
                self.crowd.online = true;
                self.crowd.peers.insert(me, self.me);
                self.desk.note(now, What::LoggedIn);
            }
            ClientEvent::LoginFailed(why) => self.desk.note(now, What::LoginFailed(why)),
            ClientEvent::Ended(why) => {
                self.crowd.online = false;
                self.crowd.groups.clear();
                self.desk.note(now, What::Ended(why));
            }
            ClientEvent::Message(message) => self.message(now, &message),
            ClientEvent::MemberJoined { group, member, user_data, message } => {
                let who = self.names.iter().position(|name| name.as_bytes() == &*user_data).map(ClientIndex);
                let (Some(who), Some(index)) = (who, group_of(&message)) else {
                    return self.desk.refused(now, "join", "it carries other data than the server gave it");
                };
                self.crowd.peers.insert(member, who);
                self.crowd.latest.insert(who, member);
                let view = View { index, inside: false, others: BTreeMap::new() };
                let view = self.crowd.groups.entry(group).or_insert(view);
                if who == self.me {
                    view.inside = true;
                } else {
                    view.others.insert(member, who);
                }
                self.desk.note(now, What::MemberJoined(index, who));
            }
            ClientEvent::MemberLeft { group, member, why } => {
                let (Some(view), Some(&who)) = (self.crowd.groups.get_mut(&group), self.crowd.peers.get(&member))
                else {
                    return self.desk.refused(now, "leave", "of somebody who is no member");
                };
                let index = view.index;
                view.others.remove(&member);
                if who == self.me {
                    self.crowd.groups.remove(&group);
                }
                self.desk.note(now, What::MemberLeft(index, who, why));
            }
            ClientEvent::ServerOffline => self.desk.note(now, What::Presence { of: Host::Server, offline: true }),
            ClientEvent::ServerOnline => self.desk.note(now, What::Presence { of: Host::Server, offline: false }),
            ClientEvent::MemberOffline { member } => self.presence(now, member, true),
            ClientEvent::MemberOnline { member } => self.presence(now, member, false),
            ClientEvent::PathChanged { peer, path } => match self.crowd.peers.get(&peer) {
                // Of a client that came back with another session only the latest counts.
                Some(who) if self.crowd.latest.get(who) != Some(&peer) => {}
                Some(&peer) => self.desk.note(now, What::Path(peer, path)),
                None => self.desk.refused(now, "path", "of an unknown peer"),
            },
            ClientEvent::LegChanged { leg, why } => self.desk.note(now, What::Leg(leg, why)),
            _ => {}
        }
    }

    fn presence(&mut self, now: Instant, member: PeerId, offline: bool) {
        match self.crowd.peers.get(&member) {
            // Of a client that came back with another session only the latest counts.
            Some(who) if self.crowd.latest.get(who) != Some(&member) => {}
            Some(&who) => self.desk.note(now, What::Presence { of: Host::Client(who), offline }),
            None => self.desk.refused(now, "presence", "of an unknown peer"),
        }
    }

    fn message(&mut self, now: Instant, message: &Message) {
        let from = if message.from.is_server() {
            Some(Host::Server)
        } else {
            self.crowd.peers.get(&message.from).map(|client| Host::Client(*client))
        };
        let Some(from) = from else { return self.desk.refused(now, "message", "of an unknown peer") };
        let seen_in = |view: &View| view.inside && view.others.contains_key(&message.from);
        let (to, inside) = match message.group.map(|group| self.crowd.groups.get(&group)) {
            Some(Some(view)) => (Target::Group(view.index), seen_in(view)),
            Some(None) => return self.desk.refused(now, "message", "in a group that it is not in"),
            None => {
                let met = message.from.is_server() || self.crowd.groups.values().any(seen_in);
                (Target::Host(Host::Client(self.me)), met)
            }
        };
        let content = std::mem::take(&mut self.payload);
        self.desk.receive(now, from, to, message, inside, &content);
        self.payload = content;
    }
}

impl Machine for SimClient {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        match &mut self.client {
            Some(client) => client.handle(now, input, out),
            None => match input {
                Input::Socket(SocketId::MAIN, state) => self.opened = Some(state),
                Input::Interfaces(all) => self.interfaces = all.to_vec(),
                _ => {}
            },
        }
        if self.client.is_none()
            && self.opened.is_some()
            && !self.interfaces.is_empty()
            && self.start <= now
            && let Err(error) = self.start(now, out)
        {
            self.start = Instant::FAR;
            self.desk.refused(now, "start", error);
        }
        self.turn(now);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(client) = &mut self.client {
            client.transmit(now, out);
        }
        self.turn(now);
    }

    fn request(&mut self) -> Option<Request> {
        self.client.as_mut().and_then(Machine::request)
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        let Some(client) = &self.client else { return Some((self.start, Wake::Idle)) };
        earliest(client.wake(), self.desk.next_due().into_iter().chain(self.logouts.last().copied()).min())
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        if let Some(client) = &mut self.client {
            client.tap(tap);
        }
    }
}
