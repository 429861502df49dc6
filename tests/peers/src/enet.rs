//! rusty_enet: reliable packets on one channel. It has no backpressure, so the sender looks at what the receiver has counted
//! and keeps so many under way.

use crate::bare::wait;
use crate::figures::{Flood, Trips, cpu};
use rusty_enet::{EventNoRef, Host, HostSettings, Packet, PeerID};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages sent and not yet received, at the most.
const UNDER_WAY: u64 = 20_000;

struct End {
    host: Host<UdpSocket>,
    socket: UdpSocket,
    peer: Option<PeerID>,
}

impl End {
    fn new() -> (Self, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
        let options = socket2::SockRef::from(&socket);
        let _ = options.set_recv_buffer_size(2 << 20);
        let _ = options.set_send_buffer_size(2 << 20);
        let (same, address) =
            (socket.try_clone().expect("handles are there"), socket.local_addr().expect("it is bound"));
        let settings = HostSettings { peer_limit: 1, channel_limit: 1, ..HostSettings::default() };
        let host = Host::new(socket, settings).unwrap_or_else(|_| panic!("a host can be made"));
        (Self { host, socket: same, peer: None }, address)
    }

    /// Does what is due; how many packets came.
    fn turn(&mut self) -> u64 {
        let mut came = 0;
        while let Ok(Some(event)) = self.host.service().map(|event| event.map(|event| event.no_ref())) {
            match event {
                EventNoRef::Connect { peer, .. } => self.peer = Some(peer),
                EventNoRef::Receive { .. } => came += 1,
                EventNoRef::Disconnect { .. } => self.peer = None,
            }
        }
        came
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(peer) = self.peer {
            let _ = self.host.peer_mut(peer).send(0, &Packet::reliable(bytes));
        }
    }
}

fn pair() -> (End, End) {
    let ((mut a, _), (mut b, b_at)) = (End::new(), End::new());
    a.host.connect(b_at, 1, 0).expect("a peer is free");
    while a.peer.is_none() || b.peer.is_none() {
        a.turn();
        b.turn();
    }
    (a, b)
}

/// Raw pointers make a host of ENet's stay where it was made, as the compiler sees it; it is moved to its thread before
/// anything else is done with it, and never shared.
struct Moved(End);
// SAFETY: a host owns all that its pointers point to, and only one thread at a time has it.
unsafe impl Send for Moved {}

impl Moved {
    fn end(self) -> End {
        self.0
    }
}

/// A flood of reliable packets of `size` bytes.
pub fn flood(length: Duration, size: usize) -> Flood {
    let (a, b) = pair();
    let (a, b) = (Moved(a), Moved(b));
    let (over, messages) = (AtomicBool::new(false), AtomicU64::new(0));
    let (over, messages) = (&over, &messages);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut a, message, mut sent) = (a.end(), vec![7; size], 0);
            while !over.load(Ordering::Relaxed) {
                while sent < messages.load(Ordering::Relaxed) + UNDER_WAY {
                    a.send(&message);
                    sent += 1;
                }
                a.turn();
                wait(&a.socket, Duration::from_millis(1));
            }
        });
        scope.spawn(move || {
            let mut b = b.end();
            while !over.load(Ordering::Relaxed) {
                messages.fetch_add(b.turn(), Ordering::Relaxed);
                wait(&b.socket, Duration::from_millis(1));
            }
        });
        std::thread::sleep(length / 4);
        let (start, before, had) = (Instant::now(), cpu(), messages.load(Ordering::Relaxed));
        std::thread::sleep(length);
        let got = messages.load(Ordering::Relaxed) - had;
        let flood = Flood::new(got * size as u64, got, start.elapsed(), cpu() - before);
        over.store(true, Ordering::Relaxed);
        flood
    })
}

/// 64 bytes there and back.
pub fn ping(length: Duration) -> Trips {
    let (mut a, b) = pair();
    let b = Moved(b);
    let over = AtomicBool::new(false);
    let over = &over;
    let mut trips = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut b = b.end();
            while !over.load(Ordering::Relaxed) {
                for _ in 0..b.turn() {
                    b.send(&[7; 64]);
                }
                b.host.flush();
                wait(&b.socket, Duration::from_millis(20));
            }
        });
        let start = Instant::now();
        while start.elapsed() < length {
            let sent = Instant::now();
            a.send(&[7; 64]);
            a.host.flush();
            while a.turn() == 0 {
                wait(&a.socket, Duration::from_millis(20));
            }
            trips.push(sent.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    Trips::new(trips)
}
