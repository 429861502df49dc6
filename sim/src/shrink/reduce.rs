//! A scenario without some of its hosts, NATs and groups, and what follows from that for all that refers to them.

use super::explicit::links;
use crate::scenario::expect::{expectations_for, impossible};
use crate::scenario::{
    Action, ClientIndex, DEFAULT_REORDER_BY, Expect, Expectation, GroupIndex, Host, LinkOf, NatIndex, Network,
    PacketFate, Pairs, PolicyOf, Scenario, Sending, Step, Target,
};
use crate::{Chance, Link};
use posse_core::Duration;

/// Whence what must hold of a scenario comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expectations {
    /// It follows from the script, and so does what must hold of what is left of it.
    Derived,
    /// Somebody wrote it down.
    Own,
}

impl Expectations {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let theirs = scenario.expectations.iter().map(|e| &e.expect);
        if theirs.eq(expectations_for(scenario).iter().map(|e| &e.expect)) { Self::Derived } else { Self::Own }
    }
}

/// Leaves out what has lost its meaning: groups that nobody creates, NATs that nobody is behind, what comes after the end,
/// steps that can no longer be done; and says anew what must hold.
pub(super) fn tidy(mut scenario: Scenario, expectations: Expectations) -> Scenario {
    loop {
        let before = (scenario.groups.len(), scenario.nats.len(), scenario.steps.len());
        end_in_time(&mut scenario);
        let lost = impossible(&scenario);
        let mut places = 0..;
        scenario.steps.retain(|_| places.next().is_none_or(|place| !lost.contains(&place)));
        let creates = |group| {
            scenario.steps.iter().any(|s| matches!(&s.action, Action::CreateGroup { group: g, .. } if *g == group))
        };
        let used = |nat| {
            let network = Network::Behind(nat);
            scenario.clients.iter().any(|client| client.on == network)
                || scenario.nats.iter().any(|other| other.behind == network)
                || scenario.steps.iter().any(|s| matches!(s.action, Action::Move { to, .. } if to == network))
        };
        scenario = keeping(&scenario, |_| true, used, creates);
        if before == (scenario.groups.len(), scenario.nats.len(), scenario.steps.len()) {
            break;
        }
    }
    for link in links(&mut scenario).filter(|link| **link != Link::PERFECT) {
        // Where nothing is held back, it says nothing how long: then as in a file that does not say.
        *link = link.both(|d| {
            if d.reorder == Chance::NEVER {
                d.reorder_delay = DEFAULT_REORDER_BY;
            }
        });
    }
    if expectations == Expectations::Derived {
        scenario.expectations = expectations_for(&scenario);
    }
    scenario
}

/// Takes out what is due only when the run is over.
fn end_in_time(scenario: &mut Scenario) {
    let end = scenario.duration;
    scenario.steps.retain(|step| step.at < end);
    for step in &mut scenario.steps {
        let room = end.saturating_sub(step.at).as_nanos().checked_div(step.every.as_nanos()).unwrap_or(0);
        step.times = step.times.min(u32::try_from(room).unwrap_or(u32::MAX).saturating_add(1));
        // Whatever happens once happens after no pause.
        if step.times == 1 {
            step.every = Duration::ZERO;
        }
    }
}

/// Only these clients, NATs and groups. Who was behind a NAT that goes is behind what that was behind.
pub(super) fn keeping(
    scenario: &Scenario,
    clients: impl Fn(ClientIndex) -> bool,
    nats: impl Fn(NatIndex) -> bool,
    groups: impl Fn(GroupIndex) -> bool,
) -> Scenario {
    let kept = |count: usize, keep: &dyn Fn(usize) -> bool| {
        let mut next = 0..;
        (0..count).map(|i| if keep(i) { next.next() } else { None }).collect::<Vec<Option<usize>>>()
    };
    let map = Map {
        scenario,
        clients: kept(scenario.clients.len(), &|i| clients(ClientIndex(i))),
        nats: kept(scenario.nats.len(), &|i| nats(NatIndex(i))),
        groups: kept(scenario.groups.len(), &|i| groups(GroupIndex(i))),
    };
    map.scenario()
}

/// Where what is kept stands then.
struct Map<'a> {
    scenario: &'a Scenario,
    clients: Vec<Option<usize>>,
    nats: Vec<Option<usize>>,
    groups: Vec<Option<usize>>,
}

impl Map<'_> {
    fn scenario(&self) -> Scenario {
        let Self { scenario: s, clients, nats, groups } = self;
        Scenario {
            title: s.title.clone(),
            nats: kept(&s.nats, nats, |nat| nat.behind = self.network(nat.behind)),
            clients: kept(&s.clients, clients, |client| client.on = self.network(client.on)),
            groups: kept(&s.groups, groups, |_| {}),
            steps: s.steps.iter().filter_map(|step| self.step(step)).collect(),
            packets: s.packets.iter().filter_map(|p| Some(PacketFate { link: self.link(p.link)?, ..*p })).collect(),
            expectations: s.expectations.iter().filter_map(|e| self.expectation(e)).collect(),
            ..**s
        }
    }

    fn client(&self, ClientIndex(i): ClientIndex) -> Option<ClientIndex> {
        self.clients.get(i).copied().flatten().map(ClientIndex)
    }

    fn members(&self, all: &[ClientIndex]) -> Vec<ClientIndex> {
        all.iter().filter_map(|client| self.client(*client)).collect()
    }

    fn pair(&self, (a, b): (ClientIndex, ClientIndex)) -> Option<(ClientIndex, ClientIndex)> {
        Some((self.client(a)?, self.client(b)?))
    }

    fn group(&self, GroupIndex(i): GroupIndex) -> Option<GroupIndex> {
        self.groups.get(i).copied().flatten().map(GroupIndex)
    }

    fn nat(&self, NatIndex(i): NatIndex) -> Option<NatIndex> {
        self.nats.get(i).copied().flatten().map(NatIndex)
    }

    fn network(&self, mut network: Network) -> Network {
        // Each NAT stands after the one it is behind, so this ends at the internet.
        while let Network::Behind(NatIndex(i)) = network {
            match self.nat(NatIndex(i)) {
                Some(nat) => return Network::Behind(nat),
                None => network = self.scenario.nats.get(i).map_or(Network::Internet, |nat| nat.behind),
            }
        }
        network
    }

    fn host(&self, host: Host) -> Option<Host> {
        match host {
            Host::Server => Some(host),
            Host::Client(client) => self.client(client).map(Host::Client),
        }
    }

    fn link(&self, link: LinkOf) -> Option<LinkOf> {
        match link {
            LinkOf::Host(host) => self.host(host).map(LinkOf::Host),
            LinkOf::Nat(nat) => self.nat(nat).map(LinkOf::Nat),
        }
    }

    fn step(&self, step: &Step) -> Option<Step> {
        Some(Step { action: self.action(&step.action)?, ..*step })
    }

    fn action(&self, action: &Action) -> Option<Action> {
        Some(match *action {
            Action::CreateGroup { group, ref members, ref message } => {
                let (group, members) = (self.group(group)?, self.members(members));
                Action::CreateGroup { group, members, message: message.clone() }
            }
            Action::Join { group, client, ref message } => {
                Action::Join { group: self.group(group)?, client: self.client(client)?, message: message.clone() }
            }
            Action::Leave { group, client } => {
                Action::Leave { group: self.group(group)?, client: self.client(client)? }
            }
            Action::DestroyGroup { group } => Action::DestroyGroup { group: self.group(group)? },
            Action::SetPolicy { of: PolicyOf::Group(group), policy } => {
                Action::SetPolicy { of: PolicyOf::Group(self.group(group)?), policy }
            }
            Action::SetPolicy { of: PolicyOf::Pair(a, b), policy } => {
                let (a, b) = self.pair((a, b))?;
                Action::SetPolicy { of: PolicyOf::Pair(a, b), policy }
            }
            Action::Disconnect { client } => Action::Disconnect { client: self.client(client)? },
            Action::Logout { client } => Action::Logout { client: self.client(client)? },
            Action::Send(ref sending) => {
                let to = match sending.to {
                    Target::Host(host) => Target::Host(self.host(host)?),
                    Target::Group(group) => Target::Group(self.group(group)?),
                };
                Action::Send(Sending { from: self.host(sending.from)?, to, ..*sending })
            }
            Action::Cut { link, way, lasts } => Action::Cut { link: self.link(link)?, way, lasts },
            Action::BlockUdp { link, lasts } => Action::BlockUdp { link: self.link(link)?, lasts },
            Action::CutDirect { pair, one_way, lasts } => Action::CutDirect { pair: self.pair(pair)?, one_way, lasts },
            Action::Reboot { nat, new_address } => Action::Reboot { nat: self.nat(nat)?, new_address },
            Action::Pause { host, lasts } => Action::Pause { host: self.host(host)?, lasts },
            Action::ClockJump { host, by } => Action::ClockJump { host: self.host(host)?, by },
            Action::Restart { host } => Action::Restart { host: self.host(host)? },
            Action::SetLink { of, link } => Action::SetLink { of: self.link(of)?, link },
            Action::Move { client, to, link } => {
                Action::Move { client: self.client(client)?, to: self.network(to), link }
            }
        })
    }

    fn expectation(&self, expectation: &Expectation) -> Option<Expectation> {
        let expect = match expectation.expect {
            Expect::Direct { pairs, by, within, rtt_at_most } => {
                Expect::Direct { pairs: self.pairs(pairs)?, by, within, rtt_at_most }
            }
            Expect::Relayed { pairs, because } => Expect::Relayed { pairs: self.pairs(pairs)?, because },
            Expect::FirstMessage { from, to, by, within } => {
                Expect::FirstMessage { from: self.host(from)?, to: self.host(to)?, by, within }
            }
            Expect::Switches { pair, at_least } => Expect::Switches { pair: self.pair(pair)?, at_least },
            Expect::Members { group, ref members } => {
                Expect::Members { group: self.group(group)?, members: self.members(members) }
            }
            Expect::Delay { from, at_most } => Expect::Delay { from: self.host(from)?, at_most },
            Expect::SessionEnds { client, because, by } => {
                Expect::SessionEnds { client: self.client(client)?, because, by }
            }
            ref other @ (Expect::Delivery { .. } | Expect::Joins { .. }) => other.clone(),
        };
        Some(Expectation { expect, ..*expectation })
    }

    fn pairs(&self, pairs: Pairs) -> Option<Pairs> {
        match pairs {
            Pairs::All => Some(Pairs::All),
            Pairs::One(a, b) => self.pair((a, b)).map(|(a, b)| Pairs::One(a, b)),
        }
    }
}

fn kept<T: Clone>(all: &[T], map: &[Option<usize>], change: impl Fn(&mut T)) -> Vec<T> {
    let mut left: Vec<T> = all.iter().zip(map).filter(|(_, to)| to.is_some()).map(|(one, _)| one.clone()).collect();
    left.iter_mut().for_each(change);
    left
}
