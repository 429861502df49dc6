//! A client's view of its room.

use super::message::{NameError, Refusal, Request, read_name};
use posse_core::{ClientEvent, EndReason, GroupId, Leg, LegReason, LoginFailure, Message, Path, PeerId};
use std::collections::BTreeMap;

/// What happens in a room.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RoomEvent {
    /// This client is in the room. [`Room::group`] is there from now on.
    Entered {
        /// This client.
        me: PeerId,
    },
    /// Somebody else is in the room: was there before, or came now.
    Joined {
        /// Who.
        peer: PeerId,
    },
    /// Somebody is no longer in the room.
    Left {
        /// Who.
        peer: PeerId,
        /// Under which name; [`Room::name_of`] knows it no more.
        name: String,
    },
    /// A message; its bytes are in the buffer that was passed to the poll.
    Message(Message),
    /// Traffic with somebody goes another way now.
    Path {
        /// With whom.
        peer: PeerId,
        /// How it goes.
        path: Path,
    },
    /// Nothing gets to somebody at present; `peer` is [`PeerId::SERVER`] if the server does not answer. What is sent reliably
    /// waits.
    Offline {
        /// Who.
        peer: PeerId,
    },
    /// The same one can be reached again.
    Online {
        /// Who.
        peer: PeerId,
    },
    /// Everything between this client and the server goes by another leg now.
    Leg {
        /// Which.
        leg: Leg,
        /// Why.
        why: LegReason,
    },
    /// The stock server does not let this client in; it is over.
    Refused(Refusal),
    /// The login came to nothing for another reason; the client is over.
    LoginFailed(LoginFailure),
    /// The session is over.
    Ended(EndReason),
    /// What is of no concern to the room.
    Other(ClientEvent),
}

/// One room as one client sees it: give its [token](Self::token) to the login, and it every event.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (server, server_key) = (([127, 0, 0, 1], 7777).into(), [0; 32]);
/// use posse::rooms::{self, Room, RoomEvent};
/// use posse::{Channel, Client, ClientOptions};
///
/// let mut room = Room::new("lobby", "ann")?;
/// let mut net = Client::connect(ClientOptions::new(server, server_key, rooms::APP).token(room.token()))?;
/// let mut payload = Vec::new();
/// loop {
///     net.update()?;
///     while let Some(event) = net.next_event(&mut payload) {
///         match room.hear(event) {
///             RoomEvent::Joined { peer } => println!("{} is here", room.name_of(peer)),
///             RoomEvent::Message(m) => println!("{}: {}", room.name_of(m.from), String::from_utf8_lossy(&payload)),
///             _ => {}
///         }
///     }
///     if let Some(group) = room.group() {
///         net.send(group, Channel::unreliable(0), b"where I am now")?;
///     }
///     net.flush();
///     # break Ok(());
/// }
/// # }
/// ```
pub struct Room {
    request: Request,
    group: Option<GroupId>,
    me: Option<PeerId>,
    names: BTreeMap<PeerId, String>,
}

impl Room {
    /// The room of this name, to be joined as `name`: 1 to [`MAX_NAME`](super::MAX_NAME) bytes each, no control characters.
    pub fn new(room: impl Into<String>, name: impl Into<String>) -> Result<Self, NameError> {
        Ok(Self { request: Request::new(room, name)?, group: None, me: None, names: BTreeMap::new() })
    }

    /// The token to log in with.
    pub fn token(&self) -> Vec<u8> {
        self.request.token()
    }

    /// Makes of an event what it means here.
    pub fn hear(&mut self, event: ClientEvent) -> RoomEvent {
        match event {
            ClientEvent::LoggedIn { me, .. } => {
                self.me = Some(me);
                RoomEvent::Other(event)
            }
            ClientEvent::MemberJoined { group, member, .. } if Some(member) == self.me => {
                self.group = Some(group);
                RoomEvent::Entered { me: member }
            }
            ClientEvent::MemberJoined { member, user_data, .. } => {
                // A stock server lets nobody in whose name cannot be read; another server may.
                let name = read_name(&user_data).map_or_else(|_| nameless(member), str::to_owned);
                self.names.insert(member, name);
                RoomEvent::Joined { peer: member }
            }
            ClientEvent::MemberLeft { member, .. } if Some(member) == self.me => {
                self.group = None;
                self.names.clear();
                RoomEvent::Other(event)
            }
            ClientEvent::MemberLeft { member, .. } => {
                let name = self.names.remove(&member).unwrap_or_else(|| nameless(member));
                RoomEvent::Left { peer: member, name }
            }
            ClientEvent::Message(message) => RoomEvent::Message(message),
            ClientEvent::PathChanged { peer, path } => RoomEvent::Path { peer, path },
            ClientEvent::MemberOffline { member } => RoomEvent::Offline { peer: member },
            ClientEvent::MemberOnline { member } => RoomEvent::Online { peer: member },
            ClientEvent::ServerOffline => RoomEvent::Offline { peer: PeerId::SERVER },
            ClientEvent::ServerOnline => RoomEvent::Online { peer: PeerId::SERVER },
            ClientEvent::LegChanged { leg, why } => RoomEvent::Leg { leg, why },
            ClientEvent::LoginFailed(LoginFailure::Rejected { message }) => match Refusal::parse(&message) {
                Some(refusal) => RoomEvent::Refused(refusal),
                None => RoomEvent::LoginFailed(LoginFailure::Rejected { message }),
            },
            ClientEvent::LoginFailed(why) => RoomEvent::LoginFailed(why),
            ClientEvent::Ended(why) => {
                self.group = None;
                RoomEvent::Ended(why)
            }
            other => RoomEvent::Other(other),
        }
    }

    /// Where to send what everyone in the room should get; `None` while this client is not in it.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// Everyone else in the room, with their names.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &str)> + '_ {
        self.names.iter().map(|(peer, name)| (*peer, name.as_str()))
    }

    /// Somebody's display name: this client's own, a member's, or "?" for a stranger.
    pub fn name_of(&self, peer: PeerId) -> &str {
        match self.names.get(&peer) {
            Some(name) => name,
            None if Some(peer) == self.me => self.request.name(),
            None => "?",
        }
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        self.request.room()
    }
}

fn nameless(peer: PeerId) -> String {
    format!("client {}", peer.raw())
}
