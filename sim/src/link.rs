//! Links: what happens to a packet between a host (or a NAT) and the network it is attached to.
//!
//! A [`Link`] has two directions, each a [`Direction`] of its own. The effects COMBINE, in the order in which a packet
//! meets them: maximum size, queue (and its ECN marks), transmission at a rate, loss (alone and in bursts), propagation delay, jitter, reordering, corruption,
//! duplication.
//!
//! Every decision is a function of (seed, direction, ordinal of the packet on it): packet `n` owns block `n` of the
//! direction's ChaCha8 stream, and each purpose owns fixed words of the block. Hence taking one effect away, or making a
//! chance smaller, leaves every other decision as it was, which is what lets a failing case shrink. All arithmetic is
//! integer; time is nanoseconds, and transmission carries its remainder, so that a rate is exact over any number of
//! packets.
//!
//! What happens to single packets can also be said outright, by their ordinals: a [`Mishap`] combines with the chances as
//! they do with each other. Chances and mishaps go through the same code, and a wire can write down which mishaps its
//! chances came to; with those listed and the chances gone, everything happens again as it did.

use crate::dice::{Block, Label, below, stream, up_to};
use crate::event::DropReason;
use posse_core::{Duration, Instant};
use rand_chacha::ChaCha8Rng;

/// Bytes of IPv4 and UDP header around a datagram, RFC 791 and RFC 768. They count against rate, queue and MTU.
pub const HEADERS: usize = 28;

/// A probability as a number of 2^-32 parts, so that it is exact and compares with a random word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Chance(u64);

impl Chance {
    /// 0.
    pub const NEVER: Self = Self(0);
    /// 1.
    pub const ALWAYS: Self = Self(1 << 32);

    /// `n` in `of`, rounded down to 2^-32; more than 1 counts as 1, `of` = 0 as never.
    pub const fn ratio(n: u32, of: u32) -> Self {
        if of == 0 {
            return Self::NEVER;
        }
        if n >= of { Self::ALWAYS } else { Self(((n as u64) << 32) / of as u64) }
    }

    /// `n` percent.
    pub const fn percent(n: u32) -> Self {
        Self::ratio(n, 100)
    }

    /// `n` parts in a million.
    pub const fn ppm(n: u32) -> Self {
        Self::ratio(n, 1_000_000)
    }

    /// Parts in a million, rounded.
    pub const fn in_a_million(self) -> u32 {
        ((self.0 * 1_000_000 + (1 << 31)) >> 32) as u32
    }

    /// Both together, as they add up while they are small.
    pub(crate) const fn plus(self, other: Self) -> Self {
        let sum = self.0 + other.0;
        if sum > Self::ALWAYS.0 { Self::ALWAYS } else { Self(sum) }
    }

    /// Whether a uniform `word` hits. A word that hits also hits every larger chance.
    pub(crate) const fn hits(self, word: u32) -> bool {
        (word as u64) < self.0
    }
}

/// Losses that come in bursts, by the model of Gilbert and Elliott: a direction is good and loses nothing by it, or bad and
/// loses every packet. It may change with each packet that is put on it, dropped for another reason or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Bursts {
    /// How often a packet that follows a good one is bad.
    pub enter: Chance,
    /// How often a packet that follows a bad one is good; 1 / the mean length of a burst.
    pub leave: Chance,
}

impl Bursts {
    /// None.
    pub const NEVER: Self = Self { enter: Chance::NEVER, leave: Chance::NEVER };

    /// Loses `loss_ppm` parts in a million in bursts of `packets` in the mean. Both chances are rounded to whole parts in a
    /// million. `None` if there is no such thing: everything lost, bursts of nothing, or so much loss in so short bursts
    /// that two would have to follow each other without a packet between them.
    pub const fn mean(loss_ppm: u32, packets: u32) -> Option<Self> {
        if loss_ppm >= 1_000_000 || packets == 0 {
            return None;
        }
        // leave = 1 / L, enter = P / ((1 - P) L).
        let (loss, good, packets) = (loss_ppm as u64, (1_000_000 - loss_ppm) as u64, packets as u64);
        let leave = (1_000_000 + packets / 2) / packets;
        let enter = (loss * 1_000_000 + good * packets / 2) / (good * packets);
        if enter > 1_000_000 || leave == 0 {
            return None;
        }
        Some(Self { enter: Chance::ppm(enter as u32), leave: Chance::ppm(leave as u32) })
    }

    /// The share of packets that they lose in the long run.
    pub(crate) fn share(self) -> Chance {
        let both = self.enter.0 + self.leave.0;
        Chance((self.enter.0 << 32).checked_div(both).unwrap_or(0).min(Chance::ALWAYS.0))
    }

    /// Whether a packet is bad that follows a bad one or not. The same word keeps a burst alive under every smaller chance
    /// to leave and begins one under every larger chance to enter; and low words are those that are bad, so that unless
    /// `enter + leave` is more than 1 a burst more or less is soon forgotten.
    fn next(self, bad: bool, word: u32) -> bool {
        if bad { Chance(Chance::ALWAYS.0 - self.leave.0).hits(word) } else { self.enter.hits(word) }
    }
}

/// One direction of a link. The default is perfect: no delay, no limit, no fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Direction {
    /// Propagation delay.
    pub delay: Duration,
    /// Extra delay, uniform from 0 to this, that never lets a packet overtake another.
    pub jitter: Duration,
    /// How often a packet is held back by [`Self::reorder_delay`] so that later ones overtake it.
    pub reorder: Chance,
    /// How long such a packet is held back.
    pub reorder_delay: Duration,
    /// How often a packet is lost (after it took its share of the rate).
    pub loss: Chance,
    /// Loss in bursts, beside the other.
    pub bursts: Bursts,
    /// How often a packet arrives twice; the copy is later by up to [`Self::jitter`].
    pub duplicate: Chance,
    /// How often one bit of a packet arrives flipped. UDP's checksum would catch that; here it passes, to be harsher.
    pub corrupt: Chance,
    /// Bits a second, headers included; `None` = no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for a limited rate, headers included, the packet under way included; beyond, packets are
    /// dropped (drop-tail). A link that is idle takes any packet.
    pub queue: usize,
    /// ECN-capable packets that find more bytes than this waiting for the rate are marked "congestion experienced" (RFC 3168,
    /// by a threshold as in RFC 8257 §3.1). `None` = never.
    pub mark_from: Option<usize>,
    /// The ECN field of every packet is cleared, as some routers do: RFC 9000 §13.4.2.
    pub clears_ecn: bool,
    /// Largest packet in bytes, headers included; larger ones are dropped silently.
    pub mtu: usize,
}

impl Direction {
    /// Perfect.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        reorder: Chance::NEVER,
        reorder_delay: Duration::ZERO,
        loss: Chance::NEVER,
        bursts: Bursts::NEVER,
        duplicate: Chance::NEVER,
        corrupt: Chance::NEVER,
        rate: None,
        queue: 256 * 1024,
        mark_from: None,
        clears_ecn: false,
        mtu: 1500,
    };
}

impl Default for Direction {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// Something that happens to one packet of a direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mishap {
    /// It is lost.
    Drop,
    /// It is so much later, and no packet overtakes it for that: [`Direction::jitter`].
    Delay(Duration),
    /// It is held back for so long, and later ones overtake it: [`Direction::reorder`].
    Hold(Duration),
    /// This bit of its payload arrives flipped; of a shorter payload the one that counting on from its beginning leads to.
    Flip(u32),
    /// A copy arrives so long after it.
    Copy(Duration),
}

/// Which direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
    /// From the host or NAT to the network it is on.
    Up,
    /// From the network to the host or NAT.
    Down,
}

/// Both directions of a link. The methods set both alike; set the fields to have them differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// From the host or NAT to the network it is on.
    pub up: Direction,
    /// From the network to the host or NAT.
    pub down: Direction,
}

impl Link {
    /// No delay, no limit, no fault.
    pub const PERFECT: Self = Self { up: Direction::PERFECT, down: Direction::PERFECT };

    /// Nothing but `delay`, each way.
    pub const fn new(delay: Duration) -> Self {
        let direction = Direction { delay, ..Direction::PERFECT };
        Self { up: direction, down: direction }
    }

    /// Nothing but `ms` milliseconds of delay, each way.
    pub const fn millis(ms: u64) -> Self {
        Self::new(Duration::from_millis(ms))
    }

    /// Both directions changed by `change`.
    #[must_use]
    pub fn both(mut self, change: impl Fn(&mut Direction)) -> Self {
        change(&mut self.up);
        change(&mut self.down);
        self
    }

    /// See [`Direction::jitter`].
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Self {
        self.both(|d| d.jitter = jitter)
    }

    /// See [`Direction::reorder`].
    #[must_use]
    pub fn reorder(self, chance: Chance, delay: Duration) -> Self {
        self.both(|d| (d.reorder, d.reorder_delay) = (chance, delay))
    }

    /// See [`Direction::loss`].
    #[must_use]
    pub fn loss(self, chance: Chance) -> Self {
        self.both(|d| d.loss = chance)
    }

    /// See [`Direction::bursts`].
    #[must_use]
    pub fn bursts(self, bursts: Bursts) -> Self {
        self.both(|d| d.bursts = bursts)
    }

    /// See [`Direction::duplicate`].
    #[must_use]
    pub fn duplicate(self, chance: Chance) -> Self {
        self.both(|d| d.duplicate = chance)
    }

    /// See [`Direction::corrupt`].
    #[must_use]
    pub fn corrupt(self, chance: Chance) -> Self {
        self.both(|d| d.corrupt = chance)
    }

    /// See [`Direction::rate`] and [`Direction::queue`].
    #[must_use]
    pub fn rate(self, bits_per_second: u64, queue: usize) -> Self {
        self.both(|d| (d.rate, d.queue) = (Some(bits_per_second), queue))
    }

    /// See [`Direction::mark_from`].
    #[must_use]
    pub fn mark_from(self, bytes: usize) -> Self {
        self.both(|d| d.mark_from = Some(bytes))
    }

    /// See [`Direction::clears_ecn`].
    #[must_use]
    pub fn clears_ecn(self) -> Self {
        self.both(|d| d.clears_ecn = true)
    }

    /// See [`Direction::mtu`].
    #[must_use]
    pub fn mtu(self, bytes: usize) -> Self {
        self.both(|d| d.mtu = bytes)
    }
}

/// Which words of a packet's block decide what.
mod word {
    pub(super) const LOSS: usize = 0;
    pub(super) const REORDER: usize = 1;
    pub(super) const CORRUPT: usize = 2;
    pub(super) const CORRUPT_BIT: usize = 3;
    pub(super) const DUPLICATE: usize = 4;
    pub(super) const BURST: usize = 5;
    /// Two words.
    pub(super) const JITTER: usize = 6;
    /// Two words.
    pub(super) const COPY_JITTER: usize = 8;
}

/// What becomes of a packet that is put on a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Dropped(DropReason),
    Arrives {
        at: Instant,
        /// This bit of the payload arrives flipped.
        flipped: Option<usize>,
        /// A clean copy arrives too, then.
        copy: Option<Instant>,
        /// It met a queue of which ECN-capable packets tell.
        marked: bool,
    },
}

/// How the rest of a queue leaves when the rate changes: in proportion.
#[derive(Clone, Copy)]
pub(crate) struct Retiming {
    now: u64,
    before: u64,
    after: Option<u64>,
}

impl Retiming {
    /// When a packet has left that would have at `sent`.
    pub(crate) fn moved(self, sent: u64) -> u64 {
        let Some(after) = self.after else { return sent.min(self.now) };
        let left = u128::from(sent.saturating_sub(self.now));
        let takes = left * u128::from(self.before.max(1)) / u128::from(after.max(1));
        sent.min(self.now).saturating_add(u64::try_from(takes).unwrap_or(u64::MAX))
    }
}

/// One direction of a link at work.
pub(crate) struct Wire {
    config: Direction,
    pub(crate) cut: bool,
    dice: ChaCha8Rng,
    /// When the last packet will have been transmitted, in ns; and how much more than that in 1/rate ns.
    busy_until: u64,
    remainder: u64,
    /// No packet in order arrives before this, in ns.
    last_arrival: u64,
    /// Whether the last packet was in a burst of losses.
    bad: bool,
    pub(crate) mishaps: Mishaps,
}

/// What is said outright of a wire's packets, and what came of its chances.
#[derive(Default)]
pub(crate) struct Mishaps {
    /// Packets so far.
    passed: u64,
    /// What is to happen, by ordinal, the next last.
    listed: Vec<(u64, Mishap)>,
    /// What happened, if that is wanted.
    seen: Option<Vec<(u64, Mishap)>>,
}

impl Mishaps {
    /// Has `all` happen, in any order, and nothing else beside the chances.
    pub(crate) fn list(&mut self, mut all: Vec<(u64, Mishap)>) {
        all.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        self.listed = all;
    }

    /// Has what happens from now on written down.
    pub(crate) fn watch(&mut self) {
        self.seen.get_or_insert_default();
    }

    /// What happened since then.
    pub(crate) fn seen(&self) -> &[(u64, Mishap)] {
        self.seen.as_deref().unwrap_or_default()
    }

    /// What is to happen to the next packet.
    fn next(&mut self) -> Listed {
        let mut next = Listed { number: self.passed, ..Listed::default() };
        self.passed += 1;
        while let Some((_, mishap)) = self.listed.pop_if(|(number, _)| *number <= next.number) {
            match mishap {
                Mishap::Drop => next.drop = true,
                Mishap::Delay(by) => next.delay = next.delay.saturating_add(nanos(by)),
                Mishap::Hold(by) => next.hold = Some(next.hold.unwrap_or(0).saturating_add(nanos(by))),
                Mishap::Flip(bit) => next.flip = Some(bit),
                Mishap::Copy(after) => next.copy = Some(nanos(after)),
            }
        }
        next
    }

    fn note(&mut self, number: u64, mishap: impl FnOnce() -> Mishap) {
        if let Some(seen) = &mut self.seen {
            seen.push((number, mishap()));
        }
    }
}

/// What is said outright of one packet. Times in ns.
#[derive(Default)]
struct Listed {
    number: u64,
    drop: bool,
    delay: u64,
    hold: Option<u64>,
    flip: Option<u32>,
    copy: Option<u64>,
}

impl Wire {
    pub(crate) fn new(seed: u64, number: u64, config: Direction) -> Self {
        let dice = stream(seed, Label::Wire, number);
        Self {
            config,
            cut: false,
            dice,
            busy_until: 0,
            remainder: 0,
            last_arrival: 0,
            bad: false,
            mishaps: Mishaps::default(),
        }
    }

    pub(crate) fn config(&self) -> Direction {
        self.config
    }

    /// From now on. What is under way stays so, and in order, but what waits for the rate leaves at the new one: `Some` says
    /// how its arrivals move.
    pub(crate) fn set_config(&mut self, now: Instant, config: Direction) -> Option<Retiming> {
        let before = std::mem::replace(&mut self.config, config).rate;
        // A link that knows no bursts has none to end.
        self.bad &= config.bursts != Bursts::NEVER;
        if config.rate == before {
            return None;
        }
        self.remainder = 0;
        let retiming = Retiming { now: now.0, before: before?, after: config.rate };
        (self.busy_until > now.0).then(|| {
            self.busy_until = retiming.moved(self.busy_until);
            retiming
        })
    }

    /// When the packet that was put on it last has left, or had it not been lost would have.
    pub(crate) fn sent(&self, now: Instant) -> u64 {
        if self.config.rate.is_some() { self.busy_until } else { now.0 }
    }

    /// Whether a packet that arrives at `at` arrives in order, so that none behind it may overtake it.
    pub(crate) fn in_order(&self, at: Instant) -> bool {
        at.0 == self.last_arrival
    }

    /// The last packet in order arrives at another time.
    pub(crate) fn set_last_arrival(&mut self, at: Instant) {
        self.last_arrival = at.0;
    }

    /// Decides over the next packet, of `payload` bytes. Draws its block whatever happens to it.
    pub(crate) fn pass(&mut self, now: Instant, payload: usize) -> Fate {
        let block = Block::draw(&mut self.dice);
        let listed = self.mishaps.next();
        self.bad = self.config.bursts.next(self.bad, block.word(word::BURST));
        let size = payload.saturating_add(HEADERS);
        if self.cut {
            return Fate::Dropped(DropReason::Cut);
        }
        if size > self.config.mtu {
            return Fate::Dropped(DropReason::TooBig);
        }
        let marked = self.marks(now.0);
        let Some(sent) = self.transmit(now.0, size) else { return Fate::Dropped(DropReason::Queue) };
        let lost = listed.drop || self.config.loss.hits(block.word(word::LOSS));
        if lost || self.bad {
            self.mishaps.note(listed.number, || Mishap::Drop);
            return Fate::Dropped(if lost { DropReason::Loss } else { DropReason::Burst });
        }
        let at = self.arrival(sent, &block, &listed);
        let bits = payload.saturating_mul(8) as u64;
        let corrupt = self.config.corrupt.hits(block.word(word::CORRUPT));
        let drawn = corrupt.then(|| below(block.word(word::CORRUPT_BIT), bits));
        let flipped = drawn.or(listed.flip.map(u64::from)).and_then(|bit| bit.checked_rem(bits));
        let copied = self.config.duplicate.hits(block.word(word::DUPLICATE));
        let copied = copied.then(|| up_to(block.wide(word::COPY_JITTER), nanos(self.config.jitter)));
        let copy = copied.or(listed.copy);
        if let Some(bit) = flipped {
            self.mishaps.note(listed.number, || Mishap::Flip(u32::try_from(bit).unwrap_or(u32::MAX)));
        }
        if let Some(after) = copy {
            self.mishaps.note(listed.number, || Mishap::Copy(Duration::from_nanos(after)));
        }
        Fate::Arrives {
            at: Instant(at),
            flipped: flipped.map(|bit| bit as usize),
            copy: copy.map(|after| Instant(at.saturating_add(after))),
            marked,
        }
    }

    /// Whether what waits now is so much that it is told of.
    fn marks(&self, now: u64) -> bool {
        let Some((from, rate)) = self.config.mark_from.zip(self.config.rate) else { return false };
        self.backlog(now, rate.max(1)) > from as u128
    }

    /// When a packet arrives that left at `sent`, in ns.
    fn arrival(&mut self, sent: u64, block: &Block, listed: &Listed) -> u64 {
        let drawn = up_to(block.wide(word::JITTER), nanos(self.config.jitter));
        let late = drawn.saturating_add(listed.delay);
        if late > 0 {
            self.mishaps.note(listed.number, || Mishap::Delay(Duration::from_nanos(late)));
        }
        let at = sent.saturating_add(nanos(self.config.delay)).saturating_add(late).max(self.last_arrival);
        let drawn = self.config.reorder.hits(block.word(word::REORDER)).then(|| nanos(self.config.reorder_delay));
        let Some(held) = drawn.map_or(listed.hold, |by| Some(by.saturating_add(listed.hold.unwrap_or(0)))) else {
            self.last_arrival = at;
            return at;
        };
        self.mishaps.note(listed.number, || Mishap::Hold(Duration::from_nanos(held)));
        at.saturating_add(held)
    }

    /// When the last bit of a packet of `size` bytes has left, or `None` if the queue has no room for it.
    fn transmit(&mut self, now: u64, size: usize) -> Option<u64> {
        let Some(rate) = self.config.rate else { return Some(now) };
        // A rate of zero would take forever: the queue fills with the first packet and nothing leaves.
        let rate = rate.max(1);
        if self.busy_until <= now {
            (self.busy_until, self.remainder) = (now, 0);
        } else if self.backlog(now, rate) + size as u128 > self.config.queue as u128 {
            return None;
        }
        // 1500 bytes are 1.2e13 bit·ns: no overflow for any packet below 2 MB.
        let work = (size as u64).saturating_mul(8_000_000_000).saturating_add(self.remainder);
        self.busy_until = self.busy_until.saturating_add(work / rate);
        self.remainder = work % rate;
        Some(self.busy_until)
    }

    /// Bytes not yet transmitted, rounded up.
    fn backlog(&self, now: u64, rate: u64) -> u128 {
        let waiting = u128::from(self.busy_until.saturating_sub(now));
        (waiting * u128::from(rate)).div_ceil(8_000_000_000)
    }
}

/// Nanoseconds of `d`, saturating at 584 years.
pub(crate) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn wire(link: Link) -> Wire {
        Wire::new(7, 3, link.up)
    }

    /// When each of `n` packets of 1000 bytes, sent `gap` ns apart, arrives; its copy too; and whether a bit flips.
    fn run(link: Link, n: u64, gap: u64) -> Vec<Fate> {
        let mut wire = wire(link);
        (0..n).map(|i| wire.pass(Instant(i * gap), 1000)).collect()
    }

    fn arrivals(fates: &[Fate]) -> Vec<Instant> {
        fates.iter().filter_map(|f| if let Fate::Arrives { at, .. } = f { Some(*at) } else { None }).collect()
    }

    #[test]
    fn packets_that_find_more_than_the_threshold_waiting_are_marked_and_no_others() {
        // 1028 bytes take 1 ms: of ten at once, the first finds nothing, the second 1028 bytes waiting, and so on.
        let link = Link::PERFECT.rate(8_224_000, 64 << 10).mark_from(3_084);
        let marks = |gap: u64| {
            let fates = run(link, 10, gap);
            fates.iter().map(|fate| matches!(fate, Fate::Arrives { marked: true, .. })).collect::<Vec<_>>()
        };
        assert_eq!(marks(0), [[false; 4].as_slice(), &[true; 6]].concat());
        assert_eq!(marks(MS), [false; 10]);
    }

    #[test]
    fn losses_duplicates_and_corruption_come_at_their_rates_within_four_sigma() {
        const N: u64 = 100_000;
        let link = Link::PERFECT
            .loss(Chance::percent(1))
            .duplicate(Chance::percent(3))
            .corrupt(Chance::percent(20))
            .reorder(Chance::percent(10), Duration::from_millis(1));
        let fates = run(link, N, MS);
        let count = |hit: fn(&Fate) -> bool| fates.iter().filter(|f| hit(f)).count() as f64;
        let arrived = count(|f| matches!(f, Fate::Arrives { .. }));
        let late = fates.iter().zip(0..).filter(|(f, i)| matches!(f, Fate::Arrives { at, .. } if at.0 > i * MS));
        for (what, p, seen, of) in [
            ("loss", 0.01, count(|f| matches!(f, Fate::Dropped(DropReason::Loss))), N as f64),
            ("duplicate", 0.03, count(|f| matches!(f, Fate::Arrives { copy: Some(_), .. })), arrived),
            ("corrupt", 0.2, count(|f| matches!(f, Fate::Arrives { flipped: Some(_), .. })), arrived),
            ("reorder", 0.1, late.count() as f64, arrived),
        ] {
            let sigma = (of * p * (1.0 - p)).sqrt();
            assert!((seen - of * p).abs() < 4.0 * sigma, "{what}: {seen} of {of}");
        }
    }

    #[test]
    fn bursts_have_the_mean_loss_and_the_mean_length_that_were_asked_for() {
        const N: u64 = 200_000;
        for (ppm, length) in [(10_000, 2), (10_000, 5), (50_000, 3), (200_000, 3)] {
            let bursts = Bursts::mean(ppm, length).expect("possible");
            let lost: Vec<_> = run(Link::PERFECT.bursts(bursts), N, MS)
                .iter()
                .map(|fate| matches!(fate, Fate::Dropped(DropReason::Burst)))
                .collect();
            let count = lost.iter().filter(|lost| **lost).count() as f64;
            let begun = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
            let (p, l) = (f64::from(ppm) / 1e6, f64::from(length));
            // Of a two-state chain with this correlation between neighbours; and of a geometric length.
            let correlation = 1.0 - 1.0 / l - p / ((1.0 - p) * l);
            let sigma = (N as f64 * p * (1.0 - p) * (1.0 + correlation) / (1.0 - correlation)).sqrt();
            assert!((count - N as f64 * p).abs() < 4.0 * sigma, "{ppm} {length}: {count} lost, σ {sigma}");
            assert!(
                (count / begun - l).abs() < 4.0 * (l * (l - 1.0) / begun).sqrt(),
                "{ppm} {length}: {}",
                count / begun
            );
        }
    }

    #[test]
    fn bursts_that_no_chances_make_are_refused() {
        for (ppm, length) in [(1_000_000, 3), (10_000, 0), (900_000, 2), (10_000, 3_000_000)] {
            assert_eq!(Bursts::mean(ppm, length), None, "{ppm} {length}");
        }
        let half = Bursts { enter: Chance::ALWAYS, leave: Chance::ALWAYS };
        assert_eq!(Bursts::mean(500_000, 1), Some(half));
        let enter = [(10_000, 2, 5_051), (10_000, 5, 2_020), (50_000, 3, 17_544), (200_000, 3, 83_333)];
        for (ppm, length, wanted) in enter {
            assert_eq!(Bursts::mean(ppm, length).map(|b| b.enter), Some(Chance::ppm(wanted)));
        }
    }

    #[test]
    fn flipped_bits_are_spread_evenly_over_the_packet() {
        let mut bytes = [0u64; 10];
        for fate in run(Link::PERFECT.corrupt(Chance::ALWAYS), 100_000, MS) {
            let Fate::Arrives { flipped: Some(bit), .. } = fate else { panic!("{fate:?}") };
            bytes[bit / 800] += 1;
        }
        // Each tenth of the packet: mean 10,000, σ = 95.
        assert!(bytes.iter().all(|n| n.abs_diff(10_000) < 400), "{bytes:?}");
    }

    #[test]
    fn a_rate_is_exact_over_any_number_of_packets() {
        // 1028 bytes at 7 Mbit/s take 1,174,857 1/7 ns: the sevenths must add up.
        let link = Link::PERFECT.rate(7_000_000, usize::MAX);
        let arrivals = arrivals(&run(link, 70_000, 0));
        for n in [1u64, 6, 7, 1_000, 70_000] {
            assert_eq!(arrivals[n as usize - 1].0, n * 1028 * 8_000_000_000 / 7_000_000);
        }
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_an_idle_link_takes_anything() {
        let link = Link::PERFECT.rate(8_000_000, 3 * 1028);
        let fates = run(link, 5, 0);
        assert_eq!(arrivals(&fates).len(), 3);
        assert_eq!(fates[3..], [Fate::Dropped(DropReason::Queue); 2]);
        let tiny = Link::PERFECT.rate(8_000_000, 1);
        assert_eq!(arrivals(&run(tiny, 5, 0)).len(), 1);
        assert_eq!(arrivals(&run(tiny, 5, 2 * MS)).len(), 5);
    }

    #[test]
    fn a_queue_obeys_little_s_law() {
        // Half-loaded, batches of four every 8.224 ms at 1.028 ms each: the mean number in the system is the arrival
        // rate times the mean time in it, both measured apart.
        let mut wire = wire(Link::PERFECT.rate(8_000_000, usize::MAX));
        let (mut in_system, mut area, mut total, mut sent) = (Vec::<u64>::new(), 0u64, 0u64, 0u64);
        for ns in (0..8_224_000u64 * 50).step_by(1_000) {
            if ns % 8_224_000 == 0 {
                for _ in 0..4 {
                    let Fate::Arrives { at, .. } = wire.pass(Instant(ns), 1000) else { panic!("no limit") };
                    (total, sent) = (total + (at.0 - ns), sent + 1);
                    in_system.push(at.0);
                }
            }
            in_system.retain(|until| *until > ns);
            area += in_system.len() as u64 * 1_000;
        }
        assert_eq!((sent, area), (200, total));
    }

    #[test]
    fn packets_larger_than_the_link_takes_are_dropped() {
        let mut wire = wire(Link::PERFECT.mtu(1228));
        assert!(matches!(wire.pass(Instant::ZERO, 1200), Fate::Arrives { .. }));
        assert_eq!(wire.pass(Instant::ZERO, 1201), Fate::Dropped(DropReason::TooBig));
    }

    #[test]
    fn a_held_back_packet_is_overtaken_and_delays_nobody() {
        let plain = run(Link::millis(5), 1_000, MS);
        let mixed = run(Link::millis(5).reorder(Chance::percent(10), Duration::from_micros(2_500)), 1_000, MS);
        let late = plain.iter().zip(&mixed).filter(|(a, b)| a != b).count();
        assert!((50..150).contains(&late), "{late}");
        for (a, b) in arrivals(&plain).iter().zip(arrivals(&mixed)) {
            assert!(b == *a || b == *a + Duration::from_micros(2_500));
        }
    }

    fn links() -> impl Strategy<Value = Link> {
        let chance = || (0u32..=100).prop_map(Chance::percent);
        let bursts = (0u32..=50, 1u32..10).prop_map(|(p, l)| Bursts::mean(p * 10_000, l).unwrap_or_default());
        (chance(), bursts, chance(), chance(), 0u64..50, 0u64..50, proptest::option::of(1_000u64..100_000_000))
            .prop_map(|(loss, bursts, duplicate, corrupt, delay, jitter, rate)| {
                let link = Link::millis(delay).jitter(Duration::from_millis(jitter));
                let link = link.loss(loss).bursts(bursts).duplicate(duplicate).corrupt(corrupt);
                rate.map_or(link, |rate| link.rate(rate, 20_000))
            })
    }

    proptest! {
        #[test]
        fn jitter_never_lets_a_packet_overtake_another(link in links(), gap in 0u64..10 * MS) {
            let arrivals = arrivals(&run(link, 200, gap));
            prop_assert!(arrivals.is_sorted());
        }

        #[test]
        fn taking_one_effect_away_leaves_every_other_decision_as_it_was(link in links(), gap in 0u64..10 * MS) {
            let both = run(link, 200, gap);
            for (what, less) in [
                ("loss", link.loss(Chance::NEVER)),
                ("loss", link.bursts(Bursts::NEVER)),
                ("duplicate", link.duplicate(Chance::NEVER)),
                ("corrupt", link.corrupt(Chance::NEVER)),
            ] {
                for (a, b) in both.iter().zip(run(less, 200, gap)) {
                    if let (Fate::Arrives { at, flipped, copy, .. }, Fate::Arrives { at: at2, flipped: flipped2, copy: copy2, .. }) = (*a, b) {
                        // A loss that no longer happens may hold up those behind it, which is no decision.
                        prop_assert!(what == "loss" || at == at2);
                        prop_assert!(what == "corrupt" || flipped == flipped2);
                        prop_assert!(what == "duplicate" || copy.is_some() == copy2.is_some());
                    } else {
                        prop_assert_eq!(matches!(a, Fate::Dropped(DropReason::Queue)), matches!(b, Fate::Dropped(DropReason::Queue)));
                    }
                }
            }
        }

        #[test]
        fn a_smaller_chance_of_bursts_loses_nothing_that_was_not_lost(p in 0u32..40, l in 1u32..9, gap in 0u64..MS) {
            let bursts = Bursts::mean(p * 10_000, l).unwrap_or_default();
            let fewer = Bursts { enter: Chance(bursts.enter.0 / 2), ..bursts };
            let shorter = Bursts { leave: Chance(bursts.leave.0 + (Chance::ALWAYS.0 - bursts.leave.0) / 2), ..fewer };
            // Beyond, a burst that ends may make room for another.
            prop_assume!(shorter.enter.0 + shorter.leave.0 <= Chance::ALWAYS.0);
            let all = run(Link::PERFECT.bursts(bursts), 500, gap);
            for less in [fewer, shorter] {
                for (a, b) in all.iter().zip(run(Link::PERFECT.bursts(less), 500, gap)) {
                    prop_assert!(*a == b || matches!(a, Fate::Dropped(DropReason::Burst)));
                }
            }
        }

        #[test]
        fn a_larger_chance_hits_whatever_a_smaller_one_hits(a: u32, b: u32, word: u32) {
            let (small, large) = (Chance::ratio(a.min(b), u32::MAX), Chance::ratio(a.max(b), u32::MAX));
            prop_assert!(!small.hits(word) || large.hits(word));
            prop_assert!(Chance::ALWAYS.hits(word) && !Chance::NEVER.hits(word));
        }
    }
}
