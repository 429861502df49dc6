//! What does not hold of a run, by kind, so that two runs can be told to fail alike: not by who it was or how often.

use super::expect::{expectations_for, heals};
use super::run::Outcome;
use super::{Host, Scenario};
use crate::Stuck;

/// Something that had to hold and does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Of what kind.
    pub kind: Kind,
    /// In words.
    pub text: String,
}

/// A kind of failure. Words in it have neither names nor numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A machine does not let the clock go on.
    Busy,
    /// Machines answer each other without end.
    Livelock,
    /// Something is against the reference models.
    Model(String),
    /// A step was never done.
    Undone(String),
    /// An expectation does not hold.
    Expectation {
        /// What was expected, or in which of several ways it does not hold.
        that: &'static str,
        /// What was found, where the expectation does not follow from the script: it may fail for want of what it is about.
        found: String,
    },
}

impl Outcome {
    /// What does not hold of a run of `scenario`, as a swarm judges it. Messages whose receiver never was there are no
    /// failure: a script drawn at random may well have them. Nor are steps that were not done by the end, if what must
    /// hold follows from the script and the end comes before all has healed.
    pub fn failures(&self, scenario: &Scenario) -> Vec<Failure> {
        let theirs = scenario.expectations.iter().map(|e| &e.expect);
        let derived = theirs.eq(expectations_for(scenario).iter().map(|e| &e.expect));
        let mut failures = Vec::new();
        if let Some(stuck) = &self.stuck {
            let kind = if matches!(stuck, Stuck::Livelock { .. }) { Kind::Livelock } else { Kind::Busy };
            failures.push(Failure { kind, text: format!("stuck: {stuck}") });
        }
        for text in &self.violations {
            failures.push(Failure { kind: Kind::Model(anonymous(scenario, text)), text: text.clone() });
        }
        for text in self.undone.iter().filter(|_| !derived || heals(scenario)) {
            failures.push(Failure { kind: Kind::Undone(anonymous(scenario, text)), text: text.clone() });
        }
        for verdict in self.verdicts.iter().filter(|verdict| !verdict.held) {
            let found = if derived { String::new() } else { anonymous(scenario, &verdict.found) };
            let text = format!("expected: {}; found: {}", verdict.expected, verdict.found);
            failures.push(Failure { kind: Kind::Expectation { that: verdict.that, found }, text });
        }
        failures
    }
}

/// What a sentence says, up to its details: without the names of a scenario's hosts and groups, without numbers.
fn anonymous(scenario: &Scenario, text: &str) -> String {
    let clients = scenario.clients.iter().map(|client| client.name.as_str());
    let nats = scenario.nats.iter().map(|nat| nat.name.as_str());
    let groups = scenario.groups.iter().map(String::as_str);
    let names: Vec<_> = clients.chain(nats).chain(groups).chain([scenario.host_name(Host::Server)]).collect();
    let gist = text.split(';').next().unwrap_or_default();
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut words: Vec<&str> = Vec::new();
    for word in gist.split(|c: char| !part(c)).filter(|word| !word.is_empty()) {
        let word = if names.contains(&word) || word.starts_with(|c: char| c.is_ascii_digit()) { "…" } else { word };
        // Several in a row are a list, however long.
        if word != "…" || words.last() != Some(&"…") {
            words.push(word);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_are_alike_if_only_names_and_numbers_differ() {
        let s = Scenario::random(1);
        let gist = |text| anonymous(&s, text);
        assert_eq!(gist("client0 → client1: 3 unreliable messages"), gist("client1 → server: 12 unreliable messages"));
        assert_eq!(gist("client0 sees [client1, client0]"), gist("client1 sees [client0]"));
        assert_eq!(gist("client0 left; due was: this"), gist("client1 left; due was: that"));
        assert_ne!(gist("client0 left group0"), gist("client0 joined group0"));
    }
}
