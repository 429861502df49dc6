//! The bodies of the fuzz targets, as functions of bytes: libFuzzer calls them on nightly (`.ci/fuzz`), and stable tests
//! replay the committed corpora through them. A body panics when a property does not hold, and does nothing else that can
//! be seen from outside.

pub mod body;
mod cursor;
mod flat;
mod memory;
pub mod parsers;
pub mod scenario;
pub mod seeds;
mod stage;
pub mod steps;

/// A target: its name, which is also that of its corpus's folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("header", parsers::header),
    ("frames", parsers::frames),
    ("control", parsers::control),
    ("login", parsers::login),
    ("relay", parsers::relay),
    ("scenario", scenario::scenario),
    ("server_survives", steps::server_survives),
    ("client_survives", steps::client_survives),
];

/// Makes a libFuzzer program of a body. Built without cargo-fuzz it only says how to build it.
#[macro_export]
macro_rules! target {
    ($body:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $body(data));

        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("a fuzz target: build and run it with `cargo +nightly fuzz run`, or all of them with `.ci/fuzz`");
        }
    };
}
