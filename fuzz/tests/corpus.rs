//! Every committed input, on stable: what fuzzing once found stays found, and a corpus that no longer fits its target shows.

use posse_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    all.sort();
    all
}

#[test]
fn every_committed_input_passes_its_target() {
    for (name, body) in TARGETS {
        let all = corpus(name);
        assert!(!all.is_empty(), "{name} has a corpus");
        for path in all {
            // Shown by the test runner if the body panics.
            println!("{}", path.display());
            body(&fs::read(&path).expect("a readable file"));
        }
    }
}

#[test]
fn damaged_inputs_pass_too() {
    for (name, body) in TARGETS {
        for path in corpus(name).iter().take(8) {
            let bytes = fs::read(path).expect("a readable file");
            println!("{}", path.display());
            body(&bytes[..bytes.len() / 2]);
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            body(&reversed);
        }
    }
}

#[test]
fn the_corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(|(name, _)| corpus(name)).map(|path| path.metadata().map_or(0, |m| m.len()));
    let total: u64 = sizes.sum();
    assert!(total < 300 * 1024, "{total} bytes: minimise with `cargo +nightly fuzz cmin`");
}
