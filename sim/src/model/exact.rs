//! What machines count, where it must be exact.
//!
//! - Nobody ever breaks the protocol: no link, and no session, ends as a violation.
//! - Sessions end by the script alone: no fault that lasts less than the idle timeout ends one.
//! - Where no link repeats or damages packets, no packet is refused as a repetition, whatever else becomes of it.
//! - Where links delay and do nothing else, nothing is taken for lost.
//! - Where all heals and all messages are reliable, no message is held in the end, nor is any credit taken by one: what
//!   came, went, or was given up is off the books of both ends. (Of an unreliable one fragments may wait for ever.)

use super::latency::is_calm;
use crate::scenario::expect::heals;
use crate::scenario::journal::{Journal, What};
use crate::scenario::{Action, ClientIndex, ClockJump, Host, Scenario};
use crate::{Chance, Direction, Link, Nat};
use posse_core::Duration;
use posse_core::client::ClientCounters;
use posse_core::client::Memory;
use posse_core::server::ServerCounters;

/// What one client counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct ClientCounts {
    pub(crate) refused: ClientCounters,
    /// Packets taken for lost, on all paths to the server and to those who are its peers in the end.
    pub(crate) lost: u64,
    /// Bytes of messages, and credit taken by messages, in all its links in the end.
    pub(crate) held: u64,
}

impl ClientCounts {
    /// What of a machine's memory is for the application's messages that are neither delivered nor given up.
    pub(crate) fn held(memory: Memory) -> u64 {
        (memory.sending.used + memory.receiving.used).saturating_sub(memory.control.used) as u64
    }
}

/// What is not as it must be, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(
    scenario: &Scenario,
    journals: &[Journal],
    server: ServerCounters,
    server_held: u64,
    clients: &[ClientCounts],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut none = |name: &str, count: u64, what: &str| {
        if count > 0 {
            wrong.push(format!("{name} {what}: {count}"));
        }
    };
    let named = || (0..).map(ClientIndex).map(|client| scenario.host_name(Host::Client(client))).zip(clients);
    let its = scenario.host_name(Host::Server);
    let broken = "counted violations of the protocol";
    none(its, server.violations, broken);
    named().for_each(|(name, counts)| none(name, counts.refused.violations, broken));
    let calm = scenario.packets.is_empty() && all_links(scenario).all(is_calm);
    // A number that was damaged on the way may be one that was seen: it is looked at before the packet proves authentic.
    let once = |d: &Direction| d.duplicate == Chance::NEVER && d.corrupt == Chance::NEVER;
    if scenario.packets.is_empty() && all_links(scenario).all(|link| once(&link.up) && once(&link.down)) {
        let repeated = "refused packets as repetitions where nothing repeats them";
        none(its, server.replayed + server.relay_replayed, repeated);
        named().for_each(|(name, counts)| none(name, counts.refused.replayed, repeated));
    }
    let remember = scenario.nats.iter().all(|spec| remembers(&spec.nat));
    if calm && remember && scenario.steps.iter().all(|step| is_harmless(&step.action)) {
        named().for_each(|(name, counts)| none(name, counts.lost, "took packets for lost where none is"));
    }
    if heals(scenario) && scenario.steps.iter().all(|step| is_reliable(&step.action)) {
        let held = "holds bytes of messages in the end, or credit for them";
        none(its, server_held, held);
        let alive = named().zip(journals.iter().skip(1)).filter(|(_, journal)| !has_ended(journal));
        alive.for_each(|((name, counts), _)| none(name, counts.held, held));
    }
    for (client, journal) in (0..).map(ClientIndex).zip(journals.iter().skip(1)) {
        let ended = journal.entries.iter().filter(|entry| matches!(entry.what, What::Ended(_) | What::LoginFailed(_)));
        if !may_end(scenario, client) {
            let name = scenario.host_name(Host::Client(client));
            none(name, ended.count() as u64, "lost its session, or never had one, for no reason in the script");
        }
    }
    wrong
}

fn has_ended(journal: &Journal) -> bool {
    journal.entries.iter().any(|entry| matches!(entry.what, What::Ended(_) | What::LoginFailed(_)))
}

fn is_reliable(action: &Action) -> bool {
    !matches!(action, Action::Send(sending) if !sending.channel.reliability().is_reliable())
}

/// All links that there are or come to be.
fn all_links(scenario: &Scenario) -> impl Iterator<Item = &Link> {
    let later = scenario.steps.iter().filter_map(|step| match &step.action {
        Action::SetLink { link, .. } | Action::Move { link, .. } => Some(link),
        _ => None,
    });
    let first = scenario.nats.iter().map(|nat| &nat.link).chain(scenario.clients.iter().map(|client| &client.link));
    first.chain([&scenario.server]).chain(later)
}

/// Steps that keep no packet from whom it is for.
pub(super) fn is_harmless(action: &Action) -> bool {
    matches!(action, Action::CreateGroup { .. } | Action::Join { .. } | Action::Send(_))
}

/// Whether a NAT forgets nothing between two keepalives to the server, which come every 10 s, those to peers more often.
fn remembers(nat: &Nat) -> bool {
    let least = Duration::from_secs(12);
    let lives = [Some(nat.lifetime), nat.unreplied, nat.filter_lifetime];
    nat.absolute.is_none() && lives.into_iter().flatten().all(|lifetime| lifetime >= least)
}

/// Whether a script has a reason for the end of a client's session.
fn may_end(scenario: &Scenario, of: ClientIndex) -> bool {
    let apart = scenario.steps.iter().map(|step| match &step.action {
        Action::Cut { lasts, .. } => lasts.map(|lasts| lasts.saturating_mul(step.times)),
        Action::Pause { lasts, .. } => Some(lasts.saturating_mul(step.times)),
        _ => Some(Duration::ZERO),
    });
    apart.sum::<Option<Duration>>().is_none_or(|in_all| in_all > OUTLIVED)
        || scenario.steps.iter().any(|step| match &step.action {
            Action::Logout { client } | Action::Disconnect { client } => *client == of,
            Action::Restart { host } => *host == Host::Server || *host == Host::Client(of),
            Action::ClockJump { by: ClockJump::Forward(by) | ClockJump::Backward(by), .. } => is_long(*by),
            Action::SetLink { link, .. } => [link.up, link.down].iter().any(|d| d.loss > Chance::percent(50)),
            _ => false,
        })
}

/// A session is kept for 75 s without a word; before a fault it may have been silent for a keepalive's 10 s, and afterwards a
/// probe takes 2 s at the most.
const OUTLIVED: Duration = Duration::from_secs(62);

/// Whether a clock jumps so far that a session may be over by it.
fn is_long(by: Duration) -> bool {
    by > Duration::from_secs(10)
}
