//! Scenarios: who is there, behind what, what they do, what goes wrong, and what must hold.
//!
//! A [`Scenario`] is data, read from a TOML file ([`Scenario::parse`]; `docs/scenarios.md` describes the format) or built
//! in code. It is parsed, not validated: whatever refers to a host, NAT or group holds an index that exists.

pub mod accounts;
pub mod app;
mod bounds;
pub mod expect;
pub mod failure;
mod ipv6;
pub mod journal;
pub mod judge;
mod parse;
mod policies;
pub mod random;
mod read;
pub mod run;
mod tables;
#[cfg(test)]
mod tests;
mod timers;
mod units;
pub mod words;
mod write;

pub(crate) use parse::DEFAULT_REORDER_BY;
pub use read::BadScenario;
pub use units::written;
pub use write::Unwritable;

use crate::{Families, Link, Mishap, Nat, Way};
use posse_core::{Channel, Duration, EndReason, PathPolicy, RelayReason, SendOptions};

/// Index of a NAT in [`Scenario::nats`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NatIndex(pub usize);

/// Index of a client in [`Scenario::clients`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientIndex(pub usize);

/// Index of a group in [`Scenario::groups`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupIndex(pub usize);

/// A run of the simulator as data.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// What it shows, in one line.
    pub title: String,
    /// Whatever is random follows from it.
    pub seed: u64,
    /// When the run ends, in simulated time.
    pub duration: Duration,
    /// NATs; one stands after the NAT that it is behind.
    pub nats: Vec<NatSpec>,
    /// The server's link to the internet.
    pub server: Link,
    /// The server's other addresses, by which it learns how NATs behave.
    pub doors: ServerDoors,
    /// What the server has clients try where plain punching leads nowhere.
    pub techniques: Tried,
    /// How many ports one search tries at the most.
    pub probes: u16,
    /// Whether the server has so many logins that each new client has to bring a cookie.
    pub cookies: bool,
    /// Which ways traffic may go in every group that has no policy of its own.
    pub policy: PathPolicy,
    /// Whether the internet and the server have IPv6 beside IPv4, and with them each network whose NAT says so.
    pub ipv6: bool,
    /// Clients.
    pub clients: Vec<ClientSpec>,
    /// Names of the groups that steps create.
    pub groups: Vec<String>,
    /// What happens, in the order of the file; steps at one time happen in that order.
    pub steps: Vec<Step>,
    /// What happens to single packets, beside what chances bring.
    pub packets: Vec<PacketFate>,
    /// What must hold.
    pub expectations: Vec<Expectation>,
}

impl Scenario {
    /// Ports that a search tries unless said otherwise: as [`SearchLimits`](posse_core::config::SearchLimits) has it.
    pub const PROBES: u16 = 2_048;
}

/// What a server has beside its main address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServerDoors {
    /// Nothing.
    #[default]
    None,
    /// A second port.
    Port,
    /// A second port, and a second address with two.
    Address,
}

/// What a server has clients try beside plain hole punching.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tried {
    /// Nothing.
    Plain,
    /// Port prediction.
    Predict,
    /// Birthday probing.
    Birthday,
    /// Both.
    #[default]
    All,
}

/// What happens to one packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PacketFate {
    /// On whose link.
    pub link: LinkOf,
    /// In which direction.
    pub way: Way,
    /// The how-manieth it is there, from 0.
    pub number: u64,
    /// What happens to it.
    pub mishap: Mishap,
}

/// A NAT.
#[derive(Clone, PartialEq, Debug)]
pub struct NatSpec {
    /// Its name.
    pub name: String,
    /// What its outside is part of.
    pub behind: Network,
    /// How it behaves.
    pub nat: Nat,
    /// Its link to what it is behind.
    pub link: Link,
}

/// A network that something is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// The public internet.
    Internet,
    /// The inside of a NAT.
    Behind(NatIndex),
}

/// A client.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientSpec {
    /// Its name; also its login token and what its peers see as its user data.
    pub name: String,
    /// Where it is.
    pub on: Network,
    /// Its link to there.
    pub link: Link,
    /// Which addresses it has. Who has IPv4 logs in by it.
    pub addresses: Families,
    /// When it starts and logs in.
    pub start: Duration,
    /// Which ways its traffic with peers may go, by its own wish.
    pub policy: PathPolicy,
    /// Peers with which it has direct paths at the most; `None`: as Posse has it.
    pub direct_peers: Option<u16>,
    /// How long it keeps holes to those with whom it shares no group any more; `None`: as Posse has it.
    pub retain: Option<Duration>,
}

/// Something that happens, once or repeatedly.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// When, first.
    pub at: Duration,
    /// Between repetitions.
    pub every: Duration,
    /// How often in all.
    pub times: u32,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The server makes a group, as soon as all its first members are online.
    CreateGroup {
        /// Which.
        group: GroupIndex,
        /// Its first members.
        members: Vec<ClientIndex>,
        /// Carried in the join events.
        message: String,
    },
    /// The server adds a client to a group, as soon as both exist.
    Join {
        /// Which group.
        group: GroupIndex,
        /// Who.
        client: ClientIndex,
        /// Carried in the join events.
        message: String,
    },
    /// The server takes a client out of a group.
    Leave {
        /// Which group.
        group: GroupIndex,
        /// Who.
        client: ClientIndex,
    },
    /// The server ends a group.
    DestroyGroup {
        /// Which.
        group: GroupIndex,
    },
    /// The server ends a client's session.
    Disconnect {
        /// Whose.
        client: ClientIndex,
    },
    /// A client logs out.
    Logout {
        /// Which.
        client: ClientIndex,
    },
    /// The server allows other ways than before, as soon as there is that group or pair.
    SetPolicy {
        /// Whose.
        of: PolicyOf,
        /// Which ways.
        policy: PathPolicy,
    },
    /// Numbered messages, from the moment when the sender sees its receiver.
    Send(Sending),
    /// A host's or NAT's own link carries nothing for a while.
    Cut {
        /// Whose link.
        link: LinkOf,
        /// Which direction of it.
        way: Ways,
        /// How long; to the end if `None`.
        lasts: Option<Duration>,
    },
    /// A firewall at a host or NAT lets no datagrams pass for a while, in neither direction. TCP passes.
    BlockUdp {
        /// Where.
        link: LinkOf,
        /// How long; to the end if `None`.
        lasts: Option<Duration>,
    },
    /// Nothing passes directly between two clients for a while; what the server relays does.
    CutDirect {
        /// Which two.
        pair: (ClientIndex, ClientIndex),
        /// Whether only what the first sends to the second does not.
        one_way: bool,
        /// How long; to the end if `None`.
        lasts: Option<Duration>,
    },
    /// A NAT forgets all its mappings.
    Reboot {
        /// Which.
        nat: NatIndex,
        /// Whether it comes back with another outside address.
        new_address: bool,
    },
    /// A host's machine stands still for a while, then gets at once what has arrived.
    Pause {
        /// Which.
        host: Host,
        /// How long.
        lasts: Duration,
    },
    /// A host's clock jumps and runs on from there.
    ClockJump {
        /// Which.
        host: Host,
        /// How far.
        by: ClockJump,
    },
    /// A host crashes and comes back at once: a client logs in again, the server knows nobody. What its application has
    /// yet to do and what it wrote down stay.
    Restart {
        /// Which.
        host: Host,
    },
    /// A link is another from now on.
    SetLink {
        /// Whose.
        of: LinkOf,
        /// What it is then.
        link: Link,
    },
    /// A client changes to another network, or gets another address on its own.
    Move {
        /// Which.
        client: ClientIndex,
        /// Where to.
        to: Network,
        /// Its link to there.
        link: Link,
    },
}

/// Who has a policy of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyOf {
    /// Every two members of a group.
    Group(GroupIndex),
    /// Two clients.
    Pair(ClientIndex, ClientIndex),
}

/// Directions of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ways {
    /// Either.
    Both,
    /// From the host or NAT that the link belongs to.
    Up,
    /// To it.
    Down,
}

/// How far a clock jumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockJump {
    /// Ahead.
    Forward(Duration),
    /// Back; not below 0.
    Backward(Duration),
}

impl ClockJump {
    /// Nanoseconds ahead.
    fn nanos(self) -> i64 {
        let saturating = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        match self {
            Self::Forward(by) => saturating(by),
            Self::Backward(by) => -saturating(by),
        }
    }
}

/// Messages that somebody sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sending {
    /// Who.
    pub from: Host,
    /// To whom.
    pub to: Target,
    /// On which channel.
    pub channel: Channel,
    /// Bytes a message, at least [`Sending::MIN_SIZE`].
    pub size: usize,
    /// Its class, deadline and key.
    pub options: SendOptions,
}

impl Sending {
    /// A message's own number and time of sending must fit in.
    pub const MIN_SIZE: usize = 16;
    /// The largest message that Posse carries.
    pub const MAX_SIZE: usize = 64 << 10;
}

/// One who sends and receives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Host {
    /// The server.
    Server,
    /// A client.
    Client(ClientIndex),
}

/// To whom messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// To one alone.
    Host(Host),
    /// To the other members of a group.
    Group(GroupIndex),
}

/// Whose link to the network that it is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LinkOf {
    /// A client's or the server's.
    Host(Host),
    /// A NAT's.
    Nat(NatIndex),
}

/// Something that must hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Expectation {
    /// Its line in the file; 0 if it was built in code.
    pub line: usize,
    /// What.
    pub expect: Expect,
}

/// What must hold.
#[derive(Clone, PartialEq, Debug)]
pub enum Expect {
    /// Both clients say that traffic between them is direct.
    Direct {
        /// Which pairs.
        pairs: Pairs,
        /// Both had said so once by then, counted from the start.
        by: Option<Duration>,
        /// Both had said so within this many times the bound: from when they were put into a group, the later one-way
        /// delay from the server and one round trip between them.
        within: Option<f64>,
        /// The round trip that both report is no longer.
        rtt_at_most: Option<Duration>,
    },
    /// Both clients say that traffic between them is relayed at the end, and neither ever said that it was direct.
    Relayed {
        /// Which pairs.
        pairs: Pairs,
        /// The reason that the pair's first states; the second states its mirror image.
        because: Option<RelayReason>,
    },
    /// Of the messages on reliable channels no more than so many went wrong, over all senders and receivers; and none
    /// had another content than was sent, or arrived outside its group's membership.
    Delivery {
        /// Never delivered.
        lost: u64,
        /// Delivered more than once.
        repeated: u64,
        /// Delivered after a later one.
        reordered: u64,
        /// At least so many must have been sent for this to mean anything.
        at_least: u64,
    },
    /// A sender's first message reached its receivers.
    FirstMessage {
        /// Who sent it.
        from: Host,
        /// To whom.
        to: Host,
        /// By then, counted from the start.
        by: Option<Duration>,
        /// Within this many times the bound: one way from the server to the sender, then one way to the server and on
        /// to the receiver.
        within: Option<f64>,
    },
    /// Traffic of a pair changed between direct and relayed at least so often, as the pair's first saw it.
    Switches {
        /// Which pair.
        pair: (ClientIndex, ClientIndex),
        /// How often.
        at_least: u64,
    },
    /// At the end all members of a group, and nobody else, see exactly these members.
    Members {
        /// Which group.
        group: GroupIndex,
        /// Who.
        members: Vec<ClientIndex>,
    },
    /// Each join completed exactly once, and with this many `Ok` at least.
    Joins {
        /// How many.
        ok: u64,
    },
    /// The slowest message on a reliable channel took no longer from send to delivery.
    Delay {
        /// Of whose messages.
        from: Host,
        /// At most.
        at_most: Duration,
    },
    /// A client's session ended, for the reason given.
    SessionEnds {
        /// Whose.
        client: ClientIndex,
        /// Why, as the client was told.
        because: EndReason,
        /// By then, counted from the start.
        by: Option<Duration>,
    },
}

/// Pairs of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pairs {
    /// Every two that were ever in a group together.
    All,
    /// One.
    One(ClientIndex, ClientIndex),
}

impl Scenario {
    /// How much happens in it on purpose: steps, each counted once however often it is repeated, and packets of which it
    /// says what happens to them.
    pub fn events(&self) -> usize {
        self.steps.len() + self.packets.len()
    }

    /// How `host` is called.
    pub fn host_name(&self, host: Host) -> &str {
        match host {
            Host::Server => parse::SERVER,
            Host::Client(ClientIndex(i)) => self.clients.get(i).map_or("?", |client| &client.name),
        }
    }

    /// How `target` is called.
    pub fn target_name(&self, target: Target) -> &str {
        match target {
            Target::Host(host) => self.host_name(host),
            Target::Group(GroupIndex(i)) => self.groups.get(i).map_or("?", |name| name),
        }
    }
}
