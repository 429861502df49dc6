//! The program as people meet it: what its commands print and how they exit, followed from one command to the next.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of its own for a test, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the program in `folder`. The tests' own folder of scenarios is `scenarios` there, too.
fn sim(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posse-sim")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn scenario(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_failing_swarm_says_three_lines_and_the_second_of_them_fails_again_with_the_same_digest() {
    let folder = folder("canary");
    let swarm = sim(&folder, &["swarm", "--seeds", "3", "--canary", "--trace", "t"]);
    let said = text(&swarm.stdout);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((swarm.status.code(), lines.len()), (Some(1), 3), "{said}");
    let digest = lines[0].split("(digest ").nth(1).unwrap().split(',').next().unwrap();
    let replay: Vec<_> = lines[1].strip_prefix("replay: cargo sim ").unwrap().split(' ').collect();
    let trace = folder.join(lines[2].strip_prefix("folder: ").unwrap());
    for file in ["scenario.toml", "original.toml", "timeline.txt", "trace.pcapng", "trace.json", "index.html"] {
        assert!(std::fs::metadata(trace.join(file)).unwrap().len() > 0, "{file}");
    }
    let again = sim(&folder, &replay);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stdout).contains(digest), "{}", text(&again.stdout));
    // The folder stands for the scenario in it.
    let by_folder = sim(&folder, &["replay", trace.to_str().unwrap(), "--canary"]);
    assert_eq!(text(&by_folder.stdout), text(&again.stdout));
}

#[test]
fn what_holds_replays_with_exit_0_and_has_nothing_to_shrink() {
    let folder = folder("holds");
    let file = scenario("outruns-its-join.toml");
    for what in [file.as_str(), "17"] {
        let replay = sim(&folder, &["replay", what]);
        assert_eq!(replay.status.code(), Some(0), "{}", text(&replay.stdout));
        assert!(text(&replay.stdout).ends_with("nothing is broken\n"));
        let shrink = sim(&folder, &["shrink", what]);
        assert_eq!(shrink.status.code(), Some(0));
        assert!(text(&shrink.stdout).ends_with("holds: there is nothing to shrink\n"), "{}", text(&shrink.stdout));
    }
}

#[test]
fn a_file_that_does_not_hold_is_shrunk_to_one_that_does_not_either() {
    let folder = folder("shrinks");
    let whole = std::fs::read_to_string(scenario("direct-cuts.toml")).unwrap();
    let fails = whole.replacen("that = \"direct\"", "that = \"relayed\"", 1);
    assert_ne!(whole, fails);
    std::fs::write(folder.join("fails.toml"), &fails).unwrap();
    assert_eq!(sim(&folder, &["run", "fails.toml"]).status.code(), Some(1));
    let shrink = sim(&folder, &["shrink", "fails.toml", "--trace", "t"]);
    assert_eq!(shrink.status.code(), Some(1), "{}", text(&shrink.stderr));
    let small = std::fs::read_to_string(folder.join("t/shrink-fails/scenario.toml")).unwrap();
    assert!(small.len() < fails.len() / 2, "{small}");
    let replay = sim(&folder, &["replay", "t/shrink-fails"]);
    assert_eq!(replay.status.code(), Some(1), "{}", text(&replay.stdout));
}

#[test]
fn a_file_that_is_not_there_or_not_a_scenario_is_named_with_line_and_field() {
    let folder = folder("errors");
    let missing = sim(&folder, &["replay", "nosuch.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).starts_with("error: nosuch.toml: "), "{}", text(&missing.stderr));
    std::fs::write(folder.join("bad.toml"), "title = \"x\"\n[client.a]\n[server]\nlink = { delay = \"soon\" }\n")
        .unwrap();
    for command in ["run", "replay", "shrink"] {
        let bad = sim(&folder, &[command, "bad.toml"]);
        assert_eq!((bad.status.code(), text(&bad.stdout)), (Some(2), String::new()));
        assert!(text(&bad.stderr).starts_with("error: bad.toml:4:"), "{}", text(&bad.stderr));
        assert!(text(&bad.stderr).contains("delay"), "{}", text(&bad.stderr));
    }
}
