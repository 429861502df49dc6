//! The wrap of a packet on its way to the server's relay, 24 bytes before the packet itself:
//!
//! | Bytes | Field |
//! |---|---|
//! | 1 | type 0x83 |
//! | 8 | session id of the sender |
//! | 3 | relay number, its low 24 bits |
//! | 4 | handle of the destination |
//! | 8 | MAC |
//! | … | the packet, a short one; the relay passes it on as it is |

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, NoRoom, Reader, Writer};
use super::header::{RELAY, Short};

/// Length of the wrap, in bytes.
pub(crate) const WRAP_LEN: usize = 24;
/// Bits of the relay number on the wire.
pub(crate) const NUMBER_BITS: u32 = 24;

/// A wrapped packet as it comes off the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wrap<'d> {
    /// The sender's session.
    pub(crate) session: u64,
    /// The low 24 bits of the relay number; the receiver expands it (RFC 9000 §A.3).
    pub(crate) number_low: u32,
    /// The destination, as the sender was told to call it.
    pub(crate) handle: u32,
    /// Over all of the above and the packet's ends.
    pub(crate) mac: u64,
    /// The packet.
    pub(crate) inner: &'d [u8],
}

/// Reads a wrapped packet. Only short packets are let through: nothing else has any business between two clients, and a
/// login datagram that comes from the server's address must be the server's.
pub(crate) fn parse(datagram: &[u8]) -> Result<Wrap<'_>, Malformed> {
    let mut r = Reader::new(datagram);
    if r.u8()? != RELAY {
        return Err(Malformed::Value);
    }
    let session = r.u64()?;
    let [a, b, c] = r.array()?;
    let number_low = u32::from_be_bytes([0, a, b, c]);
    let (handle, mac, inner) = (r.u32()?, r.u64()?, r.rest());
    Short::read(inner)?;
    Ok(Wrap { session, number_low, handle, mac, inner })
}

/// Writes a wrap.
pub(crate) fn write(out: &mut [u8; WRAP_LEN], session: u64, number: u64, handle: u32, mac: u64) -> Result<(), NoRoom> {
    let mut w = Writer::new(out);
    w.u8(RELAY)?;
    w.u64(session)?;
    let [_, _, _, _, _, low @ ..] = number.to_be_bytes();
    w.bytes(&low)?;
    w.u32(handle)?;
    w.u64(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::{LOGIN_REPLY, LOGIN_REQUEST, SHORT_MIN};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn wrapped(inner: &[u8], session: u64, number: u64, handle: u32, mac: u64) -> Vec<u8> {
        let mut wrap = [0; WRAP_LEN];
        write(&mut wrap, session, number, handle, mac).unwrap();
        [&wrap, inner].concat()
    }

    #[test]
    fn only_short_packets_are_let_through() {
        for first in [LOGIN_REQUEST, LOGIN_REPLY, RELAY, 0, 0x50] {
            let mut inner = [0x40; SHORT_MIN];
            inner[0] = first;
            assert_eq!(parse(&wrapped(&inner, 1, 2, 3, 4)), Err(Malformed::Value));
        }
    }

    proptest! {
        #[test]
        fn a_wrap_comes_back_and_every_truncation_is_an_error(
            rest in proptest::collection::vec(any::<u8>(), SHORT_MIN - 1..60), session: u64, number: u64, handle: u32, mac: u64,
        ) {
            let inner = [&[0x40], &rest[..]].concat();
            let datagram = wrapped(&inner, session, number, handle, mac);
            let number_low = (number & 0xff_ffff) as u32;
            prop_assert_eq!(parse(&datagram), Ok(Wrap { session, number_low, handle, mac, inner: &inner }));
            for len in 0..WRAP_LEN + SHORT_MIN {
                prop_assert_eq!(parse(&datagram[..len]), Err(Malformed::Truncated));
            }
        }

        #[test]
        fn it_survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
        }
    }
}
