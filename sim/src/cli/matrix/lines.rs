//! The matrix as JSON: `docs/json.md`.

use super::{Cell, Plan, Punched};
use crate::cli::json::nanos;
use posse_core::{Duration, Path};
use posse_sim::oracle::{Behaviour, How};
use posse_sim::scenario::{Tried, judge};
use posse_sim::{Filtering, Mapping};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct MatrixLine {
    r#type: &'static str,
    techniques: &'static str,
    seeds: u64,
    cells: usize,
    agree: usize,
    open: usize,
    runs: usize,
    direct: usize,
    direct_bound_ns: u64,
}

impl MatrixLine {
    pub(super) fn new(cells: &[Cell], plan: &Plan, bound: Duration) -> Self {
        let techniques = match plan.tried() {
            Tried::Plain => "plain",
            Tried::Predict => "predict",
            Tried::Birthday => "birthday",
            Tried::All => "all",
        };
        Self {
            r#type: "matrix",
            techniques,
            seeds: plan.seeds,
            cells: cells.len(),
            agree: cells.iter().filter(|cell| cell.agrees(plan.tried())).count(),
            open: cells.iter().filter(|cell| cell.how != How::Never).count(),
            runs: cells.iter().map(|cell| cell.runs.len()).sum(),
            direct: cells.iter().map(Cell::direct).sum(),
            direct_bound_ns: nanos(bound),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CellLine {
    r#type: &'static str,
    a: Kind,
    b: Kind,
    seed: u64,
    how: &'static str,
    chance: f64,
    a_says: Word,
    b_says: Word,
    direct_after_ns: Option<u64>,
    direct_bound_ns: u64,
    a_probes: u64,
    b_probes: u64,
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
    pub(super) fn new(cell: &Cell, run: &Punched, bound: Duration) -> Self {
        let [a_says, b_says] = run.says.map(Word::of);
        let how = match cell.how {
            How::Plain => "plain",
            How::Predicted => "predicted",
            How::Birthday(1) => "birthday",
            How::Birthday(_) => "birthday-twice",
            How::Never => "never",
        };
        let [a_probes, b_probes] = run.probes;
        Self {
            r#type: "cell",
            a: Kind::of(cell.a),
            b: Kind::of(cell.b),
            seed: run.seed,
            how,
            chance: cell.chance,
            a_says,
            b_says,
            direct_after_ns: run.direct_after.map(nanos),
            direct_bound_ns: nanos(bound),
            a_probes,
            b_probes,
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
