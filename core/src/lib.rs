//! Server-led peer-to-peer as pure state machines.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "arbitrary"))]
extern crate std;

pub mod client;
pub mod command;
pub mod config;
mod entropy;
pub mod event;
#[cfg(feature = "arbitrary")]
#[doc(hidden)]
pub mod fuzzing;
mod goodbye;
mod group;
pub mod ids;
mod leg;
mod link;
pub mod machine;
mod meter;
pub mod outbox;
mod path;
mod policy;
mod presence;
mod relay;
mod report;
mod schedule;
pub mod secure;
pub mod server;
pub mod ticket;
pub mod time;
mod transport;
pub mod wire;

pub use client::{Client, ServerTime};
pub use command::{Class, Command, GroupRules, SendOptions, Target, To};
pub use config::{Algorithm, ClientConfig, ConfigError, Congestion, Limits, ServerConfig, Timers};
pub use event::{
    ClientEvent, EndReason, JoinOutcome, LeaveReason, LoginFailure, LoginRefusal, Message, Path, RelayReason,
    ServerEvent, TicketRefusal,
};
pub use ids::{Channel, GroupId, LoginId, PeerId, Reliability, SocketId, StreamId};
pub use leg::{Leg, LegReason};
pub use machine::{
    Ecn, Entry, Input, Machine, Request, Room, SendFailure, SocketInput, StreamEnd, StreamInput, Tap, Wake, datagrams,
};
pub use outbox::{Outbox, Transmit, Via};
pub use policy::{PathPolicy, Prefer, PunchPolicy};
pub use report::{CandidateReport, CandidateSource, PairReport, PeerReport, Searches};
pub use server::{GroupOptions, Server};
pub use time::{Duration, Instant};
