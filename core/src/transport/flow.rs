//! Credit: how many bytes of reliable messages the peer may have begun to send, cumulative over the link's life.
//!
//! A message costs its length and [`MESSAGE_OVERHEAD`], all of it when its first byte is sent. The receiver raises the
//! limit as the application takes messages, so that one that stops polling stops the sender. Both counters only grow
//! (RFC 9000 §4.1), which makes a CREDIT frame that is late or repeated harmless.
#![deny(clippy::arithmetic_side_effects)]

/// What a message costs beside its bytes: its book-keeping at the receiver, so that empty messages are not free.
pub(super) const MESSAGE_OVERHEAD: u64 = 64;

/// What either end may send before it has heard of a limit. A receiver never grants less.
pub(super) const INITIAL_CREDIT: u64 = 256 << 10;

/// The cost of a message of `len` bytes.
pub(super) const fn cost(len: u64) -> u64 {
    len.saturating_add(MESSAGE_OVERHEAD)
}

/// What this end may send.
#[derive(Debug)]
pub(super) struct SendCredit {
    limit: u64,
    charged: u64,
}

impl SendCredit {
    pub(super) const fn new() -> Self {
        Self { limit: INITIAL_CREDIT, charged: 0 }
    }

    pub(super) fn affords(&self, cost: u64) -> bool {
        self.charged.saturating_add(cost) <= self.limit
    }

    pub(super) fn charge(&mut self, cost: u64) {
        self.charged = self.charged.saturating_add(cost);
    }

    /// A limit arrived; it counts only if it is larger.
    pub(super) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
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
}

impl ReceiveCredit {
    pub(super) fn new(window: u64) -> Self {
        let window = window.max(INITIAL_CREDIT);
        Self { window, announced: INITIAL_CREDIT, charged: 0, consumed: 0, lost: false }
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

    /// Whether a CREDIT frame is worth sending: it would raise the limit by a quarter of the window, or repeats a lost
    /// one. A sender that waits for room for its largest message always gets there: then most of the window is free.
    pub(super) fn is_due(&self) -> bool {
        self.lost || self.limit().saturating_sub(self.announced) >= self.window / 4
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
            let (mut sender, mut receiver) = (SendCredit::new(), ReceiveCredit::new(300_000));
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
            prop_assert!(sender.affords(cost(65_536)), "everything consumed frees room for the largest message");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_even_near_the_end_of_numbers() {
        let mut receiver = ReceiveCredit::new(0);
        assert_eq!(receiver.charge(INITIAL_CREDIT), Ok(()));
        assert_eq!(receiver.charge(1), Err(Exceeded));
        assert_eq!(receiver.charge(u64::MAX), Err(Exceeded));
        receiver.consume(u64::MAX);
        assert_eq!(receiver.announce(), u64::MAX);
    }

    #[test]
    fn a_lost_limit_is_repeated_only_while_it_is_the_newest() {
        let mut receiver = ReceiveCredit::new(0);
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
