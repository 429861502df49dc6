//! `/metrics` for Prometheus and `/health` for whoever restarts what hangs: a few lines of HTTP/1.1 in a thread of its own.
//!
//! The server's loop leaves a snapshot here; a scrape reads it and never touches the loop. One request is answered at a time,
//! each with a deadline and a bound.

use posse::{DriverStats, Leg, Path, ServerCounters, ServerEvent, ServerSize};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A loop that has left no snapshot for so long hangs; it comes round five times a second.
const HANGS: Duration = Duration::from_secs(5);
/// A request is read and answered in this time, or not at all.
const DEADLINE: Duration = Duration::from_secs(1);
/// Bytes of a request at most: a path, and what scrapers say about themselves.
const MAX_REQUEST: usize = 4096;

type Labels = [(&'static str, &'static str); 1];

/// What the server's loop leaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) size: ServerSize,
    pub(crate) counters: ServerCounters,
    pub(crate) driver: DriverStats,
    pub(crate) rooms: usize,
    pub(crate) events: Events,
}

/// What events tell that no counter holds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Events {
    entered: u64,
    refused: u64,
    direct: u64,
    relayed: u64,
    to_udp: u64,
    to_tcp: u64,
}

impl Events {
    pub(crate) fn take(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::PathChanged { path: Path::Direct { .. }, .. } => self.direct += 1,
            ServerEvent::PathChanged { path: Path::Relayed { .. }, .. } => self.relayed += 1,
            ServerEvent::LegChanged { leg: Leg::Udp, .. } => self.to_udp += 1,
            ServerEvent::LegChanged { leg: Leg::Tcp, .. } => self.to_tcp += 1,
            _ => {}
        }
    }

    pub(crate) fn entered(&mut self) {
        self.entered += 1;
    }

    pub(crate) fn refused(&mut self) {
        self.refused += 1;
    }
}

/// Where the loop leaves its snapshots. Clones share one.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Mutex<(Snapshot, Instant)>>);

impl Metrics {
    /// Answers on `addr` from now on, until the program ends. Also says where that is.
    pub(crate) fn serve(addr: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(addr)?;
        let local = listener.local_addr()?;
        let metrics = Self(Arc::new(Mutex::new((Snapshot::default(), Instant::now()))));
        let shared = metrics.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    // A client that breaks off is its own affair.
                    Ok(stream) => drop(shared.answer(stream)),
                    // Out of file descriptors, most likely: not at full speed.
                    Err(_) => std::thread::sleep(DEADLINE),
                }
            }
        });
        Ok((metrics, local))
    }

    pub(crate) fn leave(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (snapshot, Instant::now());
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(DEADLINE))?;
        let request = read_request(&mut stream)?;
        let (snapshot, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, kind, body) = match request.as_deref() {
            Some("/metrics") => match text(&snapshot) {
                Ok(text) => ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
                Err(_) => ("500 Internal Server Error", "text/plain", "cannot encode\n".into()),
            },
            Some("/health") if at.elapsed() < HANGS => ("200 OK", "text/plain", "ok\n".into()),
            Some("/health") => ("503 Service Unavailable", "text/plain", "the server hangs\n".into()),
            Some(_) => ("404 Not Found", "text/plain", "/metrics or /health\n".into()),
            None => ("400 Bad Request", "text/plain", "GET only\n".into()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
    }
}

/// The path of a GET request, without its query; `None` for anything else.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let (start, mut request) = (Instant::now(), Vec::new());
    let mut part = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = DEADLINE.saturating_sub(start.elapsed());
        if left.is_zero() || request.len() > MAX_REQUEST {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(None),
            read => request.extend(part.iter().take(read)),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.strip_prefix("GET ").and_then(|rest| rest.split([' ', '?']).next());
    Ok(path.map(str::to_owned))
}

/// As Prometheus reads it.
fn text(snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
    let Snapshot { size, counters, driver, rooms, events } = snapshot;
    let mut registry = Registry::with_prefix("posse");
    let gauges = [
        ("sessions", "Sessions, those that are logging in included", size.sessions),
        ("clients", "Clients that were let in", size.clients),
        ("rooms", "Rooms with somebody in them", *rooms),
        ("pairs", "Pairs of clients that share a room", size.pairs),
        ("relay_routes", "Routes of the relay, one a direction of a pair", size.routes),
        ("streams", "TCP connections of clients", size.streams),
    ];
    for (name, help, value) in gauges {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let totals = [
        ("joins", "Clients that entered a room", events.entered),
        ("refusals", "Clients that were turned away", events.refused),
        ("relay_forwarded_datagrams", "Datagrams relayed on", counters.forwarded),
        ("client_moves", "Clients that went on at another address", counters.moved),
        ("violations", "Clients that broke the protocol", counters.violations),
        (
            "streams_refused",
            "TCP connections that were too many of those nobody had logged in by",
            counters.streams_refused,
        ),
        ("received_bytes", "Bytes received by UDP and TCP", driver.received_bytes),
        ("sent_bytes", "Bytes sent by UDP and TCP", driver.sent_bytes),
        (
            "host_udp_receive_buffer_errors",
            "Datagrams that this host dropped unread, of all its programs",
            host_drops(),
        ),
    ];
    for (name, help, value) in totals {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let dropped = [
        ("unknown", counters.unknown),
        ("unopened", counters.unopened),
        ("login", counters.logins_dropped),
        ("relay_refused", counters.relay_refused),
        ("relay_over_budget", counters.relay_over_budget),
        ("relay_full", counters.relay_dropped),
        ("relay_displaced", counters.relay_displaced),
        ("send_buffer_full", driver.dropped),
        ("send_failed", driver.failed),
    ];
    family(&mut registry, "dropped_datagrams", "Datagrams not used or not sent, by reason", "reason", &dropped);
    let logins = counters.logins;
    let refused = [
        ("cookie", logins.retried),
        ("source", logins.over_source),
        ("prefix", logins.over_prefix),
        ("rate", logins.over_all),
        ("other_key", logins.other_key),
        ("forged", logins.forged),
        ("version", logins.version),
        ("application", logins.application),
        ("suite", logins.suite),
        ("full", logins.full),
        ("draining", logins.draining),
        ("ticket", logins.ticket),
    ];
    let help = "Logins that came to nothing, or had to come again (cookie), by reason";
    family(&mut registry, "logins_refused", help, "reason", &refused);
    let paths = [("direct", events.direct), ("relayed", events.relayed)];
    family(&mut registry, "path_changes", "Changes of the way between two clients, by the new way", "path", &paths);
    let legs = [("udp", events.to_udp), ("tcp", events.to_tcp)];
    family(&mut registry, "leg_changes", "Changes of the way between a client and this server", "leg", &legs);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn family(registry: &mut Registry, name: &str, help: &str, label: &'static str, values: &[(&'static str, u64)]) {
    let family: Family<Labels, Counter> = Family::default();
    for (value, count) in values {
        family.get_or_create(&[(label, *value)]).inc_by(*count);
    }
    registry.register(name, help, family);
}

/// `RcvbufErrors` of Linux, 0 elsewhere.
fn host_drops() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/net/snmp") else { return 0 };
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(name, _)| *name == "RcvbufErrors");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}
