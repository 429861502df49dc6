//! Messages: cut into pieces to send, put together on arrival. Above the paths; knows only pieces and scopes.

mod pool;
mod reassembly;
mod receive;
mod send;

pub(super) use receive::Incoming;
pub(super) use send::{Outgoing, Packet};
