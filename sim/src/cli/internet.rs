//! Pairs of clients drawn from a population of access networks, punched in the simulated network: how many go direct, with
//! plain punching, with each technique, and with IPv6; of those who have UDP, and of all.

use super::Failure;
use super::json;
use super::matrix::Ends;
use super::progress::Progress;
use super::words::table;
use clap::{Args, ValueEnum};
use posse_sim::nat::Firewall;
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
/// plain punching of those who have UDP comes to the published share of successes.
const NETWORKS: [Network; 4] = [
    Network { profile: Profile::Home, share: 47, symmetric: 2, open: 6, loose: 12, sequential: 30, block: 0 },
    Network { profile: Profile::Carrier, share: 14, symmetric: 11, open: 10, loose: 15, sequential: 10, block: 60 },
    Network { profile: Profile::Cellular, share: 33, symmetric: 40, open: 10, loose: 15, sequential: 10, block: 40 },
    Network { profile: Profile::Office, share: 6, symmetric: 50, open: 0, loose: 10, sequential: 40, block: 0 },
];

/// Percent of clients that have IPv6 beside IPv4, behind a firewall that lets in only who was written to: what APNIC Labs measured
/// worldwide in April 2026; Google saw 50 % of its users come by it then (<https://blog.apnic.net/2026/04/28/google-hits-50-ipv6/>).
/// Taken alike for all networks.
const IPV6: u64 = 42;
/// Percent of clients in networks that block UDP: 3 to 5, RFC 9308 §4.2.
const NO_UDP: u64 = 4;

/// What is tried, and whether clients use their IPv6.
const STEPS: [(&str, Tried, bool); 6] = [
    ("plain", Tried::Plain, false),
    ("predict", Tried::Predict, false),
    ("birthday", Tried::Birthday, false),
    ("all", Tried::All, false),
    ("plain+ipv6", Tried::Plain, true),
    ("all+ipv6", Tried::All, true),
];

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
    everyone: Share,
}

/// Of all clients, those without UDP included.
#[derive(Serialize)]
struct Share {
    direct: u64,
    percent: f64,
    low: f64,
    high: f64,
}

/// Two clients.
struct Pair {
    nats: [Nat; 2],
    ipv6: [bool; 2],
    no_udp: [bool; 2],
}

impl Pair {
    fn draw(number: u64, only: Option<Profile>) -> Self {
        let mut draw = Draw(number);
        let nats = [draw.nat(only), draw.nat(only)];
        // Apart, so that the NATs are those that they would be without.
        let mut draw = Draw(!number);
        let mut twice = |percent: u64| [draw.percent() < percent, draw.percent() < percent];
        Self { nats, ipv6: twice(IPV6), no_udp: twice(NO_UDP) }
    }

    fn goes_direct(&self, seed: u64, tried: Tried, by_ipv6: bool, no_udp: [bool; 2]) -> Result<bool, Failure> {
        let mut nats = self.nats.clone();
        for (nat, has) in nats.iter_mut().zip(self.ipv6) {
            nat.ipv6 = (by_ipv6 && has).then(Firewall::default);
        }
        Ends { nats, tried, no_udp }.goes_direct(seed)
    }

    /// Whether it goes direct where both have UDP, and as it is.
    fn both(&self, seed: u64, tried: Tried, by_ipv6: bool) -> Result<(bool, bool), Failure> {
        let with_udp = self.goes_direct(seed, tried, by_ipv6, [false; 2])?;
        let as_is = match self.no_udp {
            [false, false] => with_udp,
            no_udp => self.goes_direct(seed, tried, by_ipv6, no_udp)?,
        };
        Ok((with_udp, as_is))
    }
}

/// Runs all pairs with each technique. Whether plain punching of the whole population comes to what is published.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let mut direct = [(0u64, 0u64); STEPS.len()];
    let mut progress = Progress::new("punched");
    for number in 0..plan.pairs {
        let pair = Pair::draw(number, plan.profile);
        for ((with_udp, everyone), (_, tried, by_ipv6)) in direct.iter_mut().zip(STEPS) {
            let (one, other) = pair.both(number + 1, tried, by_ipv6)?;
            *with_udp += u64::from(one);
            *everyone += u64::from(other);
        }
        progress.tell(|| format!("{} of {} pairs", number + 1, plan.pairs));
    }
    let found = direct.map(|(with_udp, everyone)| [with_udp, everyone].map(|n| (n, share(n, plan.pairs))));
    if plan.json {
        for ((techniques, ..), [(direct, [percent, low, high]), (n, [p, from, to])]) in STEPS.into_iter().zip(found) {
            let everyone = Share { direct: n, percent: p, low: from, high: to };
            let (r#type, pairs) = ("internet", plan.pairs);
            json::line(out, &Line { r#type, techniques, pairs, direct, percent, low, high, everyone })?;
        }
    } else {
        let head = ["", "of those with UDP", "95 % interval", "of all", "95 % interval"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for ((name, ..), both) in STEPS.into_iter().zip(found) {
            let cells = both
                .into_iter()
                .flat_map(|(_, [percent, low, high])| [format!("{percent:.1} %"), format!("{low:.1} – {high:.1} %")]);
            rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
        writeln!(
            out,
            "{} pairs, each with every technique; {IPV6} % of clients have IPv6, {NO_UDP} % no UDP.\n",
            plan.pairs
        )?;
        writeln!(out, "{}", table(1, &rows))?;
        writeln!(out, "Published, plain: {:.1} % ± {:.1} % (arXiv 2510.27500).", PUBLISHED.0, PUBLISHED.1)?;
    }
    let plain = found.first().map_or(0.0, |[(_, [percent, ..]), _]| *percent);
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

    #[test]
    fn as_many_have_ipv6_and_no_udp_as_it_says_and_their_nats_are_as_without() {
        let pairs: Vec<_> = (0..4000).map(|n| Pair::draw(n, None)).collect();
        let percent = |of: fn(&Pair) -> [bool; 2]| pairs.iter().filter(|pair| of(pair)[1]).count() as f64 / 40.0;
        assert!((percent(|pair| pair.ipv6) - IPV6 as f64).abs() < 4.0);
        assert!((percent(|pair| pair.no_udp) - NO_UDP as f64).abs() < 1.5);
        let mut draw = Draw(7);
        assert_eq!(pairs[7].nats, [draw.nat(None), draw.nat(None)]);
    }

    #[test]
    fn two_that_nothing_opens_go_direct_by_ipv6_and_not_without_udp() {
        let pair = Pair { nats: [Nat::symmetric(), Nat::symmetric()], ipv6: [true; 2], no_udp: [true, false] };
        let found = |by_ipv6| pair.both(1, Tried::Plain, by_ipv6).unwrap_or_default();
        assert_eq!((found(false), found(true)), ((false, false), (true, false)));
        let one = Pair { ipv6: [true, false], ..pair };
        assert_eq!(one.both(1, Tried::Plain, true).unwrap_or_default(), (false, false), "both must have it");
    }
}
