//! What kind of NAT is in between, found out from outside and inside alone, in the manner of RFC 5780.
//!
//! Two [`Reflector`]s stand for the two addresses of a STUN server with two ports each. A [`Classifier`] behind the NAT asks
//! three of the four endpoints how they see its one socket (§4.3, mapping), and by another socket asks one of them to have
//! it answered from elsewhere (§4.4, filtering).
//!
//! | Message | Bytes | From, to |
//! |---|---|---|
//! | ask | 1, number, 1 if another address is to answer, 1 if another port | classifier → reflector |
//! | pass on | 2, number, 1 if another port is to answer, IPv4 address, port | reflector → the other |
//! | answer | 3, number, IPv4 address, port as they were seen | reflector → classifier |

use crate::nat::{Filtering, Mapping};
use posse_core::{Input, Instant, Machine, Outbox, Request, SocketId, SocketInput, Tap, Transmit, Wake, datagrams};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

const ASK: u8 = 1;
const PASS_ON: u8 = 2;
const ANSWER: u8 = 3;

/// The second socket of either.
const SECOND: SocketId = SocketId(1);
/// What it is asked for with.
const OPEN: Request = Request::OpenSocket { id: SECOND, like: SocketId::MAIN };
/// Messages that wait for room; further ones are dropped.
const MAX_WAITING: usize = 64;

/// What either machine has to send, and whether it has its second socket.
#[derive(Default)]
struct Desk {
    waiting: VecDeque<(SocketId, SocketAddr, Vec<u8>)>,
    asked: bool,
}

impl Desk {
    fn push(&mut self, by: SocketId, to: SocketAddr, message: Vec<u8>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((by, to, message));
        }
    }

    fn transmit(&mut self, out: &mut Outbox) {
        while let Some((by, to, message)) = self.waiting.front() {
            let Some(room) = out.reserve(message.len()) else { return };
            room.copy_from_slice(message);
            out.commit(message.len(), Transmit::datagram(*by, *to));
            self.waiting.pop_front();
        }
    }

    fn request(&mut self) -> Option<Request> {
        (!std::mem::replace(&mut self.asked, true)).then_some(OPEN)
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        (!self.waiting.is_empty()).then_some((Instant::ZERO, Wake::Now))
    }
}

/// One address of the server, with two ports.
#[derive(Default)]
pub struct Reflector {
    other: Option<SocketAddr>,
    desk: Desk,
}

impl Reflector {
    /// One whose other address is yet to be told.
    pub fn new() -> Self {
        Self::default()
    }

    /// The main socket of the server's other address.
    pub fn set_other(&mut self, other: SocketAddr) {
        self.other = Some(other);
    }

    fn message(&mut self, by: SocketId, from: SocketAddr, message: &[u8]) {
        let elsewhere = |port: u8| if port == 1 { other_socket(by) } else { by };
        match (message, from) {
            (&[ASK, number, 0, port], SocketAddr::V4(seen)) => {
                self.desk.push(elsewhere(port), from, with_address(&[ANSWER, number], seen));
            }
            (&[ASK, number, _, port], SocketAddr::V4(seen)) => {
                if let Some(other) = self.other {
                    self.desk.push(SocketId::MAIN, other, with_address(&[PASS_ON, number, port], seen));
                }
            }
            (&[PASS_ON, number, port, a, b, c, d, high, low], _) => {
                let seen = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
                self.desk.push(elsewhere(port), seen.into(), with_address(&[ANSWER, number], seen));
            }
            _ => {}
        }
    }
}

fn other_socket(socket: SocketId) -> SocketId {
    if socket == SocketId::MAIN { SECOND } else { SocketId::MAIN }
}

fn with_address(head: &[u8], address: SocketAddrV4) -> Vec<u8> {
    [head, &address.ip().octets(), &address.port().to_be_bytes()].concat()
}

/// Asks, and draws the conclusion.
pub struct Classifier {
    /// First address with its first port, second address with its first and its second port.
    servers: [SocketAddr; 3],
    /// As which the servers saw its main socket.
    seen: [Option<SocketAddrV4>; 3],
    /// Whether it heard, by its second socket, from another address, and from another port.
    heard: [bool; 2],
    desk: Desk,
}

impl Classifier {
    /// One that asks these: the first address, the second by its first and by its second port.
    pub fn new(servers: [SocketAddr; 3]) -> Self {
        Self { servers, seen: [None; 3], heard: [false; 2], desk: Desk::default() }
    }

    /// What lies in between; `None` until all have answered how they see it. Who has not been heard by then counts as
    /// filtered, so give it time.
    pub fn verdict(&self) -> Option<(Mapping, Filtering)> {
        let [Some(first), Some(second), Some(third)] = self.seen else { return None };
        let mapping = match (first == second, second == third) {
            (true, true) => Mapping::EndpointIndependent,
            (_, true) => Mapping::AddressDependent,
            (_, false) => Mapping::AddressAndPortDependent,
        };
        let filtering = match self.heard {
            [true, _] => Filtering::EndpointIndependent,
            [false, true] => Filtering::AddressDependent,
            [false, false] => Filtering::AddressAndPortDependent,
        };
        Some((mapping, filtering))
    }

    fn ask(&mut self) {
        for (number, to) in (0..).zip(self.servers) {
            self.desk.push(SocketId::MAIN, to, vec![ASK, number, 0, 0]);
        }
        // Both by one socket and to one endpoint, so that nothing else is ever admitted.
        self.desk.push(SECOND, self.servers[0], vec![ASK, 10, 1, 1]);
        self.desk.push(SECOND, self.servers[0], vec![ASK, 11, 0, 1]);
    }

    fn answer(&mut self, by: SocketId, message: &[u8]) {
        let [ANSWER, number, a, b, c, d, high, low] = *message else { return };
        let seen = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        match (by, number) {
            (SocketId::MAIN, 0..=2) => self.seen[usize::from(number)] = Some(seen),
            (SECOND, 10 | 11) => self.heard[usize::from(number - 10)] = true,
            _ => {}
        }
    }
}

impl Machine for Reflector {
    fn handle(&mut self, _: Instant, input: Input<'_>, out: &mut Outbox) {
        let Input::Datagrams { socket, from, stride, bytes, .. } = input else { return };
        for message in datagrams(stride, bytes) {
            self.message(socket, from, message);
        }
        self.desk.transmit(out);
    }

    fn transmit(&mut self, _: Instant, out: &mut Outbox) {
        self.desk.transmit(out);
    }

    fn request(&mut self) -> Option<Request> {
        self.desk.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.desk.wake()
    }

    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}

impl Machine for Classifier {
    fn handle(&mut self, _: Instant, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Socket(SECOND, SocketInput::Opened { .. }) => self.ask(),
            Input::Datagrams { socket, stride, bytes, .. } => {
                datagrams(stride, bytes).for_each(|message| self.answer(socket, message));
            }
            _ => {}
        }
        self.desk.transmit(out);
    }

    fn transmit(&mut self, _: Instant, out: &mut Outbox) {
        self.desk.transmit(out);
    }

    fn request(&mut self) -> Option<Request> {
        self.desk.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        self.desk.wake()
    }

    fn tap(&mut self, _: Option<Box<dyn Tap>>) {}
}
