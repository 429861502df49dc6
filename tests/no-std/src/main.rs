//! A program without std around posse-core. That it links is the proof: a dependency that pulled std in would bring a
//! second panic handler, which is an error. That it exits with 0 shows that the core runs on an allocator and a panic
//! handler as simple as these.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::panic::PanicInfo;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};
use posse_core::{Outbox, SocketId, Transmit, secure};

// The C library gives `_start` and memcpy; nothing else is asked of it.
#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

/// Bytes that may be allocated over the program's whole life: far more than an outbox and two suites take.
const ARENA: usize = 1 << 16;

/// Hands out memory front to back and takes none back.
#[repr(align(64))]
struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

// SAFETY: the arena is only touched through the disjoint ranges that `alloc` hands out.
unsafe impl Sync for Bump {}

// SAFETY: `fetch_update` gives each range to one caller only; a range lies inside the arena and starts at a multiple of
// the alignment, which the arena's own start is too (up to 64, beyond which the allocation is refused).
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = |used: usize| used.next_multiple_of(layout.align());
        let end = |used: usize| start(used).checked_add(layout.size()).filter(|end| *end <= ARENA);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            Ok(used) if layout.align() <= 64 => self.arena.get().cast::<u8>().wrapping_add(start(used)),
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) };

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `abort` may be called at any time.
    unsafe { abort() }
}

/// The precompiled `alloc` names this even in a program that aborts, where nothing ever calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// 0 if a datagram went through an outbox as it was, and through each suite and back; else the step that failed.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let mut outbox = Outbox::with_capacity(1200, 1);
    let Some(room) = outbox.reserve(4) else { return 1 };
    room.copy_from_slice(b"ping");
    outbox.commit(4, Transmit::datagram(SocketId::MAIN, ([127, 0, 0, 1], 7777).into()));
    if !outbox.sends().map(|(_, bytes)| bytes).eq([b"ping"]) {
        return 2;
    }
    for suite in secure::suites(false) {
        let mut key = suite.packet_key(&[7; 32]);
        let mut buffer = [0; 4 + 16];
        buffer[..4].copy_from_slice(b"ping");
        let sealed = key.seal([0; 12], b"", &mut buffer, 4);
        if sealed != buffer.len() || key.open([0; 12], b"", &mut buffer).is_none_or(|opened| opened != b"ping") {
            return 3;
        }
    }
    0
}
