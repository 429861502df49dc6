//! Posse beside its peers and beside bare sockets, on loopback, in one run: `docs/performance.md` has the figures.
//!
//! Everything is measured in turn, round after round, and the median of the rounds counts. Both ends of everything are
//! threads of this process that sleep when there is nothing to do; CPU is what the whole process used. Only the ratios of
//! one run mean anything: machines differ, and so does what else they do.

mod bare;
mod enet;
mod figures;
mod idle;
mod ours;
mod quic;
mod relay;

use figures::{Flood, Trips};
use relay::Relayed;
use std::time::Duration;

/// Bytes of a message in bulk, and of a small one.
const BULK: usize = 1024;
const SMALL: usize = 64;
/// Most datagrams that one system call takes here: 64 KiB of them.
const MOST: usize = 54;

const HELP: &str = "usage: posse-peers [--seconds S] [--rounds N] [all | direct | relay | ours | idle [CLIENTS]]";

fn main() {
    let (mut seconds, mut rounds, mut what) = (2.0, 3, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<f64>().ok()).expect(HELP);
        match argument.as_str() {
            "--seconds" => seconds = number(),
            "--rounds" => rounds = number() as usize,
            "--help" | "-h" => return println!("{HELP}"),
            _ => what.push(argument),
        }
    }
    let length = Duration::from_secs_f64(seconds);
    println!("load average {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    match what.first().map_or("all", String::as_str) {
        "all" => {
            direct(length, rounds);
            relayed(length, rounds);
        }
        "direct" => direct(length, rounds),
        "relay" => relayed(length, rounds),
        "ours" => alone(length, rounds),
        "idle" => idle::measure(what.get(1).and_then(|n| n.parse().ok()).unwrap_or(10_000)),
        _ => println!("{HELP}"),
    }
}

fn direct(length: Duration, rounds: usize) {
    let mut bulk: [Vec<Flood>; 6] = Default::default();
    let mut small: [Vec<Flood>; 3] = Default::default();
    let mut trips: [Vec<Trips>; 4] = Default::default();
    let mut segments = 1;
    for _ in 0..rounds {
        let (ours, a_send) = ours::flood(length, BULK);
        segments = ((a_send / bare::DATAGRAM as f64).round() as usize).clamp(1, MOST);
        let found = [
            bare::flood(length, 1),
            bare::flood(length, segments),
            bare::flood(length, MOST),
            quic::flood(length, BULK),
            enet::flood(length, BULK),
            ours,
        ];
        bulk.iter_mut().zip(found).for_each(|(all, one)| all.push(one));
        let found = [quic::flood(length, SMALL), enet::flood(length, SMALL), ours::flood(length, SMALL).0];
        small.iter_mut().zip(found).for_each(|(all, one)| all.push(one));
        let found = [bare::ping(length), quic::ping(length), enet::ping(length), ours::ping(length)];
        trips.iter_mut().zip(found).for_each(|(all, one)| all.push(one));
    }
    println!("\n| bulk, {BULK} bytes a message | MiB/s | CPU s/GiB |\n|---|---|---|");
    let batches = format!("bare UDP, {segments} datagrams a call, as Posse's");
    let most = format!("bare UDP, {MOST} datagrams a call");
    let names = ["bare UDP, 1 datagram a call", &batches, &most, "quinn, one stream", "rusty_enet", "**Posse**"];
    for (name, all) in names.iter().zip(&bulk) {
        println!("| {name} | {:.0} | {:.2} |", median(all, |f| f.mib), median(all, |f| f.cpu_gib));
    }
    println!("\n| messages of {SMALL} bytes | k/s | CPU us each |\n|---|---|---|");
    for (name, all) in ["quinn, one stream", "rusty_enet", "**Posse**"].iter().zip(&small) {
        println!("| {name} | {:.0} | {:.2} |", median(all, |f| f.rate) / 1e3, median(all, |f| f.cpu_each));
    }
    println!("\n| round trip, {SMALL} bytes | p50 us | p99 us |\n|---|---|---|");
    for (name, all) in ["bare UDP", "quinn, one stream", "rusty_enet", "**Posse**"].iter().zip(&trips) {
        println!("| {name} | {:.0} | {:.0} |", median(all, |t| t.p50), median(all, |t| t.p99));
    }
}

/// Posse alone, for a profile.
fn alone(length: Duration, rounds: usize) {
    for _ in 0..rounds {
        let (bulk, a_send) = ours::flood(length, BULK);
        println!("bulk {:.0} MiB/s, {:.2} CPU s/GiB, {a_send:.0} bytes a call", bulk.mib, bulk.cpu_gib);
        let small = ours::flood(length, SMALL).0;
        println!("{SMALL} bytes {:.0} k/s, {:.2} CPU us each", small.rate / 1e3, small.cpu_each);
        let trips = ours::ping(length);
        println!("round trip p50 {:.0}, p99 {:.0} us", trips.p50, trips.p99);
    }
}

fn relayed(length: Duration, rounds: usize) {
    let mut found: [Vec<Relayed>; 4] = Default::default();
    for _ in 0..rounds {
        let one = [
            relay::bare(length, 1, 10),
            relay::ours(length, 1),
            relay::bare(length, 100, 10),
            relay::ours(length, 100),
        ];
        found.iter_mut().zip(one).for_each(|(all, one)| all.push(one));
    }
    println!("\n| relay | k packets/s | CPU us a packet |\n|---|---|---|");
    let names = ["bare forwarder, 1 flow", "**Posse**, 1 flow", "bare forwarder, 100 flows", "**Posse**, 100 flows"];
    for (name, all) in names.iter().zip(&found) {
        println!("| {name} | {:.0} | {:.2} |", median(all, |r| r.rate) / 1e3, median(all, |r| r.cpu_each));
    }
}

fn median<T>(all: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
