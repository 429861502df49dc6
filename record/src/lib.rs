//! The flight recorder: all that enters a machine, in a file that replays to the same bytes.
//!
//! A machine of [`posse_core`] is pure, so whatever happened in a session can happen again: its configuration with the seed,
//! then every call through its front doors with the time, the room it had to write, and the bytes. A [`Recorder`] is a
//! [`Tap`](posse_core::Tap) that writes that down as it happens, and a digest over what the machine sent. [`Replayed`] feeds
//! a file to a fresh machine and compares the digests.
//!
//! **A recording is a secret.** It holds the seed, hence every key of the session, and all messages. It is written for its
//! owner alone.
//!
//! **The format**, version 1, integers big-endian: the magic `POSSEREC`, the version (16 bits), then records of a 32-bit
//! length and so many bytes, the first of which says what it is. The first record is the header; then come entries, and
//! from time to time a checkpoint with the number of datagrams sent so far and their digest: what was cut short by a crash is
//! compared up to its last one. Behaviour belongs to a version of the core, so the header names it, and another one is
//! refused.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod code;
mod config;
mod entry;
mod file;

pub use config::Construction;
pub use entry::{Feeder, OwnedEntry, OwnedInput, OwnedStreamInput, Replay};
pub use file::{ReadError, Recorder, Replayed, is_recording};
