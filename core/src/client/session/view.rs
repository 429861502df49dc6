//! What a client's application can look at while it is logged in.

use super::{Session, path_of};
use crate::client::{PeerView, ServerTime};
use crate::group::client::View;
use crate::ids::{GroupId, PeerId};
use crate::path::{Punch, Tally};
use crate::report::{CandidateReport, PeerReport};
use crate::time::{Duration, Instant};
use crate::transport::{DIRECT, MAIN, Memory, PathStats};

impl Session {
    pub(in crate::client) fn server_time(&self, now: Instant) -> Option<ServerTime> {
        self.clock.at(now)
    }

    pub(in crate::client) fn server_rtt(&self) -> Option<Duration> {
        self.server.transport_ref().rtt(MAIN)
    }

    pub(in crate::client) fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.view.iter().flat_map(View::groups)
    }

    pub(in crate::client) fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> + '_ {
        self.view.iter().flat_map(move |view| view.members(group))
    }

    pub(in crate::client) fn server_path(&self) -> PathStats {
        self.server.transport_ref().path_stats(MAIN)
    }

    pub(in crate::client) fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.by_id.values().filter_map(|slot| self.peer(*slot)).map(|p| PeerView {
            id: p.id,
            path: path_of(p),
            policy: self.policies.with(&p.allowed),
            relay_rtt: p.link.transport_ref().rtt(MAIN),
            direct_rtt: p.link.transport_ref().rtt(DIRECT),
            relay: p.link.transport_ref().path_stats(MAIN),
            direct: p.link.transport_ref().path_stats(DIRECT),
            dropped: p.link.transport_ref().overflow(),
            forward_secret: p.link.protection().sending_generation() > 0,
        })
    }

    pub(in crate::client) fn report(&self, peer: PeerId) -> Option<PeerReport> {
        let peer = self.peer(*self.by_id.get(&peer)?)?;
        let Tally { time_to_direct, rounds, holes, searches, challenges, responses, candidates, .. } =
            peer.link.puncher_ref()?.tally();
        Some(PeerReport {
            peer: peer.id,
            path: path_of(peer),
            policy: self.policies.with(&peer.allowed),
            time_to_direct,
            rounds,
            holes,
            searches,
            challenges,
            responses,
            candidates,
        })
    }

    pub(in crate::client) fn candidates(&self, peer: PeerId) -> impl Iterator<Item = CandidateReport> + '_ {
        let peer = self.by_id.get(&peer).and_then(|slot| self.peer(*slot));
        peer.and_then(|peer| peer.link.puncher_ref()).into_iter().flat_map(Punch::candidates)
    }

    pub(in crate::client) fn max_unreliable_len(&self, to: PeerId) -> Option<usize> {
        let link = if to.is_server() { &self.server } else { &self.peer(*self.by_id.get(&to)?)?.link };
        Some(link.transport_ref().max_unreliable_len())
    }

    pub(in crate::client) fn memory(&self) -> Memory {
        let links = self.peers.iter().flatten().map(|peer| &peer.link).chain([&self.server]);
        let mut memory = Memory { streams: self.leg.carrier.usage(), ..Memory::default() };
        links.for_each(|link| link.transport_ref().add_memory(&mut memory));
        memory
    }
}
