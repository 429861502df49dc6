//! Searches for a direct path keep within their budgets, and reach nobody but the peer, behind any two NATs.

use posse_core::config::SearchLimits;
use posse_core::{Duration, Instant};
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{ClientIndex, Scenario, Tried};
use posse_sim::{Allocation, DropReason, Event, Filtering, Mapping, Nat, Observer};
use proptest::prelude::*;
use proptest::sample::select;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// Two homes; the group forms when the server knows their NATs, and the run lasts until every search is over.
const PAIR: &str = r#"
title = "two homes"
duration = "50s"
[server]
doors = "address"
link = { delay = "20ms" }
[nat.home-a]
mapping = "endpoint-independent"
filtering = "endpoint-independent"
link = { delay = "10ms" }
[nat.home-b]
mapping = "endpoint-independent"
filtering = "endpoint-independent"
link = { delay = "15ms" }
[client.a]
behind = "home-a"
[client.b]
behind = "home-b"
[[step]]
do = "create-group"
at = "3s"
group = "pair"
members = ["a", "b"]
"#;

/// Datagrams of plain punching that one end sends in a second: a candidate's fast challenges, the answers to as many, and what
/// peer-reflexive candidates add.
const PLAIN_A_SECOND: usize = 3 * 56;

/// What leaves each host, and for whom.
#[derive(Default)]
struct Watch {
    sent: BTreeMap<usize, Vec<(Instant, IpAddr)>>,
    opened: BTreeMap<usize, usize>,
}

impl Observer for Watch {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        match event {
            Event::Sent { host, packet, .. } => self.sent.entry(*host).or_default().push((at, packet.to.ip())),
            Event::SocketOpened { host, .. } => *self.opened.entry(*host).or_default() += 1,
            _ => {}
        }
    }
}

fn nat() -> impl Strategy<Value = Nat> {
    let kinds = (select(&Mapping::ALL[..]), select(&Filtering::ALL[..]), select(&Allocation::ALL[..]));
    (kinds, select(vec![1, -1, 3]), proptest::option::of(100u64..3000)).prop_map(|((m, f, ports), stride, traffic)| {
        let cross_traffic = traffic.map(Duration::from_millis);
        Nat { cross_traffic, ..Nat::new(m, f).allocation(ports).stride(stride) }
    })
}

fn scenario(a: Nat, b: Nat) -> Scenario {
    let mut scenario = Scenario::parse("pair", PAIR).expect("a scenario");
    (scenario.nats[0].nat, scenario.nats[1].nat) = (a, b);
    scenario
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_search_reaches_the_peer_alone_at_its_rate_and_within_its_budget(a in nat(), b in nat(), seed in 0u64..1000) {
        let scenario = scenario(a, b);
        let watch = Rc::new(RefCell::new(Watch::default()));
        let mut run = Run::observed(&scenario, seed, vec![Box::new(Rc::clone(&watch))]).unwrap();
        run.advance(scenario.duration, |_| false);
        let limits = SearchLimits::default();
        let server: BTreeSet<_> = (0..2).map(|n| IpAddr::from(Ipv4Addr::from_bits(run.world().public_ip(run.server()).to_bits() + n))).collect();
        for (me, peer) in [(0, 1), (1, 0)] {
            let [node, other] = [me, peer].map(|n| run.client(ClientIndex(n)).unwrap());
            let there = run.world().public_ip(other);
            let watch = watch.borrow();
            let sent = watch.sent.get(&node.index()).cloned().unwrap_or_default();
            prop_assert!(sent.iter().all(|(_, to)| *to == there || server.contains(to)), "a stranger is reached");
            let straight: Vec<_> = sent.iter().filter(|(_, to)| *to == there).map(|(at, _)| *at).collect();
            for (i, at) in straight.iter().enumerate() {
                let within = straight[i..].iter().take_while(|other| other.since(*at) < Duration::from_secs(1)).count();
                prop_assert!(within <= usize::from(limits.probes_per_second) + PLAIN_A_SECOND, "{within} in a second");
            }
            let all = usize::from(limits.probes) + 3 * limits.sockets + 1200;
            prop_assert!(straight.len() <= all, "{} in all", straight.len());
            // Each of three predictions measures with some, too.
            let opened = watch.opened.get(&node.index()).copied().unwrap_or(0);
            prop_assert!(opened <= limits.sockets + 4 * 4, "{opened} sockets");
        }
        let outcome = run.finish();
        prop_assert!(outcome.held(), "{:?}", outcome.broken());
    }
}

#[test]
fn a_search_of_many_sockets_and_ports_is_the_same_in_each_run_of_a_seed() {
    let scenario = scenario(Nat::home(), Nat::symmetric());
    let run = |seed| posse_sim::scenario::run::run(&scenario, seed).unwrap();
    let (one, again, other) = (run(7), run(7), run(8));
    assert_eq!(one, again);
    assert_ne!(one.digest, other.digest);
    assert!(one.pairs[0].both_direct().is_some(), "that is what was searched for");
}

/// Routers of Linux whose own hosts take in what comes unasked.
fn open_input() -> Scenario {
    let text = include_str!("../../scenarios/open-input.toml");
    Scenario::parse("open-input", text).expect("a scenario")
}

#[test]
fn routers_that_spoil_holes_are_opened_by_packets_that_die_on_the_way_and_by_nothing_else() {
    for doors in [posse_sim::scenario::ServerDoors::None, posse_sim::scenario::ServerDoors::Address] {
        for (techniques, direct) in [(Tried::Plain, false), (Tried::Predict, false), (Tried::All, true)] {
            // Where the new sockets' ports look like a sequence, prediction comes first.
            let scenario = Scenario { techniques, doors, duration: Duration::from_secs(25), ..open_input() };
            let outcome = posse_sim::scenario::run::run(&scenario, 1).unwrap();
            assert_eq!(outcome.pairs[0].both_direct().is_some(), direct, "{doors:?}, {techniques:?}");
        }
    }
}

#[test]
fn openers_reach_nobody_and_what_does_comes_after_both_routers_are_open() {
    #[derive(Default)]
    struct Lives(Vec<(DropReason, u8)>);
    impl Observer for Lives {
        fn event(&mut self, _: Instant, event: &Event<'_>) {
            if let Event::Dropped { why, packet, .. } = event {
                self.0.push((*why, packet.hops));
            }
        }
    }
    let lives = Rc::new(RefCell::new(Lives::default()));
    let scenario = open_input();
    let mut run = Run::observed(&scenario, 1, vec![Box::new(Rc::clone(&lives))]).unwrap();
    run.advance(scenario.duration, |_| false);
    let died = lives.borrow().0.iter().filter(|(why, _)| *why == DropReason::HopLimit).count();
    assert!((4..=20).contains(&died), "{died}");
    let opened = run.finish().pairs.remove(0).from_a.report.unwrap().searches.opened;
    assert_eq!(opened, 1);
}

#[test]
fn without_other_doors_nothing_is_known_and_nothing_but_one_new_socket_is_tried_at_a_time() {
    let mut scenario = scenario(Nat::home(), Nat::symmetric());
    scenario.doors = posse_sim::scenario::ServerDoors::None;
    let watch = Rc::new(RefCell::new(Watch::default()));
    let mut run = Run::observed(&scenario, 1, vec![Box::new(Rc::clone(&watch))]).unwrap();
    run.advance(scenario.duration, |_| false);
    assert!(watch.borrow().opened.values().all(|opened| *opened == 2), "one for each opening");
    assert!(run.finish().pairs[0].both_direct().is_none());
}

#[test]
fn with_a_second_port_alone_a_symmetric_nat_is_still_known_for_one() {
    use posse_core::{Path, RelayReason};
    let mut scenario = scenario(Nat::symmetric(), Nat::symmetric());
    scenario.doors = posse_sim::scenario::ServerDoors::Port;
    let pair = posse_sim::scenario::run::run(&scenario, 1).unwrap().pairs.remove(0);
    let unpredictable = Some(Path::Relayed { because: RelayReason::Unpredictable });
    assert_eq!([pair.from_a.last, pair.from_b.last], [unpredictable; 2]);
}
