//! The forwarding plane.
