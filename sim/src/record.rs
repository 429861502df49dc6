//! Recording and replay in memory. A [`Recorder`] is a [`Tap`] that keeps all that enters through a machine's front doors;
//! fed to a fresh machine of the same construction, the [`Recording`] brings the same bytes out, which is what [`replay`]
//! checks by digest. Recordings of real sessions are files: `posse_record`.

use posse_core::{Ecn, Entry, Instant, SocketId, Tap, Via};
use posse_record::Feeder;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, Observer};

pub use posse_record::{OwnedEntry, OwnedInput, OwnedStreamInput, Replay};

/// All that entered a machine, with the time of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// In the order in which they came.
    pub entries: Vec<(Instant, OwnedEntry)>,
}

/// Takes down what enters a machine. Clones share one recording: give one to [`Machine::tap`](posse_core::Machine::tap) and keep the other.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// One with an empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was recorded so far; recording goes on with an empty one.
    pub fn take(&self) -> Recording {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tap for Recorder {
    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recording.entries.push((now, entry.into()));
    }
}

/// Feeds `recording` to `machine`, which must be made as the recorded one was: same configuration, same seed. What comes
/// out is compared by digest with an [`Outputs`] that watched the original.
pub fn replay<M: Replay + ?Sized>(machine: &mut M, recording: &Recording) -> Outputs {
    let (mut outputs, mut feeder) = (Outputs::new(), Feeder::default());
    for (now, entry) in &recording.entries {
        feeder.feed(machine, *now, entry, |transmit, bytes| {
            let Via::Datagram { socket, to, .. } = transmit.via else { return };
            for bytes in bytes.chunks(transmit.segment.map_or(bytes.len(), usize::from).max(1)) {
                outputs.add(*now, socket, to, transmit.ecn, bytes);
            }
        });
    }
    outputs
}

/// A digest over the datagrams that a machine sends: time, socket, destination, ECN and bytes of each. How they were
/// batched does not matter.
#[derive(Clone, Debug)]
pub struct Outputs {
    hasher: SipHasher13,
    datagrams: u64,
    host: Option<usize>,
}

impl Default for Outputs {
    fn default() -> Self {
        Self::new()
    }
}

impl Outputs {
    /// Over nothing yet.
    pub fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(0, 0), datagrams: 0, host: None }
    }

    /// Over what `host` of a world sends, once that world is told to [`observe`](crate::World::observe) it.
    pub fn of(host: usize) -> Self {
        Self { host: Some(host), ..Self::new() }
    }

    /// Adds one datagram.
    pub fn add(&mut self, now: Instant, socket: SocketId, to: SocketAddr, ecn: Ecn, bytes: &[u8]) {
        self.datagrams += 1;
        let ip = match to.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.hasher.write(&now.0.to_le_bytes());
        self.hasher.write(&socket.0.to_le_bytes());
        self.hasher.write(&ip.octets());
        self.hasher.write(&to.port().to_le_bytes());
        self.hasher.write(&[ecn.bits()]);
        self.hasher.write(&(bytes.len() as u64).to_le_bytes());
        self.hasher.write(bytes);
    }

    /// Over all so far.
    pub fn digest(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }

    /// How many datagrams that were.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }
}

impl Observer for Outputs {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        if let Event::Sent { host, socket, packet } = *event
            && self.host == Some(host)
            // TCP is its host's business.
            && !packet.tcp
        {
            self.add(at, socket, packet.to, packet.ecn, packet.bytes);
        }
    }
}
