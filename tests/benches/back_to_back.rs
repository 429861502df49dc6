//! Two machines back to back in memory: what a packet costs a client that sends bulk and the server that takes it, with the
//! clock, the network and the system left out.
//!
//! ```text
//! cargo bench -p posse-tests --bench back_to_back              table: packets/s, ns and allocations a packet
//! cargo bench -p posse-tests --bench back_to_back -- count SUITE N [BYTES]   moves N packets of messages of so many bytes and
//!                                                              says how many messages: for .ci/instructions
//! ```
//!
//! A client sends 1,100-byte reliable messages on its server link as fast as window and credit allow; whatever either
//! machine writes arrives 5 ms later. Three rows a suite: a full packet built and sealed by the client, the same packet opened
//! and handed on by the server (polling included), an acknowledgement taken in by the client. A fourth has every other packet of
//! 64 dropped, so that an acknowledgement of 32 ranges is what arrives.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on fails, and tells what it measured"
)]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::secure::{Aes256Gcm, ChaCha20Poly1305, Crypto, public_key};
use posse_core::{
    Channel, Client, ClientEvent, Ecn, Input, Instant, Machine, Outbox, PeerId, SendOptions, Server, ServerEvent,
    SocketId,
};
use posse_sim::NullCrypto;
use posse_tests::{APP, SERVER_KEY};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The way from either machine to the other, in simulated time.
const WAY: Duration = Duration::from_millis(5);
/// A message that fills a packet but for its frame's head.
const MESSAGE: [u8; 1_100] = [7; 1_100];
/// Packets until queues, rings and pools have grown.
const WARM_UP: u64 = 20_000;
/// Packets that are measured.
const MEASURED: u64 = 200_000;

/// What one kind of work took.
#[derive(Clone, Copy, Default)]
struct Work {
    packets: u64,
    time: Duration,
    allocations: u64,
}

impl Work {
    fn measure<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let (before, start) = (ALLOCATIONS.load(Ordering::Relaxed), std::time::Instant::now());
        let result = black_box(call());
        self.time += start.elapsed();
        self.allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
        result
    }

    fn row(&self, what: &str) {
        let nanos = self.time.as_nanos() as f64 / self.packets.max(1) as f64;
        println!("  {what:<34} {nanos:>8.0} ns  {:>11.0}/s  {:>6} allocations", 1e9 / nanos, self.allocations);
    }
}

struct Two {
    now: Instant,
    client: Client,
    server: Server,
    /// What the client writes, what it wrote before and arrives now; the same of the server.
    up: [Outbox; 2],
    down: [Outbox; 2],
    payload: Vec<u8>,
    datagram: Vec<u8>,
    /// Bytes of a message, and how many were polled.
    size: usize,
    polled: u64,
    building: Work,
    receiving: Work,
    acknowledged: Work,
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([5, 0, 0, n], 4000))
}

fn datagram<'a>(from: u8, bytes: &'a mut Vec<u8>, content: &[u8]) -> Input<'a> {
    bytes.clear();
    bytes.extend_from_slice(content);
    let stride = bytes.len();
    Input::Datagrams { socket: SocketId::MAIN, from: address(from), local: None, ecn: Ecn::NotCapable, stride, bytes }
}

impl Two {
    fn new(suite: Arc<dyn Crypto>) -> Self {
        let now = Instant::ZERO;
        let mut config = ClientConfig::new(address(2), public_key(&SERVER_KEY), APP, [1; 32]);
        config.suites = vec![suite.clone()];
        (config.limits.send_buffer, config.limits.receive_buffer) = (2 << 20, 2 << 20);
        let mut desk = ServerConfig::new(SERVER_KEY, APP, [3; 32]);
        desk.suites = vec![suite];
        desk.limits = config.limits.clone();
        let outbox = || Outbox::with_capacity(4 << 20, 4_096);
        Self {
            now,
            client: Client::new(now, config).unwrap(),
            server: Server::new(now, desk).unwrap(),
            up: [outbox(), outbox()],
            down: [outbox(), outbox()],
            payload: Vec::with_capacity(2_048),
            datagram: Vec::with_capacity(2_048),
            size: MESSAGE.len(),
            polled: 0,
            building: Work::default(),
            receiving: Work::default(),
            acknowledged: Work::default(),
        }
    }

    /// What was written a step ago arrives but for what `drop` names by its place; then both write.
    fn step(&mut self, drop: impl Fn(usize) -> bool) {
        self.now = self.now + WAY;
        let Self { now, client, server, up, down, payload, datagram: bytes, polled, .. } = self;
        let (building, receiving, acknowledged) = (&mut self.building, &mut self.receiving, &mut self.acknowledged);
        up.swap(0, 1);
        down.swap(0, 1);
        let ([up_next, up_now], [down_next, down_now]) = (up, down);
        for (place, (_, content)) in up_now.sends().enumerate() {
            if !drop(place) {
                let input = datagram(1, bytes, content);
                receiving.packets += 1;
                receiving.measure(|| {
                    server.handle(*now, input, down_next);
                    while let Some(event) = server.poll_event(*now, payload) {
                        match event {
                            ServerEvent::LoginRequested { login, .. } => {
                                server.accept(*now, login, b"", b"").unwrap();
                            }
                            ServerEvent::Message(_) => *polled += 1,
                            _ => {}
                        }
                    }
                });
            }
        }
        up_now.clear();
        for (_, content) in down_now.sends() {
            let input = datagram(2, bytes, content);
            acknowledged.packets += 1;
            acknowledged.measure(|| client.handle(*now, input, up_next));
        }
        down_now.clear();
        while let Some(event) = client.poll_event(*now, payload) {
            assert!(!matches!(event, ClientEvent::Ended(_)), "the session holds");
        }
        building.measure(|| client.transmit(*now, up_next));
        building.packets += up_next.sends().count() as u64;
        server.transmit(*now, down_next);
    }

    fn fill(&mut self) {
        let (to, message) = (PeerId::SERVER, &MESSAGE[..self.size]);
        while self.client.send(self.now, to, Channel::reliable(0), message, SendOptions::default()).is_ok() {}
    }

    fn log_in(&mut self) {
        for _ in 0..200 {
            self.step(|_| false);
        }
        assert!(self.client.id().is_some(), "logged in");
    }

    /// Sends until so many packets were built.
    fn bulk(&mut self, packets: u64) {
        (self.building, self.receiving, self.acknowledged) = Default::default();
        while self.building.packets < packets {
            self.fill();
            self.step(|_| false);
        }
    }

    /// Acknowledgements of 32 ranges: of 64 packets at a time every other one arrives.
    fn gaps(&mut self, rounds: u64) -> Work {
        let mut of_gaps = Work::default();
        for _ in 0..rounds {
            self.fill();
            self.step(|place| place % 2 == 1 && place < 64);
            self.acknowledged = Work::default();
            self.step(|_| false);
            of_gaps.packets += self.acknowledged.packets;
            of_gaps.time += self.acknowledged.time;
            of_gaps.allocations += self.acknowledged.allocations;
            for _ in 0..4 {
                self.fill();
                self.step(|_| false);
            }
        }
        of_gaps
    }
}

fn main() {
    let suites: [(&str, Arc<dyn Crypto>); 3] = [
        ("AES-256-GCM", Arc::new(Aes256Gcm)),
        ("ChaCha20-Poly1305", Arc::new(ChaCha20Poly1305)),
        ("null", Arc::new(NullCrypto)),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "count") {
        let number = |place: usize| arguments.get(at + place).and_then(|n| n.parse::<u64>().ok());
        let (suite, packets) = (number(1).unwrap_or(2) as usize, number(2).unwrap_or(1_000));
        let mut two = Two::new(suites[suite.min(2)].1.clone());
        two.log_in();
        two.size = number(3).map_or(MESSAGE.len(), |bytes| (bytes as usize).clamp(1, MESSAGE.len()));
        two.bulk(packets);
        println!("{}", two.polled);
        return;
    }
    for (name, suite) in suites {
        let mut two = Two::new(suite);
        two.log_in();
        two.bulk(WARM_UP);
        two.bulk(MEASURED);
        let (start, packets) = (std::time::Instant::now(), MEASURED);
        two.bulk(packets);
        let rate = two.building.packets as f64 / start.elapsed().as_secs_f64();
        println!(
            "{name}: {rate:.0} packets/s through both ends, {:.0} MiB/s",
            rate * MESSAGE.len() as f64 / f64::from(1 << 20)
        );
        two.building.row("a full packet built and sealed");
        two.receiving.row("opened, delivered, polled");
        two.acknowledged.row("an acknowledgement taken in");
        two.gaps(500).row("  with gaps in what it tells");
    }
}
