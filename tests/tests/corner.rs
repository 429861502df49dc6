//! Any order is legal: packets doubled and out of order, outboxes too small, time that stands still, jumps or runs
//! backward, commands that make no sense. Nothing panics or hangs, every wake-up is finite, and once things are normal
//! again nothing reliable is missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::server::GroupOptions;
use posse_core::{
    Channel, Class, Client, ClientEvent, Command, Ecn, GroupId, Input, Instant, LoginId, Machine, Outbox, PeerId,
    SendFailure, SendOptions, Server, ServerEvent, SocketId, SocketInput, Target, To, Via,
};
use posse_tests::{APP, SERVER_KEY};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

const SERVER: usize = 2;
/// Packets that may be under way; beyond it the oldest are lost.
const UNDER_WAY: usize = 200;

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([5, 0, 0, 1 + place as u8], 4000))
}

struct Packet {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

/// Two clients, a server, and the packets between them.
struct Three {
    now: Instant,
    clients: [Client; 2],
    server: Server,
    under_way: VecDeque<Packet>,
    /// An outbox with plenty of room, since most calls get one.
    plenty: Option<Outbox>,
    group: GroupId,
    ids: Vec<PeerId>,
    /// By receiver: the numbers in the messages that its peer sent to it alone.
    got: [Vec<u64>; 2],
    sent: [u64; 2],
}

/// The room of an outbox: bytes, sends and segments.
type Room = (usize, usize, u16);

const PLENTY: Room = (64 * 1024, 64, 8);

impl Three {
    fn new() -> Self {
        let now = Instant::from_millis(1_000);
        let key = posse_core::secure::public_key(&SERVER_KEY);
        let client = |n: u8| Client::new(now, ClientConfig::new(address(SERVER), key, APP, [n; 32])).unwrap();
        let server = Server::new(now, ServerConfig::new(SERVER_KEY, APP, [3; 32])).unwrap();
        let (clients, under_way, plenty, group) = ([client(1), client(2)], VecDeque::new(), None, GroupId::new(0, 1));
        let mut three = Self {
            now,
            clients,
            server,
            under_way,
            plenty,
            group,
            ids: Vec::new(),
            got: [vec![], vec![]],
            sent: [0; 2],
        };
        three.run(Duration::from_secs(1));
        three
    }

    /// In one group as well.
    fn grouped() -> Self {
        let mut three = Self::new();
        three.ids = three.clients.iter().map(|c| c.id().unwrap()).collect();
        three.group = three.server.create_group(three.now, &three.ids, GroupOptions::default()).unwrap();
        three.run(Duration::from_secs(1));
        assert!(three.clients.iter().all(|c| c.peers().count() == 1));
        three
    }

    fn machine(&mut self, place: usize) -> &mut dyn Machine {
        if place == SERVER { &mut self.server } else { &mut self.clients[place] }
    }

    /// One call of a machine, with an outbox of that room; what it wrote is under way.
    fn call(&mut self, place: usize, room: Room, call: impl FnOnce(&mut dyn Machine, &mut Outbox)) {
        let (bytes, sends, segments) = room;
        let mut out =
            self.plenty.take().filter(|_| room == PLENTY).unwrap_or_else(|| Outbox::with_capacity(bytes, sends));
        out.set_max_segments(segments);
        call(self.machine(place), &mut out);
        for (transmit, bytes) in out.sends() {
            let Via::Datagram { to, .. } = transmit.via else { continue };
            let Some(to) = (0..3).find(|n| address(*n) == to) else { continue };
            for bytes in bytes.chunks(transmit.segment.map_or(bytes.len(), usize::from)) {
                self.under_way.push_back(Packet { from: place, to, bytes: bytes.to_vec() });
            }
        }
        while self.under_way.len() > UNDER_WAY {
            self.under_way.pop_front();
        }
        if room == PLENTY {
            out.clear();
            self.plenty = Some(out);
        }
    }

    fn deliver(&mut self, at: Instant, which: usize, keep: bool, room: Room) {
        let Some(packet) = self.under_way.get(which) else { return };
        let (from, to, mut bytes) = (address(packet.from), packet.to, packet.bytes.clone());
        if !keep {
            self.under_way.remove(which);
        }
        let (socket, stride) = (SocketId::MAIN, bytes.len());
        let input = Input::Datagrams { socket, from, local: None, ecn: Ecn::Ect0, stride, bytes: &mut bytes };
        self.call(to, room, |machine, out| machine.handle(at, input, out));
    }

    fn poll(&mut self, at: Instant, place: usize) {
        let mut payload = Vec::new();
        if place == SERVER {
            while let Some(event) = self.server.poll_event(at, &mut payload) {
                if let ServerEvent::LoginRequested { login, .. } = event {
                    let _ = self.server.accept(at, login, b"", b"");
                }
            }
            return;
        }
        while let Some(event) = self.clients[place].poll_event(at, &mut payload) {
            if let ClientEvent::Message(message) = event
                && message.group.is_none()
                && let Ok(number) = payload[..].try_into()
            {
                self.got[place].push(u64::from_be_bytes(number));
            }
        }
    }

    /// A client sends a number to the other.
    fn send(&mut self, at: Instant, from: usize) {
        let (to, number) = (To::Peer(self.ids[1 - from]), self.sent[from].to_be_bytes());
        let sent = self.clients[from].send(at, to, Channel::reliable(0), &number, SendOptions::default());
        self.sent[from] += u64::from(sent.is_ok());
    }

    /// As drivers should: everything arrives in order 5 ms later, everyone polls, outboxes have room.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(5);
            for _ in 0..self.under_way.len() {
                self.deliver(self.now, 0, false, PLENTY);
            }
            for place in 0..3 {
                self.poll(self.now, place);
                let now = self.now;
                self.call(place, PLENTY, |machine, out| machine.transmit(now, out));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver {
        which: usize,
        keep: bool,
        room: Room,
    },
    Lose(usize),
    Transmit(usize, Room),
    Wake(usize, Room),
    Poll(usize),
    Send(usize),
    /// Time for the calls that follow.
    Time(Time),
    /// Inputs that a driver may make up.
    Odd(usize, u8),
    Command(usize, Box<Command>),
}

#[derive(Clone, Copy, Debug)]
enum Time {
    Later(u64),
    Earlier(u64),
    Zero,
    Year,
    Far,
}

fn room() -> impl Strategy<Value = Room> {
    let bytes = prop_oneof![Just(0), 1..1_300usize, 1_199..1_202usize, 1_200..10_000usize];
    (bytes, 0..4usize, 0..4u16)
}

/// What bends nothing for good.
fn gentle() -> impl Strategy<Value = Step> {
    let place = 0..3usize;
    prop_oneof![
        8 => (0..40usize, any::<bool>(), room()).prop_map(|(which, keep, room)| Step::Deliver { which, keep, room }),
        1 => (0..40usize).prop_map(Step::Lose),
        6 => (place.clone(), room()).prop_map(|(p, room)| Step::Transmit(p, room)),
        2 => (place.clone(), room()).prop_map(|(p, room)| Step::Wake(p, room)),
        3 => place.clone().prop_map(Step::Poll),
        4 => (0..2usize).prop_map(Step::Send),
        3 => (0..60u64).prop_map(|ms| Step::Time(Time::Later(ms))),
        1 => (0..400u64).prop_map(|ms| Step::Time(Time::Earlier(ms))),
        1 => (place, 0..6u8).prop_map(|(p, which)| Step::Odd(p, which)),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let peer = || (0..3u32, 0..3u32).prop_map(|(slot, generation)| PeerId::new(slot, generation));
    let group = || (0..2u32, 0..3u32).prop_map(|(slot, generation)| GroupId::new(slot, generation));
    let login = || (0..3u32, 0..3u32).prop_map(|(slot, generation)| LoginId::new(slot, generation));
    let bytes = || prop_oneof![4 => 0..2_000usize, 1 => Just(65_537), 1 => Just(65_536)].prop_map(|len| vec![7; len]);
    let target = prop_oneof![peer().prop_map(Target::Peer), group().prop_map(Target::Group)];
    let class = (0..3usize).prop_map(|n| Class::ALL[n]);
    let options = (any::<bool>(), class, proptest::option::of(0..3u32), proptest::option::of(0..50u64));
    let options = options.prop_map(|(loopback, class, replaces, deadline)| {
        let mut options = SendOptions::default().class(class);
        (options.loopback, options.replaces) = (loopback, replaces);
        options.deadline = deadline.map(Duration::from_millis);
        options
    });
    prop_oneof![
        6 => (target, any::<u8>(), bytes(), options)
            .prop_map(|(to, channel, bytes, options)| Command::Send { to, channel: Channel(channel), bytes, options }),
        1 => peer().prop_map(|client| Command::Disconnect { client }),
        1 => (login(), bytes(), bytes())
            .prop_map(|(login, user_data, message)| Command::Accept { login, user_data, message }),
        1 => (login(), bytes()).prop_map(|(login, message)| Command::Reject { login, message }),
        2 => (proptest::collection::vec(peer(), 0..4), bytes())
            .prop_map(|(members, message)| Command::CreateGroup {
                members,
                message,
                rules: posse_core::GroupRules::default(),
                policy: None,
            }),
        2 => (peer(), group(), bytes()).prop_map(|(member, group, message)| Command::Join { member, group, message }),
        2 => (peer(), group()).prop_map(|(member, group)| Command::Leave { member, group }),
        1 => group().prop_map(|group| Command::DestroyGroup { group }),
    ]
}

fn anything() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => gentle(),
        3 => (0..3usize, command()).prop_map(|(place, command)| Step::Command(place, Box::new(command))),
        1 => prop_oneof![
            4 => (0..100_000u64).prop_map(Time::Later),
            4 => (0..100_000u64).prop_map(Time::Earlier),
            1 => Just(Time::Zero),
            1 => Just(Time::Year),
            1 => Just(Time::Far),
        ].prop_map(Step::Time),
    ]
}

impl Three {
    /// Takes a step at `at`, which it may move.
    fn take(&mut self, step: &Step, at: &mut Instant) {
        let now = *at;
        match step {
            Step::Deliver { which, keep, room } => self.deliver(now, *which, *keep, *room),
            Step::Lose(which) => drop(self.under_way.remove(*which)),
            Step::Transmit(place, room) => self.call(*place, *room, |m, out| m.transmit(now, out)),
            Step::Wake(place, room) => self.call(*place, *room, |m, out| m.handle(now, Input::Wake, out)),
            Step::Poll(place) => self.poll(now, *place),
            Step::Send(from) => self.send(now, *from),
            Step::Time(time) => {
                *at = match *time {
                    Time::Later(ms) => now + Duration::from_millis(ms),
                    Time::Earlier(ms) => now - Duration::from_millis(ms),
                    Time::Zero => Instant::ZERO,
                    Time::Year => now + Duration::from_secs(365 * 24 * 3_600),
                    Time::Far => Instant::FAR,
                }
            }
            Step::Odd(place, which) => self.odd(now, *place, *which),
            Step::Command(SERVER, command) => drop(self.server.execute(now, command)),
            Step::Command(client, command) => drop(self.clients[*client].execute(now, command)),
        }
    }

    fn odd(&mut self, now: Instant, place: usize, which: u8) {
        let (socket, to) = (SocketId::MAIN, address(1));
        let input = match which {
            0 => Input::SendFailed { socket, to, size: 1_200, why: SendFailure::Unreachable },
            1 => Input::Socket(SocketId(9), SocketInput::Closed),
            2 => Input::Socket(socket, SocketInput::Opened { local: address(place), max_segments: 0 }),
            3 => Input::Interfaces(&[]),
            4 => Input::Entropy(&[5; 32]),
            _ => Input::UnixTime(Duration::MAX),
        };
        self.call(place, PLENTY, |machine, out| machine.handle(now, input, out));
        assert_eq!(self.machine(place).request(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_called_in_whatever_order_nothing_panics_and_every_wake_up_is_finite(
        grouped: bool, steps in proptest::collection::vec(anything(), 1..150),
    ) {
        let mut three = if grouped { Three::grouped() } else { Three::new() };
        three.ids.resize(2, PeerId::new(0, 1));
        let (mut at, mut latest) = (three.now, three.now);
        for step in &steps {
            three.take(step, &mut at);
            latest = latest.max(at);
            for place in 0..3 {
                if let Some((wake, _)) = three.machine(place).wake() {
                    // A year is more than any timer, and nothing comes after the end of time.
                    let year = latest + Duration::from_secs(365 * 24 * 3_600);
                    prop_assert!(wake < Instant::FAR || year == Instant::FAR, "{step:?}");
                    prop_assert!(wake <= year, "{step:?}");
                }
            }
        }
    }

    #[test]
    fn small_outboxes_reordering_loss_and_steps_back_in_time_lose_repeat_and_reorder_nothing_reliable(
        steps in proptest::collection::vec(gentle(), 1..300),
    ) {
        let mut three = Three::grouped();
        let mut at = three.now;
        for step in &steps {
            three.take(step, &mut at);
            three.now = three.now.max(at);
        }
        three.run(Duration::from_secs(8));
        for to in 0..2 {
            let all: Vec<u64> = (0..three.sent[1 - to]).collect();
            prop_assert_eq!(&three.got[to], &all);
        }
    }
}
