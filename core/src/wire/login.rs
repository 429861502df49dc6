//! Login datagrams: what stands before and inside the two Noise messages.
//!
//! | Request, exactly 1200 B | |
//! |---|---|
//! | 1 | type 0x81 |
//! | 32 + 48 | Noise IK message 1: ephemeral key, static key (encrypted) |
//! | 1103 + 16 | its payload (encrypted): version u16 · application u64 · count u8 · that many suite ids · zeros |
//!
//! | Reply, exactly 59 B | |
//! |---|---|
//! | 1 | type 0x82 |
//! | 32 | Noise IK message 2: ephemeral key |
//! | 10 + 16 | its payload (encrypted): 0 · session u64 · suite u8, or 1 · reason u8 · detail u16 · zeros |
//!
//! The request has the size of a full datagram, so that a path that does not carry those fails here and not later, and so
//! that a server that answers a forged source address sends a twentieth of what it got. All that follows the suite ids is
//! reserved: this version sends zeros and ignores it, so that a later one may say more and still be understood by a server
//! that has to refuse it for its version.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, NoRoom, Reader, Writer};
use super::header::{LOGIN_REPLY, LOGIN_REQUEST, TAG_LEN};
use core::fmt;

/// Length of a login request, in bytes: the size of datagram that every path has to carry.
pub(crate) const REQUEST_LEN: usize = 1200;
/// Length of a login reply, in bytes.
pub(crate) const REPLY_LEN: usize = 1 + KEY_LEN + VERDICT_LEN + TAG_LEN;
/// Length of a request's payload in clear text, in bytes.
pub(crate) const HELLO_LEN: usize = REQUEST_LEN - 1 - KEY_LEN - (KEY_LEN + TAG_LEN) - TAG_LEN;
/// Length of a reply's payload in clear text, in bytes.
pub(crate) const VERDICT_LEN: usize = 10;
/// Length of an X25519 public key, in bytes.
const KEY_LEN: usize = 32;
/// Suites that a client may offer; there are two.
pub(crate) const SUITES_MAX: usize = 8;

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// The Noise message in a login request.
pub(crate) fn request(datagram: &[u8]) -> Result<&[u8; REQUEST_LEN - 1], Malformed> {
    message(datagram, LOGIN_REQUEST)
}

/// The Noise message in a login reply.
pub(crate) fn reply(datagram: &[u8]) -> Result<&[u8; REPLY_LEN - 1], Malformed> {
    message(datagram, LOGIN_REPLY)
}

/// The ephemeral key in a login request: it tells a request that was sent again from another one, before anything costly
/// is done. Nothing vouches for it.
pub(crate) fn ephemeral(datagram: &[u8]) -> Result<&[u8; KEY_LEN], Malformed> {
    request(datagram)?.first_chunk().ok_or(Malformed::Truncated)
}

fn message<const N: usize>(datagram: &[u8], kind: u8) -> Result<&[u8; N], Malformed> {
    let (first, message) = datagram.split_first().ok_or(Malformed::Truncated)?;
    if *first != kind {
        return Err(Malformed::Value);
    }
    match message.split_first_chunk() {
        None => Err(Malformed::Truncated),
        Some((message, [])) => Ok(message),
        Some(_) => Err(Malformed::Trailing),
    }
}

/// What a client says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    /// The protocol version that it speaks.
    pub(crate) version: u16,
    /// The application that it belongs to.
    pub(crate) app: u64,
    /// The suites that it offers.
    pub(crate) suites: SuiteList,
}

impl Hello {
    pub(crate) fn write(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        w.u16(self.version)?;
        w.u64(self.app)?;
        w.u8(self.suites.len)?;
        w.bytes(self.suites.as_slice())
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let (version, app) = (r.u16()?, r.u64()?);
        let count = usize::from(r.u8()?);
        let suites = SuiteList::new(r.bytes(count)?).ok_or(Malformed::Value)?;
        Ok(Self { version, app, suites })
    }
}

/// At most [`SUITES_MAX`] suite ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SuiteList {
    ids: [u8; SUITES_MAX],
    len: u8,
}

impl SuiteList {
    /// `None` if there are too many.
    pub(crate) fn new(ids: &[u8]) -> Option<Self> {
        let mut list = Self { ids: [0; SUITES_MAX], len: u8::try_from(ids.len()).ok()? };
        list.ids.get_mut(..ids.len())?.copy_from_slice(ids);
        Some(list)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.ids.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) fn contains(&self, id: u8) -> bool {
        self.as_slice().contains(&id)
    }

    /// The suite that two ends use: the lowest id that both offer.
    #[cfg(test)]
    pub(crate) fn common(&self, other: &Self) -> Option<u8> {
        self.as_slice().iter().copied().filter(|id| other.contains(*id)).min()
    }
}

impl fmt::Debug for SuiteList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// What a server says to a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// There is a session. Whether the application lets the client in is another matter, settled inside the session.
    Accepted {
        /// The session's id, which is the connection id towards the server.
        session: u64,
        /// The suite of the session, one of those offered.
        suite: u8,
    },
    /// There is none.
    Refused(Refusal),
}

/// Why there is no session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The server does not speak the client's version.
    Version {
        /// The version that it speaks.
        server: u16,
    },
    /// The server is for another application.
    Application,
    /// No suite in common.
    Suite,
    /// No more sessions.
    Full,
}

impl Verdict {
    pub(crate) fn write(&self) -> [u8; VERDICT_LEN] {
        let mut payload = [0; VERDICT_LEN];
        let mut w = Writer::new(&mut payload);
        // The array holds the longest of them.
        let written = match *self {
            Self::Accepted { session, suite } => {
                w.u8(ACCEPTED).and_then(|()| w.u64(session)).and_then(|()| w.u8(suite))
            }
            Self::Refused(refusal) => {
                let (reason, detail) = match refusal {
                    Refusal::Version { server } => (0, server),
                    Refusal::Application => (1, 0),
                    Refusal::Suite => (2, 0),
                    Refusal::Full => (3, 0),
                };
                w.u8(REFUSED).and_then(|()| w.u8(reason)).and_then(|()| w.u16(detail))
            }
        };
        debug_assert_eq!(written, Ok(()));
        payload
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let verdict = match r.u8()? {
            ACCEPTED => Self::Accepted { session: r.u64()?, suite: r.u8()? },
            REFUSED => {
                let verdict = Self::Refused(match (r.u8()?, r.u16()?) {
                    (0, server) => Refusal::Version { server },
                    (1, 0) => Refusal::Application,
                    (2, 0) => Refusal::Suite,
                    (3, 0) => Refusal::Full,
                    _ => return Err(Malformed::Value),
                });
                if r.array()? != [0; 6] {
                    return Err(Malformed::Value);
                }
                verdict
            }
            _ => return Err(Malformed::Value),
        };
        r.end()?;
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn the_lengths_are_those_of_the_tables() {
        assert_eq!((REQUEST_LEN, REPLY_LEN, HELLO_LEN), (1200, 59, 1103));
    }

    #[test]
    fn a_login_datagram_has_one_length_only() {
        for len in [0, 1, REQUEST_LEN - 1, REQUEST_LEN, REQUEST_LEN + 1] {
            let mut datagram = vec![0; len];
            if let Some(first) = datagram.first_mut() {
                *first = LOGIN_REQUEST;
            }
            assert_eq!(request(&datagram).is_ok(), len == REQUEST_LEN);
            assert!(reply(&datagram).is_err());
        }
    }

    #[test]
    fn the_common_suite_is_the_lowest_that_both_offer() {
        let list = |ids: &[u8]| SuiteList::new(ids).unwrap();
        assert_eq!(list(&[1, 2]).common(&list(&[2, 1])), Some(1));
        assert_eq!(list(&[1, 2]).common(&list(&[2])), Some(2));
        assert_eq!(list(&[1]).common(&list(&[2])), None);
        assert_eq!(list(&[]).common(&list(&[0])), None);
        assert_eq!(SuiteList::new(&[0; 9]), None);
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            (any::<u64>(), any::<u8>()).prop_map(|(session, suite)| Verdict::Accepted { session, suite }),
            any::<u16>().prop_map(|server| Verdict::Refused(Refusal::Version { server })),
            Just(Verdict::Refused(Refusal::Application)),
            Just(Verdict::Refused(Refusal::Suite)),
            Just(Verdict::Refused(Refusal::Full)),
        ]
    }

    proptest! {
        #[test]
        fn a_verdict_comes_back(verdict in verdict()) {
            let bytes = verdict.write();
            prop_assert_eq!(Verdict::read(&bytes), Ok(verdict));
            for len in 0..bytes.len() {
                prop_assert!(Verdict::read(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn a_verdict_that_is_read_is_written_the_same(bytes: [u8; VERDICT_LEN], first in 0u8..3, second in 0u8..5) {
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&[first, second]);
            if let Ok(verdict) = Verdict::read(&bytes) {
                prop_assert_eq!(verdict.write(), bytes);
            }
        }

        #[test]
        fn a_hello_comes_back(version: u16, app: u64, ids in proptest::collection::vec(any::<u8>(), 0..=SUITES_MAX)) {
            let hello = Hello { version, app, suites: SuiteList::new(&ids).unwrap() };
            let mut buf = [0; HELLO_LEN];
            let mut w = Writer::new(&mut buf);
            hello.write(&mut w).unwrap();
            let len = w.len();
            prop_assert_eq!(Hello::read(&buf), Ok(hello));
            for len in 0..len {
                prop_assert!(Hello::read(&buf[..len]).is_err());
            }
        }

        #[test]
        fn a_hello_survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(hello) = Hello::read(&bytes) {
                prop_assert!(hello.suites.as_slice().len() <= SUITES_MAX);
            }
        }
    }
}
