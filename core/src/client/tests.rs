//! A server and clients joined without a network in between, so that a test can reach into them, be hostile, and look at
//! every datagram.

mod ipv6;
mod outages;
mod rejoin;

use super::*;
use crate::config::{Limits, ServerConfig};
use crate::event::{RelayReason, ServerEvent};
use crate::machine::SocketInput;
use crate::server::{GroupOptions, Server};
use crate::transport::Scope;
use crate::wire::control::ToServer;
use std::vec;

const KEY: [u8; 32] = [9; 32];
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::new(198, 51, 100, 1)), 7000);

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Everyone has a public address; whatever is sent arrives at once, unless it is kept back.
struct Bench {
    now: Instant,
    server: Server,
    clients: Vec<(SocketAddr, Client)>,
    flying: Vec<Datagram>,
    /// All destinations so far.
    sent_to: Vec<SocketAddr>,
    events: Vec<Vec<ClientEvent>>,
    /// What the server told its application, logins apart.
    told: Vec<ServerEvent>,
    /// Clients whose application polls nothing.
    away: Vec<bool>,
    /// So does the server's.
    server_away: bool,
}

impl Bench {
    fn new(addresses: &[&str]) -> Self {
        Self::configured(addresses, |_| {})
    }

    fn configured(addresses: &[&str], change: impl Fn(&mut ClientConfig)) -> Self {
        Self::served(ServerConfig::new(KEY, 1, [1; 32]), addresses, change)
    }

    fn served(server: ServerConfig, addresses: &[&str], change: impl Fn(&mut ClientConfig)) -> Self {
        let now = Instant::from_millis(1);
        let server = Server::new(now, server).unwrap();
        let clients: Vec<_> = addresses
            .iter()
            .zip(2u8..)
            .map(|(addr, seed)| {
                let mut config = ClientConfig::new(SERVER, server.public_key(), 1, [seed; 32]);
                change(&mut config);
                (addr.parse().unwrap(), Client::new(now, config).unwrap())
            })
            .collect();
        let (events, away) = (vec![Vec::new(); clients.len()], vec![false; clients.len()]);
        let (flying, sent_to, told) = (Vec::new(), Vec::new(), Vec::new());
        let mut bench = Self { now, server, clients, flying, sent_to, events, told, away, server_away: false };
        bench.run(100);
        assert!(bench.clients.iter().all(|(_, c)| c.id().is_some()));
        bench
    }

    fn id(&self, at: usize) -> PeerId {
        self.clients[at].1.id().unwrap()
    }

    fn session(&mut self, at: usize) -> &mut Session {
        match &mut self.clients[at].1.phase {
            Phase::Online(session) => session,
            _ => panic!("online"),
        }
    }

    fn group(&mut self) -> GroupId {
        let ids: Vec<_> = (0..self.clients.len()).map(|at| self.id(at)).collect();
        self.server.create_group(self.now, &ids, GroupOptions::default()).unwrap()
    }

    fn send(&mut self, at: usize, to: impl Into<To>, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        let now = self.now;
        self.clients[at].1.send(now, to, channel, bytes, SendOptions::default())
    }

    fn take(&mut self, from: SocketAddr, out: &Outbox) {
        for (transmit, bytes) in out.sends() {
            let crate::outbox::Via::Datagram { to, .. } = transmit.via else { panic!("a datagram") };
            let from = if to.is_ipv6() && from.is_ipv4() { ipv6::of(from) } else { from };
            self.sent_to.push(to);
            let size = transmit.segment.map_or(bytes.len(), usize::from);
            self.flying.extend(bytes.chunks(size).map(|b| Datagram { from, to, bytes: b.into() }));
        }
    }

    /// Everyone writes what is due.
    fn transmit(&mut self) {
        let mut out = Outbox::with_capacity(64 * 1024, 64);
        self.server.transmit(self.now, &mut out);
        self.take(SERVER, &out);
        for at in 0..self.clients.len() {
            out.clear();
            let (addr, client) = &mut self.clients[at];
            client.transmit(self.now, &mut out);
            let addr = *addr;
            self.take(addr, &out);
        }
    }

    fn deliver(&mut self, mut datagram: Datagram) {
        let mut out = Outbox::with_capacity(64 * 1024, 64);
        let Datagram { from, to, ref mut bytes } = datagram;
        let ecn = crate::machine::Ecn::NotCapable;
        let input = Input::Datagrams { socket: SocketId::MAIN, from, local: None, ecn, stride: 0, bytes };
        if to == SERVER || to == ipv6::of(SERVER) {
            self.server.handle(self.now, input, &mut out);
        } else if let Some((_, client)) = self.clients.iter_mut().find(|(addr, _)| *addr == to || ipv6::of(*addr) == to)
        {
            client.handle(self.now, input, &mut out);
        }
        self.take(to, &out);
    }

    fn poll(&mut self) {
        let mut payload = Vec::new();
        while !self.server_away
            && let Some(event) = self.server.poll_event(self.now, &mut payload)
        {
            match event {
                ServerEvent::LoginRequested { login, .. } => {
                    self.server.accept(self.now, login, b"", b"").unwrap();
                }
                event => self.told.push(event),
            }
        }
        for (at, (_, client)) in self.clients.iter_mut().enumerate().filter(|(at, _)| !self.away[*at]) {
            while let Some(event) = client.poll_event(self.now, &mut payload) {
                self.events[at].push(event);
            }
        }
    }

    /// Lets `ms` milliseconds pass, a millisecond at a time.
    fn run(&mut self, ms: u64) {
        self.run_losing(ms, |_| false);
    }

    /// The same, while datagrams get lost.
    fn run_losing(&mut self, ms: u64, mut lost: impl FnMut(&Datagram) -> bool) {
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            self.transmit();
            for datagram in core::mem::take(&mut self.flying) {
                if !lost(&datagram) {
                    self.deliver(datagram);
                }
            }
            self.poll();
        }
    }

    fn messages(&self, at: usize) -> usize {
        self.events[at].iter().filter(|e| matches!(e, ClientEvent::Message(_))).count()
    }
}

const FAR_APART: [&str; 3] = ["203.0.113.1:4000", "203.0.113.2:4000", "203.0.113.3:4000"];
const RELIABLE: Channel = Channel::reliable(0);

#[test]
fn a_peer_that_broke_the_protocol_costs_nothing_more_and_holds_up_no_send_to_a_group() {
    let mut bench = Bench::new(&FAR_APART);
    let group = bench.group();
    bench.run(50);
    let villain = bench.id(1);
    // Another share than before, and of low order.
    let slot = bench.session(1).by_id.len() as u32;
    for slot in 1..=slot {
        bench.session(1).peer_mut(slot).link.transport().queue_key_share([0; 32]);
        bench.session(1).refresh(slot);
    }
    bench.run(200);
    assert_eq!(bench.clients[0].1.counters().violations, 1);
    let chunk = vec![0; 32 * 1024];
    for _ in 0..64 {
        let sent = bench.send(0, group, RELIABLE, &chunk).expect("the third takes it");
        assert_eq!(sent.receivers, 1);
        bench.run(40);
    }
    assert_eq!(bench.messages(2), 64);
    assert_eq!(bench.send(0, villain, RELIABLE, b"x"), Err(SendError::Gone));
    let wake = bench.clients[0].1.wake().unwrap().0;
    assert!(wake > bench.now, "due without progress");
}

#[test]
fn nobody_probes_an_address_that_a_peer_names_unless_it_is_on_their_own_network() {
    let mut bench = Bench::new(&["203.0.113.1:4000", "203.0.113.1:4001"]);
    let (victim, local) = ("192.0.2.66:53".parse().unwrap(), "192.168.7.7:4000".parse().unwrap());
    let loopback = "127.0.0.1:631".parse().unwrap();
    let candidates = [victim, loopback, local].into_iter().collect();
    let now = bench.now;
    bench.session(1).tell(now, &ToServer::HostCandidates { candidates });
    bench.run(10);
    bench.group();
    bench.run(2000);
    assert!(bench.sent_to.contains(&local), "both have one public address");
    assert!(!bench.sent_to.contains(&victim) && !bench.sent_to.contains(&loopback));
}

#[test]
fn a_client_believes_no_server_that_names_many_strangers() {
    let list = ["10.1.2.3:1", "192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[fd00::1]:1"];
    let list = list.map(|a| a.parse().unwrap());
    let kept = session::believable(&list.into_iter().collect());
    assert_eq!(kept.as_slice(), [list[0], list[1], list[3], list[5]]);
}

#[test]
fn eight_local_addresses_do_not_crowd_out_the_one_that_the_server_observed() {
    let mut bench = Bench::new(&["203.0.113.1:4000", "203.0.113.1:4001"]);
    let interfaces: Vec<IpAddr> = (1..=8).map(|n| IpAddr::from([192, 168, 0, n])).collect();
    let mut out = Outbox::with_capacity(8192, 8);
    let opened = SocketInput::Opened { local: "0.0.0.0:4001".parse().unwrap(), max_segments: 1 };
    bench.clients[1].1.handle(bench.now, Input::Socket(SocketId::MAIN, opened), &mut out);
    bench.clients[1].1.handle(bench.now, Input::Interfaces(&interfaces), &mut out);
    bench.run(10);
    bench.group();
    bench.run(100);
    assert!(matches!(bench.clients[0].1.peers().next().unwrap().path, Path::Direct { .. }));
}

#[test]
fn an_application_that_never_polls_is_owed_no_more_marks_than_messages() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.run(50);
    bench.away[1] = true;
    for n in 0..20_000u32 {
        let _ = bench.send(0, group, Channel::unreliable(0), &n.to_be_bytes());
        if n % 10 == 0 {
            bench.run(1);
        }
    }
    let most = most_ready(&Limits::default());
    assert!(bench.clients[1].1.queue.len() <= most + 8, "{}", bench.clients[1].1.queue.len());
    bench.away[1] = false;
    bench.run(1);
    let got = bench.messages(1);
    assert!(got > 0);
    bench.send(0, group, RELIABLE, b"and it goes on").unwrap();
    bench.run(20);
    assert_eq!(bench.messages(1), got + 1);
}

#[test]
fn a_packet_that_outruns_the_join_of_its_sender_is_used_once_the_join_is_there() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.transmit();
    // What the server tells the second client is late.
    let receiver = bench.clients[1].0;
    let (late, now): (Vec<_>, Vec<_>) = core::mem::take(&mut bench.flying).into_iter().partition(|d| d.to == receiver);
    assert!(!late.is_empty());
    now.into_iter().for_each(|d| bench.deliver(d));
    bench.send(0, group, RELIABLE, b"first").unwrap();
    bench.transmit();
    let wraps: Vec<_> = core::mem::take(&mut bench.flying).into_iter().filter(|d| d.to == SERVER).collect();
    wraps.into_iter().for_each(|d| bench.deliver(d));
    // The server put the join beside the packet once more, and in front of it; that is lost or late, too.
    let forwarded: Vec<_> = core::mem::take(&mut bench.flying).into_iter().filter(|d| d.to == receiver).collect();
    assert!(forwarded.len() >= 2, "the join and the packet");
    let last = forwarded.into_iter().last().unwrap();
    bench.deliver(last);
    assert_eq!(bench.clients[1].1.counters().held, 1);
    late.into_iter().for_each(|d| bench.deliver(d));
    bench.poll();
    bench.poll();
    assert_eq!(bench.messages(1), 1, "without a further packet from anyone");
}

#[test]
fn a_loopback_message_of_a_group_that_is_over_leaves_nothing_in_the_next_ones_payload() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    let groups = [bench.group(), bench.group()];
    bench.run(20);
    bench.away[0] = true;
    for (group, bytes) in groups.into_iter().zip([b"one", b"two"]) {
        let options = SendOptions::default().loopback();
        bench.clients[0].1.send(bench.now, group, RELIABLE, bytes, options).unwrap();
    }
    bench.server.destroy_group(bench.now, groups[0]).unwrap();
    bench.run(20);
    let mut payload = Vec::new();
    let event = bench.clients[0].1.poll_event(bench.now, &mut payload);
    assert!(matches!(event, Some(ClientEvent::Message(m)) if m.group == Some(groups[1])));
    assert_eq!(payload, b"two");
}

#[test]
fn loopback_messages_that_nobody_polls_are_bounded_and_a_reliable_one_says_so() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    let (group, me) = (bench.group(), bench.id(0));
    bench.run(20);
    bench.away[0] = true;
    let options = SendOptions::default().loopback();
    let chunk = vec![0; 1000];
    let results: Vec<_> =
        (0..1200).map(|_| bench.clients[0].1.send(bench.now, group, RELIABLE, &chunk, options)).collect();
    assert_eq!(results.last(), Some(&Err(SendError::Full { to: me })));
    assert!(bench.clients[0].1.queue.len() < 1100);
    bench.away[0] = false;
    bench.run(1);
    assert!(bench.events[0].contains(&ClientEvent::Writable { to: me, channel: RELIABLE }));
}

#[test]
fn what_came_before_the_end_is_told_before_the_end_and_nothing_after_it() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    let me = bench.id(0);
    bench.away[0] = true;
    bench.server.send(bench.now, me, RELIABLE, b"you are banned", SendOptions::default()).unwrap();
    bench.run(20);
    bench.server.disconnect(bench.now, me).unwrap();
    bench.run(20);
    let before = bench.events[0].len();
    bench.away[0] = false;
    bench.run(1);
    let told = &bench.events[0][before..];
    assert!(matches!(told, [ClientEvent::Message(_), ClientEvent::Ended(EndReason::Remote)]), "{told:?}");
    assert!(bench.clients[0].1.wake().is_none());
    assert!(matches!(bench.clients[0].1.phase, Phase::Over));
}

#[test]
fn the_link_to_the_server_is_the_only_one_with_control_messages() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    bench.group();
    bench.run(50);
    let now = bench.now;
    let link = &mut bench.session(1).peer_mut(1).link;
    link.transport().send_next(now, Scope::Control, &[0; 40]).unwrap();
    bench.session(1).refresh(1);
    bench.run(50);
    assert_eq!(bench.clients[0].1.counters().violations, 1);
}

#[test]
fn a_client_that_floods_reports_and_requests_makes_one_event_and_one_round_of_punching() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    bench.group();
    bench.run(1500);
    let (peer, now) = (bench.id(0), bench.now);
    let epoch = bench.session(1).peer_mut(1).epoch;
    let before = bench.sent_to.len();
    for n in 0..400 {
        let because = if n % 2 == 0 { RelayReason::NoAnswer } else { RelayReason::OnlyInbound };
        bench.session(1).tell(now, &ToServer::PathReport { peer, epoch, path: Path::Relayed { because } });
        bench.session(1).tell(now, &ToServer::RequestPunch { peer, epoch });
    }
    // The server's application is away for these.
    for _ in 0..50 {
        bench.now = bench.now + Duration::from_millis(1);
        bench.transmit();
        core::mem::take(&mut bench.flying).into_iter().for_each(|d| bench.deliver(d));
    }
    let (mut payload, mut told) = (Vec::new(), Vec::new());
    while let Some(event) = bench.server.poll_event(bench.now, &mut payload) {
        told.extend(matches!(event, ServerEvent::PathChanged { .. }).then_some(event));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let sent = bench.sent_to.len() - before;
    assert!(sent < 200, "{sent} datagrams");
    assert_eq!(bench.server.counters().violations, 0);
}

/// Lets time pass while somebody on the way sends each of the first client's packets to the server on before it gets there,
/// from an own address, and hands on to that client whatever comes back. Says how many bytes it was sent, and how large
/// the largest datagram was.
fn run_with_copier(bench: &mut Bench, ms: u64, copier: SocketAddr) -> (usize, usize) {
    let (victim, mut bytes, mut largest) = (bench.clients[0].0, 0, 0);
    for _ in 0..ms {
        bench.now = bench.now + Duration::from_millis(1);
        bench.transmit();
        for mut datagram in core::mem::take(&mut bench.flying) {
            if (datagram.from, datagram.to) == (victim, SERVER) {
                let copy = Datagram { from: copier, to: SERVER, bytes: datagram.bytes.clone() };
                bench.deliver(copy);
            } else if datagram.to == copier {
                (bytes, largest) = (bytes + datagram.bytes.len(), largest.max(datagram.bytes.len()));
                datagram.to = victim;
            }
            bench.deliver(datagram);
        }
        bench.poll();
    }
    (bytes, largest)
}

#[test]
fn who_copies_a_clients_packets_and_is_quicker_neither_moves_the_session_nor_gets_its_data() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.run(50);
    let (me, copier) = (bench.id(0), "192.0.2.66:666".parse().unwrap());
    let (mut bytes, mut largest) = (0, 0);
    for _ in 0..50 {
        bench.send(0, group, RELIABLE, &[1; 400]).unwrap();
        bench.send(0, PeerId::SERVER, RELIABLE, &[2; 400]).unwrap();
        bench.server.send(bench.now, me, RELIABLE, &[3; 400], SendOptions::default()).unwrap();
        let got = run_with_copier(&mut bench, 100, copier);
        (bytes, largest) = (bytes + got.0, largest.max(got.1));
    }
    assert_eq!((bench.messages(0), bench.messages(1)), (50, 50));
    assert_eq!(bench.server.counters().moved, 0);
    assert!(bytes > 0 && largest < 60, "challenges only, the largest of {largest} bytes");
    assert!(bytes < 6 * 60, "one a second, but {bytes} bytes in five seconds");
}

#[test]
fn a_client_at_a_new_address_keeps_its_session_its_groups_and_its_direct_path() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.run(1500);
    let (me, moved) = (bench.id(0), "203.0.113.77:4777".parse().unwrap());
    bench.clients[0].0 = moved;
    bench.send(0, PeerId::SERVER, RELIABLE, b"I am here").unwrap();
    bench.server.send(bench.now, me, RELIABLE, b"to wherever", SendOptions::default()).unwrap();
    bench.send(1, group, RELIABLE, b"to wherever").unwrap();
    bench.run(400);
    assert_eq!((bench.server.counters().moved, bench.messages(0)), (1, 2));
    bench.send(0, group, RELIABLE, b"directly").unwrap();
    bench.run(400);
    let direct = |e: &&ClientEvent| matches!(e, ClientEvent::Message(m) if m.direct && m.group == Some(group));
    assert_eq!(bench.events[1].iter().filter(direct).count(), 1);
    assert!(bench.clients.iter().all(|(_, c)| matches!(c.peers().next().unwrap().path, Path::Direct { .. })));
}

#[test]
fn what_a_client_sends_its_peers_by_the_relay_from_a_new_address_is_forwarded_and_moves_its_session() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.run(2);
    bench.clients[0].0 = "203.0.113.77:4777".parse().unwrap();
    let before = bench.server.counters().forwarded;
    bench.send(0, group, RELIABLE, b"by the relay").unwrap();
    bench.transmit();
    let wraps = core::mem::take(&mut bench.flying).into_iter().filter(|d| d.to == SERVER && d.bytes[0] == 0x83);
    wraps.collect::<Vec<_>>().into_iter().for_each(|d| bench.deliver(d));
    assert!(bench.server.counters().forwarded > before);
    bench.run(1500);
    assert_eq!((bench.server.counters().moved, bench.messages(1)), (1, 1));
}

/// Every fifth datagram is lost.
fn every_fifth() -> impl FnMut(&Datagram) -> bool {
    let mut count = 0;
    move |_| {
        count += 1;
        count % 5 == 0
    }
}

#[test]
fn what_a_server_sent_before_it_disconnects_a_client_arrives_before_the_end() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    let me = bench.id(0);
    bench.run(20);
    let before = bench.events[0].len();
    for _ in 0..20 {
        bench.server.send(bench.now, me, RELIABLE, &[7; 300], SendOptions::default()).unwrap();
    }
    bench.server.disconnect(bench.now, me).unwrap();
    assert!(bench.server.send(bench.now, me, RELIABLE, b"too late", SendOptions::default()).is_err());
    bench.run_losing(1500, every_fifth());
    let told = &bench.events[0][before..];
    assert_eq!(told.iter().filter(|e| matches!(e, ClientEvent::Message(_))).count(), 20);
    assert!(matches!(told.last(), Some(ClientEvent::Ended(EndReason::Remote))), "{told:?}");
}

#[test]
fn what_a_client_sent_before_its_logout_reaches_the_server_and_its_peers_before_the_word_of_it() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let group = bench.group();
    bench.run(500);
    let (me, before) = (bench.id(0), bench.told.len());
    for _ in 0..10 {
        bench.send(0, PeerId::SERVER, RELIABLE, &[7; 300]).unwrap();
        bench.send(0, group, RELIABLE, &[8; 300]).unwrap();
    }
    let now = bench.now;
    bench.clients[0].1.disconnect(now);
    assert_eq!(bench.send(0, group, RELIABLE, b"too late"), Err(SendError::Gone));
    bench.run_losing(1500, every_fifth());
    assert_eq!(bench.messages(1), 10);
    let told = &bench.told[before..];
    assert_eq!(told.iter().filter(|e| matches!(e, ServerEvent::Message(_))).count(), 10);
    let left = ServerEvent::ClientLeft { client: me, why: EndReason::Remote };
    let last = told.iter().rfind(|e| matches!(e, ServerEvent::Message(_) | ServerEvent::ClientLeft { .. }));
    assert_eq!(last, Some(&left));
}

#[test]
fn a_second_logout_waits_for_nothing() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    bench.send(0, PeerId::SERVER, RELIABLE, &[7; 3000]).unwrap();
    let (me, now) = (bench.id(0), bench.now);
    bench.clients[0].1.disconnect(now);
    bench.clients[0].1.disconnect(now);
    bench.run(1);
    assert!(bench.told.contains(&ServerEvent::ClientLeft { client: me, why: EndReason::Remote }));
    assert_eq!(bench.events[0].iter().filter(|e| matches!(e, ClientEvent::Ended(_))).count(), 1);
}

#[test]
fn a_server_that_was_not_polled_hands_messages_on_before_it_tells_that_their_sender_left() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    bench.run(20);
    let (me, before) = (bench.id(0), bench.told.len());
    bench.server_away = true;
    for _ in 0..5 {
        bench.send(0, PeerId::SERVER, RELIABLE, b"the score").unwrap();
    }
    bench.run(20);
    let now = bench.now;
    bench.clients[0].1.disconnect(now);
    bench.run(3000);
    assert_eq!((bench.server.size().clients, bench.server.size().sessions), (0, 1), "kept for its messages");
    bench.server_away = false;
    bench.run(1);
    let told = &bench.told[before..];
    assert!(told[..5].iter().all(|e| matches!(e, ServerEvent::Message(_))), "{told:?}");
    assert_eq!(told[5..], [ServerEvent::ClientLeft { client: me, why: EndReason::Remote }]);
    assert_eq!(bench.server.size().sessions, 0);
}

#[test]
fn what_a_member_sent_before_it_left_is_told_to_an_application_that_polls_late_and_before_the_leave() {
    for leaves_alone in [false, true] {
        let mut bench = Bench::new(&FAR_APART);
        let group = bench.group();
        bench.run(50);
        bench.away[1] = true;
        let (from, to) = (bench.id(0), bench.id(1));
        for _ in 0..20 {
            bench.send(0, group, RELIABLE, b"to all").unwrap();
            bench.send(0, to, RELIABLE, b"to one").unwrap();
        }
        bench.run(100);
        if leaves_alone {
            bench.server.leave_group(bench.now, from, group).unwrap();
        } else {
            let now = bench.now;
            bench.clients[0].1.disconnect(now);
        }
        bench.run(2000);
        assert_eq!(bench.messages(1), 0);
        bench.away[1] = false;
        bench.run(5);
        let of_it = |e: &&ClientEvent| match e {
            ClientEvent::Message(m) => m.from == from,
            ClientEvent::MemberLeft { member, .. } => *member == from,
            _ => false,
        };
        let told: Vec<_> = bench.events[1].iter().filter(of_it).collect();
        assert_eq!((bench.messages(1), told.len()), (40, 41));
        assert!(matches!(told.last(), Some(ClientEvent::MemberLeft { .. })));
    }
}

#[test]
fn what_members_leave_behind_for_an_application_that_never_polls_is_bounded() {
    let mut bench = Bench::new(&FAR_APART);
    let group = bench.group();
    bench.run(50);
    bench.away[1] = true;
    let chunk = vec![0; 60_000];
    for from in [0, 2] {
        let to = bench.id(1);
        while bench.send(from, to, RELIABLE, &chunk).is_ok() {
            bench.run(20);
        }
    }
    let bound = bench.clients[1].1.config.limits.receive_buffer;
    for from in [0, 2] {
        let member = bench.id(from);
        bench.server.leave_group(bench.now, member, group).unwrap();
        bench.run(100);
    }
    bench.away[1] = false;
    let (mut payload, mut bytes) = (Vec::new(), 0);
    while let Some(event) = bench.clients[1].1.poll_event(bench.now, &mut payload) {
        bytes += payload.len();
        bench.events[1].push(event);
    }
    assert!(bytes > chunk.len() && bytes <= bound + chunk.len(), "{bytes} bytes");
    let left = |e: &&ClientEvent| matches!(e, ClientEvent::MemberLeft { .. });
    assert_eq!(bench.events[1].iter().filter(left).count(), 2);
}

#[test]
fn a_goodbye_that_was_lost_is_said_again_by_either_end() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    bench.run(20);
    let (first, second, now) = (bench.id(0), bench.id(1), bench.now);
    bench.clients[0].1.disconnect(now);
    bench.server.disconnect(now, second).unwrap();
    bench.run_losing(5, |_| true);
    assert_eq!(bench.server.size().clients, 1, "the server has not heard");
    bench.run(1000);
    assert!(bench.told.contains(&ServerEvent::ClientLeft { client: first, why: EndReason::Remote }));
    assert!(matches!(bench.events[1].last(), Some(ClientEvent::Ended(EndReason::Remote))));
}

#[test]
fn who_missed_every_goodbye_is_told_when_it_speaks_and_then_nothing_is_left() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    bench.run(20);
    let (me, now) = (bench.id(0), bench.now);
    bench.server.disconnect(now, me).unwrap();
    bench.run_losing(900, |d| d.from == SERVER);
    assert!(!bench.events[0].iter().any(|e| matches!(e, ClientEvent::Ended(_))));
    bench.send(0, PeerId::SERVER, RELIABLE, b"still there?").unwrap();
    bench.run(2_000);
    assert!(matches!(bench.events[0].last(), Some(ClientEvent::Ended(EndReason::Remote))));
    bench.run(6000);
    assert_eq!((bench.server.size().sessions, bench.server.wake()), (0, None));
    assert_eq!(bench.clients[0].1.wake(), None);
}

/// The peers of the first client with whom its paths are such.
fn peers_with(bench: &Bench, wanted: impl Fn(Path) -> bool) -> Vec<PeerId> {
    bench.clients[0].1.peers().filter(|peer| wanted(peer.path)).map(|peer| peer.id).collect()
}

fn is_direct(path: Path) -> bool {
    matches!(path, Path::Direct { .. })
}

const CROWDED: Path = Path::Relayed { because: RelayReason::Crowded };

#[test]
fn a_peer_that_waits_for_a_place_and_breaks_the_protocol_gets_none_and_holds_nobody_up() {
    let mut bench = Bench::configured(&FAR_APART, |config| config.limits.direct_peers = 1);
    bench.group();
    bench.run(3_000);
    let (direct, waiting) = (peers_with(&bench, is_direct), peers_with(&bench, |path| path == CROWDED));
    let [[holder], [waits]] = [direct, waiting].map(|peers| <[PeerId; 1]>::try_from(peers).unwrap());
    let bad = (1..3).find(|at| bench.id(*at) == waits).unwrap();
    let (me, now) = (bench.id(0), bench.now);
    let slot = bench.session(bad).by_id[&me];
    bench.session(bad).peer_mut(slot).link.transport().queue_key_share([0; 32]);
    bench.send(bad, me, RELIABLE, b"").unwrap();
    bench.run(200);
    assert_eq!(bench.clients[0].1.counters().violations, 1);
    bench.server.disconnect(now, holder).unwrap();
    bench.run(5_000);
    assert!(peers_with(&bench, is_direct).is_empty());
    assert!(!bench.session(0).policies.is_due());
}

#[test]
fn peers_without_traffic_do_not_take_turns_in_the_places_for_direct_paths() {
    let addresses = [&FAR_APART[..], &["203.0.113.77:7"]].concat();
    let mut bench = Bench::configured(&addresses, |config| {
        config.limits.direct_peers = 1;
        config.policy.punch = crate::policy::PunchPolicy::OnTraffic;
    });
    bench.group();
    bench.run(2_000);
    let before = bench.sent_to.len();
    bench.run(10_000);
    let sent = bench.sent_to.len() - before;
    assert!(sent < 100, "{sent} datagrams of four that are idle");
    assert_eq!(peers_with(&bench, |path| path == CROWDED).len(), 2);
}

#[test]
fn what_is_sent_to_a_list_is_traffic_that_opens_holes() {
    let mut bench = Bench::configured(&FAR_APART[..2], |config| {
        config.policy.punch = crate::policy::PunchPolicy::OnTraffic;
    });
    bench.group();
    bench.run(2_000);
    assert!(peers_with(&bench, is_direct).is_empty());
    let (to, now) = (crate::command::Target::Peer(bench.id(1)), bench.now);
    bench.clients[0].1.send_list(now, &[to], RELIABLE, b"hello", SendOptions::default()).unwrap();
    bench.run(2_000);
    assert_eq!(peers_with(&bench, is_direct).len(), 1);
}

#[test]
fn a_group_that_ends_takes_its_policy_with_it() {
    let mut bench = Bench::new(&FAR_APART[..2]);
    let (ids, now) = ([bench.id(0), bench.id(1)], bench.now);
    let relayed = GroupOptions { policy: Some(PathPolicy::RELAY_ONLY), ..GroupOptions::default() };
    let strict = bench.server.create_group(now, &ids, relayed).unwrap();
    bench.group();
    bench.run(2_000);
    assert!(peers_with(&bench, is_direct).is_empty());
    let now = bench.now;
    bench.server.destroy_group(now, strict).unwrap();
    bench.run(2_000);
    assert_eq!(peers_with(&bench, is_direct).len(), 1);
}

#[test]
fn whose_wishes_change_all_the_time_is_heard_at_a_pace_and_in_the_end() {
    let mut bench = Bench::new(&FAR_APART);
    bench.group();
    bench.run(1_000);
    let all = PeerId::SERVER;
    let other = bench.clients[1].0;
    let mut bytes = 0;
    for n in 0..10_000_u32 {
        let policy = if n % 2 == 0 { PathPolicy::RELAY_ONLY } else { PathPolicy::default() };
        let now = bench.now;
        bench.session(0).tell(now, &ToServer::Policy { peer: all, policy });
        if n % 50 == 49 {
            bench.run_losing(5, |datagram| {
                bytes += if datagram.from == SERVER && datagram.to == other { datagram.bytes.len() } else { 0 };
                false
            });
        }
    }
    // Each costs the server 20 bytes a peer and more.
    assert!(bytes < 100_000, "{bytes} bytes");
    let (now, policy) = (bench.now, PathPolicy::RELAY_ONLY);
    bench.session(0).tell(now, &ToServer::Policy { peer: all, policy });
    bench.run(3_000);
    let (a, b) = (bench.id(0), bench.id(1));
    assert_eq!(bench.server.policy(a, b).map(|policy| policy.allows_direct()), Some(false));
    assert!(bench.clients.iter().all(|(_, client)| client.id().is_some()));
    let direct: Vec<_> = bench.clients[1].1.peers().map(|peer| (peer.id == a, is_direct(peer.path))).collect();
    assert_eq!(direct, [(true, false), (false, true)]);
}
