//! A recording of a machine, fed to a fresh one, brings the same bytes out.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use posse_core::{Duration, Instant, Machine as _};
use posse_sim::machines::{EchoClient, EchoServer};
use posse_sim::record::{Outputs, OwnedEntry, OwnedInput, Recorder, Recording, replay};
use posse_sim::{Chance, Link, Nat, World};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

type Client = (Instant, SocketAddr, [u8; 32]);

fn client((now, server, seed): Client) -> EchoClient {
    EchoClient::new(now, server, seed, (100, 300), Duration::from_millis(5))
}

/// A run over bad links; for server and client what was recorded and what was seen to be sent.
fn run() -> (Client, [(Recording, Outputs); 2]) {
    let mut world = World::new(5);
    let bad = Link::millis(10).loss(Chance::percent(5)).duplicate(Chance::percent(5)).corrupt(Chance::percent(5));
    let recorders = [Recorder::new(), Recorder::new()];
    let outputs = [0, 1].map(|host| Rc::new(RefCell::new(Outputs::of(host))));
    for output in &outputs {
        world.observe(Box::new(Rc::clone(output)));
    }
    let tap = recorders[0].clone();
    let server = world.host(world.internet(), bad, move |_, _, _| {
        let mut server = EchoServer::new();
        server.tap(Some(Box::new(tap.clone())));
        server
    });
    let (to, tap, made) = (world.addr(server), recorders[1].clone(), Rc::new(RefCell::new(None)));
    let home = world.home(Nat::home());
    let seen = Rc::clone(&made);
    let node = world.host(home, bad, move |now, _, seed| {
        *seen.borrow_mut() = Some((now, to, seed));
        let mut client = client((now, to, seed));
        client.tap(Some(Box::new(tap.clone())));
        client
    });
    for n in 0u8..20 {
        world.run_for(Duration::from_millis(37)).unwrap();
        world.act(node, |m, now| m.say(now, &[n; 100]));
    }
    world.run_for(Duration::from_secs(1)).unwrap();
    let made = made.borrow().expect("the host was made");
    (made, [0, 1].map(|n| (recorders[n].take(), outputs[n].borrow().clone())))
}

#[test]
fn a_recording_replays_to_the_same_bytes() {
    let (made, [(server_in, server_out), (client_in, client_out)]) = run();
    let again = replay(&mut EchoServer::new(), &server_in);
    assert_eq!((again.digest(), again.datagrams()), (server_out.digest(), server_out.datagrams()));
    let again = replay(&mut client(made), &client_in);
    assert_eq!((again.digest(), again.datagrams()), (client_out.digest(), 120));
}

#[test]
fn a_recording_with_one_bit_changed_replays_to_other_bytes() {
    let (_, [(mut recording, outputs), _]) = run();
    let changed = recording.entries.iter_mut().find_map(|(_, entry)| match entry {
        OwnedEntry::Input { input: OwnedInput::Datagrams { bytes, .. }, .. } => Some(bytes),
        _ => None,
    });
    changed.unwrap()[0] ^= 1;
    let again = replay(&mut EchoServer::new(), &recording);
    assert_ne!(again.digest(), outputs.digest());
    assert_eq!(again.datagrams(), outputs.datagrams());
}
