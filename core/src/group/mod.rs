//! Membership and epochs: who is in which group, who is therefore whose peer, and who has been told.
//!
//! [`server::Groups`] decides; [`client::View`] follows. They hold no links and send nothing: the server's side puts out
//! effects in an order that is right to send, and each client hears of them in that order (control messages are reliable
//! and ordered), so that what a client has heard is always a state that the server was once in.
//!
//! **Epochs** come from one counter at the server that never goes back. Each join takes one, and so does each pair of
//! clients that become peers. A client therefore knows an old message by its epoch alone, and an epoch names one stay of
//! one member in one group for ever. The **scope epoch** of two members of a group is the later of their two joins: both
//! ends compute the same number, and it changes when either of them leaves and comes back.

pub(crate) mod client;
mod pairs;
pub(crate) mod server;
mod table;
#[cfg(test)]
mod tests;
