//! The seam to a cipher implementation: what a suite has to offer.

use alloc::boxed::Box;

/// A cipher suite: authenticated encryption of packets and the mask of their headers (RFC 9001 §5.3, §5.4).
///
/// Chosen at construction and used as a trait object, so that a driver may bring a faster implementation and the simulator
/// one that encrypts nothing. Implementations are pure: same arguments, same result.
pub trait Crypto: Send + Sync {
    /// The suite's number on the wire. It is part of every key's derivation, so that two ends that disagree on the suite
    /// share no key. Numbers from 128 on are for suites that are not of this crate.
    fn id(&self) -> u8;
    /// A key for packets. `secret` is uniformly random and used for nothing else.
    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey>;
    /// A key for the masks of headers. `secret` is uniformly random and used for nothing else.
    fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey>;
}

/// An expanded key for one direction of one link. Its tags are 16 bytes.
pub trait PacketKey: Send {
    /// Encrypts `buf[..len]` in place and puts the tag behind it. Returns `len + 16`, or 0 and `buf` unchanged if `buf` is
    /// shorter than that. No nonce is ever passed twice.
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize;
    /// Decrypts `buf`, whose last 16 bytes are the tag, in place and returns the plaintext. If the tag does not fit, or
    /// `buf` is shorter than a tag: `None`, and `buf` is zero all over, so that no unauthenticated plaintext remains.
    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]>;
}

/// An expanded key for the masks of one direction's headers.
pub trait HeaderKey: Send {
    /// The mask for a header whose packet has this sample.
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5];
}
