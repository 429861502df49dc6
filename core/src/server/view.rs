//! What a server's application can look at.

use super::session::Phase;
use super::{Server, ServerCounters, ServerSize};
use crate::command::GroupRules;
use crate::event::Path;
use crate::ids::{GroupId, PeerId};
use crate::report::PairReport;
use crate::transport::{MAIN, Memory, PathStats};
use alloc::collections::BTreeSet;

impl Server {
    /// How traffic goes between two clients, `None` if they share no group.
    pub fn path(&self, a: PeerId, b: PeerId) -> Option<Path> {
        self.pairs.path(a, b)
    }

    /// What was done for a direct path between two clients, and what came of it; `None` if they share no group.
    pub fn report(&self, a: PeerId, b: PeerId) -> Option<PairReport> {
        let tally = self.pairs.tally(a, b)?;
        Some(PairReport {
            path: self.path(a, b)?,
            policy: self.policy(a, b)?,
            time_to_direct: tally.time_to_direct,
            starts: tally.starts,
            holes: tally.holes,
            predictions: tally.predictions,
            sweeps: tally.sweeps,
            granted: tally.granted,
        })
    }

    /// The link to a client: how fast it delivers, what to size snapshots by. `None` if there is no such client.
    pub fn client_path(&self, client: PeerId) -> Option<PathStats> {
        Some(self.client(client)?.link.transport_ref().path_stats(MAIN))
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = PeerId> + '_ {
        let all = self.sessions.iter().filter_map(|slot| slot.session.as_ref());
        all.filter(|s| s.phase == Phase::Online).map(|s| s.peer)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.iter()
    }

    /// The group that goes by this number now, if any does.
    pub fn group_numbered(&self, number: u32) -> Option<GroupId> {
        self.groups.numbered(number)
    }

    /// What holds for a group. `None` if there is no such group.
    pub fn group_rules(&self, group: GroupId) -> Option<GroupRules> {
        self.groups.rules(group)
    }

    /// The clients with which a client shares a group, each once, in the order of their ids.
    pub fn peers_of(&self, client: PeerId) -> impl Iterator<Item = PeerId> + use<> {
        let groups = self.groups.groups_of(client);
        let all: BTreeSet<_> = groups.flat_map(|group| self.groups.members(group)).filter(|p| *p != client).collect();
        all.into_iter()
    }

    /// The clients in a group, not the server; nobody if there is no such group.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> + '_ {
        self.groups.members(group)
    }

    /// The groups that a client is in.
    pub fn groups_of(&self, client: PeerId) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.groups_of(client)
    }

    /// The longest message that goes to a client in one packet; an unreliable one that is longer is lost if any of its
    /// packets is. `None` if there is no such client.
    pub fn max_unreliable_len(&self, client: PeerId) -> Option<usize> {
        Some(self.client(client)?.link.transport_ref().max_unreliable_len())
    }

    /// What messages take in memory, and the most they may; what is relayed takes none. Looks at every session.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory { streams: self.streams.usage(), ..Memory::default() };
        let sessions = self.sessions.iter().filter_map(|slot| slot.session.as_deref());
        sessions.for_each(|session| session.link.transport_ref().add_memory(&mut memory));
        memory
    }

    /// Whether nobody is let in any more.
    pub fn is_draining(&self) -> bool {
        self.admission.draining
    }

    /// What came in and was not used, and what was forwarded.
    pub fn counters(&self) -> ServerCounters {
        let over = self.admission.counters;
        let dropped = [over.forged, over.other_key, over.over_source, over.over_prefix, over.over_all];
        ServerCounters {
            logins: over,
            logins_dropped: dropped.iter().sum::<u64>() + self.counters.logins_dropped,
            relay_displaced: self.streams.displaced,
            streams_refused: self.streams.refused,
            ..self.counters
        }
    }

    /// How much the server holds.
    pub fn size(&self) -> ServerSize {
        ServerSize {
            sessions: self.live,
            clients: self.online,
            groups: self.groups.len(),
            pairs: self.pairs.len(),
            routes: self.relay.routes(),
            streams: self.streams.len(),
        }
    }
}
