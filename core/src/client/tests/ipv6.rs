//! Clients that log in by IPv4 and have IPv6 addresses as well.

use super::*;
use core::net::Ipv6Addr;

/// Everybody's IPv6 address, by the IPv4 one.
pub(super) fn of(addr: SocketAddr) -> SocketAddr {
    let IpAddr::V4(ip) = addr.ip() else { return addr };
    let [.., low] = ip.octets();
    SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low.into()).into(), addr.port())
}

/// A server with both families, and clients that have logged in by IPv4; who has no IPv6 loses what it sends there.
fn served(has_none: &[usize]) -> Bench {
    let mut config = ServerConfig::new(KEY, 1, [1; 32]);
    let SocketAddr::V6(at) = of(SERVER) else { unreachable!() };
    config.ipv6 = Some(at);
    let mut bench = Bench::served(config, &FAR_APART, |_| {});
    let without: Vec<_> = has_none.iter().map(|at| of(bench.clients[*at].0)).collect();
    bench.run_losing(2_000, |datagram| without.contains(&datagram.from));
    bench
}

/// Between two clients nothing gets through by IPv4.
fn hopeless(datagram: &Datagram) -> bool {
    datagram.from != SERVER && datagram.to != SERVER && datagram.to.is_ipv4()
}

#[test]
fn two_with_ipv6_go_direct_by_it_whatever_stands_before_their_ipv4() {
    let mut bench = served(&[2]);
    let group = bench.group();
    let without = of(bench.clients[2].0);
    bench.run_losing(3_000, |datagram| hopeless(datagram) || [datagram.from, datagram.to].contains(&without));
    assert_eq!(peers_with(&bench, is_direct), [bench.id(1)], "and the third stays relayed");
    let used: Vec<_> = bench.clients[0].1.candidates(bench.id(1)).filter(|c| c.in_use).map(|c| c.address).collect();
    assert_eq!(used, [of(bench.clients[1].0)]);
    bench.send(0, group, RELIABLE, b"by both ways").unwrap();
    bench.run_losing(100, hopeless);
    assert_eq!((bench.messages(1), bench.messages(2)), (1, 1));
    assert!(bench.clients[0].1.candidates(bench.id(2)).all(|c| c.address.is_ipv4()), "it has no other");
}

#[test]
fn an_address_that_is_shown_after_the_group_was_formed_is_tried_at_once() {
    let mut config = ServerConfig::new(KEY, 1, [1; 32]);
    let SocketAddr::V6(at) = of(SERVER) else { unreachable!() };
    config.ipv6 = Some(at);
    let mut bench = Bench::served(config, &FAR_APART[..2], |_| {});
    bench.group();
    bench.run_losing(600, hopeless);
    assert_eq!(peers_with(&bench, is_direct).len(), 0);
    bench.run_losing(400, hopeless);
    assert_eq!(peers_with(&bench, is_direct).len(), 1, "0.8 s after the login, and the time of two datagrams");
}

#[test]
fn an_address_that_could_not_be_shown_at_first_is_shown_later() {
    let mut config = ServerConfig::new(KEY, 1, [1; 32]);
    let SocketAddr::V6(at) = of(SERVER) else { unreachable!() };
    config.ipv6 = Some(at);
    let mut bench = Bench::served(config, &FAR_APART[..2], |_| {});
    bench.group();
    // Neither by IPv4 between the two nor by IPv6 at all, until long after the four times that are asked at first.
    bench.run_losing(8_000, |datagram| hopeless(datagram) || datagram.to.is_ipv6());
    assert_eq!(peers_with(&bench, is_direct).len(), 0);
    bench.run_losing(4_000, hopeless);
    assert_eq!(peers_with(&bench, is_direct).len(), 1, "10 s after they were asked first");
    // It is asked less and less often, and nothing new comes of it.
    let before = bench.sent_to.iter().filter(|to| **to == of(SERVER)).count();
    bench.run(100_000);
    let asked = bench.sent_to.iter().filter(|to| **to == of(SERVER)).count() - before;
    assert!((2..=8).contains(&asked), "{asked} in 100 s, of two clients");
}

#[test]
fn a_forged_ipv6_address_gets_one_challenge_for_each_datagram_and_is_told_to_nobody() {
    let victim: SocketAddr = "[2001:db8:bad::1]:4000".parse().unwrap();
    let mut config = ServerConfig::new(KEY, 1, [1; 32]);
    let SocketAddr::V6(at) = of(SERVER) else { unreachable!() };
    config.ipv6 = Some(at);
    let mut bench = Bench::served(config, &FAR_APART[..2], |_| {});
    // Whoever reads what the first client sends to the server's IPv6 address sends it on, as from the victim, and is quicker.
    let (mut forged, mut back) = (0, Vec::new());
    for _ in 0..2_000 {
        bench.now = bench.now + Duration::from_millis(1);
        bench.transmit();
        let first = of(bench.clients[0].0);
        for mut datagram in core::mem::take(&mut bench.flying) {
            if datagram.to == of(SERVER) && datagram.from == first {
                datagram.from = victim;
                forged += 1;
            }
            if datagram.to == victim {
                back.push(datagram.bytes.len());
            } else {
                bench.deliver(datagram);
            }
        }
        bench.poll();
    }
    assert!(forged > 0 && back.len() <= forged, "{forged} {}", back.len());
    assert!(back.iter().all(|len| *len <= 46));
    bench.group();
    let before = bench.sent_to.len();
    bench.run(6_000);
    assert!(!bench.sent_to[before..].contains(&victim), "nobody sends anything there");
}
