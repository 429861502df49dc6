//! What the application asks of a server: logins, groups, messages.

use super::policy::PolicyError;
use super::{Phase, Queued, Server};
use crate::client::{SendError, Sent, send_error};
use crate::command::{Command, GroupRules, SendOptions, To};
use crate::event::EndReason;
use crate::group::server::{CreateGroupError, DestroyError, JoinError, LeaveError};
use crate::ids::{Channel, GroupId, LoginId, PeerId};
use crate::leg::Leg;
use crate::machine::Entry;
use crate::policy::PathPolicy;
use crate::time::{Duration, Instant};
use crate::transport::Scope;
use crate::wire::control::{MAX_MESSAGE, MAX_USER_DATA, ToClient};
use alloc::vec::Vec;
use thiserror::Error;

/// How a group is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct GroupOptions<'a> {
    /// Carried unchanged in the join events of its first members; at most 4,096 bytes.
    pub message: &'a [u8],
    /// What holds for it as long as it is there.
    pub rules: GroupRules,
    /// Which ways traffic among its members may go; `None`: as [`ServerConfig::policy`](crate::ServerConfig) says.
    pub policy: Option<PathPolicy>,
}

impl<'a> GroupOptions<'a> {
    /// With this message in the join events of its first members.
    pub const fn message(mut self, message: &'a [u8]) -> Self {
        self.message = message;
        self
    }

    /// It stays when its last member has left, until it is destroyed.
    pub const fn keep_empty(mut self) -> Self {
        self.rules.keep_empty = true;
        self
    }

    /// The server is in it, too: see [`GroupRules::server_is_member`].
    pub const fn server_is_member(mut self) -> Self {
        self.rules.server_is_member = true;
        self
    }

    /// It goes by this number, below 2^31: see [`GroupRules::number`].
    pub const fn number(mut self, number: u32) -> Self {
        self.rules.number = Some(number);
        self
    }

    /// With this policy.
    pub const fn policy(mut self, policy: PathPolicy) -> Self {
        self.policy = Some(policy);
        self
    }
}

/// Why a login was neither accepted nor rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// It was decided already, or took too long, or never was.
    #[error("no such login waits")]
    UnknownLogin,
    /// Peers carry the user data in their join events.
    #[error("user data of {len} bytes, at most {max} fit")]
    UserDataTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that fit.
        max: usize,
    },
    /// The message for the client is too long.
    #[error("a message of {len} bytes, at most {max} fit")]
    MessageTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that fit.
        max: usize,
    },
}

/// Why a client was not disconnected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no such client")]
pub struct UnknownClient;

/// Why a client's timeout was not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TimeoutError {
    /// There is no such client.
    #[error("no such client")]
    UnknownClient,
    /// A client that is there might seem gone.
    #[error("at least {least:?} is needed")]
    TooShort {
        /// Two of the clients' keepalives, and not less than [`Timers::offline`](crate::Timers::offline).
        least: Duration,
    },
}

/// Why a [`Command`] was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ServerCommandError {
    /// It was a decision on a login.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// It was the end of a session.
    #[error(transparent)]
    Disconnect(#[from] UnknownClient),
    /// It was a client's timeout.
    #[error(transparent)]
    SetTimeout(#[from] TimeoutError),
    /// It was a new group.
    #[error(transparent)]
    CreateGroup(#[from] CreateGroupError),
    /// It was a join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It was a leave.
    #[error(transparent)]
    Leave(#[from] LeaveError),
    /// It was the end of a group.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// It was a message.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It was a policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It is for a client.
    #[error("a server cannot do that, only a client")]
    ClientOnly,
}

impl Server {
    /// Lets a login in. Its peers will see `user_data` in their join events; it reads `message` in its login event.
    pub fn accept(
        &mut self,
        now: Instant,
        login: LoginId,
        user_data: &[u8],
        message: &[u8],
    ) -> Result<PeerId, AcceptError> {
        self.record_command(now, || Command::Accept { login, user_data: user_data.into(), message: message.into() });
        if user_data.len() > MAX_USER_DATA {
            return Err(AcceptError::UserDataTooLong { len: user_data.len(), max: MAX_USER_DATA });
        }
        check_message(message)?;
        let session = self.asking(login)?;
        session.phase = Phase::Online;
        session.deadline = Instant::FAR;
        session.user_data = user_data.into();
        session.link.transport().open_peer();
        let me = session.peer;
        self.online += 1;
        self.groups.client_online(me);
        self.tell(now, me.slot(), &ToClient::Welcome { me, user_data, message });
        let relay = [self.config.limits.relay.bytes, self.config.limits.relay.packets].map(|rate| rate.per_second);
        let addrs = self.config.advertised_addrs.iter().copied().collect();
        self.tell(now, me.slot(), &ToClient::About { relay, addrs });
        self.discover(now, me.slot());
        if self.leg(me) == Some(Leg::Tcp) {
            self.tell_leg(me.slot());
        }
        self.announce(me.slot());
        Ok(me)
    }

    /// Turns a login away, with a message for its application.
    pub fn reject(&mut self, now: Instant, login: LoginId, message: &[u8]) -> Result<(), AcceptError> {
        self.record_command(now, || Command::Reject { login, message: message.into() });
        check_message(message)?;
        let deadline = now + self.config.timers.handshake;
        let session = self.asking(login)?;
        session.phase = Phase::Rejected;
        session.deadline = deadline;
        self.tell(now, login.slot(), &ToClient::Rejected { message });
        Ok(())
    }

    /// From now on nobody is let in: new logins are refused, and told that the server is about to stop. Whoever is there
    /// stays, and may still be put into groups; who waits for the application's word may still be accepted. A server that is
    /// to stop in peace drains, waits until [`ServerSize::sessions`](super::ServerSize::sessions) is 0 or its patience is
    /// over, and disconnects the rest. `on` false takes it back.
    pub fn drain(&mut self, now: Instant, on: bool) {
        self.record_command(now, || Command::Drain { on });
        self.admission.draining = on;
    }

    /// Ends a client's session. Its groups lose it at once. What was sent to it reliably is still delivered, for a second at
    /// most (three probe timeouts if those are longer); then it is told.
    pub fn disconnect(&mut self, now: Instant, client: PeerId) -> Result<(), UnknownClient> {
        self.record_command(now, || Command::Disconnect { client });
        self.client(client).ok_or(UnknownClient)?;
        let slot = client.slot();
        self.part(now, slot, EndReason::Local);
        if let Some(session) = self.session_mut(slot).filter(|s| !s.link.transport_ref().is_flushed()) {
            session.deadline = session.link.flush_until(now);
        }
        self.refresh(slot);
        Ok(())
    }

    /// How long this client may be silent from now on until its session is over, in place of
    /// [`Timers::session_idle`](crate::Timers::session_idle): longer for one that may be put to sleep, shorter where others wait for it.
    /// The client's own [`Timers::lease`](crate::Timers::lease) stays as it is.
    pub fn set_timeout(&mut self, now: Instant, client: PeerId, timeout: Duration) -> Result<(), TimeoutError> {
        self.record_command(now, || Command::SetTimeout { client, timeout });
        let least = crate::config::least_session_idle(&self.config.timers);
        let session = self.client_mut(client).ok_or(TimeoutError::UnknownClient)?;
        if timeout < least {
            return Err(TimeoutError::TooShort { least });
        }
        session.timeout = Some(timeout);
        self.refresh(client.slot());
        Ok(())
    }

    /// Makes a group of these clients.
    pub fn create_group(
        &mut self,
        now: Instant,
        members: &[PeerId],
        options: GroupOptions<'_>,
    ) -> Result<GroupId, CreateGroupError> {
        let GroupOptions { message, rules, policy } = options;
        self.record_command(now, || Command::CreateGroup {
            members: members.into(),
            message: message.into(),
            rules,
            policy,
        });
        let group = self.groups.create(now, members, message, rules);
        if let Ok(group) = group {
            self.policies.of_group(group, policy);
        }
        self.carry_out(now);
        group
    }

    /// Adds a client to a group. `message` is carried unchanged in the join events, at most 4,096 bytes.
    pub fn join_group(
        &mut self,
        now: Instant,
        member: PeerId,
        group: GroupId,
        message: &[u8],
    ) -> Result<(), JoinError> {
        self.record_command(now, || Command::Join { member, group, message: message.into() });
        let joined = self.groups.join(now, member, group, message);
        self.carry_out(now);
        joined
    }

    /// Takes a client out of a group. The group ends with its last member.
    pub fn leave_group(&mut self, now: Instant, member: PeerId, group: GroupId) -> Result<(), LeaveError> {
        self.record_command(now, || Command::Leave { member, group });
        let left = self.groups.leave(member, group);
        self.carry_out(now);
        left
    }

    /// Ends a group.
    pub fn destroy_group(&mut self, now: Instant, group: GroupId) -> Result<(), DestroyError> {
        self.record_command(now, || Command::DestroyGroup { group });
        // Their pairs may live on in other groups, by whose policies alone they go then.
        let members: Vec<_> = self.groups.members(group).collect();
        self.policies.touch_all(&members);
        let destroyed = self.groups.destroy(group);
        self.carry_out(now);
        destroyed
    }

    /// Ends all groups that have no members, and says how many there were.
    pub fn destroy_empty_groups(&mut self, now: Instant) -> usize {
        self.record_command(now, || Command::DestroyEmptyGroups);
        let empty: Vec<GroupId> = self.groups.empty().collect();
        for group in &empty {
            let _ = self.groups.destroy(*group);
        }
        self.carry_out(now);
        empty.len()
    }

    /// Sends a message to a client, or to a group that the server [is a member of](GroupRules::server_is_member); reliably to
    /// all of its members or to none. `loopback` means nothing.
    pub fn send(
        &mut self,
        now: Instant,
        to: impl Into<To>,
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let to = to.into();
        self.record(now, Entry::Send { to, channel, bytes, options });
        let peer = match to {
            To::Peer(peer) => peer,
            To::Group(group) => return self.send_group(now, group, channel, bytes, &options),
        };
        let session = self.client_mut(peer).ok_or(SendError::Gone)?;
        let sent = session.link.transport().send(now, Scope::Peer(channel), None, bytes, &options);
        self.refresh(peer.slot());
        let displaced = sent.map_err(|e| send_error(e, peer))?;
        Ok(Sent { receivers: 1, displaced })
    }

    /// Does what `command` says, by the typed method for it.
    pub fn execute(&mut self, now: Instant, command: &Command) -> Result<(), ServerCommandError> {
        match command {
            Command::Send { to, channel, bytes, options } => {
                self.send(now, *to, *channel, bytes, *options)?;
            }
            Command::SendList { to, channel, bytes, options } => {
                self.send_list(now, to, *channel, bytes, *options)?;
            }
            Command::Disconnect { client } => self.disconnect(now, *client)?,
            Command::Accept { login, user_data, message } => {
                self.accept(now, *login, user_data, message)?;
            }
            Command::Reject { login, message } => self.reject(now, *login, message)?,
            Command::CreateGroup { members, message, rules, policy } => {
                self.create_group(now, members, GroupOptions { message, rules: *rules, policy: *policy })?;
            }
            Command::DestroyEmptyGroups => {
                self.destroy_empty_groups(now);
            }
            Command::SetGroupPolicy { group, policy } => self.set_group_policy(now, *group, *policy)?,
            Command::SetPairPolicy { a, b, policy } => self.set_pair_policy(now, *a, *b, *policy)?,
            Command::Restrict { .. } => return Err(ServerCommandError::ClientOnly),
            Command::Join { member, group, message } => self.join_group(now, *member, *group, message)?,
            Command::Leave { member, group } => self.leave_group(now, *member, *group)?,
            Command::DestroyGroup { group } => self.destroy_group(now, *group)?,
            Command::Drain { on } => self.drain(now, *on),
            Command::SetTimeout { client, timeout } => self.set_timeout(now, *client, *timeout)?,
        }
        Ok(())
    }

    fn asking(&mut self, login: LoginId) -> Result<&mut super::Session, AcceptError> {
        let session = self.session_mut(login.slot()).filter(|s| s.login() == login && s.phase == Phase::Asking);
        session.ok_or(AcceptError::UnknownLogin)
    }

    /// The command is made only if somebody records it.
    pub(super) fn record_command(&mut self, now: Instant, command: impl FnOnce() -> Command) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Command(&command()));
        }
    }

    /// Takes an online client out of everything; its session stays only to say goodbye.
    pub(super) fn part(&mut self, now: Instant, slot: u32, why: EndReason) {
        let Some(session) = self.session_mut(slot).filter(|s| s.phase == Phase::Online) else { return };
        session.phase = Phase::Closing(why);
        session.deadline = now;
        session.left_waits = true;
        let peer = session.peer;
        self.online -= 1;
        self.groups.client_gone(peer);
        self.queue.push_back(Queued::Left(peer, why));
        self.carry_out(now);
        self.refresh(slot);
    }
}

fn check_message(message: &[u8]) -> Result<(), AcceptError> {
    if message.len() > MAX_MESSAGE {
        Err(AcceptError::MessageTooLong { len: message.len(), max: MAX_MESSAGE })
    } else {
        Ok(())
    }
}
