//! The NAT lab: each scenario of `scenarios/lab`, once in the simulator and once in the Linux kernel with the real programs, and
//! whether both come to the same. `docs/kernel-lab.md` describes it.
//!
//! A case agrees if both clients end up with the same word on how their traffic goes and by which legs they reached the server, and
//! nothing was lost, repeated or reordered in either.

mod kernel;
mod outcome;
mod session;
mod simulated;
mod topology;

use outcome::Outcome;
use posse_sim::scenario::Scenario;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Cases at a time. They mostly wait, but two cores must keep up with hole punching.
const AT_ONCE: usize = 8;

const HELP: &str = "usage: posse-lab [--json] [--posse FILE] [CASE ...]

Runs the cases (files of scenarios/lab, all of them unless named) in the simulator and in the kernel, and says whether both
come to the same. Needs root on Linux, and the packages iproute2, nftables and conntrack.

  --json        one JSON object a case
  --posse FILE  the program to test; without, it is built

Exit codes: 0 all agree, or there is no lab on this machine (it says so); 1 not all agree; 2 no such case.";

struct Case {
    name: String,
    scenario: Scenario,
}

struct Found {
    case: Case,
    kernel: Result<Outcome, String>,
    simulator: Result<Outcome, String>,
}

impl Found {
    fn agrees(&self) -> bool {
        // Whether a login is raced by TCP is a matter of luck where its packets get lost at random.
        let legs = self.case.scenario.nats.iter().all(|nat| topology::losses(&nat.link) == (0, 0));
        matches!((&self.kernel, &self.simulator), (Ok(kernel), Ok(simulator)) if kernel.agrees(simulator, legs))
    }
}

/// What the command line says.
#[derive(Default)]
struct Options {
    json: bool,
    posse: Option<PathBuf>,
    cases: Vec<String>,
}

impl Options {
    /// `None`: it is to be explained.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => options.json = true,
                "--posse" => options.posse = Some(arguments.next().ok_or("--posse needs a FILE")?.into()),
                flag if flag.starts_with('-') => return Err(format!("there is no {flag}; --help tells what there is")),
                _ => options.cases.push(argument),
            }
        }
        Ok(Some(options))
    }
}

fn main() -> ExitCode {
    let read = Options::read(std::env::args().skip(1)).and_then(|options| match options {
        Some(options) => cases(&options.cases).map(|cases| Some((options, cases))),
        None => Ok(None),
    });
    let (options, cases) = match read {
        Ok(Some(read)) => read,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("posse-lab: {why}");
            return ExitCode::from(2);
        }
    };
    let json = options.json;
    if let Some(why) = kernel::missing() {
        println!(
            "{}",
            if json { json!({"v": 1, "type": "skipped", "why": why}).to_string() } else { format!("skipped: {why}") }
        );
        return ExitCode::SUCCESS;
    }
    kernel::sweep();
    let posse = match options.posse.map_or_else(program, Ok) {
        Ok(posse) => posse,
        Err(why) => {
            eprintln!("posse-lab: {why}");
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let found = run(cases, &posse);
    if json {
        found.iter().for_each(tell);
    } else {
        table(&found);
    }
    let agree = found.iter().filter(|found| found.agrees()).count();
    if !json {
        println!("\n{agree} of {} cases agree, in {:.0} s", found.len(), start.elapsed().as_secs_f64());
    }
    if agree == found.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases of those names, or all.
fn cases(names: &[String]) -> Result<Vec<Case>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/lab");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let scenario = Scenario::parse(&file.display().to_string(), &text).map_err(|e| e.to_string())?;
        cases.push(Case { name, scenario });
    }
    match names.iter().find(|name| !cases.iter().any(|case| case.name == **name)) {
        Some(name) => Err(format!("there is no case {name}")),
        None => Ok(cases),
    }
}

/// Builds the program under test as this one was built, and says where it is.
fn program() -> Result<PathBuf, String> {
    let mine = std::env::current_exe().map_err(|e| e.to_string())?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "-p", "posse", "--features", "cli"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status().map_err(|e| format!("cannot run cargo: {e}"))?;
    if !status.success() {
        return Err("the program posse cannot be built".into());
    }
    Ok(mine.with_file_name("posse"))
}

/// Runs all, some at a time, the longest first.
fn run(mut cases: Vec<Case>, posse: &Path) -> Vec<Found> {
    cases.sort_by_key(|case| std::cmp::Reverse(case.scenario.duration));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let kernel = session::perform(&case.name, &case.scenario, posse);
                    let simulator = simulated::simulate(&case.scenario);
                    let case = Case { name: case.name.clone(), scenario: case.scenario.clone() };
                    if let Ok(mut found) = found.lock() {
                        found.push(Found { case, kernel, simulator });
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by(|a, b| a.case.name.cmp(&b.case.name));
    found
}

fn table(found: &[Found]) {
    let way = |outcome: &Result<Outcome, String>| outcome.as_ref().map_or_else(|_| "FAILED".into(), Outcome::way);
    let time = |outcome: &Result<Outcome, String>| {
        let to_direct = outcome.as_ref().ok().and_then(|outcome| outcome.to_direct);
        to_direct.map_or("–".into(), |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3))
    };
    println!(
        "| case | kernel | simulator | agree | sent | lost, repeated, reordered | ms to direct: kernel | simulator |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for one in found {
        let Found { case, kernel, simulator } = one;
        let counts = kernel.as_ref().map_or_else(
            |_| "–".into(),
            |outcome| format!("{}, {}, {}", outcome.lost, outcome.repeated, outcome.reordered),
        );
        println!(
            "| {} | {} | {} | {} | {} | {counts} | {} | {} |",
            case.name,
            way(kernel),
            way(simulator),
            if one.agrees() { "yes" } else { "NO" },
            kernel.as_ref().map_or(0, |outcome| outcome.sent),
            time(kernel),
            time(simulator),
        );
    }
    for Found { case, kernel, simulator } in found {
        for why in [kernel, simulator].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
            println!("{}: {why}", case.name);
        }
    }
}

fn tell(found: &Found) {
    let outcome = |outcome: &Result<Outcome, String>| match outcome {
        Ok(o) => json!({
            "ways": o.ways, "legs": o.legs, "time_to_direct_ms": o.to_direct.map(|time| time.as_secs_f64() * 1e3), "sent": o.sent,
            "lost": o.lost, "repeated": o.repeated, "reordered": o.reordered,
        }),
        Err(why) => json!({ "failed": why }),
    };
    println!(
        "{}",
        json!({
            "v": 1, "type": "case", "case": found.case.name, "title": found.case.scenario.title, "agree": found.agrees(),
            "kernel": outcome(&found.kernel), "simulator": outcome(&found.simulator),
        })
    );
}
