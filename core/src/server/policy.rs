//! Which ways traffic between two clients may go: what the server's application says of their groups and of the pair, and what
//! each of the two wishes. See [`PathPolicy::and`].
//!
//! What a client wishes is kept at once, but others are told of it at a pace ([`WISHES`]), the latest wish and not those between: one
//! small message must not be worth a thousand of the server's.
//!
//! Each end is told what all others have to say; its own wishes it knows. Addresses are told only to those who may punch, and
//! where punching waits for traffic, not before there is some.

use super::Server;
use crate::command::Command;
use crate::config::Rate;
use crate::ids::{GroupId, PeerId};
use crate::meter::Meter;
use crate::policy::{PathPolicy, PunchPolicy};
use crate::time::{Duration, Instant};
use crate::wire::control::ToClient;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use thiserror::Error;

/// Why a policy was not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There is no such group.
    #[error("no such group")]
    UnknownGroup,
    /// The two share no group.
    #[error("the two share no group")]
    NoSuchPair,
}

/// Pairs that are looked at again because of a client's wishes: twice the most peers it can have at once, as when a large group
/// forms whose members have room for few direct paths, then one for each frame of a game.
const WISHES: Rate = Rate { per_second: 60, burst: 2_048 };
/// What was put off is looked at again after this; like restarts of hole punching, no more often than once a second.
const PUT_OFF: Duration = Duration::from_secs(1);

/// What a client wishes of its traffic with all peers, as far as they have to heed it, and how much was made of its wishes.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) all: PathPolicy,
    meter: Meter,
    /// Something was put off until then.
    pub(super) due: Option<Instant>,
}

impl Wishes {
    /// Whether so many pairs may be looked at again now; if not, all of them are later.
    fn take(&mut self, now: Instant, pairs: usize) -> bool {
        let may = self.meter.take_some(now, WISHES, pairs.min(WISHES.burst as usize));
        if !may {
            self.due = self.due.or(Some(now + PUT_OFF));
        }
        may
    }
}

/// What groups may do, and pairs to look at again.
#[derive(Default)]
pub(super) struct Policies {
    /// Of groups that have one of their own.
    groups: BTreeMap<GroupId, PathPolicy>,
    changed: BTreeSet<(PeerId, PeerId)>,
}

impl Policies {
    pub(super) fn of_group(&mut self, group: GroupId, policy: Option<PathPolicy>) {
        if let Some(policy) = policy {
            self.groups.insert(group, policy);
        }
    }

    pub(super) fn forget(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }

    /// Two share another group now, or one less.
    pub(super) fn touch(&mut self, a: PeerId, b: PeerId) {
        if !self.groups.is_empty() && a != b {
            self.look_at(a, b);
        }
    }

    /// So do all of these.
    pub(super) fn touch_all(&mut self, members: &[PeerId]) {
        for (n, a) in members.iter().enumerate() {
            members.iter().skip(n + 1).for_each(|b| self.touch(*a, *b));
        }
    }

    fn look_at(&mut self, a: PeerId, b: PeerId) {
        self.changed.insert((a.min(b), a.max(b)));
    }
}

/// What is allowed to one pair, beside its groups'.
#[derive(Clone, Copy, Default)]
pub(super) struct PairPolicy {
    /// By the server's application.
    forced: PathPolicy,
    /// By the lower and the higher client.
    wishes: [PathPolicy; 2],
    /// What the two were told last.
    told: [PathPolicy; 2],
}

impl Server {
    /// Which ways traffic between two clients may go, by everybody who has a say; `None` if they share no group.
    pub fn policy(&self, a: PeerId, b: PeerId) -> Option<PathPolicy> {
        let [to_a, to_b] = self.policies_for(a, b)?;
        Some(to_a.and(to_b))
    }

    /// Which ways traffic among a group's members may go from now on.
    pub fn set_group_policy(&mut self, now: Instant, group: GroupId, policy: PathPolicy) -> Result<(), PolicyError> {
        self.record_command(now, || Command::SetGroupPolicy { group, policy });
        if !self.groups.exists(group) {
            return Err(PolicyError::UnknownGroup);
        }
        self.policies.of_group(group, Some(policy));
        let members: Vec<_> = self.groups.members(group).collect();
        self.policies.touch_all(&members);
        self.apply_policies(now);
        Ok(())
    }

    /// Which ways traffic between two clients may go from now on, beside what their groups say, as long as they share one:
    /// [`PathPolicy::RELAY_ONLY`] forces it over the relay.
    pub fn set_pair_policy(
        &mut self,
        now: Instant,
        a: PeerId,
        b: PeerId,
        policy: PathPolicy,
    ) -> Result<(), PolicyError> {
        self.record_command(now, || Command::SetPairPolicy { a, b, policy });
        self.pairs.policy_mut(a, b).ok_or(PolicyError::NoSuchPair)?.forced = policy;
        self.policies.look_at(a, b);
        self.apply_policies(now);
        Ok(())
    }

    /// A client wishes this: for one peer, or for all. What is no news changes nothing.
    pub(super) fn on_wish(&mut self, now: Instant, from: PeerId, peer: PeerId, policy: PathPolicy) {
        let wish = policy.shared();
        let before = if peer.is_server() {
            self.session_mut(from.slot()).map(|session| &mut session.wishes.all)
        } else {
            let wishes = self.pairs.policy_mut(from, peer).map(|pair| &mut pair.wishes);
            wishes.map(|[low, high]| if from < peer { low } else { high })
        };
        if before.is_none_or(|before| core::mem::replace(before, wish) == wish) {
            return;
        }
        if peer.is_server() {
            return self.hear_wishes(now, from);
        }
        if self.session_mut(from.slot()).is_some_and(|session| session.wishes.take(now, 1)) {
            self.policies.look_at(from, peer);
            self.apply_policies(now);
        }
    }

    /// Looks at everything that a client may have wished, or puts it off.
    pub(super) fn hear_wishes(&mut self, now: Instant, from: PeerId) {
        let peers: Vec<_> = self.peers_of(from).collect();
        let Some(session) = self.session_mut(from.slot()) else { return };
        session.wishes.due = None;
        if session.wishes.take(now, peers.len()) {
            peers.into_iter().for_each(|peer| self.policies.look_at(from, peer));
            self.apply_policies(now);
        }
    }

    /// What two that have just become a pair are told.
    pub(super) fn begin_policy(&mut self, a: PeerId, b: PeerId) -> [PathPolicy; 2] {
        let told = self.policies_for(a, b).unwrap_or_default();
        if let Some(pair) = self.pairs.policy_mut(a, b) {
            pair.told = if a < b { told } else { [told[1], told[0]] };
        }
        told
    }

    /// Whether two may be told each other's addresses now: they may punch, and have a reason to.
    pub(super) fn may_punch(&self, a: PeerId, b: PeerId, asked: bool) -> bool {
        let policy = self.policy(a, b).unwrap_or_default();
        policy.allows_direct() && (asked || policy.punch == PunchPolicy::Always)
    }

    /// What each of two has to be told.
    fn policies_for(&self, a: PeerId, b: PeerId) -> Option<[PathPolicy; 2]> {
        let pair = self.pairs.policy(a, b)?;
        let own = |id| self.client(id).map_or(PathPolicy::default(), |session| session.wishes.all);
        let mut all = self.config.policy;
        if !self.policies.groups.is_empty() {
            let shared = self.groups.groups_of(a).filter(|group| self.groups.epoch_of(b, *group).is_some());
            let each = shared.map(|g| self.policies.groups.get(&g).copied().unwrap_or(self.config.policy));
            all = each.reduce(PathPolicy::and).unwrap_or(all);
        }
        let all = all.and(pair.forced);
        let [low, high] = pair.wishes;
        let (wish_a, wish_b) = if a < b { (low, high) } else { (high, low) };
        Some([all.and(own(b)).and(wish_b), all.and(own(a)).and(wish_a)])
    }

    /// Tells those whose policy is another.
    pub(super) fn apply_policies(&mut self, now: Instant) {
        while let Some((a, b)) = self.policies.changed.pop_first() {
            let (Some(epoch), Some(new)) = (self.pairs.epoch(a, b), self.policies_for(a, b)) else { continue };
            let Some(pair) = self.pairs.policy_mut(a, b) else { continue };
            let told = core::mem::replace(&mut pair.told, new);
            for ((to, peer), (told, policy)) in [(a, b), (b, a)].into_iter().zip(told.into_iter().zip(new)) {
                if told != policy {
                    self.tell(now, to.slot(), &ToClient::Policy { peer, epoch, policy });
                }
            }
            if !new[0].and(new[1]).allows_direct() {
                self.forget_search(a, b);
            }
        }
    }
}
