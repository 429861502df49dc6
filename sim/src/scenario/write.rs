//! A scenario as the TOML that [`Scenario::parse`] reads, for cases that were made or made smaller by a program.
//!
//! The parser has the last word: what was written is read again and compared, so that nothing that the format cannot say
//! gets lost on the way.

use super::parse::{ANY, DEFAULT_REORDER_BY, INTERNET, SERVER, WAYS};
use super::policies::{PREFER, PUNCH};
use super::tables::{
    ADDRESSES, ALLOCATION, CLASSES, CUT_WAYS, DOORS, ENDS, FILTERING, KINDS, MAPPING, REASONS, TECHNIQUES, WALLS,
};
use super::{
    Action, BadScenario, ClientIndex, ClockJump, Expect, GroupIndex, Host, LinkOf, NatIndex, Network, PacketFate,
    Pairs, PolicyOf, Scenario, ServerDoors, Step, Tried, Ways, ipv6,
};
use crate::nat::Firewall;
use crate::{Bursts, Chance, Direction, Link, Mishap, Nat};
use posse_core::{Class, Duration, PathPolicy, Prefer, PunchPolicy, Reliability};
use std::fmt::{Display, Write as _};
use thiserror::Error;

/// Why a scenario cannot be written: it was made by a program and holds what a file cannot.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// What it would be as a file is no scenario: a name that no name can be, a group that no step creates, a quantity
    /// out of its range.
    #[error("this scenario cannot be a file: {0}")]
    Refused(BadScenario),
    /// A file would say something else: a chance that is no whole number of parts in a million, groups in another order
    /// than their steps.
    #[error("a file cannot say all of this scenario; the first line that would mean something else is {line:?}")]
    Differs {
        /// The line as it would be written, as near as can be told.
        line: String,
    },
}

impl Scenario {
    /// The file of which [`Self::parse`] makes this scenario again, but for the line numbers of its expectations.
    ///
    /// # Errors
    /// If it was made by a program and holds what no file can say.
    pub fn to_toml(&self) -> Result<String, Unwritable> {
        let text = Writer { scenario: self, text: String::new() }.file();
        let read = Self::parse("written", &text).map_err(Unwritable::Refused)?.without_lines();
        if read == self.clone().without_lines() {
            return Ok(text);
        }
        let again = Writer { scenario: &read, text: String::new() }.file();
        let differs = text.lines().zip(again.lines()).find(|(ours, theirs)| ours != theirs);
        let rounded = || "groups, links or steps: rounded to what a file can say".to_owned();
        Err(Unwritable::Differs { line: differs.map_or_else(rounded, |(line, _)| line.to_owned()) })
    }

    fn without_lines(mut self) -> Self {
        for expectation in &mut self.expectations {
            expectation.line = 0;
        }
        self
    }
}

struct Writer<'a> {
    scenario: &'a Scenario,
    text: String,
}

impl Writer<'_> {
    fn file(mut self) -> String {
        let s = self.scenario;
        self.field("title", quoted(&s.title));
        self.field("seed", s.seed);
        self.field("duration", time(s.duration));
        for nat in &s.nats {
            self.head(&format!("[nat.{}]", key(&nat.name)));
            self.behind(nat.behind);
            self.nat(&nat.nat);
            self.link(&nat.link);
        }
        let usual = (Link::default(), ServerDoors::default(), Tried::default(), Scenario::PROBES, false, false);
        let ours = (s.server, s.doors, s.techniques, s.probes, s.cookies, s.ipv6);
        if ours != usual || s.policy != PathPolicy::default() {
            self.head("[server]");
            self.unless(s.doors == ServerDoors::default(), "doors", word(&DOORS, s.doors));
            self.unless(s.techniques == Tried::default(), "techniques", word(&TECHNIQUES, s.techniques));
            self.unless(s.probes == Scenario::PROBES, "probes", s.probes);
            self.unless(!s.cookies, "cookies", s.cookies);
            self.unless(!s.ipv6, "ipv6", s.ipv6);
            self.policy(s.policy);
            self.link(&s.server);
        }
        for client in &s.clients {
            self.head(&format!("[client.{}]", key(&client.name)));
            self.behind(client.on);
            self.link(&client.link);
            self.unless(client.addresses == ipv6::USUAL, "addresses", word(&ADDRESSES, client.addresses));
            self.unless(client.start.is_zero(), "start", time(client.start));
            self.policy(client.policy);
            if let Some(places) = client.direct_peers {
                self.field("direct-peers", places);
            }
            if let Some(lasts) = client.retain {
                self.field("retain", time(lasts));
            }
        }
        for step in &s.steps {
            self.head("[[step]]");
            self.step(step);
        }
        for packet in &s.packets {
            self.head("[[packet]]");
            self.packet(packet);
        }
        for expectation in &s.expectations {
            self.head("[[expect]]");
            self.expect(&expectation.expect);
        }
        self.text
    }

    fn head(&mut self, head: &str) {
        self.text += "\n";
        self.text += head;
        self.text += "\n";
    }

    fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a string does not fail.
        _ = writeln!(self.text, "{name} = {value}");
    }

    fn unless(&mut self, default: bool, name: &str, value: impl Display) {
        if !default {
            self.field(name, value);
        }
    }

    fn behind(&mut self, network: Network) {
        let name = match network {
            Network::Internet => INTERNET,
            Network::Behind(nat) => self.nat_name(nat),
        };
        let name = quoted(name);
        self.unless(network == Network::Internet, "behind", name);
    }

    fn nat(&mut self, nat: &Nat) {
        let usual = Nat::new(nat.mapping, nat.filtering);
        self.field("mapping", word(&MAPPING, nat.mapping));
        self.field("filtering", word(&FILTERING, nat.filtering));
        self.unless(nat.allocation == usual.allocation, "allocation", word(&ALLOCATION, nat.allocation));
        let ports = format!("[{}, {}]", nat.ports.start(), nat.ports.end());
        self.unless(nat.ports == usual.ports, "ports", ports);
        self.unless(nat.stride == usual.stride, "stride", nat.stride);
        if let Some(every) = nat.cross_traffic {
            self.field("cross-traffic", time(every));
        }
        self.unless(nat.block == usual.block, "block", nat.block);
        self.unless(nat.lifetime == usual.lifetime, "lifetime", time(nat.lifetime));
        self.optional("unreplied", nat.unreplied);
        self.optional("filter-lifetime", nat.filter_lifetime);
        if let Some(range) = &nat.absolute {
            self.field("absolute", format!("[{}, {}]", time(*range.start()), time(*range.end())));
        }
        self.unless(nat.inbound_refresh == usual.inbound_refresh, "inbound-refresh", nat.inbound_refresh);
        self.unless(nat.hairpin == usual.hairpin, "hairpin", nat.hairpin);
        self.unless(nat.open_input == usual.open_input, "open-input", nat.open_input);
        if let Some(wall) = &nat.ipv6 {
            self.field("ipv6", firewall(wall));
        }
    }

    fn policy(&mut self, policy: PathPolicy) {
        self.unless(policy.punch == PunchPolicy::default(), "punch", word(&PUNCH, policy.punch));
        self.unless(policy.prefer == Prefer::default(), "prefer", word(&PREFER, policy.prefer));
    }

    fn link(&mut self, link: &Link) {
        if *link == Link::default() {
            return;
        }
        let (up, down) = (direction(&link.up), direction(&link.down));
        let (mut fields, up_alone): (Vec<_>, Vec<_>) = up.into_iter().partition(|field| down.contains(field));
        let down_alone: Vec<_> = down.into_iter().filter(|field| !fields.contains(field)).collect();
        for (name, alone) in [("up", up_alone), ("down", down_alone)] {
            if !alone.is_empty() {
                fields.push(format!("{name} = {{ {} }}", alone.join(", ")));
            }
        }
        self.field("link", if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) });
    }

    fn step(&mut self, step: &Step) {
        match &step.action {
            Action::CreateGroup { group, members, message } => {
                self.doing(step, "create-group");
                self.group(*group);
                self.field("members", self.clients(members));
                self.unless(message.is_empty(), "message", quoted(message));
            }
            Action::Join { group, client, message } => {
                self.doing(step, "join");
                self.group(*group);
                self.field("client", self.client(*client));
                self.unless(message.is_empty(), "message", quoted(message));
            }
            Action::Leave { group, client } => {
                self.doing(step, "leave");
                self.group(*group);
                self.field("client", self.client(*client));
            }
            Action::DestroyGroup { group } => {
                self.doing(step, "destroy-group");
                self.group(*group);
            }
            Action::Disconnect { client } => {
                self.doing(step, "disconnect");
                self.field("client", self.client(*client));
            }
            Action::Logout { client } => {
                self.doing(step, "logout");
                self.field("client", self.client(*client));
            }
            Action::SetPolicy { of, policy } => {
                self.doing(step, "set-policy");
                match *of {
                    PolicyOf::Group(group) => self.group(group),
                    PolicyOf::Pair(a, b) => self.field("pair", self.clients(&[a, b])),
                }
                self.policy(*policy);
            }
            Action::Send(sending) => {
                let (kind, number, options) = (sending.channel.reliability(), sending.channel.index(), sending.options);
                self.doing(step, "send");
                self.field("from", self.host(sending.from));
                self.field("to", quoted(self.scenario.target_name(sending.to)));
                self.unless(kind == Reliability::ReliableOrdered, "kind", word(&KINDS, kind));
                self.unless(number == 0, "channel", number);
                self.field("size", sending.size);
                self.unless(options.class == Class::Normal, "class", word(&CLASSES, options.class));
                self.optional("deadline", options.deadline);
                if let Some(key) = options.replaces {
                    self.field("replaces", key);
                }
            }
            Action::Cut { .. }
            | Action::BlockUdp { .. }
            | Action::CutDirect { .. }
            | Action::Reboot { .. }
            | Action::Pause { .. }
            | Action::ClockJump { .. }
            | Action::Restart { .. }
            | Action::SetLink { .. }
            | Action::Move { .. } => self.fault(step),
        }
    }

    /// A step that lets something go wrong.
    fn fault(&mut self, step: &Step) {
        match &step.action {
            Action::Cut { link, way, lasts } => {
                self.doing(step, "cut");
                self.field("link", self.link_of(*link));
                self.unless(*way == Ways::Both, "way", word(&CUT_WAYS, *way));
                self.optional("lasts", *lasts);
            }
            Action::BlockUdp { link, lasts } => {
                self.doing(step, "block-udp");
                self.field("link", self.link_of(*link));
                self.optional("lasts", *lasts);
            }
            Action::CutDirect { pair: (a, b), one_way, lasts } => {
                self.doing(step, "cut-direct");
                self.field("pair", self.clients(&[*a, *b]));
                self.unless(!one_way, "one-way", true);
                self.optional("lasts", *lasts);
            }
            Action::Reboot { nat, new_address } => {
                self.doing(step, "reboot");
                self.field("nat", quoted(self.nat_name(*nat)));
                self.unless(!new_address, "new-address", true);
            }
            Action::Pause { host, lasts } => {
                self.doing(step, "pause");
                self.field("host", self.host(*host));
                self.field("lasts", time(*lasts));
            }
            Action::ClockJump { host, by } => {
                self.doing(step, "clock-jump");
                self.field("host", self.host(*host));
                match by {
                    ClockJump::Forward(by) => self.field("forward", time(*by)),
                    ClockJump::Backward(by) => self.field("backward", time(*by)),
                }
            }
            Action::Restart { host } => {
                self.doing(step, "restart");
                self.field("host", self.host(*host));
            }
            Action::SetLink { of, link } => {
                self.doing(step, "set-link");
                self.field("of", self.link_of(*of));
                match *link == Link::default() {
                    // A table that says nothing but a default, as one without fields is another link.
                    true => self.field("link", format!("{{ reorder-by = {} }}", time(Duration::ZERO))),
                    false => self.link(link),
                }
            }
            Action::Move { client, to, link } => {
                self.doing(step, "move");
                self.field("client", self.client(*client));
                self.behind(*to);
                self.link(link);
            }
            Action::CreateGroup { .. }
            | Action::Join { .. }
            | Action::Leave { .. }
            | Action::DestroyGroup { .. }
            | Action::Disconnect { .. }
            | Action::Logout { .. }
            | Action::SetPolicy { .. }
            | Action::Send(_) => {}
        }
    }

    fn packet(&mut self, packet: &PacketFate) {
        let PacketFate { link, way, number, mishap } = *packet;
        self.field("link", self.link_of(link));
        self.field("way", word(&WAYS, way));
        self.field("number", number);
        let fate = |writer: &mut Self, fate| writer.field("fate", quoted(fate));
        match mishap {
            Mishap::Drop => fate(self, "drop"),
            Mishap::Delay(by) => {
                fate(self, "delay");
                self.field("by", time(by));
            }
            Mishap::Hold(by) => {
                fate(self, "hold");
                self.field("by", time(by));
            }
            Mishap::Flip(bit) => {
                fate(self, "flip");
                self.field("bit", bit);
            }
            Mishap::Copy(after) => {
                fate(self, "copy");
                self.field("after", time(after));
            }
        }
    }

    fn expect(&mut self, expect: &Expect) {
        match expect {
            Expect::Direct { pairs, by, within, rtt_at_most } => {
                self.that("direct");
                self.pairs(*pairs);
                self.optional("by", *by);
                self.ratio(*within);
                self.optional("rtt-at-most", *rtt_at_most);
            }
            Expect::Relayed { pairs, because } => {
                self.that("relayed");
                self.pairs(*pairs);
                if let Some(because) = because {
                    self.field("because", word(&REASONS, *because));
                }
            }
            Expect::Delivery { lost, repeated, reordered, at_least } => {
                self.that("delivery");
                self.unless(*lost == 0, "lost", count(*lost));
                self.unless(*repeated == 0, "repeated", count(*repeated));
                self.unless(*reordered == 0, "reordered", count(*reordered));
                self.unless(*at_least == 1, "at-least", at_least);
            }
            Expect::FirstMessage { from, to, by, within } => {
                self.that("first-message");
                self.field("from", self.host(*from));
                self.field("to", self.host(*to));
                self.optional("by", *by);
                self.ratio(*within);
            }
            Expect::Switches { pair: (a, b), at_least } => {
                self.that("switches");
                self.field("pair", self.clients(&[*a, *b]));
                self.field("at-least", at_least);
            }
            Expect::Members { group, members } => {
                self.that("members");
                self.group(*group);
                self.field("are", self.clients(members));
            }
            Expect::Joins { ok } => {
                self.that("joins");
                self.field("ok", ok);
            }
            Expect::Delay { from, at_most } => {
                self.that("delay");
                self.field("from", self.host(*from));
                self.field("at-most", time(*at_most));
            }
            Expect::SessionEnds { client, because, by } => {
                self.that("session-ends");
                self.field("client", self.client(*client));
                self.field("because", word(&ENDS, *because));
                self.optional("by", *by);
            }
        }
    }

    fn doing(&mut self, step: &Step, what: &str) {
        self.field("do", quoted(what));
        self.unless(step.at.is_zero(), "at", time(step.at));
        if step.times != 1 || !step.every.is_zero() {
            self.field("every", time(step.every));
            self.field("times", step.times);
        }
    }

    fn that(&mut self, what: &str) {
        self.field("that", quoted(what));
    }

    fn group(&mut self, group: GroupIndex) {
        self.field("group", quoted(self.scenario.target_name(super::Target::Group(group))));
    }

    fn pairs(&mut self, pairs: Pairs) {
        if let Pairs::One(a, b) = pairs {
            self.field("pair", self.clients(&[a, b]));
        }
    }

    fn optional(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.field(name, time(value));
        }
    }

    fn ratio(&mut self, within: Option<f64>) {
        if let Some(within) = within {
            self.field("within", format!("{within:?}"));
        }
    }

    fn host(&self, host: Host) -> String {
        quoted(self.scenario.host_name(host))
    }

    fn client(&self, client: ClientIndex) -> String {
        self.host(Host::Client(client))
    }

    fn clients(&self, clients: &[ClientIndex]) -> String {
        let names: Vec<_> = clients.iter().map(|client| self.client(*client)).collect();
        format!("[{}]", names.join(", "))
    }

    fn nat_name(&self, NatIndex(i): NatIndex) -> &str {
        self.scenario.nats.get(i).map_or("?", |nat| &nat.name)
    }

    fn link_of(&self, link: LinkOf) -> String {
        match link {
            LinkOf::Host(Host::Server) => quoted(SERVER),
            LinkOf::Host(host) => self.host(host),
            LinkOf::Nat(nat) => quoted(self.nat_name(nat)),
        }
    }
}

/// The table of a firewall, with what is not as in one that says nothing.
fn firewall(wall: &Firewall) -> String {
    let usual = Firewall::default();
    let fields = [
        (wall.filtering != usual.filtering, "filtering", word(&WALLS, wall.filtering)),
        (wall.lifetime != usual.lifetime, "lifetime", time(wall.lifetime)),
        (wall.unreplied.is_some(), "unreplied", wall.unreplied.map_or(String::new(), time)),
        (wall.inbound_refresh != usual.inbound_refresh, "inbound-refresh", wall.inbound_refresh.to_string()),
    ];
    let fields = fields.into_iter().filter(|(said, ..)| *said).map(|(_, name, value)| format!("{name} = {value}"));
    format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
}

/// The fields of a direction that are not as in a file that says nothing of them.
fn direction(d: &Direction) -> Vec<String> {
    const UNITS: [(&str, u64); 4] = [("Gb/s", 1_000_000_000), ("Mb/s", 1_000_000), ("kb/s", 1_000), ("b/s", 1)];
    let usual = Direction { reorder_delay: DEFAULT_REORDER_BY, ..Direction::PERFECT };
    let bursts = |b: Bursts| format!("{{ enter = {}, leave = {} }}", share(b.enter), share(b.leave));
    let fields = [
        (d.delay != usual.delay, "delay", time(d.delay)),
        (d.jitter != usual.jitter, "jitter", time(d.jitter)),
        (d.reorder != usual.reorder, "reorder", share(d.reorder)),
        (d.reorder_delay != usual.reorder_delay, "reorder-by", time(d.reorder_delay)),
        (d.loss != usual.loss, "loss", share(d.loss)),
        (d.bursts != usual.bursts, "bursts", bursts(d.bursts)),
        (d.duplicate != usual.duplicate, "duplication", share(d.duplicate)),
        (d.corrupt != usual.corrupt, "corruption", share(d.corrupt)),
        (d.rate.is_some(), "rate", d.rate.map_or(String::new(), |rate| exact(rate, &UNITS))),
        (d.queue != usual.queue, "queue", d.queue.to_string()),
        (d.mark_from.is_some(), "mark-from", d.mark_from.unwrap_or_default().to_string()),
        (d.clears_ecn, "ecn", quoted("cleared")),
        (d.mtu != usual.mtu, "mtu", d.mtu.to_string()),
    ];
    fields.into_iter().filter(|(said, ..)| *said).map(|(_, name, value)| format!("{name} = {value}")).collect()
}

/// A count that may be as large as it will.
fn count(most: u64) -> String {
    if most == u64::MAX { quoted(ANY) } else { most.to_string() }
}

/// In the largest unit that it is a whole number of.
fn time(d: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    exact(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX), &UNITS)
}

fn exact(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, scale)| value.is_multiple_of(*scale));
    unit.map_or_else(|| quoted(&value.to_string()), |(name, scale)| quoted(&format!("{}{name}", value / scale)))
}

/// In percent: the fewest parts in a million that are no less.
fn share(chance: Chance) -> String {
    let (mut low, mut high) = (0, 1_000_000);
    while low < high {
        let middle = (low + high) / 2;
        if Chance::ppm(middle) < chance {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let decimals = format!("{:04}", low % 10_000);
    match decimals.trim_end_matches('0') {
        "" => quoted(&format!("{}%", low / 10_000)),
        rest => quoted(&format!("{}.{rest}%", low / 10_000)),
    }
}

/// The word that stands for `value`.
fn word<T: PartialEq>(words: &[(&str, T)], value: T) -> String {
    quoted(words.iter().find(|(_, known)| *known == value).map_or("?", |(name, _)| name))
}

/// A key as it is if it may be, else quoted.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            c if c.is_control() => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests;
