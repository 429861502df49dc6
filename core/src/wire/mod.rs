//! Bytes to types and back. No state, no allocation, no panic: every reader returns a typed error, and every parser under
//! here denies indexing, `unwrap` and unchecked arithmetic.

pub(crate) mod buf;
pub(crate) mod control;
pub(crate) mod frames;
pub(crate) mod header;
pub(crate) mod login;
pub(crate) mod relay;
pub(crate) mod search;

pub use buf::Malformed;
