//! What the program prints: lines for people, or one JSON object a line as `docs/json.md` describes them.

use posse::{Leg, Path, RelayReason};
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// Version of the JSON lines' schema. Fields may be added under one version, never changed or removed.
const SCHEMA: u32 = 1;

/// Prints a line. A reader that has closed its end, such as `head`, is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints one object of the schema: `fields`, and of what `kind` it is. That stands in two fields, as the simulator's lines
/// have `type` and those of its timeline `event`.
pub(crate) fn say_json(kind: &str, mut fields: Value) {
    fields["v"] = SCHEMA.into();
    fields["type"] = kind.into();
    fields["event"] = kind.into();
    say(&fields.to_string());
}

/// Tells why the program cannot go on, on standard error.
pub(crate) fn complain(command: &str, why: &str) {
    let _ = writeln!(io::stderr().lock(), "posse {command}: {why}");
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Milliseconds for people.
pub(crate) fn decimal(time: Duration) -> String {
    format!("{:.2}", ms(time))
}

/// The name of a way in JSON, of the reason for it, and the round trip that came with it.
pub(crate) fn path_parts(path: Path) -> (&'static str, Option<&'static str>, Option<Duration>) {
    match path {
        Path::Direct { rtt } => ("direct", None, Some(rtt)),
        Path::Relayed { because } => ("relayed", Some(reason(because)), None),
        _ => ("unknown", None, None),
    }
}

/// A leg's name.
pub(crate) fn leg_word(leg: Leg) -> &'static str {
    match leg {
        Leg::Udp => "udp",
        Leg::Tcp => "tcp",
    }
}

/// A reason's name, as everywhere in the project's JSON.
pub(crate) fn reason(because: RelayReason) -> &'static str {
    match because {
        RelayReason::Probing => "probing",
        RelayReason::NoAnswer => "no-answer",
        RelayReason::OnlyOutbound => "only-outbound",
        RelayReason::OnlyInbound => "only-inbound",
        RelayReason::Unpredictable => "unpredictable",
        RelayReason::BudgetSpent => "budget-spent",
        RelayReason::NoSockets => "no-sockets",
        RelayReason::HoleClosed => "hole-closed",
        RelayReason::Forbidden => "forbidden",
        RelayReason::NoTraffic => "no-traffic",
        RelayReason::RelayFaster => "relay-faster",
        RelayReason::Crowded => "crowded",
        _ => "other",
    }
}

/// A way in words.
pub(crate) fn path_words(path: Path) -> String {
    let because = match path {
        Path::Direct { rtt } => return format!("direct, round trip {} ms", decimal(rtt)),
        Path::Relayed { because } => because,
        other => return format!("{other:?}"),
    };
    let why = match because {
        RelayReason::Probing => "hole punching is under way",
        RelayReason::NoAnswer => "neither direction passes",
        RelayReason::OnlyOutbound => "nothing of the peer's arrives directly",
        RelayReason::OnlyInbound => "nothing of ours arrives directly",
        RelayReason::Unpredictable => "both ends' ports are unpredictable",
        RelayReason::BudgetSpent => "everything within the budget was tried",
        RelayReason::NoSockets => "the system gives too few sockets",
        RelayReason::HoleClosed => "the hole has closed",
        RelayReason::Forbidden => "direct paths are not allowed",
        RelayReason::NoTraffic => "a direct path is looked for when something is sent",
        RelayReason::RelayFaster => "it is faster than the direct path",
        RelayReason::Crowded => "there are as many direct paths as there may be",
        _ => return format!("by relay: {because:?}"),
    };
    format!("by relay: {why}")
}

/// Text of others, without what would rewrite the terminal.
pub(crate) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
