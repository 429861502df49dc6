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
//! that the peer can open it: the peer acknowledged its share, or sent a packet of generation 1. Whoever derived the keys
//! forgets the ephemeral secret and both roots at once; the old sending key goes with the switch, and the old receiving key
//! when the link says so ([`Protection::forget_old`]), since packets of generation 0 may still be under way.
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

/// Key generations held at a time: the one of the static keys and the one of the ephemeral keys.
const GENERATIONS: usize = 2;

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
    seal_keys: [Option<Keys>; GENERATIONS],
    open_keys: [Option<Keys>; GENERATIONS],
    paths: [PathState; PATHS],
    /// The generation that is sent.
    sending: usize,
    upgrade: Upgrade,
    /// The peer has this end's share.
    share_acked: bool,
    /// A packet of generation 1 was opened.
    peer_moved: bool,
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
            seal_keys: [Some(Keys::new(&*crypto, &root, own)), None],
            open_keys: [Some(Keys::new(&*crypto, &root, peer)), None],
            paths: core::array::from_fn(|path| PathState {
                cid_in: cid(peer, path),
                cid_out: cid(own, path),
                sealed: None,
                window: ReplayWindow::new(),
            }),
            sending: 0,
            upgrade: Upgrade::Waiting { root, own: None, peer: None },
            share_acked: false,
            peer_moved: false,
            forged: 0,
            crypto,
        }
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
        let keys = self.seal_keys.get_mut(self.sending).and_then(Option::as_mut).ok_or(SealError::Path)?;

        let mut w = Writer::new(buf);
        w.u8(SHORT | (self.sending as u8) << 2 | (number_len as u8).saturating_sub(1))?;
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

        let generation = usize::from(flags >> 2 & 0b11);
        let keys = self.open_keys.get_mut(generation).and_then(Option::as_mut).ok_or(OpenError::Generation)?;
        let Some(body) = keys.key.open(keys.nonce(path, number), header, body) else {
            self.forged = self.forged.saturating_add(1);
            return Err(OpenError::Forged);
        };
        if !state.window.check(number) {
            return Err(OpenError::Replayed);
        }
        state.window.mark(number);
        if generation == 1 {
            self.peer_moved = true;
            self.advance();
        }
        Ok(Opened { number, generation: generation as u64, body })
    }

    /// This end's ephemeral public key, to be sent to the peer until acknowledged. The same one at every call.
    pub(crate) fn offer(&mut self, keys: &mut KeyStream) -> [u8; 32] {
        let public = match &mut self.upgrade {
            Upgrade::Done { own, .. } => return *own,
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
        self.advance();
    }

    /// The generation that packets are sealed with from now on.
    pub(crate) const fn sending_generation(&self) -> u64 {
        self.sending as u64
    }

    /// Whether both ends send generation 1. What is still under way of generation 0 was sent before this became true.
    pub(crate) const fn upgraded(&self) -> bool {
        self.sending == 1 && self.peer_moved
    }

    /// Erases the keys of generation 0, unless the peer may still be sending it: see [`Self::upgraded`].
    pub(crate) fn forget_old(&mut self) {
        if self.upgraded() {
            let [old, _] = &mut self.open_keys;
            *old = None;
        }
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
        let [_, seal] = &mut self.seal_keys;
        *seal = Some(Keys::new(&*self.crypto, &root, self.role));
        let [_, open] = &mut self.open_keys;
        *open = Some(Keys::new(&*self.crypto, &root, self.role.other()));
        // Drops, and so erases, the ephemeral secret and the root of generation 0.
        self.upgrade = done;
        self.advance();
        Ok(())
    }

    /// Switches to sending generation 1 once the peer is known to be able to open it.
    fn advance(&mut self) {
        let [old, new] = &mut self.seal_keys;
        if new.is_some() && (self.share_acked || self.peer_moved) {
            self.sending = 1;
            *old = None;
        }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("suite", &self.crypto.id())
            .field("role", &self.role)
            .field("sending", &self.sending)
            .finish_non_exhaustive()
    }
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
