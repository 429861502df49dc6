//! What is written of a run can be read again, by people, by Wireshark and by programs, and says what happened.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use insta::assert_snapshot;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use posse_core::{Duration, SocketId};
use posse_sim::machines::{EchoClient, EchoServer};
use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::{Outcome, Run};
use posse_sim::trace::{Filter, Folder, FolderError, Log, Note, NoteKind, Topology, Trace, Written};
use posse_sim::{Chance, Event, Link, Nat, Observer, PacketView, Place, World};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// A run and all that a trace of it needs.
struct Traced {
    log: Rc<RefCell<Log>>,
    topology: Topology,
    notes: Vec<Note>,
    digest: u128,
}

impl Traced {
    fn with<R>(&self, look: impl FnOnce(Trace<'_>) -> R) -> R {
        look(Trace { log: &self.log.borrow(), topology: &self.topology, notes: &self.notes })
    }

    fn timeline(&self, filter: Filter) -> String {
        self.with(|trace| trace.timeline_text(filter))
    }

    fn pcapng(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.with(|trace| trace.pcapng(&mut out)).unwrap();
        out
    }

    fn json(&self) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        self.with(|trace| trace.json(&mut out)).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn folder<'a>(
        &'a self,
        scenario: Option<&'a Scenario>,
        root: &Path,
        replace: bool,
    ) -> Result<Written, FolderError> {
        self.with(|trace| {
            let (command, name, digest) = ("test", "a/b c", self.digest);
            Folder { command, name, broken: None, replay: None, scenario, original: None, trace, digest, replace }
                .write(root)
        })
    }
}

fn demo() -> Scenario {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    Scenario::parse("demo.toml", &std::fs::read_to_string(file).unwrap()).unwrap()
}

fn traced(scenario: &Scenario) -> (Traced, Outcome) {
    let log = Rc::new(RefCell::new(Log::new()));
    let mut run = Run::observed(scenario, scenario.seed, vec![Box::new(log.clone())]).unwrap();
    run.advance(scenario.duration, |_| false);
    let topology = run.world().topology();
    let outcome = run.finish();
    let (notes, digest) = (outcome.notes(scenario, outcome.broken()), outcome.digest);
    (Traced { log, topology, notes, digest }, outcome)
}

/// The demo with everything that links and faults can do to it.
fn rough() -> Scenario {
    let mut scenario = demo();
    let link = scenario.nats[0].link;
    let link = link.loss(Chance::percent(3)).jitter(Duration::from_millis(2)).both(|d| {
        d.duplicate = Chance::percent(3);
        d.corrupt = Chance::percent(3);
    });
    scenario.nats[0].link = link;
    let cuts = "[[step]]\ndo = \"cut\"\nat = \"2s\"\nlink = \"home-b\"\nlasts = \"100ms\"\n\
        [[step]]\ndo = \"cut-direct\"\nat = \"3s\"\npair = [\"alice\", \"bob\"]\nlasts = \"500ms\"\n\
        [[step]]\ndo = \"reboot\"\nat = \"4s\"\nnat = \"home-b\"\n";
    let text = scenario.to_toml().unwrap() + cuts;
    Scenario::parse("rough.toml", &text).unwrap()
}

/// Two hosts that know nothing of Posse, and every kind of event in a few lines.
fn small() -> Traced {
    let log = Rc::new(RefCell::new(Log::new()));
    let mut world = World::new(1);
    world.observe(Box::new(log.clone()));
    let doubled = Link::millis(20).both(|d| d.duplicate = Chance::ALWAYS);
    let server = world.host(world.internet(), Link::millis(20), |_, _, _| EchoServer::new());
    let home = world.home(Nat::home());
    let to = world.addr(server);
    let client = world.host(home, Link::PERFECT, move |now, _, seed| {
        EchoClient::new(now, to, seed, (3, 100), Duration::from_millis(50))
    });
    world.set_name(server, "server");
    world.set_name(home, "home");
    world.set_name(client, "a client");
    world.run_for(Duration::from_millis(70)).unwrap();
    world.reboot_nat(home);
    world.cut_down(server);
    world.run_for(Duration::from_millis(50)).unwrap();
    world.heal(server);
    world.set_link(server, doubled);
    world.block_between(server, client);
    world.run_for(Duration::from_millis(100)).unwrap();
    world.unblock_between(server, client);
    world.restart(client);
    world.run_for(Duration::from_millis(30)).unwrap();
    let note = |at, who, kind, text: &str| Note { at, who, kind, text: text.to_owned() };
    let notes = vec![
        note(world.now(), None, NoteKind::Broken, "expected: all echoes; found: none"),
        note(posse_core::Instant(70_000_000), Some(home.into()), NoteKind::Fault, "somebody pulled the plug"),
        note(posse_core::Instant(60_000_000), Some(Place::from(client)), NoteKind::App, "is\nhappy"),
    ];
    Traced { topology: world.topology(), notes, digest: world.digest(), log }
}

#[test]
fn a_timeline_has_fixed_columns_and_names_every_kind_of_event() {
    assert_snapshot!(small().timeline(Filter::All));
}

#[test]
fn the_short_timeline_of_the_demo_tells_its_story() {
    assert_snapshot!(traced(&demo()).0.timeline(Filter::Short));
}

#[test]
fn the_same_run_is_written_to_the_same_bytes() {
    let scenario = rough();
    let (first, second) = (traced(&scenario).0, traced(&scenario).0);
    assert_eq!(first.digest, second.digest);
    assert!(first.pcapng() == second.pcapng() && first.json() == second.json());
    assert!(first.timeline(Filter::All) == second.timeline(Filter::All));
}

/// A packet of a capture.
struct Captured {
    interface: String,
    at: Duration,
    frame: Vec<u8>,
    comments: Vec<String>,
}

fn captured(file: &[u8]) -> Vec<Captured> {
    let mut reader = PcapNgReader::new(file).unwrap();
    let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(block) => {
                let name = block.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                assert!(block.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                interfaces.push(name.unwrap());
            }
            Block::EnhancedPacket(packet) => {
                let comments = packet.options.iter().filter_map(|option| match option {
                    EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                    _ => None,
                });
                packets.push(Captured {
                    interface: interfaces[packet.interface_id as usize].clone(),
                    at: packet.timestamp,
                    comments: comments.collect(),
                    frame: packet.data.into_owned(),
                });
            }
            _ => {}
        }
    }
    packets
}

/// RFC 1071: over sound bytes with their checksum it comes to 0xffff.
fn ones_complement_sum(bytes: &[u8]) -> u64 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[test]
fn a_capture_shows_each_packet_at_each_interface_that_it_passes() {
    let (run, outcome) = traced(&rough());
    let packets = captured(&run.pcapng());
    let mut passed: BTreeMap<&str, u64> = BTreeMap::new();
    for packet in &packets {
        *passed.entry(&packet.interface).or_default() += 1;
    }
    let log = run.log.borrow();
    let count = |which: &dyn Fn(&Event<'_>) -> bool| log.events().filter(|(_, event)| which(event)).count() as u64;
    // Hosts: the server is 0, alice 1, bob 2. What a host refuses for want of a socket is there, too.
    for (host, name) in [(0, "server"), (1, "alice"), (2, "bob")] {
        let there = count(&|event| match *event {
            Event::Sent { host: h, .. } | Event::Delivered { host: h, .. } => h == host,
            _ => false,
        });
        assert_eq!(passed[name], there, "{name}");
    }
    for (net, name) in [(1, "home-a"), (2, "home-b")] {
        let translated = count(&|event| matches!(*event, Event::Translated { net: n, .. } if n == net));
        let refused = count(&|event| {
            use posse_sim::DropReason::{Filtered, NoMapping};
            matches!(*event, Event::Dropped { place: Place::Net(n), why: Filtered | NoMapping, .. } if n == net)
        });
        assert_eq!(passed[&*format!("{name}-in")], translated, "{name}");
        assert_eq!(passed[&*format!("{name}-out")], translated + refused, "{name}");
    }
    assert!(outcome.packets.dropped_total() > 20 && outcome.packets.duplicated > 5 && outcome.packets.corrupted > 5);
    assert!(packets.is_sorted_by_key(|packet| packet.at));
    assert_eq!(packets.len() as u64, passed.values().sum::<u64>());
}

#[test]
fn a_capture_says_once_of_each_dropped_packet_that_and_why_it_was_dropped() {
    let (run, outcome) = traced(&rough());
    let packets = captured(&run.pcapng());
    let comments = || packets.iter().flat_map(|packet| &packet.comments);
    let drops = comments().filter(|text| text.contains("DROP")).count() as u64;
    assert_eq!(drops, outcome.packets.dropped_total());
    for said in [
        "DROP on the link up from home-a: lost",
        "DROP on the link down to home-a: lost",
        "DROP on the link up from home-b: link cut",
        "DROP in the internet: blocked",
        "DROP by home-b: no mapping",
        "doubled on the link of home-a; the copy is #",
        "a bit is flipped on the link of home-a",
        "new mapping: bob:4000 is home-b:",
        "2000.000 ms, network: home-b's link is cut",
        "2000.000 ms, home-b: link cut both ways",
        "4000.000 ms, home-b: reboots, its mappings are gone",
    ] {
        assert!(comments().any(|text| text.contains(said)), "{said}");
    }
    // A remark stands on the nearest packet at its place.
    let reboot = packets.iter().find(|packet| packet.comments.iter().any(|text| text.contains("reboots, its")));
    assert_eq!(reboot.unwrap().interface, "home-b-out");
    assert!(reboot.unwrap().at.abs_diff(Duration::from_secs(4)) < Duration::from_millis(30));
}

#[test]
fn captured_packets_have_the_addresses_of_their_side_and_right_checksums() {
    let run = traced(&rough()).0;
    for Captured { interface, frame, .. } in captured(&run.pcapng()) {
        let (ip, udp) = frame.split_at(20);
        assert_eq!((ip[0], ip[9], ones_complement_sum(ip)), (0x45, 17, 0xffff));
        let pseudo = [&ip[12..20], &[0, 17], &(udp.len() as u16).to_be_bytes(), udp].concat();
        assert_eq!(ones_complement_sum(&pseudo), 0xffff);
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), frame.len());
        let private = ip[12] == 10 || ip[16] == 10;
        match &*interface {
            "server" | "home-a-out" | "home-b-out" => assert!(!private, "{interface}"),
            _ => assert!(private, "{interface}"),
        }
    }
}

/// The beginning of the shipped scenario with IPv6, with a client that has no UDP in it.
fn ipv6() -> Scenario {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/ipv6.toml");
    let blocked = "[[step]]\ndo = \"block-udp\"\nlink = \"phone\"\n";
    let text = std::fs::read_to_string(file).unwrap() + blocked;
    let mut scenario = Scenario::parse("ipv6.toml", &text).unwrap();
    scenario.duration = Duration::from_secs(2);
    scenario
}

#[test]
fn ipv6_packets_are_captured_on_both_sides_of_a_firewall_with_right_checksums() {
    let run = traced(&ipv6()).0;
    let packets = captured(&run.pcapng());
    let packets: Vec<_> = packets.iter().filter(|packet| packet.frame[0] >> 4 == 6).collect();
    for Captured { frame, .. } in &packets {
        let (ip, rest) = frame.split_at(40);
        assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])), rest.len());
        let pseudo = [&ip[8..40], &[0, ip[6]], &(rest.len() as u16).to_be_bytes(), rest].concat();
        assert_eq!(ones_complement_sum(&pseudo), 0xffff);
    }
    let protocols: std::collections::BTreeSet<u8> = packets.iter().map(|packet| packet.frame[6]).collect();
    assert_eq!(protocols.into_iter().collect::<Vec<_>>(), [6, 17], "the phone has IPv6 alone and no UDP");
    for interface in ["alice", "office-a-in", "office-a-out", "office-b-out", "office-b-in", "bob", "server"] {
        assert!(packets.iter().any(|packet| packet.interface == interface), "{interface}");
    }
    let text = run.timeline(Filter::All);
    assert!(text.contains("alice/6:4000") && text.contains("in through the firewall"), "{text}");
    assert!(text.contains("and 2001:db8:0:1::2, on office-a") && text.contains("; behind it 2001:db8:0:1::/64"));
    let passed = |way: bool| run.json().iter().any(|line| line["event"] == "passed" && line["outward"] == way);
    assert!(passed(true) && passed(false));
}

#[test]
fn ecn_bits_hop_limit_and_ciphertext_are_as_sent() {
    let mut log = Log::new();
    let [from, to] = ["10.0.0.1:1", "5.0.0.1:2"].map(|a| a.parse().unwrap());
    for (id, ecn) in [(65_537, posse_core::Ecn::Ect0), (2, posse_core::Ecn::Ce)] {
        let packet = PacketView { id, from, to, ecn, hops: 3, tcp: false, bytes: &[1, 2, 3] };
        let at = posse_core::Instant(1_234_567_891);
        log.event(at, &Event::Sent { host: 0, socket: SocketId::MAIN, packet });
    }
    let host = |name: &str| posse_sim::trace::HostInfo { name: name.into(), on: 0, address: from.ip(), ipv6: None };
    let topology = Topology { hosts: vec![host("x")], nets: Vec::new() };
    let run = Traced { log: Rc::new(RefCell::new(log)), topology, notes: Vec::new(), digest: 0 };
    let packets = captured(&run.pcapng());
    assert_eq!(packets[0].at, Duration::from_nanos(1_234_567_891));
    let field = |f: fn(&[u8]) -> u8| packets.iter().map(|packet| f(&packet.frame)).collect::<Vec<_>>();
    assert_eq!((field(|f| f[1]), field(|f| f[5]), field(|f| f[8])), (vec![0b10, 0b11], vec![1, 2], vec![3, 3]));
    assert_eq!(packets[0].frame[28..], [1, 2, 3]);
}

#[test]
fn what_was_dropped_before_the_log_began_or_has_no_packet_near_is_not_lost() {
    let mut log = Log::new();
    let [from, to] = ["10.0.0.1:1", "5.0.0.1:2"].map(|a| a.parse().unwrap());
    let note = Note { at: posse_core::Instant(5), who: None, kind: NoteKind::Fault, text: "alone".into() };
    let topology = Topology { hosts: Vec::new(), nets: Vec::new() };
    let empty = Traced { log: Rc::default(), topology, notes: vec![note], digest: 0 };
    assert!(String::from_utf8_lossy(&empty.pcapng()).contains("0.000 ms, network: alone"));
    let packet =
        PacketView { id: 7, from, to, ecn: posse_core::Ecn::NotCapable, hops: 3, tcp: false, bytes: &[1; 70_000] };
    let why = posse_sim::DropReason::TooBig;
    log.event(posse_core::Instant(5), &Event::Dropped { place: Place::Host(0), why, packet });
    let host = posse_sim::trace::HostInfo { name: "x".into(), on: 0, address: from.ip(), ipv6: None };
    let topology = Topology { hosts: vec![host], nets: Vec::new() };
    let run = Traced { log: Rc::new(RefCell::new(log)), topology, notes: Vec::new(), digest: 0 };
    let packets = captured(&run.pcapng());
    assert_eq!((packets.len(), packets[0].frame.len()), (1, 65_535));
    assert_eq!(packets[0].comments, ["DROP on the link up from x: too big"]);
}

#[test]
fn tshark_takes_every_frame_for_sound() {
    let tshark = |arguments: &[&str]| Command::new("tshark").args(arguments).output();
    if tshark(&["--version"]).is_err() {
        eprintln!("skipped: there is no tshark here (apt-get install tshark)");
        return;
    }
    let run = traced(&rough()).0;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tshark.pcapng");
    let bytes = run.pcapng();
    std::fs::write(&file, &bytes).unwrap();
    let mut arguments = vec!["-r", file.to_str().unwrap(), "-d", "udp.port==1-65535,data"];
    arguments.extend(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields"]);
    let fields =
        ["_ws.malformed", "_ws.expert.severity", "ip.checksum.status", "udp.checksum.status", "frame.protocols"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark(&arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for (i, line) in text.lines().enumerate() {
        let columns: Vec<_> = line.split('\t').collect();
        // Comments count as expert information, of the least severity.
        const COMMENT: &str = "1048576";
        assert_eq!((columns[0], columns[2], columns[3]), ("", "1", "1"), "frame {}: {line}", i + 1);
        assert!(
            columns[1].split(',').all(|severity| severity.is_empty() || severity == COMMENT),
            "frame {}: {line}",
            i + 1
        );
        assert!(columns[4].starts_with("raw:ip:udp"), "frame {}: {line}", i + 1);
    }
    assert_eq!(text.lines().count(), captured(&bytes).len());
}

#[test]
fn json_is_one_versioned_object_a_line_with_every_event_and_note() {
    let described = include_str!("../../docs/traces.md");
    for run in [small(), traced(&rough()).0] {
        let lines = run.json();
        assert_eq!(lines.len(), 1 + run.log.borrow().len() + run.notes.len());
        assert_eq!((&lines[0]["type"], &lines[0]["events"]), (&"world".into(), &run.log.borrow().len().into()));
        let times: Vec<_> = lines[1..].iter().map(|line| line["at_ns"].as_u64().unwrap()).collect();
        assert!(times.is_sorted());
        for line in &lines {
            assert_eq!(line["v"], 1);
            let nested = line["packet"].as_object().into_iter().chain(line["places"][0].as_object());
            let nested: Vec<_> = nested.flat_map(|object| object.keys()).collect();
            for field in line.as_object().unwrap().keys().chain(nested) {
                assert!(described.contains(&format!("`{field}`")), "docs/traces.md says nothing of {field}");
            }
            if let Some(event) = line["event"].as_str() {
                assert!(described.contains(&format!("`{event}`")), "docs/traces.md says nothing of {event}");
            }
        }
    }
}

#[test]
fn a_log_that_is_full_forgets_the_oldest_and_says_so() {
    let whole = small();
    let mut log = Log::with_limit(4_000);
    for (at, event) in whole.log.borrow().events() {
        log.event(at, &event);
    }
    assert!(log.len() > 3 && log.len() < whole.log.borrow().len());
    assert_eq!(log.len() as u64 + log.forgotten(), whole.log.borrow().len() as u64);
    let all = whole.log.borrow();
    let kept = all.events().skip(log.forgotten() as usize);
    assert!(log.events().eq(kept));
    let forgotten = log.forgotten();
    let run =
        Traced { log: Rc::new(RefCell::new(log)), topology: whole.topology.clone(), notes: Vec::new(), digest: 0 };
    assert!(run.timeline(Filter::Short).contains(&format!("# {forgotten} earlier events are not kept")));
    assert_eq!(run.json()[0]["forgotten"], forgotten);
    assert!(!captured(&run.pcapng()).is_empty());
}

/// An empty folder of this test alone.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&path);
    path
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    std::fs::read_dir(path).unwrap().map(entry).collect()
}

#[test]
fn a_folder_holds_everything_and_is_written_again_by_the_same_run() {
    let (root, scenario) = (fresh("whole"), demo());
    let run = traced(&scenario).0;
    let written = run.folder(Some(&scenario), &root, false).unwrap();
    assert_eq!(written.path, root.join("test-a-b-c"));
    let first = files(&written.path);
    let names: Vec<_> = first.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["README.txt", "digest.txt", "index.html", "scenario.toml", "timeline.txt", "trace.json", "trace.pcapng"]
    );
    let readme = String::from_utf8(first["README.txt"].clone()).unwrap();
    assert_eq!(readme.lines().count(), 3);
    assert!(readme.contains(&written.replay) && readme.contains("scenario.toml is what ran"), "{readme}");
    assert_eq!(run.folder(Some(&scenario), &root, false).unwrap(), written);
    assert!(files(&written.path) == first);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1, "nothing half done is left");
}

#[test]
fn a_folder_of_another_run_is_replaced_only_if_told_and_then_it_is_said() {
    let (root, run, scenario) = (fresh("other"), small(), demo());
    run.folder(None, &root, false).unwrap();
    let before = files(&root.join("test-a-b-c"));
    let other = Traced { digest: 1, ..small() };
    let refused = other.folder(None, &root, false).unwrap_err();
    assert!(matches!(&refused, FolderError::Exists { theirs, .. } if *theirs == format!("{:032x}", run.digest)));
    assert!(refused.to_string().contains("move or remove it"));
    // The same digest under another scenario is another run, too.
    assert!(matches!(run.folder(Some(&scenario), &root, false), Err(FolderError::Exists { .. })));
    assert!(files(&root.join("test-a-b-c")) == before);
    let written = other.folder(None, &root, true).unwrap();
    assert_eq!(written.replaced, Some(format!("{:032x}", run.digest)));
    assert_eq!(files(&written.path)["digest.txt"], format!("{:032x}\n", 1).into_bytes());
}

#[test]
fn what_is_no_trace_is_left_alone_even_if_told_to_replace() {
    let (root, run) = (fresh("foreign"), small());
    std::fs::create_dir_all(root.join("test-a-b-c")).unwrap();
    run.folder(None, &root, false).unwrap();
    std::fs::remove_file(root.join("test-a-b-c/digest.txt")).unwrap();
    assert!(matches!(run.folder(None, &root, true), Err(FolderError::Foreign(_))));
    let file = root.join("file");
    std::fs::write(&file, "mine").unwrap();
    let error = run.folder(None, &file, true).unwrap_err();
    assert!(matches!(error, FolderError::Foreign(_)), "{error}");
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[test]
fn the_program_writes_a_folder_whose_scenario_repeats_the_run() {
    let root = fresh("program");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_posse-sim")).arg("run").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/demo.toml");
    let (file, below) = (file.to_str().unwrap(), root.to_str().unwrap());
    let (code, said, told) = run(&[file, "--seed", "77", "--trace", below]);
    let folder = root.join("run-demo-77");
    assert_eq!((code, told), (Some(0), format!("trace: {}\n", folder.display())));
    let digest = String::from_utf8(files(&folder)["digest.txt"].clone()).unwrap();
    assert!(said.contains(digest.trim()));
    let (_, again, _) = run(&[folder.join("scenario.toml").to_str().unwrap()]);
    assert!(again.contains(digest.trim()), "the folder's scenario is another run: {again}");
    assert_eq!(run(&[file, "--replace"]).0, Some(2), "--replace means nothing without --trace");
}
