//! Events, kept.

use crate::event::{Event, Observer};
use posse_core::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Memory for events and packets, in bytes, unless told otherwise: what a developer's machine can spare. Some
/// 500,000 packets.
const DEFAULT_LIMIT: usize = 512 << 20;

/// An observer that keeps what happens, up to a limit; then the oldest is forgotten, since failures are at the end.
///
/// Give a world an `Rc<RefCell<Log>>` and keep another.
pub struct Log {
    kept: VecDeque<Kept>,
    /// The bytes of packets under way, as they are now.
    flying: BTreeMap<u64, Rc<[u8]>>,
    used: usize,
    limit: usize,
    forgotten: u64,
}

/// An event, its packet's bytes apart from it, for they are the same on the whole way.
struct Kept {
    at: Instant,
    event: Event<'static>,
    bytes: Option<Rc<[u8]>>,
}

impl Kept {
    /// Bytes of memory. A packet's are charged where it came from or changed.
    fn cost(&self) -> usize {
        let brings = matches!(self.event, Event::Sent { .. } | Event::Duplicated { .. } | Event::Corrupted { .. });
        let bytes = self.bytes.as_ref().filter(|_| brings).map_or(0, |bytes| bytes.len());
        size_of::<Self>() + bytes
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    /// One that keeps up to 512 MiB.
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }

    /// One that keeps up to `limit` bytes of events and packets.
    pub fn with_limit(limit: usize) -> Self {
        Self { kept: VecDeque::new(), flying: BTreeMap::new(), used: 0, limit, forgotten: 0 }
    }

    /// What happened, in order, and when.
    pub fn events(&self) -> impl Iterator<Item = (Instant, Event<'_>)> {
        self.kept.iter().map(|kept| (kept.at, kept.event.with_bytes(kept.bytes.as_deref().unwrap_or_default())))
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many events there were before those that are kept.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The bytes of the event's packet, shared with what else is kept of it.
    fn bytes(&mut self, event: &Event<'_>) -> Option<Rc<[u8]>> {
        let packet = event.packet()?;
        match event {
            Event::Sent { .. } | Event::Duplicated { .. } | Event::Corrupted { .. } => {
                let bytes: Rc<[u8]> = packet.bytes.into();
                self.flying.insert(packet.id, bytes.clone());
                Some(bytes)
            }
            Event::Delivered { .. } | Event::Dropped { .. } => self.flying.remove(&packet.id),
            _ => self.flying.get(&packet.id).cloned(),
        }
        // Of a packet that was under way before the log was.
        .or_else(|| Some(packet.bytes.into()))
    }
}

impl Observer for Log {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        let kept = Kept { at, bytes: self.bytes(event), event: event.with_bytes(&[]) };
        self.used += kept.cost();
        self.kept.push_back(kept);
        while self.used > self.limit
            && let Some(oldest) = self.kept.pop_front()
        {
            self.used -= oldest.cost();
            self.forgotten += 1;
        }
    }
}
