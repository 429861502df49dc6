//! Server-led peer-to-peer for games over real sockets.
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
mod driver;
#[cfg(feature = "std")]
mod seed;
#[cfg(feature = "std")]
mod socket;

#[cfg(feature = "std")]
pub use driver::{Driver, DriverStats, UpdateError};
#[cfg(feature = "std")]
pub use seed::{SeedError, os_seed};
#[cfg(feature = "std")]
pub use socket::BindError;

pub use posse_core::*;
