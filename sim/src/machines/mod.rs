//! Small machines that need no protocol: to try the simulator on, and as examples of what a [`Machine`] is.
//!
//! [`Machine`]: posse_core::Machine

mod classifier;
mod echo;
mod puncher;

pub use classifier::{Classifier, Reflector};
pub use echo::{EchoClient, EchoServer};
pub use puncher::{Puncher, Rendezvous, Role};
