//! Delivery rate of one path: draft-cheng-iccrg-delivery-rate-estimation.
//!
//! Each packet remembers how much had been delivered when it left ([`Stamp`]). When it is acknowledged, what was delivered
//! in between, over the longer of the time that it took to send that and the time that it took to be acknowledged, is how
//! fast the path delivered. A sample taken while the application had nothing to send is marked: it is a lower bound.
//!
//! Round trips are counted here too: one is over when a packet is acknowledged that left after the last one was over.

use crate::time::{Duration, Instant, nanos};

/// What a packet remembers of the moment at which it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Bytes delivered until then.
    delivered: u64,
    /// When the last of them was.
    delivered_at: Instant,
    /// When the first packet left of those that were sent since.
    first_sent: Instant,
    /// The application had run dry.
    app_limited: bool,
}

/// How fast a path delivered over about one round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    /// Bytes a second.
    pub(super) rate: u64,
    /// The application was the limit, not the path.
    pub(super) app_limited: bool,
}

/// The newest packet of one acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Newest {
    stamp: Stamp,
    sent: Instant,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct DeliveryRate {
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// What is sent until this much has been delivered stands behind a gap of the application's; 0 = no gap.
    limited_until: u64,
    newest: Option<Newest>,
    /// The round trip ends with the first packet that left when this much had been delivered.
    round_ends: u64,
    /// The last sample that says what the path can do, bytes a second.
    estimate: u64,
}

impl DeliveryRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            limited_until: 0,
            newest: None,
            round_ends: 0,
            estimate: 0,
        }
    }

    /// What the path was last seen to deliver, bytes a second; 0 before the first sample. While the application is the
    /// limit, the highest of what was seen.
    pub(super) fn estimate(&self) -> u64 {
        self.estimate
    }

    /// A packet leaves while `in_flight` bytes are under way before it.
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u64) -> Stamp {
        if in_flight == 0 {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            app_limited: self.limited_until > 0,
        }
    }

    /// The application has nothing more to send, with `in_flight` bytes under way.
    pub(super) fn on_dry(&mut self, in_flight: u64) {
        self.limited_until = self.delivered.saturating_add(in_flight).max(1);
    }

    /// A packet of `bytes` that left at `sent` was acknowledged.
    pub(super) fn on_acked(&mut self, now: Instant, stamp: Stamp, sent: Instant, bytes: u64) {
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
        let newer = |n: &Newest| (stamp.delivered, sent) >= (n.stamp.delivered, n.sent);
        if self.newest.as_ref().is_none_or(newer) {
            self.newest = Some(Newest { stamp, sent });
            self.first_sent = sent;
        }
    }

    /// The acknowledgement is complete. Whether a round trip is over with it, and what it says of the path: nothing if
    /// it covers less than a round trip, where the acknowledgements were bunched.
    pub(super) fn finish(&mut self, min_rtt: Duration) -> (bool, Option<Sample>) {
        let Some(Newest { stamp, sent }) = self.newest.take() else { return (false, None) };
        let round = stamp.delivered >= self.round_ends;
        if round {
            self.round_ends = self.delivered;
        }
        if self.delivered > self.limited_until {
            self.limited_until = 0;
        }
        let interval = sent.since(stamp.first_sent).max(self.delivered_at.since(stamp.delivered_at));
        if interval.is_zero() || interval < min_rtt {
            return (round, None);
        }
        let bytes = u128::from(self.delivered.saturating_sub(stamp.delivered));
        let rate = bytes * 1_000_000_000 / u128::from(nanos(interval).max(1));
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if !stamp.app_limited || rate >= self.estimate {
            self.estimate = rate;
        }
        (round, Some(Sample { rate, app_limited: stamp.app_limited }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    const MS: u64 = 1_000_000;

    /// Packets of 1000 bytes each `gap`, acknowledged `rtt` later through a link that passes one each `service`; the
    /// application stops after `dry`, for good if `dry` is the last one.
    fn run(n: u64, gap: u64, rtt: u64, service: u64, dry: Option<u64>) -> (DeliveryRate, Vec<Sample>, u64) {
        let mut rate = DeliveryRate::new(Instant(0));
        let (mut samples, mut rounds, mut out, mut free) = (Vec::new(), 0, VecDeque::new(), 0);
        let deliver = |rate: &mut DeliveryRate, (at, sent, stamp), samples: &mut Vec<Sample>, rounds: &mut u64| {
            rate.on_acked(Instant(at), stamp, Instant(sent), 1000);
            let (round, sample) = rate.finish(Duration::from_nanos(rtt));
            samples.extend(sample);
            *rounds += u64::from(round);
        };
        for i in 0..n {
            let now = i * gap;
            while let Some(&first) = out.front().filter(|f: &&(u64, u64, Stamp)| f.0 <= now) {
                out.pop_front();
                deliver(&mut rate, first, &mut samples, &mut rounds);
            }
            let stamp = rate.on_sent(Instant(now), out.len() as u64 * 1000);
            free = free.max(now) + service;
            out.push_back((free + rtt, now, stamp));
            if dry.is_some_and(|dry| i % dry == 0) {
                rate.on_dry(out.len() as u64 * 1000);
            }
        }
        out.into_iter().for_each(|last| deliver(&mut rate, last, &mut samples, &mut rounds));
        (rate, samples, rounds)
    }

    #[test]
    fn the_estimate_is_the_rate_of_the_narrowest_link_once_it_is_full() {
        // 1000 bytes each millisecond fit, twice that is sent.
        let (rate, samples, _) = run(400, MS / 2, 50 * MS, MS, None);
        assert!((970_000..=1_000_000).contains(&rate.estimate()), "{}", rate.estimate());
        assert!(samples.iter().all(|s| s.rate <= 1_000_000 && !s.app_limited), "never more than the link");
    }

    #[test]
    fn what_the_application_limited_is_marked_and_lowers_no_estimate() {
        let (rate, samples, _) = run(400, 10 * MS, 50 * MS, MS, Some(1));
        assert!(samples.iter().skip(1).all(|s| s.app_limited));
        assert!((95_000..=125_000).contains(&rate.estimate()), "{}", rate.estimate());
    }

    #[test]
    fn a_round_takes_a_round_trip() {
        let (_, _, rounds) = run(1000, MS, 50 * MS, MS / 2, None);
        assert!((19..=22).contains(&rounds), "{rounds} in a second of 50 ms");
    }
}
