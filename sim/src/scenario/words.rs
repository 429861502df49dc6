//! Journal entries in plain words.

use super::journal::What;
use super::{ClientIndex, GroupIndex, Host, Scenario, Target, judge, written};
use posse_core::{Duration, EndReason, Instant, JoinOutcome, LeaveReason, Leg, LegReason, LoginFailure, Path};

/// What a line of the timeline says after its actor.
pub fn sentence(scenario: &Scenario, who: Option<Host>, what: &What) -> String {
    let name = |client: ClientIndex| scenario.host_name(Host::Client(client));
    let group = |group: GroupIndex| scenario.target_name(Target::Group(group));
    let me = |client: ClientIndex| who == Some(Host::Client(client));
    match what {
        What::Accepted(client) => format!("lets {} in", name(*client)),
        What::LoggedIn => "is logged in".to_owned(),
        What::LoginFailed(why) => format!("is not let in: {}", login_failure(why)),
        What::Ended(why) => format!("session over: {}", end(*why)),
        What::ClientLeft(client, why) => format!("session of {} over: {}", name(*client), end(*why)),
        What::Created(g, members) => {
            let members: Vec<_> = members.iter().map(|client| name(*client)).collect();
            format!("creates {} with {}", group(*g), members.join(", "))
        }
        What::Joining(g, client) => format!("puts {} into {}", name(*client), group(*g)),
        What::Leaving(g, client) => format!("takes {} out of {}", name(*client), group(*g)),
        What::Destroying(g) => format!("ends {}", group(*g)),
        What::LoggingOut(client) if me(*client) => "logs out".to_owned(),
        What::LoggingOut(client) => format!("ends the session of {}", name(*client)),
        What::JoinCompleted(g, client, outcome) => {
            format!("join of {} in {} complete: {}", name(*client), group(*g), join(*outcome))
        }
        What::GroupEnded(g) => format!("{} is over", group(*g)),
        What::MemberJoined(g, client) if me(*client) => format!("is in {}", group(*g)),
        What::MemberJoined(g, client) => format!("sees {} in {}", name(*client), group(*g)),
        What::MemberLeft(g, client, why) if me(*client) => format!("is out of {}: {}", group(*g), leave(*why)),
        What::MemberLeft(g, client, why) => format!("sees {} gone from {}: {}", name(*client), group(*g), leave(*why)),
        What::Presence { of, offline: true } => format!("takes {} for offline", scenario.host_name(*of)),
        What::Presence { of, offline: false } => format!("takes {} for online again", scenario.host_name(*of)),
        What::Path(peer, path) => format!("to {}: {}", name(*peer), way(*path)),
        What::PathReported(a, b, path) => format!("hears that {} to {} goes {}", name(*a), name(*b), way(*path)),
        What::FirstMessage { from, to, direct, took } => {
            let (first, how) = if *direct { ("first direct message", "") } else { ("first message", " by relay") };
            let scope = match to {
                Target::Group(g) => format!(" in {}", group(*g)),
                Target::Host(_) => " to it alone".to_owned(),
            };
            format!("gets the {first} of {}{scope}, {}{how}", scenario.host_name(*from), written(*took))
        }
        What::Leg(leg, why) => format!("goes by {} ({})", leg_word(*leg), leg_reason(*why)),
        What::LegSeen(client, leg) => format!("sees {} go by {}", name(*client), leg_word(*leg)),
        What::Refused(why) => format!("REFUSED {why}"),
        What::Restarted => "crashes and comes back".to_owned(),
        What::Network(text) => text.clone(),
    }
}

/// As everyone writes it.
pub fn leg_word(leg: Leg) -> &'static str {
    match leg {
        Leg::Udp => "UDP",
        Leg::Tcp => "TCP",
    }
}

/// Why a leg is in use.
pub fn leg_reason(why: LegReason) -> &'static str {
    match why {
        LegReason::UdpSilent => "UDP is silent",
        LegReason::UdpReturned => "UDP answers again",
        LegReason::StreamLost => "the connection is lost",
        _ => "for another reason",
    }
}

/// How traffic goes.
pub fn way(path: Path) -> String {
    match path {
        Path::Direct { rtt } => format!("direct, round trip {}", written(rtt)),
        Path::Relayed { because } => format!("by relay ({})", judge::reason(because)),
        _ => "otherwise".to_owned(),
    }
}

/// How a session's end is written.
pub fn end(why: EndReason) -> &'static str {
    match why {
        EndReason::Local => "closed here",
        EndReason::Remote => "closed by the other end",
        EndReason::TimedOut => "timed out",
        EndReason::Violation => "the other end broke the protocol",
        _ => "otherwise",
    }
}

/// How a leave is written.
pub fn leave(why: LeaveReason) -> &'static str {
    match why {
        LeaveReason::Left => "left",
        LeaveReason::GroupEnded => "group ended",
        LeaveReason::Disconnected => "disconnected",
        _ => "otherwise",
    }
}

/// How the outcome of a join is written.
pub fn join(outcome: JoinOutcome) -> &'static str {
    match outcome {
        JoinOutcome::Ok => "ok",
        JoinOutcome::Left => "left",
        JoinOutcome::GroupEnded => "group ended",
        JoinOutcome::Disconnected => "disconnected",
        JoinOutcome::TimedOut => "timed out",
        _ => "otherwise",
    }
}

/// How a failed login is written.
pub fn login_failure(why: &LoginFailure) -> String {
    match why {
        LoginFailure::NoAnswer => "no answer".to_owned(),
        LoginFailure::Version { server } => format!("the server speaks version {server}"),
        LoginFailure::Application => "another application".to_owned(),
        LoginFailure::Suite => "no common cipher suite".to_owned(),
        LoginFailure::Rejected { .. } => "rejected".to_owned(),
        LoginFailure::ServerFull => "server full".to_owned(),
        LoginFailure::Draining => "the server is about to stop".to_owned(),
        LoginFailure::Ticket(why) => format!("ticket {why:?}").to_lowercase(),
        _ => "otherwise".to_owned(),
    }
}

/// Milliseconds with three digits after the point, for columns.
pub fn ms(d: Duration) -> String {
    let micros = d.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

/// The same of a moment.
pub fn at_ms(at: Instant) -> String {
    ms(at.since(Instant::ZERO))
}
