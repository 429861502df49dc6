//! How long a reliable message may take, where a bound can be stated.
//!
//! Only of *calm* links: they delay and do nothing else, so that no bound depends on luck. And only of *light* traffic: what
//! a sender sends to a receiver within [`WINDOW`] fits the initial congestion window, so that nothing waits for one. Between
//! clients, besides, nobody else's fault may be at work: steps of other kinds than those named let no bound be stated.
//!
//! - **Nothing but direct cuts.** A message takes its way by the server. If it was sent on a direct path that is cut, two
//!   probe timeouts come first, of one and two PTO; then everything is on the main path. The PTO is at most three round
//!   trips of that path (RFC 9002 §6.2.1: smoothed + 4 · variation, where the first sample makes the variation half of it, and
//!   counts what the acknowledgement waited as part of it) and the longest wait of an acknowledgement, which may itself come
//!   back by the server.
//! - **Cuts of links that end.** Word of a message that was sent at `s`, under way as the link carried again at `e`, goes
//!   with the next probe: these double, so the next is as far from the last as that was from the sending at the most, and
//!   never more than [`BACKOFF`]. So by `e` + min([`BACKOFF`], `e` − `s` + PTO) the oldest messages of a sender without a
//!   direct path, the first of them sent at `s`, are sent again, whole since they are small, and arrive one way later.
//!   Others follow within round trips more, as what was lost before them is made good.

use crate::scenario::accounts::Pair;
use crate::scenario::journal::Journal;
use crate::scenario::{Action, ClientIndex, Host, Scenario, Step, Target, written};
use crate::{Bursts, Chance, Direction, Link};
use posse_core::{Duration, Instant, Reliability};
use std::collections::BTreeMap;

/// Traffic is light if it fits the initial window (RFC 9002 §7.2: ten datagrams) whenever it begins.
const LIGHT: u64 = 9_000;
/// What one message takes beside its bytes: headers, the scope's name, and the other end's acknowledgements.
const OVERHEAD: u64 = 64;
/// The longest that a fault of a scenario drawn at random keeps back what is sent, unless a cut of it lasts longer.
const WINDOW: Duration = Duration::from_secs(3);
/// A message that fits one packet, with room for others beside it.
const SMALL: usize = 500;
/// The longest wait between two probes of a path.
const BACKOFF: Duration = Duration::from_secs(2);
/// The longest wait before an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Packets whose messages the probes of one timeout repeat.
const PROBED: usize = 2;
/// Rounding of timers, and pacing of the few packets that go at once.
const SLACK: Duration = Duration::from_millis(20);
/// Round trips by the server after a probe arrived until all that waited behind it has: its acknowledgement declares lost
/// what can be, twice where two paths are concerned, and one more where the rest was behind what the window holds.
const RECOVERY_TRIPS: u32 = 4;

/// Messages that took longer than they may, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(scenario: &Scenario, journals: &[Journal], pairs: &[Pair]) -> Vec<String> {
    let Some(bounds) = Bounds::of(scenario, pairs) else { return Vec::new() };
    let mut sent = BTreeMap::new();
    for (host, journal) in hosts().zip(journals) {
        for message in journal.sent.iter().filter(|m| m.channel.reliability() == Reliability::ReliableOrdered) {
            for &to in &message.receivers {
                sent.insert((host, to, message.to, message.channel, message.number), message.at);
            }
        }
    }
    let mut taken = BTreeMap::new();
    for (host, journal) in hosts().zip(journals) {
        for r in &journal.received {
            if let Some(at) = sent.get(&(r.from, host, r.to, r.channel, r.number)) {
                taken.entry((r.from, host)).or_insert_with(Vec::new).push((*at, r.at));
            }
        }
    }
    let mut wrong = Vec::new();
    for ((from, to), mut messages) in taken {
        messages.sort_unstable();
        wrong.extend(bounds.wrong(from, to, &messages));
    }
    wrong
}

fn hosts() -> impl Iterator<Item = Host> {
    std::iter::once(Host::Server).chain((0..).map(|i| Host::Client(ClientIndex(i))))
}

/// What the bounds of a scenario are made of.
struct Bounds<'a> {
    scenario: &'a Scenario,
    pairs: &'a [Pair],
    /// Begin and end of cuts of links.
    cuts: Vec<(Instant, Instant)>,
    direct_cuts: bool,
}

impl<'a> Bounds<'a> {
    fn of(scenario: &'a Scenario, pairs: &'a [Pair]) -> Option<Self> {
        let links = scenario.nats.iter().map(|nat| &nat.link).chain(scenario.clients.iter().map(|client| &client.link));
        if !scenario.packets.is_empty() || !links.chain([&scenario.server]).all(is_calm) {
            return None;
        }
        let (mut cuts, mut direct_cuts) = (Vec::new(), false);
        for Step { at, times, action, .. } in &scenario.steps {
            match action {
                Action::Cut { lasts, .. } if *times == 1 => {
                    let begin = Instant::ZERO + *at;
                    cuts.push((begin, begin + (*lasts)?));
                }
                Action::CutDirect { .. } => direct_cuts = true,
                Action::Cut { .. }
                | Action::BlockUdp { .. }
                | Action::Reboot { .. }
                | Action::Pause { .. }
                | Action::ClockJump { .. }
                | Action::Restart { .. }
                | Action::SetLink { .. }
                | Action::Move { .. } => return None,
                _ => {}
            }
        }
        (cuts.len() < 2 && (cuts.is_empty() || !direct_cuts)).then_some(Self { scenario, pairs, cuts, direct_cuts })
    }

    /// What is wrong with the messages of a sender to a receiver, in order of sending: when each was sent and taken.
    fn wrong(&self, from: Host, to: Host, messages: &[(Instant, Instant)]) -> Option<String> {
        if !self.is_light(from, to) {
            return None;
        }
        let (there, back) = (self.way(from, to), self.way(to, from));
        // The first sample takes the acknowledgement's delay for part of the round trip (RFC 9002 §5.3).
        let pto = |round_trip: Duration| (round_trip + ACK_DELAY) * 3 + ACK_DELAY;
        let (direct, main) = (pto(self.scenario.one_way(from, to) + back), pto(there + back));
        let suspicion = if self.direct_cuts { direct * 3 } else { Duration::ZERO };
        let late = |&(sent, taken): &(Instant, Instant), by: Instant| {
            let name = |host| self.scenario.host_name(host);
            let at = written(sent.since(Instant::ZERO));
            let (took, bound) = (written(taken.since(sent)), written(by.since(sent)));
            (taken > by).then(|| format!("{} → {}: sent at {at}, took {took}, bound {bound}", name(from), name(to)))
        };
        let Some(&(begin, end)) = self.cuts.first() else {
            return messages.iter().find_map(|m| late(m, m.0 + there + suspicion + SLACK));
        };
        // What was sent just before is under way, and so is what answers it.
        let begin = Instant(begin.0.saturating_sub((there + back).as_nanos() as u64));
        // Of one that arrived the acknowledgement may be lost: then probes count from that one, and repeat it, too.
        let waiting: Vec<_> = messages.iter().filter(|m| m.0 >= begin && m.0 < end).take(PROBED).collect();
        if let Some(hit) = waiting.iter().find(|m| m.1 > end)
            && let Some(oldest) = waiting.first()
            && self.has_one_path(from, to)
        {
            let probe = end + BACKOFF.min(end.since(oldest.0) + main);
            if let Some(late) = late(hit, probe + there + SLACK) {
                return Some(late);
            }
        }
        let healed = end + BACKOFF + main * 3 + (there + back) * RECOVERY_TRIPS;
        messages.iter().find_map(|m| late(m, m.0.max(if m.0 >= begin { healed } else { m.0 }) + there + SLACK))
    }

    /// Propagation delay by the server.
    fn way(&self, from: Host, to: Host) -> Duration {
        match (from, to) {
            (Host::Client(_), Host::Client(_)) => self.scenario.by_server(from, to),
            _ => self.scenario.one_way(from, to),
        }
    }

    /// Whether the two never had a direct path beside the main one.
    fn has_one_path(&self, from: Host, to: Host) -> bool {
        let (Host::Client(a), Host::Client(b)) = (from, to) else { return true };
        let pair = self.pairs.iter().find(|pair| (pair.a, pair.b) == (a.min(b), a.max(b)));
        pair.is_none_or(|p| p.from_a.first_direct.is_none() && p.from_b.first_direct.is_none())
    }

    fn is_light(&self, from: Host, to: Host) -> bool {
        let mut bytes = 0u64;
        let window = self.cuts.iter().map(|(begin, end)| end.since(*begin)).fold(WINDOW, Duration::max);
        for Step { every, times, action, .. } in &self.scenario.steps {
            let Action::Send(sending) = action else { continue };
            if sending.from != from || matches!(sending.to, Target::Host(other) if other != to) {
                continue;
            }
            if sending.size > SMALL {
                return false;
            }
            let most = window.as_nanos().checked_div(every.as_nanos()).map_or(*times, |n| (n as u32 + 1).min(*times));
            bytes += u64::from(most) * (sending.size as u64 + OVERHEAD);
        }
        bytes <= LIGHT
    }
}

/// Whether a link delays and does nothing else.
pub(super) fn is_calm(link: &Link) -> bool {
    let calm = |d: &Direction| {
        let chances = [d.loss, d.reorder, d.duplicate, d.corrupt];
        chances.iter().all(|chance| *chance == Chance::NEVER)
            && d.bursts == Bursts::NEVER
            && d.jitter.is_zero()
            && d.rate.is_none()
    };
    calm(&link.up) && calm(&link.down)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: &str = r#"
title = "two who talk"
duration = "60s"
[server]
link = { delay = "10ms" }
[client.a]
link = { delay = "20ms" }
[client.b]
link = { delay = "30ms" }
[[step]]
do = "send"
from = "a"
to = "b"
every = "500ms"
times = 10
"#;
    const A: Host = Host::Client(ClientIndex(0));
    const B: Host = Host::Client(ClientIndex(1));

    /// Whether a message may take `took` ms that was sent at 2 s.
    fn allows(more: &str, took: u64) -> bool {
        let scenario = Scenario::parse("calm", &format!("{CALM}{more}")).unwrap();
        let message = (Instant::from_millis(2_000), Instant::from_millis(2_000 + took));
        Bounds::of(&scenario, &[]).unwrap().wrong(A, B, &[message]).is_none()
    }

    #[test]
    fn a_message_takes_its_way_by_the_server_and_where_a_path_may_be_cut_three_timeouts_more() {
        assert!(allows("", 70) && !allows("", 91));
        let cut = "[[step]]\ndo = \"cut-direct\"\nat = \"1s\"\npair = [\"a\", \"b\"]\nlasts = \"2s\"\n";
        assert!(allows(cut, 1_225) && !allows(cut, 1_235));
    }

    #[test]
    fn after_a_cut_the_oldest_goes_with_the_next_probe() {
        let cut = "[[step]]\ndo = \"cut\"\nat = \"1900ms\"\nlink = \"b\"\nlasts = \"300ms\"\n";
        // 200 ms under way, 200 ms until the next probe, at most a PTO of 3 · (140 + 5) + 5 ms more, the way, slack.
        assert!(allows(cut, 930) && !allows(cut, 935));
    }

    #[test]
    fn of_links_that_do_more_than_delay_nothing_is_said() {
        let lossy = CALM.replace("\"20ms\"", "\"20ms\", loss = \"1%\"");
        assert!(Bounds::of(&Scenario::parse("lossy", &lossy).unwrap(), &[]).is_none());
    }
}
