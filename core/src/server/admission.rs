//! Which login requests are read at all, and who is told to come again: before any costly cryptography, and without
//! remembering anybody.
//!
//! Below a set rate all are. Above it the source of a request has to show that it is one: the server answers with a *cookie*,
//! a MAC over the request's source address and ephemeral key under a key that it draws anew each minute, and forgets the
//! request; who receives at that address sends it again with the cookie (RFC 9000 §8.1.2; the cookie of RFC 6347 §4.2.1).
//! A request that came through a TCP connection needs none, as that has shown the same. A
//! flood from forged addresses then costs one MAC a datagram and no memory at all. Requests with a cookie have rates
//! of their own, in all, by source and by prefix ([`crate::config::Admission`]), so that the flood takes nothing from them.

use crate::config::Admission as Rates;
use crate::entropy::{KeyStream, SeededState};
use crate::event::LoginRefusal;
use crate::meter::{Meter, Meters};
use crate::relay::Reach;
use crate::time::{Duration, Instant};
use crate::wire::login::{Cookie, Request};
use core::hash::{BuildHasher as _, Hasher as _};
use core::net::{IpAddr, SocketAddr};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use zeroize::Zeroizing;

/// Cookies are asked for until so long after the last request that was one too many: as long as a login may take, so that
/// who has begun one finds the same rules at its end.
const HOLD: Duration = Duration::from_secs(5);
/// A cookie key is drawn so often and is good for one such time more: many times what a login takes, and short for whoever
/// collects cookies.
const COOKIE_KEY_AGE: Duration = Duration::from_secs(60);

/// Logins that came to nothing before the application heard of them, by cause: datagrams each, since construction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoginCounters {
    /// Told to come again with a cookie.
    pub retried: u64,
    /// With a cookie, but more than their source may send.
    pub over_source: u64,
    /// With a cookie, but more than their prefix may send.
    pub over_prefix: u64,
    /// With a cookie, but more than are read in all.
    pub over_all: u64,
    /// For a server key that this server has not got.
    pub other_key: u64,
    /// Not a login, or not authentic.
    pub forged: u64,
    /// Refused for their version of the protocol.
    pub version: u64,
    /// Refused as being of another application.
    pub application: u64,
    /// Refused for want of a common cipher suite.
    pub suite: u64,
    /// Refused as the server is full, or too many log in at a time.
    pub full: u64,
    /// Refused as the server takes nobody in any more.
    pub draining: u64,
    /// Refused for their ticket.
    pub ticket: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is read.
    Read,
    /// It has to come again with this.
    Retry(Cookie),
    /// It is dropped.
    Drop,
}

/// See the module's text.
pub(super) struct Admission {
    rates: Rates,
    unproven: Meter,
    proven: Meter,
    /// Of sources that have not shown that they are: kept apart, so that nobody uses up another's rate by forging it.
    claimed: Meters,
    sources: Meters,
    prefixes: Meters,
    hasher: SeededState,
    /// Until when everybody needs a cookie.
    strained_until: Instant,
    cookies: Cookies,
    pub(super) counters: LoginCounters,
    /// What the application is to hear: why, from where, how many; one a kind of reason.
    news: [Option<(LoginRefusal, SocketAddr, u64)>; KINDS],
    /// Nobody is let in any more.
    pub(super) draining: bool,
}

/// Kinds of [`LoginRefusal`].
const KINDS: usize = 6;

impl Admission {
    pub(super) fn new(rates: Rates, hasher: SeededState) -> Self {
        Self {
            rates,
            unproven: Meter::default(),
            proven: Meter::default(),
            claimed: Meters::new(),
            sources: Meters::new(),
            prefixes: Meters::new(),
            hasher,
            strained_until: Instant::ZERO,
            cookies: Cookies::default(),
            counters: LoginCounters::default(),
            news: [None; KINDS],
            draining: false,
        }
    }

    /// Judges a request that is not one of a present session, and counts the verdict.
    pub(super) fn judge(&mut self, now: Instant, from: Reach, request: &Request<'_>, keys: &mut KeyStream) -> Verdict {
        // TCP's handshake has shown already that whoever is there receives (RFC 9293 §3.5).
        let by_stream = matches!(from, Reach::Stream(..));
        let from = from.addr();
        let [source, prefix] = networks(from.ip()).map(|network| self.hasher.hash_one(network));
        let here = from.ip().is_loopback();
        if by_stream || self.cookies.check(now, from, request) {
            let over = match () {
                () if !here && !self.sources.take(now, source, self.rates.source) => &mut self.counters.over_source,
                () if !here && !self.prefixes.take(now, prefix, self.rates.prefix) => &mut self.counters.over_prefix,
                () if !self.proven.take(now, self.rates.proven) => &mut self.counters.over_all,
                () => return Verdict::Read,
            };
            *over = over.saturating_add(1);
            return Verdict::Drop;
        }
        self.strained_until = self.strained_until.min(now + HOLD);
        let many = !here && !self.claimed.take(now, source, self.rates.source);
        // One that is over its own rate is no reason to have others prove themselves.
        if !many && !self.unproven.take(now, self.rates.unproven) {
            self.strained_until = now + HOLD;
        }
        if !many && now >= self.strained_until {
            return Verdict::Read;
        }
        self.counters.retried = self.counters.retried.saturating_add(1);
        Verdict::Retry(self.cookies.bake(now, from, request, keys))
    }

    /// Counts a refusal of a request that was read. Its kind, if that is news of which none waits to be polled.
    pub(super) fn refused(&mut self, why: LoginRefusal, from: SocketAddr) -> Option<usize> {
        let counters = &mut self.counters;
        let (kind, counter) = match why {
            LoginRefusal::Version { .. } => (0, &mut counters.version),
            LoginRefusal::Application { .. } => (1, &mut counters.application),
            LoginRefusal::Suite => (2, &mut counters.suite),
            LoginRefusal::Full => (3, &mut counters.full),
            LoginRefusal::Draining => (4, &mut counters.draining),
            LoginRefusal::Ticket(_) => (5, &mut counters.ticket),
        };
        *counter = counter.saturating_add(1);
        let news = self.news.get_mut(kind)?;
        let before = news.map_or(0, |(_, _, count)| count);
        *news = Some((why, from, before.saturating_add(1)));
        (before == 0).then_some(kind)
    }

    /// The news of a kind, once.
    pub(super) fn take_news(&mut self, kind: usize) -> Option<(LoginRefusal, SocketAddr, u64)> {
        self.news.get_mut(kind)?.take()
    }
}

/// What counts as one source, and as one prefix: the address with the rest masked away.
fn networks(ip: IpAddr) -> [u128; 2] {
    match ip.to_canonical() {
        // Apart from every IPv6 address that is in use.
        IpAddr::V4(ip) => [u32::MAX, 0xffff_ff00].map(|mask| u128::from(ip.to_bits() & mask)),
        IpAddr::V6(ip) => [64, 80].map(|shift| ip.to_bits() >> shift << shift | 1),
    }
}

/// Bakes cookies and knows its own again.
#[derive(Default)]
struct Cookies {
    /// The key in use, and the one before; none before the first cookie.
    keys: [Option<Zeroizing<[u8; 16]>>; 2],
    /// Since when the first is in use.
    since: Instant,
}

impl Cookies {
    fn bake(&mut self, now: Instant, from: SocketAddr, request: &Request<'_>, stream: &mut KeyStream) -> Cookie {
        self.age(now);
        let key = self.keys[0].get_or_insert_with(|| {
            self.since = now;
            let mut key = Zeroizing::new([0; 16]);
            key.iter_mut().zip(stream.draw().iter()).for_each(|(to, from)| *to = *from);
            key
        });
        mac(key, from, request)
    }

    fn check(&mut self, now: Instant, from: SocketAddr, request: &Request<'_>) -> bool {
        let Some(cookie) = request.cookie else { return false };
        self.age(now);
        let cookie = u128::from_be_bytes(cookie);
        // One comparison of numbers each: it takes the same time whatever the difference.
        self.keys.iter().flatten().any(|key| u128::from_be_bytes(mac(key, from, request)) ^ cookie == 0)
    }

    /// Retires keys that are too old.
    fn age(&mut self, now: Instant) {
        let age = now.since(self.since);
        if age >= COOKIE_KEY_AGE * 2 {
            self.keys = [None, None];
        } else if age >= COOKIE_KEY_AGE && self.keys[0].is_some() {
            let retired = self.keys[0].take();
            self.keys[1] = retired;
        }
    }
}

fn mac(key: &[u8; 16], from: SocketAddr, request: &Request<'_>) -> Cookie {
    let mut hasher = SipHasher24::new_with_key(key);
    let ip = match from.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    hasher.write(&ip.octets());
    hasher.write(&from.port().to_be_bytes());
    hasher.write(request.ephemeral);
    hasher.finish128().as_u128().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;
    use crate::entropy::Entropy;
    use crate::wire::login::{self, REQUEST_LEN};
    use std::vec::Vec;

    struct Gate {
        admission: Admission,
        entropy: Entropy,
    }

    fn gate(rates: Rates) -> Gate {
        let entropy = Entropy::new(&[1; 32]);
        Gate { admission: Admission::new(rates, entropy.hasher("admission")), entropy }
    }

    impl Gate {
        fn judge(&mut self, now: Instant, from: SocketAddr, n: u32, cookie: Cookie) -> Verdict {
            let mut datagram = [0; REQUEST_LEN];
            login::head(&mut datagram, [0; 4], cookie);
            datagram[login::MESSAGE_OFFSET..][..4].copy_from_slice(&n.to_be_bytes());
            self.admission.judge(now, from.into(), &login::request(&datagram).unwrap(), self.entropy.keys())
        }
    }

    fn at(n: u32, port: u16) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), port))
    }

    fn ms(n: u64) -> Instant {
        Instant::from_millis(1_000_000 + n)
    }

    const NONE: Cookie = [0; 16];

    #[test]
    fn above_the_rate_everybody_needs_a_cookie_until_the_flood_is_over() {
        let mut gate = gate(Rates { unproven: Rate { per_second: 10, burst: 5 }, ..Rates::default() });
        let read = |gate: &mut Gate, now, n| gate.judge(now, at(n << 8, 1), n, NONE) == Verdict::Read;
        assert_eq!((0..100).filter(|n| read(&mut gate, ms(0), *n)).count(), 5);
        assert_eq!((0..1_000).filter(|n| read(&mut gate, ms(u64::from(*n) * 7), *n)).count(), 0, "not one gets past");
        assert!(!read(&mut gate, ms(7_000 + 4_900), 1));
        assert!(read(&mut gate, ms(7_000 + 5_000), 1));
        assert_eq!(gate.admission.counters.retried, 95 + 1_000 + 1);
    }

    #[test]
    fn a_cookie_is_good_for_its_address_and_request_and_for_a_minute_or_two() {
        let mut gate = gate(Rates { unproven: Rate { per_second: 1, burst: 1 }, ..Rates::default() });
        gate.judge(ms(0), at(1, 1), 0, NONE);
        let Verdict::Retry(cookie) = gate.judge(ms(0), at(1, 1), 7, NONE) else { panic!() };
        assert_eq!(gate.judge(ms(0), at(1, 1), 7, cookie), Verdict::Read);
        // All of these have to come again; the flood goes on, so that cookies are needed.
        for (from, n, when) in [(at(2, 1), 7, 0), (at(1, 2), 7, 0), (at(1, 1), 8, 0), (at(1, 1), 7, 121_000)] {
            gate.judge(ms(when), at(9, 9), 99, NONE);
            gate.judge(ms(when), at(9, 9), 98, NONE);
            let verdict = gate.judge(ms(when), from, n, cookie);
            assert!(matches!(verdict, Verdict::Retry(other) if other != cookie), "{from} {n} {when}: {verdict:?}");
        }
    }

    #[test]
    fn a_cookie_outlives_a_change_of_keys_once() {
        let mut gate = gate(Rates { unproven: Rate { per_second: 1, burst: 1 }, ..Rates::default() });
        gate.judge(ms(0), at(1, 1), 0, NONE);
        let Verdict::Retry(first) = gate.judge(ms(0), at(1, 1), 7, NONE) else { panic!() };
        assert_eq!(gate.judge(ms(61_000), at(1, 1), 7, first), Verdict::Read);
        gate.judge(ms(62_000), at(1, 1), 1, NONE);
        let Verdict::Retry(second) = gate.judge(ms(62_000), at(1, 1), 7, NONE) else { panic!() };
        assert_ne!(first, second);
        assert_eq!(gate.judge(ms(63_000), at(1, 1), 7, first), Verdict::Read, "the key before");
        assert_eq!(gate.judge(ms(122_500), at(1, 1), 7, second), Verdict::Read);
        let forged = [0x81; REQUEST_LEN];
        assert!(!gate.admission.cookies.check(ms(122_500), at(1, 1), &login::request(&forged).unwrap()));
    }

    #[test]
    fn who_has_a_cookie_is_under_the_rates_of_its_source_and_prefix() {
        let few = Rate { per_second: 1, burst: 10 };
        let rates = Rates {
            unproven: Rate { per_second: 1, burst: 1 },
            source: few,
            prefix: Rate { burst: 25, ..few },
            ..Rates::default()
        };
        let mut gate = gate(rates);
        let mut read = Vec::new();
        // Four hosts of one network, and one of another.
        for host in [0x0101_0101, 0x0101_0102, 0x0101_0103, 0x0101_0104, 0x0202_0201] {
            let verdicts = (0..20).map(|n| match gate.judge(ms(0), at(host, 5), n, NONE) {
                Verdict::Retry(cookie) => gate.judge(ms(0), at(host, 5), n, cookie),
                verdict => verdict,
            });
            read.push(verdicts.filter(|v| *v == Verdict::Read).count());
        }
        // The very first was read without a cookie.
        assert_eq!(read, [11, 10, 5, 0, 10]);
        let counted = gate.admission.counters;
        assert_eq!((counted.over_source, counted.over_prefix), (9 + 10 + 10 + 10 + 10, 5 + 10));
    }

    #[test]
    fn a_forged_source_uses_up_nothing_of_the_one_that_it_names() {
        let few = Rate { per_second: 1, burst: 10 };
        let mut gate = gate(Rates { source: few, prefix: few, ..Rates::default() });
        for n in 0..1_000 {
            gate.judge(ms(0), at(7, 7), n, [3; 16]);
        }
        let Verdict::Retry(cookie) = gate.judge(ms(0), at(7, 7), 5, NONE) else { panic!() };
        assert_eq!(gate.judge(ms(0), at(7, 7), 5, cookie), Verdict::Read);
    }

    #[test]
    fn a_host_with_a_whole_ipv6_network_is_one_source() {
        let of = |text: &str| networks(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::7")[0], of("2001:db8:1:3::7")[0]);
        assert_eq!(of("2001:db8:1:2::7")[1], of("2001:db8:1:3::7")[1]);
        assert_ne!(of("2001:db8:1:2::7")[1], of("2001:db8:2:2::7")[1]);
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("192.0.2.1")[1], of("192.0.2.200")[1]);
        assert_ne!(of("192.0.2.1")[0], of("192.0.2.200")[0]);
    }
}
