//! A deterministic simulated network that drives any sans-IO machine.
//!
//! [`World`] is the virtual clock, the event queue and the hosts; [`Link`] says what a link does to packets; [`nat`] is the
//! model of NATs. Rerunning a world with the same seed and the same calls gives the same [`World::digest`].

mod dice;
mod digest;
mod event;
mod link;
pub mod machines;
pub mod nat;
mod network;
pub mod null;
pub mod oracle;
mod queue;
pub mod record;
pub mod scenario;
mod world;

pub use event::{Counters, DropReason, Event, Observer, PacketView, Place};
pub use link::{Chance, Direction, HEADERS, Link};
pub use nat::{Allocation, Filtering, Mapping, Nat};
pub use network::Net;
pub use null::NullCrypto;
pub use world::{MAIN_PORT, Node, Stuck, World};
