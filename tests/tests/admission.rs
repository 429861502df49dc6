//! A server under a flood of logins: what it keeps, what it computes, what it sends, and what honest clients feel of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{Admission, ClientConfig, Rate, ServerConfig, Tickets};
use posse_core::ticket::{self, Audience, Ticket};
use posse_core::{
    Client, ClientEvent, Input, Instant, LoginFailure, LoginRefusal, Machine, Outbox, Request, Server, ServerEvent,
    StreamEnd, StreamInput, TicketRefusal,
};
use posse_tests::{APP, SERVER_KEY, drain, hand, request};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

struct Measuring;

thread_local! {
    /// Bytes that this thread holds; the test harness has threads of its own.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn hold(bytes: i64) {
    HELD.with(|n| n.set(n.get() + bytes));
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        hold(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(5, 0, 0, 1)), 4000);
/// From any client to the server and back, each.
const ONE_WAY: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(1);

fn client(now: Instant, n: u32, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let key = posse_core::secure::public_key(&SERVER_KEY);
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    let mut config = ClientConfig::new(SERVER, key, APP, seed);
    change(&mut config);
    Client::new(now, config).unwrap()
}

fn server(change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig::new(SERVER_KEY, APP, [1; 32]);
    change(&mut config);
    Server::new(Instant::ZERO, config).unwrap()
}

/// A server, honest clients at some distance, and whatever else a test sends it.
struct Scene {
    now: Instant,
    server: Server,
    clients: Vec<Honest>,
    /// Under way: when, for whom (`None`: the server), from or to which client's address, what.
    wire: VecDeque<(Instant, Option<usize>, usize, Vec<u8>)>,
    /// Bytes and datagrams that the server sent to nobody of ours.
    astray: (usize, usize),
    refusals: Vec<(LoginRefusal, u64)>,
    /// What stands in tickets.
    tickets: Vec<u8>,
    out: Outbox,
}

struct Honest {
    client: Client,
    addr: SocketAddr,
    began: Instant,
    ended: Option<(Instant, Result<(), LoginFailure>)>,
}

impl Scene {
    fn new(server: Server) -> Self {
        Self {
            now: Instant::ZERO,
            server,
            clients: Vec::new(),
            wire: VecDeque::new(),
            astray: (0, 0),
            refusals: Vec::new(),
            tickets: Vec::new(),
            out: Outbox::with_capacity(256 * 1024, 256),
        }
    }

    fn join(&mut self, addr: SocketAddr, change: impl FnOnce(&mut ClientConfig)) -> usize {
        let n = self.clients.len();
        let client = client(self.now, 1_000_000 + n as u32, change);
        self.clients.push(Honest { client, addr, began: self.now, ended: None });
        n
    }

    /// Something from anywhere, that arrives now.
    fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        hand(&mut self.server, self.now, from, bytes, &mut self.out);
        self.dispatch();
    }

    fn dispatch(&mut self) {
        for (to, bytes) in drain(&mut self.out) {
            match self.clients.iter().position(|honest| honest.addr == to) {
                Some(n) => self.wire.push_back((self.now + ONE_WAY, Some(n), n, bytes)),
                None => self.astray = (self.astray.0 + bytes.len(), self.astray.1 + 1),
            }
        }
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now = self.now + STEP;
        while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, to, n, bytes) = self.wire.pop_front().unwrap();
            match to {
                None => {
                    let from = self.clients[n].addr;
                    self.inject(from, &bytes);
                }
                Some(n) => {
                    let mut out = Outbox::with_capacity(4096, 4);
                    hand(&mut self.clients[n].client, self.now, SERVER, &bytes, &mut out);
                }
            }
        }
        let mut payload = Vec::new();
        self.server.transmit(self.now, &mut self.out);
        self.dispatch();
        while let Some(event) = self.server.poll_event(self.now, &mut payload) {
            match event {
                ServerEvent::LoginRequested { login, ticket, .. } => {
                    self.tickets.extend(ticket.iter().flat_map(|ticket| ticket.data.iter()));
                    self.server.accept(self.now, login, &[], &[]).unwrap();
                }
                ServerEvent::LoginsRefused { why, count, .. } => self.refusals.push((why, count)),
                _ => {}
            }
        }
        self.server.transmit(self.now, &mut self.out);
        self.dispatch();
        for (n, honest) in self.clients.iter_mut().enumerate() {
            let mut out = Outbox::with_capacity(16 * 1024, 16);
            honest.client.transmit(self.now, &mut out);
            for (_, bytes) in drain(&mut out) {
                self.wire.push_back((self.now + ONE_WAY, None, n, bytes));
            }
            while let Some(event) = honest.client.poll_event(self.now, &mut payload) {
                let outcome = match event {
                    ClientEvent::LoggedIn { .. } => Ok(()),
                    ClientEvent::LoginFailed(why) => Err(why),
                    _ => continue,
                };
                honest.ended.get_or_insert((self.now, outcome));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// How long each login took, ascending; all of them came to a good end.
    fn latencies(&self) -> Vec<Duration> {
        let took = self.clients.iter().map(|honest| match &honest.ended {
            Some((at, Ok(()))) => at.since(honest.began),
            other => panic!("{} of {:?}: {other:?}", honest.addr, honest.began),
        });
        let mut took: Vec<_> = took.collect();
        took.sort();
        took
    }
}

/// Requests that name the right key, from sources all over the internet. The first ones and then every hundredth are authentic:
/// those cost the most.
fn flood(scene: &mut Scene, genuine: &[Vec<u8>], milliseconds: u32, each: u32, mut every: impl FnMut(&mut Scene, u32)) {
    let mut junk = genuine[0].clone();
    let mut n = 0u32;
    for ms in 0..milliseconds {
        every(scene, ms);
        for _ in 0..each {
            n += 1;
            let mixed = n.wrapping_mul(0x9e37_79b9);
            let from = SocketAddr::from(((0x0b00_0000 | mixed >> 4).to_be_bytes(), mixed as u16));
            if n <= 300 || n.is_multiple_of(100) {
                scene.inject(from, &genuine[if n <= 300 { n - 1 } else { n / 100 } as usize % genuine.len()]);
            } else {
                junk[21..25].copy_from_slice(&mixed.to_be_bytes());
                scene.inject(from, &junk);
            }
        }
        scene.step();
    }
}

/// The row "pre-login memory" of docs/security.md.
#[test]
fn a_million_logins_from_forged_sources_leave_nothing_behind_and_honest_ones_take_three_round_trips() {
    let rates = Admission::default();
    let mut scene = Scene::new(server(|_| {}));
    let genuine: Vec<_> = (0..400).map(|n| request(client(Instant::ZERO, n, |_| {}))).collect();
    let (mut peak, mut settled) = (0, None);
    flood(&mut scene, &genuine, 4_000, 250, |scene, ms| {
        if (500..3_500).contains(&ms) && ms % 20 == 0 {
            scene.join(SocketAddr::from(([77, ms as u8, (ms >> 8) as u8, 1], 999)), |_| {});
        }
        let of_the_flood = scene.server.size().sessions.saturating_sub(scene.clients.len());
        peak = peak.max(of_the_flood);
        if ms == 400 {
            settled = Some((of_the_flood, HELD.get()));
        }
        if ms == 490 {
            let (sessions, held) = settled.unwrap();
            assert_eq!(of_the_flood, sessions, "the cookie is on: nobody gets a session any more");
            assert!(HELD.get() - held < 64 * 1024, "{} bytes more for 22,500 requests", HELD.get() - held);
        }
    });
    let counted = scene.server.counters().logins;
    // Those that are read without a cookie are read in the first moment, until the bucket is empty.
    assert!(peak <= rates.unproven.burst as usize, "{peak} sessions of nobody");
    let read = counted.forged + peak as u64;
    assert!(read <= u64::from(rates.unproven.burst + 1), "{read} requests of the flood were read");
    assert!(counted.retried > 990_000);
    assert!(scene.astray.0 < 1_000_000 * 40, "no more than 33 bytes for 1,200");
    scene.run(Duration::from_secs(1));
    let took = scene.latencies();
    let (p99, most) = (took[took.len() * 99 / 100], took[took.len() - 1]);
    println!("{peak} sessions of nobody at most, {read} requests read; logins p99 {p99:?}, at most {most:?}");
    // A millisecond is lost at each end of each way.
    assert!(p99 <= ONE_WAY * 6 + STEP * 6, "{p99:?}");
    scene.run(Duration::from_secs(7));
    assert_eq!(scene.server.size().sessions, scene.clients.len(), "and of the flood nothing is left");
}

#[test]
fn without_a_flood_a_login_takes_two_round_trips_and_no_cookie() {
    let mut scene = Scene::new(server(|_| {}));
    for n in 0..50 {
        scene.join(SocketAddr::from(([77, 1, n, 1], 999)), |_| {});
    }
    scene.run(Duration::from_secs(1));
    assert!(scene.latencies()[49] <= ONE_WAY * 4 + STEP * 4);
    assert_eq!(scene.server.counters().logins, Default::default());
}

#[test]
fn one_host_that_logs_in_without_end_is_slowed_and_nobody_else_is() {
    let source = Rate { per_second: 5, burst: 10 };
    let mut scene = Scene::new(server(|config| config.admission.source = source));
    for n in 0..200 {
        scene.join(SocketAddr::from(([77, 1, 1, 1], 1_000 + n)), |_| {});
    }
    scene.join(SocketAddr::from(([77, 1, 2, 1], 999)), |_| {});
    scene.run(Duration::from_secs(8));
    let logged_in = |h: &&Honest| matches!(h.ended, Some((_, Ok(()))));
    let greedy = scene.clients[..200].iter().filter(logged_in).count();
    assert!((20..=10 + 10 + 5 * 5 + 1).contains(&greedy), "{greedy}: its bursts, and its rate for the 5 s of a login");
    let (at, outcome) = scene.clients[200].ended.clone().unwrap();
    assert_eq!((at.since(Instant::ZERO) <= ONE_WAY * 6 + STEP * 6, outcome), (true, Ok(())));
    assert!(scene.server.counters().logins.over_source > 100);
}

#[test]
fn versions_and_applications_that_do_not_match_are_told_at_both_ends() {
    let mut scene = Scene::new(server(|_| {}));
    for n in 0..3 {
        scene.join(SocketAddr::from(([77, 1, n, 1], 999)), |config| config.app = 43);
    }
    scene.run(Duration::from_secs(1));
    for honest in &scene.clients {
        assert!(matches!(&honest.ended, Some((_, Err(LoginFailure::Application)))), "{:?}", honest.ended);
    }
    assert_eq!(scene.refusals.iter().map(|(_, count)| count).sum::<u64>(), 3);
    assert!(scene.refusals.iter().all(|(why, _)| *why == LoginRefusal::Application { client: 43 }));
    assert_eq!(scene.server.counters().logins.application, 3);
    assert_eq!(scene.server.size(), Default::default());
}

#[test]
fn refusals_that_nobody_polls_are_one_event_a_kind() {
    let mut server = server(|_| {});
    let mut out = Outbox::with_capacity(64 * 1024, 64);
    for n in 0..20 {
        let mut other = client(Instant::ZERO, n, |config| config.app = u64::from(n));
        other.transmit(Instant::ZERO, &mut out);
        let (_, request) = drain(&mut out).remove(0);
        hand(&mut server, Instant::ZERO, SocketAddr::from(([77, 1, n as u8, 1], 5)), &request, &mut out);
        out.clear();
    }
    let event = server.poll_event(Instant::ZERO, &mut Vec::new());
    let from = SocketAddr::from(([77, 1, 19, 1], 5));
    let why = LoginRefusal::Application { client: 19 };
    assert_eq!(event, Some(ServerEvent::LoginsRefused { why, from, count: 20 }));
    assert_eq!(server.poll_event(Instant::ZERO, &mut Vec::new()), None);
}

#[test]
fn clients_with_either_of_two_keys_log_in_and_those_with_a_third_cost_nothing() {
    let (next, wrong) = ([9; 32], [10; 32]);
    let mut scene = Scene::new(server(|config| config.second_key = Some(next)));
    for (n, key) in [SERVER_KEY, next, wrong].into_iter().enumerate() {
        let public = posse_core::secure::public_key(&key);
        scene.join(SocketAddr::from(([77, 1, n as u8, 1], 999)), |config| config.server_key = public);
    }
    scene.run(Duration::from_secs(6));
    let ended: Vec<_> = scene.clients.iter().map(|honest| honest.ended.clone().unwrap().1).collect();
    assert_eq!(ended, [Ok(()), Ok(()), Err(LoginFailure::NoAnswer)]);
    let counted = scene.server.counters().logins;
    assert!(counted.other_key >= 3 && counted.forged == 0, "{counted:?}");
}

/// What a login server gives a player.
fn ticket(id: u8, expires: u64) -> Vec<u8> {
    let server_key = posse_core::secure::public_key(&SERVER_KEY);
    let ticket = Ticket { id: [id; 16], expires: Duration::from_secs(expires), data: [id].into() };
    ticket::seal(&[3; 32], Audience { server_key: &server_key, app: APP }, &ticket).unwrap()
}

#[test]
fn with_a_ticket_one_comes_in_once_and_without_nobody_does() {
    let mut scene = Scene::new(server(|config| config.tickets = Some(Tickets::new([3; 32]))));
    scene.server.handle(Instant::ZERO, Input::UnixTime(Duration::from_secs(1_000)), &mut scene.out);
    let brought = [Vec::new(), ticket(1, 1_060), ticket(1, 1_060), ticket(2, 1_000), b"a forgery".to_vec()];
    for (n, ticket) in brought.into_iter().enumerate() {
        scene.join(SocketAddr::from(([77, 1, n as u8, 1], 999)), |config| config.ticket = ticket);
        scene.run(Duration::from_millis(300));
    }
    let ended: Vec<_> = scene.clients.iter().map(|honest| honest.ended.clone().unwrap().1).collect();
    let refused = |why| Err(LoginFailure::Ticket(why));
    use TicketRefusal::{Expired, Invalid, Missing, Used};
    assert_eq!(ended, [refused(Missing), Ok(()), refused(Used), refused(Expired), refused(Invalid)]);
    assert_eq!(scene.tickets, [1], "the server's application reads what the login server wrote");
    assert_eq!(scene.server.counters().logins.ticket, 4);
    assert_eq!(scene.server.size().sessions, 1);
}

#[test]
fn a_ticket_is_not_used_up_by_a_login_that_came_to_nothing() {
    let mut scene = Scene::new(server(|config| config.tickets = Some(Tickets::new([3; 32]))));
    scene.server.handle(Instant::ZERO, Input::UnixTime(Duration::from_secs(1_000)), &mut scene.out);
    // Somebody's first datagram arrives, and nothing more of it.
    let mut out = Outbox::with_capacity(4096, 4);
    client(Instant::ZERO, 1, |config| config.ticket = ticket(1, 1_060)).transmit(Instant::ZERO, &mut out);
    let (_, request) = drain(&mut out).remove(0);
    scene.inject(SocketAddr::from(([77, 1, 1, 1], 999)), &request);
    scene.run(Duration::from_secs(6));
    scene.join(SocketAddr::from(([77, 1, 1, 1], 998)), |config| config.ticket = ticket(1, 1_060));
    scene.run(Duration::from_secs(1));
    assert_eq!(scene.latencies().len(), 1);
}

#[test]
fn a_server_that_drains_keeps_who_is_there_and_tells_others_so() {
    let mut scene = Scene::new(server(|_| {}));
    scene.join(SocketAddr::from(([77, 1, 1, 1], 999)), |_| {});
    scene.run(Duration::from_secs(1));
    scene.server.drain(scene.now, true);
    scene.join(SocketAddr::from(([77, 1, 2, 1], 999)), |_| {});
    scene.run(Duration::from_secs(1));
    assert!(matches!(scene.clients[1].ended, Some((_, Err(LoginFailure::Draining)))));
    assert_eq!((scene.server.size().clients, scene.server.is_draining()), (1, true));
    scene.server.drain(scene.now, false);
    scene.join(SocketAddr::from(([77, 1, 3, 1], 999)), |_| {});
    scene.run(Duration::from_secs(1));
    assert!(matches!(scene.clients[2].ended, Some((_, Ok(())))));
}

#[test]
fn a_login_whose_server_falls_silent_after_its_answer_fails_long_before_the_lease() {
    let mut server = Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [1; 32])).unwrap();
    let key = posse_core::secure::public_key(&SERVER_KEY);
    let config = ClientConfig::new(SERVER, key, APP, [2; 32]);
    let most = config.timers.handshake + config.timers.decision + Duration::from_secs(1);
    let mut client = Client::new(Instant::ZERO, config).unwrap();
    let (mut out, from) = (Outbox::with_capacity(64 << 10, 64), SocketAddr::from(([9, 9, 9, 9], 999)));
    client.transmit(Instant::ZERO, &mut out);
    for (_, bytes) in drain(&mut out) {
        hand(&mut server, Instant::ZERO, from, &bytes, &mut out);
    }
    for (_, bytes) in drain(&mut out) {
        hand(&mut client, Instant::ZERO, SERVER, &bytes, &mut out);
    }
    let (mut now, mut payload, mut sent) = (Instant::ZERO, Vec::new(), 0);
    let failed = loop {
        if let Some(event) = client.poll_event(now, &mut payload) {
            break event;
        }
        client.transmit(now, &mut out);
        sent += drain(&mut out).len();
        while let Some(request) = client.request() {
            if let Request::Connect { id, .. } = request {
                client.handle(now, Input::Stream(id, StreamInput::Closed(StreamEnd::Refused)), &mut out);
            }
        }
        now = now.max(client.wake().unwrap().0);
    };
    assert!(sent > 1, "it was answered, and asks on");
    assert!(matches!(failed, ClientEvent::LoginFailed(LoginFailure::NoAnswer)), "{failed:?}");
    assert!(now > Instant::ZERO + most / 2 && now < Instant::ZERO + most, "{now:?}");
}
