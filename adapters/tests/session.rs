//! A game loop over loopback sockets: what the conformance suite cannot see from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{Client, ClientOptions, Server, ServerEvent, ServerOptions};
use std::time::{Duration, Instant};

#[test]
fn an_idle_session_sleeps() {
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), ServerOptions::new([9; 32], 7)).unwrap();
    let options = ClientOptions::new(server.local_addr(), server.public_key(), 7);
    let mut client = Client::connect(options).unwrap();
    let mut payload = Vec::new();
    // What follows a login settles first.
    let settled = Instant::now() + Duration::from_millis(300);
    while Instant::now() < settled {
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
