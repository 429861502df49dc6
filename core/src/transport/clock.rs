//! What the other end's clock shows: questions that ride on packets which go anyway, and their answers.
//!
//! A question stands in a packet that asks for an acknowledgement, so it adds none to an idle link; the answer stands beside
//! that acknowledgement, which then goes at once. Neither is repeated when it is lost: the owner asks again.

use super::{MAIN, PathId, Transport};
use crate::time::Instant;
use crate::wire::buf::Writer;
use crate::wire::frames;

/// See the module's text.
#[derive(Default)]
pub(super) struct Clock {
    /// To be asked with the next packet that asks for anything.
    wanted: bool,
    /// Of the last question.
    number: u32,
    /// When that was written, until it is answered.
    asked: Option<Instant>,
    /// The other end's question, until it is answered.
    question: Option<u32>,
}

impl Transport {
    /// Asks for the other end's time with the next packet on the main path that asks for an acknowledgement.
    pub(crate) fn want_time(&mut self) {
        self.clocks.wanted = true;
    }

    /// Tells this end's time with the next packet on the main path, which goes at once.
    pub(crate) fn tell_time(&mut self, number: u32) {
        self.clocks.question = Some(number);
    }

    /// When the question was written that this answers; once.
    pub(super) fn on_time(&mut self, number: u32) -> Option<Instant> {
        let asked = self.clocks.asked.take_if(|_| self.clocks.number == number)?;
        self.clocks.wanted = false;
        Some(asked)
    }

    /// An answer that is under way says nothing any more: this end's clock may have stood still.
    pub(super) fn forget_question(&mut self) {
        self.clocks.asked = None;
    }

    pub(super) fn owes_time(&self, path: PathId) -> bool {
        path == MAIN && self.clocks.question.is_some()
    }

    /// Into a packet that asks for an acknowledgement, or will by this.
    pub(super) fn write_question(&mut self, now: Instant, path: PathId, w: &mut Writer<'_>) {
        let number = self.clocks.number.wrapping_add(1);
        if path == MAIN && self.clocks.wanted && frames::write_ask_time(w, number).is_ok() {
            self.clocks = Clock { wanted: false, number, asked: Some(now), question: self.clocks.question };
        }
    }

    pub(super) fn write_time(&mut self, now: Instant, path: PathId, w: &mut Writer<'_>) {
        if path == MAIN
            && let Some(number) = self.clocks.question
            && frames::write_time(w, number, now.0).is_ok()
        {
            self.clocks.question = None;
        }
    }
}
