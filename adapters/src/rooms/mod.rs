//! Rooms by name: an application that only wants "everyone who says `lobby` can talk to one another" needs no server code
//! of its own. The stock server (`posse serve`, or [`Rooms`] in a loop of your own) puts each client into the room that its
//! login names, makes the room for the first and lets it end with the last.
//!
//! 1. A client says where it wants to go in its login token: [`Request::token`].
//! 2. The server reads the token ([`Rooms::handle`]), lets the client in with its name as the user data that peers see, and
//!    adds it to the room's group. Or it turns the client away with a [`Refusal`], which the client reads back.
//! 3. [`Room::hear`] makes of a client's events what happens in its room: who came, under which name, and who left.
//!
//! Both sides only look at events and call back: they run over either adapter, and over the machines of
//! [`posse_core`] in a simulation. What comes from others is parsed, bounded and never trusted; names are not checked to be
//! different from one another, as a client that restarts comes back while its old session still stands: peers are told
//! apart by their ids.
//!
//! On the wire all of it is one byte of version and then length-prefixed UTF-8, see `docs/rooms.md`.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod client;
mod message;
mod question;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Room, RoomEvent};
pub use message::{Malformed, NameError, Refusal, Request};
pub use question::{Answer, MAX_ECHO, Question};
pub use server::{Change, Host, RoomLimits, Rooms};

/// The application id of the stock server and its clients: "rooms" in ASCII. A server of another application refuses them.
pub const APP: u64 = 0x726f_6f6d_7300_0001;

/// Bytes of a room's name or a display name, at most: a long line in any script, and together a small part of a token.
pub const MAX_NAME: usize = 128;
