//! What happened in a world, kept and written down: for people, for Wireshark, for programs.
//!
//! A [`Log`] is an observer that keeps events. When the run is over, a [`Trace`] joins it with the [`Topology`] (names
//! and addresses) and with [`Note`]s of what the applications saw, and writes
//! [a timeline](Trace::timeline), [a capture](Trace::pcapng) or [JSON](Trace::json); [`Folder::write`] puts all of them
//! where people look for them. `docs/traces.md` describes what is written.
//!
//! Kept first and written later, because a note belongs among the packets of its moment and is known only at the end.
//! A run costs nothing more unless somebody observes it.
//!
//! ```
//! use posse_core::Duration;
//! use posse_sim::machines::{EchoClient, EchoServer};
//! use posse_sim::trace::{Filter, Log, Trace};
//! use posse_sim::{Link, Nat, World};
//! use std::{cell::RefCell, rc::Rc};
//!
//! let log = Rc::new(RefCell::new(Log::new()));
//! let mut world = World::new(1);
//! world.observe(Box::new(log.clone()));
//! let server = world.host(world.internet(), Link::millis(20), |_, _, _| EchoServer::new());
//! let to = world.addr(server);
//! let home = world.home(Nat::home());
//! let client = world.host(home, Link::PERFECT, move |now, _, seed| {
//!     EchoClient::new(now, to, seed, (10, 100), Duration::from_millis(10))
//! });
//! world.set_name(client, "alice");
//! world.run_for(Duration::from_millis(100)).unwrap();
//! let trace = Trace { log: &log.borrow(), topology: &world.topology(), notes: &[] };
//! let text = trace.timeline_text(Filter::All);
//! assert!(text.contains("alice"), "{text}");
//! ```

pub mod folder;
mod json;
mod log;
mod names;
mod notes;
mod page;
mod pcapng;
mod timeline;

pub use folder::{Folder, FolderError, Written};
pub use log::Log;
pub use names::{HostInfo, NetInfo, Topology};
pub use timeline::Filter;

use crate::{Event, Place};
use names::Names;
use posse_core::Instant;
use std::io;

/// Something that no packet shows: what an application saw or did, a fault, a broken expectation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// Who; `None` for the network and for the run as a whole.
    pub who: Option<Place>,
    /// Which of these it is.
    pub kind: NoteKind,
    /// What, in words.
    pub text: String,
}

/// What a [`Note`] tells of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NoteKind {
    /// An application.
    App,
    /// Something that the run did to the network or to a host on purpose.
    Fault,
    /// Something that had to hold and does not.
    Broken,
}

impl NoteKind {
    /// As it stands in a timeline and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Fault => "fault",
            Self::Broken => "broken",
        }
    }
}

/// A run, ready to be written down.
#[derive(Clone, Copy)]
pub struct Trace<'a> {
    /// What happened.
    pub log: &'a Log,
    /// To whom.
    pub topology: &'a Topology,
    /// And what was seen of it, in any order.
    pub notes: &'a [Note],
}

/// A line of a trace.
#[derive(Clone, Copy)]
enum Line<'a> {
    Event(Instant, Event<'a>),
    Note(&'a Note),
}

impl<'a> Trace<'a> {
    /// Writes one line an event, in fixed columns.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn timeline(&self, filter: Filter, out: &mut impl io::Write) -> io::Result<()> {
        timeline::write(self, filter, out)
    }

    /// The timeline as a string, for snapshots.
    pub fn timeline_text(&self, filter: Filter) -> String {
        let mut out = Vec::new();
        // Writing to memory does not fail.
        _ = self.timeline(filter, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Writes a pcapng file that Wireshark opens.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn pcapng(&self, out: &mut impl io::Write) -> io::Result<()> {
        pcapng::write(self, out)
    }

    /// Writes one JSON object a line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn json(&self, out: &mut impl io::Write) -> io::Result<()> {
        json::write(self, out)
    }

    fn names(&self) -> Names<'a> {
        Names::new(self.topology)
    }

    /// Events and notes in order of time. A note follows the events of its instant: they are why it was written.
    fn lines(&self) -> impl Iterator<Item = Line<'a>> {
        let mut notes: Vec<&Note> = self.notes.iter().collect();
        notes.sort_by_key(|note| note.at);
        let mut notes = notes.into_iter().peekable();
        let mut events = self.log.events().peekable();
        std::iter::from_fn(move || {
            let before = events.peek().map_or(Instant::FAR, |(at, _)| *at);
            match notes.next_if(|note| note.at < before || before == Instant::FAR) {
                Some(note) => Some(Line::Note(note)),
                None => events.next().map(|(at, event)| Line::Event(at, event)),
            }
        })
    }
}

/// What a datagram is by its first byte, which everyone on its way sees (docs/protocol.md, "Packets").
fn packet_kind(bytes: &[u8]) -> &'static str {
    match bytes.first() {
        Some(0x40..=0x4f) => "short",
        Some(0x81) => "login",
        Some(0x82) => "login-reply",
        Some(0x83) => "relay",
        Some(0x84) => "retry",
        Some(_) => "other",
        None => "empty",
    }
}

/// Milliseconds with three digits after the point.
fn milliseconds(at: Instant) -> String {
    let micros = at.0 / 1_000;
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}
