//! Whether the other end of a server link is there: the same judgement at the client and at the server.
//!
//! Silence alone says little, as an idle link is silent on purpose. What counts is a question that stays unanswered: a packet
//! that asks for an acknowledgement, and none that was sent since is acknowledged. An end is offline
//!
//! - when nothing of it was heard for [`Timers::offline`] and a question has waited for [`ASK_FOR`]; or
//! - when a question has waited for [`Timers::offline`], though something is heard: what is sent does not arrive.
//!
//! So an end that has something to send notices after [`Timers::offline`]. One that has not asks when it heard nothing for
//! longer than a keepalive takes. Online again is who acknowledges.
//!
//! A machine that stood still asked nobody anything meanwhile, so its questions count from when it goes on
//! ([`Presence::on_resume`]), and for [`GRACE`] no silence ends a link. [`Sleep`] notices that it stood still.

use crate::config::Timers;
use crate::time::{Duration, Instant};

/// How long a question is repeated, within the longest probe timeout of 2 s, before nobody counts as there: two tries fail
/// together now and then, and more in a row hardly.
const ASK_FOR: Duration = Duration::from_secs(3);

/// A keepalive may be late by so much, for a round trip and a lost packet, before the end that waits for it asks.
const LATE: Duration = Duration::from_secs(2);

/// A machine that goes on leaves others this long before it takes their silence for an end: two of the longest probe
/// timeouts and a round trip.
const GRACE: Duration = Duration::from_secs(5);

/// A machine that is called later by this than it asked for stood still. A frame of a game that loads may take as long; to
/// count it costs a packet or two.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// A question that waited for so long and is answered tells that a link was gone: longer than loss recovery usually takes.
const REVIVED: Duration = Duration::from_millis(1_500);

/// See the module's text.
pub(crate) struct Presence {
    heard: Instant,
    /// When the first packet that asks was sent since the last acknowledgement.
    asked: Option<Instant>,
    offline: bool,
    /// Until then silence ends nothing.
    grace: Instant,
    /// Who was gone answered; until somebody asks.
    revived: bool,
}

impl Presence {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, asked: None, offline: false, grace: now, revived: false }
    }

    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When something of the other end was last heard.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// A packet that asks for an acknowledgement was sent.
    pub(crate) fn on_asked(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// Something that was sent is newly acknowledged.
    pub(crate) fn on_answered(&mut self, now: Instant) {
        let waited = self.asked.take().map_or(Duration::ZERO, |asked| now.since(asked));
        self.revived |= self.offline || waited >= REVIVED;
        self.offline = false;
    }

    /// Nobody will answer what was asked until now. Whether something is to be asked again: what was, or whether an end that
    /// did not answer is back.
    pub(crate) fn forget_question(&mut self) -> bool {
        self.asked.take().is_some() || self.offline
    }

    /// This end stood still until now.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        self.asked = self.asked.map(|_| now);
        self.grace = now + GRACE;
        self.revived = true;
    }

    /// Judges anew. True from when it is offline until it answers.
    pub(crate) fn check(&mut self, now: Instant, timers: &Timers) -> bool {
        self.offline |= self.offline_at(timers).is_some_and(|at| at <= now);
        self.offline
    }

    /// Whether there was a word again after the other end was gone for a while; once.
    pub(crate) fn take_revived(&mut self) -> bool {
        core::mem::take(&mut self.revived)
    }

    /// When to ask though there is nothing to say. An end that is offline is asked at once if no question is under way: it may
    /// well say something now and then, and only an answer makes it online again.
    pub(crate) fn ask_at(&self, timers: &Timers) -> Option<Instant> {
        let late = timers.server_keepalive.saturating_add(LATE);
        let at = if self.offline { self.heard } else { self.heard.max(self.grace - GRACE) + late };
        self.asked.is_none().then_some(at)
    }

    /// When silence ends the link, if it may last for `limit`.
    pub(crate) fn ends_at(&self, limit: Duration) -> Instant {
        (self.heard + limit).max(self.grace)
    }

    /// When [`Self::check`] or a question is due. `blocked`: nothing can be sent for now, so nothing can be asked.
    pub(crate) fn wake(&self, timers: &Timers, blocked: bool) -> Option<Instant> {
        self.offline_at(timers).filter(|_| !self.offline).or_else(|| self.ask_at(timers).filter(|_| !blocked))
    }

    fn offline_at(&self, timers: &Timers) -> Option<Instant> {
        let asked = self.asked?;
        Some((asked + timers.offline).min((self.heard + timers.offline).max(asked + ASK_FOR)))
    }
}

/// Notices that a machine was not called for long: its process was suspended, stopped in a debugger, or its clock jumped.
pub(crate) struct Sleep {
    last: Instant,
}

impl Sleep {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now }
    }

    /// A call at `now`. The call before, if that was so long ago that the machine may have stood still: then
    /// [`Self::was_late`] tells, for which it has to be asked when it wanted to be called.
    pub(crate) fn on_call(&mut self, now: Instant) -> Option<Instant> {
        let last = core::mem::replace(&mut self.last, now);
        (now.since(last) >= STOOD_STILL).then_some(last)
    }

    /// Whether a machine that was called at `last` and at `now`, and had asked for a call when it was `due`, stood still.
    pub(crate) fn was_late(last: Instant, now: Instant, due: Option<Instant>) -> bool {
        due.is_some_and(|due| now.since(due.max(last)) >= STOOD_STILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn timers() -> Timers {
        Timers::default()
    }

    #[test]
    fn an_idle_link_is_never_offline_and_is_asked_about_when_a_keepalive_is_late() {
        let mut presence = Presence::new(at(0));
        assert!(!presence.check(at(1_000_000), &timers()));
        assert_eq!(presence.wake(&timers(), false), Some(at(12_000)));
        presence.on_asked(at(12_000));
        assert!(!presence.check(at(14_999), &timers()));
        assert!(presence.check(at(15_000), &timers()));
    }

    #[test]
    fn who_sends_all_the_time_notices_after_ten_seconds() {
        let mut presence = Presence::new(at(0));
        for ms in (0..9_000).step_by(50) {
            presence.on_asked(at(ms + 20));
            presence.on_heard(at(ms + 40));
            presence.on_answered(at(ms + 40));
        }
        presence.on_asked(at(9_000));
        assert_eq!(presence.wake(&timers(), false), Some(at(18_990)));
        assert!(presence.check(at(18_990), &timers()));
        assert!(!presence.take_revived());
        presence.on_answered(at(60_000));
        assert!(!presence.check(at(60_000), &timers()) && presence.take_revived() && !presence.take_revived());
    }

    #[test]
    fn one_whose_words_arrive_and_who_answers_nothing_is_offline_too() {
        let mut presence = Presence::new(at(0));
        presence.on_asked(at(100));
        for ms in (100..10_100).step_by(50) {
            presence.on_heard(at(ms));
            assert!(!presence.check(at(ms), &timers()));
        }
        assert!(presence.check(at(10_100), &timers()));
    }

    #[test]
    fn who_is_offline_is_asked_again_however_often_the_question_is_given_up() {
        let mut presence = Presence::new(at(0));
        presence.on_asked(at(12_000));
        assert!(presence.check(at(15_000), &timers()));
        assert_eq!(presence.wake(&timers(), false), None, "a question is under way");
        presence.on_heard(at(16_000));
        assert!(presence.forget_question() && presence.forget_question());
        assert_eq!(presence.wake(&timers(), false), Some(at(16_000)));
        assert_eq!(presence.wake(&timers(), true), None, "nothing can be sent");
        presence.on_asked(at(16_000));
        presence.on_answered(at(16_100));
        assert!(!presence.forget_question() && presence.wake(&timers(), false) > Some(at(20_000)));
    }

    #[test]
    fn who_stood_still_asks_before_it_judges() {
        let mut presence = Presence::new(at(0));
        presence.on_asked(at(100));
        presence.on_resume(at(50_000));
        assert!(!presence.check(at(52_999), &timers()));
        assert!(presence.check(at(53_000), &timers()));
        presence.on_resume(at(500_000));
        assert_eq!(presence.ends_at(timers().session_idle), at(505_000));
    }

    #[test]
    fn a_machine_stood_still_if_it_was_called_late_and_not_if_it_slept_as_asked() {
        let mut sleep = Sleep::new(at(0));
        let mut late = |now, due| sleep.on_call(now).is_some_and(|last| Sleep::was_late(last, now, due));
        assert!(!late(at(10_000), Some(at(10_000))), "it slept");
        assert!(!late(at(10_016), Some(Instant::ZERO)), "a call was due and came in the next frame");
        assert!(late(at(60_000), Some(at(10_500))));
        assert!(!late(at(0), Some(at(60_500))), "a clock that jumps back");
        assert!(!late(at(900_000), None), "nothing was to be done");
    }

    proptest! {
        #[test]
        fn nobody_who_answers_within_three_seconds_is_offline(gaps in proptest::collection::vec((1u64..20_000, 0u64..2_999), 1..50)) {
            let (mut presence, mut now) = (Presence::new(at(0)), 0);
            for (pause, answer) in gaps {
                now += pause;
                prop_assert!(!presence.check(at(now), &timers()));
                presence.on_asked(at(now));
                now += answer;
                prop_assert!(!presence.check(at(now), &timers()));
                presence.on_heard(at(now));
                presence.on_answered(at(now));
            }
        }
    }
}
