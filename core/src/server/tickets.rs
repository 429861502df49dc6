//! Tickets at the door: each is taken once, and not after its time.
//!
//! What is remembered of a ticket that was taken is its id, until it expires. One whose login came to nothing, because its
//! client never showed the session's keys, may be used again.

use crate::config::Tickets as Config;
use crate::event::TicketRefusal;
use crate::ticket::{self, Audience, Ticket, TicketId};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;

/// See the module's text.
pub(super) struct Tickets {
    config: Option<Config>,
    /// Those that were taken and have not expired.
    used: BTreeSet<(Duration, TicketId)>,
    /// What time it was when.
    clock: Option<(Instant, Duration)>,
}

impl Tickets {
    pub(super) fn new(config: Option<Config>) -> Self {
        Self { config, used: BTreeSet::new(), clock: None }
    }

    /// It is that long since 1970.
    pub(super) fn set_clock(&mut self, now: Instant, time: Duration) {
        self.clock = Some((now, time));
    }

    /// Forgets what has expired.
    pub(super) fn tidy(&mut self, now: Instant) {
        let Some(time) = self.time(now) else { return };
        while let Some(first) = self.used.first().filter(|(expires, _)| *expires <= time) {
            let first = *first;
            self.used.remove(&first);
        }
    }

    /// Judges what a client brought. `None` if none is needed.
    pub(super) fn check(
        &self,
        now: Instant,
        audience: Audience<'_>,
        sealed: &[u8],
    ) -> Result<Option<Box<Ticket>>, TicketRefusal> {
        let Some(config) = &self.config else { return Ok(None) };
        if sealed.is_empty() {
            return Err(TicketRefusal::Missing);
        }
        let keys = [Some(config.key), config.second_key];
        let opened = keys.iter().flatten().find_map(|key| ticket::open(key, audience, sealed).ok());
        let ticket = opened.ok_or(TicketRefusal::Invalid)?;
        let time = self.time(now).ok_or(TicketRefusal::Unavailable)?;
        match () {
            () if ticket.expires <= time => Err(TicketRefusal::Expired),
            () if self.used.contains(&(ticket.expires, ticket.id)) => Err(TicketRefusal::Used),
            () if self.used.len() >= config.remembered => Err(TicketRefusal::Unavailable),
            () => Ok(Some(Box::new(ticket))),
        }
    }

    /// Somebody came with it.
    pub(super) fn take(&mut self, ticket: &Ticket) {
        self.used.insert((ticket.expires, ticket.id));
    }

    /// Whoever came with it has not shown to be there.
    pub(super) fn give_back(&mut self, ticket: &Ticket) {
        self.used.remove(&(ticket.expires, ticket.id));
    }

    fn time(&self, now: Instant) -> Option<Duration> {
        let (then, time) = self.clock?;
        Some(time.saturating_add(now.since(then)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: [u8; 32] = [6; 32];
    const HERE: Audience<'static> = Audience { server_key: &SERVER, app: 7 };

    fn sealed(key: u8, id: u8, expires: u64) -> alloc::vec::Vec<u8> {
        let ticket = Ticket { id: [id; 16], expires: Duration::from_secs(expires), data: [id].into() };
        ticket::seal(&[key; 32], HERE, &ticket).unwrap()
    }

    fn door() -> Tickets {
        let mut door = Tickets::new(Some(Config { second_key: Some([2; 32]), remembered: 2, ..Config::new([1; 32]) }));
        door.set_clock(Instant::from_millis(5_000), Duration::from_secs(1_000));
        door
    }

    fn judge(door: &mut Tickets, ms: u64, sealed: &[u8]) -> Result<u8, TicketRefusal> {
        let now = Instant::from_millis(ms);
        door.tidy(now);
        let ticket = door.check(now, HERE, sealed)?.expect("one is needed");
        door.take(&ticket);
        Ok(ticket.data[0])
    }

    #[test]
    fn a_ticket_is_taken_once_and_not_after_its_time() {
        let mut door = door();
        assert_eq!(judge(&mut door, 5_000, &sealed(1, 3, 1_010)), Ok(3));
        assert_eq!(judge(&mut door, 5_000, &sealed(1, 3, 1_010)), Err(TicketRefusal::Used));
        assert_eq!(judge(&mut door, 14_999, &sealed(1, 3, 1_010)), Err(TicketRefusal::Used));
        assert_eq!(judge(&mut door, 15_000, &sealed(1, 3, 1_010)), Err(TicketRefusal::Expired));
        assert_eq!(judge(&mut door, 15_000, &sealed(2, 4, 1_020)), Ok(4), "made with the other key");
        assert_eq!(judge(&mut door, 15_000, &sealed(9, 5, 1_020)), Err(TicketRefusal::Invalid));
        assert_eq!(judge(&mut door, 15_000, b""), Err(TicketRefusal::Missing));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let mut door = door();
        assert_eq!(judge(&mut door, 5_000, &sealed(1, 3, 1_010)), Ok(3));
        assert_eq!(judge(&mut door, 5_000, &sealed(1, 4, 1_020)), Ok(4));
        assert_eq!(judge(&mut door, 5_000, &sealed(1, 5, 1_030)), Err(TicketRefusal::Unavailable));
        assert_eq!(judge(&mut door, 15_000, &sealed(1, 5, 1_030)), Ok(5), "one has expired");
        door.give_back(&Ticket { id: [5; 16], expires: Duration::from_secs(1_030), data: [].into() });
        assert_eq!(judge(&mut door, 15_000, &sealed(1, 5, 1_030)), Ok(5), "it was given back");
    }

    #[test]
    fn who_does_not_know_the_time_takes_none() {
        let mut door = Tickets::new(Some(Config::new([1; 32])));
        assert_eq!(judge(&mut door, 5, &sealed(1, 3, 1_010)), Err(TicketRefusal::Unavailable));
        assert_eq!(Tickets::new(None).check(Instant::ZERO, HERE, b"whatever"), Ok(None));
    }
}
