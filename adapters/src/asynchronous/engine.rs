//! What clients and servers share: a task that drives a machine, and the lock around the two.

use crate::driver::{Driver, UpdateError};
use crate::streams::{DEAF, MAX_ACCEPTS, Stream, Streams};
use posse_core::client::SendError;
use posse_core::{Instant, Machine, SocketId, StreamId};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::time::sleep_until;

/// How long a goodbye may take: what the last word needs when it is lost more than once.
const GOODBYE: Duration = Duration::from_secs(2);
/// Nothing is due for so long that it does not matter how long.
const LONG: Duration = Duration::from_secs(3600);

/// A machine that an application talks to.
pub(super) trait Role: Machine + 'static {
    type Event;
    /// Whether a machine that has nothing to do by itself is over. A server may only have no clients.
    const QUIET_IS_OVER: bool;
    fn poll(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<Self::Event>;
    fn has_events(&self) -> bool;
    /// Begins the goodbye; called again, makes it as short as can be.
    fn end(&mut self, now: Instant);
}

/// A machine, its driver, and who waits for them.
pub(super) struct Engine<M: Role> {
    state: Mutex<State<M>>,
    /// The task has something to do.
    kick: Notify,
    /// The machine has moved on: there may be room, or it may be over.
    moved: Notify,
}

pub(super) struct State<M> {
    pub(super) driver: Driver<M>,
    /// Who waits for an event.
    waker: Option<Waker>,
    phase: Phase,
    error: Option<Arc<UpdateError>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Saying goodbye, until then at most.
    Closing(Instant),
    /// Nobody drives it any more.
    Over,
}

/// What every handle of a machine holds: the last one to go says goodbye.
pub(super) struct Held<M: Role>(pub(super) Arc<Engine<M>>);

impl<M: Role> Drop for Held<M> {
    fn drop(&mut self) {
        self.0.begin_close();
    }
}

impl<M: Role> Engine<M> {
    /// Drives the machine in a task of the current runtime.
    pub(super) fn start(driver: Driver<M>) -> io::Result<Arc<Held<M>>> {
        let mut sockets = Sockets::default();
        sockets.follow(&driver)?;
        let state = State { driver, waker: None, phase: Phase::Running, error: None };
        let engine = Arc::new(Self { state: Mutex::new(state), kick: Notify::new(), moved: Notify::new() });
        tokio::spawn(drive(Arc::clone(&engine), sockets));
        Ok(Arc::new(Held(engine)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads something of the machine.
    pub(super) fn look<R>(&self, f: impl FnOnce(&M) -> R) -> R {
        f(self.lock().driver.machine())
    }

    /// The same, with the time of its driver.
    pub(super) fn look_now<R>(&self, f: impl FnOnce(&M, Instant) -> R) -> R {
        let shared = self.lock();
        f(shared.driver.machine(), shared.driver.now())
    }

    /// Gives the machine something to do, and has the task look at what comes of it.
    pub(super) fn act<R>(&self, f: impl FnOnce(&mut M, Instant) -> R) -> R {
        let result = self.lock().act(f);
        self.kick.notify_one();
        result
    }

    /// Sends, and waits while there is no room.
    pub(super) async fn send<R>(
        &self,
        mut f: impl FnMut(&mut M, Instant) -> Result<R, SendError>,
    ) -> Result<R, SendError> {
        loop {
            let mut moved = pin!(self.moved.notified());
            // From here on it notices what happens, before it is awaited.
            moved.as_mut().enable();
            match self.try_send(&mut f) {
                Err(SendError::Full { .. }) => moved.await,
                result => return result,
            }
        }
    }

    /// Sends, if there is room.
    pub(super) fn try_send<R>(&self, f: impl FnOnce(&mut M, Instant) -> Result<R, SendError>) -> Result<R, SendError> {
        let result = {
            let mut state = self.lock();
            if state.phase == Phase::Over { Err(SendError::Gone) } else { state.act(f) }
        };
        if result.is_ok() {
            self.kick.notify_one();
        }
        result
    }

    /// The next event; `None` once there will be none any more.
    pub(super) fn poll_event(&self, cx: &mut Context<'_>, payload: &mut Vec<u8>) -> Poll<Option<M::Event>> {
        let (event, kick) = {
            let mut state = self.lock();
            let event = state.act(|machine, now| machine.poll(now, payload));
            let more = state.driver.machine().has_events();
            if event.is_none() && state.phase != Phase::Over {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // What was polled may be acknowledged, or make room for more: once the last of a batch is taken, and at once if
            // it was no message.
            (event, !more || payload.is_empty())
        };
        if kick {
            self.kick.notify_one();
        }
        Poll::Ready(event)
    }

    /// Why nobody drives the machine any more, if that was not its own end.
    pub(super) fn error(&self) -> Option<Arc<UpdateError>> {
        self.lock().error.clone()
    }

    /// Says goodbye, and waits until that is over.
    pub(super) async fn close(&self) {
        self.begin_close();
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.lock().phase == Phase::Over {
                return;
            }
            moved.await;
        }
    }

    fn begin_close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Closing(state.driver.now() + GOODBYE);
            state.act(|machine, now| machine.end(now));
        }
        drop(state);
        self.kick.notify_one();
    }

    /// Takes in what came, does what is due. When to come back at the latest, or `None` when it is over.
    fn turn(&self, sockets: &mut Sockets) -> Result<Option<tokio::time::Instant>, UpdateError> {
        let mut state = self.lock();
        state.driver.woken();
        let more = sockets.receive(&mut state.driver)?;
        state.driver.catch_up();
        sockets.follow(&state.driver).or_else(|_| sockets.give_up(&mut state.driver))?;
        sockets.end_unknown(&mut state.driver);
        let waker = if state.driver.machine().has_events() { state.waker.take() } else { None };
        let next = state.next(more);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.moved.notify_waiters();
        Ok(next)
    }

    /// Nobody drives it any more.
    fn stop(&self, error: Option<UpdateError>) {
        let mut state = self.lock();
        // What is left to say is said now, for the last time.
        for _ in 0..2 {
            state.act(|machine, now| machine.end(now));
        }
        state.driver.flush();
        state.phase = Phase::Over;
        state.error = error.map(Arc::new);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.moved.notify_waiters();
    }
}

impl<M: Role> State<M> {
    fn act<R>(&mut self, f: impl FnOnce(&mut M, Instant) -> R) -> R {
        let now = self.driver.now();
        f(self.driver.machine_mut(), now)
    }

    fn next(&self, more: bool) -> Option<tokio::time::Instant> {
        let now = self.driver.now();
        let wake = self.driver.machine().wake().map(|(at, _)| at);
        let at = match self.phase {
            Phase::Over => return None,
            Phase::Closing(until) if now >= until => return None,
            _ if wake.is_none() && (M::QUIET_IS_OVER || self.phase != Phase::Running) => return None,
            _ if more => now,
            Phase::Closing(until) => wake.map_or(until, |at| at.min(until)),
            Phase::Running => wake.unwrap_or(Instant::FAR),
        };
        let at = self.driver.closing_check().map_or(at, |check| at.min(check));
        Some(self.driver.clock(at.min(now + LONG)).unwrap_or_else(std::time::Instant::now).into())
    }
}

/// Ends the engine when the task does, be it that the runtime drops it.
struct Running<M: Role>(Arc<Engine<M>>, Option<UpdateError>);

impl<M: Role> Drop for Running<M> {
    fn drop(&mut self) {
        self.0.stop(self.1.take());
    }
}

async fn drive<M: Role>(engine: Arc<Engine<M>>, mut sockets: Sockets) {
    let mut running = Running(engine, None);
    loop {
        let at = match running.0.turn(&mut sockets) {
            Ok(Some(at)) => sockets.hear_again(at),
            Ok(None) => return,
            Err(error) => {
                running.1 = Some(error);
                return;
            }
        };
        let (mut kicked, mut due) = (pin!(running.0.kick.notified()), pin!(sleep_until(at)));
        poll_fn(|cx| {
            let early = kicked.as_mut().poll(cx).is_ready() || sockets.poll_readable(cx);
            if early || due.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The driver's sockets as the runtime knows them: it tells when there is something to read, the driver reads.
#[derive(Default)]
struct Sockets {
    all: Vec<(SocketId, UdpSocket)>,
    /// TCP connections, and whether each waits to write.
    streams: BTreeMap<StreamId, (TcpStream, bool)>,
    listener: Option<TcpListener>,
    /// Accepted, and not yet the driver's.
    accepted: Vec<(std::net::TcpStream, std::net::SocketAddr)>,
    /// One could not be accepted: who waits is left alone until then.
    deaf_until: Option<tokio::time::Instant>,
    changes: Option<u64>,
}

impl Sockets {
    /// Registers new ones and lets go of those that are closed.
    fn follow<M: Machine>(&mut self, driver: &Driver<M>) -> io::Result<()> {
        let (sockets, streams, changes) = driver.sockets();
        if self.changes == Some(changes) {
            self.look_who_writes(streams);
            return Ok(());
        }
        self.streams.retain(|id, _| streams.all.contains_key(id));
        for (id, stream) in &streams.all {
            if !self.streams.contains_key(id)
                && let Ok(socket) = stream.socket.try_clone().and_then(TcpStream::from_std)
            {
                self.streams.insert(*id, (socket, false));
            }
        }
        if let (None, Some(listener)) = (&self.listener, streams.listener()) {
            self.listener = Some(TcpListener::from_std(listener.try_clone()?)?);
        }
        self.look_who_writes(streams);
        self.all.retain(|(id, _)| sockets.iter().any(|s| s.id == *id));
        for socket in sockets {
            if !self.all.iter().any(|(id, _)| *id == socket.id) {
                self.all.push((socket.id, UdpSocket::from_std(socket.try_clone()?)?));
            }
        }
        self.changes = Some(changes);
        Ok(())
    }

    fn look_who_writes(&mut self, streams: &Streams) {
        for (id, (_, writes)) in &mut self.streams {
            *writes = streams.all.get(id).is_some_and(Stream::wants_write);
        }
    }

    /// Ends connections that could not be registered, for want of file descriptors: nobody would read them.
    fn end_unknown<M: Machine>(&mut self, driver: &mut Driver<M>) {
        let (_, streams, _) = driver.sockets();
        if streams.all.len() > self.streams.len() {
            let unknown: Vec<_> = streams.all.keys().filter(|id| !self.streams.contains_key(id)).copied().collect();
            unknown.into_iter().for_each(|id| driver.fail_stream(id));
        }
    }

    /// Closes those that could not be registered: nobody would read them.
    fn give_up<M: Machine>(&mut self, driver: &mut Driver<M>) -> Result<(), UpdateError> {
        let unknown = |id: &SocketId| !self.all.iter().any(|(known, _)| known == id);
        let ids: Vec<_> = driver.sockets().0.iter().map(|s| s.id).filter(unknown).collect();
        ids.into_iter().for_each(|id| driver.close(id));
        Ok(())
    }

    /// Has the driver read those that can be read. Whether one was left before it was empty.
    fn receive<M: Machine>(&mut self, driver: &mut Driver<M>) -> Result<bool, UpdateError> {
        let (mut more, mut broken) = (false, None);
        self.accepted.drain(..).for_each(|(socket, from)| driver.adopt(socket, from));
        for (id, (stream, _)) in &self.streams {
            let _ = stream.try_io(Interest::WRITABLE, || {
                if driver.write_stream(*id) { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
            });
            let _ = stream.try_io(Interest::READABLE, || {
                if driver.receive_stream(*id) {
                    return Err(ErrorKind::WouldBlock.into());
                }
                more = true;
                Ok(())
            });
        }
        for (id, socket) in &self.all {
            // "Would block" tells the runtime to watch it again. Nothing is lost in between, as it took note of what it
            // knew before the driver read.
            let _ = socket.try_io(Interest::READABLE, || match driver.receive(*id) {
                Ok(true) => Err(ErrorKind::WouldBlock.into()),
                Ok(false) => {
                    more = true;
                    Ok(())
                }
                Err(error) => {
                    broken = Some(error);
                    Ok(())
                }
            });
        }
        broken.map_or(Ok(more), Err)
    }

    /// Listens again once it was deaf for long enough; else comes back for that by then.
    fn hear_again(&mut self, at: tokio::time::Instant) -> tokio::time::Instant {
        self.deaf_until = self.deaf_until.filter(|until| tokio::time::Instant::now() < *until);
        self.deaf_until.map_or(at, |until| at.min(until))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut readable = false;
        for (stream, writes) in self.streams.values() {
            readable |= stream.poll_read_ready(cx).is_ready();
            readable |= *writes && stream.poll_write_ready(cx).is_ready();
        }
        while let (Some(listener), None) = (&self.listener, self.deaf_until)
            && let Poll::Ready(accepted) = listener.poll_accept(cx)
        {
            readable = true;
            match accepted {
                Ok((socket, from)) => self.accepted.extend(socket.into_std().ok().map(|socket| (socket, from))),
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => self.deaf_until = Some(tokio::time::Instant::now() + DEAF),
            }
            if self.accepted.len() >= MAX_ACCEPTS {
                break;
            }
        }
        for (_, socket) in &self.all {
            readable |= socket.poll_recv_ready(cx).is_ready();
        }
        readable
    }
}
