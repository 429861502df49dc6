//! Which ways traffic goes is what the strictest of all who have a say allows, and addresses are told to nobody who has no use for
//! them.

use posse_core::{Duration, Instant, Path, PathPolicy, Prefer, PunchPolicy, RelayReason};
use posse_sim::scenario::run::{Outcome, Run};
use posse_sim::scenario::{ClientIndex, Scenario};
use posse_sim::{Event, Observer};
use proptest::prelude::*;
use proptest::sample::select;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Two homes that punch without trouble, 40 ms of round trip apart; the server is 100 ms away from both.
const PAIR: &str = r#"
title = "two homes"
duration = "20s"
[server]
link = { delay = "40ms" }
[nat.home-a]
mapping = "endpoint-independent"
filtering = "address-and-port-dependent"
link = { delay = "10ms" }
[nat.home-b]
mapping = "endpoint-independent"
filtering = "address-and-port-dependent"
link = { delay = "10ms" }
[client.a]
behind = "home-a"
[client.b]
behind = "home-b"
[[step]]
do = "create-group"
at = "2s"
group = "pair"
members = ["a", "b"]
[[step]]
do = "send"
from = "a"
to = "pair"
at = "5s"
every = "20ms"
times = 500
"#;

/// When each host sent something to which address.
#[derive(Default)]
struct Watch(BTreeMap<usize, Vec<(Instant, IpAddr)>>);

impl Observer for Watch {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        if let Event::Sent { host, packet, .. } = event {
            self.0.entry(*host).or_default().push((at, packet.to.ip()));
        }
    }
}

struct Ran {
    outcome: Outcome,
    /// When each of the two sent straight to the other.
    straight: [Vec<Instant>; 2],
}

impl Ran {
    fn because(&self) -> [Option<RelayReason>; 2] {
        let pair = &self.outcome.pairs[0];
        [pair.from_a.last, pair.from_b.last].map(|last| match last {
            Some(Path::Relayed { because }) => Some(because),
            _ => None,
        })
    }

    fn is_direct(&self) -> bool {
        let pair = &self.outcome.pairs[0];
        [pair.from_a.last, pair.from_b.last].iter().all(|last| matches!(last, Some(Path::Direct { .. })))
    }
}

fn run(text: &str, seed: u64, change: impl FnOnce(&mut Scenario)) -> Ran {
    let mut scenario = Scenario::parse("pair", text).unwrap_or_else(|e| panic!("{e}"));
    change(&mut scenario);
    let watch = Rc::new(RefCell::new(Watch::default()));
    let observers: Vec<Box<dyn Observer>> = vec![Box::new(Rc::clone(&watch))];
    let mut run = Run::observed(&scenario, seed, observers).expect("names that make tokens");
    run.advance(scenario.duration, |_| false);
    let [a, b] = [0, 1].map(|n| run.client(ClientIndex(n)).expect("two clients"));
    let straight = [(a, b), (b, a)].map(|(from, to)| {
        let there = run.world().public_ip(to);
        let sent = watch.borrow().0.get(&from.index()).cloned().unwrap_or_default();
        sent.into_iter().filter(|(_, to)| *to == there).map(|(at, _)| at).collect()
    });
    let outcome = run.finish();
    assert!(outcome.held(), "{:?}", outcome.broken());
    Ran { outcome, straight }
}

fn policies() -> impl Strategy<Value = PathPolicy> {
    let punch = select(vec![PunchPolicy::Always, PunchPolicy::OnTraffic, PunchPolicy::Never]);
    let prefer = select(vec![Prefer::Direct, Prefer::Fastest, Prefer::DirectOnly, Prefer::RelayOnly]);
    (punch, prefer).prop_map(|(punch, prefer)| PathPolicy::new(punch, prefer))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_strictest_of_group_and_clients_decides_and_who_may_not_punch_sends_nothing(
        group in policies(), a in policies(), b in policies(), seed in 0u64..1000,
    ) {
        let ran = run(PAIR, seed, |s| (s.policy, s.clients[0].policy, s.clients[1].policy) = (group, a, b));
        let all = group.and(a).and(b);
        prop_assert_eq!(ran.is_direct(), all.allows_direct());
        if !all.allows_direct() {
            prop_assert_eq!(&ran.straight, &[vec![], vec![]]);
            prop_assert_eq!(ran.because(), [Some(RelayReason::Forbidden); 2]);
        } else if all.punch == PunchPolicy::OnTraffic {
            prop_assert!(ran.straight.iter().flatten().all(|at| *at >= Instant::from_millis(5_000)));
        }
    }
}

#[test]
fn what_waits_for_traffic_says_so_until_there_is_some() {
    let ran = run(PAIR, 1, |s| {
        s.policy.punch = PunchPolicy::OnTraffic;
        s.steps.pop();
        s.duration = Duration::from_secs(6);
    });
    assert_eq!(ran.because(), [Some(RelayReason::NoTraffic); 2]);
    assert_eq!(ran.straight, [vec![], vec![]]);
}

#[test]
fn a_pair_that_is_forced_over_the_relay_leaves_its_hole_without_losing_anything_and_goes_direct_again_after() {
    let steps = r#"
[[step]]
do = "set-policy"
at = "8s"
pair = ["a", "b"]
prefer = "relay-only"
[[step]]
do = "set-policy"
at = "11s"
pair = ["a", "b"]
"#;
    let ran = run(&format!("{PAIR}{steps}"), 3, |_| {});
    assert!(ran.is_direct());
    let relayed = |at: &&Instant| (8_500..11_000).contains(&(at.since(Instant::ZERO).as_millis() as u64));
    assert_eq!(ran.straight.iter().flatten().filter(relayed).count(), 0);
    assert!(ran.straight.iter().flatten().any(|at| *at > Instant::from_millis(11_500)));
}

#[test]
fn a_group_that_is_set_to_the_relay_alone_stays_there() {
    let steps = "[[step]]\ndo = \"set-policy\"\nat = \"4s\"\ngroup = \"pair\"\nprefer = \"relay-only\"\n";
    let ran = run(&format!("{PAIR}{steps}"), 4, |_| {});
    assert_eq!(ran.because(), [Some(RelayReason::Forbidden); 2]);
    assert!(ran.straight.iter().flatten().all(|at| *at < Instant::from_millis(4_500)));
}

#[test]
fn where_the_relay_is_no_faster_traffic_goes_directly() {
    let ran = run(PAIR, 5, |s| s.policy.prefer = Prefer::Fastest);
    assert!(ran.is_direct(), "{:?}", ran.because());
}

/// The direct way shows at once that a link became slower, the idle one by the relay only now and then.
#[test]
fn an_idle_relay_that_became_slower_too_is_not_taken_for_the_faster_way_for_long() {
    let text = r#"
title = "a client that moves to a slower network and says nothing"
duration = "54s"
[server]
link = { delay = "7ms" }
[client.a]
link = { delay = "10ms" }
[client.b]
link = { delay = "10ms" }
prefer = "fastest"
[[step]]
do = "create-group"
group = "pair"
members = ["a", "b"]
[[step]]
do = "set-link"
at = "7s"
of = "b"
link = { delay = "44ms" }
"#;
    let ran = run(text, 9719, |_| {});
    assert!(ran.is_direct(), "{:?}", ran.because());
}

#[test]
fn unreliable_messages_that_may_only_go_directly_never_take_the_relay() {
    let text = PAIR.replace("at = \"5s\"", "at = \"2s\"\nkind = \"unreliable\"");
    let ran = run(&text, 6, |s| s.policy.prefer = Prefer::DirectOnly);
    assert!(ran.is_direct());
    let stream = &ran.outcome.streams[0];
    assert!(stream.sent > 400 && stream.delivered < stream.sent, "{} of {}", stream.delivered, stream.sent);
    let allowed = run(&text, 6, |_| {});
    assert_eq!(allowed.outcome.streams[0].delivered, allowed.outcome.streams[0].sent);
}

/// So many homes and the server, all in one group from the second second on.
fn crowd(members: usize) -> Scenario {
    let mut text = String::from("title = \"a crowd\"\nduration = \"15s\"\n[server]\nlink = { delay = \"20ms\" }\n");
    let names: Vec<_> = (0..members).map(|n| format!("\"c{n}\"")).collect();
    for n in 0..members {
        text += &format!("[nat.home-{n}]\nmapping = \"endpoint-independent\"\n");
        text += &format!("filtering = \"address-and-port-dependent\"\nlink = {{ delay = \"{}ms\" }}\n", 5 + n % 7 * 5);
        text += &format!("[client.c{n}]\nbehind = \"home-{n}\"\n");
    }
    text += "[[step]]\ndo = \"create-group\"\nat = \"2s\"\ngroup = \"crowd\"\n";
    text += &format!("members = [{}]\n", names.join(", "));
    Scenario::parse("crowd", &text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn no_client_of_a_large_group_sends_more_than_a_hundred_challenges_in_any_second_and_all_pairs_go_direct() {
    const MEMBERS: usize = 24;
    let scenario = crowd(MEMBERS);
    let mut run = Run::new(&scenario, 1).unwrap();
    let mut sent: Vec<Vec<u64>> = Vec::new();
    for slice in 0..140 {
        run.advance(Duration::from_millis(1_000 + 100 * slice), |_| false);
        let clients = (0..MEMBERS).filter_map(|n| run.client(ClientIndex(n)));
        sent.push(clients.map(|node| run.world().machine(node).challenges()).collect());
        if let Some(before) = sent.len().checked_sub(11).map(|at| &sent[at]) {
            let now = sent.last().unwrap();
            assert!(now.iter().zip(before).all(|(now, before)| now - before <= 100), "{now:?} after {before:?}");
        }
    }
    assert!(sent.last().unwrap().iter().all(|sent| *sent > 0));
    let outcome = run.finish();
    assert_eq!(outcome.pairs.len(), MEMBERS * (MEMBERS - 1) / 2);
    assert!(outcome.pairs.iter().all(|pair| pair.both_direct().is_some()));
}

#[test]
fn who_has_as_many_direct_paths_as_it_may_has_no_more_and_says_so() {
    let mut scenario = crowd(6);
    scenario.clients[0].direct_peers = Some(2);
    let outcome = posse_sim::scenario::run::run(&scenario, 2).unwrap();
    assert!(outcome.held(), "{:?}", outcome.broken());
    let crowded = Some(Path::Relayed { because: RelayReason::Crowded });
    let of_first: Vec<_> = outcome.pairs.iter().filter(|pair| pair.a == ClientIndex(0)).collect();
    assert_eq!(of_first.iter().filter(|pair| pair.both_direct().is_some()).count(), 2);
    assert_eq!(of_first.iter().filter(|pair| pair.from_a.last == crowded).count(), 3);
    let others = outcome.pairs.iter().filter(|pair| pair.a != ClientIndex(0));
    assert!(others.into_iter().all(|pair| pair.both_direct().is_some()));
}
