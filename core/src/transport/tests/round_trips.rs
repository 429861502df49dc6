//! What counts as a sample of a round trip: RFC 9002 §5.1.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A packet that was built: when, and whether it asks for an acknowledgement.
type Built = BTreeMap<u64, (Instant, bool)>;

#[derive(Clone, Debug)]
enum Act {
    /// A message, and as many packets as the window lets go.
    Send,
    /// A packet comes that asks for an acknowledgement: one goes out that does not.
    Hear,
    Wait(u64),
    /// The peer acknowledges a packet of a path, counted from the newest, and so many before it.
    Ack {
        path: PathId,
        back: usize,
        below: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Send),
        2 => Just(Act::Hear),
        3 => (0..60u64).prop_map(Act::Wait),
        4 => (MAIN..=DIRECT, 0..8usize, 0..6usize).prop_map(|(path, back, below)| Act::Ack { path, back, below }),
    ]
}

struct End {
    end: Transport,
    now: Instant,
    heard: u64,
    built: [Built; 2],
}

impl End {
    fn new() -> Self {
        let now = Instant::from_millis(1000);
        let rng = Entropy::new(&[9; 32]).stream("end", 1);
        let mut end = Transport::new(now, &TransportConfig::default(), rng, ms(50), PAYLOAD);
        end.open_peer();
        end.open_path(now, DIRECT, ms(20), PAYLOAD);
        Self { end, now, heard: 0, built: Default::default() }
    }

    fn feed(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let mut buf = [0; 1200];
        let mut w = Writer::new(&mut buf);
        write(&mut w);
        let len = w.len();
        self.heard += 1;
        let taken = self.end.received(self.now, MAIN, self.heard, Ecn::NotCapable, &buf[..len], &mut |_| ());
        assert_eq!(taken, Ok(()), "what was built may be acknowledged");
    }

    fn flush(&mut self) {
        self.end.on_wake(self.now);
        while let Some(path) = self.end.wants(self.now) {
            let mut buf = [0; 1500];
            let built = self.end.build(self.now, path, &mut Writer::new(&mut buf)).unwrap();
            self.built[usize::from(path)].insert(built.pn, (self.now, built.ack_eliciting));
        }
    }

    /// A range that ends at one of the newest packets and holds nothing that was not sent.
    fn range(&self, path: PathId, back: usize, below: usize) -> Option<(u64, u64)> {
        let built = &self.built[usize::from(path)];
        let largest = *built.keys().rev().nth(back)?;
        let start =
            (0..=below as u64).map_while(|n| largest.checked_sub(n).filter(|pn| built.contains_key(pn))).last()?;
        Some((start, largest))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_round_trip_is_sampled_only_from_a_newly_acknowledged_packet_of_that_path_that_asked(
        acts in proptest::collection::vec(act(), 1..80),
    ) {
        let mut it = End::new();
        let mut told = [BTreeSet::new(), BTreeSet::new()];
        for act in acts {
            match act {
                Act::Send => {
                    // A full buffer is as good as any.
                    let _ = it.end.send_next(it.now, PEER, &[7; 700]);
                }
                Act::Hear => it.feed(|w| frames::write_ping(w).unwrap()),
                Act::Wait(time) => it.now = it.now + ms(time),
                Act::Ack { path, back, below } => {
                    let Some((start, largest)) = it.range(path, back, below) else { continue };
                    let samples = || [MAIN, DIRECT].map(|path| it.end.paths[usize::from(path)].rtt.samples());
                    let before = samples();
                    it.feed(|w| frames::write_ack(w, path, 0, [(start, largest)].into_iter(), 32, None).unwrap());
                    let after = [MAIN, DIRECT].map(|path| it.end.paths[usize::from(path)].rtt.samples());
                    let (own, other) = (usize::from(path), usize::from(1 - path));
                    prop_assert_eq!(after[other], before[other], "the other path's");
                    let (at, asked) = it.built[own][&largest];
                    let new = asked && !told[own].contains(&largest);
                    if after[own] != before[own] {
                        prop_assert!(new, "{largest} of {path}");
                        prop_assert_eq!(after[own].1, it.now.since(at));
                    }
                    told[own].extend(start..=largest);
                }
            }
            it.flush();
        }
    }
}

#[test]
fn the_first_word_of_a_packet_that_asked_is_a_sample_and_the_second_is_none() {
    let mut it = End::new();
    it.end.send_next(it.now, PEER, &[7; 700]).unwrap();
    it.flush();
    it.now = it.now + ms(15);
    for _ in 0..2 {
        let range = it.range(DIRECT, 0, 0).unwrap();
        it.feed(|w| frames::write_ack(w, DIRECT, 0, [range].into_iter(), 32, None).unwrap());
        assert_eq!(it.end.paths[usize::from(DIRECT)].rtt.samples(), (1, ms(15)));
    }
}
