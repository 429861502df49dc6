//! Bare TCP: one end writes messages at a fixed pace, the other takes down how long each was on its way. What a protocol in
//! TCP is to be measured beside.

use posse_core::{
    Duration, Ecn, Input, Instant, Machine, Outbox, Request, StreamId, StreamInput, Tap, Transmit, Via, Wake,
};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The stream that the writing end asks for.
const STREAM: StreamId = StreamId(1);
/// Bytes before a message's padding: when it was written.
const HEAD: usize = 8;

/// See the module's text.
pub struct BareTcp {
    /// Of the writing end: whom to, how large, how often, how many are left.
    to: Option<(SocketAddr, usize, Duration, u64)>,
    asked: bool,
    next: Instant,
    waiting: VecDeque<Vec<u8>>,
    open: bool,
    writing: bool,
    arrived: Vec<u8>,
    /// Bytes of a message.
    size: usize,
    took: Vec<Duration>,
}

impl BareTcp {
    /// Writes `count` messages of `size` bytes (8 at least) to `to`, one every `interval` from `first` on.
    pub fn writer(to: SocketAddr, size: usize, first: Instant, interval: Duration, count: u64) -> Self {
        let size = size.max(HEAD);
        Self { to: Some((to, size, interval, count)), next: first, ..Self::reader(size) }
    }

    /// Reads messages of `size` bytes (8 at least).
    pub fn reader(size: usize) -> Self {
        Self {
            to: None,
            asked: false,
            next: Instant::ZERO,
            waiting: VecDeque::new(),
            open: false,
            writing: false,
            arrived: Vec::new(),
            size: size.max(HEAD),
            took: Vec::new(),
        }
    }

    /// How long each message was on its way, in the order of arrival.
    pub fn took(&self) -> &[Duration] {
        &self.took
    }
}

impl Machine for BareTcp {
    fn handle(&mut self, now: Instant, input: Input<'_>, _: &mut Outbox) {
        match input {
            Input::Stream(_, StreamInput::Connected) => self.open = true,
            Input::Stream(_, StreamInput::Writable) => self.writing = false,
            Input::Stream(_, StreamInput::Bytes(bytes)) => {
                self.arrived.extend_from_slice(bytes);
                while let Some(message) = self.arrived.get(..self.size) {
                    let sent = message.first_chunk::<HEAD>().map_or(0, |head| u64::from_be_bytes(*head));
                    self.took.push(now.since(Instant(sent)));
                    self.arrived.drain(..self.size);
                }
            }
            _ => {}
        }
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        if let Some((_, size, interval, left)) = &mut self.to {
            while *left > 0 && self.next <= now {
                let mut message = vec![0; *size];
                message[..HEAD].copy_from_slice(&self.next.0.to_be_bytes());
                self.waiting.push_back(message);
                self.next = self.next + *interval;
                *left -= 1;
            }
        }
        if self.open
            && !self.writing
            && let Some(message) = self.waiting.front()
            && let Some(space) = out.reserve(message.len())
        {
            space.copy_from_slice(message);
            out.commit(message.len(), Transmit { via: Via::Stream(STREAM), ecn: Ecn::NotCapable, segment: None });
            self.waiting.pop_front();
            self.writing = true;
        }
    }

    fn request(&mut self) -> Option<Request> {
        let (to, ..) = self.to?;
        (!std::mem::replace(&mut self.asked, true)).then_some(Request::Connect { id: STREAM, to })
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        let due = self.open && !self.writing && !self.waiting.is_empty() || self.to.is_some() && !self.asked;
        let next = self.to.filter(|(.., left)| *left > 0).map(|_| (self.next, Wake::Pacing));
        due.then_some((Instant::ZERO, Wake::Now)).or(next)
    }

    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}
