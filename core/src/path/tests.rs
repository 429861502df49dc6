use super::candidate::Unprobeable;
use super::*;
use crate::entropy::Entropy;
use core::net::Ipv6Addr;
use proptest::prelude::*;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], port))
}

fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn punch() -> Punch {
    Punch::new(&PunchConfig::default(), Entropy::new(&[5; 32]).stream("punch", 0))
}

fn probes(punch: &mut Punch, now: Instant) -> Vec<Probe> {
    core::iter::from_fn(|| punch.poll(now, &mut Pace::default())).take(10_000).collect()
}

fn events(punch: &mut Punch) -> Vec<PunchEvent> {
    core::iter::from_fn(|| punch.poll_event()).take(10).collect()
}

/// The challenges among the probes at `now`.
fn challenges(punch: &mut Punch, now: Instant) -> Vec<(SocketAddr, u64)> {
    let direct = |p: Probe| match p.over {
        Over::Direct(to) => Some((to.at, p.challenge?)),
        Over::Relay => None,
    };
    probes(punch, now).into_iter().filter_map(direct).collect()
}

/// Lets the time pass until `until`, polling at each wake. What was challenged when, and the events.
fn pass(punch: &mut Punch, until: Instant) -> (Vec<(Instant, SocketAddr, u64)>, Vec<PunchEvent>) {
    let (mut sent, mut told, mut now) = (Vec::new(), events(punch), Instant::ZERO);
    for _ in 0..100_000 {
        let Some(wake) = punch.wake().filter(|w| *w <= until) else { return (sent, told) };
        now = now.max(wake);
        sent.extend(challenges(punch, now).into_iter().map(|(to, token)| (now, to, token)));
        told.extend(events(punch));
    }
    panic!("a busy loop at {now:?}");
}

/// A punch that is direct to port 1 with a round trip of 30 ms, at 1030 ms, and settled.
fn direct() -> Punch {
    let mut punch = punch();
    punch.start(ms(1000), &[at(1)]);
    let token = challenges(&mut punch, ms(1000))[0].1;
    punch.on_packet(ms(1030), at(1));
    punch.on_response(ms(1030), token);
    let rtt = Duration::from_millis(30);
    let told = [PunchEvent::Validated { to: at(1).into(), rtt }, PunchEvent::Verdict(Verdict::Direct)];
    assert_eq!(events(&mut punch), told);
    punch
}

fn relayed(reason: RelayReason) -> PunchEvent {
    PunchEvent::Verdict(Verdict::Relayed(reason))
}

#[test]
fn a_start_challenges_every_candidate_at_once_and_again_within_20_ms() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1), at(2), at(3)]);
    let first = challenges(&mut punch, ms(0));
    assert_eq!(first.iter().map(|c| c.0).collect::<Vec<_>>(), [at(1), at(2), at(3)]);
    let (sent, _) = pass(&mut punch, ms(1000));
    for port in 1..=3 {
        let times: Vec<_> = sent.iter().filter(|s| s.1 == at(port)).map(|s| s.0).collect();
        assert!(times.len() >= 49);
        assert!(times.windows(2).all(|w| w[1].since(w[0]) <= Duration::from_millis(20)));
    }
    let mut tokens: Vec<_> = sent.iter().map(|s| s.2).chain(first.iter().map(|c| c.1)).collect();
    tokens.sort_unstable();
    assert!(tokens.windows(2).all(|w| w[0] != w[1]), "a token is used once");
}

#[test]
fn a_round_slows_down_ends_with_a_verdict_and_is_repeated_ever_more_rarely() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    assert_eq!(punch.verdict(), Verdict::Relayed(RelayReason::Probing));
    let (sent, told) = pass(&mut punch, ms(1_000_000));
    let gaps: Vec<_> = sent.windows(2).map(|w| w[1].0.since(w[0].0)).collect();
    assert!(gaps.iter().filter(|g| **g < FAST_INTERVAL * 2 && **g > FAST_INTERVAL).count() > 0, "a first slow one");
    let waits: Vec<_> = gaps.iter().filter(|g| **g > SLOWEST_INTERVAL).map(|g| g.as_secs()).collect();
    let least = [9, 18, 36, 72, 144, 270, 270];
    assert_eq!(waits.len(), least.len());
    // The gap between two rounds' challenges is the wait and what was left of the former round.
    assert!(waits.iter().zip(least).all(|(wait, least)| (least..=least * 10 / 9 + 1).contains(wait)), "{waits:?}");
    assert_eq!(told.iter().filter(|e| **e == PunchEvent::WantsRestart).count(), waits.len());
    assert_eq!(told.first(), Some(&relayed(RelayReason::NoAnswer)));
    assert_eq!(told.len(), 1 + waits.len());
}

#[test]
fn no_round_exceeds_its_budget_with_every_list_full() {
    let mut punch = punch();
    let given: Vec<_> = (1..=12).map(at).collect();
    punch.start(ms(0), &given);
    for port in 21..=26 {
        punch.on_packet(ms(0), at(port));
    }
    let (sent, _) = pass(&mut punch, ms(14_000));
    assert!(sent.len() > 8 * 60 && sent.len() <= ROUND_BUDGET as usize, "{}", sent.len());
    assert!((21..=24).all(|port| sent.iter().filter(|(_, to, _)| *to == at(port)).count() == 1));
    assert_eq!(punch.candidates.len(), MAX_GIVEN + MAX_REFLEXIVE);
    assert_eq!(punch.stats().crowded_out, 4 + 2);
}

#[test]
fn a_challenge_is_answered_to_its_source_and_over_the_relay_and_returned() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    probes(&mut punch, ms(0));
    punch.on_challenge(ms(5), at(9), 42);
    assert_eq!(punch.wake(), Some(Instant::ZERO));
    let answers = probes(&mut punch, ms(5));
    assert_eq!(answers.len(), 2, "the challenge travels with the answer: {answers:?}");
    assert_eq!((answers[0].over, answers[0].response), (Over::Direct(at(9).into()), Some(42)));
    assert!(answers[0].challenge.is_some());
    assert_eq!(answers[1], Probe::whole(Over::Relay, None, Some(42)));
}

#[test]
fn a_challenge_from_a_known_candidate_triggers_one_between_rounds() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    pass(&mut punch, ms(8000));
    punch.on_challenge(ms(8000), at(1), 1);
    assert_eq!(challenges(&mut punch, ms(8000)).len(), 1);
    punch.on_challenge(ms(8001), at(1), 2);
    assert_eq!(challenges(&mut punch, ms(8001)).len(), 0, "no sooner than the fast interval");
    assert_eq!(challenges(&mut punch, ms(8020)).len(), 1);
}

#[test]
fn a_flood_of_challenges_leaves_16_responses_queued_the_newest() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    probes(&mut punch, ms(0));
    for token in 0..1_000_000 {
        punch.on_challenge(ms(1), at(token as u16 | 1), token);
    }
    assert_eq!(punch.responses.len(), 16);
    assert_eq!(punch.stats().dropped_responses, 2_000_000 - 16);
    assert_eq!(punch.candidates.len(), 1 + MAX_REFLEXIVE);
    let answered: Vec<_> = probes(&mut punch, ms(1)).into_iter().filter_map(|p| p.response).collect();
    assert_eq!(answered.len(), 8, "over the relay; sources that are no candidates get nothing");
    assert!(answered.iter().all(|token| *token >= 1_000_000 - 8));
}

#[test]
fn a_source_that_proves_nothing_gets_no_more_datagrams_than_came_from_it() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    let (mut came, mut went) = (0, 0);
    for n in 0..400u64 {
        let now = ms(n * 25);
        // The peer seals challenges whose source it forged: the victim's.
        if n % 7 == 0 {
            punch.on_challenge(now, at(9), n);
            came += 1;
        }
        while let Some(probe) = punch.poll(now, &mut Pace::default()) {
            went += u32::from(probe.over == Over::Direct(at(9).into()));
            assert!(went <= came, "{went} datagrams for {came}");
        }
    }
    assert_eq!(went, came, "each is answered");
}

#[test]
fn only_a_token_of_its_own_that_is_not_too_old_proves_anything() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    let token = challenges(&mut punch, ms(0))[0].1;
    punch.on_response(ms(10), token ^ 1);
    assert_eq!((punch.send_address(), punch.stats().unknown_responses), (None, 1));
    punch.on_response(ms(5001), token);
    assert_eq!((punch.send_address(), punch.stats().unknown_responses), (None, 2));
}

#[test]
fn a_later_round_trip_than_the_fast_tokens_cover_is_still_found() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1)]);
    let (sent, _) = pass(&mut punch, ms(2500));
    for (when, _, token) in sent {
        if when + Duration::from_millis(1500) <= ms(2500) {
            punch.on_response(ms(2500), token);
        }
    }
    assert_eq!(punch.send_address(), Some(at(1).into()));
}

#[test]
fn a_clearly_better_address_takes_over_and_a_slightly_better_one_does_not() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1), at(2), at(3)]);
    let tokens: Vec<_> = challenges(&mut punch, ms(0)).iter().map(|c| c.1).collect();
    punch.on_response(ms(50), tokens[0]);
    let later = challenges(&mut punch, ms(60));
    punch.on_response(ms(101), later[1].1);
    assert_eq!(punch.send_address(), Some(at(1).into()), "41 ms is within the margin of 50 ms");
    assert_eq!(events(&mut punch).len(), 1);
    let last = challenges(&mut punch, ms(110));
    punch.on_response(ms(111), last[2].1);
    assert_eq!(events(&mut punch), [PunchEvent::Validated { to: at(3).into(), rtt: Duration::from_millis(1) }]);
    punch.on_response(ms(112), last[0].1);
    assert_eq!(punch.send_address(), Some(at(3).into()), "and it does not go back");
}

#[test]
fn while_direct_nothing_is_probed_and_challenges_are_answered() {
    let mut punch = direct();
    assert_eq!(pass(&mut punch, ms(20_000)).0, []);
    punch.on_challenge(ms(20_000), at(1), 9);
    let answers = probes(&mut punch, ms(20_000));
    assert_eq!(answers.iter().map(|p| (p.challenge, p.response)).collect::<Vec<_>>(), [(None, Some(9)); 2]);
}

#[test]
fn a_new_source_while_direct_is_probed_but_does_not_take_over_without_being_better() {
    let mut punch = direct();
    punch.on_packet(ms(2000), at(2));
    let sent = challenges(&mut punch, ms(2000));
    assert_eq!(sent[0].0, at(2));
    punch.on_response(ms(2030), sent[0].1);
    assert_eq!(punch.send_address(), Some(at(1).into()));
    assert_eq!(pass(&mut punch, ms(20_000)), Default::default());
}

/// A punch that is direct to port 1, whose peer begins to send from port 2 at 2 s; the tokens to the two.
fn moving() -> (Punch, u64, u64) {
    let mut punch = direct();
    punch.on_newest(ms(1900), at(1));
    punch.on_newest(ms(2000), at(2));
    let sent = challenges(&mut punch, ms(2000));
    assert_eq!(sent.iter().map(|s| s.0).collect::<Vec<_>>(), [at(1), at(2)], "both are asked");
    (punch, sent[0].1, sent[1].1)
}

#[test]
fn a_peer_that_sends_from_another_port_and_answers_no_more_at_the_old_one_is_followed_at_once() {
    let (mut punch, _, new) = moving();
    punch.on_response(ms(2030), new);
    assert_eq!(punch.send_address(), Some(at(1).into()), "the old one has until 65 ms after it was asked");
    let (_, told) = pass(&mut punch, ms(2065));
    assert_eq!(told, [PunchEvent::Validated { to: at(2).into(), rtt: Duration::from_millis(30) }]);
    assert_eq!(punch.verdict(), Verdict::Direct, "never anything else");
}

#[test]
fn a_copy_of_a_peers_packets_from_elsewhere_moves_nothing_while_the_peer_answers() {
    let (mut punch, old, new) = moving();
    punch.on_response(ms(2030), new);
    punch.on_response(ms(2031), old);
    assert_eq!(pass(&mut punch, ms(20_000)), Default::default());
    assert_eq!(punch.send_address(), Some(at(1).into()));
}

#[test]
fn sources_that_take_turns_are_compared_once_a_second() {
    let mut punch = direct();
    let mut sent = 0;
    for turn in 0..1000 {
        let now = ms(2000 + turn);
        punch.on_newest(now, at(1 + (turn % 2) as u16));
        for (to, token) in challenges(&mut punch, now) {
            sent += usize::from(to == at(1));
            punch.on_response(now, token);
        }
    }
    assert!(sent <= 2, "{sent}");
}

#[test]
fn a_dead_hole_is_probed_anew_at_once_with_the_last_good_address_in_front() {
    let mut punch = direct();
    punch.on_packet(ms(2000), at(2));
    probes(&mut punch, ms(2000));
    punch.on_dead(ms(60_000));
    assert_eq!(punch.send_address(), None);
    assert_eq!(events(&mut punch), [relayed(RelayReason::HoleClosed), PunchEvent::WantsRestart]);
    let sent = challenges(&mut punch, ms(60_000));
    assert_eq!(sent.iter().map(|s| s.0).collect::<Vec<_>>(), [at(1)], "the other proved nothing");
    let (later, told) = pass(&mut punch, ms(66_000));
    assert!(later.len() > 50);
    assert_eq!(told, [], "closed it stays, and one wish a round");
    punch.on_packet(ms(66_000), at(1));
    punch.on_response(ms(66_000), later[later.len() - 1].2);
    assert_eq!(punch.verdict(), Verdict::Direct);
}

#[test]
fn a_doubted_path_counts_as_relayed_and_is_tested_as_soon_as_it_answers() {
    let mut punch = direct();
    punch.on_doubt(ms(20_000));
    assert_eq!(events(&mut punch), [relayed(RelayReason::HoleClosed), PunchEvent::WantsRestart]);
    let token = challenges(&mut punch, ms(20_000))[0].1;
    punch.on_response(ms(20_030), token);
    assert_eq!(events(&mut punch), [PunchEvent::Answered], "a challenge that passes is not traffic that passes");
    punch.on_recovered(ms(20_060));
    assert_eq!(events(&mut punch), [PunchEvent::Verdict(Verdict::Direct)]);
}

#[test]
fn a_doubt_that_comes_with_the_answer_of_another_address_is_not_of_that_address() {
    let mut punch = direct();
    punch.on_doubt(ms(20_000));
    events(&mut punch);
    punch.on_packet(ms(20_010), at(2));
    let token = challenges(&mut punch, ms(20_010)).into_iter().find(|sent| sent.0 == at(2)).expect("it was heard of").1;
    // What the transport says now is about the path as it was.
    punch.on_response(ms(20_012), token);
    punch.on_doubt(ms(20_012));
    let told = events(&mut punch);
    assert!(matches!(told[..], [PunchEvent::Validated { .. }, PunchEvent::Verdict(Verdict::Direct)]), "{told:?}");
    assert_eq!(punch.verdict(), Verdict::Direct);
}

#[test]
fn a_death_after_a_doubt_leaves_the_round_of_the_doubt_alone() {
    let mut punch = direct();
    punch.on_doubt(ms(20_000));
    let (before, _) = pass(&mut punch, ms(21_000));
    punch.on_dead(ms(21_000));
    let (after, told) = pass(&mut punch, ms(24_999));
    assert_eq!(told, [], "one wish a round");
    assert!(before.len() > 50 && (4..9).contains(&after.len()), "{} then {}", before.len(), after.len());
    punch.on_packet(ms(25_000), at(1));
    punch.on_response(ms(25_000), after[after.len() - 1].2);
    assert_eq!(punch.verdict(), Verdict::Direct);
}

#[test]
fn between_rounds_the_hole_that_was_there_is_tried_with_growing_pauses() {
    let mut punch = direct();
    punch.on_dead(ms(20_000));
    pass(&mut punch, ms(25_000));
    let (sent, told) = pass(&mut punch, ms(33_000));
    assert!((3..6).contains(&sent.len()) && told.is_empty(), "{sent:?}");
    let gaps: Vec<_> = sent.windows(2).map(|two| two[1].0.since(two[0].0)).collect();
    assert!(gaps.is_sorted() && sent.iter().all(|(_, to, _)| *to == at(1)), "{sent:?}");
}

#[test]
fn what_was_sent_before_a_death_proves_nothing_after_it() {
    let mut punch = direct();
    punch.start(ms(50_000), &[at(1)]);
    let token = challenges(&mut punch, ms(50_000))[0].1;
    punch.on_dead(ms(50_001));
    punch.on_response(ms(50_030), token);
    assert_eq!(punch.send_address(), None);
}

#[test]
fn after_a_death_both_directions_must_be_proven_anew() {
    let mut punch = direct();
    punch.on_dead(ms(20_000));
    let token = challenges(&mut punch, ms(20_000))[0].1;
    punch.on_response(ms(20_030), token);
    assert_eq!(punch.send_address(), Some(at(1).into()));
    assert_eq!(punch.verdict(), Verdict::Relayed(RelayReason::HoleClosed));
    punch.on_packet(ms(20_031), at(1));
    assert_eq!(punch.verdict(), Verdict::Direct);
}

#[test]
fn holes_that_keep_dying_young_are_tried_ever_more_rarely() {
    let mut punch = direct();
    let mut now = ms(1030);
    let mut waited = Vec::new();
    for _ in 0..6 {
        now = now + Duration::from_secs(2);
        punch.on_dead(now);
        let died = now;
        events(&mut punch);
        let sent = loop {
            let sent = challenges(&mut punch, now);
            if !sent.is_empty() {
                break sent;
            }
            now = punch.wake().unwrap();
            events(&mut punch);
        };
        waited.push(now.since(died).as_secs_f32().round() as u32);
        punch.on_packet(now, at(1));
        punch.on_response(now, sent[0].1);
        assert_eq!(punch.verdict(), Verdict::Direct);
    }
    assert!(waited[0] == 0 && (9..=10).contains(&waited[1]), "{waited:?}");
    assert!(waited.windows(2).all(|w| w[1] > w[0]), "{waited:?}");
    punch.on_dead(now + STABLE_AFTER);
    assert!(!challenges(&mut punch, now + STABLE_AFTER).is_empty(), "a hole that lived is tried at once");
}

#[test]
fn silence_of_the_peer_ends_the_verdict_and_begins_a_round_but_keeps_the_send_address() {
    let mut punch = direct();
    let (sent, told) = pass(&mut punch, ms(41_100));
    assert_eq!(told, [relayed(RelayReason::HoleClosed), PunchEvent::WantsRestart]);
    assert_eq!(sent[0].0, ms(41_030));
    assert_eq!(punch.send_address(), Some(at(1).into()));
    punch.on_packet(ms(41_101), at(1));
    assert_eq!(events(&mut punch), [PunchEvent::Verdict(Verdict::Direct)]);
}

#[test]
fn one_direction_alone_is_told_as_such_at_the_end_of_the_first_round() {
    let mut out = punch();
    out.start(ms(0), &[at(1)]);
    let token = challenges(&mut out, ms(0))[0].1;
    out.on_response(ms(30), token);
    assert_eq!(out.verdict(), Verdict::Relayed(RelayReason::Probing));
    let (sent, told) = pass(&mut out, ms(6000));
    assert!(sent.len() > 50, "the peer needs our packets");
    let validated = PunchEvent::Validated { to: at(1).into(), rtt: Duration::from_millis(30) };
    assert_eq!(told, [validated, relayed(RelayReason::OnlyOutbound)]);

    let mut inbound = punch();
    inbound.start(ms(0), &[at(1)]);
    inbound.on_packet(ms(30), at(2));
    assert_eq!(pass(&mut inbound, ms(6000)).1, [relayed(RelayReason::OnlyInbound)]);
    let (_, told) = pass(&mut inbound, ms(50_000));
    assert!(told.contains(&relayed(RelayReason::NoAnswer)), "a packet of long ago counts no more: {told:?}");
}

#[test]
fn a_restart_while_direct_probes_until_both_directions_are_proven_again() {
    let mut punch = direct();
    punch.start(ms(5000), &[at(1), at(2)]);
    let sent = challenges(&mut punch, ms(5000));
    assert_eq!(sent.len(), 2);
    punch.on_packet(ms(5030), at(1));
    assert_eq!(challenges(&mut punch, ms(5030)).len(), 2, "one direction is not both");
    punch.on_response(ms(5031), sent[0].1);
    assert_eq!(pass(&mut punch, ms(30_000)), Default::default());
    assert_eq!(punch.verdict(), Verdict::Direct);
}

#[test]
fn a_new_start_replaces_what_the_server_named_and_keeps_what_was_heard_of() {
    let mut punch = punch();
    punch.start(ms(0), &[at(1), at(2)]);
    punch.on_packet(ms(10), at(2));
    punch.start(ms(20), &[at(3)]);
    let sent = challenges(&mut punch, ms(20));
    assert_eq!(sent.iter().map(|s| s.0).collect::<Vec<_>>(), [at(3), at(2)]);
}

#[test]
fn addresses_where_no_single_host_can_be_are_never_probed() {
    let v6 = |segments: [u16; 8]| SocketAddr::from((Ipv6Addr::from(segments), 5));
    let refused = [
        (at(0), Unprobeable::PortZero),
        (SocketAddr::from(([0, 0, 0, 0], 5)), Unprobeable::Unspecified),
        (SocketAddr::from(([0, 1, 2, 3], 5)), Unprobeable::Unspecified),
        (SocketAddr::from(([224, 0, 0, 1], 5)), Unprobeable::Multicast),
        (SocketAddr::from(([255; 4], 5)), Unprobeable::Broadcast),
        (v6([0; 8]), Unprobeable::Unspecified),
        (v6([0xff02, 0, 0, 0, 0, 0, 0, 1]), Unprobeable::Multicast),
        (v6([0, 0, 0, 0, 0, 0xffff, 0xffff, 0xffff]), Unprobeable::Broadcast),
    ];
    let mut punch = punch();
    for (address, why) in refused {
        assert_eq!(probeable(address), Err(why));
        punch.start(ms(0), &[address]);
        punch.on_packet(ms(0), address);
        punch.on_challenge(ms(0), address, 1);
    }
    assert_eq!(punch.stats().unprobeable, 3 * refused.len() as u64);
    assert!(probes(&mut punch, ms(0)).iter().all(|p| p.over == Over::Relay));
    assert_eq!(probeable(SocketAddr::from(([127, 0, 0, 1], 5))), Ok(()));
}

#[test]
fn where_direct_paths_are_forbidden_nothing_is_sent_at_all() {
    let config = PunchConfig { gate: Gate::Shut(RelayReason::Forbidden), ..PunchConfig::default() };
    let mut punch = Punch::new(&config, Entropy::new(&[5; 32]).stream("punch", 0));
    punch.start(ms(0), &[at(1)]);
    punch.on_challenge(ms(0), at(1), 1);
    punch.on_packet(ms(0), at(1));
    assert_eq!(events(&mut punch), [relayed(RelayReason::Forbidden)]);
    assert_eq!((probes(&mut punch, ms(0)).len(), punch.wake(), events(&mut punch).len()), (0, None, 0));
}

#[test]
fn a_settled_pair_holds_no_tokens() {
    let mut punch = direct();
    assert!(punch.candidates[0].holds_tokens());
    probes(&mut punch, ms(7000));
    assert!(!punch.candidates[0].holds_tokens());
}

#[derive(Clone, Debug)]
enum Step {
    Start(Vec<u16>),
    Challenge(u16, u64),
    /// A token that was sent, by its place, or a made-up one.
    Response(usize),
    Packet(u16),
    Dead,
    Polls(usize),
    Events,
    /// To the wake, or to any time: backward and to the end of time too.
    ToWake,
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop::collection::vec(0..12u16, 0..10).prop_map(Step::Start),
        3 => (0..12u16, any::<u64>()).prop_map(|(port, token)| Step::Challenge(port, token)),
        4 => (0..200usize).prop_map(Step::Response),
        2 => (0..12u16).prop_map(Step::Packet),
        1 => Just(Step::Dead),
        4 => (0..30usize).prop_map(Step::Polls),
        3 => Just(Step::Events),
        8 => Just(Step::ToWake),
        1 => prop_oneof![any::<u64>(), Just(u64::MAX), 0..20_000_000_000u64].prop_map(Step::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Invariants 15 and 16: only an address that returned one of its own tokens since the last death is used; polls at
    /// any time end; a poll at the wake gives something or moves it.
    #[test]
    fn in_any_order_of_calls_only_proven_addresses_are_used_and_polls_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut punch = punch();
        let mut now = ms(0);
        let mut sent: Vec<(SocketAddr, u64)> = Vec::new();
        let mut proven: Vec<SocketAddr> = Vec::new();
        for step in steps {
            match step {
                Step::Start(ports) => punch.start(now, &ports.into_iter().map(at).collect::<Vec<_>>()),
                Step::Challenge(port, token) => punch.on_challenge(now, at(port), token),
                Step::Response(place) => match sent.iter().rev().nth(place).copied() {
                    Some((address, token)) => {
                        punch.on_response(now, token);
                        proven.push(address);
                    }
                    None => punch.on_response(now, place as u64),
                },
                Step::Packet(port) => punch.on_packet(now, at(port)),
                Step::Dead => {
                    punch.on_dead(now);
                    proven.clear();
                    sent.clear();
                }
                Step::Polls(n) => {
                    let polled = core::iter::from_fn(|| punch.poll(now, &mut Pace::default())).take(n);
                    sent.extend(polled.filter_map(|p| match p.over { Over::Direct(to) => Some((to.at, p.challenge?)), Over::Relay => None }));
                }
                Step::Events => {
                    for event in events(&mut punch) {
                        if let PunchEvent::Validated { to, .. } = event {
                            prop_assert!(proven.contains(&to.at));
                        }
                    }
                }
                Step::ToWake => if let Some(wake) = punch.wake() {
                    now = now.max(wake);
                    let polled = probes(&mut punch, now);
                    prop_assert!(polled.len() <= MAX_RESPONSES + 3 * (MAX_GIVEN + MAX_REFLEXIVE));
                    let told = events(&mut punch);
                    prop_assert!(told.len() <= 3);
                    for probe in &polled {
                        if let (Over::Direct(to), Some(token)) = (probe.over, probe.challenge) {
                            prop_assert_eq!(probeable(to.at), Ok(()));
                            sent.push((to.at, token));
                        }
                    }
                    prop_assert!(punch.wake().is_none_or(|w| w > now || now == Instant::FAR), "{:?} at {:?}", punch.wake(), now);
                },
                Step::Time(to) => now = Instant(to),
            }
            prop_assert!(punch.send_address().is_none_or(|to| proven.contains(&to.at)));
            prop_assert_eq!(punch.verdict() == Verdict::Direct && punch.send_address().is_none(), false);
            prop_assert!(punch.responses.len() <= MAX_RESPONSES);
            prop_assert!(punch.candidates.len() <= MAX_GIVEN + MAX_REFLEXIVE);
        }
    }
}
