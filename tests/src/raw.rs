//! Machines without a network: one datagram in, whatever comes out.

use posse_core::client::Client;
use posse_core::{Ecn, Input, Instant, Machine, Outbox, SocketId, Via};
use std::net::SocketAddr;

/// Hands one datagram in.
pub fn hand(machine: &mut dyn Machine, now: Instant, from: SocketAddr, bytes: &[u8], out: &mut Outbox) {
    let mut bytes = bytes.to_vec();
    let (socket, stride) = (SocketId::MAIN, bytes.len());
    let input = Input::Datagrams { socket, from, local: None, ecn: Ecn::NotCapable, stride, bytes: &mut bytes };
    machine.handle(now, input, out);
}

/// What is in the outbox, with destinations; empties it.
pub fn drain(out: &mut Outbox) -> Vec<(SocketAddr, Vec<u8>)> {
    let all = out.sends().filter_map(|(transmit, bytes)| match transmit.via {
        Via::Datagram { to, .. } => Some((to, bytes.to_vec())),
        Via::Stream(_) => None,
    });
    let all = all.collect();
    out.clear();
    all
}

/// The request with which a new client begins.
///
/// # Panics
/// If it has begun before and waits.
pub fn request(mut client: Client) -> Vec<u8> {
    let mut out = Outbox::with_capacity(4096, 4);
    client.transmit(Instant::ZERO, &mut out);
    drain(&mut out).remove(0).1
}
