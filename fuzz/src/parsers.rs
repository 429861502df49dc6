//! The wire's parsers: they survive anything, and what they read is written and read again the same.

use crate::cursor::Cursor;
use posse_core::fuzzing::{self, Fact, LoginPair, Recoded, RelayPair};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The shortest short packet, bytes (docs/protocol.md): flags, connection id, longest number, sample.
const SHORT_MIN: usize = 1 + 8 + 4 + 16;

/// Classifies a datagram; reads the same bytes as a packet number to be shortened and expanded.
pub fn header(data: &[u8]) {
    let short = data.len() >= SHORT_MIN && (0x40..=0x4f).contains(&data[0]);
    let known = short || data.first().is_some_and(|first| (0x81..=0x84).contains(first));
    let seen = fuzzing::classify(data);
    assert_eq!(seen.is_some(), known);
    assert_eq!(seen.flatten().is_some(), short);
    if let Some(packet) = seen.flatten() {
        assert_eq!(data[1..9], packet.cid.to_be_bytes());
        assert_eq!(data[13..29], packet.sample);
    }

    let mut c = Cursor(data);
    let (number, behind, ahead, low, bits) = (c.u64(), c.u64(), c.u64(), c.u32(), c.u32());
    // RFC 9000 A.2 and A.3: a receiver between the acknowledged number and the one sent reads what was meant.
    let acked = number.checked_sub(behind).and_then(|n| n.checked_sub(1));
    if let Some(len) = fuzzing::number_len(number, acked) {
        let at = acked.map_or(0, |a| a + ahead % (number - a));
        let largest = if acked.is_none() { None } else { Some(at) };
        let cut = if len == 4 { number as u32 } else { number as u32 & ((1 << (8 * len)) - 1) };
        assert_eq!(fuzzing::expand(cut, 8 * len as u32, largest), number, "{acked:?} {largest:?} {len}");
    }
    let _ = fuzzing::expand(low, bits, acked);
}

/// Reads a body.
pub fn frames(data: &[u8]) {
    let mut count = 0;
    let ended = fuzzing::frames(data, |kind, fact, recoded| {
        count += 1;
        let first = recoded.expect("what was read can be written");
        let mut again = Vec::new();
        let end = fuzzing::frames(&first.bytes, |k, f, r| again.push((k, f, r)));
        assert_eq!(end, Ok(()), "{}", first.shown);
        assert_eq!(again, [(kind, fact, Some(first))]);
    });
    assert!(count <= data.len());
    // The short way reads as far.
    let facts: Vec<Fact> = fuzzing::facts(data).collect();
    assert_eq!(facts.len(), count, "{ended:?}");
}

/// Reads a control message of either direction.
pub fn control(data: &[u8]) {
    let [client, server] = [fuzzing::to_client as fn(&[u8]) -> _, fuzzing::to_server].map(|read| {
        let recoded = read(data).ok()?;
        let first: Recoded = recoded.expect("what was read can be written");
        assert_eq!(read(&first.bytes), Ok(Some(first.clone())), "read, written and read again");
        assert!(first.bytes.len() <= data.len(), "the shortest form is no longer than another");
        Some(first)
    });
    assert!(client.is_none() || server.is_none(), "a message of one direction is none of the other");
}

/// The first byte picks: payload of a request, payload of a reply, a whole login with damage done to it, raw datagrams.
pub fn login(data: &[u8]) {
    let mut c = Cursor(data);
    match c.u8() % 4 {
        0 => {
            if let Ok(first) = fuzzing::hello(c.rest()) {
                let first = first.expect("what was read can be written");
                assert_eq!(fuzzing::hello(&first.bytes), Ok(Some(first)));
            }
        }
        1 => {
            let payload = c.rest();
            if let Ok(verdict) = fuzzing::verdict(payload) {
                assert_eq!(verdict.bytes, payload, "{}", verdict.shown);
            }
        }
        2 => whole_login(c),
        _ => {
            let Some(mut pair) = LoginPair::new(1, 42, &[1, 2]) else { return };
            let datagram = c.rest();
            // Nobody who does not hold the keys of this very login can make one of these.
            assert!(pair.read(datagram).is_none());
            if pair.answer(datagram, 1, 1).is_some() {
                assert!(datagram.len() == 1200 && datagram[0] == 0x81);
            }
        }
    }
}

fn whole_login(mut c: Cursor<'_>) {
    let (version, app, session, suite) = (c.u16(), c.u64(), c.u64(), c.u8());
    let count = usize::from(c.u8());
    let suites = c.take(count % 12);
    let Some(mut pair) = LoginPair::new(version, app, suites) else {
        assert!(suites.len() > 8, "eight suites are allowed");
        return;
    };
    let mut request = pair.request();
    // But for the cookie, which whoever gave it out checks.
    let (at, by) = (c.u16(), c.u8());
    let at = at + if (5..21).contains(&(usize::from(at) % request.len())) { 16 } else { 0 };
    let damaged = damage(&mut request, at, by);
    let Some((mut reply, seen)) = pair.answer(&request, session, suite) else {
        assert!(damaged, "a genuine request is answered");
        return;
    };
    assert!(!damaged, "a damaged request is not answered");
    assert!(reply.len() < request.len() / 3, "no amplification: {} bytes", reply.len());
    let expected = format!("Hello {{ version: {version}, app: {app}, suites: {suites:?}, ticket: [] }}");
    assert_eq!(seen, expected, "the server reads what the client said");
    let damaged = damage(&mut reply, c.u16(), c.u8());
    let read = pair.read(&reply);
    let offered = suites.contains(&suite);
    assert_eq!(read, (!damaged && offered).then_some((session, suite)));
    assert_eq!(pair.read(&reply), None, "a login is answered once");
}

/// Changes one byte; whether it did.
fn damage(bytes: &mut [u8], at: u16, by: u8) -> bool {
    let at = usize::from(at) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= by;
    }
    by != 0 && !bytes.is_empty()
}

/// Reads a wrap; then a forwarding plane with one route is offered genuine, repeated, damaged and raw datagrams.
pub fn relay(data: &[u8]) {
    if let Ok(first) = fuzzing::relay_wrap(data) {
        let first = first.expect("what was read can be written");
        assert_eq!(first.bytes, data, "{}", first.shown);
    }

    let (sender, receiver) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 2)));
    let mut pair = RelayPair::new(sender, receiver).expect("two sessions and a route");
    let mut c = Cursor(data);
    let (mut next, mut admitted) = (0u64, BTreeSet::new());
    while !c.is_empty() {
        let (op, step) = (c.u8(), c.u16());
        if op == 0xff {
            assert_eq!(pair.admit(c.prefixed(), sender), None, "nobody guesses a MAC");
            continue;
        }
        let number = if op & 1 == 0 { next + u64::from(step) } else { next.saturating_sub(u64::from(step)) };
        let mut inner = vec![0x40; SHORT_MIN + usize::from(op >> 4)];
        if op & 2 != 0 {
            inner[0] = c.u8();
        }
        let off = if op & 4 != 0 { c.u32() } else { 0 };
        let mut datagram = pair.wrap(number, off, &inner);
        let genuine = if op & 8 != 0 { !damage(&mut datagram, c.u16(), c.u8()) } else { true };
        match pair.admit(&datagram, sender) {
            Some((to, passed)) => {
                assert_eq!(to, receiver);
                assert_eq!(off, 0, "only that route exists");
                assert!(genuine || passed != inner, "damage to a wrap is always seen");
                assert!(admitted.insert(number), "{number} was admitted before");
                assert_eq!(passed.first().map(|b| b & 0xf0), Some(0x40), "only short packets are passed on");
                next = next.max(number + 1);
            }
            // A number above all others is always fresh, within half of what 24 bits tell apart. Whatever verifies marks the
            // window, also if its route leads nowhere or its middle was damaged, which the MAC does not cover.
            None => {
                let valid = genuine && off == 0 && inner[0] & 0xf0 == 0x40;
                assert!(!valid || number < next, "a genuine datagram was refused: {number}");
                next = next.max(number + 1);
            }
        }
    }
}
