//! What the figures are set beside. Only operations that IEEE 754 defines exactly, so that all machines agree.

/// Packets a second by Padhye et al. 1998 at loss `p`, round trip `rtt` and timeout `t0`, seconds; every packet
/// acknowledged.
pub(super) fn padhye(p: f64, rtt: f64, t0: f64) -> f64 {
    let fast = rtt * (2.0 * p / 3.0).sqrt();
    let timeouts = t0 * (3.0 * (3.0 * p / 8.0).sqrt()).min(1.0) * p * (1.0 + 32.0 * p * p);
    1.0 / (fast + timeouts)
}

/// Jain's index of fairness: 1 if all are equal, 1 / n if one has everything.
pub(super) fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padhye_is_what_is_published_for_1200_bytes_at_50_ms() {
        for (p, megabits) in [(1e-4, 23.5), (1e-3, 7.37), (1e-2, 2.16)] {
            let found = padhye(p, 0.05, 0.2) * 1200.0 * 8.0 / 1e6;
            assert!((found / megabits - 1.0).abs() < 0.01, "{found} at {p}");
        }
    }

    #[test]
    fn jain_is_one_of_equal_shares_and_a_half_of_two_where_one_has_all() {
        assert_eq!((jain(&[3.0, 3.0]), jain(&[1.0, 0.0]), jain(&[])), (1.0, 0.5, 0.0));
        assert!((jain(&[2.0, 1.0]) - 0.9).abs() < 1e-12);
    }
}
