//! `posse nat`: what NAT this host is behind, as the server sees it, and what that means.

use crate::ask::{Asking, Target};
use crate::output::{complain, say, say_json};
use posse::rooms::{Answer, Question};
use posse::{Channel, NatBehaviour, NatMapping};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the server is given to find out: it waits 4 s for what may still come.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const AGAIN: Duration = Duration::from_millis(300);

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What there is to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Finding {
    own: SocketAddr,
    seen: SocketAddr,
    behaviour: Option<NatBehaviour>,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match find(options) {
        Ok(finding) => {
            if options.json {
                say_json("nat", finding.fields());
            } else {
                finding.sentences().iter().for_each(|line| say(line));
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain("nat", &why);
            if options.json {
                say_json("failed", json!({ "why": why }));
            }
            ExitCode::FAILURE
        }
    }
}

fn find(options: &Options) -> Result<Finding, String> {
    let mut asking = Asking::begin(&options.target)?;
    let (own, until) = (asking.own(), Instant::now() + PATIENCE);
    let (mut found, mut due) = (None, Instant::now());
    while Instant::now() < until && !matches!(found, Some((_, Some(_)))) {
        if Instant::now() >= due {
            due = Instant::now() + AGAIN;
            asking.ask(Channel::reliable(0), &Question::Nat).map_err(|e| e.to_string())?;
        }
        asking.hear(due.saturating_duration_since(Instant::now()), |answer| {
            if let Answer::Nat { seen, behaviour } = answer {
                found = Some((seen, behaviour));
            }
        })?;
    }
    let (seen, behaviour) = found.ok_or("the server does not answer the question: it may be of an older version")?;
    Ok(Finding { own, seen, behaviour })
}

impl Finding {
    fn translated(&self) -> bool {
        self.own != self.seen
    }

    fn fields(&self) -> serde_json::Value {
        json!({
            "own": self.own.to_string(), "seen": self.seen.to_string(), "translated": self.translated(),
            "mapping": self.behaviour.map(|b| match b.mapping {
                NatMapping::Same => "same",
                NatMapping::ByAddress => "by-address",
                _ => "by-address-and-port",
            }),
            "strict": self.behaviour.map(|b| b.strict),
            "text": self.sentences().join(" "),
        })
    }

    fn sentences(&self) -> Vec<String> {
        let Self { own, seen, .. } = self;
        let mut lines = vec![match (self.translated(), own.port() == seen.port()) {
            (false, _) => format!("No translation: the server sees this host at its own address, {own}."),
            (true, true) => format!("Behind a NAT: the server sees {own} as {seen}; the port is kept."),
            (true, false) => format!("Behind a NAT: the server sees {own} as {seen}."),
        }];
        let Some(NatBehaviour { mapping, strict, .. }) = self.behaviour else {
            lines.push(
                "How it treats other destinations is not known: the server needs other doors to tell (`posse serve \
                 --door-port`, and --door-address for every kind)."
                    .into(),
            );
            lines.push("Plain hole punching is tried with everybody; what it does not open goes by the relay.".into());
            return lines;
        };
        lines.push(
            match mapping {
                NatMapping::Same => "One port serves all destinations.",
                NatMapping::ByAddress => "Each destination address has a port of its own.",
                _ => "Each destination address and port has a port of its own (\"symmetric\").",
            }
            .into(),
        );
        lines.push(
            if strict {
                "Only who was sent to gets in, from that very port."
            } else {
                "Who was sent to gets in from any port."
            }
            .into(),
        );
        lines.push(
            match (mapping, strict) {
                (NatMapping::Same, false) => "That is the easy kind: plain hole punching reaches everybody.",
                (NatMapping::Same, true) => {
                    "Plain hole punching reaches peers of that kind; peers behind symmetric NATs take port prediction or \
                     birthday probing, some seconds."
                }
                (_, false) => "Plain hole punching reaches most peers; the others take port prediction or birthday probing.",
                (_, true) => {
                    "That is the hard kind: only peers that let in any port are reached at once, those with one port for all \
                     take some seconds, and two of the hard kind stay on the relay unless their ports come in sequence."
                }
            }
            .into(),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_sentence_and_what_is_unknown_says_so() {
        let at = |port| SocketAddr::from(([192, 168, 0, 2], port));
        let seen = |port| SocketAddr::from(([203, 0, 113, 9], port));
        let text = |own, seen, behaviour| Finding { own, seen, behaviour }.sentences().join(" ");
        assert!(text(at(5), at(5), None).starts_with("No translation"));
        assert!(text(at(5), seen(5), None).contains("the port is kept. How it treats other destinations is not known"));
        let mut advice = std::collections::BTreeSet::new();
        for mapping in [NatMapping::Same, NatMapping::ByAddress, NatMapping::ByAddressAndPort] {
            for strict in [false, true] {
                let text = text(at(5), seen(6), Some(NatBehaviour::new(mapping, strict)));
                assert!(text.contains("peers") || text.contains("everybody"), "{text}");
                advice.insert(text);
            }
        }
        assert_eq!(advice.len(), 6);
    }
}
