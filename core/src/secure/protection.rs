//! Packet protection: both directions of one link, over all its paths.
//!
//! **Keys.** The link's secret, bound to the suite's number, gives for each direction one header key that stays, and a
//! connection id a path; and the root of generation 0, which gives packet key and IV for each direction. Generation 0 of a
//! link between clients rests on keys that live as long as their sessions. To make it forward secret, each end sends an
//! ephemeral public key in its first packets ([`Protection::offer`], [`Protection::on_share`]):
//!
//! root 1 = HKDF(salt = root 0, X25519(e, e′)), expanded with both public keys in the label.
//!
//! **When generation 1 is used.** An end *can* open it as soon as it has the peer's share. It *sends* it as soon as it knows
//! that the peer can open it: the peer acknowledged its share, or sent a packet of generation 1. Whoever derived the root
//! forgets the ephemeral secret and root 0 at once; the old sending key goes with the switch, and the old receiving key
//! when the link says so ([`Protection::forget_old`]), since packets of the generation before may still be under way.
//!
//! **Key update** (RFC 9001 §6). The root of each further generation follows from the last, root n + 1 = HKDF(root n), and of
//! the two only the next one is kept, from which no earlier key follows. An end moves on once it has sealed
//! [`UPDATE_AFTER`] packets in a generation, or when the link says that it is old enough ([`Protection::update`]), but not
//! before the peer has followed into the present one and the one before is forgotten. Whoever opens a packet of the next
//! generation follows at once. So no more than two generations are open at a time, and two bits name them.
//!
//! **Nonces.** IV ⊕ (path as 32 bits ‖ packet number as 64 bits). Numbers only ever grow on a path, through all
//! generations, and sealing checks it: no nonce is used twice with one key, whatever the caller does.
//!
//! **Opening** removes header protection, tag and replays in this order and tells them apart only afterwards (RFC 9001
//! §9.5). What fails changes nothing but a counter: windows, generations and keys move only for an authentic packet.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::crypto::{Crypto, HeaderKey, PacketKey};
use super::replay::ReplayWindow;
use super::secret::{LowOrder, Secret, agree, public_key};
use crate::entropy::KeyStream;
use crate::ids::PeerId;
use crate::wire::buf::{NoRoom, Writer};
use crate::wire::header::{
    HEADER_MAX, NUMBER_MAX, NUMBER_OFFSET, PROTECTED_MASK, SAMPLE_OFFSET, SHORT, Short, TAG_LEN, expand, number_len,
};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Paths of a link: the relay (or the server's own path) and the direct one.
pub(crate) const PATHS: usize = 2;

/// Packets that are sealed in one generation: a thousandth of what AES-GCM's confidentiality limit allows for packets of
/// this size (RFC 9001 §6.6 and appendix B.1.1 arrive at 2^23 packets of 2^14 bytes).
const UPDATE_AFTER: u64 = 1 << 20;

/// Which end of a link this is; the two ends' sending keys differ by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The client of a server; of two clients the one with the lower id.
    Initiator,
    /// The other.
    Responder,
}

impl Role {
    /// The role of `own` in the link with `peer`.
    pub(crate) fn between(own: PeerId, peer: PeerId) -> Self {
        if own < peer { Self::Initiator } else { Self::Responder }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// Names the direction that this end sends in, in labels of key derivation.
    const fn label(self) -> u8 {
        match self {
            Self::Initiator => 0,
            Self::Responder => 1,
        }
    }
}

/// Why a packet was not sealed. Nothing was sent and no number used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum SealError {
    /// The buffer does not hold body, padding and tag.
    #[error("no room in the buffer")]
    NoRoom,
    /// This number or a greater one was sealed on this path before.
    #[error("the packet number was used before")]
    Reused,
    /// Packet number 2^64 − 1 was sealed on this path: there is no further one.
    #[error("no packet numbers left")]
    Exhausted,
    /// More than 2^31 numbers are unacknowledged: the peer could not tell which number is meant.
    #[error("too many packet numbers unacknowledged")]
    Ambiguous,
    /// There is no such path.
    #[error("no such path")]
    Path,
}

impl From<NoRoom> for SealError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Why a packet was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum OpenError {
    /// Too short, or reserved bits are set.
    #[error("not a packet")]
    Malformed,
    /// Of a key generation that is not there yet, or no longer.
    #[error("no keys of that generation")]
    Generation,
    /// The tag does not fit: forged, damaged, or for another link or path.
    #[error("not authentic")]
    Forged,
    /// Authentic, but seen before or too old to know.
    #[error("seen before")]
    Replayed,
    /// There is no such path.
    #[error("no such path")]
    Path,
}

/// Why an ephemeral key of the peer was refused. The peer broke the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum ShareError {
    /// The key has low order.
    #[error(transparent)]
    LowOrder(#[from] LowOrder),
    /// It sent another one before.
    #[error("another key share came before")]
    Changed,
}

/// An opened packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened<'b> {
    /// Its packet number.
    pub(crate) number: u64,
    /// The generation of the key that it was sealed with.
    pub(crate) generation: u64,
    /// Its frames.
    pub(crate) body: &'b [u8],
}

/// Packet protection of one link. See the module's text.
pub(crate) struct Protection {
    crypto: Arc<dyn Crypto>,
    role: Role,
    seal_mask: Box<dyn HeaderKey>,
    open_mask: Box<dyn HeaderKey>,
    /// The generation that is sent, and the highest that is opened without deriving anything.
    generation: u64,
    seal_keys: Keys,
    open_keys: Keys,
    /// Of the generation before, until it is forgotten.
    old_keys: Option<Keys>,
    /// The next generation's root, once there is one.
    next: Option<Secret>,
    paths: [PathState; PATHS],
    upgrade: Upgrade,
    /// What the keys of a kept hole come of, on links between clients.
    hold: Option<Secret>,
    /// The peer has this end's share.
    share_acked: bool,
    /// A packet of the present generation was opened.
    peer_moved: bool,
    /// Packets sealed in it.
    sealed: u64,
    forged: u64,
}

/// Packet key and IV of one direction and generation.
struct Keys {
    key: Box<dyn PacketKey>,
    iv: Zeroizing<[u8; 12]>,
}

/// What a link keeps a path.
struct PathState {
    cid_in: u64,
    cid_out: u64,
    sealed: Option<u64>,
    window: ReplayWindow,
}

/// How far the upgrade to generation 1 has come.
enum Upgrade {
    /// There is none on this link: its login was forward secret already.
    Needless,
    /// One of the shares is missing, or both.
    Waiting { root: Secret, own: Option<Ephemeral>, peer: Option<[u8; 32]> },
    /// Both were there, generation 1 is derived, and what it was derived from is erased.
    Done { own: [u8; 32], peer: [u8; 32] },
}

struct Ephemeral {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Protection {
    /// Both directions of a link whose two ends share `secret`.
    pub(crate) fn new(crypto: Arc<dyn Crypto>, secret: &Secret, role: Role) -> Self {
        let link = Secret::extract(b"posse link 1", secret.bytes());
        let suite = crypto.id();
        let mask = |from: Role| crypto.header_key(&link.expand(&[b"header", &[suite, from.label()]]));
        let cid = |from: Role, path: usize| {
            u64::from_be_bytes(*link.expand(&[b"id", &[suite, from.label()], &(path as u64).to_be_bytes()]))
        };
        let root = link.derive(&[b"generation 0", &[suite]]);
        let (own, peer) = (role, role.other());
        Self {
            role,
            seal_mask: mask(own),
            open_mask: mask(peer),
            generation: 0,
            seal_keys: Keys::new(&*crypto, &root, own),
            open_keys: Keys::new(&*crypto, &root, peer),
            old_keys: None,
            next: None,
            paths: core::array::from_fn(|path| PathState {
                cid_in: cid(peer, path),
                cid_out: cid(own, path),
                sealed: None,
                window: ReplayWindow::new(),
            }),
            upgrade: Upgrade::Waiting { root, own: None, peer: None },
            hold: Some(link.derive(&[b"path hold", &[suite]])),
            share_acked: false,
            peer_moved: false,
            sealed: 0,
            forged: 0,
            crypto,
        }
    }

    /// The same for a link that exchanges no ephemeral keys, as its secret comes from some already.
    pub(crate) fn without_shares(crypto: Arc<dyn Crypto>, secret: &Secret, role: Role) -> Self {
        let mut protection = Self::new(crypto, secret, role);
        if let Upgrade::Waiting { root, .. } = core::mem::replace(&mut protection.upgrade, Upgrade::Needless) {
            protection.next = Some(following(&root));
        }
        protection.hold = None;
        protection
    }

    /// Keys for what keeps a hole open when the pair is over: of another secret than any packet's of the pair itself, derived
    /// beside them all, so that neither opens what the other sealed and neither leads to the other. `None` on a link that has
    /// no such secret.
    pub(crate) fn path_hold(&self) -> Option<Self> {
        let secret = self.hold.as_ref()?;
        Some(Self::without_shares(self.crypto.clone(), secret, self.role))
    }

    /// The connection id of packets that arrive on `path`; 0 if there is no such path.
    pub(crate) fn cid_in(&self, path: u8) -> u64 {
        self.paths.get(usize::from(path)).map_or(0, |p| p.cid_in)
    }

    /// The connection id of packets that leave on `path`; 0 if there is no such path.
    #[cfg(test)]
    pub(crate) fn cid_out(&self, path: u8) -> u64 {
        self.paths.get(usize::from(path)).map_or(0, |p| p.cid_out)
    }

    /// Replaces a derived connection id by an agreed one: a server's session ids are its own choice.
    pub(crate) fn set_cid_in(&mut self, path: u8, cid: u64) {
        if let Some(p) = self.paths.get_mut(usize::from(path)) {
            p.cid_in = cid;
        }
    }

    /// As [`Self::set_cid_in`], for packets that leave.
    pub(crate) fn set_cid_out(&mut self, path: u8, cid: u64) {
        if let Some(p) = self.paths.get_mut(usize::from(path)) {
            p.cid_out = cid;
        }
    }

    /// Length of the header that [`Self::seal`] will write, in bytes: where the body has to begin.
    pub(crate) const fn header_len(number: u64, acked: Option<u64>) -> usize {
        match number_len(number, acked) {
            Some(len) => NUMBER_OFFSET.saturating_add(len),
            None => HEADER_MAX,
        }
    }

    /// Seals packet `number` of `path`. `buf` has the body, `body_len` bytes, from [`Self::header_len`] on, with the same
    /// `acked`: the largest number on this path that the peer is known to have received. Writes the header before it, pads
    /// a body of up to 2 bytes to 3 with frames of type PADDING, and returns the packet's whole length.
    pub(crate) fn seal(
        &mut self,
        path: u8,
        number: u64,
        acked: Option<u64>,
        buf: &mut [u8],
        body_len: usize,
    ) -> Result<usize, SealError> {
        let state = self.paths.get_mut(usize::from(path)).ok_or(SealError::Path)?;
        match state.sealed {
            Some(u64::MAX) => return Err(SealError::Exhausted),
            Some(last) if number <= last => return Err(SealError::Reused),
            _ => {}
        }
        let number_len = number_len(number, acked).ok_or(SealError::Ambiguous)?;
        let keys = &mut self.seal_keys;

        let mut w = Writer::new(buf);
        w.u8(SHORT | (self.generation as u8 & 0b11) << 2 | (number_len as u8).saturating_sub(1))?;
        w.u64(state.cid_out)?;
        let low = number.to_be_bytes();
        w.bytes(low.get(low.len().saturating_sub(number_len)..).unwrap_or_default())?;
        let header_len = w.len();
        w.space(body_len)?;
        // The sample begins four bytes after the number's first, so number and body take four bytes at least.
        w.space(NUMBER_MAX.saturating_sub(number_len.saturating_add(body_len)))?.fill(0);
        let body_len = w.len().saturating_sub(header_len);
        w.space(TAG_LEN)?;
        let total = w.len();

        let (header, rest) = buf.split_at_mut_checked(header_len).ok_or(SealError::NoRoom)?;
        let rest = rest.get_mut(..body_len.saturating_add(TAG_LEN)).ok_or(SealError::NoRoom)?;
        // From here on the nonce counts as used, whatever the cipher says.
        state.sealed = Some(number);
        self.sealed = self.sealed.saturating_add(1);
        if keys.key.seal(keys.nonce(path, number), header, rest, body_len) != rest.len() {
            rest.fill(0);
            return Err(SealError::NoRoom);
        }
        let sample = buf.get(SAMPLE_OFFSET..).and_then(<[u8]>::first_chunk).ok_or(SealError::NoRoom)?;
        let mask = self.seal_mask.mask(sample);
        apply_mask(buf.get_mut(..header_len).unwrap_or_default(), mask);
        Ok(total)
    }

    /// Opens a packet that arrived on `path`, in place. On any error nothing has changed but the buffer and a counter.
    pub(crate) fn open<'b>(&mut self, path: u8, datagram: &'b mut [u8]) -> Result<Opened<'b>, OpenError> {
        let state = self.paths.get_mut(usize::from(path)).ok_or(OpenError::Path)?;
        let short = Short::read(datagram).map_err(|_| OpenError::Malformed)?;
        let mask = self.open_mask.mask(&short.sample);
        let [flags_mask, ..] = mask;
        let flags = short.flags ^ flags_mask & PROTECTED_MASK;
        let number_len = usize::from(flags & 0b11).saturating_add(1);
        let header_len = NUMBER_OFFSET.saturating_add(number_len);
        let (masked, body) = datagram.split_at_mut_checked(header_len).ok_or(OpenError::Malformed)?;
        // A copy, so that a datagram that turns out not to be ours keeps its header.
        let mut header = [0; HEADER_MAX];
        let header = header.get_mut(..header_len).ok_or(OpenError::Malformed)?;
        header.copy_from_slice(masked);
        // The length bits are masked themselves, so the mask is laid over as many bytes as they say once bared.
        apply_mask(header, mask);
        let low = header.iter().skip(NUMBER_OFFSET).fold(0_u32, |n, &b| n << 8 | u32::from(b));
        let number = expand(low, 8_u32.saturating_mul(number_len as u32), state.window.largest());

        let ahead = (flags >> 2).wrapping_sub(self.generation as u8) & 0b11;
        let mut following = None;
        let (generation, keys) = match ahead {
            0 => (self.generation, &mut self.open_keys),
            1 => {
                // Derived for each such packet until one proves authentic: a hash and a key schedule, which whoever forges
                // packets costs us anyway.
                let root = self.next.as_ref().ok_or(OpenError::Generation)?;
                let keys = Keys::new(&*self.crypto, root, self.role.other());
                (self.generation.saturating_add(1), following.insert(keys))
            }
            3 => (self.generation.saturating_sub(1), self.old_keys.as_mut().ok_or(OpenError::Generation)?),
            _ => return Err(OpenError::Generation),
        };
        let Some(body) = keys.key.open(keys.nonce(path, number), header, body) else {
            self.forged = self.forged.saturating_add(1);
            return Err(OpenError::Forged);
        };
        if !state.window.check(number) {
            return Err(OpenError::Replayed);
        }
        state.window.mark(number);
        if following.is_some() {
            self.advance();
        }
        self.peer_moved |= generation == self.generation;
        Ok(Opened { number, generation, body })
    }

    /// This end's ephemeral public key, to be sent to the peer until acknowledged. The same one at every call.
    pub(crate) fn offer(&mut self, keys: &mut KeyStream) -> [u8; 32] {
        let public = match &mut self.upgrade {
            Upgrade::Done { own, .. } => return *own,
            Upgrade::Needless => return [0; 32],
            Upgrade::Waiting { own, .. } => own.get_or_insert_with(|| Ephemeral::new(keys)).public,
        };
        // A share that came before was checked when it came, so that this cannot fail for its low order.
        let derived = self.derive();
        debug_assert!(derived.is_ok(), "the peer's share was checked");
        public
    }

    /// Takes the peer's ephemeral public key in. The same one again changes nothing.
    pub(crate) fn on_share(&mut self, share: &[u8; 32]) -> Result<(), ShareError> {
        match &mut self.upgrade {
            Upgrade::Waiting { peer: peer @ None, .. } => {
                // Whether a point has low order does not depend on the private key, which may not be drawn yet.
                agree(&[1; 32], share)?;
                *peer = Some(*share);
                self.derive()?;
                Ok(())
            }
            Upgrade::Waiting { peer: Some(peer), .. } | Upgrade::Done { peer, .. } if peer == share => Ok(()),
            _ => Err(ShareError::Changed),
        }
    }

    /// The peer acknowledged a packet that carried this end's share.
    pub(crate) fn on_share_acked(&mut self) {
        self.share_acked = true;
        self.move_up();
    }

    /// The generation that packets are sealed with from now on.
    pub(crate) const fn sending_generation(&self) -> u64 {
        self.generation
    }

    /// Whether both ends send the present generation and the keys of the one before are still there. What is under way of
    /// that one was sent before this became true.
    pub(crate) const fn outlived(&self) -> bool {
        self.old_keys.is_some() && self.peer_moved
    }

    /// Erases the keys of the generation before, unless the peer may still be sending it: see [`Self::outlived`].
    pub(crate) fn forget_old(&mut self) {
        if self.peer_moved {
            self.old_keys = None;
        }
    }

    /// Whether enough was sealed in this generation for [`Self::update`].
    pub(crate) const fn is_worn(&self) -> bool {
        self.sealed >= UPDATE_AFTER
    }

    /// Sends the next generation from now on, if both ends have come to rest in this one.
    pub(crate) fn update(&mut self) {
        let shared = matches!(self.upgrade, Upgrade::Needless | Upgrade::Done { .. });
        if shared && self.peer_moved && self.old_keys.is_none() && (self.generation > 0 || self.is_needless()) {
            self.advance();
        }
    }

    const fn is_needless(&self) -> bool {
        matches!(self.upgrade, Upgrade::Needless)
    }

    /// Packets whose tag did not fit.
    #[cfg(test)]
    pub(crate) const fn forged(&self) -> u64 {
        self.forged
    }

    /// Derives generation 1 if both shares are there.
    fn derive(&mut self) -> Result<(), LowOrder> {
        let Upgrade::Waiting { root, own: Some(own), peer: Some(peer) } = &self.upgrade else { return Ok(()) };
        let shared = agree(&own.secret, peer)?;
        let (first, second) = match self.role {
            Role::Initiator => (&own.public, peer),
            Role::Responder => (peer, &own.public),
        };
        let root =
            Secret::extract(root.bytes(), &*shared).derive(&[b"generation 1", &[self.crypto.id()], first, second]);
        let done = Upgrade::Done { own: own.public, peer: *peer };
        self.next = Some(root);
        // Drops, and so erases, the ephemeral secret and the root of generation 0.
        self.upgrade = done;
        self.move_up();
        Ok(())
    }

    /// Switches to generation 1 once the peer is known to be able to open it.
    fn move_up(&mut self) {
        if self.generation == 0 && self.share_acked && !self.is_needless() {
            self.advance();
        }
    }

    /// Moves to the next generation, if its root is there.
    fn advance(&mut self) {
        let Some(root) = self.next.take() else { return };
        let open = Keys::new(&*self.crypto, &root, self.role.other());
        self.old_keys = Some(core::mem::replace(&mut self.open_keys, open));
        self.seal_keys = Keys::new(&*self.crypto, &root, self.role);
        self.next = Some(following(&root));
        self.generation = self.generation.saturating_add(1);
        (self.peer_moved, self.sealed) = (false, 0);
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("suite", &self.crypto.id())
            .field("role", &self.role)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The root of the generation after that of `root`; nothing leads back.
fn following(root: &Secret) -> Secret {
    root.derive(&[b"generation next"])
}

impl Keys {
    fn new(crypto: &dyn Crypto, root: &Secret, from: Role) -> Self {
        let label = [crypto.id(), from.label()];
        Self { key: crypto.packet_key(&root.expand(&[b"packet", &label])), iv: root.expand(&[b"iv", &label]) }
    }

    fn nonce(&self, path: u8, number: u64) -> [u8; 12] {
        let counter = u128::from(path) << 64 | u128::from(number);
        let [_, _, _, _, counter @ ..] = counter.to_be_bytes();
        let mut nonce = *self.iv;
        for (byte, count) in nonce.iter_mut().zip(counter) {
            *byte ^= count;
        }
        nonce
    }
}

impl Ephemeral {
    fn new(keys: &mut KeyStream) -> Self {
        let secret = keys.draw();
        Self { public: public_key(&secret), secret }
    }
}

/// Lays the mask over flags and packet number, or takes it off (RFC 9001 §5.4.1). `header` ends with the number.
fn apply_mask(header: &mut [u8], mask: [u8; 5]) {
    let [flags_mask, number_mask @ ..] = mask;
    if let Some(flags) = header.first_mut() {
        *flags ^= flags_mask & PROTECTED_MASK;
    }
    for (byte, mask) in header.iter_mut().skip(NUMBER_OFFSET).zip(number_mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
