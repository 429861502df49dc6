//! Network address translation: what a NAT may do (this file) and the pure state machine that does it.
//!
//! The two axes are those of RFC 4787 and independent of each other: how a NAT maps an inside endpoint to an outside
//! port (§4.1), and whom it lets send to that port (§5).

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
