#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

use super::message::{read_name, user_data};
use super::*;
use posse_core::server::{AcceptError, CreateGroupError, GroupOptions, JoinError};
use posse_core::{ClientEvent, EndReason, GroupId, LeaveReason, LoginFailure, LoginId, PeerId, ServerEvent};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A server that keeps only what rooms are about. A group ends with its last member; its end waits in `news`.
#[derive(Default)]
struct Stage {
    accepted: Vec<Vec<u8>>,
    rejected: Vec<Vec<u8>>,
    disconnected: Vec<PeerId>,
    groups: BTreeMap<GroupId, Vec<PeerId>>,
    made: u32,
    member_limit: Option<usize>,
    news: Vec<ServerEvent>,
}

impl Host for Stage {
    fn accept(&mut self, login: LoginId, user_data: &[u8], _: &[u8]) -> Result<PeerId, AcceptError> {
        self.accepted.push(user_data.to_vec());
        Ok(PeerId::new(login.slot(), 1))
    }
    fn reject(&mut self, _: LoginId, message: &[u8]) -> Result<(), AcceptError> {
        self.rejected.push(message.to_vec());
        Ok(())
    }
    fn disconnect(&mut self, client: PeerId) {
        self.disconnected.push(client);
    }
    fn create_group(&mut self, members: &[PeerId], _: GroupOptions<'_>) -> Result<GroupId, CreateGroupError> {
        self.made += 1;
        let group = GroupId::new(self.made, 1);
        self.groups.insert(group, members.to_vec());
        Ok(group)
    }
    fn join_group(&mut self, member: PeerId, group: GroupId, _: &[u8]) -> Result<(), JoinError> {
        let members = self.groups.get_mut(&group).ok_or(JoinError::UnknownGroup)?;
        if let Some(max) = self.member_limit.filter(|max| members.len() >= *max) {
            return Err(JoinError::TooManyMembers { max });
        }
        members.push(member);
        Ok(())
    }
}

impl Stage {
    /// A session ends: the server takes the client out of its groups at once, and tells later.
    fn lose(&mut self, client: PeerId) {
        self.news.push(ServerEvent::ClientLeft { client, why: EndReason::Remote });
        for members in self.groups.values_mut() {
            members.retain(|m| *m != client);
        }
        let Self { groups, news, .. } = self;
        groups.retain(|group, members| {
            if members.is_empty() {
                news.push(ServerEvent::GroupEnded(*group));
            }
            !members.is_empty()
        });
    }

    fn tell(&mut self, rooms: &mut Rooms) {
        for event in std::mem::take(&mut self.news) {
            rooms.handle(&event, self);
        }
    }
}

fn knock(login: u32, token: impl Into<Vec<u8>>) -> ServerEvent {
    let token: Vec<u8> = token.into();
    ServerEvent::LoginRequested {
        login: LoginId::new(login, 1),
        from: ([192, 0, 2, 1], 5).into(),
        token: token.into(),
        ticket: None,
    }
}

fn to(login: u32, room: &str) -> ServerEvent {
    knock(login, Request::new(room, format!("client {login}")).unwrap().token())
}

fn refusal(stage: &Stage) -> Option<Refusal> {
    Refusal::parse(stage.rejected.last()?)
}

#[test]
fn who_names_the_same_room_is_in_the_same_group() {
    let (mut stage, mut rooms) = (Stage::default(), Rooms::default());
    for (login, room) in [(1, "lobby"), (2, "arena"), (3, "lobby")] {
        rooms.handle(&to(login, room), &mut stage);
    }
    let groups: Vec<_> = stage.groups.values().cloned().collect();
    assert_eq!(groups, [vec![PeerId::new(1, 1), PeerId::new(3, 1)], vec![PeerId::new(2, 1)]]);
    assert_eq!((rooms.rooms(), rooms.members()), (2, 3));
    assert_eq!(read_name(&stage.accepted[2]), Ok("client 3"));
}

#[test]
fn a_room_ends_with_its_last_member_and_begins_anew() {
    let (mut stage, mut rooms) = (Stage::default(), Rooms::default());
    rooms.handle(&to(1, "lobby"), &mut stage);
    stage.lose(PeerId::new(1, 1));
    // The next one comes before that is polled.
    let entered = rooms.handle(&to(2, "lobby"), &mut stage);
    assert!(matches!(entered, Some(Change::Entered { members: 1, .. })), "{entered:?}");
    stage.tell(&mut rooms);
    assert_eq!(rooms.rooms(), 1, "the old group's end is not the new one's");
    let entered = rooms.handle(&to(3, "lobby"), &mut stage);
    assert_eq!(stage.groups.len(), 1, "{entered:?}");
    stage.lose(PeerId::new(2, 1));
    stage.lose(PeerId::new(3, 1));
    stage.tell(&mut rooms);
    assert_eq!((rooms.rooms(), rooms.members()), (0, 0));
}

#[test]
fn who_is_offline_keeps_its_place_and_is_named() {
    let (mut stage, mut rooms) = (Stage::default(), Rooms::default());
    rooms.handle(&to(1, "lobby"), &mut stage);
    let client = PeerId::new(1, 1);
    let (name, room) = ("client 1".to_owned(), "lobby".to_owned());
    let told = rooms.handle(&ServerEvent::ClientOffline { client }, &mut stage);
    assert_eq!(told, Some(Change::Offline { client, name: name.clone(), room: room.clone() }));
    assert_eq!(rooms.members(), 1);
    let told = rooms.handle(&ServerEvent::ClientOnline { client }, &mut stage);
    assert_eq!(told, Some(Change::Online { client, name, room }));
    let nobody = ServerEvent::ClientOffline { client: PeerId::new(9, 1) };
    assert_eq!(rooms.handle(&nobody, &mut stage), None);
}

#[test]
fn what_exceeds_a_bound_is_refused_with_its_reason() {
    let (mut stage, mut rooms) = (Stage::default(), Rooms::new(RoomLimits { rooms: 1, members: 1 }));
    rooms.handle(&to(1, "lobby"), &mut stage);
    rooms.handle(&to(2, "lobby"), &mut stage);
    assert_eq!(refusal(&stage), Some(Refusal::RoomFull { max: 1 }));
    rooms.handle(&to(3, "arena"), &mut stage);
    assert_eq!(refusal(&stage), Some(Refusal::TooManyRooms));
    rooms.handle(&knock(4, *b"let me in"), &mut stage);
    assert_eq!(refusal(&stage), Some(Refusal::Version { server: 1 }));
    rooms.handle(&knock(5, [1, 200, 7]), &mut stage);
    assert_eq!(refusal(&stage), Some(Refusal::Malformed));
    rooms.handle(&knock(6, [1, 1, b'a', 1, 7]), &mut stage);
    assert_eq!(refusal(&stage), Some(Refusal::Name));
    rooms.stop();
    rooms.handle(&to(7, "lobby"), &mut stage);
    assert_eq!((refusal(&stage), stage.accepted.len()), (Some(Refusal::Stopping), 1));
}

#[test]
fn whom_the_servers_own_limits_keep_out_is_not_left_standing() {
    let mut stage = Stage { member_limit: Some(1), ..Stage::default() };
    let mut rooms = Rooms::default();
    rooms.handle(&to(1, "lobby"), &mut stage);
    let failed = rooms.handle(&to(2, "lobby"), &mut stage);
    assert!(matches!(failed, Some(Change::Failed { .. })));
    assert_eq!((stage.disconnected.len(), rooms.members()), (1, 1));
}

#[test]
fn a_name_is_short_visible_text() {
    assert_eq!(Request::new("", "ann"), Err(NameError::Empty));
    assert_eq!(Request::new("lobby", "a\x1b[2J"), Err(NameError::Control));
    assert_eq!(Request::new("lobby", "a".repeat(129)), Err(NameError::TooLong { len: 129 }));
    assert!(Request::new("ロビー 1", "Ann O’Hara").is_ok());
    assert!(Request::new("r".repeat(MAX_NAME), "n".repeat(MAX_NAME)).unwrap().token().len() <= 1024);
}

#[test]
fn a_client_learns_who_is_there_and_why_it_is_not_let_in() {
    let (me, ann, group) = (PeerId::new(1, 1), PeerId::new(2, 1), GroupId::new(0, 1));
    let mut room = Room::new("lobby", "ben").unwrap();
    let joined = |member, user_data: Vec<u8>| ClientEvent::MemberJoined {
        group,
        member,
        user_data: user_data.into(),
        message: Box::default(),
    };
    room.hear(ClientEvent::LoggedIn { me, message: Box::default() });
    assert_eq!(room.group(), None);
    assert_eq!(room.hear(joined(me, user_data("ben"))), RoomEvent::Entered { me });
    assert_eq!(room.hear(joined(ann, user_data("ann"))), RoomEvent::Joined { peer: ann });
    assert_eq!((room.group(), room.name_of(ann), room.name_of(me)), (Some(group), "ann", "ben"));
    let left = ClientEvent::MemberLeft { group, member: ann, why: LeaveReason::Left };
    assert_eq!(room.hear(left), RoomEvent::Left { peer: ann, name: "ann".into() });
    assert_eq!(room.peers().count(), 0);

    let rejected = |message: Vec<u8>| ClientEvent::LoginFailed(LoginFailure::Rejected { message: message.into() });
    let full = Refusal::RoomFull { max: 64 };
    assert_eq!(room.hear(rejected(full.encode())), RoomEvent::Refused(full));
    assert!(matches!(room.hear(rejected(b"no".to_vec())), RoomEvent::LoginFailed(_)));
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(room in "\\PC{1,32}", name in "\\PC{1,32}") {
        let request = Request::new(room, name).unwrap();
        prop_assert_eq!(Request::parse(&request.token()), Ok(request.clone()));
        let shown = user_data(request.name());
        prop_assert_eq!(read_name(&shown), Ok(request.name()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), version: bool) {
        if version && let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        if let Ok(request) = Request::parse(&bytes) {
            prop_assert_eq!(request.token(), bytes.clone());
        }
        let _ = read_name(&bytes);
        if let Some(refusal) = Refusal::parse(&bytes) {
            prop_assert_eq!(Refusal::parse(&refusal.encode()), Some(refusal));
        }
        let (mut stage, mut rooms) = (Stage::default(), Rooms::default());
        rooms.handle(&knock(1, bytes), &mut stage);
        prop_assert_eq!(stage.accepted.len() + stage.rejected.len(), 1);
    }

    #[test]
    fn whoever_comes_and_goes_every_room_is_one_group(steps in proptest::collection::vec((0..12u32, 0..3usize, any::<bool>()), 1..80)) {
        let (mut stage, mut rooms) = (Stage::default(), Rooms::new(RoomLimits { rooms: 2, members: 4 }));
        let mut present = BTreeMap::new();
        let mut login = 0;
        for (who, room, poll) in steps {
            if let Some(client) = present.remove(&who) {
                stage.lose(client);
            } else {
                login += 1;
                let entered = rooms.handle(&to(login, ["a", "b", "c"][room]), &mut stage);
                if let Some(Change::Entered { client, .. }) = entered {
                    present.insert(who, client);
                }
            }
            if poll {
                stage.tell(&mut rooms);
            }
            prop_assert!(stage.groups.len() <= 2 && stage.groups.values().all(|m| m.len() <= 4));
            let seated: usize = stage.groups.values().map(Vec::len).sum();
            prop_assert_eq!(seated, present.len());
        }
        for client in present.into_values() {
            stage.lose(client);
        }
        stage.tell(&mut rooms);
        prop_assert_eq!((rooms.rooms(), rooms.members()), (0, 0));
    }
}
