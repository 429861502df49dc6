//! What is written reads back as what it was.

use super::*;
use crate::scenario::{ClientSpec, Expectation, NatSpec, Sending, ServerDoors, Target, Tried};
use crate::{Allocation, Families, Filtering, Mapping, Way};
use posse_core::{Channel, RelayReason, SendOptions};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NATS: usize = 3;
const CLIENTS: usize = 4;
const GROUPS: usize = 2;

fn policies() -> impl Strategy<Value = PathPolicy> {
    (select(PUNCH.to_vec()), select(PREFER.to_vec())).prop_map(|(punch, prefer)| PathPolicy::new(punch.1, prefer.1))
}

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
        (mark_from, clears_ecn) in (option::of(0usize..=1 << 30), any::<bool>()),
        mtu in prop_oneof![Just(1_500), 576usize..=65_535],
    ) -> Direction {
        let bursts = Bursts { enter, leave };
        let usual = Direction { delay, jitter, reorder, reorder_delay, loss, bursts, duplicate, corrupt, rate, queue, mtu, ..Direction::PERFECT };
        Direction { mark_from, clears_ecn, ..usual }
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
    fn firewalls()(
        filtering in proptest::option::of(select(Filtering::ALL.to_vec())),
        lifetime in positive(),
        unreplied in proptest::option::of(positive()),
        inbound_refresh in any::<bool>(),
    ) -> Firewall {
        Firewall { filtering, lifetime, unreplied, inbound_refresh }
    }
}

prop_compose! {
    fn nats()(
        mapping in select(Mapping::ALL.to_vec()),
        filtering in select(Filtering::ALL.to_vec()),
        allocation in select(Allocation::ALL.to_vec()),
        (first, last) in (1..=u16::MAX, 1..=u16::MAX),
        stride in any::<i16>().prop_filter("a stride", |n| *n != 0),
        cross_traffic in proptest::option::of(positive()),
        block in 1..=u16::MAX,
        lifetime in positive(),
        (inbound_refresh, hairpin, open_input) in any::<(bool, bool, bool)>(),
        (unreplied, filter_lifetime) in (proptest::option::of(positive()), proptest::option::of(positive())),
        absolute in proptest::option::of((positive(), positive())),
        ipv6 in proptest::option::of(firewalls()),
    ) -> Nat {
        let absolute = absolute.map(|(one, other)| one.min(other)..=one.max(other));
        let ports = first.min(last)..=first.max(last);
        let nat = Nat { allocation, lifetime, inbound_refresh, hairpin, open_input, ..Nat::new(mapping, filtering) };
        Nat { ports, stride, cross_traffic, block, unreplied, filter_lifetime, absolute, ipv6, ..nat }
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
        (some_group(), policies()).prop_map(|(group, policy)| Action::SetPolicy { of: PolicyOf::Group(group), policy }),
        (pair(), policies()).prop_map(|((a, b), policy)| Action::SetPolicy { of: PolicyOf::Pair(a, b), policy }),
        sendings().prop_map(Action::Send),
        (link.clone(), select(vec![Ways::Both, Ways::Up, Ways::Down]), option::of(positive()))
            .prop_map(|(link, way, lasts)| Action::Cut { link, way, lasts }),
        (link, option::of(positive())).prop_map(|(link, lasts)| Action::BlockUdp { link, lasts }),
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
    steps(action.prop_map(move |(members, message)| Action::CreateGroup { group: GroupIndex(group), members, message }))
}

fn expects() -> BoxedStrategy<Expect> {
    const REASONS: [RelayReason; 3] = [RelayReason::NoAnswer, RelayReason::OnlyInbound, RelayReason::HoleClosed];
    let ratio = || option::of((0.0f64..1e18).prop_map(|x| 1.0 + x));
    let time = || option::of(durations());
    prop_oneof![
        (pairs(), time(), ratio(), option::of(positive()))
            .prop_map(|(pairs, by, within, rtt_at_most)| Expect::Direct { pairs, by, within, rtt_at_most }),
        (pairs(), option::of(select(REASONS.to_vec()))).prop_map(|(pairs, because)| Expect::Relayed { pairs, because }),
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
        let addresses = select(vec![Families::V4, Families::Both, Families::V6]);
        let own = (policies(), option::of(any::<u16>()), option::of(durations()), addresses);
        (networks(NATS), links(), durations(), own).prop_map(
            move |(on, link, start, (policy, direct_peers, retain, addresses))| ClientSpec {
                name: name.to_owned(),
                on,
                link,
                addresses,
                start,
                policy,
                direct_peers,
                retain,
            },
        )
    };
    ([nat(0), nat(1), nat(2)], ["zoe", "a", "0", "_-x"].map(client)).prop_map(|(n, c)| (n.into(), c.into())).boxed()
}

prop_compose! {
    fn scenarios()(
        (title, seed, duration) in (any::<String>(), any::<u64>(), positive()),
        ((mut nats, mut clients), ipv6) in (hosts(), any::<bool>()),
        server in links(),
        doors in select(vec![ServerDoors::None, ServerDoors::Port, ServerDoors::Address]),
        probes in any::<u16>(),
        cookies in any::<bool>(),
        (techniques, policy) in (select(vec![Tried::Plain, Tried::Predict, Tried::Birthday, Tried::All]), policies()),
        created in [creation(0), creation(1)],
        others in vec(steps(actions()), 0..8),
        packets in vec(packets(), 0..8),
        expects in vec(expects(), 0..8),
    ) -> Scenario {
        if !ipv6 {
            // Nobody has what the server has not.
            nats.iter_mut().for_each(|spec| spec.nat.ipv6 = None);
            clients.iter_mut().for_each(|c| c.addresses = c.addresses.min(Families::Both));
        }
        Scenario {
            title,
            seed,
            duration,
            nats,
            server,
            doors,
            techniques,
            probes,
            cookies,
            policy,
            ipv6,
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
