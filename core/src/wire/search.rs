//! What the server has a client do beyond plain punching, and what the client says of it: the bodies of two control
//! messages. A kind byte, then the fields in the order of the variants.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, NoRoom, Reader, Writer};
use super::control::{read_address, relay_reason, relay_reason_code, write_address};
use crate::event::RelayReason;
use core::net::SocketAddr;

/// What a client is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    /// Open sockets and have the server observe where each comes from.
    Measure {
        /// How many.
        sockets: u8,
    },
    /// Challenge ports that the peer's NAT is expected to give out.
    Predict {
        /// The first of them.
        at: SocketAddr,
        /// From one to the next; wraps at the ends of the range of all ports.
        stride: i16,
        /// How many.
        count: u8,
    },
    /// Open sockets, and challenge one address from each: so each opens the NAT at a port that nobody knows.
    Scatter {
        /// Which address.
        at: SocketAddr,
        /// How many.
        sockets: u16,
    },
    /// Challenge ports of an address in a random order.
    Sweep {
        /// The address; its port is the one known to be of no use.
        at: SocketAddr,
        /// The lowest port.
        first: u16,
        /// The highest port.
        last: u16,
        /// How many of them.
        probes: u16,
        /// When to begin, milliseconds from now: when the peer's sockets are open.
        after_ms: u16,
    },
    /// Nothing more.
    Stop {
        /// Why the pair stays relayed. `NoAnswer`: for what plain punching came to.
        because: RelayReason,
    },
    /// Open the own NAT towards one address by packets that do not get there, then challenge it, by the socket measured last.
    Open {
        /// Which address.
        at: SocketAddr,
        /// When to begin with what gets there, milliseconds from now: when the peer's NAT is surely open.
        after_ms: u16,
    },
}

/// What a search that led to no direct path came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All was done that was asked for.
    Spent,
    /// The system gave too few sockets.
    NoSockets,
}

const MEASURE: u8 = 0;
const PREDICT: u8 = 1;
const SCATTER: u8 = 2;
const SWEEP: u8 = 3;
const STOP: u8 = 4;
const OPEN: u8 = 5;

impl Plan {
    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        match *self {
            Self::Measure { sockets } => w.bytes(&[MEASURE, sockets]),
            Self::Predict { at, stride, count } => {
                w.u8(PREDICT)?;
                write_address(w, at)?;
                w.bytes(&stride.to_be_bytes())?;
                w.u8(count)
            }
            Self::Scatter { at, sockets } => {
                w.u8(SCATTER)?;
                write_address(w, at)?;
                w.u16(sockets)
            }
            Self::Sweep { at, first, last, probes, after_ms } => {
                w.u8(SWEEP)?;
                write_address(w, at)?;
                [first, last, probes, after_ms].into_iter().try_for_each(|field| w.u16(field))
            }
            Self::Stop { because } => w.bytes(&[STOP, relay_reason_code(because)]),
            Self::Open { at, after_ms } => {
                w.u8(OPEN)?;
                write_address(w, at)?;
                w.u16(after_ms)
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            MEASURE => Self::Measure { sockets: r.u8()? },
            PREDICT => Self::Predict { at: read_address(r)?, stride: i16::from_be_bytes(r.array()?), count: r.u8()? },
            SCATTER => Self::Scatter { at: read_address(r)?, sockets: r.u16()? },
            SWEEP => Self::Sweep {
                at: read_address(r)?,
                first: r.u16()?,
                last: r.u16()?,
                probes: r.u16()?,
                after_ms: r.u16()?,
            },
            STOP => Self::Stop { because: relay_reason(r.u8()?)? },
            OPEN => Self::Open { at: read_address(r)?, after_ms: r.u16()? },
            _ => return Err(Malformed::Value),
        })
    }
}

impl Outcome {
    pub(super) fn write(self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        w.u8(self as u8)
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = r.u8()?;
        [Self::Spent, Self::NoSockets].into_iter().find(|outcome| *outcome as u8 == code).ok_or(Malformed::Value)
    }
}

#[cfg(test)]
pub(crate) fn plans() -> impl proptest::strategy::Strategy<Value = Plan> {
    use proptest::prelude::*;
    let at = any::<SocketAddr>().prop_map(|at| SocketAddr::new(at.ip(), at.port()));
    (0u8..6, at, any::<(i16, u8, [u16; 4])>(), 1u8..10).prop_map(|(kind, at, (stride, count, fields), reason)| {
        let [first, last, probes, after_ms] = fields;
        match kind {
            MEASURE => Plan::Measure { sockets: count },
            PREDICT => Plan::Predict { at, stride, count },
            SCATTER => Plan::Scatter { at, sockets: probes },
            SWEEP => Plan::Sweep { at, first, last, probes, after_ms },
            OPEN => Plan::Open { at, after_ms },
            _ => Plan::Stop { because: relay_reason(reason).unwrap() },
        }
    })
}
