//! Whether the simulated network is what it says: each of its processes measured and set beside what theory says.
//!
//! Statistical bounds are four standard deviations, so that by chance alone one figure in some 16,000 is out. The figures
//! themselves follow from the seed to the last digit.

mod nat;
mod wire;
mod world;

/// A figure and what it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub found: String,
    /// What must come out.
    pub bound: String,
    /// Whether it did.
    pub held: bool,
}

impl Figure {
    /// Must be within `plus_minus` of `wanted`; all in `unit`.
    fn near(what: impl Into<String>, found: f64, wanted: f64, plus_minus: f64, unit: &str) -> Self {
        let held = (found - wanted).abs() <= plus_minus;
        let bound = format!("{wanted:.4} ± {plus_minus:.4}{unit}");
        Self { what: what.into(), found: format!("{found:.4}{unit}"), bound, held }
    }

    /// Must be just `wanted`.
    fn exactly<T: PartialEq + std::fmt::Display>(what: impl Into<String>, found: T, wanted: T, unit: &str) -> Self {
        let held = found == wanted;
        Self { what: what.into(), found: format!("{found}{unit}"), bound: format!("{wanted}{unit}"), held }
    }
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Packets for each statistical figure.
    packets: u32,
}

impl Size {
    /// As published: a million packets a figure; seconds in all.
    pub const FULL: Self = Self { packets: 1_000_000 };
    /// For tests.
    pub const SMALL: Self = Self { packets: 50_000 };
}

/// Measures everything.
pub fn figures(size: Size, seed: u64) -> Vec<Figure> {
    [wire::figures(size.packets, seed), world::figures(seed), nat::figures(seed)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_within_its_bound() {
        for seed in [1, 2] {
            let all = figures(Size::SMALL, seed);
            assert!(all.len() >= 20);
            let out: Vec<_> = all.iter().filter(|figure| !figure.held).collect();
            assert!(out.is_empty(), "{out:#?}");
        }
    }

    #[test]
    fn a_figure_out_of_its_bound_is_told() {
        assert!(Figure::near("x", 1.05, 1.0, 0.05001, "").held && !Figure::near("x", 1.06, 1.0, 0.05, "").held);
        assert!(!Figure::near("x", f64::NAN, 1.0, 1.0, "").held);
        assert!(Figure::exactly("x", 1, 1, "").held && !Figure::exactly("x", 1, 2, "").held);
    }
}
