//! The TCP leg: the same sealed packets between client and server inside a byte stream, for where UDP does not pass.
//!
//! A *leg* is how packets travel between a client and its server. There is always the UDP leg; where UDP is blocked or dies,
//! the client opens a TCP connection to the same port number and everything that would go to the server's address goes
//! into it instead: the login, packets of the server link, and packets for the relay. Sealing, numbers and frames are those of
//! path 0, so nothing above notices a switch, and messages that were half sent go on on the other leg.
//!
//! - [`frame`]: datagrams in a stream, each behind its length.
//! - [`queue`]: what waits for a stream. A driver holds one frame at most; the rest is here, where it is bounded.
//! - [`client`]: when to connect, to switch, to go back. Only clients decide; a LEG frame tells the server.
//! - [`streams`]: a server's streams, and whose they are.
//!
//! # Timers
//!
//! One table for both legs, login included:
//!
//! | What | Time | Why |
//! |---|---|---|
//! | TCP joins the race for the login | [`RACE_AFTER`] | RFC 8305 §8 recommends 250 ms between attempts; most answers come sooner |
//! | a second connection races one that is not open | [`SECOND_AFTER`] | TCP repeats a SYN after 1, 3 and 7 s (RFC 6298): a new one is asked for in between |
//! | a second connection races one that is silent | [`STALLED`] | longer than two retransmissions of TCP, after 1 s and 2 s more; the next wait is as long as all so far |
//! | a connection that does not open is given up | [`CONNECT_PATIENCE`] | a SYN repeated after 1, 3 and 7 s (RFC 6298) has had a second to be answered |
//! | wait before another connection | [`RETRY_FIRST`], doubling to [`RETRY_LONGEST`] | a server without TCP is not pestered |
//! | UDP is in doubt | [`DOUBT_TIMEOUTS`] probe timeouts in a row | one is often a single loss |
//! | UDP is tried again from the TCP leg | [`RETURN_FIRST`], doubling to [`RETURN_LONGEST`] | most outages are short; one that is not costs a small packet now and then |
//! | answers in a row that bring UDP back | [`RETURN_ANSWERS`], [`RETURN_SPACING`] apart | 5 % loss passes, a flicker does not |
//! | a stream without a session is closed | the login's own time | |
//! | a stream that is not needed any more is closed | [`LINGER`] | UDP may fail again at once |
//! | the TCP leg is silent | [`SILENCE`] | longer than two retransmissions of TCP |

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod queue;
pub(crate) mod streams;
#[cfg(test)]
mod tests;

use crate::time::Duration;

/// How packets travel between a client and its server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Leg {
    /// In datagrams.
    Udp,
    /// In a TCP connection to the same port number.
    Tcp,
}

/// Why a leg is in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum LegReason {
    /// The server does not answer over UDP, or its answers do not come through.
    UdpSilent,
    /// The server answers over UDP again.
    UdpReturned,
    /// The TCP connection broke, or stood still for too long.
    StreamLost,
}

/// TCP joins the race for the login after so long without an answer over UDP.
pub(crate) const RACE_AFTER: Duration = Duration::from_millis(300);
/// A connection that does not open is given up after so long.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
/// A second connection is begun beside one that has not opened after so long.
pub(crate) const SECOND_AFTER: Duration = Duration::from_secs(2);
/// A second connection is begun beside one that was silent for so long while something waits for it.
pub(crate) const STALLED: Duration = Duration::from_secs(4);
/// The first wait before another connection, and the longest.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);
pub(crate) const RETRY_LONGEST: Duration = Duration::from_secs(16);
/// Probe timeouts in a row that cast doubt on UDP.
pub(crate) const DOUBT_TIMEOUTS: u32 = 2;
/// The first wait before UDP is tried again, and the longest.
pub(crate) const RETURN_FIRST: Duration = Duration::from_secs(2);
pub(crate) const RETURN_LONGEST: Duration = Duration::from_secs(32);
/// Answers in a row over UDP that bring it back, and the time between two questions.
pub(crate) const RETURN_ANSWERS: u32 = 3;
pub(crate) const RETURN_SPACING: Duration = Duration::from_millis(200);
/// A stream that is not needed is kept open for so long.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// The server's silence that ends a stream while something waits for it.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
