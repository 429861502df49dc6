//! `posse bench`: goodput, messages a second, round trips and CPU between two clients. Each end is a process of its own; without
//! `--server`, a server and the answering end are started on this host's loopback.

mod ends;
mod wire;

use crate::join::resolve;
use crate::key;
use crate::output::{complain, decimal, ms, path_parts, say, say_json};
use crate::ping::quantile;
use crate::ticket::Sealed;
use ends::{End, Findings, Flood};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// What rates of messages are measured with, as in most comparisons of such protocols.
const SMALL: usize = 64;

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the server is; without, one is started on loopback, and the other end too.
    #[arg(long, value_name = "HOST:PORT", requires = "server_key")]
    server: Option<String>,
    /// Its public key, as `posse serve` prints it.
    #[arg(long, value_name = "K", value_parser = key::parse, requires = "server")]
    server_key: Option<[u8; 32]>,
    /// What a login server, or `posse ticket`, gave for this server. It is good once.
    #[arg(long, value_name = "T", value_parser = Sealed::parse, requires = "server")]
    ticket: Option<Sealed>,
    /// The room in which the two ends meet.
    #[arg(long, value_name = "R", default_value = "bench")]
    room: String,
    /// Be the end that counts and answers, until a signal.
    #[arg(long, requires = "server")]
    answer: bool,
    /// How long each of the three measurements takes.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Bytes of a message of the goodput.
    #[arg(long, value_name = "B", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(wire::HEAD as i64..=65_536))]
    size: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.1..=3600.0).contains(&s) => Ok(s),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match measure(options) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(findings)) => {
            tell(options, findings);
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain("bench", &why);
            if options.json {
                say_json("failed", json!({ "why": why }));
            }
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Option<Findings>, String> {
    let (length, size) = (Duration::from_secs_f64(options.seconds), options.size as usize);
    let enter =
        |server, key, answers| End::enter(server, key, &options.room, Sealed::bytes(options.ticket.as_ref()), answers);
    let call = |server, key| enter(server, key, false)?.call(length, size, SMALL).map(Some);
    match options.server.as_deref().zip(options.server_key) {
        Some((server, key)) if options.answer => enter(resolve(server)?, key, true)?.answer().map(|()| None),
        Some((server, key)) => call(resolve(server)?, key),
        None => {
            let host = Hosted::begin(&options.room)?;
            call(host.server, host.key)
        }
    }
}

/// A server and an answering end of our own, which end with this.
struct Hosted {
    server: SocketAddr,
    key: [u8; 32],
    children: Vec<Child>,
}

impl Hosted {
    fn begin(room: &str) -> Result<Self, String> {
        let serve = start(&["serve", "--listen", "127.0.0.1:0", "--json"])?;
        let mut host = Self { server: SocketAddr::from(([127, 0, 0, 1], 0)), key: [0; 32], children: vec![serve] };
        let out = host.children.first_mut().and_then(|child| child.stdout.take());
        let mut line = String::new();
        out.and_then(|out| BufReader::new(out).read_line(&mut line).ok());
        let serving: Value = serde_json::from_str(&line).map_err(|_| "the server did not begin".to_owned())?;
        let text = |field: &str| serving[field].as_str().unwrap_or_default();
        host.server = text("address").parse().map_err(|_| "the server did not say where it listens".to_owned())?;
        host.key = key::parse(text("public_key"))?;
        let (at, key) = (text("address"), text("public_key"));
        host.children.push(start(&["bench", "--answer", "--server", at, "--server-key", key, "--room", room])?);
        Ok(host)
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// This program once more.
fn start(arguments: &[&str]) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|e| format!("cannot start this program once more: {e}"))
}

/// CPU time that this process has used, its children aside; `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn cpu() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).ok()?.checked_mul(1_000_000)?;
        seconds.checked_add(u64::try_from(time.tv_usec()).ok()?)
    };
    Some(Duration::from_micros(micros(usage.user_time())?.checked_add(micros(usage.system_time())?)?))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn cpu() -> Option<Duration> {
    None
}

impl Flood {
    fn seconds(&self) -> f64 {
        Duration::from_nanos(self.tally.nanos.max(1)).as_secs_f64()
    }

    fn mib(&self) -> f64 {
        self.tally.bytes as f64 / f64::from(1 << 20)
    }

    fn messages_a_second(&self) -> f64 {
        self.tally.messages as f64 / self.seconds()
    }

    fn cpu_a_gib(&self) -> Option<f64> {
        self.cpu.filter(|_| self.tally.bytes > 0).map(|cpu| cpu.as_secs_f64() * 1024.0 / self.mib())
    }

    fn cpu_a_message(&self) -> Option<f64> {
        self.cpu.filter(|_| self.tally.messages > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / self.tally.messages as f64)
    }
}

fn tell(options: &Options, findings: Findings) {
    let Findings { path, mut trips, bulk, small } = findings;
    trips.sort_unstable();
    let (p50, p99) = (quantile(&trips, 50), quantile(&trips, 99));
    let goodput = bulk.mib() / bulk.seconds();
    if options.json {
        let (name, because, _) = path_parts(path);
        return say_json(
            "bench",
            json!({
                "path": name, "because": because, "seconds": options.seconds, "size": options.size, "round_trips": trips.len(),
                "rtt_p50_ms": p50.map(ms), "rtt_p99_ms": p99.map(ms), "goodput_mib_s": goodput,
                "cpu_s_gib": bulk.cpu_a_gib(), "messages_s": small.messages_a_second(), "cpu_us_message": small.cpu_a_message(),
            }),
        );
    }
    let cpu = |value: Option<f64>, unit: &str| {
        value.map_or(String::new(), |value| format!(", CPU of both ends {value:.2} {unit}"))
    };
    let (way, because, _) = path_parts(path);
    say(&format!("path        {way}{}", because.map_or(String::new(), |why| format!(": {why}"))));
    if let (Some(p50), Some(p99)) = (p50, p99) {
        say(&format!(
            "round trip  p50 {} ms, p99 {} ms, of {} ({SMALL} bytes)",
            decimal(p50),
            decimal(p99),
            trips.len()
        ));
    }
    say(&format!(
        "goodput     {goodput:.1} MiB/s ({} bytes a message{})",
        options.size,
        cpu(bulk.cpu_a_gib(), "s a GiB")
    ));
    let rate = small.messages_a_second() / 1e3;
    say(&format!("messages    {rate:.0} k/s ({SMALL} bytes{})", cpu(small.cpu_a_message(), "us each")));
}
