//! Posse over real sockets: a server, and two clients that have found the direct path; all three asleep when there is nothing
//! to do, each a thread.

use crate::figures::{Flood, Trips, cpu};
use posse::{
    Channel, Client, ClientEvent, ClientOptions, GroupOptions, Path, PeerId, SendError, Server, ServerEvent,
    ServerOptions,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const APP: u64 = 1;
const CHANNEL: Channel = Channel::reliable(0);
const WAIT: Duration = Duration::from_millis(20);

/// A server that puts every two who come into a group, on a thread until `over`.
pub fn serve(server: &mut Server, over: &AtomicBool) {
    let (mut payload, mut waiting) = (Vec::new(), None);
    while !over.load(Ordering::Relaxed) {
        server.update().expect("the server's socket works");
        while let Some(event) = server.next_event(&mut payload) {
            if let ServerEvent::LoginRequested { login, .. } = event
                && let Ok(client) = server.accept(login, b"", b"")
            {
                match waiting.take() {
                    Some(first) => drop(server.create_group(&[first, client], GroupOptions::default())),
                    None => waiting = Some(client),
                }
            }
        }
        server.flush();
        server.wait(WAIT);
    }
}

/// A server on loopback.
pub fn server(at: &str) -> Server {
    let at = at.parse().expect("an address");
    Server::bind(at, ServerOptions::new([7; 32], APP)).expect("loopback is there")
}

/// A client that has met its peer.
pub struct End {
    pub client: Client,
    pub peer: PeerId,
    payload: Vec<u8>,
}

impl End {
    /// Begins to log in, from loopback's own address of that family: it cannot talk to the other one.
    pub fn connect(server: SocketAddr, key: [u8; 32]) -> Client {
        let options = ClientOptions::new(server, key, APP).bind(SocketAddr::new(server.ip(), 0));
        Client::connect(options).expect("loopback is there")
    }

    /// Both have met, and traffic is direct if it is to be.
    pub fn meet(mut clients: [Client; 2], direct: bool) -> [Self; 2] {
        let mut payload = Vec::new();
        let start = Instant::now();
        loop {
            for client in &mut clients {
                client.update().expect("the socket works");
                while client.next_event(&mut payload).is_some() {}
                client.flush();
            }
            let peers = clients.each_ref().map(|client| client.peers().next());
            if let [Some(a), Some(b)] = &peers {
                let both = [a.path, b.path].iter().all(|path| matches!(path, Path::Direct { .. }));
                if both || !direct {
                    let [a, b] = [a.id, b.id];
                    let [one, other] = clients;
                    return [(one, a), (other, b)].map(|(client, peer)| Self { client, peer, payload: Vec::new() });
                }
            }
            assert!(start.elapsed() < Duration::from_secs(20), "two clients on loopback meet");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn turn(&mut self, mut message: impl FnMut(&[u8])) {
        self.client.update().expect("the socket works");
        while let Some(event) = self.client.next_event(&mut self.payload) {
            match event {
                ClientEvent::Message(_) => message(&self.payload),
                ClientEvent::Ended(why) => panic!("the session ended: {why:?}"),
                _ => {}
            }
        }
    }

    /// Sends as much as is taken, until `over`.
    pub fn pour(&mut self, size: usize, over: &AtomicBool) {
        let message = vec![7; size];
        while !over.load(Ordering::Relaxed) {
            self.turn(|_| ());
            loop {
                match self.client.send(self.peer, CHANNEL, &message) {
                    Ok(_) => {}
                    Err(SendError::Full { .. }) => break,
                    Err(why) => panic!("{why}"),
                }
            }
            self.client.flush();
            self.client.wait(WAIT);
        }
    }

    /// Counts what comes, until `over`.
    pub fn drink(&mut self, bytes: &AtomicU64, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let mut got = 0;
            self.turn(|message| got += message.len() as u64);
            bytes.fetch_add(got, Ordering::Relaxed);
            self.client.flush();
            self.client.wait(WAIT);
        }
    }
}

/// A flood of reliable messages of `size` bytes on the direct path; also the bytes that a sending system call carried.
pub fn flood(length: Duration, size: usize) -> (Flood, f64) {
    let (over, bytes, all_over) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
    let mut server = server("127.0.0.1:0");
    let (at, key) = (server.local_addr(), server.public_key());
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&mut server, &all_over));
        let [mut a, mut b] = End::meet([End::connect(at, key), End::connect(at, key)], true);
        let found = std::thread::scope(|scope| {
            scope.spawn(|| a.pour(size, &over));
            scope.spawn(|| b.drink(&bytes, &over));
            // The window and the search for the packets' size take their time at the start; the others have it, too.
            std::thread::sleep(length / 4);
            let (start, before, had) = (Instant::now(), cpu(), bytes.load(Ordering::Relaxed));
            std::thread::sleep(length);
            let got = bytes.load(Ordering::Relaxed) - had;
            let flood = Flood::new(got, got / size as u64, start.elapsed(), cpu() - before);
            over.store(true, Ordering::Relaxed);
            flood
        });
        let stats = a.client.stats();
        all_over.store(true, Ordering::Relaxed);
        (found, stats.sent_bytes as f64 / stats.sends.max(1) as f64)
    })
}

/// 64 bytes there and back on the direct path.
pub fn ping(length: Duration) -> Trips {
    let (over, all_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut server = server("127.0.0.1:0");
    let (at, key) = (server.local_addr(), server.public_key());
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&mut server, &all_over));
        let [mut a, mut b] = End::meet([End::connect(at, key), End::connect(at, key)], true);
        let mut trips = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut heard = 0;
                    b.turn(|_| heard += 1);
                    for _ in 0..heard {
                        let _ = b.client.send(b.peer, CHANNEL, &[7; 64]);
                    }
                    b.client.flush();
                    b.client.wait(WAIT);
                }
            });
            let start = Instant::now();
            while start.elapsed() < length {
                let sent = Instant::now();
                let _ = a.client.send(a.peer, CHANNEL, &[7; 64]);
                a.client.flush();
                let mut heard = false;
                while !heard {
                    a.client.wait(WAIT);
                    a.turn(|_| heard = true);
                }
                trips.push(sent.elapsed());
            }
            over.store(true, Ordering::Relaxed);
        });
        all_over.store(true, Ordering::Relaxed);
        Trips::new(trips)
    })
}
