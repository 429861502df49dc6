//! What the two ends of `posse bench` send one another: a kind, a number, and the rest. Read without trust.

/// Bytes before the rest.
pub(super) const HEAD: usize = 9;

/// What the answering end counted from the first to the last message of a flood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) nanos: u64,
    /// CPU that its process used meanwhile; 0 if its system does not tell.
    pub(super) cpu_nanos: u64,
}

/// A message, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// To be sent back as a pong with the same number.
    Ping(u64),
    Pong(u64),
    /// One of a flood.
    Data,
    /// A flood is over: its tally is wanted.
    End,
    Tally(Tally),
}

impl Frame {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[kind, a, b, c, d, e, f, g, h], rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        match kind {
            1 => Some(Self::Ping(number)),
            2 => Some(Self::Pong(number)),
            3 => Some(Self::Data),
            4 => Some(Self::End),
            5 => {
                let mut fields = rest.as_chunks::<8>().0.iter().map(|field| u64::from_be_bytes(*field));
                let (bytes, nanos, cpu_nanos) = (fields.next()?, fields.next()?, fields.next()?);
                Some(Self::Tally(Tally { messages: number, bytes, nanos, cpu_nanos }))
            }
            _ => None,
        }
    }

    /// Into `bytes`, padded to `size` if that is more.
    pub(super) fn write(self, bytes: &mut Vec<u8>, size: usize) {
        let (kind, number) = match self {
            Self::Ping(number) => (1, number),
            Self::Pong(number) => (2, number),
            Self::Data => (3, 0),
            Self::End => (4, 0),
            Self::Tally(tally) => (5, tally.messages),
        };
        bytes.clear();
        bytes.push(kind);
        bytes.extend(number.to_be_bytes());
        if let Self::Tally(Tally { bytes: counted, nanos, cpu_nanos, .. }) = self {
            [counted, nanos, cpu_nanos].iter().for_each(|field| bytes.extend(field.to_be_bytes()));
        }
        bytes.resize(size.max(bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, bytes: u64, nanos: u64, cpu_nanos: u64, size in 0..200_usize) {
            let tally = Tally { messages: number, bytes, nanos, cpu_nanos };
            for frame in [Frame::Ping(number), Frame::Pong(number), Frame::Data, Frame::End, Frame::Tally(tally)] {
                let mut written = Vec::new();
                frame.write(&mut written, size);
                prop_assert_eq!(Frame::parse(&written), Some(frame));
                prop_assert!(written.len() >= size);
            }
        }

        #[test]
        fn anything_is_read_as_something(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Frame::parse(&bytes);
        }
    }
}
