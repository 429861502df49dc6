//! The server and its application.

use super::{Desk, Names, Order, Unsent, earliest, join_message};
use crate::scenario::journal::{Journal, What};
use crate::scenario::{Action, ClientIndex, GroupIndex, Host, PolicyOf, Target};
use posse_core::server::{GroupOptions, Server};
use posse_core::{GroupId, Input, Instant, Machine, Outbox, PeerId, Request, ServerEvent, Tap, Wake};
use std::collections::{BTreeMap, VecDeque};

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
    /// With the sessions that are in them.
    groups: BTreeMap<GroupIndex, (GroupId, BTreeMap<ClientIndex, PeerId>)>,
    /// Groups by id, those that are over included.
    group_names: BTreeMap<GroupId, GroupIndex>,
    desk: Desk,
    payload: Vec<u8>,
}

/// What the server's application has to do.
pub(crate) struct ServerPart {
    pub(crate) orders: Vec<Order>,
    /// What was due and not possible yet.
    pub(crate) waiting: Vec<Action>,
    pub(crate) desk: Desk,
}

impl SimServer {
    pub(crate) fn new(names: Names, server: Server, part: ServerPart) -> Self {
        let ServerPart { mut orders, waiting, desk } = part;
        orders.sort_by_key(|order| order.at);
        Self {
            names,
            server,
            orders: orders.into(),
            waiting,
            online: BTreeMap::new(),
            clients: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_names: BTreeMap::new(),
            desk,
            payload: Vec::new(),
        }
    }

    /// What is left for it to do after a restart at `now`.
    pub(crate) fn remainder(&self, now: Instant) -> ServerPart {
        let orders = self.orders.iter().cloned().collect();
        ServerPart { orders, waiting: self.waiting.clone(), desk: self.desk.restarted(now) }
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
    pub fn unsent(&self) -> impl Iterator<Item = Unsent<'_>> {
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
        desk.send_due(now, receivers, |to, channel, bytes, options| server.send(now, to, channel, bytes, options));
    }

    fn poll(&mut self, now: Instant) {
        while let Some(event) = self.server.poll_event(now, &mut self.payload) {
            self.event(now, event);
        }
    }

    /// Does what is due and possible. What waits holds back what comes later for the same client and group.
    fn carry_out(&mut self, now: Instant) {
        let due = self.orders.iter().take_while(|order| order.at <= now).count();
        self.waiting.extend(self.orders.drain(..due).map(|order| order.action));
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
        let member = |group, client| self.groups.get(group).is_some_and(|(_, members)| members.contains_key(client));
        match action {
            Action::CreateGroup { members, .. } => members.iter().all(|client| self.online.contains_key(client)),
            Action::Join { group, client, .. } => {
                self.online.contains_key(client) && self.groups.contains_key(group) && !member(group, client)
            }
            Action::Leave { group, client } => member(group, client),
            Action::DestroyGroup { group } => self.groups.contains_key(group),
            Action::Disconnect { client } => self.online.contains_key(client),
            Action::SetPolicy { of: PolicyOf::Group(group), .. } => self.groups.contains_key(group),
            Action::SetPolicy { of: PolicyOf::Pair(a, b), .. } => {
                let ids = (self.online.get(a), self.online.get(b));
                matches!(ids, (Some(a), Some(b)) if self.server.path(*a, *b).is_some())
            }
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
                    self.groups.insert(*group, (id, members.iter().copied().zip(peers).collect()));
                    self.group_names.insert(id, *group);
                })
            }
            Action::Join { group, client, message } => {
                let (peer, id) = (peer(client), id(group));
                self.desk.note(now, What::Joining(*group, *client));
                let joined = self.server.join_group(now, peer, id, &join_message(*group, message));
                joined.map_err(|e| e.to_string()).map(|()| {
                    self.groups.entry(*group).and_modify(|(_, members)| _ = members.insert(*client, peer));
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
            Action::SetPolicy { of, policy } => {
                let set = match of {
                    PolicyOf::Group(group) => self.server.set_group_policy(now, id(group), *policy),
                    PolicyOf::Pair(a, b) => self.server.set_pair_policy(now, peer(a), peer(b), *policy),
                };
                set.map_err(|e| e.to_string())
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
                let peer = client;
                let Some(client) = self.clients.get(&peer).copied() else { return };
                // A client that crashed may long have come back with a new session when its old one times out.
                if self.online.get(&client) == Some(&peer) {
                    self.online.remove(&client);
                }
                self.groups.values_mut().for_each(|(_, members)| members.retain(|_, member| *member != peer));
                self.desk.note(now, What::ClientLeft(client, why));
            }
            ServerEvent::ClientOffline { client } => self.presence(now, client, true),
            ServerEvent::ClientOnline { client } => self.presence(now, client, false),
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
            ServerEvent::LegChanged { client, leg } => {
                if let Some(&client) = self.clients.get(&client) {
                    self.desk.note(now, What::LegSeen(client, leg));
                }
            }
            _ => {}
        }
    }
}

impl SimServer {
    fn presence(&mut self, now: Instant, peer: PeerId, offline: bool) {
        // Of a client that came back with another session only the latest counts.
        if let Some(&who) = self.clients.get(&peer)
            && self.online.get(&who) == Some(&peer)
        {
            self.desk.note(now, What::Presence { of: Host::Client(who), offline });
        }
    }
}

/// Whom and what a step is about; what is about the same happens in order.
fn subject(action: &Action) -> (Option<GroupIndex>, Option<ClientIndex>) {
    match action {
        Action::CreateGroup { group, .. }
        | Action::DestroyGroup { group }
        | Action::SetPolicy { of: PolicyOf::Group(group), .. } => (Some(*group), None),
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
