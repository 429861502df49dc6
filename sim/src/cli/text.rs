//! A run for people: a timeline, what became of the messages, of the pairs, and of the expectations.

use super::words::{at_ms, ms, ratio, sentence, table};
use posse_core::{Duration, Path, Reliability, Searches};
use posse_sim::scenario::accounts::PathStory;
use posse_sim::scenario::run::Outcome;
use posse_sim::scenario::{Host, Scenario, Target, judge, written};
use std::io::{self, Write};

/// Writes the whole report.
pub(crate) fn write(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", scenario.title)?;
    writeln!(out, "seed {}, {} of simulated time\n", outcome.seed, written(scenario.duration))?;
    timeline(scenario, outcome, out)?;
    messages(scenario, outcome, out)?;
    pairs(scenario, outcome, out)?;
    expectations(outcome, out)
}

fn timeline(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let who = |host: Option<Host>| host.map_or("network", |host| scenario.host_name(host));
    let width = outcome.timeline.iter().map(|entry| who(entry.who).len()).max().unwrap_or(0).max(3);
    writeln!(out, "{:>12}  {:width$}  what", "time, ms", "who")?;
    for entry in &outcome.timeline {
        let what = sentence(scenario, entry.who, &entry.what);
        writeln!(out, "{:>12}  {:width$}  {what}", at_ms(entry.at), who(entry.who))?;
    }
    if let Some(stuck) = &outcome.stuck {
        writeln!(out, "{:>12}  {:width$}  STUCK: {stuck}", at_ms(outcome.ended), "network")?;
    }
    writeln!(out)
}

fn messages(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    if outcome.streams.is_empty() {
        return writeln!(out, "No messages were sent.\n");
    }
    let heads = [
        "messages",
        "",
        "in",
        "sent",
        "lost",
        "repeated",
        "reordered",
        "cut short",
        "direct",
        "way by relay",
        "way direct",
        "slowest",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for s in &outcome.streams {
        let scope = match s.scope {
            Target::Group(_) => scenario.target_name(s.scope).to_owned(),
            Target::Host(_) => "-".to_owned(),
        };
        let kind = match s.channel.reliability() {
            Reliability::ReliableOrdered => "",
            Reliability::ReliableUnordered => " (unordered)",
            Reliability::Unreliable => " (unreliable)",
            Reliability::UnreliableSequenced => " (sequenced)",
        };
        let mut row = vec![
            format!("{} →", scenario.host_name(s.from)),
            scenario.host_name(s.to).to_owned(),
            format!("{scope}{kind}"),
        ];
        row.extend([s.sent, s.lost, s.repeated, s.reordered, s.cut_short, s.direct].map(|n| n.to_string()));
        row.extend([s.by_relay, s.directly, s.slowest].map(time));
        rows.push(row);
    }
    writeln!(out, "{}", table(3, &rows))?;
    for s in &outcome.streams {
        let (from, to) = (scenario.host_name(s.from), scenario.host_name(s.to));
        if let (Some((number, at)), true) = (s.first_lost, s.reliable()) {
            writeln!(out, "{from} → {to}: lost number {number}, sent at {} ms, first\n", at_ms(at))?;
        }
        if s.outside + s.foreign > 0 {
            writeln!(out, "{from} → {to}: {} out of place, {} damaged or never sent\n", s.outside, s.foreign)?;
        }
    }
    Ok(())
}

fn pairs(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    if outcome.pairs.is_empty() {
        return Ok(());
    }
    let heads = ["first message after", "", "ms", "bound", "ratio"];
    let mut firsts = vec![heads.map(str::to_owned).to_vec()];
    let heads =
        ["both direct after", "ms", "bound", "ratio", "round trip by relay", "direct", "switches", "at the end"];
    let mut directs = vec![heads.map(str::to_owned).to_vec()];
    for pair in &outcome.pairs {
        let (a, b) = (Host::Client(pair.a), Host::Client(pair.b));
        for (from, to) in [(a, b), (b, a)] {
            let bound = outcome.first_message_bound(scenario, from, to);
            let (Some(at), Some((since, bound))) = (outcome.first_message(from, to), bound) else { continue };
            let took = at.since(since);
            let names = [format!("{} →", scenario.host_name(from)), scenario.host_name(to).to_owned()];
            firsts.push([&names[..], &[ms(took), ms(bound), ratio(took, bound)]].concat());
        }
        let bound = scenario.direct_bound(pair.a, pair.b);
        let took = pair.both_direct().map(|at| at.since(pair.together));
        directs.push(vec![
            format!("{} ↔ {}", scenario.host_name(a), scenario.host_name(b)),
            time(took),
            ms(bound),
            took.map_or("-".to_owned(), |took| ratio(took, bound)),
            time(pair.relay_round_trip),
            time(pair.direct_round_trip),
            pair.from_a.switches.max(pair.from_b.switches).to_string(),
            at_the_end(&pair.from_a, &pair.from_b),
        ]);
    }
    if firsts.len() > 1 {
        writeln!(out, "{}", table(2, &firsts))?;
    }
    writeln!(out, "{}", table(1, &directs))?;
    tried(scenario, outcome, out)
}

/// What each end did for a direct path.
fn tried(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let heads = ["looking for a way", "", "ms", "rounds", "addresses", "probes", "answers", "holes", "searches"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for pair in &outcome.pairs {
        for (from, to, story) in [(pair.a, pair.b, &pair.from_a), (pair.b, pair.a, &pair.from_b)] {
            let Some(report) = story.report else { continue };
            let name = |client| scenario.host_name(Host::Client(client));
            let mut row = vec![format!("{} →", name(from)), name(to).to_owned(), time(report.time_to_direct)];
            row.extend([report.rounds, report.candidates].map(|n| n.to_string()));
            row.extend([report.challenges, report.responses].map(|n| n.to_string()));
            let Searches { measured, predicted, scattered, swept, opened } = report.searches;
            let probing = [(scattered, "scattered"), (swept, "swept")];
            let all = [(measured, "measured"), (opened, "opened"), (predicted, "predicted")].into_iter().chain(probing);
            let done = all.filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
            row.extend([report.holes.to_string(), done.collect::<Vec<_>>().join(", ")]);
            rows.push(row);
        }
    }
    if rows.len() > 1 { writeln!(out, "{}", table(2, &rows)) } else { Ok(()) }
}

fn at_the_end(a: &PathStory, b: &PathStory) -> String {
    let word = |story: &PathStory| match story.last {
        Some(Path::Direct { .. }) => "direct".to_owned(),
        Some(Path::Relayed { because }) => format!("relayed, {}", judge::reason(because)),
        _ => "not said".to_owned(),
    };
    let (a, b) = (word(a), word(b));
    if a == b { a } else { format!("{a} / {b}") }
}

fn expectations(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let mut right = 0;
    for verdict in &outcome.verdicts {
        right += usize::from(verdict.held);
        let (mark, line) = (if verdict.held { "ok    " } else { "FAILED" }, verdict.line);
        writeln!(out, "{mark}  {}", verdict.expected)?;
        let place = if line > 0 { format!(" (line {line})") } else { String::new() };
        writeln!(out, "        {}{place}", verdict.found)?;
    }
    for wrong in outcome.violations.iter().chain(&outcome.undone).chain(&outcome.unbegun) {
        writeln!(out, "FAILED  {wrong}")?;
    }
    let packets = outcome.packets;
    writeln!(
        out,
        "\n{right} of {} expectations held. {} packets sent, {} dropped. Digest {:032x}.",
        outcome.verdicts.len(),
        packets.sent,
        packets.dropped_total(),
        outcome.digest
    )
}

fn time(d: Option<Duration>) -> String {
    d.map_or("-".to_owned(), ms)
}
