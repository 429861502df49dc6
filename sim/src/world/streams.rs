//! TCP connections of hosts, and firewalls before them.

use super::{Host, MAIN_PORT, Node, Socket, World};
use crate::dice::{Label, stream};
use crate::event::{DropReason, Event, Place};
use crate::network::Datagram;
use crate::queue::Due;
use crate::tcp::{self, Connection, News};
use posse_core::{Ecn, Input, Instant, SocketId, StreamEnd, StreamId, StreamInput};
use rand_core::Rng as _;
use std::net::SocketAddr;

/// Streams that a host accepts are numbered from here on, apart from those that its machine asked for.
const FIRST_ACCEPTED: u64 = 1 << 32;
/// News that one connection may have for its machine at one instant; more wait for the next look.
const NEWS_AT_ONCE: usize = 256;

/// A host's TCP.
#[derive(Default)]
pub(super) struct Stack {
    pub(super) connections: Vec<Connection>,
    /// Whether connections to its main port are accepted.
    listens: bool,
    /// Connections so far.
    made: u64,
    /// The earliest poll in the queue.
    poll_at: Option<Instant>,
}

impl World {
    /// The host accepts TCP connections to the port of its main socket, now and after restarts.
    pub fn listen<M>(&mut self, node: Node<M>) {
        self.hosts[node.host].stack.listens = true;
    }

    /// A firewall at a host, or at the NAT of a network, drops every datagram in both directions, or lets them pass again. TCP
    /// passes it always.
    pub fn block_udp(&mut self, place: impl Into<Place>, blocked: bool) {
        self.network.block_udp(self.now, place.into(), blocked);
    }

    /// How many TCP connections a host has.
    pub fn connections<M>(&self, node: Node<M>) -> usize {
        self.hosts[node.host].stack.connections.len()
    }

    /// A machine asks for a connection.
    pub(super) fn connect(&mut self, host: usize, id: StreamId, to: SocketAddr) {
        let now = self.clock(host);
        let socket = Socket { id: SocketId::MAIN, port: self.hosts[host].next_port, second: false };
        let local = self.hosts[host].source_of(&socket, to.is_ipv6());
        let Host { stack, next_port, machine, .. } = &mut self.hosts[host];
        let taken = stack.connections.iter().any(|connection| connection.id == id);
        let (Some(local), false) = (local, taken) else {
            let refused = Input::Stream(id, StreamInput::Closed(StreamEnd::Refused));
            return machine.handle(now, refused, &mut self.outbox);
        };
        *next_port = next_port.checked_add(1).unwrap_or(super::FIRST_EXTRA_PORT);
        stack.made += 1;
        let seed = seed_of(self.seed, host, stack.made);
        stack.connections.push(Connection::connect(self.now, seed, id, local, to));
    }

    /// A machine closes a connection.
    pub(super) fn disconnect(&mut self, host: usize, id: StreamId) {
        let mut all = self.hosts[host].stack.connections.iter_mut();
        if let Some(connection) = all.find(|connection| connection.id == id) {
            connection.close();
        }
    }

    /// A machine writes to a connection. False if there is none.
    pub(super) fn write(hosts: &mut Host, id: StreamId, bytes: &[u8]) -> bool {
        let found = hosts.stack.connections.iter_mut().find(|connection| connection.id == id);
        found.map(|connection| connection.write(bytes)).is_some()
    }

    /// All connections of a host are gone without a word: it has another address.
    pub(super) fn break_streams(&mut self, host: usize) {
        self.hosts[host].stack.connections.iter_mut().for_each(Connection::break_off);
    }

    /// A segment arrives at a host.
    pub(super) fn segment(&mut self, host: usize, slot: u32) {
        let packet = self.network.packet_mut(slot);
        let (from, to) = (packet.from, packet.to);
        let bytes = std::mem::take(&mut packet.bytes);
        let view = crate::event::PacketView { bytes: &bytes, ..packet.view() };
        let main = Socket { id: SocketId::MAIN, port: MAIN_PORT, second: false };
        let main = self.hosts[host].source_of(&main, to.is_ipv6());
        let Host { stack, attachment, .. } = &mut self.hosts[host];
        let known = stack.connections.iter_mut().find(|c| c.remote == from && c.local == to);
        let opens = stack.listens && Some(to) == main && tcp::is_syn(&bytes);
        if known.is_none() && !opens {
            let (answer, attachment) = (tcp::reset(&bytes), *attachment);
            self.network.packet_mut(slot).bytes = bytes;
            self.network.drop(self.now, Place::Host(host), DropReason::NoSocket, slot);
            if let Some(bytes) = answer {
                let socket = SocketId::MAIN;
                let (ecn, hop_limit) = (Ecn::NotCapable, None);
                let datagram = Datagram { host, socket, from: to, to: from, ecn, hop_limit, tcp: true, bytes: &bytes };
                self.network.send(self.now, attachment, &datagram);
            }
            return;
        }
        self.network.log.event(self.now, &Event::Delivered { host, socket: SocketId::MAIN, packet: view });
        match known {
            Some(connection) => connection.segment(&bytes),
            None => {
                stack.made += 1;
                let (seed, id) = (seed_of(self.seed, host, stack.made), StreamId(FIRST_ACCEPTED + stack.made));
                let mut connection = Connection::accept(self.now, seed, id, to, from);
                connection.segment(&bytes);
                stack.connections.push(connection);
            }
        }
        self.network.packet_mut(slot).bytes = bytes;
        self.network.release(slot);
        if self.hosts[host].paused {
            self.pump(host);
        } else {
            self.settle(host);
        }
    }

    /// The stack of a host may have something to do.
    pub(super) fn poll_stack(&mut self, host: usize, at: Instant) {
        if self.hosts[host].stack.poll_at != Some(at) {
            return;
        }
        self.hosts[host].stack.poll_at = None;
        for connection in &mut self.hosts[host].stack.connections {
            connection.dirty |=
                connection.next(self.now).is_some_and(|next| next <= at + std::time::Duration::from_micros(1));
        }
        if self.hosts[host].paused {
            self.pump(host);
        } else {
            self.settle(host);
        }
        // What this poll was for may have moved to later meanwhile, and then nothing was pumped.
        self.schedule_stack(host);
    }

    /// Has the stack of a host send what is due, and tells its machine what came. Whether there was anything.
    pub(super) fn pump(&mut self, host: usize) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(connection) = self.hosts[host].stack.connections.get(at) {
            if connection.dirty {
                any = true;
                self.pump_one(host, at);
            }
            let Some(connection) = self.hosts[host].stack.connections.get_mut(at) else { break };
            if connection.is_gone() && !connection.dirty {
                self.hosts[host].stack.connections.remove(at);
            } else {
                at += 1;
            }
        }
        if any {
            self.schedule_stack(host);
        }
        any
    }

    fn pump_one(&mut self, host: usize, at: usize) {
        let (clock, now) = (self.clock(host), self.now);
        let paused = self.hosts[host].paused;
        let Host { stack, machine, attachment, .. } = &mut self.hosts[host];
        let Some(connection) = stack.connections.get_mut(at) else { return };
        let (id, from, to) = (connection.id, connection.local, connection.remote);
        let (network, attachment) = (&mut self.network, *attachment);
        connection.poll(now, |bytes| {
            let (ecn, hop_limit, socket) = (Ecn::NotCapable, None, SocketId::MAIN);
            network.send(now, attachment, &Datagram { host, socket, from, to, ecn, hop_limit, tcp: true, bytes });
        });
        for _ in 0..NEWS_AT_ONCE {
            let Some(news) = (if paused { None } else { connection.news() }) else { break };
            let mut bytes;
            let input = match news {
                News::Accepted => StreamInput::Accepted { from: to },
                News::Connected => StreamInput::Connected,
                News::Bytes(read) => {
                    bytes = read;
                    StreamInput::Bytes(&mut bytes)
                }
                News::Writable => StreamInput::Writable,
                News::Closed(end) => StreamInput::Closed(end),
            };
            machine.handle(clock, Input::Stream(id, input), &mut self.outbox);
        }
    }

    fn schedule_stack(&mut self, host: usize) {
        let (now, stack) = (self.now, &mut self.hosts[host].stack);
        let next = stack.connections.iter_mut().filter_map(|connection| connection.next(now)).min();
        if let Some(next) = next.filter(|next| *next < stack.poll_at.unwrap_or(Instant::FAR)) {
            stack.poll_at = Some(next);
            self.network.queue.push(next, Due::Stack { host: host as u32 });
        }
    }
}

fn seed_of(seed: u64, host: usize, made: u64) -> u64 {
    stream(seed, Label::Stack, (host as u64) << 32 | made).next_u64()
}
