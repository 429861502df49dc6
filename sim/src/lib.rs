//! A deterministic simulated network that drives any sans-IO machine.

pub mod nat;
