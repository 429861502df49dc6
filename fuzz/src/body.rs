//! Writes frames and control messages as docs/protocol.md has them: on its own, not by the core's writers, so that the
//! two keep an eye on each other.

use std::net::{IpAddr, SocketAddr};

/// Bytes of a packet's body, or of a control message, in the making.
#[derive(Clone, Debug, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn u8(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }

    /// Four bytes.
    pub fn u32(mut self, v: u32) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(mut self, v: u64) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    /// As they are.
    pub fn bytes(mut self, v: &[u8]) -> Self {
        self.0.extend(v);
        self
    }

    /// RFC 9000 §16; the two bits of length take what is above 2^62 off.
    pub fn varint(mut self, v: u64) -> Self {
        match v {
            0..0x40 => self.0.push(v as u8),
            0x40..0x4000 => self.0.extend((v as u16 | 0x4000).to_be_bytes()),
            0x4000..0x4000_0000 => self.0.extend((v as u32 | 0x8000_0000).to_be_bytes()),
            _ => self.0.extend((v | 0xc000_0000_0000_0000).to_be_bytes()),
        }
        self
    }

    /// A length, then the bytes.
    pub fn prefixed(self, v: &[u8]) -> Self {
        self.varint(v.len() as u64).bytes(v)
    }

    /// A count, then the addresses.
    pub fn addresses(self, all: &[SocketAddr]) -> Self {
        all.iter().fold(self.u8(all.len() as u8), |body, addr| {
            let body = match addr.ip() {
                IpAddr::V4(ip) => body.u8(4).bytes(&ip.octets()),
                IpAddr::V6(ip) => body.u8(6).bytes(&ip.octets()),
            };
            body.bytes(&addr.port().to_be_bytes())
        })
    }

    // ---- frames

    /// PING.
    pub fn ping(self) -> Self {
        self.u8(0x01)
    }

    /// ACK of the numbers from `largest` − `first` to `largest`, and of further ranges as (gap, length).
    pub fn ack(
        self,
        path: u8,
        largest: u64,
        delay: u64,
        first: u64,
        more: &[(u64, u64)],
        ecn: Option<[u64; 3]>,
    ) -> Self {
        let head = self.u8(if ecn.is_some() { 0x03 } else { 0x02 }).u8(path);
        let head = head.varint(largest).varint(delay).varint(more.len() as u64).varint(first);
        let ranges = more.iter().fold(head, |body, (gap, len)| body.varint(*gap).varint(*len));
        ecn.into_iter().flatten().fold(ranges, Body::varint)
    }

    /// SCOPE of control messages.
    pub fn scope_control(self, id: u64, start: u64) -> Self {
        self.u8(0x04).varint(id).u8(0).varint(start)
    }

    /// SCOPE of messages to the peer.
    pub fn scope_peer(self, id: u64, channel: u8, start: u64) -> Self {
        self.u8(0x04).varint(id).u8(1).u8(channel).varint(start)
    }

    /// SCOPE of messages to a group.
    pub fn scope_group(self, id: u64, channel: u8, group: u64, epoch: u64, start: u64) -> Self {
        self.u8(0x04).varint(id).u8(2).u8(channel).u64(group).u64(epoch).varint(start)
    }

    /// SCOPE_END.
    pub fn scope_end(self, id: u64, charged: u64) -> Self {
        self.u8(0x05).varint(id).varint(charged)
    }

    /// MESSAGE with a length; a fragment if `part` has its offset and the message's length.
    pub fn message(self, scope: u64, seq: u64, reliable: bool, part: Option<(u64, u64)>, data: &[u8]) -> Self {
        let kind = 0x08 | u8::from(part.is_some()) | if reliable { 0 } else { 2 };
        let head = self.u8(kind).varint(scope).varint(seq);
        let head = part.into_iter().fold(head, |body, (offset, total)| body.varint(offset).varint(total));
        head.prefixed(data)
    }

    /// CREDIT.
    pub fn credit(self, limit: u64) -> Self {
        self.u8(0x10).varint(limit)
    }

    /// PATH_CHALLENGE.
    pub fn challenge(self, token: u64) -> Self {
        self.u8(0x12).u64(token)
    }

    /// PATH_RESPONSE.
    pub fn response(self, token: u64) -> Self {
        self.u8(0x13).u64(token)
    }

    /// KEY_SHARE.
    pub fn key_share(self, share: &[u8; 32]) -> Self {
        self.u8(0x14).bytes(share)
    }

    /// CLOSE.
    pub fn close(self, reason: u8) -> Self {
        self.u8(0x16).u8(reason)
    }

    // ---- control messages, from the server

    /// Welcome.
    pub fn welcome(self, me: u64, user_data: &[u8], message: &[u8]) -> Self {
        self.u8(0x01).u64(me).prefixed(user_data).prefixed(message)
    }

    /// Rejected.
    pub fn rejected(self, message: &[u8]) -> Self {
        self.u8(0x02).prefixed(message)
    }

    /// About, with one address.
    pub fn about(self, bytes: u32, packets: u32) -> Self {
        self.u8(0x0d).u32(bytes).u32(packets).u8(1).bytes(&[4, 192, 0, 2, 7, 0x10, 0x92])
    }

    /// PeerUp, of a peer with this static key.
    pub fn peer_up(self, peer: u64, key: &[u8; 32], epoch: u64, suite: u8, candidates: &[SocketAddr]) -> Self {
        let body = self.u8(0x03).u64(peer).bytes(key).bytes(&[9; 32]).varint(epoch);
        body.u32(7).u8(suite).u32(40_000).prefixed(b"user").u8(0).addresses(candidates)
    }

    /// PeerDown.
    pub fn peer_down(self, peer: u64, epoch: u64) -> Self {
        self.u8(0x04).u64(peer).varint(epoch)
    }

    /// MemberJoined.
    pub fn member_joined(self, group: u64, member: u64, epoch: u64, message: &[u8]) -> Self {
        self.u8(0x05).u64(group).u64(member).varint(epoch).prefixed(message)
    }

    /// MemberLeft.
    pub fn member_left(self, group: u64, member: u64, epoch: u64, why: u8) -> Self {
        self.u8(0x06).u64(group).u64(member).varint(epoch).u8(why)
    }

    /// Punch.
    pub fn punch(self, peer: u64, epoch: u64, candidates: &[SocketAddr]) -> Self {
        self.u8(0x07).u64(peer).varint(epoch).addresses(candidates)
    }

    // ---- control messages, from a client

    /// Token.
    pub fn token(self, token: &[u8]) -> Self {
        self.u8(0x81).prefixed(token)
    }

    /// HostCandidates.
    pub fn host_candidates(self, all: &[SocketAddr]) -> Self {
        self.u8(0x82).addresses(all)
    }

    /// JoinProcessed.
    pub fn join_processed(self, group: u64, member: u64, epoch: u64) -> Self {
        self.u8(0x83).u64(group).u64(member).varint(epoch)
    }

    /// PathReport: direct with a round-trip time in microseconds, or why not.
    pub fn path_report(self, peer: u64, epoch: u64, path: Result<u32, u8>) -> Self {
        let body = self.u8(0x84).u64(peer).varint(epoch);
        match path {
            Ok(rtt) => body.u8(0).u32(rtt),
            Err(because) => body.u8(because),
        }
    }

    /// RequestPunch.
    pub fn request_punch(self, peer: u64, epoch: u64) -> Self {
        self.u8(0x85).u64(peer).varint(epoch)
    }
}
