//! A game loop over loopback sockets: what the conformance suite cannot see from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{Client, ClientOptions, Server, ServerEvent, ServerOptions};
use std::time::{Duration, Instant};

/// Lets both do what is due, the server let everybody in, and a moment pass.
fn turn(server: &mut Server, client: &mut Client) {
    let mut payload = Vec::new();
    server.update().unwrap();
    while let Some(event) = server.next_event(&mut payload) {
        if let ServerEvent::LoginRequested { login, .. } = event {
            server.accept(login, b"", b"").unwrap();
        }
    }
    server.flush();
    client.update().unwrap();
    while client.next_event(&mut payload).is_some() {}
    client.flush();
    client.wait(Duration::from_millis(1));
}

#[test]
fn an_idle_session_sleeps() {
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), ServerOptions::new([9; 32], 7)).unwrap();
    let options = ClientOptions::new(server.local_addr(), server.public_key(), 7);
    let mut client = Client::connect(options).unwrap();
    let mut payload = Vec::new();
    // What follows a login settles first.
    let settled = Instant::now() + Duration::from_millis(300);
    while Instant::now() < settled {
        turn(&mut server, &mut client);
    }
    assert!(client.id().is_some());
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(500) {
        client.update().unwrap();
        while client.next_event(&mut payload).is_some() {}
        client.wait(Duration::from_millis(250));
        turns += 1;
    }
    assert!(turns <= 10, "{turns} turns in half a second");
}

/// A port that was free a moment ago.
fn free_port(ip: [u8; 4]) -> u16 {
    std::net::UdpSocket::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_server_with_another_port_and_another_address_learns_that_nothing_stands_before_a_client() {
    // The whole of 127.0.0.0/8 is this host on Linux; elsewhere only 127.0.0.1 is there unless somebody says so.
    let second = [127, 0, 0, 2];
    if std::net::UdpSocket::bind((std::net::Ipv4Addr::from(second), 0)).is_err() {
        return;
    }
    let mut options = ServerOptions::new([9; 32], 7);
    options.doors.second_port = Some(([127, 0, 0, 1], free_port([127, 0, 0, 1])).into());
    options.doors.second_address = Some((second, free_port(second)).into());
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), options).unwrap();
    let options = ClientOptions::new(server.local_addr(), server.public_key(), 7);
    let mut client = Client::connect(options).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let known = loop {
        turn(&mut server, &mut client);
        match client.id().and_then(|id| server.nat(id)) {
            Some(known) => break known,
            None => assert!(Instant::now() < end, "it takes a second"),
        }
    };
    assert_eq!((known.mapping, known.strict), (posse::NatMapping::Same, false));
}

#[test]
fn clients_that_log_in_by_ipv4_show_their_ipv6_addresses_and_reach_each_other_there() {
    if std::net::UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let mut options = ServerOptions::new([9; 32], 7);
    options.ipv6 = Some(std::net::Ipv6Addr::LOCALHOST);
    let mut server = Server::bind((std::net::Ipv6Addr::UNSPECIFIED, 0).into(), options).unwrap();
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], server.local_addr().port()));
    let options = ClientOptions::new(at, server.public_key(), 7);
    let mut clients = [0, 1].map(|_| Client::connect(options.clone()).unwrap());
    let (start, mut group) = (Instant::now(), None);
    let found = loop {
        clients.iter_mut().for_each(|client| turn(&mut server, client));
        // They are asked 0.8 s after the login.
        if let [Some(one), Some(other)] = [clients[0].id(), clients[1].id()] {
            if group.is_none() && start.elapsed() > Duration::from_millis(1_500) {
                group = Some(server.create_group(&[one, other], Default::default()).unwrap());
            }
            let answers =
                |candidate: &posse::CandidateReport| candidate.address.is_ipv6() && candidate.answered.is_some();
            if clients[0].candidates(other).any(|candidate| answers(&candidate)) {
                break true;
            }
        }
        if start.elapsed() > Duration::from_secs(10) {
            break false;
        }
    };
    assert!(found, "{:?}", clients[0].id());
}
