//! The `posse` program.
mod ask;
mod bench;
mod demo;
mod join;
mod key;
mod metrics;
mod nat;
mod output;
mod patience;
mod ping;
mod serve;
mod stop;
mod ticket;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Server-led peer-to-peer for games.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 all well, 1 something was not, 2 the command line is wrong.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the stock server: rendezvous and relay for rooms by name.
    Serve(serve::Options),
    /// Join a room: chat, or send numbered messages and account for them.
    Join(join::Options),
    /// Make a ticket, without which `posse serve --tickets` lets nobody in.
    Ticket(ticket::Options),
    /// Say what NAT this host is behind, and what that means for direct traffic.
    Nat(nat::Options),
    /// Time the way to the server: the login, and round trips.
    Ping(ping::Options),
    /// Measure throughput, round trip and CPU between two clients: on this host, or between two.
    Bench(bench::Options),
    /// Run a server and three clients over this host's loopback sockets and tell what happens.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    // clap ends the program with 2 when the command line is wrong.
    match Arguments::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Join(options) => join::run(&options),
        Command::Ticket(options) => ticket::run(&options),
        Command::Nat(options) => nat::run(&options),
        Command::Ping(options) => ping::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Demo(options) => demo::run(&options),
    }
}
