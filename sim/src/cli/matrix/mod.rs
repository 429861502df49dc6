//! All 81 pairs of NATs, punched by real clients and a real server in the simulated network, beside the oracle.

mod lines;
mod page;
mod text;

use super::Failure;
use super::json;
use super::progress::Progress;
use clap::{Args, ValueEnum};
use posse_core::{Duration, Instant, Path, PathPolicy, RelayReason};
use posse_sim::oracle::{self, Behaviour, Budget, Directions, How};
use posse_sim::scenario::judge;
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{
    Action, ClientIndex, ClientSpec, GroupIndex, Host, LinkOf, NatIndex, NatSpec, Network, Scenario, ServerDoors, Step,
    Tried, journal::What,
};
use posse_sim::{Allocation, Event, Families, Filtering, Link, Mapping, Nat, Observer, World};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;

/// From a home to the internet.
const HOME: Link = Link::millis(10);
/// From the server to the internet: farther than the homes are from each other.
const SERVER: Link = Link::millis(40);
/// When the group is formed: by then the server knows both NATs.
const FORMED: Duration = Duration::from_secs(3);
/// A pair that has not come to its verdict by then never will: a search takes 30 s at the most, and there may be some
/// predictions before.
const PATIENCE: Duration = Duration::from_secs(60);
/// A relayed pair is watched for so long after its verdict, lest it goes direct after all.
const WATCH: Duration = Duration::from_secs(3);
/// With sequential ports, somebody else behind each NAT makes a mapping so often on average.
pub(super) const CROSS_TRAFFIC: Duration = Duration::from_secs(1);
/// A count that is so many standard deviations from what is expected is taken for chance.
const SIGMAS: f64 = 4.0;

/// What `matrix` is asked for.
#[derive(Args)]
pub(super) struct Plan {
    /// How often each of the 81 pairs is run, each time with another seed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// What is tried where plain punching leads nowhere
    #[arg(long, value_enum, default_value_t = Techniques::Plain)]
    techniques: Techniques,
    /// How the NATs give out ports
    #[arg(long, value_enum, default_value_t = Ports::Random)]
    ports: Ports,
    /// Ports that one search tries at the most
    #[arg(long, default_value_t = Scenario::PROBES)]
    probes: u16,
    /// Only pairs in which the first is this kind, such as EI/APD
    #[arg(long)]
    first: Option<String>,
    /// Only pairs in which the second is this kind, such as APD/APD
    #[arg(long)]
    second: Option<String>,
    /// Also write a page for the browser: a map of all pairs, and how soon they are direct
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Techniques {
    Plain,
    Predict,
    Birthday,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Ports {
    Random,
    Preserving,
    Sequential,
    Block,
    Overloading,
}

impl Plan {
    fn tried(&self) -> Tried {
        match self.techniques {
            Techniques::Plain => Tried::Plain,
            Techniques::Predict => Tried::Predict,
            Techniques::Birthday => Tried::Birthday,
            Techniques::All => Tried::All,
        }
    }

    /// The NAT of a behaviour.
    fn nat(&self, (mapping, filtering): Behaviour) -> Nat {
        let nat = Nat::new(mapping, filtering);
        match self.ports {
            Ports::Random => nat,
            Ports::Preserving => nat.allocation(Allocation::Preserving),
            Ports::Sequential => nat.allocation(Allocation::Sequential).cross_traffic(CROSS_TRAFFIC),
            Ports::Block => nat.allocation(Allocation::Block),
            Ports::Overloading => nat.allocation(Allocation::Overloading),
        }
    }

    fn budget(&self) -> Budget {
        Budget { probes: self.probes.into(), ..Budget::USUAL }
    }

    /// Kinds of the first, or the second, side.
    fn kinds(&self, only: Option<&String>) -> Result<Vec<Behaviour>, Failure> {
        let all = Mapping::ALL.into_iter().flat_map(|mapping| Filtering::ALL.map(|filtering| (mapping, filtering)));
        let all: Vec<_> = all.filter(|kind| only.is_none_or(|only| *only == text::short(*kind))).collect();
        match (all.is_empty(), only) {
            (true, Some(only)) => Err(Failure::Setup(format!("there is no kind {only:?}; one is EI/APD"))),
            _ => Ok(all),
        }
    }
}

/// One pair of kinds.
struct Cell {
    a: Behaviour,
    b: Behaviour,
    plain: Directions,
    how: How,
    /// Probability that it goes direct.
    chance: f64,
    runs: Vec<Punched>,
}

/// What two clients came to under one seed.
struct Punched {
    seed: u64,
    /// The last word of each side.
    says: [Option<Path>; 2],
    /// When both had said "direct", from the forming of the group.
    direct_after: Option<Duration>,
    /// Datagrams that each side sent straight to the other until then.
    probes: [u64; 2],
}

impl Punched {
    fn direct(&self) -> bool {
        self.says.iter().all(|says| matches!(says, Some(Path::Direct { .. })))
    }
}

impl Cell {
    fn direct(&self) -> usize {
        self.runs.iter().filter(|run| run.direct()).count()
    }

    /// What both sides say where the pair does not go direct.
    fn relayed(&self, tried: Tried) -> [Option<Path>; 2] {
        let same = |because| [Some(Path::Relayed { because }); 2];
        match (tried, self.how) {
            (Tried::Plain, _) => relayed(reason(self.plain)),
            (_, How::Never) => same(RelayReason::Unpredictable),
            _ => same(RelayReason::BudgetSpent),
        }
    }

    /// As many go direct as the oracle says, by chance where it says so, and the others say why not.
    fn agrees(&self, tried: Tried) -> bool {
        let (direct, runs) = (self.direct() as f64, self.runs.len() as f64);
        let sigma = (runs * self.chance * (1.0 - self.chance)).sqrt();
        let often = (direct - runs * self.chance).abs() <= SIGMAS * sigma;
        let why = self.relayed(tried);
        often && self.runs.iter().all(|run| run.direct() || (run.direct_after.is_none() && run.says == why))
    }
}

/// Two homes behind any NATs.
pub(super) struct Ends {
    pub(super) nats: [Nat; 2],
    pub(super) tried: Tried,
    /// Whether a firewall lets none of its datagrams pass.
    pub(super) no_udp: [bool; 2],
}

impl Ends {
    /// Whether both come to a direct path.
    pub(super) fn goes_direct(self, seed: u64) -> Result<bool, Failure> {
        let mut scenario = homes(self.nats, self.tried, Scenario::PROBES);
        scenario.ipv6 = scenario.nats.iter().any(|spec| spec.nat.ipv6.is_some());
        for client in (0..2).filter(|client| self.no_udp[*client]) {
            let action = Action::BlockUdp { link: LinkOf::Host(Host::Client(ClientIndex(client))), lasts: None };
            scenario.steps.push(Step { at: Duration::ZERO, every: Duration::ZERO, times: 1, action });
        }
        let mut run = Run::new(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
        let nodes = [ClientIndex(0), ClientIndex(1)].map(|client| run.client(client));
        let last = |world: &World, i: usize| last_word(world, nodes[i]);
        // Whatever is said after a search is final; plain punching alone says so after its round.
        run.advance(PATIENCE, |world| {
            let says = [last(world, 0), last(world, 1)];
            let over = |says: &Option<Path>| match says {
                Some(Path::Relayed { because }) => *because != RelayReason::Probing,
                Some(Path::Direct { .. }) => true,
                _ => false,
            };
            says.iter().all(over)
        });
        Ok([0, 1].into_iter().all(|i| matches!(last(run.world(), i), Some(Path::Direct { .. }))))
    }
}

/// What a client said last of its only peer.
fn last_word(world: &World, node: Option<posse_sim::Node<posse_sim::scenario::app::SimClient>>) -> Option<Path> {
    let journal = world.machine(node?).journal();
    journal.entries.iter().rev().find_map(|entry| match entry.what {
        What::Path(_, path) => Some(path),
        _ => None,
    })
}

/// Runs all pairs under all seeds. Whether all agree with the oracle.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let (rows, columns) = (plan.kinds(plan.first.as_ref())?, plan.kinds(plan.second.as_ref())?);
    let all = rows.len() * columns.len() * plan.seeds as usize;
    let mut progress = Progress::new("punched");
    let (mut cells, mut done) = (Vec::new(), 0);
    let mut bound = Duration::ZERO;
    for &a in &rows {
        for &b in &columns {
            let scenario = scenario(plan, a, b);
            bound = scenario.direct_bound(ClientIndex(0), ClientIndex(1));
            let (how, chance) = oracle::outlook(a, b, &plan.nat(a), plan.tried(), plan.budget());
            let mut cell = Cell { a, b, plain: oracle::directions(a, b), how, chance, runs: Vec::new() };
            if matches!(plan.ports, Ports::Preserving | Ports::Overloading) {
                let seen = |kind: Behaviour| (Mapping::EndpointIndependent, kind.1);
                cell.plain = oracle::directions(seen(a), seen(b));
            }
            for seed in 1..=plan.seeds {
                let run = punch(&scenario, &cell, plan.tried(), seed)?;
                if plan.json {
                    json::line(out, &lines::CellLine::new(&cell, &run, bound))?;
                }
                cell.runs.push(run);
                done += 1;
                progress.tell(|| format!("{done} of {all} pairs"));
            }
            cells.push(cell);
        }
    }
    if plan.json {
        json::line(out, &lines::MatrixLine::new(&cells, plan, bound))?;
    } else {
        text::write(plan, &columns, &cells, bound, out)?;
    }
    if let Some(file) = &plan.html {
        let mut text = Vec::new();
        page::write(plan, columns.len(), &cells, bound, &mut text)?;
        std::fs::write(file, text).map_err(|error| Failure::File(file.clone(), error))?;
    }
    Ok(cells.iter().all(|cell| cell.agrees(plan.tried())))
}

fn scenario(plan: &Plan, a: Behaviour, b: Behaviour) -> Scenario {
    homes([a, b].map(|kind| plan.nat(kind)), plan.tried(), plan.probes)
}

/// Two homes with one client each, a far server, one group.
fn homes([a, b]: [Nat; 2], techniques: Tried, probes: u16) -> Scenario {
    let nat = |name: &str, nat| NatSpec { name: name.to_owned(), behind: Network::Internet, nat, link: HOME };
    let client = |name: &str, home| ClientSpec {
        name: name.to_owned(),
        on: Network::Behind(NatIndex(home)),
        link: Link::PERFECT,
        addresses: Families::Both,
        start: Duration::ZERO,
        policy: PathPolicy::default(),
        direct_peers: None,
        retain: None,
    };
    let members = vec![ClientIndex(0), ClientIndex(1)];
    let create = Action::CreateGroup { group: GroupIndex(0), members, message: String::new() };
    Scenario {
        title: "two homes".to_owned(),
        seed: 1,
        duration: PATIENCE,
        nats: vec![nat("home-a", a), nat("home-b", b)],
        server: SERVER,
        doors: ServerDoors::Address,
        techniques,
        probes,
        cookies: false,
        policy: PathPolicy::default(),
        ipv6: false,
        clients: vec![client("a", 0), client("b", 1)],
        groups: vec!["pair".to_owned()],
        steps: vec![Step { at: FORMED, every: Duration::ZERO, times: 1, action: create }],
        packets: Vec::new(),
        expectations: Vec::new(),
    }
}

/// Counts what hosts send to each public address.
#[derive(Default)]
struct Straight(BTreeMap<(usize, IpAddr), u64>);

impl Observer for Straight {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        if let Event::Sent { host, packet, .. } = event {
            *self.0.entry((*host, packet.to.ip())).or_insert(0) += 1;
        }
    }
}

fn punch(scenario: &Scenario, cell: &Cell, tried: Tried, seed: u64) -> Result<Punched, Failure> {
    let straight = Rc::new(RefCell::new(Straight::default()));
    let observers: Vec<Box<dyn Observer>> = vec![Box::new(Rc::clone(&straight))];
    let mut run = Run::observed(scenario, seed, observers).map_err(|e| Failure::Setup(e.to_string()))?;
    let nodes = [ClientIndex(0), ClientIndex(1)].map(|client| run.client(client));
    let says = |world: &World, i: usize| last_word(world, nodes[i]);
    let why = cell.relayed(tried);
    let settled = |world: &World| {
        let says = [says(world, 0), says(world, 1)];
        let direct = says.iter().all(|says| matches!(says, Some(Path::Direct { .. })));
        direct || (says == why && cell.chance < 1.0)
    };
    run.advance(PATIENCE, settled);
    let world = run.world();
    let probes = [(0, 1), (1, 0)].map(|(from, to)| {
        let ends = (nodes[from], nodes[to]);
        let (Some(from), Some(to)) = ends else { return 0 };
        straight.borrow().0.get(&(from.index(), world.public_ip(to).into())).copied().unwrap_or(0)
    });
    if cell.chance < 1.0 {
        let watched = run.world().now().since(Instant::ZERO) + WATCH;
        run.advance(watched, |_| false);
    }
    let outcome = run.finish();
    let pair = outcome.pairs.first();
    Ok(Punched {
        seed,
        says: pair.map_or([None; 2], |pair| [pair.from_a.last, pair.from_b.last]),
        direct_after: pair.and_then(|pair| Some(pair.both_direct()?.since(pair.together))),
        probes,
    })
}

/// Why the first side is relayed, by plain punching; `None` if the pair goes direct.
fn reason(oracle: Directions) -> Option<RelayReason> {
    match oracle {
        Directions { a_to_b: true, b_to_a: true } => None,
        Directions { a_to_b: true, b_to_a: false } => Some(RelayReason::OnlyOutbound),
        Directions { a_to_b: false, b_to_a: true } => Some(RelayReason::OnlyInbound),
        Directions { a_to_b: false, b_to_a: false } => Some(RelayReason::NoAnswer),
    }
}

/// What both sides say if the first one is relayed because of `because`.
fn relayed(because: Option<RelayReason>) -> [Option<Path>; 2] {
    because
        .map_or([None; 2], |because| [because, judge::mirror(because)].map(|because| Some(Path::Relayed { because })))
}
