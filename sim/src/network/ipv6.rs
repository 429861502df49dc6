//! IPv6 in the network: nobody translates, so a packet keeps its addresses, and on its way between networks it meets their
//! firewalls.
//!
//! Every network has 64 bits of one prefix, the internet for the hosts that are on it, and a host there the number that its IPv4
//! address has, too. A packet goes up to the first network that its destination is in or under, and then down.

use super::{Net, Network};
use crate::event::{DropReason, Event, Place};
use posse_core::Instant;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// 2001:db8::/32, which is for documentation (RFC 3849).
const PREFIX: u128 = 0x2001_0db8 << 96;
/// Bits of an address within its network.
const HOST_BITS: u32 = 64;
/// ::1 is the router.
const FIRST: u128 = 2;
/// Bytes that an IPv6 header has more than one of IPv4.
pub(crate) const HEADER_MORE: usize = 20;

/// The network that `ip` is an address of, if there is one of that number.
pub(crate) fn net_of(ip: Ipv6Addr) -> Option<usize> {
    let net = (ip.to_bits() ^ PREFIX) >> HOST_BITS;
    usize::try_from(net).ok().filter(|net| u32::try_from(*net).is_ok())
}

fn prefix(net: usize) -> u128 {
    PREFIX | (net as u128) << HOST_BITS
}

impl Network {
    /// The IPv6 address of the host at `attachment`, whose place in its network is that of its IPv4 address `beside`.
    pub(crate) fn ipv6_of(&self, attachment: usize, beside: Ipv4Addr) -> Option<Ipv6Addr> {
        let at = &self.attachments[attachment];
        let net = &self.nets[at.on];
        let index = beside.to_bits().checked_sub(net.first)?;
        (net.ipv6 && at.families.has_v6()).then(|| Ipv6Addr::from_bits(prefix(at.on) | (u128::from(index) + FIRST)))
    }

    /// The first address of a network's; none if it has no IPv6.
    pub(crate) fn prefix_of(&self, net: Net) -> Option<Ipv6Addr> {
        self.nets[net.0].ipv6.then(|| Ipv6Addr::from_bits(prefix(net.0)))
    }

    /// Finds the way of a packet that is in `net`.
    pub(super) fn route_ipv6(&mut self, now: Instant, net: usize, slot: u32, from: SocketAddrV6, to: SocketAddrV6) {
        let Some(next) = net_of(*to.ip()).and_then(|target| self.toward(net, target)) else {
            return self.leave_ipv6(now, net, slot, from, to);
        };
        let attachment = if next == net {
            let index =
                (to.ip().to_bits() ^ prefix(net)).checked_sub(FIRST).and_then(|index| usize::try_from(index).ok());
            let there = index.and_then(|index| self.nets[net].attached.get(index).copied().flatten());
            there.filter(|at| self.attachments[*at].families.has_v6())
        } else {
            self.nets[next].gateway.as_ref().map(|gateway| gateway.attachment)
        };
        match attachment {
            Some(attachment) => self.transmit(now, attachment * 2 + 1, slot),
            None => self.drop(now, Place::Net(net), DropReason::NoRoute, slot),
        }
    }

    /// Up, to the network outside.
    fn leave_ipv6(&mut self, now: Instant, net: usize, slot: u32, from: SocketAddrV6, to: SocketAddrV6) {
        let tcp = self.packets[slot as usize].tcp;
        let gateway = self.nets[net].gateway.as_mut();
        let Some((walls, attachment)) = gateway.and_then(|g| Some((g.walls.as_mut()?, g.attachment))) else {
            return self.drop(now, Place::Net(net), DropReason::NoRoute, slot);
        };
        walls[usize::from(tcp)].outbound(now, from, to);
        self.passed(now, net, true, slot);
        if self.hop(now, net, 1, slot) {
            self.transmit(now, attachment * 2, slot);
        }
    }

    /// A packet from outside meets the firewall of `net`.
    pub(super) fn enter_ipv6(&mut self, now: Instant, net: usize, slot: u32) {
        let packet = &self.packets[slot as usize];
        let (SocketAddr::V6(from), SocketAddr::V6(to), tcp) = (packet.from, packet.to, packet.tcp) else {
            return self.drop(now, Place::Net(net), DropReason::NoRoute, slot);
        };
        let walls = self.nets[net].gateway.as_mut().and_then(|gateway| gateway.walls.as_mut());
        let Some(walls) = walls else { return self.drop(now, Place::Net(net), DropReason::NoRoute, slot) };
        match walls[usize::from(tcp)].inbound(now, from, to) {
            Ok(()) => {
                self.passed(now, net, false, slot);
                if self.hop(now, net, 1, slot) {
                    self.route(now, net, slot);
                }
            }
            Err(why) => self.drop(now, Place::Net(net), why, slot),
        }
    }

    fn passed(&mut self, now: Instant, net: usize, outward: bool, slot: u32) {
        let packet = self.packets[slot as usize].view();
        self.log.event(now, &Event::Passed { net, outward, packet });
    }

    /// The network to which a packet in `net` for `target` goes next: `net` itself if it is there, the one of those attached to it
    /// that `target` is or is under; none if the way is up.
    fn toward(&self, net: usize, target: usize) -> Option<usize> {
        if target == net {
            return Some(net);
        }
        let mut at = target;
        loop {
            let outside = self.attachments[self.nets.get(at)?.gateway.as_ref()?.attachment].on;
            if outside == net {
                return self.nets[at].ipv6.then_some(at);
            }
            at = outside;
        }
    }
}
