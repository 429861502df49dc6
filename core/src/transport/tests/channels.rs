//! Scopes, gates, credit, fragments.

use super::*;
use proptest::prelude::*;

#[test]
fn reliable_and_unreliable_messages_cross_and_small_ones_share_a_packet() {
    let mut pair = Pair::new(1);
    pair.open();
    for n in 0..20 {
        pair.send(A, PEER, &numbered(n, 20));
        pair.send(A, LOOSE, &numbered(n, 20));
    }
    pair.send(A, Scope::Control, b"");
    pair.pump();
    assert_eq!(pair.log.len(), 1, "41 small messages are one packet");
    let took = pair.until(ms(100), |p| p.got[B].len() == 41);
    assert_eq!(took, ms(30));
    assert_eq!(pair.bytes_of(B, PEER), (0..20).map(|n| numbered(n, 20)).collect::<Vec<_>>());
    assert_eq!(pair.bytes_of(B, LOOSE).len(), 20);
    pair.run(ms(3000));
    assert_eq!(pair.ends[A].room(), (256 << 10) - 64, "acknowledged messages free their room");
    assert!(pair.log.len() <= 3, "{:?}", pair.log.len());
    assert!(pair.ends.iter().all(|end| end.wake().is_none()), "nothing is left to wake for");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bytes_arrive_equal_at_any_payload_size(
        seed in 0u64..1000, payload in 200usize..1400, lens in proptest::collection::vec(0usize..9000, 1..12),
        loss in 0u64..200,
    ) {
        let mut pair = Pair::with(seed, &TransportConfig::default(), payload);
        pair.open();
        pair.wires[0].loss = loss;
        pair.wires[0].jitter = ms(20);
        let sent: Vec<_> = lens.iter().zip(0..).map(|(&len, n)| numbered(n, len)).collect();
        sent.iter().for_each(|bytes| pair.send(A, PEER, bytes));
        pair.until(ms(60_000), |p| p.got[B].len() == sent.len());
        prop_assert_eq!(pair.bytes_of(B, PEER), sent);
    }
}

#[test]
fn an_unreliable_message_of_many_packets_arrives_whole_or_not_at_all() {
    let mut pair = Pair::new(2);
    pair.open();
    let large = numbered(7, 16 << 10);
    pair.send(A, LOOSE, &large);
    pair.run(ms(500));
    assert_eq!(pair.bytes_of(B, LOOSE), std::slice::from_ref(&large));
    pair.wires[0].loss = 300;
    for _ in 0..20 {
        pair.send(A, LOOSE, &large);
        pair.run(ms(1000));
    }
    assert!(pair.got[B].iter().all(|(_, bytes)| *bytes == large));
    let too_large = pair.ends[A].send_next(pair.now, LOOSE, &[0; (16 << 10) + 1]);
    assert_eq!(too_large, Err(TransportSendError::TooLarge { max: 16 << 10 }));
}

#[test]
fn an_application_that_stops_polling_stops_the_sender_and_only_for_reliable_data() {
    let mut pair = Pair::new(3);
    pair.open();
    pair.polls[B] = false;
    let mut queued = 0;
    for _ in 0..100 {
        while pair.ends[A].send_next(pair.now, PEER, &numbered(queued, 4000)).is_ok() {
            queued += 1;
        }
        pair.run(ms(200));
    }
    let waiting = pair.ends[B].take_ready();
    assert_eq!(waiting, (256 << 10) / 4064, "as many as the scope's credit affords");
    pair.send(A, Scope::Control, b"control");
    pair.send(A, LOOSE, b"loose");
    pair.run(ms(200));
    assert_eq!(pair.ends[B].take_ready(), 1, "the unreliable one");
    assert_eq!(pair.bytes_of(B, Scope::Control).len(), 1, "control never waits for the application");
    assert_eq!(pair.ends[A].writable(), None);
    pair.polls[B] = true;
    pair.until(ms(20_000), |p| p.bytes_of(B, PEER).len() == queued as usize);
    assert_eq!([pair.ends[A].writable(), pair.ends[A].writable()], [PEER.channel(), None], "told once");
    assert_eq!(pair.bytes_of(B, PEER), (0..queued).map(|n| numbered(n, 4000)).collect::<Vec<_>>());
}

#[test]
fn messages_wait_before_a_closed_gate_and_pass_in_order_when_it_opens() {
    let mut pair = Pair::new(4);
    let group = GroupId::new(1, 1);
    let (old, new) = (Scope::Group(group, 5, Channel::reliable(0)), Scope::Group(group, 9, Channel::reliable(0)));
    let loose = Scope::Group(group, 9, Channel::unreliable(0));
    for n in 0..30u32 {
        pair.send_at(A, old, u64::from(n) + 100, &numbered(n, 8)).unwrap();
        pair.send_at(A, new, u64::from(n) + 500, &numbered(n, 8)).unwrap();
        pair.send_at(A, loose, u64::from(n), &numbered(n, 8)).unwrap();
        pair.send(A, PEER, &numbered(n, 8));
    }
    pair.run(ms(500));
    assert_eq!((pair.ends[B].take_ready(), pair.got[B].len()), (0, 0));
    pair.ends[B].open_peer();
    pair.run(ms(1));
    assert_eq!(pair.got[B].len(), 30);
    pair.ends[B].open_group(group, 9);
    pair.run(ms(1));
    let numbers: Vec<_> = (0..30).map(|n| numbered(n, 8)).collect();
    assert_eq!(pair.bytes_of(B, new), numbers);
    assert_eq!(pair.bytes_of(B, old), Vec::<Vec<u8>>::new(), "an older epoch than the open one is dropped");
    assert_eq!(pair.bytes_of(B, loose), numbers[14..], "the newest sixteen were held");
}

#[test]
fn nothing_of_a_group_is_handed_on_after_its_close_and_its_credit_comes_back() {
    let mut pair = Pair::new(5);
    pair.polls[B] = false;
    // Many rounds, so that credit that leaked would stop them.
    for round in 0..60u32 {
        let group = GroupId::new(round, 1);
        let scope = Scope::Group(group, u64::from(round) + 1, Channel::reliable(0));
        if round % 3 != 0 {
            pair.ends[B].open_group(group, u64::from(round) + 1);
        }
        pair.wires[0].loss = 100 * u64::from(round % 4);
        let mut seq = 0;
        while pair.send_at(A, scope, seq, &numbered(round, 5000)).is_ok() {
            seq += 1;
        }
        assert!(seq > 30);
        pair.run(ms(u64::from(round) * 7));
        let (first, second) = if round % 2 == 0 { (A, B) } else { (B, A) };
        pair.ends[first].close_group(group, u64::from(round) + 1);
        pair.run(ms(u64::from(round % 5) * 20));
        pair.ends[second].close_group(group, u64::from(round) + 1);
        assert!(pair.ends[B].next_message(pair.now, &mut Vec::new()).is_none(), "in round {round}");
    }
    pair.wires[0].loss = 0;
    pair.polls[B] = true;
    pair.open();
    for n in 0..40 {
        pair.send(A, PEER, &numbered(n, 6000));
    }
    pair.until(ms(20_000), |p| p.got[B].len() == 40);
    assert_eq!(pair.bytes_of(B, PEER).len(), 40);
    assert!(pair.ends[B].next_message(pair.now, &mut Vec::new()).is_none());
}

#[test]
fn what_is_held_for_a_later_stay_survives_the_end_of_an_earlier_one_that_was_never_opened() {
    let mut pair = Pair::new(6);
    let group = GroupId::new(1, 1);
    let stay = |epoch| Scope::Group(group, epoch, Channel::reliable(0));
    pair.send_at(A, stay(3), 0, b"earlier").unwrap();
    pair.send_at(A, stay(5), 0, b"later").unwrap();
    pair.run(ms(200));
    // The word on both stays was slower: joined at 3, left, joined at 5, and the first join was never polled.
    pair.ends[B].close_group(group, 3);
    pair.ends[B].open_group(group, 5);
    pair.run(ms(200));
    assert_eq!(pair.bytes_of(B, stay(3)), Vec::<Vec<u8>>::new());
    assert_eq!(pair.bytes_of(B, stay(5)), [b"later"]);
}

#[test]
fn a_newcomers_scope_starts_where_it_is_told_and_numbers_must_not_skip() {
    let mut pair = Pair::new(6);
    let group = GroupId::new(1, 1);
    let scope = Scope::Group(group, 1, Channel::reliable(0));
    pair.ends[B].open_group(group, 1);
    pair.send_at(A, scope, 1 << 40, b"first").unwrap();
    assert_eq!(pair.send_at(A, scope, (1 << 40) + 2, b"gap"), Err(TransportSendError::Sequence));
    pair.send_at(A, scope, (1 << 40) + 1, b"second").unwrap();
    pair.run(ms(200));
    assert_eq!(pair.bytes_of(B, scope), [b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn the_oldest_unreliable_messages_give_way_and_are_counted() {
    let mut pair = Pair::new(7);
    pair.open();
    for n in 0..300 {
        pair.send(A, LOOSE, &numbered(n, 10));
    }
    assert_eq!(pair.ends[A].overflow().sending, 300 - 256);
    pair.polls[B] = false;
    pair.run(ms(300));
    for n in 300..400 {
        pair.send(A, LOOSE, &numbered(n, 10));
    }
    pair.run(ms(300));
    assert_eq!(pair.ends[B].overflow().receiving, 100);
    pair.polls[B] = true;
    pair.run(ms(300));
    assert_eq!(pair.bytes_of(B, LOOSE), (144..400).map(|n| numbered(n, 10)).collect::<Vec<_>>());
}

#[test]
fn a_key_share_is_sent_until_it_is_acknowledged() {
    let mut pair = Pair::new(8);
    pair.wires[0].cut[A] = true;
    pair.ends[A].queue_key_share([9; 32]);
    pair.run(ms(1000));
    assert!(!pair.ends[A].key_share_acked() && pair.frames[B].is_empty());
    pair.wires[0].cut[A] = false;
    pair.until(ms(3000), |p| p.ends[A].key_share_acked());
    assert!(pair.frames[B].iter().all(|frame| *frame == LinkFrame::KeyShare([9; 32])));
}
