//! Bytes of an entry, and back.

use crate::entry::{OwnedEntry, OwnedInput, OwnedStreamInput};
use posse_core::{
    Channel, Class, Command, Duration, Ecn, Entry, GroupId, GroupRules, Input, Instant, LoginId, PathPolicy, PeerId,
    Prefer, PunchPolicy, Room, SendFailure, SendOptions, SocketId, SocketInput, StreamEnd, StreamId, StreamInput,
    Target, To,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Something that this version of the format has no place for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unknown;

/// Writes front to back.
pub(crate) struct Put<'a>(pub(crate) &'a mut Vec<u8>);

impl Put<'_> {
    pub(crate) fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub(crate) fn u16(&mut self, n: u16) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(crate) fn size(&mut self, n: usize) {
        self.u64(n as u64);
    }

    pub(crate) fn duration(&mut self, d: Duration) {
        self.u64(d.as_secs());
        self.u64(d.subsec_nanos().into());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                self.u8(4);
                self.0.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.u8(6);
                self.0.extend_from_slice(&v6.octets());
            }
        }
    }

    pub(crate) fn addr(&mut self, addr: SocketAddr) {
        self.ip(addr.ip());
        self.u16(addr.port());
        if let SocketAddr::V6(v6) = addr {
            self.u64(v6.flowinfo().into());
            self.u64(v6.scope_id().into());
        }
    }

    fn room(&mut self, room: Room) {
        self.size(room.bytes);
        self.size(room.sends);
        self.u16(room.segments);
    }

    fn options(&mut self, options: &SendOptions) {
        self.u8(options.loopback.into());
        self.u8(match options.class {
            Class::Urgent => 0,
            Class::Normal => 1,
            Class::Bulk => 2,
        });
        self.option(options.deadline, Self::duration);
        self.option(options.replaces, |put, key| put.u64(key.into()));
    }

    /// An entry. What it could not write it may have begun to.
    pub(crate) fn entry(&mut self, now: Instant, entry: &Entry<'_>) -> Result<(), Unknown> {
        self.u64(now.0);
        match entry {
            Entry::Input { input, room } => {
                self.u8(0);
                self.room(*room);
                self.input(input);
            }
            Entry::Send { to, channel, bytes, options } => {
                self.u8(1);
                let (kind, raw) = match to {
                    To::Peer(peer) => (0, peer.raw()),
                    To::Group(group) => (1, group.raw()),
                    _ => return Err(Unknown),
                };
                self.u8(kind);
                self.u64(raw);
                self.u8(channel.0);
                self.options(options);
                self.bytes(bytes);
            }
            Entry::Command(command) => {
                self.u8(2);
                self.command(command)?;
            }
            Entry::Transmit(room) => {
                self.u8(3);
                self.room(*room);
            }
            Entry::PollEvent => self.u8(4),
            Entry::PollRequest => self.u8(5),
        }
        Ok(())
    }

    fn input(&mut self, input: &Input<'_>) {
        match input {
            Input::Datagrams { socket, from, local, ecn, stride, bytes } => {
                self.u8(0);
                self.u16(socket.0);
                self.addr(*from);
                self.option(*local, Self::ip);
                self.u8(ecn.bits());
                self.size(*stride);
                self.bytes(bytes);
            }
            Input::Stream(id, input) => {
                self.u8(1);
                self.u64(id.0);
                match input {
                    StreamInput::Accepted { from } => {
                        self.u8(0);
                        self.addr(*from);
                    }
                    StreamInput::Connected => self.u8(1),
                    StreamInput::Bytes(bytes) => {
                        self.u8(2);
                        self.bytes(bytes);
                    }
                    StreamInput::Writable => self.u8(3),
                    StreamInput::Closed(end) => {
                        self.u8(4);
                        self.u8(match end {
                            StreamEnd::Finished => 0,
                            StreamEnd::Refused => 1,
                            StreamEnd::Reset => 2,
                        });
                    }
                }
            }
            Input::Wake => self.u8(2),
            Input::Socket(id, input) => {
                self.u8(3);
                self.u16(id.0);
                match input {
                    SocketInput::Opened { local, max_segments } => {
                        self.u8(0);
                        self.addr(*local);
                        self.u16(*max_segments);
                    }
                    SocketInput::Failed => self.u8(1),
                    SocketInput::Closed => self.u8(2),
                }
            }
            Input::SendFailed { socket, to, size, why } => {
                self.u8(4);
                self.u16(socket.0);
                self.addr(*to);
                self.size(*size);
                self.u8(match why {
                    SendFailure::TooBig => 0,
                    SendFailure::Unreachable => 1,
                    SendFailure::Denied => 2,
                    SendFailure::NoSegmentation => 3,
                });
            }
            Input::Interfaces(addresses) => {
                self.u8(5);
                self.size(addresses.len());
                addresses.iter().for_each(|ip| self.ip(*ip));
            }
            Input::PortMapped { socket, external } => {
                self.u8(6);
                self.u16(socket.0);
                self.option(*external, Self::addr);
            }
            Input::UnixTime(time) => {
                self.u8(7);
                self.duration(*time);
            }
            Input::Entropy(bytes) => {
                self.u8(8);
                self.0.extend_from_slice(*bytes);
            }
        }
    }

    fn command(&mut self, command: &Command) -> Result<(), Unknown> {
        match command {
            Command::Send { to, channel, bytes, options } => {
                self.u8(0);
                self.target(*to);
                self.u8(channel.0);
                self.options(options);
                self.bytes(bytes);
            }
            Command::SendList { to, channel, bytes, options } => {
                self.u8(10);
                self.size(to.len());
                to.iter().for_each(|target| self.target(*target));
                self.u8(channel.0);
                self.options(options);
                self.bytes(bytes);
            }
            Command::Disconnect { client } => {
                self.about(1, client.raw());
            }
            Command::Accept { login, user_data, message } => {
                self.about(2, login.raw());
                self.bytes(user_data);
                self.bytes(message);
            }
            Command::Reject { login, message } => {
                self.about(3, login.raw());
                self.bytes(message);
            }
            Command::CreateGroup { members, message, rules, policy } => {
                self.u8(4);
                self.u8(rules.keep_empty.into());
                self.u8(rules.server_is_member.into());
                self.option(rules.number, |put, number| put.u64(number.into()));
                self.size(members.len());
                members.iter().for_each(|member| self.u64(member.raw()));
                self.bytes(message);
                self.option(*policy, Self::policy);
            }
            Command::Join { member, group, message } => {
                self.about(5, member.raw());
                self.u64(group.raw());
                self.bytes(message);
            }
            Command::Leave { member, group } => {
                self.about(6, member.raw());
                self.u64(group.raw());
            }
            Command::DestroyGroup { group } => {
                self.about(7, group.raw());
            }
            Command::DestroyEmptyGroups => self.u8(9),
            Command::Drain { on } => {
                self.u8(8);
                self.u8((*on).into());
            }
            Command::Restrict { peer, policy } => {
                self.about(11, peer.raw());
                self.policy(*policy);
            }
            Command::SetGroupPolicy { group, policy } => {
                self.about(12, group.raw());
                self.policy(*policy);
            }
            Command::SetPairPolicy { a, b, policy } => {
                self.about(13, a.raw());
                self.u64(b.raw());
                self.policy(*policy);
            }
            Command::SetTimeout { client, timeout } => {
                self.about(14, client.raw());
                self.duration(*timeout);
            }
            _ => return Err(Unknown),
        }
        Ok(())
    }

    /// What begins a command about somebody or something.
    fn about(&mut self, kind: u8, id: u64) {
        self.u8(kind);
        self.u64(id);
    }

    fn target(&mut self, target: Target) {
        let (kind, raw) = match target {
            Target::Peer(peer) => (0, peer.raw()),
            Target::Group(group) => (1, group.raw()),
        };
        self.u8(kind);
        self.u64(raw);
    }

    pub(crate) fn policy(&mut self, policy: PathPolicy) {
        self.u8(policy.punch as u8);
        self.u8(policy.prefer as u8);
    }
}

/// Reads front to back. `None` is: not what it should be.
pub(crate) struct Get<'a>(pub(crate) &'a [u8]);

impl<'a> Get<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn size(&mut self) -> Option<usize> {
        self.u64()?.try_into().ok()
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn duration(&mut self) -> Option<Duration> {
        let (seconds, nanos) = (self.u64()?, u32::try_from(self.u64()?).ok()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    pub(crate) fn option<T>(&mut self, get: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? { get(self).map(Some) } else { Some(None) }
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.size()?;
        self.take(len)
    }

    pub(crate) fn ip(&mut self) -> Option<IpAddr> {
        Some(match self.u8()? {
            4 => Ipv4Addr::from(self.array::<4>()?).into(),
            6 => Ipv6Addr::from(self.array::<16>()?).into(),
            _ => return None,
        })
    }

    pub(crate) fn addr(&mut self) -> Option<SocketAddr> {
        let (ip, port) = (self.ip()?, self.u16()?);
        Some(match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(v6) => {
                let (flow, scope) = (self.u64()?.try_into().ok()?, self.u64()?.try_into().ok()?);
                SocketAddrV6::new(v6, port, flow, scope).into()
            }
        })
    }

    /// So many of something, as far as there are bytes for them.
    fn list<T>(&mut self, mut get: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..self.size()? {
            list.push(get(self)?);
        }
        Some(list)
    }

    fn room(&mut self) -> Option<Room> {
        Some(Room { bytes: self.size()?, sends: self.size()?, segments: self.u16()? })
    }

    fn options(&mut self) -> Option<SendOptions> {
        let mut options = SendOptions::default();
        options.loopback = self.bool()?;
        options.class = *Class::ALL.get(usize::from(self.u8()?))?;
        options.deadline = self.option(Self::duration)?;
        options.replaces = self.option(|get| get.u64()?.try_into().ok())?;
        Some(options)
    }

    fn peer(&mut self) -> Option<PeerId> {
        self.u64().map(PeerId::from_raw)
    }

    fn group(&mut self) -> Option<GroupId> {
        self.u64().map(GroupId::from_raw)
    }

    fn target(&mut self) -> Option<Target> {
        Some(match self.u8()? {
            0 => Target::Peer(self.peer()?),
            1 => Target::Group(self.group()?),
            _ => return None,
        })
    }

    /// A whole entry, and nothing after it.
    pub(crate) fn entry(mut self) -> Option<(Instant, OwnedEntry)> {
        let now = Instant(self.u64()?);
        let entry = match self.u8()? {
            0 => {
                let room = self.room()?;
                OwnedEntry::Input { input: self.input()?, room }
            }
            1 => OwnedEntry::Send {
                to: self.target()?.into(),
                channel: Channel(self.u8()?),
                options: self.options()?,
                bytes: self.bytes()?.to_vec(),
            },
            2 => OwnedEntry::Command(self.command()?),
            3 => OwnedEntry::Transmit(self.room()?),
            4 => OwnedEntry::PollEvent,
            5 => OwnedEntry::PollRequest,
            _ => return None,
        };
        self.0.is_empty().then_some((now, entry))
    }

    fn input(&mut self) -> Option<OwnedInput> {
        Some(match self.u8()? {
            0 => OwnedInput::Datagrams {
                socket: SocketId(self.u16()?),
                from: self.addr()?,
                local: self.option(Self::ip)?,
                ecn: Ecn::from_bits(self.u8()?),
                stride: self.size()?,
                bytes: self.bytes()?.to_vec(),
            },
            1 => {
                let id = StreamId(self.u64()?);
                let input = match self.u8()? {
                    0 => OwnedStreamInput::Accepted { from: self.addr()? },
                    1 => OwnedStreamInput::Connected,
                    2 => OwnedStreamInput::Bytes(self.bytes()?.to_vec()),
                    3 => OwnedStreamInput::Writable,
                    4 => OwnedStreamInput::Closed(match self.u8()? {
                        0 => StreamEnd::Finished,
                        1 => StreamEnd::Refused,
                        2 => StreamEnd::Reset,
                        _ => return None,
                    }),
                    _ => return None,
                };
                OwnedInput::Stream(id, input)
            }
            2 => OwnedInput::Wake,
            3 => {
                let id = SocketId(self.u16()?);
                let input = match self.u8()? {
                    0 => SocketInput::Opened { local: self.addr()?, max_segments: self.u16()? },
                    1 => SocketInput::Failed,
                    2 => SocketInput::Closed,
                    _ => return None,
                };
                OwnedInput::Socket(id, input)
            }
            4 => OwnedInput::SendFailed {
                socket: SocketId(self.u16()?),
                to: self.addr()?,
                size: self.size()?,
                why: match self.u8()? {
                    0 => SendFailure::TooBig,
                    1 => SendFailure::Unreachable,
                    2 => SendFailure::Denied,
                    3 => SendFailure::NoSegmentation,
                    _ => return None,
                },
            },
            5 => OwnedInput::Interfaces(self.list(Self::ip)?),
            6 => OwnedInput::PortMapped { socket: SocketId(self.u16()?), external: self.option(Self::addr)? },
            7 => OwnedInput::UnixTime(self.duration()?),
            8 => OwnedInput::Entropy(self.array()?),
            _ => return None,
        })
    }

    fn command(&mut self) -> Option<Command> {
        Some(match self.u8()? {
            0 => Command::Send {
                to: self.target()?,
                channel: Channel(self.u8()?),
                options: self.options()?,
                bytes: self.bytes()?.to_vec(),
            },
            1 => Command::Disconnect { client: self.peer()? },
            2 => Command::Accept {
                login: LoginId::from_raw(self.u64()?),
                user_data: self.bytes()?.to_vec(),
                message: self.bytes()?.to_vec(),
            },
            3 => Command::Reject { login: LoginId::from_raw(self.u64()?), message: self.bytes()?.to_vec() },
            4 => {
                let mut rules = GroupRules::default();
                (rules.keep_empty, rules.server_is_member) = (self.bool()?, self.bool()?);
                rules.number = self.option(|get| get.u64()?.try_into().ok())?;
                Command::CreateGroup {
                    members: self.list(Self::peer)?,
                    message: self.bytes()?.to_vec(),
                    rules,
                    policy: self.option(Self::policy)?,
                }
            }
            5 => Command::Join { member: self.peer()?, group: self.group()?, message: self.bytes()?.to_vec() },
            6 => Command::Leave { member: self.peer()?, group: self.group()? },
            7 => Command::DestroyGroup { group: self.group()? },
            9 => Command::DestroyEmptyGroups,
            10 => Command::SendList {
                to: self.list(Self::target)?,
                channel: Channel(self.u8()?),
                options: self.options()?,
                bytes: self.bytes()?.to_vec(),
            },
            8 => Command::Drain { on: self.bool()? },
            11 => Command::Restrict { peer: self.peer()?, policy: self.policy()? },
            12 => Command::SetGroupPolicy { group: self.group()?, policy: self.policy()? },
            13 => Command::SetPairPolicy { a: self.peer()?, b: self.peer()?, policy: self.policy()? },
            14 => Command::SetTimeout { client: self.peer()?, timeout: self.duration()? },
            _ => return None,
        })
    }

    pub(crate) fn policy(&mut self) -> Option<PathPolicy> {
        let punch = [PunchPolicy::Always, PunchPolicy::OnTraffic, PunchPolicy::Never];
        let prefer = [Prefer::Direct, Prefer::Fastest, Prefer::DirectOnly, Prefer::RelayOnly];
        Some(PathPolicy {
            punch: punch.get(usize::from(self.u8()?)).copied()?,
            prefer: prefer.get(usize::from(self.u8()?)).copied()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(entry: Entry<'_>) {
        let owned = OwnedEntry::from(match &entry {
            Entry::Input { input, room } => Entry::Input { input, room: *room },
            Entry::Send { to, channel, bytes, options } => {
                Entry::Send { to: *to, channel: *channel, bytes, options: *options }
            }
            Entry::Command(command) => Entry::Command(command),
            Entry::Transmit(room) => Entry::Transmit(*room),
            Entry::PollEvent => Entry::PollEvent,
            Entry::PollRequest => Entry::PollRequest,
        });
        let mut bytes = Vec::new();
        Put(&mut bytes).entry(Instant(77), &entry).unwrap();
        assert_eq!(Get(&bytes).entry(), Some((Instant(77), owned)));
        for len in 0..bytes.len() {
            assert_eq!(Get(bytes.split_at(len).0).entry(), None, "cut to {len} bytes");
        }
    }

    #[test]
    fn every_kind_of_entry_is_read_as_it_was_written() {
        let room = Room { bytes: 9, sends: 8, segments: 7 };
        let (v4, v6): (SocketAddr, SocketAddr) = ("192.0.2.1:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap());
        let inputs = [
            Input::Datagrams {
                socket: SocketId(3),
                from: v4,
                local: Some(v6.ip()),
                ecn: Ecn::Ce,
                stride: 4,
                bytes: &mut [1, 2, 3, 4, 5],
            },
            Input::Stream(StreamId(5), StreamInput::Accepted { from: v6 }),
            Input::Stream(StreamId(5), StreamInput::Connected),
            Input::Stream(StreamId(5), StreamInput::Bytes(&mut [7])),
            Input::Stream(StreamId(5), StreamInput::Writable),
            Input::Stream(StreamId(5), StreamInput::Closed(StreamEnd::Reset)),
            Input::Wake,
            Input::Socket(SocketId(1), SocketInput::Opened { local: v6, max_segments: 64 }),
            Input::Socket(SocketId(1), SocketInput::Failed),
            Input::Socket(SocketId(1), SocketInput::Closed),
            Input::SendFailed { socket: SocketId(2), to: v4, size: 1400, why: SendFailure::Denied },
            Input::Interfaces(&[v4.ip(), v6.ip()]),
            Input::PortMapped { socket: SocketId(0), external: Some(v4) },
            Input::PortMapped { socket: SocketId(0), external: None },
            Input::UnixTime(Duration::new(5, 6)),
            Input::Entropy(&[8; 32]),
        ];
        inputs.iter().for_each(|input| round_trip(Entry::Input { input, room }));
        let (peer, group, login) = (PeerId::new(1, 2), GroupId::new(3, 4), LoginId::new(5, 6));
        let options =
            SendOptions::default().loopback().class(Class::Bulk).deadline(Duration::from_millis(3)).replaces(9);
        let (channel, bytes) = (Channel(200), vec![1, 2]);
        round_trip(Entry::Send { to: To::Group(group), channel, bytes: &bytes, options });
        let mut rules = GroupRules::default();
        (rules.keep_empty, rules.number) = (true, Some(7));
        let commands = [
            Command::Send { to: Target::Peer(peer), channel, bytes: bytes.clone(), options },
            Command::Disconnect { client: peer },
            Command::Accept { login, user_data: bytes.clone(), message: vec![] },
            Command::Reject { login, message: bytes.clone() },
            Command::CreateGroup { members: vec![peer, peer], message: bytes.clone(), rules, policy: None },
            Command::DestroyEmptyGroups,
            Command::SendList {
                to: vec![Target::Peer(peer), Target::Group(group)],
                channel,
                bytes: bytes.clone(),
                options,
            },
            Command::CreateGroup { members: vec![], message: vec![], rules, policy: Some(PathPolicy::RELAY_ONLY) },
            Command::Restrict { peer, policy: PathPolicy::new(PunchPolicy::OnTraffic, Prefer::DirectOnly) },
            Command::SetGroupPolicy { group, policy: PathPolicy::new(PunchPolicy::Never, Prefer::Fastest) },
            Command::SetPairPolicy { a: peer, b: peer, policy: PathPolicy::default() },
            Command::Join { member: peer, group, message: bytes },
            Command::Leave { member: peer, group },
            Command::DestroyGroup { group },
            Command::Drain { on: true },
            Command::SetTimeout { client: peer, timeout: Duration::new(5, 6) },
        ];
        commands.iter().for_each(|command| round_trip(Entry::Command(command)));
        [Entry::Transmit(room), Entry::PollEvent, Entry::PollRequest].into_iter().for_each(round_trip);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..7_u8, inner in 0..10_u8) {
            let _ = Get(&bytes).entry();
            let aimed = [&[0; 8][..], &[kind], if kind == 0 { &[0; 18] } else { &[] }, &[inner], &bytes].concat();
            let _ = Get(&aimed).entry();
            let _ = crate::Construction::get(&mut Get(&bytes));
        }
    }
}
