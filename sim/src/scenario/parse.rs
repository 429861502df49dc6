//! A scenario file, field by field. The format is described in `docs/scenarios.md`.

use super::read::{BadScenario, Fields, Named, Source, Value, suggest};
use super::tables::{ALLOCATION, CLASSES, CUT_WAYS, DOORS, ENDS, FILTERING, KINDS, MAPPING, REASONS, TECHNIQUES};
use super::{
    Action, ClientIndex, ClientSpec, ClockJump, Expect, Expectation, GroupIndex, Host, LinkOf, NatIndex, NatSpec,
    Network, PacketFate, Pairs, PolicyOf, Scenario, Sending, ServerDoors, Step, Target, Tried, Ways, policies,
};
use super::{ipv6, timers};
use crate::{Bursts, Chance, Direction, Link, Mishap, Nat, Way};
use posse_core::{Channel, Class, Duration, PathPolicy, Reliability, SendOptions};
use toml::de::DeTable;

/// What the server is called in a file.
pub(super) const SERVER: &str = "server";
/// What the internet is called in a file.
pub(super) const INTERNET: &str = "internet";

/// What a count is called in a file that may be as large as it will.
pub(super) const ANY: &str = "any";

/// More than anyone watches, few enough that a mistyped number is caught.
const MAX_TIMES: u64 = 1_000_000;
/// A name has to fit into a column.
const MAX_NAME: usize = 24;

/// What `mapping` and `filtering` take.
const BEHAVIOURS: &str = "`endpoint-independent`, `address-dependent` or `address-and-port-dependent`";
/// What names a link's owner.
const WHOSE: &str = "whose link: a client's, a NAT's or the server's name";
/// Bytes a message unless a file says otherwise.
const DEFAULT_SIZE: usize = 64;
/// How long a packet that is reordered is held back unless a file says otherwise.
pub(crate) const DEFAULT_REORDER_BY: Duration = Duration::from_millis(5);

type Parsed<T> = Result<T, BadScenario>;

impl Scenario {
    /// Reads a scenario from `text`; `file` is its name for errors.
    ///
    /// # Errors
    /// The first thing in the file that is no part of a scenario.
    pub fn parse(file: &str, text: &str) -> Parsed<Self> {
        let source = Source { file, text };
        let not_toml = |e: toml::de::Error| {
            let span = e.span().unwrap_or(0..0);
            let key = if e.message() == "duplicate key" { text.get(span.clone()).unwrap_or_default() } else { "" };
            source.error(span, key, e.message().replace('\n', "; "))
        };
        let document = DeTable::parse(text).map_err(not_toml)?;
        let root = Fields::root(source, document.get_ref());
        root.refuse_unknown(&[
            "title", "seed", "duration", "link", "nat", "server", "client", "step", "packet", "expect",
        ])?;
        let mut names = Names::default();
        names.read_links(&root)?;
        names.declare(&root)?;
        let nats = names.nats(&root)?;
        let server = match root.get(SERVER) {
            Some(value) => names.server(&value)?,
            None => ServerSpec::default(),
        };
        ipv6::refuse_without_server(&root, server.ipv6)?;
        let clients = names.clients(&root)?;
        let steps = root.repeated("step")?.iter().map(|v| names.step(v)).collect::<Parsed<Vec<_>>>()?;
        let packets = root.repeated("packet")?.iter().map(|v| names.packet(v)).collect::<Parsed<_>>()?;
        let expectations =
            root.repeated("expect")?.iter().map(|v| names.expectation(source, v)).collect::<Parsed<_>>()?;
        Ok(Self {
            title: root.require("title", "what the scenario shows, in one line")?.string()?.to_owned(),
            seed: root.get("seed").map_or(Ok(1), |v| v.integer(0..=u64::MAX))?,
            duration: root.require("duration", "when the run ends, such as \"10s\"")?.positive_duration()?,
            nats,
            server: server.link,
            doors: server.doors,
            techniques: server.techniques,
            probes: server.probes,
            cookies: server.cookies,
            policy: server.policy,
            ipv6: server.ipv6,
            clients,
            groups: names.groups.iter().map(|name| (*name).to_owned()).collect(),
            steps,
            packets,
            expectations,
        })
    }
}

/// `[server]`.
struct ServerSpec {
    link: Link,
    doors: ServerDoors,
    techniques: Tried,
    probes: u16,
    cookies: bool,
    policy: PathPolicy,
    ipv6: bool,
}

impl Default for ServerSpec {
    fn default() -> Self {
        let (doors, techniques) = (ServerDoors::default(), Tried::default());
        let (link, policy) = (Link::default(), PathPolicy::default());
        Self { link, doors, techniques, probes: Scenario::PROBES, cookies: false, policy, ipv6: false }
    }
}

/// Everything in a file that has a name, so that it can be referred to before and after the place where it stands.
#[derive(Default)]
struct Names<'a> {
    nats: Vec<&'a str>,
    clients: Vec<&'a str>,
    groups: Vec<&'a str>,
    links: Vec<(&'a str, Link)>,
}

impl<'a> Names<'a> {
    /// Collects the names, and sees to it that each names one thing.
    fn declare(&mut self, root: &Fields<'a>) -> Parsed<()> {
        let mut taken = vec![SERVER, INTERNET];
        let mut claim = |value: &Value<'a>, name: &'a str| -> Parsed<()> {
            let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(sound) {
                let rule = format!("a name of 1 to {MAX_NAME} characters out of a-z 0-9 - _");
                return Err(value.error(format!("{name:?} cannot be a name; expected {rule}")));
            }
            if taken.contains(&name) {
                return Err(value.error(format!("the name `{name}` is already taken")));
            }
            taken.push(name);
            Ok(())
        };
        for (kind, names) in [("nat", &mut self.nats), ("client", &mut self.clients)] {
            for Named { name, key, value } in root.named(kind)? {
                claim(&value.at(key), name)?;
                names.push(name);
            }
        }
        for step in root.repeated("step")? {
            let fields = step.open()?;
            let creates = fields.get("do").is_some_and(|v| v.string() == Ok("create-group"));
            if let (true, Some(value)) = (creates, fields.get("group")) {
                let name = value.string()?;
                claim(&value, name)?;
                self.groups.push(name);
            }
        }
        if self.clients.is_empty() {
            root.require("client", "at least one client, as [client.NAME]")?;
        }
        Ok(())
    }

    fn read_links(&mut self, root: &Fields<'a>) -> Parsed<()> {
        for Named { name, value, .. } in root.named("link")? {
            self.links.push((name, access(&value)?));
        }
        Ok(())
    }

    fn nats(&self, root: &Fields<'a>) -> Parsed<Vec<NatSpec>> {
        let mut nats: Vec<NatSpec> = Vec::new();
        for Named { name, value, .. } in root.named("nat")? {
            let f = value.table(&[
                "behind",
                "mapping",
                "filtering",
                "allocation",
                "ports",
                "stride",
                "cross-traffic",
                "block",
                "lifetime",
                "unreplied",
                "filter-lifetime",
                "absolute",
                "inbound-refresh",
                "hairpin",
                "open-input",
                "ipv6",
                "link",
            ])?;
            let behind = self.place(&f)?;
            if let (Network::Behind(NatIndex(outer)), Some(v)) = (behind, f.get("behind"))
                && outer >= nats.len()
            {
                return Err(v.error("a NAT must stand after the NAT that it is behind"));
            }
            let mapping = f.require("mapping", BEHAVIOURS)?.word(&MAPPING)?;
            let filtering = f.require("filtering", BEHAVIOURS)?.word(&FILTERING)?;
            let mut nat = Nat::new(mapping, filtering);
            set(&mut nat.allocation, f.get("allocation"), |v| v.word(&ALLOCATION))?;
            set(&mut nat.ports, f.get("ports"), |v| v.ports())?;
            set(&mut nat.stride, f.get("stride"), |v| v.stride())?;
            set(&mut nat.cross_traffic, f.get("cross-traffic"), |v| v.positive_duration().map(Some))?;
            set(&mut nat.block, f.get("block"), |v| v.integer(1..=u16::MAX.into()).map(|n| n as u16))?;
            set(&mut nat.lifetime, f.get("lifetime"), |v| v.positive_duration())?;
            timers::read(&mut nat, &f)?;
            set(&mut nat.inbound_refresh, f.get("inbound-refresh"), |v| v.boolean())?;
            set(&mut nat.hairpin, f.get("hairpin"), |v| v.boolean())?;
            set(&mut nat.open_input, f.get("open-input"), |v| v.boolean())?;
            nat.ipv6 = ipv6::firewall(&f)?;
            nats.push(NatSpec { name: name.to_owned(), behind, nat, link: self.access(&f)? });
        }
        Ok(nats)
    }

    fn server(&self, value: &Value<'a>) -> Parsed<ServerSpec> {
        let f = value.table(&["link", "doors", "techniques", "probes", "cookies", "punch", "prefer", "ipv6"])?;
        let (link, policy) = (self.access(&f)?, policies::read(&f)?);
        let mut server = ServerSpec { link, policy, ..ServerSpec::default() };
        set(&mut server.doors, f.get("doors"), |v| v.word(&DOORS))?;
        set(&mut server.techniques, f.get("techniques"), |v| v.word(&TECHNIQUES))?;
        set(&mut server.probes, f.get("probes"), |v| v.integer(0..=u16::MAX.into()).map(|n| n as u16))?;
        set(&mut server.ipv6, f.get("ipv6"), |v| v.boolean())?;
        set(&mut server.cookies, f.get("cookies"), |v| v.boolean())?;
        Ok(server)
    }

    fn clients(&self, root: &Fields<'a>) -> Parsed<Vec<ClientSpec>> {
        let read = |Named { name, value, .. }: Named<'a>| {
            let f =
                value.table(&["behind", "link", "addresses", "start", "punch", "prefer", "direct-peers", "retain"])?;
            let places = |v: Value<'_>| v.integer(0..=u16::MAX.into()).map(|n| n as u16);
            Ok(ClientSpec {
                name: name.to_owned(),
                on: self.place(&f)?,
                link: self.access(&f)?,
                addresses: ipv6::addresses(&f)?,
                start: f.get("start").map_or(Ok(Duration::ZERO), |v| v.duration())?,
                policy: policies::read(&f)?,
                direct_peers: f.get("direct-peers").map(places).transpose()?,
                retain: f.get("retain").map(|v| v.duration()).transpose()?,
            })
        };
        root.named("client")?.into_iter().map(read).collect()
    }

    fn place(&self, fields: &Fields<'a>) -> Parsed<Network> {
        let Some(value) = fields.get("behind") else { return Ok(Network::Internet) };
        match value.string()? {
            INTERNET => Ok(Network::Internet),
            _ => Ok(Network::Behind(self.nat(&value)?)),
        }
    }

    /// The field `link`: the name of a link, or a link.
    fn access(&self, fields: &Fields<'a>) -> Parsed<Link> {
        let Some(value) = fields.get("link") else { return Ok(Link::default()) };
        if !value.is_string() {
            return access(&value);
        }
        let names: Vec<_> = self.links.iter().map(|(name, _)| *name).collect();
        Ok(self.links[find(&value, "link", &names)?].1)
    }

    fn nat(&self, value: &Value<'a>) -> Parsed<NatIndex> {
        find(value, "NAT", &self.nats).map(NatIndex)
    }

    fn client(&self, value: &Value<'a>) -> Parsed<ClientIndex> {
        find(value, "client", &self.clients).map(ClientIndex)
    }

    fn group(&self, value: &Value<'a>) -> Parsed<GroupIndex> {
        find(value, "group", &self.groups).map(GroupIndex)
    }

    fn host(&self, value: &Value<'a>) -> Parsed<Host> {
        if value.string()? == SERVER { Ok(Host::Server) } else { self.client(value).map(Host::Client) }
    }

    fn target(&self, value: &Value<'a>) -> Parsed<Target> {
        let name = value.string()?;
        match self.groups.iter().position(|group| *group == name) {
            Some(i) => Ok(Target::Group(GroupIndex(i))),
            None if name == SERVER => Ok(Target::Host(Host::Server)),
            None => {
                let names: Vec<_> = self.groups.iter().chain(&self.clients).copied().collect();
                find(value, "group or client", &names)?;
                self.client(value).map(|client| Target::Host(Host::Client(client)))
            }
        }
    }

    fn client_list(&self, value: &Value<'a>) -> Parsed<Vec<ClientIndex>> {
        let mut clients = Vec::new();
        for item in value.list()? {
            let client = self.client(&item)?;
            if clients.contains(&client) {
                return Err(item.error("named twice"));
            }
            clients.push(client);
        }
        Ok(clients)
    }

    fn pair(&self, value: &Value<'a>) -> Parsed<(ClientIndex, ClientIndex)> {
        match *self.client_list(value)? {
            [a, b] => Ok((a, b)),
            _ => Err(value.error("expected two clients, such as [\"alice\", \"bob\"]")),
        }
    }

    fn pairs(&self, fields: &Fields<'a>) -> Parsed<Pairs> {
        fields.get("pair").map_or(Ok(Pairs::All), |v| self.pair(&v).map(|(a, b)| Pairs::One(a, b)))
    }

    fn step(&self, value: &Value<'a>) -> Parsed<Step> {
        let fields = value.open()?;
        let kind = fields.require("do", "what happens")?.word(&DOINGS)?;
        let mut known = vec!["do", "at", "every", "times"];
        known.extend_from_slice(kind.fields());
        fields.refuse_unknown(&known)?;
        let (every, times) = match (fields.get("every"), fields.get("times")) {
            (None, None) => (Duration::ZERO, 1),
            (Some(every), Some(times)) => {
                (every.positive_duration()?, u32::try_from(times.integer(1..=MAX_TIMES)?).unwrap_or(u32::MAX))
            }
            (Some(v), None) => return Err(v.error("`every` needs `times`, how often in all")),
            (None, Some(v)) => return Err(v.error("`times` needs `every`, the time between two")),
        };
        let at = fields.get("at").map_or(Ok(Duration::ZERO), |v| v.duration())?;
        Ok(Step { at, every, times, action: self.action(kind, &fields)? })
    }

    fn action(&self, kind: Doing, f: &Fields<'a>) -> Parsed<Action> {
        let group = || self.group(&f.require("group", "a group's name")?);
        let client = || self.client(&f.require("client", "a client's name")?);
        let host = || self.host(&f.require("host", "a client's name, or `server`")?);
        let message = || f.get("message").map_or(Ok(String::new()), |v| v.string().map(str::to_owned));
        let lasts = || f.get("lasts").map(|v| v.positive_duration()).transpose();
        Ok(match kind {
            Doing::CreateGroup => {
                let members = self.client_list(&f.require("members", "a list of clients")?)?;
                Action::CreateGroup { group: group()?, members, message: message()? }
            }
            Doing::Join => Action::Join { group: group()?, client: client()?, message: message()? },
            Doing::Leave => Action::Leave { group: group()?, client: client()? },
            Doing::DestroyGroup => Action::DestroyGroup { group: group()? },
            Doing::Disconnect => Action::Disconnect { client: client()? },
            Doing::Logout => Action::Logout { client: client()? },
            Doing::SetPolicy => {
                let of = match (f.get("group"), f.get("pair")) {
                    (Some(group), None) => PolicyOf::Group(self.group(&group)?),
                    (None, Some(pair)) => self.pair(&pair).map(|(a, b)| PolicyOf::Pair(a, b))?,
                    (Some(_), Some(v)) => return Err(v.error("expected either `group` or `pair`")),
                    (None, None) => PolicyOf::Group(group()?),
                };
                Action::SetPolicy { of, policy: policies::read(f)? }
            }
            Doing::Send => Action::Send(self.sending(f)?),
            Doing::Cut => {
                let way = f.get("way").map_or(Ok(Ways::Both), |v| v.word(&CUT_WAYS))?;
                Action::Cut { link: self.link_of(&f.require("link", WHOSE)?)?, way, lasts: lasts()? }
            }
            Doing::BlockUdp => Action::BlockUdp { link: self.link_of(&f.require("link", WHOSE)?)?, lasts: lasts()? },
            Doing::CutDirect => {
                let one_way = f.get("one-way").map_or(Ok(false), |v| v.boolean())?;
                Action::CutDirect { pair: self.pair(&f.require("pair", "two clients")?)?, one_way, lasts: lasts()? }
            }
            Doing::Reboot => Action::Reboot {
                nat: self.nat(&f.require("nat", "a NAT's name")?)?,
                new_address: f.get("new-address").map_or(Ok(false), |v| v.boolean())?,
            },
            Doing::Pause => {
                let lasts = f.require("lasts", "how long, such as \"3s\"")?.positive_duration()?;
                Action::Pause { host: host()?, lasts }
            }
            Doing::ClockJump => {
                let by = match (f.get("forward"), f.get("backward")) {
                    (Some(by), None) => ClockJump::Forward(by.positive_duration()?),
                    (None, Some(by)) => ClockJump::Backward(by.positive_duration()?),
                    (Some(_), Some(v)) => return Err(v.error("expected either `forward` or `backward`")),
                    (None, None) => {
                        let by = f.require("forward", "how far, such as \"5s\"; or `backward`")?;
                        ClockJump::Forward(by.positive_duration()?)
                    }
                };
                Action::ClockJump { host: host()?, by }
            }
            Doing::Restart => Action::Restart { host: host()? },
            Doing::SetLink => {
                f.require("link", "the new link: a link's name, or a table")?;
                Action::SetLink { of: self.link_of(&f.require("of", WHOSE)?)?, link: self.access(f)? }
            }
            Doing::Move => Action::Move { client: client()?, to: self.place(f)?, link: self.access(f)? },
        })
    }

    fn packet(&self, value: &Value<'a>) -> Parsed<PacketFate> {
        let fields = value.open()?;
        let happening = fields.require("fate", "what happens to the packet")?.word(&FATES)?;
        let mut known = vec!["link", "way", "number", "fate"];
        known.extend_from_slice(happening.fields());
        fields.refuse_unknown(&known)?;
        let time = |name| fields.require(name, "how long, such as \"5ms\"")?.duration();
        Ok(PacketFate {
            link: self.link_of(&fields.require("link", WHOSE)?)?,
            way: fields.require("way", "`up`, to the internet, or `down`")?.word(&WAYS)?,
            number: fields.require("number", "the packet's number on that way, from 0")?.integer(0..=u64::MAX)?,
            mishap: match happening {
                Happening::Drop => Mishap::Drop,
                Happening::Delay => Mishap::Delay(time("by")?),
                Happening::Hold => Mishap::Hold(time("by")?),
                Happening::Flip => {
                    let bit = fields.require("bit", "which bit of the payload, from 0")?;
                    Mishap::Flip(u32::try_from(bit.integer(0..=u64::from(u32::MAX))?).unwrap_or(u32::MAX))
                }
                Happening::Copy => Mishap::Copy(time("after")?),
            },
        })
    }

    fn link_of(&self, value: &Value<'a>) -> Parsed<LinkOf> {
        let names: Vec<_> = self.nats.iter().chain(&self.clients).copied().collect();
        match value.string()? {
            SERVER => Ok(LinkOf::Host(Host::Server)),
            name if self.nats.contains(&name) => Ok(LinkOf::Nat(self.nat(value)?)),
            _ => {
                find(value, "client or NAT", &names)?;
                Ok(LinkOf::Host(Host::Client(self.client(value)?)))
            }
        }
    }

    fn sending(&self, f: &Fields<'a>) -> Parsed<Sending> {
        let (from_value, to_value) = (f.require("from", "who sends")?, f.require("to", "a group or a client")?);
        let (from, to) = (self.host(&from_value)?, self.target(&to_value)?);
        if to == Target::Host(from) {
            return Err(to_value.error("expected somebody else than the sender"));
        }
        if let (Host::Server, Target::Group(_)) = (from, to) {
            return Err(to_value.error("expected a client: the server is a member of no group"));
        }
        let kind = f.get("kind").map_or(Ok(Reliability::ReliableOrdered), |v| v.word(&KINDS))?;
        let number = f.get("channel").map_or(Ok(0), |v| v.integer(0..=u64::from(Channel::EACH) - 1))? as u8;
        let sizes = Sending::MIN_SIZE as u64..=Sending::MAX_SIZE as u64;
        Ok(Sending {
            from,
            to,
            channel: Channel::of(kind, number),
            size: f.get("size").map_or(Ok(DEFAULT_SIZE as u64), |v| v.bytes(sizes))? as usize,
            options: self.options(f, kind)?,
        })
    }

    fn options(&self, f: &Fields<'a>, kind: Reliability) -> Parsed<SendOptions> {
        let mut options = SendOptions::default();
        options.class = f.get("class").map_or(Ok(Class::Normal), |v| v.word(&CLASSES))?;
        if let Some(value) = f.get("deadline") {
            if kind.is_reliable() {
                return Err(value.error("a reliable message has no deadline; take another `kind`"));
            }
            options.deadline = Some(value.duration()?);
        }
        options.replaces =
            f.get("replaces").map(|v| v.integer(0..=u64::from(u32::MAX))).transpose()?.map(|key| key as u32);
        Ok(options)
    }

    fn expectation(&self, source: Source<'a>, value: &Value<'a>) -> Parsed<Expectation> {
        let fields = value.open()?;
        let that = fields.require("that", "what must hold")?;
        let kind = that.word(&CLAIMS)?;
        let mut known = vec!["that"];
        known.extend_from_slice(kind.fields());
        fields.refuse_unknown(&known)?;
        Ok(Expectation { line: source.line(that.span.start), expect: self.expect(kind, &fields)? })
    }

    fn expect(&self, kind: Claim, f: &Fields<'a>) -> Parsed<Expect> {
        let by = || f.get("by").map(|v| v.duration()).transpose();
        let within = || f.get("within").map(|v| v.ratio()).transpose();
        let count = |name, default| f.get(name).map_or(Ok(default), |v| v.integer(0..=u64::MAX));
        let any = |name| match f.get(name) {
            Some(v) if v.string() == Ok(ANY) => Ok(u64::MAX),
            _ => count(name, 0),
        };
        let host = |name, what| self.host(&f.require(name, what)?);
        Ok(match kind {
            Claim::Direct => Expect::Direct {
                pairs: self.pairs(f)?,
                by: by()?,
                within: within()?,
                rtt_at_most: f.get("rtt-at-most").map(|v| v.duration()).transpose()?,
            },
            Claim::Relayed => Expect::Relayed {
                pairs: self.pairs(f)?,
                because: f.get("because").map(|v| v.word(&REASONS)).transpose()?,
            },
            Claim::Delivery => Expect::Delivery {
                lost: any("lost")?,
                repeated: any("repeated")?,
                reordered: any("reordered")?,
                at_least: count("at-least", 1)?,
            },
            Claim::FirstMessage => Expect::FirstMessage {
                from: host("from", "who sends")?,
                to: host("to", "who receives")?,
                by: by()?,
                within: within()?,
            },
            Claim::Switches => Expect::Switches {
                pair: self.pair(&f.require("pair", "two clients")?)?,
                at_least: f.require("at-least", "a number")?.integer(1..=u64::MAX)?,
            },
            Claim::Members => Expect::Members {
                group: self.group(&f.require("group", "a group's name")?)?,
                members: self.client_list(&f.require("are", "a list of clients")?)?,
            },
            Claim::Joins => Expect::Joins { ok: f.require("ok", "a number")?.integer(0..=u64::MAX)? },
            Claim::Delay => Expect::Delay {
                from: host("from", "who sends")?,
                at_most: f.require("at-most", "a duration")?.positive_duration()?,
            },
            Claim::SessionEnds => Expect::SessionEnds {
                client: self.client(&f.require("client", "whose session")?)?,
                because: f.require("because", "why")?.word(&ENDS)?,
                by: by()?,
            },
        })
    }
}

fn find(value: &Value<'_>, what: &str, names: &[&str]) -> Parsed<usize> {
    let name = value.string()?;
    let unknown = || value.error(format!("there is no {what} `{name}`; {}", suggest(name, names)));
    names.iter().position(|known| *known == name).ok_or_else(unknown)
}

fn set<T>(field: &mut T, value: Option<Value<'_>>, read: impl Fn(&Value<'_>) -> Parsed<T>) -> Parsed<()> {
    if let Some(value) = value {
        *field = read(&value)?;
    }
    Ok(())
}

/// A link: fields for both directions, and `up` and `down` for what differs.
fn access(value: &Value<'_>) -> Parsed<Link> {
    const EACH: &[&str] = &[
        "delay",
        "jitter",
        "reorder",
        "reorder-by",
        "loss",
        "bursts",
        "duplication",
        "corruption",
        "rate",
        "queue",
        "mark-from",
        "ecn",
        "mtu",
    ];
    let fields = value.open()?;
    fields.refuse_unknown(&[EACH, &["up", "down"]].concat())?;
    let mut both = Direction { reorder_delay: DEFAULT_REORDER_BY, ..Direction::PERFECT };
    direction(&fields, &mut both)?;
    let mut link = Link { up: both, down: both };
    for (name, one) in [("up", &mut link.up), ("down", &mut link.down)] {
        if let Some(value) = fields.get(name) {
            direction(&value.table(EACH)?, one)?;
        }
    }
    Ok(link)
}

fn direction(f: &Fields<'_>, d: &mut Direction) -> Parsed<()> {
    /// RFC 791's least that every host takes, and the largest IPv4 packet.
    const MTU: std::ops::RangeInclusive<u64> = 576..=65_535;
    const QUEUE: std::ops::RangeInclusive<u64> = 1_500..=1 << 30;
    let share = |v: &Value<'_>| v.share().map(Chance::ppm);
    set(&mut d.delay, f.get("delay"), |v| v.duration())?;
    set(&mut d.jitter, f.get("jitter"), |v| v.duration())?;
    set(&mut d.reorder, f.get("reorder"), share)?;
    set(&mut d.reorder_delay, f.get("reorder-by"), |v| v.duration())?;
    set(&mut d.loss, f.get("loss"), share)?;
    set(&mut d.bursts, f.get("bursts"), bursts)?;
    set(&mut d.duplicate, f.get("duplication"), share)?;
    set(&mut d.corrupt, f.get("corruption"), share)?;
    set(&mut d.rate, f.get("rate"), |v| v.rate().map(Some))?;
    set(&mut d.queue, f.get("queue"), |v| v.bytes(QUEUE).map(|n| n as usize))?;
    set(&mut d.mark_from, f.get("mark-from"), |v| v.bytes(0..=1 << 30).map(|n| Some(n as usize)))?;
    set(&mut d.clears_ecn, f.get("ecn"), |v| v.word(&[("kept", false), ("cleared", true)]))?;
    set(&mut d.mtu, f.get("mtu"), |v| v.integer(MTU).map(|n| n as usize))
}

/// Either what is lost and in how long bursts, or the chances of the model.
fn bursts(value: &Value<'_>) -> Parsed<Bursts> {
    const LENGTH: std::ops::RangeInclusive<u64> = 1..=1_000_000;
    let f = value.table(&["loss", "length", "enter", "leave"])?;
    if let Some(either) = f.get("enter").or_else(|| f.get("leave")) {
        if f.get("loss").or_else(|| f.get("length")).is_some() {
            return Err(either.error("expected either `loss` and `length`, or `enter` and `leave`"));
        }
        let chance = |name, what| f.require(name, what)?.share().map(Chance::ppm);
        let enter = chance("enter", "how often a burst begins, such as \"0.5%\"")?;
        return Ok(Bursts { enter, leave: chance("leave", "how often a burst ends, such as \"20%\"")? });
    }
    let loss = f.require("loss", "the share of packets lost, such as \"1%\"")?.share()?;
    let length = f.require("length", "packets a burst in the mean, such as 5")?;
    let packets = length.integer(LENGTH)? as u32;
    Bursts::mean(loss, packets).ok_or_else(|| length.error("bursts of this length cannot lose so much"))
}

/// What a step can do.
#[derive(Clone, Copy)]
enum Doing {
    CreateGroup,
    Join,
    Leave,
    DestroyGroup,
    Disconnect,
    Logout,
    SetPolicy,
    Send,
    Cut,
    BlockUdp,
    CutDirect,
    Reboot,
    Pause,
    ClockJump,
    Restart,
    SetLink,
    Move,
}

const DOINGS: [(&str, Doing); 17] = [
    ("create-group", Doing::CreateGroup),
    ("join", Doing::Join),
    ("leave", Doing::Leave),
    ("destroy-group", Doing::DestroyGroup),
    ("disconnect", Doing::Disconnect),
    ("logout", Doing::Logout),
    ("set-policy", Doing::SetPolicy),
    ("send", Doing::Send),
    ("cut", Doing::Cut),
    ("block-udp", Doing::BlockUdp),
    ("cut-direct", Doing::CutDirect),
    ("reboot", Doing::Reboot),
    ("pause", Doing::Pause),
    ("clock-jump", Doing::ClockJump),
    ("restart", Doing::Restart),
    ("set-link", Doing::SetLink),
    ("move", Doing::Move),
];

impl Doing {
    /// The fields beside `do`, `at`, `every` and `times`.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::CreateGroup => &["group", "members", "message"],
            Self::Join => &["group", "client", "message"],
            Self::Leave => &["group", "client"],
            Self::DestroyGroup => &["group"],
            Self::Disconnect | Self::Logout => &["client"],
            Self::SetPolicy => &["group", "pair", "punch", "prefer"],
            Self::Send => &["from", "to", "kind", "channel", "size", "class", "deadline", "replaces"],
            Self::Cut => &["link", "way", "lasts"],
            Self::BlockUdp => &["link", "lasts"],
            Self::CutDirect => &["pair", "one-way", "lasts"],
            Self::Reboot => &["nat", "new-address"],
            Self::Pause => &["host", "lasts"],
            Self::ClockJump => &["host", "forward", "backward"],
            Self::Restart => &["host"],
            Self::SetLink => &["of", "link"],
            Self::Move => &["client", "behind", "link"],
        }
    }
}

/// What can happen to a packet.
#[derive(Clone, Copy)]
enum Happening {
    Drop,
    Delay,
    Hold,
    Flip,
    Copy,
}

const FATES: [(&str, Happening); 5] = [
    ("drop", Happening::Drop),
    ("delay", Happening::Delay),
    ("hold", Happening::Hold),
    ("flip", Happening::Flip),
    ("copy", Happening::Copy),
];

impl Happening {
    /// The fields beside `link`, `way`, `number` and `fate`.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Drop => &[],
            Self::Delay | Self::Hold => &["by"],
            Self::Flip => &["bit"],
            Self::Copy => &["after"],
        }
    }
}

pub(super) const WAYS: [(&str, Way); 2] = [("up", Way::Up), ("down", Way::Down)];

/// What can be expected.
#[derive(Clone, Copy)]
enum Claim {
    Direct,
    Relayed,
    Delivery,
    FirstMessage,
    Switches,
    Members,
    Joins,
    Delay,
    SessionEnds,
}

const CLAIMS: [(&str, Claim); 9] = [
    ("direct", Claim::Direct),
    ("relayed", Claim::Relayed),
    ("delivery", Claim::Delivery),
    ("first-message", Claim::FirstMessage),
    ("switches", Claim::Switches),
    ("members", Claim::Members),
    ("joins", Claim::Joins),
    ("delay", Claim::Delay),
    ("session-ends", Claim::SessionEnds),
];

/// How an expectation's kind is called in a file.
pub(super) fn claim(expect: &Expect) -> &'static str {
    match expect {
        Expect::Direct { .. } => "direct",
        Expect::Relayed { .. } => "relayed",
        Expect::Delivery { .. } => "delivery",
        Expect::FirstMessage { .. } => "first-message",
        Expect::Switches { .. } => "switches",
        Expect::Members { .. } => "members",
        Expect::Joins { .. } => "joins",
        Expect::Delay { .. } => "delay",
        Expect::SessionEnds { .. } => "session-ends",
    }
}

impl Claim {
    /// The fields beside `that`.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &["pair", "by", "within", "rtt-at-most"],
            Self::Relayed => &["pair", "because"],
            Self::Delivery => &["lost", "repeated", "reordered", "at-least"],
            Self::FirstMessage => &["from", "to", "by", "within"],
            Self::Switches => &["pair", "at-least"],
            Self::Members => &["group", "are"],
            Self::Joins => &["ok"],
            Self::Delay => &["from", "at-most"],
            Self::SessionEnds => &["client", "because", "by"],
        }
    }
}
