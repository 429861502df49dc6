//! Explicit congestion notification of one path: RFC 3168, validated as RFC 9000 §13.4.2 and its appendix A.4 say.
//!
//! The first packets are marked as capable. If the peer's acknowledgements count them, all are marked from then on, and
//! what comes back as "congestion experienced" is congestion. If counts are missing or do not add up, some router or the
//! peer mangles marks, and none are set any more.

use crate::machine::Ecn;
use crate::wire::frames::EcnCounts;

/// Packets that are marked before the peer has confirmed any: RFC 9000, appendix A.4.
const TESTED: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Marks the first packets, and waits for word of them.
    Testing,
    Capable,
    Failed,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct EcnPath {
    phase: Phase,
    marked: u64,
    /// What the peer counted so far.
    counts: EcnCounts,
}

impl EcnPath {
    pub(super) fn new(enabled: bool) -> Self {
        let phase = if enabled { Phase::Testing } else { Phase::Failed };
        Self { phase, marked: 0, counts: EcnCounts::default() }
    }

    /// How the next packet that asks for an acknowledgement is marked.
    pub(super) fn mark(&mut self) -> Ecn {
        let marks = match self.phase {
            Phase::Testing => self.marked < TESTED,
            Phase::Capable => true,
            Phase::Failed => false,
        };
        if !marks {
            return Ecn::NotCapable;
        }
        self.marked = self.marked.saturating_add(1);
        Ecn::Ect0
    }

    /// An acknowledgement that raised the largest number newly acknowledged `marked` packets that went out marked. Says
    /// how many packets more than before met congestion.
    pub(super) fn on_ack(&mut self, marked: u64, counts: Option<EcnCounts>) -> u64 {
        if self.phase == Phase::Failed {
            return 0;
        }
        let Some(counts) = counts else {
            if marked > 0 {
                self.phase = Phase::Failed;
            }
            return 0;
        };
        let (ect0, ce) = (counts.ect0.checked_sub(self.counts.ect0), counts.ce.checked_sub(self.counts.ce));
        let (Some(ect0), Some(ce)) = (ect0, ce) else {
            self.phase = Phase::Failed;
            return 0;
        };
        let all = counts.ect0.saturating_add(counts.ce);
        if ect0.saturating_add(ce) < marked || counts.ect1 > 0 || all > self.marked {
            self.phase = Phase::Failed;
            return 0;
        }
        self.counts = counts;
        if marked > 0 {
            self.phase = Phase::Capable;
        }
        ce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
        Some(EcnCounts { ect0, ect1, ce })
    }

    fn tested() -> EcnPath {
        let mut path = EcnPath::new(true);
        assert_eq!((0..30).filter(|_| path.mark() == Ecn::Ect0).count(), 10);
        path
    }

    #[test]
    fn a_path_that_counts_marks_is_marked_for_good_and_tells_of_congestion() {
        let mut path = tested();
        assert_eq!(path.on_ack(4, counts(4, 0, 0)), 0);
        assert_eq!(path.mark(), Ecn::Ect0);
        assert_eq!(path.on_ack(3, counts(5, 0, 2)), 2);
        assert_eq!(path.on_ack(1, counts(6, 0, 2)), 0);
    }

    #[test]
    fn missing_short_falling_foreign_and_excessive_counts_end_it() {
        for wrong in [None, counts(3, 0, 0), counts(1, 0, 5), counts(6, 1, 0), counts(11, 0, 0)] {
            let mut path = tested();
            path.on_ack(2, counts(2, 0, 0));
            assert_eq!(path.on_ack(2, wrong), 0, "{wrong:?}");
            assert_eq!(path.mark(), Ecn::NotCapable, "{wrong:?}");
            assert_eq!(path.on_ack(0, counts(4, 0, 5)), 0);
        }
    }

    #[test]
    fn a_path_that_swallows_marked_packets_is_not_marked_on() {
        let mut path = tested();
        assert_eq!((path.on_ack(0, None), path.mark()), (0, Ecn::NotCapable));
        assert_eq!(EcnPath::new(false).mark(), Ecn::NotCapable);
    }
}
