//! A scenario as the TOML that [`Scenario::parse`] reads, for cases that were made or made smaller by a program.
//!
//! The parser has the last word: what was written is read again and compared, so that nothing that the format cannot say
//! gets lost on the way.

use super::parse::{
    ALLOCATION, ANY, CLASSES, CUT_WAYS, DEFAULT_REORDER_BY, ENDS, FILTERING, INTERNET, KINDS, MAPPING, REASONS, SERVER,
    WAYS,
};
use super::{
    Action, BadScenario, ClientIndex, ClockJump, Expect, GroupIndex, Host, LinkOf, NatIndex, Network, PacketFate,
    Pairs, Scenario, Step, Ways,
};
use crate::{Bursts, Chance, Direction, Link, Mishap, Nat};
use posse_core::{Class, Duration, Reliability};
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
    /// A file would say something else: a chance that is no whole number of parts in a million, a NAT with other ports
    /// than usual, groups in another order than their steps.
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
        Err(Unwritable::Differs { line: differs.map_or_else(|| unwritten(self, &read), |(line, _)| line.to_owned()) })
    }

    fn without_lines(mut self) -> Self {
        for expectation in &mut self.expectations {
            expectation.line = 0;
        }
        self
    }
}

/// The first thing that differs although the files are the same.
fn unwritten(ours: &Scenario, theirs: &Scenario) -> String {
    let nat = ours.nats.iter().zip(&theirs.nats).find(|(a, b)| a.nat.ports != b.nat.ports).map(|(nat, _)| nat);
    match nat {
        Some(nat) => format!("ports = {:?} (of the NAT {})", nat.nat.ports, nat.name),
        None => "groups, links or steps: rounded to what a file can say".to_owned(),
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
        if s.server != Link::default() {
            self.head("[server]");
            self.link(&s.server);
        }
        for client in &s.clients {
            self.head(&format!("[client.{}]", key(&client.name)));
            self.behind(client.on);
            self.link(&client.link);
            self.unless(client.start.is_zero(), "start", time(client.start));
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
        self.unless(nat.lifetime == usual.lifetime, "lifetime", time(nat.lifetime));
        self.unless(nat.inbound_refresh == usual.inbound_refresh, "inbound-refresh", nat.inbound_refresh);
        self.unless(nat.hairpin == usual.hairpin, "hairpin", nat.hairpin);
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
mod tests {
    use super::*;
    use crate::scenario::{ClientSpec, Expectation, NatSpec, Sending, Target};
    use crate::{Allocation, Filtering, Mapping, Way};
    use posse_core::{Channel, RelayReason, SendOptions};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    const NATS: usize = 3;
    const CLIENTS: usize = 4;
    const GROUPS: usize = 2;

    fn durations() -> impl Strategy<Value = Duration> {
        let unit = select(vec![1, 1_000, 1_000_000, 1_000_000_000]);
        (0u64..3_000, unit).prop_map(|(n, unit)| Duration::from_nanos(n * unit))
    }

    fn positive() -> impl Strategy<Value = Duration> {
        durations().prop_map(|d| d.max(Duration::from_nanos(1)))
    }

    fn chances() -> impl Strategy<Value = Chance> {
        prop_oneof![Just(Chance::NEVER), Just(Chance::ALWAYS), (0u32..=1_000_000).prop_map(Chance::ppm)]
    }

    prop_compose! {
        fn directions()(
            (delay, jitter, reorder_delay) in (durations(), durations(), durations()),
            (reorder, loss, duplicate, corrupt) in (chances(), chances(), chances(), chances()),
            (enter, leave) in (chances(), chances()),
            rate in option::of(1u64..5_000_000_000),
            queue in prop_oneof![Just(256 << 10), 1_500usize..=1 << 30],
            mtu in prop_oneof![Just(1_500), 576usize..=65_535],
        ) -> Direction {
            let bursts = Bursts { enter, leave };
            Direction { delay, jitter, reorder, reorder_delay, loss, bursts, duplicate, corrupt, rate, queue, mtu }
        }
    }

    fn links() -> BoxedStrategy<Link> {
        let usual = Direction { reorder_delay: DEFAULT_REORDER_BY, ..Direction::PERFECT };
        prop_oneof![
            Just(Link::default()),
            Just(Link { up: usual, down: usual }),
            directions().boxed().prop_map(|both| Link { up: both, down: both }),
            (directions().boxed(), directions().boxed()).prop_map(|(up, down)| Link { up, down }),
            (directions().boxed(), durations()).prop_map(|(up, delay)| Link { up, down: Direction { delay, ..up } }),
        ]
        .boxed()
    }

    prop_compose! {
        fn nats()(
            mapping in select(Mapping::ALL.to_vec()),
            filtering in select(Filtering::ALL.to_vec()),
            allocation in select(vec![Allocation::Random, Allocation::Preserving]),
            lifetime in positive(),
            (inbound_refresh, hairpin) in any::<(bool, bool)>(),
        ) -> Nat {
            Nat { allocation, lifetime, inbound_refresh, hairpin, ..Nat::new(mapping, filtering) }
        }
    }

    fn some_client() -> impl Strategy<Value = ClientIndex> {
        (0..CLIENTS).prop_map(ClientIndex)
    }

    fn some_clients(count: impl Into<proptest::sample::SizeRange>) -> impl Strategy<Value = Vec<ClientIndex>> {
        subsequence((0..CLIENTS).map(ClientIndex).collect::<Vec<_>>(), count).prop_shuffle()
    }

    fn pair() -> impl Strategy<Value = (ClientIndex, ClientIndex)> {
        some_clients(2).prop_map(|two| (two[0], two[1]))
    }

    fn pairs() -> impl Strategy<Value = Pairs> {
        prop_oneof![Just(Pairs::All), pair().prop_map(|(a, b)| Pairs::One(a, b))]
    }

    fn some_host() -> impl Strategy<Value = Host> {
        prop_oneof![Just(Host::Server), some_client().prop_map(Host::Client)]
    }

    fn some_group() -> impl Strategy<Value = GroupIndex> {
        (0..GROUPS).prop_map(GroupIndex)
    }

    fn sendings() -> BoxedStrategy<Sending> {
        let ends = prop_oneof![
            pair().prop_map(|(a, b)| (Host::Client(a), Target::Host(Host::Client(b)))),
            some_client().prop_map(|a| (Host::Server, Target::Host(Host::Client(a)))),
            some_client().prop_map(|a| (Host::Client(a), Target::Host(Host::Server))),
            (some_client(), some_group()).prop_map(|(a, g)| (Host::Client(a), Target::Group(g))),
        ];
        let class = select(CLASSES.map(|(_, class)| class).to_vec());
        let options = (class, option::of(durations()), option::of(any::<u32>()));
        (ends, any::<u8>(), Sending::MIN_SIZE..=Sending::MAX_SIZE, options)
            .prop_map(|((from, to), channel, size, (class, deadline, replaces))| {
                let (channel, mut options) = (Channel(channel), SendOptions::default().class(class));
                options.deadline = deadline.filter(|_| !channel.reliability().is_reliable());
                options.replaces = replaces;
                Sending { from, to, channel, size, options }
            })
            .boxed()
    }

    fn actions() -> BoxedStrategy<Action> {
        let link = prop_oneof![some_host().prop_map(LinkOf::Host), (0..NATS).prop_map(|n| LinkOf::Nat(NatIndex(n)))];
        prop_oneof![
            (some_group(), some_client(), any::<String>()).prop_map(|(group, client, message)| Action::Join {
                group,
                client,
                message
            }),
            (some_group(), some_client()).prop_map(|(group, client)| Action::Leave { group, client }),
            some_group().prop_map(|group| Action::DestroyGroup { group }),
            some_client().prop_map(|client| Action::Disconnect { client }),
            some_client().prop_map(|client| Action::Logout { client }),
            sendings().prop_map(Action::Send),
            (link, select(vec![Ways::Both, Ways::Up, Ways::Down]), option::of(positive()))
                .prop_map(|(link, way, lasts)| Action::Cut { link, way, lasts }),
            (pair(), any::<bool>(), option::of(positive())).prop_map(|(pair, one_way, lasts)| Action::CutDirect {
                pair,
                one_way,
                lasts
            }),
            ((0..NATS), any::<bool>()).prop_map(|(n, new_address)| Action::Reboot { nat: NatIndex(n), new_address }),
            host_faults(),
        ]
        .boxed()
    }

    fn host_faults() -> BoxedStrategy<Action> {
        let of = prop_oneof![some_host().prop_map(LinkOf::Host), (0..NATS).prop_map(|n| LinkOf::Nat(NatIndex(n)))];
        let by = prop_oneof![positive().prop_map(ClockJump::Forward), positive().prop_map(ClockJump::Backward)];
        prop_oneof![
            (some_host(), positive()).prop_map(|(host, lasts)| Action::Pause { host, lasts }),
            (some_host(), by).prop_map(|(host, by)| Action::ClockJump { host, by }),
            some_host().prop_map(|host| Action::Restart { host }),
            (of, links()).prop_map(|(of, link)| Action::SetLink { of, link }),
            (some_client(), networks(NATS), links()).prop_map(|(client, to, link)| Action::Move { client, to, link }),
        ]
        .boxed()
    }

    fn steps(actions: impl Strategy<Value = Action> + 'static) -> BoxedStrategy<Step> {
        let times = prop_oneof![Just((Duration::ZERO, 1)), (positive(), 1u32..=1_000_000)];
        (durations(), times, actions).prop_map(|(at, (every, times), action)| Step { at, every, times, action }).boxed()
    }

    fn packets() -> impl Strategy<Value = PacketFate> {
        let of = prop_oneof![some_host().prop_map(LinkOf::Host), (0..NATS).prop_map(|n| LinkOf::Nat(NatIndex(n)))];
        let mishap = prop_oneof![
            Just(Mishap::Drop),
            durations().prop_map(Mishap::Delay),
            durations().prop_map(Mishap::Hold),
            any::<u32>().prop_map(Mishap::Flip),
            durations().prop_map(Mishap::Copy),
        ];
        let way = select(vec![Way::Up, Way::Down]);
        (of, way, any::<u64>(), mishap).prop_map(|(link, way, number, mishap)| PacketFate { link, way, number, mishap })
    }

    fn creation(group: usize) -> impl Strategy<Value = Step> {
        let action = (some_clients(0..=CLIENTS), any::<String>());
        steps(action.prop_map(move |(members, message)| Action::CreateGroup {
            group: GroupIndex(group),
            members,
            message,
        }))
    }

    fn expects() -> BoxedStrategy<Expect> {
        const REASONS: [RelayReason; 3] = [RelayReason::NoAnswer, RelayReason::OnlyInbound, RelayReason::HoleClosed];
        let ratio = || option::of((0.0f64..1e18).prop_map(|x| 1.0 + x));
        let time = || option::of(durations());
        prop_oneof![
            (pairs(), time(), ratio(), option::of(positive()))
                .prop_map(|(pairs, by, within, rtt_at_most)| Expect::Direct { pairs, by, within, rtt_at_most }),
            (pairs(), option::of(select(REASONS.to_vec())))
                .prop_map(|(pairs, because)| Expect::Relayed { pairs, because }),
            ([counts(), counts(), counts()], any::<u64>()).prop_map(|([lost, repeated, reordered], at_least)| {
                Expect::Delivery { lost, repeated, reordered, at_least }
            }),
            (some_host(), some_host(), time(), ratio()).prop_map(|(from, to, by, within)| Expect::FirstMessage {
                from,
                to,
                by,
                within
            }),
            (pair(), 1u64..).prop_map(|(pair, at_least)| Expect::Switches { pair, at_least }),
            (some_group(), some_clients(0..=CLIENTS)).prop_map(|(group, members)| Expect::Members { group, members }),
            any::<u64>().prop_map(|ok| Expect::Joins { ok }),
            (some_host(), positive()).prop_map(|(from, at_most)| Expect::Delay { from, at_most }),
            (some_client(), select(ENDS.to_vec()), time()).prop_map(|(client, (_, because), by)| Expect::SessionEnds {
                client,
                because,
                by
            }),
        ]
        .boxed()
    }

    fn counts() -> impl Strategy<Value = u64> {
        prop_oneof![Just(u64::MAX), any::<u64>()]
    }

    fn networks(among: usize) -> impl Strategy<Value = Network> {
        (0..=among).prop_map(|n| n.checked_sub(1).map_or(Network::Internet, |n| Network::Behind(NatIndex(n))))
    }

    fn hosts() -> BoxedStrategy<(Vec<NatSpec>, Vec<ClientSpec>)> {
        let nat = |i: usize| {
            let name = format!("nat-{i}");
            (networks(i), nats(), links()).prop_map(move |(behind, nat, link)| NatSpec {
                name: name.clone(),
                behind,
                nat,
                link,
            })
        };
        // Not in the order of the alphabet, which is not what decides.
        let client = |name: &'static str| {
            (networks(NATS), links(), durations()).prop_map(move |(on, link, start)| ClientSpec {
                name: name.to_owned(),
                on,
                link,
                start,
            })
        };
        ([nat(0), nat(1), nat(2)], ["zoe", "a", "0", "_-x"].map(client)).prop_map(|(n, c)| (n.into(), c.into())).boxed()
    }

    prop_compose! {
        fn scenarios()(
            (title, seed, duration) in (any::<String>(), any::<u64>(), positive()),
            (nats, clients) in hosts(),
            server in links(),
            created in [creation(0), creation(1)],
            others in vec(steps(actions()), 0..8),
            packets in vec(packets(), 0..8),
            expects in vec(expects(), 0..8),
        ) -> Scenario {
            Scenario {
                title,
                seed,
                duration,
                nats,
                server,
                clients,
                groups: vec!["room".to_owned(), "other-room".to_owned()],
                steps: created.into_iter().chain(others).collect(),
                packets,
                expectations: expects.into_iter().map(|expect| Expectation { line: 0, expect }).collect(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn what_is_written_is_read_as_what_it_was(scenario in scenarios()) {
            let text = scenario.to_toml().map_err(|e| TestCaseError::fail(e.to_string()))?;
            let read = Scenario::parse("written", &text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(read.without_lines(), scenario);
        }
    }

    fn small() -> Scenario {
        let text = "title = \"t\"\nduration = \"1s\"\n[nat.home]\nmapping = \"address-dependent\"\n\
            filtering = \"address-dependent\"\n[client.a]\nbehind = \"home\"\nlink = { loss = \"1%\" }\n\
            [[step]]\ndo = \"create-group\"\ngroup = \"g\"\nmembers = [\"a\"]\n";
        Scenario::parse("small", text).unwrap()
    }

    #[test]
    fn what_no_file_can_say_is_refused_and_not_rounded() {
        let differs = |change: fn(&mut Scenario)| {
            let mut scenario = small();
            change(&mut scenario);
            match scenario.to_toml() {
                Err(Unwritable::Differs { line }) => line,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(
            differs(|s| s.clients[0].link.up.loss = Chance::ratio(1, 3)),
            "groups, links or steps: rounded to what a file can say"
        );
        assert_eq!(differs(|s| s.nats[0].nat.ports = 5..=6), "ports = 5..=6 (of the NAT home)");
    }

    #[test]
    fn what_is_no_scenario_is_refused_with_the_parsers_reason() {
        let refused = |change: fn(&mut Scenario)| {
            let mut scenario = small();
            change(&mut scenario);
            match scenario.to_toml() {
                Err(Unwritable::Refused(bad)) => bad.problem,
                other => format!("{other:?}"),
            }
        };
        assert!(refused(|s| s.clients[0].name = "two words".to_owned()).contains("cannot be a name"));
        assert!(refused(|s| s.clients[0].name = "x]\nseed = 2".to_owned()).contains("cannot be a name"));
        assert!(refused(|s| s.clients.clear()).contains("at least one client"));
        assert!(refused(|s| s.nats[0].link.up.mtu = 100).contains("576 to 65535"));
        assert!(refused(|s| s.duration = Duration::MAX).contains("expected a duration"));
        let orphan = |s: &mut Scenario| s.steps[0].action = Action::DestroyGroup { group: GroupIndex(0) };
        assert!(refused(orphan).contains("there is no group"));
    }
}
