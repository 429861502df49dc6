//! What `posse nat` and `posse ping` have in common: a short session with the stock server, in a room of its own.

use crate::join::{login_failed, refused, resolve};
use crate::key;
use crate::ticket::Sealed;
use posse::rooms::{self, Answer, Question, Room, RoomEvent};
use posse::{Channel, Client, ClientEvent, ClientOptions, PeerId, SendError, os_seed};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Where the server is, and its key.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Where the server is.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// Its public key, as `posse serve` prints it.
    #[arg(long, value_name = "K", value_parser = key::parse)]
    pub(crate) server_key: [u8; 32],
    /// What a login server, or `posse ticket`, gave for this server. It is good once.
    #[arg(long, value_name = "T", value_parser = Sealed::parse)]
    ticket: Option<Sealed>,
}

/// A session with the server.
pub(crate) struct Asking {
    pub(crate) server: SocketAddr,
    /// From the first packet to the end of the handshake.
    pub(crate) handshake: Duration,
    client: Client,
    room: Room,
    payload: Vec<u8>,
}

impl Asking {
    /// Logs in, or says why not.
    pub(crate) fn begin(target: &Target) -> Result<Self, String> {
        let server = resolve(&target.server)?;
        // Nobody else is to be in this room.
        let number = os_seed().map_err(|e| e.to_string())?;
        let name = format!("one of its own {}", key::hex(&number).split_at(16).0);
        let room = Room::new(name, "guest").map_err(|e| e.to_string())?;
        let mut options = ClientOptions::new(server, target.server_key, rooms::APP).token(room.token());
        options.ticket = Sealed::bytes(target.ticket.as_ref());
        let start = Instant::now();
        let client = Client::connect(options).map_err(|e| e.to_string())?;
        let mut asking = Self { server, handshake: Duration::ZERO, client, room, payload: Vec::new() };
        while asking.client.id().is_none() {
            // What it must not miss is only that it failed, which comes as an error.
            asking.hear(Duration::from_secs(1), |_| ())?;
        }
        asking.handshake = start.elapsed();
        Ok(asking)
    }

    /// The address that this host talks to the server from.
    pub(crate) fn own(&self) -> SocketAddr {
        let bound = self.client.local_addr();
        // A socket of both families talks to an IPv4 server by IPv4.
        let ipv4 = bound.ip().is_unspecified() && self.server.is_ipv4();
        let any = SocketAddr::new(if ipv4 { std::net::Ipv4Addr::UNSPECIFIED.into() } else { bound.ip() }, 0);
        // Connecting a UDP socket sends nothing: it only asks the routing table.
        let probe = UdpSocket::bind(any).and_then(|s| s.connect(self.server).and_then(|()| s.local_addr()));
        probe.map_or(bound, |own| SocketAddr::new(own.ip(), bound.port()))
    }

    /// Puts a question.
    pub(crate) fn ask(&mut self, channel: Channel, question: &Question<'_>) -> Result<(), SendError> {
        self.client.send(PeerId::SERVER, channel, &question.encode())?;
        self.client.flush();
        Ok(())
    }

    /// Waits, `max` at most, until something comes, and shows `see` the server's answers.
    pub(crate) fn hear(&mut self, max: Duration, mut see: impl FnMut(Answer<'_>)) -> Result<(), String> {
        self.client.wait(max);
        self.client.update().map_err(|e| e.to_string())?;
        while let Some(event) = self.client.next_event(&mut self.payload) {
            if let ClientEvent::Message(message) = &event
                && message.from == PeerId::SERVER
                && let Some(answer) = Answer::parse(&self.payload)
            {
                see(answer);
            }
            match self.room.hear(event) {
                RoomEvent::Refused(why) => return Err(refused(why, self.room.name())),
                RoomEvent::LoginFailed(why) => return Err(login_failed(&why, self.server)),
                RoomEvent::Ended(why) => return Err(format!("the session with the server is over: {why:?}")),
                _ => {}
            }
        }
        Ok(())
    }
}
