//! What is tried, in this order.

use super::Shrinker;
use super::explicit::{explicit, links};
use super::reduce::keeping;
use crate::nat::Firewall;
use crate::scenario::expect::HEALING;
use crate::scenario::{Action, ClientIndex, GroupIndex, NatIndex, Network, Scenario, Sending};
use crate::{Bursts, Chance, Direction, Families, Filtering, Link, Mapping, Nat};
use posse_core::Duration;

/// What a link is when nothing of it matters.
const PLAIN: Link = Link::millis(10);
/// The end of a run, and how long a fault lasts, is brought forward by no less.
const STEP_MS: u64 = 100;

/// Times are rounded to one of these, if that does not matter.
const ROUND_MS: [u64; 3] = [1_000, 100, 10];

/// Takes one effect from a direction.
type Effect = fn(&mut Direction);

/// Each effect of a link but its delay, without which machines that answer each other would stop the clock.
const EFFECTS: [Effect; 11] = [
    |d| d.loss = Chance::NEVER,
    |d| d.bursts = Bursts::NEVER,
    |d| d.corrupt = Chance::NEVER,
    |d| d.duplicate = Chance::NEVER,
    |d| d.reorder = Chance::NEVER,
    |d| d.jitter = Duration::ZERO,
    |d| d.rate = None,
    |d| d.queue = Direction::PERFECT.queue,
    |d| d.mark_from = None,
    |d| d.clears_ecn = false,
    |d| d.mtu = Direction::PERFECT.mtu,
];

impl Shrinker<'_, '_> {
    /// Everything once.
    pub(super) fn round(&mut self) {
        self.drop_from(|s| &mut s.steps);
        self.drop_from(|s| &mut s.packets);
        self.repetitions();
        self.links();
        self.nats();
        self.hosts();
        self.horizon();
        self.sizes();
    }

    /// Lists what the remaining chances came to, if there are any.
    pub(super) fn make_explicit(&mut self) -> bool {
        let Some(listed) = explicit(&self.best, self.best.seed) else { return false };
        let same = |listed: &Scenario| {
            let (mut a, mut b) = (self.best.clone(), listed.clone());
            links(&mut a).map(|link| *link).eq(links(&mut b).map(|link| *link))
        };
        !same(&listed) && self.attempt(listed)
    }

    fn repetitions(&mut self) {
        for step in 0..self.best.steps.len() {
            let Some(times) = self.best.steps.get(step).map(|step| step.times) else { return };
            self.lower(1, times.into(), |s, times| {
                if let Some(step) = s.steps.get_mut(step) {
                    step.times = u32::try_from(times).unwrap_or(u32::MAX);
                    if times == 1 {
                        step.every = Duration::ZERO;
                    }
                }
            });
        }
    }

    /// One effect at a time: from all links at once, from one link, from one direction. Then all of a link.
    fn links(&mut self) {
        for effect in EFFECTS {
            if self.change(|s| links(s).for_each(|link| *link = link.both(effect))) {
                continue;
            }
            for i in 0..links(&mut self.best).count() {
                let one = |s: &mut Scenario, change: &dyn Fn(&mut Link)| {
                    links(s).nth(i).into_iter().for_each(change);
                };
                if !self.change(|s| one(s, &|link| *link = link.both(effect))) {
                    self.change(|s| one(s, &|link| effect(&mut link.up)));
                    self.change(|s| one(s, &|link| effect(&mut link.down)));
                }
            }
        }
        for i in 0..links(&mut self.best).count() {
            self.change(|s| links(s).nth(i).into_iter().for_each(|link| *link = PLAIN));
        }
    }

    fn nats(&mut self) {
        for client in 0..self.best.clients.len() {
            self.change(|s| s.clients.iter_mut().skip(client).take(1).for_each(|c| c.on = Network::Internet));
        }
        self.change(|s| {
            s.ipv6 = false;
            s.nats.iter_mut().for_each(|spec| spec.nat.ipv6 = None);
            s.clients.iter_mut().for_each(|client| client.addresses = Families::Both);
        });
        for client in 0..self.best.clients.len() {
            self.change(|s| s.clients.iter_mut().skip(client).take(1).for_each(|c| c.addresses = Families::Both));
        }
        let mut nat = 0;
        while nat < self.best.nats.len() && !self.over {
            // Its clients are then where it was.
            let smaller = keeping(&self.best, |_| true, |NatIndex(i)| i != nat, |_| true);
            if self.attempt(smaller) {
                continue;
            }
            let mut change = |change: fn(&mut Nat, &mut Network)| {
                self.change(|s| s.nats.iter_mut().skip(nat).take(1).for_each(|n| change(&mut n.nat, &mut n.behind)));
            };
            change(|_, behind| *behind = Network::Internet);
            change(|nat, _| *nat = Nat::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent));
            change(|nat, _| *nat = Nat::new(nat.mapping, nat.filtering));
            change(|nat, _| nat.hairpin = false);
            change(|nat, _| nat.ipv6 = None);
            change(|nat, _| nat.ipv6 = nat.ipv6.as_ref().map(|_| Firewall::default()));
            change(|nat, _| nat.open_input = false);
            nat += 1;
        }
    }

    fn hosts(&mut self) {
        let mut client = 0;
        while self.best.clients.len() > 1 && client < self.best.clients.len() && !self.over {
            let smaller = keeping(&self.best, |ClientIndex(i)| i != client, |_| true, |_| true);
            client += usize::from(!self.attempt(smaller));
        }
        let mut group = 0;
        while group < self.best.groups.len() && !self.over {
            let smaller = keeping(&self.best, |_| true, |_| true, |GroupIndex(i)| i != group);
            group += usize::from(!self.attempt(smaller));
        }
        self.change(|s| s.clients.iter_mut().for_each(|client| client.start = Duration::ZERO));
        self.first_members();
    }

    /// Groups begin with fewer.
    fn first_members(&mut self) {
        for step in 0..self.best.steps.len() {
            for member in (0..self.best.clients.len()).rev() {
                self.change(|s| {
                    if let Some(Action::CreateGroup { members, .. }) = s.steps.get_mut(step).map(|s| &mut s.action) {
                        members.retain(|client| *client != ClientIndex(member));
                    }
                });
            }
        }
    }

    /// The end comes earlier. Where all must be well in the end, the time to heal remains after what happens last.
    fn horizon(&mut self) {
        let steps = self.best.duration.as_millis().div_ceil(u128::from(STEP_MS));
        let healing = HEALING.as_millis().div_ceil(u128::from(STEP_MS));
        let [steps, healing] = [steps, healing].map(|n| u64::try_from(n).unwrap_or(u64::MAX));
        let set = |s: &mut Scenario, steps: u64| s.duration = Duration::from_millis(steps.saturating_mul(STEP_MS));
        // Safety breaks early or not at all: the end may be far nearer than any liveness could be asked for.
        self.lower(1, healing.min(steps), set);
        if self.best.duration > HEALING {
            self.lower(healing, steps, set);
        }
        for step in 0..self.best.steps.len() {
            self.earlier(step);
        }
    }

    /// A step is done at a round time, and a fault lasts no longer than it has to.
    fn earlier(&mut self, step: usize) {
        for unit in ROUND_MS.map(Duration::from_millis) {
            let round = |at: Duration| unit * u32::try_from(at.as_nanos() / unit.as_nanos()).unwrap_or(u32::MAX);
            if self.change(|s| s.steps.iter_mut().skip(step).take(1).for_each(|step| step.at = round(step.at))) {
                break;
            }
        }
        let Some(lasts) = self.best.steps.get(step).map(|step| lasts(&step.action)) else { return };
        if let Some(lasts) = lasts {
            let steps = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) / STEP_MS;
            self.lower(1, steps, |s, n| {
                if let Some(step) = s.steps.get_mut(step) {
                    set_lasts(&mut step.action, Duration::from_millis(n.saturating_mul(STEP_MS)));
                }
            });
        }
    }

    fn sizes(&mut self) {
        for step in 0..self.best.steps.len() {
            let Some(Action::Send(sending)) = self.best.steps.get(step).map(|step| &step.action) else { continue };
            self.lower(Sending::MIN_SIZE as u64, sending.size as u64, |s, size| {
                if let Some(Action::Send(sending)) = s.steps.get_mut(step).map(|step| &mut step.action) {
                    sending.size = usize::try_from(size).unwrap_or(Sending::MAX_SIZE);
                }
            });
        }
    }
}

fn lasts(action: &Action) -> Option<Duration> {
    match *action {
        Action::Cut { lasts, .. } | Action::CutDirect { lasts, .. } => lasts,
        Action::Pause { lasts, .. } => Some(lasts),
        _ => None,
    }
}

fn set_lasts(action: &mut Action, to: Duration) {
    match action {
        Action::Cut { lasts, .. } | Action::CutDirect { lasts, .. } => *lasts = Some(to),
        Action::Pause { lasts, .. } => *lasts = to,
        _ => {}
    }
}
