//! Network address translation: what a NAT may do (this file) and the pure state machine that does it; and the firewall that stands
//! in the same box before the IPv6 addresses of its network, if there are any.
//!
//! The two axes are those of RFC 4787 and independent of each other: how a NAT maps an inside endpoint to an outside
//! port (§4.1), and whom it lets send to that port (§5).

mod firewall;
mod table;

pub use firewall::Firewall;
pub(crate) use firewall::FirewallBox;
pub use table::{NatBox, Outbound};

use posse_core::Duration;
use std::ops::RangeInclusive;

/// When a NAT uses the same outside port again for another destination. RFC 4787 §4.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mapping {
    /// For every destination.
    EndpointIndependent,
    /// For every port of one destination address.
    AddressDependent,
    /// Only for the very same destination address and port ("symmetric").
    AddressAndPortDependent,
}

impl Mapping {
    /// All of them, from the easiest to the hardest to punch.
    pub const ALL: [Self; 3] = [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];
}

/// Whose packets a NAT lets in through a mapping. RFC 4787 §5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Filtering {
    /// Anyone's.
    EndpointIndependent,
    /// Those of addresses that the mapping has sent to, from any of their ports.
    AddressDependent,
    /// Those of exactly the endpoints that the mapping has sent to.
    AddressAndPortDependent,
}

impl Filtering {
    /// All of them, from the easiest to the hardest to punch.
    pub const ALL: [Self; 3] = [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];
}

/// How a NAT chooses the outside port of a new mapping. RFC 4787 §4.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Allocation {
    /// Uniformly at random from [`Nat::ports`].
    Random,
    /// The inside port, unless another inside endpoint has it: then at random. Mappings of one inside endpoint share
    /// the port, so that toward the outside every such NAT maps endpoint-independently.
    Preserving,
    /// The one before plus [`Nat::stride`], past those that the mappings of others took meanwhile
    /// ([`Nat::cross_traffic`]). Begins at random in [`Nat::ports`], and wraps around in it.
    Sequential,
    /// At random from a block of [`Nat::block`] ports that belongs to the inside address alone, as carriers' NATs do to keep
    /// fewer logs (RFC 6888 §4, RFC 7422).
    Block,
    /// The inside port, also while another inside endpoint has it, unless that one's mapping is for the same destination:
    /// then at random. What comes in goes to whom it is admitted by (Linux's masquerading; RFC 4787 REQ-3 forbids it).
    Overloading,
}

impl Allocation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Random, Self::Preserving, Self::Sequential, Self::Block, Self::Overloading];
}

/// How a NAT behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nat {
    /// See [`Mapping`].
    pub mapping: Mapping,
    /// See [`Filtering`].
    pub filtering: Filtering,
    /// See [`Allocation`].
    pub allocation: Allocation,
    /// What ports are drawn from that are not preserved.
    pub ports: RangeInclusive<u16>,
    /// From one sequential port to the next; may be negative. 0 is taken for 1.
    pub stride: i16,
    /// With sequential ports: how often, on average, others behind this NAT make a mapping. `None`: there is nobody else.
    pub cross_traffic: Option<Duration>,
    /// Ports of one block.
    pub block: u16,
    /// How long a mapping lives after the last packet that refreshed it.
    pub lifetime: Duration,
    /// The same until something came back in through it, as Linux has 30 s before and 120 s after; `None`: as [`Self::lifetime`].
    pub unreplied: Option<Duration>,
    /// How long a remote endpoint may send to a mapping after the last packet to it, for NATs that keep a time for each; `None`: as
    /// long as the mapping lives.
    pub filter_lifetime: Option<Duration>,
    /// A mapping dies so long after it was made, whatever passes: drawn from this range for each. Seen of mobile carriers.
    pub absolute: Option<RangeInclusive<Duration>>,
    /// Whether packets from outside refresh a mapping too; those from inside always do.
    pub inbound_refresh: bool,
    /// Whether a packet from inside to the NAT's own outside address comes back in, with its outside source.
    pub hairpin: bool,
    /// Whether the NAT's own host takes in what nobody inside is admitted to get, as a Linux router does whose INPUT chain
    /// accepts. It then keeps an entry of that flow for 30 s, and a mapping that would be the same flow
    /// gets another port: a peer that punches first shuts the hole that it was to come through.
    pub open_input: bool,
    /// The network behind it has IPv6 addresses as well, if the one outside has: nothing is translated, and this firewall stands
    /// before them.
    pub ipv6: Option<Firewall>,
}

impl Nat {
    /// Random ports from 1024 up, 120 s of life (what RFC 4787 §4.3 asks for at least), refreshed from inside only, no
    /// hairpinning.
    pub const fn new(mapping: Mapping, filtering: Filtering) -> Self {
        Self {
            mapping,
            filtering,
            allocation: Allocation::Random,
            ports: 1024..=65535,
            stride: 1,
            cross_traffic: None,
            block: table::BLOCK,
            lifetime: table::LIFETIME,
            unreplied: None,
            filter_lifetime: None,
            absolute: None,
            inbound_refresh: false,
            hairpin: false,
            open_input: false,
            ipv6: None,
        }
    }

    /// Endpoint-independent mapping and address-and-port-dependent filtering: the common home router.
    pub const fn home() -> Self {
        Self::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
    }

    /// Address-and-port-dependent in both: the classic "symmetric" NAT.
    pub const fn symmetric() -> Self {
        Self::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent)
    }

    /// Each mapping with each filtering, in the order of [`Mapping::ALL`], then [`Filtering::ALL`].
    pub fn all_nine() -> [Self; 9] {
        std::array::from_fn(|n| Self::new(Mapping::ALL[n / 3], Filtering::ALL[n % 3]))
    }

    /// See [`Allocation`].
    #[must_use]
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// See [`Self::ports`].
    #[must_use]
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// See [`Self::stride`].
    #[must_use]
    pub fn stride(mut self, stride: i16) -> Self {
        self.stride = stride;
        self
    }

    /// See [`Self::cross_traffic`].
    #[must_use]
    pub fn cross_traffic(mut self, every: Duration) -> Self {
        self.cross_traffic = Some(every);
        self
    }

    /// See [`Self::block`].
    #[must_use]
    pub fn block(mut self, block: u16) -> Self {
        self.block = block;
        self
    }

    /// See [`Self::lifetime`].
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// See [`Self::unreplied`].
    #[must_use]
    pub fn unreplied(mut self, lifetime: Duration) -> Self {
        self.unreplied = Some(lifetime);
        self
    }

    /// See [`Self::filter_lifetime`].
    #[must_use]
    pub fn filter_lifetime(mut self, lifetime: Duration) -> Self {
        self.filter_lifetime = Some(lifetime);
        self
    }

    /// See [`Self::absolute`].
    #[must_use]
    pub fn absolute(mut self, lifetimes: RangeInclusive<Duration>) -> Self {
        self.absolute = Some(lifetimes);
        self
    }

    /// See [`Self::inbound_refresh`].
    #[must_use]
    pub fn inbound_refresh(mut self, refresh: bool) -> Self {
        self.inbound_refresh = refresh;
        self
    }

    /// See [`Self::hairpin`].
    #[must_use]
    pub fn hairpin(mut self, hairpin: bool) -> Self {
        self.hairpin = hairpin;
        self
    }

    /// See [`Self::open_input`].
    #[must_use]
    pub fn open_input(mut self, open: bool) -> Self {
        self.open_input = open;
        self
    }

    /// See [`Self::ipv6`].
    #[must_use]
    pub fn ipv6(mut self, firewall: Firewall) -> Self {
        self.ipv6 = Some(firewall);
        self
    }
}
