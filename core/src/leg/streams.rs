//! A server's streams: which are open, whose they are, what waits for them.
//!
//! A stream begins as nobody's. Who proves to be a client on it (a sealed packet that opens and says that the client uses this leg)
//! makes it its session's; a session has one at most. A stream that is nobody's for the time of a login is closed, and there are
//! only so many of those, in all and from one address, so that who only opens connections keeps out nobody but its neighbours.

use super::frame::{BadFrame, FrameReader};
use super::queue::FrameQueue;
use crate::ids::StreamId;
use crate::machine::Request;
use crate::outbox::Outbox;
use crate::time::{Duration, Instant};
use crate::transport::Usage;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::net::{IpAddr, SocketAddr};

struct Stream {
    from: SocketAddr,
    opened: Instant,
    reader: FrameReader,
    queue: FrameQueue,
    /// The slot of its session.
    owner: Option<u32>,
    /// To be closed once everything is written.
    closing: bool,
    /// Nobody has proven to be its owner yet, and it is counted as such.
    counted: bool,
}

/// See the module's text.
pub(crate) struct Streams {
    all: BTreeMap<StreamId, Stream>,
    /// Those with something to hand over.
    due: BTreeSet<StreamId>,
    /// Those that are nobody's, the oldest first, and some that were.
    strangers: VecDeque<(Instant, StreamId)>,
    /// How many of those that nobody has ever owned come from which address, and how many there are.
    neighbours: BTreeMap<IpAddr, usize>,
    nobodys: usize,
    requests: VecDeque<Request>,
    /// As many streams as that in all, and that many that are nobody's.
    max: usize,
    max_strangers: usize,
    /// How long a stream may be nobody's.
    patience: Duration,
    /// Relayed packets that made way for later ones.
    pub(crate) displaced: u64,
    /// Streams that were one too many.
    pub(crate) refused: u64,
}

/// Streams from one address that are nobody's: the players behind one NAT who log in within the time of a login.
const MAX_STRANGERS: usize = 64;

impl Streams {
    pub(crate) fn new(max: usize, max_strangers: usize, patience: Duration) -> Self {
        Self {
            all: BTreeMap::new(),
            due: BTreeSet::new(),
            strangers: VecDeque::new(),
            neighbours: BTreeMap::new(),
            nobodys: 0,
            requests: VecDeque::new(),
            max,
            max_strangers,
            patience,
            displaced: 0,
            refused: 0,
        }
    }

    /// A stream was accepted. One too many is closed at once.
    pub(crate) fn accept(&mut self, now: Instant, id: StreamId, from: SocketAddr) {
        let neighbours = self.neighbours.get(&from.ip()).copied().unwrap_or(0);
        if self.all.len() >= self.max
            || self.nobodys >= self.max_strangers
            // Whoever is on this host could do worse.
            || !from.ip().is_loopback() && neighbours >= MAX_STRANGERS
        {
            self.refused = self.refused.saturating_add(1);
            self.requests.push_back(Request::Close(id));
            return;
        }
        let (reader, queue) = Default::default();
        self.all.insert(id, Stream { from, opened: now, reader, queue, owner: None, closing: false, counted: true });
        self.neighbours.insert(from.ip(), neighbours.saturating_add(1));
        self.nobodys = self.nobodys.saturating_add(1);
        self.watch(now, id);
    }

    /// Closes it in time, if it is nobody's then.
    fn watch(&mut self, now: Instant, id: StreamId) {
        self.strangers.push_back((now, id));
        // Of who comes and goes, and of who was given an owner, nothing needs to be remembered.
        if self.strangers.len() > self.all.len().saturating_mul(2).saturating_add(MAX_STRANGERS) {
            let Self { strangers, all, .. } = self;
            strangers.retain(|(_, id)| all.get(id).is_some_and(|stream| stream.owner.is_none()));
        }
    }

    /// It is not one of those any more that nobody has owned.
    fn discount(&mut self, from: IpAddr) {
        self.nobodys = self.nobodys.saturating_sub(1);
        if let Some(count) = self.neighbours.get_mut(&from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.neighbours.remove(&from);
            }
        }
    }

    /// It is over. Whose it was.
    pub(crate) fn closed(&mut self, id: StreamId) -> Option<u32> {
        self.due.remove(&id);
        let stream = self.all.remove(&id)?;
        if stream.counted {
            self.discount(stream.from.ip());
        }
        stream.owner
    }

    /// The other end's address, and what finds the frames in what came; to be put back.
    pub(crate) fn take_reader(&mut self, id: StreamId) -> Option<(SocketAddr, FrameReader)> {
        let stream = self.all.get_mut(&id).filter(|stream| !stream.closing)?;
        Some((stream.from, core::mem::take(&mut stream.reader)))
    }

    /// Puts the reader back. What was no frame ends the stream: whose it was.
    pub(crate) fn put_reader(&mut self, id: StreamId, reader: FrameReader, read: Result<(), BadFrame>) -> Option<u32> {
        if read.is_err() {
            return self.close(id);
        }
        if let Some(stream) = self.all.get_mut(&id) {
            stream.reader = reader;
        }
        None
    }

    /// From now on it is that slot's.
    pub(crate) fn own(&mut self, id: StreamId, slot: u32) -> bool {
        let Some(stream) = self.all.get_mut(&id).filter(|stream| stream.owner.is_none_or(|owner| owner == slot)) else {
            return false;
        };
        stream.owner = Some(slot);
        let from = stream.from.ip();
        if core::mem::take(&mut stream.counted) {
            self.discount(from);
        }
        true
    }

    /// What waits for it.
    pub(crate) fn queue(&mut self, id: StreamId) -> Option<&mut FrameQueue> {
        let stream = self.all.get_mut(&id)?;
        // Whoever asks is about to put something in.
        self.due.insert(id);
        Some(&mut stream.queue)
    }

    /// Passes a packet on. False if there is no such stream.
    pub(crate) fn relay(&mut self, id: StreamId, packet: &[u8]) -> bool {
        let Some(queue) = self.queue(id) else { return false };
        let dropped = queue.relay(packet);
        self.displaced = self.displaced.saturating_add(dropped);
        true
    }

    /// What was handed over is written. Whose it is.
    pub(crate) fn written(&mut self, id: StreamId) -> Option<u32> {
        let stream = self.all.get_mut(&id)?;
        stream.queue.on_written();
        let (owner, over) = (stream.owner, stream.closing && stream.queue.is_flushed());
        self.due.insert(id);
        if over {
            self.close(id);
        }
        owner
    }

    /// Closes it at once. Whose it was.
    pub(crate) fn close(&mut self, id: StreamId) -> Option<u32> {
        if self.all.contains_key(&id) {
            self.requests.push_back(Request::Close(id));
        }
        self.closed(id)
    }

    /// Closes it once what waits is written; nothing that comes is read any more.
    pub(crate) fn finish(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        stream.closing = true;
        if stream.queue.is_flushed() {
            self.close(id);
        } else {
            // Somebody who does not read does not keep it open.
            self.release(now, id);
        }
    }

    /// It is nobody's any more: closed in the time of a login, unless it is owned again.
    pub(crate) fn release(&mut self, now: Instant, id: StreamId) {
        if let Some(stream) = self.all.get_mut(&id) {
            (stream.owner, stream.opened) = (None, now);
            self.watch(now, id);
        }
    }

    /// Closes those that were nobody's for too long.
    pub(crate) fn on_time(&mut self, now: Instant) {
        while let Some((opened, id)) = self.strangers.front().copied() {
            let stranger = self.all.get(&id).is_some_and(|stream| stream.owner.is_none() && stream.opened == opened);
            if stranger && now < opened + self.patience {
                return;
            }
            self.strangers.pop_front();
            if stranger {
                self.close(id);
            }
        }
    }

    /// Hands over what is due.
    pub(crate) fn transmit(&mut self, out: &mut Outbox) {
        while out.room() > 0
            && let Some(id) = self.due.pop_first()
            && let Some(stream) = self.all.get_mut(&id)
        {
            stream.queue.transmit(id, out);
            if stream.queue.is_due() {
                self.due.insert(id);
                return;
            }
        }
    }

    /// What waits for all of them.
    pub(crate) fn usage(&self) -> Usage {
        let mut all = Usage::default();
        self.all.values().for_each(|stream| all.add(stream.queue.usage()));
        all
    }

    pub(crate) fn request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// When to be called again.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let due = !self.requests.is_empty()
            || self.due.iter().any(|id| self.all.get(id).is_some_and(|stream| stream.queue.is_due()));
        let stranger = self.strangers.front().map(|(opened, _)| *opened + self.patience);
        due.then_some(Instant::ZERO).or(stranger)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], port))
    }

    fn streams(max: usize) -> Streams {
        Streams::new(max, max, Duration::from_secs(5))
    }

    fn requests(streams: &mut Streams) -> Vec<Request> {
        core::iter::from_fn(|| streams.request()).collect()
    }

    #[test]
    fn a_stream_that_nobody_proves_to_own_is_closed_and_one_too_many_at_once() {
        let mut s = streams(2);
        (0..3).for_each(|n| s.accept(ms(n), StreamId(n), from(n as u16)));
        assert_eq!(requests(&mut s), [Request::Close(StreamId(2))]);
        assert!(s.own(StreamId(1), 4));
        assert_eq!(s.wake(), Some(ms(5000)));
        s.on_time(ms(4999));
        assert_eq!(s.len(), 2);
        s.on_time(ms(60_000));
        assert_eq!((requests(&mut s), s.len(), s.wake()), ([Request::Close(StreamId(0))].into(), 1, None));
    }

    #[test]
    fn who_only_opens_connections_keeps_out_nobody_but_its_neighbours() {
        let mut s = Streams::new(1_000, 200, Duration::from_secs(5));
        let open = |s: &mut Streams, ids: core::ops::Range<u64>, host: u8| {
            ids.for_each(|n| s.accept(ms(0), StreamId(n), SocketAddr::from(([192, 0, 2, host], n as u16))));
        };
        open(&mut s, 0..100, 1);
        assert_eq!((s.len(), s.refused), (MAX_STRANGERS, 100 - MAX_STRANGERS as u64));
        open(&mut s, 100..150, 2);
        assert_eq!(s.len(), MAX_STRANGERS + 50);
        // Players who proved who they are make room for their neighbours.
        (0..10).for_each(|n| assert!(s.own(StreamId(n), n as u32)));
        open(&mut s, 200..300, 1);
        assert_eq!(s.len(), MAX_STRANGERS + 50 + 10);
        (0..10u8)
            .for_each(|host| open(&mut s, 1_000 * u64::from(host) + 1_000..1_000 * u64::from(host) + 1_050, 10 + host));
        assert_eq!(s.len(), 200 + 10, "no more strangers than that, wherever they come from");
        // Who comes and goes leaves nothing behind.
        s.on_time(ms(60_000));
        assert_eq!((s.len(), s.nobodys, s.neighbours.len()), (10, 0, 0));
        for n in 5_000..10_000 {
            s.accept(ms(60_000), StreamId(n), from(1));
            s.closed(StreamId(n));
        }
        assert!(s.strangers.len() < 200 && s.neighbours.is_empty());
    }

    #[test]
    fn a_stream_that_its_client_left_is_closed_unless_it_comes_back_to_it() {
        let mut s = streams(2);
        (0..2).for_each(|n| s.accept(ms(0), StreamId(n), from(1)));
        assert!(s.own(StreamId(0), 4) && s.own(StreamId(1), 5));
        (0..2).for_each(|n| s.release(ms(10_000), StreamId(n)));
        s.on_time(ms(14_999));
        assert!(s.own(StreamId(1), 5) && s.len() == 2);
        s.on_time(ms(15_000));
        assert_eq!((requests(&mut s), s.len(), s.wake()), ([Request::Close(StreamId(0))].into(), 1, None));
    }

    #[test]
    fn nobody_takes_a_stream_that_is_anothers() {
        let mut s = streams(2);
        s.accept(ms(0), StreamId(1), from(1));
        assert!(s.own(StreamId(1), 4) && s.own(StreamId(1), 4));
        assert!(!s.own(StreamId(1), 5) && !s.own(StreamId(2), 5));
        assert_eq!(s.closed(StreamId(1)), Some(4));
    }

    #[test]
    fn a_last_word_is_written_before_the_stream_is_closed_but_not_waited_for_for_ever() {
        for reads in [true, false] {
            let mut s = streams(2);
            s.accept(ms(0), StreamId(1), from(1));
            s.own(StreamId(1), 4);
            s.queue(StreamId(1)).unwrap().push(&[1; 40]);
            s.finish(ms(0), StreamId(1));
            assert!(s.take_reader(StreamId(1)).is_none());
            let mut out = Outbox::with_capacity(1 << 10, 4);
            s.transmit(&mut out);
            assert_eq!((out.sends().count(), requests(&mut s)), (1, Vec::new()));
            if reads {
                s.written(StreamId(1));
            } else {
                s.on_time(ms(5000));
            }
            assert_eq!((requests(&mut s), s.len()), ([Request::Close(StreamId(1))].into(), 0));
        }
    }

    #[test]
    fn a_stream_that_does_not_take_anything_keeps_none_of_the_others_waiting() {
        let mut s = streams(3);
        for n in 0..3 {
            s.accept(ms(0), StreamId(n), from(1));
            (0..5).for_each(|_| assert!(s.relay(StreamId(n), &[n as u8; 100])));
        }
        let mut handed = [0; 3];
        for _ in 0..5 {
            let mut out = Outbox::with_capacity(1 << 10, 8);
            s.transmit(&mut out);
            out.sends().for_each(|(_, bytes)| handed[usize::from(bytes[2])] += 1);
            // The first stands still.
            (1..3).for_each(|n| assert_eq!(s.written(StreamId(n)), None));
        }
        assert_eq!(handed, [1, 5, 5]);
    }
}
