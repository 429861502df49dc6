//! A server's public key as text: 64 hexadecimal digits, a dash, and eight more that make a slip of the pen show.
//!
//! The last eight digits are the first bytes of a hash of the key. A login request carries the same four bytes in the clear,
//! as a hint which key it is for: so a server with two keys knows which one to try, and one that gets a request for a key it
//! has not got drops it at no cost. The first 64 digits alone are a key, too.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::wire::login::{HINT_LEN, KeyHint};
use alloc::string::String;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Digits of a key.
const DIGITS: usize = 64;
/// Digits behind the dash.
const CHECK_DIGITS: usize = 2 * HINT_LEN;

/// Why a text is not a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// Neither 64 characters nor 73.
    #[error("a key is 64 hexadecimal digits, or those with a dash and 8 more; this is {len} characters")]
    Length {
        /// Its length in characters.
        len: usize,
    },
    /// Something else than a hexadecimal digit, or no dash in its place.
    #[error("character {at} is not what stands there in a key")]
    Character {
        /// Which one, from 1 on.
        at: usize,
    },
    /// The digits behind the dash are those of another key: something was mistyped, or left out and filled up.
    #[error("the last 8 digits do not belong to the others: something is mistyped")]
    Check,
}

/// The first bytes of the hash of a public key.
pub(crate) fn hint(public: &[u8; 32]) -> KeyHint {
    let hash = Sha256::new().chain_update(b"posse server key 1").chain_update(public).finalize();
    let mut hint = [0; HINT_LEN];
    hint.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    hint
}

/// A server's public key as text, the check included. See [`parse_key`].
pub fn key_text(public: &[u8; 32]) -> String {
    let mut text = String::with_capacity(DIGITS.saturating_add(1).saturating_add(CHECK_DIGITS));
    push_hex(&mut text, public);
    text.push('-');
    push_hex(&mut text, &hint(public));
    text
}

/// A server's public key from text: as [`key_text`] writes it, or its first 64 digits alone, which nothing checks.
pub fn parse_key(text: &str) -> Result<[u8; 32], KeyTextError> {
    let len = text.chars().count();
    let middle = text.char_indices().nth(DIGITS).map_or(text.len(), |(at, _)| at);
    let (digits, check) = match text.split_at_checked(middle).filter(|_| len >= DIGITS) {
        Some((digits, "")) => (digits, None),
        Some((digits, rest)) if len == DIGITS.saturating_add(1).saturating_add(CHECK_DIGITS) => {
            (digits, Some(rest.strip_prefix('-').ok_or(KeyTextError::Character { at: DIGITS.saturating_add(1) })?))
        }
        _ => return Err(KeyTextError::Length { len }),
    };
    let key = parse_hex(digits, 1)?;
    match check {
        Some(check) if parse_hex::<HINT_LEN>(check, DIGITS.saturating_add(2))? != hint(&key) => {
            Err(KeyTextError::Check)
        }
        _ => Ok(key),
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// `first`: the place of the first character, for the error.
fn parse_hex<const N: usize>(text: &str, first: usize) -> Result<[u8; N], KeyTextError> {
    let mut bytes = [0u8; N];
    for (at, c) in text.chars().enumerate() {
        let wrong = KeyTextError::Character { at: first.saturating_add(at) };
        let digit = c.to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(wrong)?;
        let byte = bytes.get_mut(at >> 1).ok_or(wrong)?;
        *byte = *byte << 4 | digit;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    proptest! {
        #[test]
        fn a_key_comes_back_with_its_check_and_without(key: [u8; 32]) {
            let text = key_text(&key);
            prop_assert_eq!(text.len(), 73);
            prop_assert_eq!(parse_key(&text), Ok(key));
            prop_assert_eq!(parse_key(&text.to_uppercase()), Ok(key));
            prop_assert_eq!(parse_key(&text[..64]), Ok(key));
        }

        #[test]
        fn one_wrong_digit_is_noticed(key: [u8; 32], at in 0usize..73, digit in 0u32..16) {
            let text = key_text(&key);
            let digit = char::from_digit(digit, 16).unwrap();
            let wrong = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(parse_key(&wrong).is_ok(), wrong == text);
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text: String) {
            let _ = parse_key(&text);
        }
    }

    #[test]
    fn the_error_says_where() {
        let text = key_text(&[1; 32]);
        assert_eq!(parse_key(""), Err(KeyTextError::Length { len: 0 }));
        assert_eq!(parse_key(&text[..65]), Err(KeyTextError::Length { len: 65 }));
        assert_eq!(parse_key(&text.replace('-', "0")), Err(KeyTextError::Character { at: 65 }));
        assert_eq!(parse_key(&format!("x{}", &text[1..])), Err(KeyTextError::Character { at: 1 }));
        assert_eq!(parse_key(&format!("{}g", &text[..72])), Err(KeyTextError::Character { at: 73 }));
        assert_eq!(parse_key(&"é".repeat(64)), Err(KeyTextError::Character { at: 1 }));
    }
}
