//! Sending one message to a list of peers and groups: each receiver gets one copy.

use super::session::{Session, check_message, link_mut, slot_of};
use super::{Client, Phase, SendError, Sent, send_error};
use crate::command::{Command, SendOptions, Target};
use crate::ids::{Channel, PeerId};
use crate::machine::Entry;
use crate::time::Instant;
use crate::transport::Scope;
use alloc::collections::BTreeSet;

impl Client {
    /// Sends a message to several peers and groups. Whoever is named more than once, alone or as a member, gets one copy, as a
    /// message to it alone: of the scope (sender, peer, channel). So does this client itself, if it is named or
    /// [`SendOptions::loopback`] is on. Reliably to all or to none.
    pub fn send_list(
        &mut self,
        now: Instant,
        to: &[Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        if self.tap.is_some() {
            self.record(
                now,
                Entry::Command(&Command::SendList { to: to.into(), channel, bytes: bytes.into(), options }),
            );
        }
        let Phase::Online(session) = &mut self.phase else { return Err(SendError::Gone) };
        let me = session.me().ok_or(SendError::Gone)?;
        let mut receivers = session.receivers(to)?;
        let itself = receivers.remove(&me) || options.loopback;
        let room = self.queue.loopback_cost(bytes) <= self.config.limits.send_buffer;
        if itself && !room && channel.reliability().is_reliable() {
            self.queue.refuse_loopback(me, channel);
            return Err(SendError::Full { to: me });
        }
        let sent = session.send_each(now, &receivers, channel, bytes, &options)?;
        if itself && room {
            self.queue.push_loopback(None, channel, bytes);
        }
        Ok(sent)
    }
}

impl Session {
    /// Everybody that is named, once.
    fn receivers(&self, to: &[Target]) -> Result<BTreeSet<PeerId>, SendError> {
        let mut all = BTreeSet::new();
        for target in to {
            match *target {
                Target::Peer(peer) => {
                    let there = Some(peer) == self.me() || slot_of(&self.by_id, peer).is_some();
                    all.extend(there.then_some(peer));
                    there.then_some(()).ok_or(SendError::Gone)?;
                }
                Target::Group(group) => {
                    let view = self.view.as_ref().filter(|view| view.is_in(group)).ok_or(SendError::Gone)?;
                    all.extend(view.peers(group));
                }
            }
        }
        Ok(all)
    }

    fn send_each(
        &mut self,
        now: Instant,
        receivers: &BTreeSet<PeerId>,
        channel: Channel,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<Sent, SendError> {
        let reliable = channel.reliability().is_reliable();
        check_message(&self.transport, reliable, bytes, options)?;
        for &receiver in receivers.iter().filter(|_| reliable) {
            if let Some(slot) = slot_of(&self.by_id, receiver)
                && let Some(link) = link_mut(&mut self.server, &mut self.peers, slot)
            {
                let room = link.transport().check_room(Scope::Peer(channel), bytes.len());
                room.map_err(|e| send_error(e, receiver))?;
            }
        }
        let mut all = Sent { receivers: 0, displaced: 0 };
        for receiver in receivers {
            let Some(slot) = slot_of(&self.by_id, *receiver) else { continue };
            let Some(link) = link_mut(&mut self.server, &mut self.peers, slot) else { continue };
            let sent = link.send(now, Scope::Peer(channel), None, bytes, options);
            all.receivers += usize::from(sent.is_ok());
            all.displaced += sent.unwrap_or(0);
            self.refresh(slot);
        }
        Ok(all)
    }
}
