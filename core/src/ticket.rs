//! Connect tickets: what a login server gives a player, sealed for the game server that is to let the player in.
//!
//! A login server knows accounts and passwords; a game server need not. Both hold one symmetric key. A ticket names no
//! player to anybody without that key: it is an id, an expiry and whatever the login server has to say (who it is, what it
//! may), under authenticated encryption with a key of its own, derived from the common one and the id. It is bound to the
//! public key of one game server and to the application, so that it is good there only; that server takes it once.
//!
//! | Bytes | Field |
//! |---|---|
//! | 1 | version, 1 |
//! | 16 | id |
//! | 8 | expiry, seconds since 1970 (encrypted) |
//! | up to 512 | data (encrypted) |
//! | 16 | tag of ChaCha20-Poly1305: key HKDF-SHA256 of the ticket key, salt "posse ticket 1", info "ticket" · id; nonce 0, associated data version · id · server's public key · application u64 |

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::secure::{ChaCha20Poly1305, Crypto as _, Secret};
use crate::time::Duration;
use crate::wire::buf::Reader;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use thiserror::Error;

/// Most bytes of data: an account's id, a name, a few rights. It rides in the first datagram of a login.
pub const MAX_DATA: usize = 512;
/// Bytes of a ticket beside its data.
const OVERHEAD: usize = HEAD_LEN + 8 + TAG_LEN;
/// Most bytes of a ticket.
pub const MAX_LEN: usize = OVERHEAD + MAX_DATA;

const VERSION: u8 = 1;
/// Version and id.
const HEAD_LEN: usize = 1 + 16;
const TAG_LEN: usize = 16;

/// Names a ticket; random, so that no two have the same.
pub type TicketId = [u8; 16];

/// What a ticket says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// Its name.
    pub id: TicketId,
    /// From then on it is not taken: time since 1970 in whole seconds.
    pub expires: Duration,
    /// What the login server has to say to the game server; at most [`MAX_DATA`] bytes.
    pub data: Box<[u8]>,
}

/// Where a ticket is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audience<'a> {
    /// The public key of the server that the client will use.
    pub server_key: &'a [u8; 32],
    /// The application.
    pub app: u64,
}

/// Why a ticket was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a ticket's data of {len} bytes, at most {max} fit", max = MAX_DATA)]
pub struct TooLong {
    /// Its length in bytes.
    pub len: usize,
}

/// Forged, damaged, for another audience, or made with another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("not a valid ticket")]
pub struct Invalid;

/// Seals a ticket. `key` is what login server and game server share: 32 random bytes. The ticket's id has to be random, from
/// the operating system; two tickets of one id would share a key stream.
pub fn seal(key: &[u8; 32], audience: Audience<'_>, ticket: &Ticket) -> Result<Vec<u8>, TooLong> {
    let len = ticket.data.len();
    if len > MAX_DATA {
        return Err(TooLong { len });
    }
    let mut sealed = Vec::with_capacity(OVERHEAD.saturating_add(len));
    sealed.push(VERSION);
    sealed.extend_from_slice(&ticket.id);
    let mut body = vec![];
    body.extend_from_slice(&ticket.expires.as_secs().to_be_bytes());
    body.extend_from_slice(&ticket.data);
    let plain = body.len();
    body.resize(plain.saturating_add(TAG_LEN), 0);
    let written = packet_key(key, &ticket.id).seal([0; 12], &context(audience, &ticket.id), &mut body, plain);
    debug_assert_eq!(written, body.len(), "there is room for the tag");
    sealed.append(&mut body);
    Ok(sealed)
}

/// Opens a ticket. Whether its time is over, or it was used, is for the caller to judge.
pub fn open(key: &[u8; 32], audience: Audience<'_>, sealed: &[u8]) -> Result<Ticket, Invalid> {
    let mut r = Reader::new(sealed);
    if sealed.len() > MAX_LEN || r.u8() != Ok(VERSION) {
        return Err(Invalid);
    }
    let id: TicketId = r.array().map_err(|_| Invalid)?;
    let mut body = r.rest().to_vec();
    let plain = packet_key(key, &id).open([0; 12], &context(audience, &id), &mut body).ok_or(Invalid)?;
    let mut r = Reader::new(plain);
    let expires = Duration::from_secs(r.u64().map_err(|_| Invalid)?);
    Ok(Ticket { id, expires, data: r.rest().into() })
}

fn packet_key(key: &[u8; 32], id: &TicketId) -> Box<dyn crate::secure::PacketKey> {
    let own = Secret::extract(b"posse ticket 1", key).derive(&[b"ticket", id]);
    ChaCha20Poly1305.packet_key(own.bytes())
}

fn context(audience: Audience<'_>, id: &TicketId) -> Vec<u8> {
    [&[VERSION][..], id, audience.server_key, &audience.app.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [5; 32];
    const SERVER: [u8; 32] = [6; 32];
    const HERE: Audience<'static> = Audience { server_key: &SERVER, app: 7 };

    fn ticket(data: &[u8]) -> Ticket {
        Ticket { id: [9; 16], expires: Duration::from_secs(1_000), data: data.into() }
    }

    proptest! {
        #[test]
        fn a_ticket_comes_back(id: [u8; 16], secs: u64, data in proptest::collection::vec(any::<u8>(), 0..=MAX_DATA)) {
            let made = Ticket { id, expires: Duration::from_secs(secs), data: data.into() };
            let sealed = seal(&KEY, HERE, &made).unwrap();
            prop_assert!(sealed.len() == OVERHEAD + made.data.len() && sealed.len() <= MAX_LEN);
            prop_assert_eq!(open(&KEY, HERE, &sealed), Ok(made));
        }

        #[test]
        fn anything_else_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..MAX_LEN + 9)) {
            prop_assert_eq!(open(&KEY, HERE, &bytes), Err(Invalid));
        }
    }

    #[test]
    fn no_bit_of_it_can_be_changed_and_it_is_good_in_one_place_only() {
        let sealed = seal(&KEY, HERE, &ticket(b"ann")).unwrap();
        for bit in 0..8 * sealed.len() {
            let mut wrong = sealed.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&KEY, HERE, &wrong), Err(Invalid), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(open(&KEY, HERE, &sealed[..len]), Err(Invalid), "length {len}");
        }
        assert_eq!(open(&[4; 32], HERE, &sealed), Err(Invalid));
        assert_eq!(open(&KEY, Audience { app: 8, ..HERE }, &sealed), Err(Invalid));
        assert_eq!(open(&KEY, Audience { server_key: &[7; 32], ..HERE }, &sealed), Err(Invalid));
        assert_eq!(seal(&KEY, HERE, &ticket(&[0; MAX_DATA + 1])), Err(TooLong { len: MAX_DATA + 1 }));
    }

    #[test]
    fn the_layout_is_that_of_the_table() {
        let sealed = seal(&KEY, HERE, &ticket(b"ann")).unwrap();
        assert_eq!((sealed[0], &sealed[1..17], sealed.len()), (1, &[9; 16][..], 1 + 16 + 8 + 3 + 16));
        assert!(!sealed.windows(3).any(|three| three == b"ann"));
    }
}
