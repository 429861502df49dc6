//! Login: one request, one reply, and both ends share a session's secrets.
//!
//! The handshake is Noise IK: the client knows the server's static key beforehand, and brings a static key of its own,
//! fresh each session, under which its peers will know it. After the two messages all that is kept is what
//! [`LoginSecrets`] holds, derived from both of Noise's keys and from the hash of the whole handshake, so that every byte
//! of either message is part of every key.
//!
//! **Sent again.** A client sends the same bytes until an answer comes. [`ServerLogin`] keeps nothing between calls and
//! draws a fresh ephemeral key at each: a second answer to the same request leads to *other* secrets. Whoever keeps the
//! sessions therefore keeps the reply beside each (59 B), finds it by the request's ephemeral key
//! (the first field of its message), which costs no cryptography, and sends it again. A request that was recorded and is
//! replayed later makes a session that nobody can use, and costs what an honest login costs; the client's static key tells
//! whether that session is alive already. A deterministic answer would spare all that, but whoever got hold of the
//! server's key could then compute the ephemeral keys of the past.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::key_text::hint;
use super::noise;
use super::secret::{Secret, public_key};
use super::session::SessionKey;
use crate::entropy::KeyStream;
use crate::wire::buf::{Malformed, Writer};
use crate::wire::header::LOGIN_REPLY;
use crate::wire::login::{
    COOKIE_LEN, HELLO_LEN, Hello, KeyHint, MESSAGE_OFFSET, REPLY_LEN, REQUEST_LEN, Refusal, SuiteList, VERDICT_LEN,
    Verdict, head, read_retry, reply, request,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use snow::HandshakeState;
use thiserror::Error;
use zeroize::Zeroizing;

/// Sets this handshake apart from every other use of Noise, and one layout of the login from another.
const PROLOGUE: &[u8] = b"posse login 1";

/// Why a login datagram was not made or not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum LoginError {
    /// Not a login datagram, or authentic and yet not one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Forged or damaged.
    #[error("not authentic")]
    Forged,
    /// Meant for a server key that this server has not got.
    #[error("for another server key")]
    OtherKey,
    /// A public key of low order.
    #[error("the public key has low order")]
    LowOrder,
    /// The server chose a suite that was not offered.
    #[error("the server chose a suite that was not offered")]
    Suite,
    /// The login was answered before.
    #[error("answered before")]
    Over,
    /// The buffer for the reply is too small.
    #[error("no room in the buffer")]
    NoRoom,
}

impl From<snow::Error> for LoginError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Dh => Self::LowOrder,
            snow::Error::State(_) => Self::Over,
            _ => Self::Forged,
        }
    }
}

/// What a session rests on.
#[derive(Clone, Debug)]
pub(crate) struct LoginSecrets {
    /// For the packets between client and server.
    pub(crate) link: Secret,
    /// For what the client sends through the server's relay.
    pub(crate) relay: Secret,
}

impl LoginSecrets {
    fn new(noise: &mut HandshakeState) -> Self {
        let (mut first, mut second) = noise.dangerously_get_raw_split();
        let mut material = Zeroizing::new([0; 64]);
        for (to, from) in material.iter_mut().zip(first.iter().chain(&second)) {
            *to = *from;
        }
        zeroize::Zeroize::zeroize(&mut first);
        zeroize::Zeroize::zeroize(&mut second);
        let root = Secret::extract(noise.get_handshake_hash(), &*material);
        Self { link: root.derive(&[b"login link"]), relay: root.derive(&[b"login relay"]) }
    }
}

/// What the server said.
#[derive(Clone, Debug)]
pub(crate) enum LoginReply {
    /// There is a session.
    Accepted {
        /// Its id.
        session: u64,
        /// Its suite.
        suite: u8,
        /// Its secrets.
        secrets: LoginSecrets,
    },
    /// There is none.
    Refused(Refusal),
}

/// A client's login under way.
pub(crate) struct ClientLogin {
    noise: HandshakeState,
    suites: SuiteList,
    hint: KeyHint,
    request: Box<[u8; REQUEST_LEN]>,
}

impl ClientLogin {
    /// Begins a login with the server whose public key is `server_key`. Fails only if that has low order.
    pub(crate) fn new(
        keys: &mut KeyStream,
        key: &SessionKey,
        server_key: &[u8; 32],
        hello: &Hello<'_>,
    ) -> Result<Self, LoginError> {
        let mut noise = noise::initiator(PROLOGUE, key.secret(), server_key, &keys.draw())?;
        let mut payload = [0; HELLO_LEN];
        hello.write(&mut Writer::new(&mut payload)).map_err(|_| LoginError::NoRoom)?;
        let mut request = Box::new([0; REQUEST_LEN]);
        let hint = hint(server_key);
        head(&mut request, hint, [0; COOKIE_LEN]);
        noise.write_message(&payload, request.get_mut(MESSAGE_OFFSET..).ok_or(LoginError::NoRoom)?)?;
        Ok(Self { noise, suites: hello.suites, hint, request })
    }

    /// The datagram to send until it is answered.
    pub(crate) fn request(&self) -> &[u8] {
        self.request.as_slice()
    }

    /// Takes a retry in: the request carries its cookie from now on.
    pub(crate) fn retry(&mut self, datagram: &[u8]) -> Result<(), LoginError> {
        let cookie = read_retry(datagram, &self.request)?;
        head(&mut self.request, self.hint, cookie);
        Ok(())
    }

    /// Takes a reply in. Whatever is not the server's is an error and leaves the login as it was; the server's own first
    /// word ends it.
    pub(crate) fn read(&mut self, datagram: &[u8]) -> Result<LoginReply, LoginError> {
        let mut payload = [0; VERDICT_LEN];
        self.noise.read_message(reply(datagram)?, &mut payload)?;
        match Verdict::read(&payload)? {
            Verdict::Accepted { suite, .. } if !self.suites.contains(suite) => Err(LoginError::Suite),
            Verdict::Accepted { session, suite } => {
                Ok(LoginReply::Accepted { session, suite, secrets: LoginSecrets::new(&mut self.noise) })
            }
            Verdict::Refused(refusal) => Ok(LoginReply::Refused(refusal)),
        }
    }
}

impl fmt::Debug for ClientLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLogin").field("suites", &self.suites).finish_non_exhaustive()
    }
}

/// A server's side of all logins: its static keys.
pub(crate) struct ServerLogin {
    keys: Vec<ServerKey>,
}

struct ServerKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    hint: KeyHint,
}

/// What a client says and shows.
pub(crate) struct Asked<'a> {
    /// The public key of the server that it used.
    pub(crate) server_key: [u8; 32],
    /// What it says of itself.
    pub(crate) hello: Hello<'a>,
}

/// A login that was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Length of the reply that was written, in bytes; smaller than the request.
    pub(crate) len: usize,
    /// The client's static key of this session. The client has proved that it holds the private one only once a packet of
    /// the session comes: a request may be a replay.
    pub(crate) client_key: [u8; 32],
    /// The session's secrets, if it was accepted.
    pub(crate) accepted: Option<LoginSecrets>,
}

impl ServerLogin {
    /// With two keys at a time, clients may be given another one in peace.
    pub(crate) fn new<'k>(secrets: impl IntoIterator<Item = &'k [u8; 32]>) -> Self {
        let key = |secret: &[u8; 32]| {
            let public = public_key(secret);
            ServerKey { secret: Zeroizing::new(*secret), public, hint: hint(&public) }
        };
        Self { keys: secrets.into_iter().map(key).collect() }
    }

    /// Whether a request with this hint may be one for this server.
    pub(crate) fn has(&self, hint: KeyHint) -> bool {
        self.keys.iter().any(|key| key.hint == hint)
    }

    /// Answers the login request in `datagram`: `decide` is told what the client says and shows, and gives the session's
    /// id and suite, or the reason against one. The reply is written to `out`.
    pub(crate) fn answer(
        &self,
        keys: &mut KeyStream,
        datagram: &[u8],
        out: &mut [u8],
        decide: impl FnOnce(&Asked<'_>) -> Result<(u64, u8), Refusal>,
    ) -> Result<Answer, LoginError> {
        let request = request(datagram)?;
        let out = out.first_chunk_mut::<REPLY_LEN>().ok_or(LoginError::NoRoom)?;
        let key = self.keys.iter().find(|key| key.hint == request.hint).ok_or(LoginError::OtherKey)?;
        let mut noise = noise::responder(PROLOGUE, &key.secret, &keys.draw())?;
        let mut payload = [0; HELLO_LEN];
        noise.read_message(request.message, &mut payload)?;
        let hello = Hello::read(&payload)?;
        let client_key = *noise.get_remote_static().and_then(<[u8]>::first_chunk).ok_or(LoginError::Forged)?;
        let verdict = match decide(&Asked { server_key: key.public, hello }) {
            Ok((session, suite)) => Verdict::Accepted { session, suite },
            Err(refusal) => Verdict::Refused(refusal),
        };
        let [first, message @ ..] = out;
        *first = LOGIN_REPLY;
        noise.write_message(&verdict.write(), message)?;
        let accepted = matches!(verdict, Verdict::Accepted { .. }).then(|| LoginSecrets::new(&mut noise));
        Ok(Answer { len: REPLY_LEN, client_key, accepted })
    }
}

impl fmt::Debug for ServerLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerLogin(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::secure::public_key;
    use crate::wire::login::SuiteList;

    const SERVER: [u8; 32] = [5; 32];

    struct Ends {
        client_keys: Entropy,
        server_keys: Entropy,
        key: SessionKey,
        server: ServerLogin,
        hello: Hello<'static>,
    }

    fn ends() -> Ends {
        let mut client_keys = Entropy::new(&[1; 32]);
        Ends {
            key: SessionKey::new(client_keys.keys()),
            client_keys,
            server_keys: Entropy::new(&[2; 32]),
            server: ServerLogin::new([&SERVER]),
            hello: Hello { version: 1, app: 77, suites: SuiteList::new(&[1, 2]).unwrap(), ticket: b"let me in" },
        }
    }

    impl Ends {
        fn login(&mut self) -> ClientLogin {
            ClientLogin::new(self.client_keys.keys(), &self.key, &public_key(&SERVER), &self.hello).unwrap()
        }

        fn answer(
            &mut self,
            datagram: &[u8],
            verdict: Result<(u64, u8), Refusal>,
        ) -> Result<(Answer, [u8; REPLY_LEN]), LoginError> {
            let mut out = [0; REPLY_LEN];
            self.server.answer(self.server_keys.keys(), datagram, &mut out, |_| verdict).map(|answer| (answer, out))
        }
    }

    #[test]
    fn both_ends_share_the_secrets_of_a_login() {
        let mut ends = ends();
        let mut login = ends.login();
        assert_eq!(login.request().len(), 1200);
        let mut seen = None;
        let mut out = [0; 1200];
        let answer = ends
            .server
            .answer(ends.server_keys.keys(), login.request(), &mut out, |asked| {
                assert_eq!(asked.hello, ends.hello);
                seen = Some(asked.server_key);
                Ok((99, 2))
            })
            .unwrap();
        assert_eq!(seen, Some(public_key(&SERVER)));
        assert_eq!(answer.client_key, ends.key.public());
        assert!(answer.len < login.request().len());
        let server = answer.accepted.unwrap();
        let Ok(LoginReply::Accepted { session: 99, suite: 2, secrets }) = login.read(&out[..answer.len]) else {
            panic!()
        };
        assert_eq!(secrets.link.bytes(), server.link.bytes());
        assert_eq!(secrets.relay.bytes(), server.relay.bytes());
        assert_ne!(secrets.relay.bytes(), secrets.link.bytes());
    }

    #[test]
    fn a_refusal_comes_through_and_leaves_no_secrets() {
        for refusal in [Refusal::Version { server: 9 }, Refusal::Application, Refusal::Suite, Refusal::Full] {
            let mut ends = ends();
            let mut login = ends.login();
            let (answer, reply) = ends.answer(login.request(), Err(refusal)).unwrap();
            assert!(answer.accepted.is_none());
            assert!(matches!(login.read(&reply), Ok(LoginReply::Refused(r)) if r == refusal));
        }
    }

    #[test]
    fn the_request_is_the_same_however_often_it_is_asked_for_and_every_login_has_another() {
        let mut ends = ends();
        let login = ends.login();
        assert_eq!(login.request(), login.request());
        assert_ne!(ends.login().request(), login.request());
    }

    #[test]
    fn a_request_answered_twice_leads_to_other_secrets() {
        let mut ends = ends();
        let login = ends.login();
        let (first, _) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        let (second, _) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        assert_ne!(first.accepted.unwrap().link.bytes(), second.accepted.unwrap().link.bytes());
        assert_eq!(first.client_key, second.client_key);
    }

    #[test]
    fn a_login_is_answered_once() {
        let mut ends = ends();
        let mut login = ends.login();
        let (_, first) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        let (_, second) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        assert!(login.read(&second).is_ok());
        assert_eq!(login.read(&first).err(), Some(LoginError::Over));
        assert_eq!(login.read(&second).err(), Some(LoginError::Over));
    }

    #[test]
    fn a_damaged_request_is_an_error_wherever_the_damage_is() {
        let mut ends = ends();
        let login = ends.login();
        // What stands before the Noise message is the cookie's, which whoever gave it out checks.
        for at in (0..REQUEST_LEN).filter(|at| !(5..MESSAGE_OFFSET).contains(at)) {
            let mut request: [u8; REQUEST_LEN] = login.request().try_into().unwrap();
            request[at] ^= 1 << (at % 8);
            // X25519 ignores the top bit of a public key, but the handshake's hash does not.
            assert!(ends.answer(&request, Ok((1, 1))).is_err(), "byte {at}");
        }
        for len in 0..REQUEST_LEN {
            let error = ends.answer(&login.request()[..len], Ok((1, 1))).err();
            assert_eq!(error, Some(LoginError::Malformed(Malformed::Truncated)), "length {len}");
        }
        let longer = [login.request(), &[0]].concat();
        assert_eq!(ends.answer(&longer, Ok((1, 1))).err(), Some(LoginError::Malformed(Malformed::Trailing)));
    }

    #[test]
    fn a_damaged_reply_is_an_error_and_the_true_one_still_counts() {
        let mut ends = ends();
        let mut login = ends.login();
        let (answer, reply) = ends.answer(login.request(), Ok((99, 1))).unwrap();
        for at in 0..8 * REPLY_LEN {
            let mut damaged = reply;
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(login.read(&damaged).is_err(), "bit {at}");
        }
        for len in 0..REPLY_LEN {
            assert!(login.read(&reply[..len]).is_err(), "length {len}");
        }
        assert!(login.read(&[&reply[..], &[0]].concat()).is_err());
        let Ok(LoginReply::Accepted { session: 99, secrets, .. }) = login.read(&reply) else { panic!() };
        assert_eq!(secrets.link.bytes(), answer.accepted.unwrap().link.bytes());
    }

    #[test]
    fn a_reply_to_another_login_or_from_another_server_is_not_authentic() {
        let mut ends = ends();
        let (mut login, other) = (ends.login(), ends.login());
        let (_, reply) = ends.answer(other.request(), Ok((1, 1))).unwrap();
        assert_eq!(login.read(&reply).err(), Some(LoginError::Forged));
        ends.server = ServerLogin::new([&[6; 32]]);
        assert_eq!(ends.answer(login.request(), Ok((1, 1))).err(), Some(LoginError::OtherKey));
    }

    #[test]
    fn a_server_with_two_keys_answers_under_the_one_that_the_client_knows() {
        let mut ends = ends();
        ends.server = ServerLogin::new([&[6; 32], &SERVER]);
        let mut login = ends.login();
        let (_, reply) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        assert!(login.read(&reply).is_ok());
    }

    #[test]
    fn a_cookie_changes_nothing_of_the_login_itself() {
        let mut ends = ends();
        let mut login = ends.login();
        let first = login.request().to_vec();
        let retry = crate::wire::login::write_retry(request(&first).unwrap().ephemeral, [3; COOKIE_LEN]);
        assert_eq!(login.retry(&retry), Ok(()));
        let parts = request(login.request()).unwrap();
        assert_eq!((parts.cookie, parts.message), (Some([3; COOKIE_LEN]), request(&first).unwrap().message));
        let (_, reply) = ends.answer(login.request(), Ok((1, 1))).unwrap();
        assert!(login.read(&reply).is_ok());
    }

    #[test]
    fn a_suite_that_was_not_offered_is_refused_by_the_client() {
        let mut ends = ends();
        let mut login = ends.login();
        let (_, reply) = ends.answer(login.request(), Ok((1, 3))).unwrap();
        assert_eq!(login.read(&reply).err(), Some(LoginError::Suite));
    }

    #[test]
    fn keys_of_low_order_are_refused() {
        let mut ends = ends();
        for point in [[0; 32], core::array::from_fn(|i| u8::from(i == 0))] {
            let login = ClientLogin::new(ends.client_keys.keys(), &ends.key, &point, &ends.hello);
            assert_eq!(login.err(), Some(LoginError::LowOrder));
            let mut request: [u8; REQUEST_LEN] = ends.login().request().try_into().unwrap();
            request[MESSAGE_OFFSET..][..32].copy_from_slice(&point);
            assert_eq!(ends.answer(&request, Ok((1, 1))).err(), Some(LoginError::LowOrder));
        }
    }

    #[test]
    fn a_buffer_too_small_for_the_reply_is_an_error() {
        let mut ends = ends();
        let login = ends.login();
        let answer =
            ends.server.answer(ends.server_keys.keys(), login.request(), &mut [0; REPLY_LEN - 1], |_| Ok((1, 1)));
        assert_eq!(answer.err(), Some(LoginError::NoRoom));
    }
}
