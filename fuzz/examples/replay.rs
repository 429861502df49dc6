//! Replays files through a target: `cargo run -p posse-fuzz --example replay -- TARGET FILE...`. For looking at a finding on
//! stable, with a debugger or prints.

use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let target = args.next().unwrap_or_default();
    let Some((_, body)) = posse_fuzz::TARGETS.iter().find(|(name, _)| *name == target) else {
        let names: Vec<&str> = posse_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
        return Err(io::Error::other(format!("which target? One of {}", names.join(", "))));
    };
    for file in args {
        println!("{file}");
        body(&fs::read(file)?);
    }
    Ok(())
}
