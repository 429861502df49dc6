//! How sessions begin and end.

use crate::adapter::{Adapter, AnyClient, AnyServer};
use crate::scene::{CHAT, PATIENCE, Scene, options, server};
use posse::rooms::{self, Change, Host, Refusal, Room, RoomEvent, RoomLimits, Rooms};
use posse::{
    ClientEvent, ClientOptions, ConnectError, EndReason, LoginFailure, ServeError, ServerEvent, ServerOptions,
};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Drives one client until its login is decided, with a server that answers by `decide`.
fn login<A: Adapter>(
    server: &mut A::Server,
    options: ClientOptions,
    mut decide: impl FnMut(&mut A::Server, ServerEvent),
) -> ClientEvent {
    let mut client = A::connect(options).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut payload = Vec::new();
    loop {
        assert!(Instant::now() < end, "not decided in time");
        if let Some(event) = server.next(&mut payload) {
            decide(server, event);
        }
        if let Some(event) = client.next(&mut payload) {
            return event;
        }
    }
}

fn local<A: Adapter>() -> A::Server {
    server::<A>(Ipv4Addr::LOCALHOST.into())
}

pub(crate) fn a_client_is_let_in_with_what_each_had_to_say<A: Adapter>() {
    let (scene, group) = Scene::<A>::grouped(2);
    let ids = scene.ids();
    let asked = |e: &ServerEvent| matches!(e, ServerEvent::LoginRequested { token, .. } if &token[..] == b"client 1");
    assert!(scene.at_server.iter().any(|(e, _)| asked(e)));
    let welcome = ClientEvent::LoggedIn { me: ids[0], message: (*b"come in").into() };
    assert_eq!(scene.at_clients[0][0].0, welcome);
    let other =
        ClientEvent::MemberJoined { group, member: ids[1], user_data: (*b"client 1").into(), message: (*b"go").into() };
    assert_eq!(scene.at_clients[0].iter().filter(|(e, _)| *e == other).count(), 1);
}

pub(crate) fn what_a_rejected_client_is_told_is_the_servers_own_word<A: Adapter>() {
    let mut server = local::<A>();
    let options = options(&server).token("let me in");
    let event = login::<A>(&mut server, options, |server, event| {
        let ServerEvent::LoginRequested { login, token, .. } = event else { return };
        assert_eq!(&token[..], b"let me in");
        server.reject(login, b"not tonight").unwrap();
    });
    assert_eq!(event, ClientEvent::LoginFailed(LoginFailure::Rejected { message: (*b"not tonight").into() }));
}

pub(crate) fn a_client_of_another_application_is_told_so<A: Adapter>() {
    let mut server = local::<A>();
    let mut options = options(&server);
    options.app += 1;
    let event = login::<A>(&mut server, options, |_, _| {});
    assert_eq!(event, ClientEvent::LoginFailed(LoginFailure::Application));
}

pub(crate) fn a_login_without_answer_fails_in_time<A: Adapter>() {
    let mut server = local::<A>();
    let mut options = options(&server);
    // Another server's key: what this one answers cannot be read, and nothing says so but time.
    options.server_key = posse::secure::public_key(&[8; 32]);
    options.timers.handshake = Duration::from_millis(300);
    let start = Instant::now();
    let event = login::<A>(&mut server, options, |_, _| {});
    assert_eq!(event, ClientEvent::LoginFailed(LoginFailure::NoAnswer));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

pub(crate) fn options_that_cannot_work_are_refused_at_once<A: Adapter>() {
    let first = local::<A>();
    let taken = A::bind(first.local_addr(), ServerOptions::new([9; 32], 7)).map(|_| ());
    assert!(matches!(taken, Err(ServeError::Bind(_))));
    let oversized = A::connect(options(&first).token(vec![0; 1025])).map(|_| ());
    assert!(matches!(oversized, Err(ConnectError::Config(_))));
}

pub(crate) fn a_dropped_client_leaves_at_once<A: Adapter>() {
    let (mut scene, group) = Scene::<A>::grouped(3);
    let gone = scene.ids()[2];
    let start = Instant::now();
    scene.clients[2] = None;
    scene.run(|s| s.saw_leave(0, gone) && s.saw_leave(1, gone));
    let left = ServerEvent::ClientLeft { client: gone, why: EndReason::Remote };
    scene.run(|s| s.at_server.iter().any(|(e, _)| *e == left));
    assert!(start.elapsed() < Duration::from_secs(5), "told, not timed out");
    assert_eq!(scene.client(0).members(group).len(), 2);
}

pub(crate) fn whom_the_server_ends_is_told<A: Adapter>() {
    let (mut scene, _) = Scene::<A>::grouped(2);
    let gone = scene.ids()[1];
    scene.server().disconnect(gone);
    scene.run(|s| s.saw_leave(0, gone) && s.at_clients[1].last().unwrap().0 == ClientEvent::Ended(EndReason::Remote));
}

pub(crate) fn a_server_that_goes_says_so<A: Adapter>() {
    let (mut scene, _) = Scene::<A>::grouped(2);
    scene.server.take().unwrap().close();
    scene.run(|s| s.at_clients.iter().all(|seen| seen.last().unwrap().0 == ClientEvent::Ended(EndReason::Remote)));
}

pub(crate) fn what_was_sent_before_the_end_comes_before_the_end<A: Adapter>() {
    let (mut scene, group) = Scene::<A>::grouped(2);
    for n in 0..50_u8 {
        scene.client(0).try_send(group.into(), CHAT, &[n; 1000]).unwrap();
    }
    let gone = scene.ids()[0];
    scene.client(0).close();
    scene.run(|s| s.saw_leave(1, gone));
    let numbers: Vec<u8> = scene.texts(1).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    let ended = ClientEvent::Ended(EndReason::Local);
    scene.run(|s| s.at_clients[0].last().unwrap().0 == ended);
}

pub(crate) fn a_room_is_joined_by_its_name<A: Adapter>() {
    let mut server = A::bind((Ipv4Addr::LOCALHOST, 0).into(), ServerOptions::new([9; 32], rooms::APP)).unwrap();
    let mut stock = Rooms::new(RoomLimits { members: 2, ..RoomLimits::default() });
    let names = [("lobby", "ann"), ("lobby", "ben"), ("arena", "cid")];
    let mut players: Vec<_> = names
        .iter()
        .map(|(room, name)| {
            let room = Room::new(*room, *name).unwrap();
            let config = ClientOptions::new(server.local_addr(), server.public_key(), rooms::APP).token(room.token());
            (A::connect(config).unwrap(), room, Vec::new())
        })
        .collect();
    let (end, mut payload) = (Instant::now() + PATIENCE, Vec::new());
    let mut entered = 0;
    while entered < 3 || players.iter().map(|(.., met)| met.len()).sum::<usize>() < 2 {
        assert!(Instant::now() < end, "not in time");
        if let Some(event) = server.next(&mut payload) {
            entered += usize::from(matches!(stock.handle(&event, &mut server), Some(Change::Entered { .. })));
        }
        for (client, room, met) in &mut players {
            if let Some(event) = client.next(&mut payload)
                && let RoomEvent::Joined { peer } = room.hear(event)
            {
                met.push(room.name_of(peer).to_owned());
            }
        }
    }
    let met: Vec<_> = players.iter().map(|(.., met)| met.concat()).collect();
    assert_eq!((met, stock.rooms()), (vec!["ben".to_owned(), "ann".into(), String::new()], 2));

    let mut late = Room::new("lobby", "dan").unwrap();
    let config = ClientOptions::new(server.local_addr(), server.public_key(), rooms::APP).token(late.token());
    let refused = login::<A>(&mut server, config, |server, event| {
        stock.handle(&event, server);
    });
    assert_eq!(late.hear(refused), RoomEvent::Refused(Refusal::RoomFull { max: 2 }));
}
