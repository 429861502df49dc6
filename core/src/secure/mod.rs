//! Cipher suites, login handshake, pair keys, packet protection, replay window.
//!
//! | Where | What |
//! |---|---|
//! | [`Crypto`], [`suites`] | the seam to the ciphers, and those of this crate |
//! | `secret` | 32 secret bytes, key derivation, X25519 |
//! | `noise`, `login` | client and server get a session's secrets |
//! | `session` | two clients get their link's secret |
//! | `suite`, `native` | the portable ciphers; the same by `ring`, where that feature is on |
//! | `protection` | sealing and opening packets, connection ids, the upgrade to forward-secret keys |
//! | `replay` | each packet number at most once |
//! | `key_text` | a server's public key as people write it |
//! | `relay_key` | the MAC between a client and the server's relay |

mod crypto;
mod key_text;
pub(crate) mod login;
#[cfg(feature = "ring")]
mod native;
mod noise;
pub(crate) mod protection;
pub(crate) mod relay_key;
pub(crate) mod replay;
pub(crate) mod secret;
pub(crate) mod session;
mod suite;

pub(crate) use self::{
    login::{Asked, ClientLogin, LoginError, LoginReply, ServerLogin},
    protection::{OpenError, PATHS, Protection, Role},
    relay_key::RelayKey,
    replay::ReplayWindow,
    secret::Secret,
    session::{PairContext, SessionKey, pair_secret},
};

pub use self::{
    crypto::{Crypto, HeaderKey, PacketKey},
    key_text::{KeyTextError, key_text, parse_key},
    secret::public_key,
    suite::{Aes256Gcm, ChaCha20Poly1305, suites},
};
