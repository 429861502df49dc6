//! The matrix for people.

use super::{CROSS_TRAFFIC, Cell, Plan, Ports};
use crate::cli::Failure;
use crate::cli::words::{ms, table};
use posse_core::{Duration, Path, RelayReason};
use posse_sim::oracle::{Behaviour, How};
use posse_sim::scenario::{Tried, judge};
use posse_sim::{Filtering, Mapping};
use std::io::Write;

pub(super) fn write(
    plan: &Plan,
    columns: &[Behaviour],
    cells: &[Cell],
    bound: Duration,
    out: &mut impl Write,
) -> Result<(), Failure> {
    writeln!(out, "Hole punching between every two kinds of NAT: mapping/filtering, EI = endpoint-independent,")?;
    writeln!(out, "AD = address-dependent, APD = address-and-port-dependent. Rows are the first side.")?;
    writeln!(out, "{}; {}.", tried(plan), ports(plan))?;
    writeln!(out, "A number: both sides direct after so many ms (median over seeds, bound {}).", ms(bound))?;
    writeln!(
        out,
        "Relayed: → only the first side's packets arrive, ← only the second's, · neither; × both ends' ports"
    )?;
    writeln!(out, "unpredictable, $ budget spent. !: not as the oracle says.\n")?;
    let mut rows =
        vec![std::iter::once(String::new()).chain(columns.iter().map(|kind| short(*kind))).collect::<Vec<_>>()];
    for row in cells.chunks(columns.len().max(1)) {
        let found = row.iter().map(|cell| {
            let wrong = if cell.agrees(plan.tried()) { "" } else { "!" };
            format!("{}{wrong}", found(cell))
        });
        rows.push(row.iter().take(1).map(|cell| short(cell.a)).chain(found).collect());
    }
    writeln!(out, "{}", table(1, &rows))?;
    for cell in cells.iter().filter(|cell| !cell.agrees(plan.tried())) {
        let (a, b) = (short(cell.a), short(cell.b));
        let (direct, all) = (cell.direct(), cell.runs.len());
        writeln!(out, "{a} × {b}: {direct} of {all} direct, the oracle says {:.4}", cell.chance)?;
        let why = cell.relayed(plan.tried());
        for run in cell.runs.iter().filter(|run| !run.direct() && run.says != why).take(3) {
            let [a, b] = run.says.map(judge::path);
            let [says_a, says_b] = why.map(judge::path);
            writeln!(out, "  seed {}: {a}; {b} and not {says_a}; {says_b}", run.seed)?;
        }
    }
    summary(plan, cells, bound, out)
}

/// A line for each way in which pairs come to a direct path, or do not.
fn summary(plan: &Plan, cells: &[Cell], bound: Duration, out: &mut impl Write) -> Result<(), Failure> {
    let heads = ["", "pairs", "direct", "expected", "p50 ms", "p95 ms", "p99 ms", "datagrams p50", "p99"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (how, name) in [
        (How::Plain, "plain punching"),
        (How::Predicted, "prediction"),
        (How::Birthday(1), "birthday, one stage"),
        (How::Birthday(2), "birthday, two stages"),
        (How::Never, "closed"),
    ] {
        let these: Vec<_> = cells.iter().filter(|cell| cell.how == how).collect();
        if these.is_empty() {
            continue;
        }
        let runs = || these.iter().flat_map(|cell| &cell.runs);
        let all = runs().count().max(1) as f64;
        let direct = runs().filter(|run| run.direct()).count() as f64;
        let expected: f64 = these.iter().map(|cell| cell.chance * cell.runs.len() as f64).sum();
        let mut times: Vec<_> = runs().filter_map(|run| run.direct_after).collect();
        times.sort_unstable();
        let mut probes: Vec<_> = runs().map(|run| run.probes.into_iter().max().unwrap_or(0)).collect();
        probes.sort_unstable();
        let time = |percent| at(&times, percent).map_or("-".to_owned(), |d| ms(*d));
        let spent = |percent| at(&probes, percent).map_or("-".to_owned(), u64::to_string);
        let percent = |n: f64| format!("{:.2} %", 100.0 * n / all);
        let mut row = vec![name.to_owned(), these.len().to_string(), percent(direct), percent(expected)];
        row.extend([time(50), time(95), time(99), spent(50), spent(99)]);
        rows.push(row);
    }
    writeln!(out, "{}", table(1, &rows))?;
    let agree = cells.iter().filter(|cell| cell.agrees(plan.tried())).count();
    let open = cells.iter().filter(|cell| cell.how != How::Never).count();
    let (all, seeds) = (cells.len(), plan.seeds);
    writeln!(out, "Datagrams: those that the busier side sent straight to the other until the verdict.")?;
    Ok(writeln!(
        out,
        "{agree} of {all} pairs agree with the oracle, {open} of them open; {seeds} seeds each, bound {}.",
        ms(bound)
    )?)
}

/// So many percent of what is sorted are no more than this.
fn at<T>(sorted: &[T], percent: usize) -> Option<&T> {
    sorted.get(sorted.len() * percent / 100).or(sorted.last())
}

pub(super) fn tried(plan: &Plan) -> &'static str {
    match plan.tried() {
        Tried::Plain => "Plain punching alone",
        Tried::Predict => "Plain punching, then prediction",
        Tried::Birthday => "Plain punching, then birthday probing",
        Tried::All => "Plain punching, then prediction or birthday probing",
    }
}

pub(super) fn ports(plan: &Plan) -> String {
    match plan.ports {
        Ports::Random => "random ports".to_owned(),
        Ports::Preserving => "the inside port where it is free".to_owned(),
        Ports::Sequential => format!("sequential ports, one every {} taken by others", ms(CROSS_TRAFFIC) + " ms"),
        Ports::Block => "random ports of a block a host".to_owned(),
        Ports::Overloading => "the inside port, overloaded".to_owned(),
    }
}

/// What the runs of one pair came to: a median time, or why not.
fn found(cell: &Cell) -> String {
    let mut times: Vec<_> = cell.runs.iter().filter(|run| run.direct()).filter_map(|run| run.direct_after).collect();
    times.sort_unstable();
    if let Some(median) = at(&times, 50) {
        return format!("{}.{}", median.as_millis(), median.as_micros() / 100 % 10);
    }
    match cell.runs.first().and_then(|run| run.says[0]) {
        Some(Path::Relayed { because: RelayReason::OnlyOutbound }) => "→",
        Some(Path::Relayed { because: RelayReason::OnlyInbound }) => "←",
        Some(Path::Relayed { because: RelayReason::NoAnswer }) => "·",
        Some(Path::Relayed { because: RelayReason::Unpredictable }) => "×",
        Some(Path::Relayed { because: RelayReason::BudgetSpent }) => "$",
        _ => "?",
    }
    .to_owned()
}

pub(super) fn short((mapping, filtering): Behaviour) -> String {
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
