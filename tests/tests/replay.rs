//! The same seed brings the same bytes out: twice in one process, and in another process. And whatever entered a client or
//! a server, recorded and fed to a fresh one, brings out what the recorded one sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::{Channel, Client, Command, Machine as _, PeerId, SendOptions, Server};
use posse_sim::nat::Nat;
use posse_sim::record::{Outputs, OwnedEntry, OwnedInput, Recorder, Recording, replay};
use posse_sim::{Chance, Link, World};
use posse_tests::{APP, App, Desk, Lab, SERVER_KEY};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Set for a child process, which only prints the digest of the world with that seed.
const CHILD: &str = "POSSE_TESTS_DIGEST_OF_SEED";

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn bad_link() -> Link {
    Link::millis(9).loss(Chance::percent(3)).duplicate(Chance::percent(3)).corrupt(Chance::percent(3)).jitter(millis(4))
}

/// Login, a group, messages, a switch of path and back, a leave, a new join, a logout. The first two clients can go direct,
/// the third cannot with anyone.
fn session(lab: &mut Lab) {
    let ids = lab.log_in();
    let (apps, desk) = (lab.apps.clone(), lab.desk);
    let group = lab.group(&ids);
    let everyone_sends = |lab: &mut Lab| {
        for n in 0..20u8 {
            for app in &apps {
                lab.send(*app, group, Channel::reliable(n % 2), &[n; 500]);
                lab.send(*app, group, Channel::unreliable(0), &[n; 100]);
            }
            lab.world.run_for(millis(17)).unwrap();
        }
    };
    everyone_sends(lab);
    assert!(lab.run_until_direct(apps[0], apps[1], millis(3_000)));
    everyone_sends(lab);
    lab.world.block_between(apps[0], apps[1]);
    lab.send(apps[0], ids[1], Channel::reliable(3), &[1; 30_000]);
    everyone_sends(lab);
    lab.world.run_for(millis(2_000)).unwrap();
    assert!(!lab.direct(apps[0], apps[1]));
    lab.world.unblock_between(apps[0], apps[1]);
    assert!(lab.run_until_direct(apps[0], apps[1], millis(30_000)));
    lab.world.act(desk, |d, now| d.server.leave_group(now, ids[1], group)).unwrap();
    lab.world.run_for(millis(300)).unwrap();
    lab.world.act(desk, |d, now| d.server.join_group(now, ids[1], group, b"again")).unwrap();
    let hello = |d: &mut Desk, now| d.server.send(now, ids[2], Channel::reliable(0), b"hello", SendOptions::default());
    lab.world.act(desk, hello).unwrap();
    lab.send(apps[0], PeerId::SERVER, Channel::reliable(0), b"hello");
    everyone_sends(lab);
    lab.world.act(apps[1], |app, now| app.client.disconnect(now));
    lab.world.act(desk, |d, now| d.server.disconnect(now, ids[2])).unwrap();
    lab.world.run_for(millis(1_000)).unwrap();
}

/// A whole session in a world of that seed; the digest over all that happened and how many events that was.
fn history(seed: u64) -> (u128, u64) {
    let mut lab = Lab::with_server_link(seed, bad_link());
    for nat in [Nat::home(), Nat::home(), Nat::symmetric()] {
        let home = lab.world.home(nat);
        lab.client_on(home, bad_link());
    }
    session(&mut lab);
    (lab.world.digest(), lab.world.events())
}

#[test]
fn a_session_is_the_same_twice_in_one_process_and_another_with_another_seed() {
    let first = history(1);
    assert_eq!(first, history(1));
    assert_ne!(first.0, history(2).0);
}

#[test]
fn a_session_is_the_same_in_another_process() {
    if let Ok(seed) = std::env::var(CHILD) {
        println!("digest {:032x}", history(seed.parse().unwrap()).0);
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_session_is_the_same_in_another_process", "--nocapture"])
        .env(CHILD, "3")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains(&format!("digest {:032x}", history(3).0)), "{said}");
}

/// What one machine was made of, what entered it and what it was seen to send.
struct Recorded<C> {
    config: C,
    recording: Recording,
    outputs: Outputs,
}

type Made<C> = Rc<RefCell<Option<C>>>;

/// The session above, recorded: the server and each client.
fn record() -> (Recorded<ServerConfig>, Vec<Recorded<ClientConfig>>) {
    let mut world = World::new(4);
    let recorders: Vec<_> = (0..4).map(|_| Recorder::new()).collect();
    let outputs: Vec<_> = (0..4).map(|host| Rc::new(RefCell::new(Outputs::of(host)))).collect();
    for output in &outputs {
        world.observe(Box::new(Rc::clone(output)));
    }
    let (made, tap): (Made<ServerConfig>, _) = (Made::default(), recorders[0].clone());
    let keep = Rc::clone(&made);
    let internet = world.internet();
    let desk = world.host(internet, bad_link(), move |now, _, seed| {
        let config = ServerConfig::new(SERVER_KEY, APP, seed);
        let mut server = Server::new(now, config.clone()).unwrap();
        keep.replace(Some(config));
        server.tap(Some(Box::new(tap.clone())));
        Desk::new(server)
    });
    let mut lab = Lab { world, desk, apps: Vec::new() };
    let server = lab.world.addr(desk);
    let mut clients = Vec::new();
    for (n, nat) in [Nat::home(), Nat::home(), Nat::symmetric()].into_iter().enumerate() {
        let (made, tap): (Made<ClientConfig>, _) = (Made::default(), recorders[n + 1].clone());
        let keep = Rc::clone(&made);
        let home = lab.world.home(nat);
        lab.apps.push(lab.world.host(home, bad_link(), move |now, _, seed| {
            let config = ClientConfig::new(server, posse_core::secure::public_key(&SERVER_KEY), APP, seed);
            let mut client = Client::new(now, config.clone()).unwrap();
            keep.replace(Some(config));
            client.tap(Some(Box::new(tap.clone())));
            App::new(client)
        }));
        clients.push(made);
    }
    session(&mut lab);
    let seen = |n: usize| (recorders[n].take(), outputs[n].borrow().clone());
    let (recording, sent) = seen(0);
    let server = Recorded { config: made.take().unwrap(), recording, outputs: sent };
    let clients = clients.into_iter().enumerate().map(|(n, made)| {
        let (recording, outputs) = seen(n + 1);
        Recorded { config: made.take().unwrap(), recording, outputs }
    });
    (server, clients.collect())
}

/// All of them begin when the world does.
const START: posse_core::Instant = posse_core::Instant::ZERO;

#[test]
fn recordings_of_a_server_and_its_clients_replay_to_the_same_bytes() {
    let (server, clients) = record();
    let again = replay(&mut Server::new(START, server.config).unwrap(), &server.recording);
    assert_eq!((again.datagrams(), again.digest()), (server.outputs.datagrams(), server.outputs.digest()));
    for client in clients {
        assert!(client.outputs.datagrams() > 100);
        let again = replay(&mut Client::new(START, client.config).unwrap(), &client.recording);
        assert_eq!((again.datagrams(), again.digest()), (client.outputs.datagrams(), client.outputs.digest()));
    }
}

#[test]
fn calls_of_the_application_are_in_a_recording_as_what_they_were() {
    let (server, clients) = record();
    let commands = server.recording.entries.iter().filter_map(|(_, entry)| match entry {
        OwnedEntry::Command(command) => Some(command),
        _ => None,
    });
    let commands: Vec<_> = commands.collect();
    let count = |is: fn(&Command) -> bool| commands.iter().filter(|c| is(c)).count();
    assert_eq!(count(|c| matches!(c, Command::Accept { .. })), 3);
    assert_eq!(count(|c| matches!(c, Command::CreateGroup { members, .. } if members.len() == 3)), 1);
    assert_eq!(count(|c| matches!(c, Command::Leave { .. })), 1);
    assert_eq!(count(|c| matches!(c, Command::Join { message, .. } if message == b"again")), 1);
    assert_eq!(count(|c| matches!(c, Command::Disconnect { .. })), 1);
    assert_eq!(commands.len(), 7);
    let sends = |r: &Recording| r.entries.iter().filter(|(_, e)| matches!(e, OwnedEntry::Send { .. })).count();
    assert_eq!(sends(&server.recording), 1);
    assert_eq!(sends(&clients[0].recording), 4 * 20 * 2 + 2);
}

#[test]
fn a_poll_left_out_of_a_recording_or_a_bit_changed_in_it_shows() {
    let (server, clients) = record();
    let mut without = clients[0].recording.clone();
    without.entries.retain(|(_, entry)| *entry != OwnedEntry::PollEvent);
    let again = replay(&mut Client::new(START, clients[0].config.clone()).unwrap(), &without);
    assert_ne!(again.digest(), clients[0].outputs.digest(), "joins count as processed when polled");

    let mut changed = server.recording.clone();
    let datagram = changed.entries.iter_mut().find_map(|(_, entry)| match entry {
        OwnedEntry::Input { input: OwnedInput::Datagrams { bytes, .. }, .. } => bytes.last_mut(),
        _ => None,
    });
    *datagram.unwrap() ^= 1;
    let again = replay(&mut Server::new(START, server.config).unwrap(), &changed);
    assert_ne!(again.digest(), server.outputs.digest());
}
