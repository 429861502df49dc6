//! What `posse join` prints.

use super::account::{Account, Accounts};
use super::payload::Payload;
use crate::output::{decimal, leg_word, ms, path_parts, path_words, reason, say, say_json, tame};
use posse::{Leg, LegReason, Message, Path, PeerId, ServerTime};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) struct Report {
    pub(super) json: bool,
}

/// Who something is about.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) id: PeerId,
    pub(super) name: &'a str,
}

impl Report {
    fn line(&self, kind: &str, at: Duration, mut fields: Value, text: impl FnOnce() -> String) {
        if self.json {
            fields["at_ms"] = ms(at).into();
            say_json(kind, fields);
        } else {
            say(&text());
        }
    }

    pub(super) fn connected(&self, at: Duration, server: &str, room: &str, me: Who<'_>) {
        let fields = json!({ "server": server, "room": room, "name": me.name, "id": me.id.raw() });
        self.line("connected", at, fields, || format!("in room {} on {server} as {}", tame(room), tame(me.name)));
    }

    pub(super) fn joined(&self, at: Duration, who: Who<'_>) {
        self.line("member_joined", at, of(who), || format!("* {} is here", tame(who.name)));
    }

    pub(super) fn left(&self, at: Duration, who: Who<'_>) {
        self.line("member_left", at, of(who), || format!("* {} has left", tame(who.name)));
    }

    pub(super) fn path(&self, at: Duration, who: Who<'_>, path: Path) {
        let (name, because, rtt) = path_parts(path);
        let mut fields = of(who);
        fields["path"] = name.into();
        fields["because"] = because.into();
        fields["rtt_ms"] = rtt.map(ms).into();
        self.line("path", at, fields, || format!("* {}: {}", tame(who.name), path_words(path)));
    }

    pub(super) fn presence(&self, at: Duration, who: Who<'_>, offline: bool) {
        let (kind, text) = if offline { ("offline", "cannot be reached") } else { ("online", "can be reached again") };
        self.line(kind, at, of(who), || format!("* {} {text}", tame(who.name)));
    }

    /// What the server's clock shows, for scripts that compare what several programs say.
    pub(super) fn clock(&self, at: Duration, server: Option<ServerTime>) {
        if let Some(ServerTime { at: time, error }) = server.filter(|_| self.json) {
            let fields = json!({ "server_ms": ms(Duration::from_nanos(time.0)), "error_ms": ms(error) });
            self.line("clock", at, fields, String::new);
        }
    }

    pub(super) fn leg(&self, at: Duration, leg: Leg, why: LegReason) {
        let leg = leg_word(leg);
        let (word, sentence) = match why {
            LegReason::UdpSilent => ("udp-silent", "the server does not answer over UDP"),
            LegReason::UdpReturned => ("udp-returned", "the server answers over UDP again"),
            _ => ("stream-lost", "the TCP connection is lost"),
        };
        self.line("leg", at, json!({ "leg": leg, "because": word }), || {
            format!("* the server is reached by {}: {sentence}", leg.to_uppercase())
        });
    }

    pub(super) fn message(&self, at: Duration, who: Who<'_>, message: &Message, payload: Payload<'_>, size: usize) {
        let via = if message.direct { "direct" } else { "relay" };
        let mut fields = json!({ "from": who.name, "id": who.id.raw(), "via": via, "size": size });
        match payload {
            Payload::Chat { seq, text } => {
                let text = String::from_utf8_lossy(text);
                fields["seq"] = seq.into();
                fields["text"] = (*text).into();
                self.line("message", at, fields, || format!("{}: {}", tame(who.name), tame(&text)));
            }
            // People are spared the numbered ones; the summary counts them.
            Payload::Numbered { .. } if !self.json => {}
            Payload::Numbered { seq } => {
                fields["seq"] = seq.into();
                self.line("message", at, fields, String::new);
            }
            Payload::Foreign => {
                fields["seq"] = Value::Null;
                self.line("message", at, fields, || format!("{}: {size} bytes of another program", tame(who.name)));
            }
            Payload::Done { .. } => {}
        }
    }

    pub(super) fn summary(&self, at: Duration, accounts: &Accounts, leg: Leg) {
        if self.json {
            for (peer, account) in accounts.all() {
                self.line("summary", at, summary(peer, account, leg), String::new);
            }
        } else {
            table(accounts);
        }
    }

    pub(super) fn failed(&self, at: Duration, why: &str) {
        if self.json {
            self.line("failed", at, json!({ "why": why }), String::new);
        }
    }
}

fn of(who: Who<'_>) -> Value {
    json!({ "peer": who.name, "id": who.id.raw() })
}

fn since(joined: Duration, at: Option<Duration>) -> Option<Duration> {
    at.map(|at| at.saturating_sub(joined))
}

fn summary(peer: PeerId, account: &Account, leg: Leg) -> Value {
    let (path, because, _) = account.path.map_or(("unknown", None, None), path_parts);
    json!({
        "peer": account.name, "id": peer.raw(), "path": path, "because": because, "leg": leg_word(leg),
        "time_to_first_ms": since(account.joined_at, account.first_at).map(ms),
        "time_to_direct_ms": since(account.joined_at, account.direct_at).map(ms),
        "rtt_ms": account.rtt.map(ms), "sent": account.sent, "received": account.got.received,
        "lost": account.lost(), "repeated": account.got.repeated, "reordered": account.got.reordered,
        "tried": account.report.map(|report| json!({
            "rounds": report.rounds, "addresses": report.candidates, "probes": report.challenges,
            "answers": report.responses, "holes": report.holes, "measured": report.searches.measured,
            "predicted": report.searches.predicted, "scattered": report.searches.scattered,
            "swept": report.searches.swept, "opened": report.searches.opened,
        })),
    })
}

fn table(accounts: &Accounts) {
    if accounts.all().next().is_none() {
        return;
    }
    say("\nTimes in ms, counted from the moment the peer was in the room.\n");
    say("peer              path       first    direct  round trip     sent  received  lost  repeated  reordered");
    for (_, account) in accounts.all() {
        let path = match account.path {
            Some(Path::Direct { .. }) => "direct".into(),
            Some(Path::Relayed { because }) => format!("relayed: {}", reason(because)),
            _ => "unknown".into(),
        };
        let cell = |time: Option<Duration>| time.map_or("–".into(), decimal);
        say(&format!(
            "{:<16}  {:<6}  {:>8}  {:>8}  {:>10}  {:>7}  {:>8}  {:>4}  {:>8}  {:>9}",
            tame(&account.name),
            path,
            cell(since(account.joined_at, account.first_at)),
            cell(since(account.joined_at, account.direct_at)),
            cell(account.rtt),
            account.sent,
            account.got.received,
            account.lost(),
            account.got.repeated,
            account.got.reordered,
        ));
    }
}
