//! The `posse` program.
mod demo;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Server-led peer-to-peer for games.
#[derive(Parser)]
#[command(version, after_help = "Exit codes: 0 all held, 1 something did not, 2 the command line is wrong.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server and three clients over this host's loopback sockets and tell what happens.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    // clap ends the program with 2 when the command line is wrong.
    match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
    }
}
