//! What several test files share: a server and clients on a simulated network, with applications that poll at once.

use posse_core::client::{Client, PeerView};
use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::server::{GroupOptions, Server};
use posse_core::{
    Channel, ClientEvent, GroupId, Input, Instant, JoinOutcome, Machine, Message, Outbox, Path, PeerId, Request,
    SendOptions, ServerEvent, Tap, Wake,
};
use posse_sim::{Link, Nat, Net, Node, World};
use std::collections::BTreeMap;
use std::time::Duration;

pub use raw::{drain, hand, request};

mod raw;

/// The server's secret key in every test.
pub const SERVER_KEY: [u8; 32] = [7; 32];
/// The application id in every test.
pub const APP: u64 = 42;

/// One thing that an application was told, in order.
#[derive(Clone, Debug)]
pub enum Logged {
    /// Anything but a message.
    Event(ClientEvent),
    /// A message.
    Message(Message, Vec<u8>),
}

/// A client whose application polls after every call and keeps what it was told.
pub struct App {
    /// The client.
    pub client: Client,
    /// Every event but messages, with its time.
    pub events: Vec<(Instant, ClientEvent)>,
    /// Every message, with its time.
    pub messages: Vec<(Instant, Message, Vec<u8>)>,
    /// Both, in the order in which they came.
    pub log: Vec<Logged>,
    /// An application that is away polls nothing.
    pub away: bool,
    payload: Vec<u8>,
}

impl App {
    /// An application around a client.
    pub fn new(client: Client) -> Self {
        Self { client, events: Vec::new(), messages: Vec::new(), log: Vec::new(), away: false, payload: Vec::new() }
    }

    /// Polls everything.
    pub fn poll(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event(now, &mut self.payload) {
            match event {
                ClientEvent::Message(message) => {
                    self.log.push(Logged::Message(message, self.payload.clone()));
                    self.messages.push((now, message, self.payload.clone()));
                }
                event => {
                    self.log.push(Logged::Event(event.clone()));
                    self.events.push((now, event));
                }
            }
        }
    }

    /// How traffic with a peer goes.
    pub fn path(&self, peer: PeerId) -> Option<Path> {
        self.client.peers().find(|p| p.id == peer).map(|p| p.path)
    }

    /// A peer.
    pub fn peer(&self, peer: PeerId) -> Option<PeerView> {
        self.client.peers().find(|p| p.id == peer)
    }
}

impl Machine for App {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.client.handle(now, input, out);
        if !self.away {
            self.poll(now);
        }
    }
    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.client.transmit(now, out);
        if !self.away {
            self.poll(now);
        }
    }
    fn request(&mut self) -> Option<Request> {
        self.client.request()
    }
    fn wake(&self) -> Option<(Instant, Wake)> {
        self.client.wake()
    }
    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.client.tap(tap);
    }
}

/// A server whose application accepts everyone and keeps what it was told.
pub struct Desk {
    /// The server.
    pub server: Server,
    /// Every event but messages and login requests, with its time.
    pub events: Vec<(Instant, ServerEvent)>,
    /// Every message, with its time.
    pub messages: Vec<(Instant, Message, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Desk {
    /// An application around a server.
    pub fn new(server: Server) -> Self {
        Self { server, events: Vec::new(), messages: Vec::new(), payload: Vec::new() }
    }

    fn poll(&mut self, now: Instant) {
        while let Some(event) = self.server.poll_event(now, &mut self.payload) {
            match event {
                ServerEvent::LoginRequested { login, token, .. } => {
                    self.server.accept(now, login, &token, b"welcome").expect("a login that was just requested");
                }
                ServerEvent::Message(message) => self.messages.push((now, message, self.payload.clone())),
                event => self.events.push((now, event)),
            }
        }
    }

    /// What became of joins.
    pub fn completed(&self) -> Vec<(GroupId, PeerId, JoinOutcome)> {
        let all = self.events.iter().filter_map(|(_, event)| match event {
            ServerEvent::JoinCompleted { group, member, outcome } => Some((*group, *member, *outcome)),
            _ => None,
        });
        all.collect()
    }
}

impl Machine for Desk {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.server.handle(now, input, out);
        self.poll(now);
    }
    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.server.transmit(now, out);
        self.poll(now);
    }
    fn request(&mut self) -> Option<Request> {
        self.server.request()
    }
    fn wake(&self) -> Option<(Instant, Wake)> {
        self.server.wake()
    }
    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.server.tap(tap);
    }
}

/// A server and clients.
pub struct Lab {
    /// The network.
    pub world: World,
    /// The server's host.
    pub desk: Node<Desk>,
    /// The clients' hosts.
    pub apps: Vec<Node<App>>,
}

impl Lab {
    /// A server 40 ms from the internet, and nobody else.
    pub fn new(seed: u64) -> Self {
        Self::with_server_link(seed, Link::millis(40))
    }

    /// A server behind this link, and nobody else.
    pub fn with_server_link(seed: u64, link: Link) -> Self {
        Self::with_server(seed, link, |_| {})
    }

    /// A server behind this link, configured by `change`, and nobody else.
    pub fn with_server(seed: u64, link: Link, change: impl Fn(&mut ServerConfig) + 'static) -> Self {
        let mut world = World::new(seed);
        let internet = world.internet();
        let desk = world.host(internet, link, move |now, _, seed| {
            let mut config = ServerConfig::new(SERVER_KEY, APP, seed);
            change(&mut config);
            Desk::new(Server::new(now, config).expect("a valid configuration"))
        });
        Self { world, desk, apps: Vec::new() }
    }

    /// One more client, on this network.
    pub fn client_on(&mut self, net: Net, link: Link) -> Node<App> {
        self.client_with(net, link, |_| {})
    }

    /// One more client, configured by `change`.
    pub fn client_with(&mut self, net: Net, link: Link, change: impl Fn(&mut ClientConfig) + 'static) -> Node<App> {
        let server = self.world.addr(self.desk);
        let name = self.apps.len();
        let node = self.world.host(net, link, move |now, _, seed| {
            let key = posse_core::secure::public_key(&SERVER_KEY);
            let mut config = ClientConfig::new(server, key, APP, seed);
            config.token = format!("player {name}").into_bytes();
            change(&mut config);
            App::new(Client::new(now, config).expect("a valid configuration"))
        });
        self.apps.push(node);
        node
    }

    /// One more client, alone behind this NAT, 10 ms from the internet.
    pub fn home(&mut self, nat: Nat) -> Node<App> {
        let net = self.world.home(nat);
        self.client_on(net, Link::PERFECT)
    }

    /// A client's id, once it is logged in.
    pub fn id(&self, app: Node<App>) -> Option<PeerId> {
        self.world.machine(app).client.id()
    }

    /// Runs until all clients are logged in, and returns their ids.
    pub fn log_in(&mut self) -> Vec<PeerId> {
        let apps = self.apps.clone();
        let logged_in = |w: &mut World| apps.iter().all(|a| w.machine(*a).client.id().is_some());
        self.world.run_until(Duration::from_secs(10), logged_in).expect("everyone logs in");
        self.world.run_for(Duration::from_millis(500)).expect("the network settles");
        self.apps.iter().filter_map(|a| self.id(*a)).collect()
    }

    /// The server makes a group.
    pub fn group(&mut self, members: &[PeerId]) -> GroupId {
        self.world
            .act(self.desk, |desk, now| desk.server.create_group(now, members, GroupOptions::default()))
            .expect("a valid group")
    }

    /// A client sends.
    pub fn send(&mut self, from: Node<App>, to: impl Into<posse_core::To>, channel: Channel, bytes: &[u8]) -> bool {
        let to = to.into();
        self.world.act(from, |app, now| app.client.send(now, to, channel, bytes, SendOptions::default())).is_ok()
    }

    /// Whether each of these two sees the other directly.
    pub fn direct(&self, a: Node<App>, b: Node<App>) -> bool {
        let sees = |x: Node<App>, y: Node<App>| {
            self.id(y).and_then(|id| self.world.machine(x).path(id)).is_some_and(|p| matches!(p, Path::Direct { .. }))
        };
        sees(a, b) && sees(b, a)
    }

    /// Runs until two see each other directly; false if they do not within `limit`.
    pub fn run_until_direct(&mut self, a: Node<App>, b: Node<App>, limit: Duration) -> bool {
        let (ida, idb) = (self.id(a), self.id(b));
        let sees = |w: &World, x: Node<App>, y: Option<PeerId>| {
            y.and_then(|id| w.machine(x).path(id)).is_some_and(|p| matches!(p, Path::Direct { .. }))
        };
        self.world.run_until(limit, |w| sees(w, a, idb) && sees(w, b, ida)).is_ok()
    }
}

/// What a receiver got of numbered messages: lost, repeated, reordered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Numbers that never came.
    pub lost: u64,
    /// Numbers that came more than once.
    pub repeated: u64,
    /// Numbers that came after a later one.
    pub reordered: u64,
}

/// Tallies the numbers 0 to `sent` − 1.
pub fn tally(sent: u64, got: impl Iterator<Item = u64>) -> Tally {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut tally = Tally::default();
    let mut highest = None;
    for n in got {
        *seen.entry(n).or_default() += 1;
        tally.reordered += u64::from(highest.is_some_and(|h| n < h));
        highest = highest.max(Some(n));
    }
    tally.repeated = seen.values().map(|count| count - 1).sum();
    tally.lost = (0..sent).filter(|n| !seen.contains_key(n)).count() as u64;
    tally
}
