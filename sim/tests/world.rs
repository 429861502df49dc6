//! The world, its links and its faults, seen through machines that echo.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use posse_core::{
    Duration, Ecn, Input, Instant, Machine, Outbox, Request, SocketId, SocketInput, Tap, Transmit, Via, Wake,
};
use posse_sim::machines::{EchoClient, EchoServer};
use posse_sim::{Chance, DropReason, Event, Filtering, Link, Mapping, Nat, Node, Observer, Stuck, World};
use std::cell::RefCell;
use std::rc::Rc;

const SECOND: Duration = Duration::from_secs(1);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server on the internet, 10 ms away, and a client behind `nats` nested NATs, each 5 ms.
fn echo(seed: u64, link: Link, pings: u64, nats: usize) -> (World, Node<EchoServer>, Node<EchoClient>) {
    let mut world = World::new(seed);
    let internet = world.internet();
    let server = world.host(internet, Link::millis(10), |_, _, _| EchoServer::new());
    let to = world.addr(server);
    let net = (0..nats).fold(internet, |net, _| world.nat(net, Nat::home(), Link::millis(5)));
    let client = world.host(net, link, move |now, _, seed| EchoClient::new(now, to, seed, (pings, 100), millis(10)));
    (world, server, client)
}

#[test]
fn a_ping_comes_back_after_twice_the_sum_of_the_delays() {
    for nats in 0..3 {
        let (mut world, _, client) = echo(1, Link::millis(7), 1, nats as usize);
        let at = world.run_until(SECOND, |w| !w.machine(client).received().is_empty());
        assert_eq!(at, Ok(Instant::from_millis(2 * (10 + 7 + 5 * nats))));
    }
}

#[test]
fn every_packet_is_delivered_dropped_or_under_way() {
    let faulty = Link::millis(20)
        .loss(Chance::percent(5))
        .duplicate(Chance::percent(5))
        .corrupt(Chance::percent(5))
        .reorder(Chance::percent(5), millis(3))
        .jitter(millis(4))
        .rate(200_000, 1000);
    let (mut world, _, client) = echo(3, faulty, 2_000, 2);
    for _ in 0..250 {
        world.run_for(millis(97)).unwrap();
        let c = world.counters();
        assert_eq!(c.sent + c.duplicated, c.delivered + c.dropped_total() + world.in_flight());
    }
    let c = world.counters();
    assert!(c.corrupted > 50 && c.duplicated > 50 && c.dropped(DropReason::Loss) > 50, "{c:?}");
    assert_eq!(world.machine(client).sent(), 2_000);
    assert_eq!(world.in_flight(), 0);
}

#[test]
fn a_cut_stops_one_way_or_both_until_healed() {
    let (mut world, server, client) = echo(1, Link::millis(7), 10_000, 1);
    let gained = |world: &mut World| {
        let before = (world.counters().delivered, world.machine(client).received().len());
        world.run_for(SECOND).unwrap();
        let after = (world.counters().delivered, world.machine(client).received().len());
        (after.0 - before.0 - (after.1 - before.1) as u64, after.1 - before.1)
    };
    gained(&mut world);
    assert_eq!(gained(&mut world), (100, 100));
    world.cut_up(server);
    gained(&mut world);
    assert_eq!(gained(&mut world), (100, 0), "pings arrive, echoes do not");
    world.heal(server);
    world.cut(world.net_of(client));
    gained(&mut world);
    assert_eq!(gained(&mut world), (0, 0));
    world.heal(world.net_of(client));
    gained(&mut world);
    assert_eq!(gained(&mut world), (100, 100));
    world.block_between(server, client);
    gained(&mut world);
    assert_eq!(gained(&mut world), (0, 0));
    world.unblock_between(server, client);
    gained(&mut world);
    assert_eq!(gained(&mut world), (100, 100));
}

#[test]
fn who_shared_an_address_with_a_blocked_host_is_free_again_after_the_block_though_that_host_moved_away() {
    let (mut world, server, client) = echo(1, Link::millis(7), 10_000, 1);
    let to = world.addr(server);
    let other = world.host(world.net_of(client), Link::PERFECT, move |now, _, seed| {
        EchoClient::new(now, to, seed, (10_000, 100), millis(10))
    });
    world.run_for(SECOND).unwrap();
    world.block_between(server, client);
    world.move_host(client, world.internet(), Link::PERFECT);
    world.run_for(SECOND).unwrap();
    let (moved, stayed) = (world.machine(client).received().len(), world.machine(other).received().len());
    world.run_for(SECOND).unwrap();
    assert_eq!(world.machine(client).received().len(), moved + 100, "it has another address now");
    assert_eq!(world.machine(other).received().len(), stayed, "it shared the blocked one");
    world.unblock_between(server, client);
    world.run_for(SECOND).unwrap();
    assert!(world.machine(other).received().len() > stayed + 90);
}

#[test]
fn a_rebooted_nat_lets_nothing_in_until_something_goes_out() {
    let (mut world, _, client) = echo(1, Link::millis(7), 1, 1);
    world.run_for(millis(5)).unwrap();
    // The ping is beyond the NAT at 7 ms and the echo is back at the NAT at 37 ms.
    world.run_for(millis(15)).unwrap();
    world.reboot_nat(world.net_of(client));
    world.run_for(SECOND).unwrap();
    assert_eq!(world.counters().dropped(DropReason::NoMapping), 1);
    let now = world.act(client, |m, now| {
        m.say(now, b"anybody there?");
        now
    });
    assert_eq!(now, world.now());
    world.run_for(SECOND).unwrap();
    assert_eq!(world.machine(client).received().len(), 1);
}

#[test]
fn two_hosts_behind_one_nat_reach_each_other_inside_and_outside_only_by_hairpin() {
    for hairpin in [false, true] {
        let mut world = World::new(1);
        let nat = Nat::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent).hairpin(hairpin);
        let home = world.home(nat);
        let server = world.host(home, Link::millis(1), |_, _, _| EchoServer::new());
        let to = world.addr(server);
        let inside = world.host(home, Link::millis(1), move |now, _, s| EchoClient::new(now, to, s, (1, 50), SECOND));
        world.run_for(SECOND).unwrap();
        assert_eq!(world.machine(inside).received(), [(Instant::from_millis(4), 0)]);

        let outside = std::net::SocketAddr::new(world.public_ip(server).into(), 9);
        let client =
            world.host(home, Link::millis(1), move |now, _, s| EchoClient::new(now, outside, s, (1, 50), SECOND));
        world.run_for(SECOND).unwrap();
        assert_eq!(world.counters().dropped(DropReason::Hairpin), u64::from(!hairpin));
        assert_eq!(world.counters().dropped(DropReason::NoMapping), u64::from(hairpin));
        assert!(world.machine(client).received().is_empty());
    }
}

#[test]
fn a_restarted_host_has_a_new_machine_and_another_seed() {
    let (mut world, _, client) = echo(1, Link::millis(7), 5, 1);
    world.run_for(SECOND).unwrap();
    assert_eq!(world.machine(client).received().len(), 5);
    world.restart(client);
    assert_eq!(world.machine(client).received().len(), 0);
    world.run_for(SECOND).unwrap();
    assert_eq!(world.machine(client).received().len(), 5);
}

#[test]
fn a_run_that_cannot_end_says_why() {
    let (mut world, _, client) = echo(1, Link::millis(7), 10, 0);
    let never = world.run_until(millis(20), |_| false);
    assert_eq!(never, Err(Stuck::Limit { at: Instant::from_millis(20) }));
    let idle = world.run_until(SECOND, |w| w.machine(client).received().len() > 10);
    assert_eq!(idle, Err(Stuck::Idle { at: Instant::from_millis(124) }));
}

/// Wants to be woken for something that it never does.
struct Insomniac;

impl Machine for Insomniac {
    fn handle(&mut self, _: Instant, _: Input<'_>, _: &mut Outbox) {}
    fn transmit(&mut self, _: Instant, _: &mut Outbox) {}
    fn request(&mut self) -> Option<Request> {
        None
    }
    fn wake(&self) -> Option<(Instant, Wake)> {
        Some((Instant::from_millis(5), Wake::Keepalive))
    }
    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}

#[test]
fn a_machine_whose_wake_stays_due_is_named_instead_of_looping() {
    let mut world = World::new(1);
    let host = world.host(world.internet(), Link::PERFECT, |_, _, _| Insomniac);
    world.set_name(host, "sleepless");
    let stuck = world.run_for(SECOND).unwrap_err();
    let at = Instant::from_millis(5);
    assert_eq!(stuck, Stuck::Busy { host: 0, name: "sleepless".into(), at, why: Some(Wake::Keepalive) });
    assert!(stuck.to_string().contains("sleepless (host 0) never comes to rest"));
    assert_eq!(world.run_for(SECOND), Err(stuck), "it stays so");
}

/// Sends the given datagrams once its second socket is open; each without end if it is a `runaway`.
struct Sender {
    sends: Vec<(usize, Transmit)>,
    runaway: bool,
    wants: Option<Request>,
    open: bool,
}

const SECOND_SOCKET: SocketId = SocketId(7);

impl Sender {
    fn new(sends: Vec<(usize, Transmit)>) -> Self {
        let wants = Some(Request::OpenSocket { id: SECOND_SOCKET, like: SocketId::MAIN });
        Self { sends, runaway: false, wants, open: false }
    }

    /// Opens no second socket, hence sends nothing.
    fn deaf(mut self) -> Self {
        self.wants = None;
        self
    }
}

impl Machine for Sender {
    fn handle(&mut self, _: Instant, input: Input<'_>, _: &mut Outbox) {
        if let Input::Socket(SECOND_SOCKET, SocketInput::Opened { local, .. }) = input {
            assert_eq!(local.to_string(), "5.0.0.2:49152");
            self.open = true;
        }
    }
    fn transmit(&mut self, _: Instant, out: &mut Outbox) {
        for (len, transmit) in self.sends.iter().filter(|_| self.open) {
            out.reserve(*len).unwrap().fill(1);
            out.commit(*len, *transmit);
        }
        self.open &= self.runaway;
    }
    fn request(&mut self) -> Option<Request> {
        self.wants.take()
    }
    fn wake(&self) -> Option<(Instant, Wake)> {
        None
    }
    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}

/// What arrived anywhere: source port, ECN, length.
#[derive(Default)]
struct Arrivals(Vec<(u16, Ecn, usize)>);

impl Observer for Arrivals {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        if let Event::Delivered { packet, .. } = event {
            self.0.push((packet.from.port(), packet.ecn, packet.bytes.len()));
        }
    }
}

/// What the packets that arrived anywhere carried.
#[derive(Default)]
struct Payloads(Vec<Vec<u8>>);

impl Observer for Payloads {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        if let Event::Delivered { packet, .. } = event {
            self.0.push(packet.bytes.to_vec());
        }
    }
}

/// A listener at 5.0.0.1 and a sender; what arrived where, after a second.
fn send(sends: Vec<(usize, Transmit)>) -> (World, Vec<(u16, Ecn, usize)>) {
    let mut world = World::new(1);
    let arrivals = Rc::new(RefCell::new(Arrivals::default()));
    world.observe(Box::new(Rc::clone(&arrivals)));
    world.host(world.internet(), Link::millis(1), |_, _, _| Sender::new(Vec::new()).deaf());
    world.host(world.internet(), Link::millis(1), move |_, _, _| Sender::new(sends.clone()));
    world.run_for(SECOND).unwrap();
    let arrived = std::mem::take(&mut arrivals.borrow_mut().0);
    (world, arrived)
}

fn to_listener(socket: SocketId) -> Transmit {
    Transmit::datagram(socket, "5.0.0.1:4000".parse().unwrap())
}

#[test]
fn segments_of_one_send_travel_as_single_datagrams_with_their_ecn() {
    let ect0 = Transmit { ecn: Ecn::Ect0, ..to_listener(SECOND_SOCKET) };
    let (_, arrived) = send(vec![(500, ect0), (500, ect0), (20, ect0), (500, to_listener(SocketId::MAIN))]);
    let expected =
        [(49152, Ecn::Ect0, 500), (49152, Ecn::Ect0, 500), (49152, Ecn::Ect0, 20), (4000, Ecn::NotCapable, 500)];
    assert_eq!(arrived, expected);
}

#[test]
fn a_corrupted_packet_arrives_with_one_bit_flipped_and_its_copy_arrives_clean() {
    let corrupt = Link::millis(1).both(|d| (d.corrupt, d.duplicate) = (Chance::ALWAYS, Chance::ALWAYS));
    let mut world = World::new(1);
    let seen = Rc::new(RefCell::new(Payloads::default()));
    world.observe(Box::new(Rc::clone(&seen)));
    world.host(world.internet(), Link::millis(1), |_, _, _| Sender::new(Vec::new()).deaf());
    let sends = vec![(100, to_listener(SocketId::MAIN))];
    world.host(world.internet(), corrupt, move |_, _, _| Sender::new(sends.clone()));
    world.run_for(SECOND).unwrap();
    let flipped = |bytes: &Vec<u8>| bytes.iter().map(|b| (b ^ 1).count_ones()).sum::<u32>();
    assert_eq!(seen.borrow().0.iter().map(flipped).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_datagram_with_a_low_hop_limit_does_not_cross_the_internet() {
    let mut low = to_listener(SocketId::MAIN);
    if let Via::Datagram { hop_limit, .. } = &mut low.via {
        *hop_limit = Some(3);
    }
    let (world, arrived) = send(vec![(10, low), (10, to_listener(SocketId::MAIN))]);
    assert_eq!((arrived.len(), world.counters().dropped(DropReason::HopLimit)), (1, 1));
}

#[test]
fn what_has_no_socket_no_host_or_no_way_is_dropped_and_counted() {
    let to = |to: &str| (10, Transmit::datagram(SocketId::MAIN, to.parse().unwrap()));
    let unknown = (10, to_listener(SocketId(99)));
    let (world, arrived) =
        send(vec![to("5.0.0.1:4001"), to("9.9.9.9:9"), to("10.0.0.2:4000"), to("[::1]:4000"), unknown]);
    let c = world.counters();
    assert!(arrived.is_empty());
    assert_eq!((c.dropped(DropReason::NoSocket), c.dropped(DropReason::NoRoute), c.unsendable), (1, 2, 2));
}

#[test]
fn a_machine_that_sends_without_end_is_named_instead_of_looping() {
    let mut world = World::new(1);
    world.host(world.internet(), Link::PERFECT, |_, _, _| Sender::new(Vec::new()).deaf());
    let mut runaway = Sender::new(vec![(1, to_listener(SocketId::MAIN))]);
    runaway.runaway = true;
    let mut one = Some(runaway);
    world.host(world.internet(), Link::PERFECT, move |_, _, _| one.take().unwrap());
    assert!(matches!(world.run_for(SECOND), Err(Stuck::Busy { host: 1, why: None, .. })));
}

#[test]
fn machines_that_answer_each_other_over_links_without_delay_do_not_stop_the_clock_unnoticed() {
    let mut world = World::new(1);
    let a = world.host(world.internet(), Link::PERFECT, |_, _, _| EchoServer::new());
    let to = world.addr(a);
    let b = world.host(world.internet(), Link::PERFECT, move |now, _, s| EchoClient::new(now, to, s, (1, 40), SECOND));
    world.run_for(SECOND).unwrap();
    assert_eq!(world.machine(b).received().len(), 1);

    // An echo to an echo server never ends.
    let loud = world.host(world.internet(), Link::PERFECT, |_, _, _| EchoServer::new());
    let from = world.addr(loud);
    world.act(loud, |m, now| {
        let input = Input::Datagrams {
            socket: SocketId::MAIN,
            from: to,
            local: Some(from.ip()),
            ecn: Ecn::NotCapable,
            stride: 0,
            bytes: &mut [1],
        };
        m.handle(now, input, &mut Outbox::with_capacity(0, 0));
    });
    assert!(matches!(world.run_for(SECOND), Err(Stuck::Livelock { .. })));
}
