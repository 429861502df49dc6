//! The last word of a link: the closing state of RFC 9000 §10.2.1, without the link.
//!
//! The word is sealed once. What is kept is that datagram alone: it is sent again after one, three and seven probe timeouts,
//! and whenever one, two, four, … datagrams came of the link that is over, so that an end that missed it hears it when it
//! speaks. It only ever goes to the address that the link had. Then nothing is left.

use crate::ids::SocketId;
use crate::outbox::{Outbox, Transmit};
use crate::time::{Duration, Instant};
use core::net::SocketAddr;

/// Bytes of the largest sealed CLOSE: header 13, frame 2 padded to 4, tag 16.
pub(crate) const MAX_LEN: usize = 40;
/// The state lasts so many probe timeouts (RFC 9000 §10.2), …
const PTOS: u32 = 3;
/// … but at least so long: the other end may be backing off, and asks again within a second in most cases, …
const LEAST: Duration = Duration::from_secs(1);
/// … and at most so long.
const MOST: Duration = Duration::from_secs(6);

/// Who was silent for too long is answered for so long: a client gives up 15 s after its server, and either may have heard the
/// other last by a keepalive's 10 s earlier.
const LISTEN: Duration = Duration::from_secs(30);

/// See the module's text.
pub(crate) struct Goodbye {
    datagram: [u8; MAX_LEN],
    len: usize,
    to: SocketAddr,
    pause: Duration,
    next: Instant,
    until: Instant,
    /// Datagrams since the last answer, and how many make the next.
    heard: u32,
    enough: u32,
    answer: bool,
}

impl Goodbye {
    /// `sealed` was sent to `to` just now. `pto`: the probe timeout of that path.
    pub(crate) fn new(now: Instant, sealed: &[u8], to: SocketAddr, pto: Duration) -> Self {
        let mut datagram = [0; MAX_LEN];
        let len = sealed.len().min(MAX_LEN);
        datagram.iter_mut().zip(sealed).for_each(|(to, from)| *to = *from);
        let until = now + pto.saturating_mul(PTOS).clamp(LEAST, MOST);
        Self { datagram, len, to, pause: pto, next: now + pto, until, heard: 0, enough: 1, answer: false }
    }

    /// Says it no more by itself, only to whom speaks: for an end that was silent for so long that its address may be
    /// another's by now.
    pub(crate) fn listening(self, now: Instant) -> Self {
        let until = now + LISTEN;
        Self { next: until, until, ..self }
    }

    /// A datagram of the link that is over came.
    pub(crate) fn hear(&mut self, from: SocketAddr) {
        if from != self.to {
            return;
        }
        self.heard = self.heard.saturating_add(1);
        if self.heard >= self.enough {
            (self.heard, self.enough, self.answer) = (0, self.enough.saturating_mul(2), true);
        }
    }

    pub(crate) fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        if now >= self.until || !(self.answer || now >= self.next) {
            return;
        }
        let Some(space) = out.reserve(self.len) else { return };
        space.iter_mut().zip(&self.datagram).for_each(|(to, from)| *to = *from);
        out.commit(self.len, Transmit::datagram(SocketId::MAIN, self.to));
        if !core::mem::take(&mut self.answer) {
            self.pause = self.pause.saturating_mul(2);
            self.next = now + self.pause;
        }
    }

    /// Nothing is to be said any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    pub(crate) fn wake(&self) -> Instant {
        if self.answer { Instant::ZERO } else { self.next.min(self.until) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const PTO: Duration = Duration::from_millis(100);

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    fn to() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 4000))
    }

    fn sent(goodbye: &mut Goodbye, now: Instant) -> usize {
        let mut out = Outbox::with_capacity(1200, 4);
        goodbye.transmit(now, &mut out);
        assert!(out.sends().all(|(t, b)| b == [7; 33] && *t == Transmit::datagram(SocketId::MAIN, to())));
        out.sends().count()
    }

    #[test]
    fn it_is_said_again_with_growing_pauses_and_then_forgotten() {
        let mut goodbye = Goodbye::new(ms(0), &[7; 33], to(), PTO);
        let mut at = Vec::new();
        while !goodbye.is_over(goodbye.wake()) {
            let now = goodbye.wake();
            at.extend((0..sent(&mut goodbye, now)).map(|_| now));
        }
        assert_eq!(at, [ms(100), ms(300), ms(700)]);
        assert_eq!(goodbye.wake(), ms(1000));
        assert_eq!(sent(&mut goodbye, ms(1000)), 0);
    }

    proptest! {
        #[test]
        fn who_goes_on_talking_is_answered_ever_more_rarely_and_nobody_else(n in 0u32..2000, stranger in any::<u16>()) {
            let mut goodbye = Goodbye::new(ms(0), &[7; 33], to(), PTO);
            let mut answers = 0;
            for _ in 0..n {
                goodbye.hear(SocketAddr::from(([192, 0, 2, 2], stranger)));
                prop_assert_eq!(sent(&mut goodbye, ms(1)), 0);
                goodbye.hear(to());
                answers += sent(&mut goodbye, ms(1));
            }
            // 1 + 2 + 4 + … datagrams for so many answers.
            prop_assert_eq!(answers as u32, (n + 1).ilog2());
        }
    }
}
