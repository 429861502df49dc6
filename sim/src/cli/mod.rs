//! Arguments, and the commands behind them.

mod failing;
mod hold;
mod internet;
mod json;
mod matrix;
mod progress;
mod recording;
mod recovery;
mod swarm;
mod tcp;
mod text;
mod times;
mod traced;
mod transport;
mod validate;
mod words;

use clap::{Parser, Subcommand};
use posse_sim::Observer;
use posse_sim::scenario::run::{Outcome, Run};
use posse_sim::scenario::{BadScenario, Scenario};
use posse_sim::trace::{FolderError, Log, Topology};
use progress::Progress;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

/// What `demo` runs; also in the repository's `scenarios` folder.
const DEMO: &str = include_str!("../../../scenarios/demo.toml");

/// Everything that was expected holds.
const HELD: u8 = 0;
/// Something that was expected does not hold.
const NOT_HELD: u8 = 1;
/// The input is bad.
const BAD_INPUT: u8 = 2;

/// A deterministic simulated network that shows and checks what Posse does.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show how a group forms, messages flow by the relay at once, and traffic goes direct
    Demo {
        /// Another seed than the scenario's
        #[arg(long)]
        seed: Option<u64>,
        /// One JSON object a line (docs/json.md)
        #[arg(long)]
        json: bool,
    },
    /// Run a scenario (docs/scenarios.md); exit 0 if all it expects holds, 1 if not, 2 if the file is bad
    Run {
        /// The scenario, a TOML file
        file: PathBuf,
        /// Another seed than the file's
        #[arg(long)]
        seed: Option<u64>,
        /// One JSON object a line (docs/json.md)
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        trace: traced::Wish,
    },
    /// Punch between every two of the nine kinds of NAT, beside what an oracle says; exit 1 if they disagree
    Matrix(matrix::Plan),
    /// Punch between clients drawn from a population of networks; exit 1 if plain punching is not as often successful as published
    Internet(internet::Plan),
    /// Measure how soon pairs that plain punching opens are direct, beside the bound; exit 1 if the goals are missed
    Times(times::Plan),
    /// See whether holes stay open for a day behind NATs of every kind of timer; exit 1 if a message is lost or a pair is not direct
    Hold(hold::Plan),
    /// Measure how soon all goes on after outages, a suspension and a NAT's restart; exit 1 if anything is lost or comes too late
    Recovery(recovery::Plan),
    /// Measure the simulated network against what it should be, figure by figure; exit 1 if one is out of its bound
    Validate {
        /// What is random follows from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// One JSON object a line (docs/json.md)
        #[arg(long)]
        json: bool,
    },
    /// Measure Reliable UDP: throughput, fairness, queueing, harms, figure by figure; exit 1 if a claimed one is missed
    Transport(transport::Plan),
    /// Measure the TCP leg beside bare TCP on the same links; exit 1 if more is sent again than may be, or anything is missing
    Tcp(tcp::Plan),
    /// Run scenarios drawn at random, with faults and then without; exit 1 at the first that does not hold
    Swarm(swarm::Plan),
    /// Run a scenario, a trace's or a seed's, and judge it as the swarm does; or a real session that was recorded, and compare it; exit 0 if it holds, 1 if not, 2 if it is bad
    Replay(failing::Replay),
    /// Make a scenario or a seed that fails as small as it still fails in the same way; exit 1, or 0 if it holds
    Shrink(failing::Shrink),
}

/// Why a command came to nothing.
enum Failure {
    Scenario(BadScenario),
    File(PathBuf, io::Error),
    Output(io::Error),
    Setup(String),
    Trace(FolderError),
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        Self::Trace(error)
    }
}

impl From<BadScenario> for Failure {
    fn from(bad: BadScenario) -> Self {
        Self::Scenario(bad)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(bad) => write!(f, "{bad}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Setup(why) => write!(f, "{why}"),
            Self::Trace(error) => write!(f, "cannot write the trace: {error}"),
        }
    }
}

/// The program.
pub(crate) fn main() -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match Arguments::parse().command {
        Command::Demo { seed, json } => Scenario::parse("scenarios/demo.toml", DEMO)
            .map_err(Failure::from)
            .and_then(|scenario| run(&scenario, seed, json, None, &mut out)),
        Command::Run { file, seed, json, trace } => run_file(&file, seed, json, &trace, &mut out),
        Command::Matrix(plan) => matrix::run(&plan, &mut out),
        Command::Internet(plan) => internet::run(&plan, &mut out),
        Command::Times(plan) => times::run(&plan, &mut out),
        Command::Hold(plan) => hold::run(&plan, &mut out),
        Command::Recovery(plan) => recovery::run(&plan, &mut out),
        Command::Validate { seed, json } => validate::run(seed, json, &mut out),
        Command::Transport(plan) => transport::run(&plan, &mut out),
        Command::Tcp(plan) => tcp::run(&plan, &mut out),
        Command::Swarm(plan) => swarm::run(&plan, &mut out),
        Command::Replay(replay) => replay.run(&mut out),
        Command::Shrink(shrink) => shrink.run(&mut out),
    };
    let done = done.and_then(|held| Ok(out.flush().map(|()| held)?));
    match done {
        Ok(true) => ExitCode::from(HELD),
        Ok(false) => ExitCode::from(NOT_HELD),
        // Whoever reads our output has seen enough (`| head`): no reason to complain.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(HELD),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn run_file(
    file: &Path,
    seed: Option<u64>,
    json: bool,
    trace: &traced::Wish,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::File(file.to_owned(), error))?;
    let scenario = Scenario::parse(&file.display().to_string(), &text)?;
    run(&scenario, seed, json, Some((trace, &traced::stem(file))), out)
}

fn run(
    scenario: &Scenario,
    seed: Option<u64>,
    json: bool,
    trace: Option<(&traced::Wish, &str)>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let log = trace.and_then(|(wish, _)| wish.log());
    let (outcome, topology) = outcome(scenario, seed.unwrap_or(scenario.seed), log.clone())?;
    if json {
        json::write(scenario, &outcome, out)?
    } else {
        text::write(scenario, &outcome, out)?
    }
    out.flush()?;
    if let Some((wish, name)) = trace {
        wish.write(("run", name), (scenario, &outcome), log.map(|log| (log, topology)))?;
    }
    Ok(outcome.held())
}

/// Runs a scenario with a word on how far it is, should that take long.
fn outcome(scenario: &Scenario, seed: u64, log: Option<Rc<RefCell<Log>>>) -> Result<(Outcome, Topology), Failure> {
    /// Looks at the clock in a run.
    const SLICES: u32 = 200;
    let observers = log.into_iter().map(|log| Box::new(log) as Box<dyn Observer>).collect();
    let mut run = Run::observed(scenario, seed, observers).map_err(|e| Failure::Setup(e.to_string()))?;
    let mut progress = Progress::new("simulated");
    for slice in 1..SLICES {
        let until = scenario.duration / SLICES * slice;
        run.advance(until, |_| false);
        progress.tell(|| {
            let written = posse_sim::scenario::written;
            format!("{} of {}", written(until), written(scenario.duration))
        });
    }
    run.advance(scenario.duration, |_| false);
    let topology = run.world().topology();
    Ok((run.finish(), topology))
}
