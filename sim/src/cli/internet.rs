//! Pairs of clients drawn from a population of access networks, punched in the simulated network: how many go direct, with
//! plain punching and with each technique.

use super::Failure;
use super::json;
use super::matrix::Ends;
use super::progress::Progress;
use super::words::table;
use clap::{Args, ValueEnum};
use posse_sim::scenario::Tried;
use posse_sim::{Allocation, Filtering, Mapping, Nat};
use serde::Serialize;
use std::io::Write;

/// The published share of attempts between two clients behind NATs that succeed: Trautwein et al. 2025 (arXiv 2510.27500), 4.4
/// million attempts in 85,000 networks; one standard deviation.
const PUBLISHED: (f64, f64) = (70.0, 7.1);
/// Standard deviations of a 95 % interval (Wilson's).
const Z: f64 = 1.96;

/// What `internet` is asked for.
#[derive(Args)]
pub(super) struct Plan {
    /// Pairs drawn
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pairs: u64,
    /// Both clients of each pair are from this network; from all of them as they come unless given
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    Home,
    Carrier,
    Cellular,
    Office,
}

/// A kind of access network, and how NATs there behave, in percent.
struct Network {
    profile: Profile,
    /// Of all clients.
    share: u64,
    /// Whose mapping depends on the destination.
    symmetric: u64,
    /// Of the others, those that let in everybody, and whoever has been sent to from any port. The rest ask for the very port.
    open: u64,
    loose: u64,
    /// Of those whose mapping depends on the destination, how many give out ports in sequence, and in blocks; the rest at random.
    sequential: u64,
    block: u64,
}

/// Symmetric NATs: Richter et al. 2016 (IMC, "A Multi-perspective Analysis of Carrier-Grade NAT Deployment") have them as the most
/// permissive on the way of less than 2 % of homes, 11 % of fixed lines behind a carrier's NAT, and about 40 % of cellular
/// ones. Offices: an assumption, half. Filters of the others: Ford et al. 2005 find 82 % of NATs fit for punching; how they split
/// is an assumption after Halkes and Pouwelse 2011, who find port-restricted ones the most common. How ports are given
/// out: blocks at carriers (RFC 7422), else an assumption. The shares of the networks are the parameter that was fitted, so that
/// plain punching comes to the published share of successes. Networks without UDP (3 to 5 %, RFC 9308 §4.2) are left out:
/// nobody there logs in.
const NETWORKS: [Network; 4] = [
    Network { profile: Profile::Home, share: 47, symmetric: 2, open: 6, loose: 12, sequential: 30, block: 0 },
    Network { profile: Profile::Carrier, share: 14, symmetric: 11, open: 10, loose: 15, sequential: 10, block: 60 },
    Network { profile: Profile::Cellular, share: 33, symmetric: 40, open: 10, loose: 15, sequential: 10, block: 40 },
    Network { profile: Profile::Office, share: 6, symmetric: 50, open: 0, loose: 10, sequential: 40, block: 0 },
];

const TECHNIQUES: [(&str, Tried); 4] =
    [("plain", Tried::Plain), ("predict", Tried::Predict), ("birthday", Tried::Birthday), ("all", Tried::All)];

/// Numbers that follow from a seed (SplitMix64, Steele, Lea and Flood 2014): what is drawn here is no part of the simulated network.
struct Draw(u64);

impl Draw {
    fn percent(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100
    }

    /// The place of a draw among shares that follow each other; their number if it is in none.
    fn among(&mut self, shares: &[u64]) -> usize {
        let drawn = self.percent();
        let mut sum = 0;
        shares
            .iter()
            .position(|share| {
                sum += share;
                drawn < sum
            })
            .unwrap_or(shares.len())
    }

    fn nat(&mut self, only: Option<Profile>) -> Nat {
        let place = self.among(&NETWORKS.map(|network| network.share));
        let drawn = NETWORKS.iter().find(|network| Some(network.profile) == only).or(NETWORKS.get(place));
        let Some(network) = drawn else { return Nat::home() };
        let filtering = match self.among(&[network.open, network.loose]) {
            0 => Filtering::EndpointIndependent,
            1 => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        };
        let symmetric = self.percent() < network.symmetric;
        let ports = self.among(&[network.sequential, network.block]);
        if !symmetric {
            return Nat::new(Mapping::EndpointIndependent, filtering);
        }
        let nat = Nat::symmetric();
        match ports {
            0 => nat.allocation(Allocation::Sequential).cross_traffic(super::matrix::CROSS_TRAFFIC),
            1 => nat.allocation(Allocation::Block),
            _ => nat,
        }
    }
}

/// So many of so many, in percent, and the ends of the 95 % interval (Wilson 1927).
fn share(direct: u64, of: u64) -> [f64; 3] {
    let (n, p) = (of.max(1) as f64, direct as f64 / of.max(1) as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [p, (middle - half).max(0.0), (middle + half).min(1.0)].map(|x| 100.0 * x)
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    techniques: &'static str,
    pairs: u64,
    direct: u64,
    percent: f64,
    low: f64,
    high: f64,
}

/// Runs all pairs with each technique. Whether plain punching of the whole population comes to what is published.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let mut direct = [0u64; TECHNIQUES.len()];
    let mut progress = Progress::new("punched");
    for pair in 0..plan.pairs {
        let mut draw = Draw(pair);
        let nats = [draw.nat(plan.profile), draw.nat(plan.profile)];
        for (count, (_, tried)) in direct.iter_mut().zip(TECHNIQUES) {
            *count += u64::from(Ends { nats: nats.clone(), tried }.goes_direct(pair + 1)?);
        }
        progress.tell(|| format!("{} of {} pairs", pair + 1, plan.pairs));
    }
    let found = direct.map(|direct| share(direct, plan.pairs));
    if plan.json {
        for (((techniques, _), direct), [percent, low, high]) in TECHNIQUES.into_iter().zip(direct).zip(found) {
            json::line(out, &Line { r#type: "internet", techniques, pairs: plan.pairs, direct, percent, low, high })?;
        }
    } else {
        let mut rows = vec![["", "direct", "95 % interval"].map(str::to_owned).to_vec()];
        for ((name, _), [percent, low, high]) in TECHNIQUES.into_iter().zip(found) {
            rows.push(vec![name.to_owned(), format!("{percent:.1} %"), format!("{low:.1} – {high:.1} %")]);
        }
        writeln!(out, "{} pairs, each with every technique.\n", plan.pairs)?;
        writeln!(out, "{}", table(1, &rows))?;
        writeln!(out, "Published, plain: {:.1} % ± {:.1} % (arXiv 2510.27500).", PUBLISHED.0, PUBLISHED.1)?;
    }
    let plain = found.first().map_or(0.0, |found| found[0]);
    Ok(plan.profile.is_some() || (plain - PUBLISHED.0).abs() <= PUBLISHED.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_that_of_wilson() {
        let [percent, low, high] = share(15, 20);
        assert_eq!(percent, 75.0);
        assert!((low - 53.1).abs() < 0.1 && (high - 88.8).abs() < 0.1, "{low} {high}");
        assert_eq!(share(0, 10)[1], 0.0);
        assert_eq!(share(10, 10)[2], 100.0);
    }

    #[test]
    fn networks_are_drawn_as_often_as_they_are_common() {
        assert_eq!(NETWORKS.iter().map(|network| network.share).sum::<u64>(), 100);
        let symmetric = |only| {
            (0..4000).filter(|n| Draw(*n).nat(only).mapping == Mapping::AddressAndPortDependent).count() as f64 / 40.0
        };
        for network in &NETWORKS {
            let (found, expected) = (symmetric(Some(network.profile)), network.symmetric as f64);
            assert!((found - expected).abs() < 4.0, "{found} instead of {expected}");
        }
    }
}
