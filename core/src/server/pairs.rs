//! What the server knows of each two clients that share a group: their routes in the relay, and how traffic between them
//! goes.
//!
//! Each end reports its own verdict. The pair counts as direct when both say so; else the reason is that of the end that
//! knows more, which is the one whose reason comes later in [`RelayReason`]'s order of how far punching got.

use super::policy::PairPolicy;
use super::search::Search;
use crate::entropy::SeededState;
use crate::event::{Path, RelayReason};
use crate::ids::PeerId;
use crate::time::{Duration, Instant};
use hashbrown::HashMap;

/// Synchronised restarts of one pair are at least so far apart, so that both ends' requests, which come together, make
/// one, and a client that asks all the time costs nothing.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Pair {
    pub(super) epoch: u64,
    /// Handles that the lower and the higher client use to reach each other.
    pub(super) handles: [u32; 2],
    /// As the lower and the higher client say.
    reports: [Path; 2],
    last_start: Option<Instant>,
    policy: PairPolicy,
    /// Whether the lower was told that the higher is offline, and the higher that the lower is.
    told_offline: [bool; 2],
    /// What is done beyond plain punching.
    search: Search,
    tally: Tally,
    /// The application is to hear of the path.
    news: bool,
}

/// What was done for a pair: see [`PairReport`](crate::PairReport).
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    since: Option<Instant>,
    pub(super) time_to_direct: Option<Duration>,
    pub(super) starts: u32,
    pub(super) holes: u32,
    pub(super) predictions: u32,
    pub(super) sweeps: u32,
    pub(super) granted: u32,
}

/// Keyed by (lower, higher).
pub(super) struct Pairs {
    map: HashMap<(PeerId, PeerId), Pair, SeededState>,
}

const PROBING: Path = Path::Relayed { because: RelayReason::Probing };

impl Pairs {
    pub(super) fn new(hasher: SeededState) -> Self {
        Self { map: HashMap::with_hasher(hasher) }
    }

    pub(super) fn insert(&mut self, a: PeerId, b: PeerId, epoch: u64, handles: [u32; 2]) {
        let pair = Pair {
            epoch,
            handles,
            reports: [PROBING; 2],
            last_start: None,
            policy: PairPolicy::default(),
            told_offline: [false; 2],
            search: Search::default(),
            tally: Tally::default(),
            news: false,
        };
        self.map.insert(key(a, b), pair);
    }

    pub(super) fn remove(&mut self, a: PeerId, b: PeerId) -> Option<Pair> {
        self.map.remove(&key(a, b))
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The epoch of a pair, `None` if there is none.
    pub(super) fn epoch(&self, a: PeerId, b: PeerId) -> Option<u64> {
        self.map.get(&key(a, b)).map(|pair| pair.epoch)
    }

    pub(super) fn policy(&self, a: PeerId, b: PeerId) -> Option<PairPolicy> {
        self.map.get(&key(a, b)).map(|pair| pair.policy)
    }

    pub(super) fn policy_mut(&mut self, a: PeerId, b: PeerId) -> Option<&mut PairPolicy> {
        self.map.get_mut(&key(a, b)).map(|pair| &mut pair.policy)
    }

    /// Whether the two were ever told to punch.
    pub(super) fn was_started(&self, a: PeerId, b: PeerId) -> bool {
        self.map.get(&key(a, b)).is_some_and(|pair| pair.last_start.is_some())
    }

    /// Hole punching is over: when it is wanted again it may begin at once.
    pub(super) fn allow_restart(&mut self, a: PeerId, b: PeerId) {
        if let Some(pair) = self.map.get_mut(&key(a, b)) {
            pair.last_start = None;
        }
    }

    /// What is done for a pair beyond plain punching.
    pub(super) fn search(&self, a: PeerId, b: PeerId) -> Option<Search> {
        self.map.get(&key(a, b)).map(|pair| pair.search)
    }

    pub(super) fn search_mut(&mut self, a: PeerId, b: PeerId) -> Option<&mut Search> {
        self.map.get_mut(&key(a, b)).map(|pair| &mut pair.search)
    }

    /// `to` is to hear whether `of` is offline: the pair's epoch, if that is news to it.
    pub(super) fn tell_presence(&mut self, to: PeerId, of: PeerId, offline: bool) -> Option<u64> {
        let pair = self.map.get_mut(&key(to, of))?;
        let told = if to < of { &mut pair.told_offline[0] } else { &mut pair.told_offline[1] };
        (core::mem::replace(told, offline) != offline).then_some(pair.epoch)
    }

    /// How traffic goes between two clients; `None` if they share no group.
    pub(super) fn path(&self, a: PeerId, b: PeerId) -> Option<Path> {
        self.map.get(&key(a, b)).map(Pair::path)
    }

    /// What was done for a pair.
    pub(super) fn tally(&self, a: PeerId, b: PeerId) -> Option<Tally> {
        self.map.get(&key(a, b)).map(|pair| pair.tally)
    }

    pub(super) fn tally_mut(&mut self, a: PeerId, b: PeerId) -> Option<&mut Tally> {
        self.map.get_mut(&key(a, b)).map(|pair| &mut pair.tally)
    }

    /// Takes a report. True if that made news that nobody was to hear yet: [`Self::take_news`] tells.
    pub(super) fn report(&mut self, now: Instant, from: PeerId, about: PeerId, epoch: u64, path: Path) -> bool {
        let Some(pair) = self.map.get_mut(&key(from, about)).filter(|p| p.epoch == epoch) else { return false };
        let before = pair.path();
        *if from < about { &mut pair.reports[0] } else { &mut pair.reports[1] } = path;
        if let (Path::Relayed { .. }, Path::Direct { .. }) = (before, pair.path()) {
            pair.tally.holes = pair.tally.holes.saturating_add(1);
            let since = pair.tally.since.unwrap_or(now);
            pair.tally.time_to_direct.get_or_insert(now.since(since));
        }
        let same = match (before, pair.path()) {
            (Path::Direct { .. }, Path::Direct { .. }) => true,
            (before, after) => before == after,
        };
        !same && !core::mem::replace(&mut pair.news, true)
    }

    /// How traffic goes, if that is news.
    pub(super) fn take_news(&mut self, a: PeerId, b: PeerId) -> Option<Path> {
        let pair = self.map.get_mut(&key(a, b))?;
        core::mem::take(&mut pair.news).then(|| pair.path())
    }

    /// Whether hole punching between two may be restarted now; if so, it counts as done.
    pub(super) fn restart(&mut self, now: Instant, a: PeerId, b: PeerId, epoch: u64) -> bool {
        let Some(pair) = self.map.get_mut(&key(a, b)).filter(|p| p.epoch == epoch) else { return false };
        let due = pair.last_start.is_none_or(|last| now.since(last) >= RESTART_INTERVAL);
        if due {
            pair.last_start = Some(now);
            pair.tally.since.get_or_insert(now);
            pair.tally.starts = pair.tally.starts.saturating_add(1);
        }
        due
    }

    /// The same because one of the two has moved, whatever epoch they are in; says which.
    pub(super) fn restart_moved(&mut self, now: Instant, a: PeerId, b: PeerId) -> Option<u64> {
        let epoch = self.map.get(&key(a, b))?.epoch;
        self.restart(now, a, b, epoch).then_some(epoch)
    }
}

impl Pair {
    fn path(&self) -> Path {
        match self.reports {
            [Path::Direct { rtt: a }, Path::Direct { rtt: b }] => Path::Direct { rtt: (a + b) / 2 },
            [Path::Relayed { because: a }, Path::Relayed { because: b }] => Path::Relayed { because: a.max(b) },
            [Path::Relayed { because }, _] | [_, Path::Relayed { because }] => Path::Relayed { because },
        }
    }
}

fn key(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}
