//! The two ends: one floods and pings, the other counts and answers. Each is one thread that sleeps until there is something
//! to do, as a service would.

use super::cpu;
use super::wire::{Frame, Tally};
use crate::join::{login_failed, refused};
use crate::stop::Stop;
use posse::rooms::{self, Room, RoomEvent};
use posse::{Channel, Client, ClientOptions, Path, PeerId, SendError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What the answering end is called in the room.
const ANSWERER: &str = "posse bench --answer";
const CALLER: &str = "posse bench";
const CHANNEL: Channel = Channel::reliable(0);
/// How soon a signal that came between two waits is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How long the other end, and then the direct path, are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest silence of the other end in a measurement.
const SILENCE: Duration = Duration::from_secs(30);

/// One end in its room.
pub(super) struct End {
    client: Client,
    room: Room,
    server: SocketAddr,
    stop: Stop,
    payload: Vec<u8>,
    bytes: Vec<u8>,
}

/// What the calling end found out.
pub(super) struct Findings {
    pub(super) path: Path,
    pub(super) trips: Vec<Duration>,
    pub(super) bulk: Flood,
    pub(super) small: Flood,
}

/// What came of a flood.
#[derive(Clone, Copy)]
pub(super) struct Flood {
    pub(super) tally: Tally,
    /// CPU that both ends used, if both can tell.
    pub(super) cpu: Option<Duration>,
}

impl End {
    pub(super) fn enter(
        server: SocketAddr,
        key: [u8; 32],
        room: &str,
        ticket: Vec<u8>,
        answers: bool,
    ) -> Result<Self, String> {
        let stop = Stop::install().map_err(|e| format!("cannot heed signals: {e}"))?;
        let room = Room::new(room, if answers { ANSWERER } else { CALLER }).map_err(|e| format!("--room: {e}"))?;
        let mut options = ClientOptions::new(server, key, rooms::APP).token(room.token());
        options.ticket = ticket;
        let client = Client::connect(options).map_err(|e| e.to_string())?;
        Ok(Self { client, room, server, stop, payload: Vec::new(), bytes: Vec::new() })
    }

    /// Answers until it is asked to stop.
    pub(super) fn answer(mut self) -> Result<(), String> {
        let (mut tally, mut first, mut last) = (Tally::default(), None, Instant::now());
        while !self.stop.asked() {
            self.client.wait(LONGEST_WAIT);
            let mut replies = Vec::new();
            self.turn(|from, frame, size| match frame {
                Frame::Data => {
                    last = Instant::now();
                    first.get_or_insert_with(|| (last, cpu()));
                    tally.messages += 1;
                    tally.bytes += size as u64;
                }
                Frame::End => {
                    if let Some((first, cpu_then)) = first.take() {
                        tally.nanos = nanos(last - first);
                        let used = cpu().zip(cpu_then).map(|(now, then)| now.saturating_sub(then));
                        tally.cpu_nanos = used.map_or(0, nanos);
                    }
                    replies.push((from, Frame::Tally(std::mem::take(&mut tally)), 0));
                }
                Frame::Ping(number) => replies.push((from, Frame::Pong(number), size)),
                Frame::Pong(_) | Frame::Tally(_) => {}
            })?;
            for (to, reply, size) in replies {
                reply.write(&mut self.bytes, size);
                // Who has left, or takes no more, waits for no answer.
                let _ = self.client.send(to, CHANNEL, &self.bytes);
            }
            self.client.flush();
        }
        Ok(())
    }

    /// Measures: round trips of `small` bytes, then floods of `size` and of `small` bytes, each for `length`.
    pub(super) fn call(mut self, length: Duration, size: usize, small: usize) -> Result<Findings, String> {
        let (peer, path) = self.meet()?;
        let trips = self.ping(peer, length, small)?;
        let bulk = self.flood(peer, length, size)?;
        let small = self.flood(peer, length, small)?;
        let path = self.client.peers().find(|view| view.id == peer).map_or(path, |view| view.path);
        Ok(Findings { path, trips, bulk, small })
    }

    /// Waits for the other end, and a while for the direct path to it.
    fn meet(&mut self) -> Result<(PeerId, Path), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.client.wait(LONGEST_WAIT);
            self.turn(|_, _, _| ())?;
            self.client.flush();
            let other = self.room.peers().find(|(_, name)| *name == ANSWERER).map(|(peer, _)| peer);
            let path = other.and_then(|peer| Some((peer, self.client.peers().find(|view| view.id == peer)?.path)));
            match path {
                Some(found @ (_, Path::Direct { .. })) => return Ok(found),
                Some(found) if Instant::now() >= until => return Ok(found),
                None if Instant::now() >= until => {
                    return Err(format!(
                        "nobody answers in room {}: run `posse bench --answer` there",
                        self.room.name()
                    ));
                }
                _ if self.stop.asked() => return Err("stopped".into()),
                _ => {}
            }
        }
    }

    fn ping(&mut self, peer: PeerId, length: Duration, size: usize) -> Result<Vec<Duration>, String> {
        let (start, mut trips) = (Instant::now(), Vec::new());
        while start.elapsed() < length {
            let (sent, number) = (Instant::now(), trips.len() as u64);
            Frame::Ping(number).write(&mut self.bytes, size);
            self.client.send(peer, CHANNEL, &self.bytes).map_err(|e| e.to_string())?;
            self.client.flush();
            let mut back = false;
            while !back {
                self.patience(sent)?;
                self.client.wait(LONGEST_WAIT);
                self.turn(|_, frame, _| back |= frame == Frame::Pong(number))?;
            }
            trips.push(sent.elapsed());
        }
        Ok(trips)
    }

    fn flood(&mut self, peer: PeerId, length: Duration, size: usize) -> Result<Flood, String> {
        let (start, cpu_then) = (Instant::now(), cpu());
        let (mut over, mut tally) = (false, None);
        while tally.is_none() {
            self.turn(|_, frame, _| {
                if let Frame::Tally(found) = frame {
                    tally = Some(found);
                }
            })?;
            while !over {
                let ends = start.elapsed() >= length;
                let frame = if ends { Frame::End } else { Frame::Data };
                frame.write(&mut self.bytes, if ends { 0 } else { size });
                match self.client.send(peer, CHANNEL, &self.bytes) {
                    Ok(_) => over = ends,
                    Err(SendError::Full { .. }) => break,
                    Err(why) => return Err(why.to_string()),
                }
            }
            self.client.flush();
            self.patience(start + length)?;
            if tally.is_none() {
                self.client.wait(LONGEST_WAIT);
            }
        }
        let tally = tally.unwrap_or_default();
        let mine = cpu().zip(cpu_then).map(|(now, then)| now.saturating_sub(then));
        let theirs = Some(Duration::from_nanos(tally.cpu_nanos)).filter(|cpu| !cpu.is_zero());
        Ok(Flood { tally, cpu: mine.zip(theirs).map(|(mine, theirs)| mine + theirs) })
    }

    fn patience(&self, since: Instant) -> Result<(), String> {
        if self.stop.asked() {
            return Err("stopped".into());
        }
        let silent = Instant::now().saturating_duration_since(since) > SILENCE;
        if silent { Err("the other end does not answer any more".into()) } else { Ok(()) }
    }

    /// Catches up and shows `see` what has come of the other end: who, what, of which size.
    fn turn(&mut self, mut see: impl FnMut(PeerId, Frame, usize)) -> Result<(), String> {
        self.client.update().map_err(|e| e.to_string())?;
        while let Some(event) = self.client.next_event(&mut self.payload) {
            match self.room.hear(event) {
                RoomEvent::Message(message) => {
                    if let Some(frame) = Frame::parse(&self.payload) {
                        see(message.from, frame, self.payload.len());
                    }
                }
                RoomEvent::Refused(why) => return Err(refused(why, self.room.name())),
                RoomEvent::LoginFailed(why) => return Err(login_failed(&why, self.server)),
                RoomEvent::Ended(why) => return Err(format!("the session with the server is over: {why:?}")),
                _ => {}
            }
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
