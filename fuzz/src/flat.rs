//! A cipher suite whose tag is a constant and whose header mask is zero: whoever knows a link's connection id can make its
//! packets. That is what lets a fuzzer stand behind the encryption, at any link, without knowing a key.

use posse_core::secure::{Crypto, HeaderKey, PacketKey};

/// What ends every authentic packet.
pub(crate) const TAG: [u8; 16] = *b"an authentic tag";

/// See the module's text.
pub(crate) struct Flat;

impl Crypto for Flat {
    fn id(&self) -> u8 {
        u8::MAX
    }

    fn packet_key(&self, _: &[u8; 32]) -> Box<dyn PacketKey> {
        Box::new(Flat)
    }

    fn header_key(&self, _: &[u8; 32]) -> Box<dyn HeaderKey> {
        Box::new(Flat)
    }
}

impl PacketKey for Flat {
    fn seal(&mut self, _: [u8; 12], _: &[u8], buf: &mut [u8], len: usize) -> usize {
        let Some(place) = buf.get_mut(len..len + TAG.len()) else { return 0 };
        place.copy_from_slice(&TAG);
        len + TAG.len()
    }

    fn open<'b>(&mut self, _: [u8; 12], _: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        if !buf.ends_with(&TAG) {
            buf.fill(0);
            return None;
        }
        let len = buf.len() - TAG.len();
        buf.get_mut(..len)
    }
}

impl HeaderKey for Flat {
    fn mask(&self, _: &[u8; 16]) -> [u8; 5] {
        [0; 5]
    }
}
