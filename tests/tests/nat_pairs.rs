//! Two homes behind any two NATs: they go direct exactly where plain hole punching can, and the others say why not.

use posse_core::{Channel, Path, RelayReason};
use posse_sim::nat::{Filtering, Mapping, Nat};
use posse_sim::oracle::{Behaviour, directions};
use posse_sim::{Link, Node};
use posse_tests::{App, Lab, tally};
use proptest::prelude::*;
use std::time::Duration;

/// A round of punching takes 5 s; later ones cannot open what the first could not.
const LIMIT: Duration = Duration::from_secs(8);

fn nat() -> impl Strategy<Value = Nat> {
    use proptest::sample::select;
    (select(&Mapping::ALL[..]), select(&Filtering::ALL[..])).prop_map(|(m, f)| Nat::new(m, f))
}

/// What an end must say of its path if `out` and `back` tell which directions plain punching opens.
fn expected(out: bool, back: bool) -> Option<RelayReason> {
    match (out, back) {
        (true, true) => None,
        (true, false) => Some(RelayReason::OnlyOutbound),
        (false, true) => Some(RelayReason::OnlyInbound),
        (false, false) => Some(RelayReason::NoAnswer),
    }
}

fn reason(path: Option<Path>) -> Option<RelayReason> {
    match path {
        Some(Path::Relayed { because }) => Some(because),
        Some(Path::Direct { .. }) => None,
        path => panic!("in one group, yet {path:?}"),
    }
}

/// The two homes are so many milliseconds from the internet. Whether they went direct.
fn punch(seed: u64, nats: [&Nat; 2], millis: [u64; 2]) -> Result<bool, TestCaseError> {
    let mut lab = Lab::new(seed);
    let internet = lab.world.internet();
    let [a, b] = [0, 1].map(|n| {
        let home = lab.world.nat(internet, nats[n].clone(), Link::millis(millis[n]));
        lab.client_on(home, Link::PERFECT)
    });
    let ids = lab.log_in();
    let group = lab.group(&ids);
    let direct = lab.run_until_direct(a, b, LIMIT);
    lab.world.run_for(Duration::from_secs(1)).expect("the reports arrive");

    let [behind_a, behind_b]: [Behaviour; 2] = nats.map(|n| (n.mapping, n.filtering));
    let open = directions(behind_a, behind_b);
    let says = |node: Node<App>, peer| reason(lab.world.machine(node).path(peer));
    prop_assert_eq!(says(a, ids[1]), expected(open.a_to_b, open.b_to_a), "{:?}", nats);
    prop_assert_eq!(says(b, ids[0]), expected(open.b_to_a, open.a_to_b), "{:?}", nats);
    let at_server = reason(lab.world.machine(lab.desk).server.path(ids[0], ids[1]));
    prop_assert_eq!(at_server.is_none(), direct, "{:?}", nats);
    prop_assert_ne!(at_server, Some(RelayReason::Probing));
    prop_assert_eq!(direct, open.a_to_b && open.b_to_a);

    for n in 0..20u64 {
        for from in [a, b] {
            prop_assert!(lab.send(from, group, Channel::reliable(0), &n.to_be_bytes()));
        }
    }
    lab.world.run_for(Duration::from_secs(2)).expect("no livelock");
    for (node, open) in [(b, open.a_to_b), (a, open.b_to_a)] {
        let messages = &lab.world.machine(node).messages;
        let got = messages.iter().map(|(.., bytes)| u64::from_be_bytes(bytes[..].try_into().expect("eight bytes")));
        prop_assert_eq!(tally(20, got), Default::default());
        prop_assert!(messages.iter().all(|(_, message, _)| message.direct == open));
    }
    Ok(direct)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn two_homes_go_direct_exactly_where_the_oracle_says_and_messages_flow_either_way(
        seed: u64, a in nat(), b in nat(), millis in [1..120u64, 1..120],
    ) {
        punch(seed, [&a, &b], millis)?;
    }
}

#[test]
fn of_the_81_pairs_of_nats_the_45_that_the_oracle_names_go_direct() {
    let nats = Nat::all_nine();
    let mut direct = 0;
    for a in &nats {
        for b in &nats {
            direct += usize::from(punch(1, [a, b], [10, 10]).expect("as the oracle says"));
        }
    }
    assert_eq!(direct, 45);
}
