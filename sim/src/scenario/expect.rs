//! What must hold of a script, from the script alone.
//!
//! [`expectations_for`] follows the server's steps in order of time, as its application carries them out, to who is in
//! which group in the end, and knows when the last fault is over. Nothing may ever be repeated, reordered, damaged or out of
//! place. What takes time is expected only of a script that heals: every fault ends, every link carries in the end, and
//! [`Scenario::duration`] leaves the time to recover. So it holds of what is left of a script, too, when steps, clients or
//! seconds are taken from it.

use super::{
    Action, ClientIndex, ClientSpec, Expect, Expectation, GroupIndex, Host, LinkOf, NatIndex, Network, Pairs, PolicyOf,
    Scenario,
};
use crate::oracle::{reachable, reachable_by_ipv6};
use crate::{Chance, Direction, Families, Filtering, Link, Mapping};
use posse_core::{Duration, EndReason, PathPolicy, PunchPolicy, RelayReason};
use std::collections::{BTreeMap, BTreeSet};

/// The bound on liveness: so long after the last fault all must be well. A pair that was cut as the faults ended may first
/// finish a failed round of punching, wait for 10 s or 20 s, and punch again.
pub const HEALING: Duration = Duration::from_secs(47);

/// So long after a client or the server went away all must be well: the word of it is said once and may be lost, and then
/// who is left waits for the session to run idle.
pub const SESSION_END: Duration = Duration::from_secs(100);

/// So long after a firewall lets UDP pass again a client is back on UDP: it asks that often at least, and then three times.
const RETURN: Duration = Duration::from_secs(34);

/// What a link may lose in the end, alone and in bursts, that carries.
const CARRIES_LOSS: Chance = Chance::percent(15);
/// What a pair's direct way may lose in the end, both directions together, for it to be surely direct at that moment. On one
/// that loses more a direct path is doubted for a few round trips now and then.
const CERTAIN_LOSS: Chance = Chance::percent(15);
/// The largest packet that Posse sends, headers included, passes such a link.
const CARRIES_MTU: usize = 1_280;

/// What must hold of a script, in the order in which it is judged.
pub fn expectations_for(scenario: &Scenario) -> Vec<Expectation> {
    let story = Story::of(scenario);
    let healed = story.heals(scenario);
    let lost = if healed { 0 } else { u64::MAX };
    let mut expectations = vec![Expect::Delivery { lost, repeated: 0, reordered: 0, at_least: 0 }];
    if healed {
        if story.restarted.is_empty() {
            expectations.push(Expect::Joins { ok: 0 });
        }
        let mut pairs = BTreeSet::new();
        let certain = |group: &GroupIndex| !story.uncertain.contains(group);
        for (_, inside) in story.members.iter().filter(|(group, _)| certain(group)) {
            for &a in inside {
                pairs.extend(inside.range(a..).filter(|b| **b != a).map(|&b| (a, b)));
            }
        }
        for &(a, b) in pairs.iter().filter(|(a, b)| !policy(scenario, *a, *b).allows_direct()) {
            let because = Some(RelayReason::Forbidden);
            expectations.push(Expect::Relayed { pairs: Pairs::One(a, b), because });
        }
        // Where punching waits for traffic, nobody knows whether there will be some.
        let always =
            |a, b| policy(scenario, a, b).allows_direct() && policy(scenario, a, b).punch == PunchPolicy::Always;
        for (a, b) in pairs.into_iter().filter(|(a, b)| always(*a, *b) && story.open(scenario, *a, *b)) {
            expectations.push(Expect::Direct { pairs: Pairs::One(a, b), by: None, within: None, rtt_at_most: None });
        }
        for group in (0..scenario.groups.len()).map(GroupIndex).filter(certain) {
            let members = story.members.get(&group).into_iter().flatten().copied().collect();
            expectations.push(Expect::Members { group, members });
        }
        for &client in &story.forgotten {
            expectations.push(Expect::SessionEnds { client, because: EndReason::TimedOut, by: None });
        }
    }
    expectations.into_iter().map(|expect| Expectation { line: 0, expect }).collect()
}

/// What server and clients have to say of a pair. A script that changes it on the way is judged by nothing that depends on it.
fn policy(scenario: &Scenario, a: ClientIndex, b: ClientIndex) -> PathPolicy {
    let changes = scenario.steps.iter().any(|step| matches!(step.action, Action::SetPolicy { .. }));
    let own = |client: ClientIndex| scenario.clients.get(client.0).map_or(PathPolicy::default(), |spec| spec.policy);
    let limited = scenario.clients.iter().any(|client| client.direct_peers.is_some());
    let all = scenario.policy.and(own(a)).and(own(b));
    if changes || limited { PathPolicy { punch: PunchPolicy::OnTraffic, ..PathPolicy::default() } } else { all }
}

/// Whether a script heals in time, so that all must be well in the end.
pub fn heals(scenario: &Scenario) -> bool {
    Story::of(scenario).heals(scenario)
}

/// Steps, by their place in [`Scenario::steps`], that can never be done as the script stands: a join to a group that is not
/// there, a leave of somebody who is no member. A run that has such a step says so, whatever else is right; what takes
/// steps out of a script takes these out, too, again until there are none.
pub fn impossible(scenario: &Scenario) -> Vec<usize> {
    Story::of(scenario).impossible.into_iter().collect()
}

/// How long a run must last for all to be well in its end; `None` if a fault never ends.
pub fn time_needed(scenario: &Scenario) -> Option<Duration> {
    Story::of(scenario).time_needed()
}

/// What a script says, followed to its end.
#[derive(Default)]
struct Story {
    /// Who is in which group; no entry for groups that are over or never were.
    members: BTreeMap<GroupIndex, BTreeSet<ClientIndex>>,
    /// Groups of which no script can tell who is in them in the end.
    uncertain: BTreeSet<GroupIndex>,
    /// Who logged out, or was logged out, and has not come back.
    gone: BTreeSet<ClientIndex>,
    /// Who restarted.
    restarted: BTreeSet<Host>,
    /// Who was logged in as the server restarted, and stays in a session that nobody answers.
    forgotten: BTreeSet<ClientIndex>,
    impossible: BTreeSet<usize>,
    /// When the last fault is over, and all is done that takes [`HEALING`]; `None` if that is never.
    calm: Option<Duration>,
    /// When the last went away.
    last_gone: Option<Duration>,
    /// Links that are others in the end.
    links: Vec<(LinkOf, Link)>,
    /// Links that let no UDP pass in the end.
    blocked: Vec<LinkOf>,
    /// Clients whose network is another in the end.
    moved: BTreeMap<ClientIndex, Network>,
}

impl Story {
    fn of(scenario: &Scenario) -> Self {
        let mut story = Self { calm: Some(Duration::ZERO), ..Self::default() };
        for client in &scenario.clients {
            story.busy_until(Some(client.start));
        }
        let mut moments: Vec<_> = Vec::new();
        for (place, step) in scenario.steps.iter().enumerate() {
            match step.action {
                // The last of them is what counts.
                Action::Send(_) => {
                    let last = step.every.saturating_mul(step.times.saturating_sub(1));
                    story.busy_until(Some(step.at + last));
                }
                _ => moments.extend((0..step.times).map(|n| (step.at + step.every.saturating_mul(n), place))),
            }
        }
        moments.sort();
        for (at, place) in moments {
            if let Some(step) = scenario.steps.get(place) {
                story.busy_until(Some(at));
                if !story.step(scenario, at, &step.action) {
                    story.impossible.insert(place);
                }
            }
        }
        story
    }

    /// `None`: forever.
    fn busy_until(&mut self, at: Option<Duration>) {
        self.calm = self.calm.zip(at).map(|(calm, at)| calm.max(at));
    }

    /// Whether the step can be done.
    fn step(&mut self, scenario: &Scenario, at: Duration, action: &Action) -> bool {
        match action {
            Action::CreateGroup { group, members, .. } => {
                if members.is_empty() || members.iter().any(|client| self.gone.contains(client)) {
                    return false;
                }
                self.members.insert(*group, members.iter().copied().collect()).is_none()
            }
            Action::Join { group, client, .. } => {
                if self.restarted.contains(&Host::Client(*client))
                    && let Some(over) = self.last_gone.map(|gone| gone + SESSION_END)
                    && at < over
                {
                    // It may wait for the session of before to be over, or even have been meant for that.
                    self.busy_until(Some(over));
                    self.uncertain.insert(*group);
                }
                let there = self.members.get_mut(group).filter(|_| !self.gone.contains(client));
                there.is_some_and(|members| members.insert(*client))
            }
            Action::Leave { group, client } => {
                let left = self.members.get_mut(group).is_some_and(|members| members.remove(client));
                // A group ends with its last member.
                self.members.retain(|_, members| !members.is_empty());
                left
            }
            Action::SetPolicy { of: PolicyOf::Group(group), .. } => self.members.contains_key(group),
            Action::SetPolicy { of: PolicyOf::Pair(..), .. } => true,
            Action::DestroyGroup { group } => self.members.remove(group).is_some(),
            Action::Disconnect { client } | Action::Logout { client } => {
                self.leaves(at, *client);
                self.gone.insert(*client)
            }
            Action::Restart { host } => {
                self.restart(scenario, at, *host);
                true
            }
            Action::Cut { lasts, .. } | Action::CutDirect { lasts, .. } => {
                self.busy_until(lasts.map(|lasts| at + lasts));
                true
            }
            Action::BlockUdp { lasts: Some(lasts), .. } => {
                self.busy_until(Some(at + *lasts + RETURN));
                true
            }
            // All is well by TCP.
            Action::BlockUdp { link, lasts: None } => {
                self.blocked.push(*link);
                true
            }
            Action::Pause { lasts, .. } => {
                self.busy_until(Some(at + *lasts));
                true
            }
            Action::SetLink { of, link } => {
                self.links.retain(|(other, _)| other != of);
                self.links.push((*of, *link));
                true
            }
            Action::Move { client, to, link } => {
                let of = LinkOf::Host(Host::Client(*client));
                self.links.retain(|(other, _)| *other != of);
                self.links.push((of, *link));
                self.moved.insert(*client, *to);
                true
            }
            Action::Reboot { .. } | Action::ClockJump { .. } | Action::Send(_) => true,
        }
    }

    fn restart(&mut self, scenario: &Scenario, at: Duration, host: Host) {
        self.restarted.insert(host);
        match host {
            Host::Client(client) => {
                self.leaves(at, client);
                // It logs in again, whatever became of its last session.
                self.gone.remove(&client);
                self.forgotten.remove(&client);
            }
            Host::Server => {
                self.members.clear();
                self.last_gone = Some(at);
                let started = scenario.clients.iter().enumerate().filter(|(_, client)| client.start < at);
                let lost: Vec<_> = started.map(|(i, _)| ClientIndex(i)).collect();
                for client in lost {
                    if self.gone.insert(client) {
                        self.forgotten.insert(client);
                    }
                }
            }
        }
    }

    fn leaves(&mut self, at: Duration, client: ClientIndex) {
        self.last_gone = Some(at);
        self.members.values_mut().for_each(|members| _ = members.remove(&client));
        self.members.retain(|_, members| !members.is_empty());
    }

    /// `None`: no time is enough.
    fn time_needed(&self) -> Option<Duration> {
        let gone = self.last_gone.map_or(Duration::ZERO, |gone| gone + SESSION_END);
        Some(gone.max(self.calm? + HEALING))
    }

    /// Whether all must be well in the end.
    fn heals(&self, scenario: &Scenario) -> bool {
        let in_time = self.time_needed().is_some_and(|needed| needed <= scenario.duration);
        let carries = |link: &Link| {
            [&link.up, &link.down].iter().all(|d: &&Direction| {
                d.loss <= CARRIES_LOSS && d.mtu >= CARRIES_MTU && d.rate.is_none_or(|rate| rate >= 1_000_000)
            })
        };
        in_time && self.links.iter().all(|(_, link)| carries(link))
    }

    /// Whether the oracle says that two clients reach each other. Where it says nothing, this is false: behind nested NATs,
    /// or where both are behind one NAT.
    fn open(&self, scenario: &Scenario, a: ClientIndex, b: ClientIndex) -> bool {
        let on = |client: ClientIndex| {
            let spec: Option<&ClientSpec> = scenario.clients.get(client.0);
            self.moved.get(&client).copied().or(spec.map(|spec| spec.on))
        };
        let (Some(of_a), Some(of_b)) = (on(a), on(b)) else { return false };
        if of_a == of_b && of_a != Network::Internet {
            return false;
        }
        // Without any UDP to the server nobody has an address that it has seen.
        if self.blocked.contains(&LinkOf::Host(Host::Server)) {
            return false;
        }
        let passes = |client: ClientIndex, on: Network| {
            let outer = |on: &Network| match on {
                Network::Behind(nat) => scenario.nats.get(nat.0).map(|spec| spec.behind),
                Network::Internet => None,
            };
            let mut way = std::iter::successors(Some(on), outer);
            let nat = |on: Network| matches!(on, Network::Behind(nat) if self.blocked.contains(&LinkOf::Nat(nat)));
            !self.blocked.contains(&LinkOf::Host(Host::Client(client))) && !way.any(nat)
        };
        if !passes(a, of_a) || !passes(b, of_b) {
            return false;
        }
        let loses = self.loses(scenario, a, of_a).plus(self.loses(scenario, b, of_b));
        let by_v4 = |client, on| kind(scenario, on).filter(|_| addresses(scenario, client).has_v4());
        let reached = match (by_v4(a, of_a), by_v4(b, of_b)) {
            (Some(a), Some(b)) => reachable(a, b),
            _ => false,
        };
        // Who moves may have none where it is then.
        let by_v6 = |client, on| wall(scenario, on).filter(|_| addresses(scenario, client).has_v6());
        let reached_by_v6 = match (by_v6(a, of_a), by_v6(b, of_b)) {
            (Some(a), Some(b)) => reachable_by_ipv6(a, b),
            _ => false,
        };
        (reached || reached_by_v6) && loses <= CERTAIN_LOSS
    }

    /// What the links of a client and of its network's NAT lose in the end, both directions together.
    fn loses(&self, scenario: &Scenario, client: ClientIndex, on: Network) -> Chance {
        let (host, mut links) = (LinkOf::Host(Host::Client(client)), Vec::new());
        links.push((host, scenario.clients.get(client.0).map(|client| client.link)));
        if let Network::Behind(nat) = on {
            links.push((LinkOf::Nat(nat), scenario.nats.get(nat.0).map(|nat| nat.link)));
        }
        let links = links.into_iter().filter_map(|(of, first)| {
            let later = self.links.iter().find(|(other, _)| *other == of).map(|(_, link)| *link);
            later.or(first)
        });
        let ways = links.flat_map(|link| [link.up, link.down]);
        ways.fold(Chance::NEVER, |sum, way| sum.plus(way.loss).plus(way.bursts.share()))
    }
}

/// What a client has, whatever its network has.
fn addresses(scenario: &Scenario, client: ClientIndex) -> Families {
    scenario.clients.get(client.0).map_or(Families::V4, |spec| spec.addresses)
}

/// What the firewalls before a network let in, if it has IPv6; of several on the way, what the strictest does.
fn wall(scenario: &Scenario, network: Network) -> Option<Option<Filtering>> {
    match network {
        Network::Internet => scenario.ipv6.then_some(None),
        Network::Behind(NatIndex(nat)) => {
            let spec = scenario.nats.get(nat)?;
            let outside = wall(scenario, spec.behind)?;
            Some(outside.max(spec.nat.ipv6.as_ref()?.filtering))
        }
    }
}

/// How a network's way to the internet maps and filters, if it is one that the oracle knows.
fn kind(scenario: &Scenario, network: Network) -> Option<(Mapping, Filtering)> {
    match network {
        Network::Internet => Some((Mapping::EndpointIndependent, Filtering::EndpointIndependent)),
        Network::Behind(NatIndex(nat)) => {
            let spec = scenario.nats.get(nat)?;
            (spec.behind == Network::Internet).then_some((spec.nat.mapping, spec.nat.filtering))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
title = "three in a room"
duration = "60s"
[client.a]
[client.b]
[client.c]
[[step]]
do = "create-group"
group = "room"
members = ["a", "b"]
[[step]]
do = "join"
at = "2s"
group = "room"
client = "c"
"#;

    fn scenario(more: &str) -> Scenario {
        Scenario::parse("expect", &format!("{TEXT}{more}")).unwrap()
    }

    fn members(s: &Scenario) -> Option<Vec<usize>> {
        expectations_for(s).into_iter().find_map(|e| match e.expect {
            Expect::Members { members, .. } => Some(members.into_iter().map(|c| c.0).collect()),
            _ => None,
        })
    }

    #[test]
    fn members_follow_from_joins_and_leaves_and_sessions() {
        assert_eq!(members(&scenario("")), Some(vec![0, 1, 2]));
        let left = "[[step]]\ndo = \"leave\"\nat = \"3s\"\ngroup = \"room\"\nclient = \"a\"\n";
        assert_eq!(members(&scenario(left)), Some(vec![1, 2]));
        let mut gone = scenario("[[step]]\ndo = \"logout\"\nat = \"3s\"\nclient = \"b\"\n");
        assert_eq!(members(&gone), None, "its session may still run idle as the run ends");
        gone.duration = Duration::from_secs(110);
        assert_eq!(members(&gone), Some(vec![0, 2]));
    }

    #[test]
    fn a_script_without_its_beginning_says_which_steps_cannot_be_done() {
        let mut s = scenario("");
        assert_eq!(impossible(&s), [] as [usize; 0]);
        s.steps.remove(0);
        assert_eq!((impossible(&s), members(&s)), (vec![0], Some(vec![])));
    }

    #[test]
    fn what_does_not_heal_in_time_is_only_held_to_what_must_never_happen() {
        let cut = |lasts: &str| format!("[[step]]\ndo = \"cut\"\nat = \"3s\"\nlink = \"a\"\n{lasts}");
        assert!(members(&scenario(&cut("lasts = \"1s\"\n"))).is_some());
        for late in ["lasts = \"20s\"\n", ""] {
            let expected = expectations_for(&scenario(&cut(late)));
            let lost = u64::MAX;
            let safe = Expect::Delivery { lost, repeated: 0, reordered: 0, at_least: 0 };
            assert_eq!(expected, [Expectation { line: 0, expect: safe }]);
        }
    }

    #[test]
    fn whom_a_restarted_server_knows_no_more_is_told_so_by_silence() {
        let mut s = scenario("[[step]]\ndo = \"restart\"\nat = \"3s\"\nhost = \"server\"\n");
        s.duration = Duration::from_secs(110);
        let ends = |e: &&Expectation| matches!(e.expect, Expect::SessionEnds { .. });
        assert_eq!(expectations_for(&s).iter().filter(ends).count(), 3);
        assert_eq!(members(&s), Some(vec![]));
    }
}
