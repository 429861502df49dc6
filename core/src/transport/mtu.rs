//! How large a datagram a path carries: datagram packetization layer path MTU discovery, RFC 8899.
//!
//! A path begins at the base size, which everything carries. Once packets of the present size are sent (a game whose
//! packets are small never pays for this), one datagram at a time is padded to a larger size and asks for an
//! acknowledgement. It carries nothing else, is not in flight for congestion control, and its loss says nothing about
//! congestion (RFC 8899 §3). What arrives becomes the size; what fails [`MAX_PROBES`] times bounds the search, which
//! first tries the most that is allowed and then halves. It rests when the bound is near, and begins again after
//! [`RAISE_AFTER`] (PMTU_RAISE_TIMER, RFC 8899 §5.1.1).
//!
//! A path may come to carry less (a tunnel on the way, another route) and swallow what is larger without a word. If
//! several rounds of losses in a row hit datagrams above the base and no such datagram is acknowledged in between, the
//! path falls back to the base at once (black hole detection, RFC 8899 §4.3). So it does when the system refuses the size.

use crate::time::{Duration, Instant};
use crate::wire::frames::Ack;

/// Failures of one size until it counts as too large: MAX_PROBES of RFC 8899 §5.1.2. One may well be a random loss.
const MAX_PROBES: u8 = 3;
/// Bytes between what works and what does not below which no further probe is worth its bytes.
const NEAR: usize = 16;
/// Pause before a search that came to rest is taken up: RFC 8899 §5.1.1.
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Pause after a black hole: a route that flaps does so for a while.
const AFTER_HOLE: Duration = Duration::from_secs(60);
/// Rounds of losses in a row, of datagrams above the base alone, that make a black hole. Timeouts do not count: at the end of
/// a transfer several in a row may follow from one lost datagram, and the probes that they send are of the base size.
const HOLE: u8 = 3;
/// Probe timeouts until a probe that nobody acknowledged counts as lost.
const PROBE_PTOS: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Probe {
    pn: u64,
    size: usize,
    at: Instant,
}

/// One path's search. Sizes are those of UDP payloads, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Mtu {
    base: usize,
    current: usize,
    /// The most that is allowed.
    ceiling: usize,
    /// The least that is known to fail, or one more than what is allowed.
    fails: usize,
    probe: Option<Probe>,
    failures: u8,
    /// No probe before then.
    rest_until: Option<Instant>,
    /// Datagrams of the present size were sent since the last change.
    wanted: bool,
    holes: u8,
}

impl Mtu {
    /// A path that carries `base`, and is asked for no more until [`Self::allow`].
    pub(super) const fn new(base: usize) -> Self {
        Self {
            base,
            current: base,
            ceiling: base,
            fails: base + 1,
            probe: None,
            failures: 0,
            rest_until: None,
            wanted: false,
            holes: 0,
        }
    }

    /// Allows sizes of up to `ceiling`.
    pub(super) fn allow(&mut self, ceiling: usize) {
        *self = Self { ceiling: ceiling.max(self.base), fails: ceiling.max(self.base) + 1, ..Self::new(self.base) };
    }

    /// Begins with a size that was found before, within what is allowed. Should it not pass any more, that is a black hole
    /// like another.
    pub(super) fn inherit(&mut self, size: usize) {
        self.current = size.clamp(self.base, self.ceiling);
    }

    /// The size of full datagrams.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The size that is always safe.
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// The size to probe for now.
    pub(super) fn due(&self, now: Instant) -> Option<usize> {
        if !self.wanted || self.probe.is_some() || self.rest_until.is_some_and(|until| now < until) {
            return None;
        }
        self.next_size()
    }

    fn next_size(&self) -> Option<usize> {
        if self.fails > self.ceiling {
            return (self.ceiling > self.current).then_some(self.ceiling);
        }
        let between = self.fails.saturating_sub(self.current);
        (between > NEAR).then_some(self.current + between / 2)
    }

    pub(super) fn on_probe_sent(&mut self, now: Instant, pn: u64, size: usize) {
        self.rest_until = None;
        self.probe = Some(Probe { pn, size, at: now });
    }

    /// A datagram of the present size went out: more would be of use.
    pub(super) fn on_full(&mut self) {
        self.wanted = true;
    }

    /// An acknowledgement arrived: of the probe, or of later ones without it.
    pub(super) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>, pto: Duration) {
        let Some(probe) = self.probe else { return };
        if ack.ranges().any(|(start, end)| start <= probe.pn && probe.pn <= end) {
            (self.probe, self.failures, self.holes) = (None, 0, 0);
            self.current = self.current.max(probe.size);
            self.rest(now);
        } else if now.since(probe.at) >= pto * PROBE_PTOS {
            self.on_failed(now, probe.size, 1);
        }
    }

    /// A datagram of `size` was acknowledged.
    pub(super) fn on_acked(&mut self, size: usize) {
        if size > self.base {
            self.holes = 0;
        }
    }

    /// At one moment datagrams were found lost; the largest of them had `size`. Says whether the path fell back to the base.
    pub(super) fn on_lost(&mut self, now: Instant, size: usize) -> bool {
        if self.current == self.base || size <= self.base {
            return false;
        }
        self.holes = self.holes.saturating_add(1);
        if self.holes < HOLE {
            return false;
        }
        self.fall(now, self.current);
        true
    }

    /// The system refused a datagram of `size`.
    pub(super) fn on_too_big(&mut self, now: Instant, size: usize) {
        match self.probe {
            Some(probe) if probe.size == size => self.on_failed(now, size, MAX_PROBES),
            // What the base is cut to is not ours to lower: RFC 8899 §5.2, and an attacker's word would do it.
            _ if size > self.base && size <= self.current => self.fall(now, size),
            _ => {}
        }
    }

    fn fall(&mut self, now: Instant, failed: usize) {
        self.current = self.base;
        (self.probe, self.failures, self.holes, self.wanted) = (None, 0, 0, false);
        self.fails = failed;
        self.rest_until = Some(now + AFTER_HOLE);
    }

    fn on_failed(&mut self, now: Instant, size: usize, count: u8) {
        self.probe = None;
        self.failures = self.failures.saturating_add(count);
        if self.failures >= MAX_PROBES {
            self.failures = 0;
            self.fails = size;
            self.rest(now);
        }
    }

    /// Rests if there is nothing left to try; then everything may be tried again.
    fn rest(&mut self, now: Instant) {
        if self.next_size().is_none() {
            self.fails = self.ceiling + 1;
            self.rest_until = Some(now + RAISE_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ranges::Ranges;
    use crate::wire::buf::Writer;
    use crate::wire::frames::{self, Frame, Frames};
    use proptest::prelude::*;

    const PTO: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ack(mtu: &mut Mtu, now: Instant, pn: u64) {
        let mut numbers = Ranges::default();
        numbers.insert(pn, pn + 1);
        let mut bytes = [0; 64];
        let mut w = Writer::new(&mut bytes);
        frames::write_ack(&mut w, 1, 0, numbers.descending(), 32, None).unwrap();
        let Some(Ok(Frame::Ack(ack))) = Frames::new(w.written()).next() else { panic!("written as one") };
        mtu.on_ack(now, &ack, PTO);
    }

    /// Probes until the search rests, on a path that carries `carries`; says how many probes it took.
    fn search(mtu: &mut Mtu, mut now: Instant, carries: usize) -> u64 {
        let mut probes = 0;
        mtu.on_full();
        while let Some(size) = mtu.due(now) {
            mtu.on_probe_sent(now, 2 * probes, size);
            assert_eq!(mtu.due(now), None, "one at a time");
            now = now + PTO * PROBE_PTOS;
            ack(mtu, now, if size <= carries { 2 * probes } else { 2 * probes + 1 });
            probes += 1;
            assert!(probes < 40, "a search ends");
        }
        probes
    }

    fn allowed(ceiling: usize) -> Mtu {
        let mut mtu = Mtu::new(1200);
        mtu.allow(ceiling);
        mtu
    }

    proptest! {
        #[test]
        fn a_search_ends_near_what_the_path_carries_and_never_above_it(carries in 1200usize..1600, ceiling in 1200usize..1500) {
            let mut mtu = allowed(ceiling);
            search(&mut mtu, at(0), carries);
            let best = carries.min(ceiling);
            prop_assert!(mtu.current() <= best);
            prop_assert!(mtu.current() + NEAR >= best, "{} of {best}", mtu.current());
        }
    }

    #[test]
    fn an_ordinary_path_takes_one_probe_and_a_narrow_one_a_few() {
        let mut mtu = allowed(1472);
        assert_eq!((search(&mut mtu, at(0), 1472), mtu.current()), (1, 1472));
        let mut mtu = allowed(1472);
        assert_eq!((search(&mut mtu, at(0), 1412), mtu.current()), (12, 1412));
    }

    #[test]
    fn nothing_is_probed_before_full_datagrams_are_sent_nor_where_nothing_more_is_allowed() {
        assert_eq!(allowed(1472).due(at(0)), None);
        let mut mtu = Mtu::new(1200);
        mtu.on_full();
        assert_eq!(mtu.due(at(0)), None);
    }

    #[test]
    fn losses_of_large_datagrams_alone_are_a_black_hole_and_any_that_arrives_says_it_is_none() {
        let mut mtu = allowed(1472);
        search(&mut mtu, at(0), 1472);
        for _ in 0..20 {
            assert!(!mtu.on_lost(at(1), 1472));
            assert!(!mtu.on_lost(at(1), 1472));
            mtu.on_acked(1300);
        }
        mtu.on_lost(at(2), 1472);
        mtu.on_acked(1200);
        assert!(!mtu.on_lost(at(2), 1200), "what is not above the base proves nothing");
        mtu.on_lost(at(2), 1472);
        assert!(mtu.on_lost(at(2), 1472));
        assert_eq!(mtu.current(), 1200);
        mtu.on_full();
        assert_eq!(mtu.due(at(3)), None, "it rests");
        assert!(mtu.due(at(2) + AFTER_HOLE).is_some_and(|size| size < 1472));
    }

    #[test]
    fn a_size_that_the_system_refuses_is_given_up_at_once_and_the_base_never() {
        let mut mtu = allowed(1472);
        mtu.on_full();
        mtu.on_probe_sent(at(0), 5, 1472);
        mtu.on_too_big(at(0), 1472);
        assert_eq!(mtu.due(at(0)), Some(1336));
        mtu.on_probe_sent(at(0), 6, 1336);
        ack(&mut mtu, at(1), 6);
        assert_eq!(mtu.current(), 1336);
        mtu.on_too_big(at(2), 1200);
        mtu.on_too_big(at(2), 100);
        assert_eq!(mtu.current(), 1336);
        mtu.on_too_big(at(2), 1300);
        assert_eq!(mtu.current(), 1200);
    }

    #[test]
    fn a_search_that_rests_begins_again_after_ten_minutes() {
        let mut mtu = allowed(1472);
        search(&mut mtu, at(0), 1300);
        assert_eq!(mtu.due(at(599_000)), None);
        assert_eq!(mtu.due(at(700_000)), Some(1472));
    }
}
