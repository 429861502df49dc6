//! A stateful firewall before IPv6 addresses (RFC 6092): what a NAT does to packets, without the translation. A pure state
//! machine over the flows that began inside; it takes the time as an argument.

use super::Filtering;
use crate::event::DropReason;
use posse_core::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV6};

/// What RFC 6092 §3.2.1 asks for at least; firewalls of homes have it or less.
const LIFETIME: Duration = Duration::from_secs(120);

/// How the firewall of a network lets IPv6 in. Every address behind it is one of the internet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firewall {
    /// Whose packets reach an inside endpoint that has sent something. `None`: there is no firewall, and everybody's reach
    /// everyone.
    pub filtering: Option<Filtering>,
    /// How long a flow is remembered after the last packet that refreshed it.
    pub lifetime: Duration,
    /// The same until something came back in (Linux: 30 s); `None`: as [`Self::lifetime`].
    pub unreplied: Option<Duration>,
    /// Whether packets from outside refresh it too (RFC 6092 leaves it open); those from inside always do.
    pub inbound_refresh: bool,
}

impl Default for Firewall {
    /// Lets in the very endpoints that were sent to, as Linux does, for 120 s.
    fn default() -> Self {
        let filtering = Some(Filtering::AddressAndPortDependent);
        Self { filtering, lifetime: LIFETIME, unreplied: None, inbound_refresh: false }
    }
}

impl Firewall {
    /// None: addresses of the internet that everybody reaches.
    pub fn open() -> Self {
        Self { filtering: None, ..Self::default() }
    }

    /// One that lets in whom `filtering` says.
    pub fn new(filtering: Filtering) -> Self {
        Self { filtering: Some(filtering), ..Self::default() }
    }
}

/// A firewall at work.
pub(crate) struct FirewallBox {
    config: Firewall,
    /// By inside endpoint, and as much of the remote one as the filter looks at.
    flows: BTreeMap<(SocketAddrV6, SocketAddrV6), Flow>,
}

struct Flow {
    /// Remembered before this.
    until: Instant,
    replied: bool,
}

impl FirewallBox {
    pub(crate) fn new(config: Firewall) -> Self {
        Self { config, flows: BTreeMap::new() }
    }

    /// A packet from inside passes, and its answers may come.
    pub(crate) fn outbound(&mut self, now: Instant, from: SocketAddrV6, to: SocketAddrV6) {
        let Some(filtering) = self.config.filtering else { return };
        let flow = self.flows.entry((from, seen_part(filtering, to))).or_insert(Flow { until: now, replied: false });
        flow.replied &= now < flow.until;
        flow.refresh(now, &self.config);
    }

    /// A packet from outside to an address inside.
    pub(crate) fn inbound(&mut self, now: Instant, from: SocketAddrV6, to: SocketAddrV6) -> Result<(), DropReason> {
        let Some(filtering) = self.config.filtering else { return Ok(()) };
        let flow = self.flows.get_mut(&(to, seen_part(filtering, from))).filter(|flow| now < flow.until);
        let flow = flow.ok_or(DropReason::Filtered)?;
        let first = !core::mem::replace(&mut flow.replied, true) && self.config.unreplied.is_some();
        if self.config.inbound_refresh || first {
            flow.refresh(now, &self.config);
        }
        Ok(())
    }

    /// Nothing is remembered any more.
    pub(crate) fn reboot(&mut self) {
        self.flows.clear();
    }
}

impl Flow {
    fn refresh(&mut self, now: Instant, config: &Firewall) {
        let unreplied = config.unreplied.filter(|_| !self.replied);
        self.until = now + unreplied.unwrap_or(config.lifetime);
    }
}

/// As much of a remote endpoint as the filter looks at; the rest is zero.
fn seen_part(filtering: Filtering, remote: SocketAddrV6) -> SocketAddrV6 {
    let (ip, port) = match filtering {
        Filtering::EndpointIndependent => (Ipv6Addr::UNSPECIFIED, 0),
        Filtering::AddressDependent => (*remote.ip(), 0),
        Filtering::AddressAndPortDependent => (*remote.ip(), remote.port()),
    };
    SocketAddrV6::new(ip, port, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(host: u16, port: u16) -> SocketAddrV6 {
        SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host), port, 0, 0)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn each_firewall_lets_in_exactly_whom_it_says_and_nobody_unasked() {
        let inside = end(1, 4000);
        for (filtering, stranger, same_host, other_host) in [
            (Some(Filtering::EndpointIndependent), false, true, true),
            (Some(Filtering::AddressDependent), false, true, false),
            (Some(Filtering::AddressAndPortDependent), false, false, false),
            (None, true, true, true),
        ] {
            let mut wall = FirewallBox::new(Firewall { filtering, ..Firewall::default() });
            assert_eq!(wall.inbound(at(0), end(2, 7), inside).is_ok(), stranger, "{filtering:?}: unasked");
            wall.outbound(at(0), inside, end(2, 7));
            assert_eq!(wall.inbound(at(0), end(2, 7), inside), Ok(()), "{filtering:?}: who was written to");
            assert_eq!(wall.inbound(at(0), end(2, 8), inside).is_ok(), same_host, "{filtering:?}: another port");
            assert_eq!(wall.inbound(at(0), end(3, 7), inside).is_ok(), other_host, "{filtering:?}: another address");
            assert_eq!(wall.inbound(at(0), end(2, 7), end(1, 4001)).is_ok(), stranger, "{filtering:?}: another socket");
        }
    }

    #[test]
    fn a_flow_is_remembered_as_long_as_it_says() {
        for (unreplied, inbound_refresh, ends) in [(None, false, 120), (None, true, 220), (Some(30), false, 129)] {
            let unreplied = unreplied.map(Duration::from_secs);
            let mut wall = FirewallBox::new(Firewall { unreplied, inbound_refresh, ..Firewall::default() });
            wall.outbound(at(0), end(1, 4000), end(2, 7));
            let mut inbound = |second| wall.inbound(at(second), end(2, 7), end(1, 4000)).is_ok();
            // Linux: the first answer makes it one that was replied to; later ones refresh it only where that is asked for.
            assert!(inbound(if unreplied.is_some() { 9 } else { 100 }));
            assert!(inbound(ends - 1), "{unreplied:?}");
            if !inbound_refresh {
                assert!(!inbound(ends), "{unreplied:?}");
            }
        }
        let mut wall = FirewallBox::new(Firewall { unreplied: Some(Duration::from_secs(30)), ..Firewall::default() });
        wall.outbound(at(0), end(1, 4000), end(2, 7));
        assert_eq!(wall.inbound(at(30), end(2, 7), end(1, 4000)), Err(DropReason::Filtered), "nothing came back");
        wall.outbound(at(40), end(1, 4000), end(2, 7));
        wall.reboot();
        assert_eq!(wall.inbound(at(41), end(2, 7), end(1, 4000)), Err(DropReason::Filtered), "after a reboot");
    }
}
