//! No key ever seals two packets under one nonce, whatever sessions, pairs and paths come and go.
//!
//! Every machine of a world seals with the suite below, and all of them share one ledger. So it also sees two machines, or
//! the two directions of a link, that came by the same key.

use posse_core::secure::{ChaCha20Poly1305, Crypto, HeaderKey, PacketKey};
use posse_core::{Channel, GroupId};
use posse_sim::nat::Nat;
use posse_sim::{Chance, Link};
use posse_tests::Lab;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const CLIENTS: usize = 4;

/// Who sealed what: every pair of key and nonce.
#[derive(Default)]
struct Ledger {
    entries: BTreeSet<([u8; 32], [u8; 12])>,
    keys: BTreeSet<[u8; 32]>,
    seals: u64,
    repeated: u64,
}

/// ChaCha20-Poly1305 that keeps books.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Ledger>>);

struct RecordingKey {
    ledger: Arc<Mutex<Ledger>>,
    secret: [u8; 32],
    key: Box<dyn PacketKey>,
}

impl Crypto for Recording {
    fn id(&self) -> u8 {
        ChaCha20Poly1305.id()
    }
    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
        let key = ChaCha20Poly1305.packet_key(secret);
        Box::new(RecordingKey { ledger: Arc::clone(&self.0), secret: *secret, key })
    }
    fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey> {
        ChaCha20Poly1305.header_key(secret)
    }
}

impl PacketKey for RecordingKey {
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.seals += 1;
        ledger.keys.insert(self.secret);
        ledger.repeated += u64::from(!ledger.entries.insert((self.secret, nonce)));
        self.key.seal(nonce, aad, buf, len)
    }
    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.key.open(nonce, aad, buf)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    /// The host crashes and comes back with nothing but a new seed.
    Restart(usize),
    LogOut(usize),
    Block(usize, usize, bool),
    RebootNat(usize),
    Send(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        3 => client.clone().prop_map(Step::Join),
        3 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Restart),
        1 => client.clone().prop_map(Step::LogOut),
        3 => (client.clone(), client.clone(), any::<bool>()).prop_map(|(a, b, on)| Step::Block(a, b, on)),
        1 => client.clone().prop_map(Step::RebootNat),
        6 => client.prop_map(Step::Send),
        6 => (0..1_500u64).prop_map(Step::Wait),
    ]
}

struct Session {
    lab: Lab,
    group: GroupId,
}

impl Session {
    /// Four clients in one group. The links lose and duplicate, so that there is something to repeat.
    fn new(seed: u64, crypto: &Recording, retain_for: Duration) -> Self {
        let bad = Link::millis(8).loss(Chance::percent(3)).duplicate(Chance::percent(3));
        let suite = crypto.clone();
        let mut lab = Lab::with_server(seed, bad, move |config| config.suites = vec![Arc::new(suite.clone())]);
        for nat in [Nat::home(), Nat::home(), Nat::symmetric(), Nat::home()] {
            let (net, suite) = (lab.world.home(nat), crypto.clone());
            lab.client_with(net, bad, move |config| {
                config.suites = vec![Arc::new(suite.clone())];
                config.timers.retain_for = retain_for;
            });
        }
        let ids = lab.log_in();
        let group = lab.group(&ids);
        Self { lab, group }
    }

    fn take(&mut self, step: &Step) {
        let Self { lab, group } = self;
        let (apps, group) = (lab.apps.clone(), *group);
        match *step {
            Step::Join(client) => {
                let Some(id) = lab.id(apps[client]) else { return };
                let joined = lab.world.act(lab.desk, |d, now| d.server.join_group(now, id, group, b""));
                // The group ended with its last member: a new one takes its place.
                if joined.is_err() && !lab.world.machine(lab.desk).server.members(group).any(|m| m == id) {
                    let create =
                        lab.world.act(lab.desk, |d, now| d.server.create_group(now, &[id], Default::default()));
                    self.group = create.unwrap_or(group);
                }
            }
            Step::Leave(client) => {
                let Some(id) = lab.id(apps[client]) else { return };
                let _ = lab.world.act(lab.desk, |d, now| d.server.leave_group(now, id, group));
            }
            Step::Restart(client) => lab.world.restart(apps[client]),
            Step::LogOut(client) => {
                lab.world.act(apps[client], |app, now| app.client.disconnect(now));
                lab.world.restart(apps[client]);
            }
            Step::Block(a, b, on) if on => lab.world.block_between(apps[a], apps[b]),
            Step::Block(a, b, _) => lab.world.unblock_between(apps[a], apps[b]),
            Step::RebootNat(client) => lab.world.reboot_nat(lab.world.net_of(apps[client])),
            Step::Send(client) => {
                for channel in [Channel::reliable(0), Channel::unreliable(0)] {
                    let _ = lab.send(apps[client], group, channel, &[client as u8; 3000]);
                }
            }
            Step::Wait(ms) => drop(lab.world.run_for(Duration::from_millis(ms)).expect("no livelock")),
        }
    }
}

/// How many keys sealed how many packets; that none repeated a nonce is checked here.
fn run(seed: u64, steps: &[Step], retain_for: Duration) -> Result<(usize, u64), TestCaseError> {
    let crypto = Recording::default();
    let mut session = Session::new(seed, &crypto, retain_for);
    for step in steps {
        session.take(step);
    }
    session.lab.world.run_for(Duration::from_secs(3)).expect("no livelock");
    let ledger = crypto.0.lock().unwrap_or_else(PoisonError::into_inner);
    prop_assert_eq!(ledger.repeated, 0, "of {} seals", ledger.seals);
    Ok((ledger.keys.len(), ledger.seals))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_nonce_is_used_twice_with_a_key_whoever_leaves_rejoins_restarts_or_switches_path(
        seed: u64, steps in proptest::collection::vec(step(), 10..80),
    ) {
        run(seed, &steps, Duration::from_secs(30))?;
    }
}

#[test]
fn every_session_and_every_stay_in_a_group_has_keys_of_its_own() {
    let keys = |change: &[Step]| {
        let everyone_sends = || (0..CLIENTS).map(Step::Send).chain([Step::Wait(1_000)]);
        let settled = || [Step::Wait(1_000)].into_iter().chain(everyone_sends());
        let steps: Vec<_> = settled().chain(change.iter().cloned()).chain(settled()).collect();
        // What is lost may add or spare a generation of keys; not with this seed. Holes that are kept have keys, too: none here.
        run(3, &steps, Duration::ZERO).expect("no nonce twice").0
    };
    let before = keys(&[]);
    let rejoined = keys(&[Step::Leave(0), Step::Wait(1_000), Step::Join(0)]);
    let restarted = keys(&[Step::LogOut(1), Step::Wait(2_000), Step::Join(1)]);
    // Two directions of each link: 4 server links, 6 pairs with a static and a forward-secret generation.
    assert_eq!(before, 2 * 4 + 2 * 2 * 6);
    // Three pairs anew; and the server link of a client that logged in anew.
    assert_eq!(rejoined, before + 2 * 2 * 3);
    assert_eq!(restarted, before + 2 + 2 * 2 * 3);
}
