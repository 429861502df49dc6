//! Tables, and the words of scenarios.

pub(crate) use posse_sim::scenario::words::{at_ms, end, join, leave, leg_reason, login_failure, ms, sentence};

use posse_core::Duration;

/// How often `bound` goes into `took`.
pub(crate) fn ratio(took: Duration, bound: Duration) -> String {
    (took.as_nanos() * 1_000)
        .checked_div(bound.as_nanos())
        .map_or("-".to_owned(), |m| format!("{}.{:03}", m / 1_000, m % 1_000))
}

/// Rows under heads, columns apart by two spaces: the first `left` of them flush left, the others flush right.
pub(crate) fn table(left: usize, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &if c < left { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
