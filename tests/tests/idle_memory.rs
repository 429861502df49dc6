//! What a client that says nothing costs its server.
#![allow(unsafe_code, clippy::unwrap_used, reason = "a counting allocator, and a test that cannot go on fails")]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::{Client, ClientEvent, Duration, Instant, Machine, Outbox, Server, ServerEvent};
use posse_tests::{APP, SERVER_KEY, drain, hand};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

struct Counting;

thread_local! {
    /// Whether what is allocated now is the server's.
    static ON: Cell<bool> = const { Cell::new(false) };
    /// Bytes that the server holds.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn note(bytes: i64) {
    if ON.try_with(Cell::get).unwrap_or(false) {
        let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
    }
}

// SAFETY: everything is handed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENTS: usize = 64;
/// Bytes that one may take, the server's own tables divided by so many included: a bound against growth, not a figure.
const MOST: i64 = 18 << 10;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(5, 0, 0, 1)), 4000);

fn counted<T>(f: impl FnOnce() -> T) -> T {
    ON.set(true);
    let result = f();
    ON.set(false);
    result
}

#[test]
fn an_idle_client_takes_little_of_its_server() {
    let mut server = counted(|| Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [1; 32])).unwrap());
    let key = posse_core::secure::public_key(&SERVER_KEY);
    let (mut out, mut answers) = (Outbox::with_capacity(256 << 10, 256), Outbox::with_capacity(1 << 20, 1024));
    let mut now = Instant::ZERO;
    let mut payload = Vec::with_capacity(4096);
    let mut clients: Vec<_> = (0..CLIENTS as u8)
        .map(|n| {
            let at = SocketAddr::from(([9, 9, 9, n], 999));
            (at, Client::new(now, ClientConfig::new(SERVER, key, APP, [n + 1; 32])).unwrap())
        })
        .collect();
    for _ in 0..8000 {
        now = now + Duration::from_millis(5);
        for (at, client) in &mut clients {
            client.transmit(now, &mut out);
            for (_, bytes) in drain(&mut out) {
                counted(|| hand(&mut server, now, *at, &bytes, &mut answers));
            }
        }
        while let Some(event) = counted(|| server.poll_event(now, &mut payload)) {
            if let ServerEvent::LoginRequested { login, .. } = event {
                counted(|| server.accept(now, login, b"", b"")).unwrap();
            }
        }
        counted(|| server.transmit(now, &mut answers));
        for (to, bytes) in drain(&mut answers) {
            if let Some((_, client)) = clients.iter_mut().find(|(at, _)| *at == to) {
                hand(client, now, SERVER, &bytes, &mut out);
            }
        }
        for (_, client) in &mut clients {
            while client.poll_event(now, &mut payload).is_some_and(|e| !matches!(e, ClientEvent::Ended(_))) {}
        }
    }
    assert_eq!(server.clients().count(), CLIENTS);
    let all = LIVE.get();
    assert!(all > 0, "what it holds is counted");
    let each = all / CLIENTS as i64;
    assert!(each <= MOST, "{each} bytes a client");
}
