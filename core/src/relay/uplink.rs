//! How fast somebody sends, at most and lately: bytes in quarters of a second, the highest of which fades by half in eight
//! seconds. What is not sent is not seen, so this is a lower bound of what could be.

use crate::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_millis(250);
const WINDOWS_A_SECOND: u64 = 4;
/// The best fades by this part with each quarter of a second: 2^(−1/32).
const FADES: u64 = 46;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uplink {
    began: Instant,
    bytes: u64,
    best: u64,
}

impl Uplink {
    /// So many bytes came.
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize) {
        let windows = now.since(self.began).as_millis().checked_div(WINDOW.as_millis()).unwrap_or(0);
        if windows > 0 {
            // After a pause of minutes nothing is left of it.
            for _ in 0..windows.min(1_000) {
                self.best = self.best.saturating_sub(self.best.checked_div(FADES).unwrap_or(0));
            }
            self.best = self.best.max(self.bytes.saturating_mul(WINDOWS_A_SECOND));
            (self.began, self.bytes) = (now, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Bytes a second.
    pub(crate) fn best(&self) -> u64 {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_counts_and_fades() {
        let mut uplink = Uplink::default();
        for ms in 0..1_000 {
            uplink.on_bytes(Instant::from_millis(1_000 + ms), 100);
        }
        assert!((99_000..=101_000).contains(&uplink.best()), "{}", uplink.best());
        for second in 0..8 {
            uplink.on_bytes(Instant::from_millis(3_000 + 1_000 * second), 1);
        }
        assert!((40_000..=60_000).contains(&uplink.best()), "{}", uplink.best());
        uplink.on_bytes(Instant::FAR, usize::MAX);
        uplink.on_bytes(Instant::FAR, usize::MAX);
    }
}
