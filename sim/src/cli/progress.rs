//! A word on stderr on how far a command is, if it takes long.

use std::io::{self, IsTerminal, Write};

/// Nobody needs to be told before.
const PATIENCE_SECONDS: u64 = 2;

/// See the module's text. Says nothing for two seconds, then a line each two seconds: over itself on a terminal.
pub(crate) struct Progress {
    what: &'static str,
    clock: Clock,
    told: u64,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, clock: Clock::start(), told: 0, terminal: io::stderr().is_terminal() }
    }

    /// Says how far it is, if it is time to.
    pub(crate) fn tell(&mut self, how_far: impl Fn() -> String) {
        let rounds = self.clock.seconds() / PATIENCE_SECONDS;
        if rounds > self.told {
            self.told = rounds;
            let end = if self.terminal { "\r" } else { "\n" };
            let mut err = io::stderr().lock();
            // Nothing depends on whether anyone can read it.
            _ = write!(err, "{} {}   {end}", self.what, how_far());
            _ = err.flush();
        }
    }

    /// The same for something that is counted: how many, of how many, and how many a second.
    pub(crate) fn tell_rate(&mut self, done: u64, of: u64, what: &str) {
        let seconds = self.clock.seconds().max(1);
        self.tell(|| format!("{done} of {of} {what}, {} a second", done / seconds));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told > 0 && self.terminal {
            eprintln!();
        }
    }
}

#[expect(clippy::disallowed_types, reason = "for people who wait; nothing simulated sees it")]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "for people who wait")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.0.elapsed().as_secs()
    }
}
