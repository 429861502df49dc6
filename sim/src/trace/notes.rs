//! Notes of a scenario's run.

use super::{Note, NoteKind};
use crate::Place;
use crate::scenario::run::Outcome;
use crate::scenario::{ClientIndex, Host, Scenario, words};

impl Outcome {
    /// What the applications wrote down, the faults, and at the end what is `broken`.
    pub fn notes(&self, scenario: &Scenario, broken: impl IntoIterator<Item = String>) -> Vec<Note> {
        let entries = self.timeline.iter().map(|entry| Note {
            at: entry.at,
            who: entry.who.map(place),
            kind: if entry.who.is_some() { NoteKind::App } else { NoteKind::Fault },
            text: words::sentence(scenario, entry.who, &entry.what),
        });
        let broken = broken.into_iter().map(|text| Note { at: self.ended, who: None, kind: NoteKind::Broken, text });
        entries.chain(broken).collect()
    }
}

/// A run puts the server into its world first, then the clients in their order.
fn place(host: Host) -> Place {
    match host {
        Host::Server => Place::Host(0),
        Host::Client(ClientIndex(i)) => Place::Host(i + 1),
    }
}
