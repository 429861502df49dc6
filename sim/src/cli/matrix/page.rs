//! The matrix as one page for a browser, without scripts and without anything from elsewhere: a map of all pairs, and how soon those
//! that go direct do so, by the way in which they do.

use super::text::{ports, short, tried};
use super::{Cell, Plan};
use posse_core::{Duration, Path};
use posse_sim::oracle::How;
use posse_sim::scenario::judge;
use std::io::{self, Write};

/// Pixels: a square of the map, the names beside it, the picture of distributions.
const SQUARE: f64 = 72.0;
const NAMES: f64 = 90.0;
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
/// From a hundredth of a second to a hundred, on a logarithmic scale.
const DECADES: std::ops::RangeInclusive<i32> = -2..=2;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:1000px;color:#222}\
    svg{background:#fafafa;border:1px solid #ddd;max-width:100%;height:auto}text{font:12px system-ui,sans-serif}\
    table{border-collapse:collapse}td,th{padding:.1em 1em .1em 0;text-align:left}code{background:#f2f2f2;padding:0 .3em}";

/// A way in which pairs go direct, what it is called, and its colour.
const WAYS: [(How, &str, &str); 4] = [
    (How::Plain, "plain punching", "#2e7d32"),
    (How::Predicted, "prediction", "#1565c0"),
    (How::Birthday(1), "birthday, one stage", "#e08700"),
    (How::Birthday(2), "birthday, two stages", "#8e24aa"),
];

pub(super) fn write(
    plan: &Plan,
    columns: usize,
    cells: &[Cell],
    bound: Duration,
    out: &mut impl Write,
) -> io::Result<()> {
    let title = "Every pair of NATs";
    writeln!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>"
    )?;
    let agree = cells.iter().filter(|cell| cell.agrees(plan.tried())).count();
    writeln!(out, "<h1>{title}</h1><p>{}; {}; {} seeds a pair.", tried(plan), ports(plan), plan.seeds)?;
    writeln!(
        out,
        "{agree} of {} pairs agree with the oracle. Kinds: mapping/filtering, EI endpoint-independent,",
        cells.len()
    )?;
    writeln!(out, "AD address-dependent, APD address-and-port-dependent (RFC 4787). Rows are the first side.</p>")?;
    map(plan, columns.max(1), cells, out)?;
    distributions(cells, bound, out)?;
    writeln!(out, "</html>")
}

fn map(plan: &Plan, columns: usize, cells: &[Cell], out: &mut impl Write) -> io::Result<()> {
    let rows = cells.len().div_ceil(columns);
    let (width, height) = (NAMES + SQUARE * columns as f64, 30.0 + SQUARE * rows as f64);
    writeln!(
        out,
        "<h2>Who goes direct, and how soon (median)</h2><svg viewBox=\"0 0 {width} {height}\" width=\"{width}\">"
    )?;
    for (column, cell) in cells.iter().take(columns).enumerate() {
        let x = NAMES + SQUARE * (column as f64 + 0.5);
        writeln!(out, "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\">{}</text>", short(cell.b))?;
    }
    for (place, cell) in cells.iter().enumerate() {
        let (column, row) = (place % columns, place / columns);
        let (x, y) = (NAMES + SQUARE * column as f64, 30.0 + SQUARE * row as f64);
        if column == 0 {
            writeln!(out, "<text x=\"8\" y=\"{}\">{}</text>", y + SQUARE / 2.0 + 4.0, short(cell.a))?;
        }
        let (share, median) = (cell.direct() as f64 / cell.runs.len().max(1) as f64, median(cell));
        let says = match (median, cell.runs.first().and_then(|run| run.says.first().copied().flatten())) {
            (Some(median), _) => seconds(median),
            (None, Some(Path::Relayed { because })) => judge::reason(because).to_owned(),
            _ => "relayed".to_owned(),
        };
        let wrong = if cell.agrees(plan.tried()) { "#fff" } else { "#c62828" };
        writeln!(
            out,
            "<g><title>{} × {}: {} of {} direct, the oracle says {:.4}</title><rect x=\"{x}\" y=\"{y}\" width=\"{SQUARE}\" \
             height=\"{SQUARE}\" fill=\"{}\" stroke=\"{wrong}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"middle\">{says}</text><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{:.0} %</text></g>",
            short(cell.a),
            short(cell.b),
            cell.direct(),
            cell.runs.len(),
            cell.chance,
            colour(share, median),
            x + SQUARE / 2.0,
            y + SQUARE / 2.0 - 2.0,
            x + SQUARE / 2.0,
            y + SQUARE / 2.0 + 16.0,
            100.0 * share,
        )?;
    }
    writeln!(
        out,
        "</svg><p>Green: within a fifth of a second. Yellow: within seconds. Grey: relayed, and both sides say why.</p>"
    )
}

/// Green where it is soon, yellow and orange where it takes seconds, grey where it never is; paler where it often is not.
fn colour(share: f64, median: Option<Duration>) -> String {
    let Some(median) = median else { return "#e0e0e0".to_owned() };
    // 0 at a tenth of a second, 1 at ten seconds.
    let late = ((median.as_secs_f64().max(0.1) * 10.0).log10() / 2.0).min(1.0);
    let pale = 82.0 - 22.0 * share;
    format!("hsl({:.0} 60% {pale:.0}%)", 130.0 - 95.0 * late)
}

fn distributions(cells: &[Cell], bound: Duration, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "<h2>How soon</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\">")?;
    for decade in DECADES {
        let x = across(10f64.powi(decade));
        let (top, bottom) = (up(1.0), up(0.0));
        writeln!(out, "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>")?;
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>",
            bottom + 18.0,
            10f64.powi(decade)
        )?;
    }
    for percent in [0, 50, 95, 100] {
        let y = up(f64::from(percent) / 100.0);
        writeln!(out, "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>", WIDTH - MARGIN)?;
        writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>", MARGIN - 8.0, y + 4.0)?;
    }
    let x = across(bound.as_secs_f64());
    writeln!(
        out,
        "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#c62828\" stroke-dasharray=\"4 3\"/>",
        up(1.0),
        up(0.0)
    )?;
    let mut rows = Vec::new();
    for (how, name, colour) in WAYS {
        let these: Vec<_> = cells.iter().filter(|cell| cell.how == how).collect();
        let all = these.iter().map(|cell| cell.runs.len()).sum::<usize>();
        let mut times: Vec<_> = these.iter().flat_map(|cell| &cell.runs).filter_map(|run| run.direct_after).collect();
        times.sort_unstable();
        if times.is_empty() {
            continue;
        }
        let mut path = format!("M{:.1} {:.1}", across(times[0].as_secs_f64()), up(0.0));
        // As many points as the picture can show.
        let step = times.len().div_ceil(400).max(1);
        for (n, time) in times.iter().enumerate().filter(|(n, _)| n % step == 0 || n + 1 == times.len()) {
            path += &format!("L{:.1} {:.1}", across(time.as_secs_f64()), up((n + 1) as f64 / all.max(1) as f64));
        }
        writeln!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>")?;
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).or(times.last()).map_or(String::new(), |t| seconds(*t))
        };
        rows.push(format!(
            "<tr><td style=\"color:{colour}\">{name}<td>{}<td>{} of {all}<td>{}<td>{}<td>{}",
            these.len(),
            times.len(),
            at(50),
            at(95),
            at(99)
        ));
    }
    writeln!(
        out,
        "</svg><p>Share of runs in which both sides had said \"direct\" by then, from the forming of the group."
    )?;
    writeln!(out, "Dashed: the bound, {}.</p>", seconds(bound))?;
    writeln!(out, "<table><tr><th><th>pairs<th>direct<th>p50<th>p95<th>p99{}</table>", rows.concat())
}

fn median(cell: &Cell) -> Option<Duration> {
    let mut times: Vec<_> = cell.runs.iter().filter(|run| run.direct()).filter_map(|run| run.direct_after).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
    }
}

fn across(seconds: f64) -> f64 {
    let (first, last) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    let part = ((seconds.max(1e-6).log10() - first) / (last - first)).clamp(0.0, 1.0);
    MARGIN + part * (WIDTH - 2.0 * MARGIN)
}

fn up(share: f64) -> f64 {
    HEIGHT - 40.0 - share * (HEIGHT - 70.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_later_stands_further_right_and_what_is_beyond_the_picture_at_its_edge() {
        assert!(across(0.1) < across(0.2) && across(0.2) < across(10.0));
        assert_eq!((across(0.0), across(1e9)), (MARGIN, WIDTH - MARGIN));
        assert!(up(1.0) < up(0.5) && up(0.5) < up(0.0));
    }

    #[test]
    fn a_pair_that_is_direct_soon_is_green_one_that_takes_seconds_yellow_and_one_that_never_is_grey() {
        assert_eq!(colour(1.0, Some(Duration::from_millis(100))), "hsl(130 60% 60%)");
        assert_eq!(colour(1.0, Some(Duration::from_secs(10))), "hsl(35 60% 60%)");
        assert_eq!(colour(0.0, None), "#e0e0e0");
    }
}
