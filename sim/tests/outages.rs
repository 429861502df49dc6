//! Outages, suspensions and clocks that jump: what is kept, for how long, and how soon all goes on.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use posse_core::{Duration, EndReason, Instant};
use posse_sim::scenario::journal::{Entry, What};
use posse_sim::scenario::run::{Outcome, run};
use posse_sim::scenario::{ClientIndex, Host, Scenario};

/// ann and bob are direct with each other and talk; cat is relayed to ann, and talks with the server.
const TALK: &str = r#"
title = "three who talk"
[server]
link = { delay = "20ms" }
[nat.home]
mapping = "address-and-port-dependent"
filtering = "address-and-port-dependent"
[nat.office]
mapping = "address-and-port-dependent"
filtering = "address-and-port-dependent"
[client.ann]
behind = "home"
link = { delay = "10ms" }
[client.bob]
link = { delay = "10ms" }
[client.cat]
behind = "office"
link = { delay = "10ms" }
[[step]]
do = "create-group"
group = "party"
members = ["ann", "bob", "cat"]
"#;

fn talk(duration: u32, more: &str) -> Scenario {
    let sends: String = [("ann", "party"), ("bob", "party"), ("cat", "server"), ("server", "cat")]
        .map(|(from, to)| {
            let times = duration.saturating_sub(10) * 5;
            format!("[[step]]\ndo = \"send\"\nfrom = \"{from}\"\nto = \"{to}\"\nevery = \"200ms\"\ntimes = {times}\n")
        })
        .concat();
    Scenario::parse("outages", &format!("duration = \"{duration}s\"{TALK}{sends}{more}")).unwrap()
}

fn outcome(duration: u32, more: &str) -> Outcome {
    let scenario = talk(duration, more);
    run(&scenario, scenario.seed).unwrap()
}

fn client(name: usize) -> Host {
    Host::Client(ClientIndex(name))
}

fn ends(outcome: &Outcome) -> Vec<&Entry> {
    outcome.timeline.iter().filter(|e| matches!(e.what, What::Ended(_) | What::ClientLeft(..))).collect()
}

fn lost(outcome: &Outcome) -> u64 {
    outcome.streams.iter().map(|stream| stream.lost).sum()
}

fn cut(link: &str, at: u32, lasts: &str) -> String {
    format!("[[step]]\ndo = \"cut\"\nat = \"{at}s\"\nlink = \"{link}\"\n{lasts}\n")
}

#[test]
fn an_outage_of_59_s_of_anybody_costs_nothing_but_time() {
    let pause = |host: &str| format!("[[step]]\ndo = \"pause\"\nat = \"20s\"\nhost = \"{host}\"\nlasts = \"59s\"\n");
    for what in [cut("server", 20, "lasts = \"59s\""), cut("ann", 20, "lasts = \"59s\""), pause("ann"), pause("server")]
    {
        let outcome = outcome(110, &what);
        assert!(outcome.violations.is_empty(), "{what}: {:?}", outcome.violations);
        assert_eq!((lost(&outcome), ends(&outcome)), (0, Vec::new()), "{what}");
        assert_eq!(outcome.members[0].as_slice(), [Some(vec![ClientIndex(1), ClientIndex(2)])], "{what}");
        let slowest = outcome.streams.iter().filter_map(|stream| stream.slowest).max().unwrap();
        assert!(slowest < Duration::from_millis(61_500), "{what}: {slowest:?}");
    }
}

#[test]
fn direct_traffic_goes_on_while_the_server_is_away() {
    let outcome = outcome(90, &cut("server", 20, "lasts = \"50s\""));
    let pair = |from, to| outcome.streams.iter().find(|s| s.from == client(from) && s.to == client(to)).unwrap();
    for (from, to) in [(0, 1), (1, 0), (1, 2)] {
        assert!(pair(from, to).slowest.unwrap() < Duration::from_millis(100), "{from} to {to}");
    }
    assert!(pair(0, 2).slowest.unwrap() > Duration::from_secs(40), "by the relay it waits");
}

#[test]
fn members_are_offline_for_those_from_whom_nothing_gets_to_them_and_then_online_again() {
    let told = |outcome: &Outcome, who: Host, about: Host| -> Vec<bool> {
        let news = |entry: &Entry| match entry.what {
            What::Presence { of, offline } if of == about && entry.who == Some(who) => Some(offline),
            _ => None,
        };
        outcome.timeline.iter().filter_map(news).collect()
    };
    let (ann, bob, cat) = (client(0), client(1), client(2));
    let outage = outcome(90, &cut("server", 20, "lasts = \"50s\""));
    for (who, about) in [(ann, Host::Server), (Host::Server, ann), (ann, cat), (cat, ann)] {
        assert_eq!(told(&outage, who, about), [true, false], "{who:?} of {about:?}");
    }
    assert!(told(&outage, ann, bob).is_empty() && told(&outage, bob, cat).is_empty(), "they are direct");
    let tunnel = outcome(90, &cut("ann", 20, "lasts = \"50s\""));
    for (who, about) in [(bob, ann), (cat, ann), (ann, bob), (Host::Server, ann)] {
        assert_eq!(told(&tunnel, who, about), [true, false], "{who:?} of {about:?}");
    }
    assert!(told(&tunnel, bob, cat).is_empty() && told(&tunnel, cat, Host::Server).is_empty());
}

#[test]
fn a_client_that_comes_back_after_80_s_is_told_at_once_that_its_session_is_over() {
    for link in ["server", "ann"] {
        let outcome = outcome(130, &cut(link, 20, "lasts = \"80s\""));
        let left = outcome.timeline.iter().find(|e| e.what == What::ClientLeft(ClientIndex(0), EndReason::TimedOut));
        let end =
            outcome.timeline.iter().find(|e| e.who == Some(client(0)) && e.what == What::Ended(EndReason::TimedOut));
        let (left, end) = (left.unwrap().at, end.unwrap().at);
        let around = |at: Instant, s: u64, within: u64| {
            at >= Instant::from_millis(s) && at.since(Instant::from_millis(s)) < Duration::from_millis(within)
        };
        // From the last word on, which may have been a keepalive's 10 s before.
        assert!(around(left, 85_000, 10_100), "{link}: {left:?}");
        assert!(around(end, 100_000, 2_200), "{link}: {end:?}");
    }
}

#[test]
fn without_a_word_from_the_server_for_the_lease_direct_paths_stop() {
    let outcome = outcome(150, &cut("server", 20, ""));
    let ends = outcome.timeline.iter().filter(|e| e.what == What::Ended(EndReason::TimedOut));
    let ends: Vec<_> = ends.map(|e| e.at.since(Instant::ZERO).as_secs()).collect();
    assert_eq!(ends.len(), 3);
    // From the last word on, which may have been a keepalive's 10 s before.
    assert!(ends.iter().all(|s| (100..=110).contains(s)), "{ends:?}");
    let direct = outcome.streams.iter().find(|s| s.from == client(1) && s.to == client(0)).unwrap();
    // Five a second, to the end of bob's lease.
    assert!((ends[0] * 5 - 10..=ends[0] * 5 + 10).contains(&direct.delivered), "{}", direct.delivered);
}

#[test]
fn clocks_that_jump_to_zero_back_or_a_year_ahead_break_nothing() {
    let jump = |host: &str, by: &str| format!("[[step]]\ndo = \"clock-jump\"\nat = \"20s\"\nhost = \"{host}\"\n{by}\n");
    for host in ["server", "ann", "bob"] {
        let ahead = outcome(60, &jump(host, "forward = \"8760h\""));
        assert_eq!((lost(&ahead), ends(&ahead)), (0, Vec::new()), "{host}: {:?}", ahead.violations);
        let back = outcome(60, &jump(host, "backward = \"15s\""));
        assert_eq!((lost(&back), ends(&back)), (0, Vec::new()), "{host}: {:?}", back.violations);
        // To zero, and no further: its timers wait until the clock has caught up. Nothing panics, and nobody else is harmed.
        let zero = outcome(60, &jump(host, "backward = \"1h\""));
        if host == "bob" {
            let others =
                |e: &&&Entry| !matches!(e.what, What::ClientLeft(ClientIndex(1), _)) && e.who != Some(client(1));
            assert_eq!(ends(&zero).iter().filter(others).count(), 0, "{:?}", zero.violations);
        }
    }
}

#[test]
fn who_rejoins_in_an_outage_hears_of_nobody_that_is_offline_before_their_join() {
    let leave_and_join = ["leave", "join"]
        .map(|what| format!("[[step]]\ndo = \"{what}\"\nat = \"3s\"\ngroup = \"pair\"\nclient = \"ann\"\n"))
        .concat();
    let text = format!(
        "title = \"rejoin\"\nduration = \"20s\"\n[server]\npunch = \"on-traffic\"\nprefer = \"relay-only\"\nlink = {{ delay = \"10ms\" }}\n\
         [client.ann]\n[client.bob]\n[[step]]\ndo = \"create-group\"\ngroup = \"pair\"\nmembers = [\"ann\", \"bob\"]\n\
         {leave_and_join}[[step]]\ndo = \"cut\"\nat = \"2s\"\nlink = \"server\"\nway = \"up\"\nlasts = \"10800ms\"\n"
    );
    let scenario = Scenario::parse("rejoin", &text).unwrap();
    let outcome = run(&scenario, 248).unwrap();
    assert_eq!(outcome.violations, [] as [String; 0]);
}

/// An outage of the server makes the client try TCP, and what waited for word is given up with each change of leg.
#[test]
fn a_client_that_changes_to_tcp_and_back_in_an_outage_is_not_taken_for_offline_for_good() {
    let text = r#"
title = "a pause just above the patience of a question"
seed = 449
duration = "61100ms"
[server]
cookies = true
link = { delay = "10ms" }
[client.ann]
link = { delay = "10ms" }
[[step]]
do = "pause"
at = "4s"
host = "server"
lasts = "10100ms"
"#;
    let scenario = Scenario::parse("legs", text).unwrap();
    let outcome = run(&scenario, scenario.seed).unwrap();
    assert!(outcome.held(), "{:?}", outcome.broken());
}

/// The client is reached at a new address and by another leg at one moment: two questions are given up before the third is sent.
#[test]
fn a_client_that_moves_and_leaves_tcp_in_one_go_is_not_taken_for_offline_for_good() {
    let text = r#"
title = "a NAT that reboots under a client that sleeps on TCP"
seed = 3579
duration = "85s"
[nat.home]
mapping = "endpoint-independent"
filtering = "endpoint-independent"
link = { delay = "10ms" }
[server]
link = { delay = "10ms" }
[client.ann]
behind = "home"
link = { delay = "10ms" }
[[step]]
do = "send"
at = "2980ms"
every = "31ms"
times = 20
from = "ann"
to = "server"
channel = 1
size = 16
[[step]]
do = "block-udp"
at = "3600ms"
link = "ann"
lasts = "325ms"
[[step]]
do = "pause"
at = "5s"
host = "ann"
lasts = "13900ms"
[[step]]
do = "reboot"
at = "6s"
nat = "home"
"#;
    let scenario = Scenario::parse("moves", text).unwrap();
    let outcome = run(&scenario, scenario.seed).unwrap();
    let about = |offline| What::Presence { of: client(0), offline };
    let told = |what: What| outcome.timeline.iter().any(|e| e.who == Some(Host::Server) && e.what == what);
    assert!(told(about(true)) && told(about(false)), "{:?}", outcome.timeline);
    assert!(outcome.held(), "{:?}", outcome.broken());
}
