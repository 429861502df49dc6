use super::*;
use crate::entropy::Entropy;
use crate::secure::suite::{Aes256Gcm, ChaCha20Poly1305, suites};
use crate::wire::header::{Kind, SHORT_MIN, classify};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::sync::Mutex;

const SECRET: [u8; 32] = [42; 32];

fn pair_with(crypto: Arc<dyn Crypto>) -> (Protection, Protection) {
    let secret = Secret::new(SECRET);
    (Protection::new(crypto.clone(), &secret, Role::Initiator), Protection::new(crypto, &secret, Role::Responder))
}

fn pair() -> (Protection, Protection) {
    pair_with(Arc::new(Aes256Gcm))
}

fn seal(from: &mut Protection, path: u8, number: u64, acked: Option<u64>, body: &[u8]) -> Result<Vec<u8>, SealError> {
    let start = Protection::header_len(number, acked);
    let mut buf = vec![0xaa; start + body.len() + 40];
    buf[start..start + body.len()].copy_from_slice(body);
    let len = from.seal(path, number, acked, &mut buf, body.len())?;
    assert!(buf[len..].iter().all(|&b| b == 0xaa), "nothing is written past the packet");
    buf.truncate(len);
    Ok(buf)
}

fn open(to: &mut Protection, path: u8, packet: &[u8]) -> Result<(u64, u64, Vec<u8>), OpenError> {
    let mut packet = packet.to_vec();
    to.open(path, &mut packet).map(|o| (o.number, o.generation, o.body.to_vec()))
}

/// A suite that notes every (key, nonce) it seals with.
struct Recording(Ledger);
struct RecordingKey(Box<dyn PacketKey>, [u8; 32], Ledger);
type Ledger = Arc<Mutex<Vec<([u8; 32], [u8; 12])>>>;

impl Crypto for Recording {
    fn id(&self) -> u8 {
        2
    }
    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
        Box::new(RecordingKey(ChaCha20Poly1305.packet_key(secret), *secret, self.0.clone()))
    }
    fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey> {
        ChaCha20Poly1305.header_key(secret)
    }
}

impl PacketKey for RecordingKey {
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize {
        self.2.lock().unwrap().push((self.1, nonce));
        self.0.seal(nonce, aad, buf, len)
    }
    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.0.open(nonce, aad, buf)
    }
}

#[test]
fn what_one_end_seals_the_other_opens_in_every_suite_on_every_path() {
    for crypto in suites(true) {
        let (mut a, mut b) = pair_with(crypto);
        for path in 0..PATHS as u8 {
            let packet = seal(&mut a, path, 7, Some(3), b"hello").unwrap();
            assert_eq!(classify(&packet), Some(Kind::Short { cid: b.cid_in(path) }));
            assert_eq!(open(&mut b, path, &packet), Ok((7, 0, b"hello".to_vec())));
            let packet = seal(&mut b, path, 7, Some(3), b"there").unwrap();
            assert_eq!(classify(&packet), Some(Kind::Short { cid: a.cid_in(path) }));
            assert_eq!(open(&mut a, path, &packet), Ok((7, 0, b"there".to_vec())));
        }
    }
}

#[test]
fn a_short_body_is_padded_until_the_sample_exists() {
    let (mut a, mut b) = pair();
    for (number, body) in [(0, &b""[..]), (1, b"x"), (2, b"xy"), (3, b"xyz"), (4, b"xyzw")] {
        let packet = seal(&mut a, 0, number, number.checked_sub(1), body).unwrap();
        assert!(packet.len() >= SHORT_MIN);
        let (_, _, opened) = open(&mut b, 0, &packet).unwrap();
        assert_eq!(opened.len(), body.len().max(3));
        assert!(opened.starts_with(body) && opened[body.len()..].iter().all(|&b| b == 0));
    }
}

#[test]
fn connection_ids_differ_by_direction_path_secret_and_suite() {
    let mut ids = BTreeSet::new();
    for crypto in suites(true) {
        for secret in [SECRET, [43; 32]] {
            for role in [Role::Initiator, Role::Responder] {
                let p = Protection::new(crypto.clone(), &Secret::new(secret), role);
                ids.extend((0..PATHS as u8).map(|path| p.cid_out(path)));
            }
        }
    }
    assert_eq!(ids.len(), 2 * 2 * 2 * PATHS);
}

#[test]
fn an_agreed_connection_id_replaces_the_derived_one() {
    let (mut client, mut server) = pair();
    client.set_cid_out(0, 99);
    server.set_cid_in(0, 99);
    let packet = seal(&mut client, 0, 0, None, b"hello").unwrap();
    assert_eq!(classify(&packet), Some(Kind::Short { cid: 99 }));
    assert!(open(&mut server, 0, &packet).is_ok());
    assert_ne!(client.cid_in(0), 99);
}

#[test]
fn ends_that_disagree_on_the_suite_or_have_one_role_share_no_key() {
    let secret = Secret::new(SECRET);
    let mut a = Protection::new(Arc::new(Aes256Gcm), &secret, Role::Initiator);
    let mut other_suite = Protection::new(Arc::new(ChaCha20Poly1305), &secret, Role::Responder);
    let mut same_role = Protection::new(Arc::new(Aes256Gcm), &secret, Role::Initiator);
    let packet = seal(&mut a, 0, 0, None, b"hello").unwrap();
    assert!(open(&mut other_suite, 0, &packet).is_err());
    assert!(open(&mut same_role, 0, &packet).is_err());

    /// The same cipher under another number.
    struct Renumbered;
    impl Crypto for Renumbered {
        fn id(&self) -> u8 {
            200
        }
        fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
            Aes256Gcm.packet_key(secret)
        }
        fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey> {
            Aes256Gcm.header_key(secret)
        }
    }
    let mut renumbered = Protection::new(Arc::new(Renumbered), &secret, Role::Responder);
    assert!(open(&mut renumbered, 0, &packet).is_err());
}

#[test]
fn a_packet_of_one_path_is_not_authentic_on_another() {
    let (mut a, mut b) = pair();
    let packet = seal(&mut a, 0, 0, None, b"hello").unwrap();
    assert_eq!(open(&mut b, 1, &packet), Err(OpenError::Forged));
    assert!(open(&mut b, 0, &packet).is_ok());
}

#[test]
fn a_number_is_sealed_once_and_none_after_the_last() {
    let (mut a, _) = pair();
    assert!(seal(&mut a, 0, 5, None, b"x").is_ok());
    assert_eq!(seal(&mut a, 0, 5, None, b"x"), Err(SealError::Reused));
    assert_eq!(seal(&mut a, 0, 4, None, b"x"), Err(SealError::Reused));
    assert!(seal(&mut a, 1, 4, None, b"x").is_ok(), "each path has its own numbers");
    assert!(seal(&mut a, 0, u64::MAX, Some(u64::MAX - 1), b"x").is_ok());
    assert_eq!(seal(&mut a, 0, u64::MAX, Some(u64::MAX - 1), b"x"), Err(SealError::Exhausted));
    assert_eq!(seal(&mut a, 0, 6, Some(5), b"x"), Err(SealError::Exhausted));
}

#[test]
fn a_number_that_the_peer_could_not_tell_is_not_sealed() {
    let (mut a, _) = pair();
    assert_eq!(seal(&mut a, 0, 1 << 31, None, b"x"), Err(SealError::Ambiguous));
    assert_eq!(seal(&mut a, 0, (1 << 31) + 8, Some(7), b"x"), Err(SealError::Ambiguous));
    assert!(seal(&mut a, 0, (1 << 31) + 7, Some(7), b"x").is_ok());
}

#[test]
fn a_buffer_that_is_too_small_uses_no_number() {
    let (mut a, mut b) = pair();
    for len in 0..SHORT_MIN {
        assert_eq!(a.seal(0, 0, None, &mut vec![0; len], 3), Err(SealError::NoRoom));
    }
    assert_eq!(a.seal(0, 0, None, &mut [0; 64], usize::MAX), Err(SealError::NoRoom));
    let packet = seal(&mut a, 0, 0, None, b"x").unwrap();
    assert!(open(&mut b, 0, &packet).is_ok());
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let (mut a, mut b) = pair();
    assert_eq!(seal(&mut a, PATHS as u8, 0, None, b"x"), Err(SealError::Path));
    let packet = seal(&mut a, 0, 0, None, b"x").unwrap();
    assert_eq!(open(&mut b, u8::MAX, &packet), Err(OpenError::Path));
}

#[test]
fn numbers_0_and_the_last_are_accepted_once() {
    let (mut a, mut b) = pair();
    for (number, acked) in [(0, None), (u64::MAX, Some(u64::MAX - 1))] {
        let packet = seal(&mut a, 0, number, acked, b"x").unwrap();
        if number == u64::MAX {
            // The receiver has to be near for the number to come back whole.
            let near = seal(&mut a, 1, 0, None, b"y").unwrap();
            assert!(open(&mut b, 1, &near).is_ok());
            b.paths[0].window.mark(u64::MAX - 1);
        }
        assert_eq!(open(&mut b, 0, &packet).map(|o| o.0), Ok(number));
        assert_eq!(open(&mut b, 0, &packet), Err(OpenError::Replayed));
    }
}

#[test]
fn a_forged_number_does_not_move_the_window() {
    let (mut a, mut b) = pair();
    for number in 0..10 {
        let packet = seal(&mut a, 0, number, number.checked_sub(1), b"x").unwrap();
        assert!(open(&mut b, 0, &packet).is_ok());
    }
    let before = b.paths[0].window.clone();
    let honest = seal(&mut a, 0, 10, Some(9), b"x").unwrap();
    // A packet that claims a number far ahead; sealed under other keys, since nobody else has these.
    let mut stranger = Protection::new(Arc::new(Aes256Gcm), &Secret::new([1; 32]), Role::Initiator);
    let forged = seal(&mut stranger, 0, 0x7fff_ffff, None, b"x").unwrap();
    for first in [0x40, 0x43] {
        let mut forged = forged.clone();
        forged[0] = first;
        assert!(open(&mut b, 0, &forged).is_err());
    }
    assert_eq!(b.paths[0].window, before);
    assert!(open(&mut b, 0, &honest).is_ok());
}

#[test]
fn after_a_failed_tag_the_body_is_zero() {
    let (mut a, mut b) = pair();
    let mut packet = seal(&mut a, 0, 0, None, b"some plaintext of some length").unwrap();
    *packet.last_mut().unwrap() ^= 1;
    assert_eq!(b.open(0, &mut packet).err(), Some(OpenError::Forged));
    assert!(packet[NUMBER_OFFSET + 1..].iter().all(|&b| b == 0));
    assert_eq!(b.forged(), 1);
}

#[test]
fn nothing_secret_is_printed() {
    let (a, _) = pair();
    assert_eq!(std::format!("{a:?}"), "Protection { suite: 1, role: Initiator, generation: 0, .. }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    // Within 128 numbers, which the shortest encoding tells apart.
    fn packets_open_once_in_any_order(
        start in prop_oneof![Just(0u64), Just(u64::MAX - 4000), any::<u64>()],
        steps in proptest::collection::vec((1u64..3, 0usize..40, 0u8..PATHS as u8), 1..60),
        order in any::<u64>(), aes: bool,
    ) {
        let (mut a, mut b) = pair_with(suites(true)[usize::from(aes)].clone());
        let acked = start.checked_sub(1);
        for path in 0..PATHS {
            if let Some(acked) = acked {
                b.paths[path].window.mark(acked);
            }
        }
        let mut packets = Vec::new();
        let mut number = start;
        for (step, len, path) in steps {
            let body = vec![len as u8; len];
            packets.push((path, number, seal(&mut a, path, number, acked, &body).unwrap(), body));
            let Some(next) = number.checked_add(step) else { break };
            number = next;
        }
        let mut order = order;
        while !packets.is_empty() {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (path, number, packet, body) = packets.swap_remove((order >> 33) as usize % packets.len());
            let (got, generation, opened) = open(&mut b, path, &packet).unwrap();
            prop_assert_eq!((got, generation), (number, 0));
            prop_assert!(opened.starts_with(&body) && opened.len() == body.len().max(opened.len().min(3)));
            prop_assert_eq!(open(&mut b, path, &packet), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn a_failed_open_changes_a_counter_and_nothing_else(
        body in proptest::collection::vec(any::<u8>(), 0..60), bit in 0usize.., cut in 0usize.., junk in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (mut a, mut b) = pair();
        prop_assert!(open(&mut b, 0, &seal(&mut a, 0, 0, None, b"x").unwrap()).is_ok());
        let before = b.paths[0].window.clone();
        let good = seal(&mut a, 0, 1, Some(0), &body).unwrap();
        let mut flipped = good.clone();
        let bit = bit % (8 * good.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut damaged = vec![flipped, good[..cut % good.len()].to_vec(), junk.clone()];
        damaged.push([&[0x40 | junk.first().copied().unwrap_or(0) & 0x0f][..], &good[1..9], &junk].concat());
        for packet in damaged {
            prop_assert!(open(&mut b, 0, &packet).is_err());
            prop_assert_eq!(&b.paths[0].window, &before);
            prop_assert_eq!((b.generation, b.peer_moved, b.share_acked), (0, true, false));
        }
        prop_assert!(open(&mut b, 0, &good).is_ok());
    }
}

/// One end of a link in the upgrade's test: what its transport would do, and no more.
struct End {
    protection: Protection,
    keys: Entropy,
    share: Option<[u8; 32]>,
    next: u64,
    owes_ack: bool,
    forgot_at: Option<usize>,
}

/// A packet under way.
struct InFlight {
    to: usize,
    sealed_at: usize,
    generation: u64,
    packet: Vec<u8>,
}

const SHARE: u8 = 1;
const ACK: u8 = 2;

impl End {
    fn seal(&mut self, to: usize, now: usize) -> InFlight {
        let mut body = vec![0; 34];
        if let Some(share) = self.share {
            body[0] |= SHARE;
            body[1..33].copy_from_slice(&share);
        }
        if self.owes_ack {
            body[0] |= ACK;
        }
        let generation = self.protection.sending_generation();
        let packet = seal(&mut self.protection, 0, self.next, None, &body).unwrap();
        self.next += 1;
        InFlight { to, sealed_at: now, generation, packet }
    }

    fn open(&mut self, flying: &InFlight) {
        let opened = open(&mut self.protection, 0, &flying.packet);
        if let Some(forgot_at) = self.forgot_at.filter(|_| flying.generation == 0) {
            assert!(forgot_at > flying.sealed_at, "sealed with a key that the other end had forgotten");
            assert_eq!(opened, Err(OpenError::Generation));
            return;
        }
        let (_, generation, body) = opened.unwrap();
        assert_eq!(generation, flying.generation);
        if body[0] & SHARE != 0 {
            self.protection.on_share(&body[1..33].try_into().unwrap()).unwrap();
            self.owes_ack = true;
        }
        if body[0] & ACK != 0 {
            self.protection.on_share_acked();
        }
    }

    fn offer(&mut self) {
        let share = self.protection.offer(self.keys.keys());
        assert!(self.share.is_none_or(|before| before == share));
        self.share = Some(share);
    }
}

fn ends(crypto: &Arc<dyn Crypto>) -> [End; 2] {
    let (a, b) = pair_with(crypto.clone());
    let mut seed = 0;
    [a, b].map(|protection| {
        seed += 1;
        let keys = Entropy::new(&[seed; 32]);
        End { protection, keys, share: None, next: 0, owes_ack: false, forgot_at: None }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn through_the_upgrade_each_end_opens_what_the_other_seals_in_any_order_and_with_any_loss(
        steps in proptest::collection::vec((0u8..8, 0usize..2, any::<u32>()), 1..120),
    ) {
        let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
        let mut ends = ends(&crypto);
        let mut flying: Vec<InFlight> = Vec::new();
        for (now, (step, end, pick)) in steps.into_iter().enumerate() {
            match step {
                0 => ends[end].offer(),
                1..=3 => {
                    let packet = ends[end].seal(1 - end, now);
                    flying.push(packet);
                }
                4 if !flying.is_empty() => drop(flying.swap_remove(pick as usize % flying.len())),
                5 => {
                    ends[end].protection.forget_old();
                    if ends[end].protection.generation == 1 && ends[end].protection.old_keys.is_none() {
                        ends[end].forgot_at.get_or_insert(now);
                    }
                }
                _ if !flying.is_empty() => {
                    let packet = flying.swap_remove(pick as usize % flying.len());
                    ends[packet.to].open(&packet);
                }
                _ => {}
            }
        }
        // Without further loss the upgrade comes to its end.
        for round in 1000..1004 {
            for end in 0..2 {
                ends[end].offer();
                let packet = ends[end].seal(1 - end, round);
                ends[1 - end].open(&packet);
            }
        }
        for end in &mut ends {
            prop_assert!(end.forgot_at.is_some() || end.protection.outlived());
            end.protection.forget_old();
            prop_assert!(end.protection.generation == 1 && end.protection.old_keys.is_none());
        }
    }

    #[test]
    fn no_key_and_nonce_seal_twice_whatever_the_caller_does(
        steps in proptest::collection::vec((0usize..2, 0u8..=PATHS as u8, 0u64..40, 0usize..60), 1..150), upgrade_at in 0usize..150,
    ) {
        let ledger = Ledger::default();
        let crypto: Arc<dyn Crypto> = Arc::new(Recording(ledger.clone()));
        let mut ends = ends(&crypto);
        let mut sealed = 0;
        for (at, (end, path, number, room)) in steps.into_iter().enumerate() {
            if at == upgrade_at {
                let shares = [0, 1].map(|end: usize| { ends[end].offer(); ends[end].share.unwrap() });
                for end in 0..2 {
                    ends[end].protection.on_share(&shares[1 - end]).unwrap();
                    ends[end].protection.on_share_acked();
                    prop_assert_eq!(ends[end].protection.sending_generation(), 1);
                }
            }
            sealed += usize::from(ends[end].protection.seal(path, number, None, &mut vec![0; room], 4).is_ok());
        }
        let ledger = ledger.lock().unwrap();
        prop_assert_eq!(ledger.len(), sealed);
        prop_assert_eq!(ledger.iter().collect::<BTreeSet<_>>().len(), sealed);
    }
}

#[test]
fn generation_1_does_not_follow_from_the_links_secret() {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let [mut a, mut b] = ends(&crypto);
    let [_, mut spy] = ends(&crypto);
    a.offer();
    b.offer();
    a.protection.on_share(&b.share.unwrap()).unwrap();
    b.protection.on_share(&a.share.unwrap()).unwrap();
    a.protection.on_share_acked();
    // The spy has the link's secret and both public shares, and its own ephemeral key at best.
    spy.keys = Entropy::new(&[99; 32]);
    spy.offer();
    spy.protection.on_share(&a.share.unwrap()).unwrap();
    let packet = seal(&mut a.protection, 0, 0, None, b"hello").unwrap();
    assert_eq!(open(&mut spy.protection, 0, &packet), Err(OpenError::Forged));
    assert_eq!(open(&mut b.protection, 0, &packet), Ok((0, 1, b"hello".to_vec())));
    assert_eq!(b.protection.sending_generation(), 1, "a packet of generation 1 proves that the peer has it");
    assert!(matches!(a.protection.upgrade, Upgrade::Done { .. }), "the roots and the ephemeral secret are gone");
}

#[test]
fn a_share_may_come_before_the_own_one_is_drawn() {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let [mut a, mut b] = ends(&crypto);
    a.offer();
    b.protection.on_share(&a.share.unwrap()).unwrap();
    assert!(b.protection.next.is_none());
    b.offer();
    assert!(b.protection.next.is_some());
}

#[test]
fn generation_1_is_not_sent_before_the_peer_can_open_it() {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let [mut a, mut b] = ends(&crypto);
    a.offer();
    b.offer();
    a.protection.on_share(&b.share.unwrap()).unwrap();
    assert_eq!(a.protection.sending_generation(), 0);
    a.protection.forget_old();
    let packet = seal(&mut b.protection, 0, 0, None, b"hello").unwrap();
    assert!(open(&mut a.protection, 0, &packet).is_ok(), "forgetting waits until the peer has moved");
    a.protection.on_share_acked();
    assert_eq!(a.protection.sending_generation(), 1);
}

#[test]
fn the_same_share_again_changes_nothing_and_another_one_is_refused() {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let [mut a, mut b] = ends(&crypto);
    b.offer();
    let share = b.share.unwrap();
    for offered in [false, true] {
        if offered {
            a.offer();
        }
        assert_eq!(a.protection.on_share(&share), Ok(()));
        assert_eq!(a.protection.on_share(&share), Ok(()));
        assert_eq!(a.protection.on_share(&[9; 32]), Err(ShareError::Changed));
    }
}

#[test]
fn a_share_of_low_order_is_refused_and_leaves_room_for_a_good_one() {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let [mut a, mut b] = ends(&crypto);
    for offered in [false, true] {
        if offered {
            a.offer();
        }
        assert_eq!(a.protection.on_share(&[0; 32]), Err(ShareError::LowOrder(LowOrder)));
    }
    b.offer();
    assert_eq!(a.protection.on_share(&b.share.unwrap()), Ok(()));
}

/// Both ends of a link without shares, and what each of them numbers next.
fn settled() -> ([Protection; 2], [u64; 2]) {
    let crypto: Arc<dyn Crypto> = Arc::new(ChaCha20Poly1305);
    let secret = Secret::new(SECRET);
    let ends = [Role::Initiator, Role::Responder].map(|role| Protection::without_shares(crypto.clone(), &secret, role));
    (ends, [0; 2])
}

/// One packet from an end to the other: the generation that it came in.
fn exchange(ends: &mut [Protection; 2], numbers: &mut [u64; 2], from: usize) -> Result<u64, OpenError> {
    let packet = seal(&mut ends[from], 0, numbers[from], None, b"hello").unwrap();
    numbers[from] += 1;
    open(&mut ends[1 - from], 0, &packet).map(|(_, generation, _)| generation)
}

#[test]
fn an_update_waits_until_both_ends_have_come_to_rest_and_the_other_end_follows_it() {
    let (mut ends, mut n) = settled();
    ends[0].update();
    assert_eq!(ends[0].sending_generation(), 0, "the peer was not heard yet");
    for round in 0..9 {
        assert_eq!([0, 1].map(|end| exchange(&mut ends, &mut n, end)), [Ok(round), Ok(round)]);
        ends.iter_mut().for_each(Protection::forget_old);
        let late = seal(&mut ends[1], 0, n[1], None, b"late").unwrap();
        n[1] += 1;
        ends[0].update();
        ends[0].update();
        assert_eq!(ends[0].sending_generation(), round + 1, "once: the other end has not followed");
        assert_eq!(open(&mut ends[0], 0, &late).map(|o| o.1), Ok(round), "what was under way still opens");
        assert_eq!(exchange(&mut ends, &mut n, 0), Ok(round + 1));
        assert_eq!(ends[1].sending_generation(), round + 1);
        assert!(!ends[0].outlived() && ends[1].outlived());
    }
}

#[test]
fn old_keys_open_nothing_once_they_are_forgotten_and_do_not_follow_from_later_ones() {
    let (mut ends, mut n) = settled();
    let late = seal(&mut ends[0], 0, 500, None, b"late").unwrap();
    n[0] = 501;
    (0..2).for_each(|end| _ = exchange(&mut ends, &mut n, end));
    ends[1].update();
    (0..2).for_each(|end| _ = exchange(&mut ends, &mut n, 1 - end));
    ends[1].forget_old();
    assert_eq!(open(&mut ends[1], 0, &late), Err(OpenError::Generation));
}

#[test]
fn a_generation_wears_out_after_a_million_packets() {
    let (mut ends, _) = settled();
    ends[0].sealed = UPDATE_AFTER - 1;
    assert!(!ends[0].is_worn());
    seal(&mut ends[0], 0, 0, None, b"x").unwrap();
    assert!(ends[0].is_worn());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn through_any_updates_each_end_opens_what_the_other_seals_unless_it_had_forgotten(
        steps in proptest::collection::vec((0u8..8, 0usize..2, any::<u32>()), 1..200),
    ) {
        let (mut ends, mut n) = settled();
        let mut flying: Vec<(usize, u64, Vec<u8>)> = Vec::new();
        for (step, end, pick) in steps {
            match step {
                0 => ends[end].update(),
                1 => ends[end].forget_old(),
                2..=4 => {
                    let generation = ends[end].sending_generation();
                    let packet = seal(&mut ends[end], 0, n[end], None, b"hello").unwrap();
                    n[end] += 1;
                    flying.push((1 - end, generation, packet));
                }
                _ if !flying.is_empty() => {
                    let (to, generation, packet) = flying.swap_remove(pick as usize % flying.len());
                    let has = ends[to].sending_generation();
                    let opened = open(&mut ends[to], 0, &packet).map(|o| o.1);
                    let kept = generation >= has || generation + 1 == has && ends[to].old_keys.is_some();
                    // Four generations later the same two bits name another one, whose keys do not fit.
                    let gone = matches!(opened, Err(OpenError::Generation | OpenError::Forged));
                    let right = if kept { opened == Ok(generation) } else { gone };
                    prop_assert!(right);
                    prop_assert!(ends[0].generation.abs_diff(ends[1].generation) <= 1);
                }
                _ => {}
            }
        }
    }
}
