//! Credit of links and scopes, the longest messages, and memory.

use super::*;
use crate::command::Class;
use proptest::prelude::*;

fn group(n: u32) -> Scope {
    Scope::Group(GroupId::new(n, 1), 1, Channel::reliable(0))
}

fn config(max_message: usize) -> TransportConfig {
    let buffer = 4 * max_message;
    TransportConfig { max_message, send_buffer: buffer, receive_credit: buffer as u64, ..TransportConfig::default() }
}

#[test]
fn a_scope_that_is_held_up_leaves_credit_and_room_to_the_others() {
    let mut pair = Pair::new(1);
    pair.open();
    // Nobody polls the join, so all of the group's messages wait before their gate.
    for _ in 0..100 {
        while pair.ends[A].send_next(pair.now, group(1), &[1; 4000]).is_ok() {}
        pair.run(ms(50));
    }
    for n in 0..20 {
        pair.send(A, PEER, &numbered(n, 10_000));
        pair.until(ms(500), |p| p.got[B].len() == n as usize + 1);
    }
    pair.ends[B].open_group(GroupId::new(1, 1), 1);
    pair.until(ms(5000), |p| p.ends[A].room() == (256 << 10) - 64);
}

#[test]
fn longer_messages_than_every_end_takes_wait_until_the_other_said_that_it_takes_them() {
    let mut pair = Pair::with(2, &config(1 << 20), PAYLOAD);
    pair.open();
    let long = numbered(7, 1 << 20);
    assert_eq!(pair.ends[A].send_next(pair.now, PEER, &long), Err(TransportSendError::Full));
    assert_eq!(pair.ends[A].writable(), None);
    pair.wires[0].loss = 100;
    pair.send(B, PEER, b"a word");
    pair.until(ms(2000), |p| !p.got[A].is_empty());
    assert_eq!(pair.ends[A].writable(), PEER.channel());
    pair.send(A, PEER, &long);
    pair.until(ms(60_000), |p| !p.got[B].is_empty());
    assert!(pair.bytes_of(B, PEER) == [long]);
}

#[test]
fn the_largest_message_there_is_arrives_whole_through_loss() {
    let most = crate::config::LARGEST_MESSAGE;
    let mut pair = Pair::with(2, &config(most), PAYLOAD);
    pair.open();
    pair.send(B, PEER, b"a word");
    pair.until(ms(2000), |p| !p.got[A].is_empty());
    pair.wires[0].loss = 5;
    let long: Vec<u8> = (0..most as u32).map(|n| (n / 1000) as u8 ^ n as u8).collect();
    assert_eq!(
        pair.ends[A].send_next(pair.now, PEER, &[long.clone(), vec![1]].concat()),
        Err(TransportSendError::TooLarge { max: most })
    );
    pair.send(A, PEER, &long);
    pair.until(ms(600_000), |p| !p.got[B].is_empty());
    assert!(pair.bytes_of(B, PEER) == [long]);
}

#[test]
fn a_peer_that_takes_less_is_not_sent_more() {
    let mut pair = Pair::new(3);
    pair.open();
    let rng = Entropy::new(&[9; 32]).stream("end", 9);
    pair.ends[A] = Transport::new(pair.now, &config(1 << 20), rng, ms(60), PAYLOAD);
    pair.ends[A].open_peer();
    assert_eq!(pair.ends[A].send_next(pair.now, PEER, &[1; 100_000]), Err(TransportSendError::Full));
    pair.send(B, PEER, b"a word");
    pair.until(ms(500), |p| !p.got[A].is_empty());
    assert_eq!(pair.ends[A].writable(), PEER.channel(), "to be told why");
    let refused = pair.ends[A].send_next(pair.now, PEER, &[1; 100_000]);
    assert_eq!(refused, Err(TransportSendError::TooLarge { max: 64 << 10 }));
    pair.send(A, PEER, &[1; 64 << 10]);
    pair.until(ms(5000), |p| !p.got[B].is_empty());
}

#[test]
fn a_window_grows_for_an_application_that_keeps_up_and_for_no_other() {
    for polls in [true, false] {
        let config = TransportConfig { send_buffer: 4 << 20, receive_credit: 2 << 20, ..TransportConfig::default() };
        let mut pair = Pair::with(4, &config, PAYLOAD);
        pair.open();
        pair.polls[B] = polls;
        let scopes = [1, 2, 3].map(|n| Scope::Peer(Channel::reliable(n)));
        for _ in 0..100 {
            scopes.iter().for_each(|&scope| while pair.ends[A].send_next(pair.now, scope, &[1; 10_000]).is_ok() {});
            pair.run(ms(30));
            pair.got[B].clear();
            if !polls {
                // One message now and then: it takes what comes, but not in time.
                pair.ends[B].next_message(pair.now, &mut Vec::new());
            }
        }
        let window = pair.ends[B].incoming.credit.window();
        assert_eq!(window, if polls { (2 << 20) / 4 * 5 } else { 320 << 10 });
        assert!(pair.ends[B].incoming.credit.in_use() <= window);
    }
}

#[test]
fn an_end_never_opens_more_scopes_than_the_other_accepts() {
    let mut pair = Pair::new(5);
    let results: Vec<_> = (0..4100).map(|n| pair.ends[A].send_next(pair.now, group(n), b"")).collect();
    let opened = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!((opened, results.last()), (4096, Some(&Err(TransportSendError::TooManyScopes))));
    pair.run(ms(1000));
    // Their end counts until the other has heard of it.
    pair.ends[A].close_group(GroupId::new(0, 1), 1);
    assert_eq!(pair.ends[A].send_next(pair.now, PEER, b""), Err(TransportSendError::TooManyScopes));
    pair.run(ms(200));
    pair.send(A, PEER, b"");
    pair.run(ms(200));
}

#[test]
fn what_max_unreliable_len_says_goes_in_one_packet() {
    for payload in [300, PAYLOAD, 1400] {
        let mut pair = Pair::with(6, &TransportConfig::default(), payload);
        pair.open();
        let len = pair.ends[A].max_unreliable_len();
        assert!(len > payload - 70);
        for n in 0..10 {
            let options = SendOptions::default().replaces(u32::MAX - n);
            pair.send_as(A, SEQUENCED, &numbered(n, len), options);
            let before = pair.log.len();
            pair.run(ms(200));
            let sent = pair.log[before..].iter().filter(|packet| packet.from == A && packet.eliciting).count();
            assert_eq!(sent, 1);
        }
        assert_eq!(pair.got[B].len(), 10);
    }
}

#[test]
fn memory_is_told_and_an_idle_link_gives_its_buffers_back() {
    let mut pair = Pair::new(7);
    pair.open();
    pair.polls[B] = false;
    (0..40).for_each(|n| pair.send(A, PEER, &numbered(n, 3000)));
    let memory = |p: &Pair, n: usize| {
        let mut memory = Memory::default();
        p.ends[n].add_memory(&mut memory);
        memory
    };
    assert_eq!(memory(&pair, A).sending.used, 40 * 3064);
    pair.run(ms(5000));
    assert_eq!((memory(&pair, A).sending.used, memory(&pair, B).receiving.used), (0, 40 * 3064));
    pair.polls[B] = true;
    pair.run(ms(1));
    assert_eq!(memory(&pair, B).receiving.used, 0);
    assert!(memory(&pair, B).spare.used > 100_000);
    assert_eq!(memory(&pair, A).spare, Usage { used: 0, budget: 1 << 20 });
    pair.send(A, PEER, b"");
    pair.run(ms(1900));
    assert!(memory(&pair, B).spare.used > 100_000, "not between two messages of a game");
    pair.run(ms(300));
    assert_eq!((memory(&pair, A).spare.used, memory(&pair, B).spare.used), (0, 0));
    assert!(pair.ends.iter().all(|end| end.wake().is_none()));
    pair.send(A, PEER, b"and works on");
    pair.until(ms(100), |p| p.got[B].len() == 42);
}

#[test]
fn memory_stays_within_its_budget_under_gaps() {
    let mut pair = Pair::new(8);
    pair.open();
    pair.polls[B] = false;
    pair.wires[0].loss = 500;
    for n in 0..300u32 {
        for scope in [PEER, UNORDERED, group(1), group(2), LOOSE, SEQUENCED] {
            let len = (n * 997 % 9000) as usize;
            let _ = pair.ends[A].send(pair.now, scope, None, &numbered(n, len), &SendOptions::default());
        }
        pair.run(ms(10));
        for end in &pair.ends {
            let mut memory = Memory::default();
            end.add_memory(&mut memory);
            for usage in [memory.sending, memory.receiving, memory.spare] {
                assert!(usage.used <= usage.budget, "{memory:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_is_sent_in_whatever_class_all_that_is_reliable_arrives(
        seed in 0u64..1000, loss in 0u64..200,
        sends in proptest::collection::vec((0u8..6, 0usize..3, 0usize..65_537, any::<bool>()), 1..60),
    ) {
        let mut pair = Pair::new(seed);
        pair.open();
        pair.ends[B].open_group(GroupId::new(1, 1), 1);
        pair.wires[0] = Wire { loss, jitter: ms(10), ..Wire::of(ms(10)) };
        let mut taken = 0;
        for (n, (channel, class, len, polls)) in (0..).zip(sends) {
            let scope = match channel {
                0..3 => Scope::Peer(Channel::reliable(channel)),
                3..5 => Scope::Peer(Channel::unordered(channel)),
                _ => group(1),
            };
            pair.polls[B] = polls;
            let options = SendOptions::default().class(Class::ALL[class]);
            let sent = pair.ends[A].send(pair.now, scope, None, &numbered(n, len), &options);
            taken += usize::from(sent.is_ok());
            pair.run(ms(20));
        }
        pair.polls[B] = true;
        pair.until(ms(120_000), |p| p.got[B].len() == taken);
        pair.run(ms(3000));
        prop_assert_eq!(pair.ends[A].room(), (256 << 10) - 64);
        prop_assert_eq!(pair.ends[A].path_stats(MAIN).in_flight, 0, "every packet is settled");
    }
}
