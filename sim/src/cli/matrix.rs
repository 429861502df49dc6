//! All 81 pairs of NATs, punched by real clients and a real server in the simulated network, beside the oracle.

use super::Failure;
use super::json::{self, nanos};
use super::progress::Progress;
use super::words::{ms, table};
use posse_core::{Duration, Instant, Path, RelayReason};
use posse_sim::oracle::{self, Behaviour, Directions};
use posse_sim::scenario::judge;
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{
    Action, ClientIndex, ClientSpec, GroupIndex, NatIndex, NatSpec, Network, Scenario, Step, journal::What,
};
use posse_sim::{Filtering, Link, Mapping, Nat, World};
use serde::Serialize;
use std::io::Write;

/// From a home to the internet.
const HOME: Link = Link::millis(10);
/// From the server to the internet: farther than the homes are from each other.
const SERVER: Link = Link::millis(40);
/// A pair that has not come to its verdict by then never will: rounds of punching are over long before.
const PATIENCE: Duration = Duration::from_secs(30);
/// A relayed pair is watched for so long after its verdict, lest it goes direct after all.
const WATCH: Duration = Duration::from_secs(3);

/// What two clients came to.
struct Cell {
    a: Behaviour,
    b: Behaviour,
    oracle: Directions,
    seed: u64,
    /// The last word of each side.
    says: [Option<Path>; 2],
    /// When both had said "direct", from the forming of the group.
    direct_after: Option<Duration>,
}

impl Cell {
    fn direct(&self) -> bool {
        self.says.iter().all(|says| matches!(says, Some(Path::Direct { .. })))
    }

    /// Both sides say what the oracle says, with the reason.
    fn agrees(&self) -> bool {
        match reason(self.oracle) {
            None => self.direct(),
            Some(because) => self.direct_after.is_none() && self.says == relayed(because),
        }
    }
}

/// Runs all pairs under `seeds` seeds. Whether all agree with the oracle.
pub(super) fn run(seeds: u64, json: bool, out: &mut impl Write) -> Result<bool, Failure> {
    let kinds = kinds();
    let all = kinds.len() * kinds.len() * seeds as usize;
    let mut progress = Progress::new("punched");
    let mut cells = Vec::new();
    let mut bound = Duration::ZERO;
    for &a in &kinds {
        for &b in &kinds {
            for seed in 1..=seeds {
                let scenario = scenario(a, b);
                bound = scenario.direct_bound(ClientIndex(0), ClientIndex(1));
                let cell = punch(&scenario, a, b, seed)?;
                if json {
                    json::line(out, &CellLine::new(&cell, bound))?;
                }
                cells.push(cell);
                progress.tell(|| format!("{} of {all} pairs", cells.len()));
            }
        }
    }
    let agree = cells.iter().filter(|cell| cell.agrees()).count();
    if json {
        let (cells, direct) = (cells.len(), cells.iter().filter(|cell| cell.direct()).count());
        json::line(out, &Line::Matrix { seeds, cells, agree, direct, direct_bound_ns: nanos(bound) })?;
    } else {
        write_text(&kinds, &cells, seeds, bound, out)?;
    }
    Ok(agree == cells.len())
}

fn kinds() -> Vec<Behaviour> {
    Mapping::ALL.into_iter().flat_map(|mapping| Filtering::ALL.map(|filtering| (mapping, filtering))).collect()
}

/// Two homes with one client each, a far server, one group.
fn scenario(a: Behaviour, b: Behaviour) -> Scenario {
    let nat = |name: &str, (mapping, filtering)| NatSpec {
        name: name.to_owned(),
        behind: Network::Internet,
        nat: Nat::new(mapping, filtering),
        link: HOME,
    };
    let client = |name: &str, home| ClientSpec {
        name: name.to_owned(),
        on: Network::Behind(NatIndex(home)),
        link: Link::PERFECT,
        start: Duration::ZERO,
    };
    let members = vec![ClientIndex(0), ClientIndex(1)];
    let create = Action::CreateGroup { group: GroupIndex(0), members, message: String::new() };
    Scenario {
        title: "two homes".to_owned(),
        seed: 1,
        duration: PATIENCE,
        nats: vec![nat("home-a", a), nat("home-b", b)],
        server: SERVER,
        clients: vec![client("a", 0), client("b", 1)],
        groups: vec!["pair".to_owned()],
        steps: vec![Step { at: Duration::ZERO, every: Duration::ZERO, times: 1, action: create }],
        packets: Vec::new(),
        expectations: Vec::new(),
    }
}

fn punch(scenario: &Scenario, a: Behaviour, b: Behaviour, seed: u64) -> Result<Cell, Failure> {
    let oracle = oracle::directions(a, b);
    let mut run = Run::new(scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
    let nodes = [ClientIndex(0), ClientIndex(1)].map(|client| run.client(client));
    let says = |world: &World, i: usize| {
        let journal = nodes[i].map(|node| world.machine(node).journal());
        journal.and_then(|journal| {
            journal.entries.iter().rev().find_map(|entry| match entry.what {
                What::Path(_, path) => Some(path),
                _ => None,
            })
        })
    };
    let settled = |world: &World| match reason(oracle) {
        None => [0, 1].into_iter().all(|i| matches!(says(world, i), Some(Path::Direct { .. }))),
        Some(because) => [says(world, 0), says(world, 1)] == relayed(because),
    };
    run.advance(PATIENCE, settled);
    if reason(oracle).is_some() {
        let watched = run.world().now().since(Instant::ZERO) + WATCH;
        run.advance(watched, |_| false);
    }
    let outcome = run.finish();
    let pair = outcome.pairs.first();
    Ok(Cell {
        a,
        b,
        oracle,
        seed,
        says: pair.map_or([None; 2], |pair| [pair.from_a.last, pair.from_b.last]),
        direct_after: pair.and_then(|pair| Some(pair.both_direct()?.since(pair.together))),
    })
}

/// Why the first side is relayed, by the oracle; `None` if the pair goes direct.
fn reason(oracle: Directions) -> Option<RelayReason> {
    match oracle {
        Directions { a_to_b: true, b_to_a: true } => None,
        Directions { a_to_b: true, b_to_a: false } => Some(RelayReason::OnlyOutbound),
        Directions { a_to_b: false, b_to_a: true } => Some(RelayReason::OnlyInbound),
        Directions { a_to_b: false, b_to_a: false } => Some(RelayReason::NoAnswer),
    }
}

/// What both sides say if the first one is relayed because of `because`.
fn relayed(because: RelayReason) -> [Option<Path>; 2] {
    [because, judge::mirror(because)].map(|because| Some(Path::Relayed { because }))
}

fn write_text(
    kinds: &[Behaviour],
    cells: &[Cell],
    seeds: u64,
    bound: Duration,
    out: &mut impl Write,
) -> Result<(), Failure> {
    writeln!(out, "Hole punching between every two kinds of NAT: mapping/filtering, EI = endpoint-independent,")?;
    writeln!(out, "AD = address-dependent, APD = address-and-port-dependent. Random ports. Rows are the first side.")?;
    writeln!(out, "A number: both sides direct after so many ms (median over seeds, bound {}).", ms(bound))?;
    writeln!(
        out,
        "Relayed: → only the first side's packets arrive, ← only the second's, · neither. !: not as the oracle says.\n"
    )?;
    let mut rows =
        vec![std::iter::once(String::new()).chain(kinds.iter().map(|kind| short(*kind))).collect::<Vec<_>>()];
    for &a in kinds {
        let mut row = vec![short(a)];
        for &b in kinds {
            let these: Vec<_> = cells.iter().filter(|cell| cell.a == a && cell.b == b).collect();
            let wrong = if these.iter().all(|cell| cell.agrees()) { "" } else { "!" };
            row.push(format!("{}{wrong}", found(&these)));
        }
        rows.push(row);
    }
    writeln!(out, "{}", table(1, &rows))?;
    for cell in cells.iter().filter(|cell| !cell.agrees()) {
        let expected =
            reason(cell.oracle).map_or("direct".to_owned(), |because| format!("relayed, {}", judge::reason(because)));
        let [a, b] = cell.says.map(judge::path);
        let (kind_a, kind_b) = (short(cell.a), short(cell.b));
        writeln!(out, "{kind_a} × {kind_b}, seed {}: the oracle says {expected}; the sides say {a}; {b}", cell.seed)?;
    }
    let agree = |pair: &(Behaviour, Behaviour)| cells.iter().filter(|c| (c.a, c.b) == *pair).all(Cell::agrees);
    let pairs: Vec<_> = kinds.iter().flat_map(|a| kinds.iter().map(move |b| (*a, *b))).collect();
    let right = pairs.iter().filter(|pair| agree(pair)).count();
    let direct = pairs.iter().filter(|(a, b)| oracle::reachable(*a, *b)).count();
    let mut times: Vec<_> = cells.iter().filter_map(|cell| cell.direct_after).collect();
    times.sort_unstable();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).or(times.last()).map_or("-".to_owned(), |d| ms(*d));
    writeln!(
        out,
        "{right} of {} pairs agree with the oracle, {direct} of them direct; {seeds} seeds each.",
        pairs.len()
    )?;
    Ok(writeln!(out, "Time to direct, ms: median {}, 95 of 100 within {}, bound {}.", at(50), at(95), ms(bound))?)
}

/// What the runs of one pair came to: a median time, or which directions work.
fn found(cells: &[&Cell]) -> String {
    let mut times: Vec<_> = cells.iter().filter(|cell| cell.direct()).filter_map(|cell| cell.direct_after).collect();
    times.sort_unstable();
    if let Some(median) = times.get(times.len() / 2) {
        return format!("{}.{}", median.as_millis(), median.as_micros() / 100 % 10);
    }
    match cells.first().and_then(|cell| cell.says[0]) {
        Some(Path::Relayed { because: RelayReason::OnlyOutbound }) => "→",
        Some(Path::Relayed { because: RelayReason::OnlyInbound }) => "←",
        Some(Path::Relayed { because: RelayReason::NoAnswer }) => "·",
        _ => "?",
    }
    .to_owned()
}

fn short((mapping, filtering): Behaviour) -> String {
    let mapping = match mapping {
        Mapping::EndpointIndependent => "EI",
        Mapping::AddressDependent => "AD",
        Mapping::AddressAndPortDependent => "APD",
    };
    let filtering = match filtering {
        Filtering::EndpointIndependent => "EI",
        Filtering::AddressDependent => "AD",
        Filtering::AddressAndPortDependent => "APD",
    };
    format!("{mapping}/{filtering}")
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line {
    Matrix { seeds: u64, cells: usize, agree: usize, direct: usize, direct_bound_ns: u64 },
}

#[derive(Serialize)]
struct CellLine {
    r#type: &'static str,
    a: Kind,
    b: Kind,
    seed: u64,
    oracle: Word,
    a_says: Word,
    b_says: Word,
    agrees: bool,
    direct_after_ns: Option<u64>,
    direct_bound_ns: u64,
}

#[derive(Serialize)]
struct Kind {
    mapping: &'static str,
    filtering: &'static str,
}

/// Direct, or why not.
#[derive(Serialize)]
struct Word {
    direct: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<u64>,
}

impl CellLine {
    fn new(cell: &Cell, bound: Duration) -> Self {
        let [a_says, b_says] = cell.says.map(Word::of);
        let because = reason(cell.oracle).map(judge::reason);
        Self {
            r#type: "cell",
            a: Kind::of(cell.a),
            b: Kind::of(cell.b),
            seed: cell.seed,
            oracle: Word { direct: because.is_none(), because, rtt_ns: None },
            a_says,
            b_says,
            agrees: cell.agrees(),
            direct_after_ns: cell.direct_after.map(nanos),
            direct_bound_ns: nanos(bound),
        }
    }
}

impl Word {
    fn of(path: Option<Path>) -> Self {
        match path {
            Some(Path::Direct { rtt }) => Self { direct: true, because: None, rtt_ns: Some(nanos(rtt)) },
            Some(Path::Relayed { because }) => {
                Self { direct: false, because: Some(judge::reason(because)), rtt_ns: None }
            }
            _ => Self { direct: false, because: None, rtt_ns: None },
        }
    }
}

impl Kind {
    fn of((mapping, filtering): Behaviour) -> Self {
        let mapping = match mapping {
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "address-dependent",
            Mapping::AddressAndPortDependent => "address-and-port-dependent",
        };
        let filtering = match filtering {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
        };
        Self { mapping, filtering }
    }
}
