//! Login datagrams: what stands before and inside the two Noise messages, and what a server says before it reads either.
//!
//! | Request, exactly 1200 B | |
//! |---|---|
//! | 1 | type 0x81 |
//! | 4 | for which server key: the first bytes of its hash ([`KeyHint`]) |
//! | 16 | the cookie that a retry brought, else zeros |
//! | 32 + 48 | Noise IK message 1: ephemeral key, static key (encrypted) |
//! | 1083 + 16 | its payload (encrypted): version u16 · application u64 · count u8 · that many suite ids · length u16 · ticket · zeros |
//!
//! | Reply, exactly 59 B | |
//! |---|---|
//! | 1 | type 0x82 |
//! | 32 | Noise IK message 2: ephemeral key |
//! | 10 + 16 | its payload (encrypted): 0 · session u64 · suite u8, or 1 · reason u8 · detail u16 · zeros |
//!
//! | Retry, exactly 33 B | |
//! |---|---|
//! | 1 | type 0x84 |
//! | 16 | the first bytes of the request's ephemeral key: nobody knows them who did not see the request |
//! | 16 | a cookie, to be sent with the same request again |
//!
//! The request has the size of a full datagram, so that a path that does not carry those fails here and not later, and so
//! that a server that answers a forged source address sends a twentieth of what it got. All that follows the ticket is
//! reserved: this version sends zeros and ignores it, so that a later one may say more and still be understood by a server
//! that has to refuse it for its version. Hint and cookie stand outside the Noise message, so that a server can look at them
//! before any cryptography, and a client can put another cookie into the same request.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, NoRoom, Reader, Writer};
use super::header::{LOGIN_REPLY, LOGIN_REQUEST, LOGIN_RETRY, TAG_LEN};
use crate::event::TicketRefusal;
use core::fmt;

/// Length of a login request, in bytes: the size of datagram that every path has to carry.
pub(crate) const REQUEST_LEN: usize = 1200;
/// Length of a login reply, in bytes.
pub(crate) const REPLY_LEN: usize = 1 + KEY_LEN + VERDICT_LEN + TAG_LEN;
/// Length of a retry, in bytes.
pub(crate) const RETRY_LEN: usize = 1 + ECHO_LEN + COOKIE_LEN;
/// Length of a cookie, in bytes.
pub(crate) const COOKIE_LEN: usize = 16;
/// How much of a request's ephemeral key a retry repeats, in bytes.
const ECHO_LEN: usize = 16;
/// Length of a key's hint, in bytes.
pub(crate) const HINT_LEN: usize = 4;
/// Where a request's Noise message begins, in bytes.
pub(crate) const MESSAGE_OFFSET: usize = 1 + HINT_LEN + COOKIE_LEN;
/// Length of a request's Noise message, in bytes.
pub(crate) const MESSAGE_LEN: usize = REQUEST_LEN - MESSAGE_OFFSET;
/// Length of a request's payload in clear text, in bytes.
pub(crate) const HELLO_LEN: usize = MESSAGE_LEN - KEY_LEN - (KEY_LEN + TAG_LEN) - TAG_LEN;
/// Length of a reply's payload in clear text, in bytes.
pub(crate) const VERDICT_LEN: usize = 10;
/// Length of an X25519 public key, in bytes.
const KEY_LEN: usize = 32;
/// Suites that a client may offer; there are two.
pub(crate) const SUITES_MAX: usize = 8;

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// Which of a server's keys a request is for.
pub(crate) type KeyHint = [u8; HINT_LEN];
/// What proves that a request's sender receives at its address.
pub(crate) type Cookie = [u8; COOKIE_LEN];

/// A login request, taken apart. Nothing vouches for any of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) hint: KeyHint,
    /// `None` if there are only zeros.
    pub(crate) cookie: Option<Cookie>,
    /// It tells a request that was sent again from another one, before anything costly is done.
    pub(crate) ephemeral: &'a [u8; KEY_LEN],
    /// The Noise message; begins with the ephemeral key.
    pub(crate) message: &'a [u8; MESSAGE_LEN],
}

/// Takes a login request apart.
pub(crate) fn request(datagram: &[u8]) -> Result<Request<'_>, Malformed> {
    let all: &[u8; REQUEST_LEN - 1] = message(datagram, LOGIN_REQUEST)?;
    let (hint, rest) = all.split_first_chunk().ok_or(Malformed::Truncated)?;
    let (cookie, rest) = rest.split_first_chunk().ok_or(Malformed::Truncated)?;
    let message: &[u8; MESSAGE_LEN] = rest.try_into().map_err(|_| Malformed::Truncated)?;
    let ephemeral = message.first_chunk().ok_or(Malformed::Truncated)?;
    let cookie = Some(*cookie).filter(|cookie| *cookie != [0; COOKIE_LEN]);
    Ok(Request { hint: *hint, cookie, ephemeral, message })
}

/// Puts what stands before the Noise message into a request.
pub(crate) fn head(request: &mut [u8; REQUEST_LEN], hint: KeyHint, cookie: Cookie) {
    let head = [LOGIN_REQUEST].into_iter().chain(hint).chain(cookie);
    request.iter_mut().zip(head).for_each(|(to, from)| *to = from);
}

/// The Noise message in a login reply.
pub(crate) fn reply(datagram: &[u8]) -> Result<&[u8; REPLY_LEN - 1], Malformed> {
    message(datagram, LOGIN_REPLY)
}

/// A retry of the request with this ephemeral key.
pub(crate) fn write_retry(ephemeral: &[u8; KEY_LEN], cookie: Cookie) -> [u8; RETRY_LEN] {
    let mut datagram = [LOGIN_RETRY; RETRY_LEN];
    let rest = ephemeral.iter().copied().take(ECHO_LEN).chain(cookie);
    datagram.iter_mut().skip(1).zip(rest).for_each(|(to, from)| *to = from);
    datagram
}

/// The cookie in a retry, if it is one of this request.
pub(crate) fn read_retry(datagram: &[u8], of: &[u8; REQUEST_LEN]) -> Result<Cookie, Malformed> {
    let all: &[u8; RETRY_LEN - 1] = message(datagram, LOGIN_RETRY)?;
    let (echo, cookie) = all.split_first_chunk::<ECHO_LEN>().ok_or(Malformed::Truncated)?;
    if !request(of)?.ephemeral.starts_with(echo) {
        return Err(Malformed::Value);
    }
    cookie.try_into().map_err(|_| Malformed::Truncated)
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
pub(crate) struct Hello<'a> {
    /// The protocol version that it speaks.
    pub(crate) version: u16,
    /// The application that it belongs to.
    pub(crate) app: u64,
    /// The suites that it offers.
    pub(crate) suites: SuiteList,
    /// What a login server gave it; empty for none.
    pub(crate) ticket: &'a [u8],
}

impl<'a> Hello<'a> {
    pub(crate) fn write(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        w.u16(self.version)?;
        w.u64(self.app)?;
        w.u8(self.suites.len)?;
        w.bytes(self.suites.as_slice())?;
        w.u16(u16::try_from(self.ticket.len()).map_err(|_| NoRoom)?)?;
        w.bytes(self.ticket)
    }

    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let (version, app) = (r.u16()?, r.u64()?);
        let count = usize::from(r.u8()?);
        let suites = SuiteList::new(r.bytes(count)?).ok_or(Malformed::Value)?;
        let len = usize::from(r.u16()?);
        Ok(Self { version, app, suites, ticket: r.bytes(len)? })
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
    /// The server takes nobody in any more: it is about to stop.
    Draining,
    /// There is something wrong with the ticket.
    Ticket(TicketRefusal),
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
                    Refusal::Draining => (4, 0),
                    Refusal::Ticket(why) => (5, why.code()),
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
                    (4, 0) => Refusal::Draining,
                    (5, code) => Refusal::Ticket(TicketRefusal::from_code(code).ok_or(Malformed::Value)?),
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
        assert_eq!((REQUEST_LEN, REPLY_LEN, RETRY_LEN, HELLO_LEN), (1200, 59, 33, 1083));
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
    fn a_retry_is_taken_only_by_the_request_that_it_answers() {
        let mut sent = [9; REQUEST_LEN];
        head(&mut sent, [1; HINT_LEN], [0; COOKIE_LEN]);
        let parts = request(&sent).unwrap();
        assert_eq!((parts.hint, parts.cookie), ([1; HINT_LEN], None));
        let retry = write_retry(parts.ephemeral, [7; COOKIE_LEN]);
        assert_eq!(read_retry(&retry, &sent), Ok([7; COOKIE_LEN]));
        let mut other = sent;
        other[MESSAGE_OFFSET] ^= 1;
        assert_eq!(read_retry(&retry, &other), Err(Malformed::Value));
        assert_eq!(read_retry(&retry[..RETRY_LEN - 1], &sent), Err(Malformed::Truncated));
        head(&mut sent, [1; HINT_LEN], [7; COOKIE_LEN]);
        assert_eq!(request(&sent).unwrap().cookie, Some([7; COOKIE_LEN]));
        assert_eq!(request(&sent).unwrap().message, &[9; MESSAGE_LEN]);
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
            Just(Verdict::Refused(Refusal::Draining)),
            Just(Verdict::Refused(Refusal::Ticket(TicketRefusal::Expired))),
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
        fn a_verdict_that_is_read_is_written_the_same(bytes: [u8; VERDICT_LEN], first in 0u8..3, second in 0u8..7) {
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&[first, second]);
            if let Ok(verdict) = Verdict::read(&bytes) {
                prop_assert_eq!(verdict.write(), bytes);
            }
        }

        #[test]
        fn a_hello_comes_back(
            version: u16,
            app: u64,
            ids in proptest::collection::vec(any::<u8>(), 0..=SUITES_MAX),
            ticket in proptest::collection::vec(any::<u8>(), 0..=600),
        ) {
            let hello = Hello { version, app, suites: SuiteList::new(&ids).unwrap(), ticket: &ticket };
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
