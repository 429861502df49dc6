//! The adapters, as the scenarios see them: calls that drive whatever has to be driven for a moment.

use posse::rooms::Host;
use posse::{
    Channel, Client, ClientEvent, ClientOptions, ConnectError, GroupId, GroupOptions, Leg, LegReason, PeerId, PeerView,
    SendError, Sent, ServeError, Server, ServerEvent, ServerOptions, To,
};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a call that found nothing drives on.
const MOMENT: Duration = Duration::from_millis(1);

pub(crate) trait Adapter {
    type Client: AnyClient;
    type Server: AnyServer;
    fn connect(options: ClientOptions) -> Result<Self::Client, ConnectError>;
    fn bind(addr: SocketAddr, options: ServerOptions) -> Result<Self::Server, ServeError>;
}

pub(crate) trait AnyClient {
    /// The next event, or drives for a moment.
    fn next(&mut self, payload: &mut Vec<u8>) -> Option<ClientEvent>;
    fn try_send(&mut self, to: To, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError>;
    /// Sends as a program would that wants it to be sent, however long that takes; `false` if there was no room in time.
    fn send_within(&mut self, time: Duration, to: To, channel: Channel, bytes: &[u8]) -> bool;
    fn close(&mut self);
    fn id(&self) -> Option<PeerId>;
    fn peers(&self) -> Vec<PeerView>;
    fn members(&self, group: GroupId) -> Vec<PeerId>;
    fn datagrams_sent(&self) -> u64;
    fn leg(&self) -> (Leg, Option<LegReason>);
}

pub(crate) trait AnyServer: Host {
    /// The next event, or drives for a moment.
    fn next(&mut self, payload: &mut Vec<u8>) -> Option<ServerEvent>;
    fn try_send(&mut self, to: PeerId, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError>;
    fn local_addr(&self) -> SocketAddr;
    fn public_key(&self) -> [u8; 32];
    fn leg(&self, client: PeerId) -> Option<Leg>;
    fn streams_refused(&self) -> u64;
    fn close(self);
    fn group(&mut self, members: &[PeerId]) -> GroupId {
        self.create_group(members, GroupOptions::default().message(b"go")).unwrap()
    }
}

pub(crate) struct GameLoop;

impl Adapter for GameLoop {
    type Client = Client;
    type Server = Server;
    fn connect(options: ClientOptions) -> Result<Client, ConnectError> {
        Client::connect(options)
    }
    fn bind(addr: SocketAddr, options: ServerOptions) -> Result<Server, ServeError> {
        Server::bind(addr, options)
    }
}

impl AnyClient for Client {
    fn next(&mut self, payload: &mut Vec<u8>) -> Option<ClientEvent> {
        self.update().unwrap();
        let event = self.next_event(payload);
        self.flush();
        if event.is_none() {
            self.wait(MOMENT);
        }
        event
    }
    fn try_send(&mut self, to: To, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        let sent = self.send(to, channel, bytes);
        self.flush();
        sent
    }
    fn send_within(&mut self, time: Duration, to: To, channel: Channel, bytes: &[u8]) -> bool {
        let start = std::time::Instant::now();
        while start.elapsed() < time {
            if self.try_send(to, channel, bytes).is_ok() {
                return true;
            }
            self.update().unwrap();
            self.wait(MOMENT);
        }
        false
    }
    fn close(&mut self) {
        self.disconnect();
    }
    fn id(&self) -> Option<PeerId> {
        self.id()
    }
    fn peers(&self) -> Vec<PeerView> {
        self.peers().collect()
    }
    fn members(&self, group: GroupId) -> Vec<PeerId> {
        self.members(group).collect()
    }
    fn datagrams_sent(&self) -> u64 {
        self.stats().sends
    }
    fn leg(&self) -> (Leg, Option<LegReason>) {
        self.leg()
    }
}

impl AnyServer for Server {
    fn next(&mut self, payload: &mut Vec<u8>) -> Option<ServerEvent> {
        self.update().unwrap();
        let event = self.next_event(payload);
        self.flush();
        if event.is_none() {
            self.wait(MOMENT);
        }
        event
    }
    fn try_send(&mut self, to: PeerId, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        let sent = self.send(to, channel, bytes);
        self.flush();
        sent
    }
    fn local_addr(&self) -> SocketAddr {
        self.local_addr()
    }
    fn public_key(&self) -> [u8; 32] {
        self.public_key()
    }
    fn leg(&self, client: PeerId) -> Option<Leg> {
        self.leg(client)
    }
    fn streams_refused(&self) -> u64 {
        self.counters().streams_refused
    }
    fn close(mut self) {
        for client in self.clients().collect::<Vec<_>>() {
            Server::disconnect(&mut self, client).unwrap();
        }
        let start = std::time::Instant::now();
        while !self.is_quiet() && start.elapsed() < Duration::from_secs(2) {
            self.update().unwrap();
            while self.next_event(&mut Vec::new()).is_some() {}
            self.wait(MOMENT);
        }
    }
}

#[cfg(feature = "tokio")]
pub(crate) use service::Tokio;

#[cfg(feature = "tokio")]
mod service {
    use super::*;
    use posse::asynchronous;
    use std::sync::LazyLock;
    use tokio::runtime::Runtime;
    use tokio::time::timeout;

    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

    pub(crate) struct Tokio;

    pub(crate) struct AsyncClient(asynchronous::Client, asynchronous::ClientEvents);
    pub(crate) struct AsyncServer(asynchronous::Server, asynchronous::ServerEvents);

    impl Adapter for Tokio {
        type Client = AsyncClient;
        type Server = AsyncServer;
        fn connect(options: ClientOptions) -> Result<AsyncClient, ConnectError> {
            let (client, events) = RUNTIME.block_on(asynchronous::Client::connect(options))?;
            Ok(AsyncClient(client, events))
        }
        fn bind(addr: SocketAddr, options: ServerOptions) -> Result<AsyncServer, ServeError> {
            let (server, events) = RUNTIME.block_on(asynchronous::Server::bind(addr, options))?;
            Ok(AsyncServer(server, events))
        }
    }

    impl AnyClient for AsyncClient {
        fn next(&mut self, payload: &mut Vec<u8>) -> Option<ClientEvent> {
            let event = RUNTIME.block_on(async { timeout(MOMENT, self.1.next()).await.ok().flatten() });
            payload.clear();
            payload.extend_from_slice(self.1.payload());
            event
        }
        fn try_send(&mut self, to: To, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
            self.0.try_send(to, channel, bytes)
        }
        fn send_within(&mut self, time: Duration, to: To, channel: Channel, bytes: &[u8]) -> bool {
            let sent = RUNTIME.block_on(async { timeout(time, self.0.send(to, channel, bytes)).await });
            sent.is_ok_and(|sent| sent.is_ok())
        }
        fn close(&mut self) {
            // Begun with the first poll, and done in the background.
            let _ = RUNTIME.block_on(async { timeout(Duration::ZERO, self.0.close()).await });
        }
        fn id(&self) -> Option<PeerId> {
            self.0.id()
        }
        fn peers(&self) -> Vec<PeerView> {
            self.0.peers()
        }
        fn members(&self, group: GroupId) -> Vec<PeerId> {
            self.0.members(group)
        }
        fn datagrams_sent(&self) -> u64 {
            self.0.stats().sends
        }
        fn leg(&self) -> (Leg, Option<LegReason>) {
            self.0.leg()
        }
    }

    impl AnyServer for AsyncServer {
        fn next(&mut self, payload: &mut Vec<u8>) -> Option<ServerEvent> {
            let event = RUNTIME.block_on(async { timeout(MOMENT, self.1.next()).await.ok().flatten() });
            payload.clear();
            payload.extend_from_slice(self.1.payload());
            event
        }
        fn try_send(&mut self, to: PeerId, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
            self.0.try_send(to, channel, bytes)
        }
        fn local_addr(&self) -> SocketAddr {
            self.0.local_addr()
        }
        fn public_key(&self) -> [u8; 32] {
            self.0.public_key()
        }
        fn leg(&self, client: PeerId) -> Option<Leg> {
            self.0.leg(client)
        }
        fn streams_refused(&self) -> u64 {
            self.0.counters().streams_refused
        }
        fn close(mut self) {
            RUNTIME.block_on(async {
                self.0.close().await;
                while self.1.next().await.is_some() {}
            });
        }
    }

    impl Host for AsyncServer {
        fn accept(
            &mut self,
            login: posse::LoginId,
            user_data: &[u8],
            message: &[u8],
        ) -> Result<PeerId, posse::AcceptError> {
            self.0.accept(login, user_data, message)
        }
        fn reject(&mut self, login: posse::LoginId, message: &[u8]) -> Result<(), posse::AcceptError> {
            self.0.reject(login, message)
        }
        fn disconnect(&mut self, client: PeerId) {
            self.0.disconnect(client).unwrap();
        }
        fn create_group(
            &mut self,
            members: &[PeerId],
            options: GroupOptions<'_>,
        ) -> Result<GroupId, posse::CreateGroupError> {
            self.0.create_group(members, options)
        }
        fn join_group(&mut self, member: PeerId, group: GroupId, message: &[u8]) -> Result<(), posse::JoinError> {
            self.0.join_group(member, group, message)
        }
    }
}
