//! How much may be in flight on a path.

mod new_reno;

pub(super) use new_reno::NewReno;

use crate::time::Instant;

/// A controller of one path's window. It is told of packets, in bytes as they go on the wire; it never asks.
pub(super) trait Controller {
    /// Bytes that may be in flight.
    fn window(&self) -> u64;
    /// A packet of `bytes`, sent at `sent`, was acknowledged. `full`: the window was the limit while it was in flight;
    /// where it was not, an acknowledgement proves nothing about a larger window (RFC 9002 §7.8).
    fn on_ack(&mut self, sent: Instant, bytes: u64, full: bool);
    /// Packets were lost, or marked; the latest of them was sent at `sent`.
    fn on_congestion(&mut self, now: Instant, sent: Instant);
    /// Everything over a long stretch was lost: RFC 9002 §7.6.
    fn on_persistent_congestion(&mut self);
}
