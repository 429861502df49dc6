//! Small machines that need no protocol: to try the simulator on, and as examples of what a [`Machine`] is.
//!
//! [`Machine`]: posse_core::Machine

mod bare;
mod classifier;
mod echo;
mod puncher;

pub use bare::BareTcp;
pub use classifier::{Classifier, Reflector};
pub use echo::{EchoClient, EchoServer};
pub use puncher::{Puncher, Rendezvous, Role};
