//! What went to and came from each peer: what the summary at the end says.

use posse::{Path, PeerId, PeerReport, PeerView};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Peers accounted for, those that left included. Who comes after that is seen and heard, but not accounted for.
const MAX_ACCOUNTS: usize = 4096;
/// Numbers of one sender that are missing, kept apart to tell "late" from "repeated". Reliable messages leave none.
const MAX_MISSING: usize = 65_536;

/// The numbers that came of one sender.
#[derive(Default, Debug)]
pub(super) struct Sequence {
    /// The one after the highest.
    next: Option<u64>,
    missing: BTreeSet<u64>,
    /// Missing ones that found no room.
    uncounted: u64,
    pub(super) received: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
}

impl Sequence {
    pub(super) fn take(&mut self, number: u64) {
        let next = self.next.unwrap_or(number);
        if number >= next {
            let room = MAX_MISSING.saturating_sub(self.missing.len());
            let gap = number - next;
            self.missing.extend((next..number).take(room));
            self.uncounted = self.uncounted.saturating_add(gap.saturating_sub(room as u64));
            self.next = Some(number.saturating_add(1));
            self.received += 1;
        } else if self.missing.remove(&number) {
            self.received += 1;
            self.reordered += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// How many did not come: gaps, or what a sender's last word counts beyond what came.
    pub(super) fn lost(&self, sent: Option<u64>) -> u64 {
        let gaps = self.uncounted.saturating_add(self.missing.len() as u64);
        gaps.max(sent.map_or(0, |sent| sent.saturating_sub(self.received)))
    }
}

/// One peer.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: String,
    /// When this client saw it in the room.
    pub(super) joined_at: Duration,
    pub(super) first_at: Option<Duration>,
    pub(super) direct_at: Option<Duration>,
    pub(super) path: Option<Path>,
    pub(super) rtt: Option<Duration>,
    pub(super) report: Option<PeerReport>,
    pub(super) sent: u64,
    pub(super) got: Sequence,
    /// What its last word said.
    pub(super) announced: Option<u64>,
    pub(super) here: bool,
}

impl Account {
    pub(super) fn lost(&self) -> u64 {
        self.got.lost(self.announced)
    }

    /// Whether nothing is wrong with it.
    pub(super) fn is_clean(&self) -> bool {
        self.lost() == 0 && self.got.repeated == 0 && self.got.reordered == 0
    }

    /// Whether all is there that its last word counts.
    fn is_complete(&self) -> bool {
        self.announced.is_some_and(|sent| self.got.received >= sent)
    }

    /// Traffic goes another way from `now` on.
    pub(super) fn goes(&mut self, path: Path, now: Duration) {
        self.path = Some(path);
        if let Path::Direct { rtt } = path {
            self.direct_at.get_or_insert(now);
            self.rtt = Some(rtt);
        }
    }

    fn look(&mut self, view: &PeerView, report: Option<PeerReport>) {
        self.report = report.or(self.report);
        self.path = Some(view.path);
        let measured = if let Path::Direct { .. } = view.path { view.direct_rtt } else { view.relay_rtt };
        self.rtt = measured.or(self.rtt);
    }
}

/// Everyone who is or was in the room.
#[derive(Default)]
pub(super) struct Accounts(BTreeMap<PeerId, Account>);

impl Accounts {
    pub(super) fn open(&mut self, peer: PeerId, name: &str, at: Duration) {
        if let Some(account) = self.0.get_mut(&peer) {
            account.here = true;
        } else if self.0.len() < MAX_ACCOUNTS {
            let account = Account {
                name: name.to_owned(),
                joined_at: at,
                first_at: None,
                direct_at: None,
                path: None,
                rtt: None,
                report: None,
                sent: 0,
                got: Sequence::default(),
                announced: None,
                here: true,
            };
            self.0.insert(peer, account);
        }
    }

    pub(super) fn of(&mut self, peer: PeerId) -> Option<&mut Account> {
        self.0.get_mut(&peer)
    }

    /// Takes down how traffic with those that are there goes now.
    pub(super) fn look(
        &mut self,
        peers: impl Iterator<Item = PeerView>,
        report: impl Fn(PeerId) -> Option<PeerReport>,
    ) {
        for view in peers {
            if let Some(account) = self.0.get_mut(&view.id) {
                account.look(&view, report(view.id));
            }
        }
    }

    pub(super) fn here(&self) -> impl Iterator<Item = (PeerId, &Account)> {
        self.0.iter().filter(|(_, account)| account.here).map(|(peer, account)| (*peer, account))
    }

    /// Whether everyone who is there has said its last word, and all before it has come.
    pub(super) fn are_complete(&self) -> bool {
        self.here().all(|(_, account)| account.is_complete())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (PeerId, &Account)> {
        self.0.iter().map(|(peer, account)| (*peer, account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Sequence {
        let mut sequence = Sequence::default();
        numbers.iter().for_each(|n| sequence.take(*n));
        sequence
    }

    #[test]
    fn lost_repeated_and_late_messages_are_told_apart() {
        let s = of(&[7, 8, 10, 10, 9, 12, 8]);
        assert_eq!((s.received, s.repeated, s.reordered, s.lost(None)), (5, 2, 1, 1));
        assert_eq!((s.lost(Some(6)), s.lost(Some(8)), s.lost(Some(0))), (1, 3, 1));
    }

    #[test]
    fn what_others_claim_is_bounded() {
        let mut s = of(&[0, u64::MAX, u64::MAX]);
        assert_eq!((s.received, s.missing.len(), s.lost(None)), (3, MAX_MISSING, u64::MAX - 1));
        s.take(5);
        assert_eq!((s.reordered, s.lost(Some(u64::MAX))), (1, u64::MAX - 2));
    }
}
