//! Which session is due next, and what it does then: end, ask whether its client is there, knock, send.

use super::session::Phase;
use super::{Server, leg};
use crate::event::EndReason;
use crate::link::{CLOSE_LOCAL, CLOSE_TIMED_OUT, CLOSE_VIOLATION, DATAGRAM};
use crate::machine::Wake;
use crate::outbox::Outbox;
use crate::path::Way;
use crate::time::Instant;

impl Server {
    /// Has every link send that is due, as long as there is room.
    pub(super) fn serve_due(&mut self, now: Instant, out: &mut Outbox) {
        while out.room() >= DATAGRAM {
            self.set_times();
            let Some(slot) = self.schedule.pop_due(now) else { return };
            let timers = &self.config.timers;
            let Some(session) = self.sessions.get_mut(slot as usize).and_then(|s| s.session.as_deref_mut()) else {
                self.say_goodbye(now, slot, out);
                continue;
            };
            if session.phase == Phase::Gone {
                self.say_goodbye(now, slot, out);
                continue;
            }
            if session.ends_at(timers) <= now {
                let reason = match session.phase {
                    Phase::Closing(EndReason::Violation) => CLOSE_VIOLATION,
                    Phase::Closing(_) => CLOSE_LOCAL,
                    _ => CLOSE_TIMED_OUT,
                };
                // Who was silent for so long is most likely not there, and its address may be another's by now: it is told
                // again only if it speaks.
                let listens = session.phase == Phase::Online;
                let (addr, mut route) = (session.addr, leg::route(&mut self.streams, session));
                let told = session.link.close(now, addr, &mut route, reason, out);
                let told =
                    if reason == CLOSE_TIMED_OUT { told.filter(|_| listens).map(|g| g.listening(now)) } else { told };
                self.end(now, slot, EndReason::TimedOut, told);
                continue;
            }
            self.check_presence(now, slot);
            let Self { sessions, streams, .. } = self;
            let Some(session) = sessions.get_mut(slot as usize).and_then(|s| s.session.as_deref_mut()) else {
                continue;
            };
            let room = out.room();
            while out.room() >= DATAGRAM
                && session.stream.is_none()
                && let Some(door) = session.discovery.knock(now)
            {
                session.link.knock(now, Way::new(door, session.addr), door.0 as u8, out);
            }
            let mut route = leg::route(streams, session);
            session.link.transmit(now, &mut route, out);
            if session.wishes.due.is_some_and(|at| at <= now) {
                let from = session.peer;
                self.hear_wishes(now, from);
            }
            self.follow(now, slot);
            self.announce(slot);
            self.refresh(slot);
            if out.room() == room {
                self.set_times();
                self.schedule.postpone(slot, now);
            }
        }
    }

    /// Says the last word of a former session again if it is time, and forgets it when it was said often enough.
    pub(super) fn say_goodbye(&mut self, now: Instant, slot: u32, out: &mut Outbox) {
        let Some(place) = self.sessions.get_mut(slot as usize) else { return };
        let Some((_, goodbye)) = &mut place.goodbye else { return };
        goodbye.transmit(now, out);
        if goodbye.is_over(now) {
            place.goodbye = None;
            if place.session.is_none() && place.generation < u32::MAX {
                self.free.push(slot);
            }
        }
        self.refresh(slot);
    }

    /// A session was touched: it may be due at another time.
    pub(super) fn refresh(&mut self, slot: u32) {
        if let Some(other) = self.schedule.touch(slot) {
            self.schedule.set(other, self.due(other));
        }
    }

    /// Sets the time of whichever session was touched last.
    fn set_times(&mut self) {
        if let Some(slot) = self.schedule.touched() {
            self.schedule.set(slot, self.due(slot));
        }
    }

    /// When a session, or its last word, is due, and why.
    pub(super) fn due(&self, slot: u32) -> Option<(Instant, Wake)> {
        let place = self.sessions.get(slot as usize)?;
        match (&place.session, &place.goodbye) {
            (Some(session), _) if session.phase != Phase::Gone => Some(session.wake(&self.config.timers)),
            (_, goodbye) => goodbye.as_ref().map(|(_, goodbye)| (goodbye.wake(), Wake::Probe)),
        }
    }
}
