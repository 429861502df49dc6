//! Whom a server lets ask for a login, and how often.

/// How many logins a server reads. Reading one costs four Diffie-Hellman functions, a third of a millisecond on a core of a
/// small machine, before anybody has proved anything; telling that one is too many costs a microsecond.
///
/// Each rate is a bucket: so many a second, and so many at once after a pause. What comes from this host itself (loopback) is
/// under none but the first two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Logins that are read from whoever sends them. When more come, all have to come again with a cookie, a round trip
    /// later, which shows that they receive at their address; so until five seconds after the last one that was too many.
    /// 100 a second take some 3 % of a core.
    pub unproven: Rate,
    /// Logins with a cookie that are read, in all. 1,000 a second take a third of a core; a full server of 60,000 clients
    /// that was restarted has them back in a minute.
    pub proven: Rate,
    /// Logins that are read from one source: an IPv4 address, or an IPv6 network of 64 bits, as a host has all of that.
    /// Without a cookie, more have to bring one; with one, more are dropped. Behind a carrier's address there are many
    /// players, but they do not come all at once.
    pub source: Rate,
    /// Logins with a cookie that are read from one prefix: 24 bits of an IPv4 address, 48 of an IPv6 one, which is what one
    /// customer may have.
    pub prefix: Rate,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            unproven: Rate { per_second: 100, burst: 200 },
            proven: Rate { per_second: 1_000, burst: 2_000 },
            source: Rate { per_second: 16, burst: 64 },
            prefix: Rate { per_second: 128, burst: 512 },
        }
    }
}

/// Tickets that a server asks for: see [`crate::ticket`]. Its driver has to tell it the time
/// ([`Input::UnixTime`](crate::Input::UnixTime)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tickets {
    /// What it shares with the login servers.
    pub key: [u8; 32],
    /// Another such key that is as good: the one before or the next.
    pub second_key: Option<[u8; 32]>,
    /// Tickets that it remembers as used, until they expire; while there are as many, it takes no more. 65,536 of 32 bytes
    /// are 2 MiB: a full server's clients, with tickets that are good for a minute.
    pub remembered: usize,
}

impl Tickets {
    /// With this key and nothing else.
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key, second_key: None, remembered: 65_536 }
    }
}

impl core::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tickets").field("remembered", &self.remembered).finish_non_exhaustive()
    }
}

/// What one client may have relayed. What is more is dropped, as a link that is too narrow drops it, so that congestion
/// control finds the rate; the client is told what it is ([`Client::about`](crate::Client::about)).
///
/// By default what a link of 1 Gb/s carries, so that nobody is in its way who does not set it: for a server that pays for
/// its traffic, some 100 KB/s a player are a busy game.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayBudget {
    /// Bytes of datagrams.
    pub bytes: Rate,
    /// Datagrams.
    pub packets: Rate,
}

impl Default for RelayBudget {
    fn default() -> Self {
        Self {
            bytes: Rate { per_second: 125_000_000, burst: 12_500_000 },
            packets: Rate { per_second: 200_000, burst: 20_000 },
        }
    }
}

/// A bucket that fills steadily.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// What comes in a second; at least 1.
    pub per_second: u32,
    /// The most that may be taken at once; at least 1.
    pub burst: u32,
}

impl Rate {
    /// The largest number for either: one in each nanosecond that the clock can tell apart.
    pub(crate) const MAX: u32 = 1_000_000_000;

    pub(crate) const fn is_valid(self) -> bool {
        self.per_second > 0 && self.burst > 0 && self.per_second <= Self::MAX && self.burst <= Self::MAX
    }
}
