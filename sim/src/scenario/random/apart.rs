//! What is drawn apart from all else, each by its own dice, so that all else of a run is as it would be without.

use super::{BUSY_MS, Draw, SETTLED_MS, once};
use crate::dice::{self, Label};
use crate::nat::Firewall;
use crate::scenario::{
    Action, ClientIndex, GroupIndex, Host, LinkOf, NatIndex, Network, Scenario, Sending, ServerDoors, Step, Target,
    Ways,
};
use crate::{Allocation, Chance, Families, Filtering, Link};
use posse_core::{Channel, Duration, PathPolicy, Prefer, PunchPolicy, SendOptions};

/// The longest time that somebody is out of reach: with what comes before and after, less than a session is kept.
const OUTAGE_MS: u64 = 50_000;
/// By so long after its start a client without UDP is surely logged in, if there is no fault: it tries UDP for 300 ms, TCP repeats
/// what asks for the connection after 1 and 3 s and what asks for the session after as long again (RFC 6298 §5), and round
/// trips. A fault on top of that may well take the 5 s that a login has, and then an application would log in again.
const TCP_LOGIN_MS: u64 = 7_500;

/// In half of the runs the server finds out how NATs behave and has clients search for direct paths, and some NATs give out ports
/// otherwise than at random.
pub(super) fn searches(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 1));
    scenario.doors = draw.pick(&[ServerDoors::None, ServerDoors::None, ServerDoors::Port, ServerDoors::Address]);
    if scenario.doors == ServerDoors::None {
        return;
    }
    for nat in scenario.nats.iter_mut().map(|spec| &mut spec.nat) {
        if nat.allocation == Allocation::Random && draw.one_in(2) {
            nat.allocation = draw.pick(&Allocation::ALL);
            nat.stride = draw.pick(&[1, 1, 2, -1, 5]);
            nat.cross_traffic = draw.one_in(2).then(|| Duration::from_millis(draw.from(100, 5000)));
        }
    }
}

/// In a third of the runs somebody has a policy, and in half of the runs some NATs' mappings live otherwise than 120 s. Nothing
/// that drops messages on purpose, and nothing that closes holes for good.
pub(super) fn policies(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 3));
    let prefer = [Prefer::Direct, Prefer::Direct, Prefer::Fastest, Prefer::RelayOnly];
    let punch = [PunchPolicy::Always, PunchPolicy::OnTraffic, PunchPolicy::Never];
    match draw.below(6) {
        0 => scenario.policy = PathPolicy::new(draw.pick(&punch), draw.pick(&prefer)),
        1 => {
            for client in &mut scenario.clients {
                client.policy = PathPolicy::new(draw.pick(&punch), draw.pick(&prefer));
            }
        }
        _ => {}
    }
    if draw.one_in(2) {
        for nat in scenario.nats.iter_mut().map(|spec| &mut spec.nat) {
            nat.lifetime = Duration::from_secs(draw.pick(&[15, 30, 65, 120]));
            nat.unreplied = draw.one_in(3).then(|| Duration::from_secs(draw.pick(&[15, 30])));
            nat.filter_lifetime = draw.one_in(3).then(|| Duration::from_secs(draw.pick(&[15, 60])));
        }
    }
}

/// In half of the runs each client keeps holes to former peers for another time than Posse would have it, or not at all.
pub(super) fn retained(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 6));
    if draw.one_in(2) {
        for client in &mut scenario.clients {
            client.retain = Some(Duration::from_millis(draw.pick(&[0, 0, 1_500, 6_000, 300_000])));
        }
    }
}

/// In a third of the runs there is IPv6: at the server, on the internet, and behind most NATs, each with a firewall of its own
/// kind. Most clients have both families; some have one, IPv6 alone only where they surely stay in reach by it.
pub(super) fn ipv6(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 7));
    if !draw.one_in(3) {
        return;
    }
    scenario.ipv6 = true;
    for at in 0..scenario.nats.len() {
        let outside = match scenario.nats[at].behind {
            Network::Internet => true,
            Network::Behind(NatIndex(outer)) => scenario.nats[outer].nat.ipv6.is_some(),
        };
        let lifetime = Duration::from_secs(draw.pick(&[15, 30, 65, 120]));
        let unreplied = draw.one_in(3).then(|| Duration::from_secs(draw.pick(&[15, 30])));
        let [one, two, three] = Filtering::ALL.map(Some);
        let filtering = draw.pick(&[one, two, three, three, None]);
        let inbound_refresh = draw.one_in(2);
        let wall = Firewall { filtering, lifetime, unreplied, inbound_refresh };
        scenario.nats[at].nat.ipv6 = (outside && !draw.one_in(3)).then_some(wall);
    }
    let moves = |client: usize| {
        let of = |step: &Step| matches!(step.action, Action::Move { client: ClientIndex(c), .. } if c == client);
        scenario.steps.iter().any(of)
    };
    for at in 0..scenario.clients.len() {
        let there = match scenario.clients[at].on {
            Network::Internet => true,
            Network::Behind(NatIndex(nat)) => scenario.nats[nat].nat.ipv6.is_some(),
        };
        let drawn = draw.pick(&[Families::Both, Families::Both, Families::V4, Families::V6]);
        let stays = there && !moves(at);
        scenario.clients[at].addresses = if drawn == Families::V6 && !stays { Families::Both } else { drawn };
    }
}

/// In one run of four somebody is out of reach for long: as often as the link of a client, a NAT or the server is cut, a machine is suspended.
/// In half of those nothing else goes wrong. Messages are sent all the while. Not where somebody goes away for good: then a
/// session may be over for that.
pub(super) fn outage(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 4));
    let goes =
        |step: &Step| matches!(step.action, Action::Restart { .. } | Action::Logout { .. } | Action::Disconnect { .. });
    if !draw.one_in(4) || scenario.steps.iter().any(goes) {
        return;
    }
    let alone = draw.one_in(2);
    scenario.steps.retain(|step| match step.action {
        Action::Cut { .. } | Action::Pause { .. } => false,
        Action::CreateGroup { .. } | Action::Join { .. } | Action::Leave { .. } | Action::DestroyGroup { .. } => true,
        Action::Send(_) => true,
        _ => !alone,
    });
    let lasts = Duration::from_millis(draw.from(11_000, OUTAGE_MS));
    let action = match draw.below(2) {
        0 => Action::Pause { host: draw.any_host(scenario), lasts },
        _ => {
            let way = draw.pick(&[Ways::Both, Ways::Both, Ways::Both, Ways::Up, Ways::Down]);
            Action::Cut { link: draw.any_link(scenario), way, lasts: Some(lasts) }
        }
    };
    let at = draw.from(SETTLED_MS, BUSY_MS);
    scenario.steps.push(once(at, action));
    let group = Target::Group(GroupIndex(draw.below(scenario.groups.len() as u64) as usize));
    for to in [group, Target::Host(Host::Server)] {
        let from = Host::Client(draw.any_client(scenario));
        let (channel, options) = (Channel::reliable(3), SendOptions::default());
        let size = draw.from(Sending::MIN_SIZE as u64, 80) as usize;
        let action = Action::Send(Sending { from, to, channel, size, options });
        let (at, every) = (Duration::from_millis(draw.below(BUSY_MS)), Duration::from_millis(draw.from(600, 3_000)));
        scenario.steps.push(Step { at, every, times: draw.from(1, 25) as u32, action });
    }
}

/// In a third of the runs, but for those on links that only delay, firewalls let no UDP of some clients pass: one from the beginning
/// and for ever, so that the login goes by TCP too, or some that come and go. Faults leave that login its time.
pub(super) fn firewalls(seed: u64, scenario: &mut Scenario) {
    let mut draw = Draw(dice::stream(seed, Label::Swarm, 5));
    let delays = |link: &Link| {
        [link.up, link.down]
            .iter()
            .all(|d| d.loss == Chance::NEVER && d.duplicate == Chance::NEVER && d.jitter.is_zero())
    };
    let links = scenario.nats.iter().map(|nat| &nat.link).chain(scenario.clients.iter().map(|client| &client.link));
    if !draw.one_in(3) || links.chain([&scenario.server]).all(delays) {
        return;
    }
    for n in 0..draw.from(1, 3) {
        let link = LinkOf::Host(Host::Client(draw.any_client(scenario)));
        if n == 0 && draw.one_in(2) {
            put_off_faults(link, scenario);
            scenario.steps.push(once(0, Action::BlockUdp { link, lasts: None }));
        } else {
            scenario.steps.push(draw.fault(|lasts| Action::BlockUdp { link, lasts: Some(lasts) }));
        }
    }
}

/// Faults begin when the client behind `link`, who can only log in by TCP, has surely done so, also after a crash.
fn put_off_faults(link: LinkOf, scenario: &mut Scenario) {
    let crashes = scenario.steps.iter().filter_map(|step| match step.action {
        Action::Restart { host } if LinkOf::Host(host) == link && step.at <= Duration::from_millis(BUSY_MS) => {
            Some(step.at)
        }
        _ => None,
    });
    let by = crashes.max().unwrap_or_default() + Duration::from_millis(TCP_LOGIN_MS);
    for step in scenario.steps.iter_mut().filter(|step| step.at < by) {
        if matches!(
            step.action,
            Action::Cut { .. }
                | Action::Pause { .. }
                | Action::Reboot { .. }
                | Action::Move { .. }
                | Action::SetLink { .. }
                | Action::ClockJump { .. }
        ) {
            step.at += by.saturating_sub(Duration::from_millis(SETTLED_MS));
        }
    }
}
