//! Peers come and go: their keys, links and slots.

use super::*;

/// A new peer, as the server tells of it.
pub(super) struct Up<'a> {
    pub(super) peer: PeerId,
    pub(super) key: [u8; 32],
    pub(super) psk: Psk,
    pub(super) epoch: u64,
    pub(super) handle: u32,
    pub(super) suite: u8,
    pub(super) rtt: Duration,
    pub(super) user_data: &'a [u8],
    pub(super) policy: PathPolicy,
    pub(super) candidates: Candidates,
}

impl Session {
    pub(super) fn peer_up(&mut self, up: &Up<'_>, around: &mut Around<'_>) -> Result<(), Nonsense> {
        let now = around.now;
        let me = self.me.filter(|me| *me != up.peer && !up.peer.is_server()).ok_or(Nonsense)?;
        // A replayed or older pair must never bring its keys back.
        self.view.as_mut().ok_or(Nonsense)?.peer_up(up.epoch).map_err(|_| Nonsense)?;
        self.peer_down(up.peer, around);
        let crypto = self.suites.iter().find(|s| s.id() == up.suite).cloned().ok_or(Nonsense)?;
        let context = PairContext::new(self.app, up.suite, me, up.peer, up.epoch);
        // The server refused keys of low order at login; one that introduces them is not to be believed in anything.
        let secret = pair_secret(&self.key, &up.key, &up.psk.0, &context).map_err(|_| Nonsense)?;
        let role = Role::between(me, up.peer);
        let protection = Protection::new(crypto, &secret, role);
        let entropy = &mut *around.entropy;
        let rng = entropy.stream("peer link", up.epoch);
        let transport = Transport::new(now, &self.transport, rng.clone(), up.rtt, RELAYED_PAYLOAD);
        let punch =
            Punch::new(&PunchConfig { searches: true, ..PunchConfig::default() }, entropy.stream("punch", up.epoch));
        let mut link = Link::with_peer(now, protection, transport, punch, entropy.keys());
        link.set_home(self.leg.home);
        if let (Leg::Tcp, _) = self.leg.carrier.leg() {
            link.use_leg(now, Leg::Tcp);
        }
        let slot = self.free_slot();
        let ids = [MAIN, DIRECT].map(|path| link.protection().cid_in(path));
        self.by_cid.extend([(ids[0], (slot, MAIN)), (ids[1], (slot, DIRECT))]);
        self.by_id.insert(up.peer, slot);
        self.peers[slot as usize - 1] = Some(Peer {
            id: up.peer,
            epoch: up.epoch,
            key: up.key,
            handle: up.handle,
            link,
            user_data: up.user_data.into(),
            allowed: Allowed::new(up.policy),
            verdict: Verdict::Relayed(RelayReason::Probing),
            met: false,
            away: false,
            unsure: false,
            shown: Shown::default(),
            dead: false,
        });
        self.apply_policy(now, slot);
        let hole = self.take_hole(up.peer, &up.key, slot);
        if let (Some(hole), Some(peer)) = (hole, path_peer(&mut self.peers, slot)) {
            peer.link.inherit(now, &hole, hole.fresh_until(self.holding.keepalive));
        }
        if let Some(peer) = path_peer(&mut self.peers, slot)
            && !up.candidates.as_slice().is_empty()
        {
            peer.link.punch(now, believable(&up.candidates).as_slice());
        }
        while let Some((from, mut packet)) = self.stash.take(now, ids[0]) {
            self.on_peer_packet(slot, MAIN, from, Ecn::NotCapable, &mut packet, around);
            self.stash.recycle(packet);
        }
        while let Some((from, mut packet)) = self.held.early.take(now, ids[1]) {
            self.on_peer_packet(slot, DIRECT, from, Ecn::NotCapable, &mut packet, around);
            self.held.early.recycle(packet);
        }
        self.after(now, slot, around.queue);
        Ok(())
    }

    fn free_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() as u32
        })
    }

    /// Packets that carry this connection id are for the link in a slot from now on, on this path.
    pub(in crate::client) fn claim(&mut self, cid: u64, slot: u32, path: PathId) {
        self.by_cid.insert(cid, (slot, path));
    }

    /// They are for nobody any more.
    pub(in crate::client) fn disclaim(&mut self, cid: u64) {
        self.by_cid.remove(&cid);
    }

    /// A pair is over: its keys are erased at once, and whatever it still held with them. What may stay is the hole.
    pub(super) fn peer_down(&mut self, peer: PeerId, around: &mut Around<'_>) {
        let Some(slot) = self.by_id.remove(&peer) else { return };
        let Some(mut gone) = self.peers.get_mut(slot as usize - 1).and_then(Option::take) else { return };
        self.policies.release(&mut gone.allowed);
        for path in [MAIN, DIRECT] {
            self.by_cid.remove(&gone.link.protection().cid_in(path));
        }
        self.schedule.set(slot, None);
        self.search = self.search.take().filter(|search| !search.is_with(peer));
        if !gone.dead {
            let rng = around.entropy.stream("path hold", gone.epoch);
            self.keep_hole(around.now, peer, gone.key, slot, &gone.link, rng);
        }
        self.sockets.close_all(Some(slot));
        self.free.push(slot);
        around.queue.forget_peer(peer);
    }
}

/// What of a peer's candidates is probed: addresses on this network, and one of each family anywhere, which is where the
/// server observed the peer. A server that was tricked into handing on more makes nobody a target of ours.
pub(in crate::client) fn believable(candidates: &Candidates) -> Candidates {
    let mut observed = [false; 2];
    let once = |addr: &SocketAddr| {
        is_local(addr.ip()) || !core::mem::replace(&mut observed[usize::from(addr.is_ipv4())], true)
    };
    candidates.as_slice().iter().copied().filter(once).collect()
}
