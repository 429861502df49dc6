//! What a transport tells of itself: how its paths do, what its messages take, what it dropped.

use crate::time::Duration;

/// One path of a link, for diagnosis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathStats {
    /// Packets sent since the link began, probes included.
    pub packets_sent: u64,
    /// Packets taken for lost since the link began.
    pub packets_lost: u64,
    /// Bytes of packets that asked for an acknowledgement, since the link began; and how many were sent again or to test the
    /// path: those of packets taken for lost, of copies, and of packets that carried nothing but a question.
    pub bytes_sent: u64,
    /// See [`Self::bytes_sent`].
    pub bytes_repeated: u64,
    /// Bytes that wait for an acknowledgement, packet overhead included.
    pub in_flight: u64,
    /// Congestion window in bytes.
    pub window: u64,
    /// What the path was last seen to deliver, bytes a second; 0 before it is known. While this end sends less than the
    /// path could take it is a lower bound, the highest that was seen. What to size snapshots by:
    /// draft-cheng-iccrg-delivery-rate-estimation.
    pub delivery_rate: u64,
    /// Bytes a second at which congestion control would let packets go now.
    pub pacing_rate: u64,
    /// Smoothed round trip; a guess before the first sample.
    pub rtt: Duration,
    /// The least round trip, as far as it is still believed: docs/transport.md.
    pub min_rtt: Duration,
    /// Bytes of the largest datagram that is sent with data, UDP headers not counted: what the path is known to carry (RFC
    /// 8899), or the base of 1200.
    pub datagram: u64,
}

/// Bytes in use of a bounded part of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// At the moment.
    pub used: usize,
    /// The most it can be.
    pub budget: usize,
}

impl Usage {
    pub(crate) fn add(&mut self, other: Self) {
        self.used = self.used.saturating_add(other.used);
        self.budget = self.budget.saturating_add(other.budget);
    }
}

/// What messages take, over all links of a client or a server. Not counted: what a link takes without any message, and the
/// events themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Messages that wait to be sent or for their acknowledgement: their bytes and 64 each.
    pub sending: Usage,
    /// Messages that are incomplete or wait for the application: their bytes and 64 each.
    pub receiving: Usage,
    /// Of both, what the library's own messages take: membership, punching.
    pub control: Usage,
    /// Buffers for further messages. A link gives them back when no message went for two seconds.
    pub spare: Usage,
    /// Packets that wait for a TCP connection to take them: on a client its own, on a server all of them. Their bytes, and 32
    /// each of those that are only passed on.
    pub streams: Usage,
    /// Links: one to the server or to each client, one to each peer.
    pub links: usize,
}

/// Messages that were dropped on purpose, since the link began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Overflow {
    /// Unreliable ones, for want of room before they were sent.
    pub sending: u64,
    /// Unreliable ones, for want of room before the application took them.
    pub receiving: u64,
    /// Not sent within their deadline, or waiting when the other end went offline.
    pub expired: u64,
    /// Not sent, since a newer one of the same key took their place.
    pub superseded: u64,
    /// Unreliable ones that would have been relayed, which the policy does not allow ([`Prefer::DirectOnly`]).
    ///
    /// [`Prefer::DirectOnly`]: crate::Prefer::DirectOnly
    pub unrelayed: u64,
    /// Of sequenced channels: arrived after a later one, or gave way to one before the application took them.
    pub late: u64,
}
