//! Cipher suites, login handshake, pair keys, packet protection, replay window.
//!
//! | Where | What |
//! |---|---|
//! | [`Crypto`], [`suites`] | the seam to the ciphers, and those of this crate |
//! | `secret` | 32 secret bytes, key derivation, X25519 |
//! | `protection` | sealing and opening packets, connection ids, the upgrade to forward-secret keys |
//! | `replay` | each packet number at most once |

mod crypto;
pub(crate) mod protection;
pub(crate) mod replay;
pub(crate) mod secret;
mod suite;

#[allow(unused_imports)]
pub(crate) use self::{
    protection::{OpenError, Opened, PATHS, Protection, Role, SealError, ShareError},
    replay::ReplayWindow,
    secret::{LowOrder, Secret},
};

pub use self::{
    crypto::{Crypto, HeaderKey, PacketKey},
    secret::public_key,
    suite::{Aes256Gcm, ChaCha20Poly1305, suites},
};
