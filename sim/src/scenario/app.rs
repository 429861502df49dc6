//! The applications of a scenario: machines that wrap a [`Client`] or [`Server`], poll its events after each call, do
//! what their part of the script says when it is time, and write down what happened.

use super::journal::{Entry, Journal, Received, Sent, What};
use super::{Action, ClientIndex, GroupIndex, Host, Sending, Target};
use posse_core::client::{Client, SendError};
use posse_core::config::{ClientConfig, ConfigError};
use posse_core::server::{GroupOptions, Server};
use posse_core::{
    Channel, ClientEvent, Duration, GroupId, Input, Instant, Machine, Message, Outbox, PeerId, Request, SendOptions,
    ServerEvent, SocketId, SocketInput, Tap, To, Wake,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// Names by index: what a login's token, and a member's user data, refer to.
pub(super) type Names = Arc<[String]>;

/// A step of the script for one application, with repetitions already made separate.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Order {
    pub(super) at: Instant,
    pub(super) action: Action,
}

/// Messages to be sent.
pub(super) struct Ongoing {
    sending: Sending,
    next: Instant,
    left: u32,
    every: Duration,
    /// Whether the receiver was there once.
    begun: bool,
    /// The receiver is away: what is due meanwhile is not sent.
    away: bool,
    /// Waits for the receiver, or for room: an event will say when.
    waits: bool,
}

impl Ongoing {
    pub(super) fn new(sending: Sending, at: Instant, every: Duration, times: u32) -> Self {
        Self { sending, next: at, left: times, every, begun: false, away: false, waits: false }
    }

    /// Leaves out what was due before `now`.
    fn skip_to(&mut self, now: Instant) {
        while self.left > 0 && self.next < now {
            self.left -= 1;
            self.next = self.next + self.every;
        }
    }
}

/// What client and server applications share: sending by schedule, numbering, and the accounts.
struct Desk {
    me: Host,
    ongoing: Vec<Ongoing>,
    numbers: BTreeMap<(Target, Channel), u64>,
    seen: BTreeSet<(Host, Target, bool)>,
    content: Vec<u8>,
    journal: Journal,
}

impl Desk {
    fn new(me: Host, ongoing: Vec<Ongoing>) -> Self {
        let (numbers, seen) = (BTreeMap::new(), BTreeSet::new());
        Self { me, ongoing, numbers, seen, content: Vec::new(), journal: Journal::default() }
    }

    fn note(&mut self, at: Instant, what: What) {
        self.journal.entries.push(Entry { at, who: Some(self.me), what });
    }

    fn refused(&mut self, at: Instant, what: &str, why: impl std::fmt::Display) {
        self.note(at, What::Refused(format!("{what}: {why}")));
    }

    /// Sends what is due. `receivers` says who would get a message to a target, nobody if it is not there; `send` sends.
    fn send_due<T>(
        &mut self,
        now: Instant,
        receivers: impl Fn(Target) -> Option<(T, Vec<Host>)>,
        mut send: impl FnMut(T, Channel, &[u8]) -> Result<(), SendError>,
    ) {
        for i in 0..self.ongoing.len() {
            let entry = &mut self.ongoing[i];
            entry.waits = false;
            while entry.left > 0 && entry.next <= now {
                let Sending { to, channel, size, .. } = entry.sending;
                let Some((address, receivers)) = receivers(to) else {
                    (entry.away, entry.waits) = (true, true);
                    break;
                };
                if !entry.begun {
                    (entry.begun, entry.next) = (true, now);
                }
                if std::mem::take(&mut entry.away) && entry.next < now {
                    entry.skip_to(now);
                    continue;
                }
                let number = self.numbers.entry((to, channel)).or_default();
                write_content(&mut self.content, *number, now, size);
                match send(address, channel, &self.content) {
                    Ok(()) => {
                        self.journal.sent.push(Sent { at: now, to, channel, number: *number, receivers });
                        *number += 1;
                        entry.left -= 1;
                        entry.next = entry.next + entry.every;
                    }
                    Err(SendError::Full { .. }) => {
                        entry.waits = true;
                        break;
                    }
                    Err(error) => {
                        entry.left = 0;
                        let what = What::Refused(format!("send: {error}"));
                        self.journal.entries.push(Entry { at: now, who: Some(self.me), what });
                    }
                }
            }
        }
    }

    /// When the next message is due that waits for nothing else.
    fn next_due(&self) -> Option<Instant> {
        self.ongoing.iter().filter(|o| o.left > 0 && !o.waits).map(|o| o.next).min()
    }

    fn receive(&mut self, now: Instant, from: Host, to: Target, message: &Message, inside: bool, content: &[u8]) {
        let (number, sent_at, intact) = read_content(content);
        let Message { channel, direct, .. } = *message;
        self.journal.received.push(Received { at: now, from, to, channel, number, sent_at, direct, intact, inside });
        if self.seen.insert((from, to, direct)) {
            self.note(now, What::FirstMessage { from, to, direct, took: now.since(sent_at) });
        }
    }

    /// Messages that were not sent although their receiver is there, or because it never was.
    fn unsent(&self) -> impl Iterator<Item = (&Sending, u32)> {
        self.ongoing.iter().filter(|o| o.left > 0 && !(o.begun && o.away)).map(|o| (&o.sending, o.left))
    }
}

/// A message says its number and when it was sent; the rest follows from the number, so that damage shows.
fn write_content(content: &mut Vec<u8>, number: u64, at: Instant, size: usize) {
    content.clear();
    content.extend_from_slice(&number.to_be_bytes());
    content.extend_from_slice(&at.0.to_be_bytes());
    content.extend((Sending::MIN_SIZE..size).map(|i| filler(number, i)));
}

fn read_content(content: &[u8]) -> (u64, Instant, bool) {
    let word = |at: usize| content.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let (Some(number), Some(at)) = (word(0), word(8)) else { return (u64::MAX, Instant::ZERO, false) };
    let rest = content.iter().enumerate().skip(Sending::MIN_SIZE);
    (number, Instant(at), rest.into_iter().all(|(i, &byte)| byte == filler(number, i)))
}

fn filler(number: u64, place: usize) -> u8 {
    (number.wrapping_mul(31).wrapping_add(place as u64) % 251) as u8
}

/// A join's message: the group's index, then what the scenario wants to be carried.
fn join_message(group: GroupIndex, text: &str) -> Vec<u8> {
    [&(group.0 as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn group_of(message: &[u8]) -> Option<GroupIndex> {
    let index = message.first_chunk::<4>()?;
    Some(GroupIndex(u32::from_be_bytes(*index) as usize))
}

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
pub(super) struct ClientPart {
    pub(super) me: ClientIndex,
    pub(super) start: Instant,
    pub(super) ongoing: Vec<Ongoing>,
    /// When it logs out, in order.
    pub(super) logouts: Vec<Instant>,
}

impl SimClient {
    pub(super) fn new(names: Names, config: ClientConfig, part: ClientPart) -> Self {
        let ClientPart { me, start, ongoing, mut logouts } = part;
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
            desk: Desk::new(Host::Client(me), ongoing),
            payload: Vec::new(),
        }
    }

    /// What it wrote down so far.
    pub fn journal(&self) -> &Journal {
        &self.desk.journal
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

    /// What it should have sent and did not, with the number of messages. Not what fell into a receiver's absence.
    pub fn unsent(&self) -> impl Iterator<Item = (&Sending, u32)> {
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
        let send = |to, channel, bytes: &[u8]| client.send(now, to, channel, bytes, SendOptions::default()).map(drop);
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
            ClientEvent::PathChanged { peer, path } => match self.crowd.peers.get(&peer) {
                Some(&peer) => self.desk.note(now, What::Path(peer, path)),
                None => self.desk.refused(now, "path", "of an unknown peer"),
            },
            _ => {}
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

/// The machine's own wake-up or the application's, which is a kind of pacing.
fn earliest(machine: Option<(Instant, Wake)>, application: Option<Instant>) -> Option<(Instant, Wake)> {
    let application = application.map(|at| (at, Wake::Pacing));
    machine.into_iter().chain(application).min_by_key(|(at, _)| *at)
}

/// The server and its application.
pub struct SimServer {
    names: Names,
    server: Server,
    /// What it has yet to do, in order of time.
    orders: VecDeque<Order>,
    /// What is due and not possible yet, in the same order.
    waiting: Vec<Action>,
    online: BTreeMap<ClientIndex, PeerId>,
    clients: BTreeMap<PeerId, ClientIndex>,
    groups: BTreeMap<GroupIndex, (GroupId, BTreeSet<ClientIndex>)>,
    /// Groups by id, those that are over included.
    group_names: BTreeMap<GroupId, GroupIndex>,
    desk: Desk,
    payload: Vec<u8>,
}

impl SimServer {
    pub(super) fn new(names: Names, server: Server, mut orders: Vec<Order>, ongoing: Vec<Ongoing>) -> Self {
        orders.sort_by_key(|order| order.at);
        Self {
            names,
            server,
            orders: orders.into(),
            waiting: Vec::new(),
            online: BTreeMap::new(),
            clients: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_names: BTreeMap::new(),
            desk: Desk::new(Host::Server, ongoing),
            payload: Vec::new(),
        }
    }

    /// What it wrote down so far.
    pub fn journal(&self) -> &Journal {
        &self.desk.journal
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the script says and what never became possible.
    pub fn undone(&self) -> impl Iterator<Item = &Action> {
        self.waiting.iter().chain(self.orders.iter().map(|order| &order.action))
    }

    /// What it should have sent and did not, with the number of messages. Not what fell into a receiver's absence.
    pub fn unsent(&self) -> impl Iterator<Item = (&Sending, u32)> {
        self.desk.unsent()
    }

    fn turn(&mut self, now: Instant) {
        self.poll(now);
        self.carry_out(now);
        self.poll(now);
        let Self { desk, server, online, .. } = self;
        let receivers = |to| match to {
            Target::Host(Host::Client(whom)) => online.get(&whom).map(|peer| (*peer, vec![Host::Client(whom)])),
            _ => None,
        };
        desk.send_due(now, receivers, |to, channel, bytes| {
            server.send(now, to, channel, bytes, SendOptions::default())
        });
    }

    fn poll(&mut self, now: Instant) {
        while let Some(event) = self.server.poll_event(now, &mut self.payload) {
            self.event(now, event);
        }
    }

    /// Does what is due and possible. What waits holds back what comes later for the same client and group.
    fn carry_out(&mut self, now: Instant) {
        while let Some(order) = self.orders.pop_front_if(|order| order.at <= now) {
            self.waiting.push(order.action);
        }
        let mut held = Vec::new();
        for action in std::mem::take(&mut self.waiting) {
            let key = subject(&action);
            if held.contains(&key) || !self.possible(&action) {
                held.push(key);
                self.waiting.push(action);
            } else {
                self.act(now, &action);
                self.poll(now);
            }
        }
    }

    fn possible(&self, action: &Action) -> bool {
        let member = |group, client| self.groups.get(group).is_some_and(|(_, members)| members.contains(client));
        match action {
            Action::CreateGroup { members, .. } => members.iter().all(|client| self.online.contains_key(client)),
            Action::Join { group, client, .. } => {
                self.online.contains_key(client) && self.groups.contains_key(group) && !member(group, client)
            }
            Action::Leave { group, client } => member(group, client),
            Action::DestroyGroup { group } => self.groups.contains_key(group),
            Action::Disconnect { client } => self.online.contains_key(client),
            _ => true,
        }
    }

    fn act(&mut self, now: Instant, action: &Action) {
        let peer = |client: &ClientIndex| self.online.get(client).copied().unwrap_or(PeerId::SERVER);
        let id = |group: &GroupIndex| self.groups.get(group).map_or(GroupId::from_raw(0), |(id, _)| *id);
        let result = match action {
            Action::CreateGroup { group, members, message } => {
                let peers: Vec<_> = members.iter().map(peer).collect();
                self.desk.note(now, What::Created(*group, members.clone()));
                let message = join_message(*group, message);
                let created = self.server.create_group(now, &peers, GroupOptions::default().message(&message));
                created.map_err(|e| e.to_string()).map(|id| {
                    self.groups.insert(*group, (id, members.iter().copied().collect()));
                    self.group_names.insert(id, *group);
                })
            }
            Action::Join { group, client, message } => {
                let (peer, id) = (peer(client), id(group));
                self.desk.note(now, What::Joining(*group, *client));
                let joined = self.server.join_group(now, peer, id, &join_message(*group, message));
                joined.map_err(|e| e.to_string()).map(|()| {
                    self.groups.entry(*group).and_modify(|(_, members)| _ = members.insert(*client));
                })
            }
            Action::Leave { group, client } => {
                let (peer, id) = (peer(client), id(group));
                self.desk.note(now, What::Leaving(*group, *client));
                self.groups.entry(*group).and_modify(|(_, members)| _ = members.remove(client));
                self.server.leave_group(now, peer, id).map_err(|e| e.to_string())
            }
            Action::DestroyGroup { group } => {
                let id = id(group);
                self.desk.note(now, What::Destroying(*group));
                self.groups.remove(group);
                self.server.destroy_group(now, id).map_err(|e| e.to_string())
            }
            Action::Disconnect { client } => {
                let peer = peer(client);
                self.desk.note(now, What::LoggingOut(*client));
                self.server.disconnect(now, peer).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        };
        if let Err(why) = result {
            self.desk.note(now, What::Refused(why));
        }
    }

    fn event(&mut self, now: Instant, event: ServerEvent) {
        match event {
            ServerEvent::LoginRequested { login, token, .. } => {
                let Some(i) = self.names.iter().position(|name| name.as_bytes() == &*token) else {
                    _ = self.server.reject(now, login, b"unknown");
                    return self.desk.refused(now, "login", "with an unknown token");
                };
                match self.server.accept(now, login, &token, &[]) {
                    Ok(peer) => {
                        self.online.insert(ClientIndex(i), peer);
                        self.clients.insert(peer, ClientIndex(i));
                        self.desk.note(now, What::Accepted(ClientIndex(i)));
                    }
                    Err(why) => self.desk.refused(now, "accept", why),
                }
            }
            ServerEvent::ClientLeft { client, why } => {
                let Some(client) = self.clients.get(&client).copied() else { return };
                self.online.remove(&client);
                self.groups.values_mut().for_each(|(_, members)| _ = members.remove(&client));
                self.desk.note(now, What::ClientLeft(client, why));
            }
            ServerEvent::JoinCompleted { group, member, outcome } => {
                match (self.group_names.get(&group), self.clients.get(&member)) {
                    (Some(&group), Some(&client)) => self.desk.note(now, What::JoinCompleted(group, client, outcome)),
                    _ => self.desk.refused(now, "join completed", "of an unknown group or client"),
                }
            }
            ServerEvent::GroupEnded(id) => {
                if let Some(&group) = self.group_names.get(&id) {
                    self.groups.remove(&group);
                    self.desk.note(now, What::GroupEnded(group));
                }
            }
            ServerEvent::Message(message) => {
                let Some(&from) = self.clients.get(&message.from) else { return };
                let content = std::mem::take(&mut self.payload);
                self.desk.receive(now, Host::Client(from), Target::Host(Host::Server), &message, true, &content);
                self.payload = content;
            }
            ServerEvent::PathChanged { a, b, path } => {
                if let (Some(&a), Some(&b)) = (self.clients.get(&a), self.clients.get(&b)) {
                    self.desk.note(now, What::PathReported(a, b, path));
                }
            }
            _ => {}
        }
    }
}

/// Whom and what a step is about; what is about the same happens in order.
fn subject(action: &Action) -> (Option<GroupIndex>, Option<ClientIndex>) {
    match action {
        Action::CreateGroup { group, .. } | Action::DestroyGroup { group } => (Some(*group), None),
        Action::Join { group, client, .. } | Action::Leave { group, client } => (Some(*group), Some(*client)),
        Action::Disconnect { client } => (None, Some(*client)),
        _ => (None, None),
    }
}

impl Machine for SimServer {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.server.handle(now, input, out);
        self.turn(now);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.server.transmit(now, out);
        self.turn(now);
    }

    fn request(&mut self) -> Option<Request> {
        self.server.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        // What is due but not yet possible waits for an event, so it is no reason to wake.
        let next_order = self.orders.front().map(|order| order.at);
        earliest(self.server.wake(), self.desk.next_due().into_iter().chain(next_order).min())
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.server.tap(tap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_number_and_damage_shows() {
        let mut content = Vec::new();
        for size in [16, 17, 1000] {
            write_content(&mut content, 9, Instant(77), size);
            assert_eq!((content.len(), read_content(&content)), (size, (9, Instant(77), true)));
        }
        content[500] ^= 1;
        assert!(!read_content(&content).2);
        assert!(!read_content(&content[..15]).2);
    }

    #[test]
    fn a_join_carries_the_index_of_its_group() {
        assert_eq!(group_of(&join_message(GroupIndex(3), "hello")), Some(GroupIndex(3)));
        assert_eq!(group_of(b"abc"), None);
    }
}
