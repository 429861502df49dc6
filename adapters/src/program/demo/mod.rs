//! `posse demo`: a server and three clients, each in a thread and on a socket of its own.
//!
//! The clients log in; the server puts them into a group; each sends to the group at 60 Hz from the moment it learns of a
//! fellow member. What comes first goes by the server's relay, then each pair finds its direct path. At the end every
//! message must have arrived once and in order.

mod players;
mod report;

use players::{Account, NAMES, Note};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The part of the time, at its end, in which nothing new is sent and what is under way arrives.
const QUIET_PART: f64 = 0.15;

/// What the demo is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to run, in seconds.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object a line, each with the version of its schema in "v".
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (1.0..=3600.0).contains(&s) => Ok(s),
        _ => Err("a number from 1 to 3600".into()),
    }
}

/// What all threads share.
pub(crate) struct Stage {
    start: Instant,
    /// When the clients stop sending.
    quiet_from: Duration,
    over: AtomicBool,
    /// Set by the first that cannot go on.
    broken: AtomicBool,
}

impl Stage {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
    }
}

/// Runs it and reports on standard output.
pub(crate) fn run(options: &Options) -> ExitCode {
    let length = Duration::from_secs_f64(options.seconds);
    let stage = Stage {
        start: Instant::now(),
        quiet_from: length.mul_f64(1.0 - QUIET_PART),
        over: AtomicBool::new(false),
        broken: AtomicBool::new(false),
    };
    let mut report = report::Report::new(options.json);
    let (notes, told) = mpsc::channel();
    let accounts = thread::scope(|scope| {
        let stage = &stage;
        let mut clients = Vec::new();
        if let Some(server) = players::open_server(stage, &notes) {
            let (at, key) = (server.local_addr(), server.public_key());
            let server_notes = notes.clone();
            scope.spawn(move || players::serve(stage, server, &server_notes));
            for who in 0..NAMES.len() {
                let notes = notes.clone();
                clients.push(scope.spawn(move || players::play(stage, who, at, key, &notes)));
            }
        }
        listen(stage, length, notes, &told, &mut report);
        clients.into_iter().filter_map(|c| c.join().ok()).collect::<Vec<Account>>()
    });
    // What was said between the end and the last thread's own.
    for note in told.try_iter() {
        report.note(&note);
    }
    if report.finish(&accounts) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports what the threads tell until the time is over.
fn listen(stage: &Stage, length: Duration, notes: Sender<Note>, told: &Receiver<Note>, report: &mut report::Report) {
    drop(notes);
    while let Some(rest) = length.checked_sub(stage.elapsed()).filter(|_| !stage.is_over()) {
        match told.recv_timeout(rest) {
            Ok(note) => report.note(&note),
            Err(_) => break,
        }
    }
    stage.over.store(true, Ordering::Relaxed);
}
