//! How far packets of one path overtake each other, learnt from those that were taken for lost and then acknowledged.
//!
//! RFC 9002 §6.1 takes a packet for lost when three later ones are acknowledged, or one that was sent an eighth of a round
//! trip later, and allows both thresholds to grow where that proves wrong. A packet that was given up is remembered for a
//! while. If an acknowledgement names it after all, the packet threshold becomes how far it was overtaken, and the time
//! threshold how long it took, as RACK does (RFC 8985 §6.2, which like us limits the extra to one round trip). After
//! [`FORGET_AFTER`] losses that stayed losses both are as before.

use crate::time::{Duration, Instant};
use crate::wire::frames::Ack;
use alloc::collections::VecDeque;

/// Later packets acknowledged until one counts as lost: RFC 9002 §6.1.1.
pub(super) const PACKETS: u64 = 3;
/// The most that it grows to. Beyond it only the time threshold finds losses, a round trip later at most.
const MAX_PACKETS: u64 = 256;
/// Parts of a round trip in which the time threshold grows, and the most of them: one round trip.
const STEPS: u32 = 8;
/// Given-up packets that are remembered: what a bulk flow may give up in one round of reordering.
const REMEMBERED: usize = 64;
/// Losses in a row that nobody takes back, after which the path reorders no more. RACK waits for 16 recoveries; a
/// recovery here is a packet, and at random loss a few of them fall into one.
const FORGET_AFTER: u32 = 64;

#[derive(Clone, Copy, Debug)]
struct GivenUp {
    pn: u64,
    sent: Instant,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Reordering {
    packets: u64,
    steps: u32,
    /// Ascending by number.
    given_up: VecDeque<GivenUp>,
    /// Losses since the last one that was taken back.
    real: u32,
}

impl Reordering {
    pub(super) const fn new() -> Self {
        Self { packets: PACKETS, steps: 0, given_up: VecDeque::new(), real: 0 }
    }

    /// Later packets acknowledged until one counts as lost.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// What is added to the time threshold.
    pub(super) fn extra(&self, rtt: Duration) -> Duration {
        rtt * self.steps / STEPS
    }

    pub(super) fn on_lost(&mut self, pn: u64, sent: Instant) {
        if self.given_up.len() >= REMEMBERED {
            self.given_up.pop_front();
        }
        // Losses are found in the order of numbers; whatever comes otherwise would never be found again.
        if self.given_up.back().is_none_or(|last| last.pn < pn) {
            self.given_up.push_back(GivenUp { pn, sent });
        }
        self.real += 1;
        if self.real >= FORGET_AFTER {
            (self.packets, self.steps, self.real) = (PACKETS, 0, 0);
        }
    }

    /// An acknowledgement arrived. Tells of each packet in it that had been given up: when it was sent.
    pub(super) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>, rtt: Duration, mut spurious: impl FnMut(Instant)) {
        if self.given_up.is_empty() {
            return;
        }
        let (mut furthest, mut longest, mut found) = (0, Duration::ZERO, false);
        // Both descend: one pass over ranges and packets together.
        let mut place = self.given_up.len();
        for (start, end) in ack.ranges() {
            while let Some(packet) = place.checked_sub(1).and_then(|at| self.given_up.get(at)).copied() {
                if packet.pn < start {
                    break;
                }
                place -= 1;
                if packet.pn <= end {
                    found = true;
                    furthest = furthest.max(ack.largest - packet.pn);
                    longest = longest.max(now.since(packet.sent));
                    spurious(packet.sent);
                    self.given_up.remove(place);
                }
            }
        }
        if found {
            self.real = 0;
            self.packets = self.packets.max(furthest.saturating_add(1)).min(MAX_PACKETS);
            self.steps = self.steps.max(steps(longest, rtt)).min(STEPS);
        }
    }

    /// Numbers of another time are not asked for any more.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}

/// Eighths of a round trip by which a packet exceeded the ordinary time threshold, rounded up.
fn steps(took: Duration, rtt: Duration) -> u32 {
    let over = took.saturating_sub(rtt * 9 / 8);
    (1..STEPS).find(|&n| rtt * n / STEPS >= over).unwrap_or(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ranges::Ranges;
    use crate::wire::buf::Writer;
    use crate::wire::frames::{self, Frame, Frames};

    const RTT: Duration = Duration::from_millis(80);

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    /// Word of packets `ranges`, at `at`; says when those that had been given up were sent.
    fn acked(reordering: &mut Reordering, at: u64, ranges: &[(u64, u64)]) -> alloc::vec::Vec<Instant> {
        let mut numbers = Ranges::default();
        ranges.iter().for_each(|&(start, end)| _ = numbers.insert(start, end + 1));
        let mut bytes = [0; 200];
        let mut w = Writer::new(&mut bytes);
        frames::write_ack(&mut w, 0, 0, numbers.descending(), 32, None).unwrap();
        let mut found = alloc::vec::Vec::new();
        for frame in Frames::new(w.written()) {
            let Frame::Ack(ack) = frame.unwrap() else { panic!("written as an acknowledgement") };
            reordering.on_ack(ms(at), &ack, RTT, |sent| found.push(sent));
        }
        found
    }

    #[test]
    fn a_late_packet_raises_both_thresholds_by_what_it_was_late() {
        let mut reordering = Reordering::new();
        reordering.on_lost(4, ms(0));
        reordering.on_lost(9, ms(5));
        assert_eq!(acked(&mut reordering, 100, &[(10, 12)]), []);
        assert_eq!((reordering.packets(), reordering.extra(RTT)), (PACKETS, Duration::ZERO));
        assert_eq!(acked(&mut reordering, 110, &[(4, 4), (10, 12)]), [ms(0)]);
        // Eight later ones were acknowledged; 110 ms are 20 more than 9/8 of the round trip: two eighths.
        assert_eq!((reordering.packets(), reordering.extra(RTT)), (9, RTT / 4));
        assert_eq!(acked(&mut reordering, 111, &[(4, 4), (10, 12)]), [], "once");
    }

    #[test]
    fn neither_grows_without_bound_and_losses_that_stay_losses_take_both_back() {
        let mut reordering = Reordering::new();
        reordering.on_lost(0, ms(0));
        acked(&mut reordering, 60_000, &[(0, 1 << 40)]);
        assert_eq!((reordering.packets(), reordering.extra(RTT)), (MAX_PACKETS, RTT));
        (1..FORGET_AFTER as u64).for_each(|n| reordering.on_lost(n, ms(n)));
        assert_eq!(reordering.packets(), MAX_PACKETS);
        reordering.on_lost(900, ms(900));
        assert_eq!((reordering.packets(), reordering.extra(RTT)), (PACKETS, Duration::ZERO));
        (1000..2000).for_each(|n| reordering.on_lost(n, ms(n)));
        assert!(reordering.given_up.len() <= REMEMBERED);
    }
}
