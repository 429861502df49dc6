//! Who is shown as offline, when, and until when.
//!
//! 1. What is told of one alternates, begins with offline, and is of somebody who is there: the server, a client of the
//!    server's, a member of a group that the observer is in.
//! 2. In the end, when all is healed, nobody is offline for longer than [`UNLUCKY`]: on an idle link a burst of losses may take
//!    all that is asked.
//! 3. On *calm* links, where nothing but direct cuts and faults of less than [`NOTICED`] in all happen, nobody ever is.
//! 4. On calm links with one long outage and no other fault, each end of every link that it cuts notices within
//!    [`LATEST`], and that it is over within [`BACK`]. A host that stood still notices nothing; the others do.

use super::exact::is_harmless;
use super::latency::is_calm;
use crate::scenario::expect::heals;
use crate::scenario::journal::{Entry, Journal, What};
use crate::scenario::{Action, ClientIndex, GroupIndex, Host, LinkOf, Network, Scenario, Ways, written};
use posse_core::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};

/// What keeps two ends apart for less is noticed by nobody.
const NOTICED: Duration = Duration::from_secs(3);
/// From the last word until offline: a keepalive that is late by 2 s, and 3 s of asking; a second for rounding and round trips.
const LATEST: Duration = Duration::from_secs(16);
/// From the end of an outage until online: the longest probe timeout, and a second for round trips.
const BACK: Duration = Duration::from_secs(3);
/// What links in the end may take away by chance: several tries in a row.
const UNLUCKY: Duration = Duration::from_secs(15);
/// Shorter outages may be over before anybody notices.
const LONG: Duration = Duration::from_secs(20);
/// So long before an outage everybody concerned must have been there for 4. to hold.
const SETTLED: Duration = Duration::from_secs(1);

/// What is wrong with the news of presence, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(scenario: &Scenario, journals: &[Journal]) -> Vec<String> {
    let mut wrong = Vec::new();
    let quiet = never_noticed(scenario);
    for (host, journal) in hosts().zip(journals) {
        let name = |host| scenario.host_name(host).to_owned();
        let mut told = Told::default();
        for entry in &journal.entries {
            if let Err(what) = told.on(host, entry) {
                wrong.push(format!("{}: at {} {what}", name(host), written(entry.at.since(Instant::ZERO))));
            }
            if let What::Presence { of, offline: true } = &entry.what
                && quiet
            {
                wrong.push(format!("{}: {} is offline and nothing kept them apart", name(host), name(*of)));
            }
        }
        if heals(scenario) {
            let long = |at: &Instant| *at + UNLUCKY < Instant::ZERO + scenario.duration;
            let left = told
                .offline
                .iter()
                .filter(|(_, at)| long(at))
                .map(|(of, _)| format!("{}: {} is offline in the end", name(host), name(*of)));
            wrong.extend(left);
        }
    }
    wrong.extend(unnoticed(scenario, journals));
    wrong
}

fn hosts() -> impl Iterator<Item = Host> {
    std::iter::once(Host::Server).chain((0..).map(|i| Host::Client(ClientIndex(i))))
}

/// What one application was told, followed through its journal.
#[derive(Default)]
struct Told {
    offline: BTreeMap<Host, Instant>,
    /// Groups in which it sees each client; of the server's, that it is there at all.
    there: BTreeMap<ClientIndex, BTreeSet<GroupIndex>>,
    /// Sessions of each client at the server: one that crashes comes back in another before the first is over.
    sessions: BTreeMap<ClientIndex, usize>,
}

impl Told {
    fn on(&mut self, me: Host, entry: &Entry) -> Result<(), String> {
        match &entry.what {
            What::Presence { of, offline } => {
                let there = match of {
                    Host::Server => true,
                    Host::Client(client) => self.there.contains_key(client),
                };
                let before = if *offline { self.offline.insert(*of, entry.at) } else { self.offline.remove(of) };
                let news = before.is_none() == *offline;
                match (there, news) {
                    (true, true) => Ok(()),
                    (false, _) => Err(format!("is told of {of:?}, who is not there")),
                    (_, false) => {
                        Err(format!("is told twice that {of:?} is {}", if *offline { "offline" } else { "online" }))
                    }
                }?;
            }
            What::Accepted(client) => {
                self.offline.remove(&Host::Client(*client));
                self.there.entry(*client).or_default();
                *self.sessions.entry(*client).or_default() += 1;
            }
            What::ClientLeft(client, _) => {
                let left = self.sessions.get(client).map_or(0, |sessions| sessions.saturating_sub(1));
                self.sessions.insert(*client, left);
                self.offline.remove(&Host::Client(*client));
                if left == 0 {
                    self.forget(*client);
                }
            }
            What::MemberJoined(group, client) => _ = self.there.entry(*client).or_default().insert(*group),
            What::MemberLeft(group, client, _) if me == Host::Client(*client) => {
                let all: Vec<_> = self.there.keys().copied().collect();
                all.into_iter().for_each(|other| self.left(*group, other));
            }
            What::MemberLeft(group, client, _) => self.left(*group, *client),
            What::Ended(_) | What::Restarted => *self = Self::default(),
            _ => {}
        }
        Ok(())
    }

    fn left(&mut self, group: GroupIndex, client: ClientIndex) {
        let empty = self.there.get_mut(&client).is_some_and(|groups| groups.remove(&group) && groups.is_empty());
        if empty {
            self.forget(client);
        }
    }

    fn forget(&mut self, client: ClientIndex) {
        self.there.remove(&client);
        self.offline.remove(&Host::Client(client));
    }
}

fn all_calm(scenario: &Scenario) -> bool {
    let links = scenario.nats.iter().map(|nat| &nat.link).chain(scenario.clients.iter().map(|client| &client.link));
    scenario.packets.is_empty() && links.chain([&scenario.server]).all(is_calm)
}

/// How long a step may keep two ends apart; `None` if that cannot be said.
fn keeps_apart(action: &Action) -> Option<Duration> {
    match action {
        Action::Cut { lasts, .. } => *lasts,
        Action::Pause { lasts, .. } => Some(*lasts),
        Action::CutDirect { .. } | Action::Leave { .. } | Action::DestroyGroup { .. } => Some(Duration::ZERO),
        action => is_harmless(action).then_some(Duration::ZERO),
    }
}

/// Whether a script gives nobody a reason to take another for offline.
fn never_noticed(scenario: &Scenario) -> bool {
    let apart = scenario.steps.iter().map(|step| Some(keeps_apart(&step.action)?.saturating_mul(step.times)));
    let in_all = apart.into_iter().sum::<Option<Duration>>();
    all_calm(scenario) && in_all.is_some_and(|in_all| in_all < NOTICED)
}

/// The one long outage of a script, if it has one and no other fault: when, how long, and who is cut off from whom.
struct Outage {
    begin: Instant,
    end: Instant,
    /// Clients between whom and the server nothing passes.
    apart: Vec<ClientIndex>,
    /// Who stands still meanwhile.
    still: Option<Host>,
}

impl Outage {
    fn of(scenario: &Scenario) -> Option<Self> {
        let mut found = None;
        for step in &scenario.steps {
            match (&step.action, keeps_apart(&step.action)?) {
                (_, Duration::ZERO) => {}
                (action, lasts) if found.is_none() && step.times == 1 && lasts >= LONG => {
                    let begin = Instant::ZERO + step.at;
                    let (apart, still) = cut_off(scenario, action)?;
                    found = Some(Self { begin, end: begin + lasts, apart, still });
                }
                _ => return None,
            }
        }
        found
    }
}

fn cut_off(scenario: &Scenario, action: &Action) -> Option<(Vec<ClientIndex>, Option<Host>)> {
    let all = || (0..scenario.clients.len()).map(ClientIndex);
    Some(match action {
        Action::Cut { way: Ways::Both, link: LinkOf::Host(Host::Server), .. } => (all().collect(), None),
        Action::Cut { way: Ways::Both, link: LinkOf::Host(Host::Client(client)), .. } => (vec![*client], None),
        Action::Cut { way: Ways::Both, link: LinkOf::Nat(nat), .. } => {
            let behind = |client: &ClientIndex| {
                scenario.clients.get(client.0).is_some_and(|spec| spec.on == Network::Behind(*nat))
            };
            (all().filter(behind).collect(), None)
        }
        Action::Pause { host: Host::Server, .. } => (all().collect(), Some(Host::Server)),
        Action::Pause { host: Host::Client(client), .. } => (vec![*client], Some(Host::Client(*client))),
        _ => return None,
    })
}

/// Ends that did not notice an outage in time, or noticed what they could not.
fn unnoticed(scenario: &Scenario, journals: &[Journal]) -> Vec<String> {
    let Some(outage) = Outage::of(scenario).filter(|_| all_calm(scenario)) else { return Vec::new() };
    let Some(server) = journals.first() else { return Vec::new() };
    let mut wrong = Vec::new();
    for &client in &outage.apart {
        let Some(journal) = journals.get(client.0 + 1) else { continue };
        let settled = |at: Instant| at + SETTLED < outage.begin;
        if !journal.entries.iter().any(|entry| entry.what == What::LoggedIn && settled(entry.at)) {
            continue;
        }
        let (host, name) = (Host::Client(client), |host| scenario.host_name(host));
        for (observer, of, entries) in [(Host::Server, host, &server.entries), (host, Host::Server, &journal.entries)] {
            let told = |offline, from: Instant, by: Instant| {
                let news = What::Presence { of, offline };
                entries.iter().any(|entry| entry.what == news && entry.at >= from && entry.at <= by)
            };
            if outage.still == Some(observer) {
                if told(true, Instant::ZERO, Instant::FAR) {
                    wrong.push(format!("{} stood still and takes {} for offline", name(observer), name(of)));
                }
                continue;
            }
            if !told(true, outage.begin, outage.begin + LATEST) {
                wrong.push(format!("{} does not notice in time that {} is offline", name(observer), name(of)));
            } else if !told(false, outage.end, outage.end + BACK) {
                wrong.push(format!("{} does not notice in time that {} is online again", name(observer), name(of)));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, ROOM, entry};
    use super::*;
    use posse_core::EndReason;

    const TEXT: &str = r#"
title = "two in a room"
duration = "200s"
[client.a]
[client.b]
[[step]]
do = "create-group"
group = "room"
members = ["a", "b"]
"#;

    fn found(more: &str, journals: [Vec<(u64, What)>; 3]) -> Vec<String> {
        let scenario = Scenario::parse("presence", &format!("{TEXT}{more}")).unwrap();
        let journal = |entries: Vec<(u64, What)>| Journal {
            entries: entries.into_iter().map(|(at, what)| entry(at, what)).collect(),
            ..Journal::default()
        };
        violations(&scenario, &journals.map(journal))
    }

    fn of(host: Host, offline: bool) -> What {
        What::Presence { of: host, offline }
    }

    const CUT: &str = "[[step]]\ndo = \"cut\"\nat = \"10s\"\nlink = \"a\"\nlasts = \"50s\"\n";
    const CLIENT: Host = Host::Client(A);

    fn noticed() -> [Vec<(u64, What)>; 3] {
        [
            vec![
                (100, What::Accepted(A)),
                (100, What::Accepted(B)),
                (22_000, of(CLIENT, true)),
                (61_000, of(CLIENT, false)),
            ],
            vec![(100, What::LoggedIn), (23_000, of(Host::Server, true)), (61_500, of(Host::Server, false))],
            vec![
                (100, What::LoggedIn),
                (200, What::MemberJoined(ROOM, A)),
                (22_000, of(CLIENT, true)),
                (61_000, of(CLIENT, false)),
            ],
        ]
    }

    #[test]
    fn an_outage_that_everybody_notices_is_right() {
        assert_eq!(found(CUT, noticed()), [] as [String; 0]);
    }

    #[test]
    fn an_outage_that_one_notices_late_or_for_ever_or_twice_is_wrong() {
        let mut late = noticed();
        late[0][2].0 = 27_000;
        assert_eq!(found(CUT, late), ["server does not notice in time that a is offline"]);
        let mut ever = noticed();
        ever[2].pop();
        assert_eq!(found(CUT, ever), ["b: a is offline in the end"]);
        let mut twice = noticed();
        twice[2].insert(2, (21_000, of(CLIENT, true)));
        assert_eq!(found(CUT, twice).len(), 1);
    }

    #[test]
    fn who_left_is_neither_offline_nor_told_of() {
        let mut left = noticed();
        left[2].pop();
        left[2].push((50_000, What::MemberLeft(ROOM, A, posse_core::LeaveReason::Disconnected)));
        assert_eq!(found(CUT, left.clone()), [] as [String; 0]);
        left[2].push((61_000, of(CLIENT, false)));
        assert_eq!(found(CUT, left).len(), 1);
        let mut ended = noticed();
        ended[1].pop();
        ended[1].push((60_500, What::Ended(EndReason::TimedOut)));
        assert_eq!(found(CUT, ended), ["a does not notice in time that server is online again"]);
    }

    #[test]
    fn who_came_back_in_another_session_is_there_when_the_first_is_over() {
        let mut twice = noticed();
        twice[0].splice(
            2..,
            [
                (5_000, What::Accepted(A)),
                (20_000, What::ClientLeft(A, EndReason::TimedOut)),
                (22_000, of(CLIENT, true)),
                (61_000, of(CLIENT, false)),
            ],
        );
        assert_eq!(found(CUT, twice.clone()), [] as [String; 0]);
        twice[0].insert(4, (21_000, What::ClientLeft(A, EndReason::TimedOut)));
        assert_eq!(found(CUT, twice).len(), 2, "nobody is told of who is gone");
    }

    #[test]
    fn nobody_is_offline_without_a_reason() {
        let short = CUT.replace("50s", "2s");
        assert_eq!(found(&short, noticed()).len(), 3);
    }

    #[test]
    fn who_stood_still_takes_nobody_for_offline() {
        let pause = "[[step]]\ndo = \"pause\"\nat = \"10s\"\nhost = \"a\"\nlasts = \"50s\"\n";
        assert_eq!(found(pause, noticed()), ["a stood still and takes server for offline"]);
    }
}
