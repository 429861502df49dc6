//! The simulator's command line: `posse-sim demo`, `run FILE`, `matrix`, `swarm`, `replay`, `shrink`,
//! `validate`.
//!
//! Exit codes: 0 if everything that was expected holds, 1 if not, 2 if the input is bad.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
