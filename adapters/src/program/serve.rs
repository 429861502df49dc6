//! `posse serve`: the stock server.

use crate::key::{self, hex};
use crate::metrics::{Events, Metrics, Snapshot};
use crate::output::{complain, ms, say, say_json, tame};
use crate::stop::Stop;
use posse::rooms::{self, Change, RoomLimits, Rooms};
use posse::{PeerId, Server, ServerOptions, os_seed};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How soon a signal that came between two waits is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How long clients are told that the server stops: what a last word needs that was lost once or twice.
const GOODBYE: Duration = Duration::from_millis(1500);

/// What the server is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to listen (UDP); 0.0.0.0 is every address of this host.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// File of the secret key, made if there is none. Without it every start has a new key, and clients need the new
    /// public one.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A second UDP port, by which clients' NATs are told apart; open it in the firewall too.
    #[arg(long, value_name = "PORT")]
    door_port: Option<u16>,
    /// Most members of one room.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=256))]
    room_size: u16,
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
        Some(file) => {
            let key = key::read_or_create(file).map_err(|e| e.to_string())?;
            if key::is_exposed(file) {
                complain("serve", &format!("others may read {}: chmod 600 it", file.display()));
            }
            key
        }
        None => os_seed().map_err(|e| e.to_string())?,
    };
    let mut config = ServerOptions::new(key, rooms::APP);
    config.record.clone_from(&options.record);
    config.doors.second_port = options.door_port.map(|port| SocketAddr::new(options.listen.ip(), port));
    let mut server = Server::bind(options.listen, config).map_err(|e| e.to_string())?;
    let metrics =
        options.metrics.map(|addr| Metrics::serve(addr).map_err(|e| format!("cannot answer on TCP {addr}: {e}")));
    let (metrics, answers_on) = metrics.transpose()?.unzip();
    let mut report = Report { json: options.json, start: Instant::now(), events: Events::default() };
    report.began(&server, options.key.is_some(), answers_on);

    let mut rooms = Rooms::new(RoomLimits { members: options.room_size, ..RoomLimits::default() });
    let mut payload = Vec::new();
    while !stop.asked() {
        turn(&mut server, &mut rooms, &mut payload, &mut report)?;
        if let Some(metrics) = &metrics {
            metrics.leave(report.snapshot(&server, &rooms));
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

fn turn(server: &mut Server, rooms: &mut Rooms, payload: &mut Vec<u8>, report: &mut Report) -> Result<(), String> {
    server.update().map_err(|e| e.to_string())?;
    while let Some(event) = server.next_event(payload) {
        report.events.take(&event);
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

    fn began(&self, server: &Server, kept: bool, metrics: Option<SocketAddr>) {
        let (addr, key) = (server.local_addr(), hex(&server.public_key()));
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
        if !kept {
            say("(for this start only; --key FILE keeps it)");
        }
        if let Some(addr) = metrics {
            say(&format!("metrics on http://{addr}/metrics"));
        }
        let at = if addr.ip().is_unspecified() { format!("THIS-HOST:{}", addr.port()) } else { addr.to_string() };
        say(&format!("join with: posse join --server {at} --server-key {key} --room lobby --name YOU --chat"));
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
            Change::Refused { from, why } => say(&format!("refused {from}: {why}")),
            Change::Failed { why, .. } => say(&format!("could not seat a client: {why}")),
            _ => {}
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
