//! Clients that send to one server as fast as it goes, over links as wished: real machines over the simulated network.

use crate::{Link, Node, NullCrypto, World};
use posse_core::client::{Client, PathStats};
use posse_core::config::{ClientConfig, Congestion, Limits, ServerConfig};
use posse_core::server::Server;
use posse_core::{
    Channel, ClientEvent, Duration, Ecn, Input, Instant, Machine, Outbox, PeerId, Request, SendOptions, ServerEvent,
    Wake,
};
use std::sync::Arc;

const KEY: [u8; 32] = [7; 32];
const APP: u64 = 1;
const BULK: Channel = Channel::reliable(1);
/// Bytes of one message of a flow that always has something to send.
const MESSAGE: usize = 16 * 1024;
/// Bytes of a message that is sent now and then: the input of a player.
pub(super) const SMALL: usize = 64;
/// Bytes of a message that travel in a full packet: 1200 less the packet's overhead and its frame's.
pub(super) const CARRIED: f64 = 1160.0;
/// A full packet on a link, headers included.
pub(super) const ON_WIRE: f64 = 1228.0;

/// A client that sends.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    pub(super) congestion: Congestion,
    /// From it to the internet.
    pub(super) link: Link,
    pub(super) start: Duration,
    pub(super) pace: Pace,
}

/// When a flow has something to send.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// Always.
    Full,
    /// A message of [`SMALL`] bytes at each multiple of this, so many in all.
    Every(Duration, u64),
}

/// What the receiver does to every so many-th datagram.
#[derive(Clone, Copy)]
pub(super) enum Harm {
    None,
    Lose(u64),
    Mark(u64),
}

/// What is to be run.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) flows: Vec<Flow>,
    /// From the server to the internet; its way down is what all share.
    pub(super) shared: Link,
    pub(super) harm: Harm,
    /// Bytes that a client has under way at most, and the server takes.
    pub(super) buffer: usize,
    /// Figures count from here on.
    pub(super) warm: Duration,
    pub(super) end: Duration,
    pub(super) sample: Duration,
}

/// A flow at a moment.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// Bytes that arrived so far.
    pub(super) arrived: u64,
    pub(super) path: PathStats,
}

/// What became of one flow, sampled evenly.
pub(super) struct Story {
    pub(super) samples: Vec<Sample>,
    warm: Duration,
}

impl Story {
    fn counted(&self) -> impl Iterator<Item = &Sample> + Clone {
        self.samples.iter().filter(|s| s.at >= self.warm)
    }

    /// Bytes of messages a second.
    pub(super) fn goodput(&self) -> f64 {
        let (Some(first), Some(last)) = (self.counted().next(), self.counted().last()) else { return 0.0 };
        (last.arrived - first.arrived) as f64 / (last.at - first.at).as_secs_f64().max(1e-9)
    }

    /// Over time, in full packets.
    pub(super) fn mean_window(&self) -> f64 {
        let sum: f64 = self.counted().map(|s| s.path.window as f64 / 1200.0).sum();
        sum / self.counted().count().max(1) as f64
    }

    /// Smoothed round trip over the least, seconds: what `part` of the samples are below.
    pub(super) fn queueing(&self, part: f64) -> f64 {
        let mut all: Vec<_> = self.counted().map(|s| s.path.rtt.saturating_sub(s.path.min_rtt)).collect();
        quantile(&mut all, part).map_or(0.0, |time| time.as_secs_f64())
    }
}

/// The time that `part` of all are below; sorts them.
pub(super) fn quantile(times: &mut [Duration], part: f64) -> Option<Duration> {
    times.sort_unstable();
    let at = (times.len() as f64 * part) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied()
}

/// The hosts of a setup, to be run step by step.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) server: Node<Sink>,
    pub(super) clients: Vec<Node<Source>>,
}

impl Bench {
    pub(super) fn new(setup: &Setup) -> Self {
        let mut world = World::new(setup.seed);
        let limits = Limits { send_buffer: setup.buffer, receive_buffer: setup.buffer, ..Limits::default() };
        let (internet, harm, server_limits) = (world.internet(), setup.harm, limits.clone());
        let server = world.host(internet, setup.shared, move |now, _, seed| {
            let mut config = ServerConfig::new(KEY, APP, seed);
            config.suites = vec![Arc::new(NullCrypto)];
            config.limits = server_limits.clone();
            Sink::new(Server::new(now, config).expect("a valid configuration"), harm)
        });
        let to = world.addr(server);
        let clients = setup.flows.iter().map(|flow| {
            let (limits, Flow { congestion, link, start, pace }) = (limits.clone(), *flow);
            world.host(internet, link, move |now, _, seed| {
                let mut config = ClientConfig::new(to, posse_core::secure::public_key(&KEY), APP, seed);
                config.suites = vec![Arc::new(NullCrypto)];
                config.limits = limits.clone();
                config.congestion = congestion;
                Source::new(Client::new(now, config).expect("a valid configuration"), now + start, pace)
            })
        });
        let clients = clients.collect();
        Self { world, server, clients }
    }

    /// Lets time pass. A world that stops would leave figures out, and what is left out misses no bound.
    pub(super) fn pass(&mut self, time: Duration) {
        self.world.run_for(time).expect("nothing here sends without end at one moment");
    }

    /// How a flow stands now.
    pub(super) fn sample(&self, node: Node<Source>) -> Sample {
        let client = &self.world.machine(node).client;
        let arrived = client.id().map_or(0, |id| self.world.machine(self.server).arrived(id));
        let at = self.world.now().since(Instant::ZERO);
        Sample { at, arrived, path: client.server_path().unwrap_or_default() }
    }
}

/// Runs it.
pub(super) fn run(setup: &Setup) -> Vec<Story> {
    let mut bench = Bench::new(setup);
    let mut stories: Vec<_> = setup.flows.iter().map(|_| Story { samples: Vec::new(), warm: setup.warm }).collect();
    let mut at = Duration::ZERO;
    while at < setup.end {
        at += setup.sample;
        bench.pass(setup.sample);
        for (story, node) in stories.iter_mut().zip(&bench.clients) {
            story.samples.push(bench.sample(*node));
        }
    }
    stories
}

/// A client whose application has something to send, as its pace goes.
pub(super) struct Source {
    client: Client,
    pace: Pace,
    /// When it sends next.
    next: Instant,
    /// Logged in, and not refused for want of room.
    ready: bool,
    /// When each small message was sent.
    sent: Vec<Instant>,
    message: Vec<u8>,
    payload: Vec<u8>,
}

impl Source {
    fn new(client: Client, start: Instant, pace: Pace) -> Self {
        let message = vec![7; if matches!(pace, Pace::Full) { MESSAGE } else { SMALL }];
        Self { client, pace, next: start, ready: false, sent: Vec::new(), message, payload: Vec::new() }
    }

    /// When each small message was sent.
    pub(super) fn sent(&self) -> &[Instant] {
        &self.sent
    }

    fn turn(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event(now, &mut self.payload) {
            self.ready |= matches!(event, ClientEvent::LoggedIn { .. } | ClientEvent::Writable { .. });
        }
        while self.ready && self.is_due().is_some_and(|at| now >= at) {
            let sent = self.client.send(now, PeerId::SERVER, BULK, &self.message, SendOptions::default());
            self.ready = sent.is_ok();
            if let Pace::Every(interval, _) = self.pace {
                self.next = self.next + interval;
                self.sent.push(now);
            }
        }
    }

    fn is_due(&self) -> Option<Instant> {
        match self.pace {
            Pace::Every(_, most) if self.sent.len() as u64 >= most => None,
            _ => Some(self.next),
        }
    }
}

impl Machine for Source {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.client.handle(now, input, out);
        self.turn(now);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.client.transmit(now, out);
        self.turn(now);
    }

    fn request(&mut self) -> Option<Request> {
        self.client.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        // What is overdue waits for room, and word of that comes with an event.
        let due = self.is_due().filter(|_| self.ready).map(|at| (at, Wake::Idle));
        [self.client.wake(), due].into_iter().flatten().min()
    }

    fn tap(&mut self, tap: Option<Box<dyn posse_core::Tap>>) {
        self.client.tap(tap);
    }
}

/// A server whose application takes everything at once.
pub(super) struct Sink {
    server: Server,
    harm: Harm,
    datagrams: u64,
    arrived: Vec<(PeerId, u64)>,
    /// When each small message arrived, whoever sent it.
    small: Vec<Instant>,
    payload: Vec<u8>,
}

impl Sink {
    fn new(server: Server, harm: Harm) -> Self {
        Self { server, harm, datagrams: 0, arrived: Vec::new(), small: Vec::new(), payload: Vec::new() }
    }

    /// When each small message arrived, in order.
    pub(super) fn small(&self) -> &[Instant] {
        &self.small
    }

    fn arrived(&self, from: PeerId) -> u64 {
        self.arrived.iter().find(|(id, _)| *id == from).map_or(0, |(_, bytes)| *bytes)
    }

    fn turn(&mut self, now: Instant) {
        while let Some(event) = self.server.poll_event(now, &mut self.payload) {
            match event {
                ServerEvent::LoginRequested { login, .. } => {
                    self.server.accept(now, login, b"", b"").expect("a login that was just requested");
                }
                ServerEvent::Message(message) => {
                    let bytes = self.payload.len() as u64;
                    if bytes == SMALL as u64 {
                        self.small.push(now);
                    }
                    match self.arrived.iter_mut().find(|(id, _)| *id == message.from) {
                        Some((_, sum)) => *sum += bytes,
                        None => self.arrived.push((message.from, bytes)),
                    }
                }
                _ => {}
            }
        }
    }
}

impl Machine for Sink {
    fn handle(&mut self, now: Instant, mut input: Input<'_>, out: &mut Outbox) {
        if let Input::Datagrams { ecn, .. } = &mut input {
            self.datagrams += 1;
            match self.harm {
                Harm::Lose(every) if self.datagrams.is_multiple_of(every) => return,
                Harm::Mark(every) if self.datagrams.is_multiple_of(every) && *ecn == Ecn::Ect0 => *ecn = Ecn::Ce,
                _ => {}
            }
        }
        self.server.handle(now, input, out);
        self.turn(now);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.server.transmit(now, out);
        self.turn(now);
    }

    fn request(&mut self) -> Option<Request> {
        self.server.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.server.wake()
    }

    fn tap(&mut self, tap: Option<Box<dyn posse_core::Tap>>) {
        self.server.tap(tap);
    }
}
