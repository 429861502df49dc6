//! The threads of the demo: one server, three clients.

use super::Stage;
use posse::{
    Channel, Client, ClientEvent, ClientOptions, GroupId, GroupOptions, JoinOutcome, Path, PeerId, SendError, Server,
    ServerEvent, ServerOptions, os_seed,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// The clients.
pub(super) const NAMES: [&str; 3] = ["ann", "ben", "cid"];
/// What the server is called in the report.
pub(super) const SERVER: &str = "server";
const APP: u64 = 0xde30;
const MOVES: Channel = Channel::reliable(0);
/// A game's usual rate of updates: 60 Hz.
const TICK: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// How soon the threads notice that the time is over.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// Bytes of a message: a number, and as much again as a typical update carries.
const MESSAGE: usize = 64;

/// Something worth telling.
pub(super) struct Note {
    /// Since the demo's start.
    pub(super) at: Duration,
    pub(super) who: &'static str,
    pub(super) what: What,
}

pub(super) enum What {
    Listens(SocketAddr),
    LoggedIn,
    GroupFormed,
    /// All members of the group know of this one.
    JoinCompleted(&'static str, JoinOutcome),
    FirstMessage {
        from: &'static str,
        direct: bool,
    },
    PathChanged(&'static str, Path),
    Failed(String),
}

/// What a client did and saw.
pub(super) struct Account {
    pub(super) who: usize,
    pub(super) fellows: [Fellow; NAMES.len()],
}

/// What a client sent to one fellow and had from it.
#[derive(Default)]
pub(super) struct Fellow {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
    pub(super) directly: u64,
    pub(super) first_message: Option<Duration>,
    pub(super) direct_from: Option<Duration>,
    pub(super) relay_rtt: Option<Duration>,
    pub(super) direct_rtt: Option<Duration>,
    pub(super) seen: Vec<bool>,
}

impl Fellow {
    fn take(&mut self, number: usize, direct: bool) {
        if self.seen.get(number).is_some_and(|seen| *seen) {
            self.repeated += 1;
            return;
        }
        if number < self.seen.len() {
            self.reordered += 1;
        } else {
            self.seen.resize(number + 1, false);
        }
        if let Some(seen) = self.seen.get_mut(number) {
            *seen = true;
        }
        self.received += 1;
        self.directly += u64::from(direct);
    }
}

fn tell(stage: &Stage, notes: &Sender<Note>, who: &'static str, what: What) {
    if matches!(what, What::Failed(_)) {
        stage.broken.store(true, Ordering::Relaxed);
    }
    // Nobody listens any more once the time is over.
    let _ = notes.send(Note { at: stage.elapsed(), who, what });
}

pub(super) fn open_server(stage: &Stage, notes: &Sender<Note>) -> Option<Server> {
    let opened = os_seed().map_err(|e| e.to_string()).and_then(|key| {
        Server::bind((Ipv4Addr::LOCALHOST, 0).into(), ServerOptions::new(key, APP)).map_err(|e| e.to_string())
    });
    match opened {
        Ok(server) => {
            tell(stage, notes, SERVER, What::Listens(server.local_addr()));
            Some(server)
        }
        Err(why) => {
            tell(stage, notes, SERVER, What::Failed(why));
            None
        }
    }
}

pub(super) fn serve(stage: &Stage, mut server: Server, notes: &Sender<Note>) {
    let mut names = BTreeMap::new();
    let mut payload = Vec::new();
    while !stage.is_over() {
        if let Err(error) = server.update() {
            return tell(stage, notes, SERVER, What::Failed(error.to_string()));
        }
        while let Some(event) = server.next_event(&mut payload) {
            if let Err(why) = answer(stage, &mut server, &mut names, event, notes) {
                return tell(stage, notes, SERVER, What::Failed(why));
            }
        }
        server.flush();
        server.wait(LONGEST_WAIT);
    }
}

fn answer(
    stage: &Stage,
    server: &mut Server,
    names: &mut BTreeMap<PeerId, &'static str>,
    event: ServerEvent,
    notes: &Sender<Note>,
) -> Result<(), String> {
    match event {
        ServerEvent::LoginRequested { login, token, .. } => {
            let Some(who) = index_of(&token) else {
                return server.reject(login, b"who are you?").map_err(|e| e.to_string());
            };
            let id = server.accept(login, &token, b"welcome").map_err(|e| e.to_string())?;
            names.insert(id, NAMES[who]);
            if names.len() == NAMES.len() {
                let members: Vec<_> = names.keys().copied().collect();
                server.create_group(&members, GroupOptions::default()).map_err(|e| e.to_string())?;
                tell(stage, notes, SERVER, What::GroupFormed);
            }
        }
        ServerEvent::JoinCompleted { member, outcome, .. } => {
            let name = names.get(&member).copied().unwrap_or("?");
            tell(stage, notes, SERVER, What::JoinCompleted(name, outcome));
        }
        ServerEvent::ClientLeft { client, why } if !stage.is_over() => {
            let name = names.get(&client).copied().unwrap_or("?");
            return Err(format!("lost {name}: {why:?}"));
        }
        _ => {}
    }
    Ok(())
}

fn index_of(name: &[u8]) -> Option<usize> {
    NAMES.iter().position(|n| n.as_bytes() == name)
}

pub(super) fn play(stage: &Stage, who: usize, server: SocketAddr, key: [u8; 32], notes: &Sender<Note>) -> Account {
    let options = ClientOptions::new(server, key, APP).token(NAMES[who]).bind((Ipv4Addr::LOCALHOST, 0).into());
    let mut player = Player {
        stage,
        notes,
        ids: BTreeMap::new(),
        group: None,
        number: 0,
        due: Duration::ZERO,
        account: Account { who, fellows: Default::default() },
    };
    let outcome = match Client::connect(options) {
        Ok(mut client) => player.live(&mut client),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = outcome {
        player.tell(What::Failed(why));
    }
    player.account
}

struct Player<'a> {
    stage: &'a Stage,
    notes: &'a Sender<Note>,
    /// The fellows by id.
    ids: BTreeMap<PeerId, usize>,
    group: Option<GroupId>,
    /// The next message's.
    number: u32,
    /// When it is sent.
    due: Duration,
    account: Account,
}

impl Player<'_> {
    fn tell(&self, what: What) {
        tell(self.stage, self.notes, NAMES[self.account.who], what);
    }

    fn live(&mut self, client: &mut Client) -> Result<(), String> {
        let mut payload = Vec::new();
        while !self.stage.is_over() {
            client.update().map_err(|e| e.to_string())?;
            while let Some(event) = client.next_event(&mut payload) {
                self.hear(client, event, &payload)?;
            }
            self.speak(client)?;
            client.flush();
            client.wait(self.due.saturating_sub(self.stage.elapsed()).min(LONGEST_WAIT));
        }
        for view in client.peers() {
            if let Some(fellow) = self.ids.get(&view.id).and_then(|i| self.account.fellows.get_mut(*i)) {
                (fellow.relay_rtt, fellow.direct_rtt) = (view.relay_rtt, view.direct_rtt);
            }
        }
        Ok(())
    }

    fn hear(&mut self, client: &Client, event: ClientEvent, payload: &[u8]) -> Result<(), String> {
        match event {
            ClientEvent::LoggedIn { .. } => self.tell(What::LoggedIn),
            ClientEvent::LoginFailed(why) => return Err(format!("login failed: {why:?}")),
            ClientEvent::Ended(why) if !self.stage.is_over() => return Err(format!("session ended: {why:?}")),
            ClientEvent::MemberJoined { group, member, user_data, .. } if Some(member) != client.id() => {
                let index = index_of(&user_data).ok_or("a stranger joined")?;
                self.ids.insert(member, index);
                self.group = Some(group);
                // Says hello without waiting for the next tick.
                self.due = self.stage.elapsed();
            }
            ClientEvent::Message(message) => {
                let index = *self.ids.get(&message.from).ok_or("a message of someone who did not join")?;
                let number = payload.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or("a message too short")?;
                let now = self.stage.elapsed();
                let fellow = &mut self.account.fellows[index];
                fellow.take(number as usize, message.direct);
                if fellow.first_message.is_none() {
                    fellow.first_message = Some(now);
                    self.tell(What::FirstMessage { from: NAMES[index], direct: message.direct });
                }
            }
            ClientEvent::PathChanged { peer, path } => {
                let index = *self.ids.get(&peer).ok_or("a path to someone who did not join")?;
                let fellow = &mut self.account.fellows[index];
                if let Path::Direct { .. } = path {
                    fellow.direct_from.get_or_insert(self.stage.elapsed());
                }
                self.tell(What::PathChanged(NAMES[index], path));
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends the next message to the group, if it is due.
    fn speak(&mut self, client: &mut Client) -> Result<(), String> {
        let now = self.stage.elapsed();
        let Some(group) = self.group else {
            self.due = now + LONGEST_WAIT;
            return Ok(());
        };
        if now < self.due || now >= self.stage.quiet_from {
            return Ok(());
        }
        self.due = now + TICK;
        let mut message = [0; MESSAGE];
        message[..4].copy_from_slice(&self.number.to_be_bytes());
        match client.send(group, MOVES, &message) {
            Ok(_) => {
                self.number += 1;
                for member in client.members(group) {
                    if let Some(index) = self.ids.get(&member) {
                        self.account.fellows[*index].sent += 1;
                    }
                }
                Ok(())
            }
            // Tried again with the next tick.
            Err(SendError::Full { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_and_a_late_message_are_told_apart() {
        let mut fellow = Fellow::default();
        for number in [0, 2, 2, 1, 1, 3] {
            fellow.take(number, number == 3);
        }
        let Fellow { received, repeated, reordered, directly, .. } = fellow;
        assert_eq!((received, repeated, reordered, directly), (4, 2, 1, 1));
    }
}
