//! Bare sockets: what the system can do with the same batches and the same way to wait, and nothing on top.

use crate::figures::{Flood, Trips, cpu, until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a datagram, as a full packet of Posse's on a path of which nothing is known.
pub const DATAGRAM: usize = 1200;
const BUFFERS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

/// A socket on loopback with large buffers, as Posse's driver asks for.
pub fn socket() -> (UdpSocket, UdpSocketState, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let options = socket2::SockRef::from(&socket);
    let _ = options.set_recv_buffer_size(2 << 20);
    let _ = options.set_send_buffer_size(2 << 20);
    let state = UdpSocketState::new((&socket).into()).expect("quinn-udp works here");
    let address = socket.local_addr().expect("it is bound");
    (socket, state, address)
}

/// Sleeps until there is something to read, `max` at most.
pub fn wait(socket: &UdpSocket, max: Duration) {
    let _ = poll(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
        PollTimeout::try_from(max).unwrap_or(PollTimeout::MAX),
    );
}

/// Receives what there is, in batches; calls `each` with the bytes and the size of a segment.
pub fn receive(
    socket: &UdpSocket,
    state: &UdpSocketState,
    memory: &mut [u8],
    mut each: impl FnMut(&[u8], usize, SocketAddr),
) -> bool {
    let mut parts = memory.chunks_exact_mut(65_535);
    let mut buffers: [_; BUFFERS] = std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
    let mut meta = [RecvMeta::default(); BUFFERS];
    let Ok(count) = state.recv(socket.into(), &mut buffers, &mut meta) else { return false };
    for (buffer, m) in buffers.iter().zip(&meta).take(count) {
        each(&buffer[..m.len], m.stride, m.addr);
    }
    true
}

/// Memory for [`receive`].
pub fn memory() -> Vec<u8> {
    vec![0; 65_535 * BUFFERS]
}

/// One thread sends batches of `segments` datagrams as fast as the system takes them, another receives.
pub fn flood(length: Duration, segments: usize) -> Flood {
    let ((from, out, _), (to, into, address)) = (socket(), socket());
    let (over, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (start, before) = (Instant::now(), cpu());
    let mut counted = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let contents = vec![7; DATAGRAM * segments];
            while !over.load(Ordering::Relaxed) {
                let segment_size = Some(DATAGRAM);
                let batch =
                    Transmit { destination: address, ecn: None, contents: &contents, segment_size, src_ip: None };
                let _ = out.try_send((&from).into(), &batch);
            }
        });
        scope.spawn(|| {
            let mut memory = memory();
            while !over.load(Ordering::Relaxed) {
                wait(&to, Duration::from_millis(20));
                while receive(&to, &into, &mut memory, |got, _, _| {
                    bytes.fetch_add(got.len() as u64, Ordering::Relaxed);
                }) && !over.load(Ordering::Relaxed)
                {}
            }
        });
        until(start, length);
        counted = (bytes.load(Ordering::Relaxed), cpu() - before);
        over.store(true, Ordering::Relaxed);
    });
    Flood::new(counted.0, counted.0 / DATAGRAM as u64, length, counted.1)
}

/// 64 bytes there and back, each end asleep until they come.
pub fn ping(length: Duration) -> Trips {
    let ((a, a_state, a_at), (b, b_state, b_at)) = (socket(), socket());
    let over = AtomicBool::new(false);
    let mut trips = Vec::new();
    let say = |socket: &UdpSocket, state: &UdpSocketState, to, bytes: &[u8]| {
        let _ = state.try_send(
            socket.into(),
            &Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip: None },
        );
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut memory = memory();
            while !over.load(Ordering::Relaxed) {
                wait(&b, Duration::from_millis(20));
                let mut heard = false;
                receive(&b, &b_state, &mut memory, |_, _, _| heard = true);
                if heard {
                    say(&b, &b_state, a_at, &[7; 64]);
                }
            }
        });
        let (start, mut memory) = (Instant::now(), memory());
        while start.elapsed() < length {
            let sent = Instant::now();
            say(&a, &a_state, b_at, &[7; 64]);
            let mut heard = false;
            while !heard {
                wait(&a, Duration::from_millis(20));
                receive(&a, &a_state, &mut memory, |_, _, _| heard = true);
            }
            trips.push(sent.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    Trips::new(trips)
}
