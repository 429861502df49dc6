//! How long the mappings of a client's NAT live whatever passes, if they do so: seen by the client's coming from another port of the
//! same address again and again. It keeps its NAT busy all the time, so only an absolute lifetime (or a change of network, which
//! does not come at such times) does that.

use crate::time::{Duration, Instant};

/// Lives that have to resemble each other.
const LIVES: usize = 3;
/// The longest is at most so many times the shortest: 48 to 75 s was seen of one carrier.
const RESEMBLE: u32 = 2;
/// Shorter ones are no lifetimes but a NAT that is in trouble, …
const SHORTEST: Duration = Duration::from_secs(10);
/// … and of longer ones a hole punched again every time is no burden.
const LONGEST: Duration = Duration::from_secs(600);

/// See the module's text.
#[derive(Default)]
pub(super) struct Lifetime {
    /// When the present mapping was first seen.
    since: Option<Instant>,
    /// The last ones, the oldest first.
    lives: [Option<Duration>; LIVES],
    /// As the client was told.
    told: Option<Duration>,
    /// The client said that it moves to another socket.
    announced: bool,
}

impl Lifetime {
    /// The client moves on purpose: that says nothing of its NAT.
    pub(super) fn on_announced(&mut self) {
        self.announced = true;
    }

    /// The client is at another port, or at another address altogether. What it should know of its NAT, if that is news.
    pub(super) fn on_moved(&mut self, now: Instant, same_address: bool) -> Option<Duration> {
        let since = self.since.replace(now);
        if core::mem::take(&mut self.announced) {
            return None;
        }
        let lived = now.since(since?);
        // Should its word of a planned move be late.
        if self.told.is_some_and(|told| lived > told * 6 / 10 && lived < told * 8 / 10) {
            return None;
        }
        if !same_address || lived < SHORTEST || lived > LONGEST {
            self.lives = [None; LIVES];
            return None;
        }
        self.lives.rotate_left(1);
        if let Some(last) = self.lives.last_mut() {
            *last = Some(lived);
        }
        let shortest = self.lives.iter().copied().min().flatten()?;
        let longest = self.lives.iter().copied().max().flatten()?;
        let news = longest <= shortest * RESEMBLE && self.told.is_none_or(|told| shortest < told);
        if news {
            self.told = Some(shortest);
        }
        self.told.filter(|_| news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn after(moves: &[(u64, bool)]) -> Vec<Option<u128>> {
        let mut lifetime = Lifetime::default();
        let told = moves.iter().map(|(second, same)| lifetime.on_moved(Instant::from_millis(second * 1000), *same));
        told.map(|told| told.map(|d| d.as_millis() / 1000)).collect()
    }

    #[test]
    fn three_lives_that_resemble_each_other_are_a_lifetime_and_a_shorter_one_after_is_news() {
        let moves = [(0, true), (60, true), (110, true), (180, true), (240, true), (288, true)];
        assert_eq!(after(&moves), [None, None, None, Some(50), None, Some(48)]);
    }

    #[test]
    fn lives_that_do_not_resemble_each_other_or_end_at_another_address_are_none() {
        assert_eq!(after(&[(0, true), (20, true), (320, true), (420, true)]), [None; 4]);
        assert_eq!(after(&[(0, true), (60, true), (120, false), (180, true), (240, true)]), [None; 5]);
        assert_eq!(after(&[(0, true), (2, true), (4, true), (6, true)]), [None; 4]);
    }

    #[test]
    fn a_move_that_was_announced_says_nothing() {
        let mut lifetime = Lifetime::default();
        for minute in 0..9 {
            lifetime.on_announced();
            assert_eq!(lifetime.on_moved(Instant::from_millis(minute * 60_000), true), None);
        }
    }
}
