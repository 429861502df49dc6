//! Packets that are not the transport's own business: they take a number of the path, and nothing waits for word of them.

use super::{PathId, Transport};
use crate::time::Instant;
use crate::wire::buf::Writer;
use crate::wire::frames;

/// Bytes of frames of every probe: a challenge and a response.
pub(crate) const PROBE: usize = 18;

impl Transport {
    /// Writes a packet that tests a path, open or not: never acknowledged on its own account, never counted in flight.
    /// Returns its number.
    pub(crate) fn build_probe(
        &mut self,
        now: Instant,
        path: PathId,
        w: &mut Writer<'_>,
        challenge: Option<u64>,
        response: Option<u64>,
    ) -> u64 {
        self.advance(now);
        // Two frames of nine bytes: where they do not fit, the caller lent no packet.
        let start = w.len();
        let _ = challenge.map(|token| frames::write_challenge(w, token));
        let _ = response.map(|token| frames::write_response(w, token));
        self.pad_probe(path, w, start)
    }

    /// Writes a packet that asks the server where it comes from. Returns its number.
    pub(crate) fn build_observe(
        &mut self,
        now: Instant,
        path: PathId,
        w: &mut Writer<'_>,
        observe: frames::Observe,
    ) -> u64 {
        self.advance(now);
        let start = w.len();
        let _ = frames::write_observe(w, observe);
        self.pad_probe(path, w, start)
    }

    /// Writes a packet that says from which door of the server it comes. Returns its number.
    pub(crate) fn build_knock(&mut self, now: Instant, path: PathId, w: &mut Writer<'_>, door: u8) -> u64 {
        self.advance(now);
        let start = w.len();
        let _ = frames::write_knock(w, door);
        self.pad_probe(path, w, start)
    }

    /// All probes are of one size, so that no answer to one is larger than it.
    fn pad_probe(&mut self, path: PathId, w: &mut Writer<'_>, start: usize) -> u64 {
        let missing = PROBE.saturating_sub(w.len() - start);
        let _ = w.space(missing).map(|padding| padding.fill(0));
        self.take_number(path)
    }

    /// Writes a packet that closes the link. Returns its number.
    pub(crate) fn build_close(&mut self, now: Instant, path: PathId, w: &mut Writer<'_>, reason: u8) -> u64 {
        self.advance(now);
        let _ = frames::write_close(w, reason);
        self.take_number(path)
    }
}
