//! How long the other end may be silent, for programs that want to know sooner than the library's default of 75 s.

use posse::Timers;
use std::time::Duration;

/// For the command line.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(s) if (1.0..=3600.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("a number of seconds from 1 to 3600".into()),
    }
}

/// Sets it, and keepalives so often that four of them may be lost in a row.
pub(crate) fn set(timers: &mut Timers, patience: Option<Duration>) {
    let Some(patience) = patience else { return };
    (timers.session_idle, timers.lease) = (patience, patience);
    timers.offline = timers.offline.min(patience / 2);
    timers.server_keepalive = timers.server_keepalive.min(patience / 5);
    timers.direct_keepalive = timers.direct_keepalive.min(patience / 5);
}
