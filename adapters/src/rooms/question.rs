//! What a client may ask the stock server in a message: to hear its own bytes back, and how its NAT looks from there.
//!
//! An answer is hardly longer than its question and goes to a client that is logged in, so that nobody is flooded by it.

use super::message::{VERSION, read_text, version, write_text};
use posse_core::server::{NatBehaviour, NatMapping};
use std::net::SocketAddr;

/// Bytes that are echoed at most.
pub const MAX_ECHO: usize = 64;

const ECHO: u8 = 1;
const NAT: u8 = 2;
/// Set in the kind of what answers it.
const ANSWER: u8 = 0x80;

/// What a client asks, in a message to [`PeerId::SERVER`](crate::PeerId::SERVER); the answer comes on the same channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Question<'a> {
    /// To hear this back: at most [`MAX_ECHO`] bytes.
    Echo(&'a [u8]),
    /// How the NAT in front of this client looks from the server.
    Nat,
}

impl<'a> Question<'a> {
    /// As it is sent. Of a longer echo, what fits.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Echo(bytes) => [VERSION, ECHO].iter().chain(bytes.iter().take(MAX_ECHO)).copied().collect(),
            Self::Nat => vec![VERSION, NAT],
        }
    }

    /// Reads a message; `None` if it is no question.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        match version(message).ok()?.split_first()? {
            (&ECHO, bytes) if bytes.len() <= MAX_ECHO => Some(Self::Echo(bytes)),
            (&NAT, []) => Some(Self::Nat),
            _ => None,
        }
    }
}

/// What the server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The bytes of the question.
    Echo(&'a [u8]),
    /// What the server sees of the client.
    Nat {
        /// From which address its packets come.
        seen: SocketAddr,
        /// How its NAT behaves; `None` if the server's own addresses do not tell, or not yet.
        behaviour: Option<NatBehaviour>,
    },
}

impl<'a> Answer<'a> {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Echo(bytes) => [VERSION, ECHO | ANSWER].iter().chain(bytes.iter().take(MAX_ECHO)).copied().collect(),
            Self::Nat { seen, behaviour } => {
                let (mapping, strict) = behaviour.map_or((0, 0), |b| (mapping_code(b.mapping), u8::from(b.strict)));
                let mut bytes = vec![VERSION, NAT | ANSWER, mapping, strict];
                write_text(&mut bytes, &seen.to_string());
                bytes
            }
        }
    }

    /// Reads a message of the server; `None` if it is no answer.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = version(message).ok()?.split_first()?;
        if kind == ECHO | ANSWER {
            return (rest.len() <= MAX_ECHO).then_some(Self::Echo(rest));
        }
        let (&[mapping, strict], rest) = rest.split_first_chunk::<2>().filter(|_| kind == NAT | ANSWER)?;
        let (seen, rest) = read_text(rest).ok()?;
        let seen = seen.parse().ok().filter(|_| rest.is_empty())?;
        let behaviour = match (mapping, strict) {
            (0, 0) => None,
            (_, 0 | 1) => Some(NatBehaviour::new(mapping_of(mapping)?, strict == 1)),
            _ => return None,
        };
        Some(Self::Nat { seen, behaviour })
    }
}

fn mapping_code(mapping: NatMapping) -> u8 {
    match mapping {
        NatMapping::Same => 1,
        NatMapping::ByAddress => 2,
        _ => 3,
    }
}

fn mapping_of(code: u8) -> Option<NatMapping> {
    match code {
        1 => Some(NatMapping::Same),
        2 => Some(NatMapping::ByAddress),
        3 => Some(NatMapping::ByAddressAndPort),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_asked_and_answered_is_read_as_it_was(
            bytes in proptest::collection::vec(any::<u8>(), 0..=MAX_ECHO), ip: std::net::IpAddr, port: u16, mapping in 0..4_u8,
            strict: bool,
        ) {
            for question in [Question::Echo(&bytes), Question::Nat] {
                let written = question.encode();
                prop_assert_eq!(Question::parse(&written), Some(question));
            }
            let behaviour = mapping_of(mapping).map(|mapping| NatBehaviour::new(mapping, strict));
            for answer in [Answer::Echo(&bytes), Answer::Nat { seen: SocketAddr::new(ip, port), behaviour }] {
                let written = answer.encode();
                prop_assert_eq!(Answer::parse(&written), Some(answer));
                prop_assert_eq!(Question::parse(&written), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm_and_written_back_as_they_were(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..100), kind in 0..4_u8, answer: bool,
        ) {
            if let [version, second, ..] = &mut bytes[..] {
                (*version, *second) = (VERSION, kind | if answer { ANSWER } else { 0 });
            }
            if let Some(question) = Question::parse(&bytes) {
                prop_assert_eq!(question.encode(), bytes.clone());
            }
            let _ = Answer::parse(&bytes);
        }
    }
}
