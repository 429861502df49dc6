//! In the steady state a message costs a client and a server no allocation, by the relay and directly.
//!
//! No [`World`](posse_sim::World) here, which allocates for itself: three machines hand their outboxes to each other in
//! steps of 5 ms, and an allocator counts what each of them does inside its own calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::server::GroupOptions;
use posse_core::{
    Channel, Class, Client, ClientEvent, Ecn, GroupId, Input, Instant, Machine, Outbox, Path, PeerId, SendOptions,
    Server, ServerEvent, SocketId, SocketInput, Via,
};
use posse_tests::{APP, SERVER_KEY};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

struct Counting;

thread_local! {
    /// Allocations and growths of this thread; the test harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|n| n.set(n.get() + 1));
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
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

/// One step, and the way from any machine to any other.
const STEP: Duration = Duration::from_millis(5);
/// Messages that each client sends a step, one of each kind of channel.
const BURST: usize = 4;

const SERVER: usize = 2;

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([5, 0, 0, 1 + place as u8], 4000))
}

/// Two clients and a server.
struct Three {
    now: Instant,
    clients: [Client; 2],
    server: Server,
    /// What is being written, and what was written a step ago and arrives now; one of each a machine.
    writing: [Outbox; 3],
    arriving: [Outbox; 3],
    /// Whether packets pass between the clients.
    open: bool,
    datagram: Vec<u8>,
    payload: Vec<u8>,
    /// Allocations within the calls of each machine.
    allocated: [u64; 3],
    group: Option<GroupId>,
    delivered: [usize; 2],
    direct: usize,
}

/// Runs `call` and counts its allocations.
fn counted<R>(count: &mut u64, call: impl FnOnce() -> R) -> R {
    let before = ALLOCATIONS.with(Cell::get);
    let result = call();
    *count += ALLOCATIONS.with(Cell::get) - before;
    result
}

impl Three {
    fn new() -> Self {
        let now = Instant::ZERO;
        let key = posse_core::secure::public_key(&SERVER_KEY);
        let client = |n: u8| Client::new(now, ClientConfig::new(address(SERVER), key, APP, [n; 32])).unwrap();
        let outbox = || Outbox::with_capacity(64 * 1024, 64);
        Self {
            now,
            clients: [client(1), client(2)],
            server: Server::new(now, ServerConfig::new(SERVER_KEY, APP, [3; 32])).unwrap(),
            writing: std::array::from_fn(|_| outbox()),
            arriving: std::array::from_fn(|_| outbox()),
            open: false,
            datagram: Vec::with_capacity(2_048),
            payload: Vec::with_capacity(2_048),
            allocated: [0; 3],
            group: None,
            delivered: [0; 2],
            direct: 0,
        }
    }

    fn machine(&mut self, place: usize) -> (&mut dyn Machine, &mut Outbox, &mut u64) {
        let (out, count) = (&mut self.writing[place], &mut self.allocated[place]);
        match place {
            SERVER => (&mut self.server, out, count),
            client => (&mut self.clients[client], out, count),
        }
    }

    /// What was written a step ago arrives; then everyone polls and writes.
    fn step(&mut self) {
        self.now = self.now + STEP;
        std::mem::swap(&mut self.writing, &mut self.arriving);
        for from in 0..3 {
            let arriving = std::mem::replace(&mut self.arriving[from], Outbox::with_capacity(0, 0));
            for (transmit, bytes) in arriving.sends() {
                let Via::Datagram { to, .. } = transmit.via else { continue };
                let to = (0..3).find(|place| address(*place) == to).unwrap();
                if !self.open && from != SERVER && to != SERVER {
                    continue;
                }
                let mut datagram = std::mem::take(&mut self.datagram);
                datagram.clear();
                datagram.extend_from_slice(bytes);
                let (now, stride) = (self.now, bytes.len());
                let (machine, out, count) = self.machine(to);
                let input = Input::Datagrams {
                    socket: SocketId::MAIN,
                    from: address(from),
                    local: None,
                    ecn: Ecn::NotCapable,
                    stride,
                    bytes: &mut datagram,
                };
                counted(count, || machine.handle(now, input, out));
                self.datagram = datagram;
            }
            self.arriving[from] = arriving;
            self.arriving[from].clear();
        }
        self.poll();
        for place in 0..3 {
            let now = self.now;
            let (machine, out, count) = self.machine(place);
            counted(count, || {
                machine.transmit(now, out);
                machine.wake()
            });
        }
    }

    fn poll(&mut self) {
        let now = self.now;
        for place in 0..2 {
            let (client, payload) = (&mut self.clients[place], &mut self.payload);
            while let Some(event) = counted(&mut self.allocated[place], || client.poll_event(now, payload)) {
                if let ClientEvent::Message(message) = event {
                    self.delivered[place] += 1;
                    self.direct += usize::from(message.direct);
                }
            }
        }
        let (server, payload) = (&mut self.server, &mut self.payload);
        while let Some(event) = counted(&mut self.allocated[SERVER], || server.poll_event(now, payload)) {
            if let ServerEvent::LoginRequested { login, .. } = event {
                server.accept(now, login, b"", b"").unwrap();
            }
        }
    }

    /// Each client sends `messages` to the group, some a step; what all of them delivered, and what each allocated.
    fn talk(&mut self, messages: usize) -> (usize, [u64; 3]) {
        let (delivered, group) = (self.delivered, self.group.unwrap());
        self.allocated = [0; 3];
        self.direct = 0;
        for _ in 0..messages / BURST {
            for place in 0..2 {
                for n in 0..BURST {
                    let (client, now) = (&mut self.clients[place], self.now);
                    let (channel, options) = match n {
                        0 => (Channel::unreliable(0), SendOptions::default().deadline(STEP)),
                        1 => (Channel::reliable(0), SendOptions::default().class(Class::Urgent)),
                        2 => (Channel::unordered(0), SendOptions::default().replaces(2)),
                        _ => (Channel::sequenced(0), SendOptions::default().replaces(3).class(Class::Bulk)),
                    };
                    let send = || client.send(now, group, channel, &[7; 64], options);
                    let sent = counted(&mut self.allocated[place], send).unwrap();
                    assert_eq!(sent.receivers, 1);
                }
            }
            self.step();
        }
        for _ in 0..40 {
            self.step();
        }
        (0..2).for_each(|n| assert_eq!(self.delivered[n] - delivered[n], messages));
        (self.direct, self.allocated)
    }

    fn are_direct(&self) -> bool {
        self.clients.iter().all(|c| c.peers().all(|p| matches!(p.path, Path::Direct { .. })))
    }
}

/// Logged in, in one group, both joins processed.
fn grouped() -> Three {
    let mut three = Three::new();
    for place in 0..2 {
        let (now, opened) = (three.now, SocketInput::Opened { local: address(place), max_segments: 1 });
        let (machine, out, _) = three.machine(place);
        machine.handle(now, Input::Socket(SocketId::MAIN, opened), out);
    }
    for _ in 0..100 {
        three.step();
    }
    let ids: Vec<PeerId> = three.clients.iter().map(|c| c.id().unwrap()).collect();
    three.group = Some(three.server.create_group(three.now, &ids, GroupOptions::default()).unwrap());
    for _ in 0..100 {
        three.step();
    }
    three
}

/// Measured: what grows once (queues, rings, pools, the ranges of ten thousand packets) has grown by then.
const WARM_UP: usize = 8_000;
const MESSAGES: usize = 10_000;

#[test]
fn neither_ten_thousand_messages_by_the_relay_nor_ten_thousand_direct_ones_allocate() {
    let mut three = grouped();
    three.talk(WARM_UP);
    let (direct, [a, b, server]) = three.talk(MESSAGES);
    assert_eq!((direct, server), (0, 0));
    // In those 12.5 s one more round of punching began, and each took memory for its tokens, which it gave back before.
    assert!(a <= 1 && b <= 1, "{a} and {b} allocations");

    three.open = true;
    while !three.are_direct() {
        three.step();
        assert!(three.now < Instant::from_millis(600_000), "the hole opens");
    }
    three.talk(WARM_UP);
    let (direct, allocated) = three.talk(MESSAGES);
    assert_eq!((direct, allocated), (2 * MESSAGES, [0; 3]), "directly");
    assert!(three.are_direct());
}
