//! The figures of Reliable UDP, beside their bounds, as a table, as JSON, and as pictures.

use super::words::table;
use super::{Failure, json};
use posse_sim::transport::{self, Figure, WORKLOADS, number};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Plan {
    /// Short and few, in seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// What is random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only workloads whose name holds this
    #[arg(long, default_value = "")]
    only: String,
    /// Write the pictures and the table into this folder
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    TransportFigure {
        workload: &'a str,
        what: &'a str,
        found: f64,
        unit: &'a str,
        bound: String,
        reached: bool,
        held: bool,
        because: Option<&'a str>,
    },
    Transport {
        figures: usize,
        held: usize,
        reached: usize,
    },
}

/// Measures everything. Whether all that is claimed holds.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let measured = transport::Plan { seed: plan.seed, quick: plan.quick };
    if let Some(folder) = &plan.out {
        std::fs::create_dir_all(folder).map_err(|error| Failure::File(folder.clone(), error))?;
    }
    let (mut all, mut page) = (Vec::new(), String::new());
    for workload in WORKLOADS.iter().filter(|workload| workload.name.contains(&plan.only)) {
        let report = (workload.run)(measured);
        if plan.json {
            for figure in &report.figures {
                json::line(out, &line(workload.name, figure))?;
            }
        } else {
            writeln!(out, "{}: {}", workload.name, workload.what)?;
            let rows: Vec<_> = report.figures.iter().map(row).collect();
            writeln!(out, "{}", table(1, &rows))?;
        }
        out.flush()?;
        page += &section(workload, &report.figures);
        for (name, picture) in &report.pictures {
            let Some(folder) = &plan.out else { continue };
            let file = folder.join(format!("{name}.svg"));
            std::fs::write(&file, picture.svg()).map_err(|error| Failure::File(file.clone(), error))?;
        }
        all.extend(report.figures);
    }
    if let Some(folder) = &plan.out {
        let file = folder.join("transport-figures.md");
        std::fs::write(&file, page).map_err(|error| Failure::File(file.clone(), error))?;
    }
    let count = |of: fn(&Figure) -> bool| all.iter().filter(|figure| of(figure)).count();
    let (held, reached) = (count(Figure::held), count(Figure::reached));
    if plan.json {
        json::line(out, &Line::Transport { figures: all.len(), held, reached })?;
    } else {
        writeln!(
            out,
            "{reached} of {} figures within their bounds, {held} as claimed. Seed {}.",
            all.len(),
            plan.seed
        )?;
    }
    Ok(held == all.len())
}

fn line<'a>(workload: &'a str, figure: &'a Figure) -> Line<'a> {
    let Figure { what, found, unit, because, .. } = figure;
    let (reached, held, bound) = (figure.reached(), figure.held(), figure.bound_in_words());
    Line::TransportFigure { workload, what, found: *found, unit, bound, reached, held, because: *because }
}

fn row(figure: &Figure) -> Vec<String> {
    let found = format!("{} {}", number(figure.found), figure.unit);
    vec![format!("  {}", figure.what), found.trim_end().to_owned(), figure.bound_in_words(), figure.verdict()]
}

/// A workload as a section of Markdown.
fn section(workload: &transport::Workload, figures: &[Figure]) -> String {
    let mut text =
        format!("### {}\n\n{}.\n\n| | found | bound | |\n|---|---:|---:|---|\n", workload.name, workload.what);
    for figure in figures {
        let row = row(figure);
        text += &format!("| {} | {} | {} | {} |\n", row[0].trim(), row[1], row[2], row[3]);
    }
    text + "\n"
}
