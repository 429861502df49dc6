//! What goes wrong while a world runs.

use super::{Host, Node, World, machine_seed};
use crate::event::{DropReason, Event, Place};
use crate::link::{HEADERS, Link, Mishap, Way};
use crate::network::{HEADER_MORE, Net};
use posse_core::Input;
use std::net::IpAddr;

/// Bytes, headers included, that wait for a paused host: Linux's `net.core.rmem_default`, here for all its sockets together.
const RECEIVE_BUFFER: usize = 208 << 10;

impl World {
    /// The host crashes and comes back at once with a new machine at the same address: its state and its extra sockets
    /// are gone, packets under way to it are not. It is no longer paused; its clock stays as it is.
    pub fn restart<M>(&mut self, node: Node<M>) {
        let now = self.clock(node.host);
        let host = &mut self.hosts[node.host];
        host.incarnation += 1;
        host.sockets.clear();
        host.stack.connections.clear();
        (host.paused, host.news, host.held_bytes) = (false, false, 0);
        let held = std::mem::take(&mut host.held);
        let seed = machine_seed(self.seed, node.host, host.incarnation);
        let at = host.addresses();
        host.machine = (host.make)(now, &at, seed);
        for slot in held {
            self.network.drop(self.now, Place::Host(node.host), DropReason::NoSocket, slot);
        }
        self.start(node.host);
    }

    /// Gives a host, or the NAT of a network, another link. Packets under way stay so.
    pub fn set_link(&mut self, place: impl Into<Place>, link: Link) {
        self.network.set_link(self.now, place.into(), link);
    }

    /// Has mishaps happen to packets of one direction of a link, beside what its chances bring; what was said of it before
    /// is void. Packets are numbered from 0 in the order in which they are put on the link, whatever becomes of them, and a
    /// host that moves numbers on. `place` may be yet to be made: a host may send as soon as it is there.
    pub fn set_mishaps(&mut self, place: impl Into<Place>, way: Way, all: Vec<(u64, Mishap)>) {
        self.network.set_mishaps(place.into(), way, all);
    }

    /// Has all links write down from now on what happens to their packets, by chance or because it was said.
    pub fn watch_mishaps(&mut self) {
        self.network.watch_mishaps();
    }

    /// What was written down of one direction of a link.
    pub fn mishaps(&self, place: impl Into<Place>, way: Way) -> &[(u64, Mishap)] {
        self.network.mishaps(place.into(), way)
    }

    /// Nothing passes the link of a host, or of the NAT of a network, until [`Self::heal`].
    pub fn cut(&mut self, place: impl Into<Place>) {
        self.network.set_cut(self.now, place.into(), Some(true), Some(true));
    }

    /// Nothing that is sent from there passes the link until [`Self::heal`].
    pub fn cut_up(&mut self, place: impl Into<Place>) {
        self.network.set_cut(self.now, place.into(), Some(true), None);
    }

    /// Nothing that is sent to there passes the link until [`Self::heal`].
    pub fn cut_down(&mut self, place: impl Into<Place>) {
        self.network.set_cut(self.now, place.into(), None, Some(true));
    }

    /// The link works again, both ways.
    pub fn heal(&mut self, place: impl Into<Place>) {
        self.network.set_cut(self.now, place.into(), Some(false), Some(false));
    }

    /// The internet carries nothing from one public address to another, until [`Self::unblock`]. One way only.
    pub fn block(&mut self, from: impl Into<IpAddr>, to: impl Into<IpAddr>) {
        self.network.set_blocked(self.now, from.into(), to.into(), true);
    }

    /// The internet carries packets from one address to the other again. One way only.
    pub fn unblock(&mut self, from: impl Into<IpAddr>, to: impl Into<IpAddr>) {
        self.network.set_blocked(self.now, from.into(), to.into(), false);
    }

    /// No packet passes the internet between these two hosts, either way, so that a direct path dies and a relay does
    /// not. Hits whoever shares a public address with either, and not who moves away from it.
    pub fn block_between<A, B>(&mut self, a: Node<A>, b: Node<B>) {
        self.block_way(a, b);
        self.block_way(b, a);
    }

    /// The same for what the first sends to the second alone.
    pub fn block_way<A, B>(&mut self, from: Node<A>, to: Node<B>) {
        let has_v4 = |host: usize| self.hosts[host].families.has_v4();
        let v4 =
            (has_v4(from.host) && has_v4(to.host)).then(|| (self.public_ip(from).into(), self.public_ip(to).into()));
        let v6 = self.ipv6(from).zip(self.ipv6(to)).map(|(from, to)| (from.into(), to.into()));
        for block in v4.into_iter().chain(v6) {
            self.blocks.push(((from.host, to.host), block));
            self.block(block.0, block.1);
        }
    }

    /// Undoes [`Self::block_between`] and [`Self::block_way`], wherever the two are by now. What is blocked between others
    /// who had the same addresses stays so.
    pub fn unblock_between<A, B>(&mut self, a: Node<A>, b: Node<B>) {
        let (a, b) = (a.host, b.host);
        let theirs = |pair: (usize, usize)| pair == (a, b) || pair == (b, a);
        let over: Vec<_> = self.blocks.extract_if(.., |block| theirs(block.0)).collect();
        for (_, (from, to)) in over {
            if !self.blocks.iter().any(|(_, other)| *other == (from, to)) {
                self.unblock(from, to);
            }
        }
    }

    /// The NAT of a network loses its table and keeps its address.
    pub fn reboot_nat(&mut self, net: Net) {
        self.network.reboot(self.now, net);
    }

    /// The same, and the NAT comes back with another outside address; packets under way to the old one find nobody.
    pub fn reboot_nat_with_new_address(&mut self, net: Net) {
        self.network.reboot_elsewhere(self.now, net);
    }

    /// A host changes to another network, or gets another address on the one that it is on. Its machine and its sockets
    /// stay, as sockets that are bound to no address do; it is told its new interface. Packets under way to the old
    /// address are lost.
    ///
    /// # Panics
    /// If a private network runs out of addresses.
    pub fn move_host<M>(&mut self, node: Node<M>, on: Net, link: Link) {
        let state = &mut self.hosts[node.host];
        let old = (state.attachment, state.address);
        (state.attachment, state.address) = self.network.move_host(self.now, old, on, link);
        state.ipv6 = self.network.ipv6_of(state.attachment, state.address);
        (state.net, state.news) = (on, true);
        self.break_streams(node.host);
        self.tell_news(node.host);
        self.settle(node.host);
    }

    /// The host's machine stops where it is: it gets nothing, is not woken and sends nothing until [`Self::resume`]. What
    /// arrives waits in the host's receive buffer (208 KiB, as Linux has it unless told otherwise); what finds no room is
    /// dropped.
    pub fn pause<M>(&mut self, node: Node<M>) {
        let state = &mut self.hosts[node.host];
        if !std::mem::replace(&mut state.paused, true) {
            self.network.log.event(self.now, &Event::Paused { host: node.host, paused: true });
        }
    }

    /// The machine goes on: it gets all that has arrived, in order and at once, and the wake-ups that it has missed.
    pub fn resume<M>(&mut self, node: Node<M>) {
        let state = &mut self.hosts[node.host];
        if !std::mem::replace(&mut state.paused, false) {
            return;
        }
        state.held_bytes = 0;
        let held = std::mem::take(&mut state.held);
        self.network.log.event(self.now, &Event::Paused { host: node.host, paused: false });
        self.tell_news(node.host);
        for slot in held {
            self.deliver(node.host, slot);
        }
        // What its stack took in meanwhile, the machine has not been told yet.
        self.hosts[node.host].stack.connections.iter_mut().for_each(|connection| connection.dirty = true);
        self.settle(node.host);
    }

    /// The host's clock jumps by `nanos`, back if negative, and runs on from there: what its machine takes for now, and all
    /// that the machine writes down, differs from the world's time by the sum of the jumps. A clock does not go below 0 but
    /// stands still there.
    pub fn jump_clock<M>(&mut self, node: Node<M>, nanos: i64) {
        let state = &mut self.hosts[node.host];
        state.ahead = state.ahead.saturating_add(nanos).max(-i64::MAX);
        state.wake_at = None;
        let ahead = state.ahead;
        self.network.log.event(self.now, &Event::ClockJumped { host: node.host, ahead });
        self.settle(node.host);
    }

    /// Keeps a packet for a paused host.
    pub(super) fn hold(&mut self, host: usize, slot: u32) {
        let state = &mut self.hosts[host];
        let packet = self.network.packet_mut(slot);
        let size = packet.bytes.len() + HEADERS + if packet.to.is_ipv6() { HEADER_MORE } else { 0 };
        let why = if state.socket_at(packet.to).is_none() {
            DropReason::NoSocket
        } else if state.held_bytes + size > RECEIVE_BUFFER {
            DropReason::Buffer
        } else {
            state.held_bytes += size;
            return state.held.push(slot);
        };
        self.network.drop(self.now, Place::Host(host), why, slot);
    }

    /// Tells a machine of a new address, unless it is paused.
    fn tell_news(&mut self, host: usize) {
        let now = self.clock(host);
        let interfaces = self.hosts[host].interfaces();
        let Host { machine, news, paused, .. } = &mut self.hosts[host];
        if !*paused && std::mem::take(news) {
            machine.handle(now, Input::Interfaces(&interfaces), &mut self.outbox);
            self.flush(host);
        }
    }
}
