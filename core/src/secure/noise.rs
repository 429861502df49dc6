//! Noise_IK_25519_ChaChaPoly_SHA256 (The Noise Protocol Framework, revision 34, §7.5): snow's state machine over the
//! primitives that the rest of this crate uses, with randomness from the machine's own key stream.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::secret::{agree, public_key};
use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use sha2::{Digest as _, Sha256};
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern, HashChoice,
    NoiseParams,
};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};
use zeroize::{Zeroize as _, Zeroizing};

/// Length of a tag, in bytes.
const TAG_LEN: usize = 16;

/// The end that knows the other's static key and speaks first. `ephemeral` must be fresh from the key stream.
pub(crate) fn initiator(
    prologue: &[u8],
    own: &[u8; 32],
    peer: &[u8; 32],
    ephemeral: &Zeroizing<[u8; 32]>,
) -> Result<HandshakeState, Error> {
    builder(ephemeral).prologue(prologue)?.local_private_key(own)?.remote_public_key(peer)?.build_initiator()
}

/// The other end. `ephemeral` must be fresh from the key stream.
pub(crate) fn responder(
    prologue: &[u8],
    own: &[u8; 32],
    ephemeral: &Zeroizing<[u8; 32]>,
) -> Result<HandshakeState, Error> {
    builder(ephemeral).prologue(prologue)?.local_private_key(own)?.build_responder()
}

fn builder<'b>(ephemeral: &Zeroizing<[u8; 32]>) -> Builder<'b> {
    let params = NoiseParams::new(
        "Noise_IK_25519_ChaChaPoly_SHA256".to_owned(),
        BaseChoice::Noise,
        HandshakeChoice {
            pattern: HandshakePattern::IK,
            modifiers: HandshakeModifierList { list: Default::default() },
        },
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    );
    Builder::with_resolver(params, Box::new(Resolver { ephemeral: ephemeral.clone() }))
}

struct Resolver {
    ephemeral: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw(Some(self.ephemeral.clone()))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| Box::<X25519>::default() as _)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::SHA256).then(|| Box::<Sha>::default() as _)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly).then(|| Box::<ChaChaPoly>::default() as _)
    }
}

/// Randomness for the one key that one end of one handshake draws. A second draw fails, so that no key can repeat.
struct OneDraw(Option<Zeroizing<[u8; 32]>>);

impl Random for OneDraw {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().ok_or(Error::Rng)?;
        <&mut [u8; 32]>::try_from(dest).map_err(|_| Error::Rng)?.copy_from_slice(&*bytes);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, secret: &[u8]) {
        // The callers in this module pass 32 bytes; a key of another length would be no key.
        if let Ok(secret) = <&[u8; 32]>::try_from(secret) {
            *self.secret = *secret;
            self.public = public_key(secret);
        }
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(self.secret.as_mut())?;
        self.public = public_key(&self.secret);
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        self.secret.as_slice()
    }
    /// Fails for points of low order, as §12.1 allows: the result would be known to everybody.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut::<32>().ok_or(Error::Dh)?;
        *out = *agree(&self.secret, public).map_err(|_| Error::Dh)?;
        Ok(())
    }
}

#[derive(Default)]
struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        if let Some(out) = out.first_chunk_mut::<32>() {
            *out = self.0.finalize_reset().0;
        }
    }
}

#[derive(Default)]
struct ChaChaPoly {
    key: Zeroizing<[u8; 32]>,
}

impl ChaChaPoly {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.key).into())
    }

    /// §12.3: 32 zero bits, then the counter in little-endian order.
    fn nonce(counter: u64) -> [u8; 12] {
        (u128::from(counter) << 32).to_le_bytes().first_chunk().copied().unwrap_or_default()
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }
    fn set(&mut self, key: &[u8; 32]) {
        *self.key = *key;
    }
    /// snow has checked that `out` has the room; if it had not, the message would be empty and the handshake fail.
    fn encrypt(&self, counter: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let Some((body, rest)) = out.split_at_mut_checked(plaintext.len()) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG_LEN>() else { return 0 };
        body.copy_from_slice(plaintext);
        match self.cipher().encrypt_inout_detached((&Self::nonce(counter)).into(), ad, body.into()) {
            Ok(tag) => {
                place.copy_from_slice(&tag);
                plaintext.len().saturating_add(TAG_LEN)
            }
            Err(_) => {
                body.zeroize();
                0
            }
        }
    }
    fn decrypt(&self, counter: u64, ad: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (sealed, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Error::Decrypt)?;
        let body = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        body.copy_from_slice(sealed);
        let nonce = Self::nonce(counter);
        if self.cipher().decrypt_inout_detached((&nonce).into(), ad, (&mut *body).into(), tag.into()).is_err() {
            body.zeroize();
            return Err(Error::Decrypt);
        }
        Ok(sealed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }

    fn key(digits: &str) -> [u8; 32] {
        hex(digits).try_into().unwrap()
    }

    /// From the test vectors of cacophony, the public set that Noise implementations check each other by.
    #[test]
    fn the_cacophony_vector_of_this_handshake() {
        let prologue = hex("4a6f686e2047616c74");
        let mut client = initiator(
            &prologue,
            &key("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
            &key("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62"),
            &Zeroizing::new(key("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")),
        )
        .unwrap();
        let mut server = responder(
            &prologue,
            &key("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
            &Zeroizing::new(key("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")),
        )
        .unwrap();
        let (mut message, mut payload) = ([0; 200], [0; 200]);

        let len = client.write_message(&hex("4c756477696720766f6e204d69736573"), &mut message).unwrap();
        assert_eq!(
            message[..len],
            hex("ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd\
                 6c7413dccdc214d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89\
                 083169825e59642148d492020664ccf7")
        );
        let len = server.read_message(&message[..len], &mut payload).unwrap();
        assert_eq!(payload[..len], hex("4c756477696720766f6e204d69736573"));

        let len = server.write_message(&hex("4d757272617920526f746862617264"), &mut message).unwrap();
        assert_eq!(
            message[..len],
            hex("95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b84\
                 0f194e373979d241b203c4acafccf5")
        );
        let len = client.read_message(&message[..len], &mut payload).unwrap();
        assert_eq!(payload[..len], hex("4d757272617920526f746862617264"));

        let hash = hex("0b0f68fb0c27e03ce9b97565995ed4838cc0581b762ef72b062f6a546419fad7");
        assert_eq!(client.get_handshake_hash(), hash);
        assert_eq!(server.get_handshake_hash(), hash);

        // The first transport messages of each direction check the keys that the handshake splits into.
        let (to_server, to_client) = server.dangerously_get_raw_split();
        for (key, plain, sealed) in [
            (to_server, "462e20412e20486179656b", "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8"),
            (to_client, "4361726c204d656e676572", "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667"),
        ] {
            let cipher = ChaChaPoly { key: Zeroizing::new(key) };
            let len = cipher.encrypt(0, &[], &hex(plain), &mut message);
            assert_eq!(message[..len], hex(sealed));
        }
    }

    #[test]
    fn an_end_draws_one_ephemeral_key() {
        let mut rng = OneDraw(Some(Zeroizing::new([7; 32])));
        let mut out = [0; 32];
        assert_eq!(rng.try_fill_bytes(&mut out), Ok(()));
        assert_eq!(out, [7; 32]);
        assert_eq!(rng.try_fill_bytes(&mut out), Err(Error::Rng));
    }
}
