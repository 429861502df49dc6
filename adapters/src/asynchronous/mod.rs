//! Clients and servers for a service on tokio: handles that any task may hold, and a stream of events for one of them.
//!
//! ```no_run
//! # async fn serve(key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! use posse::asynchronous::Server;
//! use posse::{ServerEvent, ServerOptions};
//!
//! let (server, mut events) = Server::bind(([0, 0, 0, 0], 7777).into(), ServerOptions::new(key, 1)).await?;
//! while let Some(event) = events.next().await {
//!     if let ServerEvent::LoginRequested { login, token, .. } = event {
//!         server.accept(login, &token, b"welcome")?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **How it works.** A task of the runtime drives the machine as [`Driver`](crate::Driver) does everywhere: it sleeps until a
//! datagram, the machine's own time, or a handle that gave the machine something to do. A handle's call locks the machine,
//! calls it, and tells the task; the lock is never held across an `await`, and for a bounded time only. Sends that follow one
//! another without an `await` in between leave together. When the system's send buffer is full, the task blocks its thread
//! for a millisecond at most, as dropping what it has would be taken for congestion.
//!
//! **Backpressure.** There are no queues but the machine's own, which are bounded. Events that are not taken hold up
//! nothing but their sender: reliable messages stop for want of credit, unreliable ones are dropped and counted, membership is
//! never lost. `try_send` refuses what finds no room; `send` waits until there is some.
//!
//! **Cancel safety.** Every method says what becomes of it when its future is dropped. Nothing is ever half done.
//!
//! **The end.** `close` says goodbye and waits for that to be over. Dropping the last handle, the events included, says
//! goodbye in the background; a runtime that shuts down before that still sends the last word once.

mod client;
mod engine;
mod server;

pub use client::{Client, ClientEvents};
pub use server::{Server, ServerEvents};
