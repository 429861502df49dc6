//! The driver over loopback sockets, with a machine that does as it is told and writes down what it is handed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse::{
    BindError, Driver, Ecn, Input, Instant, Machine, Outbox, Request, SendFailure, SocketId, SocketInput, StreamEnd,
    StreamId, StreamInput, Tap, Transmit, Via, Wake, datagrams,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

#[derive(Default)]
struct Puppet {
    to_send: VecDeque<(Transmit, Vec<u8>)>,
    requests: VecDeque<Request>,
    wake_at: Option<Instant>,
    got: Vec<(SocketAddr, Ecn, Vec<u8>)>,
    batches: usize,
    opened: Vec<(SocketId, SocketInput)>,
    failed: Vec<(SocketAddr, usize, SendFailure)>,
    refused: Vec<StreamId>,
    unmapped: Vec<SocketId>,
    addresses: Vec<std::net::IpAddr>,
    woken: Vec<Instant>,
    /// Since 1970.
    time: Option<Duration>,
}

impl Machine for Puppet {
    fn handle(&mut self, now: Instant, input: Input<'_>, _: &mut Outbox) {
        match input {
            Input::Datagrams { from, ecn, stride, bytes, .. } => {
                self.batches += 1;
                self.got.extend(datagrams(stride, bytes).map(|d| (from, ecn, d.to_vec())));
            }
            Input::Socket(id, what) => self.opened.push((id, what)),
            Input::SendFailed { to, size, why, .. } => self.failed.push((to, size, why)),
            Input::Stream(id, StreamInput::Closed(StreamEnd::Refused)) => self.refused.push(id),
            Input::PortMapped { socket, external: None } => self.unmapped.push(socket),
            Input::Interfaces(addresses) => self.addresses = addresses.to_vec(),
            Input::UnixTime(time) => self.time = Some(time),
            Input::Wake if self.wake_at.is_some_and(|at| at <= now) => {
                self.wake_at = None;
                self.woken.push(now);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn transmit(&mut self, _: Instant, out: &mut Outbox) {
        while let Some((how, bytes)) = self.to_send.front() {
            let Some(room) = out.reserve(bytes.len()) else { return };
            room.copy_from_slice(bytes);
            out.commit(bytes.len(), *how);
            self.to_send.pop_front();
        }
    }

    fn request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.wake_at.map(|at| (at, Wake::Idle))
    }

    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}

fn driver(addr: &str) -> Driver<Puppet> {
    Driver::bind(addr.parse().unwrap(), Puppet::default()).unwrap()
}

fn local() -> Driver<Puppet> {
    driver("127.0.0.1:0")
}

/// Updates until `done` or two seconds are over.
fn run(driver: &mut Driver<Puppet>, done: impl Fn(&Puppet) -> bool) {
    let end = Clock::now() + Duration::from_secs(2);
    loop {
        driver.update().unwrap();
        if done(driver.machine()) {
            return;
        }
        assert!(Clock::now() < end, "not in time");
        driver.wait(Duration::from_millis(50));
    }
}

fn numbered(len: usize, n: u32) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(len, 0xa5);
    bytes
}

#[test]
fn a_burst_leaves_in_few_sends_and_arrives_whole_and_in_order() {
    const COUNT: u32 = 300;
    let (mut a, mut b) = (local(), local());
    let how = Transmit { ecn: Ecn::Ect0, ..Transmit::datagram(SocketId::MAIN, b.local_addr()) };
    a.machine_mut().to_send.extend((0..COUNT).map(|n| (how, numbered(1200, n))));
    a.flush();
    run(&mut b, |m| m.got.len() == COUNT as usize);
    let from = a.local_addr();
    for (n, got) in b.machine().got.iter().enumerate() {
        assert_eq!((got.0, got.1, got.2.len()), (from, Ecn::Ect0, 1200), "datagram {n}");
        assert!(got.2 == numbered(1200, n as u32), "datagram {n} is not the one that was sent");
    }
    let segments = match a.machine().opened[..] {
        [(SocketId::MAIN, SocketInput::Opened { max_segments, local })] if local == from => u64::from(max_segments),
        ref other => panic!("{other:?}"),
    };
    // Where the system segments, a send carries as many as fit 65,507 bytes: 54.
    let per_send = segments.min(54);
    assert!(a.stats().sends <= u64::from(COUNT).div_ceil(per_send) + 8, "{:?} at {segments}", a.stats());
    assert_eq!(b.stats().received_bytes, u64::from(COUNT) * 1200);
    assert_eq!(b.machine().batches as u64, b.stats().received_batches);
}

#[test]
fn a_segmented_batch_keeps_its_shorter_last_datagram() {
    let (mut a, mut b) = (local(), local());
    let how = Transmit::datagram(SocketId::MAIN, b.local_addr());
    a.machine_mut().to_send.extend([(how, numbered(900, 0)), (how, numbered(900, 1)), (how, numbered(5, 2))]);
    a.flush();
    run(&mut b, |m| m.got.len() == 3);
    assert_eq!(b.machine().got.iter().map(|(.., d)| d.len()).collect::<Vec<_>>(), [900, 900, 5]);
}

#[test]
fn a_taken_port_is_told_with_what_to_do() {
    let first = local();
    let error = Driver::bind(first.local_addr(), Puppet::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, BindError::PortTaken(at) if at == first.local_addr()), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&first.local_addr().port().to_string()) && text.contains("another port"), "{text}");
}

#[test]
fn an_address_of_another_host_is_told() {
    let error = Driver::bind("203.0.113.77:0".parse().unwrap(), Puppet::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, BindError::NoSuchAddress(_)), "{error:?}");
}

#[test]
fn an_idle_driver_sleeps() {
    let mut a = local();
    let (start, mut turns) = (Clock::now(), 0);
    while start.elapsed() < Duration::from_millis(300) {
        a.update().unwrap();
        a.wait(Duration::from_millis(100));
        turns += 1;
    }
    assert!(turns <= 5, "{turns} turns");
    assert_eq!(a.stats().wakeups, turns);
}

#[test]
fn a_wait_ends_when_the_machine_wants_and_finer_than_a_millisecond() {
    let mut a = local();
    for _ in 0..20 {
        let at = a.now() + Duration::from_micros(300);
        a.machine_mut().wake_at = Some(at);
        a.wait(Duration::from_secs(5));
        assert!(a.now() >= at);
        a.update().unwrap();
    }
    assert_eq!(a.machine().woken.len(), 20);
    assert!(a.now().0 < 1_000_000_000);
}

#[test]
fn a_wait_ends_when_a_datagram_comes() {
    let mut a = local();
    let to = a.local_addr();
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"knock", to).unwrap();
    });
    let start = Clock::now();
    a.wait(Duration::from_secs(5));
    assert!(start.elapsed() < Duration::from_secs(2));
    run(&mut a, |m| m.got.len() == 1);
    sender.join().unwrap();
}

#[test]
fn what_cannot_be_sent_comes_back_with_the_reason() {
    let mut a = local();
    let to = |addr: &str| Transmit::datagram(SocketId::MAIN, addr.parse().unwrap());
    let cases = [
        // More than UDP over IPv4 carries.
        (to("127.0.0.1:9"), 65_508, SendFailure::TooBig),
        (to("127.0.0.1:0"), 10, SendFailure::Unreachable),
        // Broadcasting takes a right that this socket did not ask for.
        (to("255.255.255.255:9"), 10, SendFailure::Denied),
        (to("[::1]:9"), 10, SendFailure::Unreachable),
    ];
    for (how, size, why) in cases {
        a.machine_mut().to_send.push_back((how, vec![0; size]));
        a.flush();
        let Via::Datagram { to, .. } = how.via else { unreachable!() };
        assert_eq!(a.machine_mut().failed.pop(), Some((to, size, why)));
    }
    let SocketInput::Opened { max_segments, .. } = a.machine().opened[0].1 else { panic!() };
    let mut b = local();
    let how = Transmit::datagram(SocketId::MAIN, b.local_addr());
    a.machine_mut().to_send.extend((0..20).map(|n| (how, numbered(1000, n))));
    let before = a.stats().sends;
    a.flush();
    run(&mut b, |m| m.got.len() == 20);
    if max_segments >= 20 {
        assert_eq!(a.stats().sends - before, 1, "none of these failures says that segmentation does not work");
    }
}

#[test]
fn further_sockets_open_send_receive_and_close() {
    const EXTRA: SocketId = SocketId(7);
    let (mut a, mut b) = (local(), local());
    a.machine_mut().requests.push_back(Request::OpenSocket { id: EXTRA, like: SocketId::MAIN });
    a.update().unwrap();
    let Some(&(EXTRA, SocketInput::Opened { local, .. })) = a.machine().opened.last() else { panic!() };
    assert_eq!(local.ip(), a.local_addr().ip());
    assert_ne!(local.port(), a.local_addr().port());

    let how = Transmit::datagram(EXTRA, b.local_addr());
    a.machine_mut().to_send.push_back((how, b"from the side".to_vec()));
    a.flush();
    run(&mut b, |m| m.got.len() == 1);
    assert_eq!(b.machine().got[0].0, local);
    b.machine_mut().to_send.push_back((Transmit::datagram(SocketId::MAIN, local), b"back".to_vec()));
    b.flush();
    run(&mut a, |m| m.got.len() == 1);

    a.machine_mut().requests.extend([
        Request::OpenSocket { id: EXTRA, like: SocketId::MAIN },
        Request::CloseSocket(EXTRA),
        Request::CloseSocket(SocketId::MAIN),
    ]);
    a.update().unwrap();
    let last = &a.machine().opened[2..];
    assert_eq!(last, [(EXTRA, SocketInput::Failed), (EXTRA, SocketInput::Closed)]);
}

#[test]
fn a_port_that_cannot_be_mapped_and_a_connection_that_nobody_takes_are_answered() {
    let mut a = local();
    let to = "127.0.0.1:9".parse().unwrap();
    a.machine_mut().requests.extend([Request::Connect { id: StreamId(3), to }, Request::MapPort(SocketId::MAIN)]);
    // Nobody listens there.
    run(&mut a, |m| !m.refused.is_empty());
    // Closing what is over, or never was, is answered by nothing.
    a.machine_mut().requests.extend([Request::Close(StreamId(3)), Request::Close(StreamId(4))]);
    a.update().unwrap();
    assert_eq!((&a.machine().refused[..], &a.machine().unmapped[..]), (&[StreamId(3)][..], &[SocketId::MAIN][..]));
}

#[test]
fn a_socket_of_both_families_shows_ipv4_addresses_as_such() {
    let Ok(mut a) = Driver::bind("[::]:0".parse().unwrap(), Puppet::default()) else { return };
    let mut b = local();
    let to_a = SocketAddr::from(([127, 0, 0, 1], a.local_addr().port()));
    b.machine_mut().to_send.push_back((Transmit::datagram(SocketId::MAIN, to_a), b"hello".to_vec()));
    b.flush();
    run(&mut a, |m| m.got.len() == 1);
    assert_eq!(a.machine().got[0].0, b.local_addr());

    let mut how = Transmit::datagram(SocketId::MAIN, b.local_addr());
    let Via::Datagram { from, .. } = &mut how.via else { unreachable!() };
    *from = Some([127, 0, 0, 1].into());
    a.machine_mut().to_send.push_back((how, b"back".to_vec()));
    a.flush();
    run(&mut b, |m| m.got.len() == 1);
    assert_eq!(b.machine().got[0].0, to_a);
}

#[test]
fn a_machine_learns_its_hosts_addresses() {
    assert_eq!(local().machine().addresses, [std::net::IpAddr::from([127, 0, 0, 1])]);
    assert!(driver("0.0.0.0:0").machine().addresses.iter().all(|ip| ip.is_ipv4() && !ip.is_loopback()));
}

#[test]
fn a_machine_learns_what_time_it_is() {
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let told = local().machine().time.unwrap();
    assert!(told.abs_diff(before) < Duration::from_secs(60), "{told:?}");
}

#[test]
fn a_datagram_with_a_hop_limit_arrives_within_it() {
    let (mut a, mut b) = (local(), local());
    let mut how = Transmit::datagram(SocketId::MAIN, b.local_addr());
    let Via::Datagram { hop_limit, .. } = &mut how.via else { unreachable!() };
    *hop_limit = Some(1);
    a.machine_mut().to_send.push_back((how, b"near".to_vec()));
    a.flush();
    if cfg!(any(target_os = "linux", target_os = "android")) {
        run(&mut b, |m| m.got.len() == 1);
    }
}
