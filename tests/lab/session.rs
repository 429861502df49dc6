//! A case in the kernel: the real programs in their namespaces, what the scenario does to them, and what they say of it.

use crate::kernel::inside;
use crate::outcome::Outcome;
use crate::topology::Lab;
use posse_sim::Families;
use posse_sim::scenario::{Action, ClientIndex, Host, LinkOf, NatIndex, Scenario, ServerDoors, Target};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The server's port, and the one beside it where the scenario has two.
const PORT: u16 = 7777;
/// How long the server may take to say that it serves.
const BEGIN: Duration = Duration::from_secs(20);
/// How much longer than the scenario a client may take: it starts, lingers for the last words of others, says goodbye.
const PATIENCE: Duration = Duration::from_secs(25);

/// Something that the scenario does to the network or to a program.
#[derive(Clone, Copy)]
enum Deed {
    Reboot(NatIndex),
    Block(ClientIndex, ClientIndex, bool),
    BlockUdp(LinkOf, bool),
    /// Stopped, or set going again.
    Stop(Host, bool),
}

type Deeds = Vec<(Duration, Deed)>;

/// What one client has to do.
#[derive(Clone, Copy)]
struct Part {
    every: Duration,
    size: usize,
    length: Duration,
}

pub(crate) fn perform(case: &str, scenario: &Scenario, posse: &Path) -> Result<Outcome, String> {
    let (parts, deeds) = script(scenario)?;
    let lab = Lab::build(case, scenario)?;
    let mut server = Program::start(&lab.server.namespace, posse, &serve(&lab, scenario))?;
    let key = server.field("serving", "public_key")?;
    let at = SocketAddr::new(lab.server.address, PORT).to_string();
    // What is so from the beginning is so before anybody starts.
    let (first, deeds): (Deeds, Deeds) = deeds.into_iter().partition(|(when, _)| when.is_zero());
    for (_, deed) in first {
        act(deed, &lab, scenario, &server, &[])?;
    }
    let begin = Instant::now();
    let mut clients = Vec::new();
    for ((spec, host), part) in scenario.clients.iter().zip(&lab.clients).zip(&parts) {
        let (every, size) = ((part.every.as_secs_f64() * 1e3).to_string(), part.size.to_string());
        let length = part.length.as_secs_f64().to_string();
        let who = ["join", "--server", &at, "--server-key", &key, "--room", "lab", "--name", &spec.name, "--json"];
        let what = ["--every", &every, "--size", &size, "--for", &length];
        clients.push(Program::start(&host.namespace, posse, &[&who[..], &what].concat())?);
    }
    for (when, deed) in deeds {
        std::thread::sleep((begin + when).saturating_duration_since(Instant::now()));
        act(deed, &lab, scenario, &server, &clients)?;
    }
    let deadline = begin + scenario.duration + PATIENCE;
    let told: Vec<_> = clients.iter_mut().map(|client| client.rest(deadline)).collect();
    account(told)
}

fn act(deed: Deed, lab: &Lab, scenario: &Scenario, server: &Program, clients: &[Program]) -> Result<(), String> {
    match deed {
        Deed::Reboot(nat) => lab.reboot(nat),
        Deed::Block(a, b, block) => lab.block(scenario, (a, b), block),
        Deed::BlockUdp(at, block) => lab.block_udp(at, block),
        Deed::Stop(Host::Server, stop) => server.stop(stop),
        Deed::Stop(Host::Client(ClientIndex(i)), stop) => clients.get(i).map_or(Ok(()), |client| client.stop(stop)),
    }
}

/// What the clients say, and what the scenario does, in order of time.
fn script(scenario: &Scenario) -> Result<(Vec<Part>, Deeds), String> {
    let mut parts = vec![None; scenario.clients.len()];
    let mut deeds = Vec::new();
    for step in &scenario.steps {
        let mut now_and_later = |deed, undo: Option<(Duration, Deed)>| {
            for n in 0..step.times {
                let at = step.at + step.every * n;
                deeds.push((at, deed));
                deeds.extend(undo.map(|(after, deed)| (at + after, deed)));
            }
        };
        match &step.action {
            // That is what `posse join` does.
            Action::CreateGroup { members, .. } if members.len() == parts.len() => {}
            Action::Send(sending) if matches!(sending.to, Target::Group(_)) => {
                let Host::Client(ClientIndex(from)) = sending.from else { return Err("the server sends".into()) };
                let part = Part { every: step.every, size: sending.size, length: step.every * step.times };
                if parts.get_mut(from).is_none_or(|place| place.replace(part).is_some()) {
                    return Err("a client sends twice".into());
                }
            }
            Action::Reboot { nat, new_address: false } => now_and_later(Deed::Reboot(*nat), None),
            Action::CutDirect { pair: (a, b), one_way: false, lasts } => {
                now_and_later(Deed::Block(*a, *b, true), lasts.map(|after| (after, Deed::Block(*a, *b, false))));
            }
            Action::BlockUdp { link, lasts } => {
                now_and_later(Deed::BlockUdp(*link, true), lasts.map(|after| (after, Deed::BlockUdp(*link, false))));
            }
            Action::Pause { host, lasts } => {
                now_and_later(Deed::Stop(*host, true), Some((*lasts, Deed::Stop(*host, false))));
            }
            other => return Err(format!("the kernel lab cannot do {other:?}")),
        }
    }
    deeds.sort_by_key(|(at, _)| *at);
    let parts: Option<Vec<Part>> = parts.into_iter().collect();
    Ok((parts.ok_or("every client must send something")?, deeds))
}

fn serve(lab: &Lab, scenario: &Scenario) -> Vec<String> {
    let mut arguments = vec!["serve".into(), "--json".into(), "--listen".into()];
    // What is bound to `[::]` carries both.
    let any = Ipv6Addr::UNSPECIFIED.into();
    let listen = if lab.families == Families::Both { any } else { lab.server.address };
    arguments.push(SocketAddr::new(listen, PORT).to_string());
    if scenario.doors != ServerDoors::None {
        arguments.extend(["--door-port".into(), (PORT + 1).to_string()]);
    }
    if let Some(second) = lab.second {
        arguments.extend(["--door-address".into(), second.to_string()]);
    }
    arguments
}

/// Puts together what both clients said.
fn account(told: Vec<Result<Vec<Value>, String>>) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for lines in told {
        let lines = lines?;
        let of = |kind: &str| lines.iter().find(|line| line["type"] == kind);
        let Some(summary) = of("summary") else {
            let why = of("failed").and_then(|line| line["why"].as_str()).unwrap_or("it said nothing");
            return Err(format!("no session: {why}"));
        };
        let text = |field: &str| summary[field].as_str();
        let legs = lines.iter().filter(|line| line["type"] == "leg").filter_map(|line| line["leg"].as_str());
        outcome.legs.push(legs.map(str::to_owned).collect());
        let count = |field: &str| summary[field].as_u64().unwrap_or(u64::MAX);
        outcome.ways.push(match (text("path"), text("because")) {
            (Some("relayed"), Some(because)) => format!("relayed, {because}"),
            (path, _) => path.unwrap_or("unknown").to_owned(),
        });
        let direct = summary["time_to_direct_ms"].as_f64().map(|ms| Duration::from_secs_f64(ms / 1e3));
        outcome.to_direct = outcome.to_direct.max(direct);
        outcome.sent += count("sent");
        outcome.lost += count("lost");
        outcome.repeated += count("repeated");
        outcome.reordered += count("reordered");
    }
    Ok(outcome)
}

/// A program in a namespace that ends with this.
struct Program {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    fn start<S: AsRef<std::ffi::OsStr>>(namespace: &str, posse: &Path, arguments: &[S]) -> Result<Self, String> {
        let program = posse.to_str().ok_or("the path of the program is no text")?;
        let mut command = inside(namespace, program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start {program}: {e}"))?;
        let (lines, errors) = (read(child.stdout.take()), read(child.stderr.take()));
        Ok(Self { child, lines, errors })
    }

    /// A field of its next line, which must be of that kind.
    fn field(&mut self, kind: &str, field: &str) -> Result<String, String> {
        let line = self.lines.recv_timeout(BEGIN).map_err(|_| self.complaint())?;
        let line: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        let value = line[field].as_str().filter(|_| line["type"] == kind);
        value.map(str::to_owned).ok_or_else(|| format!("expected {field} of {kind}, found {line}"))
    }

    /// All that it says until its end.
    fn rest(&mut self, deadline: Instant) -> Result<Vec<Value>, String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(lines),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err("it did not end".into()),
            }
        }
    }

    fn stop(&self, stop: bool) -> Result<(), String> {
        let signal = if stop { "-STOP" } else { "-CONT" };
        let done = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        done.map_err(|e| e.to_string()).and_then(|s| if s.success() { Ok(()) } else { Err("no such process".into()) })
    }

    fn complaint(&mut self) -> String {
        let _ = self.child.kill();
        let said: Vec<String> = self.errors.iter().collect();
        format!("it did not begin: {}", said.join(" "))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read in a thread that ends with it.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(pipe) = pipe {
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    lines
}
