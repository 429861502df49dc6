//! The applications of a scenario: machines that wrap a [`Client`](posse_core::Client) or [`Server`](posse_core::Server), poll its events after each call, do
//! what their part of the script says when it is time, and write down what happened.

mod client;
mod server;

pub(crate) use client::ClientPart;
pub use client::SimClient;
pub(crate) use server::ServerPart;
pub use server::SimServer;

use super::journal::{Entry, Journal, Received, Sent, What};
use super::{Action, GroupIndex, Host, Sending, Target};
use posse_core::client::{SendError, Sent as Accepted};
use posse_core::{Channel, Duration, Instant, Message, SendOptions, Wake};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Names by index: what a login's token, and a member's user data, refer to.
pub(crate) type Names = Arc<[String]>;

/// A step of the script for one application, with repetitions already made separate.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Order {
    pub(crate) at: Instant,
    pub(crate) action: Action,
}

/// Messages to be sent.
#[derive(Clone)]
pub(crate) struct Ongoing {
    sending: Sending,
    next: Instant,
    left: u32,
    every: Duration,
    /// Whether the receiver was there once.
    begun: bool,
    /// The receiver is away: what is due meanwhile is not sent.
    away: bool,
    /// Waits for the receiver, or for room: an event will say when.
    waits: bool,
}

impl Ongoing {
    pub(crate) fn new(sending: Sending, at: Instant, every: Duration, times: u32) -> Self {
        Self { sending, next: at, left: times, every, begun: false, away: false, waits: false }
    }

    /// Leaves out what was due before `now`.
    fn skip_to(&mut self, now: Instant) {
        while self.left > 0 && self.next < now {
            self.left -= 1;
            self.next = self.next + self.every;
        }
    }
}

/// What client and server applications share: sending by schedule, numbering, and the accounts.
#[derive(Clone)]
pub(crate) struct Desk {
    me: Host,
    ongoing: Vec<Ongoing>,
    numbers: BTreeMap<(Target, Channel), u64>,
    seen: BTreeSet<(Host, Target, bool)>,
    content: Vec<u8>,
    journal: Journal,
    ahead: Ahead,
}

/// How far a host's clock is ahead of the world's, in nanoseconds: whoever makes it jump says so here. What an application
/// writes down has the world's time, or books of several hosts could not be held against each other.
pub(crate) type Ahead = Arc<AtomicI64>;

impl Desk {
    pub(crate) fn new(me: Host, ongoing: Vec<Ongoing>, ahead: Ahead) -> Self {
        let (numbers, seen) = (BTreeMap::new(), BTreeSet::new());
        Self { me, ongoing, numbers, seen, content: Vec::new(), journal: Journal::default(), ahead }
    }

    /// The world's time as this host's clock says `now`.
    fn world_time(&self, now: Instant) -> Instant {
        let world = i128::from(now.0) - i128::from(self.ahead.load(Ordering::Relaxed));
        Instant(u64::try_from(world.max(0)).unwrap_or(u64::MAX))
    }

    /// The same after a restart at `now`, by the world's time: whoever was there is away.
    fn restarted(&self, now: Instant) -> Self {
        let mut desk = self.clone();
        desk.ongoing.iter_mut().for_each(|ongoing| (ongoing.away, ongoing.waits) = (ongoing.begun, false));
        desk.journal.entries.push(Entry { at: now, who: Some(self.me), what: What::Restarted });
        desk
    }

    fn note(&mut self, now: Instant, what: What) {
        let at = self.world_time(now);
        self.journal.entries.push(Entry { at, who: Some(self.me), what });
    }

    fn refused(&mut self, at: Instant, what: &str, why: impl std::fmt::Display) {
        self.note(at, What::Refused(format!("{what}: {why}")));
    }

    /// Sends what is due. `receivers` says who would get a message to a target, nobody if it is not there; `send` sends.
    fn send_due<T>(
        &mut self,
        now: Instant,
        receivers: impl Fn(Target) -> Option<(T, Vec<Host>)>,
        mut send: impl FnMut(T, Channel, &[u8], SendOptions) -> Result<Accepted, SendError>,
    ) {
        let at = self.world_time(now);
        for i in 0..self.ongoing.len() {
            let entry = &mut self.ongoing[i];
            entry.waits = false;
            while entry.left > 0 && entry.next <= now {
                let Sending { to, channel, size, options, .. } = entry.sending;
                let Some((address, receivers)) = receivers(to) else {
                    (entry.away, entry.waits) = (true, true);
                    break;
                };
                if !entry.begun {
                    (entry.begun, entry.next) = (true, now);
                }
                if std::mem::take(&mut entry.away) && entry.next < now {
                    entry.skip_to(now);
                    continue;
                }
                let number = self.numbers.entry((to, channel)).or_default();
                write_content(&mut self.content, *number, at, size);
                match send(address, channel, &self.content, options) {
                    Ok(_) => {
                        let key = options.replaces;
                        self.journal.sent.push(Sent { at, to, channel, number: *number, key, receivers });
                        *number += 1;
                        entry.left -= 1;
                        entry.next = entry.next + entry.every;
                    }
                    Err(SendError::Full { .. }) => {
                        entry.waits = true;
                        break;
                    }
                    Err(error) => {
                        entry.left = 0;
                        let what = What::Refused(format!("send: {error}"));
                        self.journal.entries.push(Entry { at, who: Some(self.me), what });
                    }
                }
            }
        }
    }

    /// When the next message is due that waits for nothing else.
    fn next_due(&self) -> Option<Instant> {
        self.ongoing.iter().filter(|o| o.left > 0 && !o.waits).map(|o| o.next).min()
    }

    fn receive(&mut self, now: Instant, from: Host, to: Target, message: &Message, inside: bool, content: &[u8]) {
        let (number, sent_at, intact) = read_content(content);
        let Message { channel, direct, .. } = *message;
        let at = self.world_time(now);
        self.journal.received.push(Received { at, from, to, channel, number, sent_at, direct, intact, inside });
        if self.seen.insert((from, to, direct)) {
            self.note(now, What::FirstMessage { from, to, direct, took: at.since(sent_at) });
        }
    }

    /// Messages that were not sent although their receiver is there, or because it never was; and whether it was.
    fn unsent(&self) -> impl Iterator<Item = Unsent<'_>> {
        let unsent = self.ongoing.iter().filter(|o| o.left > 0 && !(o.begun && o.away));
        unsent.map(|o| Unsent { sending: &o.sending, left: o.left, begun: o.begun })
    }
}

/// Messages that should have been sent.
pub struct Unsent<'a> {
    /// What.
    pub sending: &'a Sending,
    /// How many of them.
    pub left: u32,
    /// Whether the receiver was there once.
    pub begun: bool,
}

/// A message says its number and when it was sent; the rest follows from the number, so that damage shows.
fn write_content(content: &mut Vec<u8>, number: u64, at: Instant, size: usize) {
    content.clear();
    content.extend_from_slice(&number.to_be_bytes());
    content.extend_from_slice(&at.0.to_be_bytes());
    content.extend((Sending::MIN_SIZE..size).map(|i| filler(number, i)));
}

fn read_content(content: &[u8]) -> (u64, Instant, bool) {
    let word = |at: usize| content.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let (Some(number), Some(at)) = (word(0), word(8)) else { return (u64::MAX, Instant::ZERO, false) };
    let rest = content.iter().enumerate().skip(Sending::MIN_SIZE);
    (number, Instant(at), rest.into_iter().all(|(i, &byte)| byte == filler(number, i)))
}

fn filler(number: u64, place: usize) -> u8 {
    (number.wrapping_mul(31).wrapping_add(place as u64) % 251) as u8
}

/// A join's message: the group's index, then what the scenario wants to be carried.
fn join_message(group: GroupIndex, text: &str) -> Vec<u8> {
    [&(group.0 as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn group_of(message: &[u8]) -> Option<GroupIndex> {
    let index = message.first_chunk::<4>()?;
    Some(GroupIndex(u32::from_be_bytes(*index) as usize))
}

/// The machine's own wake-up or the application's, which is a kind of pacing.
fn earliest(machine: Option<(Instant, Wake)>, application: Option<Instant>) -> Option<(Instant, Wake)> {
    let application = application.map(|at| (at, Wake::Pacing));
    machine.into_iter().chain(application).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_number_and_damage_shows() {
        let mut content = Vec::new();
        for size in [16, 17, 1000] {
            write_content(&mut content, 9, Instant(77), size);
            assert_eq!((content.len(), read_content(&content)), (size, (9, Instant(77), true)));
        }
        content[500] ^= 1;
        assert!(!read_content(&content).2);
        assert!(!read_content(&content[..15]).2);
    }

    #[test]
    fn a_join_carries_the_index_of_its_group() {
        assert_eq!(group_of(&join_message(GroupIndex(3), "hello")), Some(GroupIndex(3)));
        assert_eq!(group_of(b"abc"), None);
    }
}
