//! Challenges to many ways at a steady rate, each of which is unlikely to lead anywhere: what remains when no address of
//! the peer is known to be of use. It moves tokens, like [`Punch`](super::Punch), whose part it is.
//!
//! Four uses, three shapes:
//!
//! - **Predicted ports**, and **openers** from many sockets to one address: a *list* of ways, challenged one after the other
//!   and the whole list again after a pause, as the first packet to an address often only opens our own NAT.
//! - **Guessed ports**: a *sweep* over a range in a random order without repetition. Where the peer has opened its NAT at 256
//!   ports of 64,512, 2,048 guesses meet at least one with a probability of 1 − C(N−256, 2048) / C(N, 2048) = 99.97 %:
//!   the birthday paradox, whence the technique's name.
//! - **A way to be opened** from both sides before anything gets through: some routers take a packet that nobody inside asked
//!   for as the beginning of a connection of their own, and give what is then sent to its source another port (Linux with
//!   an INPUT chain that accepts); others shut its sender out. So the way is challenged first with packets that pass this
//!   end's own NATs and die soon after ([`OPENER_HOPS`]), until the peer has surely done the same; then with whole ones.
//!
//! What answers is told as the way that was challenged; the owner then treats it as any other candidate. Nothing is sent
//! faster than the interval given, and nothing beyond the given number of ways or probes.

use super::Way;
use crate::entropy::Rng;
use crate::time::{Duration, Instant};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Openers are aimed anew when the peer turns out to send from another port than was known. Behind a NAT that gives each of
/// our ports another one of its own that never ends, so it is done only so often.
const MAX_RETARGETS: u32 = 4;

/// Routers that an opener may pass: this end's own, a carrier's and two in between. From there to the peer's NAT it is farther nearly
/// everywhere; a neighbour in the same carrier's network may be nearer, and then it is a packet like others.
pub(super) const OPENER_HOPS: u8 = 5;
/// Between two challenges to one way: often enough that several are lost before one is missed.
const ONE_WAY_INTERVAL: Duration = Duration::from_millis(50);
/// Whole challenges to it: a second of them.
const WHOLE: u32 = 20;

/// A prime greater than any port. Its group of units has 2^16 elements, so that the odd powers of [`GENERATOR`] generate it
/// as well: multiplying by one of them again and again visits every port once, in an order that looks like none.
const PRIME: u64 = 65_537;
const GENERATOR: u64 = 3;

/// See the module's text.
pub(crate) struct Spray {
    shape: Shape,
    interval: Duration,
    next: Instant,
    /// Passes over a list in all.
    passes: u32,
    /// The token to each way of a list, or to each port swept so far, which its lowest 16 bits name.
    tokens: Vec<u64>,
}

enum Shape {
    List {
        ways: Vec<Way>,
        /// The next of them.
        place: usize,
        /// Passes over the list that are left, the present one included.
        passes: u32,
        /// Between two passes.
        pause: Duration,
        /// How many ways a pass has, some of which are yet to come.
        whole: usize,
        /// Whether all ways lead to one address, which can be another.
        openers: bool,
        retargets: u32,
    },
    Sweep {
        /// Its port means nothing.
        at: Way,
        first: u16,
        last: u16,
        /// The last number of the sequence, and what leads to the next.
        number: u64,
        factor: u64,
        left: u16,
    },
    Opening {
        way: Way,
        /// When packets that get there begin.
        whole_from: Instant,
        left: u32,
    },
}

impl Spray {
    /// Challenges each of `ways` `passes` times, with `pause` between one pass and the next.
    pub(crate) fn list(now: Instant, interval: Duration, ways: Vec<Way>, passes: u32, pause: Duration) -> Self {
        let (tokens, whole) = (Vec::with_capacity(ways.len()), ways.len());
        let shape = Shape::List { ways, place: 0, passes, pause, whole, openers: false, retargets: 0 };
        Self { shape, interval, next: now, passes, tokens }
    }

    /// The same to one address from `whole` sockets that are yet to come by [`Self::add`].
    pub(crate) fn openers(now: Instant, interval: Duration, whole: usize, passes: u32, pause: Duration) -> Self {
        let shape = Shape::List { ways: Vec::new(), place: 0, passes, pause, whole, openers: true, retargets: 0 };
        Self { shape, interval, next: now, passes, tokens: Vec::with_capacity(whole) }
    }

    /// Challenges `probes` different ports from `first` to `last` of the address of `at`, in a random order.
    pub(crate) fn sweep(
        start: Instant,
        interval: Duration,
        at: Way,
        [first, last]: [u16; 2],
        probes: u16,
        rng: &mut Rng,
    ) -> Self {
        let count = u64::from(last.saturating_sub(first)) + 1;
        let left = probes.min(u16::try_from(count).unwrap_or(u16::MAX));
        let (number, factor) = (1 + rng.below(PRIME - 1), power(GENERATOR, 2 * rng.below(PRIME / 2) + 1));
        let shape = Shape::Sweep { at, first, last, number, factor, left };
        Self { shape, interval, next: start, passes: 1, tokens: Vec::with_capacity(usize::from(left)) }
    }

    /// Opens this end's NAT towards `way` for so long, then challenges it; no faster than with `interval`.
    pub(crate) fn opening(now: Instant, interval: Duration, way: Way, opens_for: Duration, rng: &mut Rng) -> Self {
        let interval = interval.max(ONE_WAY_INTERVAL);
        let openers = opens_for.as_nanos().div_ceil(interval.as_nanos());
        let left = WHOLE.saturating_add(u32::try_from(openers).unwrap_or(u32::MAX));
        let shape = Shape::Opening { way, whole_from: now + opens_for, left };
        Self { shape, interval, next: now, passes: 1, tokens: Vec::from([rng.u64()]) }
    }

    /// Over how many routers what is sent now may go, if not over all.
    pub(crate) fn hop_limit(&self, now: Instant) -> Option<u8> {
        match self.shape {
            Shape::Opening { whole_from, .. } if now < whole_from => Some(OPENER_HOPS),
            _ => None,
        }
    }

    /// One more way of a list.
    pub(crate) fn add(&mut self, way: Way) {
        if let Shape::List { ways, .. } = &mut self.shape {
            ways.push(way);
        }
    }

    /// One of the sockets will not come.
    pub(crate) fn fewer(&mut self, now: Instant) {
        if let Shape::List { whole, .. } = &mut self.shape {
            *whole = whole.saturating_sub(1);
        }
        self.end_pass(now);
    }

    /// Begins the next pass over a list if this one is over.
    fn end_pass(&mut self, now: Instant) {
        let Shape::List { place, passes, pause, whole, .. } = &mut self.shape else { return };
        if *place >= *whole && *passes > 0 {
            *passes = if *whole == 0 { 0 } else { *passes - 1 };
            if *passes > 0 {
                *place = 0;
                self.next = now + *pause;
            }
        }
    }

    /// Something came from `from`. Openers go there from now on if it is another port of the same address: the peer's
    /// NAT gave it this one towards us.
    pub(crate) fn heard(&mut self, now: Instant, from: SocketAddr) {
        let Shape::List { ways, place, passes, openers: true, retargets, .. } = &mut self.shape else { return };
        let same = ways.first().is_none_or(|way| way.at.ip() != from.ip() || way.at == from);
        if same || *retargets >= MAX_RETARGETS {
            return;
        }
        *retargets += 1;
        for way in ways.iter_mut() {
            way.at = from;
        }
        (*place, *passes) = (0, self.passes);
        self.tokens.clear();
        self.next = self.next.min(now + self.interval);
    }

    /// The next challenge that is due. `None` until [`Self::wake`].
    pub(crate) fn poll(&mut self, now: Instant, rng: &mut Rng) -> Option<(Way, u64)> {
        if now < self.next || now == Instant::FAR {
            return None;
        }
        match &mut self.shape {
            Shape::List { ways, place, passes, .. } => {
                if *passes == 0 {
                    return None;
                }
                let way = *ways.get(*place)?;
                let token = match self.tokens.get(*place) {
                    Some(token) => *token,
                    None => {
                        let token = rng.u64();
                        self.tokens.push(token);
                        token
                    }
                };
                *place += 1;
                // No catching up: what could not be sent in time makes nothing go faster.
                self.next = now + self.interval;
                self.end_pass(now);
                Some((way, token))
            }
            Shape::Sweep { at, first, last, number, factor, left } => {
                *left = left.checked_sub(1)?;
                let next = |number: &u64| Some(*number * *factor % PRIME);
                let ports = core::iter::successors(next(number), next).take(PRIME as usize);
                let mut ports = ports.filter_map(|number| u16::try_from(number).ok());
                let port = ports.find(|port| (*first..=*last).contains(port))?;
                *number = port.into();
                let token = rng.u64() & !0xffff | u64::from(port);
                self.tokens.push(token);
                self.next = now + self.interval;
                Some((Way { at: SocketAddr::new(at.at.ip(), port), ..*at }, token))
            }
            Shape::Opening { way, left, .. } => {
                *left = left.checked_sub(1)?;
                self.next = now + self.interval;
                Some((*way, *self.tokens.first()?))
            }
        }
    }

    /// The way to which this token was sent.
    pub(crate) fn on_response(&self, token: u64) -> Option<Way> {
        let place = self.tokens.iter().position(|sent| *sent == token)?;
        match &self.shape {
            Shape::List { ways, .. } => ways.get(place).copied(),
            Shape::Sweep { at, .. } => Some(Way { at: SocketAddr::new(at.at.ip(), token as u16), ..*at }),
            Shape::Opening { way, .. } => Some(*way),
        }
    }

    /// Whether all was sent that is to be sent, and when the last of it was due.
    pub(crate) fn over(&self) -> Option<Instant> {
        let over = match &self.shape {
            Shape::List { passes, .. } => *passes == 0,
            Shape::Sweep { left, .. } => *left == 0,
            Shape::Opening { left, .. } => *left == 0,
        };
        over.then_some(self.next)
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        let waits = match &self.shape {
            Shape::List { ways, place, passes, .. } => *passes > 0 && *place < ways.len(),
            Shape::Sweep { left, .. } => *left > 0,
            Shape::Opening { left, .. } => *left > 0,
        };
        waits.then_some(self.next)
    }
}

/// `base` to the power `exponent`, modulo [`PRIME`].
fn power(base: u64, exponent: u64) -> u64 {
    let (mut result, mut square, mut left) = (1, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = result * square % PRIME;
        }
        square = square * square % PRIME;
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, Rng};
    use crate::ids::SocketId;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    const TICK: Duration = Duration::from_millis(10);
    const PAUSE: Duration = Duration::from_millis(300);

    fn rng(seed: u8) -> Rng {
        Entropy::new(&[seed; 32]).stream("spray", 0)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 7], port))
    }

    fn from(socket: u16, port: u16) -> Way {
        Way::new(SocketId(socket), at(port))
    }

    /// Everything that is sent from now on, with its time.
    fn all(spray: &mut Spray, rng: &mut Rng) -> Vec<(Instant, Way, u64)> {
        let mut sent = Vec::new();
        while let Some(wake) = spray.wake() {
            let (way, token) = spray.poll(wake, rng).expect("the wake was for something");
            assert_eq!(spray.poll(wake, rng), None, "one at a time");
            sent.push((wake, way, token));
        }
        sent
    }

    #[test]
    fn a_way_is_opened_by_packets_that_die_on_it_until_the_peers_nat_is_open_and_then_challenged_for_a_second() {
        let (mut rng, way) = (rng(1), from(3, 5000));
        let mut spray = Spray::opening(Instant::ZERO, TICK, way, Duration::from_millis(220), &mut rng);
        let mut sent = Vec::new();
        while let Some(wake) = spray.wake() {
            let limit = spray.hop_limit(wake);
            let (to, token) = spray.poll(wake, &mut rng).unwrap();
            assert_eq!((to, spray.on_response(token)), (way, Some(way)));
            sent.push((wake, limit));
        }
        let openers = sent.iter().filter(|(_, limit)| limit.is_some()).count();
        assert_eq!((openers, sent.len()), (5, 25));
        assert!(sent.iter().all(|(at, limit)| limit.is_some() == (*at < Instant::from_millis(220))));
        assert_eq!(spray.over(), Some(Instant::from_millis(25 * 50)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn a_sweep_visits_different_ports_of_its_range_at_its_rate_and_no_more_than_its_probes(
            seed: u8, one: u16, other: u16, probes in 0u16..3000,
        ) {
            let (first, last) = (one.min(other).max(1), one.max(other).max(1));
            let mut rng = rng(seed);
            let mut spray = Spray::sweep(Instant::ZERO, TICK, from(0, 9), [first, last], probes, &mut rng);
            let sent = all(&mut spray, &mut rng);
            prop_assert_eq!(sent.len(), usize::from(probes).min(usize::from(last - first) + 1));
            let ports: BTreeSet<_> = sent.iter().map(|(_, way, _)| way.at.port()).collect();
            prop_assert_eq!(ports.len(), sent.len());
            prop_assert!(ports.iter().all(|port| (first..=last).contains(port)));
            prop_assert!(sent.windows(2).all(|two| two[1].0.since(two[0].0) == TICK));
            prop_assert!(spray.over().is_some());
            for (_, way, token) in sent {
                prop_assert_eq!(spray.on_response(token), Some(way));
            }
        }
    }

    #[test]
    fn a_sweep_of_all_ports_visits_all_and_in_another_order_each_time() {
        let order = |seed| {
            let mut rng = rng(seed);
            let mut spray = Spray::sweep(Instant::ZERO, TICK, from(0, 9), [1, u16::MAX], u16::MAX, &mut rng);
            all(&mut spray, &mut rng).into_iter().map(|(_, way, _)| way.at.port()).collect::<Vec<_>>()
        };
        let (one, other) = (order(1), order(2));
        assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 65_535);
        assert_ne!(one, other);
    }

    #[test]
    fn of_256_open_ports_a_sweep_meets_one_as_often_as_the_birthday_paradox_says() {
        // 1 − C(N−256, 256) / C(N, 256), by products.
        let expected = 1.0 - (0..256).map(|i| 1.0 - 256.0 / f64::from(64_512 - i)).product::<f64>();
        let mut met = 0;
        for seed in 0..500u32 {
            let mut rng = Entropy::new(&[seed as u8; 32]).stream("birthday", u64::from(seed));
            let open: BTreeSet<u16> = (0..)
                .map(|_| 1024 + rng.below(64_512) as u16)
                .scan(BTreeSet::new(), |seen, port| {
                    seen.insert(port);
                    (seen.len() <= 256).then_some(port)
                })
                .collect();
            let mut spray = Spray::sweep(Instant::ZERO, TICK, from(0, 9), [1024, 65_535], 256, &mut rng);
            met += i32::from(all(&mut spray, &mut rng).iter().any(|(_, way, _)| open.contains(&way.at.port())));
        }
        let sigma = (500.0 * expected * (1.0 - expected)).sqrt();
        assert!((f64::from(met) - 500.0 * expected).abs() <= 4.0 * sigma, "{met} of 500, expected {expected}");
    }

    #[test]
    fn a_list_is_challenged_in_its_order_as_often_as_said_with_the_same_tokens() {
        let mut rng = rng(1);
        let ways: Vec<_> = (1..=5).map(|port| from(3, port)).collect();
        let mut spray = Spray::list(Instant::ZERO, TICK, ways.clone(), 3, PAUSE);
        let sent = all(&mut spray, &mut rng);
        assert_eq!(sent.iter().map(|s| s.1).collect::<Vec<_>>(), ways.repeat(3));
        assert_eq!(sent[5].0.since(sent[4].0), PAUSE);
        assert_eq!(sent[0].2, sent[5].2);
        assert_eq!(spray.on_response(sent[2].2), Some(ways[2]));
        assert_eq!(spray.on_response(1), None);
    }

    #[test]
    fn openers_go_out_as_sockets_come_and_the_pass_is_over_when_all_have() {
        let mut rng = rng(2);
        let mut spray = Spray::openers(Instant::ZERO, TICK, 3, 2, PAUSE);
        assert_eq!((spray.wake(), spray.over()), (None, None));
        spray.add(from(1, 9));
        assert_eq!(all(&mut spray, &mut rng).len(), 1);
        spray.add(from(2, 9));
        assert_eq!(all(&mut spray, &mut rng).len(), 1, "the first waits for the third");
        spray.fewer(Instant::from_millis(500));
        assert_eq!(spray.wake(), Some(Instant::from_millis(500) + PAUSE));
        assert_eq!(all(&mut spray, &mut rng).len(), 2);
        assert!(spray.over().is_some());
        let mut none = Spray::openers(Instant::ZERO, TICK, 1, 2, PAUSE);
        none.fewer(Instant::ZERO);
        assert!(none.over().is_some());
    }

    #[test]
    fn openers_follow_the_peer_to_another_port_of_its_address_a_few_times_and_never_to_another_address() {
        let mut rng = rng(3);
        let mut spray = Spray::openers(Instant::ZERO, TICK, 1, 1, PAUSE);
        spray.add(from(1, 9));
        spray.heard(Instant::ZERO, SocketAddr::from(([198, 51, 100, 1], 9)));
        assert_eq!(spray.poll(Instant::ZERO, &mut rng).map(|s| s.0), Some(from(1, 9)));
        let mut targets = Vec::new();
        for port in 10..20 {
            let mut spray = Spray::openers(Instant::ZERO, TICK, 2, 1, PAUSE);
            spray.add(from(1, 9));
            spray.heard(Instant::ZERO, at(port));
            targets.extend(spray.poll(Instant::ZERO, &mut rng).map(|s| s.0.at.port()));
        }
        assert_eq!(targets, (10..20).collect::<Vec<_>>());
        let mut spray = Spray::openers(Instant::ZERO, TICK, 2, 1, PAUSE);
        spray.add(from(1, 9));
        (10..20).for_each(|port| spray.heard(Instant::ZERO, at(port)));
        let last = spray.poll(Instant::ZERO, &mut rng).map(|s| s.0.at.port());
        assert_eq!(last, Some(9 + MAX_RETARGETS as u16));
    }
}
