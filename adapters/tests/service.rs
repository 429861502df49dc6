//! The tokio adapter: what the conformance suite cannot see from outside.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::asynchronous::{Client, ClientEvents, Server, ServerEvents};
use posse::{
    Channel, ClientEvent, ClientOptions, EndReason, GroupId, GroupOptions, JoinOutcome, SendError, ServerEvent,
    ServerOptions,
};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

const CHAT: Channel = Channel::reliable(0);

async fn server() -> (Server, ServerEvents) {
    Server::bind(([127, 0, 0, 1], 0).into(), ServerOptions::new([9; 32], 7)).await.unwrap()
}

fn options(server: &Server) -> ClientOptions {
    ClientOptions::new(server.local_addr(), server.public_key(), 7)
}

/// A server with so many clients that are in one group, each of which knows of all.
async fn grouped(clients: usize) -> (Server, ServerEvents, Vec<(Client, ClientEvents)>, GroupId) {
    let (server, mut events) = server().await;
    let mut joined = Vec::new();
    for _ in 0..clients {
        let (client, mut told) = Client::connect(options(&server)).await.unwrap();
        let Some(ServerEvent::LoginRequested { login, .. }) = events.next().await else { panic!("a login") };
        server.accept(login, b"", b"").unwrap();
        assert!(matches!(told.next().await, Some(ClientEvent::LoggedIn { .. })));
        joined.push((client, told));
    }
    let ids: Vec<_> = joined.iter().map(|(client, _)| client.id().unwrap()).collect();
    let group = server.create_group(&ids, GroupOptions::default()).unwrap();
    for (_, told) in &mut joined {
        for _ in 0..clients {
            while !matches!(told.next().await, Some(ClientEvent::MemberJoined { .. })) {}
        }
    }
    for _ in 0..clients {
        let ok =
            |e: &Option<ServerEvent>| matches!(e, Some(ServerEvent::JoinCompleted { outcome: JoinOutcome::Ok, .. }));
        while !ok(&events.next().await) {}
    }
    (server, events, joined, group)
}

#[tokio::test]
async fn an_idle_session_sleeps() {
    let (server, _events, clients, _) = grouped(2).await;
    sleep(Duration::from_millis(500)).await;
    let count = || clients[0].0.stats().wakeups + server.stats().wakeups;
    let before = count();
    sleep(Duration::from_millis(500)).await;
    assert!(count() - before <= 30, "{} wake-ups in half a second", count() - before);
}

#[tokio::test]
async fn a_stream_that_is_polled_and_dropped_loses_nothing() {
    let (_server, _events, mut clients, group) = grouped(2).await;
    let (mut receiver, sender) = (clients.pop().unwrap(), clients.pop().unwrap());
    let sending = tokio::spawn(async move {
        for n in 0..500_u32 {
            sender.0.send(group, CHAT, &n.to_be_bytes()).await.unwrap();
            if n % 50 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sender
    });
    let mut got = Vec::new();
    while got.len() < 500 {
        // Most of these futures are dropped unfinished.
        let Ok(event) = timeout(Duration::from_micros(50), receiver.1.next()).await else { continue };
        if let Some(ClientEvent::Message(_)) = event {
            got.push(u32::from_be_bytes(receiver.1.payload().try_into().unwrap()));
        }
    }
    assert!(got.iter().copied().eq(0..500));
    sending.await.unwrap();
}

#[tokio::test]
async fn many_tasks_send_over_clones_of_one_handle() {
    let (_server, _events, mut clients, group) = grouped(2).await;
    let (mut receiver, sender) = (clients.pop().unwrap(), clients.pop().unwrap());
    for task in 0..8_u8 {
        let sender = sender.0.clone();
        tokio::spawn(async move {
            for n in 0..100_u8 {
                sender.send(group, Channel::reliable(task), &[n; 2000]).await.unwrap();
            }
        });
    }
    let mut next = [0_u8; 8];
    while next.iter().any(|n| *n < 100) {
        if let Some(ClientEvent::Message(message)) = receiver.1.next().await {
            let expected = &mut next[usize::from(message.channel.0)];
            assert_eq!(receiver.1.payload(), [*expected; 2000]);
            *expected += 1;
        }
    }
}

#[tokio::test]
async fn closing_ends_the_events_and_every_handle() {
    let (server, mut events, mut clients, group) = grouped(2).await;
    let (mut other, (client, mut told)) = (clients.pop().unwrap(), clients.pop().unwrap());
    let clone = client.clone();
    let start = Instant::now();
    client.close().await;
    assert!(start.elapsed() < Duration::from_secs(3));
    while let Some(event) = told.next().await {
        assert!(matches!(event, ClientEvent::PathChanged { .. } | ClientEvent::Ended(EndReason::Local)), "{event:?}");
    }
    assert_eq!(clone.send(group, CHAT, b"too late").await, Err(SendError::Gone));
    while !matches!(other.1.next().await, Some(ClientEvent::MemberLeft { .. })) {}

    let closing = tokio::spawn(async move { server.close().await });
    while !matches!(other.1.next().await, Some(ClientEvent::Ended(EndReason::Remote))) {}
    assert_eq!(other.1.next().await, None);
    while events.next().await.is_some() {}
    closing.await.unwrap();
}

#[test]
fn a_runtime_that_shuts_down_says_goodbye() {
    let stays = Runtime::new().unwrap();
    let (server, mut events) = stays.block_on(server());
    let options = options(&server);
    let accepting = stays.spawn(async move {
        let Some(ServerEvent::LoginRequested { login, .. }) = events.next().await else { panic!("a login") };
        server.accept(login, b"", b"").unwrap();
        (server, events)
    });
    let goes = Builder::new_current_thread().enable_all().build().unwrap();
    let client = goes.block_on(async {
        let (client, mut told) = Client::connect(options).await.unwrap();
        while !matches!(told.next().await, Some(ClientEvent::LoggedIn { .. })) {}
        // What the login is followed by settles.
        sleep(Duration::from_millis(100)).await;
        client
    });
    let (_server, mut events) = stays.block_on(accepting).unwrap();
    drop(goes);
    let left = stays.block_on(async { timeout(Duration::from_secs(5), events.next()).await.unwrap() });
    assert!(matches!(left, Some(ServerEvent::ClientLeft { why: EndReason::Remote, .. })), "{left:?}");
    assert!(client.try_send(posse::PeerId::SERVER, CHAT, b"too late").is_err());
}
