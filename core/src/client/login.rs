//! Logging in: one request, the same bytes each time but for the cookie that the server may ask for, repeated until the reply
//! comes or the time is over.

use crate::config::{ClientConfig, check_suites};
use crate::entropy::Entropy;
use crate::event::LoginFailure;
use crate::ids::{SocketId, StreamId};
use crate::leg::Leg;
use crate::leg::client::Carrier;
use crate::link::{DATAGRAM, RelayLeg};
use crate::machine::{StreamInput, Wake};
use crate::outbox::{Outbox, Transmit};
use crate::path::Pace;
use crate::secure::{ClientLogin, Crypto, LoginError, LoginReply, RelayKey, Secret, SessionKey};
use crate::time::{Duration, Instant};
use crate::wire::login::{Hello, Refusal, SuiteList};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The version of the protocol that this code speaks.
pub(crate) const VERSION: u16 = 1;

/// The first repetition of the request comes after so long: thrice a usual round trip.
const FIRST_REPEAT: Duration = Duration::from_millis(150);

/// Later ones double up to this.
const LONGEST_REPEAT: Duration = Duration::from_millis(1_200);

/// So many retries are followed at once; more, which an honest server has no reason for, only with the next repetition. Who
/// sees the requests could otherwise have this client send as fast as it likes.
const PROMPT_RETRIES: u32 = 3;

/// Where repetition made the measured round trip ambiguous, the time since the last request is the least that it can be. It is
/// taken, within these bounds: too little costs a small packet or two before the first sample, too much (RFC 9002 §6.2.2 takes
/// 333 ms, so a lost confirmation would be repeated after 1, 3 and 5 s) may cost the login on the link that lost the request.
const LEAST_RTT: Duration = Duration::from_millis(100);
const ASSUMED_RTT: Duration = Duration::from_millis(333);

pub(super) struct Login {
    exchange: ClientLogin,
    key: Option<SessionKey>,
    next: Instant,
    repeat: Duration,
    deadline: Instant,
    /// How much time it has anew, once, from when a stream is open.
    by_stream: Option<Duration>,
    sent: u32,
    last_sent: Instant,
    /// Retries that may still be followed at once.
    retries: u32,
    /// TCP, where UDP is late.
    pub(super) carrier: Carrier,
}

/// What a reply came to.
pub(super) enum LoginStep {
    /// Not a valid reply.
    Ignore,
    Failed(LoginFailure),
    Done(Box<Start>),
}

/// What a session starts with.
pub(super) struct Start {
    pub(super) leg: RelayLeg,
    pub(super) crypto: Arc<dyn Crypto>,
    pub(super) secret: Secret,
    pub(super) key: SessionKey,
    pub(super) rtt: Duration,
}

/// The time for logging in is over.
pub(super) struct TimedOut;

impl Login {
    pub(super) fn new(now: Instant, config: &ClientConfig, entropy: &mut Entropy) -> Result<Self, LoginError> {
        debug_assert!(check_suites(&config.suites).is_ok());
        let key = SessionKey::new(entropy.keys());
        let ids: Vec<u8> = config.suites.iter().map(|s| s.id()).collect();
        let suites = SuiteList::new(&ids).ok_or(LoginError::Suite)?;
        let hello = Hello { version: VERSION, app: config.app, suites, ticket: &config.ticket };
        Ok(Self {
            exchange: ClientLogin::new(entropy.keys(), &key, &config.server_key, &hello)?,
            key: Some(key),
            next: now,
            repeat: FIRST_REPEAT,
            deadline: now + config.timers.handshake,
            by_stream: Some(config.timers.handshake),
            sent: 0,
            last_sent: now,
            retries: PROMPT_RETRIES,
            carrier: Carrier::new(now, config.server),
        })
    }

    pub(super) fn transmit(&mut self, now: Instant, config: &ClientConfig, out: &mut Outbox) -> Result<(), TimedOut> {
        if now >= self.deadline {
            return Err(TimedOut);
        }
        self.carrier.on_time(now, now, false);
        self.carrier.transmit(out);
        if now < self.next {
            return Ok(());
        }
        let request = self.exchange.request();
        let Some(space) = out.reserve(request.len().max(DATAGRAM)) else { return Ok(()) };
        space[..request.len()].copy_from_slice(request);
        out.commit(request.len(), Transmit::datagram(SocketId::MAIN, config.server));
        self.sent += 1;
        self.last_sent = now;
        self.next = now + self.repeat;
        self.repeat = (self.repeat * 2).min(LONGEST_REPEAT);
        Ok(())
    }

    /// The server wants to see that this client receives: the request goes again with its cookie. False if that was not
    /// an answer to it.
    pub(super) fn retry(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let taken = self.exchange.retry(datagram).is_ok();
        if taken && self.retries > 0 {
            self.retries -= 1;
            (self.sent, self.next, self.repeat) = (0, now, FIRST_REPEAT);
        }
        taken
    }

    /// Something happened to a stream. One that has just opened carries the same request once: TCP repeats it itself, after a
    /// second and then two, so a login that goes by it has its time from there on. A second stream adds nothing: a server that
    /// only accepts is given up.
    pub(super) fn on_stream(&mut self, now: Instant, id: StreamId, what: &StreamInput<'_>) {
        match what {
            StreamInput::Connected if self.carrier.on_connected(now, id) => {
                self.carrier.push_login(self.exchange.request());
                self.deadline = self.by_stream.take().map_or(self.deadline, |time| self.deadline.max(now + time));
            }
            StreamInput::Closed(_) => self.carrier.on_closed(now, id),
            StreamInput::Writable => self.carrier.on_writable(id),
            StreamInput::Connected | StreamInput::Accepted { .. } | StreamInput::Bytes(_) => {}
        }
    }

    pub(super) fn read(&mut self, now: Instant, by: Leg, datagram: &mut [u8], config: &ClientConfig) -> LoginStep {
        let (session, suite, secrets) = match self.exchange.read(datagram) {
            Err(_) => return LoginStep::Ignore,
            Ok(LoginReply::Refused(refusal)) => return LoginStep::Failed(failure(refusal)),
            Ok(LoginReply::Accepted { session, suite, secrets }) => (session, suite, secrets),
        };
        let crypto = config.suites.iter().find(|s| s.id() == suite).cloned();
        let (Some(crypto), Some(key)) = (crypto, self.key.take()) else {
            return LoginStep::Failed(LoginFailure::Suite);
        };
        let mut carrier = core::mem::replace(&mut self.carrier, Carrier::new(now, config.server));
        carrier.on_login(now, by);
        let waited = now.since(self.last_sent);
        let rtt = if self.sent == 1 { waited } else { waited.clamp(LEAST_RTT, ASSUMED_RTT) };
        let relay = RelayKey::from_secret(&secrets.relay);
        let leg = RelayLeg {
            session,
            key: relay,
            number: 0,
            server: config.server,
            pace: Pace::default(),
            home: SocketId::MAIN,
            carrier,
        };
        LoginStep::Done(Box::new(Start { leg, crypto, secret: secrets.link, key, rtt }))
    }

    pub(super) fn wake(&self) -> (Instant, Wake) {
        let carrier = self.carrier.wake(self.last_sent).unwrap_or(self.deadline);
        (self.next.min(self.deadline).min(carrier), Wake::Probe)
    }
}

fn failure(refusal: Refusal) -> LoginFailure {
    match refusal {
        Refusal::Version { server } => LoginFailure::Version { server },
        Refusal::Application => LoginFailure::Application,
        Refusal::Suite => LoginFailure::Suite,
        Refusal::Full => LoginFailure::ServerFull,
        Refusal::Draining => LoginFailure::Draining,
        Refusal::Ticket(why) => LoginFailure::Ticket(why),
    }
}
