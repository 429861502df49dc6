//! What a bad file is told, and what a good one means.

use super::*;
use crate::{Allocation, Chance};
use insta::assert_snapshot;
use posse_core::Class;

/// The error for a sound file with `lines` added to it.
fn error(lines: &str) -> String {
    let text = format!("title = \"t\"\nduration = \"1s\"\n[nat.home]\n{HOME}\n[client.alice]\n[client.bob]\n{lines}\n");
    whole(&text)
}

fn whole(text: &str) -> String {
    match Scenario::parse("test.toml", text) {
        Ok(_) => "no error".to_owned(),
        Err(e) => e.to_string(),
    }
}

const HOME: &str = "mapping = \"endpoint-independent\"\nfiltering = \"address-and-port-dependent\"";

#[test]
fn the_file_that_the_others_build_on_is_sound() {
    assert_eq!(error(""), "no error");
}

#[test]
fn text_that_is_no_toml_is_shown_where_it_breaks() {
    assert_snapshot!(whole("title = \"t\"\nduration = 1s\n"), @r#"
    test.toml:2:12: string values must be quoted, expected literal string
      |
    2 | duration = 1s
      |            ^^
    "#);
    assert_snapshot!(whole("title = \"t\ntitle"), @r#"
    test.toml:2:6: key with no value, expected `=`
      |
    2 | title
      |      ^
    "#);
}

#[test]
fn a_key_twice_is_refused() {
    assert_snapshot!(error("[client.alice]"), @r#"
    test.toml:8:9: alice: duplicate key
      |
    8 | [client.alice]
      |         ^^^^^
    "#);
}

#[test]
fn what_is_missing_is_named_with_what_was_expected() {
    assert_snapshot!(whole("title = \"t\"\n[client.a]\n"), @r#"
    test.toml:1:1: duration: missing; expected when the run ends, such as "10s"
      |
    1 | title = "t"
      | ^
    "#);
    assert_snapshot!(whole("title = \"t\"\nduration = \"1s\"\n"), @r#"
    test.toml:1:1: client: missing; expected at least one client, as [client.NAME]
      |
    1 | title = "t"
      | ^
    "#);
    assert_snapshot!(error("[nat.work]\nmapping = \"address-dependent\""), @r#"
    test.toml:8:1: nat.work.filtering: missing; expected `endpoint-independent`, `address-dependent` or `address-and-port-dependent`
      |
    8 | [nat.work]
      | ^^^^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\nat = \"1s\""), @r#"
    test.toml:8:1: step[0].do: missing; expected what happens
      |
    8 | [[step]]
      | ^^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"join\"\nclient = \"alice\""), @r#"
    test.toml:8:1: step[0].group: missing; expected a group's name
      |
    8 | [[step]]
      | ^^^^^^^^
    "#);
}

#[test]
fn an_unknown_field_is_told_its_nearest_names() {
    assert_snapshot!(error("[nat.work]\nmaping = \"address-dependent\""), @r#"
    test.toml:9:1: nat.work.maping: unknown field; did you mean `mapping`?
      |
    9 | maping = "address-dependent"
      | ^^^^^^
    "#);
    assert_snapshot!(whole("titel = \"t\""), @r#"
    test.toml:1:1: titel: unknown field; did you mean `title`?
      |
    1 | titel = "t"
      | ^^^^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = { dealy = \"1ms\" }"), @r#"
    test.toml:9:10: client.carol.link.dealy: unknown field; did you mean `delay`?
      |
    9 | link = { dealy = "1ms" }
      |          ^^^^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = { up = { dup = \"1%\" } }"), @r#"
    test.toml:9:17: client.carol.link.up.dup: unknown field; did you mean `duplication`?
      |
    9 | link = { up = { dup = "1%" } }
      |                 ^^^
    "#);
}

#[test]
fn a_field_of_another_kind_of_step_is_unknown() {
    assert_snapshot!(error("[[step]]\ndo = \"logout\"\nclient = \"alice\"\nlasts = \"1s\""), @r#"
    test.toml:11:1: step[0].lasts: unknown field; expected `do`, `at`, `every`, `times` or `client`
       |
    11 | lasts = "1s"
       | ^^^^^
    "#);
}

#[test]
fn a_wrong_type_is_told_what_was_expected_and_found() {
    assert_snapshot!(error("[client.carol]\nstart = 5"), @r#"
    test.toml:9:9: client.carol.start: expected a duration of 0 or more with its unit (ns us ms s min h), such as "20ms", found 5
      |
    9 | start = 5
      |         ^
    "#);
    assert_snapshot!(error("[nat.work]\nmapping = 3"), @r#"
    test.toml:9:11: nat.work.mapping: expected `endpoint-independent`, `address-dependent` or `address-and-port-dependent`, found 3
      |
    9 | mapping = 3
      |           ^
    "#);
    assert_snapshot!(error("[nat.work]\nmapping = \"address-dependent\"\nfiltering = \"address-dependent\"\nhairpin = \"yes\""), @r#"
    test.toml:11:11: nat.work.hairpin: expected true or false, found "yes"
       |
    11 | hairpin = "yes"
       |           ^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"create-group\"\ngroup = \"room\"\nmembers = \"alice\""), @r#"
    test.toml:11:11: step[0].members: expected a list, found "alice"
       |
    11 | members = "alice"
       |           ^^^^^^^
    "#);
    assert_snapshot!(error("[step]\ndo = \"create-group\""), @r#"
    test.toml:8:1: step: expected tables that each begin with [[step]], found a table
      |
    8 | [step]
      | ^^^^^^
    "#);
    assert_snapshot!(whole("title = \"t\"\nduration = \"1s\"\nclient = [\"alice\"]"), @r#"
    test.toml:3:10: client: expected named tables, such as [client.x], found a list
      |
    3 | client = ["alice"]
      |          ^^^^^^^^^
    "#);
}

#[test]
fn a_word_that_is_not_known_is_told_the_nearest() {
    assert_snapshot!(error("[nat.work]\nmapping = \"endpoint-independant\""), @r#"
    test.toml:9:11: nat.work.mapping: "endpoint-independant" is not known; did you mean `endpoint-independent`?
      |
    9 | mapping = "endpoint-independant"
      |           ^^^^^^^^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(error("[nat.work]\nmapping = \"symmetric\""), @r#"
    test.toml:9:11: nat.work.mapping: "symmetric" is not known; expected `endpoint-independent`, `address-dependent` or `address-and-port-dependent`
      |
    9 | mapping = "symmetric"
      |           ^^^^^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"create\""), @r#"
    test.toml:9:6: step[0].do: "create" is not known; did you mean `create-group`?
      |
    9 | do = "create"
      |      ^^^^^^^^
    "#);
    assert_snapshot!(error("[[expect]]\nthat = \"happy\""), @r#"
    test.toml:9:8: expect[0].that: "happy" is not known; expected `direct`, `relayed`, `delivery`, `first-message`, `switches`, `members`, `joins`, `delay` or `session-ends`
      |
    9 | that = "happy"
      |        ^^^^^^^
    "#);
}

#[test]
fn a_reference_to_nobody_is_told_who_there_is() {
    assert_snapshot!(error("[client.carol]\nbehind = \"hoem\""), @r#"
    test.toml:9:10: client.carol.behind: there is no NAT `hoem`; did you mean `home`?
      |
    9 | behind = "hoem"
      |          ^^^^^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = \"dsl\""), @r#"
    test.toml:9:8: client.carol.link: there is no link `dsl`; none is defined
      |
    9 | link = "dsl"
      |        ^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"logout\"\nclient = \"alcie\""), @r#"
    test.toml:10:10: step[0].client: there is no client `alcie`; did you mean `alice`?
       |
    10 | client = "alcie"
       |          ^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"join\"\ngroup = \"room\"\nclient = \"alice\""), @r#"
    test.toml:10:9: step[0].group: there is no group `room`; none is defined
       |
    10 | group = "room"
       |         ^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"bop\""), @r#"
    test.toml:11:6: step[0].to: there is no group or client `bop`; did you mean `bob`?
       |
    11 | to = "bop"
       |      ^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"cut\"\nlink = \"homes\""), @r#"
    test.toml:10:8: step[0].link: there is no client or NAT `homes`; did you mean `home`?
       |
    10 | link = "homes"
       |        ^^^^^^^
    "#);
    assert_snapshot!(error("[[expect]]\nthat = \"direct\"\npair = [\"alice\", \"rob\"]"), @r#"
    test.toml:10:18: expect[0].pair[1]: there is no client `rob`; did you mean `bob`?
       |
    10 | pair = ["alice", "rob"]
       |                  ^^^^^
    "#);
}

#[test]
fn negative_and_outsized_numbers_are_refused() {
    assert_snapshot!(error("[client.carol]\nlink = { delay = \"-5ms\" }"), @r#"
    test.toml:9:18: client.carol.link.delay: expected a duration of 0 or more with its unit (ns us ms s min h), such as "20ms", found "-5ms"
      |
    9 | link = { delay = "-5ms" }
      |                  ^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"bob\"\nevery = \"1ms\"\ntimes = -3"), @r#"
    test.toml:13:9: step[0].times: expected a whole number from 1 to 1000000, found -3
       |
    13 | times = -3
       |         ^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"bob\"\nsize = 4"), @r#"
    test.toml:12:8: step[0].size: expected 16 to 65536 bytes, as a number or with a unit (B kB MB KiB MiB), found 4
       |
    12 | size = 4
       |        ^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"bob\"\nsize = \"65KiB\""), @r#"
    test.toml:12:8: step[0].size: expected 16 to 65536 bytes, as a number or with a unit (B kB MB KiB MiB), found "65KiB"
       |
    12 | size = "65KiB"
       |        ^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"bob\"\nchannel = 64"), @r#"
    test.toml:12:11: step[0].channel: expected a whole number from 0 to 63, found 64
       |
    12 | channel = 64
       |           ^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = { loss = \"120%\" }"), @r#"
    test.toml:9:17: client.carol.link.loss: expected a share from "0%" to "100%", such as "0.5%", found "120%"
      |
    9 | link = { loss = "120%" }
      |                 ^^^^^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = { rate = \"0Mb/s\" }"), @r#"
    test.toml:9:17: client.carol.link.rate: expected a rate of more than 0 with its unit (b/s kb/s Mb/s Gb/s), such as "10Mb/s", found "0Mb/s"
      |
    9 | link = { rate = "0Mb/s" }
      |                 ^^^^^^^
    "#);
    assert_snapshot!(error("[client.carol]\nlink = { mtu = 100 }"), @r#"
    test.toml:9:16: client.carol.link.mtu: expected a whole number from 576 to 65535, found 100
      |
    9 | link = { mtu = 100 }
      |                ^^^
    "#);
    assert_snapshot!(error("[[expect]]\nthat = \"direct\"\nwithin = 0.5"), @r#"
    test.toml:10:10: expect[0].within: expected a number of at least 1, such as 1.1, found 0.5
       |
    10 | within = 0.5
       |          ^^^
    "#);
    assert_snapshot!(whole("title = \"t\"\nduration = \"0s\"\n[client.a]"), @r#"
    test.toml:2:12: duration: expected a duration of more than 0, found "0s"
      |
    2 | duration = "0s"
      |            ^^^^
    "#);
}

#[test]
fn faults_of_hosts_say_all_that_they_need_and_no_more() {
    let step = |step: &str| error(&format!("[[step]]\n{step}"));
    for sound in [
        "do = \"pause\"\nhost = \"server\"\nlasts = \"1s\"",
        "do = \"clock-jump\"\nhost = \"alice\"\nbackward = \"1s\"",
        "do = \"reboot\"\nnat = \"home\"\nnew-address = true",
        "do = \"restart\"\nhost = \"bob\"",
        "do = \"set-link\"\nof = \"home\"\nlink = { rate = \"1Mb/s\" }",
        "do = \"move\"\nclient = \"bob\"\nbehind = \"home\"",
    ] {
        assert_eq!(step(sound), "no error", "{sound}");
    }
    for (bad, wanted) in [
        ("do = \"pause\"\nhost = \"alice\"", "test.toml:8:1: step[0].lasts: missing; expected how long"),
        ("do = \"pause\"\nhost = \"home\"\nlasts = \"1s\"", "test.toml:10:8: step[0].host: there is no client `home`"),
        ("do = \"clock-jump\"\nhost = \"bob\"", "step[0].forward: missing; expected how far"),
        ("do = \"clock-jump\"\nforward = \"1s\"\nbackward = \"1s\"", "step[0].backward: expected either `forward` or"),
        (
            "do = \"clock-jump\"\nhost = \"bob\"\nforward = \"0s\"",
            "step[0].forward: expected a duration of more than 0",
        ),
        ("do = \"reboot\"\nnat = \"home\"\nnew-address = 1", "step[0].new-address: expected true or false, found 1"),
        ("do = \"restart\"\nclient = \"bob\"", "step[0].client: unknown field"),
        (
            "do = \"set-link\"\nof = \"hom\"\nlink = {}",
            "step[0].of: there is no client or NAT `hom`; did you mean `home`?",
        ),
        ("do = \"set-link\"\nof = \"home\"", "step[0].link: missing; expected the new link"),
        ("do = \"move\"\nclient = \"bob\"\nbehind = \"nowhere\"", "step[0].behind: there is no NAT `nowhere`"),
    ] {
        assert!(step(bad).contains(wanted), "{}", step(bad));
    }
}

#[test]
fn bursts_are_told_by_loss_and_length_or_by_the_chances_and_not_by_both() {
    let link = |bursts: &str| error(&format!("[server]\nlink = {{ bursts = {{ {bursts} }} }}"));
    assert_eq!(link("loss = \"1%\", length = 5"), "no error");
    assert_eq!(link("enter = \"1%\", leave = \"50%\""), "no error");
    for (bursts, wanted) in [
        (
            "loss = \"90%\", length = 2",
            "test.toml:9:44: server.link.bursts.length: bursts of this length cannot lose so much",
        ),
        (
            "loss = \"1%\", leave = \"50%\"",
            "server.link.bursts.leave: expected either `loss` and `length`, or `enter` and",
        ),
        ("enter = \"1%\"", "server.link.bursts.leave: missing; expected how often a burst ends"),
        ("loss = \"1%\", lenght = 2", "server.link.bursts.lenght: unknown field; did you mean `length`?"),
    ] {
        assert!(link(bursts).contains(wanted), "{}", link(bursts));
    }
}

#[test]
fn a_name_names_one_thing_and_fits_a_column() {
    assert_snapshot!(error("[client.home]"), @r#"
    test.toml:8:9: client.home: the name `home` is already taken
      |
    8 | [client.home]
      |         ^^^^
    "#);
    assert_snapshot!(error("[client.server]"), @r#"
    test.toml:8:9: client.server: the name `server` is already taken
      |
    8 | [client.server]
      |         ^^^^^^
    "#);
    assert_snapshot!(error("[client.\"Alice B\"]"), @r#"
    test.toml:8:9: client.Alice B: "Alice B" cannot be a name; expected a name of 1 to 24 characters out of a-z 0-9 - _
      |
    8 | [client."Alice B"]
      |         ^^^^^^^^^
    "#);
    let group = "[[step]]\ndo = \"create-group\"\ngroup = \"room\"\nmembers = [\"alice\"]\n";
    assert_snapshot!(error(&format!("{group}{group}")), @r#"
    test.toml:14:9: step[1].group: the name `room` is already taken
       |
    14 | group = "room"
       |         ^^^^^^
    "#);
}

#[test]
fn a_pair_is_two_and_nobody_is_named_twice() {
    assert_snapshot!(error("[[step]]\ndo = \"cut-direct\"\npair = [\"alice\"]"), @r#"
    test.toml:10:8: step[0].pair: expected two clients, such as ["alice", "bob"]
       |
    10 | pair = ["alice"]
       |        ^^^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"cut-direct\"\npair = [\"alice\", \"alice\"]"), @r#"
    test.toml:10:18: step[0].pair[1]: named twice
       |
    10 | pair = ["alice", "alice"]
       |                  ^^^^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"alice\""), @r#"
    test.toml:11:6: step[0].to: expected somebody else than the sender
       |
    11 | to = "alice"
       |      ^^^^^^^
    "#);
}

#[test]
fn the_server_sends_to_no_group() {
    let group = "[[step]]\ndo = \"create-group\"\ngroup = \"room\"\nmembers = [\"alice\"]\n";
    let lines = format!("{group}[[step]]\ndo = \"send\"\nfrom = \"server\"\nto = \"room\"");
    assert_snapshot!(error(&lines), @r#"
    test.toml:15:6: step[1].to: expected a client: the server is a member of no group
       |
    15 | to = "room"
       |      ^^^^^^
    "#);
}

#[test]
fn repetition_needs_both_its_fields() {
    assert_snapshot!(error("[[step]]\ndo = \"reboot\"\nnat = \"home\"\nevery = \"1s\""), @r#"
    test.toml:11:9: step[0].every: `every` needs `times`, how often in all
       |
    11 | every = "1s"
       |         ^^^^
    "#);
    assert_snapshot!(error("[[step]]\ndo = \"reboot\"\nnat = \"home\"\ntimes = 3"), @r#"
    test.toml:11:9: step[0].times: `times` needs `every`, the time between two
       |
    11 | times = 3
       |         ^
    "#);
}

#[test]
fn a_nat_stands_after_the_one_it_is_behind() {
    let carrier = format!("[nat.inner]\nbehind = \"carrier\"\n{HOME}\n[nat.carrier]\n{HOME}");
    assert_snapshot!(error(&carrier), @r#"
    test.toml:9:10: nat.inner.behind: a NAT must stand after the NAT that it is behind
      |
    9 | behind = "carrier"
      |          ^^^^^^^^^
    "#);
}

#[test]
fn characters_of_several_bytes_count_as_one_column() {
    assert_snapshot!(error("[client.carol] # ½\nlink = { delay = \"½ms\", loss = \"1\" }"), @r#"
    test.toml:9:18: client.carol.link.delay: expected a duration of 0 or more with its unit (ns us ms s min h), such as "20ms", found "½ms"
      |
    9 | link = { delay = "½ms", loss = "1" }
      |                  ^^^^^
    "#);
}

/// Some of everything.
const FULL: &str = r#"
title = "full"
seed = 7
duration = "3s"

[link.dsl]
delay = "10ms"
loss = "1%"
up = { rate = "1Mb/s", queue = "64KiB" }

[nat.carrier]
mapping = "address-dependent"
filtering = "endpoint-independent"
allocation = "sequential"
ports = [2000, 2999]
stride = -2
cross-traffic = "500ms"
block = 64
lifetime = "30s"
hairpin = true
link = "dsl"

[nat.home]
behind = "carrier"
mapping = "endpoint-independent"
filtering = "address-dependent"

[server]
link = { delay = "40ms" }

[client.zoe]
behind = "home"
start = "5ms"

[client.adam]

[[step]]
do = "send"
at = "1s"
every = "10ms"
times = 5
from = "zoe"
to = "room"
kind = "unreliable"
channel = 3
size = "1kB"
class = "urgent"
deadline = "20ms"
replaces = 7

[[step]]
do = "create-group"
group = "room"
members = ["zoe", "adam"]

[[expect]]
that = "relayed"
pair = ["adam", "zoe"]
because = "only-inbound"
"#;

#[test]
fn everything_in_a_full_file_arrives_in_the_scenario() {
    let text = FULL;
    let s = Scenario::parse("full.toml", text).unwrap();
    assert_eq!((s.seed, s.duration, s.groups.as_slice()), (7, Duration::from_secs(3), ["room".to_owned()].as_slice()));
    // Clients keep the order of the file: it decides their addresses and ids.
    assert_eq!(s.clients.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["zoe", "adam"]);
    assert_eq!((s.clients[0].on, s.clients[0].start), (Network::Behind(NatIndex(1)), Duration::from_millis(5)));
    assert_eq!((s.clients[1].on, s.nats[1].behind), (Network::Internet, Network::Behind(NatIndex(0))));
    let carrier = &s.nats[0];
    assert_eq!((carrier.nat.allocation, carrier.nat.hairpin), (Allocation::Sequential, true));
    assert_eq!((carrier.nat.ports.clone(), carrier.nat.stride, carrier.nat.block), (2000..=2999, -2, 64));
    assert_eq!(carrier.nat.cross_traffic, Some(Duration::from_millis(500)));
    assert_eq!((carrier.nat.lifetime, s.nats[1].nat.lifetime), (Duration::from_secs(30), Duration::from_secs(120)));
    assert_eq!((carrier.link.up.rate, carrier.link.down.rate), (Some(1_000_000), None));
    assert_eq!((carrier.link.up.loss, carrier.link.down.loss), (Chance::percent(1), Chance::percent(1)));
    let sending = Sending {
        from: Host::Client(ClientIndex(0)),
        to: Target::Group(GroupIndex(0)),
        channel: Channel::unreliable(3),
        size: 1000,
        options: SendOptions::default().class(Class::Urgent).deadline(Duration::from_millis(20)).replaces(7),
    };
    assert_eq!(s.steps[0].action, Action::Send(sending));
    assert_eq!(
        (s.steps[0].at, s.steps[0].every, s.steps[0].times),
        (Duration::from_secs(1), Duration::from_millis(10), 5)
    );
    let pairs = Pairs::One(ClientIndex(1), ClientIndex(0));
    let expect = Expect::Relayed { pairs, because: Some(RelayReason::OnlyInbound) };
    assert_eq!(s.expectations, [Expectation { line: 57, expect }]);
}

#[test]
fn ipv6_without_a_server_that_has_it_is_refused_and_with_one_it_means_what_it_says() {
    for line in ["[client.c]\naddresses = \"ipv6\"", &format!("[nat.b]\n{HOME}\nipv6 = {{}}")] {
        assert!(error(line).contains("needs `ipv6 = true` of [server]"), "{}", error(line));
    }
    let text = format!(
        "title = \"t\"\nduration = \"1s\"\n[server]\nipv6 = true\n[nat.home]\n{HOME}\n\
         ipv6 = {{ filtering = \"none\", lifetime = \"30s\" }}\n[client.alice]\n[client.bob]\naddresses = \"ipv4\"\n"
    );
    let scenario = Scenario::parse("test.toml", &text).unwrap();
    let wall = crate::nat::Firewall { lifetime: Duration::from_secs(30), ..crate::nat::Firewall::open() };
    assert_eq!((scenario.ipv6, &scenario.nats[0].nat.ipv6), (true, &Some(wall)));
    assert_eq!([0, 1].map(|i| scenario.clients[i].addresses), [Families::Both, Families::V4]);
}
