//! A deterministic simulated network that drives any sans-IO machine.
//!
//! [`World`] is the virtual clock, the event queue and the hosts; [`Link`] says what a link does to packets; [`nat`] is the
//! model of NATs; [`oracle`] tells what must come of it. Rerunning a world with the same seed and the same calls gives the
//! same [`World::digest`]; [`record`] takes a single machine out of a world and replays it alone;
//! [`trace`] writes down what happened, for people and for Wireshark.
//!
//! ```
//! use posse_core::Duration;
//! use posse_sim::machines::{EchoClient, EchoServer};
//! use posse_sim::{Chance, Link, Nat, World};
//!
//! let mut world = World::new(1);
//! let server = world.host(world.internet(), Link::millis(20), |_, _, _| EchoServer::new());
//! let to = world.addr(server);
//! let home = world.home(Nat::symmetric());
//! let wifi = Link::millis(2).loss(Chance::percent(1)).jitter(Duration::from_millis(3));
//! let client = world.host(home, wifi, move |now, _, seed| {
//!     EchoClient::new(now, to, seed, (100, 1200), Duration::from_millis(10))
//! });
//! let reached = world.run_until(Duration::from_secs(5), |w| w.machine(client).received().len() >= 90);
//! assert!(reached.is_ok());
//! ```

mod dice;
mod digest;
mod event;
mod link;
pub mod machines;
mod model;
pub mod nat;
mod network;
pub mod null;
pub mod oracle;
mod queue;
pub mod record;
pub mod scenario;
pub mod shrink;
pub mod swarm;
mod tcp;
pub mod trace;
pub mod transport;
pub mod validate;
mod world;

pub use event::{Counters, DropReason, Event, Observer, PacketView, Place};
pub use link::{Bursts, Chance, Direction, HEADERS, Link, Mishap, Way};
pub use nat::{Allocation, Filtering, Mapping, Nat};
pub use network::{Families, Net};
pub use null::NullCrypto;
pub use world::{Addresses, MAIN_PORT, Node, Stuck, World};
