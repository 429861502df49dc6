//! The examples, run as their first lines say. `cargo test` builds them; for this test alone, `cargo build --examples
//! --all-features` has to come first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A program whose lines are read as they come, and that ends with the test.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(path: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}; is it built?", path.display()));
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn example(name: &str, arguments: &[&str]) -> Self {
        let built = Path::new(env!("CARGO_BIN_EXE_posse")).with_file_name("examples").join(name);
        Self::start(&built, arguments)
    }

    /// Reads on until a line has this in it.
    fn says(&self, what: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("nothing of {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of a line.
fn word(line: &str, at: usize) -> &str {
    line.split_whitespace().nth(at).unwrap()
}

/// The stock server, its address and its key.
fn stock() -> (Program, String, String) {
    let posse = Path::new(env!("CARGO_BIN_EXE_posse"));
    let server = Program::start(posse, &["serve", "--listen", "127.0.0.1:0"]);
    let address = word(&server.says("serving on"), 2).to_owned();
    let key = word(&server.says("public key"), 2).to_owned();
    (server, address, key)
}

#[test]
fn clients_of_either_adapter_greet_one_another_at_servers_of_either() {
    for server in ["server", "async_server"] {
        let server = Program::example(server, &["127.0.0.1:0"]);
        let how = server.says("--example client");
        let (address, key) = (word(&how, 7), word(&how, 8));
        let ann = Program::example("client", &[address, key, "ann"]);
        ann.says("MemberJoined");
        let ben = Program::example("async_client", &[address, key, "ben"]);
        ann.says("hello from ben");
        ben.says("hello from ann");
    }
}

#[test]
fn rooms_and_chat_meet_in_one_room() {
    let (_server, address, key) = stock();
    let ann = Program::example("rooms", &[&address, &key, "lobby", "ann"]);
    let mut ben = Program::example("chat", &[&address, &key, "lobby", "ben"]);
    ann.says("ben is here");
    ben.says("ann: hello from ann");
    let mut keyboard = ben.input();
    keyboard.write_all(b"good morning\n").unwrap();
    ann.says("ben: good morning");
    drop(keyboard);
    ann.says("ben has left");
}

#[test]
fn positions_are_kept_in_step() {
    let (_server, address, key) = stock();
    let _ann = Program::example("positions", &[&address, &key, "ann", "10"]);
    let ben = Program::example("positions", &[&address, &key, "ben", "2"]);
    let line = ben.says("ann at");
    let updates: u32 = word(&line, 5).parse().unwrap();
    assert!(updates >= 20, "{line}");
}

#[test]
fn a_service_knows_its_players() {
    let service = Program::example("service", &["127.0.0.1:0", "127.0.0.1:0"]);
    let line = service.says("public key");
    let (key, address) = (word(&line, 2).trim_end_matches(','), word(&line, 4));
    let http = service.says("answers on");
    let _ann = Program::example("rooms", &[address, key, "lobby", "ann"]);
    service.says("Entered");
    let mut answer = String::new();
    TcpStream::connect(word(&http, 2)).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "1 players, 1 groups\n");
}
