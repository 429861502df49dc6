//! What the demo prints: plain language, or one JSON object a line.

use super::players::{Account, Fellow, NAMES, Note, What};
use crate::output::{decimal, ms, path_parts, path_words, say, say_json};
use posse::JoinOutcome;
use serde_json::{Value, json};
use std::time::Duration;

/// One ordered pair at the end.
struct Pair<'a> {
    from: &'static str,
    to: &'static str,
    /// The sender's side of it.
    sent: &'a Fellow,
    /// The receiver's.
    received: &'a Fellow,
    first_message: Option<Duration>,
    direct: Option<Duration>,
}

impl Pair<'_> {
    fn lost(&self) -> u64 {
        self.sent.sent.saturating_sub(self.received.received)
    }

    /// What is wrong with it.
    fn faults(&self) -> Vec<&'static str> {
        [
            (self.first_message.is_none(), "no message arrived"),
            (self.direct.is_none(), "no direct path"),
            (self.lost() > 0, "messages lost"),
            (self.received.repeated > 0, "messages repeated"),
            (self.received.reordered > 0, "messages reordered"),
        ]
        .into_iter()
        .filter_map(|(fault, name)| fault.then_some(name))
        .collect()
    }
}

pub(super) struct Report {
    json: bool,
    group_formed: Option<Duration>,
    faults: Vec<String>,
    joined: usize,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let report = Self { json, group_formed: None, faults: Vec::new(), joined: 0 };
        if !json {
            let players = NAMES.join(", ");
            say(&format!("A server and three clients ({players}), each on a UDP socket of this host.\n"));
        }
        report
    }

    pub(super) fn note(&mut self, note: &Note) {
        match &note.what {
            What::GroupFormed => self.group_formed = Some(note.at),
            What::JoinCompleted(_, JoinOutcome::Ok) => self.joined += 1,
            What::JoinCompleted(who, outcome) => self.faults.push(format!("join of {who}: {outcome:?}")),
            What::Failed(why) => self.faults.push(format!("{}: {why}", note.who)),
            _ => {}
        }
        if self.json {
            let (kind, mut fields) = event(&note.what);
            fields["at_ms"] = ms(note.at).into();
            fields["who"] = note.who.into();
            say_json(kind, fields);
        } else {
            say(&format!("{:>9} ms  {:<6}  {}", decimal(note.at), note.who, sentence(&note.what)));
        }
    }

    /// The table and the verdict: whether all held.
    pub(super) fn finish(mut self, accounts: &[Account]) -> bool {
        let pairs = self.pairs(accounts);
        if accounts.len() < NAMES.len() && self.faults.is_empty() {
            self.faults.push("not all clients came to the end".into());
        }
        if self.joined < NAMES.len() {
            self.faults.push(format!("{} of {} joins completed", self.joined, NAMES.len()));
        }
        for pair in &pairs {
            self.faults.extend(pair.faults().iter().map(|f| format!("{} → {}: {f}", pair.from, pair.to)));
        }
        let ok = self.faults.is_empty();
        if self.json {
            for pair in &pairs {
                say_json("pair", pair_line(pair));
            }
            say_json("result", json!({ "ok": ok, "faults": self.faults }));
            return ok;
        }
        table(&pairs);
        if ok {
            say("\nAll held: every message arrived once and in order, and every pair is direct.");
        } else {
            say(&format!("\nDid not hold:\n  {}", self.faults.join("\n  ")));
        }
        ok
    }

    fn pairs<'a>(&self, accounts: &'a [Account]) -> Vec<Pair<'a>> {
        let mut pairs = Vec::new();
        let since_formed = |at: Duration| at.saturating_sub(self.group_formed.unwrap_or_default());
        for sender in accounts {
            for receiver in accounts.iter().filter(|r| r.who != sender.who) {
                let (sent, received) = (&sender.fellows[receiver.who], &receiver.fellows[sender.who]);
                // A pair is direct once both sides say so.
                let direct = sent.direct_from.zip(received.direct_from).map(|(a, b)| since_formed(a.max(b)));
                pairs.push(Pair {
                    from: NAMES[sender.who],
                    to: NAMES[receiver.who],
                    sent,
                    received,
                    first_message: received.first_message.map(since_formed),
                    direct,
                });
            }
        }
        pairs
    }
}

fn sentence(what: &What) -> String {
    match what {
        What::Listens(at) => format!("listens on {at}"),
        What::LoggedIn => "logged in".into(),
        What::GroupFormed => format!("formed a group of {}", NAMES.join(", ")),
        What::JoinCompleted(who, JoinOutcome::Ok) => format!("knows that all members know of {who}"),
        What::JoinCompleted(who, outcome) => format!("join of {who} came to nothing: {}", outcome_name(*outcome)),
        What::FirstMessage { from, direct } => format!("first message from {from}, {}", way(*direct)),
        What::PathChanged(peer, path) => format!("traffic with {peer} goes {}", path_words(*path)),
        What::Failed(why) => format!("FAILED: {why}"),
    }
}

fn way(direct: bool) -> &'static str {
    if direct { "direct" } else { "by relay" }
}

/// The kind of a line, and its fields.
fn event(what: &What) -> (&'static str, Value) {
    match what {
        What::Listens(at) => ("listens", json!({ "address": at.to_string() })),
        What::LoggedIn => ("logged_in", json!({})),
        What::GroupFormed => ("group_formed", json!({ "members": NAMES })),
        What::JoinCompleted(member, outcome) => {
            ("join_completed", json!({ "member": member, "outcome": outcome_name(*outcome) }))
        }
        What::FirstMessage { from, direct } => ("first_message", json!({ "from": from, "direct": direct })),
        What::PathChanged(peer, path) => {
            let (path, because, rtt) = path_parts(*path);
            ("path", json!({ "peer": peer, "path": path, "because": because, "rtt_ms": rtt.map(ms) }))
        }
        What::Failed(why) => ("failed", json!({ "why": why })),
    }
}

fn outcome_name(outcome: JoinOutcome) -> &'static str {
    match outcome {
        JoinOutcome::Ok => "ok",
        JoinOutcome::Left => "left",
        JoinOutcome::GroupEnded => "group-ended",
        JoinOutcome::Disconnected => "disconnected",
        JoinOutcome::TimedOut => "timed-out",
        _ => "other",
    }
}

fn pair_line(pair: &Pair<'_>) -> Value {
    json!({
        "from": pair.from, "to": pair.to,
        "first_message_ms": pair.first_message.map(ms), "direct_ms": pair.direct.map(ms),
        "relay_rtt_ms": pair.sent.relay_rtt.map(ms), "direct_rtt_ms": pair.sent.direct_rtt.map(ms),
        "sent": pair.sent.sent, "received": pair.received.received, "received_direct": pair.received.directly,
        "lost": pair.lost(), "repeated": pair.received.repeated, "reordered": pair.received.reordered,
    })
}

fn table(pairs: &[Pair<'_>]) {
    say("\nTimes in ms, counted from the moment the server formed the group.\n");
    say("pair        first message    direct  RTT relay  RTT direct   sent  received  lost  repeated  reordered");
    for pair in pairs {
        let received = pair.received;
        say(&format!(
            "{:<10}  {:>13}  {:>8}  {:>9}  {:>10}  {:>5}  {:>8}  {:>4}  {:>8}  {:>9}",
            format!("{} → {}", pair.from, pair.to),
            cell(pair.first_message),
            cell(pair.direct),
            cell(pair.sent.relay_rtt),
            cell(pair.sent.direct_rtt),
            pair.sent.sent,
            received.received,
            pair.lost(),
            received.repeated,
            received.reordered,
        ));
    }
}

fn cell(time: Option<Duration>) -> String {
    time.map_or("–".into(), decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_did_not_hold_is_named() {
        let (sent, received) = (Fellow { sent: 3, ..Fellow::default() }, Fellow { received: 2, ..Fellow::default() });
        let at = Some(Duration::from_millis(1));
        let mut pair =
            Pair { from: "ann", to: "ben", sent: &sent, received: &received, first_message: at, direct: None };
        assert_eq!(pair.faults(), ["no direct path", "messages lost"]);
        let all = Fellow { received: 3, repeated: 1, ..Fellow::default() };
        (pair.received, pair.direct) = (&all, at);
        assert_eq!(pair.faults(), ["messages repeated"]);
    }
}
