//! Credit: how many bytes of reliable messages the peer may have begun to send, cumulative over the link's life.
//!
//! A message costs its length and [`MESSAGE_OVERHEAD`], all of it when its first byte is sent. The receiver raises the
//! limit as the application takes messages, so that one that stops polling stops the sender. Both counters only grow
//! (RFC 9000 §4.1), which makes a CREDIT frame that is late or repeated harmless.
//!
//! There is credit of the link and credit of each scope, and a message needs both. An application takes messages of all
//! channels from one queue, so it cannot hold up one of them; but a scope may be held up itself, by a gap before its next
//! message or by a gate that is shut, and would sit on the link's credit. Its own ends before the link's does.
//!
//! The link's window begins small and doubles whenever the application took a whole window of messages within a few round
//! trips ([`USED_WITHIN`]), up to what the configuration allows: memory is promised to those who need it and use it.
#![deny(clippy::arithmetic_side_effects)]

use crate::time::{Duration, Instant};

/// What a message costs beside its bytes: its book-keeping at the receiver, so that empty messages are not free.
pub(super) const MESSAGE_OVERHEAD: u64 = 64;

/// What either end may send in a scope before it has heard of a limit. A receiver never grants less.
const INITIAL_SCOPE_CREDIT: u64 = 256 << 10;

/// What either end may send on a link before it has heard of a limit. A receiver never grants less.
pub(super) const INITIAL_CREDIT: u64 = of_link(INITIAL_SCOPE_CREDIT);

/// Credit that messages of the less urgent classes leave to the most urgent one, so that it need not wait for a receiver
/// that they keep busy. A quarter of what one scope leaves of the
/// smallest window.
pub(super) const RESERVE: u64 = 16 << 10;

/// The cost of a message of `len` bytes.
pub(super) const fn cost(len: u64) -> u64 {
    len.saturating_add(MESSAGE_OVERHEAD)
}

/// The largest message that every end takes, bytes. One that takes larger ones says so.
pub(super) const LEAST_MAX_MESSAGE: u64 = 64 << 10;

/// What either end may send in a scope before it has heard of a limit, to an end that takes messages of that length.
pub(super) fn initial_scope_credit(max_message: u64) -> u64 {
    INITIAL_SCOPE_CREDIT.max(cost(max_message))
}

/// What a link has where one scope has so much: a quarter more, so that one that is held up leaves something to others.
pub(super) const fn of_link(scope: u64) -> u64 {
    scope.saturating_add(scope / 4)
}

/// How much of what a link has one scope may have.
pub(super) const fn of_scope(link: u64) -> u64 {
    link.saturating_sub(link / 5)
}

/// Round trips within which a window must be taken to double. One would do if nothing were lost. A message that was lost n
/// times is taken n round trips later, and holds up all behind it: at 20 % loss six of them are common in a window, and a
/// window that counted that as a slow application would never grow where it is needed most.
const USED_WITHIN: u32 = 8;

/// What this end may send.
#[derive(Debug)]
pub(super) struct SendCredit {
    limit: u64,
    charged: u64,
}

impl SendCredit {
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit, charged: 0 }
    }

    pub(super) fn affords(&self, cost: u64) -> bool {
        self.charged.saturating_add(cost) <= self.limit
    }

    pub(super) fn charge(&mut self, cost: u64) {
        self.charged = self.charged.saturating_add(cost);
    }

    /// All that was ever charged.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// A limit arrived; it counts only if it is larger. True if it is.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let raised = limit > self.limit;
        self.limit = self.limit.max(limit);
        raised
    }
}

/// The peer sent more than it had credit for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exceeded;

/// What the peer may send.
#[derive(Debug)]
pub(super) struct ReceiveCredit {
    window: u64,
    /// What the last CREDIT frame said.
    announced: u64,
    charged: u64,
    consumed: u64,
    /// The frame that said so was lost.
    lost: bool,
    /// When the window at hand began to be used, and what had been consumed by then.
    since: (Instant, u64),
}

impl ReceiveCredit {
    /// Credit that begins with `initial`, which both ends know, and goes on with a window of at least that.
    pub(super) fn new(initial: u64, window: u64) -> Self {
        let window = window.max(initial);
        Self { window, announced: initial, charged: 0, consumed: 0, lost: false, since: (Instant::ZERO, 0) }
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// A window that is larger than the one at hand counts.
    pub(super) fn widen(&mut self, window: u64) {
        self.window = self.window.max(window);
    }

    /// All that was ever charged.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// What messages that are here or under way take at the moment.
    pub(super) fn in_use(&self) -> u64 {
        self.charged.saturating_sub(self.consumed)
    }

    /// Doubles the window if the application took all of it within [`USED_WITHIN`] round trips, to at most `most`.
    pub(super) fn tune(&mut self, now: Instant, round_trip: Duration, most: u64) {
        let (since, consumed) = self.since;
        if self.consumed.saturating_sub(consumed) < self.window {
            return;
        }
        if now.since(since) <= round_trip.saturating_mul(USED_WITHIN) {
            self.widen(self.window.saturating_mul(2).min(most));
        }
        self.since = (now, self.consumed);
    }

    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Exceeded> {
        let charged = self.charged.checked_add(cost).filter(|&sum| sum <= self.announced).ok_or(Exceeded)?;
        self.charged = charged;
        Ok(())
    }

    /// The application took messages of that cost, or they were dropped.
    pub(super) fn consume(&mut self, cost: u64) {
        self.consumed = self.consumed.saturating_add(cost);
    }

    fn limit(&self) -> u64 {
        self.consumed.saturating_add(self.window)
    }

    /// Whether a limit is worth telling: it would rise by a sixteenth of the window, or the last one was lost. So what a
    /// sender does not know of never holds up its largest message, when all else is free, nor those of up to 28 KiB that
    /// go by what one scope leaves of the least window: 64 KiB, less a sixteenth, less [`RESERVE`].
    pub(super) fn is_due(&self) -> bool {
        self.lost || self.limit().saturating_sub(self.announced) >= self.window / 16
    }

    /// The limit for a CREDIT frame that is being written.
    pub(super) fn announce(&mut self) -> u64 {
        self.lost = false;
        self.announced = self.announced.max(self.limit());
        self.announced
    }

    /// A CREDIT frame with that limit was lost. A newer one under way makes up for it.
    pub(super) fn on_lost(&mut self, limit: u64) {
        self.lost |= limit == self.announced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn credit_never_shrinks_or_overflows_and_an_honest_sender_never_exceeds_it(
            steps in proptest::collection::vec((0u64..70_000, 0u8..4), 1..200),
        ) {
            let (mut sender, mut receiver) = (SendCredit::new(INITIAL_CREDIT), ReceiveCredit::new(INITIAL_CREDIT, 300_000));
            let (mut waiting, mut last) = (std::collections::VecDeque::new(), 0);
            for (len, step) in steps {
                match step {
                    0 => if let Some(cost) = waiting.pop_front() { receiver.consume(cost) },
                    1 => if receiver.is_due() {
                        let limit = receiver.announce();
                        prop_assert!(limit >= last);
                        last = limit;
                        sender.raise(limit);
                    },
                    _ => if sender.affords(cost(len)) {
                        sender.charge(cost(len));
                        prop_assert_eq!(receiver.charge(cost(len)), Ok(()));
                        waiting.push_back(cost(len));
                    },
                }
            }
            waiting.drain(..).for_each(|cost| receiver.consume(cost));
            if receiver.is_due() {
                sender.raise(receiver.announce());
            }
            prop_assert!(sender.affords(cost(3 * 65_536)), "everything consumed frees room for the largest message");
        }
    }

    #[test]
    fn a_window_doubles_only_for_an_application_that_takes_all_of_it_within_eight_round_trips() {
        let (trip, at) = (Duration::from_micros(12_500), Instant::from_millis);
        let mut receiver = ReceiveCredit::new(INITIAL_CREDIT, 0);
        let windows = [(10, 1), (100, 1), (150, 1), (400, 1), (450, 2), (500, 4)].map(|(ms, windows)| {
            receiver.consume(windows * INITIAL_CREDIT);
            receiver.tune(at(ms), trip, 3 * INITIAL_CREDIT);
            receiver.window() / INITIAL_CREDIT
        });
        assert_eq!(windows, [2, 2, 2, 2, 2, 3]);
        assert!(receiver.announce() >= receiver.window());
    }

    #[test]
    fn more_than_the_limit_is_refused_even_near_the_end_of_numbers() {
        let mut receiver = ReceiveCredit::new(INITIAL_CREDIT, 0);
        assert_eq!(receiver.charge(INITIAL_CREDIT), Ok(()));
        assert_eq!(receiver.charge(1), Err(Exceeded));
        assert_eq!(receiver.charge(u64::MAX), Err(Exceeded));
        receiver.consume(u64::MAX);
        assert_eq!(receiver.announce(), u64::MAX);
    }

    #[test]
    fn a_lost_limit_is_repeated_only_while_it_is_the_newest() {
        let mut receiver = ReceiveCredit::new(INITIAL_CREDIT, 0);
        receiver.consume(INITIAL_CREDIT);
        let first = receiver.announce();
        assert!(!receiver.is_due());
        receiver.on_lost(first);
        assert!(receiver.is_due());
        receiver.consume(INITIAL_CREDIT);
        receiver.announce();
        receiver.on_lost(first);
        assert!(!receiver.is_due());
    }
}
