//! Whether Reliable UDP delivers what its controllers promise: throughput, fairness, queueing and what harms do to them,
//! each figure beside its bound.
//!
//! [`WORKLOADS`] is a table: a workload is a name, a line that says what it is, and a function from [`Plan`] to figures
//! and pictures. Real client and server machines run over the simulated network under the null cipher; all that comes out
//! follows from the seed to the last digit.

mod bench;
mod game;
mod paths;
mod plot;
mod theory;
mod workloads;

pub use plot::Picture;
pub use workloads::WORKLOADS;

/// What a figure must be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Within so much of it, a part of one.
    Near(f64, f64),
    /// Nothing: it is only told.
    None,
}

/// A figure and what it must be.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub found: f64,
    /// In which unit.
    pub unit: &'static str,
    /// What must come out.
    pub bound: Bound,
    /// Why the bound is not reached, if that is known. A figure without a reason is claimed to hold.
    pub because: Option<&'static str>,
}

impl Figure {
    fn new(what: impl Into<String>, found: f64, unit: &'static str, bound: Bound) -> Self {
        Self { what: what.into(), found, unit, bound, because: None }
    }

    /// Not claimed, for this reason.
    fn because(mut self, why: &'static str) -> Self {
        self.because = Some(why);
        self
    }

    /// Whether it is within its bound.
    pub fn reached(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.found >= least,
            Bound::AtMost(most) => self.found <= most,
            Bound::Near(wanted, part) => (self.found - wanted).abs() <= wanted * part,
            Bound::None => true,
        }
    }

    /// Whether what is claimed of it holds.
    pub fn held(&self) -> bool {
        self.reached() || self.because.is_some()
    }

    /// The bound in words.
    pub fn bound_in_words(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!("≥ {}", number(least)),
            Bound::AtMost(most) => format!("≤ {}", number(most)),
            Bound::Near(wanted, part) => format!("{} ± {:.0} %", number(wanted), part * 100.0),
            Bound::None => String::new(),
        }
    }

    /// What came of it in words.
    pub fn verdict(&self) -> String {
        let wanted = match self.bound {
            Bound::AtLeast(wanted) | Bound::AtMost(wanted) | Bound::Near(wanted, _) => wanted,
            Bound::None => return String::new(),
        };
        match (self.reached(), self.because) {
            (true, _) => "ok".to_owned(),
            (false, None) => "FAILED".to_owned(),
            (false, Some(why)) => format!("not reached: {:.2}×, because {why}", self.found / wanted),
        }
    }
}

/// A number with four digits or so.
pub fn number(n: f64) -> String {
    match n.abs() {
        0.0..10.0 => format!("{n:.3}"),
        10.0..100.0 => format!("{n:.2}"),
        100.0..1000.0 => format!("{n:.1}"),
        _ => format!("{n:.0}"),
    }
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What is random follows from it.
    pub seed: u64,
    /// Short and few: for tests.
    pub quick: bool,
}

/// What a workload brings out.
#[derive(Default)]
pub struct Report {
    /// Its figures.
    pub figures: Vec<Figure>,
    /// Its pictures, each with a file name.
    pub pictures: Vec<(&'static str, Picture)>,
}

/// A row of the table.
pub struct Workload {
    /// A word.
    pub name: &'static str,
    /// A line.
    pub what: &'static str,
    /// Does it.
    pub run: fn(Plan) -> Report,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_out_of_its_bound_is_told_and_held_only_with_a_reason() {
        let figure = |found, bound| Figure::new("x", found, "", bound);
        assert!(figure(1.0, Bound::AtLeast(1.0)).held() && !figure(0.99, Bound::AtLeast(1.0)).held());
        assert!(figure(1.0, Bound::AtMost(1.0)).held() && !figure(1.01, Bound::AtMost(1.0)).held());
        assert!(figure(109.0, Bound::Near(100.0, 0.1)).held() && !figure(89.0, Bound::Near(100.0, 0.1)).held());
        assert!(!figure(f64::NAN, Bound::AtLeast(0.0)).held());
        let excused = figure(0.5, Bound::AtLeast(1.0)).because("it rains");
        assert!(excused.held() && !excused.reached());
        assert_eq!(excused.verdict(), "not reached: 0.50×, because it rains");
    }

    #[test]
    fn every_claim_holds_at_the_small_size_and_figures_are_what_they_were() {
        let plan = Plan { seed: 1, quick: true };
        let mut text = String::new();
        for workload in WORKLOADS {
            for figure in (workload.run)(plan).figures {
                assert!(figure.held(), "{}: {figure:?}", workload.name);
                text += &format!("{:<10} {}: {} {}\n", workload.name, figure.what, number(figure.found), figure.unit);
            }
        }
        insta::assert_snapshot!(text);
    }
}
