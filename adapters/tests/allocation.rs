//! In the steady state a packet costs the driver no allocation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{Driver, Input, Instant, Machine, Outbox, Request, SocketId, Tap, Transmit, Wake};
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps a few datagrams going between two ends.
struct Volley {
    serve: Option<SocketAddr>,
    hits: usize,
}

impl Machine for Volley {
    fn handle(&mut self, _: Instant, input: Input<'_>, out: &mut Outbox) {
        let Input::Datagrams { from, stride, bytes, .. } = input else { return };
        for datagram in bytes.chunks(stride.max(1)) {
            self.hits += 1;
            out.reserve(datagram.len()).unwrap().copy_from_slice(datagram);
            out.commit(datagram.len(), Transmit::datagram(SocketId::MAIN, from));
        }
    }

    fn transmit(&mut self, _: Instant, out: &mut Outbox) {
        let Some(to) = self.serve.take() else { return };
        for _ in 0..4 {
            out.reserve(1200).unwrap().fill(7);
            out.commit(1200, Transmit::datagram(SocketId::MAIN, to));
        }
    }

    fn request(&mut self) -> Option<Request> {
        None
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        None
    }

    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}

#[test]
fn a_packet_allocates_nothing() {
    let bind = || Driver::bind(([127, 0, 0, 1], 0).into(), Volley { serve: None, hits: 0 }).unwrap();
    let (mut a, mut b) = (bind(), bind());
    a.machine_mut().serve = Some(b.local_addr());
    let mut play = |hits: usize| {
        for _ in 0..100_000 {
            a.update().unwrap();
            b.update().unwrap();
            if a.machine().hits >= hits {
                return;
            }
            a.wait(Duration::from_millis(10));
        }
        panic!("no volley");
    };
    play(100);
    let before = ALLOCATIONS.load(Relaxed);
    play(10_000);
    let allocations = ALLOCATIONS.load(Relaxed) - before;
    // The host's addresses are looked up anew every few seconds; nothing else may allocate, and surely nothing per packet.
    assert!(allocations < 20, "{allocations} allocations for 20,000 packets");
}
