//! Holes stay open behind NATs that forget early, or whatever passes, and nothing is lost where one closes all the same.

use posse_core::{Duration, Instant, Path};
use posse_sim::scenario::journal::What;
use posse_sim::scenario::run::{Outcome, run};
use posse_sim::scenario::{ClientIndex, Host, Scenario};
use posse_sim::{Event, Nat, Observer};
use std::cell::RefCell;
use std::rc::Rc;

/// Two homes that talk to each other now and then.
const PAIR: &str = r#"
title = "two homes"
duration = "30min"
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
group = "pair"
members = ["a", "b"]
[[step]]
do = "send"
from = "a"
to = "pair"
every = "37s"
times = 48
[[step]]
do = "send"
from = "b"
to = "pair"
every = "41s"
times = 43
"#;

fn scenario(nat: &Nat) -> Scenario {
    let mut scenario = Scenario::parse("pair", PAIR).unwrap_or_else(|e| panic!("{e}"));
    scenario.nats.iter_mut().for_each(|spec| spec.nat = nat.clone());
    scenario
}

fn held(nat: &Nat) -> Outcome {
    let outcome = run(&scenario(nat), 1).expect("names that make tokens");
    assert!(outcome.held(), "{:?}", outcome.broken());
    assert_eq!(outcome.streams.iter().map(|s| s.sent - s.delivered).sum::<u64>(), 0);
    outcome
}

/// When a client said that traffic was relayed after it had been direct.
fn closed(outcome: &Outcome, since: Duration) -> usize {
    let says = |entry: &&posse_sim::scenario::journal::Entry| match (entry.who, &entry.what) {
        (Some(Host::Client(ClientIndex(_))), What::Path(_, Path::Relayed { .. })) => entry.at > Instant::ZERO + since,
        _ => false,
    };
    outcome.timeline.iter().filter(says).count()
}

#[test]
fn a_nat_that_forgets_sooner_than_keepalives_come_is_learnt_and_its_hole_stays_open_then() {
    let outcome = held(&Nat::home().lifetime(Duration::from_secs(4)));
    assert!(closed(&outcome, Duration::ZERO) > 0, "or this shows nothing");
    assert_eq!(closed(&outcome, Duration::from_secs(60)), 0);
}

#[test]
fn a_nat_that_forgets_whatever_passes_is_learnt_and_left_for_a_new_socket_in_time() {
    let lifetimes = Duration::from_secs(48)..=Duration::from_secs(75);
    let outcome = held(&Nat::home().absolute(lifetimes));
    assert!(closed(&outcome, Duration::ZERO) > 0, "or this shows nothing");
    let late = closed(&outcome, Duration::from_secs(600));
    assert!(late <= 2, "{late} holes closed after the NATs were known");
}

/// Counts what hosts send.
#[derive(Default)]
struct Sent(Vec<u64>);

impl Observer for Sent {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        if let Event::Sent { host, .. } = event {
            self.0.resize(self.0.len().max(host + 1), 0);
            self.0[*host] += 1;
        }
    }
}

#[test]
fn an_idle_pair_costs_no_more_than_its_keepalives_and_their_answers() {
    let mut scenario = scenario(&Nat::home());
    scenario.steps.truncate(1);
    let sent = Rc::new(RefCell::new(Sent::default()));
    let observers: Vec<Box<dyn Observer>> = vec![Box::new(Rc::clone(&sent))];
    let mut run = posse_sim::scenario::run::Run::observed(&scenario, 1, observers).unwrap();
    run.advance(Duration::from_secs(60), |_| false);
    let before = sent.borrow().0.clone();
    run.advance(scenario.duration, |_| false);
    let clients = [0, 1].map(|n| run.client(ClientIndex(n)).unwrap().index());
    // A keepalive each 5 s to the peer and each 10 s to the server, and the peer's are answered.
    let most = 29 * 60 / 5 * 2 + 29 * 60 / 10;
    for client in clients {
        let count = sent.borrow().0[client] - before[client];
        assert!(count <= most + 2, "{count} datagrams, {most} at the most");
    }
}
