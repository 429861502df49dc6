//! Which leg a client uses: when to connect, to switch, to go back.
//!
//! It is told what happens (a stream opened, broke, UDP was heard, UDP is in doubt) and asked what to do. It sends nothing
//! itself but frames that were put into its queue.
//!
//! - **Login.** UDP goes first; after [`RACE_AFTER`] without an answer a connection is opened as well and the same request goes
//!   through it. The first valid answer wins and its leg is used.
//! - **UDP to TCP.** When [`DOUBT_TIMEOUTS`] probe timeouts in a row cast doubt on UDP, a connection is opened while UDP goes on. If
//!   UDP is heard before the connection is there, nothing has happened; else the stream is used from then on.
//! - **TCP to UDP.** On TCP a challenge goes over UDP now and then. [`RETURN_ANSWERS`] in a row that come back over UDP prove both
//!   directions. Each return waits longer than the one before, unless UDP then stayed for [`STAYED`].
//! - **A second connection.** TCP waits twice as long after each loss in a row, and a connection whose mapping a NAT forgot is never
//!   answered. So one that is not open after [`SECOND_AFTER`], or is silent for [`STALLED`] though something waits, is raced by a
//!   second one, which begins with TCP's shortest waits. The first that opens, or speaks again, wins; the other is closed.
//! - **A stream that breaks**, or is silent for too long, leaves UDP, whatever is known of it, until another one is open.

use super::frame::{BadFrame, FrameReader};
use super::queue::FrameQueue;
use super::{
    CONNECT_PATIENCE, LINGER, Leg, LegReason, RACE_AFTER, RETRY_FIRST, RETRY_LONGEST, RETURN_ANSWERS, RETURN_FIRST,
    RETURN_LONGEST, RETURN_SPACING, SECOND_AFTER, SILENCE, STALLED,
};
use crate::ids::StreamId;
use crate::machine::Request;
use crate::outbox::Outbox;
use crate::time::{Duration, Instant};
use crate::transport::Usage;
use alloc::collections::VecDeque;
use core::net::SocketAddr;

/// UDP that carried a session for so long after a return counts as healthy again.
const STAYED: Duration = Duration::from_secs(120);

/// Requests that wait to be polled: two closes and a connect, and as much again.
const MAX_REQUESTS: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    /// None.
    None,
    /// Asked for.
    Connecting { id: StreamId, since: Instant },
    /// Open since then; closed at that time if it is not needed until then.
    Open { id: StreamId, since: Instant, until: Option<Instant> },
}

/// Asking over UDP whether it works again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asking {
    next: Instant,
    interval: Duration,
    /// The challenge that was sent last, and whether it was answered.
    token: u64,
    sent: bool,
    answers: u32,
}

/// See the module's text.
pub(crate) struct Carrier {
    server: SocketAddr,
    leg: Leg,
    /// Why; `None` while it is UDP as it was from the beginning.
    why: Option<LegReason>,
    stream: Stream,
    /// The second connection that was asked for, and when. Never without a first.
    second: Option<(StreamId, Instant)>,
    next_id: u64,
    queue: FrameQueue,
    reader: FrameReader,
    requests: VecDeque<Request>,
    /// The login has not been answered; TCP takes part from that time on.
    race_at: Option<Instant>,
    /// Since when UDP is in doubt.
    doubt: Option<Instant>,
    /// Since when something waits for the server to acknowledge it, or for the stream to take it.
    waits_since: Option<Instant>,
    retry_at: Instant,
    retry: Duration,
    asking: Asking,
    /// The wait before the first question of the next time on TCP, and when UDP was returned to.
    patience: Duration,
    returned: Option<Instant>,
    /// There is a leg to be told of.
    news: bool,
    /// Packets go by another leg or another stream.
    moved: bool,
}

impl Carrier {
    /// For a login that begins now.
    pub(crate) fn new(now: Instant, server: SocketAddr) -> Self {
        Self {
            server,
            leg: Leg::Udp,
            why: None,
            stream: Stream::None,
            second: None,
            next_id: 1,
            queue: FrameQueue::default(),
            reader: FrameReader::default(),
            requests: VecDeque::new(),
            race_at: Some(now + RACE_AFTER),
            doubt: None,
            waits_since: None,
            retry_at: now,
            retry: RETRY_FIRST,
            asking: Asking { next: now, interval: RETURN_FIRST, token: 0, sent: false, answers: 0 },
            patience: RETURN_FIRST,
            returned: None,
            news: false,
            moved: false,
        }
    }

    /// The leg in use, and why if it was not always that one.
    pub(crate) fn leg(&self) -> (Leg, Option<LegReason>) {
        (self.leg, self.why)
    }

    /// Whether there is another leg since this was last asked.
    pub(crate) fn take_news(&mut self) -> bool {
        core::mem::take(&mut self.news)
    }

    /// Whether packets go another way since this was last asked, and what was under way may be lost.
    pub(crate) fn take_moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    /// Where packets for the server go if not out by UDP.
    pub(crate) fn queue(&mut self) -> Option<&mut FrameQueue> {
        (self.leg == Leg::Tcp).then_some(&mut self.queue)
    }

    /// What waits for the stream.
    pub(crate) fn usage(&self) -> Usage {
        if matches!(self.stream, Stream::Open { .. }) { self.queue.usage() } else { Usage::default() }
    }

    /// Whether no packet for the server can be taken now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.leg == Leg::Tcp && !self.queue.has_room()
    }

    /// Whether everything that went into the stream was written, or there is no stream to write it.
    pub(crate) fn is_flushed(&self) -> bool {
        self.leg == Leg::Udp || self.queue.is_flushed() || !matches!(self.stream, Stream::Open { .. })
    }

    // ---- what happens

    /// A stream that was asked for is open. True for one that was still wanted.
    pub(crate) fn on_connected(&mut self, now: Instant, id: StreamId) -> bool {
        let second = self.second.map(|(second, _)| second);
        let loser = if second == Some(id) { self.stream_id() } else { second };
        if second != Some(id) && !matches!(self.stream, Stream::Connecting { id: asked, .. } if asked == id) {
            self.ask(Request::Close(id));
            return false;
        }
        self.second = None;
        loser.into_iter().for_each(|loser| self.ask(Request::Close(loser)));
        let needed = self.race_at.is_some() || self.doubt.is_some() || self.leg == Leg::Tcp;
        self.stream = Stream::Open { id, since: now, until: (!needed).then_some(now + LINGER) };
        (self.queue, self.reader) = Default::default();
        if self.leg == Leg::Tcp {
            // What was in the one that stood still goes again, and has time to be answered.
            self.moved = true;
            self.waits_since = self.waits_since.map(|_| now);
        } else if self.doubt.is_some() && self.race_at.is_none() {
            self.switch(now, Leg::Tcp, LegReason::UdpSilent);
        }
        true
    }

    /// A stream is over.
    pub(crate) fn on_closed(&mut self, now: Instant, id: StreamId) {
        self.second = self.second.filter(|(second, _)| *second != id);
        let mine = match self.stream {
            Stream::Connecting { id: asked, .. } | Stream::Open { id: asked, .. } => asked == id,
            Stream::None => false,
        };
        if mine {
            self.lose(now);
        }
    }

    /// Whatever the driver was handed is written.
    pub(crate) fn on_writable(&mut self, id: StreamId) {
        if self.stream_id() == Some(id) {
            self.queue.on_written();
        }
    }

    /// Bytes came: what finds the frames in them, to be put back. Also of a stream that is open and not in use any more: what is
    /// in there arrives.
    pub(crate) fn take_reader(&mut self, id: StreamId) -> Option<FrameReader> {
        matches!(self.stream, Stream::Open { id: open, .. } if open == id).then(|| core::mem::take(&mut self.reader))
    }

    /// Gives the reader back, and what it came to.
    pub(crate) fn put_reader(&mut self, now: Instant, id: StreamId, reader: FrameReader, read: Result<(), BadFrame>) {
        if self.stream_id() != Some(id) {
            return;
        }
        self.reader = reader;
        if read.is_err() {
            self.ask(Request::Close(id));
            self.lose(now);
        }
    }

    /// The login was answered, by that leg.
    pub(crate) fn on_login(&mut self, now: Instant, by: Leg) {
        self.race_at = None;
        match by {
            Leg::Udp => self.rest(now),
            Leg::Tcp => self.switch(now, Leg::Tcp, LegReason::UdpSilent),
        }
    }

    /// An authentic packet of the server's came over UDP.
    pub(crate) fn on_udp_heard(&mut self, now: Instant) {
        if self.leg == Leg::Udp && self.doubt.take().is_some() {
            self.rest(now);
        }
    }

    /// Packets that went over UDP are not acknowledged, time and again.
    pub(crate) fn on_doubt(&mut self, now: Instant) {
        if self.leg == Leg::Udp && self.doubt.is_none() {
            self.doubt = Some(now);
            if let Stream::Open { .. } = self.stream {
                self.switch(now, Leg::Tcp, LegReason::UdpSilent);
            }
        }
    }

    /// The server answered this challenge over UDP.
    pub(crate) fn on_answer(&mut self, now: Instant, token: u64) {
        if self.leg != Leg::Tcp || !self.asking.sent || self.asking.token != token {
            return;
        }
        self.asking.sent = false;
        self.asking.answers += 1;
        self.asking.next = now + RETURN_SPACING;
        if self.asking.answers >= RETURN_ANSWERS {
            self.returned = Some(now);
            self.doubt = None;
            self.switch(now, Leg::Udp, LegReason::UdpReturned);
            self.rest(now);
        }
    }

    // ---- what to do

    /// Lets time pass: connects, gives up, closes. `heard`: when anything authentic last came from the server, and whether
    /// something waits to be acknowledged by it.
    pub(crate) fn on_time(&mut self, now: Instant, heard: Instant, waits: bool) {
        let waits = waits || !self.queue.is_flushed();
        self.waits_since = self.waits_since.or(Some(now)).filter(|_| waits);
        self.race(now, heard);
        let silent_at = self.silent_at(heard);
        match self.stream {
            Stream::None if now >= self.retry_at && self.wants_stream(now) => {
                self.stream = Stream::Connecting { id: self.connect(), since: now };
            }
            Stream::Connecting { id, since } if now >= since + CONNECT_PATIENCE => {
                self.ask(Request::Close(id));
                self.lose(now);
            }
            Stream::Open { id, until: Some(until), .. } if now >= until => {
                self.ask(Request::Close(id));
                self.stream = Stream::None;
            }
            Stream::Open { id, .. } if silent_at.is_some_and(|at| now >= at) => {
                self.ask(Request::Close(id));
                self.lose(now);
            }
            _ => {}
        }
    }

    /// Begins a second connection, or gives it up.
    fn race(&mut self, now: Instant, heard: Instant) {
        let late = self.late_at(heard).is_some_and(|at| now >= at);
        match self.second {
            None if late && now >= self.retry_at => {
                self.back_off(now);
                self.second = Some((self.connect(), now));
            }
            Some((id, since)) if !late || now >= since + CONNECT_PATIENCE => {
                self.ask(Request::Close(id));
                self.second = None;
            }
            _ => {}
        }
    }

    fn connect(&mut self) -> StreamId {
        let id = StreamId(self.next_id);
        self.next_id += 1;
        self.ask(Request::Connect { id, to: self.server });
        id
    }

    /// The next connection waits, and the one after that twice as long.
    fn back_off(&mut self, now: Instant) {
        self.retry_at = now + self.retry;
        self.retry = self.retry.saturating_mul(2).min(RETRY_LONGEST);
    }

    /// This end stood still until now: that nothing came meanwhile says nothing of the stream.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        self.waits_since = self.waits_since.map(|_| now);
    }

    /// The challenge to send over UDP now, if it is time for one; `token` makes it.
    pub(crate) fn poll_question(&mut self, now: Instant, token: impl FnOnce() -> u64) -> Option<u64> {
        if self.leg != Leg::Tcp || now < self.asking.next {
            return None;
        }
        if core::mem::replace(&mut self.asking.sent, true) {
            // The one before was not answered.
            self.asking.answers = 0;
            self.asking.interval = self.asking.interval.saturating_mul(2).min(RETURN_LONGEST);
        }
        self.asking.next = now + self.asking.interval;
        self.asking.token = token();
        Some(self.asking.token)
    }

    pub(crate) fn request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Hands the next frame over.
    pub(crate) fn transmit(&mut self, out: &mut Outbox) {
        if let Stream::Open { id, .. } = self.stream {
            self.queue.transmit(id, out);
        }
    }

    /// Puts the login's request into a stream that has just opened.
    pub(crate) fn push_login(&mut self, request: &[u8]) {
        self.queue.push(request);
    }

    /// The session is over, and what had to be said is written.
    pub(crate) fn close(&mut self) {
        self.drop_second();
        if let Some(id) = self.stream_id() {
            self.ask(Request::Close(id));
        }
        (self.stream, self.race_at, self.doubt) = (Stream::None, None, None);
        self.queue = FrameQueue::default();
    }

    /// When to be called again, `heard` being as in [`Self::on_time`].
    pub(crate) fn wake(&self, heard: Instant) -> Option<Instant> {
        let due = self.is_due().then_some(Instant::ZERO);
        let stream = match self.stream {
            Stream::None => self.race_at.or(self.doubt).map(|at| at.max(self.retry_at)),
            Stream::Connecting { since, .. } => Some(since + CONNECT_PATIENCE),
            Stream::Open { until, .. } => until,
        };
        let silent = self.silent_at(heard);
        let question = (self.leg == Leg::Tcp).then_some(self.asking.next);
        let second = match self.second {
            Some((_, since)) => Some(since + CONNECT_PATIENCE),
            None => self.late_at(heard).map(|at| at.max(self.retry_at)),
        };
        [due, stream, silent, question, second].into_iter().flatten().min()
    }

    /// Whether there is something for the driver now.
    pub(crate) fn is_due(&self) -> bool {
        self.has_requests() || (self.queue.is_due() && matches!(self.stream, Stream::Open { .. }))
    }

    /// When the stream in use counts as dead.
    fn silent_at(&self, heard: Instant) -> Option<Instant> {
        let since = self.waits_since.filter(|_| self.leg == Leg::Tcp && matches!(self.stream, Stream::Open { .. }))?;
        Some(since.max(heard) + SILENCE)
    }

    /// When the stream is so late that a second connection may be faster.
    fn late_at(&self, heard: Instant) -> Option<Instant> {
        match self.stream {
            Stream::None => None,
            Stream::Connecting { since, .. } => Some(since + SECOND_AFTER),
            // The login went into it, and waits.
            Stream::Open { since, .. } if self.race_at.is_some() => Some(since + STALLED),
            Stream::Open { .. } => {
                self.waits_since.filter(|_| self.leg == Leg::Tcp).map(|since| since.max(heard) + STALLED)
            }
        }
    }

    fn wants_stream(&self, now: Instant) -> bool {
        self.race_at.is_some_and(|at| now >= at) || self.doubt.is_some()
    }

    fn stream_id(&self) -> Option<StreamId> {
        match self.stream {
            Stream::Connecting { id, .. } | Stream::Open { id, .. } => Some(id),
            Stream::None => None,
        }
    }

    fn ask(&mut self, request: Request) {
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// The stream is gone, and perhaps the leg with it.
    fn lose(&mut self, now: Instant) {
        let second = self.second.take();
        self.stream = second.map_or(Stream::None, |(id, since)| Stream::Connecting { id, since });
        (self.queue, self.reader) = Default::default();
        self.back_off(now);
        if self.leg == Leg::Tcp {
            self.switch(now, Leg::Udp, LegReason::StreamLost);
            // UDP was not well when last tried: TCP again as soon as there is a stream, unless UDP is heard before.
            self.doubt = Some(now);
        }
    }

    /// UDP works: the stream is kept for a while, in case it does not for long.
    fn rest(&mut self, now: Instant) {
        self.retry = RETRY_FIRST;
        self.drop_second();
        match self.stream {
            Stream::Connecting { id, .. } => {
                self.ask(Request::Close(id));
                self.stream = Stream::None;
            }
            Stream::Open { id, since, .. } => self.stream = Stream::Open { id, since, until: Some(now + LINGER) },
            Stream::None => {}
        }
    }

    fn drop_second(&mut self) {
        if let Some((id, _)) = self.second.take() {
            self.ask(Request::Close(id));
        }
    }

    fn switch(&mut self, now: Instant, leg: Leg, why: LegReason) {
        if self.leg == leg {
            return;
        }
        (self.leg, self.why, self.news, self.moved) = (leg, Some(why), true, true);
        if leg == Leg::Tcp {
            self.doubt = None;
            self.retry = RETRY_FIRST;
            if let Stream::Open { id, since, .. } = self.stream {
                self.stream = Stream::Open { id, since, until: None };
            }
            // Who comes and goes is asked less and less often.
            let flickers = self.returned.is_some_and(|at| now.since(at) < STAYED);
            self.patience = if flickers { self.patience.saturating_mul(2).min(RETURN_LONGEST) } else { RETURN_FIRST };
            let (next, interval) = (now + self.patience, self.patience);
            self.asking = Asking { next, interval, token: 0, sent: false, answers: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    fn carrier() -> Carrier {
        Carrier::new(ms(0), SocketAddr::from(([192, 0, 2, 1], 4000)))
    }

    fn connect(c: &mut Carrier, now: Instant) -> StreamId {
        c.on_time(now, now, false);
        let Some(Request::Connect { id, .. }) = c.request() else { panic!("no connection was asked for") };
        id
    }

    /// Beside a stream that was last heard at `heard`.
    fn connect_beside(c: &mut Carrier, now: Instant, heard: Instant) -> StreamId {
        c.on_time(now, heard, true);
        let Some(Request::Connect { id, .. }) = c.request() else { panic!("no connection was asked for") };
        id
    }

    /// On UDP, with a session.
    fn logged_in() -> Carrier {
        let mut c = carrier();
        c.on_login(ms(50), Leg::Udp);
        c
    }

    /// On TCP since `now`.
    fn on_tcp(now: Instant) -> (Carrier, StreamId) {
        let mut c = logged_in();
        c.on_doubt(now);
        let id = connect(&mut c, now);
        assert!(c.on_connected(now, id));
        assert_eq!(c.leg(), (Leg::Tcp, Some(LegReason::UdpSilent)));
        (c, id)
    }

    #[test]
    fn tcp_joins_the_race_for_the_login_only_when_udp_is_late() {
        let mut c = carrier();
        c.on_time(ms(299), ms(0), false);
        assert_eq!((c.request(), c.wake(ms(0))), (None, Some(ms(300))));
        let id = connect(&mut c, ms(300));
        assert!(c.on_connected(ms(350), id));
        assert_eq!(c.leg().0, Leg::Udp, "until the answer comes by it");
        c.on_login(ms(400), Leg::Tcp);
        assert_eq!((c.leg(), c.take_news(), c.take_news()), ((Leg::Tcp, Some(LegReason::UdpSilent)), true, false));
    }

    #[test]
    fn udp_that_answers_first_wins_and_a_stream_that_opens_later_is_closed() {
        let mut c = carrier();
        let id = connect(&mut c, ms(300));
        c.on_login(ms(310), Leg::Udp);
        assert_eq!(c.request(), Some(Request::Close(id)));
        assert!(!c.on_connected(ms(320), id));
        assert_eq!((c.leg(), c.request()), ((Leg::Udp, None), Some(Request::Close(id))));
    }

    #[test]
    fn a_doubt_that_udp_settles_before_the_stream_is_there_changes_nothing() {
        let mut c = logged_in();
        c.on_doubt(ms(1000));
        let id = connect(&mut c, ms(1000));
        c.on_udp_heard(ms(1010));
        assert_eq!(c.request(), Some(Request::Close(id)));
        assert!(!c.on_connected(ms(1020), id));
        assert_eq!((c.leg(), c.take_news()), ((Leg::Udp, None), false));
    }

    #[test]
    fn three_answers_in_a_row_bring_udp_back_and_a_missing_one_begins_anew() {
        let (mut c, _) = on_tcp(ms(1000));
        let mut tokens = 1..;
        let mut now = ms(1000);
        let mut ask = |c: &mut Carrier| {
            now = c.wake(ms(1000)).unwrap();
            (now, c.poll_question(now, || tokens.next().unwrap()).unwrap())
        };
        for _ in 0..2 {
            let (at, token) = ask(&mut c);
            c.on_answer(at, token);
        }
        let (_, unanswered) = ask(&mut c);
        let (at, token) = ask(&mut c);
        c.on_answer(at, unanswered);
        c.on_answer(at, token);
        c.on_answer(at, token);
        assert_eq!(c.leg().0, Leg::Tcp, "neither a late nor a repeated answer counts");
        for _ in 0..2 {
            let (at, token) = ask(&mut c);
            c.on_answer(at, token);
        }
        assert_eq!(c.leg(), (Leg::Udp, Some(LegReason::UdpReturned)));
        let closes = c.wake(ms(1000)).unwrap();
        c.on_time(closes, closes, false);
        assert!(matches!(c.request(), Some(Request::Close(_))), "the stream is not kept for ever");
    }

    #[test]
    fn udp_that_fails_again_at_once_finds_the_stream_still_open_and_is_asked_later() {
        let (mut c, _) = on_tcp(ms(1000));
        let first = c.asking.next.since(ms(1000));
        for _ in 0..3 {
            let at = c.asking.next;
            let token = c.poll_question(at, || at.0).unwrap();
            c.on_answer(at, token);
        }
        assert_eq!(c.leg().0, Leg::Udp);
        let now = c.returned.unwrap() + Duration::from_secs(1);
        c.on_doubt(now);
        assert_eq!((c.leg().0, c.request()), (Leg::Tcp, None));
        assert_eq!(c.asking.next.since(now), first * 2);
    }

    #[test]
    fn a_stream_that_breaks_leaves_udp_until_another_one_is_open() {
        let (mut c, id) = on_tcp(ms(1000));
        c.on_closed(ms(2000), id);
        assert_eq!(c.leg(), (Leg::Udp, Some(LegReason::StreamLost)));
        c.on_time(ms(2100), ms(0), false);
        assert_eq!(c.request(), None, "it waits");
        let again = connect(&mut c, ms(3000));
        assert!(c.on_connected(ms(3000), again));
        assert_eq!(c.leg().0, Leg::Tcp);
    }

    #[test]
    fn a_stream_that_stands_still_is_given_up_only_if_something_waits() {
        let (mut c, id) = on_tcp(ms(1000));
        c.on_time(ms(60_000), ms(1000), false);
        assert_eq!(c.leg().0, Leg::Tcp);
        c.on_time(ms(60_000), ms(1000), true);
        assert_eq!(c.leg().0, Leg::Tcp, "not before it had time to be answered");
        let second = connect_beside(&mut c, ms(64_000), ms(60_000));
        c.on_time(ms(70_000), ms(60_000), true);
        assert_eq!((c.leg().0, c.request()), (Leg::Udp, Some(Request::Close(id))));
        assert!(c.on_connected(ms(70_100), second), "the second attempt goes on");
        assert_eq!(c.leg().0, Leg::Tcp);
    }

    #[test]
    fn a_connection_that_does_not_open_is_raced_by_a_second_one_and_the_first_that_opens_wins() {
        for wins in [0, 1] {
            let mut c = carrier();
            let first = connect(&mut c, ms(300));
            assert_eq!(c.wake(ms(0)), Some(ms(2_300)));
            let second = connect(&mut c, ms(2_300));
            let [winner, loser] = if wins == 0 { [first, second] } else { [second, first] };
            assert!(c.on_connected(ms(2_400), winner));
            assert_eq!((c.request(), c.request()), (Some(Request::Close(loser)), None));
            assert!(!c.on_connected(ms(2_500), loser), "it is not wanted any more");
            c.on_login(ms(2_600), Leg::Tcp);
            assert_eq!((c.leg().0, c.stream_id()), (Leg::Tcp, Some(winner)));
        }
    }

    #[test]
    fn a_stream_that_stands_still_is_replaced_by_a_second_one_without_a_change_of_leg() {
        let (mut c, first) = on_tcp(ms(1000));
        assert!(c.take_news() && c.take_moved());
        c.on_time(ms(2000), ms(1000), true);
        assert_eq!(c.request(), None, "it has time to be answered");
        let second = connect_beside(&mut c, ms(6000), ms(2000));
        assert!(c.on_connected(ms(6100), second));
        assert_eq!(c.request(), Some(Request::Close(first)));
        assert_eq!((c.leg().0, c.take_news(), c.take_moved()), (Leg::Tcp, false, true));
        c.on_time(ms(10_000), ms(2000), true);
        assert_eq!((c.leg().0, c.request()), (Leg::Tcp, None), "it has time to be answered, too");
    }

    #[test]
    fn a_stream_that_speaks_again_is_kept_and_the_second_one_closed() {
        let (mut c, first) = on_tcp(ms(1000));
        c.on_time(ms(2000), ms(1000), true);
        let second = connect_beside(&mut c, ms(6000), ms(2000));
        c.on_time(ms(6200), ms(6200), true);
        assert_eq!((c.request(), c.stream_id()), (Some(Request::Close(second)), Some(first)));
    }

    #[test]
    fn a_login_whose_stream_says_nothing_is_tried_by_a_second_one() {
        let mut c = carrier();
        let first = connect(&mut c, ms(300));
        assert!(c.on_connected(ms(400), first));
        let second = connect(&mut c, ms(4_400));
        assert!(c.on_connected(ms(4_500), second), "the request goes into it, too");
        assert_eq!(c.request(), Some(Request::Close(first)));
        c.on_login(ms(4_600), Leg::Tcp);
        assert_eq!(c.leg().0, Leg::Tcp);
    }

    #[test]
    fn a_server_without_tcp_is_asked_less_and_less_often() {
        let mut c = logged_in();
        c.on_doubt(ms(0));
        let (mut asked, mut waits) = (Vec::new(), Vec::new());
        for second in 0..600 {
            c.on_time(ms(1000 * second), ms(0), true);
            while let Some(request) = c.request() {
                if let Request::Connect { .. } = request {
                    waits.extend(asked.last().map(|last| second - last));
                    asked.push(second);
                }
            }
        }
        // Two attempts, each given up after 8 s, and the longest wait.
        assert!(waits.windows(2).skip(2).all(|two| two.iter().sum::<u64>() >= 24), "{waits:?}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Connected,
        Closed,
        Heard,
        Doubt,
        Answer,
        Written,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..4000).prop_map(Step::Wait),
            2 => Just(Step::Connected), 1 => Just(Step::Closed), 2 => Just(Step::Heard),
            2 => Just(Step::Doubt), 3 => Just(Step::Answer), 1 => Just(Step::Written),
        ]
    }

    proptest! {
        #[test]
        fn there_is_one_open_stream_at_most_and_tcp_is_only_used_while_it_is_open(
            tcp in any::<bool>(),
            steps in proptest::collection::vec(step(), 0..300),
        ) {
            let mut c = carrier();
            let (mut now, mut heard, mut asked, mut open) = (ms(0), ms(0), Vec::<StreamId>::new(), Vec::new());
            let mut last = 0;
            if !tcp { c.on_login(now, Leg::Udp); }
            for step in steps {
                match step {
                    Step::Wait(n) => now = now + Duration::from_millis(n),
                    // The latest, so that seconds often win.
                    Step::Connected => if let Some(id) = asked.pop() {
                        open.push(id);
                        c.on_connected(now, id);
                        if c.race_at.is_some() { c.on_login(now, Leg::Tcp); }
                    },
                    Step::Closed => if let Some(id) = open.pop() { c.on_closed(now, id) },
                    Step::Heard => {
                        heard = now;
                        c.on_udp_heard(now);
                    }
                    Step::Doubt => c.on_doubt(now),
                    Step::Answer => c.on_answer(now, last),
                    Step::Written => open.iter().for_each(|id| c.on_writable(*id)),
                }
                c.on_time(now, heard, true);
                if c.poll_question(now, || { last += 1; last }).is_some() { prop_assert_eq!(c.leg().0, Leg::Tcp) }
                while let Some(request) = c.request() {
                    match request {
                        Request::Connect { id, .. } => asked.push(id),
                        Request::Close(id) => { open.retain(|o| *o != id); asked.retain(|a| *a != id) }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                prop_assert!(open.len() <= 1 && open.len() + asked.len() <= 2, "{open:?} {asked:?}");
                prop_assert!(c.leg().0 == Leg::Udp || open.len() == 1, "on TCP without a stream");
                prop_assert!(c.wake(heard).is_none_or(|at| at > now), "due without progress");
            }
        }
    }
}
