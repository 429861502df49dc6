//! What `posse join` programs send one another: a kind, a number, and text or padding. Read without trust: anybody may be
//! in a room, with any program.

/// Bytes before the text or padding.
pub(super) const HEAD: usize = 9;

/// A message, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Payload<'a> {
    /// A line of chat.
    Chat { seq: u64, text: &'a [u8] },
    /// One of many, padded to the size that was asked for.
    Numbered { seq: u64 },
    /// The last of a sender: how many it sent to this receiver.
    Done { sent: u64 },
    /// Of another program.
    Foreign,
}

impl<'a> Payload<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Self {
        let Some((&[kind, a, b, c, d, e, f, g, h], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Self::Foreign;
        };
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        match kind {
            1 => Self::Chat { seq: number, text: rest },
            2 => Self::Numbered { seq: number },
            3 if rest.is_empty() => Self::Done { sent: number },
            _ => Self::Foreign,
        }
    }
}

/// A line of chat into `bytes`.
pub(super) fn chat(bytes: &mut Vec<u8>, seq: u64, text: &str) {
    begin(bytes, 1, seq);
    bytes.extend_from_slice(text.as_bytes());
}

/// A numbered message of `size` bytes into `bytes`; of [`HEAD`] bytes if that is more.
pub(super) fn numbered(bytes: &mut Vec<u8>, seq: u64, size: usize) {
    begin(bytes, 2, seq);
    bytes.resize(size.max(HEAD), 0);
}

/// The last message to a receiver into `bytes`.
pub(super) fn done(bytes: &mut Vec<u8>, sent: u64) {
    begin(bytes, 3, sent);
}

fn begin(bytes: &mut Vec<u8>, kind: u8, number: u64) {
    bytes.clear();
    bytes.push(kind);
    bytes.extend_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(seq: u64, text in "\\PC{0,40}", size in 0..200_usize) {
            let mut bytes = Vec::new();
            chat(&mut bytes, seq, &text);
            prop_assert_eq!(Payload::parse(&bytes), Payload::Chat { seq, text: text.as_bytes() });
            numbered(&mut bytes, seq, size);
            prop_assert_eq!((Payload::parse(&bytes), bytes.len()), (Payload::Numbered { seq }, size.max(HEAD)));
            done(&mut bytes, seq);
            prop_assert_eq!(Payload::parse(&bytes), Payload::Done { sent: seq });
        }

        #[test]
        fn anything_is_read_as_something(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = Payload::parse(&bytes);
        }
    }
}
