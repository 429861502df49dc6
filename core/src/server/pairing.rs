//! Two clients come to share a group, or share none any more: routes of the relay, and what each is told of the other.

use super::Server;
use super::session::Phase;
use crate::config::common_suite;
use crate::ids::PeerId;
use crate::time::Instant;
use crate::wire::control::{Candidates, Psk, ToClient};
use alloc::vec::Vec;

impl Server {
    pub(super) fn pair_up(&mut self, now: Instant, a: PeerId, b: PeerId, epoch: u64) {
        let psk = Psk(*self.entropy.keys().draw());
        let (Some(first), Some(second)) = (self.client(a), self.client(b)) else { return };
        let rtt = first.rtt() + second.rtt();
        let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        // Every login shares the last, portable suite with the server, so two clients always have one in common.
        let ours: Vec<_> = self.config.suites.iter().filter(|s| first.suites.contains(&s.id())).cloned().collect();
        let Some(suite) = common_suite(&ours, &second.suites).map(|s| s.id()) else { return };
        let (ids, candidates) = ([first.id, second.id], [second.candidates_for(first), first.candidates_for(second)]);
        let keys = [(first.key, first.user_data.clone()), (second.key, second.user_data.clone())];
        let Ok(there) = self.relay.add_route(ids[0], ids[1]) else { return };
        let Ok(back) = self.relay.add_route(ids[1], ids[0]) else {
            self.relay.remove_route(ids[0], there);
            return;
        };
        let handles = if a < b { [there, back] } else { [back, there] };
        self.pairs.insert(a, b, epoch, handles);
        let policies = self.begin_policy(a, b);
        let punch = self.may_punch(a, b, false) && self.pairs.restart(now, a, b, epoch);
        let candidates = if punch { candidates } else { [Candidates::new(); 2] };
        for (end, (to, peer, handle)) in [(a, b, there), (b, a, back)].into_iter().enumerate() {
            let (key, user_data) = &keys[1 - end];
            let (policy, candidates) = (policies[end], candidates[end]);
            let up =
                ToClient::PeerUp { peer, key: *key, psk, epoch, handle, suite, rtt_us, user_data, policy, candidates };
            self.tell(now, to.slot(), &up);
            // The peer has no UDP: there is nowhere to look, but that, too, takes an order, or it would be looked for for ever.
            if punch && candidates.as_slice().is_empty() {
                self.tell(now, to.slot(), &ToClient::Punch { peer, epoch, candidates });
            }
        }
    }

    pub(super) fn pair_down(&mut self, now: Instant, a: PeerId, b: PeerId) {
        let Some(pair) = self.pairs.remove(a, b) else { return };
        for (to, peer, handle) in [(a.min(b), a.max(b), pair.handles[0]), (a.max(b), a.min(b), pair.handles[1])] {
            // Also of one that is only there to hear goodbye: it has no business with its peers any more.
            let session = self.session_mut(to.slot()).filter(|s| s.peer == to);
            let Some((id, phase)) = session.map(|s| (s.id, s.phase)) else { continue };
            self.relay.remove_route(id, handle);
            if phase == Phase::Online {
                self.tell(now, to.slot(), &ToClient::PeerDown { peer, epoch: pair.epoch });
            }
        }
    }
}
