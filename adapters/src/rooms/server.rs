//! The stock server's application: who goes into which room.

use super::message::{Refusal, Request, user_data};
use super::question::{Answer, Question};
use posse_core::server::{AcceptError, CreateGroupError, GroupOptions, JoinError, NatBehaviour};
use posse_core::{GroupId, LoginId, PeerId, ServerEvent};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What [`Rooms`] needs of a server. Implemented by the servers of the adapters.
pub trait Host {
    /// Lets a login in.
    fn accept(&mut self, login: LoginId, user_data: &[u8], message: &[u8]) -> Result<PeerId, AcceptError>;
    /// Turns a login away.
    fn reject(&mut self, login: LoginId, message: &[u8]) -> Result<(), AcceptError>;
    /// Ends a client's session, if it has one.
    fn disconnect(&mut self, client: PeerId);
    /// Makes a group.
    fn create_group(&mut self, members: &[PeerId], options: GroupOptions<'_>) -> Result<GroupId, CreateGroupError>;
    /// Adds a member to a group.
    fn join_group(&mut self, member: PeerId, group: GroupId, message: &[u8]) -> Result<(), JoinError>;
}

/// Bounds on rooms. The server's own [`Limits`](crate::Limits) hold beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoomLimits {
    /// Rooms at one time: what a flood of logins, each with a room of its own, may make this server remember.
    pub rooms: usize,
    /// Members of one room. Everyone in it is everyone else's peer, so work grows with its square.
    pub members: u16,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self { rooms: 10_000, members: 64 }
    }
}

/// What became of an event; to be logged or ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A client came into a room.
    Entered {
        /// Who.
        client: PeerId,
        /// Its display name.
        name: String,
        /// The room's name.
        room: String,
        /// Members now.
        members: usize,
    },
    /// A client's session is over.
    Left {
        /// Who.
        client: PeerId,
        /// Its display name.
        name: String,
        /// The room's name.
        room: String,
        /// Members now.
        members: usize,
    },
    /// A client does not answer. It keeps its place for now.
    Offline {
        /// Who.
        client: PeerId,
        /// Its display name.
        name: String,
        /// The room's name.
        room: String,
    },
    /// A client that was offline answers again.
    Online {
        /// Who.
        client: PeerId,
        /// Its display name.
        name: String,
        /// The room's name.
        room: String,
    },
    /// A client was turned away.
    Refused {
        /// From where it asked.
        from: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// A client was let in, but the server's own limits kept it out of the room: its session was ended.
    Failed {
        /// Who.
        client: PeerId,
        /// Why, in words.
        why: String,
    },
}

struct Place {
    group: GroupId,
    members: usize,
}

struct Guest {
    room: String,
    name: String,
    group: GroupId,
    from: SocketAddr,
}

/// Who is in which room. Hand it every [`ServerEvent`].
#[derive(Default)]
pub struct Rooms {
    limits: RoomLimits,
    rooms: BTreeMap<String, Place>,
    guests: BTreeMap<PeerId, Guest>,
    stopping: bool,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: RoomLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// From now on turns newcomers away, as [`Refusal::Stopping`].
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Rooms with somebody in them.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Clients in all rooms.
    pub fn members(&self) -> usize {
        self.guests.len()
    }

    /// Does what an event asks for.
    pub fn handle(&mut self, event: &ServerEvent, host: &mut impl Host) -> Option<Change> {
        match event {
            ServerEvent::LoginRequested { login, from, token, .. } => match self.judge(token) {
                Ok(request) => self.let_in(*login, *from, request, host),
                Err(why) => {
                    host.reject(*login, &why.encode()).ok()?;
                    Some(Change::Refused { from: *from, why })
                }
            },
            ServerEvent::ClientLeft { client, .. } => self.left(*client),
            &ServerEvent::ClientOffline { client } => {
                let Guest { room, name, .. } = self.guests.get(&client)?;
                Some(Change::Offline { client, name: name.clone(), room: room.clone() })
            }
            &ServerEvent::ClientOnline { client } => {
                let Guest { room, name, .. } = self.guests.get(&client)?;
                Some(Change::Online { client, name: name.clone(), room: room.clone() })
            }
            ServerEvent::GroupEnded(group) => {
                self.rooms.retain(|_, place| place.group != *group);
                None
            }
            _ => None,
        }
    }

    /// What to answer to a client's message, on the channel that it came by, with what the server
    /// [sees](crate::Server::nat) of its NAT; nothing if it is no [question](Question).
    pub fn answer(&self, client: PeerId, message: &[u8], nat: Option<NatBehaviour>) -> Option<Vec<u8>> {
        match Question::parse(message)? {
            Question::Echo(bytes) => Some(Answer::Echo(bytes).encode()),
            Question::Nat => {
                let seen = self.guests.get(&client)?.from;
                Some(Answer::Nat { seen, behaviour: nat }.encode())
            }
        }
    }

    fn judge(&self, token: &[u8]) -> Result<Request, Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        let request = Request::parse(token)?;
        match self.rooms.get(request.room()) {
            Some(place) if place.members >= usize::from(self.limits.members) => {
                Err(Refusal::RoomFull { max: self.limits.members })
            }
            None if self.rooms.len() >= self.limits.rooms => Err(Refusal::TooManyRooms),
            _ => Ok(request),
        }
    }

    fn let_in(&mut self, login: LoginId, from: SocketAddr, request: Request, host: &mut impl Host) -> Option<Change> {
        // A login that is not there any more has nobody to tell.
        let client = host.accept(login, &user_data(request.name()), b"").ok()?;
        let (room, name) = (request.room().to_owned(), request.name().to_owned());
        let group = match self.seat(client, &room, host) {
            Ok(group) => group,
            Err(why) => {
                host.disconnect(client);
                return Some(Change::Failed { client, why });
            }
        };
        let place = self.rooms.entry(room.clone()).or_insert(Place { group, members: 0 });
        if place.group != group {
            *place = Place { group, members: 0 };
        }
        place.members = place.members.saturating_add(1);
        let members = place.members;
        self.guests.insert(client, Guest { room: room.clone(), name: name.clone(), group, from });
        Some(Change::Entered { client, name, room, members })
    }

    /// Puts a client into the room's group, or into a new one: the group may have ended with its last member while that
    /// news still waits to be polled.
    fn seat(&self, client: PeerId, room: &str, host: &mut impl Host) -> Result<GroupId, String> {
        if let Some(place) = self.rooms.get(room) {
            match host.join_group(client, place.group, b"") {
                Ok(()) => return Ok(place.group),
                Err(JoinError::UnknownGroup) => {}
                Err(why) => return Err(why.to_string()),
            }
        }
        host.create_group(&[client], GroupOptions::default()).map_err(|why| why.to_string())
    }

    fn left(&mut self, client: PeerId) -> Option<Change> {
        let Guest { room, name, group, .. } = self.guests.remove(&client)?;
        // The room of that name may be another group by now.
        let place = self.rooms.get_mut(&room).filter(|place| place.group == group);
        let members = place.map_or(0, |place| {
            place.members = place.members.saturating_sub(1);
            place.members
        });
        Some(Change::Left { client, name, room, members })
    }
}
