//! What was done for a pair so far: see [`PeerReport`](crate::PeerReport).

use super::{Candidate, Origin, Punch};
use crate::report::{CandidateReport, CandidateSource, Searches};
use crate::time::{Duration, Instant};

#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// When the first round began.
    pub(super) since: Option<Instant>,
    pub(crate) time_to_direct: Option<Duration>,
    pub(crate) rounds: u32,
    pub(crate) holes: u32,
    pub(crate) searches: Searches,
    pub(crate) challenges: u64,
    pub(crate) responses: u64,
    pub(crate) candidates: u32,
}

impl Tally {
    pub(super) fn on_round(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.rounds = self.rounds.saturating_add(1);
    }

    pub(super) fn on_direct(&mut self, now: Instant) {
        self.holes = self.holes.saturating_add(1);
        let since = self.since.unwrap_or(now);
        self.time_to_direct.get_or_insert(now.since(since));
    }
}

impl Punch {
    pub(crate) fn tally(&self) -> Tally {
        let (challenges, responses) = (self.stats.challenges, self.stats.responses);
        Tally { challenges, responses, ..self.tally }
    }

    /// What the server ordered beyond plain punching.
    pub(crate) fn searches(&mut self) -> &mut Searches {
        &mut self.tally.searches
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = CandidateReport> + '_ {
        let from = |candidate: &Candidate| match candidate.origin {
            Origin::Given => CandidateSource::Server,
            Origin::Found => CandidateSource::Search,
            Origin::Reflexive => CandidateSource::Peer,
        };
        self.candidates.iter().map(move |c| CandidateReport {
            address: c.way.at,
            socket: c.way.socket,
            from: from(c),
            challenges: c.challenges,
            answered: c.rtt,
            heard: c.heard.is_some(),
            in_use: self.send == Some(c.way),
        })
    }
}
