//! What a relay can forward, and what a packet costs it: Posse's server, and a bare forwarder with batches.
//!
//! Posse's traffic is kept on the relay by address families: one client of each pair has IPv4 alone and the other IPv6 alone,
//! so that nothing passes but by the server, which has both.

use crate::bare::{DATAGRAM, memory, receive, socket, wait};
use crate::figures::thread_cpu;
use crate::ours::{End, server};
use posse::{Channel, Client, ClientEvent, GroupOptions, Server, ServerEvent};
use quinn_udp::Transmit;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a message that fills a packet by the relay.
const MESSAGE: usize = 1000;

/// What a relay did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Relayed {
    /// Packets forwarded a second.
    pub rate: f64,
    /// CPU of the relay's thread for one, us.
    pub cpu_each: f64,
}

/// Takes down CPU and packets of a thread between two moments that another one chooses.
#[derive(Default)]
struct Watch {
    /// 0 before, 1 during, 2 after.
    phase: AtomicU8,
    packets: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Watch {
    /// Has the relay's thread measured for `length`, after a start of a quarter of it.
    fn measure(&self, length: Duration) -> Relayed {
        std::thread::sleep(length / 4);
        self.phase.store(1, Ordering::Relaxed);
        std::thread::sleep(length);
        self.phase.store(2, Ordering::Relaxed);
        while self.cpu_ns.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let packets = self.packets.load(Ordering::Relaxed) as f64;
        let cpu = self.cpu_ns.load(Ordering::Relaxed) as f64 / 1e3;
        Relayed { rate: packets / length.as_secs_f64(), cpu_each: cpu / packets.max(1.0) }
    }
}

/// The relay's thread's part of a [`Watch`].
#[derive(Default)]
struct Notes {
    seen: u8,
    began: (Duration, u64),
}

impl Notes {
    fn look(&mut self, watch: &Watch, packets: u64) {
        let phase = watch.phase.load(Ordering::Relaxed);
        if phase == self.seen {
            return;
        }
        self.seen = phase;
        if phase == 1 {
            self.began = (thread_cpu(), packets);
        } else {
            watch.packets.store(packets - self.began.1, Ordering::Relaxed);
            let cpu = (thread_cpu() - self.began.0).as_nanos() as u64;
            watch.cpu_ns.store(cpu.max(1), Ordering::Release);
        }
    }
}

/// Posse's server, with so many pairs of clients, each of which sends all it can one way.
pub fn ours(length: Duration, flows: usize) -> Relayed {
    let mut server = server("[::]:0");
    let (port, key) = (server.local_addr().port(), server.public_key());
    let by_four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let by_six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let (over, watch) = (AtomicBool::new(false), Watch::default());
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&mut server, &over, &watch));
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..flows {
            let [a, b] = End::meet([End::connect(by_four, key), End::connect(by_six, key)], false);
            assert!(a.client.peers().all(|peer| !matches!(peer.path, posse::Path::Direct { .. })), "it is relayed");
            senders.push(a);
            receivers.push(b.client);
        }
        scope.spawn(|| pour(senders, &over));
        scope.spawn(|| drink(receivers, &over));
        let found = watch.measure(length);
        over.store(true, Ordering::Relaxed);
        found
    })
}

fn serve(server: &mut Server, over: &AtomicBool, watch: &Watch) {
    let (mut payload, mut waiting, mut notes) = (Vec::new(), None, Notes::default());
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
        notes.look(watch, server.counters().forwarded);
        server.wait(Duration::from_millis(20));
    }
}

fn pour(mut senders: Vec<End>, over: &AtomicBool) {
    let (message, mut payload) = (vec![7; MESSAGE], Vec::new());
    while !over.load(Ordering::Relaxed) {
        let mut idle = true;
        for End { client, peer, .. } in &mut senders {
            client.update().expect("the socket works");
            while client.next_event(&mut payload).is_some() {}
            while client.send(*peer, Channel::reliable(0), &message).is_ok() {
                idle = false;
            }
            client.flush();
        }
        rest(&mut senders.iter_mut().map(|end| &mut end.client), idle);
    }
}

fn drink(mut receivers: Vec<Client>, over: &AtomicBool) {
    let mut payload = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let mut idle = true;
        for client in &mut receivers {
            client.update().expect("the socket works");
            while let Some(event) = client.next_event(&mut payload) {
                idle &= !matches!(event, ClientEvent::Message(_));
            }
            client.flush();
        }
        rest(&mut receivers.iter_mut(), idle);
    }
}

/// A lone client sleeps until something comes; of many, nobody can wait for all, so they look again soon.
fn rest(clients: &mut dyn Iterator<Item = &mut Client>, idle: bool) {
    match (clients.next(), clients.next()) {
        (Some(only), None) => only.wait(Duration::from_millis(20)),
        _ if idle => std::thread::sleep(Duration::from_micros(200)),
        _ => {}
    }
}

/// A forwarder that looks up where a source's datagrams go, and nothing else; senders send batches of `segments`.
pub fn bare(length: Duration, flows: usize, segments: usize) -> Relayed {
    let (relay, state, at) = socket();
    let sources: Vec<_> = (0..flows).map(|_| socket()).collect();
    let sinks: Vec<_> = (0..flows).map(|_| socket()).collect();
    let routes: HashMap<SocketAddr, SocketAddr> =
        sources.iter().zip(&sinks).map(|((_, _, from), (_, _, to))| (*from, *to)).collect();
    let (over, watch) = (AtomicBool::new(false), Watch::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut memory, mut packets, mut notes) = (memory(), 0_u64, Notes::default());
            while !over.load(Ordering::Relaxed) {
                wait(&relay, Duration::from_millis(20));
                while receive(&relay, &state, &mut memory, |bytes, stride, from| {
                    let Some(to) = routes.get(&from) else { return };
                    let batch = Transmit {
                        destination: *to,
                        ecn: None,
                        contents: bytes,
                        segment_size: Some(stride),
                        src_ip: None,
                    };
                    if state.try_send((&relay).into(), &batch).is_ok() {
                        packets += bytes.len().div_ceil(stride.max(1)) as u64;
                    }
                }) && !over.load(Ordering::Relaxed)
                {
                    notes.look(&watch, packets);
                }
                notes.look(&watch, packets);
            }
        });
        scope.spawn(|| {
            let contents = vec![7; DATAGRAM * segments];
            while !over.load(Ordering::Relaxed) {
                for (socket, state, _) in &sources {
                    let segment_size = Some(DATAGRAM);
                    let batch =
                        Transmit { destination: at, ecn: None, contents: &contents, segment_size, src_ip: None };
                    let _ = state.try_send(socket.into(), &batch);
                }
            }
        });
        scope.spawn(|| {
            let mut memory = memory();
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                for (socket, state, _) in &sinks {
                    while receive(socket, state, &mut memory, |_, _, _| ()) && !over.load(Ordering::Relaxed) {}
                }
                if flows == 1 {
                    wait(&sinks[0].0, Duration::from_millis(20));
                } else if start.elapsed() < Duration::from_micros(200) {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let found = watch.measure(length);
        over.store(true, Ordering::Relaxed);
        found
    })
}
