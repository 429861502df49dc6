//! Traces of runs: `--trace DIR`.

use super::Failure;
use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::Outcome;
use posse_sim::trace::{Folder, Log, Topology, Trace};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What `--trace` asks for.
#[derive(clap::Args)]
pub(super) struct Wish {
    /// Write everything about the run into a folder below DIR: scenario, timeline, capture, JSON (docs/traces.md)
    #[arg(long = "trace", value_name = "DIR")]
    below: Option<PathBuf>,
    /// Let the trace take the place of another run's
    #[arg(long, requires = "below")]
    replace: bool,
}

impl Wish {
    /// What a run is to be observed with.
    pub(super) fn log(&self) -> Option<Rc<RefCell<Log>>> {
        self.below.is_some().then(Rc::default)
    }

    /// Writes the folder, if one is wished for, and says on stderr where it is.
    pub(super) fn write(
        &self,
        (command, name): (&str, &str),
        (scenario, outcome): (&Scenario, &Outcome),
        seen: Option<(Rc<RefCell<Log>>, Topology)>,
    ) -> Result<(), Failure> {
        let (Some(below), Some((log, topology))) = (&self.below, seen) else { return Ok(()) };
        let scenario = Scenario { seed: outcome.seed, ..scenario.clone() };
        let broken = outcome.broken();
        let folder = Folder {
            command,
            name: &format!("{name}-{}", outcome.seed),
            broken: broken.first().map(String::as_str),
            replay: None,
            scenario: Some(&scenario),
            original: None,
            trace: Trace { log: &log.borrow(), topology: &topology, notes: &outcome.notes(&scenario, broken.clone()) },
            digest: outcome.digest,
            replace: self.replace,
        };
        let written = folder.write(below)?;
        if let Some(theirs) = written.replaced {
            eprintln!("the trace of another run (digest {theirs}) was replaced");
        }
        eprintln!("trace: {}", written.path.display());
        Ok(())
    }
}

/// What a file is called, without its ending.
pub(super) fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(|| "scenario".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
