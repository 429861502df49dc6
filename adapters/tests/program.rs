//! `posse serve` and `posse join` as processes of their own, as a person or a script runs them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn posse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posse"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that ends with the test.
struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    address: String,
    key: String,
    metrics: Option<String>,
}

impl Server {
    fn new(arguments: &[&str]) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0", "--json"], arguments].concat();
        let mut child = posse(&all).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        assert_eq!((&first["v"], &first["type"]), (&1.into(), &"serving".into()));
        let text = |field: &str| first[field].as_str().unwrap().to_owned();
        let metrics = first["metrics"].as_str().map(str::to_owned);
        Self { child, lines, address: text("address"), key: text("public_key"), metrics }
    }

    fn join(&self, name: &str, more: &[&str]) -> Command {
        let who = ["join", "--server", &self.address, "--server-key", &self.key, "--room", "lobby", "--name", name];
        posse(&[&who, more].concat())
    }

    /// Asks it to stop, and reads what it has told since.
    fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        terminate(&self.child);
        let told = (&mut self.lines).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        (self.child.wait().unwrap().code(), told)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
}

fn lines(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// What went wrong, in words, and the exit code.
fn failure(mut command: Command) -> (String, Option<i32>) {
    let output = command.output().unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn three_programs_in_one_room_account_for_every_message() {
    let server = Server::new(&[]);
    let names = ["ann", "ben", "cid"];
    let start =
        |name| server.join(name, &["--every", "10", "--size", "200", "--for", "1.5", "--json"]).spawn().unwrap();
    let clients = names.map(start);
    for (name, client) in names.into_iter().zip(clients) {
        let output = client.wait_with_output().unwrap();
        let told = lines(&output);
        assert_eq!(output.status.code(), Some(0), "{told:#?}");
        assert!(told.iter().all(|line| line["v"] == 1 && line["event"] == line["type"]));
        assert_eq!(told[0]["type"], "connected");
        assert_eq!((&told[0]["room"], &told[0]["name"]), (&"lobby".into(), &name.into()));
        assert_eq!(of(&told, "member_joined").len(), 2);
        let clocks = of(&told, "clock");
        assert!(clocks.len() == 1 && clocks[0]["server_ms"].as_f64() > clocks[0]["error_ms"].as_f64(), "{clocks:?}");
        let summaries = of(&told, "summary");
        assert_eq!(summaries.len(), 2);
        assert_eq!(told.last().unwrap()["type"], "summary");
        for summary in summaries {
            let count = |field: &str| summary[field].as_u64().unwrap();
            assert_eq!((count("lost"), count("repeated"), count("reordered")), (0, 0, 0), "{summary}");
            assert_eq!((&summary["path"], &summary["because"]), (&"direct".into(), &Value::Null));
            let (first, direct, rtt) =
                (&summary["time_to_first_ms"], &summary["time_to_direct_ms"], &summary["rtt_ms"]);
            assert!(first.is_f64() && direct.is_f64() && rtt.is_f64(), "{summary}");
            assert!(count("sent") > 50 && count("received") > 50, "{summary}");
            let peer = &summary["peer"];
            let heard: Vec<_> = told.iter().filter(|l| l["type"] == "message" && l["from"] == *peer).collect();
            assert_eq!(heard.len() as u64, count("received"));
            let numbers: Vec<_> = heard.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
            assert!(heard.iter().all(|line| line["via"] == "direct" || line["via"] == "relay"));
            assert!(told.iter().any(|l| l["type"] == "path" && l["peer"] == *peer && l["path"] == "direct"));
        }
    }
    let (code, told) = server.stop();
    assert_eq!((code, of(&told, "member_joined").len(), of(&told, "member_left").len()), (Some(0), 3, 3));
}

/// Passes TCP on to `to`; nobody answers UDP there. Its address.
fn tcp_only(to: &str) -> String {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").unwrap(), to.to_owned());
    let here = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let onward = TcpStream::connect(&to).unwrap();
            let pass = |mut a: TcpStream, mut b: TcpStream| {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut a, &mut b);
                    let _ = b.shutdown(Shutdown::Write);
                });
            };
            pass(from.try_clone().unwrap(), onward.try_clone().unwrap());
            pass(onward, from);
        }
    });
    here
}

#[test]
fn who_has_no_udp_is_there_by_tcp_and_says_so() {
    let server = Server::new(&["--metrics", "127.0.0.1:0"]);
    let front = tcp_only(&server.address);
    let for_a_while = ["--room", "lobby", "--every", "10", "--for", "1.5", "--json"];
    let join = |name: &str, at: &str| {
        let who = ["join", "--server", at, "--server-key", &server.key, "--name", name];
        posse(&[&who[..], &for_a_while[..]].concat()).spawn().unwrap()
    };
    let (ann, ben) = (join("ann", &front), join("ben", &server.address));
    for (client, leg) in [(ann, "tcp"), (ben, "udp")] {
        let output = client.wait_with_output().unwrap();
        let told = lines(&output);
        assert_eq!(output.status.code(), Some(0), "{told:#?}");
        let legs: Vec<_> = of(&told, "leg").iter().map(|line| (&line["leg"], &line["because"])).collect();
        let expected = [(&Value::from("tcp"), &Value::from("udp-silent"))];
        assert_eq!(legs, if leg == "tcp" { &expected[..] } else { &[] });
        let summary = of(&told, "summary")[0];
        assert_eq!((&summary["leg"], &summary["lost"]), (&leg.into(), &0.into()), "{summary}");
        assert!(summary["received"].as_u64().unwrap() > 50, "{summary}");
    }
    let metrics = get(server.metrics.as_ref().unwrap(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(metrics.contains("posse_leg_changes_total{leg=\"tcp\"} 1"), "{metrics}");
    let (_, told) = server.stop();
    let legs: Vec<_> = of(&told, "leg").iter().map(|line| &line["leg"]).collect();
    assert_eq!(legs, ["tcp"]);
}

#[test]
fn a_line_of_one_is_read_by_the_other_and_its_end_is_a_goodbye() {
    let server = Server::new(&[]);
    let mut ann = server.join("ann", &["--chat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut hears = BufReader::new(ann.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(hears.next().unwrap().contains("lobby"));
    let mut ben = server.join("ben", &["--chat"]).stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(hears.find(|line| line.contains("ben")).unwrap(), "* ben is here");
    ben.stdin.take().unwrap().write_all(b"good \x1b[31mmorning\n").unwrap();
    let from_ben = hears.find(|line| line.starts_with("ben: ")).unwrap();
    assert_eq!(from_ben, "ben: good \u{fffd}[31mmorning");
    assert_eq!(ben.wait().unwrap().code(), Some(0));
    assert!(hears.any(|line| line == "* ben has left"));
    drop(ann.stdin.take());
    assert_eq!(ann.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_is_a_clean_goodbye_on_either_side() {
    let server = Server::new(&[]);
    let mut ann = server.join("ann", &["--json"]).spawn().unwrap();
    let mut hears = BufReader::new(ann.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut ben = server.join("ben", &["--every", "50", "--json"]).spawn().unwrap();
    assert!(hears.any(|line| line.contains("\"message\"")));
    terminate(&ben);
    let start = Instant::now();
    assert!(hears.any(|line| line.contains("member_left")));
    assert!(start.elapsed() < Duration::from_secs(5), "told, not timed out");
    assert_eq!(ben.wait().unwrap().code(), Some(0));

    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
    let failed = hears.find(|line| line.contains("\"failed\"")).unwrap();
    assert!(failed.contains("session"), "{failed}");
    assert_eq!(ann.wait().unwrap().code(), Some(1));
}

#[test]
fn what_cannot_work_is_told_with_what_to_do() {
    let server = Server::new(&["--room-size", "2"]);
    let (why, code) = failure(posse(&["serve", "--listen", &server.address]));
    assert!(why.contains("taken") && code == Some(1), "{why}");
    let (why, code) = failure(posse(&["serve", "--listen", "192.0.2.1:0"]));
    assert!(why.contains("no address 192.0.2.1") && code == Some(1), "{why}");

    let (why, code) = failure(server.join("", &[]));
    assert!(why.contains("at least one character") && code == Some(2), "{why}");
    let (why, code) = failure(posse(&["join", "--server", "x:1", "--server-key", "12", "--room", "r", "--name", "n"]));
    assert!(why.contains("64 hexadecimal digits") && code == Some(2), "{why}");
    let at = |host: &str, key: &str| {
        posse(&["join", "--server", host, "--server-key", key, "--room", "r", "--name", "n", "--json"])
    };
    let (why, code) = failure(at("name.invalid:7777", &server.key));
    assert!(why.contains("cannot resolve") && code == Some(1), "{why}");
    let mut wrong = at(&server.address, &"07".repeat(32));
    let output = wrong.output().unwrap();
    assert_eq!((lines(&output)[0]["type"].as_str(), output.status.code()), (Some("failed"), Some(1)));
    assert!(str::from_utf8(&output.stderr).unwrap().contains("--server-key"));

    let mut members = ["ann", "ben"].map(|name| server.join(name, &["--json"]).spawn().unwrap());
    for member in &mut members {
        // Its first line says that it is in.
        BufReader::new(member.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    }
    let (why, code) = failure(server.join("cid", &[]));
    assert!(why.contains("full") && code == Some(1), "{why}");
    for mut member in members {
        member.kill().unwrap();
        member.wait().unwrap();
    }
}

#[test]
fn a_server_keeps_its_key_in_a_file_of_its_own() {
    let file: PathBuf = std::env::temp_dir().join(format!("posse-program-test-{}.key", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let path = file.to_str().unwrap();
    let first = Server::new(&["--key", path]);
    let key = first.key.clone();
    first.stop();
    assert_eq!(Server::new(&["--key", path]).key, key);
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o600
    );
    std::fs::write(&file, "not a key").unwrap();
    let (why, code) = failure(posse(&["serve", "--listen", "127.0.0.1:0", "--key", path]));
    assert!(why.contains("not a key file") && code == Some(1), "{why}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_server_with_tickets_lets_each_in_once_and_one_that_drains_waits_for_who_is_there() {
    let folder = std::env::temp_dir().join(format!("posse-program-test-tickets-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let more = ["--tickets", &file("tickets"), "--second-key", &file("second"), "--drain", "60"];
    let mut server = Server::new(&more);
    let key = server.key.clone();
    let made = || {
        let made = posse(&["ticket", "--key", &file("tickets"), "--server-key", &key]).output().unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let ticket = made();
    let ask = ["ping", "--server", &server.address, "--server-key", &server.key, "--count", "1"];
    let (why, code) = failure(posse(&ask));
    assert!(why.contains("--ticket") && code == Some(1), "{why}");
    assert_eq!(posse(&[&ask[..], &["--ticket", &made()]].concat()).status().unwrap().code(), Some(0));
    let (why, code) = failure(server.join("ann", &[]));
    assert!(why.contains("--ticket") && code == Some(1), "{why}");
    let (why, code) = failure(server.join("ann", &["--ticket", "7"]));
    assert!(why.contains("hexadecimal") && code == Some(2), "{why}");
    let mut ann = server.join("ann", &["--ticket", &ticket, "--json", "--for", "3"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(ann.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("connected"), "{first}");
    let (why, code) = failure(server.join("ben", &["--ticket", &ticket]));
    assert!(why.contains("used already") && code == Some(1), "{why}");

    terminate(&server.child);
    let mut told = (&mut server.lines).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let draining = told.find(|line| line["type"] == "draining").unwrap();
    assert_eq!(draining["clients"], 1);
    let again = made();
    let who = ["join", "--server", &server.address, "--server-key", &server.key, "--room", "lobby", "--name", "cid"];
    let (why, code) = failure(posse(&[&who[..], &["--ticket", &again]].concat()));
    assert!(why.contains("about to stop") && code == Some(1), "{why}");
    assert_eq!(ann.wait().unwrap().code(), Some(0), "whoever was there could stay");
    assert_eq!(told.last().unwrap()["type"], "stopped");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_was_recorded_replays_to_the_same_digest() {
    let folder = std::env::temp_dir().join(format!("posse-program-test-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let server = Server::new(&["--record", &file("server")]);
    let start = |name: &str| {
        let how = ["--every", "20", "--size", "3000", "--for", "4", "--json", "--record", &file(name)];
        server.join(name, &how).spawn().unwrap()
    };
    for client in ["ann", "ben"].map(start) {
        assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
    }
    let (why, code) = failure(server.join("cid", &["--record", &file("ann")]));
    assert!(why.contains("cannot create the recording") && code == Some(1), "{why}");
    assert_eq!(server.stop().0, Some(0));
    for (name, role) in [("server", "server"), ("ann", "client"), ("ben", "client")] {
        let replayed = posse_record::Replayed::of(file(name).as_ref()).unwrap();
        assert!(replayed.is_same() && !replayed.cut_short, "{replayed:?}");
        assert_eq!(replayed.role, role);
        // A server that relays nothing soon says little: two logins, two joins, two goodbyes, and their answers.
        assert!(replayed.datagrams >= if role == "server" { 10 } else { 200 }, "{replayed:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer
}

#[test]
fn a_server_tells_how_it_fares() {
    let server = Server::new(&["--metrics", "127.0.0.1:0"]);
    let address = server.metrics.clone().unwrap();
    let clients =
        ["ann", "ben"].map(|name| server.join(name, &["--every", "20", "--for", "2", "--json"]).spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    let told = loop {
        let told = get(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && Instant::now() < end, "{told}");
        if told.contains("posse_path_changes_total{path=\"direct\"} 1") {
            break told;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    for line in ["posse_clients 2", "posse_rooms 1", "posse_pairs 1", "posse_joins_total 2", "# EOF"] {
        assert!(told.lines().any(|l| l == line), "{line} in {told}");
    }
    assert!(told.contains("posse_dropped_datagrams_total{reason=\"relay_full\"} 0"), "{told}");
    assert!(told.contains("posse_logins_refused_total{reason=\"cookie\"} 0"), "{told}");
    assert!(get(&address, "GET /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
    assert!(get(&address, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
    let (why, code) = failure(posse(&["serve", "--listen", "127.0.0.1:0", "--metrics", &address]));
    assert!(why.contains("cannot answer on TCP") && code == Some(1), "{why}");
    for client in clients {
        assert_eq!(client.wait_with_output().unwrap().status.code(), Some(0));
    }
}

/// The one object that a command prints, and its exit code.
fn one_object(mut command: Command) -> (Value, Option<i32>) {
    let output = command.output().unwrap();
    let told = lines(&output);
    assert_eq!(told.len(), 1, "{told:#?} {}", String::from_utf8_lossy(&output.stderr));
    (told[0].clone(), output.status.code())
}

impl Server {
    fn ask(&self, command: &str, more: &[&str]) -> Command {
        posse(&[&[command, "--server", &self.address, "--server-key", &self.key], more].concat())
    }
}

#[test]
fn a_host_learns_what_nat_it_is_behind_as_far_as_the_server_can_tell() {
    let (told, code) = one_object(Server::new(&[]).ask("nat", &["--json"]));
    assert_eq!((code, &told["type"], &told["translated"]), (Some(0), &"nat".into(), &false.into()), "{told}");
    assert_eq!((&told["own"], &told["mapping"], &told["strict"]), (&told["seen"], &Value::Null, &Value::Null));
    assert!(told["text"].as_str().unwrap().contains("not known"), "{told}");

    // A port that is free now.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let server = Server::new(&["--door-port", &port, "--door-address", "127.0.0.2"]);
    let (told, code) = one_object(server.ask("nat", &["--json"]));
    let found = (&told["mapping"], &told["strict"], code);
    assert_eq!(found, (&"same".into(), &false.into(), Some(0)), "{told}");
    let text = String::from_utf8(server.ask("nat", &[]).output().unwrap().stdout).unwrap();
    assert!(text.contains("No translation") && text.contains("reaches everybody"), "{text}");
}

#[test]
fn a_ping_times_the_login_and_every_round_trip() {
    let server = Server::new(&[]);
    let (told, code) = one_object(server.ask("ping", &["--count", "10", "--every", "5", "--json"]));
    assert_eq!((code, &told["sent"], &told["answered"]), (Some(0), &10.into(), &10.into()), "{told}");
    let time = |field: &str| told[field].as_f64().unwrap();
    assert!(time("handshake_ms") > 0.0 && time("rtt_p50_ms") > 0.0, "{told}");
    assert!(time("rtt_p50_ms") <= time("rtt_p99_ms") && time("rtt_p99_ms") <= time("rtt_max_ms"), "{told}");
    let (why, code) = failure(server.ask("ping", &["--count", "0"]));
    assert!(why.contains("--count") && code == Some(2), "{why}");
}

#[test]
fn a_bench_measures_two_processes_with_a_server_of_its_own_or_another() {
    let sound = |told: &Value| {
        let figure = |field: &str| told[field].as_f64().is_some_and(|figure| figure > 0.0);
        let figures = ["goodput_mib_s", "messages_s", "rtt_p50_ms", "rtt_p99_ms"].into_iter().all(figure);
        assert!(figures && told["path"] == "direct" && told["type"] == "bench", "{told}");
        assert!(!cfg!(target_os = "linux") || figure("cpu_s_gib"), "{told}");
    };
    let (told, code) = one_object(posse(&["bench", "--seconds", "0.2", "--json"]));
    sound(&told);
    assert_eq!(code, Some(0));

    let server = Server::new(&[]);
    let mut answers = server.ask("bench", &["--answer", "--room", "r"]).spawn().unwrap();
    let (told, code) =
        one_object(server.ask("bench", &["--room", "r", "--seconds", "0.2", "--size", "5000", "--json"]));
    sound(&told);
    assert_eq!((code, &told["size"]), (Some(0), &5000.into()));
    terminate(&answers);
    assert_eq!(answers.wait().unwrap().code(), Some(0));
    let (why, code) = failure(posse(&["bench", "--answer"]));
    assert!(why.contains("--server") && code == Some(2), "{why}");
}

/// What ends, or does not answer, within three seconds.
const PATIENCE: [&str; 2] = ["--patience", "3"];

/// A program's lines as they come.
fn hearing(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_killed_client_is_gone_for_the_others_when_patience_ends_and_nothing_of_it_is_lost() {
    let server = Server::new(&PATIENCE);
    let join = |name| server.join(name, &[&["--every", "20", "--json"], &PATIENCE[..]].concat()).spawn().unwrap();
    let (mut ann, mut ben) = (join("ann"), join("ben"));
    let mut hears = hearing(&mut ann);
    assert!(hears.any(|line| line["type"] == "message"));
    signal(&ben, "-KILL");
    ben.wait().unwrap();
    let start = Instant::now();
    assert!(hears.any(|line| line["type"] == "member_left"));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
    // Another one of that name comes while all of this is remembered.
    let mut again = join("ben");
    assert!(hears.any(|line| line["type"] == "message"));
    signal(&again, "-KILL");
    again.wait().unwrap();
    terminate(&ann);
    let summaries: Vec<_> = hears.filter(|line| line["type"] == "summary").collect();
    assert_eq!(summaries.len(), 2);
    assert!(summaries.iter().all(|s| s["lost"] == 0 && s["repeated"] == 0 && s["reordered"] == 0), "{summaries:#?}");
    assert_eq!(ann.wait().unwrap().code(), Some(0));
}

#[test]
fn when_a_server_is_killed_clients_talk_on_directly_until_patience_ends_and_are_told_so() {
    let mut server = Server::new(&PATIENCE);
    let join = |name| server.join(name, &[&["--every", "20", "--json"], &PATIENCE[..]].concat()).spawn().unwrap();
    let (mut ann, mut ben) = (join("ann"), join("ben"));
    let mut hears = hearing(&mut ann);
    assert!(hears.any(|line| line["type"] == "message" && line["via"] == "direct"));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let start = Instant::now();
    let rest: Vec<_> = hears.collect();
    assert!(start.elapsed() < Duration::from_secs(20));
    let direct = rest.iter().filter(|line| line["type"] == "message" && line["via"] == "direct").count();
    assert!(direct > 50, "{direct} messages after the server's end");
    let failed = rest.iter().find(|line| line["type"] == "failed").unwrap();
    assert!(failed["why"].as_str().unwrap().contains("session"), "{failed}");
    ben.kill().unwrap();
    for mut client in [ann, ben] {
        client.wait().unwrap();
    }
}

#[test]
fn a_process_that_stood_still_for_a_second_goes_on_and_nothing_is_lost() {
    let server = Server::new(&PATIENCE);
    let how = ["--every", "20", "--for", "4", "--json"];
    let join = |name| server.join(name, &[&how[..], &PATIENCE].concat()).spawn().unwrap();
    let (mut ann, ben) = (join("ann"), join("ben"));
    let mut hears = hearing(&mut ann);
    assert!(hears.any(|line| line["type"] == "message"));
    for who in [&ben, &server.child] {
        signal(who, "-STOP");
        std::thread::sleep(Duration::from_secs(1));
        signal(who, "-CONT");
    }
    let summary = hears.find(|line| line["type"] == "summary").unwrap();
    assert_eq!((&summary["lost"], &summary["repeated"], &summary["reordered"]), (&0.into(), &0.into(), &0.into()));
    for mut client in [ann, ben] {
        assert_eq!(client.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn who_stands_still_is_shown_as_offline_and_then_as_online_and_nothing_is_lost() {
    let patience = ["--patience", "15"];
    let mut server = Server::new(&patience);
    let join = |name| server.join(name, &[&["--every", "50", "--json"], &patience[..]].concat()).spawn().unwrap();
    let (mut ann, mut ben) = (join("ann"), join("ben"));
    let mut hears = hearing(&mut ann);
    let mut told = (&mut server.lines).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(hears.any(|line| line["type"] == "message"));
    signal(&ben, "-STOP");
    let about_ben = |line: &Value, kind: &str| line["type"] == kind && line["peer"] == "ben" && line["id"].is_u64();
    assert!(told.any(|line| about_ben(&line, "offline") && line["room"] == "lobby"));
    assert!(hears.any(|line| about_ben(&line, "offline")));
    signal(&ben, "-CONT");
    assert!(told.any(|line| about_ben(&line, "online") && line["room"] == "lobby"));
    assert!(hears.any(|line| about_ben(&line, "online")));
    assert!(hears.any(|line| line["type"] == "message"));
    terminate(&ann);
    let summary = hears.find(|line| line["type"] == "summary").unwrap();
    assert_eq!((&summary["lost"], &summary["repeated"], &summary["reordered"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(ann.wait().unwrap().code(), Some(0));
    ben.kill().unwrap();
    ben.wait().unwrap();
}
