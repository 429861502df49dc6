//! A cursor to read from and one to write to. Integers are big-endian; variable-length ones are those of RFC 9000 §16
//! (two bits of length, then 6, 14, 30 or 62 bits), accepted in any length that holds them.

use thiserror::Error;

/// Bytes that are not what they claim to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Malformed {
    /// It ends before it should.
    #[error("ends too early")]
    Truncated,
    /// A field has a value that it may not have.
    #[error("a field has a value it may not have")]
    Value,
    /// There is more than there should be.
    #[error("bytes left over")]
    Trailing,
}

/// The largest variable-length integer, 2^62 − 1.
pub(crate) const VARINT_MAX: u64 = (1 << 62) - 1;

/// Reads front to back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[cfg(test)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[cfg(test)]
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let first = *self.rest.first().ok_or(Malformed::Truncated)?;
        Ok(match first >> 6 {
            0 => u64::from(self.u8()?),
            1 => u64::from(self.u16()? & 0x3fff),
            2 => u64::from(self.u32()? & 0x3fff_ffff),
            _ => self.u64()? & VARINT_MAX,
        })
    }

    /// A length as a variable-length integer, then that many bytes.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        self.bytes(len)
    }

    /// What is left, all of it.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// What was to be written does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no room")]
pub(crate) struct NoRoom;

/// Writes front to back into memory that it was lent. A failed write writes nothing.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// Bytes written.
    pub(crate) const fn len(&self) -> usize {
        self.at
    }

    /// Bytes that still fit.
    pub(crate) const fn room(&self) -> usize {
        self.buf.len().saturating_sub(self.at)
    }

    /// What was written.
    pub(crate) fn written(&self) -> &[u8] {
        self.buf.get(..self.at).unwrap_or_default()
    }

    /// Takes back everything after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.at = self.at.min(len);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        self.space(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// `len` bytes to fill in.
    pub(crate) fn space(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        let end = self.at.checked_add(len).ok_or(NoRoom)?;
        let space = self.buf.get_mut(self.at..end).ok_or(NoRoom)?;
        self.at = end;
        Ok(space)
    }

    pub(crate) fn u8(&mut self, v: u8) -> Result<(), NoRoom> {
        self.bytes(&[v])
    }

    pub(crate) fn u16(&mut self, v: u16) -> Result<(), NoRoom> {
        self.bytes(&v.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, v: u32) -> Result<(), NoRoom> {
        self.bytes(&v.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, v: u64) -> Result<(), NoRoom> {
        self.bytes(&v.to_be_bytes())
    }

    /// The shortest encoding of `v`; values above 2^62 − 1 do not fit.
    pub(crate) fn varint(&mut self, v: u64) -> Result<(), NoRoom> {
        match varint_len(v) {
            1 => self.u8(v as u8),
            2 => self.u16(v as u16 | 0x4000),
            4 => self.u32(v as u32 | 0x8000_0000),
            8 => self.u64(v | 0xc000_0000_0000_0000),
            _ => Err(NoRoom),
        }
    }

    /// A length as a variable-length integer, then the bytes.
    pub(crate) fn prefixed(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        if varint_len(bytes.len() as u64) + bytes.len() > self.room() {
            return Err(NoRoom);
        }
        self.varint(bytes.len() as u64)?;
        self.bytes(bytes)
    }
}

/// Bytes of the shortest encoding of `v`; `usize::MAX` above 2^62 − 1, so that it fits nowhere.
pub(crate) const fn varint_len(v: u64) -> usize {
    match v {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        0x4000_0000..=VARINT_MAX => 8,
        _ => usize::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a_1() {
        let cases: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in cases {
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
    }

    proptest! {
        #[test]
        fn a_varint_comes_back_from_its_shortest_encoding(shift in 0u32..62, low: u64) {
            let v = low & VARINT_MAX >> shift;
            let mut buf = [0; 8];
            let mut w = Writer::new(&mut buf);
            w.varint(v).unwrap();
            prop_assert_eq!(w.len(), varint_len(v));
            let mut r = Reader::new(w.written());
            prop_assert_eq!(r.varint(), Ok(v));
            prop_assert_eq!(r.end(), Ok(()));
        }

        #[test]
        fn a_write_that_does_not_fit_writes_nothing(v in 64u64..=VARINT_MAX, room in 0usize..8) {
            let mut buf = [0; 8];
            let mut w = Writer::new(&mut buf[..room]);
            if w.varint(v).is_err() {
                prop_assert_eq!(w.len(), 0);
                prop_assert!(varint_len(v) > room);
            }
        }

        #[test]
        fn a_reader_survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut r = Reader::new(&bytes);
            while r.prefixed().is_ok() && !r.is_empty() {}
            prop_assert!(r.remaining() <= bytes.len());
        }
    }

    #[test]
    fn nothing_above_62_bits_is_written() {
        let mut buf = [0; 16];
        assert_eq!(Writer::new(&mut buf).varint(VARINT_MAX + 1), Err(NoRoom));
    }
}
