//! `posse ping`: how long the login takes, and round trips between this program and the stock server's.

use crate::ask::{Asking, Target};
use crate::output::{complain, decimal, ms, say, say_json};
use posse::rooms::{Answer, Question};
use posse::{Channel, SendError};
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// How many round trips.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Milliseconds from one to the next.
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    every: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match measure(options) {
        Ok((handshake, trips)) => tell(options, handshake, trips),
        Err(why) => {
            complain("ping", &why);
            if options.json {
                say_json("failed", json!({ "why": why }));
            }
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(Duration, Vec<Duration>), String> {
    let mut asking = Asking::begin(&options.target)?;
    let every = Duration::from_millis(options.every);
    // What is lost is not repeated, and holds up nothing.
    let channel = Channel::unreliable(0);
    let start = Instant::now();
    let (mut trips, mut sent) = (Vec::new(), 0);
    let mut last = start;
    while trips.len() < sent as usize || sent < options.count {
        let now = Instant::now();
        let due = start + every * sent;
        if sent < options.count && now >= due {
            let stamp = nanos(now - start).to_be_bytes();
            match asking.ask(channel, &Question::Echo(&stamp)) {
                Ok(()) | Err(SendError::Full { .. }) => {}
                Err(why) => return Err(why.to_string()),
            }
            (sent, last) = (sent + 1, now);
        } else if sent == options.count && now >= last + PATIENCE {
            break;
        }
        let next = if sent < options.count { start + every * sent } else { last + PATIENCE };
        asking.hear(next.saturating_duration_since(Instant::now()), |answer| {
            if let Answer::Echo(stamp) = answer
                && let Ok(stamp) = <[u8; 8]>::try_from(stamp)
            {
                let took = nanos(start.elapsed()).saturating_sub(u64::from_be_bytes(stamp));
                trips.push(Duration::from_nanos(took));
            }
        })?;
    }
    Ok((asking.handshake, trips))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn tell(options: &Options, handshake: Duration, mut trips: Vec<Duration>) -> ExitCode {
    trips.sort_unstable();
    let (p50, p99) = (quantile(&trips, 50), quantile(&trips, 99));
    if options.json {
        say_json(
            "ping",
            json!({
                "server": options.target.server, "handshake_ms": ms(handshake), "sent": options.count,
                "answered": trips.len(), "rtt_p50_ms": p50.map(ms), "rtt_p99_ms": p99.map(ms),
                "rtt_max_ms": trips.last().copied().map(ms),
            }),
        );
    } else {
        say(&format!("handshake {} ms", decimal(handshake)));
        say(&format!("{} of {} round trips answered", trips.len(), options.count));
        if let (Some(p50), Some(p99), Some(max)) = (p50, p99, trips.last()) {
            let (p50, p99, max) = (decimal(p50), decimal(p99), decimal(*max));
            say(&format!("round trip p50 {p50} ms, p99 {p99} ms, longest {max} ms"));
        }
    }
    if trips.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The smallest that at least so many per cent are not above; `None` of nothing.
pub(crate) fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let all: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&all, 50), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&all, 99), Some(Duration::from_millis(198)));
        assert_eq!(quantile(&all[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 50), None);
    }
}
