//! `posse serve`: the stock server.

use crate::key;
use crate::metrics::{Events, Metrics, Snapshot};
use crate::output::{complain, leg_word, ms, say, say_json, tame};
use crate::patience;
use crate::stop::Stop;
use posse::rooms::{self, Change, RoomLimits, Rooms};
use posse::secure::key_text;
use posse::{Message, PeerId, Rate, Server, ServerEvent, ServerOptions, Tickets, os_seed};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How soon a signal that came between two waits is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How long clients are told that the server stops: what a last word needs that was lost once or twice.
const GOODBYE: Duration = Duration::from_millis(1500);

/// What the server is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to listen (UDP, and TCP for clients whose UDP does not get through); 0.0.0.0 is every address of this host.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// File of the secret key, made if there is none. Without it every start has a new key, and clients need the new
    /// public one.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File of another secret key that clients may use as well: the one before or the next, while not all have the new public
    /// one.
    #[arg(long, value_name = "FILE")]
    second_key: Option<PathBuf>,
    /// Let in only who brings a ticket, made with the secret in this file (made if there is none): by `posse ticket`, or by a
    /// login server of your own.
    #[arg(long, value_name = "FILE")]
    tickets: Option<PathBuf>,
    /// When asked to stop, take nobody in any more but wait for those who are there to leave, for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=604_800))]
    drain: u32,
    /// Where clients reach this server, if it cannot know: behind a NAT or a load balancer.
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<SocketAddr>,
    /// Kilobytes a second that are relayed for each client; more is dropped.
    #[arg(long, value_name = "KB", default_value_t = 125_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    relay_rate: u32,
    /// Most clients, those that are logging in included.
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_clients: u32,
    /// Logins a second that are read from whoever sends them. When more come, clients have to show first that they receive
    /// at their address, which takes a round trip more and costs this host next to nothing.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    login_rate: u32,
    /// A second UDP port, by which clients' NATs are told apart; open it in the firewall too.
    #[arg(long, value_name = "PORT")]
    door_port: Option<u16>,
    /// A second address of this host, on which both ports are opened too: with it every NAT's mapping is known, not symmetric
    /// ones alone. --listen must then name one address.
    #[arg(long, value_name = "ADDR", requires = "door_port")]
    door_address: Option<IpAddr>,
    /// Most members of one room.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=256))]
    room_size: u16,
    /// A client that is silent for so many seconds is gone; 75 unless given. Of less than 20, clients that have nothing to say must
    /// know: `posse join --patience`.
    #[arg(long, value_name = "SECONDS", value_parser = patience::parse)]
    patience: Option<Duration>,
    /// Answer /metrics (for Prometheus) and /health by HTTP here.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Record what happens in a new file: `cargo sim replay FILE` has it happen again. It holds all keys.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain("serve", &why);
            if options.json {
                say_json("failed", json!({ "why": why }));
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), String> {
    let stop = Stop::install().map_err(|e| format!("cannot heed signals: {e}"))?;
    let key = match &options.key {
        Some(file) => kept(file)?,
        None => os_seed().map_err(|e| e.to_string())?,
    };
    let mut config = ServerOptions::new(key, rooms::APP);
    config.second_key = options.second_key.as_deref().map(kept).transpose()?;
    config.tickets = options.tickets.as_deref().map(kept).transpose()?.map(Tickets::new);
    config.limits.relay.bytes = Rate {
        per_second: options.relay_rate.saturating_mul(1_000),
        // A tenth of a second of them, as by default, and a few datagrams at least.
        burst: options.relay_rate.saturating_mul(100).max(65_536),
    };
    config.advertised_addrs.extend(options.advertise);
    config.limits.max_clients = options.max_clients as usize;
    config.admission.unproven.per_second = options.login_rate;
    // Two seconds of them, as by default.
    config.admission.unproven.burst = options.login_rate.saturating_mul(2);
    config.record.clone_from(&options.record);
    patience::set(&mut config.timers, options.patience);
    config.doors.second_port = options.door_port.map(|port| SocketAddr::new(options.listen.ip(), port));
    config.doors.second_address = options.door_address.map(|ip| SocketAddr::new(ip, options.listen.port()));
    config.doors.second_address_port =
        options.door_address.zip(options.door_port).map(|(ip, port)| SocketAddr::new(ip, port));
    let mut server = Server::bind(options.listen, config).map_err(|e| e.to_string())?;
    let metrics =
        options.metrics.map(|addr| Metrics::serve(addr).map_err(|e| format!("cannot answer on TCP {addr}: {e}")));
    let (metrics, answers_on) = metrics.transpose()?.unzip();
    let mut report = Report { json: options.json, start: Instant::now(), events: Events::default() };
    report.began(&server, options, answers_on);

    let mut rooms = Rooms::new(RoomLimits { members: options.room_size, ..RoomLimits::default() });
    let mut payload = Vec::new();
    let mut patience = None;
    loop {
        turn(&mut server, &mut rooms, &mut payload, &mut report)?;
        if let Some(metrics) = &metrics {
            metrics.leave(report.snapshot(&server, &rooms));
        }
        if stop.asked() {
            let until = *patience.get_or_insert_with(|| {
                server.drain(true);
                if options.drain > 0 {
                    report.draining(server.size().clients);
                }
                Instant::now() + Duration::from_secs(options.drain.into())
            });
            if server.size().sessions == 0 || Instant::now() >= until {
                break;
            }
        }
        server.wait(LONGEST_WAIT);
    }
    rooms.stop();
    for client in server.clients().collect::<Vec<_>>() {
        let _ = server.disconnect(client);
    }
    let until = Instant::now() + GOODBYE;
    while Instant::now() < until && !server.is_quiet() {
        turn(&mut server, &mut rooms, &mut payload, &mut report)?;
        server.wait(until.saturating_duration_since(Instant::now()));
    }
    if let Some(why) = server.recording_error() {
        complain("serve", &format!("the recording is not complete: {why}"));
    }
    report.ended();
    Ok(())
}

/// The key in a file; others should not be able to read it.
fn kept(file: &Path) -> Result<[u8; 32], String> {
    let key = key::read_or_create(file).map_err(|e| e.to_string())?;
    if key::is_exposed(file) {
        complain("serve", &format!("others may read {}: chmod 600 it", file.display()));
    }
    Ok(key)
}

fn turn(server: &mut Server, rooms: &mut Rooms, payload: &mut Vec<u8>, report: &mut Report) -> Result<(), String> {
    server.update().map_err(|e| e.to_string())?;
    while let Some(event) = server.next_event(payload) {
        report.events.take(&event);
        report.logins_refused(&event);
        report.leg(&event);
        if let ServerEvent::Message(Message { from, channel, .. }) = event
            && let Some(answer) = rooms.answer(from, payload, server.nat(from))
        {
            // Who takes no more hears nothing more.
            let _ = server.send(from, channel, &answer);
        }
        if let Some(change) = rooms.handle(&event, server) {
            report.changed(&change);
        }
    }
    server.flush();
    Ok(())
}

struct Report {
    json: bool,
    start: Instant,
    events: Events,
}

impl Report {
    fn snapshot(&self, server: &Server, rooms: &Rooms) -> Snapshot {
        Snapshot {
            size: server.size(),
            counters: server.counters(),
            driver: server.stats(),
            rooms: rooms.rooms(),
            events: self.events,
        }
    }

    fn began(&self, server: &Server, options: &Options, metrics: Option<SocketAddr>) {
        let (addr, key) = (server.local_addr(), key_text(&server.public_key()));
        if self.json {
            return say_json(
                "serving",
                json!({
                    "address": addr.to_string(), "public_key": key, "metrics": metrics.map(|addr| addr.to_string()), "at_ms": 0.0,
                }),
            );
        }
        say(&format!("serving on {addr}"));
        say(&format!("public key {key}"));
        if options.key.is_none() {
            say("(for this start only; --key FILE keeps it)");
        }
        if let Some(addr) = metrics {
            say(&format!("metrics on http://{addr}/metrics"));
        }
        let addr = options.advertise.unwrap_or(addr);
        let at = if addr.ip().is_unspecified() { format!("THIS-HOST:{}", addr.port()) } else { addr.to_string() };
        say(&format!("join with: posse join --server {at} --server-key {key} --room lobby --name YOU --chat"));
    }

    fn logins_refused(&self, event: &ServerEvent) {
        let ServerEvent::LoginsRefused { why, from, count } = event else { return };
        if self.json {
            let why = format!("{why:?}");
            let at_ms = ms(self.start.elapsed());
            return say_json(
                "logins_refused",
                json!({ "address": from.to_string(), "why": why, "count": count, "at_ms": at_ms }),
            );
        }
        say(&format!("refused {count} logins, the last from {from}: {why:?}"));
    }

    fn leg(&self, event: &ServerEvent) {
        let ServerEvent::LegChanged { client, leg } = event else { return };
        let leg = leg_word(*leg);
        if self.json {
            return say_json("leg", json!({ "id": client.raw(), "leg": leg, "at_ms": ms(self.start.elapsed()) }));
        }
        say(&format!("client {} is reached by {}", client.raw(), leg.to_uppercase()));
    }

    fn changed(&mut self, change: &Change) {
        match change {
            Change::Entered { .. } => self.events.entered(),
            Change::Refused { .. } | Change::Failed { .. } => self.events.refused(),
            _ => {}
        }
        let at_ms = ms(self.start.elapsed());
        let member = |client: &PeerId, name: &str, room: &str, members: usize| json!({ "peer": name, "id": client.raw(), "room": room, "members": members, "at_ms": at_ms });
        match change {
            Change::Entered { client, name, room, members } if self.json => {
                say_json("member_joined", member(client, name, room, *members));
            }
            Change::Left { client, name, room, members } if self.json => {
                say_json("member_left", member(client, name, room, *members));
            }
            Change::Offline { client, name, room } if self.json => {
                say_json("offline", json!({ "peer": name, "id": client.raw(), "room": room, "at_ms": at_ms }));
            }
            Change::Online { client, name, room } if self.json => {
                say_json("online", json!({ "peer": name, "id": client.raw(), "room": room, "at_ms": at_ms }));
            }
            Change::Refused { from, why } if self.json => {
                say_json("refused", json!({ "address": from.to_string(), "why": why.to_string(), "at_ms": at_ms }));
            }
            Change::Failed { client, why } if self.json => {
                say_json("refused", json!({ "id": client.raw(), "why": why, "at_ms": at_ms }));
            }
            Change::Entered { name, room, members, .. } => {
                say(&format!("{} is in {} ({members} there)", tame(name), tame(room)));
            }
            Change::Left { name, room, members, .. } => {
                say(&format!("{} has left {} ({members} there)", tame(name), tame(room)));
            }
            Change::Offline { name, room, .. } => say(&format!("{} in {} does not answer", tame(name), tame(room))),
            Change::Online { name, room, .. } => say(&format!("{} in {} answers again", tame(name), tame(room))),
            Change::Refused { from, why } => say(&format!("refused {from}: {why}")),
            Change::Failed { why, .. } => say(&format!("could not seat a client: {why}")),
            _ => {}
        }
    }

    /// Asked to stop; `clients` are still there.
    fn draining(&self, clients: usize) {
        if self.json {
            say_json("draining", json!({ "clients": clients, "at_ms": ms(self.start.elapsed()) }));
        } else if clients > 0 {
            say(&format!("draining: nobody is let in any more, {clients} are still here (again to stop at once)"));
        }
    }

    fn ended(&self) {
        if self.json {
            say_json("stopped", json!({ "at_ms": ms(self.start.elapsed()) }));
        } else {
            say("stopped");
        }
    }
}
