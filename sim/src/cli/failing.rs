//! What fails: made smaller, seen again.

use super::progress::{Clock, Progress};
use super::{Failure, json, recording, text, traced};
use posse_sim::Observer;
use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::{Outcome, Run};
use posse_sim::shrink::{self, Shrunk};
use posse_sim::swarm::{self, Canary, Verdict};
use posse_sim::trace::{Folder, Log, Topology, Trace, Written};
use std::cell::RefCell;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Scenarios that shrinking runs at most.
const RUNS: u32 = 5_000;
/// It breaks off after so long, with what it has by then.
const PATIENCE_SECONDS: u64 = 60;
/// Where the folder of what fails goes, unless told otherwise.
pub(super) const ROOT: &str = "posse-trace";

/// What is run, and how it is judged.
pub(super) struct Case {
    pub(super) scenario: Scenario,
    pub(super) canary: Canary,
    /// What it is called: a seed, or a file's name.
    pub(super) name: String,
    /// Whether the seed draws it.
    drawn: bool,
    /// The digest that it is to have, if it was run before.
    digest: Option<String>,
}

/// What is to be run again.
#[derive(clap::Args)]
pub(super) struct What {
    /// A scenario file, the folder of a trace, or a seed of the swarm; to replay also what `posse --record` saved
    #[arg(value_name = "FILE|FOLDER|SEED")]
    what: String,
    /// Strike a message that arrived from the books, as `swarm --canary` does
    #[arg(long)]
    canary: bool,
}

impl What {
    /// Finds it. What is there as a file is no seed.
    fn case(&self) -> Result<Case, Failure> {
        let canary = Canary::from(self.canary);
        let path = Path::new(&self.what);
        if !path.exists()
            && let Ok(seed) = self.what.parse()
        {
            return Ok(Case::drawn(seed, canary));
        }
        let file = if path.is_dir() { path.join("scenario.toml") } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::File(file.clone(), error))?;
        let scenario = Scenario::parse(&file.display().to_string(), &text)?;
        // A folder's digest is its scenario's, whichever of the two was asked for.
        let digest = match file.file_name() {
            Some(name) if name == "scenario.toml" => std::fs::read_to_string(file.with_file_name("digest.txt")).ok(),
            _ => None,
        };
        let digest = digest.map(|text| text.trim().to_owned());
        Ok(Case { scenario, canary, name: traced::stem(&file), drawn: false, digest })
    }
}

impl Case {
    pub(super) fn drawn(seed: u64, canary: Canary) -> Self {
        Self { scenario: Scenario::random(seed), canary, name: seed.to_string(), drawn: true, digest: None }
    }

    /// Another scenario, judged and called like this one.
    pub(super) fn with(self, scenario: Scenario) -> Self {
        Self { scenario, digest: None, ..self }
    }

    fn judge(&self, scenario: &Scenario) -> Verdict {
        swarm::judge_scenario(scenario, scenario.seed, self.canary)
    }

    fn run(&self, log: Option<Rc<RefCell<Log>>>) -> Result<(Verdict, Outcome, Topology), Failure> {
        let observers = log.into_iter().map(|log| Box::new(log) as Box<dyn Observer>).collect();
        let seed = self.scenario.seed;
        let run = Run::observed(&self.scenario, seed, observers).map_err(|e| Failure::Setup(e.to_string()))?;
        let topology = run.world().topology();
        let (verdict, outcome) = swarm::judge_run(run, self.canary);
        Ok((verdict, outcome, topology))
    }

    /// Makes it as small as it gets in about a minute; says on stderr how far it is. `None` if it does not fail.
    pub(super) fn shrink(&self) -> Option<Shrunk> {
        let (clock, mut progress, mut runs) = (Clock::start(), Progress::new("shrinking:"), 0_u32);
        let mut judge = |scenario: &Scenario| {
            if clock.seconds() >= PATIENCE_SECONDS {
                return ControlFlow::Break(());
            }
            runs += 1;
            progress.tell(|| format!("{runs} runs, down to {} events or less", scenario.events()));
            ControlFlow::Continue(self.judge(scenario).failures.into_iter().next().map(|failure| failure.kind))
        };
        shrink::shrink(&self.scenario, self.scenario.seed, RUNS, &mut judge)
    }

    /// Three lines: what broke, how to see it again, where everything about it is. Of a smaller case than `original`, that
    /// goes into the folder, too.
    pub(super) fn tell(
        &self,
        (command, original): (&str, Option<&Scenario>),
        below: &Path,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let log: Rc<RefCell<Log>> = Rc::default();
        let (verdict, outcome, topology) = self.run(Some(log.clone()))?;
        let broken = verdict.failures.first().map_or("nothing", |failure| &failure.text);
        let texts = verdict.failures.iter().map(|failure| failure.text.clone());
        let events = match original {
            Some(original) => format!(", {} events of {}", self.scenario.events(), original.events()),
            None => String::new(),
        };
        let mut folder = Folder {
            command,
            name: &self.name,
            broken: Some(broken).filter(|_| !verdict.failures.is_empty()),
            replay: None,
            scenario: Some(&self.scenario),
            original,
            trace: Trace { log: &log.borrow(), topology: &topology, notes: &outcome.notes(&self.scenario, texts) },
            digest: outcome.digest,
            // A seed's folder from before the code was changed is of no use any more.
            replace: true,
        };
        let canary = if self.canary == Canary::On { " --canary" } else { "" };
        let replay = folder.rerun("replay", &folder.path(below)) + canary;
        folder.replay = Some(&replay);
        let Written { path, .. } = folder.write(below)?;
        let seed = if self.drawn { "seed " } else { "" };
        writeln!(out, "{seed}{}: {broken} (digest {:032x}{events})", self.name, outcome.digest)?;
        writeln!(out, "replay: {replay}")?;
        writeln!(out, "folder: {}", path.display())?;
        Ok(())
    }
}

/// `cargo sim shrink`.
#[derive(clap::Args)]
pub(super) struct Shrink {
    #[command(flatten)]
    what: What,
    /// Write everything about what is left into a folder below DIR (docs/traces.md)
    #[arg(long = "trace", value_name = "DIR", default_value = ROOT)]
    below: PathBuf,
}

impl Shrink {
    /// Whether there was nothing to shrink.
    pub(super) fn run(&self, out: &mut impl Write) -> Result<bool, Failure> {
        let case = self.what.case()?;
        let Some(shrunk) = case.shrink() else {
            writeln!(out, "{} holds: there is nothing to shrink", case.name)?;
            return Ok(true);
        };
        let original = case.scenario.clone();
        case.with(shrunk.scenario).tell(("shrink", Some(&original)), &self.below, out)?;
        Ok(false)
    }
}

/// `cargo sim replay`.
#[derive(clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    what: What,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trace: traced::Wish,
}

impl Replay {
    /// Whether it holds.
    pub(super) fn run(&self, out: &mut impl Write) -> Result<bool, Failure> {
        let file = Path::new(&self.what.what);
        if posse_record::is_recording(file) {
            return recording::replay(file, self.json, out);
        }
        let case = self.what.case()?;
        let log = self.trace.log();
        let (verdict, outcome, topology) = case.run(log.clone())?;
        let scenario = &case.scenario;
        if self.json {
            json::write(scenario, &outcome, out)?;
        } else {
            text::write(scenario, &outcome, out)?;
            writeln!(out)?;
            for failure in &verdict.failures {
                writeln!(out, "broken: {}", failure.text)?;
            }
            if verdict.failures.is_empty() {
                writeln!(out, "nothing is broken")?;
            }
        }
        out.flush()?;
        let digest = format!("{:032x}", outcome.digest);
        if let Some(before) = case.digest.as_ref().filter(|before| **before != digest) {
            eprintln!("not the run that was recorded: its digest was {before}; the code is another, or the scenario");
        }
        self.trace.write(("replay", &case.name), (scenario, &outcome), log.map(|log| (log, topology)))?;
        Ok(verdict.failures.is_empty())
    }
}
