//! What a scenario file calls each choice: one table for reading and writing.

use super::{ServerDoors, Tried, Ways};

use crate::{Allocation, Families, Filtering, Mapping};
use posse_core::{Class, EndReason, RelayReason, Reliability};

pub(super) const MAPPING: [(&str, Mapping); 3] = [
    ("endpoint-independent", Mapping::EndpointIndependent),
    ("address-dependent", Mapping::AddressDependent),
    ("address-and-port-dependent", Mapping::AddressAndPortDependent),
];
pub(super) const FILTERING: [(&str, Filtering); 3] = [
    ("endpoint-independent", Filtering::EndpointIndependent),
    ("address-dependent", Filtering::AddressDependent),
    ("address-and-port-dependent", Filtering::AddressAndPortDependent),
];
/// What a firewall lets in: as a NAT, or everything.
pub(super) const WALLS: [(&str, Option<Filtering>); 4] = [
    ("endpoint-independent", Some(Filtering::EndpointIndependent)),
    ("address-dependent", Some(Filtering::AddressDependent)),
    ("address-and-port-dependent", Some(Filtering::AddressAndPortDependent)),
    ("none", None),
];
pub(super) const ADDRESSES: [(&str, Families); 3] =
    [("ipv4", Families::V4), ("both", Families::Both), ("ipv6", Families::V6)];
pub(super) const ALLOCATION: [(&str, Allocation); 5] = [
    ("random", Allocation::Random),
    ("preserving", Allocation::Preserving),
    ("sequential", Allocation::Sequential),
    ("block", Allocation::Block),
    ("overloading", Allocation::Overloading),
];
pub(super) const DOORS: [(&str, ServerDoors); 3] =
    [("none", ServerDoors::None), ("port", ServerDoors::Port), ("address", ServerDoors::Address)];
pub(super) const TECHNIQUES: [(&str, Tried); 4] =
    [("plain", Tried::Plain), ("predict", Tried::Predict), ("birthday", Tried::Birthday), ("all", Tried::All)];
pub(super) const REASONS: [(&str, RelayReason); 12] = [
    ("probing", RelayReason::Probing),
    ("no-answer", RelayReason::NoAnswer),
    ("only-outbound", RelayReason::OnlyOutbound),
    ("only-inbound", RelayReason::OnlyInbound),
    ("unpredictable", RelayReason::Unpredictable),
    ("budget-spent", RelayReason::BudgetSpent),
    ("no-sockets", RelayReason::NoSockets),
    ("hole-closed", RelayReason::HoleClosed),
    ("forbidden", RelayReason::Forbidden),
    ("no-traffic", RelayReason::NoTraffic),
    ("relay-faster", RelayReason::RelayFaster),
    ("crowded", RelayReason::Crowded),
];

pub(super) const KINDS: [(&str, Reliability); 4] = [
    ("reliable", Reliability::ReliableOrdered),
    ("unordered", Reliability::ReliableUnordered),
    ("unreliable", Reliability::Unreliable),
    ("sequenced", Reliability::UnreliableSequenced),
];

pub(super) const CLASSES: [(&str, Class); 3] =
    [("urgent", Class::Urgent), ("normal", Class::Normal), ("bulk", Class::Bulk)];

pub(super) const ENDS: [(&str, EndReason); 4] = [
    ("local", EndReason::Local),
    ("remote", EndReason::Remote),
    ("timed-out", EndReason::TimedOut),
    ("violation", EndReason::Violation),
];

/// Directions of a link.
pub(super) const CUT_WAYS: [(&str, Ways); 3] = [("both", Ways::Both), ("up", Ways::Up), ("down", Ways::Down)];
