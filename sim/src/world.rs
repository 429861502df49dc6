//! The virtual clock, the hosts, and the loop.
//!
//! A [`World`] drives any [`Machine`] as a driver with sockets would, in virtual time: a datagram that arrives is handed
//! in, then whatever the machine wants to send is put on its host's link, its requests are answered, and its wake-up is
//! looked at. Nothing happens between two events, so the clock jumps from one to the next.
//!
//! A machine whose wake-up stays due although it was woken, time and again at one instant and with nothing to show for it,
//! would stop the clock for good, as would one that sends without end. The world gives up on it and says [`Stuck::Busy`].

mod faults;
mod streams;

use crate::dice::{Label, stream};
use crate::event::{Counters, DropReason, Event, Observer, Place};
use crate::link::Link;
use crate::nat::{Nat, NatBox};
use crate::network::{Datagram, Families, Net, Network};
use crate::queue::Due;
use crate::trace::{HostInfo, NetInfo, Topology};
use posse_core::{Duration, Input, Instant, Machine, Outbox, Request, SocketId, SocketInput, Transmit, Via, Wake};
use rand_core::Rng as _;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use thiserror::Error;

/// Port of every host's main socket.
pub const MAIN_PORT: u16 = 4000;
/// Sockets that a machine asks for get ports from here on (RFC 6335 §6, dynamic ports).
pub(crate) const FIRST_EXTRA_PORT: u16 = 49_152;
/// Extra sockets of one host at a time; birthday probing takes 256.
const MAX_SOCKETS: usize = 1024;

/// Bytes and sends of the outbox that all hosts are given in turn: some fifty full datagrams.
const OUTBOX: (usize, usize) = (64 * 1024, 64);
/// Segments a send, so that batches are built as on a system with GSO; links see the single datagrams.
const SEGMENTS: u16 = 8;

/// A machine is stuck if at one instant it was woken so often and neither sent nor asked for anything.
const IDLE_WAKES: u32 = 1_000;
/// Or if at one instant it had so many turns, whatever it did in them; half a gigabyte sent at once is no use of a network.
const TURNS: u32 = 4_096;
/// Or a world, if at one instant so many events happened: machines that answer each other over links without delay.
const EVENTS_AT_ONCE: u64 = 1_000_000;

/// A host with a machine of type `M` on it. Valid in the world that made it.
pub struct Node<M> {
    host: usize,
    machine: PhantomData<fn() -> M>,
}

impl<M> Node<M> {
    /// Its number, as events name it.
    pub fn index(self) -> usize {
        self.host
    }
}

impl<M> Clone for Node<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Node<M> {}

impl<M> PartialEq for Node<M> {
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host
    }
}

impl<M> Eq for Node<M> {}

impl<M> fmt::Debug for Node<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.host)
    }
}

impl<M> From<Node<M>> for Place {
    fn from(node: Node<M>) -> Self {
        Self::Host(node.host)
    }
}

/// Why a world did not come to what it was run for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Stuck {
    /// The time was over.
    #[error("not reached by {at:?}, the end of the time given")]
    Limit {
        /// When.
        at: Instant,
    },
    /// Nothing was left to happen.
    #[error("not reached, and nothing happens after {at:?}")]
    Idle {
        /// When the last thing happened.
        at: Instant,
    },
    /// A machine does not let the clock go on.
    #[error("{name} (host {host}) never comes to rest at {at:?}; wake-up that stays due: {why:?}")]
    Busy {
        /// Which host.
        host: usize,
        /// Its name.
        name: String,
        /// When.
        at: Instant,
        /// What it wants to be woken for; `None` if it sends or asks without end.
        why: Option<Wake>,
    },
    /// Machines answer each other without end over links that take no time.
    #[error("{events} events at {at:?}, and no end")]
    Livelock {
        /// When.
        at: Instant,
        /// How many.
        events: u64,
    },
}

/// A machine that can be looked at as what it is.
trait Hosted: Machine + Any {}

impl<M: Machine + Any> Hosted for M {}

type Make = Box<dyn FnMut(Instant, &Addresses, [u8; 32]) -> Box<dyn Hosted>>;

/// Where a host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Its main socket, as the host itself sees it: by IPv4 if it has that.
    pub main: SocketAddr,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its second IPv4 address.
    pub second: Option<Ipv4Addr>,
}

struct Host {
    name: String,
    net: Net,
    attachment: usize,
    families: Families,
    /// Its own if it has IPv4 at all, and what tells it apart in its network in any case.
    address: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
    machine: Box<dyn Hosted>,
    make: Make,
    incarnation: u32,
    /// A second address on the same link.
    second: Option<Ipv4Addr>,
    sockets: Vec<Socket>,
    /// Those that are there whenever a machine starts, beside the main one.
    bound: Vec<Socket>,
    next_port: u16,
    /// The earliest wake-up in the queue. Later ones there are stale.
    wake_at: Option<Instant>,
    /// Its machine stands still; what arrived since waits, with its size.
    paused: bool,
    held: Vec<u32>,
    held_bytes: usize,
    /// It has another address and was not told yet.
    news: bool,
    /// Nanoseconds that its clock is ahead of the world's.
    ahead: i64,
    stack: streams::Stack,
}

/// An open socket.
#[derive(Clone, Copy)]
struct Socket {
    id: SocketId,
    port: u16,
    /// Whether it is bound to the host's second address, or to the first.
    second: bool,
}

impl Host {
    /// The socket that a packet to `to` arrives at.
    fn socket_at(&self, to: SocketAddr) -> Option<SocketId> {
        let second = self.second.is_some_and(|second| to.ip() == second);
        self.sockets.iter().find(|s| s.port == to.port() && s.second == second).map(|s| s.id)
    }

    /// As what `socket` is bound to: by IPv4 if there is that.
    fn address_of(&self, socket: &Socket) -> SocketAddr {
        let second = self.second.filter(|_| socket.second).map(IpAddr::V4);
        SocketAddr::new(second.unwrap_or_else(|| self.main_ip()), socket.port)
    }

    /// From where `socket` sends to an address of this family; `None` if it cannot.
    fn source_of(&self, socket: &Socket, by_ipv6: bool) -> Option<SocketAddr> {
        let ip = match by_ipv6 {
            _ if socket.second => self.second.filter(|_| !by_ipv6).map(IpAddr::V4),
            true => self.ipv6.map(IpAddr::V6),
            false => Some(IpAddr::V4(self.address)).filter(|_| self.families.has_v4()),
        };
        Some(SocketAddr::new(ip?, socket.port))
    }

    fn main_ip(&self) -> IpAddr {
        main_ip(self.families, self.address, self.ipv6)
    }

    fn addresses(&self) -> Addresses {
        let main = SocketAddr::new(self.main_ip(), MAIN_PORT);
        Addresses { main, ipv6: self.ipv6, second: self.second }
    }

    /// What its machine is told of its interfaces.
    fn interfaces(&self) -> Vec<IpAddr> {
        let v4 = self.families.has_v4().then_some(IpAddr::V4(self.address));
        v4.into_iter().chain(self.ipv6.map(IpAddr::V6)).collect()
    }
}

/// A simulated network with machines on it. See the module's text.
pub struct World {
    seed: u64,
    now: Instant,
    /// Events at this instant so far.
    at_once: u64,
    hosts: Vec<Host>,
    net_names: Vec<String>,
    /// Which hosts are kept from each other, the first from reaching the second, and the addresses that they had then.
    blocks: Vec<((usize, usize), (IpAddr, IpAddr))>,
    network: Network,
    outbox: Outbox,
    stuck: Option<Stuck>,
}

/// Building.
impl World {
    /// An internet with nobody on it. All randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut outbox = Outbox::with_capacity(OUTBOX.0, OUTBOX.1);
        outbox.set_max_segments(SEGMENTS);
        Self {
            seed,
            now: Instant::ZERO,
            at_once: 0,
            hosts: Vec::new(),
            net_names: vec!["internet".into()],
            blocks: Vec::new(),
            network: Network::new(seed),
            outbox,
            stuck: None,
        }
    }

    /// Where public addresses are.
    pub fn internet(&self) -> Net {
        Net::INTERNET
    }

    /// A network behind a NAT. `behind` is what is outside: the internet, or a network that is itself behind a NAT.
    /// `link` leads from the NAT to it.
    pub fn nat(&mut self, behind: Net, nat: Nat, link: Link) -> Net {
        let net = self.network.add_net(behind, nat, link);
        self.net_names.push(format!("net{}", net.0));
        net
    }

    /// A home: a network behind a NAT on the internet, 10 ms away from it.
    pub fn home(&mut self, nat: Nat) -> Net {
        self.nat(Net::INTERNET, nat, Link::millis(10))
    }

    /// A host on `on` with an IPv4 address, and on it the machine that `make` makes of the time, the host's own address and a seed.
    /// Each [`Self::restart`] makes another.
    ///
    /// The machine is told its main socket's address and its interfaces at once.
    ///
    /// # Panics
    /// If a private network runs out of addresses.
    pub fn host<M: Machine + 'static>(
        &mut self,
        on: Net,
        link: Link,
        mut make: impl FnMut(Instant, SocketAddr, [u8; 32]) -> M + 'static,
    ) -> Node<M> {
        self.host_with(on, link, Families::V4, false, move |now, at, seed| make(now, at.main, seed))
    }

    /// The same with addresses of these families, and if `second` with a second IPv4 address, which is only used by sockets that
    /// [`Self::bind`] names. All other sockets carry both families.
    ///
    /// # Panics
    /// If a private network runs out of addresses.
    pub fn host_with<M: Machine + 'static>(
        &mut self,
        on: Net,
        link: Link,
        families: Families,
        second: bool,
        mut make: impl FnMut(Instant, &Addresses, [u8; 32]) -> M + 'static,
    ) -> Node<M> {
        let number = self.hosts.len();
        let (attachment, address) = self.network.add_host(on, number, families, link);
        let second = second.then(|| self.network.add_address(attachment));
        let mut make: Make = Box::new(move |now, at, seed| Box::new(make(now, at, seed)));
        let ipv6 = self.network.ipv6_of(attachment, address);
        let at = Addresses { main: SocketAddr::new(main_ip(families, address, ipv6), MAIN_PORT), ipv6, second };
        let machine = make(self.now, &at, machine_seed(self.seed, number, 0));
        self.hosts.push(Host {
            name: format!("host{number}"),
            net: on,
            attachment,
            families,
            address,
            ipv6,
            machine,
            make,
            incarnation: 0,
            second,
            sockets: Vec::new(),
            bound: Vec::new(),
            next_port: FIRST_EXTRA_PORT,
            wake_at: None,
            paused: false,
            held: Vec::new(),
            held_bytes: 0,
            news: false,
            ahead: 0,
            stack: streams::Stack::default(),
        });
        self.start(number);
        Node { host: number, machine: PhantomData }
    }

    /// Opens one more socket of a host at a port of its first or second address, now and whenever a machine starts there.
    ///
    /// # Panics
    /// If there is no such address, or a socket of that name.
    pub fn bind<M>(&mut self, node: Node<M>, id: SocketId, port: u16, second: bool) {
        let host = &mut self.hosts[node.host];
        assert!(!second || host.second.is_some(), "the host has one address");
        assert!(host.sockets.iter().all(|s| s.id != id), "the name is taken");
        let socket = Socket { id, port, second };
        host.bound.push(socket);
        host.sockets.push(socket);
        self.tell_opened(node.host, socket);
        self.settle(node.host);
    }

    /// Has timelines and errors call `place` by this name.
    pub fn set_name(&mut self, place: impl Into<Place>, name: &str) {
        match place.into() {
            Place::Host(host) => name.clone_into(&mut self.hosts[host].name),
            Place::Net(net) => name.clone_into(&mut self.net_names[net]),
        }
    }

    /// Tells `observer` of everything from now on. Keep an `Rc<RefCell<_>>` of it to look at it later.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.network.log.observers.push(observer);
    }
}

/// Looking.
impl World {
    /// Virtual time since the world began.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Over every event so far: two runs are the same exactly if this is the same.
    pub fn digest(&self) -> u128 {
        self.network.log.digest.value()
    }

    /// How many events the digest covers.
    pub fn events(&self) -> u64 {
        self.network.log.digest.events()
    }

    /// What became of all packets so far.
    pub fn counters(&self) -> Counters {
        self.network.log.counters
    }

    /// Packets under way.
    pub fn in_flight(&self) -> u64 {
        self.network.in_flight()
    }

    /// The address of a host's main socket, as the host itself sees it.
    pub fn addr<M>(&self, node: Node<M>) -> SocketAddr {
        self.hosts[node.host].addresses().main
    }

    /// A host's IPv6 address, if it has one.
    pub fn ipv6<M>(&self, node: Node<M>) -> Option<Ipv6Addr> {
        self.hosts[node.host].ipv6
    }

    /// The address under which the internet sees what a host sends by IPv4: that of its outermost NAT, or its own.
    pub fn public_ip<M>(&self, node: Node<M>) -> Ipv4Addr {
        let host = &self.hosts[node.host];
        self.network.public_address(host.net).unwrap_or(host.address)
    }

    /// The address under which the internet sees what a network sends; none of the internet itself.
    pub fn public_ip_of(&self, net: Net) -> Option<Ipv4Addr> {
        self.network.public_address(net)
    }

    /// The NAT in front of `net`; none of the internet.
    pub fn nat_box(&self, net: Net) -> Option<&NatBox> {
        self.network.nat_of(net)
    }

    /// The network that a host is on.
    pub fn net_of<M>(&self, node: Node<M>) -> Net {
        self.hosts[node.host].net
    }

    /// What [`Self::set_name`] set, else a name made of its number.
    pub fn name(&self, place: impl Into<Place>) -> &str {
        match place.into() {
            Place::Host(host) => &self.hosts[host].name,
            Place::Net(net) => &self.net_names[net],
        }
    }

    /// Who is where, by which name and address, for what is written of a run.
    pub fn topology(&self) -> Topology {
        let host = |host: &Host| HostInfo {
            name: host.name.clone(),
            on: host.net.0,
            address: host.main_ip(),
            ipv6: host.ipv6.filter(|_| host.families.has_v4()),
        };
        let net = |(i, name): (usize, &String)| {
            let (behind, outside) = self.network.outside(Net(i)).map(|(net, address)| (net.0, address)).unzip();
            let ipv6 = self.network.prefix_of(Net(i)).filter(|_| behind.is_some());
            NetInfo { name: name.clone(), behind, outside, ipv6 }
        };
        Topology {
            hosts: self.hosts.iter().map(host).collect(),
            nets: self.net_names.iter().enumerate().map(net).collect(),
        }
    }

    /// The link of a host, or of the NAT of a network; none of the internet.
    pub fn link(&self, place: impl Into<Place>) -> Option<Link> {
        self.network.link(place.into())
    }

    /// The machine on a host.
    ///
    /// # Panics
    /// If `node` is another world's.
    pub fn machine<M: Machine + 'static>(&self, node: Node<M>) -> &M {
        let machine: &dyn Any = &*self.hosts[node.host].machine;
        machine.downcast_ref().expect("the node is of this world, which put an M there")
    }
}

/// Running.
impl World {
    /// Runs until `done` says so, asked before the first event and after each. Gives up after `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> Result<Instant, Stuck> {
        let end = self.now + limit;
        loop {
            if let Some(stuck) = &self.stuck {
                return Err(stuck.clone());
            }
            if done(self) {
                return Ok(self.now);
            }
            match self.network.queue.next_at() {
                None => return Err(Stuck::Idle { at: self.now }),
                Some(at) if at > end => {
                    self.now = end;
                    return Err(Stuck::Limit { at: end });
                }
                Some(_) => self.step(),
            }
        }
    }

    /// Runs for `time`. Fails only where a machine does not let the clock go on.
    pub fn run_for(&mut self, time: Duration) -> Result<Instant, Stuck> {
        let end = self.now + time;
        match self.run_until(time, |_| false) {
            Ok(_) | Err(Stuck::Limit { .. } | Stuck::Idle { .. }) => {
                self.now = end;
                Ok(end)
            }
            Err(stuck) => Err(stuck),
        }
    }

    /// The next event.
    fn step(&mut self) {
        let Some((at, due)) = self.network.queue.pop() else { return };
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        if self.at_once > EVENTS_AT_ONCE {
            self.stuck = Some(Stuck::Livelock { at, events: self.at_once });
        }
        self.now = at;
        match due {
            Due::Arrival { wire, packet } => {
                if let Some(host) = self.network.arrive(at, wire, packet) {
                    self.deliver(host, packet);
                }
            }
            Due::Stack { host } => self.poll_stack(host as usize, at),
            Due::Wake { host } => {
                let host = host as usize;
                if self.hosts[host].wake_at == Some(at) {
                    self.hosts[host].wake_at = None;
                    self.settle(host);
                }
            }
        }
    }

    /// Does something with a machine as its application would; then whatever comes of it is sent.
    ///
    /// # Panics
    /// If `node` is another world's.
    pub fn act<M: Machine + 'static, R>(&mut self, node: Node<M>, act: impl FnOnce(&mut M, Instant) -> R) -> R {
        self.network.log.event(self.now, &Event::Acted { host: node.host });
        let now = self.clock(node.host);
        let machine: &mut dyn Any = &mut *self.hosts[node.host].machine;
        let result = act(machine.downcast_mut().expect("the node is of this world, which put an M there"), now);
        self.settle(node.host);
        result
    }

    /// Tells a new machine where it is.
    fn start(&mut self, host: usize) {
        let now = self.clock(host);
        let (local, interfaces) = (self.hosts[host].addresses().main, self.hosts[host].interfaces());
        let Host { machine, incarnation, sockets, bound, .. } = &mut self.hosts[host];
        self.network.log.event(self.now, &Event::Started { host, incarnation: *incarnation });
        sockets.push(Socket { id: SocketId::MAIN, port: MAIN_PORT, second: false });
        let bound = bound.clone();
        sockets.extend(&bound);
        let opened = SocketInput::Opened { local, max_segments: SEGMENTS };
        machine.handle(now, Input::Socket(SocketId::MAIN, opened), &mut self.outbox);
        self.flush(host);
        bound.into_iter().for_each(|socket| self.tell_opened(host, socket));
        self.hosts[host].machine.handle(now, Input::Interfaces(&interfaces), &mut self.outbox);
        self.settle(host);
    }

    fn tell_opened(&mut self, host: usize, socket: Socket) {
        let now = self.clock(host);
        let Socket { id, port, .. } = socket;
        self.network.log.event(self.now, &Event::SocketOpened { host, socket: id, port });
        let local = self.hosts[host].address_of(&socket);
        let opened = Input::Socket(id, SocketInput::Opened { local, max_segments: SEGMENTS });
        self.hosts[host].machine.handle(now, opened, &mut self.outbox);
        self.flush(host);
    }

    /// Hands a packet to the machine that it arrived at.
    fn deliver(&mut self, host: usize, slot: u32) {
        if self.network.packet_mut(slot).tcp {
            return self.segment(host, slot);
        }
        if self.hosts[host].paused {
            return self.hold(host, slot);
        }
        let now = self.clock(host);
        let state = &mut self.hosts[host];
        let packet = self.network.packet_mut(slot);
        let Some(socket) = state.socket_at(packet.to) else {
            return self.network.drop(self.now, Place::Host(host), DropReason::NoSocket, slot);
        };
        let (from, to, ecn) = (packet.from, packet.to.ip(), packet.ecn);
        let mut bytes = std::mem::take(&mut packet.bytes);
        let view = crate::event::PacketView { bytes: &bytes, ..packet.view() };
        self.network.log.event(self.now, &Event::Delivered { host, socket, packet: view });
        let input = Input::Datagrams { socket, from, local: Some(to), ecn, stride: bytes.len(), bytes: &mut bytes };
        state.machine.handle(now, input, &mut self.outbox);
        self.network.packet_mut(slot).bytes = bytes;
        self.network.release(slot);
        self.settle(host);
    }

    /// Sends what a machine has to send, answers what it asks for and wakes it, until it waits for something that has
    /// yet to come.
    fn settle(&mut self, host: usize) {
        if self.hosts[host].paused {
            return;
        }
        let now = self.clock(host);
        let mut idle = 0;
        for _ in 0..TURNS {
            let mut progress = self.flush(host);
            progress |= self.pump(host);
            progress |= self.flush(host);
            self.hosts[host].machine.transmit(now, &mut self.outbox);
            progress |= self.flush(host);
            if let Some(request) = self.hosts[host].machine.request() {
                self.answer(host, request);
                progress = true;
            }
            if progress {
                idle = 0;
                continue;
            }
            match self.hosts[host].machine.wake() {
                Some((at, why)) if at <= now => {
                    idle += 1;
                    if idle > IDLE_WAKES {
                        return self.give_up(host, Some(why));
                    }
                    self.network.log.event(self.now, &Event::Woken { host, why });
                    self.hosts[host].machine.handle(now, Input::Wake, &mut self.outbox);
                }
                wake => return self.schedule(host, wake.map(|(at, _)| at)),
            }
        }
        let why = self.hosts[host].machine.wake().filter(|(at, _)| *at <= now).map(|(_, why)| why);
        self.give_up(host, why);
    }

    fn give_up(&mut self, host: usize, why: Option<Wake>) {
        let name = self.hosts[host].name.clone();
        self.stuck.get_or_insert(Stuck::Busy { host, name, at: self.now, why });
    }

    /// Sees to it that the host is looked at again at `at` at the latest. An earlier look is harmless, so a wake-up that
    /// moves later costs nothing.
    fn schedule(&mut self, host: usize, at: Option<Instant>) {
        let Host { wake_at, ahead, .. } = &mut self.hosts[host];
        // By the world's clock; what is never stays so.
        let at = at.filter(|at| *at < Instant::FAR).map(|at| Instant(at.0.saturating_sub_signed(*ahead)).max(self.now));
        if let Some(at) = at.filter(|at| *at < wake_at.unwrap_or(Instant::FAR)) {
            *wake_at = Some(at);
            self.network.queue.push(at, Due::Wake { host: host as u32 });
        }
    }

    /// Puts what is in the outbox on the host's link. Whether there was anything.
    fn flush(&mut self, host: usize) -> bool {
        let any = !self.outbox.is_empty();
        let state = &mut self.hosts[host];
        for (transmit, bytes) in self.outbox.sends() {
            if let Via::Stream(id) = transmit.via
                && Self::write(state, id, bytes)
            {
                continue;
            }
            let Some((socket, from, to, hop_limit)) = way_out(transmit, state) else {
                self.network.log.event(self.now, &Event::Unsendable { host, len: bytes.len() });
                continue;
            };
            let Transmit { ecn, segment, .. } = *transmit;
            for bytes in bytes.chunks(segment.map_or(bytes.len(), usize::from).max(1)) {
                let datagram = Datagram { host, socket, from, to, ecn, hop_limit, tcp: false, bytes };
                self.network.send(self.now, state.attachment, &datagram);
            }
        }
        self.outbox.clear();
        any
    }

    /// Answers a request as a driver would. There are sockets and streams; there is no port mapping.
    fn answer(&mut self, host: usize, request: Request) {
        let now = self.clock(host);
        match request {
            Request::Connect { id, to } => return self.connect(host, id, to),
            Request::Close(id) => return self.disconnect(host, id),
            _ => {}
        }
        let ip = self.hosts[host].main_ip();
        let Host { machine, sockets, next_port, .. } = &mut self.hosts[host];
        let input = match request {
            Request::OpenSocket { id, .. } => {
                let taken = sockets.iter().any(|open| open.id == id);
                if taken || sockets.len() > MAX_SOCKETS {
                    Input::Socket(id, SocketInput::Failed)
                } else {
                    let port = *next_port;
                    *next_port = next_port.checked_add(1).unwrap_or(FIRST_EXTRA_PORT);
                    sockets.push(Socket { id, port, second: false });
                    self.network.log.event(self.now, &Event::SocketOpened { host, socket: id, port });
                    let local = SocketAddr::new(ip, port);
                    Input::Socket(id, SocketInput::Opened { local, max_segments: SEGMENTS })
                }
            }
            Request::CloseSocket(id) => {
                sockets.retain(|open| open.id != id);
                Input::Socket(id, SocketInput::Closed)
            }
            Request::Connect { .. } | Request::Close(_) => return,
            Request::MapPort(socket) => Input::PortMapped { socket, external: None },
        };
        machine.handle(now, input, &mut self.outbox);
    }

    /// What a host takes for now.
    fn clock(&self, host: usize) -> Instant {
        Instant(self.now.0.saturating_add_signed(self.hosts[host].ahead))
    }
}

/// By which socket and address a transmit leaves, where to, and with which hop limit; `None` if it cannot.
fn way_out(transmit: &Transmit, host: &Host) -> Option<(SocketId, SocketAddr, SocketAddr, Option<u8>)> {
    let Via::Datagram { socket, to, hop_limit, .. } = transmit.via else { return None };
    let socket = host.sockets.iter().find(|open| open.id == socket)?;
    // Scope ids and flow labels mean nothing here.
    let to = match to {
        SocketAddr::V6(to) => SocketAddrV6::new(*to.ip(), to.port(), 0, 0).into(),
        v4 => v4,
    };
    Some((socket.id, host.source_of(socket, to.is_ipv6())?, to, hop_limit))
}

/// By what a host is named: its IPv4 address if it has one.
fn main_ip(families: Families, address: Ipv4Addr, ipv6: Option<Ipv6Addr>) -> IpAddr {
    if families.has_v4() { address.into() } else { ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED).into() }
}

/// The seed of the machine that a host starts with for the `incarnation`-th time.
fn machine_seed(seed: u64, host: usize, incarnation: u32) -> [u8; 32] {
    let mut out = [0; 32];
    stream(seed, Label::Machine, (host as u64) << 32 | u64::from(incarnation)).fill_bytes(&mut out);
    out
}
