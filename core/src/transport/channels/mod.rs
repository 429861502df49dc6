//! Messages: cut into pieces to send, put together on arrival. Above the paths; knows only pieces and scopes.

mod gates;
mod message;
mod pool;
mod reassembly;
mod receive;
mod send;
mod sequence;
mod turns;

pub(super) use receive::Incoming;
pub(super) use send::{LOOSE_OVERHEAD, Outgoing, Packet};

/// Scopes that an end may have open at a time, those included whose end was not acknowledged. A pair has a handful a group.
pub(super) const MAX_SCOPES: usize = 4096;
