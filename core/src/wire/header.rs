//! The first byte of a datagram, and the header of a short packet (docs/protocol.md, "Packets").
//!
//! | Bytes | Field |
//! |---|---|
//! | 1 | flags: `0b0100_kkll`, kk = key generation modulo 4, ll = length of the packet number minus 1 |
//! | 8 | connection id, in the clear |
//! | 1–4 | packet number, its low bits |
//! | … | body, then a tag of 16 bytes |
//!
//! The low four bits of the flags and the packet number are masked (RFC 9001 §5.4), so that an observer cannot count or
//! link packets by them. The sample that the mask is made from begins four bytes after the packet number's first, as if
//! the number had its greatest length; hence the least length of a packet.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, Reader};

/// First byte of a login request.
pub(crate) const LOGIN_REQUEST: u8 = 0x81;
/// First byte of a login reply.
pub(crate) const LOGIN_REPLY: u8 = 0x82;
/// First byte of a packet wrapped for the server's relay.
pub(crate) const RELAY: u8 = 0x83;

/// First byte of a retry: the server asks for the same login request with a cookie.
pub(crate) const LOGIN_RETRY: u8 = 0x84;

/// The fixed bits of a short packet's flags.
pub(crate) const SHORT: u8 = 0b0100_0000;
/// The fixed bits and the reserved ones, which are zero.
pub(crate) const FIXED_MASK: u8 = 0b1111_0000;
/// The bits of the flags that header protection covers.
pub(crate) const PROTECTED_MASK: u8 = 0b0000_1111;

/// Where the packet number begins, in bytes.
pub(crate) const NUMBER_OFFSET: usize = 9;
/// The longest packet number, in bytes.
pub(crate) const NUMBER_MAX: usize = 4;
/// The longest header, in bytes.
pub(crate) const HEADER_MAX: usize = NUMBER_OFFSET + NUMBER_MAX;
/// Where the sample for header protection begins, in bytes.
pub(crate) const SAMPLE_OFFSET: usize = NUMBER_OFFSET + NUMBER_MAX;
/// Length of that sample, in bytes.
pub(crate) const SAMPLE_LEN: usize = 16;
/// Length of the authentication tag, in bytes.
pub(crate) const TAG_LEN: usize = 16;
/// The shortest packet, in bytes: one that holds the sample.
#[cfg(test)]
pub(crate) const SHORT_MIN: usize = SAMPLE_OFFSET + SAMPLE_LEN;

/// What a datagram claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A short packet for the link end that goes by this connection id.
    Short {
        /// The receiver's name for link and path.
        cid: u64,
    },
    /// A client asks for a session.
    LoginRequest,
    /// A server answers that.
    LoginReply,
    /// A server wants to see first that the client receives at its address.
    LoginRetry,
    /// A short packet for another client, wrapped for the server's relay.
    Relay,
}

/// What `datagram` claims to be, `None` if nothing of this protocol or too short for a short packet.
pub(crate) fn classify(datagram: &[u8]) -> Option<Kind> {
    match *datagram.first()? {
        LOGIN_REQUEST => Some(Kind::LoginRequest),
        LOGIN_REPLY => Some(Kind::LoginReply),
        LOGIN_RETRY => Some(Kind::LoginRetry),
        RELAY => Some(Kind::Relay),
        _ => Short::read(datagram).ok().map(|short| Kind::Short { cid: short.cid }),
    }
}

/// A short packet's header as it comes off the wire: still masked but for the connection id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Short {
    /// The flags; their low four bits masked.
    pub(crate) flags: u8,
    /// The connection id.
    pub(crate) cid: u64,
    /// The four bytes from the packet number's first on: the number, masked, then what follows it.
    pub(crate) number: [u8; NUMBER_MAX],
    /// What the mask is made from.
    pub(crate) sample: [u8; SAMPLE_LEN],
}

impl Short {
    /// Reads the header of a short packet and checks what can be checked without keys.
    pub(crate) fn read(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(datagram);
        let flags = r.u8()?;
        if flags & FIXED_MASK != SHORT {
            return Err(Malformed::Value);
        }
        Ok(Self { flags, cid: r.u64()?, number: r.array()?, sample: r.array()? })
    }
}

/// Bytes that packet number `number` takes on the wire if the largest one that the peer is known to have received is
/// `acked` (RFC 9000 §A.2). `None` if more than four, that is, with more than 2^31 numbers in doubt.
pub(crate) const fn number_len(number: u64, acked: Option<u64>) -> Option<usize> {
    // The count of numbers in doubt minus one, so that it cannot overflow at 0..=u64::MAX.
    let in_doubt = match acked {
        Some(acked) => number.saturating_sub(acked).saturating_sub(1),
        None => number,
    };
    match in_doubt {
        0..0x80 => Some(1),
        0x80..0x8000 => Some(2),
        0x8000..0x80_0000 => Some(3),
        0x80_0000..0x8000_0000 => Some(4),
        _ => None,
    }
}

/// The full number nearest to the one expected next whose low `bits` bits are `low` (RFC 9000 §A.3, with 64-bit numbers).
/// `largest` is the largest number received. `bits` is at most 32; `low` is below 2^`bits`.
pub(crate) fn expand(low: u32, bits: u32, largest: Option<u64>) -> u64 {
    let bits = bits.min(32);
    // 128 bits, because the number expected after 2^64 − 1 and the candidate above it are beyond 64.
    let expected = largest.map_or(0, |largest| u128::from(largest).saturating_add(1));
    let window = 1_u128.wrapping_shl(bits);
    let half = window >> 1;
    let mask = window.wrapping_sub(1);
    let candidate = (expected & !mask) | (u128::from(low) & mask);
    let above = candidate.saturating_add(window);
    let nearest = if candidate.saturating_add(half) <= expected && above <= u128::from(u64::MAX) {
        above
    } else if candidate > expected.saturating_add(half) && candidate >= window || candidate > u128::from(u64::MAX) {
        candidate.saturating_sub(window)
    } else {
        candidate
    };
    u64::try_from(nearest).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a() {
        assert_eq!(number_len(0xac5c02, Some(0xabe8b3)), Some(2));
        assert_eq!(number_len(0xace8fe, Some(0xabe8b3)), Some(3));
        assert_eq!(expand(0x9b32, 16, Some(0xa82f_30ea)), 0xa82f_9b32);
    }

    #[test]
    fn the_first_byte_tells_the_kinds_apart() {
        let mut datagram = [0; SHORT_MIN];
        for first in 0..=u8::MAX {
            datagram[0] = first;
            let expected = match first {
                0x40..=0x4f => Some(Kind::Short { cid: 0 }),
                0x81 => Some(Kind::LoginRequest),
                0x82 => Some(Kind::LoginReply),
                0x83 => Some(Kind::Relay),
                0x84 => Some(Kind::LoginRetry),
                _ => None,
            };
            assert_eq!(classify(&datagram), expected, "{first:#x}");
        }
        assert_eq!(classify(&[]), None);
        assert_eq!(classify(&[0x40; SHORT_MIN - 1]), None);
    }

    #[test]
    fn numbers_at_both_ends_of_the_range_come_back() {
        for number in [0, 1, 0x7f, 0x80, u64::MAX - 1, u64::MAX] {
            for largest in [None, Some(number), number.checked_sub(1), number.checked_add(1)] {
                if largest.is_none() && number > 0x80 {
                    continue;
                }
                for bits in [8, 16, 24, 32] {
                    let low = (number & ((1 << bits) - 1)) as u32;
                    assert_eq!(expand(low, bits, largest), number, "{number} {largest:?} {bits}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_number_comes_back_wherever_the_receiver_is_between_the_acknowledged_and_the_one_before_it(
            acked: u64, ahead in 0u64..0x8000_0000, behind: u64,
        ) {
            let number = acked.saturating_add(1).saturating_add(ahead);
            prop_assume!(number > acked);
            let len = number_len(number, Some(acked)).unwrap();
            let bits = 8 * len as u32;
            let low = (u128::from(number) & ((1 << bits) - 1)) as u32;
            let largest = acked + behind % (number - acked);
            prop_assert_eq!(expand(low, bits, Some(largest)), number);
        }

        #[test]
        fn an_expanded_number_keeps_its_low_bits(low: u32, bits in 1u32..=32, largest: Option<u64>) {
            let low = (u64::from(low) & ((1 << bits) - 1)) as u32;
            prop_assert_eq!(expand(low, bits, largest) & ((1 << bits) - 1), u64::from(low));
        }
    }
}
