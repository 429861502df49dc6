//! Client and server in loops of their own, over loopback sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{
    Channel, Client, ClientEvent, ClientOptions, ConnectError, EndReason, GroupOptions, JoinOutcome, LeaveReason,
    LoginFailure, PeerId, ServeError, Server, ServerEvent, ServerOptions,
};
use std::time::{Duration, Instant};

const APP: u64 = 7;
const CHAT: Channel = Channel::reliable(0);

fn server() -> Server {
    Server::bind(([127, 0, 0, 1], 0).into(), ServerOptions::new([9; 32], APP)).unwrap()
}

fn options(server: &Server) -> ClientOptions {
    ClientOptions::new(server.local_addr(), server.public_key(), APP)
}

/// Everything that happens to one end, messages with their bytes.
type Seen<E> = Vec<(E, Vec<u8>)>;

/// A server that lets everybody in, and its clients, driven in turn.
struct Scene {
    server: Server,
    clients: Vec<Client>,
    at_server: Seen<ServerEvent>,
    at_clients: Vec<Seen<ClientEvent>>,
}

impl Scene {
    fn new(clients: usize) -> Self {
        let server = server();
        let clients: Vec<_> = (0..clients).map(|_| Client::connect(options(&server)).unwrap()).collect();
        let at_clients = clients.iter().map(|_| Vec::new()).collect();
        let mut scene = Self { server, clients, at_server: Vec::new(), at_clients };
        scene.run(|s| s.clients.iter().all(|c| c.id().is_some()));
        scene
    }

    fn run(&mut self, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        let mut payload = Vec::new();
        while !done(self) {
            assert!(Instant::now() < end, "not in time: {:?} {:?}", self.at_server, self.at_clients);
            self.server.update().unwrap();
            while let Some(event) = self.server.next_event(&mut payload) {
                if let ServerEvent::LoginRequested { login, token, .. } = &event {
                    self.server.accept(*login, token, b"come in").unwrap();
                }
                self.at_server.push((event, payload.clone()));
            }
            self.server.flush();
            for (client, seen) in self.clients.iter_mut().zip(&mut self.at_clients) {
                client.update().unwrap();
                while let Some(event) = client.next_event(&mut payload) {
                    seen.push((event, payload.clone()));
                }
                client.flush();
            }
            self.server.wait(Duration::from_millis(1));
        }
    }

    fn ids(&self) -> Vec<PeerId> {
        self.clients.iter().map(|c| c.id().unwrap()).collect()
    }

    fn texts(&self, client: usize) -> Vec<&[u8]> {
        let messages = self.at_clients[client].iter().filter(|(e, _)| matches!(e, ClientEvent::Message(_)));
        messages.map(|(_, bytes)| &bytes[..]).collect()
    }
}

/// Drives one client until its login is decided, with a server that answers by `decide`.
fn login(server: &mut Server, options: ClientOptions, decide: impl Fn(&mut Server, ServerEvent)) -> ClientEvent {
    let mut client = Client::connect(options).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let mut payload = Vec::new();
    loop {
        assert!(Instant::now() < end, "not decided in time");
        server.update().unwrap();
        while let Some(event) = server.next_event(&mut payload) {
            decide(server, event);
        }
        server.flush();
        client.update().unwrap();
        if let Some(event) = client.next_event(&mut payload) {
            return event;
        }
        client.wait(Duration::from_millis(1));
    }
}

#[test]
fn a_group_messages_one_another_and_learns_who_leaves() {
    let mut scene = Scene::new(3);
    let ids = scene.ids();
    let group = scene.server.create_group(&ids, GroupOptions::default().message(b"go")).unwrap();
    let completed = |s: &Scene| {
        let ok = |e: &ServerEvent| matches!(e, ServerEvent::JoinCompleted { outcome: JoinOutcome::Ok, .. });
        s.at_server.iter().filter(|(e, _)| ok(e)).count() == 3
    };
    scene.run(completed);
    assert!(scene.clients.iter().all(|c| c.members(group).count() == 3 && c.peers().count() == 2));

    assert_eq!(scene.clients[0].send(group, CHAT, b"to all").unwrap().receivers, 2);
    scene.clients[1].send(ids[2], CHAT, b"to one").unwrap();
    scene.server.send(ids[0], CHAT, b"from the server").unwrap();
    scene.clients[2].send(PeerId::SERVER, CHAT, b"to the server").unwrap();
    scene.run(|s| {
        let at_server = s.at_server.iter().any(|(e, b)| matches!(e, ServerEvent::Message(_)) && b == b"to the server");
        at_server && [1, 1, 2].iter().enumerate().all(|(i, n)| s.texts(i).len() == *n)
    });
    assert_eq!((scene.texts(0), scene.texts(1)), (vec![&b"from the server"[..]], vec![&b"to all"[..]]));

    drop(scene.clients.remove(2));
    let left = |e: &ClientEvent| matches!(e, ClientEvent::MemberLeft { member, why: LeaveReason::Disconnected, .. } if *member == ids[2]);
    scene.run(|s| s.at_clients[..2].iter().all(|seen| seen.iter().any(|(e, _)| left(e))));
    let gone = ServerEvent::ClientLeft { client: ids[2], why: EndReason::Remote };
    assert!(scene.at_server.iter().any(|(e, _)| *e == gone));
}

#[test]
fn what_a_rejected_client_is_told_is_the_servers_own_word() {
    let mut server = server();
    let options = options(&server).token("let me in");
    let event = login(&mut server, options, |server, event| {
        let ServerEvent::LoginRequested { login, token, .. } = event else { return };
        assert_eq!(&token[..], b"let me in");
        server.reject(login, b"not tonight").unwrap();
    });
    assert_eq!(event, ClientEvent::LoginFailed(LoginFailure::Rejected { message: (*b"not tonight").into() }));
}

#[test]
fn a_client_of_another_application_is_told_so() {
    let mut server = server();
    let mut options = options(&server);
    options.app += 1;
    assert_eq!(login(&mut server, options, |_, _| {}), ClientEvent::LoginFailed(LoginFailure::Application));
}

#[test]
fn a_login_without_answer_fails_in_time() {
    let mut server = server();
    let mut options = options(&server);
    // Another server's key: what this one answers cannot be read, and nothing says so but time.
    options.server_key = posse::secure::public_key(&[8; 32]);
    options.timers.handshake = Duration::from_millis(300);
    let start = Instant::now();
    assert_eq!(login(&mut server, options, |_, _| {}), ClientEvent::LoginFailed(LoginFailure::NoAnswer));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn options_that_cannot_work_are_refused_at_once() {
    let first = server();
    let taken = Server::bind(first.local_addr(), ServerOptions::new([9; 32], APP)).map(|_| ());
    assert!(matches!(taken, Err(ServeError::Bind(_))));
    let oversized = Client::connect(options(&first).token(vec![0; 1025])).map(|_| ());
    assert!(matches!(oversized, Err(ConnectError::Config(_))));
}

#[test]
fn an_idle_session_sleeps() {
    let mut scene = Scene::new(1);
    // What follows a login settles first.
    let settled = Instant::now() + Duration::from_millis(100);
    scene.run(|_| Instant::now() > settled);
    let client = &mut scene.clients[0];
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(500) {
        client.update().unwrap();
        while client.next_event(&mut Vec::new()).is_some() {}
        client.wait(Duration::from_millis(250));
        turns += 1;
    }
    assert!(turns <= 10, "{turns} turns in half a second");
}
