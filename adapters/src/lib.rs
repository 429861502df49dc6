//! Server-led peer-to-peer for games over real sockets.
//!
//! [`Client`] and [`Server`] fit a loop that is the application's own: a game's frame, a server's main loop. Neither has
//! threads or a runtime, and nothing but `wait` ever waits. `examples/` has a program of each.
//!
//! For a service on tokio, the module `asynchronous` (feature `tokio`) has the same two as handles and event streams.
//!
//! [`rooms`]: clients that name the same room can talk to one another, without a server of your own.
//!
//! Both are a [`Driver`] around a pure machine of [`posse_core`]; the driver serves any other [`Machine`] as well.
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
pub mod asynchronous;
#[cfg(feature = "std")]
mod driver;
#[cfg(feature = "std")]
mod recording;
#[cfg(feature = "std")]
pub mod rooms;
#[cfg(feature = "std")]
mod seed;
#[cfg(feature = "std")]
mod socket;
#[cfg(feature = "std")]
mod std_client;
#[cfg(feature = "std")]
mod std_server;
#[cfg(feature = "std")]
mod streams;

#[cfg(feature = "std")]
pub use driver::{Driver, DriverStats, UpdateError};
#[cfg(feature = "std")]
pub use recording::RecordError;
#[cfg(feature = "std")]
pub use seed::{SeedError, os_seed};
#[cfg(feature = "std")]
pub use socket::BindError;
#[cfg(feature = "std")]
pub use std_client::{Client, ClientOptions, ConnectError};
#[cfg(feature = "std")]
pub use std_server::{ServeError, Server, ServerOptions};

pub use posse_core;
pub use posse_core::client::{
    Memory, Overflow, PeerView, SendError, Sent, ServerAbout, ServerTime, UnknownPeer, Usage,
};
pub use posse_core::config::{
    Admission, Algorithm, ConfigError, Congestion, Doors, Limits, Rate, RelayBudget, SearchLimits, Techniques, Tickets,
    Timers,
};
pub use posse_core::server::{
    AcceptError, CreateGroupError, DestroyError, GroupOptions, HostRank, HostWeights, JoinError, LeaveError,
    LoginCounters, NatBehaviour, NatMapping, PolicyError, ServerCounters, ServerSize, TimeoutError, UnknownClient,
};
pub use posse_core::*;
