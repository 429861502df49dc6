//! The figures of the simulated network, beside their bounds.

use super::words::table;
use super::{Failure, json};
use posse_sim::validate::{Size, figures};
use serde::Serialize;
use std::io::Write;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Figure { what: &'a str, found: &'a str, bound: &'a str, held: bool },
    Validation { figures: usize, held: usize },
}

/// Measures everything. Whether all is within its bounds.
pub(super) fn run(seed: u64, json: bool, out: &mut impl Write) -> Result<bool, Failure> {
    let all = figures(Size::FULL, seed);
    let held = all.iter().filter(|figure| figure.held).count();
    if json {
        for f in &all {
            json::line(out, &Line::Figure { what: &f.what, found: &f.found, bound: &f.bound, held: f.held })?;
        }
        json::line(out, &Line::Validation { figures: all.len(), held })?;
    } else {
        let mut rows = vec![["", "figure", "found", "bound"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|f| {
            let mark = if f.held { "ok" } else { "FAILED" };
            vec![mark.to_owned(), f.what.clone(), f.found.clone(), f.bound.clone()]
        }));
        write!(out, "{}", table(4, &rows))?;
        writeln!(out, "\n{held} of {} figures within their bounds. Seed {seed}.", all.len())?;
    }
    Ok(held == all.len())
}
