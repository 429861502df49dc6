//! The server as a member of groups: it gets what members send to a group, and sends to it itself.
//!
//! Its membership is the group's whole life, so of the two joins of which a scope is named by the later one, that is always
//! the client's. All of it goes over the links that there are to the clients.

use super::Server;
use crate::client::{SendError, Sent, send_error};
use crate::command::{Command, SendOptions, Target};
use crate::ids::{Channel, GroupId, PeerId};
use crate::time::Instant;
use crate::transport::Scope;
use alloc::collections::BTreeSet;

/// What a message's scope says of it.
pub(super) fn of(scope: Scope) -> Option<(Option<GroupId>, Channel)> {
    match scope {
        Scope::Peer(channel) => Some((None, channel)),
        Scope::Group(group, _, channel) => Some((Some(group), channel)),
        Scope::Control => None,
    }
}

impl Server {
    /// A client was told of its own join: what it sends to the group from now on is taken, if the server is in it.
    pub(super) fn open_group(&mut self, client: PeerId, group: GroupId, member: PeerId, epoch: u64) {
        if client == member
            && self.groups.server_epoch(group).is_some()
            && let Some(session) = self.client_mut(client)
        {
            session.hosted.insert(group);
            session.link.transport().open_group(group, epoch);
            self.refresh(client.slot());
        }
    }

    /// A client is told of its own leave: nothing more of its stay is handed on.
    pub(super) fn close_group(&mut self, client: PeerId, group: GroupId, member: PeerId, epoch: u64) {
        if client == member
            && let Some(session) = self.client_mut(client)
            && session.hosted.remove(&group)
        {
            session.link.transport().close_group(group, epoch);
            self.announce(client.slot());
            self.refresh(client.slot());
        }
    }

    /// To all members of a group, if the server is one: reliably to all or to none.
    pub(super) fn send_group(
        &mut self,
        now: Instant,
        group: GroupId,
        channel: Channel,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<Sent, SendError> {
        self.groups.server_epoch(group).ok_or(SendError::Gone)?;
        let reliable = channel.reliability().is_reliable();
        crate::client::check_message(&self.transport, reliable, bytes, options)?;
        let stays: alloc::vec::Vec<_> = self.groups.stays(group).collect();
        for &(member, epoch) in stays.iter().filter(|_| reliable) {
            let Some(session) = self.client_mut(member) else { continue };
            let scope = Scope::Group(group, epoch, channel);
            session.link.transport().check_room(scope, bytes.len()).map_err(|e| send_error(e, member))?;
        }
        let seq = self.groups.take_server_seq(group, channel).ok_or(SendError::Gone)?;
        let mut all = Sent { receivers: 0, displaced: 0 };
        for (member, epoch) in stays {
            let Some(session) = self.client_mut(member) else { continue };
            let scope = Scope::Group(group, epoch, channel);
            let sent = session.link.transport().send(now, scope, Some(seq), bytes, options);
            debug_assert!(sent.is_ok() || !reliable, "there was room a moment ago");
            all.receivers += usize::from(sent.is_ok());
            all.displaced += sent.unwrap_or(0);
            self.refresh(member.slot());
        }
        Ok(all)
    }

    /// Sends a message to several clients and groups. Whoever is named more than once, alone or as a member, gets one copy, as
    /// a message to it alone. Of groups the server need not be a member. Reliably to all or to none.
    pub fn send_list(
        &mut self,
        now: Instant,
        to: &[Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        self.record_command(now, || Command::SendList { to: to.into(), channel, bytes: bytes.into(), options });
        let mut receivers = BTreeSet::new();
        for target in to {
            match *target {
                Target::Peer(peer) => {
                    self.client(peer).ok_or(SendError::Gone)?;
                    receivers.insert(peer);
                }
                Target::Group(group) => {
                    self.groups.rules(group).ok_or(SendError::Gone)?;
                    receivers.extend(self.groups.members(group));
                }
            }
        }
        let (reliable, scope) = (channel.reliability().is_reliable(), Scope::Peer(channel));
        crate::client::check_message(&self.transport, reliable, bytes, &options)?;
        for &receiver in receivers.iter().filter(|_| reliable) {
            let Some(session) = self.client_mut(receiver) else { continue };
            session.link.transport().check_room(scope, bytes.len()).map_err(|e| send_error(e, receiver))?;
        }
        let mut all = Sent { receivers: 0, displaced: 0 };
        for receiver in receivers {
            let Some(session) = self.client_mut(receiver) else { continue };
            let sent = session.link.transport().send(now, scope, None, bytes, &options);
            all.receivers += usize::from(sent.is_ok());
            all.displaced += sent.unwrap_or(0);
            self.refresh(receiver.slot());
        }
        Ok(all)
    }
}
