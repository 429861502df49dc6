//! A server that lets everybody in, and its clients, driven in turn; what each of them saw.

use crate::adapter::{Adapter, AnyClient, AnyServer};
use posse::rooms::Host;
use posse::{
    Channel, ClientEvent, ClientOptions, GroupId, JoinOutcome, LeaveReason, Path, PeerId, ServerEvent, ServerOptions,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) const APP: u64 = 7;
pub(crate) const CHAT: Channel = Channel::reliable(0);
/// Far longer than anything here takes, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that happens to one end, messages with their bytes.
pub(crate) type Seen<E> = Vec<(E, Vec<u8>)>;

pub(crate) struct Scene<A: Adapter> {
    pub(crate) server: Option<A::Server>,
    pub(crate) clients: Vec<Option<A::Client>>,
    pub(crate) at_server: Seen<ServerEvent>,
    pub(crate) at_clients: Vec<Seen<ClientEvent>>,
    /// Clients whose events nobody takes.
    pub(crate) deaf: Vec<usize>,
}

pub(crate) fn server<A: Adapter>(ip: IpAddr) -> A::Server {
    A::bind(SocketAddr::new(ip, 0), ServerOptions::new([9; 32], APP)).unwrap()
}

pub(crate) fn options(server: &impl AnyServer) -> ClientOptions {
    ClientOptions::new(server.local_addr(), server.public_key(), APP)
}

impl<A: Adapter> Scene<A> {
    /// `clients` that are logged in.
    pub(crate) fn new(clients: usize) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), clients)
    }

    pub(crate) fn at(ip: IpAddr, clients: usize) -> Self {
        let server = server::<A>(ip);
        let clients: Vec<_> = (0..clients)
            .map(|i| Some(A::connect(options(&server).token(format!("client {i}")).bind((ip, 0).into())).unwrap()))
            .collect();
        let at_clients = clients.iter().map(|_| Vec::new()).collect();
        let mut scene = Self { server: Some(server), clients, at_server: Vec::new(), at_clients, deaf: Vec::new() };
        scene.run(|s| s.clients.iter().flatten().all(|c| c.id().is_some()));
        scene
    }

    /// The same, in one group, and everyone knows of everyone.
    pub(crate) fn grouped(clients: usize) -> (Self, GroupId) {
        let mut scene = Self::new(clients);
        let group = scene.group();
        (scene, group)
    }

    pub(crate) fn group(&mut self) -> GroupId {
        let ids = self.ids();
        let group = self.server().group(&ids);
        let completed = |e: &ServerEvent| matches!(e, ServerEvent::JoinCompleted { outcome: JoinOutcome::Ok, .. });
        self.run(|s| s.at_server.iter().filter(|(e, _)| completed(e)).count() == ids.len());
        group
    }

    /// Drives everything until `done`.
    pub(crate) fn run(&mut self, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "not in time: {:?} {:?}", self.at_server, self.at_clients);
            self.turn();
        }
    }

    /// Drives everything for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut payload = Vec::new();
        if let Some(server) = &mut self.server {
            while let Some(event) = server.next(&mut payload) {
                if let ServerEvent::LoginRequested { login, token, .. } = &event {
                    server.accept(*login, token, b"come in").unwrap();
                }
                self.at_server.push((event, payload.clone()));
            }
        }
        for (i, (client, seen)) in self.clients.iter_mut().zip(&mut self.at_clients).enumerate() {
            let Some(client) = client.as_mut().filter(|_| !self.deaf.contains(&i)) else { continue };
            while let Some(event) = client.next(&mut payload) {
                seen.push((event, payload.clone()));
            }
        }
    }

    pub(crate) fn server(&mut self) -> &mut A::Server {
        self.server.as_mut().unwrap()
    }

    pub(crate) fn client(&mut self, i: usize) -> &mut A::Client {
        self.clients[i].as_mut().unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.clients.iter().flatten().map(|c| c.id().unwrap()).collect()
    }

    /// The messages that a client got.
    pub(crate) fn texts(&self, client: usize) -> Vec<&[u8]> {
        let messages = self.at_clients[client].iter().filter(|(e, _)| matches!(e, ClientEvent::Message(_)));
        messages.map(|(_, bytes)| &bytes[..]).collect()
    }

    /// Whether a client saw the end of another's membership, and that for the reason that its session ended.
    pub(crate) fn saw_leave(&self, client: usize, who: PeerId) -> bool {
        let left = |e: &ClientEvent| matches!(e, ClientEvent::MemberLeft { member, why: LeaveReason::Disconnected, .. } if *member == who);
        self.at_clients[client].iter().any(|(e, _)| left(e))
    }

    pub(crate) fn is_direct(&self) -> bool {
        let direct = |c: &A::Client| c.peers().iter().all(|p| matches!(p.path, Path::Direct { .. }));
        self.clients.iter().flatten().all(direct)
    }
}
