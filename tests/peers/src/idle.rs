//! What a client that says nothing costs its server in memory: many of them, real sockets, the server a process of its own.

use posse::{Client, ClientEvent, ClientOptions, Server, ServerEvent, ServerOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Logins at one time: so many that the server is busy, so few that none times out.
const AT_ONCE: usize = 64;
const APP: u64 = 1;

/// Prints the server's resident memory before and with `clients` idle clients. The clients are this process, and as they are many,
/// several processes of it: each driver has buffers of its own.
pub fn measure(clients: usize) {
    match std::env::var("POSSE_IDLE").as_deref() {
        Ok("server") => return serve(clients),
        Ok(at) => return log_in(clients, at),
        Err(_) => {}
    }
    let program = std::env::current_exe().expect("this program is there");
    let part = |role: &str, clients: usize| {
        let mut command = Command::new(&program);
        command.args(["idle", &clients.to_string()]).env("POSSE_IDLE", role);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started")
    };
    let mut server = part("server", clients);
    let mut told = BufReader::new(server.stdout.take().expect("it is piped")).lines().skip(1).map_while(Result::ok);
    let at = told.next().expect("the server tells where it is");
    let before = resident(server.id());
    let mut guests = part(&at, clients);
    let done = BufReader::new(guests.stdout.take().expect("it is piped")).lines().skip(1).map_while(Result::ok).next();
    println!("{}", done.unwrap_or_else(|| "the clients failed".into()));
    // What the logins left behind is to be gone.
    std::thread::sleep(Duration::from_secs(5));
    let with = resident(server.id());
    println!("\n| idle clients | server's memory before | with them | a client |\n|---|---|---|---|");
    let a_client = with.saturating_sub(before) as f64 / clients as f64;
    println!("| {clients} | {:.1} MiB | {:.1} MiB | {:.0} bytes |", mib(before), mib(with), a_client);
    for mut child in [guests, server] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn serve(clients: usize) {
    let mut options = ServerOptions::new([7; 32], APP);
    options.limits.max_clients = options.limits.max_clients.max(clients + 1);
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), options).expect("loopback is there");
    println!("{}", server.local_addr());
    let mut payload = Vec::new();
    loop {
        server.update().expect("the server's socket works");
        while let Some(event) = server.next_event(&mut payload) {
            if let ServerEvent::LoginRequested { login, .. } = event {
                let _ = server.accept(login, b"", b"");
            }
        }
        server.flush();
        server.wait(Duration::from_millis(200));
    }
}

/// Logs in `clients` clients and keeps them until this process is killed. Each driver has 768 KiB of buffers, which this host's
/// kernel need not back before they are used; still, they share what they touch only by being touched one after another.
fn log_in(clients: usize, at: &str) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the system tells");
    let wanted = clients as u64 + 64;
    setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard.max(wanted)), hard.max(wanted))
        .expect("so many files are allowed");
    let at = at.parse().expect("an address");
    let key = posse::posse_core::secure::public_key(&[7; 32]);
    let start = Instant::now();
    let (mut all, mut in_yet, mut payload) = (Vec::<Client>::new(), Vec::new(), Vec::new());
    while in_yet.iter().filter(|done| **done).count() < clients {
        let done = in_yet.iter().filter(|done| **done).count();
        while all.len() < clients && all.len() < done + AT_ONCE {
            all.push(Client::connect(ClientOptions::new(at, key, APP)).expect("a socket is there"));
            in_yet.push(false);
        }
        for (client, done) in all.iter_mut().zip(&mut in_yet).filter(|(_, done)| !**done) {
            client.update().expect("the socket works");
            while let Some(event) = client.next_event(&mut payload) {
                match event {
                    ClientEvent::LoggedIn { .. } => *done = true,
                    ClientEvent::LoginFailed(why) => panic!("{why:?}"),
                    _ => {}
                }
            }
            client.flush();
        }
        // Those that are in stay so.
        if all.len().is_multiple_of(1000) {
            all.iter_mut().for_each(|client| drop(client.update()));
        }
    }
    println!("{clients} clients logged in after {:.1} s", start.elapsed().as_secs_f64());
    let _ = std::io::stdout().flush();
    loop {
        for client in &mut all {
            let _ = client.update();
            while client.next_event(&mut payload).is_some() {}
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
