//! How much may be in flight on a path, and how fast it goes out.
//!
//! A [`Controller`] is told of what happened and never asks. What is common to all of them stands outside: delivery-rate
//! samples and round trips in `rate.rs`, the [`DelayGuard`], which losses are one event ([`Recovery`]). All arithmetic is
//! in integers, so that every machine computes the same.

mod cubic;
mod fixed;
mod guard;
mod hystart;
mod tolerant;

use super::rate::Sample;
use crate::config::{Algorithm, Congestion};
use crate::time::{Duration, Instant, nanos};
use cubic::Cubic;
use fixed::Fixed;
pub(super) use guard::{DelayGuard, Guarded};
use tolerant::Tolerant;

/// Datagrams of the initial window: RFC 9002 §7.2.
const INITIAL_DATAGRAMS: u64 = 10;
/// The initial window in bytes is at most this, or two datagrams: RFC 9002 §7.2.
const INITIAL_LIMIT: u64 = 14_720;
/// Datagrams of the smallest window: RFC 9002 §7.2.
const MINIMUM_DATAGRAMS: u64 = 2;
/// Largest window, bytes: 10 Gbit/s over 100 ms, beyond what the send buffer and the packets that may be outstanding let
/// through. It keeps the arithmetic far from its ends.
const MAXIMUM: u64 = 128 << 20;

/// What one acknowledgement newly acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub(super) now: Instant,
    /// When the latest of the packets was sent.
    pub(super) sent: Instant,
    pub(super) bytes: u64,
    /// The window was the limit while it was in flight. Where it was not, an acknowledgement proves nothing about a
    /// larger window (RFC 9002 §7.8).
    pub(super) limited: bool,
    /// The delay guard holds all growth.
    pub(super) hold: bool,
    /// A round trip is over with it.
    pub(super) round: bool,
    /// Round trip of the largest, if it gave a sample.
    pub(super) rtt: Option<Duration>,
    pub(super) smoothed_rtt: Duration,
    pub(super) min_rtt: Duration,
    /// How fast the path delivered, if the acknowledgement tells.
    pub(super) rate: Option<Sample>,
}

/// Why a window shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Packets were lost.
    Loss,
    /// Packets arrived marked as having met a queue: RFC 3168. The queue was short, so less is asked: RFC 8511.
    Marked,
    /// The delay guard asks to give way.
    Delayed,
}

/// Packets that were lost, or marked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congested {
    pub(super) now: Instant,
    pub(super) cause: Cause,
    /// When the latest of them was sent.
    pub(super) sent: Instant,
    /// How many were lost or marked; none where the delay guard asks.
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// A controller of one path's window and rate. It is told of packets, in bytes as they go on the wire.
pub(super) trait Controller {
    /// Bytes that may be in flight; at least two datagrams.
    fn window(&self) -> u64;
    /// Bytes a second at which packets are spaced, at least 1.
    fn pacing_rate(&self, smoothed_rtt: Duration) -> u64;
    /// Packets were acknowledged. Losses that the same acknowledgement brought to light have been told before.
    fn on_ack(&mut self, acked: &Acked);
    /// Packets were lost or marked.
    fn on_congestion(&mut self, congested: &Congested);
    /// A packet that was sent at `sent` and taken for lost has arrived after all.
    fn on_spurious(&mut self, sent: Instant);
    /// Everything over a long stretch was lost: RFC 9002 §7.6.
    fn on_persistent_congestion(&mut self);
    /// Full datagrams have another size from now on.
    fn set_datagram(&mut self, datagram: u64);
}

/// The controller of a path, as the configuration chose.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    Cubic(Cubic),
    Tolerant(Tolerant),
    Fixed(Fixed),
}

impl Chosen {
    /// A controller for datagrams of up to `datagram` bytes.
    pub(super) fn new(config: &Congestion, datagram: u64) -> Self {
        match config.algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(datagram, config.hystart)),
            Algorithm::LossTolerant => Self::Tolerant(Tolerant::new(datagram, config.hystart)),
            Algorithm::FixedRate(rate) => Self::Fixed(Fixed::new(datagram, rate)),
        }
    }

    fn get(&self) -> &dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Tolerant(tolerant) => tolerant,
            Self::Fixed(fixed) => fixed,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Tolerant(tolerant) => tolerant,
            Self::Fixed(fixed) => fixed,
        }
    }
}

impl Controller for Chosen {
    fn window(&self) -> u64 {
        self.get().window()
    }

    fn pacing_rate(&self, smoothed_rtt: Duration) -> u64 {
        self.get().pacing_rate(smoothed_rtt)
    }

    fn on_ack(&mut self, acked: &Acked) {
        self.get_mut().on_ack(acked);
    }

    fn on_congestion(&mut self, congested: &Congested) {
        self.get_mut().on_congestion(congested);
    }

    fn on_spurious(&mut self, sent: Instant) {
        self.get_mut().on_spurious(sent);
    }

    fn on_persistent_congestion(&mut self) {
        self.get_mut().on_persistent_congestion();
    }

    fn set_datagram(&mut self, datagram: u64) {
        self.get_mut().set_datagram(datagram);
    }
}

/// RFC 9002 §7.2.
fn initial_window(datagram: u64) -> u64 {
    (INITIAL_DATAGRAMS * datagram).min(INITIAL_LIMIT.max(2 * datagram))
}

/// `window` a round trip, times `num` / `den`, in bytes a second.
fn per_round_trip(window: u64, rtt: Duration, (num, den): (u64, u64)) -> u64 {
    let second = u128::from(window) * 1_000_000_000 * u128::from(num);
    u64::try_from(second / (u128::from(nanos(rtt).max(1)) * u128::from(den))).unwrap_or(u64::MAX).max(1)
}

/// Which losses belong to one congestion event: those of packets that were sent before it was noticed (RFC 9002 §7.3.2).
#[derive(Clone, Copy, Debug, Default)]
struct Recovery(Option<Instant>);

impl Recovery {
    /// Whether a packet of `sent` was on its way when the last event was noticed.
    fn covers(self, sent: Instant) -> bool {
        self.0.is_some_and(|start| sent <= start)
    }

    fn begin(&mut self, now: Instant) {
        self.0 = Some(now);
    }
}

#[cfg(test)]
mod tests;
