//! Line charts as SVG, written by hand: a chart is a hundred lines of text, and a plotting crate would be the largest
//! dependency of this one.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// Told apart also without red and green: Okabe and Ito 2008.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"];
/// Points of a line that a picture of this width can show.
const MOST_POINTS: usize = 400;

/// A chart of lines over one axis.
pub struct Picture {
    /// Above it.
    pub title: String,
    /// Below the x axis.
    pub x: &'static str,
    /// Beside the y axis.
    pub y: &'static str,
    /// Names and points; x ascends.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Picture {
    /// As SVG.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.0), high.max(p.0)));
        let top = ceiling(points().map(|p| p.1).fold(0.0, f64::max));
        let span = if high > low { high - low } else { 1.0 };
        let place = |(x, y): (f64, f64)| {
            let across = LEFT + (x - low) / span * (WIDTH - LEFT - RIGHT);
            (across, HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM))
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, what: &str| {
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
        };
        text(LEFT, 20.0, "start", &self.title);
        text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, "middle", self.x);
        text(8.0, 34.0, "start", self.y);
        for quarter in 0..=4 {
            let part = f64::from(quarter) / 4.0;
            let (_, y) = place((low, top * part));
            text(LEFT - 6.0, y + 4.0, "end", &short(top * part));
            let (x, _) = place((low + span * part, 0.0));
            text(x, HEIGHT - BOTTOM + 16.0, "middle", &short(low + span * part));
        }
        for (i, (name, _)) in self.lines.iter().enumerate() {
            text(WIDTH - RIGHT + 30.0, TOP + 12.0 + 18.0 * i as f64, "start", name);
        }
        for quarter in 0..=4 {
            let (_, y) = place((low, top * f64::from(quarter) / 4.0));
            let (x1, x2) = (LEFT, WIDTH - RIGHT);
            let _ = writeln!(svg, "<path d=\"M{x1:.1} {y:.1}H{x2:.1}\" stroke=\"#ddd\" fill=\"none\"/>");
        }
        for (i, (_, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let step = points.len().div_ceil(MOST_POINTS).max(1);
            let mut path = String::new();
            for (n, point) in points.iter().step_by(step).enumerate() {
                let (x, y) = place(*point);
                let _ = write!(path, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' });
            }
            let _ = writeln!(svg, "<path d=\"{path}\" stroke=\"{colour}\" fill=\"none\" stroke-width=\"1.5\"/>");
            let (x, y) = (WIDTH - RIGHT + 8.0, TOP + 8.0 + 18.0 * i as f64);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {y:.1}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>");
        }
        svg + "</svg>\n"
    }
}

/// The next 1, 2, 4 or 8 times a power of ten.
fn ceiling(n: f64) -> f64 {
    let mut step = 1e-6;
    while step < n {
        if let Some(found) = [1.0, 2.0, 4.0, 8.0].into_iter().map(|f| f * step).find(|top| *top >= n) {
            return found;
        }
        step *= 10.0;
    }
    step
}

fn short(n: f64) -> String {
    if n == 0.0 || n >= 10.0 { format!("{n:.0}") } else { format!("{n:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_holds_every_line_within_its_frame() {
        let lines = vec![("a".to_owned(), vec![(0.0, 0.0), (1.0, 7.0)]), ("b".to_owned(), vec![(0.0, 8.0)])];
        let svg = Picture { title: "t".into(), x: "s", y: "MB", lines }.svg();
        assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 2);
        assert!(svg.contains("M64.0 276.0L610.0 66.0"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.0, 0.7, 1.0, 3.0, 81.0].map(ceiling), [1e-6, 0.8, 1.0, 4.0, 100.0]);
    }
}
