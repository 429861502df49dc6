//! `posse join`: one client in one room of the stock server.
//!
//! It enters, says what it has to say (lines from standard input, or numbered messages at a steady pace), and leaves: it
//! tells each peer how many messages that one should have, waits a little for the same word of the others, and sums up.

mod account;
mod payload;
mod report;

use crate::key;
use crate::output::complain;
use crate::patience;
use crate::stop::Stop;
use crate::ticket::Sealed;
use account::Accounts;
use payload::Payload;
use posse::rooms::{self, Refusal, Room, RoomEvent};
use posse::{Channel, Client, ClientOptions, Leg, LoginFailure, Message, PeerId, Prefer, SendError, TicketRefusal};
use report::{Report, Who};
use std::io::{BufRead, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Everything goes here.
const CHANNEL: Channel = Channel::reliable(0);
/// How soon a signal that came between two waits is noticed, …
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// … and a line on standard input, which cannot wake the network's wait.
const CHAT_WAIT: Duration = Duration::from_millis(20);
/// Bytes of a line of chat; a longer one is several.
const MAX_LINE: u64 = 4096;
/// Lines that may wait to be sent.
const MAX_LINES: usize = 64;
/// How often the round trips of peers are taken down, for those who leave.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last words of others are waited for.
const LINGER: Duration = Duration::from_secs(2);
/// How long the own last word is repeated, should it be lost.
const GOODBYE: Duration = Duration::from_millis(1500);

/// What the client is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the server is.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// Its public key, as `posse serve` prints it.
    #[arg(long, value_name = "K", value_parser = key::parse)]
    server_key: [u8; 32],
    /// The room to join; it is made for the first who comes.
    #[arg(long, value_name = "R")]
    room: String,
    /// The name that others see.
    #[arg(long, value_name = "N")]
    name: String,
    /// Send each line of standard input to the room, and leave at its end (with --for: after that time).
    #[arg(long, conflicts_with = "every")]
    chat: bool,
    /// Send a numbered reliable message to the room every so many milliseconds.
    #[arg(long, value_name = "MS", value_parser = pace)]
    every: Option<Duration>,
    /// Bytes of each numbered message.
    #[arg(long, value_name = "B", default_value_t = 64, requires = "every",
          value_parser = clap::value_parser!(u32).range(payload::HEAD as i64..=65_536))]
    size: u32,
    /// Leave after so many seconds in the room; without, at a signal.
    #[arg(long = "for", value_name = "SECONDS", value_parser = length)]
    length: Option<Duration>,
    /// A server that is silent for so many seconds is gone; 90 unless given.
    #[arg(long, value_name = "SECONDS", value_parser = patience::parse)]
    patience: Option<Duration>,
    /// Which ways traffic with peers may go.
    #[arg(long, value_enum, default_value_t = Policy::Auto)]
    policy: Policy,
    /// What a login server, or `posse ticket`, gave for this server. It is good once.
    #[arg(long, value_name = "T", value_parser = Sealed::parse)]
    ticket: Option<Sealed>,
    /// Record the session in a new file: `cargo sim replay FILE` has it happen again. It holds all keys and messages.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Which ways traffic with peers may go.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    /// By the relay at once, direct as soon as it can.
    Auto,
    /// By the relay alone.
    RelayOnly,
    /// Unreliable messages never by the relay: they are dropped while there is no direct way.
    DirectOnly,
    /// Whichever is faster.
    Fastest,
}

impl Policy {
    fn prefer(self) -> Prefer {
        match self {
            Self::Auto => Prefer::Direct,
            Self::RelayOnly => Prefer::RelayOnly,
            Self::DirectOnly => Prefer::DirectOnly,
            Self::Fastest => Prefer::Fastest,
        }
    }
}

fn pace(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(ms) if (1.0..=3_600_000.0).contains(&ms) => Ok(Duration::from_secs_f64(ms / 1000.0)),
        _ => Err("a number of milliseconds from 1 to 3600000".into()),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(s) if (0.1..=31_536_000.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("a number of seconds from 0.1 to 31536000".into()),
    }
}

/// Exit code of a wrong command line, as clap's.
const USAGE: u8 = 2;

pub(crate) fn run(options: &Options) -> ExitCode {
    let room = match Room::new(options.room.as_str(), options.name.as_str()) {
        Ok(room) => room,
        Err(why) => {
            complain("join", &format!("--room, --name: {why}"));
            return USAGE.into();
        }
    };
    let start = Instant::now();
    let report = Report { json: options.json };
    match Session::begin(options, room, start, report).and_then(Session::live) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            complain("join", &why);
            Report { json: options.json }.failed(start.elapsed(), &why);
            ExitCode::FAILURE
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Taking part, until the time that was asked for is over.
    Here,
    /// Everything is said; others may still have something to say until then.
    Lingering(Duration),
}

struct Session<'a> {
    options: &'a Options,
    server: SocketAddr,
    stop: Stop,
    client: Client,
    room: Room,
    start: Instant,
    report: Report,
    accounts: Accounts,
    /// How the server is reached.
    leg: Leg,
    lines: Option<Receiver<String>>,
    /// When this client was in the room.
    entered: Option<Duration>,
    phase: Phase,
    /// The next message's.
    seq: u64,
    /// When the next numbered one is sent.
    due: Duration,
    /// When the round trips are taken down next.
    look_due: Duration,
    /// Reused for what is sent.
    bytes: Vec<u8>,
}

impl<'a> Session<'a> {
    fn begin(options: &'a Options, room: Room, start: Instant, report: Report) -> Result<Self, String> {
        let stop = Stop::install().map_err(|e| format!("cannot heed signals: {e}"))?;
        let server = resolve(&options.server)?;
        let mut config = ClientOptions::new(server, options.server_key, rooms::APP).token(room.token());
        config.record.clone_from(&options.record);
        config.ticket = Sealed::bytes(options.ticket.as_ref());
        patience::set(&mut config.timers, options.patience);
        config.policy.prefer = options.policy.prefer();
        Ok(Self {
            options,
            server,
            stop,
            client: Client::connect(config).map_err(|e| e.to_string())?,
            room,
            start,
            report,
            accounts: Accounts::default(),
            leg: Leg::Udp,
            lines: options.chat.then(read_lines),
            entered: None,
            phase: Phase::Here,
            seq: 0,
            due: Duration::ZERO,
            look_due: Duration::ZERO,
            bytes: Vec::new(),
        })
    }

    /// Takes part to the end. Whether every account is clean.
    fn live(mut self) -> Result<bool, String> {
        let mut payload = Vec::new();
        let outcome = loop {
            if let Err(why) = self.turn(&mut payload) {
                break Err(why);
            }
            if self.is_over() {
                break Ok(());
            }
            self.client.flush();
            let wait = self.longest_wait();
            self.client.wait(wait);
        };
        self.accounts.look(self.client.peers(), |peer| self.client.report(peer));
        self.report.clock(self.now(), self.client.server_time());
        self.report.summary(self.now(), &self.accounts, self.leg);
        self.client.disconnect();
        let until = Instant::now() + GOODBYE;
        while Instant::now() < until && !self.client.is_quiet() && self.client.update().is_ok() {
            while self.client.next_event(&mut payload).is_some() {}
            self.client.wait(until.saturating_duration_since(Instant::now()));
        }
        if let Some(why) = self.client.recording_error() {
            complain("join", &format!("the recording is not complete: {why}"));
        }
        outcome.map(|()| self.accounts.all().all(|(_, account)| account.is_clean()))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn turn(&mut self, payload: &mut Vec<u8>) -> Result<(), String> {
        self.client.update().map_err(|e| e.to_string())?;
        while let Some(event) = self.client.next_event(payload) {
            let event = self.room.hear(event);
            self.hear(event, payload)?;
        }
        let now = self.now();
        if now >= self.look_due {
            self.look_due = now + LOOK;
            self.accounts.look(self.client.peers(), |peer| self.client.report(peer));
        }
        if self.phase == Phase::Here {
            self.pace(now);
            let over = self.options.length.zip(self.entered).is_some_and(|(length, entered)| now >= entered + length);
            if self.chat() || over || self.stop.asked() {
                self.finish(now);
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Here => false,
            Phase::Lingering(until) => self.now() >= until || self.accounts.are_complete(),
        }
    }

    fn longest_wait(&self) -> Duration {
        let now = self.now();
        let longest = if self.lines.is_some() { CHAT_WAIT } else { LONGEST_WAIT };
        match self.phase {
            Phase::Here if self.options.every.is_some() && self.room.peers().next().is_some() => {
                longest.min(self.due.saturating_sub(now))
            }
            Phase::Here => longest,
            Phase::Lingering(until) => longest.min(until.saturating_sub(now)),
        }
    }

    fn hear(&mut self, event: RoomEvent, payload: &[u8]) -> Result<(), String> {
        let now = self.now();
        match event {
            RoomEvent::Entered { me } => {
                self.entered = Some(now);
                let who = Who { id: me, name: self.room.name_of(me) };
                self.report.connected(now, &self.server.to_string(), self.room.name(), who);
            }
            RoomEvent::Joined { peer } => {
                let name = self.room.name_of(peer);
                self.accounts.open(peer, name, now);
                self.report.joined(now, Who { id: peer, name });
                // Says something to it without waiting for the next turn, and takes down the way it goes.
                (self.due, self.look_due) = (now, now);
            }
            RoomEvent::Left { peer, name } => {
                if let Some(account) = self.accounts.of(peer) {
                    account.here = false;
                }
                self.report.left(now, Who { id: peer, name: &name });
            }
            RoomEvent::Path { peer, path } => {
                if let Some(account) = self.accounts.of(peer) {
                    account.goes(path, now);
                }
                self.report.path(now, Who { id: peer, name: self.room.name_of(peer) }, path);
            }
            RoomEvent::Offline { peer } => self.report.presence(now, self.who(peer), true),
            RoomEvent::Online { peer } => self.report.presence(now, self.who(peer), false),
            RoomEvent::Leg { leg, why } => {
                self.leg = leg;
                self.report.leg(now, leg, why);
            }
            RoomEvent::Message(message) => self.read(now, &message, payload),
            RoomEvent::Refused(why) => return Err(refused(why, &self.options.room)),
            RoomEvent::LoginFailed(why) => return Err(login_failed(&why, self.server)),
            RoomEvent::Ended(why) => return Err(format!("the session with the server is over: {why:?}")),
            _ => {}
        }
        Ok(())
    }

    fn who(&self, peer: PeerId) -> Who<'_> {
        Who { id: peer, name: if peer.is_server() { "server" } else { self.room.name_of(peer) } }
    }

    fn read(&mut self, now: Duration, message: &Message, bytes: &[u8]) {
        let payload = Payload::parse(bytes);
        if let Some(account) = self.accounts.of(message.from) {
            match payload {
                Payload::Chat { seq, .. } | Payload::Numbered { seq } => {
                    account.first_at.get_or_insert(now);
                    account.got.take(seq);
                }
                Payload::Done { sent } => account.announced = Some(sent),
                Payload::Foreign => {}
            }
        }
        let who = Who { id: message.from, name: self.room.name_of(message.from) };
        self.report.message(now, who, message, payload, bytes.len());
    }

    /// Sends the next numbered message, if it is due and somebody is there.
    fn pace(&mut self, now: Duration) {
        let Some(every) = self.options.every else { return };
        if now < self.due || self.room.peers().next().is_none() {
            return;
        }
        // In step with the turns before, unless they were missed.
        self.due = (self.due + every).max(now);
        payload::numbered(&mut self.bytes, self.seq, self.options.size as usize);
        // What finds no room is sent with the next turn.
        let _ = self.send_bytes();
    }

    /// Sends what is in `bytes` to the room.
    fn send_bytes(&mut self) -> Result<(), SendError> {
        let Some(group) = self.room.group() else { return Err(SendError::Gone) };
        self.client.send(group, CHANNEL, &self.bytes)?;
        self.seq += 1;
        for peer in self.client.members(group) {
            if let Some(account) = self.accounts.of(peer) {
                account.sent += 1;
            }
        }
        Ok(())
    }

    /// Sends the lines that were typed, once this client is in the room. True at their end.
    fn chat(&mut self) -> bool {
        while self.entered.is_some()
            && let Some(lines) = &self.lines
        {
            match lines.try_recv() {
                Ok(line) => {
                    payload::chat(&mut self.bytes, self.seq, &line);
                    if let Err(why) = self.send_bytes() {
                        complain("join", &format!("not sent: {why}"));
                    }
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    self.lines = None;
                    return self.options.length.is_none();
                }
            }
        }
        false
    }

    /// Tells everyone how much it should have.
    fn finish(&mut self, now: Duration) {
        let here: Vec<(PeerId, u64)> = self.accounts.here().map(|(peer, account)| (peer, account.sent)).collect();
        for (peer, sent) in here {
            payload::done(&mut self.bytes, sent);
            // A peer that takes no more, or has just left, does not need to know.
            let _ = self.client.send(peer, CHANNEL, &self.bytes);
        }
        self.client.flush();
        // Who is asked to stop does so, and a talk has no last number to wait for.
        let linger = self.options.every.is_some() && !self.stop.asked();
        self.phase = Phase::Lingering(if linger { now + LINGER } else { now });
    }
}

pub(crate) fn resolve(server: &str) -> Result<SocketAddr, String> {
    let found = server.to_socket_addrs().map_err(|why| {
        let hint = if server.contains(':') { "" } else { ": HOST:PORT is needed" };
        format!("cannot resolve {server}{hint}: {why}")
    })?;
    // Hole punching is at its best between IPv4 NATs, and most servers have both.
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("{server} has no address"))
}

/// Reads standard input in a thread of its own, for reading waits. It ends with the program.
fn read_lines() -> Receiver<String> {
    let (lines, receiver) = sync_channel(MAX_LINES);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        while input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if !text.is_empty() && lines.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}

pub(crate) fn refused(why: Refusal, room: &str) -> String {
    match why {
        Refusal::RoomFull { max } => format!("room {room} is full: it has {max} members, as many as it may have"),
        why => format!("not let in: {why}"),
    }
}

pub(crate) fn login_failed(why: &LoginFailure, server: SocketAddr) -> String {
    match why {
        LoginFailure::NoAnswer => format!(
            "no answer from {server}: check that the server runs there, that UDP or TCP passes, and that --server-key is the key \
             it prints"
        ),
        LoginFailure::Version { server: theirs } => {
            format!("{server} speaks version {theirs} of the protocol, which this program does not")
        }
        LoginFailure::Application => format!("{server} is no stock server: it serves another application"),
        LoginFailure::ServerFull => format!("{server} takes no more clients"),
        LoginFailure::Draining => format!("{server} is about to stop and takes nobody in any more"),
        LoginFailure::Ticket(why) => {
            let why = match why {
                TicketRefusal::Missing => "lets nobody in without a ticket (--ticket)",
                TicketRefusal::Expired => "says that the ticket's time is over",
                TicketRefusal::Used => "says that the ticket was used already",
                TicketRefusal::Unavailable => "cannot judge tickets now",
                _ => "says that the ticket is not valid there",
            };
            format!("{server} {why}")
        }
        LoginFailure::Rejected { .. } => format!("{server} does not let this client in, for a reason of its own"),
        why => format!("login at {server} failed: {why:?}"),
    }
}
