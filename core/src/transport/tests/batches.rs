//! Datagrams that leave together are of one length, where the system can take them together.

use super::*;
use proptest::prelude::*;

/// Lengths of the packets of bulk that left at each time.
fn bursts(lens: &[usize], batches: bool) -> Vec<Vec<usize>> {
    let mut pair = Pair::new(7);
    pair.open();
    pair.ends[A].set_batches(batches);
    for (n, &len) in lens.iter().enumerate() {
        pair.send(A, PEER, &numbered(n as u32, len));
    }
    pair.until(ms(20_000), |pair| pair.got[B].len() == lens.len());
    let got = pair.bytes_of(B, PEER);
    assert!(got.iter().enumerate().all(|(n, bytes)| *bytes == numbered(n as u32, lens[n])), "and nothing else arrives");
    let mut bursts: Vec<(Instant, Vec<usize>)> = Vec::new();
    for packet in pair.log.iter().filter(|packet| packet.from == A && packet.eliciting) {
        match bursts.last_mut() {
            Some((at, burst)) if *at == packet.at => burst.push(packet.len),
            _ => bursts.push((packet.at, vec![packet.len])),
        }
    }
    bursts.into_iter().map(|(_, burst)| burst).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn packets_of_a_batch_are_of_one_length_but_its_last(lens in proptest::collection::vec(1usize..4000, 20..60)) {
        for burst in bursts(&lens, true) {
            let (_, others) = burst.split_last().expect("a burst has a packet");
            prop_assert!(others.iter().all(|&len| len == PAYLOAD), "{burst:?}");
        }
    }
}

#[test]
fn nothing_is_filled_up_where_datagrams_leave_one_by_one() {
    let lens = [700; 40];
    let total = |batches| bursts(&lens, batches).concat().iter().sum::<usize>();
    let (alone, together) = (total(false), total(true));
    assert!(alone < together, "{alone} {together}");
    assert!(together * 100 < alone * 104, "one in a hundred in the mean: {alone} {together}");
}
