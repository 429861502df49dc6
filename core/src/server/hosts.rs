//! Which member would make the best host: a client that acts as the game's server for its group.
//!
//! Everything in it was measured here or reported by both ends of a pair; nobody is asked what it thinks of itself. Each
//! figure is set in relation to the group's best, so weights compare like with like.

use super::Server;
use crate::event::Path;
use crate::ids::{GroupId, PeerId};
use crate::time::{Duration, nanos};
use alloc::vec::Vec;

/// How much each figure counts; only their relation matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostWeights {
    /// The mean round-trip time to the other members, the way that traffic goes now.
    pub rtt: u32,
    /// How many of the others are reached directly.
    pub direct: u32,
    /// The most that the server has seen the client send in a quarter of a second, lately: by the relay, and to the server.
    pub uplink: u32,
}

impl Default for HostWeights {
    /// What everybody feels first, then what costs the server nothing, then what may not have been seen yet.
    fn default() -> Self {
        Self { rtt: 4, direct: 2, uplink: 1 }
    }
}

/// A member as a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRank {
    /// Who.
    pub client: PeerId,
    /// From 0 to 1,000, which is the best in everything that counts.
    pub score: u32,
    /// Mean round-trip time to the other members.
    pub rtt: Duration,
    /// Other members that are reached directly.
    pub direct: usize,
    /// Other members.
    pub others: usize,
    /// Bytes a second that the server has seen it send at most, lately.
    pub uplink: u64,
}

/// The best of anything.
const FULL: u128 = 1_000;

impl Server {
    /// The members of a group as hosts, the best first; of equal ones the one that joined first. What they are ranked by has
    /// mostly settled five seconds after the group was made. Nobody if there is no such group.
    pub fn rank_hosts(&self, group: GroupId, weights: HostWeights) -> Vec<HostRank> {
        let members: Vec<PeerId> = self.groups.members(group).collect();
        let mut ranks: Vec<HostRank> = members.iter().filter_map(|client| self.as_host(*client, &members)).collect();
        let least = ranks.iter().map(|rank| nanos(rank.rtt)).min().unwrap_or(0);
        let most = ranks.iter().map(|rank| rank.uplink).max().unwrap_or(0);
        // Where nobody was seen sending, all are equal.
        let share = |part: u64, whole: u64| if whole == 0 { FULL } else { u128::from(part) * FULL / u128::from(whole) };
        let sum = [weights.rtt, weights.direct, weights.uplink].into_iter().map(u128::from).sum::<u128>().max(1);
        for rank in &mut ranks {
            let figures = [
                (weights.rtt, share(least, nanos(rank.rtt))),
                (weights.direct, share(rank.direct as u64, rank.others as u64)),
                (weights.uplink, share(rank.uplink, most)),
            ];
            let score = figures.into_iter().map(|(weight, figure)| u128::from(weight) * figure).sum::<u128>() / sum;
            rank.score = u32::try_from(score).unwrap_or(u32::MAX);
        }
        // Stable, so that those who joined first stay in front.
        ranks.sort_by_key(|rank| core::cmp::Reverse(rank.score));
        ranks
    }

    fn as_host(&self, client: PeerId, members: &[PeerId]) -> Option<HostRank> {
        let session = self.client(client)?;
        let others = || members.iter().copied().filter(|other| *other != client);
        let ways = || others().filter_map(|other| self.pair_rtt(client, other));
        let sum: Duration = ways().map(|(rtt, _)| rtt).sum();
        let rtt = u32::try_from(ways().count()).ok().and_then(|count| sum.checked_div(count)).unwrap_or_default();
        let direct = ways().filter(|(_, direct)| *direct).count();
        let uplink = self.relay.uplink(session.id).max(session.uplink.best());
        Some(HostRank { client, score: 0, rtt, direct, others: others().count(), uplink })
    }

    /// The round-trip time between two clients the way that traffic goes now, and whether that is directly: as both ends
    /// measured it, or both round trips to the server. `None` if they share no group.
    pub fn pair_rtt(&self, a: PeerId, b: PeerId) -> Option<(Duration, bool)> {
        match self.pairs.path(a, b)? {
            Path::Direct { rtt } => Some((rtt, true)),
            Path::Relayed { .. } => Some((self.client(a)?.rtt() + self.client(b)?.rtt(), false)),
        }
    }
}
